// A timer between two real threads: one sets and stops it, the other keeps the time. Every one that was set is accounted for.

import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createVm, driveTimers, type Vm } from '../../src/index.ts';
import { clock, type TimerOutcome, type TimerPart } from '../workers/timer_guest.ts';

const PORT = 5;
const FILE = new URL('../../dist/test/workers/timer_guest.js', import.meta.url);

function makeVm(): Vm {
  const vm = createVm({ clock, agents: 2 });
  vm.vcpu(0).setAttr({ type: 'timer', port: PORT, expires: 0n });
  return vm;
}

/** Plays the guest in a thread of its own. `meanwhile` is called until that has ended. */
async function play(part: TimerPart, meanwhile: () => void = () => {}): Promise<TimerOutcome> {
  const worker = new Worker(FILE, { workerData: part });
  let [outcome, error, over] = [null as TimerOutcome | null, null as unknown, false];
  worker.on('message', (message: TimerOutcome) => {
    outcome = message;
  });
  worker.on('error', (reason) => {
    error = reason;
  });
  worker.on('exit', () => {
    over = true;
  });
  while (!over) {
    meanwhile();
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (error !== null) throw error;
  if (outcome === null) throw new Error('the guest ended without a word');
  return outcome;
}

const TIMERS = 10_000;

test('R1 R12 KF-53 10^4 timers set by one thread and expired by another: fired and stopped add up, none early, none lost', async () => {
  const vm = makeVm();
  const taken = new SharedArrayBuffer(4);
  const count = new Int32Array(taken);
  let expired = 0;
  const keepTime = (): void => {
    // Short enough that the event loop of this thread goes round.
    for (let i = 0; i < 500; i++) {
      expired += vm.tick();
      vm.vcpu(0).drain((port) => {
        expect(port).toBe(PORT);
        Atomics.add(count, 0, 1);
      });
    }
  };
  const part: TimerPart = { role: 'set and stop', handle: vm.handle(), rounds: TIMERS, seed: 53, taken };
  const outcome = await play(part, keepTime);
  expect([outcome.early, outcome.lost]).toEqual([0, 0]);
  expect(outcome.atOnce + outcome.expired + outcome.stopped).toBe(TIMERS);
  expect(expired).toBe(outcome.expired);
  expect(Atomics.load(count, 0)).toBe(outcome.atOnce + outcome.expired);
  for (const kind of ['atOnce', 'expired', 'stopped'] as const) expect(outcome[kind], kind).toBeGreaterThan(10);
  expect(vm.nextDeadline()).toBe(null);
});

test('R12 KF-90 the driver of one thread wakes up for the timers that another sets, which sleeps until they come', async () => {
  const vm = makeVm();
  const driver = driveTimers(vm);
  const part: TimerPart = {
    role: 'set and sleep',
    handle: vm.handle(),
    rounds: 100,
    seed: 90,
    taken: new SharedArrayBuffer(4),
  };
  const outcome = await play(part);
  driver.stop();
  expect([outcome.early, outcome.lost, outcome.atOnce + outcome.expired]).toEqual([0, 0, 100]);
  expect(outcome.expired).toBeGreaterThan(10);
});
