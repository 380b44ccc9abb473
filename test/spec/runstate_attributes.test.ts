// RUNSTATE_CURRENT, RUNSTATE_DATA, RUNSTATE_ADJUST: what they check, what they change, what the guest sees. [KX-VCA-05..10]

import { describe, expect, test } from 'vitest';
import { VCPU_LAST_STEAL } from '../../src/abi/region.ts';
import { RUNSTATE_UPDATE_BYTE_COMPAT, RUNSTATE_UPDATE_BYTE_LONG } from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, type Runstate, type RunstateName, VirtualClock, type Vm } from '../../src/index.ts';
import { errorOf, KINDS, makeVm, ram, random } from '../support.ts';
import { CANARY, cast, changed, dropMappings, refuses } from './evidence.ts';
import { EDGE, guestCopy, hostCopy, MARK, runstateAddr, STATES, sizeOf, sum } from './runstate_record.ts';
import { named, STRANGE } from './values.ts';

const U64 = 2n ** 64n;
const NOW = 1_000_000n;

/** Times in the order of the states. */
function timesOf(running: bigint, runnable: bigint, blocked: bigint, offline: bigint): Runstate['times'] {
  return { running, runnable, blocked, offline };
}
const NONE = timesOf(0n, 0n, 0n, 0n);

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  /** A VM whose guest clock is at `NOW`. */
  const make = (options = {}): { vm: Vm; clock: VirtualClock } => {
    const clock = new VirtualClock(777n);
    const vm = makeVm({ longMode, shared, guestPages: 9, clock, ...options });
    clock.advance(NOW);
    return { vm, clock };
  };
  const current = (vm: Vm, state: RunstateName): void => vm.vcpu(0).setAttr({ type: 'runstate_current', state });
  const data = (vm: Vm, state: RunstateName, entryTime: bigint, times: Runstate['times']): void =>
    vm.vcpu(0).setAttr({ type: 'runstate_data', state, entryTime, times });
  const adjust = (vm: Vm, state: RunstateName | null, entryTime: bigint, times: Runstate['times']): void =>
    vm.vcpu(0).setAttr({ type: 'runstate_adjust', state, entryTime, times });

  // ── CURRENT ──────────────────────────────────────────────────────────────────────────────────────────────────────

  test.each(STATES)('KX-VCA-07 runstate_current %s is a transition at the guest time of now', (state) => {
    const { vm, clock } = make();
    runstateAddr(vm, EDGE - 10);
    current(vm, 'blocked');
    clock.advance(5n);
    current(vm, state);
    const { entryTime, times } = vm.vcpu(0).runstate();
    expect(entryTime).toBe(NOW + 5n);
    expect(times).toEqual(timesOf(0n, 0n, 5n, NOW));
    expect(vm.vcpu(0).getAttr('runstate_current')).toEqual({ type: 'runstate_current', state });
    expect(guestCopy(vm, EDGE - 10)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });

  test.each(named([...STRANGE, 'Running', '', 0, 4]))(
    'KX-VCA-07 X-26 runstate_current $name is EINVAL',
    ({ value }) => {
      const { vm } = make();
      runstateAddr(vm, EDGE);
      refuses(vm, () => current(vm, cast(value)), 'EINVAL', 'runstate');
    },
  );

  // ── DATA ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-VCA-08 runstate_data replaces all of the record, and writes no byte of the guest', () => {
    const { vm } = make();
    runstateAddr(vm, EDGE - 10);
    current(vm, 'blocked');
    const times = timesOf(1n, 2n, 3n, 94n);
    expect(changed(vm, () => data(vm, 'offline', 100n, times))).toEqual([]);
    expect(vm.vcpu(0).runstate()).toEqual({ state: 'offline', entryTime: 100n, times });
    expect(vm.vcpu(0).getAttr('runstate_data')).toEqual({
      type: 'runstate_data',
      state: 'offline',
      entryTime: 100n,
      times,
    });
    expect(vm.vcpu(0).getAttr('runstate_current').state).toBe('offline');
    // The next change brings the copy up to date.
    current(vm, 'running');
    expect(vm.vcpu(0).runstate().times).toEqual({ ...times, offline: 94n + NOW - 100n });
    expect(guestCopy(vm, EDGE - 10)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });

  test('KX-VCA-08 X-26 the checks of runstate_data in their order: state, sum, future', () => {
    const { vm } = make();
    runstateAddr(vm, EDGE);
    const late = NOW + 1n;
    refuses(vm, () => data(vm, cast('idle'), late, NONE), 'EINVAL', 'idle');
    refuses(vm, () => data(vm, 'running', late, NONE), 'EINVAL', String(late), 'add up to 0');
    refuses(vm, () => data(vm, 'running', late, timesOf(late, 0n, 0n, 0n)), 'EINVAL', String(late), String(NOW));
    data(vm, 'running', NOW, timesOf(NOW, 0n, 0n, 0n));
    expect(vm.vcpu(0).runstate().entryTime).toBe(NOW);
  });

  test('KX-VCA-08 the four times of runstate_data add up modulo 2^64', () => {
    const { vm } = make();
    const times = timesOf(U64 - 1n, U64 - 1n, 5n, 2n);
    data(vm, 'blocked', 5n, times);
    expect(vm.vcpu(0).runstate()).toEqual({ state: 'blocked', entryTime: 5n, times });
    refuses(vm, () => data(vm, 'blocked', 6n, times), 'EINVAL', 'add up to 5');
  });

  test('KX-VCA-08 runstate_data looks at the guest clock as it is set', () => {
    const { vm } = make();
    vm.kvmclock.set(U64 - 2n);
    data(vm, 'running', U64 - 2n, timesOf(U64 - 2n, 0n, 0n, 0n));
    vm.kvmclock.set(3n);
    refuses(vm, () => data(vm, 'running', 4n, timesOf(4n, 0n, 0n, 0n)), 'EINVAL', '4', '3 ns');
  });

  test('KX-VCA-08 after runstate_data only waiting since the last word of the thread is stolen', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load(500n);
    data(vm, 'running', NOW, timesOf(NOW, 0n, 0n, 0n));
    expect(vm.region.words.load64(vm.vcpu(0).record + VCPU_LAST_STEAL)).toBe(500n);
    clock.advance(100n);
    vm.vcpu(0).enterRunstate('blocked', vm.kvmclock.now(), 530n);
    expect(vm.vcpu(0).runstate().times).toEqual(timesOf(NOW + 70n, 30n, 0n, 0n));
  });

  test('KX-VCA-08 the last word of the thread is that of load, unload or a transition, whichever was last', () => {
    const { vm } = make();
    const lastSteal = (): bigint => {
      data(vm, 'running', 0n, NONE);
      return vm.region.words.load64(vm.vcpu(0).record + VCPU_LAST_STEAL);
    };
    expect(lastSteal()).toBe(0n);
    vm.vcpu(0).load(500n);
    expect(lastSteal()).toBe(500n);
    vm.vcpu(0).enterRunstate('blocked', vm.kvmclock.now(), 520n);
    expect(lastSteal()).toBe(520n);
    vm.vcpu(0).unload({ runDelay: 540n });
    expect(lastSteal()).toBe(540n);
    vm.vcpu(0).unload();
    expect(lastSteal()).toBe(540n);
    // Another thread may have waited less.
    vm.vcpu(0).load(3n);
    expect(lastSteal()).toBe(3n);
  });

  test.each(named([...STRANGE, -1n, U64, 5]))('KX-VCA-08 a time of $name in runstate_data is EINVAL', ({ value }) => {
    const { vm } = make();
    refuses(vm, () => data(vm, 'running', cast(value), NONE), 'EINVAL', 'entryTime');
    for (const state of STATES) {
      refuses(vm, () => data(vm, 'running', 0n, { ...NONE, [state]: cast<bigint>(value) }), 'EINVAL', state);
    }
  });

  test.each(named(['', null, undefined, 5, {}, []]))('times that are $name are EINVAL', ({ value }) => {
    const { vm } = make();
    refuses(vm, () => data(vm, 'running', 0n, cast(value)), 'EINVAL', 'running');
    refuses(vm, () => adjust(vm, 'running', 0n, cast(value)), 'EINVAL', 'running');
  });

  test('KF-64 KX-VCA-08 what runstate_data sets is read back, for random values', () => {
    const { vm } = make();
    const next = random(5);
    vm.kvmclock.set(2n ** 63n);
    const part = (): bigint => BigInt(next(2 ** 31)) << BigInt(next(29));
    for (let i = 0; i < 200; i++) {
      const times = timesOf(part(), part(), part(), part());
      const attr = {
        type: 'runstate_data',
        state: STATES[next(4)] as RunstateName,
        entryTime: sum(Object.values(times)),
        times,
      } as const;
      vm.vcpu(0).setAttr(attr);
      expect(vm.vcpu(0).getAttr('runstate_data')).toEqual(attr);
    }
  });

  // ── ADJUST ───────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-VCA-09 runstate_adjust without a state adds, writes the copy, and is no transition', () => {
    const { vm, clock } = make();
    runstateAddr(vm, EDGE - 10);
    data(vm, 'blocked', 100n, timesOf(10n, 20n, 30n, 40n));
    clock.advance(50n);
    adjust(vm, null, 10n, timesOf(1n, 2n, 3n, 4n));
    const want = { state: 'blocked', entryTime: 110n, times: timesOf(11n, 22n, 33n, 44n) };
    expect(vm.vcpu(0).runstate()).toEqual(want);
    expect(guestCopy(vm, EDGE - 10)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });

  test.each(STATES)('KX-VCA-09 runstate_adjust to %s adds, then enters it', (state) => {
    const { vm } = make();
    runstateAddr(vm, EDGE - 10);
    data(vm, 'blocked', 100n, timesOf(10n, 20n, 30n, 40n));
    adjust(vm, state, 10n, timesOf(1n, 2n, 3n, 4n));
    expect(vm.vcpu(0).runstate()).toEqual({
      state,
      entryTime: NOW,
      times: timesOf(11n, 22n, 33n + NOW - 110n, 44n),
    });
    expect(guestCopy(vm, EDGE - 10)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });

  test('KX-VCA-09 times may shrink, by negative numbers or modulo 2^64', () => {
    const { vm } = make();
    for (const minus of [-15n, U64 - 15n]) {
      data(vm, 'blocked', 100n, timesOf(10n, 20n, 30n, 40n));
      adjust(vm, null, minus, timesOf(0n, minus, 0n, 0n));
      expect(vm.vcpu(0).runstate()).toMatchObject({ entryTime: 85n, times: timesOf(10n, 5n, 30n, 40n) });
    }
    // A single time may wrap, as long as they add up.
    adjust(vm, null, 0n, timesOf(-20n, 20n, 0n, 0n));
    expect(vm.vcpu(0).runstate()).toMatchObject({ entryTime: 85n, times: timesOf(U64 - 10n, 25n, 30n, 40n) });
  });

  test('KX-VCA-09 X-26 the checks of runstate_adjust in their order: state, sum, future', () => {
    const { vm } = make();
    runstateAddr(vm, EDGE);
    data(vm, 'blocked', 100n, timesOf(100n, 0n, 0n, 0n));
    const far = NOW - 99n;
    refuses(vm, () => adjust(vm, cast('idle'), far, NONE), 'EINVAL', 'idle');
    refuses(vm, () => adjust(vm, null, far, NONE), 'EINVAL', String(far), 'add up to 0');
    refuses(vm, () => adjust(vm, null, far, timesOf(far, 0n, 0n, 0n)), 'EINVAL', String(NOW + 1n), String(NOW));
    // Below zero is far in the future.
    refuses(vm, () => adjust(vm, null, -101n, timesOf(-101n, 0n, 0n, 0n)), 'EINVAL', String(U64 - 1n));
    adjust(vm, null, far - 1n, timesOf(far - 1n, 0n, 0n, 0n));
    expect(vm.vcpu(0).runstate().entryTime).toBe(NOW);
  });

  test.each(named([...STRANGE.filter((v) => v !== null), U64, -(2n ** 63n) - 1n]))(
    'KX-VCA-09 $name in runstate_adjust is EINVAL',
    ({ value }) => {
      const { vm } = make();
      if (typeof value !== 'bigint') refuses(vm, () => adjust(vm, cast(value), 0n, NONE), 'EINVAL', 'runstate');
      refuses(vm, () => adjust(vm, null, cast(value), NONE), 'EINVAL', 'entryTime');
      refuses(vm, () => adjust(vm, null, 0n, { ...NONE, offline: cast<bigint>(value) }), 'EINVAL', 'offline');
    },
  );

  test('KX-VCA-09 runstate_adjust without a guest copy, and with one that cannot be reached', () => {
    const { vm } = make();
    data(vm, 'blocked', 100n, timesOf(100n, 0n, 0n, 0n));
    expect(changed(vm, () => adjust(vm, null, 1n, timesOf(1n, 0n, 0n, 0n)))).toEqual([]);
    runstateAddr(vm, EDGE);
    vm.invalidateStart(vm.guestBase + EDGE, vm.guestBase + EDGE);
    expect(changed(vm, () => adjust(vm, null, 1n, timesOf(1n, 0n, 0n, 0n)))).toEqual([]);
    vm.invalidateEnd();
    expect(vm.vcpu(0).runstate().entryTime).toBe(102n);
  });

  test('KX-VCA-09 runstate_adjust without a state maps a copy that has moved', () => {
    const { vm } = make();
    runstateAddr(vm, EDGE - 10);
    dropMappings(vm);
    adjust(vm, null, 7n, timesOf(7n, 0n, 0n, 0n));
    expect(guestCopy(vm, EDGE - 10)).toEqual({ state: 0, entryTime: 7n, times: [7n, 0n, 0n, 0n] });
  });

  test('KX-VCA-09 adding to the times does not account for waiting', () => {
    const { vm, clock } = make();
    vm.vcpu(0).enterRunstate('running', NOW, 100n);
    vm.vcpu(0).load(150n);
    adjust(vm, null, 0n, NONE);
    expect(vm.region.words.load64(vm.vcpu(0).record + VCPU_LAST_STEAL)).toBe(100n);
    clock.advance(200n);
    adjust(vm, 'running', 0n, NONE);
    expect(vm.vcpu(0).runstate().times).toEqual(timesOf(150n, 50n, 0n, NOW));
  });

  test('KX-VCA-09 runstate_adjust cannot be read', () => {
    const { vm } = make();
    refuses(vm, () => vm.vcpu(0).getAttr('runstate_adjust'), 'EINVAL', 'runstate_data');
  });

  // ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────

  test.each(['runstate_current', 'runstate_adjust'] as const)(
    'KX-VCA-10 %s to runnable does not wait for a page: it succeeds, and the guest copy stays old',
    (type) => {
      const { vm } = make();
      runstateAddr(vm, EDGE - 10);
      dropMappings(vm);
      const before = guestCopy(vm, EDGE - 10);
      const call = (): void =>
        type === 'runstate_current' ? current(vm, 'runnable') : adjust(vm, 'runnable', 0n, NONE);
      expect(changed(vm, call)).toEqual([]);
      expect(guestCopy(vm, EDGE - 10)).toEqual(before);
      expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'runnable', entryTime: NOW });
    },
  );

  test('KX-CAP-18 without scheduler statistics the runstate attributes are EOPNOTSUPP, whatever they are given', () => {
    const { vm } = make({ schedInfo: false });
    const calls = [
      () => current(vm, 'running'),
      () => current(vm, cast('idle')),
      () => data(vm, 'running', 0n, NONE),
      () => data(vm, cast('idle'), 5n, cast(null)),
      () => adjust(vm, null, 0n, NONE),
      () => adjust(vm, cast('idle'), 5n, cast(null)),
      () => runstateAddr(vm, EDGE),
      () => vm.vcpu(0).getAttr('runstate_addr'),
      () => vm.vcpu(0).getAttr('runstate_current'),
      () => vm.vcpu(0).getAttr('runstate_data'),
    ];
    for (const call of calls) refuses(vm, call, 'EOPNOTSUPP', 'schedInfo');
    refuses(vm, () => vm.vcpu(0).getAttr('runstate_adjust'), 'EINVAL');
  });

  test('KX-VCA-05 X-15 a second page that is not there: EFAULT, and both caches are inactive', () => {
    const { vm } = make();
    const at = vm.guestBytes - 20;
    runstateAddr(vm, EDGE);
    const error = errorOf(() => runstateAddr(vm, at));
    expect(error.code).toBe('EFAULT');
    expect(vm.vcpu(0).getAttr('runstate_addr').gpa).toBe(null);
    expect(changed(vm, () => current(vm, 'blocked'))).toEqual([]);
  });

  test('KX-RUN-03 R11 after random attributes host and guest agree and add up', () => {
    const { vm, clock } = make();
    const next = random(23);
    runstateAddr(vm, EDGE - 20);
    for (let i = 0; i < 300; i++) {
      clock.advance(BigInt(next(1000)));
      const state = STATES[next(4)] as RunstateName;
      if (i % 40 === 17) vm.setAttr({ type: 'runstate_update_flag', enabled: next(2) === 1 });
      const kind = next(4);
      if (kind === 0) current(vm, state);
      else if (kind === 1) adjust(vm, next(2) ? state : null, 0n, timesOf(-7n, 3n, 3n, 1n));
      else if (kind === 2) {
        const times = timesOf(BigInt(next(1000)), BigInt(next(1000)), BigInt(next(1000)), BigInt(next(1000)));
        data(vm, state, sum(Object.values(times)), times);
        adjust(vm, null, 0n, NONE);
      } else vm.vcpu(0).enterRunstate(state, vm.kvmclock.now(), BigInt(next(50)));
      const host = hostCopy(vm.vcpu(0).runstate());
      expect(sum(host.times)).toBe(host.entryTime);
      expect(guestCopy(vm, EDGE - 20)).toEqual(host);
    }
  });

  test('KF-51 KX-RUN-28 an entry time with bit 63: the marker goes away at the end, and the host keeps the time', () => {
    const { vm } = make();
    vm.setAttr({ type: 'runstate_update_flag', enabled: true });
    vm.kvmclock.set(MARK + 500n);
    for (const at of [EDGE, EDGE - 13]) {
      runstateAddr(vm, at);
      data(vm, 'running', MARK + 5n, timesOf(MARK + 5n, 0n, 0n, 0n));
      current(vm, 'blocked');
      expect(ram(vm)[at + (longMode ? RUNSTATE_UPDATE_BYTE_LONG : RUNSTATE_UPDATE_BYTE_COMPAT)]).toBe(0);
      expect(guestCopy(vm, at).entryTime).toBe(vm.vcpu(0).runstate().entryTime - MARK);
      expect(vm.vcpu(0).getAttr('runstate_data').entryTime).toBe(vm.kvmclock.now());
    }
  });

  // ── the selftest ─────────────────────────────────────────────────────────────────────────────────────────────────

  test.each([
    ['S-11', 'runnable'],
    ['S-12', 'blocked'],
    ['S-13', 'offline'],
  ] as const)('%s runstate_current %s, then run: time in it, and running again', (_id, state) => {
    const { vm, clock } = make();
    vm.setConfig({ msr: 0x40000000 });
    runstateAddr(vm, 2 * PAGE_SIZE - 15);
    vm.vcpu(0).load();
    expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
    vm.vcpu(0).unload();
    clock.advance(10n);
    current(vm, state);
    clock.advance(1234n);
    vm.vcpu(0).load();
    expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
    const copy = guestCopy(vm, 2 * PAGE_SIZE - 15);
    expect(copy.state).toBe(0);
    expect(copy.times[STATES.indexOf(state)]).toBe(state === 'offline' ? NOW + 1234n : 1234n);
    expect(sum(copy.times)).toBe(copy.entryTime);
  });

  test('S-14 KX-VCA-09 runstate_adjust makes blocked and offline what the test wants', () => {
    const { vm, clock } = make();
    runstateAddr(vm, 2 * PAGE_SIZE - 15);
    for (const state of STATES) {
      current(vm, state);
      clock.advance(1000n);
    }
    current(vm, 'running');
    const { blocked, offline } = vm.vcpu(0).runstate().times;
    const more = [0x5an - blocked, 0x6b6bn - offline] as const;
    const before = vm.vcpu(0).runstate();
    adjust(vm, null, 0n, timesOf(0n, -more[0] - more[1], ...more));
    const copy = guestCopy(vm, 2 * PAGE_SIZE - 15);
    expect(copy.times.slice(2)).toEqual([0x5an, 0x6b6bn]);
    expect(copy.entryTime).toBe(before.entryTime);
    expect(sum(copy.times)).toBe(copy.entryTime);
  });

  test('S-15 KX-VCA-08 runstate_data: what was given stays, the rest runs on', () => {
    const { vm, clock } = make();
    vm.setConfig({ msr: 0x40000000 });
    runstateAddr(vm, 2 * PAGE_SIZE - 15);
    vm.vcpu(0).load();
    data(vm, 'running', 0x6b6bn + 0x5an, timesOf(0n, 0n, 0x6b6bn, 0x5an));
    clock.advance(0x8000n);
    expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
    const copy = guestCopy(vm, 2 * PAGE_SIZE - 15);
    expect(copy.entryTime).toBe(NOW + 0x8000n);
    expect(copy.times).toEqual([NOW + 0x8000n - 0x6b6bn - 0x5an, 0n, 0x6b6bn, 0x5an]);
  });
});

describe.each([true, false])('both layouts after one another, shared memory: %s', (shared) => {
  const places = Array.from({ length: 64 }, (_, i) => EDGE - 60 + i);

  test.each(places)('S-51 S-52 KF-49 the area at %i: nothing beside it, nothing stale, both modes', (at) => {
    const clock = new VirtualClock();
    const vm = makeVm({ longMode: false, shared, guestPages: 9, clock });
    clock.advance(0x123456n);
    vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'blocked' });
    clock.advance(0x777n);
    vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'running' });
    const check = (): void => {
      const host = hostCopy(vm.vcpu(0).runstate());
      expect(guestCopy(vm, at)).toEqual(host);
      expect(sum(host.times)).toBe(host.entryTime);
      expect(vm.vcpu(0).getAttr('runstate_data').entryTime).toBe(host.entryTime);
      for (let i = 1; i <= 8; i++) expect(ram(vm)[at - i], `byte -${i}`).toBe(CANARY);
      for (let i = 0; i < 8; i++) expect(ram(vm)[at + sizeOf(vm) + i], `byte ${i} behind`).toBe(CANARY);
    };
    ram(vm).fill(CANARY, EDGE - PAGE_SIZE, EDGE + PAGE_SIZE);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(at) });
    check();
    vm.setAttr({ type: 'long_mode', enabled: true });
    ram(vm).fill(CANARY, EDGE - PAGE_SIZE, EDGE + PAGE_SIZE);
    vm.vcpu(0).setAttr({ type: 'runstate_adjust', state: null, entryTime: 0n, times: NONE });
    check();
  });
});
