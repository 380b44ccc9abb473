// SCHEDOP_poll: a vCPU that sleeps for ports, masked or not. [KX-EVT-40, 41; KX-HCL-32..38]

import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Vm } from '../../src/index.ts';
import { LAYOUTS, makeVm } from '../support.ts';
import { changes, dropMappings, guestSets, guestTakes, refuses, selector, stateBytes, tracing } from './evidence.ts';
import { expectAwake, makeSleeper, type SleeperOptions, TIMED_OUT, WOKEN } from './sleeper.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(LAYOUTS)('$layout layout', ({ longMode, bits, maxPorts }) => {
  /** A traced VM whose sleeps call `asleep`; it says what the platform answers. */
  const sleeper = (asleep: (vm: Vm) => number, more: Partial<SleeperOptions> = {}): ReturnType<typeof makeSleeper> =>
    makeSleeper({ longMode, asleep, ...more });

  test('KX-HCL-34 S-32 a poll for a port that is pending returns at once, masked or not', () => {
    const { vm, naps } = sleeper(() => expect.fail('it slept'));
    for (const masked of [false, true]) {
      for (const ports of [[7], [6, 7], [7, 6, 9]]) {
        guestSets(vm, 'mask', 7, masked);
        vm.send(7);
        expect(vm.vcpu(0).poll(ports)).toBe(true);
        guestSets(vm, 'pending', 7, false);
        guestTakes(vm);
      }
    }
    expect(naps()).toBe(0);
    expectAwake(vm);
  });

  test('KX-EVT-40 S-34 a masked event wakes the vCPU that polls for its port, alone or among others', () => {
    for (const ports of [[7], [7, 8], [8, 7, bits + 1]]) {
      const { vm, naps } = sleeper((it) => {
        guestSets(it, 'mask', 7);
        expect(it.send(7)).toBe(-107);
        return WOKEN;
      });
      expect(vm.vcpu(0).poll(ports)).toBe(true);
      expect([naps(), vm.wakes]).toEqual([1, 1]);
      expect(selector(vm)).toBe(0n);
      expectAwake(vm);
    }
  });

  test('KX-EVT-40 so it does from a batch, short or long', () => {
    for (const filler of [0, 60]) {
      const { vm } = sleeper((it) => {
        it.mask(7);
        for (let port = 100; port < 100 + filler; port++) it.mask(port);
        it.sendMany([7, ...Array.from({ length: filler }, (_, i) => 100 + i)]);
        return WOKEN;
      });
      expect(vm.vcpu(0).poll([7])).toBe(true);
      expect(vm.wakes).toBe(1);
      expectAwake(vm);
    }
  });

  test('KX-EVT-40 a masked event of a port that is not polled wakes nobody', () => {
    const { vm } = sleeper((it) => {
      it.mask(9);
      it.send(9);
      return it.wakes === 0 ? TIMED_OUT : expect.fail('woken for port 9');
    });
    expect(vm.vcpu(0).poll([7], 5)).toBe(false);
    expectAwake(vm);
  });

  test('KX-EVT-40 KX-HCL-33 a poll for several ports is woken by any masked port of its vCPU, and says false', () => {
    const { vm } = sleeper((it) => {
      it.mask(9);
      it.send(9);
      return it.wakes === 1 ? WOKEN : expect.fail('not woken');
    });
    expect(vm.vcpu(0).poll([7, 8])).toBe(false);
    expectAwake(vm);
  });

  test('KX-EVT-41 a masked event of a port bound to another vCPU does not wake this poller', () => {
    const { vm } = sleeper(
      (it) => {
        it.bindVcpu(7, 1);
        it.mask(7);
        it.send(7);
        return it.wakes === 0 ? TIMED_OUT : expect.fail('woken');
      },
      { vcpus: 2 },
    );
    // It is pending all the same, and the poll says so when its time is over.
    expect(vm.vcpu(0).poll([7], 5)).toBe(true);
    expectAwake(vm);
  });

  test('KX-EVT-41 KF-17 KF-22 binding a port whose masked event is pending to a vCPU that polls for it wakes the vCPU', () => {
    const { vm } = sleeper(
      (it) => {
        it.bindVcpu(7, 1);
        it.mask(7);
        it.send(7);
        it.bindVcpu(7, 0);
        return it.wakes === 1 ? WOKEN : expect.fail('not woken');
      },
      { vcpus: 2 },
    );
    expect(vm.vcpu(0).poll([7])).toBe(true);
    expect(selector(vm)).toBe(0n);
    expectAwake(vm);
  });

  test('KX-EVT-40 S-35 an unmasked event ends a poll through the upcall, whatever its port', () => {
    const { vm } = sleeper((it) => {
      it.send(9);
      return WOKEN;
    });
    expect(vm.vcpu(0).poll([7])).toBe(false);
    expect(selector(vm)).toBe(1n);
    expectAwake(vm);
  });

  /** Polls port 7, which is masked, with a send of it before step `step`, or in the sleep if there are not so many. */
  function pollWithSend(step: number): { made: Vm; asleep: boolean; found: boolean } {
    let [at, sent, asleep] = [-1, false, false];
    let vm: Vm | undefined;
    const send = (): void => {
      sent = true;
      vm?.send(7);
    };
    const onStep = (): void => {
      if (vm !== undefined && !sent && ++at === step) send();
    };
    const onWait = (address: number, expected: number): number => {
      if (vm === undefined) return TIMED_OUT;
      if (vm.region.words.load(address) !== expected) return 1;
      if (sent) expect.fail(`asleep after the send of step ${step}`);
      asleep = true;
      send();
      return vm.wakes === 1 ? WOKEN : expect.fail('the send did not wake');
    };
    const made = makeVm({ longMode, ...tracing(true, { onStep, onWait }) });
    made.mask(7);
    vm = made;
    const found = made.vcpu(0).poll([7]);
    vm = undefined;
    return { made, asleep, found };
  }

  test('KX-HCL-33 KF-16 a masked send at any step of a poll is seen or wakes', () => {
    for (let step = 0; step < 100; step++) {
      const { made, asleep, found } = pollWithSend(step);
      expect(found, `step ${step}`).toBe(true);
      expectAwake(made);
      if (asleep) return;
    }
    expect.fail('the poll never slept');
  });

  test('R2 what woke a poll, or came too late for it, is no kick of somebody for the next wait', () => {
    for (let step = 0; step < 100; step++) {
      const { made, asleep } = pollWithSend(step);
      expect(made.vcpu(0).wait(0), `after step ${step}`).toBe('timeout');
      if (asleep) return;
    }
  });

  test('KX-HCL-36 S-33 a poll that times out: false, and nothing of it is left', () => {
    const { vm } = sleeper(() => TIMED_OUT);
    expect(vm.vcpu(0).poll([7], 100)).toBe(false);
    expect(vm.vcpu(0).poll([], 100)).toBe(false);
    expectAwake(vm);
  });

  test('KX-HCL-32 KX-HCL-33 an error announces nothing', () => {
    const { vm } = sleeper(() => TIMED_OUT);
    const before = stateBytes(vm);
    for (const bad of [maxPorts, 2 ** 31, 2 ** 32 - 1, -1]) {
      refuses(vm, () => vm.vcpu(0).poll([7, bad]), 'EINVAL', bad, maxPorts - 1);
    }
    vm.enter();
    const entered = stateBytes(vm);
    refuses(vm, () => vm.vcpu(0).poll([7]), 'EBUSY', 'bracket');
    expect(changes(before, entered)).toEqual([]);
    vm.leave();
    expectAwake(vm);
  });

  test('KX-HCL-38 S-41 port 0 may be polled and behaves like any port', () => {
    const { vm, naps } = sleeper(() => expect.fail('it slept'));
    guestSets(vm, 'pending', 0);
    expect(vm.vcpu(0).poll([0])).toBe(true);
    expect(naps()).toBe(0);
  });

  test('KX-HCL-34 a poll whose page goes away while it sleeps does not say that a port is pending', () => {
    const { vm } = sleeper((it) => {
      dropMappings(it);
      return TIMED_OUT;
    });
    expect(vm.vcpu(0).poll([7], 5)).toBe(false);
    expectAwake(vm);
  });

  test('a poll leaves the caller a batch that it has prepared in the outbox', () => {
    const { vm } = sleeper(() => TIMED_OUT);
    vm.outbox.set([11, 12, 13]);
    vm.vcpu(0).poll([7, 8], 5);
    expect([...vm.outbox.subarray(0, 3)]).toEqual([11, 12, 13]);
  });
});
