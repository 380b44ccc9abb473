// One thread accounts transitions, another reads the guest's copies of them as a guest does.

import { Worker } from 'node:worker_threads';
import { CACHE_LINE } from '../../src/abi/region.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, type Vm } from '../../src/index.ts';
import { makeVm } from '../support.ts';
import type { RunstateOutcome, RunstatePart } from '../workers/runstate.ts';

const FILE = new URL('../../dist/test/workers/runstate.js', import.meta.url);

function start(data: RunstatePart): Promise<RunstateOutcome> {
  const worker = new Worker(FILE, { workerData: data });
  return new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', () => reject(new Error(`the thread that should ${data.role} ended without a word`)));
  });
}

/** At every byte of a line and across a page edge: `reads` accepted reads each. */
export async function readRunstates(
  longMode: boolean,
  reads: number,
): Promise<{ vm: Vm; places: number; writer: RunstateOutcome; reader: RunstateOutcome }> {
  const size = longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
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
    reads,
  };
  const [writer, reader] = await Promise.all([
    start({ ...shared, role: 'account' }),
    start({ ...shared, role: 'read' }),
  ]);
  return { vm, places: places.length, writer, reader };
}

/** The vCPUs whose times do not add up to the time of entry. */
export function unbalanced(vm: Vm): number[] {
  return Array.from({ length: vm.vcpus }, (_, i) => i).filter((i) => {
    const { entryTime, times } = vm.vcpu(i).runstate();
    return BigInt.asUintN(64, times.running + times.runnable + times.blocked + times.offline) !== entryTime;
  });
}
