// Guest RAM by guest-physical address, for hypercall arguments and pages that the engine writes: across slots and pages.
// Reading and writing happen inside a bracket, so a page that is being taken away is waited for.

import { REGION_INVALIDATE_ACTIVE } from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { type Gpa, type Hpa, pageOffset } from './address.ts';
import type { GpcSet } from './gpc.ts';
import { lookUp } from './host_pages.ts';
import type { Region } from './region.ts';
import { hostAddressOf } from './slot_table.ts';

/** How often an access lets an invalidation end and begins again. */
const TRIES = 200;

/** Guest RAM as the guest's processors see it. */
export class GuestMemory {
  readonly #region: Region;
  readonly #gpcs: GpcSet;

  /** @internal */
  constructor(region: Region, gpcs: GpcSet) {
    this.#region = region;
    this.#gpcs = gpcs;
  }

  /** A copy of `length` bytes, each read once; null when a page of them is in no slot or absent. */
  read(address: Gpa, length: number): Uint8Array | null {
    const copy = new Uint8Array(length);
    const done = this.#access(address, length, false, (at, from, bytes) => {
      copy.set(this.#region.words.read(at, bytes), from);
    });
    return done ? copy : null;
  }

  /**
   * Writes bytes and marks their pages dirty, as written by vCPU `vcpu`. [KX-HCL-07]
   * @returns false when a page is in no slot, read-only or absent: the pages before it were written
   */
  write(address: Gpa, bytes: Uint8Array, vcpu = 0): boolean {
    return this.#access(address, bytes.length, true, (at, from, length) => {
      this.#region.words.write(at, bytes.subarray(from, from + length));
      this.#gpcs.markDirty(vcpu, address + from);
    });
  }

  #access(
    address: Gpa,
    length: number,
    writable: boolean,
    use: (at: number, from: number, bytes: number) => void,
  ): boolean {
    for (let from = 0; from < length; ) {
      const part = Math.min(length - from, PAGE_SIZE - pageOffset(address + from));
      if (!this.#accessPage(address + from, writable, (at) => use(at, from, part))) return false;
      from += part;
    }
    return true;
  }

  #accessPage(address: number, writable: boolean, use: (at: number) => void): boolean {
    const { words, base } = this.#region;
    for (let i = 0; i < TRIES; i++) {
      const opened = this.#gpcs.enter();
      try {
        // After the bracket is open. On the other side: a change counts itself, then waits for readers.
        if (words.load(base + REGION_INVALIDATE_ACTIVE) === 0 || !opened) {
          const at = this.#frameOf(address, writable);
          if (at !== null) use(at);
          if (at !== null || !this.#gpcs.canFault(opened)) return at !== null;
        }
      } finally {
        if (opened) this.#gpcs.leave();
      }
      if (words.load(base + REGION_INVALIDATE_ACTIVE) !== 0) {
        if (!this.#gpcs.awaitInvalidations()) return false;
      } else if (!this.#fault(address, writable)) {
        return false;
      }
    }
    return false;
  }

  #frameOf(address: number, writable: boolean): Hpa | null {
    const host = hostAddressOf(this.#region, address, writable);
    if (host === null) return null;
    const page = lookUp(this.#region, host);
    return page && (page.writable || !writable) ? ((page.hpa + pageOffset(address)) as Hpa) : null;
  }

  /** Asks the embedder for an absent page. @returns whether it is there now */
  #fault(address: number, writable: boolean): boolean {
    const host = hostAddressOf(this.#region, address, writable);
    return host !== null && this.#gpcs.faultIn(host, writable) !== null;
  }
}
