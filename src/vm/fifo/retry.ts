// The half that may sleep of what the FIFO ABI's fast half could not do: pages are mapped, and a queue's lock is waited for.

import { EAGAIN } from '../../abi/errno.ts';
import { FIFO_PAGES } from '../../abi/fifo.ts';
import type { Vm } from '../vm.ts';

/** How often pages are mapped again before a call gives up. */
const MAP_TRIES = 16;
/** How long a lock is waited for: in naps of a millisecond where the thread may sleep, else in looks of some microseconds. */
const LOCK_NAPS = 200;
const LOCK_LOOKS = 5_000;

/** Maps what is not mapped of event words and control blocks, and shared_info if it can be. @returns 0, or the first error @internal */
export function mapFifo({ region, gpcs }: Vm): number {
  let first = 0;
  for (const gpc of region.fifoGpcs()) {
    if (!gpcs.isActive(gpc) || gpcs.isMapped(gpc)) continue;
    const error = gpcs.refresh(gpc);
    if (error < 0 && first === 0) first = error;
  }
  gpcs.refresh(region.sharedInfo);
  return first;
}

/**
 * Calls again while the fast half says "not usable here" and the FIFO ABI is in force.
 * @returns what it says then; the reason why a page cannot be mapped; -EAGAIN when a queue stays locked: its agent may be dead @internal
 */
export function retryFifo(vm: Vm, call: () => number): number {
  const { words } = vm.region;
  let [maps, naps, looks] = [0, 0, 0];
  for (;;) {
    const error = mapFifo(vm);
    const result = call();
    if (result !== -EAGAIN || !vm.region.fifoActive) return result;
    if (error < 0 && ++maps >= MAP_TRIES) return error;
    // Everything is mapped, so it is a lock. Who holds it does not notify: it costs its senders nothing that way.
    if (error === 0) {
      const at = vm.region.fifo + FIFO_PAGES;
      if (words.wait(at, words.load(at), 1)) naps++;
      else looks++;
      if (naps >= LOCK_NAPS || looks >= LOCK_LOOKS) return -EAGAIN;
    }
  }
}
