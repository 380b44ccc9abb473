// The half of the gfn-to-pfn cache that may sleep: activate, refresh, deactivate. [KX-GPC-15..36]
// The cache's word and the order of its changes are in assembly/gpc.ts.

import { EAGAIN, EFAULT } from '../abi/errno.ts';
import {
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  GPC_BY_HVA,
  GPC_LENGTH,
  GPC_MODE_BITS,
  GPC_TOKEN_SHIFT,
  GPC_UNMAPPED,
  GPC_WORD,
  REGION_HOST_PAGES,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError, hex } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import { type Gpa, type Hpa, type Hva, pageOffset } from './address.ts';
import type { Changes } from './changes.ts';
import { type HostPage, lookUp } from './host_pages.ts';
import type { Region } from './region.ts';
import { findSlot, hostAddressOf, slotsOf } from './slot_table.ts';

/**
 * Called when a host page that is needed is absent or may not be written; it may make it present before it returns. Not called inside
 * a bracket, where mappings cannot change, nor from within itself. What it throws is reported as an uncaught error.
 */
export type PageFault = (hva: Hva, writable: boolean) => void;

/** The base of a cache: exactly one of the two. [KX-GPC-02] @internal */
export type GpcBase = { readonly gpa: Gpa } | { readonly hva: Hva };

/** How often a refresh begins again after losing to an invalidation. */
const REFRESH_TRIES = 200;

/** Looks at a refresh of another agent that is under way, before its token is taken. */
const FINISH_LOOKS = 1_000;

/** One agent's view of the caches of a VM. @internal */
export class GpcSet {
  readonly #kernel: Kernel;
  readonly #region: Region;
  /** how mappings change under the caches */
  readonly changes: Changes;
  readonly #onFault: PageFault | undefined;
  /** the page-fault handler is running */
  #faulting = false;

  constructor(kernel: Kernel, region: Region, changes: Changes, onFault?: PageFault) {
    this.#kernel = kernel;
    this.#region = region;
    this.changes = changes;
    this.#onFault = onFault;
  }

  isActive(gpc: number): boolean {
    return this.#region.words.load(gpc + GPC_ACTIVE) !== 0;
  }

  // Neither checks the range: a refresh may read an address while it changes, and then loses its token for it.

  /** Whether a cache maps its page now. */
  isMapped(gpc: number): boolean {
    return this.#region.words.load(gpc + GPC_WORD) >>> 0 < GPC_UNMAPPED >>> 0;
  }

  /** The base of an active cache by guest address, else null. [KX-VMA-06] */
  gpaOf(gpc: number): Gpa | null {
    const by = this.#region.words.load(gpc + GPC_ACTIVE);
    return by === GPC_BY_GPA ? (this.#region.words.loadWide(gpc + GPC_ADDRESS_LO) as Gpa) : null;
  }

  /** The base of an active cache by host address, else null. [KX-VMA-09] */
  hvaOf(gpc: number): Hva | null {
    const by = this.#region.words.load(gpc + GPC_ACTIVE);
    return by === GPC_BY_HVA ? (this.#region.words.loadWide(gpc + GPC_ADDRESS_LO) as Hva) : null;
  }

  /** The base of an active cache, else null. */
  baseOf(gpc: number): GpcBase | null {
    const [gpa, hva] = [this.gpaOf(gpc), this.hvaOf(gpc)];
    if (gpa !== null) return { gpa };
    return hva === null ? null : { hva };
  }

  /** Throws EINVAL unless `length` bytes from `address` lie in one page. [KX-GPC-10] */
  checkFit(what: string, address: number, length: number): void {
    if (pageOffset(address) + length > PAGE_SIZE) {
      throw new EvtchnError(
        'EINVAL',
        `${what} of ${length} bytes at ${hex(address)} crosses a page: its offset may be at most ${hex(PAGE_SIZE - length)}`,
      );
    }
  }

  /**
   * Points a cache at an address, whether it was active or not; the fit was checked. [KX-GPC-15..17]
   * A cache that was active stays so all the time: its users try again and find the new place. `onOld` gets the linear address
   * that was mapped, when nobody uses it any more and before the new place is looked for: it may send and drain.
   * Throws EFAULT when the page cannot be reached: the cache is then active with the new address, and later uses try again;
   * EBUSY when a reader does not leave: nothing has changed.
   */
  activate(gpc: number, what: string, at: GpcBase, length: number, onOld?: (old: Hpa) => void): void {
    const { words, base } = this.#region;
    const address = 'gpa' in at ? at.gpa : at.hva;
    let old = GPC_UNMAPPED >>> 0;
    const unmap = (): void => {
      old = this.#kernel.gpcUnmap(base, gpc) >>> 0;
    };
    this.changes.change(unmap, () => {
      words.storeWide(gpc + GPC_ADDRESS_LO, address);
      words.store(gpc + GPC_LENGTH, length);
      words.store(gpc + GPC_ACTIVE, 'gpa' in at ? GPC_BY_GPA : GPC_BY_HVA);
    });
    if (old < GPC_UNMAPPED >>> 0) onOld?.(old as Hpa);
    const result = this.refresh(gpc);
    if (result === -EFAULT) throw new EvtchnError('EFAULT', `${what} at ${hex(address)} ${this.#whyNot(at)}`);
    if (result < 0)
      throw new EvtchnError('EAGAIN', `${what} at ${hex(address)} cannot be mapped while an invalidation is open`);
  }

  /**
   * Points several caches at guest addresses at one moment, whether they were active or not; fit and reach were checked. `during`
   * runs when nobody uses the old places any more and before anybody can find the new ones: it may copy what is in them.
   * Throws EBUSY when a reader does not leave: nothing has changed.
   */
  moveAll(
    moves: readonly { readonly gpc: number; readonly gpa: Gpa; readonly length: number }[],
    during: () => void,
  ): void {
    const { words, base } = this.#region;
    const unmap = (): void => {
      for (const { gpc } of moves) this.#kernel.gpcUnmap(base, gpc);
    };
    this.changes.change(unmap, () => {
      during();
      for (const { gpc, gpa, length } of moves) {
        words.storeWide(gpc + GPC_ADDRESS_LO, gpa);
        words.store(gpc + GPC_LENGTH, length);
        words.store(gpc + GPC_ACTIVE, GPC_BY_GPA);
      }
    });
    for (const { gpc } of moves) this.refresh(gpc);
  }

  /** The linear address of a guest page that may be written, asking the embedder for it if it is absent; null: it cannot be reached. */
  reach(address: Gpa): Hpa | null {
    const host = hostAddressOf(this.#region, address, true);
    const page = host === null ? null : this.faultIn(host, true);
    return page === null || host === null ? null : ((page.hpa + pageOffset(host)) as Hpa);
  }

  /** Why an address cannot be reached. */
  #whyNot(at: GpcBase): string {
    const { guestBase, guestBytes, words, base } = this.#region;
    let host: Hva | null;
    if ('gpa' in at) {
      if (!findSlot(this.#region, at.gpa)) {
        const slots = slotsOf(this.#region).map(
          (s) => `${hex(s.gfn * PAGE_SIZE)}..${hex((s.gfn + s.pages) * PAGE_SIZE - 1)}`,
        );
        return `is not in guest RAM, which is ${slots.join(', ') || 'empty'}`;
      }
      host = hostAddressOf(this.#region, at.gpa, true);
      if (host === null) return 'is in a memory slot that is read-only';
    } else {
      host = at.hva;
    }
    const page = lookUp(this.#region, host);
    if (page) return page.writable ? 'cannot be mapped' : `is on a host page that is read-only (${hex(host)})`;
    return words.load(base + REGION_HOST_PAGES)
      ? `is on a host page that is absent (${hex(host)})`
      : `is at host address ${hex(host)}, outside the guest-RAM window ${hex(guestBase)}..${hex(guestBase + guestBytes - 1)}`;
  }

  /**
   * Final until the next activation: inactive first, so that no refresh brings the mapping back. [KF-03]
   * Nobody uses the mapping when this returns. Throws EBUSY when a reader does not leave: the cache stays active then.
   * @returns the linear address that was mapped, or null
   */
  deactivate(gpc: number): Hpa | null {
    return this.deactivateAll([gpc])[0] ?? null;
  }

  /** As `deactivate` for caches that belong together: all of them, or on EBUSY none. [KF-10] */
  deactivateAll(gpcs: readonly number[]): (Hpa | null)[] {
    this.changes.checkNoBracket();
    const { words, base } = this.#region;
    const active = gpcs.map((gpc) => words.exchange(gpc + GPC_ACTIVE, 0));
    const old = gpcs.map((gpc) => this.#kernel.gpcUnmap(base, gpc) >>> 0);
    try {
      this.changes.awaitReaders();
    } catch (error) {
      gpcs.forEach((gpc, i) => {
        words.store(gpc + GPC_ACTIVE, active[i] as number);
      });
      // Who looked meanwhile saw no vcpu_info, and may sleep over what is in it.
      this.#region.wakeSleepers();
      throw error;
    }
    return old.map((address) => (address < GPC_UNMAPPED >>> 0 ? (address as Hpa) : null));
  }

  /**
   * Maps a cache again. [KX-GPC-20..36]
   * @returns 0, -EINVAL inactive, -EFAULT its page cannot be reached, -EAGAIN an invalidation did not end in time, or a bracket of
   *   this agent stands in the way of the page-fault handler
   */
  refresh(gpc: number): number {
    const token = this.changes.agentNumber + 1;
    for (let i = 0; i < REFRESH_TRIES; i++) {
      this.#letFinish(gpc, token);
      const begun = this.#kernel.gpcBeginRefresh(this.#region.base, gpc, token);
      if (begun === 1) return 0;
      if (begun === 0) {
        // After the token is in the word: a change that starts from here on takes it away.
        const found = this.#translate(gpc, token);
        const lost = this.#kernel.gpcPublish(this.#region.base, gpc, token, found < 0 ? GPC_UNMAPPED : found) !== 0;
        // What was found counts only if the token stood.
        if (!lost) return Math.min(found, 0);
      } else if (begun !== -EAGAIN) {
        return begun;
      } else if (!this.changes.awaitInvalidations()) {
        return -EAGAIN;
      }
    }
    return -EAGAIN;
  }

  /** Guest address to slot to host page to frame. [KX-GPC-23, 24] @returns a linear address, -EFAULT, or -EAGAIN */
  #translate(gpc: number, token: number): number {
    const address = this.gpaOf(gpc);
    const host = address === null ? this.hvaOf(gpc) : hostAddressOf(this.#region, address, true);
    // After the address was read: a change takes the token first, so the embedder is never asked for half an address.
    if (!this.#holds(gpc, token)) return -EAGAIN;
    if (host === null) return -EFAULT;
    const page = this.faultIn(host, true);
    if (page === null) return this.changes.inBracket && this.#onFault ? -EAGAIN : -EFAULT;
    const at = page.hpa + pageOffset(host);
    // The last page of 4 GiB stands for "no mapping".
    return at < 2 ** 32 - PAGE_SIZE ? at : -EFAULT;
  }

  /**
   * A refresh that another agent has under way is left time to finish: two that took each other's token in turn might never end.
   * If it takes longer, its agent asks for a page, sleeps or is dead, and may lose its token. [KX-GPC-20]
   */
  #letFinish(gpc: number, token: number): void {
    const { words } = this.#region;
    const first = words.load(gpc + GPC_WORD) & ~GPC_MODE_BITS;
    const other = first >= GPC_UNMAPPED && first < 0 && first !== GPC_UNMAPPED && !this.#holds(gpc, token);
    for (let i = 0; other && i < FINISH_LOOKS; i++) {
      if ((words.load(gpc + GPC_WORD) & ~GPC_MODE_BITS) !== first) return;
    }
  }

  #holds(gpc: number, token: number): boolean {
    const word = this.#region.words.load(gpc + GPC_WORD) & ~GPC_MODE_BITS;
    return word === (GPC_UNMAPPED | (token << GPC_TOKEN_SHIFT));
  }

  /** The page of a host address, asking the embedder once if it is not there as it is needed. [KX-GPC-30] */
  faultIn(host: Hva, writable: boolean): HostPage | null {
    const usable = (page: HostPage | null): boolean => page !== null && (page.writable || !writable);
    let page = lookUp(this.#region, host);
    if (!usable(page) && this.#askFor(host, writable)) page = lookUp(this.#region, host);
    return usable(page) ? page : null;
  }

  /** @returns whether the embedder was asked */
  #askFor(host: Hva, writable: boolean): boolean {
    if (!this.#onFault || this.#faulting || this.changes.inBracket) return false;
    this.#faulting = true;
    try {
      this.#onFault(host, writable);
    } catch (error) {
      // A send is on the stack, and sends do not throw: the page counts as absent.
      queueMicrotask(() => {
        throw error;
      });
    } finally {
      this.#faulting = false;
    }
    return true;
  }

  /** Marks the page of a guest-physical address, written by a vCPU. In a bracket. [KX-MEM-20] */
  markDirty(vcpu: number, address: number): void {
    const gfn = Math.floor(address / PAGE_SIZE);
    this.#kernel.markPage(this.#region.base, vcpu, gfn | 0, Math.floor(gfn / 2 ** 32));
  }
}
