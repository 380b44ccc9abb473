// The memory map of a snapshot: slots, host pages, and what is logged of writes.

import { MEM_LOG_DIRTY_PAGES, MEM_READONLY } from '../../abi/memory_region.ts';
import {
  HOST_PAGE_PRESENT,
  HOST_PAGE_WRITABLE,
  MEMSLOT_BITMAP,
  MEMSLOT_FLAGS,
  MEMSLOT_GFN,
  MEMSLOT_HVA,
  MEMSLOT_ID,
  MEMSLOT_PAGES,
  MEMSLOT_SIZE,
  REGION_DIRTY_BITMAPS,
  REGION_DIRTY_LOGGING,
  REGION_DIRTY_PAGES,
  REGION_GENERATIONS,
  REGION_HOST_PAGES,
  REGION_HOST_TABLE,
  REGION_MEMSLOT_COUNT,
  REGION_MEMSLOTS,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import type { Region } from '../../memory/region.ts';
import { NO_BITMAP } from '../../memory/slot_table.ts';
import type { Vm } from '../vm.ts';
import { hostOrigin } from './place.ts';
import { bitmapBits, type HostPagesState, type MemslotState, needsBitmap, type VmState } from './state.ts';

/** @internal */
export function applyMemory({ region }: Vm, state: VmState): void {
  applyHostPages(region, state.hostPages);
  applyMemslots(region, state);
  state.generations.forEach((generation, i) => {
    region.words.store64(region.base + REGION_GENERATIONS + 8 * i, BigInt(generation));
  });
}

function applyHostPages(region: Region, runs: readonly HostPagesState[]): void {
  const { words, base, guestBase } = region;
  const table = region.part(REGION_HOST_TABLE);
  words.zero(table, 4 * words.load(base + REGION_HOST_PAGES));
  for (const { first, pages, frame, writable } of runs) {
    const flags = HOST_PAGE_PRESENT | (writable ? HOST_PAGE_WRITABLE : 0);
    for (let i = 0; i < pages; i++) {
      words.store(table + 4 * (first + i), (guestBase + frame + i * PAGE_SIZE) | flags);
    }
  }
}

function applyMemslots(region: Region, { memslots, machine }: VmState): void {
  const { words, base } = region;
  words.zero(region.part(REGION_DIRTY_BITMAPS), Math.ceil(words.load(base + REGION_DIRTY_PAGES) / 32) * 4);
  let bitmap = 0;
  memslots.forEach((slot, i) => {
    const logs = needsBitmap(slot, machine);
    storeSlot(region, i, slot, logs ? bitmap : NO_BITMAP);
    if (!logs) return;
    markDirty(region, bitmap, slot);
    bitmap += bitmapBits(slot);
  });
  words.store(base + REGION_MEMSLOT_COUNT, memslots.length);
  const logging = memslots.filter(({ addressSpace, logDirty }) => addressSpace === 0 && logDirty).length;
  words.store(base + REGION_DIRTY_LOGGING, logging);
}

function storeSlot(region: Region, index: number, slot: MemslotState, bitmap: number): void {
  const { words } = region;
  const at = region.part(REGION_MEMSLOTS) + index * MEMSLOT_SIZE;
  words.store(at + MEMSLOT_ID, (slot.addressSpace << 16) | slot.id);
  words.store(at + MEMSLOT_FLAGS, (slot.logDirty ? MEM_LOG_DIRTY_PAGES : 0) | (slot.readonly ? MEM_READONLY : 0));
  words.storeWide(at + MEMSLOT_GFN, slot.gpa / PAGE_SIZE);
  words.storeWide(at + MEMSLOT_PAGES, slot.bytes / PAGE_SIZE);
  words.storeWide(at + MEMSLOT_HVA, slot.hva + hostOrigin(region));
  words.store(at + MEMSLOT_BITMAP, bitmap);
}

function markDirty(region: Region, bitmap: number, { dirty }: MemslotState): void {
  const at = region.bitmap(bitmap);
  for (const { first, pages } of dirty) {
    for (let page = first; page < first + pages; page++) region.words.or(at + 4 * (page >>> 5), 1 << (page & 31));
  }
}
