// The thread that sends while snapshots are taken, for test/hammer/snapshot.test.ts: ports 1, 2, 3, ... and says how far it is.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type VmHandle } from '../../src/index.ts';

export interface Sending {
  readonly handle: VmHandle;
  /** i32: the last port whose send has returned; then how many snapshots were taken */
  readonly progress: SharedArrayBuffer;
  readonly ports: number;
}

/** Sends between naps, and the nap, ms; and sends after which a snapshot is waited for. */
const BURST = 8;
const NAP = 0.2;
const LEG = 500;

const { handle, progress, ports } = workerData as Sending;
const words = new Int32Array(progress);
const vm = attachVm(handle);
const results = new Map<number, number>();
for (let port = 1; port <= ports; port++) {
  const result = vm.send(port);
  results.set(result, (results.get(result) ?? 0) + 1);
  Atomics.store(words, 0, port);
  if (port % LEG === 0) Atomics.wait(words, 1, Atomics.load(words, 1), 1000);
  else if (port % BURST === 0) Atomics.wait(words, 0, port, NAP);
}
vm.detach();
parentPort?.postMessage(results);
