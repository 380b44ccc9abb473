// When there is something to do, and doing it: the earliest deadline, what a tick does, in which order, and never early. [KF-27]

import { describe, expect, test, vi } from 'vitest';
import { REQUEST_UNBLOCK, VCPU_TIMER_DEADLINE } from '../../src/abi/region.ts';
import { attachVm, VirtualClock, type Vm } from '../../src/index.ts';
import { watchDeadlines } from '../../src/vm/time/deadline_watch.ts';
import { setPollDeadline } from '../../src/vm/time/deadlines.ts';
import { startTimer, stopTimer } from '../../src/vm/time/timer.ts';
import { drained, KINDS, makeVm, random } from '../support.ts';
import { cast, refuses } from './evidence.ts';
import {
  BOOT,
  DAY,
  holdTimer,
  IDLE,
  MS,
  makeTimed,
  PORT,
  pollDeadline,
  requestsOf,
  SECOND,
  setTimer,
  startIn,
  timerState,
  unblocked,
  YEAR,
} from './timers.ts';
import { named, STRANGE } from './values.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}) => makeTimed({ longMode, shared, ...options });

  /** Many vCPUs, each with a timer for a port of its own. */
  function makeMany(vcpus: number, atNow = 0n) {
    const clock = new VirtualClock(BOOT);
    const vm = makeVm({ longMode, shared, clock, vcpus });
    for (let i = 0; i < vcpus; i++) setTimer(vm.vcpu(i), 0n, portOf(i));
    clock.advance(atNow);
    return { vm, clock };
  }
  const portOf = (index: number): number => 100 + index;

  /** The ports in the order in which they are raised from here on. */
  function watch(vm: Vm): number[] {
    const order: number[] = [];
    const { sendTo } = vm.kernel;
    vm.kernel = {
      ...vm.kernel,
      sendTo: (base, agent, port, vcpu) => {
        order.push(port);
        return sendTo(base, agent, port, vcpu);
      },
    };
    return order;
  }

  test('nothing set: no deadline, and a tick does nothing', () => {
    const { vm, clock } = make({ vcpus: 3 });
    expect([vm.nextDeadline(), vm.tick(), vm.tick(0n), vm.tick(clock.now() + YEAR)]).toEqual([null, 0, 0, 0]);
  });

  test('the earliest of all timers and polls, on the host’s clock; what is due is in the past', () => {
    const { vm, clock } = make({ vcpus: 4 });
    for (let i = 1; i < 4; i++) setTimer(vm.vcpu(i), 0n, PORT + i);
    const now = clock.now();
    startIn(vm.vcpu(2), 50n);
    expect(vm.nextDeadline()).toBe(now + 50n);
    setPollDeadline(vm.vcpu(1), now + 40n);
    expect(vm.nextDeadline()).toBe(now + 40n);
    startIn(vm.vcpu(3), 30n);
    expect(vm.nextDeadline()).toBe(now + 30n);
    setPollDeadline(vm.vcpu(3), now + 60n);
    expect(vm.nextDeadline()).toBe(now + 30n);
    stopTimer(vm.vcpu(3));
    expect(vm.nextDeadline()).toBe(now + 40n);
    setPollDeadline(vm.vcpu(1), 0n);
    expect(vm.nextDeadline()).toBe(now + 50n);
    clock.advance(SECOND);
    expect(vm.nextDeadline()).toBe(now + 50n);
    expect([vm.tick(), vm.nextDeadline()]).toEqual([2, null]);
  });

  test('KX-TMR-03 never early: not a nanosecond before, whatever time a tick is given', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    setPollDeadline(vcpu, clock.now() + MS);
    clock.advance(MS - 1n);
    for (const now of [0n, 1, clock.now(), clock.now() + 1n, clock.now() + YEAR, (1n << 64n) - 1n]) {
      expect([vm.tick(now), drained(vm), requestsOf(vcpu) & REQUEST_UNBLOCK]).toEqual([0, [], 0]);
    }
    clock.advance(1n);
    expect(vm.tick()).toBe(2);
  });

  test('a tick for an earlier reading of the clock does what was due then', () => {
    const { vm, vcpu, clock } = make();
    startIn(vcpu, MS);
    const then = clock.now();
    clock.advance(SECOND);
    expect([vm.tick(then), vm.tick(then + MS - 1n), vm.tick(then + MS)]).toEqual([0, 0, 1]);
  });

  test.each(named(STRANGE.filter((value) => value !== undefined)))(
    'a tick at $name: EINVAL, and nothing changed',
    ({ value }) => {
      const { vm, vcpu, clock } = make();
      startIn(vcpu, MS);
      clock.advance(SECOND);
      refuses(vm, () => vm.tick(cast(value)), 'EINVAL', 'now');
      for (const wide of [-1n, 1n << 64n]) refuses(vm, () => vm.tick(wide), 'EINVAL', 'now', String(wide));
    },
  );

  test('a clock that jumps by a year: each comes once, the earliest first, vCPUs in turn at the same time', () => {
    const { vm, clock } = makeMany(6);
    for (const [index, expires] of [5n, 3n, 9n, 3n, 1n, 7n].entries())
      setTimer(vm.vcpu(index), expires * SECOND, portOf(index));
    const order = watch(vm);
    clock.advance(YEAR);
    expect(vm.tick()).toBe(6);
    expect(order).toEqual([4, 1, 3, 0, 5, 2].map(portOf));
    expect([vm.tick(), vm.nextDeadline(), order.length]).toEqual([0, null, 6]);
  });

  test('KF-27 random deadlines set, stopped and passed: always those of a sorted array, in its order', () => {
    const vcpus = 24;
    const { vm, clock } = makeMany(vcpus);
    const order = watch(vm);
    const next = random(27);
    let sorted: { at: bigint; index: number }[] = [];
    const places = { head: 0, middle: 0, tail: 0 };
    const remove = (index: number): void => {
      sorted = sorted.filter((entry) => entry.index !== index);
    };
    // In one of the four kinds, which all have the same deadlines, each place is met 10^4 times.
    const rounds = longMode && shared ? 45_000 : 2_000;
    for (let round = 0; round < rounds; round++) {
      const index = next(vcpus);
      remove(index);
      if (next(8) === 0) {
        stopTimer(vm.vcpu(index));
      } else {
        const [first, last] = [sorted[0]?.at ?? clock.now() + 1n, sorted.at(-1)?.at ?? clock.now()];
        const somewhere = clock.now() + BigInt(1 + next(400));
        const at = [first > clock.now() + 1n ? first - 1n : first, last + BigInt(1 + next(3)), somewhere, somewhere][
          next(4)
        ] as bigint;
        startTimer(vm.vcpu(index), at - BOOT, false);
        const place = sorted.findIndex((entry) => entry.at > at || (entry.at === at && entry.index > index));
        places[place === 0 ? 'head' : place < 0 ? 'tail' : 'middle']++;
        sorted.splice(place < 0 ? sorted.length : place, 0, { at, index });
      }
      expect(vm.nextDeadline()).toBe(sorted[0]?.at ?? null);
      if (next(16) === 0) {
        clock.advance(BigInt(next(400)));
        const due = sorted.filter(({ at }) => at <= clock.now());
        order.length = 0;
        if (vm.tick() !== due.length || order.some((port, i) => port !== portOf(due[i]?.index ?? -1))) {
          expect(order, `round ${round}`).toEqual(due.map((entry) => portOf(entry.index)));
        }
        for (const { index } of due) remove(index);
      }
    }
    for (const [place, count] of Object.entries(places)) expect(count, place).toBeGreaterThan((rounds * 2) / 9);
  });

  test('KF-27 deadlines near 2^63 and 2^64, which no number holds, in their order', () => {
    const clock = new VirtualClock((1n << 63n) - 3n);
    const vm = makeVm({ longMode, shared, clock, vcpus: 5 });
    for (let i = 0; i < 5; i++) setTimer(vm.vcpu(i), BigInt(5 - i), portOf(i));
    const order = watch(vm);
    expect(vm.nextDeadline()).toBe((1n << 63n) - 2n);
    for (let i = 4; i >= 0; i--) {
      clock.advance(1n);
      expect([vm.tick(), order.at(-1)]).toEqual([1, portOf(i)]);
    }
  });

  test('KF-54 a tick ends: what is set while it runs waits for the next one', () => {
    const { vm, clock } = makeMany(4);
    for (let i = 0; i < 4; i++) setTimer(vm.vcpu(i), SECOND, portOf(i));
    clock.advance(DAY);
    const order: number[] = [];
    const { sendTo } = vm.kernel;
    vm.kernel = {
      ...vm.kernel,
      sendTo: (base, agent, port, vcpu) => {
        order.push(port);
        // Each expiry sets another vCPU's timer, due in a nanosecond, and the clock goes on.
        if (order.length < 50) startTimer(vm.vcpu((vcpu + 3) % 4), vm.kvmclock.now() + 1n, false);
        clock.advance(10n);
        return sendTo(base, agent, port, vcpu);
      },
    };
    expect(vm.tick()).toBeLessThanOrEqual(4);
    expect(order.length).toBeLessThanOrEqual(4);
    expect(vm.nextDeadline()).not.toBe(null);
  });

  test('the cost of a tick does not depend on how long ago anything was due, or on how far the clock has jumped', () => {
    const cost = (jump: bigint): number => {
      const { vm, vcpu, clock } = make();
      startIn(vcpu, 1n);
      clock.advance(jump);
      const load = vi.spyOn(vm.region.words, 'load64');
      vm.tick();
      return load.mock.calls.length;
    };
    expect(cost(250n * YEAR)).toBe(cost(1n));
  });

  // ── polls ──────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-37 a poll that times out: its vCPU is unblocked, once; the timer is another matter', () => {
    const { vm, vcpu, clock } = make({ vcpus: 2 });
    setPollDeadline(vcpu, clock.now() + MS);
    startIn(vcpu, SECOND);
    clock.advance(MS - 1n);
    expect([vm.tick(), unblocked(vcpu)]).toEqual([0, false]);
    clock.advance(1n);
    expect([vm.tick(), unblocked(vcpu), unblocked(vm.vcpu(1))]).toEqual([1, true, false]);
    expect([pollDeadline(vcpu), vm.tick(), unblocked(vcpu)]).toEqual([0n, 0, false]);
    expect([timerState(vcpu).expires, drained(vm)]).toEqual([2n * SECOND, []]);
  });

  test('KX-HCL-37 a poll that has ended, or has begun anew, is not timed out by the old deadline', () => {
    const { vm, vcpu, clock } = make();
    setPollDeadline(vcpu, clock.now() + MS);
    setPollDeadline(vcpu, 0n);
    clock.advance(MS);
    expect([vm.tick(), unblocked(vcpu)]).toEqual([0, false]);
    setPollDeadline(vcpu, clock.now() + MS);
    const { unblock } = vm.kernel;
    vm.kernel = {
      ...vm.kernel,
      // The poller wakes up and polls again before the tick goes on.
      unblock: (...args) => {
        unblock(...args);
        setPollDeadline(vcpu, clock.now() + SECOND);
      },
    };
    clock.advance(MS);
    expect(vm.tick()).toBe(0);
    expect([unblocked(vcpu), pollDeadline(vcpu)]).toEqual([true, clock.now() + SECOND]);
  });

  test('KX-HCL-37 a poll that ends while a tick is on its way is not unblocked by it', () => {
    const { vm, vcpu, clock } = make({ vcpus: 2 });
    startIn(vcpu, MS);
    setPollDeadline(vm.vcpu(1), clock.now() + 2n * MS);
    clock.advance(SECOND);
    const { sendTo } = vm.kernel;
    vm.kernel = {
      ...vm.kernel,
      sendTo: (...args) => {
        setPollDeadline(vm.vcpu(1), 0n);
        return sendTo(...args);
      },
    };
    expect([vm.tick(), unblocked(vm.vcpu(1))]).toEqual([1, false]);
  });

  test('R7 who watches deadlines is told until it has had enough, and so are the others', () => {
    const { vm, vcpu } = make();
    let [first, second] = [0, 0];
    const end = watchDeadlines(vm, () => first++);
    watchDeadlines(vm, () => second++);
    startIn(vcpu, MS);
    end();
    end();
    startIn(vcpu, MS);
    stopTimer(vcpu);
    expect([first, second]).toEqual([1, 3]);
  });

  // ── several hands ──────────────────────────────────────────────────────────────────────────────────────────────

  test('any attached thread keeps the time; several of them make no event twice', () => {
    const { vm, vcpu, clock } = make({ vcpus: 2 });
    const others = [1, 2].map(() => attachVm(vm.handle(), { clock }));
    for (let i = 0; i < 6; i++) {
      startIn(vcpu, MS);
      setPollDeadline(vm.vcpu(1), clock.now() + MS);
      const deadline = clock.now() + MS;
      for (const other of others) expect(other.nextDeadline()).toBe(deadline);
      clock.advance(MS);
      const counts = [others[i % 2] ?? vm, vm, ...others].map((each) => each.tick());
      expect(counts).toEqual([2, 0, 0, 0]);
      expect([drained(vm), unblocked(vm.vcpu(1))]).toEqual([[PORT], true]);
    }
  });

  test('a timer that another thread is busy with is left alone, and found again', () => {
    const { vm, vcpu, clock } = make();
    if (!shared) return;
    const other = attachVm(vm.handle(), { clock });
    startIn(vcpu, MS);
    clock.advance(MS);
    holdTimer(vcpu, other.agent);
    const before = timerState(vcpu);
    expect([vm.tick(), timerState(vcpu)]).toEqual([0, before]);
    expect(vm.nextDeadline()).toBe(clock.now());
    holdTimer(vcpu, 0);
    expect([vm.tick(), timerState(vcpu)]).toEqual([1, IDLE]);
  });

  test('R8 an expiry that a dead thread has left behind is due at once, before all others', () => {
    const { vm, clock } = makeMany(2);
    setTimer(vm.vcpu(0), SECOND, portOf(0));
    setTimer(vm.vcpu(1), SECOND, portOf(1));
    clock.advance(SECOND);
    const order = watch(vm);
    // Taken by a thread, which then died before it could deliver.
    const { words } = vm.region;
    const { record } = vm.vcpu(1);
    words.store64(record + VCPU_TIMER_DEADLINE, 0n);
    expect(vm.nextDeadline()).toBe(0n);
    expect([vm.tick(), order]).toEqual([2, [portOf(1), portOf(0)]]);
    // One that is not due yet is only set again.
    setTimer(vm.vcpu(1), 3n * SECOND, portOf(1));
    words.store64(record + VCPU_TIMER_DEADLINE, 0n);
    expect([vm.nextDeadline(), vm.tick(), vm.nextDeadline()]).toEqual([0n, 0, BOOT + 3n * SECOND]);
    clock.advance(2n * SECOND);
    expect([vm.tick(), timerState(vm.vcpu(1))]).toEqual([1, IDLE]);
  });
});
