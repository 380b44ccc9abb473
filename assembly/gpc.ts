// The gfn-to-pfn cache's word, and how it changes while others read it. [KX-GPC-30..41]
//
//   refresh:    token into the word ─ no invalidation active? ─ translate (may sleep, in TypeScript) ─ publish if the token stands
//   invalidate: active + 1 ─ unmap the words in the range and take their tokens ─ wait for readers ─ change ─ seq + 1, active - 1
//
// A refresh that began before an invalidation loses its token to it; one that began during it sees it active. So no page
// can be published that an invalidation was told to remove, and nobody holds a lock that a dying agent could keep.

import { EAGAIN, EINVAL } from '../src/abi/errno.ts';
import { EVENT_PAGES_MAX, FIFO_CONTROL_GPC, FIFO_PAGE_GPCS, FIFO_VCPU_SIZE, FIFO_VCPUS } from '../src/abi/fifo.ts';
import {
  GPC_ACTIVE,
  GPC_ADDRESS_HI,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_MODE_BITS,
  GPC_SIZE,
  GPC_TOKEN_SHIFT,
  GPC_UNMAPPED,
  GPC_WORD,
  MEMSLOT_GFN,
  MEMSLOT_HVA,
  REGION_FIFO,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REGION_SHARED_INFO,
  REGION_VCPU_RECORDS,
  REGION_VCPUS,
  VCPU_INFO_GPC,
  VCPU_RECORD_SIZE,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
} from '../src/abi/region.ts';
import { Layout } from './layout';
import { slotOf } from './memslots';
import { Shared } from './shared';
import { Vcpu } from './upcall';

/** The bits that a word keeps whatever it maps: shared_info carries the guest's mode, an address elsewhere may be odd. */
function modeBits(vm: usize, gpc: usize): i32 {
  return gpc == vm + REGION_SHARED_INFO ? GPC_MODE_BITS : 0;
}

/** Replaces what the word says if it says `expected`, and keeps its mode bits. @returns whether it did */
function replace(vm: usize, gpc: usize, expected: i32, value: i32): bool {
  const mode = modeBits(vm, gpc);
  // Again only when the owner flipped a mode bit in between.
  for (;;) {
    const old = Shared.load<i32>(gpc + GPC_WORD);
    if ((old & ~mode) != expected) break;
    if (Shared.compareExchange<i32>(gpc + GPC_WORD, old, value | (old & mode)) == old) return true;
  }
  return false;
}

/**
 * Begins a refresh by agent `token` (its number plus 1).
 * @returns 0 translate, then publish; 1 it is mapped already; -EAGAIN an invalidation is active; -EINVAL inactive
 */
export function gpcBeginRefresh(vm: usize, gpc: usize, token: i32): i32 {
  if (!Shared.load<i32>(gpc + GPC_ACTIVE)) return -EINVAL;
  const old = Shared.load<i32>(gpc + GPC_WORD);
  if (!Layout.unmapped(old)) return 1;
  if (!replace(vm, gpc, old & ~modeBits(vm, gpc), GPC_UNMAPPED | (token << GPC_TOKEN_SHIFT))) return -EAGAIN;
  const refused = mayNotMap(vm, gpc);
  // Not left behind: an outer refresh of this agent, whose page fault led here, must not take it for its own.
  if (refused) gpcPublish(vm, gpc, token, GPC_UNMAPPED);
  return refused;
}

function mayNotMap(vm: usize, gpc: usize): i32 {
  // Both after the token is in the word. On the other side: a deactivation clears active, then takes the token away;
  // invalidateStart counts itself, then looks at the words. [KF-03, KX-GPC-32]
  if (!Shared.load<i32>(gpc + GPC_ACTIVE)) return -EINVAL;
  return Shared.load<i32>(vm + REGION_INVALIDATE_ACTIVE) ? -EAGAIN : 0;
}

/** Publishes what the refresh found at linear address `hpa`. @returns 0, or -EAGAIN: invalidated meanwhile, begin again */
export function gpcPublish(vm: usize, gpc: usize, token: i32, hpa: i32): i32 {
  return replace(vm, gpc, GPC_UNMAPPED | (token << GPC_TOKEN_SHIFT), hpa) ? 0 : -EAGAIN;
}

/**
 * Unmaps one cache, or takes a refresh its token. The caller waits for readers before it lets go of the page.
 * @returns the linear address that was mapped, or a value from GPC_UNMAPPED up
 */
export function gpcUnmap(vm: usize, gpc: usize): i32 {
  const mode = modeBits(vm, gpc);
  const word = gpc + GPC_WORD;
  let old = Shared.load<i32>(word);
  // In one step: a word that was half an address and half "unmapped" could look like somebody's token.
  for (;;) {
    const seen = Shared.compareExchange<i32>(word, old, GPC_UNMAPPED | (old & mode));
    if (seen == old) break;
    old = seen;
  }
  return old & ~mode;
}

/** Sets the mode bit that shared_info's word carries. */
export function setLongMode(vm: usize, on: bool): void {
  if (on) Shared.or<i32>(vm + REGION_SHARED_INFO + GPC_WORD, GPC_LONG_MODE);
  else Shared.and<i32>(vm + REGION_SHARED_INFO + GPC_WORD, ~GPC_LONG_MODE);
}

/** Says which ABI is in force: the bit beside the mode, which a 2-level send reads anyway. */
export function setFifo(vm: usize, on: bool): void {
  if (on) Shared.or<i32>(vm + REGION_SHARED_INFO + GPC_WORD, GPC_FIFO);
  else Shared.and<i32>(vm + REGION_SHARED_INFO + GPC_WORD, ~GPC_FIFO);
}

/** A change of mappings begins: what follows unmaps what it touches, then the caller waits for readers, then changes. */
export function invalidateStart(vm: usize): void {
  // Before the look at the words. On the other side: gpcBeginRefresh, after its token is in the word.
  Shared.add<i32>(vm + REGION_INVALIDATE_ACTIVE, 1);
}

/** Unmaps every cache whose host page is in `first`..`last` (page numbers). @returns how many were mapped [KX-GPC-40] */
export function unmapRange(vm: usize, first: u32, last: u32): i32 {
  return unmapAll(vm, first, last);
}

/** Unmaps every cache that goes through the memory slots. @returns how many were mapped */
export function unmapSlots(vm: usize): i32 {
  return unmapAll(vm, 1, 0);
}

/** An empty range stands for the slots: of no page is it said that it is between 1 and 0. */
function unmapAll(vm: usize, first: u32, last: u32): i32 {
  let count = drop(vm, vm + REGION_SHARED_INFO, first, last);
  const vcpus = load<i32>(vm + REGION_VCPUS);
  let record = vm + load<i32>(vm + REGION_VCPU_RECORDS);
  for (let i = 0; i < vcpus; i++, record += VCPU_RECORD_SIZE) {
    count += drop(vm, Vcpu.line(vm, i) + VCPU_INFO_GPC, first, last);
    count += drop(vm, record + VCPU_TIME_INFO_GPC, first, last);
    count += drop(vm, record + VCPU_RUNSTATE1_GPC, first, last);
    count += drop(vm, record + VCPU_RUNSTATE2_GPC, first, last);
  }
  return load<i32>(vm + REGION_FIFO) ? count + unmapFifo(vm, vcpus, first, last) : count;
}

function unmapFifo(vm: usize, vcpus: i32, first: u32, last: u32): i32 {
  const fifo = vm + load<i32>(vm + REGION_FIFO);
  let count = 0;
  for (let page = 0; page < EVENT_PAGES_MAX; page++) {
    count += drop(vm, fifo + FIFO_PAGE_GPCS + (page as usize) * GPC_SIZE, first, last);
  }
  for (let i = 0; i < vcpus; i++) {
    count += drop(vm, fifo + FIFO_VCPUS + (i as usize) * FIFO_VCPU_SIZE + FIFO_CONTROL_GPC, first, last);
  }
  return count;
}

function drop(vm: usize, gpc: usize, first: u32, last: u32): i32 {
  const word = Shared.load<i32>(gpc + GPC_WORD);
  // A change elsewhere neither unmaps a cache nor makes a refresh begin again. [KF-12]
  if (!concerns(vm, gpc, first, last)) return 0;
  if (Layout.unmapped(word)) {
    // A refresh is under way: it begins again.
    if ((word & ~GPC_MODE_BITS) != GPC_UNMAPPED) gpcUnmap(vm, gpc);
    return 0;
  }
  gpcUnmap(vm, gpc);
  return 1;
}

/**
 * Whether what a cache maps, or will map when its refresh ends, can change. Its base and the slots stand still meanwhile:
 * the slots because their owner is the caller, the base because a change of it has taken mapping and token away first.
 */
function concerns(vm: usize, gpc: usize, first: u32, last: u32): bool {
  const base = Shared.load<i32>(gpc + GPC_ACTIVE);
  if (base == 0) return true;
  if (first > last) return base == GPC_BY_GPA;
  let page =
    ((Shared.load<u32>(gpc + GPC_ADDRESS_LO) as u64) | ((Shared.load<u32>(gpc + GPC_ADDRESS_HI) as u64) << 32)) >> 12;
  if (base == GPC_BY_GPA) {
    const slot = slotOf(vm, page);
    if (!slot) return false;
    page += (Shared.load<u64>(slot + MEMSLOT_HVA) >> 12) - Shared.load<u64>(slot + MEMSLOT_GFN);
  }
  return page >= (first as u64) && page <= (last as u64);
}

/** The sequence on every end, whatever the range met [KX-GPC-38]; before the count, so that who sees the count sees it. */
export function invalidateEnd(vm: usize): i32 {
  if (Shared.load<i32>(vm + REGION_INVALIDATE_ACTIVE) <= 0) return -EINVAL;
  Shared.add<i32>(vm + REGION_INVALIDATE_SEQ, 1);
  Shared.add<i32>(vm + REGION_INVALIDATE_ACTIVE, -1);
  return 0;
}
