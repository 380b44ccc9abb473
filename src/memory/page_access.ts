// Reading and writing pages that may be taken away: inside a bracket, page by page, at a time when no mapping changes.

import { PAGE_SIZE } from '../abi/shared_info.ts';
import { type Hpa, type Hva, pageOffset } from './address.ts';
import type { GpcSet } from './gpc.ts';
import { lookUp } from './host_pages.ts';
import type { Region } from './region.ts';

/** How often an access asks for a page that goes away again. */
const TRIES = 200;

/** What to do with the bytes of one page: `bytes` of them at linear address `at`, which are those from `from` on of the whole. */
export type UsePage = (at: number, from: number, bytes: number) => void;

/** How the addresses of an access become host addresses; null: there is nothing. */
export type ToHost = (address: number) => Hva | null;

/**
 * Calls `use` for each page of a range. @returns false when a page is nowhere, absent, or read-only and `writable` is asked for;
 * those before it were used @internal
 */
export function accessPages(
  region: Region,
  gpcs: GpcSet,
  { address, length, writable }: { readonly address: number; readonly length: number; readonly writable: boolean },
  toHost: ToHost,
  use: UsePage,
): boolean {
  for (let from = 0; from < length; ) {
    const part = Math.min(length - from, PAGE_SIZE - pageOffset(address + from));
    const usePart = (at: Hpa): void => use(at, from, part);
    if (!accessPage(region, gpcs, () => toHost(address + from), writable, usePart)) return false;
    from += part;
  }
  return true;
}

function accessPage(
  region: Region,
  gpcs: GpcSet,
  hostAddress: () => Hva | null,
  writable: boolean,
  use: (at: Hpa) => void,
): boolean {
  for (let i = 0; i < TRIES; i++) {
    let missing: Hva | null = null;
    let done = false;
    const tryOnce = (): void => {
      const host = hostAddress();
      const page = host === null ? null : lookUp(region, host);
      done = page !== null && (page.writable || !writable);
      if (page && host !== null && done) use((page.hpa + pageOffset(host)) as Hpa);
      else missing = host;
    };
    if (!gpcs.changes.whileStable(tryOnce)) return false;
    if (done) return true;
    // Asked for outside the bracket: whoever brings the page may have to wait for readers.
    if (missing === null || !gpcs.faultIn(missing, writable)) return false;
  }
  return false;
}
