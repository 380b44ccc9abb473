// The memory slots as the kernel reads them: inside a bracket, or by the owner, who is the only one to change them. [KX-MEM-10, KF-08]

import {
  MEMSLOT_GFN,
  MEMSLOT_ID,
  MEMSLOT_PAGES,
  MEMSLOT_SIZE,
  REGION_MEMSLOT_COUNT,
  REGION_MEMSLOTS,
} from '../src/abi/region.ts';
import { Shared } from './shared';

/** Ids from here on belong to other address spaces, which the engine does not use. */
const OTHER_SPACES: u32 = 0x10000;

/** The record of the slot of address space 0 that holds a guest frame, or 0. */
export function slotOf(vm: usize, gfn: u64): usize {
  const count = Shared.load<i32>(vm + REGION_MEMSLOT_COUNT);
  let slot = vm + Shared.load<i32>(vm + REGION_MEMSLOTS);
  for (let i = 0; i < count; i++, slot += MEMSLOT_SIZE) {
    if (Shared.load<u32>(slot + MEMSLOT_ID) >= OTHER_SPACES) continue;
    if (gfn - Shared.load<u64>(slot + MEMSLOT_GFN) < Shared.load<u64>(slot + MEMSLOT_PAGES)) return slot;
  }
  return 0;
}
