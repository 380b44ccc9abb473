// Which guest pages the engine has written, for an embedder that copies a running guest. [KX-MEM-20..29]
// A mark is made in the bracket of the write, so the page that is marked is the page that was written. [KF-07]

import { MEM_LOG_DIRTY_PAGES } from '../src/abi/memory_region.ts';
import {
  DIRTY_ENTRY_DIRTY,
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_OFFSET,
  DIRTY_ENTRY_SIZE,
  DIRTY_ENTRY_SLOT,
  DIRTY_RING_RESERVED,
  GPC_ACTIVE,
  GPC_ADDRESS_HI,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  MEMSLOT_BITMAP,
  MEMSLOT_FLAGS,
  MEMSLOT_GFN,
  MEMSLOT_ID,
  REGION_DIRTY_BITMAPS,
  REGION_DIRTY_LOGGING,
  REGION_DIRTY_RING_ENTRIES,
  REGION_DIRTY_RINGS,
  REGION_VCPU_RECORDS,
  VCPU_RECORD_SIZE,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
} from '../src/abi/region.ts';
import { slotOf } from './memslots';
import { Shared } from './shared';

export class Dirty {
  /** Whether any slot logs: nothing else is looked at otherwise. */
  @inline static logging(vm: usize): bool {
    return Shared.load<i32>(vm + REGION_DIRTY_LOGGING) != 0;
  }
  /** Marks the page of a cache that `vcpu` has written to. A cache by host address belongs to no slot. [KX-MEM-21] */
  @inline static mark(vm: usize, vcpu: i32, gpc: usize): void {
    if (Dirty.logging(vm)) markCache(vm, vcpu, gpc);
  }
}

function markCache(vm: usize, vcpu: i32, gpc: usize): void {
  if (Shared.load<i32>(gpc + GPC_ACTIVE) != GPC_BY_GPA) return;
  const lo = Shared.load<u32>(gpc + GPC_ADDRESS_LO);
  const hi = Shared.load<u32>(gpc + GPC_ADDRESS_HI);
  markPage(vm, vcpu, (lo >>> 12) | (hi << 20), hi >>> 12);
}

/** Marks guest frame `gfnLo`, `gfnHi`, written by `vcpu`. In a bracket. @returns whether a slot logs it */
export function markPage(vm: usize, vcpu: i32, gfnLo: u32, gfnHi: u32): bool {
  const gfn = (gfnLo as u64) | ((gfnHi as u64) << 32);
  const slot = slotOf(vm, gfn);
  if (!slot || !(Shared.load<i32>(slot + MEMSLOT_FLAGS) & MEM_LOG_DIRTY_PAGES)) return false;
  const page = gfn - Shared.load<u64>(slot + MEMSLOT_GFN);
  if (Shared.load<i32>(vm + REGION_DIRTY_RING_ENTRIES)) push(vm, vcpu, Shared.load<u32>(slot + MEMSLOT_ID), page);
  else setBit(vm, Shared.load<i32>(slot + MEMSLOT_BITMAP) + (page as i32));
  return true;
}

function setBit(vm: usize, bit: i32): void {
  const word = vm + Shared.load<i32>(vm + REGION_DIRTY_BITMAPS) + (((bit >> 5) as usize) << 2);
  Shared.or<i32>(word, 1 << (bit & 31));
}

/** Entry first, then its flag: whoever sees the flag sees the entry. What is left of a nearly full ring is for other pages. */
function push(vm: usize, vcpu: i32, id: u32, page: u64): void {
  const entries = Shared.load<i32>(vm + REGION_DIRTY_RING_ENTRIES);
  const ring = vm + Shared.load<i32>(vm + REGION_DIRTY_RINGS) + (vcpu as usize) * (entries as usize) * DIRTY_ENTRY_SIZE;
  const record = vm + load<i32>(vm + REGION_VCPU_RECORDS) + (vcpu as usize) * VCPU_RECORD_SIZE;
  let at = Shared.load<i32>(record + VCPU_RING_PUSHED);
  // The vCPU's own agent and the owner may both write for it: an entry is taken in one step, and only one that is free.
  for (;;) {
    const used = at - Shared.load<i32>(record + VCPU_RING_RESET);
    if (used >= entries - DIRTY_RING_RESERVED && (used >= entries || holds(ring, entries, at, used, id, page))) return;
    const seen = Shared.compareExchange<i32>(record + VCPU_RING_PUSHED, at, at + 1);
    if (seen == at) break;
    at = seen;
  }
  const entry = ring + ((at & (entries - 1)) as usize) * DIRTY_ENTRY_SIZE;
  Shared.store<u32>(entry + DIRTY_ENTRY_SLOT, id);
  Shared.store<u64>(entry + DIRTY_ENTRY_OFFSET, page);
  // After the entry. On the other side: the embedder collects from the flag on.
  Shared.store<u32>(entry + DIRTY_ENTRY_FLAGS, DIRTY_ENTRY_DIRTY);
}

/** Whether the page is in the ring and was not collected yet. */
function holds(ring: usize, entries: i32, pushed: i32, used: i32, id: u32, page: u64): bool {
  for (let i = 1; i <= used; i++) {
    const entry = ring + (((pushed - i) & (entries - 1)) as usize) * DIRTY_ENTRY_SIZE;
    if (Shared.load<u32>(entry + DIRTY_ENTRY_FLAGS) != DIRTY_ENTRY_DIRTY) continue;
    if (Shared.load<u32>(entry + DIRTY_ENTRY_SLOT) == id && Shared.load<u64>(entry + DIRTY_ENTRY_OFFSET) == page)
      return true;
  }
  return false;
}
