// The single-shot timer: set, stopped, expired, deferred, saved; and who may do what at the same time. [kvm-xen 8.3]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { PRIORITY_2LEVEL } from '../../src/abi/attribute.ts';
import { REQUEST_UNBLOCK, VCPU_TIMER_DEADLINE, VCPU_TIMER_PORT } from '../../src/abi/region.ts';
import { attachVm, type Vcpu, VirtualClock, type Vm } from '../../src/index.ts';
import { injectTimer, startTimer, stopTimer, timerEnabled, timerPending } from '../../src/vm/time/timer.ts';
import { drained, KINDS, makeVm, maskBit, pendingBit, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { cast, dropMappings, invalidate, refuses, register, unregister } from './evidence.ts';
import {
  BOOT,
  DAY,
  IDLE,
  MS,
  makeTimed,
  PORT,
  requestsOf,
  SECOND,
  setTimer,
  startIn,
  type Timed,
  timerState,
  unblocked,
  YEAR,
} from './timers.ts';
import { named, outside } from './values.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** One more than the largest times that are read as being to come, and the largest u64. */
const HALF = 1n << 63n;
const MAX = (1n << 64n) - 1n;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options = {}): Timed => makeTimed({ longMode, shared, ...options });

  /** An expiry that cannot be delivered where it comes up: shared_info is not mapped. */
  function defer({ vm, vcpu, clock }: Timed): bigint {
    const expires = startIn(vcpu, MS);
    clock.advance(MS);
    invalidate(vm, SHARED_INFO_GPA);
    vm.tick();
    vm.invalidateEnd();
    return expires;
  }

  // ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-01 off until it gets a port; port, priority and no expiry are read back', () => {
    const { vm, vcpu } = make({ port: 0 });
    expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: 0, priority: PRIORITY_2LEVEL, expires: 0n });
    expect(timerEnabled(vcpu)).toBe(false);
    setTimer(vcpu, 0n);
    expect(timerEnabled(vcpu)).toBe(true);
    setTimer(vcpu, 0n, 0);
    expect(timerEnabled(vcpu)).toBe(false);
    expect([timerState(vcpu), vm.nextDeadline()]).toEqual([IDLE, null]);
  });

  test('KX-TMR-01 one per vCPU: another one has another port, another expiry, another event', () => {
    const { vm, vcpu, clock } = make({ vcpus: 3 });
    setTimer(vm.vcpu(2), 3n * SECOND, 14);
    startIn(vcpu, MS);
    expect(vm.vcpu(1).getAttr('timer')).toEqual({ type: 'timer', port: 0, priority: -1, expires: 0n });
    expect(vm.vcpu(2).getAttr('timer')).toEqual({ type: 'timer', port: 14, priority: -1, expires: 3n * SECOND });
    clock.advance(MS);
    expect(vm.tick()).toBe(1);
    expect([pendingBit(vm, PORT), pendingBit(vm, 14)]).toEqual([true, false]);
    clock.advance(SECOND * 2n);
    expect(vm.tick()).toBe(1);
    expect(drained(vm, 2)).toContain(14);
  });

  test('KX-TMR-01 KX-TMR-03 the expiry is absolute, on the guest’s clock; the deadline is on the host’s', () => {
    const { vm, vcpu, clock } = make();
    expect(vm.kvmclock.now()).toBe(SECOND);
    startTimer(vcpu, 5n * SECOND, false);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires: 5n * SECOND, deadline: BOOT + 5n * SECOND });
    expect(vm.nextDeadline()).toBe(BOOT + 5n * SECOND);
    clock.advance(4n * SECOND - 1n);
    expect([vm.tick(), pendingBit(vm, PORT)]).toEqual([0, false]);
    clock.advance(1n);
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
    expect([timerState(vcpu), vm.nextDeadline(), vm.tick()]).toEqual([IDLE, null, 0]);
  });

  // ── the attribute ──────────────────────────────────────────────────────────────────────────────────────────────

  test('S-07 port 13 without an expiry: it is there, and nothing is set', () => {
    const { vm, vcpu } = make({ port: 0 });
    setTimer(vcpu, 0n);
    expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: 13, priority: PRIORITY_2LEVEL, expires: 0n });
    expect(vm.nextDeadline()).toBe(null);
    expect(pendingBit(vm, 13)).toBe(false);
  });

  test('KX-TMR-02 a port with another priority: EINVAL, and the timer that is set stays', () => {
    const { vm, vcpu } = make();
    setTimer(vcpu, 5n * SECOND);
    for (const priority of [
      0,
      1,
      7,
      -2,
      0xfffffffe,
      2 ** 32,
      1.5,
      Number.NaN,
      cast<number>('-1'),
      cast<number>(null),
    ]) {
      const attr = { type: 'timer', port: 14, priority, expires: 6n * SECOND } as const;
      refuses(vm, () => vcpu.setAttr(attr), 'EINVAL', 'priority', String(priority), -1);
    }
    for (const priority of [undefined, -1, 0xffffffff]) {
      vcpu.setAttr(cast({ type: 'timer', port: 14, priority, expires: 6n * SECOND }));
      expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: 14, priority: -1, expires: 6n * SECOND });
    }
  });

  test('KX-TMR-02 port 0 ends it, whatever the priority and the expiry', () => {
    const { vm, vcpu } = make();
    for (const priority of [0, 5, -1]) {
      setTimer(vcpu, 5n * SECOND);
      vcpu.setAttr({ type: 'timer', port: 0, priority, expires: 9n * SECOND });
      expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: 0, priority: -1, expires: 0n });
      expect([timerState(vcpu), vm.nextDeadline()]).toEqual([IDLE, null]);
    }
  });

  test.each(named(outside(0, 2 ** 32 - 1, [])))(
    'KX-TMR-02 the port $name is none: EINVAL, and nothing changed',
    ({ value }) => {
      const { vm, vcpu } = make();
      setTimer(vcpu, 5n * SECOND);
      refuses(vm, () => vcpu.setAttr({ type: 'timer', port: cast(value), expires: 0n }), 'EINVAL', 'port');
    },
  );

  test.each([-1n, 1n << 64n, -1, 1.5, Number.NaN, '5', null, undefined, {}])(
    'KX-TMR-02 the expiry %s is no time: EINVAL, and nothing changed',
    (expires) => {
      const { vm, vcpu } = make();
      setTimer(vcpu, 5n * SECOND);
      refuses(vm, () => vcpu.setAttr({ type: 'timer', port: PORT, expires: cast(expires) }), 'EINVAL', 'expiry');
    },
  );

  test('KX-TMR-02 KX-TMR-10 no range check: a port that the guest does not have is kept, and its expiry comes to nothing', () => {
    const { vm, vcpu, clock } = make();
    for (const port of [maxPorts, 4096, 2 ** 31, 2 ** 32 - 1]) {
      setTimer(vcpu, 0n, port);
      expect(vcpu.getAttr('timer').port).toBe(port);
      startIn(vcpu, MS);
      clock.advance(MS);
      expect([vm.tick(), timerState(vcpu), drained(vm)]).toEqual([1, IDLE, []]);
      expect(unblocked(vcpu)).toBe(false);
    }
  });

  test('KX-TMR-02 an expiry of 0 stops the timer and keeps the port', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    setTimer(vcpu, 0n, 14);
    expect([vcpu.getAttr('timer').port, timerState(vcpu)]).toEqual([14, IDLE]);
    clock.advance(YEAR);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
  });

  test('KX-TMR-02 KX-TMR-03 the attribute is taken as it is: without the workaround', () => {
    const { vm, vcpu } = make();
    setTimer(vcpu, (1n << 50n) + 5n * SECOND);
    expect(timerState(vcpu).expires).toBe((1n << 50n) + 5n * SECOND);
    expect(vm.nextDeadline()).toBe(BOOT + (1n << 50n) + 5n * SECOND);
    setTimer(vcpu, MAX);
    expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
  });

  test('KX-TMR-02 set by the owner only', () => {
    const { vm } = make();
    const other = attachVm(vm.handle(), { clock: vm.clock });
    refuses(vm, () => setTimer(other.vcpu(0), 0n), 'EPERM', 'owner');
    expect(other.vcpu(0).getAttr('timer').port).toBe(PORT);
  });

  // ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────

  const NOW = SECOND;
  test.each([
    ['in a nanosecond', NOW + 1n, 1n],
    ['in a second', NOW + SECOND, SECOND],
    ['one short of 2^50 from now', NOW + (1n << 50n) - 1n, (1n << 50n) - 1n],
    ['2^50 from now', NOW + (1n << 50n), 1n << 50n],
    ['the last that is not negative', HALF - 1n, HALF - 1n - NOW],
    ['negative, but to come', HALF, HALF - NOW],
    ['2^63-1 from now', NOW + HALF - 1n, HALF - 1n],
  ])('KX-TMR-03 %s, without the workaround: set as it is', (_name, expires, delta) => {
    const { vm, vcpu, clock } = make();
    expect(startTimer(vcpu, expires, false)).toBe(true);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, deadline: clock.now() + delta });
    expect(pendingBit(vm, PORT)).toBe(false);
  });

  test.each([
    ['now', NOW],
    ['a nanosecond ago', NOW - 1n],
    ['0', 0n],
    ['1', 1n],
    ['2^63 from now', NOW + HALF],
    ['-1', MAX],
    ['the guest’s clock less 2^63 - 1', NOW + HALF + 1n],
  ])('KX-TMR-03 KF-32 KF-57 %s, without the workaround: delivered before the call returns', (_name, expires) => {
    const { vm, vcpu } = make();
    startIn(vcpu, MS);
    expect(startTimer(vcpu, expires, false)).toBe(false);
    expect([timerState(vcpu), vm.nextDeadline()]).toEqual([IDLE, null]);
    expect(drained(vm)).toEqual([PORT]);
  });

  test.each([
    ['in a nanosecond', NOW + 1n, 1n],
    ['one short of 2^50 from now', NOW + (1n << 50n) - 1n, (1n << 50n) - 1n],
  ])('KX-TMR-03 %s, with the workaround: set as it is', (_name, expires, delta) => {
    const { vcpu, clock } = make();
    expect(startTimer(vcpu, expires, true)).toBe(true);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, deadline: clock.now() + delta });
  });

  test.each([
    ['2^50 from now', NOW + (1n << 50n)],
    ['2^63-1', HALF - 1n],
    ['2^63', HALF],
    ['2^63 from now', NOW + HALF],
    ['the guest’s clock less 2^63 - 1', NOW + HALF + 1n],
  ])('KX-TMR-03 %s, with the workaround: 100 ms from now', (_name, expires) => {
    const { vcpu, clock } = make();
    expect(startTimer(vcpu, expires, true)).toBe(true);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires: NOW + 100n * MS, deadline: clock.now() + 100n * MS });
  });

  test('KX-TMR-03 the past is the past with the workaround, too', () => {
    const { vm, vcpu } = make();
    for (const expires of [NOW, NOW - 1n, 1n]) {
      expect(startTimer(vcpu, expires, true)).toBe(false);
      expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
    }
  });

  test.each([
    ['-1', MAX],
    ['now + 2^50 + 1', NOW + (1n << 50n) + 1n],
  ])('X-23 set_timer_op with %s: expires about now + 100 ms', (_name, expires) => {
    const { vm, vcpu, clock } = make();
    startTimer(vcpu, expires, true);
    expect(vcpu.getAttr('timer').expires).toBe(NOW + 100n * MS);
    clock.advance(100n * MS - 1n);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
    clock.advance(1n);
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
  });

  test('KX-TMR-03 a timer that is set is replaced: the old expiry never comes', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    const later = startIn(vcpu, 3n * MS);
    expect(timerState(vcpu).expires).toBe(later);
    clock.advance(2n * MS);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
    const sooner = startIn(vcpu, 5n);
    expect(vm.nextDeadline()).toBe(clock.now() + 5n);
    clock.advance(5n);
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
    expect(sooner).toBeLessThan(later);
    clock.advance(YEAR);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
  });

  test('KX-TMR-03 an expiry that waits to be injected is forgotten when the timer is set anew', () => {
    const timed = make();
    const { vm, vcpu, clock } = timed;
    defer(timed);
    expect(timerState(vcpu).pending).toBe(1);
    const expires = startIn(vcpu, MS);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, deadline: clock.now() + MS });
    injectTimer(vcpu);
    expect([drained(vm), timerState(vcpu).expires]).toEqual([[], expires]);
  });

  test('KX-TMR-03 a deadline beyond the host’s clock is kept within it, and is not reached', () => {
    const clock = new VirtualClock(MAX - SECOND);
    const vm = makeVm({ longMode, shared, clock });
    setTimer(vm.vcpu(0), 5n * SECOND);
    expect(timerState(vm.vcpu(0))).toEqual({ ...IDLE, expires: 5n * SECOND, deadline: MAX });
    clock.advance(SECOND - 1n);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
  });

  // ── stop ───────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-04 KX-HCL-51 stopped: no expiry is left, the port is', () => {
    const { vm, vcpu, clock } = make();
    expect(stopTimer(vcpu)).toBe(false);
    startIn(vcpu, MS);
    expect(stopTimer(vcpu)).toBe(true);
    expect(stopTimer(vcpu)).toBe(false);
    expect([timerState(vcpu), vm.nextDeadline()]).toEqual([IDLE, null]);
    clock.advance(YEAR);
    expect([vm.tick(), drained(vm)]).toEqual([0, []]);
    expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: PORT, priority: -1, expires: 0n });
  });

  test('KX-TMR-04 stopped while an expiry waits to be injected: it is not', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    defer(timed);
    stopTimer(vcpu);
    expect(timerState(vcpu)).toEqual(IDLE);
    injectTimer(vcpu);
    expect(drained(vm)).toEqual([]);
  });

  // ── expiry ─────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-10 the event is for this vCPU: its own vcpu_info gets the upcall', () => {
    const { vm, clock } = make({ vcpus: 2 });
    setTimer(vm.vcpu(1), 0n, 14);
    startIn(vm.vcpu(1), MS);
    clock.advance(MS);
    vm.tick();
    expect([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]).toEqual([false, true]);
  });

  test('KX-TMR-10 pending already: coalesced, and the timer is over', () => {
    const { vm, vcpu, clock } = make();
    vm.send(PORT);
    startIn(vcpu, MS);
    clock.advance(MS);
    expect([vm.tick(), timerState(vcpu), drained(vm)]).toEqual([1, IDLE, [PORT]]);
  });

  test('KX-TMR-10 masked: the event stays pending, and the timer is over', () => {
    const { vm, vcpu, clock } = make();
    vm.mask(PORT);
    startIn(vcpu, MS);
    clock.advance(MS);
    expect([vm.tick(), timerState(vcpu)]).toEqual([1, IDLE]);
    expect([pendingBit(vm, PORT), maskBit(vm, PORT), drained(vm)]).toEqual([true, true, []]);
    expect(vm.unmask(PORT)).toBe(1);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('KX-TMR-10 shared_info is not mapped: the expiry waits, and its vCPU is asked to look', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    const expires = defer(timed);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, pending: 1 });
    expect(requestsOf(vcpu) & REQUEST_UNBLOCK).toBe(REQUEST_UNBLOCK);
    expect([vm.nextDeadline(), vm.tick(), drained(vm)]).toEqual([null, 0, []]);
  });

  test('KX-TMR-10 nothing is mapped or refreshed where the expiry comes up', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    clock.advance(MS);
    dropMappings(vm);
    const refresh = vi.spyOn(vm.gpcs, 'refresh');
    expect(vm.tick()).toBe(1);
    expect(refresh).not.toHaveBeenCalled();
    expect(timerState(vcpu).pending).toBe(1);
  });

  test('KX-TMR-10 a start that is due waits in the same way', () => {
    const { vm, vcpu } = make();
    dropMappings(vm);
    startTimer(vcpu, 5n, false);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires: 5n, pending: 1 });
    expect(unblocked(vcpu)).toBe(true);
  });

  test('KX-TMR-10 while one expiry waits another one does nothing', () => {
    const timed = make();
    const { vm, vcpu, clock } = timed;
    const expires = defer(timed);
    unblocked(vcpu);
    // As a restore of the records may leave it.
    vm.region.words.store64(vcpu.record + VCPU_TIMER_DEADLINE, clock.now());
    expect(vm.tick()).toBe(1);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, pending: 1 });
    expect([drained(vm), unblocked(vcpu)]).toEqual([[], false]);
  });

  // ── injection ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-20 the vCPU delivers what waits, mapping shared_info for it; once', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    defer(timed);
    injectTimer(vcpu);
    expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
    injectTimer(vcpu);
    expect(drained(vm)).toEqual([]);
  });

  test('KX-TMR-20 nothing waits: nothing is delivered, and a timer that is set stays', () => {
    const { vm, vcpu } = make();
    const expires = startIn(vcpu, MS);
    injectTimer(vcpu);
    expect([timerState(vcpu).expires, drained(vm)]).toEqual([expires, []]);
  });

  test.each([
    ['is not registered', (vm: Vm) => vm.setAttr({ type: 'shared_info', gfn: null })],
    ['is in no slot', (vm: Vm) => vm.memslots.delete(0)],
  ])('KX-TMR-20 the result is ignored: while shared_info %s the expiry is lost', (_name, takeAway) => {
    const timed = make();
    const { vm, vcpu } = timed;
    defer(timed);
    takeAway(vm);
    injectTimer(vcpu);
    expect(timerState(vcpu)).toEqual(IDLE);
  });

  test('KX-TMR-20 masked, or a port that the mode does not have: over as well', () => {
    const masked = make();
    masked.vm.mask(PORT);
    defer(masked);
    injectTimer(masked.vcpu);
    expect([timerState(masked.vcpu), pendingBit(masked.vm, PORT)]).toEqual([IDLE, true]);
    const high = make();
    setTimer(high.vcpu, 0n, maxPorts - 1);
    defer(high);
    high.vm.region.words.store(high.vcpu.record + VCPU_TIMER_PORT, maxPorts);
    injectTimer(high.vcpu);
    expect(timerState(high.vcpu)).toEqual(IDLE);
  });

  test('KX-TMR-20 KF-13 not mapped in time, because the page is just moving: it waits on and is not lost', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    const expires = defer(timed);
    unblocked(vcpu);
    invalidate(vm, SHARED_INFO_GPA);
    injectTimer(vcpu);
    expect(timerState(vcpu)).toEqual({ ...IDLE, expires, pending: 1 });
    expect(unblocked(vcpu)).toBe(true);
    vm.invalidateEnd();
    injectTimer(vcpu);
    expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
  });

  test('KX-TMR-21 noticed while the gate is open, hypercalls are intercepted and the timer has a port', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    vm.setConfig({ msr: 0x40000000, interceptHypercalls: true });
    expect(timerPending(vcpu)).toBe(false);
    startIn(vcpu, MS);
    expect(timerPending(vcpu)).toBe(false);
    defer(timed);
    expect(timerPending(vcpu)).toBe(true);
    vm.setConfig({ msr: 0x40000000 });
    expect(timerPending(vcpu)).toBe(false);
    vm.setConfig({ msr: 0, interceptHypercalls: true });
    expect(timerPending(vcpu)).toBe(false);
    vm.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true });
    expect(timerPending(vcpu)).toBe(true);
    vm.region.words.store(vcpu.record + VCPU_TIMER_PORT, 0);
    expect(timerPending(vcpu)).toBe(false);
    vm.region.words.store(vcpu.record + VCPU_TIMER_PORT, PORT);
    injectTimer(vcpu);
    expect(timerPending(vcpu)).toBe(false);
  });

  test('KX-TMR-21 without all that an expiry waits, and the attribute still shows it', () => {
    const timed = make();
    const expires = defer(timed);
    expect(timerPending(timed.vcpu)).toBe(false);
    expect(timerState(timed.vcpu)).toEqual({ ...IDLE, expires, pending: 1 });
    expect([timed.vcpu.getAttr('timer').expires, drained(timed.vm)]).toEqual([0n, [PORT]]);
  });

  test('KX-EVT-57 KX-TMR-20 the loop before the guest: UNBLOCK is taken, the shadow flushed, then the timer injected', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    vm.setConfig({ msr: 0x40000000, interceptHypercalls: true });
    unregister(vm);
    vm.send(100);
    defer(timed);
    register(vm, VCPU_INFO_GPA);
    const order: string[] = [];
    const { flushShadow, sendTo } = vm.kernel;
    vm.kernel = {
      ...vm.kernel,
      flushShadow: (...args) => {
        order.push(requestsOf(vcpu) & REQUEST_UNBLOCK ? 'asked, shadow' : 'shadow');
        return flushShadow(...args);
      },
      sendTo: (...args) => {
        order.push('timer');
        return sendTo(...args);
      },
    };
    vcpu.beforeEntry();
    expect(order[0]).toBe('shadow');
    expect(order).toContain('timer');
    expect(drained(vm)).toEqual([PORT, 100]);
    expect(timerState(vcpu)).toEqual(IDLE);
  });

  // ── save and restore ───────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-25 the expiry is reported, and the timer goes on with it unchanged', () => {
    const { vm, vcpu, clock } = make();
    const expires = startIn(vcpu, 10n * MS);
    const before = timerState(vcpu);
    for (let i = 0; i < 5; i++) {
      clock.advance(MS);
      expect(vcpu.getAttr('timer')).toEqual({ type: 'timer', port: PORT, priority: -1, expires });
      expect([timerState(vcpu), vm.nextDeadline()]).toEqual([before, before.deadline]);
    }
    clock.advance(5n * MS - 1n);
    expect(vm.tick()).toBe(0);
    clock.advance(1n);
    expect([vm.tick(), drained(vm), vm.tick()]).toEqual([1, [PORT], 0]);
  });

  test('KX-TMR-25 due, but nobody has ticked: reported, and it comes with the next tick', () => {
    const { vm, vcpu, clock } = make();
    const expires = startIn(vcpu, MS);
    clock.advance(SECOND);
    expect([vcpu.getAttr('timer').expires, drained(vm)]).toEqual([expires, []]);
    expect([vm.tick(), drained(vm)]).toEqual([1, [PORT]]);
    expect(vcpu.getAttr('timer').expires).toBe(0n);
  });

  test('KX-TMR-25 an expiry that waits to be injected is, and is not reported: the event is in shared_info', () => {
    const timed = make();
    defer(timed);
    expect(timed.vcpu.getAttr('timer')).toEqual({ type: 'timer', port: PORT, priority: -1, expires: 0n });
    expect([timerState(timed.vcpu), drained(timed.vm)]).toEqual([IDLE, [PORT]]);
  });

  test('KX-TMR-25 without an expiry nothing is injected: a timer set to 0 waits for the vCPU', () => {
    const { vm, vcpu } = make();
    dropMappings(vm);
    startTimer(vcpu, 0n, false);
    expect(vcpu.getAttr('timer').expires).toBe(0n);
    expect([timerState(vcpu), drained(vm)]).toEqual([{ ...IDLE, pending: 1 }, []]);
    injectTimer(vcpu);
    expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
  });

  test('KX-TMR-25 one that cannot be injected in time is reported, and waits on', () => {
    const timed = make();
    const { vm, vcpu } = timed;
    const expires = defer(timed);
    invalidate(vm, SHARED_INFO_GPA);
    expect(vcpu.getAttr('timer').expires).toBe(expires);
    vm.invalidateEnd();
    injectTimer(vcpu);
    expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
  });

  test('KX-TMR-25 at every moment of a timer’s life: reported, or visible; and set again elsewhere it comes', () => {
    for (const moment of [0n, 1n, MS - 1n, MS, MS + 1n]) {
      const { vm, vcpu, clock } = make();
      startIn(vcpu, MS);
      clock.advance(moment);
      if (moment % 2n === 0n) vm.tick();
      const saved = vcpu.getAttr('timer');
      const visible = pendingBit(vm, PORT);
      expect(saved.expires !== 0n || visible, `${moment} ns`).toBe(true);
      const there = makeTimed({ longMode, shared, port: 0 });
      there.vcpu.setAttr(saved);
      there.clock.advance(MS);
      there.vm.tick();
      expect(visible || pendingBit(there.vm, PORT), `${moment} ns, restored`).toBe(true);
    }
  });

  test('S-30 a timer set by the guest for 100 ms from now: TIMER GET has the port, the priority and that expiry; then it comes', () => {
    const { vm, vcpu, clock } = make();
    const entryTime = vm.kvmclock.now();
    startTimer(vcpu, entryTime + 100n * MS, true);
    const attr = vcpu.getAttr('timer');
    expect([attr.port, attr.priority]).toEqual([13, PRIORITY_2LEVEL]);
    expect(attr.expires).toBeGreaterThan(entryTime);
    clock.advance(100n * MS);
    vm.tick();
    expect([vcpu.upcallPending, drained(vm)]).toEqual([true, [13]]);
  });

  test('S-31 restore: TIMER SET with an expiry 100 ms from now comes then', () => {
    const { vm, vcpu, clock } = make({ port: 0 });
    setTimer(vcpu, vm.kvmclock.now() + 100n * MS);
    expect(drained(vm)).toEqual([]);
    clock.advance(100n * MS);
    vm.tick();
    expect(drained(vm)).toEqual([13]);
  });

  test('S-35 TIMER GET has exactly the expiry that was set; vcpu_info is registered again in the same place; then it comes', () => {
    const { vm, vcpu, clock } = make();
    const expires = vm.kvmclock.now() + 100n * MS;
    setTimer(vcpu, expires);
    expect(vcpu.getAttr('timer').expires).toBe(expires);
    vcpu.setAttr({ type: 'vcpu_info_hva', hva: cast(vm.guestBase + VCPU_INFO_GPA) });
    clock.advance(100n * MS);
    expect(vm.tick()).toBe(1);
    expect([vcpu.upcallPending, drained(vm)]).toEqual([true, [13]]);
  });

  test('S-36 TIMER GET after it has expired: 0', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    clock.advance(MS);
    vm.tick();
    expect(vcpu.getAttr('timer').expires).toBe(0n);
  });

  test('S-37 TIMER SET 100 ms in the past: at once', () => {
    const { vm, vcpu } = make();
    setTimer(vcpu, vm.kvmclock.now() - 100n * MS);
    expect([vcpu.upcallPending, drained(vm), vcpu.getAttr('timer').expires]).toEqual([true, [13], 0n]);
  });

  // ── who else is busy ───────────────────────────────────────────────────────────────────────────────────────────

  test('KX-TMR-26 KF-32 stopped, set and read with a bracket open, and while pages change', () => {
    const { vm, vcpu, clock } = make();
    const all = (): void => {
      startIn(vcpu, MS);
      expect(stopTimer(vcpu)).toBe(true);
      setTimer(vcpu, vm.kvmclock.now() + MS);
      expect(vcpu.getAttr('timer').expires).toBe(vm.kvmclock.now() + MS);
      setTimer(vcpu, 0n);
    };
    vm.enter();
    all();
    vm.leave();
    invalidate(vm, SHARED_INFO_GPA);
    all();
    startIn(vcpu, MS);
    clock.advance(MS);
    expect(vm.tick()).toBe(1);
    stopTimer(vcpu);
    vm.invalidateEnd();
    expect(timerState(vcpu)).toEqual(IDLE);
  });

  test('KF-32 every kind of start with every kind of expiry returns, and the event is there when it is due', () => {
    for (const expires of [1n, NOW, NOW + 1n, NOW + DAY, MAX]) {
      const starts: ((vcpu: Vcpu) => void)[] = [
        (vcpu) => startTimer(vcpu, expires, true),
        (vcpu) => startTimer(vcpu, expires, false),
        (vcpu) => setTimer(vcpu, expires),
      ];
      for (const start of starts) {
        const { vm, vcpu, clock } = make();
        start(vcpu);
        const { deadline } = timerState(vcpu);
        if (deadline !== 0n) clock.advance(deadline - clock.now());
        vm.tick();
        expect([timerState(vcpu), drained(vm)]).toEqual([IDLE, [PORT]]);
      }
    }
  });

  test('KF-54 no expiry and no jump of the clock makes more than one event', () => {
    for (const delta of [0n, 1n, 1n << 31n, HALF - 1n, HALF, MAX]) {
      const { vm, vcpu, clock } = make();
      startTimer(vcpu, BigInt.asUintN(64, NOW + delta), false);
      let events = drained(vm).length;
      for (let i = 0; i < 4; i++) {
        clock.advance(YEAR);
        vm.tick();
        events += drained(vm).length;
      }
      expect(events, `${delta} ns`).toBe(delta === HALF - 1n ? 0 : 1);
    }
  });

  test('a view that is detached: EBADF, and the timer of the others is as it was', () => {
    const { vm, vcpu, clock } = make();
    const other = attachVm(vm.handle(), { clock });
    const theirs = other.vcpu(0);
    other.detach();
    const expires = startIn(vcpu, MS);
    const calls = [
      () => startTimer(theirs, expires, false),
      () => stopTimer(theirs),
      () => theirs.getAttr('timer'),
      () => other.tick(),
      () => other.nextDeadline(),
    ];
    for (const call of calls) refuses(vm, call, 'EBADF');
    expect(timerState(vcpu).expires).toBe(expires);
  });
});
