// Snapshots of a VM that another thread sends to. Counts decide, never time.

import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { gpa, type Vm } from '../../src/index.ts';
import { drained, makeVm, pendingBit, vcpuInfoGpa } from '../support.ts';
import type { Sending } from '../workers/snapshot_sender.ts';

const FILE = new URL('../../dist/test/workers/snapshot_sender.js', import.meta.url);
const PORTS = 4000;
/** Enough that a send falls between the copies of two parts, if it can. */
const RAM = { guestPages: 1024 };

test('R1 R13 each snapshot has every event whose send had returned, and none half: with vcpu_info and without', async () => {
  const vm = makeVm(RAM);
  const progress = new SharedArrayBuffer(8);
  const sent = new Int32Array(progress);
  const results = start({ handle: vm.handle(), progress, ports: PORTS });
  const seen: number[] = [];
  while (Atomics.load(sent, 0) < PORTS) {
    // Now they go to the selector, now they are kept aside.
    const there = seen.length % 2 === 0;
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: there ? gpa(vcpuInfoGpa(0)) : null });
    const before = Atomics.load(sent, 0);
    const saved = vm.snapshot({ ram: true });
    const after = Atomics.load(sent, 0);
    const ports = received(saved);
    const last = ports.at(-1) ?? 0;
    expect(ports).toEqual(Array.from({ length: last }, (_, i) => i + 1));
    // One send may have been on its way, before or after.
    expect(last).toBeGreaterThanOrEqual(before);
    expect(last).toBeLessThanOrEqual(after + 1);
    seen.push(last);
    Atomics.add(sent, 1, 1);
    Atomics.notify(sent, 1);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await results).toEqual(new Map([[1, PORTS]]));
  expect(received(vm.snapshot({ ram: true }))).toHaveLength(PORTS);
  // It was not all before the first, or after the last.
  expect(new Set(seen).size).toBeGreaterThan(5);
}, 60_000);

function start(data: Sending): Promise<unknown> {
  const worker = new Worker(FILE, { workerData: data });
  return new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', () => reject(new Error('the thread ended without a word')));
  });
}

/** What a guest that was restored receives. */
function received(saved: Uint8Array): number[] {
  const vm: Vm = makeVm(RAM);
  vm.restore(saved);
  vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(0)) });
  const ports = drained(vm);
  // Whatever is in the RAM was told: nothing is pending that nobody looks for.
  for (let port = 1; port < vm.maxPorts; port++) expect(pendingBit(vm, port), `port ${port}`).toBe(false);
  return ports;
}
