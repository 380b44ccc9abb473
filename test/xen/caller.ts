// A guest that makes Xen's hypercalls: its processor, where it keeps arguments, and what it gets back.

import { expect } from 'vitest';
import { FlatCpu, type HypercallResult, VirtualClock, type VmOptions } from '../../src/index.ts';
import { createXen, type Domain, type DomainOptions, type Xen } from '../../src/xen/index.ts';
import { fields, ram } from '../support.ts';

export const SHARED = [false, true] as const;
export const WIDTHS = [
  { caller: '64-bit', long: true },
  { caller: '32-bit', long: false },
] as const;

/** Both kinds of memory, called in both ways. */
export const CALLERS = WIDTHS.flatMap((width) => SHARED.map((shared) => ({ ...width, shared })));

export const RIP = 0x7654n;
/** Pages of the guest's that nothing else uses: arguments, lists, and where its structures go. */
export const ARGUMENT = 8 * 4096;
export const LIST = 9 * 4096;
export const SHARED_INFO_FRAME = 3;
export const VCPU_INFO_FRAME = 4;
export const AREA = 5 * 4096;
export const PAGES = 16;
/** The first address that is no RAM. */
export const END = PAGES * 4096;
/** One second on the guest's clock when it begins. */
export const START = 1_000_000_000n;

export interface Caller {
  readonly xen: Xen;
  readonly domain: Domain;
  readonly clock: VirtualClock;
  readonly cpu: FlatCpu;
}

export interface CallerOptions extends VmOptions, DomainOptions {
  /** its width; the layout of its domain follows when it says so, as it does for a guest */
  readonly long?: boolean;
}

/** A domain that nobody has touched, and a processor of its guest. */
export function makeCaller(options: CallerOptions = {}): Caller {
  const { long = true, ...rest } = options;
  const clock = new VirtualClock();
  const xen = createXen({ clock });
  const domain = xen.createDomain({ guestPages: PAGES, bare: true, shared: false, ...rest });
  domain.vm.setAttr({ type: 'long_mode', enabled: long });
  clock.advance(START);
  return { xen, domain, clock, cpu: new FlatCpu(domain.vm, { longMode: long, rip: RIP }) };
}

/** As `makeCaller`, with shared_info and the vcpu_info of vCPU 0 placed and a callback by vector. */
export function makeGuest(options: CallerOptions = {}): Caller {
  const caller = makeCaller(options);
  expect(addToPhysmap(caller, 0, 0, SHARED_INFO_FRAME)).toBe(0);
  expect(registerVcpuInfo(caller, 0, VCPU_INFO_FRAME, 0)).toBe(0);
  expect(setParam(caller, 0, VECTOR_VIA)).toBe(0);
  quiet(caller);
  return caller;
}

export const VECTOR = 0xf3;
export const VECTOR_VIA = (2n << 56n) | BigInt(VECTOR);

/** The guest answers what it was asked for: nothing is pending in its vcpu_info. */
export function quiet({ domain }: Caller, index = 0, info = VCPU_INFO_FRAME * 4096): void {
  const vcpu = domain.vm.vcpu(index);
  vcpu.beforeEntry();
  vcpu.afterExit();
  ram(domain.vm).fill(0, info, info + 16);
  vcpu.takeUpcallVector();
}

/** Makes a hypercall on vCPU `index`. */
export function call(caller: Caller, number: number, params: readonly (number | bigint)[], index = 0): HypercallResult {
  load(caller, number, params);
  return caller.domain.hypercall(index, caller.cpu);
}

/** What is in the upper halves of a 32-bit caller's registers: nothing of it may count. [KF-59] */
const GARBAGE = 0xdeadbeefn << 32n;

export function load({ cpu }: Caller, number: number, params: readonly (number | bigint)[]): void {
  const names = cpu.longMode
    ? (['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const)
    : (['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const);
  const upper = cpu.longMode ? 0n : GARBAGE;
  cpu.registers.rax = BigInt(number) | upper;
  for (const [i, name] of names.entries()) cpu.registers[name] = BigInt(params[i] ?? 0) | upper;
}

/** As `call`, which has to be handled: the result that the guest sees, as the signed number it is. */
export function answer(caller: Caller, number: number, params: readonly (number | bigint)[], index = 0): number {
  const { rip } = caller.cpu;
  const result = call(caller, number, params, index);
  if (result.kind !== 'handled') expect.fail(`handled was expected, it is ${result.kind}`);
  expect(caller.cpu.registers.rax).toBe(result.result);
  expect(caller.cpu.rip).toBe(rip + 3n);
  return Number(BigInt.asIntN(64, result.result));
}

/** A field of a structure: its offset, its bytes, its value. */
export type Field = readonly [at: number, bytes: 1 | 2 | 4 | 8, value: number | bigint];

/** Writes a structure of `size` bytes, with a pattern where it says nothing. @returns where it is */
export function put({ domain }: Caller, size: number, structure: readonly Field[], at = ARGUMENT): number {
  ram(domain.vm).fill(0xa5, at, at + size + 16);
  const view = fields(domain.vm);
  for (const [offset, bytes, value] of structure) {
    if (bytes === 1) view.setUint8(at + offset, Number(value));
    else if (bytes === 2) view.setUint16(at + offset, Number(value), true);
    else if (bytes === 4) view.setUint32(at + offset, Number(BigInt.asUintN(32, BigInt(value))), true);
    else view.setBigUint64(at + offset, BigInt.asUintN(64, BigInt(value)), true);
  }
  return at;
}

export const u16 = ({ domain }: Caller, at: number): number => fields(domain.vm).getUint16(at, true);
export const u32 = ({ domain }: Caller, at: number): number => fields(domain.vm).getUint32(at, true);
export const u64 = ({ domain }: Caller, at: number): bigint => fields(domain.vm).getBigUint64(at, true);

/** Whether the bytes behind a structure are those that `put` has left there. */
export function expectUntouched({ domain }: Caller, from: number, length = 16): void {
  expect([...ram(domain.vm).subarray(from, from + length)]).toEqual(Array.from({ length }, () => 0xa5));
}

export const SELF = 0x7ff0;

export function addToPhysmap(caller: Caller, space: number, index: number, frame: number, domid = SELF): number {
  const { longMode } = caller.cpu;
  const words: Field[] = longMode
    ? [
        [8, 8, index],
        [16, 8, frame],
      ]
    : [
        [8, 4, index],
        [12, 4, frame],
      ];
  const at = put(caller, longMode ? 24 : 16, [[0, 2, domid], [2, 2, 0], [4, 4, space], ...words]);
  return answer(caller, 12, [7, at]);
}

export function registerVcpuInfo(caller: Caller, vcpu: number, frame: number | bigint, offset: number): number {
  return answer(caller, 24, [
    10,
    vcpu,
    put(caller, 16, [
      [0, 8, frame],
      [8, 4, offset],
      [12, 4, 0],
    ]),
  ]);
}

export function setParam(caller: Caller, index: number, value: number | bigint, domid = SELF): number {
  return answer(caller, 34, [
    0,
    put(caller, 16, [
      [0, 2, domid],
      [4, 4, index],
      [8, 8, value],
    ]),
  ]);
}

/** @returns the result, and the value if there is one */
export function getParam(caller: Caller, index: number, domid = SELF): [number, bigint] {
  const at = put(caller, 16, [
    [0, 2, domid],
    [4, 4, index],
    [8, 8, 0],
  ]);
  return [answer(caller, 34, [1, at]), u64(caller, at + 8)];
}
