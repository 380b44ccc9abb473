// Which clock a timer goes by: the guest's own record while the TSC is the clock, else kvmclock. [KX-TMR-05, KF-52]

import { describe, expect, test } from 'vitest';
import { PVCLOCK_MUL, PVCLOCK_SHIFT, PVCLOCK_SYSTEM_TIME, PVCLOCK_VERSION } from '../../src/abi/pvclock.ts';
import { VCPU_INFO_TIME } from '../../src/abi/vcpu_info.ts';
import { attachVm, type Clock, gpa, type Vcpu, VirtualClock } from '../../src/index.ts';
import { updateClock } from '../../src/vm/time/guest_clock.ts';
import { startTimer } from '../../src/vm/time/timer.ts';
import { drained, fields, KINDS, makeVm, VCPU_INFO_GPA } from '../support.ts';
import { dropMappings, unregister } from './evidence.ts';
import { BOOT, DAY, IDLE, MS, makeTimed, PORT, SECOND, setTimer, type Timed, timerState } from './timers.ts';

const TIME_INFO_GPA = 5 * 4096;
const IN_VCPU_INFO = VCPU_INFO_GPA + VCPU_INFO_TIME;

/** How far the guest's own record is set off from kvmclock, so that it shows which of them was read. */
const AHEAD = 7n * SECOND;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  /** A guest with both records, each ahead of kvmclock by something else. */
  function make({ tscHz = 2_400_000_000 as number | null, vcpus = 1 } = {}): Timed {
    const timed = makeTimed({ longMode, shared, vcpus, ...(tscHz === null ? {} : { tscHz }) });
    const { vcpu, vm } = timed;
    vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    vm.kvmclock.resample();
    updateClock(vcpu);
    move(vcpu, IN_VCPU_INFO, AHEAD);
    move(vcpu, TIME_INFO_GPA, 2n * AHEAD);
    return timed;
  }

  /** The guest's record says that it is later by `by`. */
  function move({ vm }: Vcpu, at: number, by: bigint): void {
    const time = fields(vm).getBigUint64(at + PVCLOCK_SYSTEM_TIME, true);
    fields(vm).setBigUint64(at + PVCLOCK_SYSTEM_TIME, time + by, true);
  }

  /** How far the clock that a timer is set by is ahead of kvmclock, to the nearest ms. */
  function ahead({ vm, vcpu, clock }: Timed): bigint {
    const expires = vm.kvmclock.now() + 100n * SECOND;
    startTimer(vcpu, expires, false);
    const { deadline } = timerState(vcpu);
    return ((100n * SECOND - (deadline - clock.now()) + MS / 2n) / MS) * MS;
  }

  test('KX-TMR-05 vcpu_info’s record while it is registered', () => {
    expect(ahead(make())).toBe(AHEAD);
  });

  test('KX-TMR-05 else that of vcpu_time_info', () => {
    const timed = make();
    unregister(timed.vm);
    expect(ahead(timed)).toBe(2n * AHEAD);
  });

  test('KX-TMR-05 neither: kvmclock', () => {
    const timed = make();
    unregister(timed.vm);
    timed.vcpu.setAttr({ type: 'vcpu_time_info', gpa: null });
    expect(ahead(timed)).toBe(0n);
  });

  test('KX-TMR-05 no TSC, or TSCs that differ: kvmclock', () => {
    expect(ahead(make({ tscHz: null }))).toBe(0n);
    const timed = make({ vcpus: 2 });
    timed.vm.vcpu(1).setTsc({ offset: 1n });
    timed.vm.kvmclock.resample();
    expect(ahead(timed)).toBe(0n);
  });

  test('KX-TMR-05 before the vCPU has a scale no record of the guest counts', () => {
    const timed = makeTimed({ longMode, shared, tscHz: 1_000_000_000 });
    expect(timed.vm.kvmclock.master).toBe(true);
    fields(timed.vm).setUint32(IN_VCPU_INFO + PVCLOCK_VERSION, 2, true);
    move(timed.vcpu, IN_VCPU_INFO, AHEAD);
    expect(ahead(timed)).toBe(0n);
  });

  test('KX-TMR-05 KX-TMR-26 inside a bracket of the caller, which stays open', () => {
    const timed = make();
    timed.vm.enter();
    expect(ahead(timed)).toBe(AHEAD);
    timed.vm.leave();
  });

  test('KX-TMR-05 KF-55 a guest’s TSC with a speed and an offset of its own', () => {
    const { vm, vcpu, clock } = makeTimed({ longMode, shared, tscHz: 2_400_000_000 });
    vcpu.setTsc({ hz: 1_234_567_890, offset: -77_000_000_007n });
    vm.kvmclock.resample();
    updateClock(vcpu);
    for (let i = 0; i < 10; i++) {
      clock.advance(DAY);
      const expires = vcpu.readTime(vcpu.readTsc()) + SECOND;
      startTimer(vcpu, expires, false);
      expect(timerState(vcpu)).toEqual({ ...IDLE, expires, deadline: clock.now() + SECOND });
    }
  });

  test('KX-TMR-05 an agent that cannot read the TSC: kvmclock', () => {
    const { vm, clock } = make();
    const other = attachVm(vm.handle(), { clock: new VirtualClock(clock.now()) });
    expect(ahead({ vm: other, vcpu: other.vcpu(0), clock })).toBe(0n);
  });

  test.each([
    ['mul', (view: DataView) => view.setUint32(IN_VCPU_INFO + PVCLOCK_MUL, 1, true)],
    ['shift', (view: DataView) => view.setInt8(IN_VCPU_INFO + PVCLOCK_SHIFT, 63)],
    ['version (0: never written)', (view: DataView) => view.setUint32(IN_VCPU_INFO + PVCLOCK_VERSION, 0, true)],
    ['version (odd for ever)', (view: DataView) => view.setUint32(IN_VCPU_INFO + PVCLOCK_VERSION, 7, true)],
  ])('KX-TMR-05 KF-47 a record whose %s the guest has spoilt is passed over, for the next one', (_name, spoil) => {
    const timed = make();
    spoil(fields(timed.vm));
    expect(ahead(timed)).toBe(2n * AHEAD);
    fields(timed.vm).setUint32(TIME_INFO_GPA + PVCLOCK_MUL, 1, true);
    expect(ahead(timed)).toBe(0n);
  });

  test('KX-TMR-05 a record that is not mapped is mapped to set a timer, and passed over where it expires', () => {
    const timed = make();
    const { vm, vcpu, clock } = timed;
    dropMappings(vm);
    expect(ahead(timed)).toBe(AHEAD);
    // The guest's own clock says that it is due: 7 s before kvmclock does.
    clock.advance(100n * SECOND - AHEAD);
    dropMappings(vm);
    expect(vm.tick()).toBe(0);
    expect(timerState(vcpu).pending).toBe(0);
    expect((vm.nextDeadline() ?? 0n) - clock.now()).toBeGreaterThan(AHEAD - MS);
  });

  test('KX-TMR-05 a page that cannot be reached: the next record', () => {
    const timed = make();
    timed.vm.memslots.delete(0);
    expect(ahead(timed)).toBe(0n);
  });

  test('KX-TMR-05 KF-52 never early by the guest’s own clock: a deadline that it has not reached is put off', () => {
    const { vm, vcpu, clock } = make();
    const own = (): bigint => vcpu.readTime(vcpu.readTsc());
    const expires = own() + 10n * MS;
    startTimer(vcpu, expires, false);
    // The guest sets its clock back.
    move(vcpu, IN_VCPU_INFO, -3n * MS);
    clock.advance(10n * MS);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
    expect(timerState(vcpu).expires).toBe(expires);
    clock.advance((vm.nextDeadline() ?? 0n) - clock.now());
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
    expect(own()).toBeGreaterThanOrEqual(expires);
  });

  test('KX-TMR-03 KF-52 kvmclock set back: not early; and a timer is not re-based by mapping calls', () => {
    const { vm, vcpu, clock } = makeTimed({ longMode, shared });
    setTimer(vcpu, 2n * SECOND);
    const set = timerState(vcpu);
    vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) });
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    dropMappings(vm);
    expect(timerState(vcpu)).toEqual(set);
    vm.kvmclock.set(SECOND - 500n * MS);
    clock.advance(SECOND);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
    expect(vm.nextDeadline()).toBe(clock.now() + 500n * MS);
    clock.advance(500n * MS);
    expect([vm.tick(), drained(vm), vm.kvmclock.now()]).toEqual([1, [PORT], 2n * SECOND]);
  });

  // The guest's scale is rounded to 1 in 2^31, by which a span on its clock is not one on the host's.
  test.each([2_400_000_000, 2_893_299_123, 999_999_937])(
    'KF-52 30 days at %i Hz: every timer comes when the guest’s own clock says so, late by 1 in 2^31 of its span at most',
    (tscHz) => {
      const { vm, vcpu, clock } = makeTimed({ longMode, shared, tscHz });
      vm.kvmclock.resample();
      updateClock(vcpu);
      const own = (): bigint => vcpu.readTime(vcpu.readTsc());
      for (const span of [1n, 1000n, MS, SECOND, DAY - SECOND - MS, DAY, 28n * DAY]) {
        const expires = own() + span;
        startTimer(vcpu, expires, false);
        for (let ticks = 0; timerState(vcpu).expires !== 0n; ticks++) {
          expect(ticks).toBeLessThan(10);
          clock.advance((vm.nextDeadline() ?? 0n) - clock.now());
          vm.tick();
        }
        expect(drained(vm)).toEqual([PORT]);
        expect(own()).toBeGreaterThanOrEqual(expires);
        expect(own() - expires, `${span} ns`).toBeLessThanOrEqual((span >> 31n) + 1n);
      }
    },
  );

  test('KX-TMR-03 KF-52 a clock whose TSC is read later than its time: the timer is not due before it can come', () => {
    let [now, gap] = [BOOT, 0n];
    const tsc = (): bigint => {
      now += gap;
      return now;
    };
    const clock: Clock = { now: () => now, realtime: () => now, tsc, tscHz: 1_000_000_000 };
    const vm = makeVm({ longMode, shared, clock });
    const vcpu = vm.vcpu(0);
    setTimer(vcpu, 0n);
    gap = 5000n;
    startTimer(vcpu, vm.kvmclock.now() + MS, false);
    gap = 0n;
    now = vm.nextDeadline() ?? 0n;
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
  });

  test('KX-TMR-03 KF-52 a clock that reads one time after the other never makes a timer early', () => {
    // Every reading takes a microsecond.
    let now = BOOT;
    const read = (): bigint => (now += 1000n);
    const clock: Clock = { now: read, realtime: read, tsc: read, tscHz: 1_000_000_000 };
    const vm = makeVm({ longMode, shared, clock });
    const vcpu = vm.vcpu(0);
    setTimer(vcpu, 0n);
    updateClock(vcpu);
    for (let i = 0; i < 20; i++) {
      const expires = vm.kvmclock.now() + 100_000n;
      startTimer(vcpu, expires, false);
      while (vm.tick() === 0) expect(drained(vm)).toEqual([]);
      expect(vm.kvmclock.now()).toBeGreaterThanOrEqual(expires);
      expect(drained(vm)).toEqual([PORT]);
    }
  });
});
