// VMs with a table of host pages and without, and what tests of the memory map do to them.

import { GPC_WORD, MEMSLOT_SIZE, REGION_GENERATIONS, REGION_MEMSLOTS } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, type Hpa, type Hva, hpa, hva, type Memslot, type Vm } from '../../src/index.ts';
import { type MakeOptions, makeVm } from '../support.ts';
import { UNMAPPED } from './evidence.ts';

/** Shared memory or not, with a table of host pages or without. */
export const TABLES = [true, false].flatMap((shared) =>
  [0, 256].map((hostPages) => ({ shared, hostPages, table: hostPages > 0 })),
);

/** Pages of guest RAM in these tests: gpa 0..0xffff, the slot 0. */
export const GUEST_PAGES = 16;

/** A guest address that no slot has, far from guest RAM. */
export const ELSEWHERE = 0x100000;

export function makePaged(options: MakeOptions = {}): Vm {
  return makeVm({ guestPages: GUEST_PAGES, hostPages: 256, ...options });
}

/** The host address of guest page `page` in slot 0, and its frame as the table begins. */
export function hostPage(vm: Vm, page: number): Hva {
  return hva(vm.guestBase + page * PAGE_SIZE);
}
export function framePage(vm: Vm, page: number): Hpa {
  return hpa(vm.guestBase + page * PAGE_SIZE);
}

/** A slot beside slot 0 that shows guest RAM from page `page` on a second time. */
export function slotAt(vm: Vm, page: number, rest: Partial<Memslot> = {}): Memslot {
  return { id: 1, gpa: gpa(ELSEWHERE), bytes: PAGE_SIZE, hva: hostPage(vm, page), ...rest };
}

/** Where a cache's word points, or null while it maps nothing. */
export function mappedAt(vm: Vm, gpc: number): number | null {
  const word = vm.region.words.load(gpc + GPC_WORD) >>> 0;
  const mode = gpc === vm.region.sharedInfo ? 1 : 0;
  return word >= UNMAPPED ? null : (word & ~mode) >>> 0;
}

/** How many caches map something. */
export function mappedCount(vm: Vm): number {
  return [...vm.region.gpcs()].filter((gpc) => mappedAt(vm, gpc) !== null).length;
}

/** The generation of an address space as it lies in the region. */
export function rawGeneration(vm: Vm, addressSpace = 0): bigint {
  return vm.region.words.load64(vm.vmBase + REGION_GENERATIONS + 8 * addressSpace);
}

/** The records of the first `count` slots. */
export function slotRecords(vm: Vm, count: number): Uint8Array {
  const at = vm.region.part(REGION_MEMSLOTS);
  return new Uint8Array(vm.memory.buffer).slice(at, at + count * MEMSLOT_SIZE);
}
