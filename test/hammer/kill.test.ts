// Threads die under load: terminated from outside, or by a trap at some step of their own. [R8, KF-89, KF-90]

import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createVm } from '../../src/index.ts';
import { errorOf } from '../support.ts';
import type { Part } from '../workers/hammer.ts';
import { KillingField } from './killing_field.ts';

const KILLS = 100;

test(`R8 R1 KF-89 ${KILLS} threads die under load: after each removal events arrive, and none of the others’ is lost`, async () => {
  const field = new KillingField(89);
  for (let i = 0; i < KILLS; i++) await field.kill();
  const { delays, lost, sent, strange } = await field.stop();
  expect([lost, strange]).toEqual([[], 0]);
  expect(delays).toHaveLength(KILLS);
  expect(sent).toBeGreaterThan(0);
  delays.sort((a, b) => a - b);
  const at = (part: number): string => (delays[Math.floor(part * (delays.length - 1))] ?? 0).toFixed(2);
  console.log(
    `removal to arrival: median ${at(0.5)} ms, p99 ${at(0.99)} ms, worst ${at(1)} ms; ${sent} sends of others`,
  );
}, 240_000);

test('KF-90 a thread that died in a bracket does not hold up the control plane for ever: EBUSY says which agent', async () => {
  const vm = createVm({ agents: 2 });
  const ledger = new SharedArrayBuffer(1024);
  const common = { handle: vm.handle(), ledger, ports: 8, first: 1, step: 1, sends: 0, seed: 1 };
  const data: Part = { role: 'die', ...common };
  const worker = new Worker(new URL('../../dist/test/workers/hammer.js', import.meta.url), { workerData: data });
  await new Promise((resolve) => worker.on('exit', resolve));
  const begin = performance.now();
  const error = errorOf(() => vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1));
  console.log(`a dead reader was named after ${(performance.now() - begin).toFixed(0)} ms`);
  expect(error.code).toBe('EBUSY');
  expect(error.message).toContain('agent 1');
  // Nothing was granted, so nothing is open; and whoever is told can go on.
  expect(vm.send(5)).toBe(1);
  vm.detachAgent(1);
  expect(vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1)).toBeGreaterThan(0);
  vm.invalidateEnd();
});
