// A byte ring in a shared page, as XenStore and the console have two of: indexes run freely, position = index modulo size.
// [XE-XS-02]

import type { GuestRam } from './guest_ram.ts';

/** Where a ring lies in its page. */
export interface RingPlace {
  readonly data: number;
  readonly bytes: number;
  readonly consumer: number;
  readonly producer: number;
}

/** One direction, seen from the host. */
export class ByteRing {
  readonly #ram: GuestRam;
  readonly #page: number;
  readonly #place: RingPlace;

  /** `page` is a guest-physical address. */
  constructor(ram: GuestRam, page: number, place: RingPlace) {
    this.#ram = ram;
    this.#page = page;
    this.#place = place;
  }

  /** Takes all bytes that the guest has produced; none when its indexes make no sense. */
  take(): Uint8Array {
    const { consumer, producer, bytes } = this.#place;
    const from = this.#ram.u32(this.#page + consumer);
    const to = this.#ram.u32(this.#page + producer);
    const length = (to - from) >>> 0;
    if (length === 0 || length > bytes) return new Uint8Array(0);
    const taken = new Uint8Array(length);
    this.#parts(from, length, (at, part, size) => taken.set(this.#ram.read(at, size), part));
    // After the copy: the guest may overwrite what is consumed.
    this.#ram.setU32(this.#page + consumer, to);
    return taken;
  }

  /** Puts as many bytes as there is room for. @returns how many */
  put(bytes: Uint8Array): number {
    const { consumer, producer, bytes: size } = this.#place;
    const from = this.#ram.u32(this.#page + producer);
    const used = (from - this.#ram.u32(this.#page + consumer)) >>> 0;
    const length = Math.min(bytes.length, Math.max(0, size - used));
    this.#parts(from, length, (at, part, n) => this.#ram.write(at, bytes.subarray(part, part + n)));
    // After the bytes: from here on the guest reads them.
    this.#ram.setU32(this.#page + producer, (from + length) >>> 0);
    return length;
  }

  /** The one or two pieces of `length` bytes from index `from` on. */
  #parts(from: number, length: number, use: (address: number, part: number, size: number) => void): void {
    const { data, bytes } = this.#place;
    for (let part = 0; part < length; ) {
      const position = (from + part) % bytes;
      const size = Math.min(length - part, bytes - position);
      use(this.#page + data + position, part, size);
      part += size;
    }
  }
}
