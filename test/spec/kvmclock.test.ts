// The guest's clock and the wall clock: where they begin, what they go by, who may change them, what readers see. [kvm-xen 8.1]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { WALL_CLOCK_NSEC, WALL_CLOCK_SEC, WALL_CLOCK_VERSION } from '../../src/abi/pvclock.ts';
import {
  GPC_LONG_MODE,
  GPC_WORD,
  REGION_CLOCK_VERSION,
  REGION_CLOCK_WRITER,
  REGION_MASTER_NS,
  REGION_MASTER_TSC,
  REGION_SHARED_INFO,
  REQUEST_CLOCK_UPDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  REQUEST_UNBLOCK,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_REQUESTS,
} from '../../src/abi/region.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
} from '../../src/abi/shared_info.ts';
import { VCPU_INFO_TIME } from '../../src/abi/vcpu_info.ts';
import { attachVm, type Clock, createVm, gfn, gpa, VirtualClock, type Vm } from '../../src/index.ts';
import {
  errorOf,
  fields,
  KINDS,
  makeVm,
  memoryBytes,
  ram,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { cast, changes, invalidate, noNaps, refuses, tracing } from './evidence.ts';
import { named, outside } from './values.ts';

const SECOND = 1_000_000_000n;
const YEAR = 365n * 86_400n * SECOND;
const U64 = 2n ** 64n;
/** A frequency whose scale is exact: a tick is half a nanosecond. */
const GHZ2 = 2_000_000_000;

afterEach(() => {
  vi.restoreAllMocks();
});

/** A host whose clocks go as the test likes, each for itself. */
class Host implements Clock {
  ns = 0n;
  ticks = 0n;
  epoch = 0n;
  onTsc: (() => void) | null = null;
  readonly tscHz: number;

  constructor(tscHz = GHZ2) {
    this.tscHz = tscHz;
  }
  now(): bigint {
    return this.ns;
  }
  realtime(): bigint {
    return this.epoch + this.ns;
  }
  tsc(): bigint {
    const { ticks, onTsc } = this;
    this.onTsc = null;
    onTsc?.();
    return ticks;
  }
}

function requests(vm: Vm, index: number): number {
  return vm.region.words.load(vm.vcpu(index).line + VCPU_REQUESTS);
}

interface WallClock {
  readonly version: number;
  /** ns since 1970 at the guest clock's zero */
  readonly epoch: bigint;
}

/** The wall clock as the guest reads it. */
function wallClock(vm: Vm, long = vm.maxPorts === 4096): WallClock {
  const at = SHARED_INFO_GPA + (long ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT);
  const high = SHARED_INFO_GPA + (long ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT);
  const view = fields(vm);
  const seconds = BigInt(view.getUint32(at + WALL_CLOCK_SEC, true)) | (BigInt(view.getUint32(high, true)) << 32n);
  return {
    version: view.getUint32(at + WALL_CLOCK_VERSION, true),
    epoch: seconds * SECOND + BigInt(view.getUint32(at + WALL_CLOCK_NSEC, true)),
  };
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (clock: Clock, options = {}): Vm => makeVm({ longMode, shared, guestPages: 9, clock, ...options });
  const enter = (vm: Vm, index = 0): void => expect(vm.vcpu(index).beforeEntry().kind).toBe('enter');

  // ── a base and an offset ─────────────────────────────────────────────────────────────────────────────────────────

  test.each([0n, 1n, 123_456_789n, YEAR, U64 - 5n])(
    'KX-CLK-01 the clock is 0 at creation, with the host at %s ns',
    (start) => {
      for (const tscHz of [undefined, GHZ2]) {
        const clock = tscHz === undefined ? new VirtualClock(start) : new VirtualClock(start, 0n, { tscHz });
        const vm = make(clock);
        expect(vm.kvmclock.now()).toBe(0n);
        clock.advance(SECOND);
        expect(vm.kvmclock.now()).toBe(SECOND);
        expect(vm.kvmclock.instant()).toEqual({ guest: SECOND, host: start + SECOND });
      }
    },
  );

  test('KX-CLK-01 a VM made later has a clock of its own', () => {
    const clock = new VirtualClock(5n);
    const first = make(clock);
    clock.advance(100n);
    const second = make(clock);
    clock.advance(1n);
    expect([first.kvmclock.now(), second.kvmclock.now()]).toEqual([101n, 1n]);
  });

  test('KX-CLK-01 every attached thread reads the same clock', () => {
    const clock = new VirtualClock(5n, 0n, { tscHz: GHZ2 });
    const vm = make(clock);
    const other = attachVm(vm.handle(), { clock });
    clock.advance(100n);
    expect(other.kvmclock.now()).toBe(100n);
    vm.kvmclock.set(7777n);
    expect(other.kvmclock.now()).toBe(7777n);
    expect(other.kvmclock.master).toBe(true);
  });

  test.each([undefined, GHZ2])(
    'KX-CLK-01 set changes the offset: the clock goes on from there; TSC of %s Hz',
    (tscHz) => {
      const clock = tscHz === undefined ? new VirtualClock(5n) : new VirtualClock(5n, 0n, { tscHz });
      const vm = make(clock);
      clock.advance(SECOND);
      for (const ns of [0n, 1n, 12345n, YEAR, U64 - 1n, 500]) {
        vm.kvmclock.set(ns);
        expect(vm.kvmclock.now()).toBe(BigInt(ns));
        clock.advance(10n);
        expect(vm.kvmclock.now()).toBe((BigInt(ns) + 10n) % U64);
      }
    },
  );

  test.each(named([...outside(0, 2 ** 53 - 1, [2 ** 53]), U64, -1n]))(
    'a guest time of $name is EINVAL',
    ({ value }) => {
      const vm = make(new VirtualClock());
      refuses(vm, () => vm.kvmclock.set(cast(value)), 'EINVAL', "the guest's time");
    },
  );

  test('only the owner sets the clock, and a detached view has none', () => {
    const vm = make(new VirtualClock());
    const other = attachVm(vm.handle());
    refuses(vm, () => other.kvmclock.set(5n), 'EPERM', 'owner');
    other.detach();
    for (const call of [() => other.kvmclock.now(), () => other.kvmclock.master, () => other.kvmclock.instant()]) {
      expect(errorOf(call).code).toBe('EBADF');
    }
  });

  test.each([undefined, GHZ2])(
    'KF-52 before zero the clock is negative, not 0: a thread that is behind; TSC of %s Hz',
    (tscHz) => {
      const options = tscHz === undefined ? {} : { tscHz };
      const vm = make(new VirtualClock(1000n, 0n, options));
      const behind = attachVm(vm.handle(), { clock: new VirtualClock(990n, 0n, options) });
      expect(BigInt.asIntN(64, behind.kvmclock.now())).toBe(-10n);
      expect(behind.kvmclock.now()).toBe(U64 - 10n);
    },
  );

  test.each([undefined, GHZ2])(
    'KF-54 the host jumps a year, and another: the clock follows at once; TSC of %s Hz',
    (tscHz) => {
      const clock = tscHz === undefined ? new VirtualClock(5n) : new VirtualClock(5n, 0n, { tscHz });
      const vm = make(clock);
      for (let years = 1n; years <= 30n; years++) {
        clock.advance(YEAR);
        expect(vm.kvmclock.now()).toBe(years * YEAR);
        if (years % 3n === 0n) vm.writeWallClock();
        enter(vm);
        expect(vm.kvmclock.now()).toBe(years * YEAR);
      }
    },
  );

  // ── the master clock ─────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-CLK-02 with a TSC time goes by it, without by the host clock', () => {
    const host = new Host();
    host.ns = 500n;
    const vm = make(host);
    expect(vm.kvmclock.master).toBe(true);
    host.ns += 10n;
    expect(vm.kvmclock.now()).toBe(0n);
    host.ticks += 2000n;
    expect(vm.kvmclock.now()).toBe(1000n);
    const plain = make({ now: () => host.ns, realtime: () => 0n });
    expect(plain.kvmclock.master).toBe(false);
    host.ticks += 2000n;
    host.ns += 7n;
    expect(plain.kvmclock.now()).toBe(7n);
  });

  test('KX-CLK-02 a TSC without a frequency, or a frequency without a TSC, is none', () => {
    const tsc = (): bigint => 5n;
    for (const clock of [
      { now: () => 0n, realtime: () => 0n, tsc },
      { now: () => 0n, realtime: () => 0n, tscHz: GHZ2 },
    ]) {
      expect(make(clock).kvmclock.master).toBe(false);
    }
  });

  test('KX-CLK-02 vCPUs whose TSCs differ have no master clock; alike again, they have; time makes no step', () => {
    const host = new Host();
    const vm = make(host, { vcpus: 3 });
    const pass = (): void => {
      host.ns += SECOND;
      host.ticks += 2n * SECOND;
    };
    pass();
    enter(vm);
    expect(vm.kvmclock.master).toBe(true);
    for (const change of [{ hz: 1_000_000_000 }, { offset: 1n }]) {
      const { hz, offset } = vm.vcpu(2).getTsc();
      vm.vcpu(2).setTsc(change);
      enter(vm);
      expect(vm.kvmclock.master).toBe(false);
      const before = vm.kvmclock.now();
      pass();
      expect(vm.kvmclock.now()).toBe(before + SECOND);
      vm.vcpu(2).setTsc({ hz, offset });
      enter(vm);
      expect(vm.kvmclock.master).toBe(true);
      expect(vm.kvmclock.now()).toBe(before + SECOND);
    }
    for (let i = 0; i < 3; i++) vm.vcpu(i).setTsc({ hz: 1_000_000_000, offset: 1n });
    enter(vm);
    expect(vm.kvmclock.master).toBe(true);
  });

  test('KX-CLK-02 KF-52 the clock never steps when the way it is counted changes', () => {
    const host = new Host(2_700_000_000);
    const vm = make(host, { vcpus: 2 });
    for (let i = 0; i < 50; i++) {
      // The TSC is a little off its frequency, as a real one is.
      host.ns += 1_000_000_007n;
      host.ticks += 2_700_054_321n;
      const before = vm.kvmclock.now();
      if (i % 3 === 0) vm.vcpu(1).setTsc({ offset: BigInt(i % 2) });
      if (i % 3 === 1) for (const v of [0, 1]) vm.vcpu(v).setTsc({ hz: 1_000_000_000 + i, offset: 0n });
      if (i % 3 === 2) vm.writeWallClock();
      enter(vm);
      expect(vm.kvmclock.now(), `step ${i}`).toBe(before);
    }
  });

  test('KX-CLK-02 KF-52 a TSC read just before the sample, on another thread, is a negative span', () => {
    const host = new Host();
    host.ticks = 10_000n;
    const vm = make(host);
    vm.kvmclock.set(1000n);
    host.ticks = 10_000n - 20n;
    expect(vm.kvmclock.now()).toBe(990n);
  });

  test('KX-CLK-02 a reader looks again when the clock is changed under it', () => {
    const host = new Host();
    const vm = make(host);
    host.onTsc = () => vm.kvmclock.set(5_000n);
    // With the old data and the reading that follows it would be 0.
    expect(vm.kvmclock.now()).toBe(5_000n);
  });

  test('KX-CLK-02 R5 a clock that changes at every look: EBUSY after a bounded number', () => {
    noNaps();
    const host = new Host();
    const vm = make(host);
    let looks = 0;
    const version = vm.vmBase + REGION_CLOCK_VERSION;
    const change = (): void => {
      looks++;
      vm.region.words.add(version, 2);
      host.onTsc = change;
    };
    host.onTsc = change;
    expect(errorOf(() => vm.kvmclock.now()).code).toBe('EBUSY');
    expect(looks).toBeLessThan(200_000);
  });

  test('KX-CLK-02 a thread whose clock has no TSC reads by the host clock, and does not take the TSC from the others', () => {
    const host = new Host();
    const vm = make(host);
    const plain = attachVm(vm.handle(), { clock: { now: () => host.ns, realtime: () => 0n } });
    host.ns += SECOND;
    host.ticks += 2n * SECOND;
    expect(plain.kvmclock.now()).toBe(SECOND);
    vm.writeWallClock();
    expect(plain.vcpu(0).beforeEntry().kind).toBe('enter');
    expect(vm.kvmclock.master).toBe(true);
    expect(vm.kvmclock.now()).toBe(SECOND);
  });

  test('KX-CLK-13 a new shared_info asks every vCPU for a new master sample; the first that enters takes it for all', () => {
    const host = new Host();
    const vm = make(host, { vcpus: 3 });
    for (let i = 0; i < 3; i++) enter(vm, i);
    for (let i = 0; i < 3; i++) vm.vcpu(i).afterExit();
    host.ns = 5n * SECOND;
    host.ticks = 10n * SECOND;
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    for (let i = 0; i < 3; i++) expect(requests(vm, i) & REQUEST_MASTERCLOCK_UPDATE).toBe(REQUEST_MASTERCLOCK_UPDATE);
    enter(vm, 1);
    const { words } = vm.region;
    expect(words.load64(vm.vmBase + REGION_MASTER_NS)).toBe(5n * SECOND);
    expect(words.load64(vm.vmBase + REGION_MASTER_TSC)).toBe(10n * SECOND);
    for (let i = 0; i < 3; i++) {
      expect(requests(vm, i) & REQUEST_MASTERCLOCK_UPDATE, `vCPU ${i}`).toBe(0);
      expect(requests(vm, i) & REQUEST_CLOCK_UPDATE, `vCPU ${i}`).toBe(i === 1 ? 0 : REQUEST_CLOCK_UPDATE);
    }
    expect(vm.kvmclock.now()).toBe(5n * SECOND);
  });

  test('KX-CLK-13 vCPUs that are in the guest are made to leave it, others are not disturbed', () => {
    const vm = make(new Host(), { vcpus: 3 });
    for (let i = 0; i < 3; i++) enter(vm, i);
    vm.vcpu(2).afterExit();
    vm.writeWallClock();
    enter(vm, 0);
    expect(vm.region.words.load(vm.vcpu(1).record + VCPU_MODE) & VCPU_IN_GUEST).toBe(VCPU_IN_GUEST);
    expect(requests(vm, 1)).toBe(REQUEST_CLOCK_UPDATE | REQUEST_UNBLOCK);
    expect(requests(vm, 2)).toBe(REQUEST_CLOCK_UPDATE);
  });

  test('KX-CLK-13 a sample that cannot be taken stays asked for', () => {
    noNaps();
    const vm = make(new Host(), { vcpus: 2 });
    const other = attachVm(vm.handle());
    enter(vm);
    vm.writeWallClock();
    vm.region.words.store(vm.vmBase + REGION_CLOCK_WRITER, other.agent);
    expect(errorOf(() => vm.vcpu(0).beforeEntry()).code).toBe('EBUSY');
    for (const i of [0, 1]) expect(requests(vm, i) & REQUEST_MASTERCLOCK_UPDATE).toBe(REQUEST_MASTERCLOCK_UPDATE);
    vm.region.words.store(vm.vmBase + REGION_CLOCK_WRITER, 0);
    enter(vm);
  });

  // ── writers that stop half-way ───────────────────────────────────────────────────────────────────────────────────

  test('R5 R8 a live thread that does not end its change: readers read on, writers get EBUSY with its number', () => {
    noNaps();
    const vm = make(new Host());
    const other = attachVm(vm.handle());
    vm.region.words.store(vm.vmBase + REGION_CLOCK_WRITER, other.agent);
    expect(vm.kvmclock.now()).toBe(0n);
    refuses(vm, () => vm.kvmclock.set(5n), 'EBUSY', `agent ${other.agentNumber}`, 'detachAgent');
    refuses(vm, () => vm.vcpu(0).setTsc({ offset: 5n }), 'EBUSY', `agent ${other.agentNumber}`);
  });

  test('R5 R8 a live thread that stops in the middle of its stores: EBUSY for readers too, until it is removed', () => {
    noNaps();
    const host = new Host();
    const vm = make(host);
    const other = attachVm(vm.handle());
    const { words } = vm.region;
    words.store(vm.vmBase + REGION_CLOCK_WRITER, other.agent);
    words.or(vm.vmBase + REGION_CLOCK_VERSION, 1);
    expect(errorOf(() => vm.kvmclock.now()).code).toBe('EBUSY');
    vm.detachAgent(other.agentNumber);
    words.store64(vm.vmBase + REGION_MASTER_TSC, 0xdeadbeefn);
    host.ns = SECOND;
    host.ticks = 2n * SECOND;
    // What it left is not used: the clock goes on by the host's clock, then by the TSC again.
    expect(vm.kvmclock.now()).toBe(SECOND);
    host.ticks += 2n;
    expect(vm.kvmclock.now()).toBe(SECOND + 1n);
    expect(words.load(vm.vmBase + REGION_CLOCK_WRITER)).toBe(0);
    expect(words.load(vm.vmBase + REGION_CLOCK_VERSION) & 1).toBe(0);
  });

  test('a host clock that throws changes nothing', () => {
    const host = new Host();
    const vm = make(host);
    const boom = (): never => {
      throw new Error('no clock');
    };
    const before = memoryBytes(vm);
    for (const call of [() => vm.kvmclock.set(5n), () => vm.kvmclock.now(), () => vm.writeWallClock()]) {
      host.onTsc = boom;
      expect(call).toThrow('no clock');
      expect(changes(before, memoryBytes(vm))).toEqual([]);
    }
    expect(vm.kvmclock.now()).toBe(0n);
  });

  // ── the wall clock ───────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-CLK-12 KX-VMA-20 the epoch is realtime less guest time, both of one sample', () => {
    const at = { now: 10n, realtime: 0n, tsc: 0n };
    // Each reading takes time here; only a sample has all three of one instant.
    const read = (name: 'now' | 'realtime' | 'tsc') => (): bigint => {
      at.now += 1000n;
      at.realtime += 1000n;
      at.tsc += 2000n;
      return at[name];
    };
    const clock = {
      now: read('now'),
      realtime: read('realtime'),
      tsc: read('tsc'),
      tscHz: GHZ2,
      sample: () => ({ ...at }),
    };
    at.realtime = 77n * SECOND;
    const vm = make(clock);
    at.now += SECOND;
    at.realtime += SECOND;
    at.tsc += 2n * SECOND;
    vm.writeWallClock();
    expect(wallClock(vm).epoch).toBe(77n * SECOND);
  });

  test('KX-CLK-12 with the master clock the epoch is less the guest time by the TSC', () => {
    const host = new Host();
    host.epoch = 100n * SECOND;
    const vm = make(host);
    host.ns = SECOND;
    host.ticks = 4n * SECOND;
    vm.writeWallClock();
    expect(wallClock(vm).epoch).toBe(99n * SECOND);
  });

  test('KX-CLK-12 KF-52 guest time below zero makes the epoch later', () => {
    const clock = new VirtualClock(0n, 50n * SECOND);
    const vm = make(clock);
    vm.kvmclock.set(U64 - 3n * SECOND);
    vm.writeWallClock();
    expect(wallClock(vm).epoch).toBe(53n * SECOND);
  });

  test('KF-56 the wall clock follows a setting of the clock at once, on its own version', () => {
    const clock = new VirtualClock(0n, 1000n * SECOND);
    const vm = make(clock);
    clock.advance(10n * SECOND);
    const { version } = wallClock(vm);
    vm.kvmclock.set(400n * SECOND + 1n);
    expect(wallClock(vm)).toEqual({ version: version + 2, epoch: 610n * SECOND - 1n });
  });

  test('KF-56 a wall clock out of reach is owed, and paid at the next entry that can', () => {
    const clock = new VirtualClock(0n, 1000n * SECOND);
    const vm = make(clock);
    enter(vm);
    const before = wallClock(vm);
    invalidate(vm, SHARED_INFO_GPA);
    vm.kvmclock.set(400n * SECOND);
    enter(vm);
    expect(wallClock(vm)).toEqual(before);
    vm.invalidateEnd();
    clock.advance(SECOND);
    vm.vcpu(0).load();
    enter(vm);
    expect(wallClock(vm)).toEqual({ version: before.version + 2, epoch: 600n * SECOND });
    // Paid once.
    vm.vcpu(0).load();
    enter(vm);
    expect(wallClock(vm).version).toBe(before.version + 2);
  });

  test('KF-56 without shared_info there is no wall clock to follow', () => {
    const vm = make(new VirtualClock());
    vm.setAttr({ type: 'shared_info', gfn: null });
    const before = ram(vm).slice();
    vm.kvmclock.set(5n);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    enter(vm);
    expect(changes(before, ram(vm))).toEqual([]);
  });

  test('X-05 KX-VMA-02 a change of mode puts the wall clock, wc_sec_hi with it, where that mode has it', () => {
    const epoch = (3n * 2n ** 32n + 5n) * SECOND + 9n;
    const vm = make(new VirtualClock(0n, epoch));
    expect(wallClock(vm)).toEqual({ version: 2, epoch });
    const before = ram(vm).slice();
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    expect(wallClock(vm, !longMode)).toEqual({ version: 2, epoch });
    expect(wallClock(vm, longMode).epoch, 'the old place').toBe(epoch);
    const touched = changes(before, ram(vm)).map(([at]) => at - SHARED_INFO_GPA);
    const [at, high] = longMode
      ? [SHARED_INFO_WC_COMPAT, SHARED_INFO_WC_SEC_HI_COMPAT]
      : [SHARED_INFO_WC_LONG, SHARED_INFO_WC_SEC_HI_LONG];
    expect(touched.filter((byte) => !((byte >= at && byte < at + 12) || (byte >= high && byte < high + 4)))).toEqual(
      [],
    );
  });

  test('KF-61 KX-VMA-20 a mode that flips at any step of the wall clock write: one layout or the other, whole', () => {
    const run = (flipAt: number): { steps: number; bytes: Uint8Array } => {
      let vm: Vm | undefined;
      let steps = 0;
      const flip = (on: Vm): void => {
        const word = on.vmBase + REGION_SHARED_INFO + GPC_WORD;
        if (longMode) on.region.words.and(word, ~GPC_LONG_MODE);
        else on.region.words.or(word, GPC_LONG_MODE);
      };
      const onStep = (): void => {
        if (vm && steps++ === flipAt) flip(vm);
      };
      const clock = new VirtualClock(0n, (7n * 2n ** 32n + 6n) * SECOND + 5n);
      const made = make(clock, tracing(shared, { onStep }));
      for (const at of [SHARED_INFO_WC_LONG, SHARED_INFO_WC_COMPAT])
        ram(made).fill(0, SHARED_INFO_GPA + at, SHARED_INFO_GPA + at + 48);
      vm = made;
      made.writeWallClock();
      vm = undefined;
      return { steps, bytes: ram(made).slice(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE) };
    };
    const [before, after] = [run(0).bytes, run(-1)];
    expect(changes(before, after.bytes)).not.toEqual([]);
    let flipped = 0;
    for (let k = 0; k < after.steps; k++) {
      const { bytes } = run(k);
      if (changes(before, bytes).length === 0) flipped++;
      else expect(changes(after.bytes, bytes), `step ${k}`).toEqual([]);
    }
    expect(flipped).toBeGreaterThan(0);
    expect(flipped).toBeLessThan(after.steps);
  });

  test('S-50 in the end: wall clock and both clock records have a stable version, and the times agree', () => {
    const clock = new VirtualClock(7n * SECOND, 1_790_000_000n * SECOND, { tscHz: 2_100_000_000 });
    const vm = make(clock);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(7 * PAGE_SIZE) });
    clock.advance(123_456_789n);
    vm.setAttr({ type: 'long_mode', enabled: true });
    vm.vcpu(0).load();
    enter(vm);
    const { version, epoch } = wallClock(vm);
    expect(epoch).toBe(clock.realtime() - vm.kvmclock.now());
    const stamps = [VCPU_INFO_GPA + VCPU_INFO_TIME, 7 * PAGE_SIZE].map((at) => fields(vm).getUint32(at, true));
    for (const stamp of [version, ...stamps]) {
      expect(stamp).not.toBe(0);
      expect(stamp % 2).toBe(0);
    }
    for (const from of ['vcpu_info', 'vcpu_time_info'] as const) {
      expect(vm.vcpu(0).readTime(vm.vcpu(0).readTsc(), from)).toBe(vm.kvmclock.now());
    }
  });
});

describe('clocks that tests and emulators bring', () => {
  test.each(named(outside(1, 2 ** 53 - 1, [2 ** 53, 0]).filter((v) => v !== undefined)))(
    'a TSC of $name Hz is EINVAL, and no VM is made',
    ({ value }) => {
      expect(errorOf(() => new VirtualClock(0n, 0n, { tscHz: cast(value) })).code).toBe('EINVAL');
      const memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
      const clock = { now: () => 0n, realtime: () => 0n, tsc: () => 0n, tscHz: cast<number>(value) };
      expect(
        errorOf(() => createVm({ memory, guestBase: 4096, guestPages: 2, regionBase: 64 * 1024, clock })).code,
      ).toBe('EINVAL');
      expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
    },
  );

  test('a virtual clock has a TSC when it is given a frequency: whole ticks since time 0', () => {
    expect(new VirtualClock(5n).tsc).toBe(undefined);
    const clock = new VirtualClock(3n, 0n, { tscHz: 333_333_333 });
    expect(clock.tscHz).toBe(333_333_333);
    expect(clock.tsc?.()).toBe(0n);
    clock.advance(SECOND - 3n);
    expect(clock.tsc?.()).toBe(333_333_333n);
    clock.advance(YEAR);
    expect(clock.tsc?.()).toBe(333_333_333n * (1n + YEAR / SECOND));
  });
});
