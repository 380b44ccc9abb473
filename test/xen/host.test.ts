// Code on the host at the other end of a guest's port, and ports that the hypervisor itself consumes.

import { describe, expect, test } from 'vitest';
import { createXen, type HostChannel } from '../../src/xen/index.ts';
import { errorOf, makeVm, pendingBit } from '../support.ts';
import { channel, makeDomain, takeAll, taken, twoDomains } from './guests.ts';

describe('host end points', () => {
  test.each([true, false])(
    'XE-QE-20 XE-XS-10 before the guest starts: a port that is the host’s; both ways work, shared memory %s',
    (shared) => {
      const { xen, a } = twoDomains({ shared });
      const events: number[] = [];
      const store = xen.host.bindUnbound(1, (c) => events.push(c.port));
      const console = xen.host.bindUnbound(1, (c) => events.push(c.port));
      expect([store.port, console.port, store.domid]).toEqual([1, 2, 1]);
      expect(a.evtchn.status({ port: 2 })).toEqual({ status: 'interdomain', vcpu: 0, dom: 0, port: console.hostPort });
      events.length = 0;
      expect([a.send(2), a.send(1), a.send(2)]).toEqual([0, 0, 0]);
      expect(events).toEqual([2, 1, 2]);
      expect([store.notify(), store.notify(), taken(a)]).toEqual([0, 0, [[0, 1]]]);
    },
  );

  test('XE-RG-07 a port that the guest has left unbound for the host is bound later; the host is told once, it may have missed something', () => {
    const { xen, a } = twoDomains();
    const port = a.evtchn.allocUnbound({ remoteDom: 0 });
    expect(a.send(port)).toBe(0);
    let events = 0;
    const backend = xen.host.bind(1, port, () => events++);
    expect([events, backend.port]).toEqual([1, port]);
    a.send(port);
    expect(events).toBe(2);
    backend.notify();
    expect(takeAll(a)).toEqual([port]);
  });

  test('XE-OP-20 XE-QE-20 what the host cannot bind: no domain, no port, one that is another’s or bound', () => {
    const { xen, a, b } = twoDomains();
    const forB = a.evtchn.allocUnbound({ remoteDom: 2 });
    const mine = a.evtchn.allocUnbound({ remoteDom: 0 });
    const ipi = a.evtchn.bindIpi({ vcpu: 0 });
    const bind = (domid: number, port: number) => () => xen.host.bind(domid, port, () => {});
    expect(errorOf(bind(7, 1)).code).toBe('ESRCH');
    for (const port of [0, forB, ipi, 9, 64, -1]) expect(errorOf(bind(1, port)).code).toBe('EINVAL');
    bind(1, mine)();
    expect(errorOf(bind(1, mine)).code).toBe('EINVAL');
    expect(errorOf(() => xen.host.bindUnbound(7, () => {})).code).toBe('ESRCH');
    expect(b.evtchn.bindInterdomain({ remoteDom: 0, remotePort: 1 })).toBe(-22);
  });

  test('XE-OP-20 the other way round: a port of the host’s that the guest binds', () => {
    const { xen, a, b } = twoDomains();
    let events = 0;
    const channel = xen.host.listen(1, () => events++);
    expect([channel.port, channel.notify()]).toEqual([0, -107]);
    expect(b.evtchn.bindInterdomain({ remoteDom: 0, remotePort: channel.hostPort })).toBe(-22);
    const port = a.evtchn.bindInterdomain({ remoteDom: 0, remotePort: channel.hostPort });
    expect([channel.port, takeAll(a)]).toEqual([port, [port]]);
    a.send(port);
    expect(events).toBe(1);
    expect([channel.notify(), takeAll(a)]).toEqual([0, [port]]);
  });

  test('XE-OP-62 the guest closes its port: notify says so; it binds the host’s port again and the channel goes on', () => {
    const { xen, a } = twoDomains();
    let events = 0;
    const channel = xen.host.bindUnbound(1, () => events++);
    const { port, hostPort } = channel;
    expect(a.evtchn.close(port)).toBe(0);
    expect([channel.notify(), channel.port]).toEqual([-107, 0]);
    const again = a.evtchn.bindInterdomain({ remoteDom: 0, remotePort: hostPort });
    expect(channel.port).toBe(again);
    a.send(again);
    expect([events, channel.notify()]).toEqual([1, 0]);
  });

  test('XE-OP-62 the host closes its end: the guest’s port is unbound for the host, what it sends is dropped; idempotent', () => {
    const { xen, a } = twoDomains();
    let events = 0;
    const channel = xen.host.bindUnbound(1, () => events++);
    const { port } = channel;
    a.vm.mask(port);
    channel.notify();
    channel.close();
    channel.close();
    expect(a.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 0, dom: 0 });
    expect([a.send(port), events, channel.notify(), channel.port, pendingBit(a.vm, port)]).toEqual([
      0,
      0,
      -107,
      0,
      true,
    ]);
    const next = xen.host.bind(1, port, () => events++);
    expect(next.hostPort).toBe(channel.hostPort);
    channel.close();
    a.send(port);
    expect([events, channel.notify(), next.notify()]).toEqual([2, -107, 0]);
  });

  test('XE-OP-70 a listener may close its own channel, another, or the guest’s port, inside the send', () => {
    const { xen, a } = twoDomains();
    const other = xen.host.bindUnbound(1, () => {});
    const calls: string[] = [];
    const channel: HostChannel = xen.host.bindUnbound(1, (self) => {
      other.close();
      self.close();
      calls.push(`close ${a.evtchn.close(2)}`);
    });
    expect([a.send(channel.port), calls]).toEqual([0, ['close 0']]);
    expect(a.evtchn.status({ port: 1 })).toEqual({ status: 'unbound', vcpu: 0, dom: 0 });
    expect(a.evtchn.status({ port: 2 })).toEqual({ status: 'closed', vcpu: 0 });
  });

  test('XE-OP-71 what a listener throws does not reach the guest', async () => {
    const { xen, a } = twoDomains();
    const { port } = xen.host.bindUnbound(1, () => {
      throw new Error('a broken back end');
    });
    const uncaught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => uncaught.push(error));
    expect(a.send(port)).toBe(0);
    await new Promise((resolve) => setImmediate(resolve));
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect(String(uncaught[0])).toContain('a broken back end');
  });

  test('XE-OP-70 QEMU answers -ENOENT when the code is gone', () => {
    const a = makeDomain(createXen(), { dialect: 'qemu' });
    const { xen } = a;
    const channel = xen.host.bindUnbound(1, () => {});
    const { port } = channel;
    // As it is after a restore: the guest’s end stands, the host’s is not there.
    xen.host.restore(77, 1, port);
    a.table.store(port, { ...a.table.load(port), number: 99 });
    expect(a.send(port)).toBe(-2);
  });

  test('XE-QE-20 the host has 4095 ports', () => {
    const xen = createXen();
    makeDomain(xen);
    for (let i = 1; i < 4096; i++) expect(xen.host.listen(1, () => {}).hostPort).toBe(i);
    expect(errorOf(() => xen.host.listen(1, () => {})).code).toBe('ENOSPC');
    expect(errorOf(() => xen.host.bindUnbound(1, () => {})).code).toBe('ENOSPC');
    expect(xen.domain(1).evtchn.bindIpi({ vcpu: 0 })).toBe(1);
  });

  test('XE-OP-70 on another thread a send to code on the host says that it is not there', () => {
    const { xen, a } = twoDomains({ shared: true });
    let events = 0;
    const { port } = xen.host.bindUnbound(1, () => events++);
    const view = createXen().attachDomain(a.vm.handle());
    expect([view.send(port), events]).toEqual([-6, 0]);
  });
});

describe('a guest without a shared_info yet', () => {
  test.each([true, false])(
    'XE-OP-22 what comes before it has one is pending when it has, shared memory %s',
    (shared) => {
      const xen = createXen();
      const vm = makeVm({ ports: 64, shared, bare: true });
      vm.setAttr({ type: 'shared_info', gfn: null });
      const a = xen.adopt(vm);
      const store = xen.host.bindUnbound(1, () => {});
      const ipi = a.evtchn.bindIpi({ vcpu: 0 });
      const timer = a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
      const closed = a.evtchn.bindIpi({ vcpu: 0 });
      expect([store.notify(), a.send(ipi), a.raiseVirq(0), a.send(closed), a.send(closed)]).toEqual([0, 0, 0, 0, 0]);
      expect(a.evtchn.close(closed)).toBe(0);
      expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(closed);
      vm.setAttr({ type: 'shared_info', gfn: 3 as never });
      expect(takeAll(a)).toEqual([store.port, ipi, timer]);
      expect([a.send(ipi), takeAll(a)]).toEqual([0, [ipi]]);
    },
  );
});

describe('ports that the hypervisor consumes', () => {
  test('XE-MOD-05 XE-OP-70 another domain binds it: what it sends goes to the hypervisor, which can raise it', () => {
    const { a, b } = twoDomains({ vcpus: 2 });
    let events = 0;
    const consumer = a.consume({ remoteDom: 2, vcpu: 1 }, (self) => {
      events++;
      expect(self).toBe(consumer);
    });
    expect(consumer.notify()).toBe(-107);
    const port = b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: consumer.port });
    takeAll(b);
    expect([b.send(port), b.send(port), events]).toEqual([0, 0, 2]);
    expect([consumer.notify(), takeAll(b), takeAll(a)]).toEqual([0, [port], []]);
    expect(a.send(consumer.port)).toBe(-22);
    b.evtchn.close(port);
    expect(a.evtchn.status({ port: consumer.port })).toEqual({ status: 'unbound', vcpu: 1, dom: 2 });
    expect(consumer.notify()).toBe(-107);
    expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: consumer.port })).toBe(port);
    expect([b.send(port), events]).toEqual([0, 3]);
  });

  test('XE-OP-70 the host binds it', () => {
    const { xen, a } = twoDomains();
    const calls: string[] = [];
    const consumer = a.consume({ remoteDom: 0 }, () => calls.push('hypervisor'));
    const channel = xen.host.bind(1, consumer.port, () => calls.push('host'));
    calls.length = 0;
    expect([channel.notify(), consumer.notify()]).toEqual([0, 0]);
    expect(calls).toEqual(['hypervisor', 'host']);
    expect(takeAll(a)).toEqual([]);
  });

  test('XE-OP-110 it survives a reset, and ends with its close or with its domain', () => {
    const { a, b } = twoDomains();
    const consumer = a.consume({ remoteDom: 2 }, () => {});
    const second = a.consume({ remoteDom: 2 }, () => {});
    const port = b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: consumer.port });
    a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.reset()).toBe(0);
    expect(a.evtchn.status({ port: consumer.port })).toEqual({ status: 'interdomain', vcpu: 0, dom: 2, port });
    consumer.close();
    consumer.close();
    expect([consumer.notify(), b.send(port)]).toEqual([-107, 0]);
    expect(b.evtchn.status({ port })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
    a.destroy();
    expect(second.notify()).toBe(-107);
    second.close();
  });

  test('what cannot be made: a vCPU that there is not, a bad domain, a full table', () => {
    const { a } = twoDomains({ maxPort: 1 });
    expect(errorOf(() => a.consume({ remoteDom: 2, vcpu: 1 }, () => {})).code).toBe('ENOENT');
    expect(errorOf(() => a.consume({ remoteDom: 65536 }, () => {})).code).toBe('EINVAL');
    a.evtchn.bindIpi({ vcpu: 0 });
    expect(errorOf(() => a.consume({ remoteDom: 2 }, () => {})).code).toBe('ENOSPC');
  });

  test('XE-TC-15 a channel of two domains beside it is not touched', () => {
    const { a, b } = twoDomains();
    const { atA, atB } = channel(a, b);
    a.consume({ remoteDom: 2 }, () => {}).close();
    expect([b.send(atB), takeAll(a)]).toEqual([0, [atA]]);
  });
});
