// One test for each fault that fuzzing has found.

import { describe, expect, test } from 'vitest';
import { VCPU_INFO_GPC } from '../../src/abi/region.ts';
import { gpa, VirtualClock, type Vm } from '../../src/index.ts';
import { describeIoctl } from '../../src/vm/wire/ioctl_describe.ts';
import { cast, refusal, stateBytes } from '../spec/evidence.ts';
import { KINDS, makeVm } from '../support.ts';
import { replay } from './sequence.ts';
import type { Call } from './value.ts';

/** What `|` and `>>>` throw a TypeError for, or call code of the caller's. */
const NO_NUMBERS: readonly { name: string; value: unknown }[] = [
  { name: 'a bigint', value: 5n },
  { name: 'a symbol', value: Symbol('5') },
  { name: 'an object with a value', value: { valueOf: () => 5 } },
];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (): Vm => makeVm({ longMode, shared, agents: 1 });

  test.each(NO_NUMBERS)('R9 sends do not throw for $name, and nothing is sent', ({ value }) => {
    const vm = make();
    const before = stateBytes(vm);
    expect(vm.send(cast(value))).toBe(-22);
    expect(vm.mask(cast(value))).toBe(-22);
    expect(vm.unmask(cast(value))).toBe(-22);
    expect(vm.sendMany([1, 2], cast(value))).toBe(-22);
    expect(Buffer.compare(stateBytes(vm), before)).toBe(0);
    expect(vm.sendMany([7, cast<number>(value)])).toBe(1);
    expect(vm.batchCounts).toEqual({ delivered: 1, coalesced: 0, masked: 0, bad: 1 });
  });

  test.each(NO_NUMBERS)('R9 a descriptor or a request that is $name is refused, and shown', ({ value }) => {
    const vm = make();
    expect(refusal(() => vm.eventfds.get(cast(value)))).toBe('EBADF');
    expect(refusal(() => vm.eventfds.bindIrq(cast(value), 0))).toBe('EBADF');
    expect(vm.ioctl(cast(value), new Uint8Array(72))).toBe(-25);
    expect(vm.vcpu(0).ioctl(cast(value), new Uint8Array(72))).toBe(-25);
    expect(describeIoctl(cast(value), cast('x'))).toContain('not known');
  });

  test('R3 R4 a `during` that ends the hold, or the view, restores nothing and saves nothing', () => {
    const vm = make();
    const saved = vm.snapshot();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(5 * 4096) });
    const end = (): void => vm.invalidateEnd();
    for (const call of [
      () => vm.restore(saved, { during: end }),
      () => vm.snapshot({ during: end }),
      () => vm.snapshotState({ during: end }),
    ]) {
      expect(refusal(call)).toBe('EINVAL');
      expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(5 * 4096);
      expect(vm.send(9)).toBeGreaterThanOrEqual(0);
    }
    expect(refusal(() => vm.restore(saved, { during: () => vm.close() }))).toBe('EBADF');
    expect(vm.detached).toBe(true);
    expect(vm.gpcs.gpaOf(vm.vcpu(0).line + VCPU_INFO_GPC)).toBe(5 * 4096);
  });
});

test('R3 a restore whose `during` registers something elsewhere maps nothing but what is registered', () => {
  const kind = { shared: false, longMode: true, table: true, logs: false, ring: false, trace: true };
  const calls: Call[] = [
    ['setVcpu', 0, 0, { type: 'vcpu_info', gpa: 0 }],
    ['snapshot', 0, false, null],
    ['restore', 0, 0, [], 0, false, [['furnish']], '$undefined'],
  ];
  expect(replay({ kind, calls }).finding).toBe(null);
});

test.each(KINDS)(
  'R13 a wall clock that was owed to a shared_info that is gone: saved, restored and saved again it is the same ($layout, shared $shared)',
  ({ longMode, shared }) => {
    const clock = new VirtualClock(0n, 10n ** 18n);
    const vm = makeVm({ longMode, shared, clock });
    const early = vm.snapshot();
    clock.advance(5n);
    // The guest's zero has moved in the time of day, and no vCPU has written it yet.
    vm.restore(early);
    expect(vm.snapshotState().clock.wallClockOwed).toBe(true);
    vm.setAttr({ type: 'shared_info', gfn: null });
    const saved = vm.snapshot();
    vm.restore(saved);
    expect(Buffer.compare(vm.snapshot(), saved)).toBe(0);
  },
);
