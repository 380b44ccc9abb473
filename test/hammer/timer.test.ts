// A timer between two real threads. Every one that was set is accounted for.

import { expect, test } from 'vitest';
import { driveTimers } from '../../src/index.ts';
import type { TimerPart } from '../workers/timer_guest.ts';
import { expireTimers, makeTimedVm, play } from './timers.ts';

const TIMERS = 10_000;

test('R1 R12 KF-53 10^4 timers set by one thread and expired by another: fired and stopped add up, none early, none lost', async () => {
  const outcome = await expireTimers(TIMERS, 53);
  expect([outcome.early, outcome.lost, outcome.strange]).toEqual([0, 0, 0]);
  expect(outcome.atOnce + outcome.expired + outcome.stopped).toBe(TIMERS);
  expect(outcome.ticks).toBe(outcome.expired);
  expect(outcome.taken).toBe(outcome.atOnce + outcome.expired);
  for (const kind of ['atOnce', 'expired', 'stopped'] as const) expect(outcome[kind], kind).toBeGreaterThan(10);
  expect(outcome.left).toBe(null);
});

test('R12 KF-90 the driver of one thread wakes up for the timers that another sets, which sleeps until they come', async () => {
  const vm = makeTimedVm();
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
