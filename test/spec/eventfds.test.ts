// Eventfds: what they count, how long they live, and the interrupts they raise. [KX-EVA-09, KX-RTE-21]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { AGENT_READER } from '../../src/abi/region.ts';
import { attachVm, gfn, type IrqRoute, type Vm, type VmOptions } from '../../src/index.ts';
import { drained, KINDS, makeVm, pendingBit, SHARED_INFO_GFN } from '../support.ts';
import { cast, dropMappings, guestSets, guestTakes, refuses } from './evidence.ts';
import { assign, deassign, ledger, references, toEventfd } from './ports.ts';
import { everyStep, Steps } from './steps.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const FULL = 2n ** 64n - 1n;
const [EBADF, EAGAIN, EINVAL] = [-9, -11, -22];

describe.each([true, false])('shared memory: %s', (shared) => {
  const make = (options: VmOptions = {}): Vm => makeVm({ shared, ...options });

  describe('KX-EVA-09 counting', () => {
    test('a read takes all that was written; with nothing there it is -EAGAIN', () => {
      const fd = make().eventfds.create();
      expect(fd.read()).toBe(-11n);
      expect([fd.write(1), fd.write(41n), fd.write(0)]).toEqual([0, 0, 0]);
      expect(fd.read()).toBe(42n);
      expect(fd.read()).toBe(-11n);
    });

    test('it begins where it is told to', () => {
      const vm = make();
      expect(vm.eventfds.create(7).read()).toBe(7n);
      expect(vm.eventfds.create(FULL - 1n).read()).toBe(FULL - 1n);
      for (const bad of [-1, 1.5, FULL, 2n ** 64n, Number.NaN, 2 ** 60]) {
        refuses(vm, () => vm.eventfds.create(bad), 'EINVAL', String(bad), '2^64-2');
      }
    });

    test('a semaphore gives 1 at a time', () => {
      const fd = make().eventfds.create(2, { semaphore: true });
      fd.write(1);
      expect([fd.read(), fd.read(), fd.read(), fd.read()]).toEqual([1n, 1n, 1n, -11n]);
    });

    test('2^64-2 fits, what would pass it is -EAGAIN, 2^64-1 is -EINVAL; the count stays', () => {
      const fd = make().eventfds.create();
      expect(fd.write(FULL)).toBe(EINVAL);
      expect(fd.write(FULL - 1n)).toBe(0);
      expect([fd.write(0), fd.write(1), fd.write(FULL - 1n)]).toEqual([0, EAGAIN, EAGAIN]);
      expect(fd.read()).toBe(FULL - 1n);
      for (const bad of [-1, -1n, 0.5, Number.NaN, 2n ** 64n, 2 ** 53, cast<number>('1'), cast<number>(null)]) {
        expect(fd.write(bad)).toBe(EINVAL);
      }
      expect(fd.read()).toBe(-11n);
    });

    test('KX-HCL-42 a send port adds 1, up to 2^64-1, where it stays; then not even 0 can be written', () => {
      const vm = make();
      const fd = vm.eventfds.create(FULL - 2n);
      assign(vm, toEventfd(5, fd.fd));
      expect([vm.sendPorts.ring(5), vm.sendPorts.ring(5), vm.sendPorts.ring(5)]).toEqual([0, 0, 0]);
      expect([fd.write(0), fd.write(1)]).toEqual([EAGAIN, EAGAIN]);
      expect(fd.read()).toBe(FULL);
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(fd.read()).toBe(1n);
    });

    test('every thread sees one counter', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      const fd = vm.eventfds.create(1);
      const same = other.eventfds.get(fd.fd);
      expect(same.write(2)).toBe(0);
      expect(fd.read()).toBe(3n);
      expect(same.read()).toBe(-11n);
    });
  });

  describe('KX-EVA-09 descriptors', () => {
    test('they are numbered from 3 on: the standard streams are open, but no eventfds', () => {
      const vm = make({ eventfds: 4 });
      expect([vm.eventfds.create().fd, vm.eventfds.create().fd]).toEqual([3, 4]);
      for (const stream of [0, 1, 2]) refuses(vm, () => vm.eventfds.get(stream), 'EINVAL', stream, 'no eventfd');
      for (const bad of [-1, 5, 6, 7, 2 ** 31, 3.5, Number.NaN, cast<number>('3')]) {
        refuses(vm, () => vm.eventfds.get(bad), 'EBADF', bad, 'not open');
      }
    });

    test('a number is used again when it is free; who held the old one does not reach the new one', () => {
      const vm = make({ eventfds: 2 });
      const [first, second] = [vm.eventfds.create(5), vm.eventfds.create()];
      refuses(vm, () => vm.eventfds.create(), 'ENOSPC', 'all 2 eventfds', 'createVm({ eventfds })');
      first.close();
      const third = vm.eventfds.create();
      expect(third.fd).toBe(first.fd);
      expect([first.open, first.write(1), first.read()]).toEqual([false, EBADF, -9n]);
      first.close();
      expect([third.open, second.open]).toEqual([true, true]);
      expect(third.read()).toBe(-11n);
    });

    test('a send port keeps the eventfd alive, and its number taken', () => {
      const vm = make({ eventfds: 1 });
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(5, fd.fd));
      assign(vm, toEventfd(6, fd.fd));
      expect(references(vm)).toEqual([3]);
      fd.close();
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(vm.eventfds.list()).toEqual([
        { fd: 3, open: false, semaphore: false, counter: 1n, references: 2, gsi: null },
      ]);
      refuses(vm, () => vm.eventfds.create(), 'ENOSPC');
      refuses(vm, () => vm.eventfds.get(3), 'EBADF');
      deassign(vm, 5);
      deassign(vm, 6);
      expect(vm.eventfds.list()).toEqual([]);
      expect(vm.eventfds.create().read()).toBe(-11n);
    });

    test('closing twice is once', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(5, fd.fd));
      fd.close();
      fd.close();
      expect(references(vm)[0]).toBe(1);
    });

    test('only the owner makes, closes and binds', () => {
      const vm = make();
      const { fd } = vm.eventfds.create();
      const other = attachVm(vm.handle());
      refuses(vm, () => other.eventfds.create(), 'EPERM');
      refuses(vm, () => other.eventfds.get(fd).close(), 'EPERM');
      refuses(vm, () => other.eventfds.bindIrq(fd, 1), 'EPERM');
      refuses(vm, () => other.eventfds.unbindIrq(fd, 1), 'EPERM');
    });

    test('inside a bracket a descriptor cannot be closed', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      vm.enter();
      refuses(vm, () => fd.close(), 'EBUSY');
      vm.leave();
      expect(fd.open).toBe(true);
    });

    test('a reader that does not leave: EBUSY, the descriptor stays open and bound', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      vm.eventfds.bindIrq(fd.fd, 32);
      const other = attachVm(vm.handle());
      vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
      other.enter();
      refuses(vm, () => fd.close(), 'EBUSY', `agent ${other.agentNumber}`);
      refuses(vm, () => vm.eventfds.unbindIrq(fd.fd, 32), 'EBUSY');
      other.leave();
      expect(vm.eventfds.list()[0]).toMatchObject({ open: true, gsi: 32, references: 2 });
    });

    test('a view that is detached: -EBADF, and no step into the record of who took its place', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      const fd = other.eventfds.get(vm.eventfds.create(3).fd);
      const place = other.agent;
      other.detach();
      const next = attachVm(vm.handle());
      expect(next.agent).toBe(place);
      expect([fd.open, fd.write(1), fd.read()]).toEqual([false, EBADF, -9n]);
      refuses(vm, () => other.eventfds.get(3), 'EBADF');
      expect(vm.eventfds.get(3).read()).toBe(3n);
      expect(vm.region.words.load(place + AGENT_READER)).toBe(0);
    });

    test('KX-GEN-04 the end of the VM ends descriptors, bindings and references', () => {
      const vm = make();
      const fd = vm.eventfds.create(1);
      vm.eventfds.bindIrq(fd.fd, 32);
      assign(vm, toEventfd(5, fd.fd));
      vm.eventfds.create();
      const other = attachVm(vm.handle());
      const same = other.eventfds.get(fd.fd);
      expect(ledger(vm)).toBe(4);
      vm.close();
      expect(ledger(vm)).toBe(0);
      expect([fd.open, fd.write(1), same.open, same.write(1)]).toEqual([false, EBADF, false, EBADF]);
      fd.close();
      expect(ledger(vm)).toBe(0);
    });
  });

  describe('waiting', () => {
    test('it returns at once when there is something, or no time', () => {
      const fd = make().eventfds.create(1);
      expect(fd.wait()).toBe(true);
      expect(fd.read()).toBe(1n);
      expect(fd.wait(0)).toBe(false);
      fd.close();
      expect(fd.wait()).toBe(false);
    });

    test('where nobody could wake it, or it would wait for itself, it is refused', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      refuses(vm, () => fd.wait(-1), 'EINVAL', -1);
      if (!shared) refuses(vm, () => fd.wait(1), 'EOPNOTSUPP', 'block');
      vm.enter();
      refuses(vm, () => fd.wait(1e6), 'EBUSY');
      vm.leave();
    });
  });
});

describe('waiting in shared memory', () => {
  test('a sleep ends with its time, a second at most at a time', () => {
    const fd = makeVm().eventfds.create();
    const sleep = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
    expect(fd.wait(2.5e9)).toBe(false);
    expect(sleep.mock.calls.map((call) => call[3])).toEqual([1000, 1000, 500]);
  });

  test('what is signalled or closed between the look and the sleep ends it', () => {
    const vm = makeVm();
    const fd = vm.eventfds.create();
    const sleep = vi.spyOn(Atomics, 'wait');
    const inside = (act: () => void): void => {
      sleep.mockImplementationOnce((words, at, seen) => {
        act();
        return Atomics.load(cast<Int32Array>(words), at) === Number(seen) ? 'timed-out' : 'not-equal';
      });
    };
    inside(() => fd.write(1));
    expect(fd.wait()).toBe(true);
    fd.read();
    inside(() => fd.close());
    expect(fd.wait()).toBe(false);
    const second = vm.eventfds.create();
    inside(() => vm.close());
    expect(second.wait()).toBe(false);
  });
});

describe('KF-16 waiting: at each step of it somebody signals or closes, and it does not sleep after that', () => {
  test.each(['signals', 'closes', 'ends the VM'] as const)('somebody %s', (how) => {
    let slept = 0;
    const taken = everyStep((at) => {
      const steps = new Steps();
      const vm = makeVm({ agents: 2 });
      const fd = vm.eventfds.create();
      const waiter = attachVm(vm.handle());
      const same = waiter.eventfds.get(fd.fd);
      steps.watch(waiter);
      let acted = at < 0;
      vi.spyOn(Atomics, 'wait').mockImplementation((words, index, seen) => {
        const sleeps = Atomics.load(cast<Int32Array>(words), index) === Number(seen);
        if (sleeps && !acted) slept++;
        if (sleeps && acted && at >= 0) expect.fail(`it sleeps although somebody ${how} before step ${at}`);
        return sleeps ? 'timed-out' : 'not-equal';
      });
      const found = steps.run(
        at,
        () => same.wait(1e6),
        () => {
          acted = true;
          if (how === 'signals') fd.write(1);
          else if (how === 'closes') fd.close();
          else vm.close();
        },
      );
      expect(found).toBe(at >= 0 && how === 'signals');
      vi.restoreAllMocks();
      return steps;
    });
    expect(taken).toBeGreaterThan(8);
    expect(slept).toBeGreaterThan(0);
  });

  test('nobody waits: nobody is notified; who waited is not counted any more', () => {
    const vm = makeVm();
    const fd = vm.eventfds.create();
    const notify = vi.spyOn(Atomics, 'notify');
    fd.write(1);
    expect(notify).not.toHaveBeenCalled();
    fd.read();
    vi.spyOn(Atomics, 'wait').mockImplementationOnce(() => {
      fd.write(1);
      expect(notify).toHaveBeenCalledTimes(1);
      return 'ok';
    });
    expect(fd.wait()).toBe(true);
    fd.write(1);
    expect(notify).toHaveBeenCalledTimes(1);
  });
});

// ── interrupts ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(KINDS)('KX-RTE-21 interrupts, $layout layout, shared memory: $shared', ({ longMode, shared, bits }) => {
  const make = (options: VmOptions = {}): Vm => makeVm({ longMode, shared, ...options });
  const toPort = (gsi: number, port: number): IrqRoute => ({ gsi, type: 'xen_evtchn', port, vcpu: 0 });

  function bound(options: VmOptions = {}) {
    const vm = make(options);
    vm.routes.set([toPort(32, 15), toPort(33, 66)]);
    const fd = vm.eventfds.create();
    vm.eventfds.bindIrq(fd.fd, 32);
    return { vm, fd };
  }

  test('a signal raises the port and consumes the counter', () => {
    const { vm, fd } = bound();
    expect(fd.write(3)).toBe(0);
    expect(fd.read()).toBe(-11n);
    expect(drained(vm)).toEqual([15]);
    expect(fd.write(0)).toBe(0);
    expect(drained(vm)).toEqual([15]);
  });

  test('of a semaphore each signal consumes 1', () => {
    const vm = make();
    vm.routes.set([toPort(32, 15)]);
    const fd = vm.eventfds.create(0, { semaphore: true });
    vm.eventfds.bindIrq(fd.fd, 32);
    fd.write(3);
    expect(drained(vm)).toEqual([15]);
    expect([fd.read(), fd.read(), fd.read()]).toEqual([1n, 1n, -11n]);
  });

  test('several signals may become one event', () => {
    const { vm, fd } = bound();
    for (let i = 0; i < 5; i++) fd.write(1);
    expect(drained(vm)).toEqual([15]);
    expect(drained(vm)).toEqual([]);
  });

  test('KX-EVT-34 shared_info is not mapped: the slow way maps it', () => {
    const { vm, fd } = bound();
    dropMappings(vm);
    fd.write(1);
    expect(drained(vm)).toEqual([15]);
  });

  test('KX-EVT-34 shared_info is not there: one try, and the event is gone', () => {
    const { vm, fd } = bound();
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(fd.write(1)).toBe(0);
    expect(fd.read()).toBe(-11n);
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect(drained(vm)).toEqual([]);
    fd.write(1);
    expect(drained(vm)).toEqual([15]);
  });

  test('KX-EVT-32 a masked port stays pending', () => {
    const { vm, fd } = bound();
    guestSets(vm, 'mask', 15);
    fd.write(1);
    expect(pendingBit(vm, 15)).toBe(true);
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('KF-20 what was signalled before the binding raises the interrupt at the binding', () => {
    const vm = make();
    vm.routes.set([toPort(32, 15)]);
    const fd = vm.eventfds.create(1);
    expect(drained(vm)).toEqual([]);
    vm.eventfds.bindIrq(fd.fd, 32);
    expect(drained(vm)).toEqual([15]);
    const empty = vm.eventfds.create();
    vm.eventfds.bindIrq(empty.fd, 32);
    expect(drained(vm)).toEqual([]);
  });

  test('an interrupt without a route takes the signal and raises nothing', () => {
    const vm = make();
    const fd = vm.eventfds.create();
    vm.eventfds.bindIrq(fd.fd, 4000);
    fd.write(1);
    expect(fd.read()).toBe(-11n);
    vm.routes.set([toPort(4000, 15)]);
    expect(drained(vm)).toEqual([]);
    fd.write(1);
    expect(drained(vm)).toEqual([15]);
  });

  test('routes to chips get an edge, level 1 then 0; messages get level 1', () => {
    const got: unknown[] = [];
    const vm = make({ onInterrupt: (route, level) => got.push([route.gsi, route.type, level]) });
    vm.routes.set([
      { gsi: 4, type: 'irqchip', irqchip: 2, pin: 4 },
      { gsi: 5, type: 'msi', address: 0xfee00000n, data: 0x41 },
    ]);
    for (const gsi of [4, 5]) {
      const fd = vm.eventfds.create();
      vm.eventfds.bindIrq(fd.fd, gsi);
      fd.write(1);
    }
    expect(got).toEqual([
      [4, 'irqchip', 1],
      [4, 'irqchip', 0],
      [5, 'msi', 1],
    ]);
  });

  test('order of errors: no irqchip, a gsi that is none, no descriptor, no eventfd, bound already', () => {
    const none = make({ irqchip: false });
    refuses(none, () => none.eventfds.bindIrq(3, 32), 'EINVAL', 'irqchip');
    const { vm, fd } = bound();
    for (const gsi of [-1, 1.5, 2 ** 32 - 1, Number.NaN]) {
      refuses(vm, () => vm.eventfds.bindIrq(9, gsi), 'EINVAL', gsi);
    }
    refuses(vm, () => vm.eventfds.bindIrq(9, 33), 'EBADF', 9);
    refuses(vm, () => vm.eventfds.bindIrq(0, 33), 'EINVAL', 'no eventfd');
    for (const gsi of [32, 33]) refuses(vm, () => vm.eventfds.bindIrq(fd.fd, gsi), 'EBUSY', 32);
    refuses(vm, () => vm.eventfds.unbindIrq(9, 32), 'EBADF', 9);
    refuses(vm, () => vm.eventfds.unbindIrq(1, 32), 'EINVAL');
  });

  test('KVM_IRQFD: flag 1 takes the binding away, other flags are refused first', () => {
    const vm = make();
    const { fd } = vm.eventfds.create();
    for (const flags of [2, 3, 4, 2 ** 31]) refuses(vm, () => vm.eventfds.irqfd(99, 32, flags), 'EINVAL', 'flags');
    vm.eventfds.irqfd(fd, 32, 0);
    expect(vm.eventfds.list()[0]?.gsi).toBe(32);
    vm.eventfds.irqfd(fd, 32, 1);
    expect(vm.eventfds.list()[0]?.gsi).toBeNull();
  });

  test('unbound it raises nothing; of another gsi an unbinding does nothing', () => {
    const { vm, fd } = bound();
    vm.eventfds.unbindIrq(fd.fd, 33);
    expect(references(vm)[0]).toBe(2);
    vm.eventfds.unbindIrq(fd.fd, 32);
    vm.eventfds.unbindIrq(fd.fd, 32);
    expect(references(vm)[0]).toBe(1);
    fd.write(2);
    expect(drained(vm)).toEqual([]);
    expect(fd.read()).toBe(2n);
    vm.eventfds.bindIrq(fd.fd, 33);
    fd.write(1);
    expect(drained(vm)).toEqual([66]);
  });

  test('the last gsi that can be bound, and none of its neighbours', () => {
    const { vm } = bound();
    const fd = vm.eventfds.create();
    vm.eventfds.bindIrq(fd.fd, 2 ** 32 - 2);
    expect(vm.eventfds.list()[1]?.gsi).toBe(2 ** 32 - 2);
    fd.write(1);
    expect(drained(vm)).toEqual([]);
    vm.eventfds.unbindIrq(fd.fd, 2 ** 32 - 2);
    expect(vm.eventfds.list()[1]?.gsi).toBeNull();
  });

  test('closing the descriptor takes the binding with it, also while a send port goes on signalling', () => {
    const { vm, fd } = bound();
    assign(vm, toEventfd(5, fd.fd));
    vm.sendPorts.ring(5);
    expect(drained(vm)).toEqual([15]);
    fd.close();
    expect(vm.sendPorts.ring(5)).toBe(0);
    expect(drained(vm)).toEqual([]);
    expect(vm.eventfds.list()).toEqual([
      { fd: 3, open: false, semaphore: false, counter: 1n, references: 1, gsi: null },
    ]);
  });

  test.each(['unbound', 'closed', 'closed and its record used again'] as const)(
    'KF-33 %s while the slow way maps shared_info: nothing is raised any more',
    (how) => {
      const { vm, fd } = bound();
      const other = attachVm(vm.handle());
      const same = other.eventfds.get(fd.fd);
      dropMappings(vm);
      // The one who signals is on its way to map the page when the owner acts.
      vi.spyOn(other.gpcs, 'refresh').mockImplementationOnce((gpc) => {
        if (how === 'unbound') vm.eventfds.unbindIrq(fd.fd, 32);
        else fd.close();
        if (how === 'closed and its record used again') {
          const next = vm.eventfds.create();
          vm.eventfds.bindIrq(next.fd, 32);
          expect(next.fd).toBe(fd.fd);
        }
        return other.gpcs.refresh(gpc);
      });
      expect(same.write(1)).toBe(0);
      expect(pendingBit(vm, 15)).toBe(false);
    },
  );

  test('KF-33 routes changed while the slow way maps shared_info: the new ones count', () => {
    const { vm, fd } = bound();
    const other = attachVm(vm.handle());
    dropMappings(vm);
    vi.spyOn(other.gpcs, 'refresh').mockImplementationOnce((gpc) => {
      vm.routes.set([toPort(32, 16)]);
      return other.gpcs.refresh(gpc);
    });
    other.eventfds.get(fd.fd).write(1);
    expect([pendingBit(vm, 15), pendingBit(vm, 16)]).toEqual([false, true]);
  });

  test('two interrupts in two words of the selector', () => {
    const vm = make();
    vm.routes.set([toPort(1, 2), toPort(2, 2 * bits)]);
    const fds = [1, 2].map((gsi) => {
      const fd = vm.eventfds.create();
      vm.eventfds.bindIrq(fd.fd, gsi);
      return fd;
    });
    for (const fd of fds) fd.write(1);
    expect(drained(vm)).toEqual([2, 2 * bits]);
    guestTakes(vm);
  });
});

describe('KF-32 unshared memory: what a signal calls may change everything', () => {
  test('a listener that closes the eventfd from inside its own signal', () => {
    const vm = makeVm({ shared: false });
    vm.routes.set([{ gsi: 32, type: 'xen_evtchn', port: 15, vcpu: 0 }]);
    const fd = vm.eventfds.create();
    vm.eventfds.bindIrq(fd.fd, 32);
    assign(vm, toEventfd(5, fd.fd));
    let next = fd;
    vm.vcpu(0).onUpcall(() => {
      fd.close();
      deassign(vm, 5);
      next = vm.eventfds.create();
    });
    expect(vm.sendPorts.ring(5)).toBe(0);
    expect(next.fd).toBe(fd.fd);
    expect(next.read()).toBe(-11n);
    expect(references(vm)[0]).toBe(1);
  });

  test('an interrupt handler that throws does not reach who signals', async () => {
    const thrown: unknown[] = [];
    const listener = (error: unknown): void => void thrown.push(error);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', listener);
    const vm = makeVm({
      shared: false,
      onInterrupt: () => {
        throw new Error('broken chip');
      },
    });
    vm.routes.set([{ gsi: 4, type: 'irqchip', irqchip: 0, pin: 4 }]);
    expect(vm.routes.raise(4, 1)).toBe(-1);
    await new Promise((resolve) => setTimeout(resolve, 0));
    process.off('uncaughtException', listener);
    for (const other of others) process.on('uncaughtException', other);
    expect(thrown).toEqual([new Error('broken chip')]);
  });
});
