// What a test compares: bytes before and after a call, and the steps of a traced kernel.

import { expect, vi } from 'vitest';
import {
  AGENT_INBOX,
  AGENT_LIST_PORTS,
  AGENT_MARKS,
  AGENT_OUTBOX,
  AGENT_PLANE_SIZE,
  AGENT_PLANE0,
  AGENT_PLANE1,
  AGENT_POLL_LIST,
  AGENT_POLL_PORTS,
  AGENT_READER,
  AGENT_RECORD,
  AGENT_RECORD_SIZE,
  CACHE_LINE,
  GPC_WORD,
  PORT_TABLE_PORTS,
  REGION_SHARED_INFO,
  VCPU_INFO_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
} from '../../src/abi/region.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  WORD_BYTES_COMPAT,
  WORD_BYTES_LONG,
} from '../../src/abi/shared_info.ts';
import {
  VCPU_INFO_SELECTOR_COMPAT,
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_UPCALL_PENDING,
} from '../../src/abi/vcpu_info.ts';
import { type ErrorCode, EvtchnError, gpa, type Vm } from '../../src/index.ts';
import type { KernelHooks } from '../../src/kernel.ts';
import { errorOf, fields, kernelBytes, memoryBytes, ram, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';

/** What tests fill unused guest RAM with. */
export const CANARY = 0xa5;

/**
 * What tests fill memory with that nobody may touch any more. Its bits are few, so that a bit that is set or a byte that is
 * stored shows; no test uses a port whose bit it hides.
 */
export const POISON = 0x10;

/** Results that a send may have. */
export const SEND_RESULTS = [1, 0, -107, -22, -14, -11, -9];

/** One byte that changed: address, before, after. */
export type Change = readonly [at: number, from: number, to: number];

/** The bytes that differ, lowest first. */
export function changes(before: Uint8Array, after: Uint8Array): Change[] {
  const found: Change[] = [];
  if (Buffer.compare(before, after) === 0) return found;
  for (let at = 0; at < before.length; at++) {
    if (before[at] !== after[at]) found.push([at, before[at] as number, after[at] as number]);
  }
  return found;
}

/** The bytes of guest RAM that `call` changes, by guest-physical address. */
export function changed(vm: Vm, call: () => unknown): Change[] {
  const before = ram(vm).slice();
  call();
  return changes(before, ram(vm));
}

/** What `stateBytes` leaves out of an agent's record: its reader epoch, and the scratch that a call may use before it fails. */
const SCRATCH = [
  [AGENT_READER, CACHE_LINE],
  [AGENT_RECORD, AGENT_RECORD_SIZE],
  [AGENT_OUTBOX, AGENT_LIST_PORTS * 4],
  [AGENT_INBOX, AGENT_LIST_PORTS * 4],
  [AGENT_POLL_LIST, AGENT_POLL_PORTS * 4],
] as const;

/** The memory without what the agents scribble for themselves: what a call that fails must leave as it was. */
export function stateBytes(vm: Vm): Uint8Array {
  const bytes = memoryBytes(vm);
  for (let i = 0; i < vm.region.agents; i++) {
    const agent = vm.region.agentRecord(i);
    for (const [at, length] of SCRATCH) bytes.fill(0, agent + at, agent + at + length);
  }
  return bytes;
}

/** Runs `call` and expects it to fail with this code and these words, without one byte of the memory changed. */
export function refuses(vm: Vm, call: () => unknown, code: ErrorCode, ...words: readonly (string | number)[]): void {
  const before = stateBytes(vm);
  const error = errorOf(call);
  expect(error.code).toBe(code);
  for (const word of words) expect(error.message).toContain(String(word));
  expect(changes(before, stateBytes(vm))).toEqual([]);
}

/** The code of the EvtchnError that `call` throws, or undefined when it throws nothing. */
export function refusal(call: () => unknown): ErrorCode | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof EvtchnError) return error.code;
    throw error;
  }
}

/** As `refuses` for a promise. */
export async function rejects(
  vm: Vm,
  call: () => Promise<unknown>,
  code: ErrorCode,
  ...words: readonly (string | number)[]
): Promise<void> {
  const before = stateBytes(vm);
  const error = await call().then(
    () => expect.fail('it was expected to reject'),
    (reason: unknown) => reason as EvtchnError,
  );
  expect(error).toBeInstanceOf(EvtchnError);
  expect(error.code).toBe(code);
  for (const word of words) expect(error.message).toContain(String(word));
  expect(changes(before, stateBytes(vm))).toEqual([]);
}

/** A value of the wrong type, for calls that TypeScript would refuse. */
export function cast<T>(value: unknown): T {
  return value as T;
}

/** Offsets that depend on the layout. */
export function layoutOf(vm: Vm) {
  const long = vm.maxPorts === 4096;
  const wordBytes = long ? WORD_BYTES_LONG : WORD_BYTES_COMPAT;
  return {
    long,
    wordBytes,
    bits: wordBytes * 8,
    pending: SHARED_INFO_PENDING,
    mask: long ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT,
    selector: long ? VCPU_INFO_SELECTOR_LONG : VCPU_INFO_SELECTOR_COMPAT,
  };
}

/** Address and value of the byte that holds bit `n` of a bitmap. */
export function bitAt(base: number, n: number): { at: number; bit: number } {
  return { at: base + (n >> 3), bit: 1 << (n & 7) };
}

/** The guest sets or clears a pending or mask bit itself. */
export function guestSets(vm: Vm, which: 'pending' | 'mask', port: number, on = true): void {
  const { at, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm)[which], port);
  const bytes = ram(vm);
  bytes[at] = on ? (bytes[at] as number) | bit : (bytes[at] as number) & ~bit;
}

/** The selector word at a vcpu_info, whole. */
export function selector(vm: Vm, info: number = VCPU_INFO_GPA): bigint {
  const { long, selector: offset } = layoutOf(vm);
  return long ? fields(vm).getBigUint64(info + offset, true) : BigInt(fields(vm).getUint32(info + offset, true));
}

/** The selector bit of a port's word. */
export function selectorBit(vm: Vm, port: number): bigint {
  return 1n << BigInt(Math.floor(port / layoutOf(vm).bits));
}

/** The guest takes the selector, and the upcall byte if told so. */
export function guestTakes(vm: Vm, info: number = VCPU_INFO_GPA): void {
  const { long, selector: offset } = layoutOf(vm);
  ram(vm)[info] = 0;
  if (long) fields(vm).setBigUint64(info + offset, 0n, true);
  else fields(vm).setUint32(info + offset, 0, true);
}

/** Whether a cache maps a page now: its word, as a number. */
export function sharedInfoWord(vm: Vm): number {
  return vm.region.words.load(vm.vmBase + REGION_SHARED_INFO + GPC_WORD) >>> 0;
}
export function vcpuInfoWord(vm: Vm, index = 0): number {
  return vm.region.words.load(vm.vcpu(index).line + VCPU_INFO_GPC + GPC_WORD) >>> 0;
}

/** Drops every mapping of guest RAM, as an embedder does that moves pages. */
export function dropMappings(vm: Vm): number {
  const count = vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
  vm.invalidateEnd();
  return count;
}

/** The option that makes `createVm` use a trace build. */
export function tracing(shared: boolean, hooks: KernelHooks): { shared: boolean; trace: TraceOption } {
  return { shared, trace: traceOf(shared, hooks) };
}
export type TraceOption = KernelHooks & { readonly module: WebAssembly.Module };

export function traceOf(shared: boolean, hooks: KernelHooks): TraceOption {
  const name = shared ? 'trace-shared' : 'trace-unshared';
  modules[name] ??= new WebAssembly.Module(kernelBytes(name));
  // Without a step hook the loader would test the platform through the hooks.
  return { module: modules[name], onStep: () => {}, ...hooks };
}
const modules: { [name: string]: WebAssembly.Module } = {};

/** The bytes that the delivery of `port` turns from 0 on a quiet guest, lowest first. */
export function footprint(vm: Vm, port: number, info = VCPU_INFO_GPA): Change[] {
  const { pending, selector: offset, bits } = layoutOf(vm);
  const p = bitAt(SHARED_INFO_GPA + pending, port);
  const s = bitAt(info + offset, Math.floor(port / bits));
  return [
    [p.at, 0, p.bit],
    [info + VCPU_INFO_UPCALL_PENDING, 0, 1],
    [s.at, 0, s.bit],
  ];
}

/** From here on a cache word maps nothing. */
export const UNMAPPED = 2 ** 32 - PAGE_SIZE;

/** Sleeps that would let time pass in vain return at once. Undone by `vi.restoreAllMocks`. */
export function noNaps(): void {
  vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
}

/** Announces a change of guest pages. */
export function invalidate(vm: Vm, at: number, length = PAGE_SIZE): number {
  return vm.invalidateStart(vm.guestBase + at, vm.guestBase + at + length - 1);
}

/** The selector bits that are kept on the engine's side. */
export function shadow(vm: Vm, index = 0): bigint {
  const { words } = vm.region;
  const { line } = vm.vcpu(index);
  return BigInt(words.load(line + VCPU_SHADOW_LO) >>> 0) | (BigInt(words.load(line + VCPU_SHADOW_HI) >>> 0) << 32n);
}

/** Takes the vcpu_info away, or puts it somewhere. */
export function unregister(vm: Vm, index = 0): void {
  vm.vcpu(index).setAttr({ type: 'vcpu_info', gpa: null });
}
export function register(vm: Vm, at: number, index = 0): void {
  vm.vcpu(index).setAttr({ type: 'vcpu_info', gpa: gpa(at) });
}

/** The scratch in which a long batch is combined: 0 between calls. */
export function scratchIsClean(vm: Vm): boolean {
  const planes = new Uint8Array(
    vm.memory.buffer,
    vm.agent + AGENT_PLANE0,
    AGENT_PLANE1 - AGENT_PLANE0 + AGENT_PLANE_SIZE,
  );
  const marks = new Uint8Array(vm.memory.buffer, vm.agent + AGENT_MARKS, PORT_TABLE_PORTS);
  return [planes, marks].every((bytes) => bytes.every((byte) => byte === 0));
}
