// Which guest pages were written since the embedder last asked: a bitmap per slot, or a ring per vCPU. [KX-MEM-35, 36]
// The marks are made in assembly/dirty.ts.

import {
  ADDRESS_SPACES,
  DIRTY_ENTRY_DIRTY,
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_HARVESTED,
  DIRTY_ENTRY_OFFSET,
  DIRTY_ENTRY_SIZE,
  DIRTY_ENTRY_SLOT,
  DIRTY_RING_RESERVED,
  MAX_MEMSLOTS,
  REGION_DIRTY_RING_ENTRIES,
  REGION_DIRTY_RINGS,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
} from '../abi/region.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { Region } from './region.ts';
import { slotsOf } from './slot_table.ts';

/** A page that a vCPU has written. */
export interface DirtyPage {
  /** id of the slot */
  readonly slot: number;
  /** page within the slot */
  readonly page: number;
}

/**
 * The dirty log of a VM. The page of shared_info is never in it: take it as written whenever events can arrive. Nor are structures
 * that are registered by host address. [KX-MEM-21, 25]
 */
export class DirtyLog {
  readonly #region: Region;
  readonly #checkOwner: () => void;

  /** @internal */
  constructor(region: Region, checkOwner: () => void) {
    this.#region = region;
    this.#checkOwner = checkOwner;
  }

  /** Entries of each vCPU's ring, 0 when writes are logged in bitmaps. */
  get ringEntries(): number {
    return this.#region.words.load(this.#region.base + REGION_DIRTY_RING_ENTRIES);
  }

  /**
   * Reads and clears the bitmap of a slot: bit n of the result is page n. Owner only. [KX-MEM-35]
   * Throws ENXIO when this VM has rings, EINVAL for a bad id, ENOENT for a slot that does not exist or does not log.
   */
  take(slot: number, addressSpace = 0): Uint8Array {
    this.#checkOwner();
    if (this.ringEntries) throw new EvtchnError('ENXIO', 'this VM logs into rings: use collect and reset');
    checkRange('the id of a memory slot', slot, 0, MAX_MEMSLOTS - 1);
    checkRange('the address space', addressSpace, 0, ADDRESS_SPACES - 1);
    const found = slotsOf(this.#region).find(({ id }) => id === ((addressSpace << 16) | slot));
    if (!found || found.bitmap < 0) {
      throw new EvtchnError('ENOENT', `memory slot ${slot} ${found ? 'does not log writes' : 'does not exist'}`);
    }
    const { words } = this.#region;
    const at = this.#region.bitmap(found.bitmap);
    const bits = new Uint32Array(Math.ceil(found.pages / 32));
    // Each word in one step: a mark that comes in between is in this answer or in the next.
    for (let i = 0; i < bits.length; i++) bits[i] = words.exchange(at + 4 * i, 0);
    return new Uint8Array(bits.buffer, 0, Math.ceil(found.pages / 8));
  }

  /** Takes what a vCPU's ring holds, oldest first; the pages stay in the ring until `reset`. [KX-MEM-36] */
  collect(vcpu: number): DirtyPage[] {
    this.#checkOwner();
    const { words } = this.#region;
    const record = this.#record(vcpu);
    const pages: DirtyPage[] = [];
    const pushed = words.load(record + VCPU_RING_PUSHED);
    for (let i = words.load(record + VCPU_RING_RESET); i !== pushed; i = (i + 1) | 0) {
      const entry = this.#entry(vcpu, i);
      const flags = words.load(entry + DIRTY_ENTRY_FLAGS);
      if (flags & DIRTY_ENTRY_HARVESTED) continue;
      // Pushed but not written yet: the rest is for the next time.
      if (!(flags & DIRTY_ENTRY_DIRTY)) break;
      pages.push({ slot: words.load(entry + DIRTY_ENTRY_SLOT), page: words.loadWide(entry + DIRTY_ENTRY_OFFSET) });
      words.store(entry + DIRTY_ENTRY_FLAGS, DIRTY_ENTRY_DIRTY | DIRTY_ENTRY_HARVESTED);
    }
    return pages;
  }

  /** Gives the collected entries of all rings back. Owner only. @returns how many there were [KX-MEM-36] */
  reset(): number {
    this.#checkOwner();
    const { words } = this.#region;
    let count = 0;
    for (let vcpu = 0; this.ringEntries && vcpu < this.#region.vcpus; vcpu++) {
      const record = this.#record(vcpu);
      for (;;) {
        const next = words.load(record + VCPU_RING_RESET);
        if (next === words.load(record + VCPU_RING_PUSHED)) break;
        const entry = this.#entry(vcpu, next);
        const flags = words.load(entry + DIRTY_ENTRY_FLAGS);
        if (!(flags & DIRTY_ENTRY_HARVESTED)) break;
        words.store(entry + DIRTY_ENTRY_FLAGS, 0);
        // After the entry is free. On the other side: a push looks at the count, then writes the entry.
        words.store(record + VCPU_RING_RESET, (next + 1) | 0);
        // One that a dead thread left empty is given back and was no page.
        if (flags & DIRTY_ENTRY_DIRTY) count++;
      }
    }
    return count;
  }

  /** Whether a vCPU has to leave to the embedder before it runs: what is left of its ring is reserved. [KX-MEM-36] */
  full(vcpu: number): boolean {
    const entries = this.ringEntries;
    if (entries === 0) return false;
    const record = this.#record(vcpu);
    const { words } = this.#region;
    const used = (words.load(record + VCPU_RING_PUSHED) - words.load(record + VCPU_RING_RESET)) | 0;
    return used >= entries - DIRTY_RING_RESERVED;
  }

  #record(vcpu: number): number {
    checkRange('the vCPU index', vcpu, 0, this.#region.vcpus - 1);
    return this.#region.vcpuRecord(vcpu);
  }

  #entry(vcpu: number, index: number): number {
    return ringEntry(this.#region, vcpu, index);
  }
}

/** Where entry `index` of a vCPU's ring lies; indices count on for ever. @internal */
export function ringEntry(region: Region, vcpu: number, index: number): number {
  const entries = region.words.load(region.base + REGION_DIRTY_RING_ENTRIES);
  const slot = vcpu * entries + (index & (entries - 1));
  return region.part(REGION_DIRTY_RINGS) + slot * DIRTY_ENTRY_SIZE;
}
