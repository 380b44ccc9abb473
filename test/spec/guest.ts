// A guest that makes hypercalls: its processor, where it keeps arguments, and what it gets back.

import { expect } from 'vitest';
import { FlatCpu, type HypercallResult, type Vcpu, VirtualClock, type Vm, type VmAttr } from '../../src/index.ts';
import { fields, KINDS, type MakeOptions, makeVm } from '../support.ts';

/** The two ways to call, whatever the VM's layout. */
export const CALLERS = [
  { caller: '64-bit', long: true },
  { caller: '32-bit', long: false },
] as const;

/** Both layouts in both kinds of memory, called in both ways. */
export const CALLS = KINDS.flatMap((kind) => CALLERS.map((caller) => ({ ...kind, ...caller })));

export const MSR = 0x40000000;
/** Where the guest's code is, and where it keeps arguments: pages that nothing else uses. */
export const RIP = 0x1234n;
export const ARGUMENT = 8 * 4096;
export const PORT_LIST = 9 * 4096;
/** The first address that is no RAM. */
export const END = 16 * 4096;
export const VECTOR = 0x10;

export interface Guest {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly cpu: FlatCpu;
  readonly clock: VirtualClock;
}

export interface GuestOptions extends MakeOptions {
  /** the caller runs 64-bit code */
  readonly long?: boolean;
  /** what the configuration says besides the MSR; hypercalls are intercepted and polls may sleep by default */
  readonly evtchnSend?: boolean;
  readonly interceptHypercalls?: boolean;
}

/** A VM whose hypercalls are handled, with 1 s on its clock. */
export function makeGuest(options: GuestOptions = {}): Guest {
  const { long = true, evtchnSend = true, interceptHypercalls = true, ...rest } = options;
  const clock = new VirtualClock(1_000_000_000n);
  const vm = makeVm({ clock, ...rest });
  vm.setConfig({ msr: MSR, interceptHypercalls, evtchnSend });
  const cpu = new FlatCpu(vm, { longMode: long, lma: vm.region.longMode, rip: RIP });
  return { vm, vcpu: vm.vcpu(0), cpu, clock };
}

/** What is in the upper halves of a 32-bit caller's registers: nothing of it may count. */
const GARBAGE = 0xdeadbeefn << 32n;

/** Sets the registers of a call. */
export function load({ cpu }: { readonly cpu: FlatCpu }, number: bigint, ...params: readonly bigint[]): void {
  const names = cpu.longMode
    ? (['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const)
    : (['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const);
  const upper = cpu.longMode ? 0n : GARBAGE;
  cpu.registers.rax = number | upper;
  for (const [i, name] of names.entries()) cpu.registers[name] = (params[i] ?? 0n) | upper;
}

/** Makes a hypercall. */
export function call(guest: Guest, number: number, ...params: readonly (number | bigint)[]): HypercallResult {
  load(guest, BigInt(number), ...params.map(BigInt));
  return guest.vcpu.hypercall(guest.cpu);
}

/** As `call`, which has to be handled: the result that the guest sees, as the signed number it is. */
export function answer(guest: Guest, number: number, ...params: readonly (number | bigint)[]): number {
  const { rip } = guest.cpu;
  const result = call(guest, number, ...params);
  if (result.kind !== 'handled') expect.fail(`handled was expected, it is ${result.kind}`);
  expect(guest.cpu.registers.rax).toBe(result.result);
  expect(guest.cpu.rip).toBe(rip + 3n);
  return Number(BigInt.asIntN(64, result.result));
}

/** As `call`, which has to leave to the embedder: nothing of the guest has changed. */
export function leaves(guest: Guest, number: number, ...params: readonly (number | bigint)[]): void {
  const { rip } = guest.cpu;
  load(guest, BigInt(number), ...params.map(BigInt));
  const registers = { ...guest.cpu.registers };
  expect(guest.vcpu.hypercall(guest.cpu).kind).toBe('exit');
  expect(guest.cpu.registers).toEqual(registers);
  expect(guest.cpu.rip).toBe(rip);
}

/** Writes a u32 argument. */
export function argument32({ vm }: Guest, value: number, at = ARGUMENT): number {
  fields(vm).setUint32(at, value, true);
  return at;
}

/** Writes a struct sched_poll of the caller's layout and its ports. @returns where it is */
export function pollArgument(guest: Guest, ports: readonly number[], timeout = 0n, count = ports.length): number {
  const view = fields(guest.vm);
  ports.forEach((port, i) => {
    view.setUint32(PORT_LIST + 4 * i, port, true);
  });
  return pollStructure(guest, PORT_LIST, count, timeout);
}

export function pollStructure({ vm, cpu }: Guest, list: number, count: number, timeout: bigint, at = ARGUMENT): number {
  const view = fields(vm);
  if (cpu.longMode) {
    view.setBigUint64(at, BigInt(list), true);
    view.setUint32(at + 8, count, true);
    view.setBigUint64(at + 16, timeout, true);
  } else {
    view.setUint32(at, list, true);
    view.setUint32(at + 4, count, true);
    view.setBigUint64(at + 8, timeout, true);
  }
  return at;
}

/** Makes the port that the guest rings lead to a port of a vCPU. */
export function loopback(guest: Guest, sendPort: number, port: number, vcpu = 0): void {
  guest.vm.setAttr({ type: 'evtchn', action: 'assign', sendPort, channel: 'interdomain', target: { port, vcpu } });
}

export function setVector(guest: Guest, vector = VECTOR): void {
  guest.vm.setAttr({ type: 'upcall_vector', vector } satisfies VmAttr);
}
