// A vCPU's clock: scale, TSC, when its records are written and what is in them, and that they keep to the guest's time. [kvm-xen 8.2]

import { describe, expect, test } from 'vitest';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_GUEST_STOPPED,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SIZE,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_STABLE,
  PVCLOCK_TSC_TIMESTAMP,
  PVCLOCK_VERSION,
} from '../../src/abi/pvclock.ts';
import {
  REGION_CLOCK_VERSION,
  REGION_HVM_CONFIG,
  REQUEST_CLOCK_UPDATE,
  VCPU_CLOCK_MUL,
  VCPU_CLOCK_SHIFT,
  VCPU_REQUESTS,
  VCPU_TSC_RATIO,
} from '../../src/abi/region.ts';
import { PAGE_SIZE, SHARED_INFO_WC_COMPAT, SHARED_INFO_WC_LONG } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE, VCPU_INFO_TIME } from '../../src/abi/vcpu_info.ts';
import { attachVm, type Clock, gfn, gpa, hva, VirtualClock, type Vm } from '../../src/index.ts';
import { ticksToNs, timeScale, tscRatio } from '../../src/vm/time/tsc_scale.ts';
import {
  errorOf,
  fields,
  KINDS,
  makeVm,
  ram,
  random,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { cast, changed, changes, dropMappings, invalidate, refuses, tracing } from './evidence.ts';
import { named, outside, STRANGE } from './values.ts';

const SECOND = 1_000_000_000n;
const U64 = 2n ** 64n;
const IN_VCPU_INFO = VCPU_INFO_GPA + VCPU_INFO_TIME;
/** Simulated time, and how far it goes at a time. */
const DAYS = 30;
const STEP = 3601n * SECOND + 234_567n;
const TIME_INFO = 7 * PAGE_SIZE + 12;
const COPIES = [IN_VCPU_INFO, TIME_INFO];

/** A record as it lies in guest RAM. */
function recordAt(vm: Vm, at: number) {
  const view = fields(vm);
  return {
    version: view.getUint32(at + PVCLOCK_VERSION, true),
    tscTimestamp: view.getBigUint64(at + PVCLOCK_TSC_TIMESTAMP, true),
    systemTime: view.getBigUint64(at + PVCLOCK_SYSTEM_TIME, true),
    mul: view.getUint32(at + PVCLOCK_MUL, true),
    shift: view.getInt8(at + PVCLOCK_SHIFT),
    flags: view.getUint8(at + PVCLOCK_FLAGS),
  };
}

/** What the guest computes from a record at its TSC `tsc`, in whole numbers. [KX-ABI-17] */
function guestTime(vm: Vm, at: number, tsc: bigint): bigint {
  const { tscTimestamp, systemTime, mul, shift } = recordAt(vm, at);
  const delta = BigInt.asUintN(64, tsc - tscTimestamp);
  const ticks = shift < 0 ? delta >> BigInt(-shift) : BigInt.asUintN(64, delta << BigInt(shift));
  return BigInt.asUintN(64, systemTime + ((ticks * BigInt(mul)) >> 32n));
}

function enter(vm: Vm, index = 0): void {
  expect(vm.vcpu(index).beforeEntry().kind).toBe('enter');
}

/** A new KVM_RUN: load, enter, leave. */
function run(vm: Vm, index = 0): void {
  vm.vcpu(index).load();
  enter(vm, index);
  vm.vcpu(index).afterExit();
  vm.vcpu(index).unload();
}

function requested(vm: Vm, index = 0): boolean {
  return (vm.region.words.load(vm.vcpu(index).line + VCPU_REQUESTS) & REQUEST_CLOCK_UPDATE) !== 0;
}

/** KX-CLK-03 to the letter, in whole numbers. */
function exactScale(hz: bigint): { mul: number; shift: number } {
  let [t, s, shift] = [hz, SECOND, 0];
  const word = 1n << 32n;
  while (t > 2n * s || t >= word) {
    t >>= 1n;
    shift -= 1;
  }
  while (t <= s || s >= word) {
    if (s >= word || (t >> 31n) & 1n) s >>= 1n;
    else t <<= 1n;
    shift += 1;
  }
  return { mul: Number((s << 32n) / t), shift };
}

describe('the scale of a TSC', () => {
  test.each([
    [1_000_000_000, 2 ** 31, 1],
    [2_000_000_000, 2 ** 31, 0],
    [4_000_000_000, 2 ** 31, -1],
    [2_400_000_000, 3_579_139_413, -1],
    [3_000_000_000, 2_863_311_530, -1],
    [1_500_000_000, 2_863_311_530, 0],
    [1_000_001, 4_194_299_851, 10],
    [1, 4_000_000_000, 30],
  ])('KX-CLK-03 %i Hz', (hz, mul, shift) => {
    expect(exactScale(BigInt(hz))).toEqual(timeScale(hz));
    expect(timeScale(hz)).toMatchObject({ shift });
    if (hz > 1 && hz !== 1_000_001) expect(timeScale(hz).mul).toBe(mul);
  });

  test('KX-CLK-03 KF-54 every magnitude of frequency: exact, 32 bits of mul, and the loops end', () => {
    const next = random(9);
    const frequencies = new Set<number>();
    for (let bits = 0; bits <= 53; bits++) {
      for (const d of [-2, -1, 0, 1, 2]) frequencies.add(2 ** bits + d);
    }
    for (const edge of [1e9, 2e9, 4e9, 2 ** 32, 2 ** 31, 1e6, 1e3])
      for (let d = -3; d <= 3; d++) frequencies.add(edge + d);
    for (let i = 0; i < 4_000; i++) frequencies.add(Math.floor((next(2 ** 31) / 2 ** 31) * 2 ** next(54)));
    for (const hz of frequencies) {
      if (hz < 1 || hz > Number.MAX_SAFE_INTEGER) continue;
      const scale = timeScale(hz);
      const exact = exactScale(BigInt(hz));
      const good =
        scale.mul === exact.mul && scale.shift === exact.shift && scale.mul >= 2 ** 31 && scale.mul < 2 ** 32;
      if (!good || Math.abs(scale.shift) > 63) expect(scale, `${hz} Hz`).toEqual(exact);
    }
  });

  test('KX-CLK-03 a second of ticks is a second, but for what the bits of mul leave', () => {
    for (const hz of [1_000_000, 14_318_180, 333_333_333, 999_999_999, 1_000_000_001, 2_893_300_123, 5_200_000_000]) {
      const ns = ticksToNs(BigInt(hz), timeScale(hz));
      expect(ns).toBeLessThanOrEqual(SECOND);
      expect(ns).toBeGreaterThan(SECOND - 3n);
      expect(ticksToNs(-BigInt(hz), timeScale(hz))).toBeLessThanOrEqual(-ns);
      expect(ticksToNs(0n, timeScale(hz))).toBe(0n);
    }
  });
});

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (clock: Clock, options = {}): Vm => {
    const vm = makeVm({ longMode, shared, guestPages: 9, clock, ...options });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
    return vm;
  };
  const withTsc = (tscHz: number, now = 0n): VirtualClock => new VirtualClock(now, 0n, { tscHz });

  // ── the guest's TSC ──────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-CLK-10 at first the guest has the TSC of the host, or nanoseconds', () => {
    const clock = withTsc(2_500_000_000, 7n * SECOND);
    const vm = make(clock);
    expect(vm.vcpu(0).getTsc()).toEqual({ hz: 2_500_000_000, offset: 0n });
    expect(vm.vcpu(0).readTsc()).toBe(17_500_000_000n);
    const plain = make(new VirtualClock(99n));
    expect(plain.vcpu(0).getTsc()).toEqual({ hz: 1_000_000_000, offset: 0n });
    expect(plain.vcpu(0).readTsc()).toBe(99n);
  });

  test('KX-CLK-10 the guest TSC is the host TSC, scaled by a ratio of 48 bits, and shifted', () => {
    const clock = withTsc(3_000_000_000, 10n * SECOND);
    const vm = make(clock);
    for (const hz of [1_000_000, 2_500_000_000, 2_999_999_999, 3_000_000_000, 7_000_000_001]) {
      for (const offset of [0n, 5n, -5n, -(2n ** 63n), U64 - 1n, -7n * SECOND]) {
        vm.vcpu(0).setTsc({ hz, offset });
        const ratio = (BigInt(hz) << 48n) / 3_000_000_000n;
        expect(vm.region.words.load64(vm.vcpu(0).record + VCPU_TSC_RATIO)).toBe(ratio);
        expect(vm.vcpu(0).readTsc()).toBe(BigInt.asUintN(64, ((30n * SECOND * ratio) >> 48n) + offset));
        expect(vm.vcpu(0).getTsc()).toEqual({ hz, offset: BigInt.asUintN(64, offset) });
      }
    }
    vm.vcpu(0).setTsc({ hz: 3_000_000_000, offset: 9n });
    vm.vcpu(0).setTsc({ offset: 8n });
    expect(vm.vcpu(0).getTsc()).toEqual({ hz: 3_000_000_000, offset: 8n });
    vm.vcpu(0).setTsc({ hz: 1_000_000_000 });
    expect(vm.vcpu(0).getTsc()).toEqual({ hz: 1_000_000_000, offset: 8n });
  });

  test.each(named(outside(0, 2 ** 53 - 1, [2 ** 53]).filter((v) => v !== undefined)))(
    'a guest TSC of $name Hz is EINVAL',
    ({ value }) => {
      const vm = make(withTsc(1_000_000_000));
      refuses(vm, () => vm.vcpu(0).setTsc({ hz: cast(value) }), 'EINVAL', 'TSC');
    },
  );

  test.each(named([...STRANGE.filter((v) => v !== undefined), 5, U64, -(2n ** 63n) - 1n]))(
    'an offset of $name of the guest TSC is EINVAL',
    ({ value }) => {
      const vm = make(withTsc(1_000_000_000));
      refuses(vm, () => vm.vcpu(0).setTsc({ offset: cast(value) }), 'EINVAL', 'offset');
    },
  );

  test('a guest TSC that the ratio cannot express is EINVAL; only the owner sets it', () => {
    const slow = make(withTsc(1_000));
    slow.vcpu(0).setTsc({ hz: 65_535_999 });
    refuses(slow, () => slow.vcpu(0).setTsc({ hz: 65_536_000 }), 'EINVAL', '65536000', '1000');
    const fast = make(withTsc(2 ** 52));
    fast.vcpu(0).setTsc({ hz: 16 });
    refuses(fast, () => fast.vcpu(0).setTsc({ hz: 15 }), 'EINVAL', '15');
    const other = attachVm(slow.handle());
    refuses(slow, () => other.vcpu(0).setTsc({ hz: 5_000 }), 'EPERM', 'owner');
    expect(errorOf(() => other.vcpu(0).readTsc()).code).toBe('EOPNOTSUPP');
  });

  // ── a clock update ───────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-CLK-10 KX-VCA-01 KX-VCA-04 registration writes nothing; the next entry writes both records', () => {
    const clock = withTsc(2_400_000_000, 3n * SECOND);
    const vm = make(clock);
    for (const at of COPIES) expect(recordAt(vm, at).version).toBe(0);
    clock.advance(SECOND);
    const was = ram(vm).slice();
    enter(vm);
    const touched = changes(was, ram(vm)).map(([at]) => at);
    expect(touched.every((at) => COPIES.some((copy) => at >= copy && at < copy + PVCLOCK_SIZE))).toBe(true);
    for (const at of COPIES) {
      // The master sample, which this entry has taken because of shared_info.
      expect(recordAt(vm, at)).toEqual({
        version: 2,
        tscTimestamp: 9_600_000_000n,
        systemTime: ticksToNs(2_400_000_000n, timeScale(2_400_000_000)),
        ...timeScale(2_400_000_000),
        flags: PVCLOCK_TSC_STABLE,
      });
      expect(guestTime(vm, at, vm.vcpu(0).readTsc())).toBe(vm.kvmclock.now());
    }
    expect(requested(vm)).toBe(false);
  });

  test('KX-CLK-10 KX-CLK-02 without the master clock a record is of now, and does not say that the TSC is stable', () => {
    const clock = new VirtualClock(3n * SECOND);
    const vm = make(clock);
    vm.vcpu(0).setTsc({ hz: 25_000_000, offset: 11n });
    clock.advance(2n * SECOND);
    enter(vm);
    for (const at of COPIES) {
      expect(recordAt(vm, at)).toEqual({
        version: 2,
        tscTimestamp: ((5n * SECOND * tscRatio(25_000_000, 1_000_000_000)) >> 48n) + 11n,
        systemTime: 2n * SECOND,
        ...timeScale(25_000_000),
        flags: 0,
      });
    }
  });

  test('KX-CLK-10 vCPUs with TSCs of their own: each record is right for its TSC', () => {
    const clock = withTsc(3_000_000_000);
    const vm = make(clock, { vcpus: 3 });
    vm.vcpu(1).setTsc({ hz: 1_800_000_000 });
    vm.vcpu(2).setTsc({ offset: -SECOND });
    clock.advance(12_345_678n);
    for (const i of [0, 1, 2]) {
      enter(vm, i);
      const at = IN_VCPU_INFO + i * VCPU_INFO_SIZE;
      expect(recordAt(vm, at).flags).toBe(0);
      expect(recordAt(vm, at)).toMatchObject(timeScale(vm.vcpu(i).getTsc().hz));
      expect(guestTime(vm, at, vm.vcpu(i).readTsc())).toBe(vm.kvmclock.now());
    }
  });

  test('KX-CLK-10 mul and shift are computed when the frequency changes, and remembered', () => {
    const vm = make(withTsc(3_000_000_000));
    enter(vm);
    const { words } = vm.region;
    const { record } = vm.vcpu(0);
    expect([words.load(record + VCPU_CLOCK_MUL) >>> 0, words.load(record + VCPU_CLOCK_SHIFT)]).toEqual([
      2_863_311_530, -1,
    ]);
    words.store(record + VCPU_CLOCK_MUL, 77);
    vm.kvmclock.set(5n);
    enter(vm);
    expect(recordAt(vm, TIME_INFO).mul).toBe(77);
    vm.vcpu(0).setTsc({ hz: 1_500_000_000 });
    enter(vm);
    expect(recordAt(vm, TIME_INFO)).toMatchObject({ mul: 2_863_311_530, shift: 0 });
  });

  test('KX-CLK-10 while the frequency is not known the guest is not entered, and the update stays asked for', () => {
    const vm = make(withTsc(3_000_000_000));
    vm.vcpu(0).setTsc({ hz: 0 });
    const was = ram(vm).slice();
    for (let i = 0; i < 3; i++) {
      expect(vm.vcpu(0).beforeEntry().kind).toBe('again');
      expect(requested(vm)).toBe(true);
    }
    expect(changes(was, ram(vm))).toEqual([]);
    expect(vm.kvmclock.master).toBe(false);
    vm.vcpu(0).setTsc({ hz: 3_000_000_000 });
    enter(vm);
    expect(recordAt(vm, TIME_INFO)).toMatchObject({ mul: 2_863_311_530, flags: PVCLOCK_TSC_STABLE });
  });

  test('KX-CLK-10 vcpu_info comes first, then vcpu_time_info', () => {
    let vm: Vm | undefined;
    const order: number[] = [];
    const onStep = (_kind: number, address: number): void => {
      const copy = COPIES.findIndex((at) => vm && address === vm.guestBase + at + PVCLOCK_SYSTEM_TIME);
      if (copy >= 0) order.push(copy);
    };
    const made = make(withTsc(1_000_000_000), tracing(shared, { onStep }));
    vm = made;
    enter(made);
    expect(order).toEqual([0, 1]);
  });

  test('KX-CLK-11 GUEST_STOPPED of each copy is kept, in it alone', () => {
    const vm = make(withTsc(1_000_000_000));
    enter(vm);
    ram(vm)[TIME_INFO + PVCLOCK_FLAGS] = PVCLOCK_GUEST_STOPPED;
    vm.kvmclock.set(5n);
    enter(vm);
    expect(recordAt(vm, IN_VCPU_INFO).flags).toBe(PVCLOCK_TSC_STABLE);
    expect(recordAt(vm, TIME_INFO).flags).toBe(PVCLOCK_TSC_STABLE | PVCLOCK_GUEST_STOPPED);
  });

  test('KX-CAP-16 KX-CAP-08 when the configuration says that the TSC is unstable, every record does at its next entry', () => {
    const vm = make(withTsc(1_000_000_000), { vcpus: 2 });
    vm.setConfig({ msr: 0x40000000 });
    for (const i of [0, 1]) enter(vm, i);
    for (const i of [0, 1]) vm.vcpu(i).afterExit();
    for (const tscUnstable of [true, false]) {
      vm.setConfig({ msr: 0x40000000, tscUnstable });
      for (const i of [0, 1]) expect(requested(vm, i)).toBe(true);
      for (const i of [0, 1]) {
        enter(vm, i);
        vm.vcpu(i).afterExit();
      }
      for (const at of [...COPIES, IN_VCPU_INFO + VCPU_INFO_SIZE]) {
        expect(recordAt(vm, at).flags).toBe(tscUnstable ? 0 : PVCLOCK_TSC_STABLE);
      }
      vm.setConfig({ msr: 0, tscUnstable });
      for (const i of [0, 1]) expect(requested(vm, i)).toBe(false);
    }
    expect(vm.kvmclock.master).toBe(true);
  });

  test('KX-CLK-10 an update needs no gate, and no vCPU is asked twice', () => {
    const vm = make(withTsc(1_000_000_000));
    expect(vm.region.words.load(vm.vmBase + REGION_HVM_CONFIG + 4)).toBe(0);
    enter(vm);
    const { version } = recordAt(vm, TIME_INFO);
    for (let i = 0; i < 3; i++) run(vm);
    expect(recordAt(vm, TIME_INFO).version).toBe(version);
  });

  test('KX-CLK-10 a clock that is set while a record is made: the record is of the new time, and made again', () => {
    let onSample: (() => void) | null = null;
    const clock: Clock = {
      now: () => 5n,
      realtime: () => 5n,
      sample: () => {
        const call = onSample;
        onSample = null;
        call?.();
        return { now: 5n, realtime: 5n };
      },
    };
    const vm = make(clock);
    run(vm);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
    fields(vm).setUint32(TIME_INFO, 0, true);
    onSample = () => vm.kvmclock.set(1234n);
    enter(vm);
    expect(recordAt(vm, TIME_INFO)).toMatchObject({ systemTime: 1234n, version: 4 });
  });

  // ── what is owed ─────────────────────────────────────────────────────────────────────────────────────────────────

  test('KF-56 after each registration and each setting of the clock the next entry has all fields right', () => {
    const clock = withTsc(2_893_300_000, 5n * SECOND);
    const vm = make(clock);
    const check = (...copies: number[]): void => {
      clock.advance(333_333n);
      run(vm);
      for (const at of copies) {
        expect(recordAt(vm, at)).toMatchObject({ ...timeScale(2_893_300_000), flags: PVCLOCK_TSC_STABLE });
        expect(guestTime(vm, at, vm.vcpu(0).readTsc())).toBe(vm.kvmclock.now());
      }
    };
    check(...COPIES);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x7800) });
    check(IN_VCPU_INFO, 0x7800);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5001) });
    check(0x5001 + VCPU_INFO_TIME, 0x7800);
    vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + VCPU_INFO_GPA) });
    check(IN_VCPU_INFO, 0x7800);
    for (const ns of [0n, 99n, 10n ** 17n]) {
      vm.kvmclock.set(ns);
      check(IN_VCPU_INFO, 0x7800);
    }
  });

  test.each([
    ['vcpu_info', IN_VCPU_INFO, TIME_INFO],
    ['vcpu_time_info', TIME_INFO, IN_VCPU_INFO],
  ])(
    'KF-56 KX-CLK-11 a record in %s that is out of reach is left out, owed, and written when it is back',
    (_which, away, here) => {
      const clock = withTsc(2_000_000_000);
      const vm = make(clock);
      run(vm);
      invalidate(vm, away);
      vm.kvmclock.set(SECOND);
      const was = recordAt(vm, away);
      // The guest runs all the same, and no update is asked for in vain.
      for (let i = 0; i < 3; i++) run(vm);
      expect(recordAt(vm, away)).toEqual(was);
      expect(guestTime(vm, here, vm.vcpu(0).readTsc())).toBe(SECOND);
      expect(requested(vm)).toBe(false);
      vm.invalidateEnd();
      clock.advance(SECOND);
      run(vm);
      expect(guestTime(vm, away, vm.vcpu(0).readTsc())).toBe(2n * SECOND);
      const { version } = recordAt(vm, away);
      run(vm);
      expect(recordAt(vm, away).version).toBe(version);
    },
  );

  test('KF-56 a record whose page is gone is paid from where it is found again', () => {
    const vm = makeVm({ longMode, shared, guestPages: 9, clock: withTsc(2_000_000_000) });
    vm.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: PAGE_SIZE, hva: hva(vm.guestBase + 7 * PAGE_SIZE) });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x100000) });
    run(vm);
    vm.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: 0, hva: hva(0) });
    vm.kvmclock.set(SECOND);
    run(vm);
    vm.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: PAGE_SIZE, hva: hva(vm.guestBase + 8 * PAGE_SIZE) });
    run(vm);
    expect(recordAt(vm, 7 * PAGE_SIZE).systemTime).toBe(0n);
    expect(recordAt(vm, 8 * PAGE_SIZE)).toMatchObject({ systemTime: SECOND, version: 2 });
  });

  test('KF-56 a record that is owed and then unregistered is forgotten', () => {
    const vm = make(withTsc(2_000_000_000));
    run(vm);
    invalidate(vm, TIME_INFO);
    vm.kvmclock.set(SECOND);
    run(vm);
    vm.invalidateEnd();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: null });
    run(vm);
    const { version } = recordAt(vm, IN_VCPU_INFO);
    run(vm);
    expect(recordAt(vm, IN_VCPU_INFO).version).toBe(version);
  });

  // ── one clock ────────────────────────────────────────────────────────────────────────────────────────────────────

  test.each([
    { host: 3_000_000_000, guest: 3_000_000_000 },
    { host: 3_000_000_000, guest: 2_500_000_000 },
    { host: 2_893_300_123, guest: 1_000_000_007 },
    { host: 1_000_000, guest: 999_983 },
    { host: 999_999_937, guest: 5_999_999_999 },
  ])(
    'KF-52 R12 30 days with a TSC of $host Hz, the guest’s of $guest: what the guest computes is the guest clock',
    ({ host, guest }) => {
      const clock = withTsc(host, 17n);
      const vm = make(clock, { vcpus: 2 });
      for (const i of [0, 1]) vm.vcpu(i).setTsc({ hz: guest, offset: -12_345n });
      let last = -1n;
      for (let elapsed = 0n, i = 0; elapsed < BigInt(DAYS) * 86_400n * SECOND; elapsed += STEP, i++) {
        // Few records are written anew: what is there keeps to the clock.
        if (i % 50 === 0) run(vm, i % 2);
        if (i === 0) run(vm, 1);
        if (i % 70 === 69) vm.writeWallClock();
        clock.advance(STEP);
        const now = vm.kvmclock.now();
        for (const at of [...COPIES, IN_VCPU_INFO + VCPU_INFO_SIZE]) {
          const off = guestTime(vm, at, vm.vcpu(0).readTsc()) - now;
          expect(off > -1000n && off < 1000n, `${off} ns off after ${i} steps`).toBe(true);
        }
        expect(now).toBeGreaterThan(last);
        last = now;
      }
      expect(vm.kvmclock.master).toBe(true);
    },
  );

  test('KF-52 a frequency is not rounded to kHz', () => {
    const vm = make(withTsc(3_000_000_000));
    for (const hz of [2_500_000_000, 2_499_999_999, 1_234_567_891]) {
      vm.vcpu(0).setTsc({ hz });
      enter(vm);
      expect(recordAt(vm, TIME_INFO)).toMatchObject(exactScale(BigInt(hz)));
    }
    expect(exactScale(2_499_999_999n)).not.toEqual(exactScale(2_499_999_000n));
  });

  test('KF-52 calls that map something change no time field, and no reading of the guest', () => {
    const clock = withTsc(2_000_000_000);
    const vm = make(clock);
    run(vm);
    const timeFields = (): Uint8Array[] => {
      const header = vm.vmBase + REGION_CLOCK_VERSION;
      const wall = SHARED_INFO_GPA + (longMode ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT);
      return [
        new Uint8Array(vm.memory.buffer).slice(header, header + 64),
        ...COPIES.map((at) => ram(vm).slice(at, at + PVCLOCK_SIZE)),
        // Without its version, which counts the writes.
        ram(vm).slice(wall + 4, wall + 12),
      ];
    };
    const calls = [
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) }),
      () => vm.setAttr({ type: 'long_mode', enabled: longMode }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) }),
      () => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x2000) }),
      () => vm.memslots.set({ id: 5, gpa: gpa(0x100000), bytes: PAGE_SIZE, hva: hva(vm.guestBase) }),
      () => dropMappings(vm),
      () => vm.send(9),
    ];
    for (const call of calls) {
      clock.advance(777n);
      const was = timeFields();
      call();
      for (const [i, bytes] of timeFields().entries())
        expect(changes(was[i] as Uint8Array, bytes), String(call)).toEqual([]);
      const tsc = vm.vcpu(0).readTsc();
      const before = COPIES.map((at) => guestTime(vm, at, tsc + 10n ** 12n));
      run(vm);
      expect(COPIES.map((at) => guestTime(vm, at, tsc + 10n ** 12n))).toEqual(before);
    }
  });

  test('KF-52 at start-up the guest’s TSC may be below zero: its time is right all the same', () => {
    const clock = withTsc(2_000_000_000, 10n);
    const vm = make(clock);
    vm.vcpu(0).setTsc({ offset: -1000n });
    run(vm);
    expect(recordAt(vm, TIME_INFO).tscTimestamp).toBe(U64 - 980n);
    for (let i = 0; i < 100; i++) {
      clock.advance(17n);
      expect(guestTime(vm, TIME_INFO, vm.vcpu(0).readTsc())).toBe(vm.kvmclock.now());
      expect(vm.vcpu(0).readTime(vm.vcpu(0).readTsc(), 'vcpu_time_info')).toBe(vm.kvmclock.now());
    }
    vm.kvmclock.set(U64 - 5n);
    run(vm);
    clock.advance(10n);
    expect(guestTime(vm, TIME_INFO, vm.vcpu(0).readTsc())).toBe(5n);
  });

  test('KX-CLK-10 a thread whose clock lacks the TSC of the VM can write the records of the master clock, and no others', () => {
    if (!shared) return;
    const clock = withTsc(2_000_000_000);
    const vm = make(clock);
    const plain = attachVm(vm.handle(), { clock: new VirtualClock() });
    expect(plain.vcpu(0).beforeEntry().kind).toBe('enter');
    clock.advance(SECOND);
    expect(guestTime(vm, TIME_INFO, vm.vcpu(0).readTsc())).toBe(SECOND);
    vm.vcpu(0).setTsc({ hz: 0 });
    expect(vm.vcpu(0).beforeEntry().kind).toBe('again');
    vm.vcpu(0).setTsc({ hz: 1_000_000 });
    vm.region.words.and(vm.vcpu(0).line + VCPU_REQUESTS, REQUEST_CLOCK_UPDATE);
    expect(changed(vm, () => expect(errorOf(() => plain.vcpu(0).beforeEntry()).code).toBe('EOPNOTSUPP'))).toEqual([]);
    expect(requested(vm)).toBe(true);
  });
});

describe.each([true, false])('shared memory: %s', (shared) => {
  test.each([1_000_000, 24_000_000, 1_193_182, 2_500_000_000])(
    'KF-52 30 days without a TSC of the host, the guest’s of %i Hz: entered every 5 minutes it keeps to the clock',
    (hz) => {
      const clock = new VirtualClock(17n);
      const vm = makeVm({ shared, guestPages: 9, clock });
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
      vm.vcpu(0).setTsc({ hz });
      const tick = BigInt(Math.ceil(1e9 / hz));
      for (let i = 0; i < (DAYS * 86_400) / 300; i++) {
        run(vm);
        clock.advance(300n * SECOND);
        const off = guestTime(vm, TIME_INFO, vm.vcpu(0).readTsc()) - vm.kvmclock.now();
        // A slow TSC cannot be read between its ticks.
        expect(off > -1000n - tick && off < 1000n + tick, `${off} ns off after ${i} steps`).toBe(true);
      }
    },
  );
});
