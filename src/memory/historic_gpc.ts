// The gfn-to-pfn cache as Linux 5.17 had it, to study and to compare: it remembers that its page is written and marks it when the
// mapping is released, and hardware may use its frame while a vCPU is in guest mode. [kvm-xen 6.6, KX-GPH-01..11]
//
//   invalidate: count ─ not valid ─ request ─ wait until the vCPU is out of the guest ─ change
//   vCPU:       in guest mode ─ check ─ guest code; a request: out of the guest ─ refresh ─ in guest mode ─ check
//
// Such a cache is an object of the owner's thread; nothing of it is in the region. The engine itself uses none.

import {
  REGION_DIRTY_RING_ENTRIES,
  REGION_GENERATIONS,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REQUEST_GPC_INVALIDATE,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_REQUESTS,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { type Gpa, gpa, gpaToGfn, type Hpa, type Hva, pageOffset } from './address.ts';
import type { FrameUser } from './changes.ts';
import type { GpcSet } from './gpc.ts';
import type { Region } from './region.ts';
import { hostAddressOf } from './slot_table.ts';

/** Who uses a historic cache, and how. */
export interface HistoricCacheOptions {
  /** Index of the vCPU in whose context it is refreshed and released; none by default. Rings need one to mark pages. */
  readonly vcpu?: number;
  /** Hardware uses the frame while that vCPU is in guest mode: invalidations wait until it has left; false by default. [KX-GPH-06] */
  readonly guestUsesPa?: boolean;
  /** Whether there is a linear address for this side as well, `khva`; true by default. */
  readonly kernelMap?: boolean;
  /** Told when an invalidation that may not block met the vCPU in guest mode; `console.warn` by default. [KX-GPH-08] */
  readonly onWarning?: (sentence: string) => void;
}

/** How often a mapping begins again after losing to an invalidation. */
const TRIES = 200;
/** Naps of a millisecond before a vCPU that stays in the guest is given up. */
const GUEST_NAPS = 2_000;

/** What is mapped: released as a whole, and its page is marked then. */
interface Mapping {
  /** the guest address whose page it is */
  readonly gpa: Gpa;
  readonly frame: Hpa;
  dirty: boolean;
}

/** A cache with the operations of Linux 5.17. Owner's thread only; all of it throws EBADF once the view of the VM is detached. */
export class HistoricCache {
  readonly #region: Region;
  readonly #gpcs: GpcSet;
  readonly #list: HistoricCaches;
  readonly #vcpu: number | undefined;
  readonly #kernelMap: boolean;
  /** @internal */ readonly guestVcpu: number | undefined;
  /** @internal */ readonly warn: (sentence: string) => void;
  #active = false;
  #valid = false;
  #mapping: Mapping | null = null;
  /** a page is being asked for: refreshes are serialised, as by KVM's refresh lock */
  #busy = false;
  #gpa: Gpa | null = null;
  #hva: Hva | null = null;
  #generation = 0n;

  /** @internal */
  constructor(region: Region, gpcs: GpcSet, list: HistoricCaches, options: HistoricCacheOptions) {
    const { vcpu, guestUsesPa = false, kernelMap = true, onWarning = console.warn } = options;
    if (vcpu !== undefined) checkRange('the vCPU index', vcpu, 0, region.vcpus - 1);
    if (guestUsesPa && vcpu === undefined) {
      throw new EvtchnError('EINVAL', 'guestUsesPa without vcpu: it is that vCPU that an invalidation has to wait for');
    }
    this.#region = region;
    this.#gpcs = gpcs;
    this.#list = list;
    this.#vcpu = vcpu;
    this.#kernelMap = kernelMap;
    this.guestVcpu = guestUsesPa ? vcpu : undefined;
    this.warn = onWarning;
  }

  // ── what it holds ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Between `init` and `destroy`: invalidations reach it. */
  get active(): boolean {
    return this.#active;
  }
  /** The guest address, also while nothing is mapped; null before the first `init`. */
  get gpa(): Gpa | null {
    return this.#gpa;
  }
  /** Where the embedder keeps it; null when no slot has it. */
  get hva(): Hva | null {
    return this.#hva;
  }
  /** The frame, for the guest's hardware; null while nothing is mapped. Only to be used after a `check`. */
  get frame(): Hpa | null {
    return this.#mapping?.frame ?? null;
  }
  /** The linear address of `gpa`, for this side; null without a kernel mapping. Only to be used after a `check`. */
  get khva(): Hpa | null {
    if (!this.#kernelMap || !this.#mapping || this.#gpa === null) return null;
    // By the offset of today's address: not the old address plus a difference. [KX-GPH-10]
    return (this.#mapping.frame + pageOffset(this.#gpa)) as Hpa;
  }

  // ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Makes the cache active, then refreshes it. Errors as `refresh`, but for the inactive cache. [KX-GPH-01] */
  init(address: Gpa, length: number, dirty = false): void {
    this.#validate(address, length, dirty);
    // Before it maps anything, so that no mapping escapes an invalidation.
    this.#active = true;
    this.#list.add(this);
    this.#refresh(address, dirty);
  }

  /** Whether `length` bytes at `address` can be used now; slots and pages stand until this thread changes them. [KX-GPH-02] */
  check(address: Gpa, length: number): boolean {
    this.#gpcs.changes.checkOpen();
    const fits = pageOffset(address) + length <= PAGE_SIZE;
    const fresh = this.#generation === this.#slotGeneration();
    return this.#active && fits && address === this.#gpa && fresh && this.#hva !== null && this.#valid;
  }

  /**
   * Maps `address`, which need not be the one before. With `dirty` the page counts as written until this mapping is released.
   * Throws EINVAL when the cache is not active, the bytes cross a page, or a dirty cache has no vCPU in a VM with rings; EFAULT when
   * the page cannot be reached, EAGAIN while an invalidation is open: nothing is mapped then; EBUSY inside a bracket, inside a refresh
   * of its own (from `onPageFault`), or while its vCPU is in guest mode. [KX-GPH-03, 09]
   */
  refresh(address: Gpa, length: number, dirty = false): void {
    this.#validate(address, length, dirty);
    if (!this.#active) throw new EvtchnError('EINVAL', 'the cache is not active: init() before refresh()');
    this.#refresh(address, dirty);
  }

  /** Releases the mapping and marks its page if it counts as written; the next refresh maps again. Throws EBUSY as `refresh`. [KX-GPH-04] */
  unmap(): void {
    this.#checkOutside();
    this.#valid = false;
    this.#release();
  }

  /** As `unmap`, and ends the cache: it is on no list any more. [KX-GPH-04] */
  destroy(): void {
    this.unmap();
    this.#list.remove(this);
    this.#active = false;
  }

  // ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Its page is about to change. The mapping is kept and not marked: this is not the vCPU's context, and hardware may still write.
   * [KX-GPH-05] @internal @returns whether it was valid
   */
  invalidate(first: Hva, last: Hva): boolean {
    const page = this.#hva === null ? -1 : Math.floor(this.#hva / PAGE_SIZE);
    const hit = this.#valid && page >= Math.floor(first / PAGE_SIZE) && page <= Math.floor(last / PAGE_SIZE);
    if (hit) this.#valid = false;
    return hit;
  }

  #validate(address: Gpa, length: number, dirty: boolean): void {
    gpa(address);
    checkRange('the length', length, 1, PAGE_SIZE);
    this.#gpcs.checkFit('the area', address, length);
    if (dirty && this.#vcpu === undefined && this.#region.words.load(this.#region.base + REGION_DIRTY_RING_ENTRIES)) {
      throw new EvtchnError('EINVAL', 'this VM logs into rings: a dirty cache needs a vcpu, whose ring is written');
    }
    this.#checkOutside();
  }

  #checkOutside(): void {
    this.#gpcs.changes.checkOpen();
    this.#gpcs.changes.checkNoBracket();
    if (this.#busy) throw new EvtchnError('EBUSY', 'a refresh of this cache is under way: its page is being asked for');
    if (this.guestVcpu !== undefined && this.#list.inGuest(this.guestVcpu)) {
      throw new EvtchnError('EBUSY', `vCPU ${this.guestVcpu} is in guest mode and may be using the frame`);
    }
  }

  #slotGeneration(): bigint {
    return this.#region.words.load64(this.#region.base + REGION_GENERATIONS);
  }

  #refresh(address: Gpa, dirty: boolean): void {
    const generation = this.#slotGeneration();
    const before = this.#hva;
    if (address !== this.#gpa || generation !== this.#generation || before === null) {
      this.#gpa = address;
      this.#generation = generation;
      this.#hva = hostAddressOf(this.#region, address, true);
    }
    const at = this.#hva;
    if (at === null) throw this.#failed('EFAULT', 'is in no memory slot that can be written');
    const mapping = this.#mapping;
    const samePage = before !== null && Math.floor(before / PAGE_SIZE) === Math.floor(at / PAGE_SIZE);
    if (this.#valid && samePage && mapping && gpaToGfn(mapping.gpa) === gpaToGfn(address)) {
      // Still in use, so it is not released. [KX-GPH-10]
      mapping.dirty ||= dirty;
      return;
    }
    // Before the page is asked for: whoever checks in between is refused. [KX-GPH-10]
    this.#valid = false;
    this.#publish({ gpa: address, frame: this.#faultIn(at), dirty });
  }

  /** The frame of a host address at a time when no invalidation runs and none has ended since it was looked up. [KX-GPC-32] */
  #faultIn(at: Hva): Hpa {
    const { words, base } = this.#region;
    this.#busy = true;
    try {
      for (let i = 0; i < TRIES; i++) {
        const seq = words.load(base + REGION_INVALIDATE_SEQ);
        const page = this.#gpcs.faultIn(at, true);
        if (page === null) throw this.#failed('EFAULT', 'is on a host page that is absent or read-only');
        // The count before the sequence: the end of an invalidation raises the sequence first. [KX-MEM-04]
        const active = words.load(base + REGION_INVALIDATE_ACTIVE);
        if (active === 0 && words.load(base + REGION_INVALIDATE_SEQ) === seq) return page.hpa;
        if (!this.#gpcs.changes.awaitInvalidations()) break;
      }
    } finally {
      this.#busy = false;
    }
    throw this.#failed('EAGAIN', 'cannot be mapped while an invalidation is open');
  }

  #publish(next: Mapping): void {
    const old = this.#mapping;
    if (old && old.frame === next.frame && gpaToGfn(old.gpa) === gpaToGfn(next.gpa)) next.dirty ||= old.dirty;
    else this.#release();
    this.#mapping = next;
    this.#valid = true;
  }

  /** Nothing is mapped. [KX-GPC-26] @returns what to throw */
  #failed(code: 'EFAULT' | 'EAGAIN', why: string): EvtchnError {
    this.#valid = false;
    this.#release();
    return new EvtchnError(code, `guest address 0x${(this.#gpa ?? 0).toString(16)} ${why}`);
  }

  /** The page that was mapped is marked, by its frame number, whatever the address is now. [KX-GPH-05, 10] */
  #release(): void {
    const old = this.#mapping;
    this.#mapping = null;
    // Without a bracket: the slots change in this thread only.
    if (old?.dirty) this.#gpcs.markDirty(this.#vcpu ?? 0, old.gpa);
  }
}

/** The historic caches of a VM. */
class HistoricCaches implements FrameUser {
  readonly #region: Region;
  readonly #caches = new Set<HistoricCache>();
  /** what the invalidation that begins has taken from vCPUs */
  #taken: HistoricCache[] = [];

  constructor(region: Region) {
    this.#region = region;
  }

  add(cache: HistoricCache): void {
    this.#caches.add(cache);
  }
  remove(cache: HistoricCache): void {
    this.#caches.delete(cache);
  }

  inGuest(vcpu: number): boolean {
    return (this.#region.words.load(this.#region.vcpuRecord(vcpu) + VCPU_MODE) & VCPU_IN_GUEST) !== 0;
  }

  invalidate(first: Hva, last: Hva): number {
    const hit = [...this.#caches].filter((cache) => cache.invalidate(first, last));
    this.#taken = hit.filter((cache) => cache.guestVcpu !== undefined);
    return hit.length;
  }

  /** Without waking a vCPU that sleeps: it is not in the guest. [KX-GPH-06, 08] */
  awaitUsers(mayBlock: boolean): void {
    const taken = this.#taken;
    this.#taken = [];
    const vcpus = new Set(taken.map(({ guestVcpu }) => guestVcpu as number));
    // Request, then look. On the other side: in guest mode, then the look at requests. [KX-EVT-61]
    for (const vcpu of vcpus) {
      this.#region.words.or(this.#region.vcpuLine(vcpu) + VCPU_REQUESTS, REQUEST_GPC_INVALIDATE);
    }
    const inside = [...vcpus].filter((vcpu) => this.inGuest(vcpu));
    for (const vcpu of inside) {
      if (mayBlock) this.#awaitLeaving(vcpu);
      else taken.find(({ guestVcpu }) => guestVcpu === vcpu)?.warn(interrupted(vcpu));
    }
  }

  #awaitLeaving(vcpu: number): void {
    const { words } = this.#region;
    const at = this.#region.vcpuRecord(vcpu) + VCPU_MODE;
    for (let nap = 0; nap <= GUEST_NAPS; nap++) {
      const mode = words.load(at);
      // Who has taken the request was outside since, even if he is in the guest again.
      const asked = words.load(this.#region.vcpuLine(vcpu) + VCPU_REQUESTS) & REQUEST_GPC_INVALIDATE;
      if (!(mode & VCPU_IN_GUEST) || !asked) return;
      if (!words.wait(at, mode, 1)) break;
    }
    throw new EvtchnError(
      'EBUSY',
      `vCPU ${vcpu} does not leave guest mode (for ${GUEST_NAPS} ms, or it runs in this very thread)`,
    );
  }
}

function interrupted(vcpu: number): string {
  return `an invalidation that may not block met vCPU ${vcpu} in guest mode: it may use the old frame until it has left`;
}

const lists = new WeakMap<GpcSet, HistoricCaches>();

/** @internal */
export function createHistoricCache(region: Region, gpcs: GpcSet, options: HistoricCacheOptions): HistoricCache {
  let list = lists.get(gpcs);
  if (!list) {
    list = new HistoricCaches(region);
    gpcs.changes.addUser(list);
    lists.set(gpcs, list);
  }
  return new HistoricCache(region, gpcs, list, options);
}
