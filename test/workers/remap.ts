// The parts that threads play in test/hammer/remap.test.ts: they send and drain while the owner takes their pages away.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, EvtchnError, type Vm } from '../../src/index.ts';
import {
  REMAP_CONTROL_WORDS,
  REMAP_DRAINED,
  REMAP_SENT,
  REMAP_STOP,
  type RemapOutcome,
  type RemapPart,
} from './remap_part.ts';

/** Long enough that a page would be missed in the middle of a call. */
const BATCH = 256;
const [EAGAIN, EFAULT, EINVAL] = [-11, -14, -22];

const part = workerData as RemapPart;
const vm = attachVm(part.handle);
const control = new Int32Array(part.ledger, 0, REMAP_CONTROL_WORDS);
const sent = new Int32Array(part.ledger, 4 * REMAP_CONTROL_WORDS, part.ports);
const seen = new Int32Array(part.ledger, 4 * (REMAP_CONTROL_WORDS + part.ports), part.ports);
const outcome: RemapOutcome = { delivered: 0, coalesced: 0, drained: 0, unreachable: 0, late: 0, strange: 0 };

let x = 99;
function nextPort(): number {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return 1 + ((x >>> 0) % (part.ports - 1));
}

/** The event's payload before the event: what a handler reads must not be older than what it is told about. */
function publish(port: number): void {
  Atomics.store(sent, port, (sent[port] ?? 0) + 1);
}

/** Whether a use has to be tried again because a page was away. */
function again(result: number): boolean {
  if (result === EAGAIN) outcome.late++;
  else if (result === EFAULT || result === EINVAL) outcome.unreachable++;
  else return false;
  return true;
}

function count(result: number): void {
  if (result === 1) outcome.delivered++;
  else if (result === 0) outcome.coalesced++;
  else outcome.strange++;
}

function single(vm: Vm): void {
  const port = nextPort();
  publish(port);
  let result = vm.send(port);
  while (again(result)) result = vm.send(port);
  count(result);
}

/** Sends inside a bracket; one that finds its page away is sent after it. */
function bracket(vm: Vm): void {
  const left: number[] = [];
  vm.enter();
  for (let i = 0; i < 16; i++) {
    const port = nextPort();
    publish(port);
    const result = vm.send(port);
    // An invalidation may be waiting for this very bracket, so nothing is waited for in it.
    if (result === EAGAIN || again(result)) left.push(port);
    else count(result);
  }
  vm.leave();
  for (const port of left) {
    let result = vm.send(port);
    while (again(result)) result = vm.send(port);
    count(result);
  }
}

function batch(vm: Vm): void {
  const { outbox } = vm;
  for (let i = 0; i < BATCH; i++) {
    const port = nextPort();
    publish(port);
    outbox[i] = port;
  }
  let result = vm.sendMany(outbox, BATCH);
  while (again(result)) result = vm.sendMany(outbox, BATCH);
  if (result < 0) outcome.strange++;
  outcome.delivered += vm.batchCounts.delivered;
  outcome.coalesced += vm.batchCounts.coalesced;
  outcome.strange += vm.batchCounts.masked + vm.batchCounts.bad;
}

function send(vm: Vm): void {
  batch(vm);
  for (let i = 0; i < 16; i++) single(vm);
  bracket(vm);
  Atomics.add(control, REMAP_SENT, 1);
  Atomics.notify(control, REMAP_SENT);
}

function take(port: number): void {
  Atomics.store(seen, port, Atomics.load(sent, port));
  outcome.drained++;
}

function drain(vm: Vm): void {
  try {
    vm.vcpu(0).drain(take);
  } catch (error) {
    // Not registered, or its page is away, at this instant.
    if (!(error instanceof EvtchnError)) throw error;
    if (!again(-error.errno)) outcome.strange++;
  }
  Atomics.add(control, REMAP_DRAINED, 1);
  Atomics.notify(control, REMAP_DRAINED);
}

function press(vm: Vm): void {
  for (let i = 0; i < 100; i++) again(vm.send(1));
  Atomics.add(control, REMAP_SENT, 1);
  Atomics.notify(control, REMAP_SENT);
}

while (part.role === 'press' && Atomics.load(control, REMAP_STOP) === 0) press(vm);
while (Atomics.load(control, REMAP_STOP) === 0) {
  if (part.role !== 'drain') send(vm);
  if (part.role === 'drain') vm.vcpu(0).wait(1e6);
  if (part.role !== 'send') drain(vm);
}
// Nobody sends any more, and everything is in place: what is left is taken.
if (part.role === 'drain' || part.role === 'both') drain(vm);

parentPort?.postMessage(outcome);
vm.detach();
