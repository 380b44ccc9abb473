// Queues after an agent has died in one: it may have linked a port to nobody, or taken one out and not gone on. [KF-89]

import { EVENT_WORDS_PER_PAGE, FIFO_PAGES, FIFO_REPAIR } from '../../abi/fifo.ts';
import { EvtchnError } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { whileParked } from './parked.ts';
import { mapFifo } from './retry.ts';

/** How often queueing begins again at a port whose page or queue was not to be had. */
const TRIES = 16;

/**
 * Builds all queues anew if they need it: every port is taken out, then every port that is pending and not masked is queued. Nothing is lost; what
 * was queued comes in the order of the ports. A guest that stands in a queue of its own sees one that ends, and a new head. While
 * another dead agent holds a lock the repair is left to when that one is detached. @internal
 */
export function repairFifo(vm: Vm): void {
  const { words, fifo, fifoActive } = vm.region;
  if (fifo === 0 || words.load(fifo + FIFO_REPAIR) === 0) return;
  if (fifoActive && !rebuild(vm)) return;
  words.store(fifo + FIFO_REPAIR, 0);
}

function rebuild(vm: Vm): boolean {
  const { words, fifo } = vm.region;
  try {
    whileParked(vm, ({ events }) => {
      for (const page of events) vm.kernel.fifoUnlink(vm.vmBase, page);
      return events.length;
    });
  } catch (error) {
    if (error instanceof EvtchnError && error.code !== 'EBADF') return false;
    throw error;
  }
  const end = words.load(fifo + FIFO_PAGES) * EVENT_WORDS_PER_PAGE;
  let port = 1;
  for (let i = 0; i < TRIES && port < end; i++) {
    mapFifo(vm);
    const next = vm.kernel.fifoRelink(vm.vmBase, vm.agent, port, end);
    if (next > port) i = 0;
    port = next;
  }
  return port === end;
}
