// Guest RAM by guest-physical address, for hypercall arguments and pages that the engine writes: across slots and pages.
// Reading and writing happen inside a bracket, so a page that is being taken away is waited for.

import { checkRange } from '../errors.ts';
import { type Gpa, gpa, type Hva } from './address.ts';
import type { GpcSet } from './gpc.ts';
import { accessPages, type UsePage } from './page_access.ts';
import type { Region } from './region.ts';
import { hostAddressOf } from './slot_table.ts';

/** The longest access, bytes. */
const MAX_LENGTH = 2 ** 31 - 1;

/** Guest RAM as the guest's processors see it. */
export class GuestMemory {
  readonly #region: Region;
  readonly #gpcs: GpcSet;
  readonly #checkOpen: () => void;

  /** @internal */
  constructor(region: Region, gpcs: GpcSet, checkOpen: () => void) {
    this.#region = region;
    this.#gpcs = gpcs;
    this.#checkOpen = checkOpen;
  }

  /**
   * A copy of `length` bytes, each read once; null when a page of them is in no slot or absent, or an invalidation is open that
   * cannot be waited for here: this thread's own, or any while it has a bracket open. Throws EINVAL for what is no address or
   * length.
   */
  read(address: Gpa, length: number): Uint8Array | null {
    this.#checkOpen();
    checkRange('the length', length, 0, MAX_LENGTH);
    const copy = new Uint8Array(length);
    const done = this.#access(gpa(address), length, false, (at, from, bytes) => {
      copy.set(this.#region.words.read(at, bytes), from);
    });
    return done ? copy : null;
  }

  /**
   * Writes bytes and marks their pages dirty, as written by vCPU `vcpu`. [KX-HCL-07]
   * @returns false where `read` gives null, and when a page is read-only: the pages before it were written. Throws EINVAL for what is
   *   no address or vCPU
   */
  write(address: Gpa, bytes: Uint8Array, vcpu = 0): boolean {
    // Its bracket would be that of whoever has the place now.
    this.#checkOpen();
    checkRange('the vCPU index', vcpu, 0, this.#region.vcpus - 1);
    return this.#access(gpa(address), bytes.length, true, (at, from, length) => {
      // In one bracket: the page that is marked is the page that was written. [KF-07]
      this.#gpcs.writePage(vcpu, address + from, () => {
        this.#region.words.write(at, bytes.subarray(from, from + length));
      });
    });
  }

  #access(address: Gpa, length: number, writable: boolean, use: UsePage): boolean {
    const toHost = (at: number): Hva | null => hostAddressOf(this.#region, at, writable);
    return accessPages(this.#region, this.#gpcs, { address, length, writable }, toHost, use);
  }
}
