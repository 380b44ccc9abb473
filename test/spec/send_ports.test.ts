// Outbound ports: the attribute EVTCHN in the order of its checks, and what ringing one does while it changes. [kvm-xen 3.3, 3.4]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { attachVm, type SendPort, type Vm, type VmOptions } from '../../src/index.ts';
import { drained, errorOf, KINDS, LAYOUTS, makeVm, pendingBit } from '../support.ts';
import { cast, dropMappings, noNaps, refusal, refuses } from './evidence.ts';
import {
  assign,
  deassign,
  ledger,
  loopback,
  NO_VCPU,
  references,
  reset,
  setPorts,
  toEventfd,
  update,
} from './ports.ts';
import { everyStep, Steps } from './steps.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options: VmOptions = {}): Vm => makeVm({ longMode, shared, vcpus: 2, ...options });
  const ports = (vm: Vm): readonly SendPort[] => vm.sendPorts.list();

  describe('assign', () => {
    test('KX-EVA-07 an IPI raises its own port, and no other', () => {
      const vm = make();
      assign(vm, loopback(5, 5, 1));
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [5]]);
      const ipi = { sendPort: 6, channel: 'ipi' } as const;
      refuses(vm, () => assign(vm, { ...ipi, target: { port: 7, vcpu: 0 } }), 'EINVAL', 'send port 6', 'port 7');
      refuses(vm, () => assign(vm, { ...ipi, target: { port: 0, vcpu: 0 } }), 'EINVAL');
      const eventfd = vm.eventfds.create().fd;
      refuses(vm, () => assign(vm, { ...ipi, target: { eventfd } }), 'EINVAL', 'IPI');
    });

    test('KX-EVA-08 KX-HCL-41 an interdomain channel loops back to any port, its own as well', () => {
      const vm = make();
      assign(vm, { sendPort: 5, channel: 'interdomain', target: { port: 5, vcpu: 0 } });
      assign(vm, loopback(6, maxPorts - 1, 1));
      expect([vm.sendPorts.ring(5), vm.sendPorts.ring(6)]).toEqual([0, 0]);
      expect([drained(vm, 0), drained(vm, 1)]).toEqual([[5], [maxPorts - 1]]);
      for (const port of [0, -1, maxPorts, 2 ** 32 - 1, 1.5]) {
        refuses(vm, () => assign(vm, loopback(7, port)), 'EINVAL', port, maxPorts - 1);
      }
    });

    test('KX-EVA-09 KX-HCL-42 an interdomain channel signals an eventfd: EBADF not open, EINVAL no eventfd', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(5, fd.fd));
      expect([vm.sendPorts.ring(5), vm.sendPorts.ring(5)]).toEqual([0, 0]);
      expect(fd.read()).toBe(2n);
      refuses(vm, () => assign(vm, toEventfd(6, 63)), 'EBADF', 63);
      refuses(vm, () => assign(vm, toEventfd(6, -1)), 'EBADF', -1);
      refuses(vm, () => assign(vm, toEventfd(6, 0)), 'EINVAL', 'no eventfd');
      fd.close();
      refuses(vm, () => assign(vm, toEventfd(6, fd.fd)), 'EBADF');
      expect(vm.sendPorts.ring(5)).toBe(0);
    });

    test.each(['closed', 'unbound', 'pirq', 'virq', 'toString', '', undefined, null, 2])(
      'KX-EVA-10 of type %s: EINVAL',
      (channel) => {
        const vm = make();
        const port = { sendPort: 5, channel: cast<'ipi'>(channel), target: { port: 5, vcpu: 0 } };
        refuses(vm, () => assign(vm, port), 'EINVAL', String(channel));
      },
    );

    test('KX-EVA-11 a port target has the 2-level priority; of an eventfd it is not looked at', () => {
      const vm = make();
      const port = (sendPort: number, priority: number): SendPort => ({
        ...loopback(sendPort, 9),
        target: { port: 9, vcpu: 0, priority },
      });
      assign(vm, port(5, -1));
      assign(vm, port(6, 2 ** 32 - 1));
      for (const priority of [0, 1, -2, 2 ** 32 - 2, 2 ** 33 - 1, Number.NaN]) {
        refuses(vm, () => assign(vm, port(7, priority)), 'EINVAL', 'priority', priority);
      }
      const target = cast<{ eventfd: number }>({ eventfd: vm.eventfds.create().fd, priority: 3 });
      assign(vm, { sendPort: 7, channel: 'interdomain', target });
    });

    test('KX-EVA-12 the vCPU is not looked at before the first use', () => {
      const vm = make({ vcpuIds: [10, 4] });
      for (const [sendPort, vcpu] of [
        [5, NO_VCPU],
        [6, 2 ** 32 - 1],
        [7, 4],
      ] as const) {
        assign(vm, loopback(sendPort, 9, vcpu));
      }
      expect([vm.sendPorts.ring(5), vm.sendPorts.ring(6), vm.sendPorts.ring(7)]).toEqual([null, null, 0]);
      expect(drained(vm, 1)).toEqual([9]);
      for (const vcpu of [-1, 2 ** 32, 0.5, Number.NaN]) {
        refuses(vm, () => assign(vm, loopback(8, 9, vcpu)), 'EINVAL', vcpu);
      }
    });

    test('KX-EVA-03 a port that is present: EEXIST, the old target stays, no reference is kept', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, loopback(5, 9));
      refuses(vm, () => assign(vm, toEventfd(5, fd.fd)), 'EEXIST', 5);
      refuses(vm, () => assign(vm, loopback(5, 9)), 'EEXIST', 5);
      vm.sendPorts.ring(5);
      expect(drained(vm)).toEqual([9]);
      expect(references(vm)[0]).toBe(1);
    });

    test('KX-EVA-02 KX-EVA-03 order: send port, type, target, priority, then whether it is present', () => {
      const vm = make();
      assign(vm, loopback(5, 9));
      const bad = { port: 9, vcpu: 0, priority: 0 };
      const message = (port: unknown): string => errorOf(() => assign(vm, cast<SendPort>(port))).message;
      expect(message({ sendPort: 0, channel: 'virq', target: bad })).toContain('the send port is 0');
      expect(message({ sendPort: 5, channel: 'virq', target: bad })).toContain('type virq');
      expect(message({ sendPort: 5, channel: 'ipi', target: bad })).toContain('IPI');
      expect(message({ sendPort: 5, channel: 'interdomain', target: bad })).toContain('priority');
      expect(message({ sendPort: 5, channel: 'interdomain', target: { eventfd: 50 } })).toContain('EBADF');
      expect(message({ sendPort: 5, channel: 'interdomain', target: { port: 9, vcpu: 0 } })).toContain('EEXIST');
    });

    test('values of wrong types are refused by name', () => {
      const vm = make();
      for (const target of [undefined, null, 9, 'port']) {
        const port = cast<SendPort>({ sendPort: 5, channel: 'interdomain', target });
        refuses(vm, () => assign(vm, port), 'EINVAL', 'target', String(target));
      }
      refuses(vm, () => assign(vm, cast<SendPort>({ ...loopback(5, 9), sendPort: '5' })), 'EINVAL', 'send port');
      refuses(vm, () => setPorts(vm, cast<SendPort[]>(undefined)), 'EINVAL', 'list');
    });
  });

  describe('one at a time', () => {
    test('KX-EVA-01 an action that is none: EINVAL', () => {
      const vm = make();
      for (const action of ['close', 'toString', '', undefined, 3]) {
        const attr = cast<{ type: 'evtchn'; action: 'reset' }>({ type: 'evtchn', action, sendPort: 5 });
        refuses(vm, () => vm.setAttr(attr), 'EINVAL', String(action));
      }
    });

    test('KX-EVA-02 a send port is from 1 to the last port of the mode; a reset does not look at it', () => {
      const vm = make();
      for (const sendPort of [0, -1, maxPorts, 2 ** 32, 1.5]) {
        refuses(vm, () => assign(vm, loopback(sendPort, 9)), 'EINVAL', sendPort);
        refuses(vm, () => update(vm, loopback(sendPort, 9)), 'EINVAL', sendPort);
        refuses(vm, () => deassign(vm, sendPort), 'EINVAL', sendPort);
      }
      assign(vm, loopback(maxPorts - 1, 1));
      assign(vm, loopback(1, 1));
      vm.setAttr(cast<{ type: 'evtchn'; action: 'reset' }>({ type: 'evtchn', action: 'reset', sendPort: 0 }));
      expect(ports(vm)).toEqual([]);
    });

    test('KX-EVA-13 update: the vCPU changes, and nothing else may', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      refuses(vm, () => update(vm, loopback(5, 9)), 'ENOENT', 5);
      assign(vm, loopback(5, 9, NO_VCPU));
      assign(vm, toEventfd(6, fd.fd));
      refuses(vm, () => update(vm, { ...loopback(5, 9), channel: 'ipi' }), 'EINVAL', 'interdomain');
      refuses(vm, () => update(vm, toEventfd(6, fd.fd)), 'EINVAL', 'eventfd');
      refuses(vm, () => update(vm, loopback(6, 9)), 'EINVAL', 'eventfd');
      refuses(vm, () => update(vm, toEventfd(5, fd.fd)), 'EINVAL', 'port 9');
      refuses(vm, () => update(vm, loopback(5, 10)), 'EINVAL', 'port 9');
      refuses(vm, () => update(vm, cast<SendPort>({ ...loopback(5, 9), target: null })), 'EINVAL', 'port 9');
      const target = { port: 9, vcpu: 1, priority: 0 };
      refuses(vm, () => update(vm, { ...loopback(5, 9), target }), 'EINVAL', 'priority');
      refuses(vm, () => update(vm, loopback(5, 9, -1)), 'EINVAL', 'vCPU');
      expect(vm.sendPorts.ring(5)).toBeNull();
      update(vm, loopback(5, 9, 1));
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(drained(vm, 1)).toEqual([9]);
      expect(references(vm)[0]).toBe(2);
    });

    test('KX-EVA-22 an update takes no reference, whatever it is told', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(6, fd.fd));
      for (const port of [toEventfd(6, fd.fd), loopback(6, 9)]) expect(refusal(() => update(vm, port))).toBe('EINVAL');
      assign(vm, loopback(5, 9));
      update(vm, loopback(5, 9, 1));
      expect(references(vm)[0]).toBe(2);
    });

    test('KX-EVA-14 deassign: the port is gone, its reference dropped; again it is ENOENT', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(5, fd.fd));
      assign(vm, loopback(6, 9));
      for (const sendPort of [5, 6]) {
        deassign(vm, sendPort);
        refuses(vm, () => deassign(vm, sendPort), 'ENOENT', sendPort);
        expect(vm.sendPorts.ring(sendPort)).toBeNull();
      }
      expect(fd.read()).toBe(-11n);
      expect(references(vm)[0]).toBe(1);
      assign(vm, loopback(5, 10));
      expect(ports(vm)).toEqual([loopback(5, 10)]);
    });

    test('KX-EVA-15 reset: all are gone with their references; nothing to remove is fine', () => {
      const vm = make();
      reset(vm);
      const fd = vm.eventfds.create();
      for (let port = 1; port < 200; port++) assign(vm, port % 3 ? loopback(port, 9) : toEventfd(port, fd.fd));
      fd.close();
      expect(references(vm)[0]).toBe(66);
      reset(vm);
      expect(ports(vm)).toEqual([]);
      expect(ledger(vm)).toBe(0);
      for (let port = 1; port < 200; port++) expect(vm.sendPorts.ring(port)).toBeNull();
      reset(vm);
      assign(vm, loopback(5, 9));
      expect(ports(vm)).toEqual([loopback(5, 9)]);
    });

    test('what can be set can be read back, lowest first', () => {
      const vm = make();
      const { fd } = vm.eventfds.create();
      const all = [loopback(maxPorts - 1, 3, NO_VCPU), toEventfd(40, fd), loopback(7, 7, 1), loopback(1, maxPorts - 1)];
      for (const port of all) assign(vm, port);
      const attr = vm.getAttr('evtchn');
      expect(attr).toEqual({ type: 'evtchn', action: 'set', ports: all.toReversed() });
      vm.setAttr(attr);
      expect(vm.getAttr('evtchn')).toEqual(attr);
      expect(references(vm)[0]).toBe(2);
    });

    test('only the owner changes them; every thread rings and reads', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      assign(vm, loopback(5, 9));
      refuses(vm, () => assign(other, loopback(6, 9)), 'EPERM');
      expect(other.sendPorts.list()).toEqual([loopback(5, 9)]);
      expect(other.sendPorts.ring(5)).toBe(0);
      expect(drained(vm)).toEqual([9]);
    });

    test('inside a bracket nothing is removed or replaced', () => {
      const vm = make();
      assign(vm, loopback(5, 9));
      vm.enter();
      refuses(vm, () => deassign(vm, 5), 'EBUSY');
      refuses(vm, () => reset(vm), 'EBUSY');
      refuses(vm, () => setPorts(vm, []), 'EBUSY');
      expect(vm.sendPorts.ring(5)).toBe(0);
      vm.leave();
    });
  });

  describe('ring', () => {
    test('KX-HCL-40 a port that is none is the embedder’s, whatever it is', () => {
      const vm = make();
      assign(vm, loopback(5, 9));
      for (const port of [
        0,
        1,
        4,
        6,
        maxPorts - 1,
        maxPorts,
        4095,
        4096,
        65536 + 5,
        2 ** 32 - 1,
        2 ** 32 + 5,
        -5,
        5.5,
      ]) {
        expect(vm.sendPorts.ring(port), String(port)).toBeNull();
      }
      expect(vm.sendPorts.ring(Number.NaN)).toBeNull();
    });

    test('KX-HCL-44 KX-GEN-05 it needs no configuration, only a port', () => {
      const vm = make();
      expect(vm.getConfig().msr).toBe(0);
      assign(vm, loopback(5, 9));
      expect(vm.sendPorts.ring(5)).toBe(0);
    });

    test('KX-EVT-25 KX-EVT-27 shared_info is not mapped: mapped, then raised', () => {
      const vm = make();
      assign(vm, loopback(5, 9));
      dropMappings(vm);
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(drained(vm)).toEqual([9]);
    });

    test('KX-EVT-10 a port that is bound goes to its vCPU, else to the one that is named', () => {
      const vm = make();
      assign(vm, loopback(5, 9, 1));
      vm.sendPorts.ring(5);
      expect([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]).toEqual([false, true]);
      drained(vm, 1);
      vm.bindVcpu(9, 0);
      vm.sendPorts.ring(5);
      expect([drained(vm, 1), drained(vm, 0)]).toEqual([[], [9]]);
    });

    test('a view that is detached rings nothing', () => {
      const vm = make();
      assign(vm, loopback(5, 9));
      assign(vm, toEventfd(6, vm.eventfds.create().fd));
      const other = attachVm(vm.handle());
      other.detach();
      expect([other.sendPorts.ring(5), other.sendPorts.ring(6)]).toEqual([null, null]);
      refuses(vm, () => other.sendPorts.list(), 'EBADF');
    });

    test('KF-43 KF-47 whatever the guest has in its pages, a ring stays in bounds', () => {
      const vm = make();
      assign(vm, loopback(5, maxPorts - 1, 1));
      new Uint8Array(vm.memory.buffer, vm.guestBase, vm.guestBytes).fill(0xff);
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(ports(vm)).toEqual([loopback(5, maxPorts - 1, 1)]);
    });
  });

  describe('KX-EVA-24 all at once', () => {
    const table = (vm: Vm): SendPort[] => [
      loopback(1, 30, 1),
      loopback(40, 40),
      toEventfd(maxPorts - 1, vm.eventfds.create().fd),
    ];

    test('what was there is replaced: what is not named is gone', () => {
      const vm = make();
      const old = table(vm);
      setPorts(vm, old);
      expect(ports(vm)).toEqual(old);
      setPorts(vm, [loopback(40, 41), loopback(2, 3)]);
      expect(ports(vm)).toEqual([loopback(2, 3), loopback(40, 41)]);
      expect(vm.sendPorts.ring(1)).toBeNull();
      expect(references(vm)[0]).toBe(1);
      setPorts(vm, []);
      expect(ports(vm)).toEqual([]);
    });

    test('KF-28 one bad entry: nothing has changed, no reference either', () => {
      const vm = make();
      setPorts(vm, table(vm));
      const { fd } = vm.eventfds.create();
      const good = [toEventfd(7, fd), loopback(8, 9)];
      const faults: (readonly [SendPort, string])[] = [
        [toEventfd(9, 60), 'EBADF'],
        [toEventfd(9, 1), 'EINVAL'],
        [loopback(9, 4096), 'EINVAL'],
        [loopback(0, 9), 'EINVAL'],
        [loopback(4096, 9), 'EINVAL'],
        [toEventfd(7, fd), 'EEXIST'],
        [loopback(8, 9), 'EEXIST'],
        [{ ...loopback(9, 9), channel: cast<'ipi'>('virq') }, 'EINVAL'],
      ];
      for (const [fault, code] of faults) {
        for (const entries of [
          [fault, ...good],
          [...good, fault],
        ]) {
          // The first of two equal ones is no fault yet: the second is refused in either order.
          refuses(vm, () => setPorts(vm, entries), cast<'EINVAL'>(code));
        }
      }
      expect(ports(vm)).toHaveLength(3);
    });

    test('KF-34 a table can be set before the mode is: all ports there are in any mode', () => {
      const vm = make();
      vm.setAttr({ type: 'long_mode', enabled: true });
      setPorts(vm, [loopback(4095, 4095), loopback(5, 2000)]);
      vm.setAttr({ type: 'long_mode', enabled: false });
      setPorts(vm, vm.sendPorts.list());
      expect([vm.sendPorts.ring(4095), vm.sendPorts.ring(5)]).toEqual([null, null]);
      vm.setAttr({ type: 'long_mode', enabled: true });
      expect([vm.sendPorts.ring(4095), vm.sendPorts.ring(5)]).toEqual([0, 0]);
    });

    test('every port there is, twice over', () => {
      const vm = make();
      const { fd } = vm.eventfds.create();
      const all = (to: (port: number) => SendPort): SendPort[] => Array.from({ length: 4095 }, (_, i) => to(i + 1));
      setPorts(
        vm,
        all((port) => toEventfd(port, fd)),
      );
      expect(references(vm)[0]).toBe(4096);
      setPorts(
        vm,
        all((port) => loopback(port, 4096 - port)),
      );
      expect(references(vm)[0]).toBe(1);
      expect(ports(vm)).toEqual(all((port) => loopback(port, 4096 - port)));
    });
  });

  describe('KF-28 KF-45 references', () => {
    test('every call that fails leaves the ledger as it was, and the end of the VM leaves 0', () => {
      const vm = make();
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(5, fd.fd));
      assign(vm, loopback(6, 9));
      const before = references(vm);
      const failing: (() => void)[] = [
        () => assign(vm, toEventfd(5, fd.fd)),
        () => assign(vm, toEventfd(6, fd.fd)),
        () => assign(vm, toEventfd(0, fd.fd)),
        () => assign(vm, { ...toEventfd(7, fd.fd), channel: 'ipi' }),
        () => assign(vm, { ...toEventfd(7, fd.fd), channel: cast<'ipi'>('pirq') }),
        () => assign(vm, toEventfd(7, 50)),
        () => update(vm, toEventfd(5, fd.fd)),
        () => update(vm, toEventfd(6, fd.fd)),
        () => deassign(vm, 7),
        () => setPorts(vm, [toEventfd(8, fd.fd), toEventfd(8, fd.fd)]),
        () => setPorts(vm, [toEventfd(8, fd.fd), toEventfd(9, 50)]),
        () => vm.eventfds.bindIrq(fd.fd, -1),
        () => vm.eventfds.bindIrq(50, 1),
      ];
      for (const call of failing) {
        expect(refusal(call)).toBeDefined();
        expect(references(vm)).toEqual(before);
      }
      vm.close();
      expect(ledger(vm)).toBe(0);
    });

    test('KX-GEN-04 KX-EVA-15 the end of the VM drops what is in force, whichever copy that is', () => {
      for (const replacements of [0, 1, 2]) {
        const vm = make();
        const { fd } = vm.eventfds.create();
        for (let i = 0; i < replacements; i++) setPorts(vm, []);
        assign(vm, toEventfd(5, fd));
        vm.close();
        expect(ledger(vm)).toBe(0);
      }
    });

    test('KX-GEN-04 a view that is detached takes none with it', () => {
      const vm = make();
      const { fd } = vm.eventfds.create();
      assign(vm, toEventfd(5, fd));
      const other = attachVm(vm.handle());
      other.eventfds.get(fd).write(1);
      other.detach();
      expect(references(vm)[0]).toBe(2);
      expect(vm.sendPorts.ring(5)).toBe(0);
    });
  });
});

test.each([true, false])('KX-EVA-16 KF-43 ports stay when the mode changes, shared memory: %s', (shared) => {
  const vm = makeVm({ shared });
  assign(vm, loopback(2000, 5));
  assign(vm, loopback(6, 2000));
  vm.setAttr({ type: 'long_mode', enabled: false });
  expect(vm.sendPorts.list()).toEqual([loopback(6, 2000), loopback(2000, 5)]);
  // A send port is only a name; its target has to exist in the guest's mode.
  expect([vm.sendPorts.ring(2000), vm.sendPorts.ring(6)]).toEqual([0, null]);
  expect(drained(vm)).toEqual([5]);
  refuses(vm, () => deassign(vm, 2000), 'EINVAL', 1023);
  vm.setAttr({ type: 'long_mode', enabled: true });
  expect(vm.sendPorts.ring(6)).toBe(0);
  expect(drained(vm)).toEqual([2000]);
  deassign(vm, 2000);
});

describe('X-18 each error of the attribute', () => {
  test.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
    const vm = makeVm({ longMode, shared });
    const fd = vm.eventfds.create();
    assign(vm, toEventfd(5, fd.fd));
    refuses(vm, () => assign(vm, loopback(5, 6)), 'EEXIST');
    refuses(vm, () => update(vm, toEventfd(5, fd.fd)), 'EINVAL');
    deassign(vm, 5);
    refuses(vm, () => deassign(vm, 5), 'ENOENT');
    refuses(vm, () => vm.setAttr(cast({ type: 'evtchn', action: 3, sendPort: 5 })), 'EINVAL');
    refuses(vm, () => assign(vm, { ...loopback(5, 6), channel: cast<'ipi'>('virq') }), 'EINVAL');
    fd.close();
    refuses(vm, () => assign(vm, toEventfd(5, fd.fd)), 'EBADF');
  });
});

// ── while others ring ────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('changes while another thread rings, $layout layout', ({ longMode }) => {
  /** An owner, and a sender whose accesses are steps. */
  function world(setup: (vm: Vm) => void = () => {}) {
    const steps = new Steps();
    const vm = makeVm({ longMode, vcpus: 2, agents: 2, eventfds: 4 });
    setup(vm);
    const sender = attachVm(vm.handle(), { trace: steps.trace(true) });
    // One look is enough here: whoever is inside a step does not leave.
    vi.spyOn(vm.changes, 'awaitReaders').mockImplementation(() => {
      if (vm.region.bracketOpen(sender.agent)) throw busy;
    });
    return { vm, sender, steps };
  }
  const busy = errorOf(() => makeVm().eventfds.get(0));

  test('X-19 KF-29 KX-EVA-14 KX-HCL-43 deassign at each step of a ring: who is inside is waited for; after it nothing arrives', () => {
    let [waited, removed] = [0, 0];
    const steps = everyStep((at) => {
      const { vm, sender, steps } = world();
      const old = vm.eventfds.create();
      assign(vm, toEventfd(5, old.fd));
      steps.watch(sender);
      let seen: bigint | null = null;
      let next = old;
      const result = steps.run(
        at,
        () => sender.sendPorts.ring(5),
        () => {
          try {
            deassign(vm, 5);
          } catch (error) {
            expect(error).toBe(busy);
            waited++;
            return;
          }
          removed++;
          seen = old.read();
          old.close();
          next = vm.eventfds.create();
          expect(next.fd).toBe(old.fd);
        },
      );
      if (seen === null) {
        // Not removed: it was rung, and the port is as it was.
        expect([result, old.read()]).toEqual([0, 1n]);
        expect(vm.sendPorts.list()).toHaveLength(1);
        expect(references(vm)[0]).toBe(2);
      } else {
        // Removed: rung before that, or not at all; whoever has the record now hears nothing.
        expect([result, seen]).toEqual(seen === 1n ? [0, 1n] : [null, -11n]);
        expect(next.read()).toBe(-11n);
        expect(references(vm)[0]).toBe(1);
      }
      return steps;
    });
    expect(waited).toBeGreaterThan(5);
    expect(removed).toBeGreaterThan(1);
    expect(waited + removed).toBe(steps);
  });

  test('X-19 KF-29 the same on the slow way: nothing is raised for a port that is gone', () => {
    let removed = 0;
    everyStep((at) => {
      const { vm, sender, steps } = world();
      assign(vm, loopback(5, 9));
      dropMappings(vm);
      steps.watch(sender);
      let gone = false;
      let before = false;
      const result = steps.run(
        at,
        () => sender.sendPorts.ring(5),
        () => {
          try {
            deassign(vm, 5);
          } catch (error) {
            expect(error).toBe(busy);
            return;
          }
          gone = true;
          removed++;
          before = pendingBit(vm, 9);
        },
      );
      expect(pendingBit(vm, 9)).toBe(!gone || before);
      expect(result).toBe(!gone || before ? 0 : null);
      return steps;
    });
    expect(removed).toBeGreaterThan(5);
  });

  test('KX-EVA-24 KX-EVA-12 a table replaced, at each of its writes somebody rings: the old target or the new one, whole', () => {
    const [old, now] = [loopback(5, 9, 0), loopback(5, 10, 1)];
    const seen = new Set<string>();
    everyStep((at) => {
      const steps = new Steps();
      const vm = makeVm({ longMode, vcpus: 2, agents: 2 });
      setPorts(vm, [old, loopback(6, 9)]);
      const sender = attachVm(vm.handle());
      steps.watch(vm, ['store', 'exchange', 'add']);
      steps.run(
        at,
        () => setPorts(vm, [now, loopback(7, 11)]),
        () => {
          expect(sender.sendPorts.ring(5)).toBe(0);
          seen.add(JSON.stringify([drained(sender, 1), drained(sender, 0)]));
        },
      );
      expect(vm.sendPorts.ring(5)).toBe(0);
      expect(drained(vm, 1)).toEqual([10]);
      return steps;
    });
    expect([...seen].sort()).toEqual([JSON.stringify([[10], []]), JSON.stringify([[], [9]])].sort());
  });

  test('KX-EVA-24 KF-41 at each step of a ring the table is replaced or reset: the old target, the new one, or the embedder', () => {
    for (const next of [[loopback(5, 10, 1)], []]) {
      const seen = new Set<string>();
      everyStep((at) => {
        const { vm, sender, steps } = world((vm) => setPorts(vm, [loopback(5, 9, 0)]));
        steps.watch(sender);
        let busyNow = false;
        const result = steps.run(
          at,
          () => sender.sendPorts.ring(5),
          () => {
            busyNow = refusalIs(busy, () => (next.length ? setPorts(vm, next) : reset(vm)));
          },
        );
        seen.add(JSON.stringify([result, drained(vm, 1), drained(vm, 0)]));
        expect(vm.sendPorts.list()).toEqual(busyNow || at < 0 ? [loopback(5, 9, 0)] : next);
        return steps;
      });
      const want = [[0, [], [9]], next.length ? [0, [10], []] : [null, [], []]];
      expect([...seen].sort()).toEqual(want.map((outcome) => JSON.stringify(outcome)).sort());
    }
  });

  test('KF-30 KX-EVA-15 a reset waits for who is inside and for nobody else, with no lock in its hands', () => {
    const vm = makeVm({ longMode, agents: 3 });
    const [sender, idle] = [attachVm(vm.handle()), attachVm(vm.handle())];
    assign(vm, loopback(5, 9));
    noNaps();
    sender.enter();
    expect(sender.sendPorts.ring(5)).toBe(0);
    refuses(vm, () => reset(vm), 'EBUSY', `agent ${sender.agentNumber}`);
    refuses(vm, () => deassign(vm, 5), 'EBUSY', `agent ${sender.agentNumber}`);
    // Meanwhile everybody does as before.
    expect([idle.sendPorts.ring(5), sender.sendPorts.ring(5)]).toEqual([0, 0]);
    assign(vm, loopback(6, 9));
    sender.leave();
    reset(vm);
    expect(vm.sendPorts.list()).toEqual([]);
  });

  test('KF-28 a replacement that is given up half-way keeps its references until its readers were waited for', () => {
    const vm = makeVm({ longMode });
    const [old, now] = [vm.eventfds.create(), vm.eventfds.create()];
    setPorts(vm, [toEventfd(5, old.fd)]);
    const wait = vi.spyOn(vm.changes, 'awaitReaders');
    wait.mockImplementationOnce(() => {});
    wait.mockImplementationOnce(() => {
      throw busy;
    });
    expect(errorOf(() => setPorts(vm, [toEventfd(5, now.fd)]))).toBe(busy);
    expect(vm.sendPorts.ring(5)).toBe(0);
    expect([old.read(), now.read()]).toEqual([1n, -11n]);
    expect(references(vm).slice(0, 2)).toEqual([2, 2]);
    setPorts(vm, [toEventfd(6, old.fd)]);
    expect(references(vm).slice(0, 2)).toEqual([2, 1]);
    expect(vm.sendPorts.list()).toEqual([toEventfd(6, old.fd)]);
  });

  test('KX-EVA-13 an update at each step of a ring: the old vCPU or the new one', () => {
    const seen = new Set<string>();
    everyStep((at) => {
      const { vm, sender, steps } = world((vm) => assign(vm, loopback(5, 9, 0)));
      steps.watch(sender);
      expect(
        steps.run(
          at,
          () => sender.sendPorts.ring(5),
          () => update(vm, loopback(5, 9, 1)),
        ),
      ).toBe(0);
      seen.add(JSON.stringify([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]));
      return steps;
    });
    expect([...seen].sort()).toEqual(['[false,true]', '[true,false]']);
  });
});

describe('KF-30 KF-32 KF-37 unshared memory: delivery holds nothing, so what it calls may change everything', () => {
  test.each([
    ['deassign', (vm: Vm) => deassign(vm, 5)],
    ['reset', (vm: Vm) => reset(vm)],
    ['set', (vm: Vm) => setPorts(vm, [loopback(5, 10)])],
    ['update', (vm: Vm) => update(vm, loopback(5, 9, 1))],
    ['routes', (vm: Vm) => vm.routes.set([])],
    ['ring again', (vm: Vm) => vm.sendPorts.ring(5)],
    ['a bracket', (vm: Vm) => [vm.enter(), vm.leave()]],
    ['the end', (vm: Vm) => vm.close()],
  ] as const)('a listener inside a ring: %s', (_name, act) => {
    const vm = makeVm({ shared: false, vcpus: 2 });
    assign(vm, loopback(5, 9));
    let called = 0;
    vm.vcpu(0).onUpcall(() => {
      called++;
      act(vm);
    });
    expect(vm.sendPorts.ring(5)).toBe(0);
    expect(called).toBe(1);
  });
});

function refusalIs(expected: Error, call: () => void): boolean {
  try {
    call();
    return false;
  } catch (error) {
    expect(error).toBe(expected);
    return true;
  }
}
