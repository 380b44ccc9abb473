// Which guest frames there are and where the embedder keeps them: guest-physical to host virtual addresses. [KX-MEM-10..16]
// Every agent reads the table; the owner changes it while no mapping goes through it and no refresh can finish. The slots of address
// space 0 come first, so that a change of the other space, which leaves mappings alone, stores over them only what they are.

import { MEM_LOG_DIRTY_PAGES, MEM_READONLY } from '../abi/memory_region.ts';
import {
  ADDRESS_SPACES,
  HVA_END,
  MAX_MEMSLOTS,
  MEMSLOT_BITMAP,
  MEMSLOT_FLAGS,
  MEMSLOT_GFN,
  MEMSLOT_HVA,
  MEMSLOT_ID,
  MEMSLOT_PAGES,
  MEMSLOT_SIZE,
  REGION_DIRTY_LOGGING,
  REGION_DIRTY_PAGES,
  REGION_DIRTY_RING_ENTRIES,
  REGION_GENERATIONS,
  REGION_MEMSLOT_CAPACITY,
  REGION_MEMSLOT_COUNT,
  REGION_MEMSLOTS,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { type Gpa, gpa, type Hva, hva } from './address.ts';
import type { Changes } from './changes.ts';
import type { Region } from './region.ts';
import { hostAddressOf, NO_BITMAP, type Slot, slotsOf } from './slot_table.ts';

/** A range of guest frames and where it is kept. */
export interface Memslot {
  /** 0..32763, of its address space */
  readonly id: number;
  /** 0, or 1 for system management mode, which the engine does not use; 0 by default */
  readonly addressSpace?: number;
  /** first guest-physical address, a multiple of 4096 */
  readonly gpa: Gpa;
  /** bytes, a multiple of 4096; 0 deletes the slot */
  readonly bytes: number;
  /** where it is kept, a multiple of 4096 */
  readonly hva: Hva;
  /** whether writes to its pages are logged; false by default [KX-MEM-20] */
  readonly logDirty?: boolean;
  /** whether the guest may only read it; nothing can be registered there; false by default [KX-GPC-23] */
  readonly readonly?: boolean;
}

/** The largest slot, pages, and the end of guest-physical addresses. */
const MAX_PAGES = 2 ** 31 - 1;
const GPA_END = 2 ** 52;

/** The memory map of a VM. */
export class Memslots {
  readonly #region: Region;
  readonly #changes: Changes;
  readonly #checkOwner: () => void;

  /** @internal */
  constructor(region: Region, changes: Changes, checkOwner: () => void) {
    this.#region = region;
    this.#changes = changes;
    this.#checkOwner = checkOwner;
  }

  /**
   * Creates, moves, deletes (`bytes` 0) a slot or changes its logging. Mappings that go through any slot are dropped and made
   * again at their next use. Owner only. [KX-MEM-10..14]
   * Throws EINVAL for a bad address, size or id, for deleting a slot that does not exist, and for changing the size, the host
   * address or `readonly` of one that does; EEXIST when it overlaps another; ENOSPC and ENOMEM when no slot or no room for its
   * bitmap is left; EBUSY inside a bracket or while an invalidation is open.
   */
  set(slot: Memslot): void {
    this.#checkOwner();
    checkSlot(slot);
    const id = idOf(slot);
    const old = this.#all().find((other) => other.id === id);
    if (slot.bytes === 0) {
      if (!old) throw new EvtchnError('EINVAL', `memory slot ${name(id)} cannot be deleted: it does not exist`);
      this.#change(id, null, 2);
      return;
    }
    const next = this.#next(slot, id, old);
    if (next) this.#change(id, next, old && old.gfn !== next.gfn ? 2 : 1);
  }

  /** Deletes a slot. As `set` with 0 bytes. */
  delete(id: number, addressSpace = 0): void {
    this.set({ id, addressSpace, gpa: gpa(0), bytes: 0, hva: hva(0) });
  }

  /** All slots, those of address space 0 first. Throws EAGAIN while another thread changes them. */
  list(): Memslot[] {
    return this.#read(() => this.#all()).map((slot) => ({
      id: slot.id & 0xffff,
      addressSpace: slot.id >>> 16,
      gpa: gpa(slot.gfn * PAGE_SIZE),
      bytes: slot.pages * PAGE_SIZE,
      hva: hva(slot.hva),
      logDirty: (slot.flags & MEM_LOG_DIRTY_PAGES) !== 0,
      readonly: (slot.flags & MEM_READONLY) !== 0,
    }));
  }

  /** Grows by 2 with every change of the address space's slots, by 4 when one is deleted or moved. [KX-MEM-12, 13] */
  generation(addressSpace = 0): bigint {
    this.#changes.checkOpen();
    checkRange('the address space', addressSpace, 0, ADDRESS_SPACES - 1);
    return this.#region.words.load64(this.#generationAt(addressSpace));
  }

  /**
   * Where a guest-physical address is kept, or null: no slot, or one that is read-only and `writable` is asked for.
   * Throws EINVAL for what is no address, EAGAIN while another thread changes the slots.
   */
  hvaOf(address: Gpa, writable = false): Hva | null {
    const at = gpa(address);
    return this.#read(() => hostAddressOf(this.#region, at, writable));
  }

  #read<T>(use: () => T): T {
    let found: { readonly value: T } | undefined;
    const read = (): void => {
      found = { value: use() };
    };
    if (!this.#changes.whileStable(read, true) || !found) {
      throw new EvtchnError(
        'EAGAIN',
        'the memory slots are being changed by another thread, or wait for this one to leave',
      );
    }
    return found.value;
  }

  /** What the slot will be: checked against the others; null when nothing changes. */
  #next(slot: Memslot, id: number, old: Slot | undefined): Slot | null {
    const flags = (slot.logDirty ? MEM_LOG_DIRTY_PAGES : 0) | (slot.readonly ? MEM_READONLY : 0);
    const [gfn, pages] = [slot.gpa / PAGE_SIZE, slot.bytes / PAGE_SIZE];
    if (old) {
      const fixed = pages !== old.pages || slot.hva !== old.hva || ((flags ^ old.flags) & MEM_READONLY) !== 0;
      if (fixed) {
        const sentence = `memory slot ${name(id)} exists: its size, host address and 'readonly' cannot change, delete it first`;
        throw new EvtchnError('EINVAL', sentence);
      }
      if (gfn === old.gfn && flags === old.flags) return null;
    } else if (this.#count() === this.#capacity()) {
      throw new EvtchnError(
        'ENOSPC',
        `all ${this.#capacity()} memory slots are in use; createVm({ memslots }) sets how many`,
      );
    }
    const clash = this.#all().find(
      (other) =>
        other.id !== id && other.id >>> 16 === id >>> 16 && gfn < other.gfn + other.pages && other.gfn < gfn + pages,
    );
    if (clash) throw new EvtchnError('EEXIST', `memory slot ${name(id)} overlaps slot ${name(clash.id)}`);
    return { id, flags, gfn, pages, hva: slot.hva, bitmap: this.#bitmapFor(flags, pages, old) };
  }

  /** Room for a bitmap: the slot's own, or the first gap that is wide enough. */
  #bitmapFor(flags: number, pages: number, old: Slot | undefined): number {
    const { words, base } = this.#region;
    if (!(flags & MEM_LOG_DIRTY_PAGES) || words.load(base + REGION_DIRTY_RING_ENTRIES)) return NO_BITMAP;
    if (old && old.bitmap !== NO_BITMAP) return old.bitmap;
    const room = words.load(base + REGION_DIRTY_PAGES);
    // Whole words, so that clearing one bitmap leaves the next alone.
    const width = (n: number): number => Math.ceil(n / 32) * 32;
    let first = 0;
    for (const taken of this.#all()
      .filter((slot) => slot.bitmap !== NO_BITMAP)
      .sort((a, b) => a.bitmap - b.bitmap)) {
      if (first + width(pages) <= taken.bitmap) break;
      first = taken.bitmap + width(taken.pages);
    }
    if (first + width(pages) > Math.ceil(room / 32) * 32) {
      throw new EvtchnError(
        'ENOMEM',
        `no room to log ${pages} pages: there is room for ${room} in all; createVm({ dirtyPages }) sets how many`,
      );
    }
    return first;
  }

  #change(id: number, next: Slot | null, steps: number): void {
    const addressSpace = id >>> 16;
    this.#changes.checkNoInvalidation();
    this.#setGenerationBusy(addressSpace, true);
    try {
      this.#changes.changeSlots(addressSpace === 0, () => {
        this.#write(id, next);
        this.#bumpGeneration(addressSpace, steps);
      });
    } finally {
      this.#setGenerationBusy(addressSpace, false);
    }
  }

  /** Replaces, appends or removes a slot. Of the slots of the same address space nobody trusts what he reads meanwhile. */
  #write(id: number, next: Slot | null): void {
    const { words, base } = this.#region;
    const before = this.#all();
    const old = before.find((slot) => slot.id === id);
    if (next && next.bitmap !== NO_BITMAP && old?.bitmap !== next.bitmap) this.#clearBitmap(next);
    const slots = before.filter((slot) => slot !== old);
    if (next) slots.push(next);
    slots.sort((a, b) => (a.id >>> 16) - (b.id >>> 16));
    slots.forEach((slot, i) => {
      this.#store(i, slot);
    });
    // After the slots: who reads the slots of address space 0 while another space changes sees no record half written.
    words.store(base + REGION_MEMSLOT_COUNT, slots.length);
    const logging = slots.filter((slot) => slot.id >>> 16 === 0 && slot.flags & MEM_LOG_DIRTY_PAGES).length;
    words.store(base + REGION_DIRTY_LOGGING, logging);
  }

  #clearBitmap(slot: Slot): void {
    const { words } = this.#region;
    const at = this.#region.bitmap(slot.bitmap);
    for (let i = 0; i < slot.pages; i += 32) words.store(at + i / 8, 0);
  }

  #bumpGeneration(addressSpace: number, steps: number): void {
    const at = this.#generationAt(addressSpace);
    const { words } = this.#region;
    words.store64(at, words.load64(at) + BigInt(steps * ADDRESS_SPACES));
  }

  #setGenerationBusy(addressSpace: number, busy: boolean): void {
    const high = this.#generationAt(addressSpace) + 4;
    if (busy) this.#region.words.or(high, 1 << 31);
    else this.#region.words.and(high, ~(1 << 31));
  }

  #generationAt(addressSpace: number): number {
    return this.#region.base + REGION_GENERATIONS + 8 * addressSpace;
  }

  #count(): number {
    return this.#region.words.load(this.#region.base + REGION_MEMSLOT_COUNT);
  }
  #capacity(): number {
    return this.#region.words.load(this.#region.base + REGION_MEMSLOT_CAPACITY);
  }

  #all(): Slot[] {
    return slotsOf(this.#region);
  }

  #store(index: number, slot: Slot): void {
    const { words } = this.#region;
    const at = this.#region.part(REGION_MEMSLOTS) + index * MEMSLOT_SIZE;
    words.store(at + MEMSLOT_ID, slot.id);
    words.store(at + MEMSLOT_FLAGS, slot.flags);
    words.storeWide(at + MEMSLOT_GFN, slot.gfn);
    words.storeWide(at + MEMSLOT_PAGES, slot.pages);
    words.storeWide(at + MEMSLOT_HVA, slot.hva);
    words.store(at + MEMSLOT_BITMAP, slot.bitmap);
  }
}

function idOf(slot: Memslot): number {
  return ((slot.addressSpace ?? 0) << 16) | slot.id;
}

function name(id: number): string {
  return id >>> 16 ? `${id & 0xffff} of address space ${id >>> 16}` : String(id);
}

function checkSlot(slot: Memslot): void {
  checkRange('the id of a memory slot', slot.id, 0, MAX_MEMSLOTS - 1);
  checkRange('the address space', slot.addressSpace ?? 0, 0, ADDRESS_SPACES - 1);
  checkPages('the guest-physical address', slot.gpa, GPA_END - PAGE_SIZE);
  checkPages('the size', slot.bytes, MAX_PAGES * PAGE_SIZE);
  checkPages('the host address', slot.hva, HVA_END);
  checkRange('the end of the slot', slot.gpa + slot.bytes, 0, GPA_END);
  checkRange('the end of its host addresses', slot.hva + slot.bytes, 0, HVA_END);
}

function checkPages(what: string, value: number, max: number): void {
  checkRange(`${what} of a memory slot`, value, 0, max);
  if (value % PAGE_SIZE) {
    throw new EvtchnError(
      'EINVAL',
      `${what} of a memory slot is ${value}, but it has to be a multiple of ${PAGE_SIZE}`,
    );
  }
}
