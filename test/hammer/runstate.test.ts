// The guest reads its runstate while another thread accounts transitions: at every alignment, and across a page edge.

import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { CACHE_LINE } from '../../src/abi/region.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa } from '../../src/index.ts';
import { LAYOUTS, makeVm } from '../support.ts';
import type { RunstateOutcome, RunstatePart } from '../workers/runstate.ts';

const FILE = new URL('../../dist/test/workers/runstate.js', import.meta.url);
const READS = 10_000;

function start(data: RunstatePart): Promise<RunstateOutcome> {
  const worker = new Worker(FILE, { workerData: data });
  return new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', () => reject(new Error(`the thread that should ${data.role} ended without a word`)));
  });
}

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  const size = longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;

  test('KF-48 KX-RUN-33 X-14 R11 at every byte of a line and across a page edge every accepted read fits together', async () => {
    const places = [
      ...Array.from({ length: CACHE_LINE }, (_, i) => i),
      ...Array.from({ length: size - 1 }, (_, i) => PAGE_SIZE - 1 - i),
    ];
    // A vCPU for each place, each with two pages of its own.
    const vm = makeVm({ longMode, vcpus: places.length, agents: 3, guestPages: 8 + 2 * places.length });
    vm.setAttr({ type: 'runstate_update_flag', enabled: true });
    const areas = places.map((at, i) => (8 + 2 * i) * PAGE_SIZE + at);
    for (const [i, at] of areas.entries()) vm.vcpu(i).setAttr({ type: 'runstate_addr', gpa: gpa(at) });
    const shared = {
      handle: vm.handle(),
      control: new SharedArrayBuffer(4),
      areas: areas.map((at) => vm.guestBase + at),
      reads: READS,
    };
    const [writer, reader] = await Promise.all([
      start({ ...shared, role: 'account' }),
      start({ ...shared, role: 'read' }),
    ]);
    expect(reader.torn).toEqual([]);
    expect(reader.stuck).toBe(0);
    expect(reader.accepted).toBeGreaterThanOrEqual(READS * places.length);
    expect(writer.transitions).toBeGreaterThanOrEqual(places.length);
    for (let i = 0; i < places.length; i++) {
      const { entryTime, times } = vm.vcpu(i).runstate();
      expect(BigInt.asUintN(64, times.running + times.runnable + times.blocked + times.offline)).toBe(entryTime);
    }
  });
});
