// The half of the gfn-to-pfn cache that may sleep: activate, refresh, deactivate, invalidate. [KX-GPC-15..41]
// The cache's word and the order of its changes are in assembly/gpc.ts.

import { EAGAIN, EFAULT, EINVAL } from '../abi/errno.ts';
import {
  GPC_ACTIVE,
  GPC_GPA_HI,
  GPC_GPA_LO,
  GPC_LENGTH,
  GPC_UNMAPPED,
  REGION_INVALIDATE_ACTIVE,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import { type Gpa, type Hpa, type Hva, pageOffset, gpa as toGpa } from './address.ts';
import type { Region } from './region.ts';

/** How often a refresh begins again after losing to an invalidation, and how long it sleeps before each (ms). */
const REFRESH_TRIES = 200;
const REFRESH_SLEEP = 1;

/** Looks at other agents' reader words in one go, and how many naps of a millisecond there are before giving up. */
const READER_SPINS = 20_000;
const READER_NAPS = 2_000;

/** One agent's view of the caches of a VM. @internal */
export class GpcSet {
  readonly #kernel: Kernel;
  readonly #region: Region;
  readonly #agent: number;
  /** invalidations this agent has begun and not ended: waiting for those would be waiting for itself */
  #open = 0;

  constructor(kernel: Kernel, region: Region, agent: number) {
    this.#kernel = kernel;
    this.#region = region;
    this.#agent = agent;
  }

  isActive(gpc: number): boolean {
    return this.#region.words.load(gpc + GPC_ACTIVE) !== 0;
  }

  /** The base of an active cache, else null. [KX-VMA-06] */
  gpaOf(gpc: number): Gpa | null {
    if (!this.isActive(gpc)) return null;
    const { words } = this.#region;
    return toGpa((words.load(gpc + GPC_GPA_HI) >>> 0) * 2 ** 32 + (words.load(gpc + GPC_GPA_LO) >>> 0));
  }

  /** Throws EINVAL unless `length` bytes from `address` lie in one page. [KX-GPC-10] */
  checkFit(what: string, address: Gpa, length: number): void {
    if (pageOffset(address) + length > PAGE_SIZE) {
      throw new EvtchnError(
        'EINVAL',
        `${what} of ${length} bytes at ${hex(address)} crosses a page: its offset may be at most ${hex(PAGE_SIZE - length)}`,
      );
    }
  }

  /**
   * Points an inactive cache at a guest address; the fit was checked.
   * Throws EFAULT when the page cannot be reached: the cache is then active with the new address, and later uses try again.
   */
  activate(gpc: number, what: string, address: Gpa, length: number): void {
    const { words } = this.#region;
    words.store(gpc + GPC_GPA_LO, (address % 2 ** 32) | 0);
    words.store(gpc + GPC_GPA_HI, Math.floor(address / 2 ** 32));
    words.store(gpc + GPC_LENGTH, length);
    words.store(gpc + GPC_ACTIVE, 1);
    const result = this.refresh(gpc);
    if (result === -EFAULT) {
      const { guestBytes } = this.#region;
      throw new EvtchnError(
        'EFAULT',
        `${what} at ${hex(address)} is not in guest RAM, which ends at ${hex(guestBytes)}`,
      );
    }
    if (result < 0)
      throw new EvtchnError('EAGAIN', `${what} at ${hex(address)} cannot be mapped while an invalidation is open`);
  }

  /**
   * Final until the next activation: inactive first, so that no refresh brings the mapping back. [KF-03]
   * Nobody uses the mapping when this returns. Throws EBUSY when a reader does not leave: the cache stays active then.
   * @returns the linear address that was mapped, or null
   */
  deactivate(gpc: number): Hpa | null {
    this.checkNoBracket();
    const { words, base } = this.#region;
    const active = words.load(gpc + GPC_ACTIVE);
    words.store(gpc + GPC_ACTIVE, 0);
    const old = this.#kernel.gpcUnmap(base, gpc) >>> 0;
    try {
      this.awaitReaders();
    } catch (error) {
      words.store(gpc + GPC_ACTIVE, active);
      throw error;
    }
    return old < GPC_UNMAPPED >>> 0 ? (old as Hpa) : null;
  }

  /**
   * Maps a cache again. [KX-GPC-20..36]
   * @returns 0, -EINVAL inactive, -EFAULT its page cannot be reached, -EAGAIN an invalidation did not end in time
   */
  refresh(gpc: number): number {
    const token = this.#region.agentNumber(this.#agent) + 1;
    for (let i = 0; i < REFRESH_TRIES; i++) {
      const begun = this.#kernel.gpcBeginRefresh(this.#region.base, gpc, token);
      if (begun === 1 || begun === -EINVAL) return begun === 1 ? 0 : begun;
      if (begun === 0) {
        // After the token is in the word: an invalidation that starts from here on takes it away.
        const hva = this.#translate(gpc);
        if (hva === null) return -EFAULT;
        if (this.#kernel.gpcPublish(this.#region.base, gpc, token, hva) === 0) return 0;
      } else if (!this.#awaitInvalidations()) {
        return -EAGAIN;
      }
    }
    return -EAGAIN;
  }

  #translate(gpc: number): Hva | null {
    const { words, guestBase, guestBytes } = this.#region;
    const address = this.gpaOf(gpc);
    if (address === null || address + words.load(gpc + GPC_LENGTH) > guestBytes) return null;
    const at = guestBase + address;
    // The last page of 4 GiB stands for "no mapping".
    return at < 2 ** 32 - PAGE_SIZE ? (at as Hva) : null;
  }

  /** Lets open invalidations of others end. @returns false when that cannot be waited for here */
  #awaitInvalidations(): boolean {
    const { words, base } = this.#region;
    const active = words.load(base + REGION_INVALIDATE_ACTIVE);
    if (active <= this.#open) return this.#open === 0;
    return words.wait(base + REGION_INVALIDATE_ACTIVE, active, REFRESH_SLEEP);
  }

  /** The host addresses `first`..`last` are about to change. When this returns nobody uses their old pages. [KX-MEM-01] */
  invalidateStart(first: Hva, last: Hva): number {
    this.checkNoBracket();
    const count = this.#kernel.invalidateStart(this.#region.base, first, last);
    this.#open++;
    try {
      this.awaitReaders();
    } catch (error) {
      // Not granted, so not open: the caller must not change anything, and others may map the pages again.
      this.invalidateEnd();
      throw error;
    }
    return count;
  }

  /** They have changed. Throws EINVAL without a start by this agent. [KX-MEM-03] */
  invalidateEnd(): void {
    if (this.#open === 0) throw new EvtchnError('EINVAL', 'invalidateEnd without an invalidateStart by this agent');
    this.#open--;
    this.#kernel.invalidateEnd(this.#region.base);
    this.#region.words.notify(this.#region.base + REGION_INVALIDATE_ACTIVE);
  }

  /** This agent goes away: nobody else could end the invalidations it has open. */
  abandon(): void {
    while (this.#open > 0) this.invalidateEnd();
  }

  /** Throws EBUSY while this agent has a bracket open: it would wait for itself. */
  checkNoBracket(): void {
    if (this.#region.bracketOpen(this.#agent)) {
      throw new EvtchnError(
        'EBUSY',
        'a bracket (or a batch whose listener this is) is open: leave before changing mappings or sleeping',
      );
    }
  }

  /** Waits until nobody is inside a bracket that began before now. Throws EBUSY with the agent that does not leave. */
  awaitReaders(): void {
    const { words, base, agents } = this.#region;
    let from = 0;
    for (let nap = 0; nap <= READER_NAPS; nap++) {
      const busy = this.#kernel.awaitReaders(base, this.#agent, from, READER_SPINS);
      if (busy >= agents) return;
      from = busy;
      const reader = this.#region.agentRecord(busy);
      const epoch = words.load(reader);
      words.wait(reader, epoch, 1);
      // It may be in a bracket again, but that one began after the mapping was gone.
      if (words.load(reader) !== epoch) from++;
    }
    throw new EvtchnError(
      'EBUSY',
      `agent ${from} has held a bracket for ${READER_NAPS} ms and more: detachAgent(${from}) if its thread is dead`,
    );
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
