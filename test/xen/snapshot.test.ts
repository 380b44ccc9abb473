// Saving domains and restoring them: what they are is the same afterwards, whatever was there before.

import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EvtchnError, VirtualClock } from '../../src/index.ts';
import { crc32 } from '../../src/vm/snapshot/format.ts';
import { createXen, type Domain, type DomainState, readDomainSnapshot, type Xen } from '../../src/xen/index.ts';
import { errorOf, memoryBytes, pendingBit, random } from '../support.ts';
import { channel, makeDomain, PAIRS, takeAll, taken, twoDomains } from './guests.ts';

/** A host with two domains that have one of everything. */
function furnished(): { xen: Xen; a: Domain; b: Domain } {
  const xen = createXen();
  const options = { vcpus: 2, pirqs: 16, ports: 256, clock: new VirtualClock() };
  const [a, b] = [makeDomain(xen, options), makeDomain(xen, options)];
  xen.setVirqHandler(4, 1);
  a.evtchn.allocUnbound({ remoteDom: 2 });
  channel(a, b);
  channel(a, a);
  a.evtchn.bindVirq({ virq: 0, vcpu: 1 });
  a.evtchn.bindVirq({ virq: 4, vcpu: 0 });
  a.evtchn.bindIpi({ vcpu: 1 });
  a.evtchn.bindPirq({ pirq: 7 });
  xen.host.bindUnbound(1, () => {});
  a.consume({ remoteDom: 2, vcpu: 1 }, () => {});
  const virq = a.evtchn.bindVirq({ virq: 11, vcpu: 0 });
  a.evtchn.bindVcpu({ port: virq, vcpu: 1 });
  for (let i = 0; i < 100; i++) a.evtchn.bindIpi({ vcpu: 0 });
  for (const port of [20, 30, 64, 65, 90]) a.evtchn.close(port);
  a.hvm.setParam(2, 77n);
  a.hvm.setParam(38, 2n ** 64n - 1n);
  a.hvm.assertGsi(9);
  a.hvm.setUp(a.vm.vcpu(1), true);
  takeAll(a);
  return { xen, a, b };
}

/** A host with the two domains, fresh. */
function empty(): { xen: Xen; a: Domain; b: Domain } {
  const xen = createXen();
  const options = { vcpus: 2, pirqs: 16, ports: 256, clock: new VirtualClock() };
  const [a, b] = [makeDomain(xen, options), makeDomain(xen, options)];
  xen.setVirqHandler(4, 1);
  return { xen, a, b };
}

const statuses = (domain: Domain): unknown[] =>
  Array.from({ length: 128 }, (_, port) => domain.evtchn.status({ port: port + 1 }));

describe('a domain and its snapshot', () => {
  test('XE-QE-43 R10 restored elsewhere it is the same: bytes, object, ports, parameters', () => {
    const from = furnished();
    const bytes = { a: from.a.snapshot({ ram: true }), b: from.b.snapshot({ ram: true }) };
    const to = empty();
    to.a.restore(bytes.a);
    to.b.restore(bytes.b);
    expect(to.a.snapshotState()).toEqual(from.a.snapshotState());
    expect(to.b.snapshotState()).toEqual(from.b.snapshotState());
    expect(to.a.snapshot({ ram: true })).toEqual(bytes.a);
    expect(to.b.snapshot({ ram: true })).toEqual(bytes.b);
    expect(statuses(to.a)).toEqual(statuses(from.a));
    expect([to.a.hvm.getParam(2), to.a.hvm.getParam(38)]).toEqual([77n, 2n ** 64n - 1n]);
  });

  test('the object goes through JSON, and is what the bytes say', () => {
    const { a } = furnished();
    const bytes = a.snapshot();
    const state = a.snapshotState();
    expect(readDomainSnapshot(bytes)).toEqual(state);
    const to = empty();
    to.a.restore(JSON.parse(JSON.stringify(state)) as DomainState);
    expect(statuses(to.a).slice(4)).toEqual(statuses(a).slice(4));
  });

  test('XE-QE-44 what is pending goes with RAM, events go on where they went', () => {
    const from = furnished();
    from.a.raiseVirq(0, 1);
    from.a.send(2);
    const to = empty();
    to.a.restore(from.a.snapshot({ ram: true }));
    to.b.restore(from.b.snapshot({ ram: true }));
    expect(taken(to.a)).toEqual(taken(from.a));
    expect(takeAll(to.b)).toEqual([1]);
    expect([to.b.send(1), takeAll(to.a)]).toEqual([0, [2]]);
    expect([to.a.raiseVirq(11), taken(to.a)]).toEqual([1, [[1, to.a.virqPort(11)]]]);
    expect([to.a.raisePirq(7), to.xen.raiseGlobalVirq(4), takeAll(to.a).length]).toEqual([1, 1, 2]);
    expect(to.a.evtchn.bindIpi({ vcpu: 0 })).toBe(20);
  });

  test('XE-QE-43 the order of domains does not matter: what has no other end yet is unbound, and connects when that comes', () => {
    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const from = furnished();
      const saved = { a: from.a.snapshot(), b: from.b.snapshot() };
      const to = empty();
      to[order[0]].restore(saved[order[0]]);
      const port = order[0] === 'a' ? 2 : 1;
      expect(to[order[0]].evtchn.status({ port })).toMatchObject({ status: 'unbound', dom: order[0] === 'a' ? 2 : 1 });
      to[order[1]].restore(saved[order[1]]);
      expect(to.a.evtchn.status({ port: 2 })).toEqual({ status: 'interdomain', vcpu: 0, dom: 2, port: 1 });
      expect(to.b.evtchn.status({ port: 1 })).toEqual({ status: 'interdomain', vcpu: 0, dom: 1, port: 2 });
      expect([to.a.send(2), takeAll(to.b)]).toEqual([0, [1]]);
    }
  });

  test.each(PAIRS)(
    'in place: channels to a domain that goes on are kept, those that were made since are closed, $where',
    ({ pair, shared }) => {
      const { xen, a, b } = pair({ shared, vcpus: 2 });
      const old = channel(a, b);
      const events: number[] = [];
      const console = xen.host.bindUnbound(1, (c) => events.push(c.port));
      const saved = a.snapshot({ ram: true });
      const since = channel(a, b);
      const sinceHost = xen.host.bindUnbound(1, () => {});
      a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
      a.restore(saved);
      expect(a.evtchn.status({ port: old.atA })).toEqual({ status: 'interdomain', vcpu: 0, dom: 2, port: old.atB });
      expect(a.evtchn.status({ port: since.atA })).toEqual({ status: 'closed', vcpu: 0 });
      expect(b.evtchn.status({ port: since.atB })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
      expect([a.virqPort(0), sinceHost.notify(), console.notify()]).toEqual([0, -107, 0]);
      expect([a.send(console.port), events]).toEqual([0, [console.port]]);
      expect([b.send(old.atB), a.send(old.atA), b.send(since.atB)]).toEqual([0, 0, 0]);
      expect([takeAll(a), takeAll(b)]).toEqual([[old.atA, console.port], [old.atB]]);
      expect(a.evtchn.bindIpi({ vcpu: 1 })).toBe(3);
    },
  );

  test('in place: a channel that was closed since is unbound, whatever its number is now', () => {
    const { a, b } = twoDomains();
    const { atA, atB } = channel(a, b);
    const saved = a.snapshot();
    b.evtchn.close(atB);
    b.evtchn.bindIpi({ vcpu: 0 });
    a.restore(saved);
    expect(a.evtchn.status({ port: atA })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
    expect(b.evtchn.status({ port: atB })).toEqual({ status: 'ipi', vcpu: 0 });
  });

  test('XE-QE-43 XE-QE-42 code on the host binds its port again, by the old number, and is told once', () => {
    const from = furnished();
    const { port, hostPort } = from.xen.host.bindUnbound(1, () => {});
    const to = empty();
    to.a.restore(from.a.snapshot());
    expect(to.a.evtchn.status({ port })).toEqual({ status: 'interdomain', vcpu: 0, dom: 0, port: hostPort });
    expect(to.a.send(port)).toBe(0);
    let events = 0;
    const channel = to.xen.host.bind(1, port, () => events++);
    expect([channel.hostPort, channel.port, events]).toEqual([hostPort, port, 1]);
    to.a.send(port);
    expect(events).toBe(2);
    expect(errorOf(() => to.xen.host.bind(1, port, () => {})).code).toBe('EINVAL');
  });

  test('ports of the hypervisor’s are taken over', () => {
    const { a, b } = twoDomains();
    const { port } = a.consume({ remoteDom: 2 }, () => {});
    b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: port });
    const to = twoDomains();
    to.a.restore(a.snapshot());
    to.b.restore(b.snapshot());
    expect(to.b.send(1)).toBe(-6);
    let events = 0;
    const consumer = to.a.consume({ remoteDom: 2, port }, () => events++);
    expect([to.b.send(1), events, consumer.notify()]).toEqual([0, 1, 0]);
    expect(errorOf(() => to.a.consume({ remoteDom: 2, port }, () => {})).code).toBe('EINVAL');
    expect(errorOf(() => to.a.consume({ remoteDom: 2, port: 9 }, () => {})).code).toBe('EINVAL');
  });

  test('as another domain: what was for itself is for itself', () => {
    const from = furnished();
    const to = createXen();
    const options = { vcpus: 2, pirqs: 16, ports: 256 };
    const c = makeDomain(to, { ...options, domid: 5 });
    to.setVirqHandler(4, 5);
    c.restore(from.a.snapshot({ ram: true }));
    expect(c.evtchn.status({ port: 3 })).toEqual({ status: 'interdomain', vcpu: 0, dom: 5, port: 4 });
    expect([c.send(3), takeAll(c)]).toEqual([0, [4]]);
    const d = makeDomain(to, { ...options, domid: 2 });
    expect(errorOf(() => d.restore(from.a.snapshot())).code).toBe('EINVAL');
  });

  test('XE-CB-04 a callback by an interrupt line goes on: the next event pulls it', () => {
    const from = twoDomains();
    from.a.hvm.setParam(0, 5n);
    const port = from.a.evtchn.bindIpi({ vcpu: 0 });
    const levels: [number, boolean][] = [];
    const xen = createXen();
    const a = makeDomain(xen, { hvm: { onGsi: (gsi, level) => levels.push([gsi, level]) } });
    a.restore(from.a.snapshot({ ram: true }));
    a.send(port);
    expect(levels).toEqual([[5, true]]);
  });

  test('XE-OP-22 events that came before there was a shared_info are saved', () => {
    const { a } = twoDomains();
    a.vm.setAttr({ type: 'shared_info', gfn: null });
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.send(port);
    const to = twoDomains();
    to.a.restore(a.snapshot({ ram: true }));
    expect(pendingBit(to.a.vm, port)).toBe(false);
    to.a.vm.setAttr({ type: 'shared_info', gfn: 3 as never });
    expect(takeAll(to.a)).toEqual([port]);
  });

  test('sends of another domain’s in `during` are not lost', () => {
    const { a, b } = twoDomains();
    const { atA, atB } = channel(a, b);
    const results: number[] = [];
    const saved = a.snapshot({ ram: true, during: () => results.push(b.send(atB)) });
    a.restore(saved, { during: () => results.push(b.send(atB)) });
    // This thread cannot wait for itself: it is told, and sends again.
    expect(results).toEqual([-11, -11]);
    expect(takeAll(a)).toEqual([]);
    expect([b.send(atB), takeAll(a)]).toEqual([0, [atA]]);
  });
});

describe('under the FIFO ABI', () => {
  const [CONTROL, EVENTS] = [8, 10];
  const make = (): { xen: Xen; a: Domain; b: Domain } => {
    const xen = createXen();
    const options = { vcpus: 2, ports: 4096, fifoPorts: 4096 };
    return { xen, a: makeDomain(xen, options), b: makeDomain(xen) };
  };
  /** As a guest begins: control blocks, a page of words that are masked, ports. */
  const begin = ({ a, b }: ReturnType<typeof make>): number[] => {
    const words = new Uint32Array(a.vm.memory.buffer, a.vm.guestBase + EVENTS * 4096, 1024).fill(0x40000000);
    for (const vcpu of [0, 1]) {
      expect(a.evtchn.initControl({ controlGfn: CONTROL + vcpu, offset: 0, vcpu })).toBe(0);
    }
    expect(a.evtchn.expandArray({ arrayGfn: EVENTS })).toBe(0);
    const { atA } = channel(a, b);
    const ports = [atA, a.evtchn.bindIpi({ vcpu: 0 }), a.evtchn.bindVirq({ virq: 0, vcpu: 1 })];
    for (const port of ports) words[port] = 0;
    expect(a.evtchn.setPriority({ port: ports[1] as number, priority: 2 })).toBe(0);
    return ports;
  };

  test('XE-FF-77 XE-QE-44 queues, priorities and what is pending go on', () => {
    const from = make();
    const [atA, ipi, timer] = begin(from) as [number, number, number];
    from.b.send(1);
    from.a.send(ipi);
    from.a.raiseVirq(0, 1);
    const saved = { a: from.a.snapshot({ ram: true }), b: from.b.snapshot({ ram: true }) };
    const to = make();
    to.a.restore(saved.a);
    to.b.restore(saved.b);
    expect(to.a.fifo.active).toBe(true);
    expect(to.a.snapshotState()).toEqual(from.a.snapshotState());
    expect(to.a.snapshot({ ram: true })).toEqual(saved.a);
    for (const { a, b } of [from, to]) {
      // The IPI is of a higher priority, though it came later.
      expect(taken(a)).toEqual([
        [0, ipi],
        [0, atA],
        [1, timer],
      ]);
      b.send(1);
      expect(taken(a)).toEqual([[0, atA]]);
    }
  });

  test('in place: from either ABI to the other, and back when it fails', () => {
    const world = make();
    const { a, b } = world;
    const before = a.evtchn.bindIpi({ vcpu: 1 });
    a.vm.mask(before);
    a.send(before);
    const twoLevel = a.snapshot({ ram: true });
    const ports = begin(world) as [number, number, number];
    a.send(ports[1]);
    const fifo = a.snapshot({ ram: true });
    expect(() =>
      a.restore(twoLevel, {
        during: () => {
          throw new Error('no disk');
        },
      }),
    ).toThrow('no disk');
    expect([a.fifo.active, a.fifo.pages]).toEqual([true, 1]);
    a.restore(twoLevel);
    expect([a.fifo.active, a.vm.portStatus(before).masked, a.vm.portStatus(before).pending]).toEqual([
      false,
      true,
      true,
    ]);
    a.evtchn.unmask(before);
    expect(taken(a)).toEqual([[1, before]]);
    a.restore(fifo);
    expect([a.fifo.active, a.evtchn.setPriority({ port: ports[0], priority: 1 })]).toEqual([true, 0]);
    expect(taken(a)).toEqual([[0, ports[1]]]);
    expect([b.send(1), taken(a)]).toEqual([0, [[0, ports[0]]]]);
    expect(errorOf(() => twoDomains({ vcpus: 2 }).a.restore(fifo)).message).toContain('fifoPorts');
  });

  test('XE-OP-122 a guest that goes over to the FIFO ABI after a restore finds its ports on their vCPUs', () => {
    const from = make();
    const port = from.a.evtchn.bindIpi({ vcpu: 1 });
    const to = make();
    to.a.restore(from.a.snapshot({ ram: true }));
    begin(to);
    new Uint32Array(to.a.vm.memory.buffer, to.a.vm.guestBase + EVENTS * 4096, 1024)[port] = 0;
    to.a.send(port);
    expect(taken(to.a)).toEqual([[1, port]]);
  });
});

describe('what does not fit changes nothing', () => {
  const changed = (change: (state: { [Key in keyof DomainState]: never }) => void): DomainState => {
    const state = JSON.parse(JSON.stringify(furnished().a.snapshotState())) as never;
    change(state);
    return state;
  };
  const port = (index: number, fields: object) =>
    changed((state) => Object.assign((state.xen as { ports: object[] }).ports[index] as object, fields));
  const xen = (fields: object) => changed((state) => Object.assign(state.xen as object, fields));
  const hvm = (fields: object) => changed((state) => Object.assign((state.xen as { hvm: object }).hvm, fields));

  test.each([
    ['another dialect', () => xen({ dialect: 'qemu' }), 'EINVAL'],
    ['more descriptors than there is room for', () => xen({ validPorts: 320 }), 'ENOSPC'],
    ['a count that is no batch', () => xen({ validPorts: 190 }), 'EINVAL'],
    ['a port beyond the descriptors', () => xen({ validPorts: 64 }), 'EINVAL'],
    ['ports that are not in order', () => port(3, { port: 1 }), 'EINVAL'],
    ['port 0', () => port(0, { port: 0 }), 'EINVAL'],
    ['a state that there is not', () => port(0, { state: 'free' }), 'EINVAL'],
    ['a vCPU that there is not', () => port(0, { vcpu: 2 }), 'EINVAL'],
    ['a VIRQ that there is not', () => port(4, { number: 24 }), 'EINVAL'],
    ['a VIRQ twice', () => port(5, { number: 0, vcpu: 1 }), 'EINVAL'],
    ['a global VIRQ of another handler’s', () => port(5, { number: 2 }), 'EINVAL'],
    ['a PIRQ that there is not', () => port(7, { number: 16 }), 'EINVAL'],
    ['a consumer’s IPI', () => port(6, { consumer: true }), 'EINVAL'],
    ['a loop that leads nowhere', () => port(2, { number: 9 }), 'EINVAL'],
    ['a loop to itself', () => port(2, { number: 3 }), 'EINVAL'],
    ['too few parameters', () => hvm({ params: ['0'] }), 'EINVAL'],
    ['a parameter that is no u64', () => hvm({ params: Array.from({ length: 39 }, () => '-1') }), 'EINVAL'],
    ['a line that is held less than not at all', () => hvm({ lines: Array.from({ length: 48 }, () => -1) }), 'EINVAL'],
    ['a version to come', () => changed((state) => Object.assign(state, { version: 2 })), 'EINVAL'],
    ['a field too many', () => xen({ more: 1 }), 'EINVAL'],
    [
      'a VM that does not fit',
      () => changed((state) => Object.assign((state.vm as { machine: object }).machine, { guestBytes: 4096 })),
      'EINVAL',
    ],
  ] as const)('R4 %s', (_what, make, code) => {
    const { xen: host, a, b } = furnished();
    const before = memoryBytes(a.vm);
    const saved = make();
    expect(errorOf(() => a.restore(saved)).code).toBe(code);
    expect(Buffer.compare(memoryBytes(a.vm), before)).toBe(0);
    expect([host.domains.length, b.evtchn.status({ port: 1 })]).toEqual([
      2,
      { status: 'interdomain', vcpu: 0, dom: 1, port: 2 },
    ]);
  });

  test('R4 R5 bytes that are damaged, at every byte of the domain’s part, and cut off anywhere', () => {
    const { a } = furnished();
    const bytes = a.snapshot();
    const ofVm = a.vm.snapshot();
    const before = memoryBytes(a.vm);
    const next = random(7);
    for (let at = 0; at < 300; at++) {
      const damaged = bytes.slice();
      damaged[at] = (damaged[at] as number) ^ (1 << next(8));
      expect(errorOf(() => a.restore(damaged)).code).toBe('EINVAL');
    }
    expect(errorOf(() => readDomainSnapshot(bytes.slice(1))).code).toBe('EINVAL');
    for (const end of [0, 3, 15, 16, 100, bytes.length - 1]) {
      expect(errorOf(() => a.restore(bytes.slice(0, end))).code).toBe('EINVAL');
    }
    expect(errorOf(() => a.restore(ofVm)).code).toBe('EINVAL');
    expect(Buffer.compare(memoryBytes(a.vm), before)).toBe(0);
  });

  test('R4 R5 values that are anything, with the checksum made right: restored or refused, and whole in either case', () => {
    const { a, b } = furnished();
    const bytes = a.snapshot();
    const length = new DataView(bytes.buffer).getUint32(8, true);
    const next = random(11);
    let [restored, refused] = [0, 0];
    for (let round = 0; round < 300; round++) {
      const changed = bytes.slice();
      const at = 12 + next(length);
      changed[at] = (changed[at] as number) ^ (1 << next(8));
      const end = changed.length - 4;
      new DataView(changed.buffer).setUint32(end, crc32(changed.subarray(0, end)), true);
      const before = memoryBytes(a.vm);
      try {
        a.restore(changed);
        restored++;
        // What it says of itself can be saved and restored.
        const again = a.snapshot();
        a.restore(again);
        expect(Buffer.compare(a.snapshot(), again)).toBe(0);
        a.restore(bytes);
        b.evtchn.status({ port: 1 });
      } catch (error) {
        expect(error).toBeInstanceOf(EvtchnError);
        expect(Buffer.compare(memoryBytes(a.vm), before)).toBe(0);
        refused++;
      }
    }
    expect([restored > 50, refused > 50]).toEqual([true, true]);
  });

  test('R4 what `during` throws comes through: ports, the host’s ends and the other domain’s are as they were', () => {
    const { xen: host, a, b } = furnished();
    const saved = a.snapshot();
    a.evtchn.close(1);
    const since = channel(a, b);
    let events = 0;
    const channelOfHost = host.host.bindUnbound(1, () => events++);
    const before = memoryBytes(a.vm);
    const beforeB = memoryBytes(b.vm);
    const failing = [
      () => {
        throw new Error('no disk');
      },
      () => Promise.resolve() as never,
    ];
    for (const during of failing) expect(() => a.restore(saved, { during })).toThrow();
    const same = (now: Uint8Array, then: Uint8Array): number => now.filter((byte, i) => byte !== then[i]).length;
    // Epochs of readers and the sequence of invalidations go on.
    expect(same(memoryBytes(a.vm), before)).toBeLessThan(32);
    expect(Buffer.compare(memoryBytes(b.vm), beforeB)).toBe(0);
    expect(a.evtchn.status({ port: 1 })).toMatchObject({ status: 'interdomain', port: since.atB });
    expect([a.send(since.atA), takeAll(b)]).toEqual([0, [since.atB]]);
    expect([a.send(channelOfHost.port), events, channelOfHost.notify()]).toEqual([0, 1, 0]);
    expect(a.virqPort(0, 1)).toBe(5);
  });

  test('R4 an end that a restore had connected is unbound again when it fails', () => {
    const { xen: host, a, b } = furnished();
    let events = 0;
    const console = host.host.bindUnbound(1, () => events++);
    const saved = a.snapshot();
    a.evtchn.close(2);
    a.evtchn.close(console.port);
    expect(b.evtchn.status({ port: 1 })).toMatchObject({ status: 'unbound' });
    expect(() => a.restore(saved, { during: () => Promise.resolve() as never })).toThrow('promise');
    expect(b.evtchn.status({ port: 1 })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
    expect([console.port, console.notify(), a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 1 })]).toEqual([
      0, -107, 2,
    ]);
    const again = a.evtchn.bindInterdomain({ remoteDom: 0, remotePort: console.hostPort });
    expect([a.send(again), events]).toEqual([0, 1]);
    a.restore(saved);
    expect([a.send(2), takeAll(b)]).toEqual([0, [1]]);
  });

  test('R4 while a reset is under way, and on another thread', () => {
    const { a } = furnished();
    const saved = a.snapshot();
    a.evtchn.reset({ atMost: 3 });
    expect(errorOf(() => a.snapshot()).code).toBe('EBUSY');
    expect(errorOf(() => a.snapshotState()).code).toBe('EBUSY');
    expect(errorOf(() => a.restore(saved)).code).toBe('EBUSY');
    expect(a.evtchn.resetContinue()).toBe(0);
    a.restore(saved);
    const { a: shared } = twoDomains({ shared: true });
    const view = createXen().attachDomain(shared.vm.handle());
    expect(errorOf(() => view.snapshot()).code).toBe('EPERM');
    expect(errorOf(() => view.restore(saved)).code).toBe('EPERM');
  });
});

describe('fixtures', () => {
  const BYTES = 'test/fixtures/domain-v1.bin';
  const OBJECT = 'test/fixtures/domain-v1.json';

  // Of a new version, once: those of older ones stay as they are.
  if (process.env['WRITE_FIXTURES']) {
    test('write them', () => {
      const { a } = furnished();
      writeFileSync(BYTES, a.snapshot());
      writeFileSync(OBJECT, `${JSON.stringify(a.snapshotState(), null, 2)}\n`);
    });
  }

  test('R13 a file of version 1 loads, and is what it was', () => {
    const saved = new Uint8Array(readFileSync(BYTES));
    const expected: unknown = JSON.parse(readFileSync(OBJECT, 'utf8'));
    expect(readDomainSnapshot(saved)).toEqual(expected);
    const { a } = empty();
    a.restore(saved);
    expect(a.evtchn.status({ port: 5 })).toEqual({ status: 'virq', vcpu: 1, virq: 0 });
    expect(a.hvm.getParam(2)).toBe(77n);
  });
});
