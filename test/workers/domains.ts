// The parts that threads play in test/xen/threads.test.ts.

import { parentPort, workerData } from 'node:worker_threads';
import type { VmHandle } from '../../src/index.ts';
import { createXen } from '../../src/xen/index.ts';

export interface DomainPart {
  /** the domain that sends, and those that it may send to */
  readonly sender: VmHandle;
  readonly others: readonly VmHandle[];
  readonly port: number;
  /** i32: 0 go on, 1 stop; then how many threads are at work; then a word of each thread's own */
  readonly control: SharedArrayBuffer;
  /** where this thread counts what it is about to send */
  readonly word: number;
  /** sends; 0: until it is told to stop */
  readonly count: number;
}

/** How often each result of a send came. */
export type DomainTally = Map<number, number>;

const { sender, others, port, control, word, count } = workerData as DomainPart;
const flags = new Int32Array(control);
const xen = createXen();
const domain = xen.attachDomain(sender);
for (const other of others) xen.attachDomain(other);
const tally: DomainTally = new Map();

/** Sends in one go, and the nap after them, ms: threads that are in a bracket all the time would be waited for all the time. */
const BURST = 64;
const NAP = 0.1;

Atomics.add(flags, 1, 1);
for (let i = 1; count === 0 ? Atomics.load(flags, 0) === 0 : i <= count; i++) {
  if (i % BURST === 0) Atomics.wait(flags, 0, 0, NAP);
  // What the event is about, before the event.
  Atomics.store(flags, word, i);
  const result = domain.send(port);
  tally.set(result, (tally.get(result) ?? 0) + 1);
}
for (const each of xen.domains) each.vm.detach();
parentPort?.postMessage(tally);
