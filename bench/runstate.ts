// A change of runstate: accounted on our side, written to the guest's copy under the update marker.

import { RUNSTATE_ENTRY_TIME_LONG, RUNSTATE_TIMES_LONG } from '../src/abi/runstate.ts';
import { PAGE_SIZE } from '../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../src/abi/vcpu_info.ts';
import { gpa, type RunstateName, type Vcpu } from '../src/index.ts';
import { makeOne } from './guest.ts';
import { Native } from './native.ts';
import { type Report, rowsOf, type Setting } from './report.ts';
import { FULL, fresh, type Loop, measureRounds, QUICK, type Variant } from './rounds.ts';

const CHANGES = 1024;
const NATIVE = 'native C';

/** The guest's copy: in the page of the vcpu_info, behind it. */
const AREA = PAGE_SIZE + VCPU_INFO_SIZE;

/** Time goes on from run to run: the engine, as Xen, expects that. */
function engineLoop(given: Vcpu): Loop {
  const vcpu = given;
  const states: RunstateName[] = ['running', 'runnable', 'blocked', 'offline'];
  let now = 0;
  return (from, to) => {
    for (let i = from; i < to; i++) {
      now += 10;
      vcpu.enterRunstate(states[i & 3] as RunstateName, now);
    }
    return to - from;
  };
}

/** BigInt words, as the 64-bit fields suggest. */
function bigintLoop(shared: BigInt64Array, at: number, entryAt: number, timesAt: number): Loop {
  const words = shared;
  const entry = (at + entryAt) >> 3;
  const times = (at + timesAt) >> 3;
  let state = 3;
  let now = 0n;
  return (from, to) => {
    for (let i = from; i < to; i++) {
      now += 10n;
      const since = Atomics.load(words, entry);
      Atomics.store(words, entry, now | (1n << 63n));
      Atomics.store(words, times + state, Atomics.load(words, times + state) + (now - (since & ((1n << 63n) - 1n))));
      state = i & 3;
      Atomics.store(words, entry, now);
    }
    return to - from;
  };
}

export function measure(setting: Setting): Report {
  const guest = makeOne(setting.shared);
  const { vm } = guest;
  vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(AREA) });
  vm.setAttr({ type: 'runstate_update_flag', enabled: true });
  const of = (name: string, run: () => number): Variant => ({ name, events: CHANGES, run, alone: true });
  const words = new BigInt64Array(vm.memory.buffer);
  const place = vm.guestBase + AREA;
  const list = new Int32Array(CHANGES);
  const noReset = (): void => {};
  const figures = measureRounds(
    [
      of('vcpu.enterRunstate', fresh(CHANGES, engineLoop, vm.vcpu(0))),
      of(
        'TypeScript Atomics on BigInt64Array',
        fresh(CHANGES, bigintLoop, words, place, RUNSTATE_ENTRY_TIME_LONG, RUNSTATE_TIMES_LONG),
      ),
      ...new Native(setting.native)
        .variant(NATIVE, 'runstate', [{ guest, vcpu: 0, out: place }], list, CHANGES, noReset)
        .map((variant) => ({ ...variant, alone: true })),
    ],
    setting.quick ? QUICK : FULL,
  );
  const workload = setting.shared ? 'shared memory' : 'single agent';
  return { rows: rowsOf('runstate', workload, figures, NATIVE, 'vcpu.enterRunstate'), claims: [] };
}
