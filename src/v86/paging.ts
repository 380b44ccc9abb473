// Guest-virtual to guest-physical addresses, by the guest's own page tables as its processor has them now: without paging,
// with two levels, or with PAE. Nothing is taken from v86's TLB, so a look has no side effects there.

import type { Words } from '../memory/words.ts';

/** Where v86 keeps its control registers, i32 each, and the four PDPTEs that CR3 was loaded with, u64 each. */
const CR0 = 580;
const CR3 = CR0 + 4 * 3;
const CR4 = CR0 + 4 * 4;
const PDPTES = 968;

const CR0_WP = 1 << 16;
const CR0_PG = 1 << 31;
const CR4_PSE = 1 << 4;
const CR4_PAE = 1 << 5;

const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const USER = 1 << 2;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const LARGE = 1 << 7;

/** Bits of an address within a page, and within a large page of either kind. */
const PAGE_BITS = 12;
const LARGE_BITS = 22;
const LARGE_BITS_PAE = 21;

/** How an address is accessed. */
export interface Access {
  readonly write: boolean;
  /** by code of privilege level 3 */
  readonly user: boolean;
}

/** One level of a table: which bits of the address choose the entry, and whether it may be a large page. */
interface Level {
  readonly shift: number;
  readonly bits: number;
  readonly large: boolean;
}

const TWO_LEVELS: readonly Level[] = [
  { shift: LARGE_BITS, bits: 10, large: false },
  { shift: PAGE_BITS, bits: 10, large: false },
];
const WITH_LARGE: readonly Level[] = [
  { shift: LARGE_BITS, bits: 10, large: true },
  { shift: PAGE_BITS, bits: 10, large: false },
];
/** Below the four entries that the processor keeps. */
const WITH_PAE: readonly Level[] = [
  { shift: LARGE_BITS_PAE, bits: 9, large: true },
  { shift: PAGE_BITS, bits: 9, large: false },
];

/** The page tables of a guest whose RAM begins at `guestBase`. @internal */
export class PageTables {
  readonly #words: Words;
  readonly guestBase: number;
  readonly #guestBytes: number;

  constructor(words: Words, guestBase: number, guestBytes: number) {
    this.#words = words;
    this.guestBase = guestBase;
    this.#guestBytes = guestBytes;
  }

  /** The guest-physical address, or null for a page fault and for what is not in RAM. `address` is a u32. */
  translate(address: number, access: Access): number | null {
    const physical = this.#register(CR0) & CR0_PG ? this.#walk(address, access) : address;
    return physical !== null && physical < this.#guestBytes ? physical : null;
  }

  #walk(address: number, access: Access): number | null {
    const cr4 = this.#register(CR4);
    const pae = (cr4 & CR4_PAE) !== 0;
    const levels = pae ? WITH_PAE : cr4 & CR4_PSE ? WITH_LARGE : TWO_LEVELS;
    let table = pae ? this.#directory(address) : this.#register(CR3) & -4096;
    const used: number[] = [];
    for (const { shift, bits, large } of levels) {
      if (table === null) return null;
      const index = (address >>> shift) & ((1 << bits) - 1);
      const at = (table >>> 0) + index * (pae ? 8 : 4);
      const entry = this.#entry(at, pae);
      if (entry === null || !this.#allows(entry, access)) return null;
      used.push(at);
      if (shift === PAGE_BITS || (large && entry & LARGE)) {
        this.#mark(used, access.write);
        return ((entry & -(2 ** shift)) >>> 0) + (address & (2 ** shift - 1));
      }
      table = entry & -4096;
    }
    return null;
  }

  /** The page directory for an address in PAE mode. */
  #directory(address: number): number | null {
    const at = PDPTES + (address >>> 30) * 8;
    const low = this.#words.load(at);
    return low & PRESENT && this.#words.load(at + 4) === 0 ? low & -4096 : null;
  }

  /** The lower half of an entry; null when it is not in RAM or leads above 4 GiB, where there is none. */
  #entry(at: number, pae: boolean): number | null {
    if (at > this.#guestBytes - 8) return null;
    const low = this.#words.load(this.guestBase + at);
    if (!(low & PRESENT)) return null;
    const high = pae ? this.#words.load(this.guestBase + at + 4) & 0x7fff_ffff : 0;
    return high === 0 ? low : null;
  }

  #allows(entry: number, { write, user }: Access): boolean {
    if (user && !(entry & USER)) return false;
    if (!write || entry & WRITABLE) return true;
    return !user && !(this.#register(CR0) & CR0_WP);
  }

  /** As the processor does: the guest's memory management goes by these bits. */
  #mark(entries: readonly number[], write: boolean): void {
    for (const [i, at] of entries.entries()) {
      const bits = write && i === entries.length - 1 ? ACCESSED | DIRTY : ACCESSED;
      this.#words.or(this.guestBase + at, bits);
    }
  }

  #register(at: number): number {
    return this.#words.load(at);
  }
}
