// Waiting, waking, polling: nothing is slept through, nobody is woken for nothing. [KX-EVT-40, 41, 56, 60, 61; KX-HCL-33..38]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { VCPU_KICK } from '../../src/abi/region.ts';
import { STEP_NOTIFY, STEP_WAIT } from '../../src/abi/step.ts';
import { attachVm, gpa, type Vm } from '../../src/index.ts';
import { drained, errorOf, LAYOUTS, makeVm, ram, VCPU_INFO_GPA } from '../support.ts';
import { changes, guestTakes, refuses, rejects, stateBytes, traceOf, tracing } from './evidence.ts';
import { expectAwake, makeSleeper, type SleeperOptions, TIMED_OUT, WOKEN } from './sleeper.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(LAYOUTS)('$layout layout', ({ longMode, bits, maxPorts }) => {
  /** A traced VM whose sleeps call `asleep`; it says what the platform answers. */
  const sleeper = (asleep: (vm: Vm) => number, more: Partial<SleeperOptions> = {}): ReturnType<typeof makeSleeper> =>
    makeSleeper({ longMode, asleep, ...more });

  test('KX-EVT-60 a wait with events pending returns at once, and again, until they are taken', () => {
    const { vm, naps } = sleeper(() => expect.fail('it slept'));
    vm.send(5);
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(vm.vcpu(0).wait(0)).toBe('events');
    expect(naps()).toBe(0);
    expectAwake(vm);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-EVT-60 an event that comes during the sleep wakes it, by one notify', () => {
    let notifies = 0;
    const onStep = (kind: number): void => {
      if (kind === STEP_NOTIFY) notifies++;
    };
    const { vm, naps } = sleeper(
      (it) => {
        expect(it.send(5)).toBe(1);
        expect(it.send(6)).toBe(1);
        return WOKEN;
      },
      { onStep },
    );
    expect(vm.vcpu(0).wait()).toBe('events');
    expect([naps(), notifies, vm.wakes]).toEqual([1, 1, 1]);
    expectAwake(vm);
  });

  test('KX-EVT-60 two senders at once, at every step of the first: one notify in all', () => {
    for (let step = 0; step < 40; step++) {
      let [at, notifies, armed] = [-1, 0, false];
      let other: Vm | undefined;
      const count = (kind: number): void => {
        if (kind === STEP_NOTIFY) notifies++;
      };
      const onStep = (kind: number): void => {
        count(kind);
        if (!armed || ++at !== step) return;
        armed = false;
        other?.send(3 * bits);
        armed = true;
      };
      const { vm } = sleeper(
        (it) => {
          armed = true;
          it.send(5);
          armed = false;
          return WOKEN;
        },
        { onStep },
      );
      other = attachVm(vm.handle(), {
        trace: traceOf(true, { onStep: count }),
      });
      expect(vm.vcpu(0).wait()).toBe('events');
      expect(notifies, `step ${step}`).toBe(1);
      expect(vm.wakes + other.wakes).toBe(1);
      if (at < step) break;
    }
  });

  test('KF-24 a send to a vCPU that does not sleep notifies nobody', () => {
    let notifies = 0;
    const onStep = (kind: number): void => {
      if (kind === STEP_NOTIFY) notifies++;
    };
    const { vm } = sleeper(() => TIMED_OUT, { onStep });
    for (let port = 1; port < maxPorts; port += 3) vm.send(port);
    drained(vm);
    expect(vm.vcpu(0).wait(0)).toBe('timeout');
    vm.send(5);
    expect([notifies, vm.wakes]).toEqual([0, 0]);
  });

  test('KX-EVT-14 a masked port wakes nobody who waits, its unmask does', () => {
    const { vm, naps } = sleeper((it) => {
      it.mask(5);
      expect(it.send(5)).toBe(-107);
      expect(it.wakes).toBe(0);
      expect(it.unmask(5)).toBe(1);
      expect(it.wakes).toBe(1);
      return WOKEN;
    });
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(naps()).toBe(1);
  });

  test('KX-EVT-10 an event of another vCPU does not wake this one; its bind to this one does', () => {
    const { vm } = sleeper(
      (it) => {
        it.bindVcpu(5, 1);
        it.send(5);
        expect(it.wakes).toBe(0);
        it.bindVcpu(5, 0);
        expect(it.wakes).toBe(1);
        return WOKEN;
      },
      { vcpus: 2 },
    );
    expect(vm.vcpu(0).wait()).toBe('events');
  });

  test('KX-EVT-56 an event that goes to the shadow wakes, and a wait with a shadow does not sleep', () => {
    const { vm, naps } = sleeper((it) => {
      it.send(5);
      return WOKEN;
    });
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    expect(vm.vcpu(0).wait()).toBe('events');
    expect([naps(), vm.wakes]).toEqual([1, 1]);
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(naps()).toBe(1);
  });

  test('KF-13 selector bits that move to the shadow with an unregistered vcpu_info keep the vCPU awake', () => {
    const { vm } = sleeper(() => expect.fail('it slept'));
    vm.send(5);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    guestTakes(vm);
    expect(vm.vcpu(0).wait()).toBe('events');
  });

  test('KF-87 a platform that wakes without a reason: it looks and sleeps again', () => {
    let turns = 0;
    const { vm, naps } = sleeper((it) => {
      if (++turns === 5) it.send(5);
      return WOKEN;
    });
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(naps()).toBe(5);
    expectAwake(vm);
  });

  test('KF-86 KX-EVT-60 a wait with a limit ends with timeout, in pieces of at most a second, and leaves nothing behind', () => {
    for (const [limit, pieces] of [
      [0, 1],
      [1, 1],
      [999_999_999, 1],
      [1e9, 1],
      [1e9 + 1, 2],
      [5.5e9, 6],
    ] as const) {
      const { vm, naps } = sleeper(() => TIMED_OUT);
      expect(vm.vcpu(0).wait(limit)).toBe('timeout');
      expect(naps(), `pieces of ${limit} ns`).toBe(pieces);
      expectAwake(vm);
    }
  });

  test('a wait without a limit goes on after every piece', () => {
    let pieces = 0;
    const { vm } = sleeper((it) => {
      if (++pieces === 100) it.send(5);
      return TIMED_OUT;
    });
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(pieces).toBe(100);
  });

  test('KX-EVT-60 KX-EVT-61 a kick ends a sleep, or the next one before it begins, once', () => {
    const { vm, naps } = sleeper((it) => {
      it.vcpu(0).kick();
      return WOKEN;
    });
    expect(vm.vcpu(0).wait()).toBe('unblocked');
    expect(naps()).toBe(1);
    vm.vcpu(0).kick();
    vm.vcpu(0).kick();
    expect(vm.vcpu(0).wait()).toBe('unblocked');
    expect(naps()).toBe(1);
    expect(vm.vcpu(0).wait()).toBe('unblocked');
    expect(naps()).toBe(2);
    expectAwake(vm);
  });

  test('KX-EVT-60 events and a kick together: events, and the kick is answered too', () => {
    const { vm } = sleeper(() => TIMED_OUT);
    vm.vcpu(0).kick();
    vm.send(5);
    expect(vm.vcpu(0).wait()).toBe('events');
    drained(vm);
    expect(vm.vcpu(0).wait(0)).toBe('timeout');
  });

  test('KX-EVT-61 KF-16 R1 a send at any step of going to sleep is seen or wakes', () => {
    for (const lookFirst of [0, 3]) {
      for (let step = 0; step < 100; step++) {
        let [at, sent, asleep] = [-1, false, false];
        let vm: Vm | undefined;
        const onStep = (): void => {
          if (vm === undefined || sent || ++at !== step) return;
          sent = true;
          vm.send(5);
        };
        const onWait = (address: number, expected: number): number => {
          const it = vm as Vm;
          // Really asleep only while the word is what it was: then the send is still to come.
          if (it.region.words.load(address) !== expected) return 1;
          if (sent) expect.fail(`asleep after the send of step ${step}`);
          asleep = true;
          sent = true;
          it.send(5);
          return it.wakes === 1 ? WOKEN : expect.fail('the send did not wake');
        };
        const made = makeVm({ longMode, ...tracing(true, { onStep, onWait }) });
        vm = made;
        expect(made.vcpu(0).wait(undefined, lookFirst), `step ${step}`).toBe('events');
        vm = undefined;
        expect(drained(made)).toEqual([5]);
        expectAwake(made);
        if (asleep) break;
      }
    }
  });

  test('KX-EVT-61 a kick at any step of going to sleep is answered', () => {
    for (let step = 0; step < 100; step++) {
      let [at, done, asleep] = [-1, false, false];
      let vm: Vm | undefined;
      const kick = (): void => {
        done = true;
        vm?.vcpu(0).kick();
      };
      const onStep = (): void => {
        if (vm !== undefined && !done && ++at === step) kick();
      };
      const onWait = (address: number, expected: number): number => {
        if (vm?.region.words.load(address) !== expected) return 1;
        if (done) expect.fail(`asleep after the kick of step ${step}`);
        asleep = true;
        kick();
        return WOKEN;
      };
      const made = makeVm({ longMode, ...tracing(true, { onStep, onWait }) });
      vm = made;
      expect(made.vcpu(0).wait(), `step ${step}`).toBe('unblocked');
      if (asleep) break;
    }
  });

  test('KX-EVT-65 the word that is slept on is the one whose flag was tested', () => {
    let [slept, notified] = [0, 0];
    const onStep = (kind: number, address: number): void => {
      if (kind === STEP_WAIT) slept = address;
      if (kind === STEP_NOTIFY) notified = address;
    };
    const { vm } = sleeper(
      (it) => {
        it.send(5);
        return WOKEN;
      },
      { onStep },
    );
    vm.vcpu(0).wait();
    expect(slept).toBe(vm.vcpu(0).line + VCPU_KICK);
    expect(notified).toBe(slept);
  });

  test('another agent sleeps for the vCPU: EBUSY for this one, and the sleeper is still woken', async () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    const asleep = other.vcpu(0).waitAsync();
    refuses(vm, () => vm.vcpu(0).wait(0), 'EBUSY', 'vCPU 0');
    await rejects(vm, () => vm.vcpu(0).waitAsync(0), 'EBUSY', 'vCPU 0');
    vm.send(5);
    expect(await asleep).toBe('events');
    expect(vm.vcpu(0).wait(0)).toBe('events');
    expectAwake(vm);
  });

  test('waitAsync: events before, during, a kick, a limit', async () => {
    const vm = makeVm({ longMode });
    vm.send(5);
    expect(await vm.vcpu(0).waitAsync()).toBe('events');
    drained(vm);
    const asleep = vm.vcpu(0).waitAsync();
    vm.send(5);
    expect(await asleep).toBe('events');
    drained(vm);
    const kicked = vm.vcpu(0).waitAsync();
    vm.vcpu(0).kick();
    expect(await kicked).toBe('unblocked');
    expect(await vm.vcpu(0).waitAsync(0)).toBe('timeout');
    expect(await vm.vcpu(0).waitAsync(1000)).toBe('timeout');
    expectAwake(vm);
  });

  test('KF-87 two waits of one agent for a vCPU: the end of the first does not put the second out of reach', async () => {
    const vm = makeVm({ longMode });
    const second = vm.vcpu(0).waitAsync();
    const first = await vm
      .vcpu(0)
      .waitAsync(0)
      .catch((error: Error) => error.message);
    vm.send(5);
    const woken = vm.wakes;
    // Ends a wait that nobody woke; otherwise it would last for a second.
    vm.detach();
    await second;
    // Either the second was refused, or the sender still knew of a sleeper.
    expect(first === 'timeout' ? woken : 1).toBe(1);
  });

  test('KF-88 a hold is taken once for a wait and released once, whatever its end', async () => {
    const log: string[] = [];
    const hold = (): (() => void) => {
      log.push('hold');
      return () => log.push('release');
    };
    const vm = makeVm({ longMode, hold });
    await vm.vcpu(0).waitAsync(0);
    expect(log).toEqual(['hold', 'release']);
    const asleep = vm.vcpu(0).waitAsync();
    expect(log.length).toBe(3);
    vm.send(5);
    await asleep;
    expect(log.length).toBe(4);
    vm.enter();
    await rejects(vm, () => vm.vcpu(0).waitAsync(), 'EBUSY', 'bracket');
    vm.leave();
    expect(log.filter((word) => word === 'hold').length).toBe(log.filter((word) => word === 'release').length);
  });

  test('memory of a single agent: a wait finds events and kicks, and never sleeps', async () => {
    const vm = makeVm({ longMode, shared: false });
    refuses(vm, () => vm.vcpu(0).wait(5), 'EOPNOTSUPP', 'onUpcall');
    await rejects(vm, () => vm.vcpu(0).waitAsync(5), 'EOPNOTSUPP', 'onUpcall');
    vm.vcpu(0).kick();
    expect(vm.vcpu(0).wait()).toBe('unblocked');
    vm.send(5);
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(vm.vcpu(0).poll([5])).toBe(true);
    drained(vm);
    expect(errorOf(() => vm.vcpu(0).poll([5])).code).toBe('EOPNOTSUPP');
    expectAwake(vm);
  });

  test('KX-EVT-60 a misaligned vcpu_info wakes and keeps awake like any other', () => {
    const { vm, naps } = sleeper((it) => {
      it.send(3 * bits);
      return WOKEN;
    });
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA + 3) });
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(vm.vcpu(0).wait()).toBe('events');
    expect(naps()).toBe(1);
    expect(ram(vm)[VCPU_INFO_GPA + 3]).toBe(1);
  });
});

test('two threads with their own traced kernels: the wake is counted where it was done', () => {
  let other: Vm | undefined;
  const vm = makeVm(
    tracing(true, {
      onWait: () => {
        other?.send(5);
        return WOKEN;
      },
    }),
  );
  other = attachVm(vm.handle(), { trace: traceOf(true, {}) });
  expect(vm.vcpu(0).wait()).toBe('events');
  expect([vm.wakes, other.wakes]).toEqual([0, 1]);
});

test('a thread that may not block is sent to waitAsync, and may still look', async () => {
  // Whether it may is asked once: ask in modules that are loaded afresh.
  vi.resetModules();
  vi.spyOn(Atomics, 'wait').mockImplementation(() => {
    throw new TypeError('Atomics.wait cannot be called in this context');
  });
  const fresh = await import('../support.ts');
  const vm = fresh.makeVm();
  const before = stateBytes(vm);
  const error = fresh.errorOf(() => vm.vcpu(0).wait(5));
  expect(error.code).toBe('EOPNOTSUPP');
  expect(error.message).toContain('waitAsync');
  expect(changes(before, stateBytes(vm))).toEqual([]);
  expect(fresh.errorOf(() => vm.vcpu(0).poll([7], 5)).code).toBe('EOPNOTSUPP');
  expectAwake(vm);
  vm.send(5);
  expect(vm.vcpu(0).wait(5)).toBe('events');
  fresh.drained(vm);
  expect(await vm.vcpu(0).waitAsync(0)).toBe('timeout');
  expectAwake(vm);
});

test('R4 a platform without Atomics.waitAsync: the wait is refused by name, and the vCPU is not left asleep', async () => {
  const vm = makeVm();
  const original = Atomics.waitAsync;
  try {
    (Atomics as { waitAsync?: unknown }).waitAsync = undefined;
    await rejects(vm, () => vm.vcpu(0).waitAsync(0), 'EOPNOTSUPP', 'waitAsync');
  } finally {
    (Atomics as { waitAsync: unknown }).waitAsync = original;
  }
  expectAwake(vm);
  expect(vm.vcpu(0).wait(0)).toBe('timeout');
});
