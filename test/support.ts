// A VM in one line, a receiver that obeys the protocol, and what tests look at.

import { readFileSync } from 'node:fs';
import { SHARED_INFO_MASK_COMPAT, SHARED_INFO_MASK_LONG, SHARED_INFO_PENDING } from '../src/abi/shared_info.ts';
import { createVm, EvtchnError, gfn, gpa, type Vm, type VmOptions } from '../src/index.ts';

export const LAYOUTS = [
  { layout: 'long', longMode: true, maxPorts: 4096, words: 64, bits: 64 },
  { layout: 'compat', longMode: false, maxPorts: 1024, words: 32, bits: 32 },
] as const;

/** Both layouts in both kinds of memory. */
export const KINDS = LAYOUTS.flatMap((l) => [true, false].map((shared) => ({ ...l, shared })));

/** Guest addresses of the structures that `makeVm` registers. */
export const SHARED_INFO_GFN = 3;
export const SHARED_INFO_GPA = SHARED_INFO_GFN * 4096;
export const VCPU_INFO_GPA = 4 * 4096;
/** vcpu_info of vCPU `index`. */
export const vcpuInfoGpa = (index: number): number => VCPU_INFO_GPA + index * 64;

export interface MakeOptions extends VmOptions {
  readonly longMode?: boolean;
}

/** A fresh VM with shared_info and one vcpu_info per vCPU registered at addresses that are not 0. */
export function makeVm(options: MakeOptions = {}): Vm {
  const { longMode = true, ...rest } = options;
  const vm = createVm({ guestPages: 16, bare: true, ...rest });
  vm.setAttr({ type: 'long_mode', enabled: longMode });
  vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
  for (let i = 0; i < vm.vcpus; i++) vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(i)) });
  return vm;
}

/** Guest RAM as bytes, by guest-physical address. */
export function ram(vm: Vm): Uint8Array {
  return new Uint8Array(vm.memory.buffer, vm.guestBase, vm.guestBytes);
}

/** Guest RAM as fields, by guest-physical address; little-endian: pass `true`. */
export function fields(vm: Vm): DataView {
  return new DataView(vm.memory.buffer, vm.guestBase, vm.guestBytes);
}

function bitOf(vm: Vm, bitmap: number, port: number): boolean {
  return ((ram(vm)[bitmap + (port >> 3)] ?? 0) >> (port & 7)) % 2 === 1;
}

/** The pending bit as it lies in guest RAM. */
export function pendingBit(vm: Vm, port: number, page = SHARED_INFO_GPA): boolean {
  return bitOf(vm, page + SHARED_INFO_PENDING, port);
}

/** The mask bit as it lies in guest RAM. */
export function maskBit(vm: Vm, port: number): boolean {
  return bitOf(vm, SHARED_INFO_GPA + (vm.maxPorts === 4096 ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT), port);
}

/** What `call` throws, which has to be an EvtchnError. */
export function errorOf(call: () => unknown): EvtchnError {
  try {
    call();
  } catch (error) {
    if (error instanceof EvtchnError) return error;
    throw error;
  }
  throw new Error('expected an EvtchnError, nothing was thrown');
}

/** All bytes of the memory, to see that nothing has changed. */
export function memoryBytes(vm: Vm): Uint8Array {
  return new Uint8Array(vm.memory.buffer).slice();
}

/** Collects what a drain delivers. */
export function drained(vm: Vm, vcpu = 0): number[] {
  const ports: number[] = [];
  vm.vcpu(vcpu).drain((port) => ports.push(port));
  return ports;
}

/** A repeatable source of integers in 0..n-1 (xorshift32). */
export function random(seed: number): (n: number) => number {
  let x = seed >>> 0 || 1;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % n;
  };
}

/** A kernel binary that the build left, or the one to test in its place (test/branches, test/mutation). */
export function kernelBytes(name: 'shared' | 'unshared' | 'trace-shared' | 'trace-unshared'): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(`${process.env['EVTCHN_TEST_KERNELS'] ?? 'build'}/${name}.wasm`));
}
