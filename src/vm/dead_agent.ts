// Removing an agent whose thread is dead: whatever step it died at, the others go on. [KF-89]
//
// Nobody can tell how far it was, so everything that it may have left half done is done again where twice is harmless: every vCPU
// looks at every word, everybody who sleeps looks, every clock is written again, pages that may have been written are marked.

import { REGION_TIMEKEEPER, REQUEST_CLOCK_UPDATE, REQUEST_MASTERCLOCK_UPDATE, VCPU_KICK } from '../abi/region.ts';
import { mendDirtyLog, writesOf } from '../memory/dirty_mend.ts';
import { repairFifo } from './fifo/repair.ts';
import { announceDeadline } from './time/deadline_watch.ts';
import type { Vm } from './vm.ts';

/** Gives its place back and mends what it left. By the owner; `agent` is its record. @internal */
export function removeAgent(vm: Vm, agent: number): void {
  const { region, kernel, changes } = vm;
  const { words } = region;
  // Only while its bracket stands is it known to have been among mapped pages.
  const writes = writesOf(region, agent);
  region.releaseAgent(agent);
  // Queues that it had locked are put in order.
  repairFifo(vm);
  for (let i = 0; i < vm.vcpus; i++) {
    // It may have died between a pending bit and its upcall: everybody looks at every word once.
    kernel.resync(vm.vmBase, vm.agent, i);
    // Or between a sleeper's flag, which it has cleared, and the notify, which nobody else owes then.
    words.notify(region.vcpuLine(i) + VCPU_KICK);
  }
  // Or after it had taken a request that it has not answered, of its own vCPU or of all.
  vm.requestAll(REQUEST_CLOCK_UPDATE | REQUEST_MASTERCLOCK_UPDATE);
  vm.eventfds.signalAgain();
  // A timer that it was delivering is due again; and a timekeeper that it did not wake any more looks.
  announceDeadline(vm);
  words.notify(vm.vmBase + REGION_TIMEKEEPER);
  // Last: it may wait for readers, of which another one may be dead as well.
  mendDirtyLog(region, kernel, changes, writes);
}
