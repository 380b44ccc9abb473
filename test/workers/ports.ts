// The parts that threads play in test/hammer/ports.test.ts.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type Vm, type VmHandle } from '../../src/index.ts';

export interface Part {
  /** rings send ports until told to stop; sends a bounded number of events; reads an eventfd until it has counted enough */
  readonly role: 'ring' | 'send' | 'read';
  readonly handle: VmHandle;
  /** i32: 0 go on, 1 stop; then how many threads are at work */
  readonly control: SharedArrayBuffer;
  /** send ports 1..ports, or the port to send to, or the eventfd */
  readonly subject: number;
  /** sends, or what to count to */
  readonly count: number;
}

/** What a part saw. */
export interface Tally {
  /** rings of each send port that were answered 0 */
  rung: number[];
  /** rings that were the embedder's */
  refused: number;
  /** how often each result of a send came */
  results: Map<number, number>;
  /** what an eventfd counted in all */
  counted: number;
}

const { role, handle, control, subject, count } = workerData as Part;
const flags = new Int32Array(control);
const vm = attachVm(handle);
const tally: Tally = { rung: Array(subject + 1).fill(0), refused: 0, results: new Map(), counted: 0 };

/** Rings in one go, and the nap after them, ms: threads that are in a bracket all the time would be waited for all the time. */
const BURST = 64;
const NAP = 0.1;

function ring(vm: Vm): void {
  for (let i = 0; Atomics.load(flags, 0) === 0; i++) {
    if (i % BURST === 0) Atomics.wait(flags, 0, 0, NAP);
    const port = 1 + (i % subject);
    if (vm.sendPorts.ring(port) === 0) tally.rung[port] = (tally.rung[port] ?? 0) + 1;
    else tally.refused++;
  }
}

function send(vm: Vm): void {
  for (let i = 0; i < count; i++) {
    const result = vm.evtchnSend({ port: subject, vcpu: 0 });
    tally.results.set(result, (tally.results.get(result) ?? 0) + 1);
  }
}

function read(vm: Vm): void {
  const fd = vm.eventfds.get(subject);
  while (tally.counted < count && fd.wait()) {
    const n = fd.read();
    if (n > 0n) tally.counted += Number(n);
  }
}

Atomics.add(flags, 1, 1);
({ ring, send, read })[role](vm);
vm.detach();
parentPort?.postMessage(tally);
