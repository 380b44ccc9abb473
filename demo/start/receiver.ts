// A worker that runs a vCPU: waits, drains, and writes down what it got.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type VmHandle } from '../../src/index.ts';
import { DONE, DRAINED, Ledger, READY, type ReceiverTotals } from './ledger.ts';

export interface ReceiverTask {
  readonly handle: VmHandle;
  /** how often to look before going to sleep; 0 sleeps at once */
  readonly spins: number;
}

function receive({ handle, spins }: ReceiverTask): ReceiverTotals {
  const vm = attachVm(handle);
  const vcpu = vm.vcpu(0);
  const ledger = new Ledger(vm);
  const { counters } = ledger;
  let drained = 0;
  let upcalls = 0;
  Atomics.store(counters, READY, 1);
  Atomics.notify(counters, READY);
  for (let done = 0; !done; ) {
    vcpu.wait(undefined, spins);
    // Before the drain: what was sent before the sender was done is in it.
    done = Atomics.load(counters, DONE);
    const count = vcpu.drain();
    if (count === 0) continue;
    upcalls++;
    drained += count;
    ledger.record(vcpu.drained, count);
    Atomics.store(counters, DRAINED, drained);
  }
  vm.detach();
  return { drained, upcalls };
}

parentPort?.postMessage(receive(workerData));
