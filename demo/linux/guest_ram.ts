// A guest's RAM as the tool stack uses it: by guest-physical address, little-endian, following a memory that grows.

import type { Vm } from '../../src/index.ts';
import type { V86Processor } from '../../src/v86/index.ts';

export const PAGE = 4096;

/** One thread only: what the guest and the host share they do not share at once. Throws RangeError outside RAM. */
export class GuestRam {
  readonly #vm: Vm;
  readonly #v86: V86Processor;
  #bytes = new Uint8Array(0);
  #fields = new DataView(new ArrayBuffer(0));

  constructor(vm: Vm, v86: V86Processor) {
    this.#vm = vm;
    this.#v86 = v86;
  }

  get pages(): number {
    return this.#vm.guestBytes / PAGE;
  }

  u8(address: number): number {
    return this.#view().getUint8(address);
  }
  u16(address: number): number {
    return this.#view().getUint16(address, true);
  }
  u32(address: number): number {
    return this.#view().getUint32(address, true);
  }
  u64(address: number): bigint {
    return this.#view().getBigUint64(address, true);
  }
  setU8(address: number, value: number): void {
    this.#view().setUint8(address, value);
  }
  setU16(address: number, value: number): void {
    this.#view().setUint16(address, value, true);
  }
  setU32(address: number, value: number): void {
    this.#view().setUint32(address, value, true);
  }
  setU64(address: number, value: bigint): void {
    this.#view().setBigUint64(address, value, true);
  }

  /** A copy. */
  read(address: number, length: number): Uint8Array {
    this.#view();
    return this.#bytes.slice(address, this.#checked(address, length));
  }

  /** What may be code is compiled anew. */
  write(address: number, bytes: Uint8Array): void {
    this.#view();
    const end = this.#checked(address, bytes.length);
    this.#v86.jit_dirty_cache(address, end);
    this.#bytes.set(bytes, address);
  }

  zero(address: number, length: number): void {
    this.write(address, new Uint8Array(length));
  }

  #checked(address: number, length: number): number {
    const end = address + length;
    if (address < 0 || end > this.#bytes.length) throw new RangeError(`${length} bytes at ${address} are outside RAM`);
    return end;
  }

  #view(): DataView {
    if (this.#bytes.length === 0) {
      const { memory, guestBase, guestBytes } = this.#vm;
      this.#bytes = new Uint8Array(memory.buffer, guestBase, guestBytes);
      this.#fields = new DataView(memory.buffer, guestBase, guestBytes);
    }
    return this.#fields;
  }
}
