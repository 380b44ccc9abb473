// v86's processor as a hypercall sees it: the registers, and memory by virtual address. [XE-BT-01]

import { PAGE_SIZE } from '../abi/shared_info.ts';
import type { Words } from '../memory/words.ts';
import type { GuestRegisters, XenGuestCpu } from '../vm/guest/guest_cpu.ts';
import type { V86Processor } from './emulator.ts';
import type { PageTables } from './paging.ts';

/** Where v86 keeps them: eight general registers, i32 each, and the linear addresses of the next and of this instruction. */
const REGISTERS = 64;
const NEXT_IP = 556;
const THIS_IP = 560;
const CPL = 612;
const FLAGS = 120;
const FLAG_IF = 1 << 9;

/** General registers by their numbers. */
export const EAX = 0;
export const ECX = 1;
export const EDX = 2;
export const EBX = 3;
const EBP = 5;
export const ESI = 6;
export const EDI = 7;

/** v86's one processor, which runs 32-bit code. @internal */
export class GuestProcessor implements XenGuestCpu {
  readonly longMode = false;
  readonly lma = false;
  /** v86 has set `rip` behind the instruction when it asks. */
  readonly instructionLength = 0;
  readonly registers: GuestRegisters;
  readonly #words: Words;
  readonly #tables: PageTables;
  readonly #v86: V86Processor;

  constructor(words: Words, tables: PageTables, v86: V86Processor) {
    this.#words = words;
    this.#tables = tables;
    this.#v86 = v86;
    this.registers = new Registers(this);
  }

  get cpl(): number {
    return this.#words.bytes[CPL] as number;
  }

  get interruptible(): boolean {
    return (this.#words.load(FLAGS) & FLAG_IF) !== 0;
  }

  get rip(): bigint {
    return BigInt(this.#words.load(NEXT_IP) >>> 0);
  }
  set rip(address: bigint) {
    this.#words.store(NEXT_IP, Number(BigInt.asIntN(32, address)));
  }

  /** A general register, u32. */
  get(register: number): number {
    return this.#words.load(REGISTERS + 4 * register) >>> 0;
  }
  set(register: number, value: number): void {
    this.#words.store(REGISTERS + 4 * register, value | 0);
  }

  /** Bytes of the instruction that is being executed; null for a page fault. */
  instruction(length: number): Uint8Array | null {
    return this.readVirtual(BigInt(this.#words.load(THIS_IP) >>> 0), length);
  }

  readVirtual(address: bigint, length: number): Uint8Array | null {
    const copy = new Uint8Array(length);
    const whole = this.#pages(address, length, false, (physical, from, bytes) => {
      copy.set(this.#words.read(this.#tables.guestBase + physical, bytes), from);
    });
    return whole ? copy : null;
  }

  translate(address: bigint): number | null {
    return this.#tables.translate(Number(BigInt.asUintN(32, address)), { write: true, user: this.cpl === 3 });
  }

  writeVirtual(address: bigint, bytes: Uint8Array): boolean {
    const parts: { readonly at: number; readonly part: Uint8Array }[] = [];
    const whole = this.#pages(address, bytes.length, true, (at, from, length) => {
      parts.push({ at, part: bytes.subarray(from, from + length) });
    });
    if (!whole) return false;
    for (const { at, part } of parts) {
      this.#v86.jit_dirty_cache(at, at + part.length);
      this.#words.write(this.#tables.guestBase + at, part);
    }
    return true;
  }

  /** @returns false when a page is absent, or not allowed to this privilege */
  #pages(
    address: bigint,
    length: number,
    write: boolean,
    use: (physical: number, from: number, bytes: number) => void,
  ): boolean {
    const access = { write, user: this.cpl === 3 };
    const first = Number(BigInt.asUintN(32, address));
    for (let from = 0; from < length; ) {
      const at = (first + from) >>> 0;
      const physical = this.#tables.translate(at, access);
      if (physical === null) return false;
      const bytes = Math.min(length - from, PAGE_SIZE - (at % PAGE_SIZE));
      use(physical, from, bytes);
      from += bytes;
    }
    return true;
  }
}

/** The registers by their 64-bit names; upper halves are 0. */
class Registers implements GuestRegisters {
  readonly #cpu: GuestProcessor;

  constructor(cpu: GuestProcessor) {
    this.#cpu = cpu;
  }
  get rax(): bigint {
    return BigInt(this.#cpu.get(EAX));
  }
  set rax(value: bigint) {
    this.#cpu.set(EAX, Number(BigInt.asIntN(32, value)));
  }
  get rbx(): bigint {
    return BigInt(this.#cpu.get(EBX));
  }
  get rcx(): bigint {
    return BigInt(this.#cpu.get(ECX));
  }
  get rdx(): bigint {
    return BigInt(this.#cpu.get(EDX));
  }
  get rsi(): bigint {
    return BigInt(this.#cpu.get(ESI));
  }
  get rdi(): bigint {
    return BigInt(this.#cpu.get(EDI));
  }
  get rbp(): bigint {
    return BigInt(this.#cpu.get(EBP));
  }
}
