// EVTCHNOP_*: the order of checks, the answers, and what is changed. [XE-OP]

import { describe, expect, test } from 'vitest';
import { createXen, DOMID_SELF } from '../../src/xen/index.ts';
import { errorOf, maskBit, memoryBytes, pendingBit } from '../support.ts';
import { channel, makeDomain, PAIRS, takeAll, taken, twoDomains } from './guests.ts';

describe('alloc_unbound', () => {
  test('XE-OP-10 domain, then port, then permission', () => {
    const { a, b } = twoDomains({ maxPort: 1 });
    expect(b.evtchn.allocUnbound({ dom: 7, remoteDom: 2 })).toBe(-3);
    // Not permitted and full: the port is asked for first.
    expect(b.evtchn.allocUnbound({ dom: 1, remoteDom: 2 })).toBe(-1);
    a.evtchn.bindIpi({ vcpu: 0 });
    expect(b.evtchn.allocUnbound({ dom: 1, remoteDom: 2 })).toBe(-28);
    expect(b.evtchn.allocUnbound({ dom: 0, remoteDom: 2 })).toBe(-1);
  });

  test('XE-OP-11 a privileged domain makes ports for another; SELF as the remote is the caller; the remote need not exist', () => {
    const xen = createXen();
    const a = makeDomain(xen);
    const control = makeDomain(xen, { privileged: true });
    const port = control.evtchn.allocUnbound({ dom: 1, remoteDom: DOMID_SELF });
    expect(a.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
    const later = a.evtchn.allocUnbound({ remoteDom: 3 });
    const late = makeDomain(xen);
    expect(late.evtchn.bindInterdomain({ remoteDom: 1, remotePort: later })).toBe(1);
  });

  test('XE-OP-12 XE-FF-43 every bind tells the FIFO ABI, which sets the default priority', () => {
    const { xen, a, b } = twoDomains({ pirqs: 1 });
    const bound: number[] = [];
    a.fifo.bound = (port) => bound.push(port);
    const theirs = b.evtchn.allocUnbound({ remoteDom: 1 });
    a.evtchn.allocUnbound({ remoteDom: 2 });
    a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: theirs });
    a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    a.evtchn.bindIpi({ vcpu: 0 });
    a.evtchn.bindPirq({ pirq: 0 });
    xen.host.bindUnbound(1, () => {});
    expect(bound).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

describe('bind_interdomain', () => {
  test('XE-OP-20 remote domain, then local port, then the remote port and for whom it is', () => {
    const { a, b } = twoDomains({ maxPort: 3 });
    const bind = (remoteDom: number, remotePort: number): number => b.evtchn.bindInterdomain({ remoteDom, remotePort });
    const forB = a.evtchn.allocUnbound({ remoteDom: 2 });
    const forA = a.evtchn.allocUnbound({ remoteDom: 1 });
    const ipi = a.evtchn.bindIpi({ vcpu: 0 });
    expect(bind(9, forB)).toBe(-3);
    for (const port of [0, forA, ipi, 5, 64, 2 ** 31, -1]) expect(bind(1, port)).toBe(-22);
    expect(bind(1, forB)).toBe(1);
    expect(bind(1, forB)).toBe(-22);
    b.evtchn.bindIpi({ vcpu: 0 });
    b.evtchn.bindIpi({ vcpu: 0 });
    expect(bind(9, forB)).toBe(-3);
    expect(bind(1, 64)).toBe(-28);
  });

  test('XE-OP-21 both ends name each other; the remote one keeps its vCPU, the local one has vCPU 0', () => {
    const { a, b } = twoDomains({ vcpus: 4 });
    const remote = a.evtchn.allocUnbound({ remoteDom: 2 });
    a.evtchn.bindVcpu({ port: remote, vcpu: 3 });
    b.evtchn.bindIpi({ vcpu: 1 });
    const local = b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: remote });
    expect(a.evtchn.status({ port: remote })).toEqual({ status: 'interdomain', vcpu: 3, dom: 2, port: local });
    expect(b.evtchn.status({ port: local })).toEqual({ status: 'interdomain', vcpu: 0, dom: 1, port: remote });
    b.send(local);
    expect(taken(a)).toEqual([[3, remote]]);
  });

  test.each(PAIRS)(
    'XE-OP-22 the local port is pending then, with an upcall; masked it stays pending, $where',
    ({ pair, shared }) => {
      const { a, b } = pair({ shared });
      const ports = [1, 2].map(() => a.evtchn.allocUnbound({ remoteDom: 2 }));
      expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: ports[0] as number })).toBe(1);
      expect(b.vm.vcpu(0).upcallPending).toBe(true);
      expect(takeAll(b)).toEqual([1]);
      b.vm.mask(2);
      expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: ports[1] as number })).toBe(2);
      expect([pendingBit(b.vm, 2), takeAll(b)]).toEqual([true, []]);
      expect(b.evtchn.unmask(2)).toBe(0);
      expect(takeAll(b)).toEqual([2]);
      expect(takeAll(a)).toEqual([]);
    },
  );

  test('XE-OP-22 QEMU leaves it as it is', () => {
    const a = makeDomain(createXen(), { dialect: 'qemu' });
    const port = a.evtchn.allocUnbound({ remoteDom: DOMID_SELF });
    expect(a.evtchn.bindInterdomain({ remoteDom: 1, remotePort: port })).toBe(2);
    expect(takeAll(a)).toEqual([]);
  });

  test('XE-OP-23 KF-40 loopback: two ports of one domain ring each other; no port can name itself, nor any that is not unbound', () => {
    const { a } = twoDomains();
    const one = a.evtchn.allocUnbound({ remoteDom: DOMID_SELF });
    // Every number, the one that is about to be allocated among them.
    for (let port = 0; port < 80; port++) {
      if (port !== one)
        expect(a.evtchn.bindInterdomain({ remoteDom: DOMID_SELF, remotePort: port }), `port ${port}`).toBe(-22);
    }
    const two = a.evtchn.bindInterdomain({ remoteDom: DOMID_SELF, remotePort: one });
    expect(two).toBe(2);
    expect(takeAll(a)).toEqual([two]);
    expect([a.send(one), takeAll(a), a.send(two), takeAll(a)]).toEqual([0, [two], 0, [one]]);
    expect(a.evtchn.close(one)).toBe(0);
    expect(a.evtchn.status({ port: two })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
  });

  test('XE-MOD-24 XE-OP-21 a send from the other end inside every step of a bind is dropped or arrives, never half-way', () => {
    const { a, b } = twoDomains();
    const remote = a.evtchn.allocUnbound({ remoteDom: 2 });
    const { words } = b.vm.region;
    const theirs = a.vm.region.words;
    let steps = 0;
    const step = (): void => {
      steps++;
      expect(a.send(remote)).toBe(0);
    };
    const watched = [words, theirs].map((each) => {
      const store = each.store.bind(each);
      each.store = (at, value) => {
        store(at, value);
        step();
      };
      return () => {
        each.store = store;
      };
    });
    const local = b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: remote });
    for (const restore of watched) restore();
    expect(steps).toBeGreaterThan(4);
    expect(takeAll(b)).toEqual([local]);
    expect(takeAll(a)).toEqual([]);
  });
});

describe('bind_ipi', () => {
  test('XE-OP-40 any number of ports of a vCPU that exists; the target is for life', () => {
    const { a } = twoDomains({ vcpus: 2 });
    for (const vcpu of [2, 4095, -1, 0.5]) expect(a.evtchn.bindIpi({ vcpu })).toBe(-2);
    const ports = [1, 1, 0].map((vcpu) => a.evtchn.bindIpi({ vcpu }));
    for (const port of ports) expect(a.evtchn.bindVcpu({ port, vcpu: 0 })).toBe(-22);
    for (const port of ports) a.send(port);
    expect(taken(a)).toEqual([
      [0, 3],
      [1, 1],
      [1, 2],
    ]);
  });

  test('XE-OP-40 a full table', () => {
    const { a } = twoDomains({ maxPort: 1 });
    expect([a.evtchn.bindIpi({ vcpu: 0 }), a.evtchn.bindIpi({ vcpu: 0 }), a.evtchn.bindIpi({ vcpu: 9 })]).toEqual([
      1, -28, -2,
    ]);
  });
});

describe('bind_pirq', () => {
  test('XE-OP-50 XE-OP-51 a PIRQ that there is and that is not bound; it starts on vCPU 0', () => {
    const { a } = twoDomains({ pirqs: 16, vcpus: 2 });
    for (const pirq of [16, -1, 2 ** 32 - 1]) expect(a.evtchn.bindPirq({ pirq })).toBe(-22);
    const port = a.evtchn.bindPirq({ pirq: 15, flags: 1 });
    expect(a.evtchn.bindPirq({ pirq: 15 })).toBe(-17);
    expect(a.evtchn.status({ port })).toEqual({ status: 'pirq', vcpu: 0, pirq: 15 });
    expect([a.raisePirq(15), a.raisePirq(15), a.raisePirq(3), a.raisePirq(-1)]).toEqual([1, 0, 0, -22]);
    expect(taken(a)).toEqual([[0, port]]);
    // The guest cannot send to it.
    expect(a.send(port)).toBe(-22);
  });

  test('XE-OP-50 a domain without PIRQs; QEMU says busy for a bound one', () => {
    expect(twoDomains().a.evtchn.bindPirq({ pirq: 0 })).toBe(-22);
    const { a } = twoDomains({ dialect: 'qemu', pirqs: 2 });
    expect([a.evtchn.bindPirq({ pirq: 1 }), a.evtchn.bindPirq({ pirq: 1 })]).toEqual([1, -16]);
  });

  test('XE-OP-61 XE-OP-92 a PIRQ goes where its port goes, and can be bound again when that is closed', () => {
    const { a } = twoDomains({ pirqs: 2, vcpus: 2 });
    const port = a.evtchn.bindPirq({ pirq: 1 });
    expect(a.evtchn.bindVcpu({ port, vcpu: 1 })).toBe(0);
    a.raisePirq(1);
    expect(taken(a)).toEqual([[1, port]]);
    expect(a.evtchn.close(port)).toBe(0);
    expect(a.raisePirq(1)).toBe(0);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(port);
    expect(a.evtchn.bindPirq({ pirq: 1 })).toBe(port + 1);
    a.raisePirq(1);
    expect(taken(a)).toEqual([[0, port + 1]]);
  });
});

describe('close', () => {
  test('XE-OP-60 what is not the guest’s or not bound is refused', () => {
    const { a } = twoDomains();
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    for (const port of [0, consumer.port, 2, 63, 64, -1]) expect(a.evtchn.close(port)).toBe(-22);
    expect(a.evtchn.status({ port: consumer.port })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
  });

  test('XE-OP-60 QEMU tells a free port from one that there is not', () => {
    const { a } = twoDomains({ dialect: 'qemu' });
    expect([a.evtchn.close(0), a.evtchn.close(9), a.evtchn.close(4095), a.evtchn.close(4096)]).toEqual([
      -22, -2, -2, -22,
    ]);
  });

  test.each(PAIRS)(
    'XE-OP-62 XE-TC-15 the other end is unbound, for the closer: untouched, not told; what it sends is dropped; it can be bound again, $where',
    ({ pair, shared }) => {
      const { xen, a, b } = pair({ shared, vcpus: 2 });
      const other = makeDomain(xen);
      const { atA, atB } = channel(a, b);
      a.evtchn.bindVcpu({ port: atA, vcpu: 1 });
      a.vm.mask(atA);
      b.send(atB);
      expect(b.evtchn.close(atB)).toBe(0);
      expect(a.evtchn.status({ port: atA })).toEqual({ status: 'unbound', vcpu: 1, dom: 2 });
      expect([pendingBit(a.vm, atA), maskBit(a.vm, atA)]).toEqual([true, true]);
      expect([a.send(atA), takeAll(b)]).toEqual([0, []]);
      expect(other.evtchn.bindInterdomain({ remoteDom: 1, remotePort: atA })).toBe(-22);
      expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: atA })).toBe(atB);
      expect(takeAll(b)).toEqual([atB]);
      expect([a.send(atA), takeAll(b)]).toEqual([0, [atB]]);
      a.evtchn.unmask(atA);
      expect(taken(a)).toEqual([[1, atA]]);
    },
  );

  test.each(PAIRS)(
    'XE-OP-63 XE-OP-65 both ends may be closed, in either order; each close of what one has succeeds, $where',
    ({ pair, shared }) => {
      for (const first of ['a', 'b'] as const) {
        const { a, b } = pair({ shared });
        const { atA, atB } = channel(a, b);
        const ends = [() => a.evtchn.close(atA), () => b.evtchn.close(atB)];
        if (first === 'b') ends.reverse();
        expect(ends.map((close) => close())).toEqual([0, 0]);
        expect([a.evtchn.status({ port: atA }), b.evtchn.status({ port: atB })]).toEqual([
          { status: 'closed', vcpu: 0 },
          { status: 'closed', vcpu: 0 },
        ]);
        expect(ends.map((close) => close())).toEqual([-22, -22]);
      }
    },
  );

  test('XE-OP-63 the other end was bound to another domain’s port meanwhile: that one is left alone', () => {
    const xen = createXen();
    const [a, b, c] = [makeDomain(xen), makeDomain(xen), makeDomain(xen)];
    const { atA, atB } = channel(a, b);
    b.evtchn.close(atB);
    a.evtchn.close(atA);
    const again = channel(a, c);
    expect(again.atA).toBe(atA);
    expect(b.evtchn.close(atB)).toBe(-22);
    expect(a.evtchn.status({ port: atA })).toEqual({ status: 'interdomain', vcpu: 0, dom: 3, port: again.atB });
  });

  test('XE-OP-61 XE-OP-65 every kind of port that a guest has can be closed, and bound again', () => {
    const { xen, a, b } = twoDomains({ pirqs: 1 });
    xen.setVirqHandler(2, 1);
    const binds = [
      () => a.evtchn.allocUnbound({ remoteDom: 2 }),
      () => channel(a, b).atA,
      () => a.evtchn.bindVirq({ virq: 0, vcpu: 0 }),
      () => a.evtchn.bindVirq({ virq: 11, vcpu: 0 }),
      () => a.evtchn.bindVirq({ virq: 2, vcpu: 0 }),
      () => a.evtchn.bindIpi({ vcpu: 0 }),
      () => a.evtchn.bindPirq({ pirq: 0 }),
    ];
    const ports = binds.map((bind) => bind());
    expect(ports).toEqual([1, 2, 3, 4, 5, 6, 7]);
    for (const port of ports) expect(a.evtchn.close(port)).toBe(0);
    expect(binds.map((bind) => bind())).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test('R4 a close that cannot wait for a sender changes nothing, and no event is lost by it', () => {
    const { a, b } = twoDomains({ shared: true });
    const { atA, atB } = channel(a, b);
    a.vm.enter();
    const before = memoryBytes(a.vm);
    expect(errorOf(() => a.evtchn.close(atA)).code).toBe('EBUSY');
    expect(errorOf(() => b.evtchn.close(atB)).code).toBe('EBUSY');
    expect(errorOf(() => a.evtchn.reset()).code).toBe('EBUSY');
    expect(Buffer.compare(memoryBytes(a.vm), before)).toBe(0);
    a.vm.leave();
    expect(a.evtchn.close(atA)).toBe(0);
  });

  test('R4 nor does one while shared_info may not be touched', () => {
    const { a, b } = twoDomains();
    const { atA, atB } = channel(a, b);
    const base = a.vm.guestBase;
    a.vm.invalidateStart(base, base + 65535);
    expect(errorOf(() => a.evtchn.close(atA)).code).toBe('EAGAIN');
    const free = b.evtchn.allocUnbound({ remoteDom: 1 });
    expect(errorOf(() => a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: free })).code).toBe('EAGAIN');
    a.vm.invalidateEnd();
    expect(a.evtchn.status({ port: atA })).toEqual({ status: 'interdomain', vcpu: 0, dom: 2, port: atB });
    expect(b.evtchn.status({ port: free })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
    expect(a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: free })).toBe(2);
    expect(a.evtchn.close(atA)).toBe(0);
  });
});

describe('send', () => {
  test('XE-OP-70 by state: a channel and an IPI deliver, an unbound port drops, the rest is refused', () => {
    const { a, b } = twoDomains({ pirqs: 1, vcpus: 2 });
    const { atA, atB } = channel(a, b);
    const ipi = a.evtchn.bindIpi({ vcpu: 1 });
    const unbound = a.evtchn.allocUnbound({ remoteDom: 2 });
    const virq = a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    const pirq = a.evtchn.bindPirq({ pirq: 0 });
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    const results = [atA, ipi, unbound, virq, pirq, consumer.port, 0, 60, 64, -1, 1.5].map((port) =>
      a.evtchn.send(port),
    );
    expect(results).toEqual([0, 0, 0, -22, -22, -22, -22, -22, -22, -22, -22]);
    expect(taken(a)).toEqual([[1, ipi]]);
    expect(taken(b)).toEqual([[0, atB]]);
  });

  test.each(PAIRS)(
    'XE-OP-71 the sender is told 0 whether it was masked, pending or delivered, $where',
    ({ pair, shared }) => {
      const { a, b } = pair({ shared });
      const { atA, atB } = channel(a, b);
      b.vm.mask(atB);
      expect([a.send(atA), a.send(atA)]).toEqual([0, 0]);
      expect(pendingBit(b.vm, atB)).toBe(true);
      b.vm.unmask(atB);
      expect([a.send(atA), takeAll(b)]).toEqual([0, [atB]]);
    },
  );

  test.each(PAIRS)('XE-TC-13 a second send of a pending port asks for no second upcall, $where', ({ pair, shared }) => {
    const { a, b } = pair({ shared });
    const { atA, atB } = channel(a, b);
    let upcalls = 0;
    if (!shared) b.vm.vcpu(0).onUpcall(() => upcalls++);
    for (let i = 0; i < 3; i++) a.send(atA);
    if (!shared) expect(upcalls).toBe(1);
    expect(takeAll(b)).toEqual([atB]);
  });

  test.each(PAIRS)('R3 a page of the receiver’s that is away is mapped again, $where', ({ pair, shared }) => {
    const { a, b } = pair({ shared });
    const { atA, atB } = channel(a, b);
    const ipi = b.evtchn.bindIpi({ vcpu: 0 });
    for (const send of [() => a.send(atA), () => b.send(ipi), () => b.send(atB)]) {
      for (const { vm } of [a, b]) {
        vm.invalidateStart(vm.guestBase, vm.guestBase + 65535);
        vm.invalidateEnd();
      }
      expect(send()).toBe(0);
    }
    expect(takeAll(b).sort()).toEqual([atB, ipi].sort());
    expect(takeAll(a)).toEqual([atA]);
  });

  test('XE-OP-70 a page that cannot be mapped: the sender is told, nothing is raised', () => {
    const { a, b } = twoDomains();
    const { atA } = channel(a, b);
    b.vm.memslots.delete(0);
    expect(a.send(atA)).toBe(-14);
    expect(takeAll(a)).toEqual([]);
  });
});

describe('status', () => {
  test('XE-OP-80 domain, then port, then permission', () => {
    const xen = createXen();
    const a = makeDomain(xen);
    const b = makeDomain(xen);
    const control = makeDomain(xen, { privileged: true });
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    expect(b.evtchn.status({ dom: 9, port })).toBe(-3);
    expect(b.evtchn.status({ dom: 1, port: 64 })).toBe(-22);
    expect(b.evtchn.status({ dom: 1, port })).toBe(-1);
    expect(control.evtchn.status({ dom: 1, port })).toEqual({ status: 'ipi', vcpu: 0 });
    expect(a.evtchn.status({ dom: 1, port })).toEqual({ status: 'ipi', vcpu: 0 });
    const { hostPort } = xen.host.bindUnbound(1, () => {});
    expect(b.evtchn.status({ dom: 0, port: hostPort })).toBe(-1);
    expect(control.evtchn.status({ dom: 0, port: hostPort })).toEqual({
      status: 'interdomain',
      vcpu: 0,
      dom: 1,
      port: 2,
    });
  });

  test('XE-OP-80 what the hypervisor consumes is reported by its state', () => {
    const { a, b } = twoDomains({ vcpus: 2 });
    const { port } = a.consume({ remoteDom: 2, vcpu: 1 }, () => {});
    expect(a.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 1, dom: 2 });
    b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: port });
    expect(a.evtchn.status({ port })).toEqual({ status: 'interdomain', vcpu: 1, dom: 2, port: 1 });
  });
});

describe('bind_vcpu', () => {
  test('XE-OP-90 XE-TC-16 vCPU, then port; what is bound to a vCPU for life stays', () => {
    const { xen, a, b } = twoDomains({ vcpus: 2, pirqs: 1 });
    xen.setVirqHandler(3, 1);
    const { atA } = channel(a, b);
    const movable = [
      atA,
      a.evtchn.allocUnbound({ remoteDom: 2 }),
      a.evtchn.bindPirq({ pirq: 0 }),
      a.evtchn.bindVirq({ virq: 11, vcpu: 0 }),
      a.evtchn.bindVirq({ virq: 3, vcpu: 0 }),
    ];
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    const fixed = [a.evtchn.bindIpi({ vcpu: 0 }), a.evtchn.bindVirq({ virq: 0, vcpu: 0 }), 0, 40, consumer.port];
    const move = (port: number, vcpu: number): number => a.evtchn.bindVcpu({ port, vcpu });
    expect(move(64, 2)).toBe(-2);
    expect(move(64, 1)).toBe(-22);
    for (const port of fixed) expect([move(port, 2), move(port, 1)]).toEqual([-2, -22]);
    for (const port of movable) {
      expect(move(port, 1)).toBe(0);
      expect(a.evtchn.status({ port })).toMatchObject({ vcpu: 1 });
    }
  });

  test('XE-OP-91 XE-OP-93 XE-TC-16 what is pending is not moved; the guest masks, moves, unmasks by hypercall', () => {
    const { a, b } = twoDomains({ vcpus: 2 });
    const { atA, atB } = channel(a, b);
    b.send(atB);
    expect(a.evtchn.bindVcpu({ port: atA, vcpu: 1 })).toBe(0);
    expect(a.vm.vcpu(1).upcallPending).toBe(false);
    expect(a.vm.vcpu(0).upcallPending).toBe(true);
    expect(takeAll(a)).toEqual([]);
    expect(pendingBit(a.vm, atA)).toBe(true);
    a.vm.mask(atA);
    a.evtchn.unmask(atA);
    expect(taken(a)).toEqual([[1, atA]]);
    b.send(atB);
    expect(taken(a)).toEqual([[1, atA]]);
  });

  test('XE-OP-91 QEMU raises it on the new vCPU at once', () => {
    const a = makeDomain(createXen(), { dialect: 'qemu', vcpus: 2 });
    const one = a.evtchn.allocUnbound({ remoteDom: DOMID_SELF });
    const two = a.evtchn.bindInterdomain({ remoteDom: DOMID_SELF, remotePort: one });
    a.send(two);
    a.evtchn.bindVcpu({ port: one, vcpu: 1 });
    expect(a.vm.vcpu(1).upcallPending).toBe(true);
    expect(taken(a)).toEqual([[1, one]]);
  });
});

describe('unmask', () => {
  test('XE-OP-100 0 for every port that there is, -EINVAL for others; a free port is left alone', () => {
    const { a } = twoDomains();
    a.vm.mask(9);
    expect([a.evtchn.unmask(9), maskBit(a.vm, 9)]).toEqual([0, true]);
    expect([a.evtchn.unmask(0), a.evtchn.unmask(64), a.evtchn.unmask(-1)]).toEqual([0, -22, -22]);
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    a.vm.mask(consumer.port);
    expect([a.evtchn.unmask(consumer.port), maskBit(a.vm, consumer.port)]).toEqual([0, true]);
    expect(twoDomains({ dialect: 'qemu' }).a.evtchn.unmask(9)).toBe(-22);
  });

  test('XE-OP-100 XE-2L-20 XE-TC-14 a masked pending port is raised on its vCPU; one that was not masked gets no help', () => {
    const { a } = twoDomains({ vcpus: 2 });
    const port = a.evtchn.bindIpi({ vcpu: 1 });
    a.vm.mask(port);
    a.send(port);
    expect(taken(a)).toEqual([]);
    expect(a.evtchn.unmask(port)).toBe(0);
    expect(taken(a)).toEqual([[1, port]]);
    a.vm.mask(port);
    a.send(port);
    // The guest clears the mask itself.
    const { kernel, region } = a.vm;
    expect(kernel.unmask).toBeTypeOf('function');
    const mask = a.vm.guestBase + 3 * 4096 + 0xa00;
    region.words.and(mask, ~(1 << port));
    expect(a.evtchn.unmask(port)).toBe(0);
    expect(a.vm.vcpu(1).upcallPending).toBe(false);
  });
});

describe('whose thread', () => {
  test('XE-MOD-40 R14 ports are changed by the owner; another view sends, unmasks and reads', () => {
    const { a, b } = twoDomains({ shared: true });
    const { atA, atB } = channel(a, b);
    const other = createXen();
    const view = other.attachDomain(a.vm.handle());
    other.attachDomain(b.vm.handle());
    const changing = [
      () => view.evtchn.allocUnbound({ remoteDom: 2 }),
      () => view.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 1 }),
      () => view.evtchn.bindVirq({ virq: 0, vcpu: 0 }),
      () => view.evtchn.bindIpi({ vcpu: 0 }),
      () => view.evtchn.bindPirq({ pirq: 0 }),
      () => view.evtchn.close(atA),
      () => view.evtchn.bindVcpu({ port: atA, vcpu: 0 }),
      () => view.evtchn.reset(),
      () => view.evtchn.resetContinue(),
      () => view.evtchn.initControl({ controlGfn: 1, offset: 0, vcpu: 0 }),
      () => view.evtchn.expandArray({ arrayGfn: 1 }),
      () => view.evtchn.setPriority({ port: atA, priority: 1 }),
      () => view.consume({ remoteDom: 2 }, () => {}),
      () => view.destroy(),
    ];
    for (const change of changing) expect(errorOf(change).code).toBe('EPERM');
    expect(view.evtchn.status({ port: atA })).toEqual({ status: 'interdomain', vcpu: 0, dom: 2, port: atB });
    expect([view.send(atA), takeAll(b)]).toEqual([0, [atB]]);
    view.vm.mask(atA);
    b.send(atB);
    expect([view.evtchn.unmask(atA), takeAll(view)]).toEqual([0, [atA]]);
    view.vm.detach();
    expect(view.send(atA)).toBe(-9);
    expect(view.evtchn.unmask(atA)).toBe(-22);
    expect(errorOf(() => view.evtchn.status({ port: atA })).code).toBe('EBADF');
  });
});
