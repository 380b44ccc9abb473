// What a hypercall needs of the embedder's processor: mode, privilege, registers, and memory by virtual address.

import { checkRange, EvtchnError } from '../../errors.ts';
import { gpa } from '../../memory/address.ts';
import type { Vm } from '../vm.ts';

/** General registers, u64 each; in other than 64-bit mode their upper halves are ignored. */
export interface GuestRegisters {
  rax: bigint;
  readonly rbx: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly rsi: bigint;
  readonly rdi: bigint;
  readonly rbp: bigint;
  /** needed in 64-bit mode only, like r9 and r10 */
  readonly r8?: bigint;
  readonly r9?: bigint;
  readonly r10?: bigint;
}

/** A processor of the embedder's that has met VMCALL, VMMCALL or WRMSR and has not gone on yet. */
export interface GuestCpu {
  /** It runs 64-bit code: EFER.LMA and CS.L. Decides registers and layouts of a hypercall. [KX-HCL-11] */
  readonly longMode: boolean;
  /** EFER.LMA, also set for 32-bit code of a 64-bit kernel: what a write of the hypercall page's MSR takes over. [KX-HCL-04] */
  readonly lma: boolean;
  /** current privilege level, 0..3 */
  readonly cpl: number;
  /** linear address of the instruction, u64; set to the next one when a hypercall is done */
  rip: bigint;
  /** bytes of the instruction, 0..15: 3 for VMCALL and VMMCALL; 0 if `rip` is behind it already */
  readonly instructionLength: number;
  /** the registers themselves: what is stored to `rax` is the processor's */
  readonly registers: GuestRegisters;
  /** A copy of `length` bytes at a guest-virtual address as code of this privilege reads them; null for a page fault. */
  readVirtual(address: bigint, length: number): Uint8Array | null;
}

/** A processor whose guest makes Xen's own hypercalls: they also write to the guest, and keep addresses for later. */
export interface XenGuestCpu extends GuestCpu {
  /** Whether an interrupt would be taken now (IF is set, no shadow); true where it is left out. SCHEDOP_block and poll ask. */
  readonly interruptible?: boolean;
  /**
   * Writes bytes at a guest-virtual address as code of this privilege does.
   * @returns false for a page fault: nothing was written, or the pages before it
   */
  writeVirtual(address: bigint, bytes: Uint8Array): boolean;
  /** The guest-physical address that a guest-virtual one leads to, for writing; null where nothing is mapped. */
  translate(address: bigint): number | null;
}

/** What `FlatCpu` begins with; 0 and 64-bit mode where nothing is said. */
export interface FlatCpuState {
  readonly longMode?: boolean;
  readonly lma?: boolean;
  readonly cpl?: number;
  readonly rip?: bigint;
  readonly instructionLength?: number;
  /** true where nothing is said */
  readonly interruptible?: boolean;
  readonly registers?: Partial<GuestRegisters>;
}

/** Guest-physical addresses end here. */
const GPA_END = 2n ** 52n;

/** A processor without paging: a virtual address is the guest-physical one. For embedders that have no more, and for tests. */
export class FlatCpu implements XenGuestCpu {
  longMode: boolean;
  lma: boolean;
  cpl: number;
  rip: bigint;
  instructionLength: number;
  interruptible: boolean;
  registers: { -readonly [R in keyof GuestRegisters]-?: bigint };
  readonly #vm: Vm;

  constructor(vm: Vm, state: FlatCpuState = {}) {
    this.#vm = vm;
    this.longMode = state.longMode ?? true;
    this.lma = state.lma ?? this.longMode;
    this.cpl = state.cpl ?? 0;
    this.rip = state.rip ?? 0n;
    this.instructionLength = state.instructionLength ?? 3;
    this.interruptible = state.interruptible ?? true;
    const zero = { rax: 0n, rbx: 0n, rcx: 0n, rdx: 0n, rsi: 0n, rdi: 0n, rbp: 0n, r8: 0n, r9: 0n, r10: 0n };
    this.registers = { ...zero, ...state.registers };
  }

  readVirtual(address: bigint, length: number): Uint8Array | null {
    if (address + BigInt(length) > GPA_END) return null;
    return this.#vm.guestMemory.read(gpa(Number(address)), length);
  }

  writeVirtual(address: bigint, bytes: Uint8Array): boolean {
    if (address + BigInt(bytes.length) > GPA_END) return false;
    return this.#vm.guestMemory.write(gpa(Number(address)), bytes);
  }

  translate(address: bigint): number | null {
    return address < GPA_END ? Number(address) : null;
  }
}

/** The value as the mode has it: all 64 bits, or the lower 32. Throws EINVAL unless it is a bigint in 0..2^64-1. @internal */
export function registerValue(what: string, value: bigint | undefined, longMode: boolean): bigint {
  checkU64(what, value);
  return longMode ? value : BigInt.asUintN(32, value);
}

/** @internal */
export function checkU64(what: string, value: unknown): asserts value is bigint {
  if (typeof value === 'bigint' && BigInt.asUintN(64, value) === value) return;
  throw new EvtchnError('EINVAL', `${what} is ${String(value)}, allowed are bigints from 0 to 2^64-1`);
}

/** Where the instruction is, and where the next one begins. Throws EINVAL for a bad `rip` or length. @internal */
export function linearRip(cpu: GuestCpu): { readonly at: bigint; readonly next: bigint } {
  const at = registerValue('rip', cpu.rip, cpu.longMode);
  checkRange('the length of the instruction', cpu.instructionLength, 0, 15);
  return { at, next: BigInt.asUintN(cpu.longMode ? 64 : 32, at + BigInt(cpu.instructionLength)) };
}

/**
 * An argument that the guest has passed by pointer, read once: what it changes later was not seen. [KF-47]
 * Null for a page fault. @internal
 */
export function readArgument(cpu: GuestCpu, address: bigint, length: number): DataView | null {
  const bytes = cpu.readVirtual(address, length);
  if (bytes === null) return null;
  if (bytes.length !== length) {
    throw new EvtchnError('EINVAL', `readVirtual was asked for ${length} bytes and answered ${bytes.length}`);
  }
  return new DataView(Uint8Array.from(bytes).buffer);
}
