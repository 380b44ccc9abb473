// A receiver that says it is ready and then does nothing.

import { workerData } from 'node:worker_threads';
import { Ledger, READY } from '../../demo/start/ledger.ts';
import type { ReceiverTask } from '../../demo/start/receiver.ts';
import { attachVm } from '../../src/index.ts';

const { counters } = new Ledger(attachVm((workerData as ReceiverTask).handle));
Atomics.store(counters, READY, 1);
Atomics.notify(counters, READY);
setInterval(() => {}, 1000);
