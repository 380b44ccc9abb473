// The threads that live on in test/hammer/kill.test.ts: one receives, one sends.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, EvtchnError, type Vm } from '../../src/index.ts';
import { ARRIVED, CONTROL_WORDS, PORTS, PROBE, STOP, type SurvivorPart, type SurvivorTally } from './kill_part.ts';

const BURST = 64;
const NAP = 0.2;
const EAGAIN = -11;
/** Sleeps of a second, which hide a wake-up that was lost, are made longer than any patience; those without sight stay. */
const SIGHTED = 1e8;
const FOR_EVER = 1e12;

const { role, handle, ledger, seed } = workerData as SurvivorPart;
const vm = attachVm(handle);
const control = new Int32Array(ledger, 0, CONTROL_WORDS);
const sent = new Int32Array(ledger, 4 * CONTROL_WORDS, PORTS);
const seen = new Int32Array(ledger, 4 * (CONTROL_WORDS + PORTS), PORTS);
const tally: SurvivorTally = { sent: 0, taken: 0, strange: 0 };

function take(port: number): void {
  tally.taken++;
  if (port >= PORTS) return;
  Atomics.store(seen, port, Atomics.load(sent, port));
  if (port !== PROBE) return;
  Atomics.add(control, ARRIVED, 1);
  Atomics.notify(control, ARRIVED);
}

/** As it is while the owner moves pages: nothing was taken. */
function drain(vm: Vm): void {
  try {
    vm.vcpu(0).drain(take);
  } catch (error) {
    if (!(error instanceof EvtchnError)) throw error;
  }
}

function receive(vm: Vm): void {
  const { kernel } = vm;
  const sleepOn = (base: number, vcpu: number, ns: number): number =>
    kernel.sleepOn(base, vcpu, ns > SIGHTED ? FOR_EVER : ns);
  vm.kernel = { ...kernel, sleepOn };
  while (Atomics.load(control, STOP) === 0) {
    vm.vcpu(0).wait();
    drain(vm);
  }
  drain(vm);
}

function send(vm: Vm): void {
  let x = seed;
  while (Atomics.load(control, STOP) === 0) {
    for (let i = 0; i < BURST; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      const port = 1 + ((x >>> 0) % (PROBE - 1));
      // The event's payload before the event.
      Atomics.store(sent, port, (sent[port] ?? 0) + 1);
      let result = vm.send(port);
      while (result === EAGAIN) result = vm.send(port);
      if (result !== 1 && result !== 0) tally.strange++;
      tally.sent++;
    }
    Atomics.wait(control, STOP, 0, NAP);
  }
}

({ receive, send })[role](vm);
vm.detach();
parentPort?.postMessage(tally);
