// A time in which nobody but the guest is in a page of events: for changes of the ABI, and repairs.

import { EAGAIN } from '../../abi/errno.ts';
import { FIFO_PAGES, FIFO_PARKED } from '../../abi/fifo.ts';
import { GPC_UNMAPPED } from '../../abi/region.ts';
import { EvtchnError, errnoName } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { mapFifo } from './retry.ts';

/** What was mapped, as linear addresses. @internal */
export interface ParkedPages {
  /** shared_info, or 0: it is not registered or cannot be reached */
  readonly sharedInfo: number;
  /** pages of event words, in order */
  readonly events: readonly number[];
}

/** How often the pages are mapped again when one goes away before everything is held off. */
const TRIES = 16;

/**
 * Calls `body` while senders and consumers are held off: they answer -EAGAIN, wait, and find what `body` left. It says how many pages
 * of event words are in force from then on (FIFO_PARKED: none, the 2-level ABI is). As a change of mappings it throws EBUSY in a bracket, or when
 * an agent does not leave; EFAULT when a page of events cannot be reached: nothing has changed then. @internal
 */
export function whileParked(vm: Vm, body: (pages: ParkedPages) => number): void {
  const { words, fifo } = vm.region;
  for (let i = 0; i < TRIES; i++) {
    const error = mapFifo(vm);
    const before = words.load(fifo + FIFO_PAGES);
    let after: number | null = null;
    let pages: ParkedPages = { sharedInfo: 0, events: [] };
    const park = (): void => {
      // Before readers and locks are waited for. On the other side: a sender looks at the number of pages under the lock.
      words.store(fifo + FIFO_PAGES, FIFO_PARKED);
      pages = unmapAll(vm, Math.max(before, 0));
    };
    try {
      vm.changes.change(park, () => {
        // Else a page has gone away again, or cannot be reached.
        if (pages.events.includes(0)) return;
        after = body(pages);
        words.store(fifo + FIFO_PAGES, after);
      });
    } finally {
      if (after === null) words.store(fifo + FIFO_PAGES, before);
    }
    if (after !== null) return;
    if (error < 0 && error !== -EAGAIN)
      throw new EvtchnError(errnoName(error) ?? 'EFAULT', 'a page of event words cannot be reached');
  }
  throw new EvtchnError('EAGAIN', 'the pages of event words could not be mapped in time');
}

function unmapAll({ kernel, region }: Vm, count: number): ParkedPages {
  const unmap = (gpc: number): number => {
    const old = kernel.gpcUnmap(region.base, gpc) >>> 0;
    return old < GPC_UNMAPPED >>> 0 ? old : 0;
  };
  const events: number[] = [];
  let page = 0;
  for (const gpc of region.fifoGpcs()) {
    const old = unmap(gpc);
    if (page++ < count) events.push(old);
  }
  return { sharedInfo: unmap(region.sharedInfo), events };
}
