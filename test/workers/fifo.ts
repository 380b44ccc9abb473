// The parts that threads play in test/xen/fifo_hammer.test.ts: they send, and the owner changes the ABI under them.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type Vm, type VmHandle } from '../../src/index.ts';

export interface FifoPart {
  readonly role: 'single' | 'batch' | 'die';
  readonly handle: VmHandle;
  /** i32: stop, at work, rounds; then an epoch per port that is counted up before each send */
  readonly ledger: SharedArrayBuffer;
  /** ports of this sender: first, first + step, ... up to `ports` */
  readonly first: number;
  readonly step: number;
  readonly ports: number;
}

export interface FifoOutcome {
  sent: number;
  /** sends that answered an error, and were made again */
  again: number;
  strange: number;
}

const STOP = 0;
const AT_WORK = 1;
const ROUNDS = 2;
const HEADER = 16;

const part = workerData as FifoPart;
const control = new Int32Array(part.ledger, 0, HEADER);
const sent = new Int32Array(part.ledger, 4 * HEADER, part.ports);
const vm = attachVm(part.handle);
const outcome: FifoOutcome = { sent: 0, again: 0, strange: 0 };

let x = 7 + part.first;
function nextPort(): number {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  const own = Math.floor((part.ports - part.first + part.step - 1) / part.step);
  return part.first + part.step * ((x >>> 0) % own);
}

function single(vm: Vm): void {
  const port = nextPort();
  Atomics.add(sent, port, 1);
  let result = vm.send(port);
  for (; result === -11; result = vm.send(port)) outcome.again++;
  if (result < 0 && result !== -107) outcome.strange++;
  outcome.sent++;
}

function batch(vm: Vm): void {
  const ports = Array.from({ length: 24 }, nextPort);
  const announce = (): void => {
    for (const port of ports) Atomics.add(sent, port, 1);
  };
  announce();
  let result = vm.sendMany(ports);
  for (; result === -11; result = vm.sendMany(ports)) {
    // Half of it may have been sent.
    announce();
    outcome.again++;
  }
  if (result < 0) outcome.strange++;
  outcome.sent += ports.length;
}

Atomics.add(control, AT_WORK, 1);
for (let i = 0; Atomics.load(control, STOP) === 0; i++) {
  if (part.role === 'batch' && i % 8 === 0) batch(vm);
  else single(vm);
  if (part.role === 'die' && i === 200) {
    // As a thread that is terminated in the middle of a send: bracket open, the lock of a queue taken.
    vm.enter();
    const { region } = vm;
    const queue = region.fifoVcpu(0) + 64 + 4 * 7;
    while (region.words.load(queue) & 0xffe0000);
    region.words.or(queue, (vm.agentNumber + 1) << 17);
    Atomics.store(control, ROUNDS, vm.agentNumber + 1);
    Atomics.notify(control, ROUNDS);
    process.exit(0);
  }
  // A thread that is in a bracket all the time would be waited for all the time.
  if (i % 16 === 0) {
    Atomics.add(control, ROUNDS, part.role === 'die' ? 0 : 1);
    Atomics.wait(control, STOP, 0, 0.1);
  }
}
parentPort?.postMessage(outcome);
vm.detach();
