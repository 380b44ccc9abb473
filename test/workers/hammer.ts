// The parts that threads play in test/hammer: each attaches to the VM and works until told otherwise.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, holdEventLoop, type Vm, type VmHandle } from '../../src/index.ts';

export interface Part {
  readonly role: 'single' | 'batch' | 'bracket' | 'receive' | 'async' | 'die';
  readonly handle: VmHandle;
  /** an epoch per port that the sender counts up before each send, then one that the receiver copies; i32 each */
  readonly ledger: SharedArrayBuffer;
  readonly ports: number;
  /** ports of this sender: first, first + step, ... */
  readonly first: number;
  readonly step: number;
  readonly sends: number;
  readonly seed: number;
}

export interface Outcome {
  delivered: number;
  coalesced: number;
  /** ports a receiver took */
  drained: number;
  other: number;
}

const STOP = 0;
const BATCH = 256;

const part = workerData as Part;
// Without the hold a worker whose only work is a pending waitAsync exits. [KF-88]
const vm = attachVm(part.handle, { hold: holdEventLoop });
const sent = new Int32Array(part.ledger, 64, part.ports);
const seen = new Int32Array(part.ledger, 64 + 4 * part.ports, part.ports);
const control = new Int32Array(part.ledger, 0, 16);
const outcome: Outcome = { delivered: 0, coalesced: 0, drained: 0, other: 0 };

/** A port of this sender; xorshift, so that every run sends the same. */
let x = part.seed;
function nextPort(): number {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  const own = Math.floor((part.ports - part.first + part.step - 1) / part.step);
  return part.first + part.step * ((x >>> 0) % own);
}

function count(result: number): void {
  if (result === 1) outcome.delivered++;
  else if (result === 0) outcome.coalesced++;
  else outcome.other++;
}

/** The event's payload before the event: what the receiver reads must not be older than what it is told about. */
function publish(port: number): void {
  Atomics.store(sent, port, (sent[port] ?? 0) + 1);
}

function single(vm: Vm): void {
  for (let i = 0; i < part.sends; i++) {
    const port = nextPort();
    publish(port);
    count(vm.send(port));
  }
}

function bracket(vm: Vm): void {
  for (let i = 0; i < part.sends; i += 16) {
    vm.enter();
    for (let k = 0; k < 16; k++) {
      const port = nextPort();
      publish(port);
      count(vm.send(port));
    }
    vm.leave();
  }
}

function batch(vm: Vm): void {
  const outbox = vm.outbox;
  for (let i = 0; i < part.sends; i += BATCH) {
    const n = Math.min(BATCH, part.sends - i);
    for (let k = 0; k < n; k++) {
      const port = nextPort();
      publish(port);
      outbox[k] = port;
    }
    vm.sendMany(outbox, n);
    outcome.delivered += vm.batchCounts.delivered;
    outcome.coalesced += vm.batchCounts.coalesced;
    outcome.other += vm.batchCounts.masked + vm.batchCounts.bad;
  }
}

function take(port: number): void {
  Atomics.store(seen, port, Atomics.load(sent, port));
  outcome.drained++;
}

function receive(vm: Vm): void {
  const vcpu = vm.vcpu(0);
  while (Atomics.load(control, STOP) === 0) {
    vcpu.wait(50e6);
    vcpu.drain(take);
  }
  vcpu.drain(take);
}

async function receiveAsync(vm: Vm): Promise<void> {
  const vcpu = vm.vcpu(0);
  while (Atomics.load(control, STOP) === 0) {
    await vcpu.waitAsync(50e6);
    vcpu.drain(take);
  }
  vcpu.drain(take);
}

/** Dies with a bracket open, as a thread does that is terminated in the middle of a send. */
function die(vm: Vm): void {
  vm.enter();
  Atomics.store(control, 1, vm.agentNumber + 1);
  Atomics.notify(control, 1);
  process.exit(0);
}

if (part.role === 'receive') receive(vm);
else if (part.role === 'async') await receiveAsync(vm);
else if (part.role === 'die') die(vm);
else ({ single, batch, bracket })[part.role](vm);

parentPort?.postMessage(outcome);
vm.detach();
