// Domains: how they are made, found, attached from other threads, and how they end.

import { describe, expect, test } from 'vitest';
import { PEER_REGION, PEER_SIZE, PEERS } from '../../src/abi/xen_port.ts';
import { createVm, gfn, regionBytes, VirtualClock } from '../../src/index.ts';
import { createXen, type Domain } from '../../src/xen/index.ts';
import { errorOf, makeVm } from '../support.ts';
import { channel, commonMemory, makeDomain, neighbours, PAIRS, placeIn, takeAll, twoDomains } from './guests.ts';

/** Peers that the kernel of a domain's thread has been told. */
function known(domain: Domain): number {
  const { words } = domain.vm.region;
  return Array.from({ length: PEERS }, (_, i) => words.load(domain.peers + i * PEER_SIZE + PEER_REGION)).filter(
    (p) => p !== 0,
  ).length;
}

describe('making domains', () => {
  test('XE-MOD-01 ids: the lowest free from 1 on, or the one that is asked for; not the host’s, not one in use, none that is reserved', () => {
    const xen = createXen({ hostDomid: 2 });
    const made = [{}, {}, { domid: 9 }, { domid: 0 }, {}].map((options) => makeDomain(xen, options).domid);
    expect(made).toEqual([1, 3, 9, 0, 4]);
    expect(xen.domains.map(({ domid }) => domid)).toEqual([0, 1, 3, 4, 9]);
    for (const domid of [2, 9]) expect(errorOf(() => makeDomain(xen, { domid })).code).toBe('EEXIST');
    for (const domid of [0x7ff0, 0x7fff, 65536, -1, 0.5])
      expect(errorOf(() => makeDomain(xen, { domid })).code).toBe('EINVAL');
    expect(xen.domain(9).domid).toBe(9);
    expect(errorOf(() => xen.domain(5)).code).toBe('ESRCH');
    expect(errorOf(() => createXen({ hostDomid: 0x7ff0 })).code).toBe('EINVAL');
  });

  test('createDomain makes the VM as well, with 4096 descriptors and the clock of the host', () => {
    const clock = new VirtualClock();
    const xen = createXen({ clock });
    const { vm, evtchn } = xen.createDomain({ vcpus: 2 });
    expect([vm.clock, vm.vcpus]).toEqual([clock, 2]);
    for (let port = 1; port < 4096; port++) expect(evtchn.bindIpi({ vcpu: 1 })).toBe(port);
  });

  test('R4 what cannot be made leaves nothing behind', () => {
    const xen = createXen();
    makeDomain(xen);
    const place = { ...placeIn(commonMemory(false), 0), guestPages: 4 };
    const before = new Uint8Array(place.memory.buffer).slice();
    for (const options of [
      { domid: 1 },
      { domid: -1 },
      { maxPort: -1 },
      { maxPort: 131072 },
      { pirqs: 65537 },
      { dialect: 'kvm' as never },
    ]) {
      expect(() => xen.createDomain({ ...place, ...options })).toThrow();
    }
    expect(new Uint8Array(place.memory.buffer)).toEqual(before);
    expect(xen.domains.length).toBe(1);
  });

  test('adopt needs a VM with descriptors that is no domain, and its owner', () => {
    const xen = createXen();
    expect(errorOf(() => xen.adopt(makeVm())).code).toBe('EINVAL');
    const vm = makeVm({ ports: 1 });
    expect(xen.adopt(vm).evtchn.bindIpi({ vcpu: 0 })).toBe(1);
    expect(errorOf(() => xen.adopt(vm)).code).toBe('EEXIST');
    expect(errorOf(() => createXen().adopt(vm)).code).toBe('EEXIST');
    const shared = makeVm({ ports: 64, shared: true });
    const view = createXen();
    expect(errorOf(() => view.attachDomain(shared.handle())).code).toBe('EINVAL');
  });

  test('a VM that asks for no descriptors has none', () => {
    const vm = createVm({ shared: false });
    const with64 = createVm({ shared: false, ports: 64 });
    expect(vm.region.words.load(vm.vmBase + 16)).toBeLessThan(with64.region.words.load(with64.vmBase + 16));
    expect(vm.kernel.xenSend(vm.vmBase, vm.agent, 0, 1)).toBe(-22);
    expect(vm.kernel.xenRaise(vm.vmBase, vm.agent, 1)).toBe(-22);
  });
});

describe('between domains', () => {
  test.each(PAIRS)('XE-OP-21 XE-MOD-43 a channel carries events both ways, $where', ({ pair, shared }) => {
    const { a, b } = pair({ shared });
    const { atA, atB } = channel(a, b);
    for (let i = 0; i < 3; i++) {
      expect([a.send(atA), takeAll(b), takeAll(a)]).toEqual([0, [atB], []]);
      expect([b.send(atB), takeAll(a), takeAll(b)]).toEqual([0, [atA], []]);
    }
  });

  test('XE-OP-21 a 32-bit and a 64-bit guest, one in shared and one in unshared memory', () => {
    const xen = createXen();
    const a = makeDomain(xen, { longMode: false, shared: true });
    const b = makeDomain(xen, { longMode: true });
    for (let i = 1; i < 40; i++) b.evtchn.bindIpi({ vcpu: 0 });
    const { atA, atB } = channel(a, b);
    expect([atA, atB]).toEqual([1, 40]);
    expect([a.send(atA), takeAll(b)]).toEqual([0, [40]]);
    expect([b.send(atB), takeAll(a)]).toEqual([0, [1]]);
  });

  test('XE-MOD-43 neighbours: from the second send on the kernel finds the peer by itself, until that is gone', () => {
    const { a, b } = neighbours();
    const { atA, atB } = channel(a, b);
    const sends = (): number => a.vm.kernel.xenSend(a.vm.vmBase, a.vm.agent, a.peers, atA);
    expect([sends(), known(a)]).toEqual([1, 0]);
    expect([a.send(atA), known(a), sends()]).toEqual([0, 1, 0]);
    expect(takeAll(b)).toEqual([atB]);
    b.destroy();
    expect([known(a), sends()]).toEqual([0, 0]);
    expect(a.evtchn.status({ port: atA })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
  });

  test('XE-MOD-43 more peers than a thread keeps: all get their events', () => {
    const xen = createXen();
    const memory = commonMemory(false);
    const a = makeDomain(xen, { ...placeIn(memory, 0), agents: 1 });
    const b = makeDomain(xen, { ...placeIn(memory, 1), agents: 1, domid: 2 });
    const c = makeDomain(xen, { ...placeIn(memory, 2), agents: 1, domid: 2 + PEERS });
    const toB = channel(a, b);
    const toC = channel(a, c);
    for (let i = 0; i < 3; i++) {
      expect([a.send(toB.atA), a.send(toC.atA)]).toEqual([0, 0]);
      expect([takeAll(b), takeAll(c)]).toEqual([[toB.atB], [toC.atB]]);
    }
  });

  test('XE-MOD-43 a domain that takes the place of one that ended is not taken for it', () => {
    const xen = createXen();
    const memory = commonMemory(false);
    const a = makeDomain(xen, { ...placeIn(memory, 0), agents: 2 });
    const b = makeDomain(xen, { ...placeIn(memory, 1), agents: 2 });
    const { atA } = channel(a, b);
    a.send(atA);
    b.destroy();
    b.vm.close();
    const next = makeDomain(xen, { ...placeIn(memory, 1), agents: 2 });
    expect(next.domid).toBe(2);
    expect([a.send(atA), takeAll(next)]).toEqual([0, []]);
    expect(next.evtchn.bindInterdomain({ remoteDom: 1, remotePort: atA })).toBe(1);
    takeAll(next);
    expect([a.send(atA), takeAll(next)]).toEqual([0, [1]]);
  });
});

describe('other threads', () => {
  test.each([
    { where: 'in different memories', pair: twoDomains },
    { where: 'in one memory', pair: neighbours },
  ])('XE-MOD-41 a view sends to domains that are attached beside it, and says so of others, $where', ({ pair }) => {
    const { a, b } = pair({ shared: true });
    const { atA, atB } = channel(a, b);
    const ipi = a.evtchn.bindIpi({ vcpu: 0 });
    const timer = a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    const there = createXen();
    const view = there.attachDomain(a.vm.handle());
    expect([view.domid, view.send(atA), takeAll(b)]).toEqual([1, -6, []]);
    expect([view.send(ipi), view.raiseVirq(0), takeAll(a)]).toEqual([0, 1, [ipi, timer]]);
    const peer = there.attachDomain(b.vm.handle());
    for (let i = 0; i < 2; i++) expect([view.send(atA), takeAll(b)]).toEqual([0, [atB]]);
    expect([peer.send(atB), takeAll(a)]).toEqual([0, [atA]]);
    expect(errorOf(() => there.attachDomain(b.vm.handle())).code).toBe('EEXIST');
    peer.vm.detach();
    expect([view.send(atA), known(view), takeAll(b)]).toEqual([-6, 0, []]);
    expect(there.domains).toEqual([view]);
    view.vm.detach();
    expect([a.send(atA), takeAll(b)]).toEqual([0, [atB]]);
  });

  test('R8 a thread that takes the place of another knows nothing of its peers', () => {
    const { a, b } = neighbours({ shared: true });
    const { atA } = channel(a, b);
    const first = createXen();
    const view = first.attachDomain(a.vm.handle());
    first.attachDomain(b.vm.handle());
    view.send(atA);
    expect(known(view)).toBe(1);
    // It dies: nobody has told the region.
    a.vm.detachAgent(view.vm.agentNumber);
    const second = createXen().attachDomain(a.vm.handle());
    expect([second.vm.agentNumber, known(second), second.send(atA)]).toEqual([view.vm.agentNumber, 0, -6]);
  });
});

describe('the end of a domain', () => {
  test.each(PAIRS)(
    'KF-46 XE-MOD-06 all its ports are closed, the other ends are unbound for it; the survivor goes on, $where',
    ({ pair, shared }) => {
      const { xen, a, b } = pair({ shared, pirqs: 2 });
      const { atA, atB } = channel(a, b);
      const open = b.evtchn.allocUnbound({ remoteDom: 1 });
      const host = xen.host.bindUnbound(2, () => {});
      b.evtchn.bindVirq({ virq: 0, vcpu: 0 });
      b.evtchn.bindPirq({ pirq: 1 });
      b.destroy();
      b.destroy();
      expect(xen.domains).toEqual([a]);
      expect(a.evtchn.status({ port: atA })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
      expect([a.send(atA), host.notify(), b.vm.detached]).toEqual([0, -107, false]);
      expect(a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: open })).toBe(-3);
      expect(a.evtchn.close(atA)).toBe(0);
      expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
      // The VM was there before, and is no domain any more.
      const again = xen.adopt(b.vm);
      expect([again.domid, again.evtchn.bindIpi({ vcpu: 0 }), atB]).toEqual([2, 1, 1]);
    },
  );

  test('KF-46 a VM that was made with its domain ends with it; one that is closed takes its domain along', () => {
    const xen = createXen();
    const [a, b, c] = [xen.createDomain(), xen.createDomain(), xen.createDomain()];
    const ab = channel(a, b);
    const ac = channel(a, c);
    b.destroy();
    expect(b.vm.detached).toBe(true);
    c.vm.close();
    expect(xen.domains).toEqual([a]);
    for (const port of [ab.atA, ac.atA]) expect(a.evtchn.status({ port })).toMatchObject({ status: 'unbound' });
    expect([a.send(ab.atA), a.send(ac.atA), b.send(1), c.send(1)]).toEqual([0, 0, -9, -9]);
    expect(errorOf(() => c.evtchn.bindIpi({ vcpu: 0 })).code).toBe('EBADF');
    c.destroy();
    a.destroy();
    expect(xen.domains).toEqual([]);
  });

  test.each(PAIRS)(
    'KF-46 both ends die, in either order and inside each other’s last send, $where',
    ({ pair, shared }) => {
      for (const order of [
        ['a', 'b'],
        ['b', 'a'],
      ] as const) {
        const { xen, a, b } = pair({ shared });
        const sides = { a, b };
        const { atA, atB } = channel(a, b);
        const inside = xen.host.bindUnbound(1, () => {
          sides[order[1]].destroy();
        });
        expect(a.send(inside.port)).toBe(0);
        expect(xen.domains).toEqual([sides[order[0]]]);
        expect([a.send(atA), b.send(atB)].every((result) => result === 0 || result === -22)).toBe(true);
        sides[order[0]].destroy();
        expect(xen.domains).toEqual([]);
      }
    },
  );

  test('R4 a domain whose sender does not leave its bracket is not destroyed', () => {
    const { xen, a } = twoDomains({ shared: true });
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.vm.enter();
    expect(errorOf(() => a.destroy()).code).toBe('EBUSY');
    expect([xen.domains.length, a.evtchn.status({ port }), a.evtchn.bindIpi({ vcpu: 0 })]).toEqual([
      2,
      { status: 'ipi', vcpu: 0 },
      2,
    ]);
    a.vm.leave();
    a.destroy();
  });

  test('pauses count', () => {
    const { a } = twoDomains();
    expect(errorOf(() => a.unpause()).code).toBe('EINVAL');
    a.pause();
    a.pause();
    a.unpause();
    expect(a.paused).toBe(true);
    a.unpause();
    expect(a.paused).toBe(false);
  });
});

test('XE-BP-24 XE-2L-03 XE-TC-12 an event wakes whoever polls for its port, on any vCPU, masked or not', () => {
  const { a } = twoDomains({ shared: true, vcpus: 3 });
  const { vm } = a;
  const port = a.evtchn.bindIpi({ vcpu: 0 });
  const other = a.evtchn.bindIpi({ vcpu: 0 });
  const view = createXen().attachDomain(vm.handle());
  const polled = (vcpu: number, ports: number[]): number => {
    const list = vm.agent + 0;
    return list >= 0
      ? view.vm.kernel.pollBegin(vm.vmBase, view.vm.agent, vcpu, pollList(view, ports), ports.length)
      : 0;
  };
  for (const masked of [false, true]) {
    if (masked) vm.mask(port);
    expect([polled(1, [port]), polled(2, [port, other])]).toEqual([0, 0]);
    a.send(port);
    for (const vcpu of [1, 2]) {
      expect(view.vm.vcpu(vcpu).runnable, `vCPU ${vcpu}, masked ${masked}`).toBe(true);
      view.vm.kernel.pollEnd(vm.vmBase, vcpu);
      view.vm.vcpu(vcpu).beforeEntry();
    }
    vm.unmask(port);
    takeAll(a);
  }
  // A poll for one port is not ended by another.
  expect(polled(1, [port])).toBe(0);
  a.send(other);
  expect(view.vm.vcpu(1).runnable).toBe(false);
  view.vm.kernel.pollEnd(vm.vmBase, 1);
  expect(gfn(3)).toBe(3);
});

/** Ports where a poll reads them. */
function pollList(domain: Domain, ports: readonly number[]): number {
  const { vm } = domain;
  const at = vm.region.outbox(vm.agent);
  new Uint32Array(vm.memory.buffer, at, ports.length).set(ports);
  return at;
}

describe('a memory of the caller’s', () => {
  const memory = (): WebAssembly.Memory => new WebAssembly.Memory({ initial: 16, maximum: 16 });
  const sizes = { ports: 256, routes: 16, eventfds: 4, dirtyPages: 32 };

  test('R9 the region is as large as regionBytes says for the options given, and nothing behind it is touched', () => {
    const own = memory();
    const end = Math.ceil(regionBytes(sizes) / 64) * 64;
    const behind = new Uint8Array(own.buffer, end, 4096).fill(0xa5);
    const place = { memory: own, regionBase: 0, guestBase: 15 * 65536, guestPages: 4 };
    const domain = createXen().createDomain({ ...sizes, ...place });
    expect(domain.evtchn.allocUnbound({ remoteDom: 0 })).toBe(1);
    expect(behind.every((byte) => byte === 0xa5)).toBe(true);
  });

  test('without a number of ports there is no domain: none is added behind the caller’s back', () => {
    const place = { memory: memory(), regionBase: 0, guestBase: 15 * 65536, guestPages: 4 };
    expect(() => createXen().createDomain(place)).toThrow('createVm({ ports }) sets how many');
  });
});
