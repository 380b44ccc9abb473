// The model: domains, ports, states, allocation. [XE-MOD]

import { describe, expect, test } from 'vitest';
import { PORT_BATCH } from '../../src/abi/xen_port.ts';
import { createXen, DOMID_SELF, type EvtchnStatus } from '../../src/xen/index.ts';
import { LAYOUTS, pendingBit } from '../support.ts';
import { channel, makeDomain, takeAll, taken, twoDomains } from './guests.ts';

const stateOf = (status: EvtchnStatus | number): string | number =>
  typeof status === 'number' ? status : status.status;

describe('domains and ports', () => {
  test('XE-MOD-01 SELF is the caller, another id its domain, an unknown one is refused', () => {
    const { a, b } = twoDomains({ privileged: true });
    const port = a.evtchn.allocUnbound({ dom: DOMID_SELF, remoteDom: DOMID_SELF });
    expect(a.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
    expect(b.evtchn.status({ dom: 1, port })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
    for (const dom of [3, 0x7fef, 0x7ff1, 0x7ff4, 0x7fff, 0xffff]) {
      expect(a.evtchn.allocUnbound({ dom, remoteDom: 2 })).toBe(-3);
      expect(a.evtchn.bindInterdomain({ remoteDom: dom, remotePort: 1 })).toBe(-3);
      expect(a.evtchn.status({ dom, port: 1 })).toBe(-3);
      expect(a.evtchn.reset({ dom })).toBe(-3);
    }
  });

  test('XE-MOD-02 XE-TC-01 port 0 is reserved: closed to status, refused by close, send and bind_vcpu, nothing to unmask, never allocated', () => {
    const { a } = twoDomains();
    const { evtchn } = a;
    expect(evtchn.status({ port: 0 })).toEqual({ status: 'closed', vcpu: 0 });
    expect(evtchn.close(0)).toBe(-22);
    expect(evtchn.send(0)).toBe(-22);
    expect(evtchn.bindVcpu({ port: 0, vcpu: 0 })).toBe(-22);
    expect(evtchn.unmask(0)).toBe(0);
    expect(evtchn.bindIpi({ vcpu: 0 })).toBe(1);
    expect(a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 0 })).toBe(-22);
  });

  test('XE-MOD-03 XE-MOD-04 every state as status reports it, with its payload and its vCPU', () => {
    const { xen, a, b } = twoDomains({ vcpus: 3, pirqs: 8 });
    const { evtchn } = a;
    const unbound = evtchn.allocUnbound({ remoteDom: 2 });
    const { atA, atB } = channel(a, b);
    const pirq = evtchn.bindPirq({ pirq: 5 });
    const virq = evtchn.bindVirq({ virq: 0, vcpu: 2 });
    const ipi = evtchn.bindIpi({ vcpu: 1 });
    const host = xen.host.bindUnbound(1, () => {});
    expect([unbound, atA, pirq, virq, ipi, host.port].map((port) => evtchn.status({ port }))).toEqual([
      { status: 'unbound', vcpu: 0, dom: 2 },
      { status: 'interdomain', vcpu: 0, dom: 2, port: atB },
      { status: 'pirq', vcpu: 0, pirq: 5 },
      { status: 'virq', vcpu: 2, virq: 0 },
      { status: 'ipi', vcpu: 1 },
      { status: 'interdomain', vcpu: 0, dom: 0, port: host.hostPort },
    ]);
    expect(evtchn.status({ port: 7 })).toEqual({ status: 'closed', vcpu: 0 });
  });

  test('XE-MOD-05 what is not usable cannot be made pending: a free port, a reserved one, a port that the hypervisor consumes', () => {
    const { a } = twoDomains();
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    const { vm } = a;
    for (const port of [0, consumer.port, 9, 4095, 100_000, -1]) {
      expect(vm.kernel.xenRaise(vm.vmBase, vm.agent, port)).toBe(-22);
    }
    expect(takeAll(a)).toEqual([]);
  });

  test('XE-MOD-06 a channel from its first to its last state: every transition that there is', () => {
    const { a, b } = twoDomains();
    const at = (port: number): string | number => stateOf(a.evtchn.status({ port }));
    expect(at(1)).toBe('closed');
    expect(a.evtchn.allocUnbound({ remoteDom: 2 })).toBe(1);
    expect(at(1)).toBe('unbound');
    const peer = b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 1 });
    expect([at(1), stateOf(b.evtchn.status({ port: peer }))]).toEqual(['interdomain', 'interdomain']);
    expect(b.evtchn.close(peer)).toBe(0);
    expect([at(1), stateOf(b.evtchn.status({ port: peer }))]).toEqual(['unbound', 'closed']);
    expect(a.evtchn.close(1)).toBe(0);
    expect(at(1)).toBe('closed');
    for (const bind of [() => a.evtchn.bindIpi({ vcpu: 0 }), () => a.evtchn.bindVirq({ virq: 1, vcpu: 0 })]) {
      expect(bind()).toBe(1);
      expect(a.evtchn.close(1)).toBe(0);
      expect(at(1)).toBe('closed');
    }
  });
});

describe('allocation', () => {
  test('XE-MOD-10 XE-TC-02 the lowest free port; one that is closed is the next', () => {
    const { a } = twoDomains();
    const bind = (): number => a.evtchn.bindIpi({ vcpu: 0 });
    expect([bind(), bind(), bind(), bind()]).toEqual([1, 2, 3, 4]);
    a.evtchn.close(3);
    a.evtchn.close(2);
    expect([bind(), bind(), bind()]).toEqual([2, 3, 5]);
  });

  test('XE-MOD-10 a free port that is still linked in a queue is passed over, and taken when it no longer is', () => {
    const { a } = twoDomains();
    const linked = new Set([2]);
    a.fifo.isBusy = (port) => linked.has(port);
    const bind = (): number => a.evtchn.bindIpi({ vcpu: 0 });
    expect([bind(), bind(), bind()]).toEqual([1, 3, 4]);
    linked.clear();
    expect([bind(), bind()]).toEqual([2, 5]);
  });

  test('XE-MOD-11 XE-TC-02 no port beyond the administrative maximum; a full table gives back what is closed', () => {
    const { a } = twoDomains({ maxPort: 1023 });
    for (let port = 1; port <= 1023; port++) expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(port);
    for (let i = 0; i < 3; i++) expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(-28);
    expect(a.evtchn.close(500)).toBe(0);
    expect([a.evtchn.allocUnbound({ remoteDom: 2 }), a.evtchn.bindIpi({ vcpu: 0 })]).toEqual([500, -28]);
  });

  test.each(LAYOUTS)('XE-MOD-12 XE-TC-04 no port beyond the guest’s layout, $layout', ({ longMode, maxPorts }) => {
    const { a } = twoDomains({ longMode });
    for (let port = 1; port < maxPorts; port++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.status({ port: maxPorts - 1 })).toEqual({ status: 'ipi', vcpu: 0 });
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(-28);
    expect(a.evtchn.status({ port: maxPorts })).toBe(-22);
  });

  test('XE-MOD-12 XE-2L-06 the limit follows the layout that the guest has now; a port beyond it is left in peace', () => {
    const { a } = twoDomains({ longMode: false });
    for (let port = 1; port < 1024; port++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(-28);
    a.vm.setAttr({ type: 'long_mode', enabled: true });
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(1024);
    a.vm.setAttr({ type: 'long_mode', enabled: false });
    const before = new Uint8Array(a.vm.memory.buffer).slice();
    expect(a.send(1024)).toBe(0);
    expect(new Uint8Array(a.vm.memory.buffer)).toEqual(before);
    expect(a.evtchn.close(1024)).toBe(0);
  });

  test('XE-MOD-11 XE-OP-10 no port in a dying domain', () => {
    const { a, b } = twoDomains({ privileged: true });
    a.ports.dying = true;
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(-22);
    expect(b.evtchn.allocUnbound({ dom: 1, remoteDom: 2 })).toBe(-22);
    a.ports.dying = false;
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
  });

  test('XE-MOD-13 descriptors come in batches of 64: a free port below is closed, a number above is none', () => {
    const { a } = twoDomains();
    const last = PORT_BATCH - 1;
    expect(a.evtchn.status({ port: last })).toEqual({ status: 'closed', vcpu: 0 });
    const above = [PORT_BATCH, 4095, 4096, 2 ** 31, 2 ** 32 - 1, -1, 1.5, Number.NaN];
    for (const port of above) {
      expect(a.evtchn.status({ port }), String(port)).toBe(-22);
      expect(a.evtchn.close(port), String(port)).toBe(-22);
      expect(a.evtchn.send(port), String(port)).toBe(-22);
      expect(a.evtchn.unmask(port), String(port)).toBe(-22);
      expect(a.evtchn.bindVcpu({ port, vcpu: 0 }), String(port)).toBe(-22);
    }
    for (let port = 1; port <= PORT_BATCH; port++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.status({ port: 2 * PORT_BATCH - 1 })).toEqual({ status: 'closed', vcpu: 0 });
    expect(a.evtchn.status({ port: 2 * PORT_BATCH })).toBe(-22);
  });

  test('XE-MOD-13 XE-QE-02 QEMU’s table is there from the start, as far as the guest’s layout goes', () => {
    const { a } = twoDomains({ dialect: 'qemu', longMode: false });
    expect(a.evtchn.status({ port: 1023 })).toEqual({ status: 'closed', vcpu: 0 });
    expect(a.evtchn.status({ port: 1024 })).toBe(-22);
  });

  test('XE-MOD-14 an operation that fails keeps no port', () => {
    const { a, b } = twoDomains({ pirqs: 1 });
    a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    a.evtchn.bindPirq({ pirq: 0 });
    const failing = [
      () => a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 1 }),
      () => a.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 3 }),
      () => a.evtchn.bindInterdomain({ remoteDom: 9, remotePort: 3 }),
      () => a.evtchn.bindVirq({ virq: 0, vcpu: 0 }),
      () => a.evtchn.bindVirq({ virq: 1, vcpu: 1 }),
      () => a.evtchn.bindVirq({ virq: 24, vcpu: 0 }),
      () => a.evtchn.bindIpi({ vcpu: 1 }),
      () => a.evtchn.bindPirq({ pirq: 0 }),
      () => a.evtchn.bindPirq({ pirq: 1 }),
      () => b.evtchn.allocUnbound({ dom: 1, remoteDom: 2 }),
      () => b.evtchn.allocUnbound({ dom: 9, remoteDom: 2 }),
    ];
    for (const call of failing) expect(call()).toBeLessThan(0);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(3);
    expect(b.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
  });
});

describe('a port’s former life', () => {
  test.each(LAYOUTS)(
    'XE-MOD-15 KF-21 the next owner of a number finds it not pending, on vCPU 0, and is not called, $layout',
    ({ longMode }) => {
      const { a } = twoDomains({ longMode, vcpus: 2 });
      const port = a.evtchn.bindIpi({ vcpu: 1 });
      a.vm.mask(port);
      expect(a.send(port)).toBe(0);
      expect(pendingBit(a.vm, port)).toBe(true);
      expect(a.evtchn.close(port)).toBe(0);
      expect(pendingBit(a.vm, port)).toBe(false);
      expect(a.vm.portStatus(port)).toMatchObject({ masked: true, vcpu: 0, bound: false });
      expect(a.evtchn.allocUnbound({ remoteDom: 2 })).toBe(port);
      expect(a.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
      a.vm.unmask(port);
      expect(taken(a)).toEqual([]);
    },
  );

  test('XE-MOD-15 XE-OP-64 the selector bit stays: the guest’s scan finds nothing', () => {
    const { a } = twoDomains();
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.send(port);
    a.evtchn.close(port);
    expect(a.vm.vcpu(0).upcallPending).toBe(true);
    expect(taken(a)).toEqual([]);
  });

  test('KF-38 a number is given out only when nothing of its former life is left: a bind inside every step of the close', () => {
    // The owner's steps are all in one call, so who is called in between is a page that has to be mapped.
    const { a } = twoDomains();
    const port = a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    const { table } = a.ports;
    const found: number[] = [];
    const store = table.storeWhat.bind(table);
    table.storeWhat = (at, to) => {
      found.push(a.virqPort(0));
      store(at, to);
    };
    a.evtchn.close(port);
    table.storeWhat = store;
    expect(found).toEqual([0]);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(port);
    expect(a.raiseVirq(0)).toBe(0);
    expect(takeAll(a)).toEqual([]);
  });
});

describe('a full table', () => {
  test('XE-TC-03 the limit answers before a bad remote port, and after a VIRQ that is bound', () => {
    const { a, b } = twoDomains({ maxPort: 2 });
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 0 })).toBe(1);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(2);
    expect(a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 77 })).toBe(-28);
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 0 })).toBe(-17);
    expect(a.evtchn.bindVirq({ virq: 1, vcpu: 0 })).toBe(-28);
    expect(b.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
  });

  test('XE-TC-05 KF-44 the count of descriptors is published after them: a reader of the newest finds it whole', () => {
    const xen = createXen();
    const a = makeDomain(xen, { vcpus: 2 });
    const { words } = a.vm.region;
    const store = words.store.bind(words);
    let seen = 0;
    words.store = (at, value) => {
      store(at, value);
      // Whatever was stored: every descriptor below the count says one of the states, and a state is never ahead of its numbers.
      for (let port = 0; port < a.table.valid; port++) {
        const { state, target } = a.table.load(port);
        seen++;
        expect(state).toBeLessThanOrEqual(6);
        expect(target).toBeLessThan(2);
      }
    };
    for (let i = 0; i < 130; i++) expect(a.evtchn.bindIpi({ vcpu: 1 })).toBe(i + 1);
    words.store = store;
    expect(seen).toBeGreaterThan(1000);
  });

  test('XE-MOD-12 131,071 ports: all are given out, each once, in time that grows with their number', () => {
    const a = makeDomain(createXen(), { ports: 131072, fifoPorts: 131072 });
    expect(a.evtchn.initControl({ controlGfn: 6, offset: 0, vcpu: 0 })).toBe(0);
    for (let port = 1; port < 131072; port++)
      if (a.ports.allocate() !== port) expect.fail(`not port ${port}`);
      else a.ports.bind(port, { state: 6 });
    expect(a.ports.allocate()).toBe(-28);
    expect(a.evtchn.status({ port: 131071 })).toEqual({ status: 'ipi', vcpu: 0 });
  });
});
