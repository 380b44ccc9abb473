// Who uses mapped pages, and how mappings change under them: brackets, waiting for readers, invalidations. [kvm-xen 11.1]
// The order of both sides is at the head of assembly/bracket.ts and assembly/gpc.ts.

import { FIFO_PRIORITIES, QUEUE_HOLDER_BITS, QUEUE_HOLDER_SHIFT } from '../abi/fifo.ts';
import { AGENT_INVALIDATIONS, REGION_INVALIDATE_ACTIVE } from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import type { Hva } from './address.ts';
import type { Region } from './region.ts';

/** How an invalidation may be announced. */
export interface InvalidateOptions {
  /** false: the caller must not sleep, so readers are waited for by looking, and vCPUs in guest mode are not waited for; true by default */
  readonly mayBlock?: boolean;
}

/** Something else that uses frames: told before those of a range change. @internal */
export interface FrameUser {
  /** Gives up its mappings in the range. @returns how many */
  invalidate(first: Hva, last: Hva): number;
  /** Waits until nobody uses what was given up. Throws EBUSY when somebody goes on using it. */
  awaitUsers(mayBlock: boolean): void;
}

/** How often an access begins again because an invalidation came. */
const STABLE_TRIES = 200;

/** How often the end of an invalidation is looked for, and how long a sleep until then is (ms). */
const END_LOOKS = 1_000;
const END_SLEEP = 1;

/** Looks at other agents' reader words in one go, and how many naps of a millisecond there are before giving up. */
const READER_SPINS = 20_000;
const READER_NAPS = 2_000;

/** One agent's part in the changes of a VM's mappings. @internal */
export class Changes {
  readonly #kernel: Kernel;
  readonly #region: Region;
  readonly #agent: number;
  readonly #users = new Set<FrameUser>();
  /** this agent has gone: its place may be another's */
  #gone = false;

  constructor(kernel: Kernel, region: Region, agent: number) {
    this.#kernel = kernel;
    this.#region = region;
    this.#agent = agent;
  }

  get agentNumber(): number {
    return this.#region.agentNumber(this.#agent);
  }
  /** invalidations this agent has begun and not ended: waiting for those would be waiting for itself */
  get #open(): number {
    return this.#region.words.load(this.#agent + AGENT_INVALIDATIONS);
  }
  /** Whether this agent has a bracket open. */
  get inBracket(): boolean {
    return this.#region.bracketOpen(this.#agent);
  }

  /** Opens a bracket unless one is open. @returns whether it did. Throws EBADF once this agent has gone */
  enter(): boolean {
    this.checkOpen();
    return this.#kernel.enter(this.#agent) === 0;
  }
  leave(): void {
    this.#kernel.leave(this.#agent);
  }

  /**
   * Runs `use` in a bracket, at a time when slots and host pages cannot change before it returns; with `own` also inside an
   * invalidation of this agent's own.
   * @returns false when an invalidation is open that cannot be waited for here: `use` was not run then
   */
  whileStable(use: () => void, own = false): boolean {
    for (let i = 0; i < STABLE_TRIES; i++) {
      const opened = this.enter();
      try {
        // After the bracket is open. On the other side: a change counts itself, then waits for readers.
        const active = this.#region.words.load(this.#region.base + REGION_INVALIDATE_ACTIVE);
        if (active <= (own ? this.#open : 0)) {
          use();
          return true;
        }
      } finally {
        if (opened) this.leave();
      }
      if (!this.awaitInvalidations()) return false;
    }
    return false;
  }

  /** Lets open invalidations of others end. @returns false when that cannot be waited for here */
  awaitInvalidations(): boolean {
    const { words, base } = this.#region;
    const at = base + REGION_INVALIDATE_ACTIVE;
    const open = this.#open;
    let active = words.load(at);
    if (active <= open) return open === 0;
    // It may wait for the bracket of this very agent.
    if (this.inBracket) return false;
    // An owner that changes one page after the other leaves only moments in between, which a sleeper would miss. [KF-12]
    for (let i = 0; i < END_LOOKS && active > open; i++) active = words.load(at);
    return active <= open ? open === 0 : words.wait(at, active, END_SLEEP);
  }

  /** Something else that uses frames is told of invalidations from now on. */
  addUser(user: FrameUser): void {
    this.#users.add(user);
  }

  /** The host addresses `first`..`last` are about to change. When this returns nobody uses their old pages. [KX-MEM-01] */
  invalidateStart(first: Hva, last: Hva, { mayBlock = true }: InvalidateOptions = {}): number {
    this.checkNoBracket();
    this.#begin();
    try {
      let count = this.#unmapHost(first, last);
      for (const user of this.#users) count += user.invalidate(first, last);
      this.awaitReaders(mayBlock);
      for (const user of this.#users) user.awaitUsers(mayBlock);
      return count;
    } catch (error) {
      // Not granted, so not open: the caller must not change anything, and others may map the pages again.
      this.invalidateEnd();
      throw error;
    }
  }

  #begin(): void {
    this.#kernel.invalidateStart(this.#region.base);
    this.#region.words.add(this.#agent + AGENT_INVALIDATIONS, 1);
  }

  /** Unmaps every cache whose host page is in the range. [KX-GPC-40] */
  #unmapHost(first: Hva, last: Hva): number {
    const page = (address: Hva): number => Math.min(Math.floor(address / PAGE_SIZE), 2 ** 32 - 1);
    return this.#kernel.unmapRange(this.#region.base, page(first), page(last));
  }

  /** A change that no mapping and no refresh sees half of: unmaps, waits until nobody uses what was mapped, changes. */
  change(unmap: () => void, apply: () => void): void {
    this.checkNoBracket();
    this.#begin();
    try {
      unmap();
      this.awaitReaders();
      apply();
    } finally {
      this.invalidateEnd();
    }
  }

  /** Changes the memory slots; `all`: those that the caches go through. [KX-MEM-12] */
  changeSlots(all: boolean, apply: () => void): void {
    const unmap = (): void => {
      if (all) this.#kernel.unmapSlots(this.#region.base);
    };
    this.change(unmap, apply);
  }

  /** Throws EBUSY while this agent has an invalidation open: a change of the slots would wait for it. [KX-MEM-05] */
  checkNoInvalidation(): void {
    const open = this.#open;
    if (open === 0) return;
    throw new EvtchnError('EBUSY', `${open} invalidations are open: end them before changing memory slots`);
  }

  /** They have changed. Throws EINVAL without a start by this agent. [KX-MEM-03] */
  invalidateEnd(): void {
    if (this.#open === 0) throw new EvtchnError('EINVAL', 'invalidateEnd without an invalidateStart by this agent');
    this.#region.words.add(this.#agent + AGENT_INVALIDATIONS, -1);
    this.#kernel.invalidateEnd(this.#region.base);
    this.#region.words.notify(this.#region.base + REGION_INVALIDATE_ACTIVE);
  }

  /** This agent goes away: nobody else could end the invalidations it has open. */
  abandon(): void {
    while (this.#open > 0) this.invalidateEnd();
    this.#gone = true;
  }

  /** Throws EBADF once this agent has gone: its reader word may be another's by now. */
  checkOpen(): void {
    if (this.#gone) throw new EvtchnError('EBADF', 'this view of the VM is detached');
  }

  /** Throws EBUSY while this agent has a bracket open: it would wait for itself. */
  checkNoBracket(): void {
    if (this.inBracket) {
      throw new EvtchnError(
        'EBUSY',
        'a bracket (or a batch whose listener this is) is open: leave before changing mappings or sleeping',
      );
    }
  }

  /** Waits until nobody is inside a bracket that began before now. Throws EBUSY with the agent that does not leave. */
  awaitReaders(mayBlock = true): void {
    const { words, base, agents } = this.#region;
    let from = 0;
    for (let nap = 0; nap <= READER_NAPS; nap++) {
      const busy = this.#kernel.awaitReaders(base, this.#agent, from, READER_SPINS);
      if (busy >= agents) {
        this.#awaitQueues(mayBlock);
        return;
      }
      from = busy;
      const reader = this.#region.agentRecord(busy);
      const epoch = words.load(reader);
      if (mayBlock) words.wait(reader, epoch, 1);
      // It may be in a bracket again, but that one began after the mapping was gone.
      if (words.load(reader) !== epoch) from++;
    }
    throw new EvtchnError(
      'EBUSY',
      `agent ${from} has held its bracket too long (${READER_NAPS} ms where this thread may sleep): detachAgent(${from}) if its thread is dead`,
    );
  }

  /** The same for the locks of FIFO queues, under which senders use pages without a bracket. */
  #awaitQueues(mayBlock: boolean): void {
    const { words, base, fifo, vcpus } = this.#region;
    if (fifo === 0) return;
    let from = 0;
    let holder = 0;
    for (let nap = 0; nap <= READER_NAPS; nap++) {
      const busy = this.#kernel.awaitQueues(base, from, READER_SPINS);
      if (busy >= vcpus * FIFO_PRIORITIES) return;
      from = busy;
      const queue = this.#kernel.queueAt(base, busy) >>> 0;
      const word = words.load(queue);
      holder = ((word & QUEUE_HOLDER_BITS) >>> QUEUE_HOLDER_SHIFT) - 1;
      if (mayBlock && holder >= 0) words.wait(queue, word, 1);
      if (words.load(queue) !== word) from++;
    }
    throw new EvtchnError(
      'EBUSY',
      `agent ${holder} has held the lock of FIFO queue ${from} too long: detachAgent(${holder}) if its thread is dead`,
    );
  }
}
