// The memory slots as every agent reads them; only memslots.ts changes them. What is read while they change is torn: callers are in
// a bracket, or the owner, or find out afterwards. [KX-MEM-10]

import { MEM_READONLY } from '../abi/memory_region.ts';
import {
  HVA_END,
  MEMSLOT_BITMAP,
  MEMSLOT_FLAGS,
  MEMSLOT_GFN,
  MEMSLOT_HVA,
  MEMSLOT_ID,
  MEMSLOT_PAGES,
  MEMSLOT_SIZE,
  REGION_MEMSLOT_COUNT,
  REGION_MEMSLOTS,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import type { Hva } from './address.ts';
import type { Region } from './region.ts';

/** A slot in frames. `bitmap` is the first bit of its dirty bitmap. @internal */
export interface Slot {
  /** address space in bits 16..31, id in bits 0..15 */
  readonly id: number;
  readonly flags: number;
  readonly gfn: number;
  readonly pages: number;
  readonly hva: number;
  readonly bitmap: number;
}

/** @internal */
export const NO_BITMAP = -1;

/** All slots, those of address space 0 first. @internal */
export function slotsOf(region: Region): Slot[] {
  const first = region.part(REGION_MEMSLOTS);
  const count = region.words.load(region.base + REGION_MEMSLOT_COUNT);
  return Array.from({ length: count }, (_, i) => loadSlot(region, first + i * MEMSLOT_SIZE));
}

/** The slot that holds a guest-physical address of address space 0. @internal */
export function findSlot(region: Region, address: number): Slot | null {
  const gfn = Math.floor(address / PAGE_SIZE);
  const holds = (slot: Slot): boolean => slot.id >>> 16 === 0 && gfn >= slot.gfn && gfn - slot.gfn < slot.pages;
  return slotsOf(region).find(holds) ?? null;
}

/**
 * Where a guest-physical address is kept, or null: no slot, or one that is read-only and `writable` is asked for.
 * Does not throw: a refresh may look while the owner changes the slots, and then throws away what it saw. @internal
 */
export function hostAddressOf(region: Region, address: number, writable: boolean): Hva | null {
  const slot = findSlot(region, address);
  if (!slot || (writable && slot.flags & MEM_READONLY)) return null;
  const host = slot.hva + (address - slot.gfn * PAGE_SIZE);
  return host < HVA_END ? (host as Hva) : null;
}

function loadSlot({ words }: Region, at: number): Slot {
  return {
    id: words.load(at + MEMSLOT_ID) >>> 0,
    flags: words.load(at + MEMSLOT_FLAGS),
    gfn: words.loadWide(at + MEMSLOT_GFN),
    pages: words.loadWide(at + MEMSLOT_PAGES),
    hva: words.loadWide(at + MEMSLOT_HVA),
    bitmap: words.load(at + MEMSLOT_BITMAP),
  };
}
