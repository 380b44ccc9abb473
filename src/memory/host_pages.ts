// The embedder's address space: which frame of the linear memory each of its pages has, if any. [kvm-xen 0.4]
// Without a table a host address is the linear offset, and the guest-RAM window is what is mapped.

import { HOST_PAGE_PRESENT, HOST_PAGE_WRITABLE, REGION_HOST_PAGES, REGION_HOST_TABLE } from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { type Hpa, type Hva, hva } from './address.ts';
import type { Changes } from './changes.ts';
import type { Region } from './region.ts';

/** A page that is present. */
export interface HostPage {
  /** its frame: the linear offset of its first byte */
  readonly hpa: Hpa;
  readonly writable: boolean;
}

/** The table of a VM's host pages. Changes drop every mapping of the old page before they take effect. */
export class HostPages {
  readonly #region: Region;
  readonly #changes: Changes;
  readonly #checkOwner: () => void;

  /** @internal */
  constructor(region: Region, changes: Changes, checkOwner: () => void) {
    this.#region = region;
    this.#changes = changes;
    this.#checkOwner = checkOwner;
  }

  /** Pages of the table; 0: there is none, and a host address is the linear offset. */
  get count(): number {
    return this.#region.words.load(this.#region.base + REGION_HOST_PAGES);
  }

  /** The page that holds a host address, or null when it is absent. Throws EINVAL for what is no address. */
  lookup(address: Hva): HostPage | null {
    this.#changes.checkOpen();
    return lookUp(this.#region, hva(address));
  }

  /**
   * Maps `pages` pages from `first` on to the frames from `hpa` on. When it returns nothing uses what was there before.
   * Owner only. Throws EINVAL for addresses that are no multiples of 4096, outside the table or outside the guest-RAM window,
   * EOPNOTSUPP without a table, EBUSY inside a bracket or when an agent does not leave its own.
   */
  map(first: Hva, pages: number, hpa: Hpa, options: { readonly writable?: boolean } = {}): void {
    this.#checkPages(first, pages);
    this.#checkFrames(hpa, pages);
    const flags = HOST_PAGE_PRESENT | ((options.writable ?? true) ? HOST_PAGE_WRITABLE : 0);
    this.#change(first, pages, (i) => (hpa + i * PAGE_SIZE) | flags);
  }

  /** Makes pages absent, as when they are swapped out. As `map`. */
  unmap(first: Hva, pages: number): void {
    this.#checkPages(first, pages);
    this.#change(first, pages, () => 0);
  }

  /**
   * Moves pages to other frames: what they hold is copied while nobody uses them, and they keep what they allow. The old and
   * the new frames may overlap; what the new ones held is gone, for other pages that have them too. As `map`; throws EFAULT
   * when one of the pages is absent.
   */
  move(first: Hva, pages: number, hpa: Hpa): void {
    this.#checkPages(first, pages);
    this.#checkFrames(hpa, pages);
    const { words } = this.#region;
    const old = Array.from({ length: pages }, (_, i) => this.#entry(first + i * PAGE_SIZE));
    const absent = old.indexOf(0);
    if (absent >= 0) {
      throw new EvtchnError('EFAULT', `the host page at 0x${(first + absent * PAGE_SIZE).toString(16)} is absent`);
    }
    let contents: readonly Uint8Array[] = [];
    const read = (): void => {
      contents = old.map((entry) => words.read((entry & -PAGE_SIZE) >>> 0, PAGE_SIZE));
    };
    const write = (i: number): number => {
      const to = hpa + i * PAGE_SIZE;
      words.write(to, contents[i] as Uint8Array);
      return to | ((old[i] as number) & (PAGE_SIZE - 1));
    };
    // All are read before the first is written.
    this.#change(first, pages, write, read);
  }

  #change(first: Hva, pages: number, entryOf: (index: number) => number, begin?: () => void): void {
    const { words } = this.#region;
    const last = (first + pages * PAGE_SIZE - 1) as Hva;
    this.#changes.invalidateStart(first, last);
    try {
      begin?.();
      for (let i = 0; i < pages; i++) words.store(this.#at(first + i * PAGE_SIZE), entryOf(i));
    } finally {
      this.#changes.invalidateEnd();
    }
  }

  #checkPages(first: number, pages: number): void {
    this.#checkOwner();
    const { count } = this;
    if (count === 0) {
      throw new EvtchnError(
        'EOPNOTSUPP',
        'this VM has no table of host pages: createVm({ hostPages }) makes one of that many',
      );
    }
    checkRange('the number of host pages', pages, 1, count);
    checkAligned('the host address', first, 0, (count - pages) * PAGE_SIZE);
  }

  #checkFrames(hpa: number, pages: number): void {
    const { guestBase, guestBytes } = this.#region;
    checkRange('the number of frames', pages, 1, guestBytes / PAGE_SIZE);
    checkAligned('the frame', hpa, guestBase, guestBase + guestBytes - pages * PAGE_SIZE);
  }

  #entry(address: number): number {
    return this.#region.words.load(this.#at(address));
  }
  #at(address: number): number {
    return this.#region.part(REGION_HOST_TABLE) + (address / PAGE_SIZE) * 4;
  }
}

function checkAligned(what: string, address: number, min: number, max: number): void {
  checkRange(what, address, min, max);
  if (address % PAGE_SIZE) {
    throw new EvtchnError('EINVAL', `${what} is ${address}, but it has to be a multiple of ${PAGE_SIZE}`);
  }
}

/** The page that holds a host address, or null when it is absent. @internal */
export function lookUp(region: Region, address: number): HostPage | null {
  const { words, base, guestBase, guestBytes } = region;
  const page = Math.floor(address / PAGE_SIZE);
  const count = words.load(base + REGION_HOST_PAGES);
  if (count === 0) {
    const inside = address >= guestBase && address < guestBase + guestBytes;
    return inside ? { hpa: (page * PAGE_SIZE) as Hpa, writable: true } : null;
  }
  if (page >= count) return null;
  const entry = words.load(region.part(REGION_HOST_TABLE) + page * 4);
  if (!(entry & HOST_PAGE_PRESENT)) return null;
  return { hpa: ((entry & -PAGE_SIZE) >>> 0) as Hpa, writable: (entry & HOST_PAGE_WRITABLE) !== 0 };
}

/** Fills a fresh table: every page of the window at its own linear offset. @internal */
export function mapWindow(region: Region): void {
  const { words, base, guestBase, guestBytes } = region;
  const last = Math.min(words.load(base + REGION_HOST_PAGES), (guestBase + guestBytes) / PAGE_SIZE);
  for (let page = guestBase / PAGE_SIZE; page < last; page++) {
    const entry = (page * PAGE_SIZE) | HOST_PAGE_PRESENT | HOST_PAGE_WRITABLE;
    words.store(region.part(REGION_HOST_TABLE) + page * 4, entry);
  }
}
