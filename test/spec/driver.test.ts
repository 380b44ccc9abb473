// The real-time driver: on time, never early, far deadlines in parts, other threads' deadlines, and when a process may exit. [KF-90]

import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { REGION_TIMEKEEPER, VCPU_TIMER_DEADLINE } from '../../src/abi/region.ts';
import {
  attachVm,
  type Clock,
  driveTimers,
  type TimerDriver,
  type TimerDriverOptions,
  type Vm,
} from '../../src/index.ts';
import { setPollDeadline } from '../../src/vm/time/deadlines.ts';
import { startTimer, stopTimer } from '../../src/vm/time/timer.ts';
import { errorOf, KINDS, makeVm, pendingBit, drained as takenBy } from '../support.ts';
import { holdTimer, IDLE, MS, PORT, SECOND, setTimer, startIn, timerState, unblocked } from './timers.ts';

const DAY_MS = 86_400_000;
const LONGEST = 2 ** 31 - 1;

const { waitAsync } = Atomics;
const drivers: TimerDriver[] = [];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: 1_000_000 });
});
afterEach(() => {
  for (const driver of drivers.splice(0)) driver.stop();
  vi.useRealTimers();
  vi.restoreAllMocks();
  Object.defineProperty(Atomics, 'waitAsync', { value: waitAsync, configurable: true, writable: true });
});

/** The clock that goes with the fake timers; its milliseconds begin somewhere in between. */
const clock: Clock = {
  now: () => BigInt(Date.now()) * MS + 400_000n,
  realtime: () => BigInt(Date.now()) * MS,
};

/** What the guest's vCPUs find. */
function drained(vm: Vm): number[] {
  return Array.from({ length: vm.vcpus }, (_, index) => takenBy(vm, index)).flat();
}

function drive(vm: Vm, options?: TimerDriverOptions): TimerDriver {
  const driver = driveTimers(vm, options);
  drivers.push(driver);
  return driver;
}

/** Lets what the platform has to tell this thread arrive, until `what` holds. */
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 20_000 && !what(); i++) await new Promise((resolve) => setImmediate(resolve));
  expect(what()).toBe(true);
}

/** A view as another thread has it: its own memory object, so that nothing but the memory connects the two. */
function otherThread(vm: Vm): Vm {
  return attachVm(structuredClone(vm.handle()), { clock });
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  function make(vcpus = 1): Vm {
    const vm = makeVm({ longMode, shared, clock, vcpus });
    for (let i = 0; i < vcpus; i++) setTimer(vm.vcpu(i), 0n, PORT + i);
    return vm;
  }

  test('R12 a timer comes when it is due and not before, once; then nothing is left to wait for', () => {
    const vm = make();
    drive(vm);
    expect(vi.getTimerCount()).toBe(0);
    startIn(vm.vcpu(0), 5n * MS);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(4);
    expect(drained(vm)).toEqual([]);
    vi.advanceTimersByTime(1);
    expect([drained(vm), timerState(vm.vcpu(0)), vi.getTimerCount()]).toEqual([[PORT], IDLE, 0]);
    vi.advanceTimersByTime(DAY_MS);
    expect(drained(vm)).toEqual([]);
  });

  test('a deadline that is set already when the driver begins, and one that has passed', () => {
    const vm = make(2);
    startIn(vm.vcpu(0), 5n * MS);
    startIn(vm.vcpu(1), 50n * MS);
    vi.setSystemTime(Date.now() + 20);
    drive(vm);
    vi.advanceTimersByTime(0);
    expect(drained(vm)).toEqual([PORT]);
    vi.advanceTimersByTime(30);
    expect(drained(vm)).toEqual([PORT + 1]);
  });

  test('whole milliseconds, rounded up: what is a nanosecond away is not waited for in vain', () => {
    const vm = make();
    drive(vm);
    const timeout = vi.spyOn(globalThis, 'setTimeout');
    for (const [delta, ms] of [
      [1n, 1],
      [MS - 1n, 1],
      [MS, 1],
      [MS + 1n, 2],
      [10n * MS, 10],
    ] as const) {
      stopTimer(vm.vcpu(0));
      startIn(vm.vcpu(0), delta);
      expect(timeout.mock.lastCall?.[1], `${delta} ns`).toBe(ms);
    }
  });

  test('S-31 set by the attribute: noticed as well', () => {
    const vm = make();
    drive(vm);
    setTimer(vm.vcpu(0), vm.kvmclock.now() + 5n * MS);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(5);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('an earlier deadline replaces the one that is waited for; a later one does not, and still comes', () => {
    const vm = make(3);
    drive(vm);
    startIn(vm.vcpu(0), 50n * MS);
    const timeout = vi.spyOn(globalThis, 'setTimeout');
    startIn(vm.vcpu(1), 70n * MS);
    expect(timeout).not.toHaveBeenCalled();
    startIn(vm.vcpu(2), 20n * MS);
    expect(timeout).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(1);
    const seen: number[][] = [];
    for (let ms = 10; ms <= 80; ms += 10) {
      vi.advanceTimersByTime(10);
      seen.push(drained(vm));
    }
    expect(seen).toEqual([[], [PORT + 2], [], [], [PORT], [], [PORT + 1], []]);
  });

  test('a timer that is stopped is not waited for; one that is put off comes when it is due', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    drive(vm);
    startIn(vcpu, 50n * MS);
    stopTimer(vcpu);
    expect(vi.getTimerCount()).toBe(0);
    startIn(vcpu, 50n * MS);
    setTimer(vcpu, 0n);
    expect(vi.getTimerCount()).toBe(0);
    startIn(vcpu, 50n * MS);
    startIn(vcpu, 90n * MS);
    vi.advanceTimersByTime(89);
    expect([drained(vm), vi.getTimerCount()]).toEqual([[], 1]);
    vi.advanceTimersByTime(1);
    expect(drained(vm)).toEqual([PORT]);
  });

  test.each([24.8, 24.9, 100, 10_000])(
    'KF-90 %d days away: in parts that the platform takes, and not a millisecond early',
    (days) => {
      const vm = make();
      drive(vm);
      const timeout = vi.spyOn(globalThis, 'setTimeout');
      const ms = days * DAY_MS;
      startIn(vm.vcpu(0), BigInt(ms) * MS);
      vi.advanceTimersByTime(ms - 1);
      expect(drained(vm)).toEqual([]);
      vi.advanceTimersByTime(1);
      expect(drained(vm)).toEqual([PORT]);
      for (const [, delay] of timeout.mock.calls) expect(delay).toBeLessThanOrEqual(LONGEST);
      expect(timeout).toHaveBeenCalledTimes(Math.ceil(ms / LONGEST));
    },
  );

  test('KF-90 R12 the platform’s timer fires early, or the clock goes slower than it: looked at again, never early', () => {
    // A third of the machine's pace.
    const slow: Clock = { ...clock, now: () => (BigInt(Date.now()) * MS) / 3n };
    const vm = makeVm({ longMode, shared, clock: slow });
    setTimer(vm.vcpu(0), 0n);
    drive(vm);
    const expires = startIn(vm.vcpu(0), 10n * MS);
    for (let ms = 0; ms < 29; ms++) {
      vi.advanceTimersByTime(1);
      expect([drained(vm), vm.kvmclock.now() < expires]).toEqual([[], true]);
    }
    vi.advanceTimersByTime(2);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('KX-TMR-03 the guest’s clock is set back meanwhile: as late as that', () => {
    const vm = make();
    drive(vm);
    startIn(vm.vcpu(0), 50n * MS);
    vi.advanceTimersByTime(40);
    vm.kvmclock.set(vm.kvmclock.now() - 30n * MS);
    vi.advanceTimersByTime(39);
    expect(drained(vm)).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('KX-HCL-37 polls that time out', () => {
    const vm = make();
    drive(vm);
    setPollDeadline(vm.vcpu(0), clock.now() + 5n * MS);
    vi.advanceTimersByTime(4);
    expect(unblocked(vm.vcpu(0))).toBe(false);
    vi.advanceTimersByTime(1);
    expect([unblocked(vm.vcpu(0)), vi.getTimerCount()]).toEqual([true, 0]);
    setPollDeadline(vm.vcpu(0), clock.now() + SECOND);
    setPollDeadline(vm.vcpu(0), 0n);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('a guest that sets its timer again and again, 250 times a second', () => {
    const vm = make();
    drive(vm);
    let events = 0;
    startIn(vm.vcpu(0), 4n * MS);
    for (let ms = 0; ms < 1000; ms++) {
      vi.advanceTimersByTime(1);
      if (drained(vm).length === 0) continue;
      events++;
      startIn(vm.vcpu(0), 4n * MS);
    }
    expect(events).toBe(250);
  });

  test('set by another view of this thread: noticed at once', () => {
    const vm = make();
    const other = attachVm(vm.handle(), { clock });
    drive(vm);
    startIn(other.vcpu(0), 5n * MS);
    vi.advanceTimersByTime(5);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('two drivers, on one view or on two: an event each time, and each can be stopped alone', () => {
    const vm = make();
    const other = attachVm(vm.handle(), { clock });
    const [first] = [drive(vm), drive(vm), drive(other)];
    for (let i = 0; i < 3; i++) {
      startIn(vm.vcpu(0), 5n * MS);
      vi.advanceTimersByTime(5);
      expect([drained(vm), vi.getTimerCount()]).toEqual([[PORT], 0]);
      first.stop();
    }
  });

  // ── its end ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('stop: nothing is waited for, nothing is noticed, nothing comes; twice is once', () => {
    const vm = make();
    const driver = drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    driver.stop();
    driver.stop();
    expect([vi.getTimerCount(), vm.onDetach.size]).toEqual([0, 0]);
    startIn(vm.vcpu(0), 5n * MS);
    driver.ref();
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(DAY_MS);
    expect(drained(vm)).toEqual([]);
    expect(vm.tick()).toBe(1);
  });

  test('stopped from inside a tick', () => {
    const vm = make(2);
    const driver = drive(vm);
    for (const i of [0, 1]) startIn(vm.vcpu(i), BigInt(5 + i) * MS);
    const { tick } = vm;
    vm.tick = () => {
      driver.stop();
      return tick.call(vm);
    };
    vi.advanceTimersByTime(50);
    expect([drained(vm), vi.getTimerCount()]).toEqual([[PORT], 0]);
  });

  test('the view is detached, or the VM closed: as stop', () => {
    const vm = make();
    const other = attachVm(vm.handle(), { clock });
    drive(other);
    drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    expect(vi.getTimerCount()).toBe(2);
    other.detach();
    expect([vi.getTimerCount(), other.onDetach.size]).toEqual([1, 0]);
    vm.close();
    expect([vi.getTimerCount(), vm.onDetach.size]).toEqual([0, 0]);
  });

  test('the VM is closed under another view of this thread: that driver ends, too', () => {
    const vm = make();
    const other = attachVm(vm.handle(), { clock });
    drive(other);
    startIn(vm.vcpu(0), 5n * MS);
    vm.close();
    expect([vi.getTimerCount(), other.onDetach.size]).toEqual([0, 0]);
  });

  test('for a view that is detached: EBADF', () => {
    const vm = make();
    vm.detach();
    expect(errorOf(() => driveTimers(vm)).code).toBe('EBADF');
  });

  test('what a tick throws is not swallowed, and the driver goes on', () => {
    const vm = make();
    drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    const tick = vi.spyOn(vm, 'tick').mockImplementationOnce(() => {
      throw new Error('out of order');
    });
    expect(() => vi.advanceTimersByTime(5)).toThrow('out of order');
    tick.mockRestore();
    vi.advanceTimersByTime(1);
    expect(drained(vm)).toEqual([PORT]);
  });

  // ── the process ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether what the driver waits for keeps the process alive. */
  function spyRef(): () => boolean | undefined {
    const timeout = vi.spyOn(globalThis, 'setTimeout');
    return () => (timeout.mock.results.at(-1)?.value as NodeJS.Timeout | undefined)?.hasRef();
  }

  test('KF-88 a deadline that is set keeps the process alive, unless told otherwise, at any time', () => {
    const vm = make();
    const held = spyRef();
    const driver = drive(vm);
    startIn(vm.vcpu(0), 50n * MS);
    expect(held()).toBe(true);
    driver.unref();
    expect(held()).toBe(false);
    startIn(vm.vcpu(0), 10n * MS);
    expect(held()).toBe(false);
    driver.ref();
    expect(held()).toBe(true);
    driver.stop();
    const quiet = make();
    drive(quiet, { ref: false });
    startIn(quiet.vcpu(0), 50n * MS);
    expect(held()).toBe(false);
  });

  test('a platform whose timers are numbers', () => {
    const vm = make();
    const fake = globalThis.setTimeout;
    const timers = new Map<number, NodeJS.Timeout>();
    const cancel = globalThis.clearTimeout;
    vi.spyOn(globalThis, 'setTimeout').mockImplementation(((call: () => void, ms: number) => {
      timers.set(timers.size + 1, fake(call, ms));
      return timers.size;
    }) as unknown as typeof setTimeout);
    vi.spyOn(globalThis, 'clearTimeout').mockImplementation(((id: number) =>
      cancel(timers.get(id))) as typeof clearTimeout);
    const driver = drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    driver.unref();
    startIn(vm.vcpu(0), 3n * MS);
    expect(vi.getTimerCount()).toBe(1);
    vi.advanceTimersByTime(3);
    expect(drained(vm)).toEqual([PORT]);
  });
});

describe.each(KINDS.filter(({ shared }) => shared))('$layout layout, deadlines of other threads', ({ longMode }) => {
  function make(vcpus = 1): Vm {
    const vm = makeVm({ longMode, clock, vcpus });
    for (let i = 0; i < vcpus; i++) setTimer(vm.vcpu(i), 0n, PORT + i);
    return vm;
  }

  test('set elsewhere: this thread is told, and waits for it; earlier ones and stopped ones as well', async () => {
    const vm = make(2);
    const other = otherThread(vm);
    drive(vm);
    startIn(other.vcpu(0), 50n * MS);
    await until(() => vi.getTimerCount() === 1);
    startIn(other.vcpu(1), 20n * MS);
    await until(() => flag(vm) === 1);
    vi.advanceTimersByTime(20);
    expect(drained(vm)).toEqual([PORT + 1]);
    stopTimer(other.vcpu(0));
    await until(() => vi.getTimerCount() === 0);
    setPollDeadline(other.vcpu(0), clock.now() + 5n * MS);
    await until(() => vi.getTimerCount() === 1);
    vi.advanceTimersByTime(5);
    expect(unblocked(vm.vcpu(0))).toBe(true);
  });

  const flag = (vm: Vm): number => vm.region.words.load(vm.vmBase + REGION_TIMEKEEPER);

  test('set while the driver looks, before it sleeps: not missed', async () => {
    for (const when of ['before', 'after'] as const) {
      const vm = make();
      const other = otherThread(vm);
      let left = 1;
      const arm = (): void => {
        if (left-- > 0) startIn(other.vcpu(0), 5n * MS);
      };
      const { nextDeadline } = vm;
      vm.nextDeadline = () => {
        if (when === 'before') arm();
        const found = nextDeadline.call(vm);
        arm();
        return found;
      };
      const driver = drive(vm);
      await until(() => vi.getTimerCount() === 1);
      vi.advanceTimersByTime(5);
      expect(drained(vm), when).toEqual([PORT]);
      driver.stop();
    }
  });

  test('nobody is notified who does not sleep, and a sleeper once', async () => {
    const vm = make();
    const other = otherThread(vm);
    const notify = vi.spyOn(Atomics, 'notify');
    for (let i = 0; i < 10; i++) startIn(other.vcpu(0), 50n * MS);
    expect(notify).not.toHaveBeenCalled();
    drive(vm);
    for (let i = 0; i < 10; i++) startIn(other.vcpu(0), 50n * MS);
    expect(notify).toHaveBeenCalledTimes(1);
    await until(() => flag(vm) === 1);
    startIn(other.vcpu(0), 50n * MS);
    expect(notify).toHaveBeenCalledTimes(2);
  });

  test('R8 an expiry that a dead thread has taken comes once that is detached', async () => {
    const vm = make();
    const other = otherThread(vm);
    drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    const { record } = vm.vcpu(0);
    holdTimer(vm.vcpu(0), other.agent);
    vm.region.words.store64(record + VCPU_TIMER_DEADLINE, 0n);
    vi.advanceTimersByTime(10);
    expect([drained(vm), vi.getTimerCount()]).toEqual([[], 0]);
    vm.detachAgent(other.agentNumber);
    vi.advanceTimersByTime(0);
    expect([drained(vm), timerState(vm.vcpu(0))]).toEqual([[PORT], IDLE]);
  });

  test('a timer that another thread holds when it is due: asked for again, a millisecond later', () => {
    const vm = make();
    const other = otherThread(vm);
    drive(vm);
    startIn(vm.vcpu(0), 5n * MS);
    holdTimer(vm.vcpu(0), other.agent);
    vi.advanceTimersByTime(8);
    expect([drained(vm), vi.getTimerCount()]).toEqual([[], 1]);
    holdTimer(vm.vcpu(0), 0);
    vi.advanceTimersByTime(1);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('the VM is closed elsewhere: the driver ends', async () => {
    const vm = make();
    const other = otherThread(vm);
    drive(other);
    startIn(vm.vcpu(0), SECOND);
    await until(() => vi.getTimerCount() === 1);
    vm.close();
    await until(() => vi.getTimerCount() === 0);
    expect(other.onDetach.size).toBe(0);
  });

  test('the VM is closed elsewhere, and this thread has not heard of it yet: no tick', () => {
    const vm = make();
    const other = otherThread(vm);
    drive(other);
    startIn(other.vcpu(0), 5n * MS);
    const tick = vi.spyOn(other, 'tick');
    vm.close();
    vi.advanceTimersByTime(5);
    expect(tick).not.toHaveBeenCalled();
    expect([vi.getTimerCount(), other.onDetach.size]).toEqual([0, 0]);
  });

  test('a sleeper that is stopped is woken, and does not sleep again', async () => {
    const vm = make();
    const sleeps = vi.spyOn(Atomics, 'waitAsync');
    const driver = drive(vm);
    const asleep = sleeps.mock.results[0]?.value as { value: Promise<string> };
    driver.stop();
    expect(await asleep.value).toBe('ok');
    await new Promise((resolve) => setImmediate(resolve));
    expect([sleeps.mock.calls.length, vi.getTimerCount()]).toEqual([1, 0]);
  });

  test('KF-90 a sleep is bounded: everything is looked at again after a second', () => {
    const sleeps = vi.spyOn(Atomics, 'waitAsync');
    drive(make());
    expect(sleeps.mock.calls[0]?.[3]).toBe(1000);
  });

  test('a platform without waitAsync: found within 10 ms, and the process may exit meanwhile', () => {
    Object.defineProperty(Atomics, 'waitAsync', { value: undefined, configurable: true, writable: true });
    const vm = make();
    const other = otherThread(vm);
    const timeout = vi.spyOn(globalThis, 'setTimeout');
    const held = (): boolean | undefined =>
      (timeout.mock.results.at(-1)?.value as NodeJS.Timeout | undefined)?.hasRef();
    drive(vm);
    expect([vi.getTimerCount(), held()]).toEqual([1, false]);
    vi.advanceTimersByTime(35);
    startIn(other.vcpu(0), 50n * MS);
    vi.advanceTimersByTime(10);
    expect([vi.getTimerCount(), held()]).toEqual([1, true]);
    vi.advanceTimersByTime(39);
    expect(pendingBit(vm, PORT)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(drained(vm)).toEqual([PORT]);
    startTimer(other.vcpu(0), 1n, false);
    expect(drained(vm)).toEqual([PORT]);
    expect(held()).toBe(false);
  });
});

describe('a process of its own', () => {
  /** Runs a program with a driver. @returns what it printed before it ended by itself */
  function run(program: string): string {
    const index = new URL('../../dist/src/index.js', import.meta.url).href;
    const head =
      `import { createVm, driveTimers, systemClock } from '${index}';` +
      `const vm = createVm({ clock: systemClock() }), vcpu = vm.vcpu(0);` +
      `const set = (ms) => vcpu.setAttr({ type: 'timer', port: 5, expires: vm.kvmclock.now() + BigInt(ms) * 1000000n });` +
      `process.on('exit', () => { let got = []; vcpu.drain((p) => got.push(p)); console.log('ports', got.join()); });`;
    return execFileSync(process.execPath, ['--input-type=module', '-e', head + program], { encoding: 'utf8' });
  }

  test('KF-88 with nothing set it exits; with a timer it lives until that has come', () => {
    expect(run('driveTimers(vm);')).toBe('ports \n');
    expect(run('driveTimers(vm); set(30);')).toBe('ports 5\n');
  });

  test('KF-88 KF-90 unref, stop and a timer that is taken away let it exit, however far the deadline', () => {
    expect(run('driveTimers(vm, { ref: false }); set(864e9);')).toBe('ports \n');
    expect(run('const d = driveTimers(vm); set(864e9); d.stop();')).toBe('ports \n');
    expect(run("driveTimers(vm); set(864e9); vcpu.setAttr({ type: 'timer', port: 0, expires: 0n });")).toBe('ports \n');
    expect(run('driveTimers(vm); set(864e9); setTimeout(() => set(10), 30);')).toBe('ports 5\n');
  });
});
