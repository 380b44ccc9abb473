// A timer between two real threads: one sets and stops it, the other keeps the time.

import { Worker } from 'node:worker_threads';
import { createVm, type Vm } from '../../src/index.ts';
import { clock, type TimerOutcome, type TimerPart } from '../workers/timer_guest.ts';

/** The timer's port. */
export const PORT = 5;
const FILE = new URL('../../dist/test/workers/timer_guest.js', import.meta.url);

/** A VM with a timer. */
export function makeTimedVm(): Vm {
  const vm = createVm({ clock, agents: 2 });
  vm.vcpu(0).setAttr({ type: 'timer', port: PORT, expires: 0n });
  return vm;
}

/** Plays the guest in a thread of its own. `meanwhile` is called until that has ended. */
export async function play(part: TimerPart, meanwhile: () => void = () => {}): Promise<TimerOutcome> {
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

/** What became of timers that one thread sets and another expires. */
export interface Expiries extends TimerOutcome {
  /** expiries that the timekeeper has delivered, events that it has taken, and those of another port */
  readonly ticks: number;
  readonly taken: number;
  readonly strange: number;
  readonly left: bigint | null;
}

/** Sets and stops `rounds` timers in a thread, and keeps the time in this one. */
export async function expireTimers(rounds: number, seed: number): Promise<Expiries> {
  const vm = makeTimedVm();
  const taken = new SharedArrayBuffer(4);
  const count = new Int32Array(taken);
  let [ticks, strange] = [0, 0];
  const keepTime = (): void => {
    // Short enough that the event loop of this thread goes round.
    for (let i = 0; i < 500; i++) {
      ticks += vm.tick();
      vm.vcpu(0).drain((port) => {
        if (port !== PORT) strange++;
        Atomics.add(count, 0, 1);
      });
    }
  };
  const outcome = await play({ role: 'set and stop', handle: vm.handle(), rounds, seed, taken }, keepTime);
  return { ...outcome, ticks, taken: Atomics.load(count, 0), strange, left: vm.nextDeadline() };
}
