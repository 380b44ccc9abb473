// Which bytes of guest RAM the engine may write: found by the tables of slots and host pages and by what is registered, in the
// memory as it is or in a copy of it. And the canaries around everything.

import { PVCLOCK_SIZE, WALL_CLOCK_SIZE } from '../../src/abi/pvclock.ts';
import {
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  GPC_LONG_MODE,
  GPC_UNMAPPED,
  GPC_WORD,
  VCPU_INFO_GPC,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import { RUNSTATE_SIZE_LONG } from '../../src/abi/runstate.ts';
import {
  PAGE_SIZE,
  PORTS_COMPAT,
  PORTS_LONG,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
} from '../../src/abi/shared_info.ts';
import {
  VCPU_INFO_SELECTOR_COMPAT,
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_SIZE,
  VCPU_INFO_TIME,
  VCPU_INFO_UPCALL_PENDING,
} from '../../src/abi/vcpu_info.ts';
import type { Hva } from '../../src/index.ts';
import { lookUp } from '../../src/memory/host_pages.ts';
import { Region } from '../../src/memory/region.ts';
import { hostAddressOf, slotsOf } from '../../src/memory/slot_table.ts';
import { Words } from '../../src/memory/words.ts';

/** What canaries are made of. */
export const CANARY = 0xa5;

/** A region in a copy of the memory. */
export function regionIn(copy: Uint8Array<ArrayBufferLike>, base: number): Region {
  return Region.open(new Words({ buffer: copy.buffer } as WebAssembly.Memory), base);
}

/** The offset in guest RAM of the frame that a cache's address leads to, or null. */
function placeOf(region: Region, gpc: number): number | null {
  const { words } = region;
  const by = words.load(gpc + GPC_ACTIVE);
  if (by === 0) return null;
  const address = words.loadWide(gpc + GPC_ADDRESS_LO);
  const host = by === GPC_BY_GPA ? hostAddressOf(region, address, true) : address;
  const page = host === null ? null : lookUp(region, host);
  return page?.writable ? page.hpa - region.guestBase + (address % PAGE_SIZE) : null;
}

/** Marks in `own`, a byte per byte of guest RAM, what the engine may write with the present registrations. */
export function markOwn(region: Region, own: Uint8Array): void {
  const long = region.longMode;
  const mark = (at: number, length: number): void => void own.fill(1, at, at + length);
  const page = placeOf(region, region.sharedInfo);
  if (page !== null) {
    const bitmap = (long ? PORTS_LONG : PORTS_COMPAT) / 8;
    mark(page + SHARED_INFO_PENDING, bitmap);
    mark(page + (long ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT), bitmap);
    mark(page + (long ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT), WALL_CLOCK_SIZE);
    mark(page + (long ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT), 4);
  }
  for (let i = 0; i < region.vcpus; i++) {
    const info = placeOf(region, region.vcpuLine(i) + VCPU_INFO_GPC);
    if (info !== null) {
      mark(info + VCPU_INFO_UPCALL_PENDING, 1);
      mark(info + (long ? VCPU_INFO_SELECTOR_LONG : VCPU_INFO_SELECTOR_COMPAT), long ? 8 : 4);
      mark(info + VCPU_INFO_TIME, VCPU_INFO_SIZE - VCPU_INFO_TIME);
    }
    const record = region.vcpuRecord(i);
    const time = placeOf(region, record + VCPU_TIME_INFO_GPC);
    if (time !== null) mark(time, PVCLOCK_SIZE);
    const room = PAGE_SIZE - (region.words.loadWide(record + VCPU_RUNSTATE1_GPC + GPC_ADDRESS_LO) % PAGE_SIZE);
    const first = placeOf(region, record + VCPU_RUNSTATE1_GPC);
    if (first !== null) mark(first, Math.min(room, RUNSTATE_SIZE_LONG));
    const second = placeOf(region, record + VCPU_RUNSTATE2_GPC);
    if (second !== null) mark(second, Math.max(RUNSTATE_SIZE_LONG - room, 0));
  }
}

/** Marks every frame that the guest can write: by a slot that is not read-only and a host page that is writable. */
export function markReachable(region: Region, own: Uint8Array): void {
  for (const slot of slotsOf(region)) {
    for (let i = 0; i < Math.min(slot.pages, 64); i++) {
      const host = hostAddressOf(region, (slot.gfn + i) * PAGE_SIZE, true);
      const page = host === null ? null : lookUp(region, host as Hva);
      const at = page?.writable ? page.hpa - region.guestBase : -1;
      if (at >= 0) own.fill(1, at, at + PAGE_SIZE);
    }
  }
}

/** Spans of the memory that belong to nobody. */
export class Guards {
  readonly #spans: readonly Uint8Array[];
  readonly #clean: Uint8Array;

  constructor(memory: WebAssembly.Memory, spans: readonly (readonly [from: number, to: number])[]) {
    this.#spans = spans.map(([from, to]) => new Uint8Array(memory.buffer, from, to - from));
    this.#clean = new Uint8Array(Math.max(...spans.map(([from, to]) => to - from))).fill(CANARY);
    for (const span of this.#spans) span.fill(CANARY);
  }

  /** The first byte that somebody has touched, or null. */
  touched(): number | null {
    for (const span of this.#spans) {
      if (Buffer.compare(span, this.#clean.subarray(0, span.length)) === 0) continue;
      return span.byteOffset + span.findIndex((byte) => byte !== CANARY);
    }
    return null;
  }
}

/** A cache that maps something else than the tables say, in words; null: none does. */
export function strayMapping(region: Region): string | null {
  const { words } = region;
  for (const gpc of region.gpcs()) {
    const word = words.load(gpc + GPC_WORD) >>> 0;
    if (word >= GPC_UNMAPPED >>> 0) continue;
    const at = gpc === region.sharedInfo ? (word & ~GPC_LONG_MODE) >>> 0 : word;
    const place = placeOf(region, gpc);
    if (place !== at - region.guestBase) {
      return `the cache at region+0x${(gpc - region.base).toString(16)} maps 0x${at.toString(16)}, the tables say ${place}`;
    }
  }
  return null;
}
