// Interrupt routes: the table, what raising an interrupt says, and what is seen while the table changes. [kvm-xen 10]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { REGION_ROUTES, ROUTE_COUNT, ROUTE_FIRST } from '../../src/abi/region.ts';
import { attachVm, gfn, gpa, type IrqRoute, type Vm, type VmOptions } from '../../src/index.ts';
import { loadRoute } from '../../src/vm/events/route_entry.ts';
import { drained, errorOf, KINDS, LAYOUTS, makeVm, pendingBit, SHARED_INFO_GFN, vcpuInfoGpa } from '../support.ts';
import { cast, dropMappings, guestSets, noNaps, refuses } from './evidence.ts';
import { assign, loopback, NO_VCPU, setPorts, toEventfd } from './ports.ts';
import { everyStep, Steps } from './steps.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const evtchn = (gsi: number, port: number, vcpu = 0): IrqRoute => ({ gsi, type: 'xen_evtchn', port, vcpu });
const pin = (gsi: number, irqchip: number, n = gsi): IrqRoute => ({ gsi, type: 'irqchip', irqchip, pin: n });
const msi = (gsi: number, data = 0x41): IrqRoute => ({ gsi, type: 'msi', address: 0xfee01000n, data });

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options: VmOptions = {}): Vm => makeVm({ longMode, shared, vcpus: 2, ...options });

  describe('the table', () => {
    test('KX-RTE-10 it is replaced whole, and reads as it was given; nothing removes all', () => {
      const vm = make();
      expect(vm.routes.list()).toEqual([]);
      const first = [
        evtchn(33, 66, 1),
        pin(4, 2),
        pin(4, 0),
        msi(24),
        { ...msi(25), device: 9 },
        evtchn(0, 0, NO_VCPU),
      ];
      vm.routes.set(first);
      expect(vm.routes.list()).toEqual(first);
      vm.routes.set([evtchn(33, 67)]);
      expect(vm.routes.list()).toEqual([evtchn(33, 67)]);
      expect([vm.routes.raise(33, 1), vm.routes.raise(4, 1), drained(vm)]).toEqual([1, -1, [67]]);
      vm.routes.set([]);
      expect([vm.routes.list(), vm.routes.raise(33, 1)]).toEqual([[], -1]);
    });

    test('KX-ABI-43 the widest values come back as they were', () => {
      const vm = make();
      const all: IrqRoute[] = [
        evtchn(4095, 2 ** 32 - 1, 2 ** 32 - 1),
        { gsi: 1, type: 'msi', address: 2n ** 64n - 1n, data: 2 ** 32 - 1, device: 2 ** 32 - 1 },
        { gsi: 2, type: 'msi', address: 1n << 32n, data: 0, device: 0 },
        pin(3, 2, 23),
        pin(3, 1, 7),
      ];
      vm.routes.set(all);
      expect(vm.routes.list()).toEqual(all);
    });

    test('KX-RTE-02 neither port nor vCPU has to exist', () => {
      const vm = make();
      vm.routes.set([
        evtchn(1, 4096),
        evtchn(2, 2 ** 32 - 1),
        evtchn(3, 5, NO_VCPU),
        evtchn(4, 0),
        evtchn(5, maxPorts),
      ]);
      expect([1, 2, 3, 4, 5].map((gsi) => vm.routes.raise(gsi, 1))).toEqual([-1, -1, -1, 1, -1]);
      expect(pendingBit(vm, 0)).toBe(true);
    });

    test('KX-RTE-01 the priority is 2-level', () => {
      const vm = make();
      vm.routes.set([
        { ...evtchn(1, 5), priority: -1 } as IrqRoute,
        { ...evtchn(2, 5), priority: 2 ** 32 - 1 } as IrqRoute,
      ]);
      expect(vm.routes.list()).toEqual([evtchn(1, 5), evtchn(2, 5)]);
      for (const priority of [0, 1, -2, 7, Number.NaN]) {
        refuses(vm, () => vm.routes.set([{ ...evtchn(1, 5), priority } as IrqRoute]), 'EINVAL', 'priority', priority);
      }
    });

    test('KX-RTE-03 a gsi has one route, but for pins of different chips', () => {
      const vm = make();
      vm.routes.set([pin(4, 0), pin(4, 1), pin(4, 2), evtchn(5, 9)]);
      for (const two of [
        [evtchn(4, 5), evtchn(4, 6)],
        [evtchn(4, 5), evtchn(4, 5)],
        [evtchn(4, 5), pin(4, 2)],
        [pin(4, 2), evtchn(4, 5)],
        [msi(4), msi(4)],
        [msi(4), pin(4, 2)],
        [pin(4, 2), pin(4, 0), msi(4)],
        [pin(4, 2), pin(4, 0), pin(4, 2, 9)],
      ]) {
        refuses(vm, () => vm.routes.set([evtchn(6, 1), ...two]), 'EINVAL', 'gsi 4 has two routes');
      }
      expect(vm.routes.list()).toHaveLength(4);
    });

    test('X-17 KX-RTE-11 one bad entry, first or last: the old routes still work', () => {
      const vm = make();
      vm.routes.set([evtchn(32, 15)]);
      const bad: unknown[] = [
        evtchn(4096, 5),
        evtchn(-1, 5),
        evtchn(1.5, 5),
        evtchn(33, -1),
        evtchn(33, 2 ** 32),
        evtchn(33, 5, -1),
        evtchn(33, 5, 2 ** 32),
        { ...evtchn(33, 5), priority: 0 },
        { gsi: 33, type: 'hv_sint', vcpu: 0, sint: 1 },
        { gsi: 33, type: 'toString' },
        { gsi: 33 },
        pin(33, 3, 0),
        pin(33, -1, 0),
        pin(33, 0, 8),
        pin(33, 1, 8),
        pin(33, 2, 24),
        pin(33, 2, -1),
        { ...msi(33), data: -1 },
        { ...msi(33), data: 2 ** 32 },
        { ...msi(33), address: -1n },
        { ...msi(33), address: 1n << 64n },
        { ...msi(33), address: 5 },
        { ...msi(33), device: -1 },
      ];
      for (const entry of bad) {
        const route = cast<IrqRoute>(entry);
        refuses(vm, () => vm.routes.set([route, evtchn(32, 16)]), 'EINVAL');
        refuses(vm, () => vm.routes.set([evtchn(32, 16), msi(1), route]), 'EINVAL');
      }
      expect(vm.routes.list()).toEqual([evtchn(32, 15)]);
      expect(vm.routes.raise(32, 1)).toBe(1);
      expect(drained(vm)).toEqual([15]);
    });

    test('KX-RTE-10 order: irqchip, number, every gsi, room, then each entry', () => {
      const vm = make({ routes: 3 });
      const broken = { ...evtchn(1, 5), priority: 0 } as IrqRoute;
      const many = (n: number, last: IrqRoute): IrqRoute[] => [...Array(n).fill(broken), last];
      refuses(vm, () => vm.routes.set(many(4096, evtchn(4096, 1))), 'EINVAL', 'there are 4097 routes', 4096);
      refuses(vm, () => vm.routes.set(many(4095, evtchn(4096, 1))), 'EINVAL', 'gsi of a route is 4096');
      refuses(vm, () => vm.routes.set(many(3, evtchn(5, 1))), 'ENOMEM', 'room for 3 routes', 'createVm({ routes })');
      refuses(vm, () => vm.routes.set(many(2, evtchn(5, 1))), 'EINVAL', 'priority');
      const none = make({ irqchip: false });
      refuses(none, () => none.routes.set(many(4096, broken)), 'EINVAL', 'irqchip: false');
      refuses(none, () => none.routes.set([]), 'EINVAL', 'irqchip: false');
      expect(none.routes.raise(1, 1)).toBe(-1);
    });

    test('KX-RTE-10 4096 routes, each to a port of its own', () => {
      const vm = make({ routes: 4096 });
      const all = Array.from({ length: 4096 }, (_, gsi) => evtchn(gsi, (gsi * 7) % 4096));
      vm.routes.set(all);
      expect(vm.routes.list()).toEqual(all);
      for (const gsi of [0, 1, 100, 4095]) expect(vm.routes.raise(gsi, 1)).toBe((gsi * 7) % 4096 < maxPorts ? 1 : -1);
      vm.routes.set(all.toReversed());
      expect(vm.routes.raise(0, 1)).toBe(0);
    });

    test('a VM without room for routes refuses the first', () => {
      const vm = make({ routes: 0 });
      vm.routes.set([]);
      refuses(vm, () => vm.routes.set([evtchn(1, 1)]), 'ENOMEM', 'room for 0 routes');
    });

    test('only the owner sets it; every thread reads and raises', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      vm.routes.set([evtchn(32, 15)]);
      refuses(vm, () => other.routes.set([]), 'EPERM');
      expect(other.routes.list()).toEqual([evtchn(32, 15)]);
      expect(other.routes.raise(32, 1)).toBe(1);
      vm.routes.set([evtchn(32, 16)]);
      expect(other.routes.raise(32, 1)).toBe(1);
      expect(drained(vm)).toEqual([15, 16]);
      other.detach();
      expect(other.routes.raise(32, 1)).toBe(-9);
      refuses(vm, () => other.routes.list(), 'EBADF');
    });

    test('inside a bracket, or while a reader does not leave: EBUSY, the old routes stay', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      vm.routes.set([evtchn(32, 15)]);
      vm.enter();
      refuses(vm, () => vm.routes.set([]), 'EBUSY');
      vm.leave();
      noNaps();
      other.enter();
      refuses(vm, () => vm.routes.set([]), 'EBUSY', `agent ${other.agentNumber}`);
      other.leave();
      expect(vm.routes.list()).toEqual([evtchn(32, 15)]);
    });
  });

  describe('raising', () => {
    test('KX-RTE-20 level 1 raises and says how; level 0 raises nothing', () => {
      const vm = make();
      vm.routes.set([evtchn(32, 15), evtchn(33, 16, 1)]);
      expect([vm.routes.raise(32, 0), drained(vm)]).toEqual([-1, []]);
      expect([vm.routes.raise(32, 1), vm.routes.raise(32, 1), vm.routes.raise(32, 0)]).toEqual([1, 0, -1]);
      expect(drained(vm, 0)).toEqual([15]);
      expect(vm.routes.raise(33, 2)).toBe(1);
      expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [16]]);
    });

    test('KX-RTE-20 a gsi without a route, or that is none: -1', () => {
      const vm = make();
      vm.routes.set([evtchn(0, 15)]);
      for (const gsi of [1, 4095, 4096, -1, 0.5, 2 ** 32, Number.NaN]) expect(vm.routes.raise(gsi, 1)).toBe(-1);
    });

    test('KX-RTE-20 pins of several chips: what they say that is not negative adds up', () => {
      const says = { 0: -1, 1: 2, 2: 3 } as Record<number, number>;
      const got: unknown[] = [];
      const vm = make({
        onInterrupt: (route, level) => {
          got.push([route, level]);
          return route.type === 'irqchip' ? (says[route.irqchip] as number) : 1;
        },
      });
      vm.routes.set([pin(4, 0), pin(4, 1), pin(4, 2), pin(5, 0), pin(6, 1), msi(7)]);
      expect([4, 5, 6, 7].map((gsi) => vm.routes.raise(gsi, 1))).toEqual([5, -1, 2, 1]);
      expect(got).toHaveLength(6);
      expect(got[5]).toEqual([msi(7), 1]);
      got.length = 0;
      // A message has no level to take back.
      expect([vm.routes.raise(7, 0), vm.routes.raise(6, 0)]).toEqual([-1, 2]);
      expect(got).toEqual([[pin(6, 1), 0]]);
    });

    test('KX-RTE-20 without an interrupt controller of the embedder pins and messages go nowhere', () => {
      const vm = make();
      vm.routes.set([pin(4, 2), msi(7)]);
      expect([vm.routes.raise(4, 1), vm.routes.raise(7, 1)]).toEqual([-1, -1]);
    });

    test('an interrupt controller may change the routes from inside, and send', () => {
      const vm = make({
        onInterrupt: () => {
          vm.routes.set([evtchn(4, 15)]);
          return vm.routes.raise(4, 1);
        },
      });
      vm.routes.set([pin(4, 2)]);
      expect(vm.routes.raise(4, 1)).toBe(1);
      expect(drained(vm)).toEqual([15]);
    });

    test('KX-RTE-22 where nothing may sleep level 0 is -1, and what is no single port is left to the other way', () => {
      const vm = make();
      vm.routes.set([evtchn(32, 15), evtchn(33, 5, NO_VCPU), pin(4, 2), msi(5), pin(6, 0), pin(6, 1)]);
      expect([vm.routes.raiseFast(32, 0), drained(vm)]).toEqual([-1, []]);
      expect([vm.routes.raiseFast(32, 1), vm.routes.raiseFast(32, 1)]).toEqual([1, 0]);
      guestSets(vm, 'mask', 15);
      drained(vm);
      guestSets(vm, 'pending', 15, false);
      expect(vm.routes.raiseFast(32, 1)).toBe(-107);
      expect(vm.routes.raiseFast(33, 1)).toBe(-22);
      for (const gsi of [4, 5, 6, 7, 5000]) expect(vm.routes.raiseFast(gsi, 1)).toBe(-11);
      dropMappings(vm);
      expect(vm.routes.raiseFast(32, 1)).toBe(-11);
    });

    test('KX-RTE-23 KX-GEN-05 a route needs no configuration and no exit', () => {
      const vm = make();
      expect(vm.getConfig().msr).toBe(0);
      vm.routes.set([evtchn(40, 90, 1)]);
      expect(vm.routes.raise(40, 1)).toBe(1);
      expect(vm.vcpu(1).upcallPending).toBe(true);
    });

    test('KX-RTE-02 KX-EVT-10 the vCPU is named by its id', () => {
      const vm = make({ vcpuIds: [6, 2] });
      vm.routes.set([evtchn(1, 5, 2), evtchn(2, 500, 6), evtchn(3, 7, 0)]);
      expect([1, 2, 3].map((gsi) => vm.routes.raise(gsi, 1))).toEqual([1, 1, -1]);
      expect([drained(vm, 0), drained(vm, 1)]).toEqual([[500], [5]]);
    });
  });
});

test('KX-ABI-43 entries lie in memory as struct kvm_irq_routing_entry', () => {
  const vm = makeVm();
  const { device, ...plain } = { ...(msi(3, 7) as Extract<IrqRoute, { type: 'msi' }>), device: 8 };
  // The first replacement goes to the second copy, the next one to the first.
  vm.routes.set([]);
  vm.routes.set([evtchn(1, 5, 2), pin(2, 1), { ...plain, device }, { ...plain, gsi: 4 }]);
  const at = vm.region.part(REGION_ROUTES);
  expect(vm.region.words.load(at + ROUTE_COUNT)).toBe(4);
  const words = (i: number): number[] =>
    Array.from({ length: 12 }, (_, k) => vm.region.words.load(at + ROUTE_FIRST + i * 48 + k * 4) >>> 0);
  expect(words(0)).toEqual([1, 5, 0, 0, 5, 2, 2 ** 32 - 1, 0, 0, 0, 0, 0]);
  expect(words(1)).toEqual([2, 1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
  expect(words(2)).toEqual([3, 2, 1, 0, 0xfee01000, 0, 7, 8, 0, 0, 0, 0]);
  expect(words(3)).toEqual([4, 2, 0, 0, 0xfee01000, 0, 7, 0, 0, 0, 0, 0]);
});

test('KX-RTE-01 an entry with flags or a type that is not known: EINVAL', () => {
  const entry = (...words: number[]): (() => IrqRoute) => {
    return () => loadRoute((offset) => words[offset / 4] ?? 0);
  };
  expect(entry(9, 5, 0, 0, 15, 1, 2 ** 32 - 1)()).toEqual(evtchn(9, 15, 1));
  // What the priority is says `checkRoute`.
  expect(entry(9, 5, 0, 0, 15, 1, 3)()).toEqual({ ...evtchn(9, 15, 1), priority: 3 });
  for (const flags of [1, 2, 2 ** 31]) expect(errorOf(entry(9, 5, flags, 0, 15, 1, -1)).code).toBe('EINVAL');
  for (const flags of [2, 3]) expect(errorOf(entry(9, 2, flags)).code).toBe('EINVAL');
  expect(errorOf(entry(9, 1, 1)).message).toContain('flags 0x1');
  for (const type of [0, 3, 4, 6, 2 ** 32 - 1]) expect(errorOf(entry(9, type)).message).toContain(`type ${type}`);
});

// ── while others raise ───────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('changes while another thread raises, $layout layout', ({ longMode }) => {
  test('KX-RTE-12 at each write of a replacement somebody raises: the old port until the last, then the new one', () => {
    const seen = new Set<string>();
    everyStep((at) => {
      const steps = new Steps();
      const vm = makeVm({ longMode, vcpus: 2, agents: 2 });
      vm.routes.set([evtchn(1, 3), evtchn(32, 9, 0)]);
      const sender = attachVm(vm.handle());
      steps.watch(vm, ['store', 'exchange', 'add']);
      steps.run(
        at,
        () => vm.routes.set([evtchn(32, 10, 1), evtchn(2, 4), evtchn(3, 4)]),
        () => {
          expect(sender.routes.raise(32, 1)).toBe(1);
          seen.add(JSON.stringify([drained(sender, 1), drained(sender, 0)]));
        },
      );
      expect(sender.routes.raise(32, 1)).toBe(1);
      expect(drained(vm, 1)).toEqual([10]);
      return steps;
    });
    // The last write puts the new routes in force.
    expect([...seen]).toEqual(['[[],[9]]']);
  });

  test('KX-RTE-12 KF-33 KF-36 at each step of a raise the table is replaced: after that the old routes raise nothing', () => {
    let [waited, replaced] = [0, 0];
    everyStep((at) => {
      const steps = new Steps();
      const vm = makeVm({ longMode, vcpus: 2, agents: 2 });
      vm.routes.set([evtchn(32, 9, 0)]);
      const sender = attachVm(vm.handle(), { trace: steps.trace(true) });
      const busy = errorOf(() => vm.eventfds.get(0));
      vi.spyOn(vm.changes, 'awaitReaders').mockImplementation(() => {
        if (vm.region.bracketOpen(sender.agent)) throw busy;
      });
      dropMappings(vm);
      steps.watch(sender);
      let gone = false;
      let before = false;
      steps.run(
        at,
        () => sender.routes.raise(32, 1),
        () => {
          try {
            vm.routes.set([evtchn(32, 10, 1)]);
          } catch (error) {
            expect(error).toBe(busy);
            waited++;
            return;
          }
          replaced++;
          gone = true;
          before = pendingBit(vm, 9);
        },
      );
      expect([pendingBit(vm, 9), pendingBit(vm, 10)]).toEqual(gone && !before ? [false, true] : [true, false]);
      return steps;
    });
    expect(waited).toBeGreaterThan(5);
    expect(replaced).toBeGreaterThan(5);
  });

  test.each([true, false])(
    'KX-RTE-12 a replacement that is given up: who saw its routes forgets them (asks: %s)',
    (asks) => {
      const vm = makeVm({ longMode });
      const sender = attachVm(vm.handle());
      vm.routes.set([evtchn(32, 9)]);
      const wait = vi.spyOn(vm.changes, 'awaitReaders');
      wait.mockImplementationOnce(() => {});
      wait.mockImplementationOnce(() => {
        expect(sender.routes.raise(33, 1)).toBe(1);
        throw errorOf(() => vm.eventfds.get(0));
      });
      expect(() => vm.routes.set([evtchn(33, 10)])).toThrow();
      if (asks) expect([sender.routes.raise(32, 1), sender.routes.raise(33, 1)]).toEqual([1, -1]);
      expect(vm.routes.list()).toEqual([evtchn(32, 9)]);
      vm.routes.set([evtchn(34, 11)]);
      expect([32, 33, 34].map((gsi) => sender.routes.raise(gsi, 1))).toEqual([-1, -1, 1]);
    },
  );
});

// ── restoring ────────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('KF-34 $layout layout', ({ longMode }) => {
  test('a saved configuration in every order: the same VM', () => {
    const parts: ((vm: Vm) => void)[] = [
      (vm) => vm.setAttr({ type: 'long_mode', enabled: longMode }),
      (vm) => vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) }),
      (vm) => {
        for (let i = 0; i < 2; i++) vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(i)) });
      },
      (vm) => vm.routes.set([evtchn(1, 1000, 1), evtchn(2, 4095), pin(3, 2)]),
      (vm) => setPorts(vm, [loopback(5, 1001, 1), toEventfd(4095, 3)]),
      (vm) => vm.eventfds.bindIrq(3, 1),
    ];
    const images = permutations(parts.length).map((order) => {
      const vm = makeVmBare();
      vm.eventfds.create();
      for (const i of order) parts[i]?.(vm);
      const effects = [vm.routes.raise(1, 1), vm.routes.raise(2, 1), vm.sendPorts.ring(5), vm.sendPorts.ring(4095)];
      const attrs = [vm.getAttr('evtchn'), vm.routes.list(), vm.eventfds.list(), vm.getAttr('long_mode')];
      // A wide integer has no JSON.
      return JSON.stringify([effects, drained(vm, 1), drained(vm, 0), attrs], (_key, value) =>
        typeof value === 'bigint' ? String(value) : value,
      );
    });
    expect(new Set(images).size).toBe(1);
    expect(images[0]).toContain(longMode ? '[1,1,0,0],[1000,1001],[4095]' : '[1,-1,0,0],[1000,1001],[]');
  });
});

function makeVmBare(): Vm {
  const vm = makeVm({ shared: false, vcpus: 2 });
  vm.setAttr({ type: 'shared_info', gfn: null });
  for (let i = 0; i < 2; i++) vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: null });
  vm.setAttr({ type: 'long_mode', enabled: false });
  return vm;
}

function permutations(n: number): number[][] {
  if (n === 0) return [[]];
  return permutations(n - 1).flatMap((order) =>
    Array.from({ length: n }, (_, at) => [...order.slice(0, at), n - 1, ...order.slice(at)]),
  );
}

test('KX-RTE-31 a route and a send port may lead to the same port', () => {
  const vm = makeVm();
  vm.routes.set([evtchn(32, 15)]);
  assign(vm, loopback(5, 15));
  expect([vm.routes.raise(32, 1), vm.sendPorts.ring(5), vm.evtchnSend({ port: 15, vcpu: 0 })]).toEqual([1, 0, 0]);
  expect(drained(vm)).toEqual([15]);
});
