// Events that name their vCPU: what each caller is told, and explicit sends. [KX-EVT-10..34, KX-RTE-30, 31]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { attachVm, gfn, type Vm, type VmOptions } from '../../src/index.ts';
import { raise, raiseFast } from '../../src/vm/events/event.ts';
import { drained, KINDS, makeVm, pendingBit, SHARED_INFO_GFN } from '../support.ts';
import {
  cast,
  changed,
  changes,
  dropMappings,
  footprint,
  guestSets,
  noNaps,
  stateBytes,
  traceOf,
  unregister,
} from './evidence.ts';
import { assign, loopback, NO_VCPU, toEventfd } from './ports.ts';
import { everyStep, Steps } from './steps.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const PORT = 70;

/** Everybody who raises PORT, and what is said. An irqfd says nothing. */
const CALLERS = [
  ['the fast path', (vm: Vm, port: number, vcpu: number) => (vcpu === NO_VCPU ? -22 : raiseFast(vm, port, vcpu))],
  ['the slow path', (vm: Vm, port: number, vcpu: number) => (vcpu === NO_VCPU ? -22 : raise(vm, port, vcpu))],
  ['EVTCHN_SEND', (vm: Vm, port: number, vcpu: number) => vm.evtchnSend({ port, vcpu })],
  [
    'EVTCHNOP_send',
    (vm: Vm, port: number, vcpu: number) => {
      // The attribute would refuse a port out of range: it is so only since the mode has changed.
      const { longMode } = vm.region;
      vm.kernel.setLongMode(vm.vmBase, 1);
      assign(vm, loopback(5, port, vcpu));
      vm.kernel.setLongMode(vm.vmBase, longMode ? 1 : 0);
      return vm.sendPorts.ring(5);
    },
  ],
  [
    'a route',
    (vm: Vm, port: number, vcpu: number) => {
      vm.routes.set([{ gsi: 32, type: 'xen_evtchn', port, vcpu }]);
      return vm.routes.raise(32, 1);
    },
  ],
  [
    'an irqfd',
    (vm: Vm, port: number, vcpu: number) => {
      vm.routes.set([{ gsi: 32, type: 'xen_evtchn', port, vcpu }]);
      const fd = vm.eventfds.create();
      vm.eventfds.bindIrq(fd.fd, 32);
      return fd.write(1);
    },
  ],
] as const;

/** Results in the order of CALLERS; null is an exit to the embedder. */
const TABLE = [
  { id: 'KX-EVT-30 newly raised', setup: () => {}, results: [1, 1, 0, 0, 1, 0] },
  { id: 'KX-EVT-31 already pending', setup: (vm: Vm) => vm.send(PORT), results: [0, 0, 0, 0, 0, 0] },
  {
    id: 'KX-EVT-31 already pending and masked since',
    setup: (vm: Vm) => {
      vm.send(PORT);
      guestSets(vm, 'mask', PORT);
    },
    results: [0, 0, 0, 0, 0, 0],
  },
  {
    id: 'KX-EVT-32 masked',
    setup: (vm: Vm) => guestSets(vm, 'mask', PORT),
    results: [-107, -107, 0, 0, -1, 0],
  },
  { id: 'KX-EVT-33 unknown vCPU', vcpu: NO_VCPU, setup: () => {}, results: [-22, -22, -22, null, -1, 0] },
  { id: 'KX-EVT-33 port out of range', bad: true, setup: () => {}, results: [-22, -22, -22, null, -1, 0] },
  {
    id: 'KX-EVT-34 shared_info is not mapped now',
    setup: (vm: Vm) => dropMappings(vm),
    results: [-11, 1, 0, 0, 1, 0],
  },
  {
    id: 'KX-EVT-34 shared_info is out of reach',
    setup: (vm: Vm) => vm.memslots.delete(0),
    results: [-11, -14, -14, null, -1, 0],
  },
  {
    id: 'KX-EVT-34 shared_info is not registered',
    setup: (vm: Vm) => vm.setAttr({ type: 'shared_info', gfn: null }),
    results: [-11, -22, -22, null, -1, 0],
  },
] as const;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options: VmOptions = {}): Vm => makeVm({ longMode, shared, vcpus: 2, guestPages: 8, ...options });

  describe.each(TABLE)('$id', ({ setup, results, ...row }) => {
    const port = 'bad' in row ? maxPorts : PORT;
    // Port 4096 is in no mode, so it cannot even be the target of a send port.
    const callers = CALLERS.map(([name, call], i) => ({ name, call, result: results[i] })).filter(
      ({ name }) => port < 4096 || name !== 'EVTCHNOP_send',
    );
    test.each(callers)('$name: $result', ({ call, result }) => {
      const vm = make();
      setup(vm);
      expect(call(vm, port, 'vcpu' in row ? row.vcpu : 0)).toBe(result);
    });
  });

  test('KX-EVT-12 KX-EVT-33 KX-EVT-34 what is refused changes nothing in guest RAM, nor in the engine', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    const before = stateBytes(vm);
    expect([raiseFast(vm, 9, 0), raise(vm, 9, 0), vm.evtchnSend({ port: 9, vcpu: 0 })]).toEqual([-11, -22, -22]);
    expect(vm.evtchnSend({ port: maxPorts, vcpu: 0 })).toBe(-22);
    expect(vm.evtchnSend({ port: 9, vcpu: NO_VCPU })).toBe(-22);
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });

  test('KX-RTE-30 an event writes what a send does, on the vCPU it names', () => {
    const vm = make();
    expect(changed(vm, () => vm.evtchnSend({ port: PORT, vcpu: 0 }))).toEqual(footprint(vm, PORT));
    drained(vm);
    vm.evtchnSend({ port: PORT, vcpu: 1 });
    expect([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]).toEqual([false, true]);
  });

  test('KX-RTE-30 port 0 and ports out of range are -22, the last one is not', () => {
    const vm = make();
    for (const port of [0, -1, maxPorts, 4096, 2 ** 31, 2 ** 32 - 1, 2 ** 32 + 5, 1.5, Number.NaN, cast<number>('5')]) {
      expect(vm.evtchnSend({ port, vcpu: 0 }), String(port)).toBe(-22);
    }
    expect(vm.evtchnSend({ port: maxPorts - 1, vcpu: 0 })).toBe(0);
    expect(drained(vm)).toEqual([maxPorts - 1]);
  });

  test('KX-RTE-30 the priority is 2-level', () => {
    const vm = make();
    for (const priority of [0, 1, -2, 2 ** 32 - 2, Number.NaN]) {
      expect(vm.evtchnSend({ port: 9, vcpu: 0, priority })).toBe(-22);
    }
    expect(pendingBit(vm, 9)).toBe(false);
    expect(vm.evtchnSend({ port: 9, vcpu: 0, priority: -1 })).toBe(0);
    expect(vm.evtchnSend({ port: 10, vcpu: 0, priority: 2 ** 32 - 1 })).toBe(0);
    expect(drained(vm)).toEqual([9, 10]);
  });

  test('KX-EVT-10 the vCPU is named by KVM’s id, found also in a VM with ids of its own', () => {
    const vm = make({ vcpuIds: [9, 3] });
    expect([0, 1, -1, 2.5, Number.NaN].map((vcpu) => vm.evtchnSend({ port: 9, vcpu }))).toEqual(Array(5).fill(-22));
    expect(vm.evtchnSend({ port: 9, vcpu: 3 })).toBe(0);
    expect([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]).toEqual([false, true]);
  });

  test('KX-EVT-10 what a port is bound to comes before what the event names', () => {
    const vm = make();
    vm.bindVcpu(PORT, 1);
    vm.evtchnSend({ port: PORT, vcpu: 0 });
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [PORT]]);
  });

  test('KX-EVT-11 port 0 is one like any other to routes, of explicit sends it is none', () => {
    const vm = make();
    vm.routes.set([{ gsi: 1, type: 'xen_evtchn', port: 0, vcpu: 0 }]);
    expect([vm.routes.raise(1, 1), vm.evtchnSend({ port: 0, vcpu: 0 })]).toEqual([1, -22]);
    expect(pendingBit(vm, 0)).toBe(true);
  });

  test('KX-EVT-16 KX-EVT-20 a vCPU without a vcpu_info gets its event when it has one', () => {
    const vm = make();
    unregister(vm, 1);
    expect(vm.evtchnSend({ port: PORT, vcpu: 1 })).toBe(0);
    expect(vm.vcpu(1).upcallPending).toBe(false);
    vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: cast(0x5000) });
    expect(vm.vcpu(1).upcallPending).toBe(true);
  });

  test('KX-EVT-27 an invalidation that stays open: -11 after a bounded time, and the event can be sent again', () => {
    const vm = make();
    noNaps();
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    expect(vm.evtchnSend({ port: PORT, vcpu: 0 })).toBe(-11);
    vm.invalidateEnd();
    expect(vm.evtchnSend({ port: PORT, vcpu: 0 })).toBe(0);
    expect(drained(vm)).toEqual([PORT]);
  });

  test('KX-EVT-25 only "not usable here" leads to a second try', () => {
    const vm = make();
    const refresh = vi.spyOn(vm.gpcs, 'refresh');
    guestSets(vm, 'mask', PORT);
    raise(vm, PORT, 0);
    raise(vm, PORT, 0);
    raise(vm, maxPorts, 0);
    raise(vm, PORT + 1, 0);
    expect(refresh).not.toHaveBeenCalled();
    dropMappings(vm);
    raise(vm, PORT + 2, 0);
    expect(refresh).toHaveBeenCalledTimes(1);
  });

  test('KX-RTE-31 any thread sends; a view that is detached does not', () => {
    const vm = make({ irqchip: false });
    const other = attachVm(vm.handle());
    expect(other.evtchnSend({ port: PORT, vcpu: 1 })).toBe(0);
    expect(drained(vm, 1)).toEqual([PORT]);
    other.detach();
    for (const port of [PORT, 0]) expect(other.evtchnSend({ port, vcpu: 1 })).toBe(-9);
  });

  test('KX-EVT-28 inside a bracket every way of sending works', () => {
    const vm = make();
    assign(vm, loopback(5, 100));
    const fd = vm.eventfds.create();
    assign(vm, toEventfd(6, fd.fd));
    vm.routes.set([{ gsi: 1, type: 'xen_evtchn', port: 200, vcpu: 0 }]);
    vm.eventfds.bindIrq(fd.fd, 1);
    vm.enter();
    expect([vm.evtchnSend({ port: PORT, vcpu: 0 }), vm.sendPorts.ring(5), vm.sendPorts.ring(6)]).toEqual([0, 0, 0]);
    expect(vm.routes.raise(1, 1)).toBe(0);
    // Theirs would have ended this one.
    vm.leave();
    expect(drained(vm)).toEqual([PORT, 100, 200]);
  });
});

test('KX-EVT-28 an event at whose every step another one is sent: both arrive', () => {
  const steps = everyStep((at) => {
    const steps = new Steps();
    const vm = makeVm({ agents: 2 });
    const sender = attachVm(vm.handle(), { trace: steps.trace(true) });
    dropMappings(vm);
    steps.watch(sender);
    const inner: number[] = [];
    expect(
      steps.run(
        at,
        () => sender.evtchnSend({ port: 9, vcpu: 0 }),
        () => inner.push(vm.evtchnSend({ port: 10, vcpu: 0 })),
      ),
    ).toBe(0);
    expect(inner).toEqual(at < 0 ? [] : [0]);
    expect(drained(vm)).toEqual(at < 0 ? [9] : [9, 10]);
    return steps;
  });
  expect(steps).toBeGreaterThan(10);
});

test('KF-31 the fast path never waits, nor does a ring or a signal while shared_info is mapped', () => {
  const waits: number[] = [];
  const onWait = (address: number): number => waits.push(address);
  const vm = makeVm({ agents: 3 });
  const sender = attachVm(vm.handle(), { trace: traceOf(true, { onWait }) });
  const reader = attachVm(vm.handle());
  const sleep = vi.spyOn(Atomics, 'wait');
  const fd = vm.eventfds.create();
  assign(vm, toEventfd(5, fd.fd));
  assign(vm, loopback(6, 100));
  vm.routes.set([{ gsi: 32, type: 'xen_evtchn', port: 15, vcpu: 0 }]);
  vm.eventfds.bindIrq(fd.fd, 32);
  const same = sender.eventfds.get(fd.fd);
  // Another thread is inside a bracket and stays there.
  reader.enter();
  expect([raiseFast(sender, 9, 0), sender.routes.raiseFast(32, 1)]).toEqual([1, 1]);
  expect([sender.sendPorts.ring(5), sender.sendPorts.ring(6), same.write(1)]).toEqual([0, 0, 0]);
  reader.leave();
  // A change of mappings is open and stays so.
  vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
  expect([raiseFast(sender, 9, 0), sender.routes.raiseFast(32, 1)]).toEqual([-11, -11]);
  expect(sleep).not.toHaveBeenCalled();
  expect(waits).toEqual([]);
  vm.invalidateEnd();
});

test('X-04 KX-RTE-02 KX-EVT-11 port 1024 in 32-bit mode: the route is taken, raising it is not; in long mode it is', () => {
  for (const shared of [true, false]) {
    const vm = makeVm({ shared, longMode: false });
    vm.routes.set([{ gsi: 32, type: 'xen_evtchn', port: 1024, vcpu: 0 }]);
    const fd = vm.eventfds.create();
    vm.eventfds.bindIrq(fd.fd, 32);
    expect([vm.routes.raise(32, 1), vm.routes.raiseFast(32, 1), raise(vm, 1024, 0), fd.write(1)]).toEqual([
      -1, -22, -22, 0,
    ]);
    vm.setAttr({ type: 'long_mode', enabled: true });
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect(vm.routes.raise(32, 1)).toBe(1);
    expect(drained(vm)).toEqual([1024]);
  }
});
