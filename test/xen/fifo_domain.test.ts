// Domains under the FIFO ABI: ports, closes, resets, and channels to a domain with the 2-level ABI.

import { describe, expect, test } from 'vitest';
import { createXen, type Domain } from '../../src/xen/index.ts';
import { drained } from '../support.ts';
import { FifoGuest } from './fifo_guest.ts';
import { channel, makeDomain } from './guests.ts';

function fifoDomain(shared: boolean, xen = createXen()): { domain: Domain; guest: FifoGuest } {
  const domain = makeDomain(xen, { shared, vcpus: 2, fifoPorts: 4096, ports: 4096 });
  const guest = new FifoGuest(domain.vm);
  guest.begin(1);
  return { domain, guest };
}

describe.each([true, false])('shared memory: %s', (shared) => {
  test('XE-OP-12 XE-OP-40 an IPI, a VIRQ and a loopback channel are queued for their vCPU', () => {
    const { domain } = fifoDomain(shared);
    const { evtchn, vm } = domain;
    const ipi = evtchn.bindIpi({ vcpu: 1 });
    const virq = evtchn.bindVirq({ virq: 0, vcpu: 0 });
    expect(evtchn.send(ipi)).toBe(0);
    expect(domain.raiseVirq(0, 0)).toBe(1);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[virq], [ipi]]);
    expect(evtchn.setPriority({ port: virq, priority: 0 })).toBe(0);
    expect(domain.raiseVirq(0, 0)).toBe(1);
    expect(vm.portStatus(virq).fifo?.queue.priority).toBe(0);
  });

  test('XE-TC-10 XE-MOD-10 XE-FF-41 KF-74 a closed port that is linked is not allocated before the guest takes it, and is not handled', () => {
    const { domain } = fifoDomain(shared);
    const { evtchn, vm } = domain;
    const port = evtchn.bindIpi({ vcpu: 0 });
    expect(evtchn.setPriority({ port, priority: 3 })).toBe(0);
    evtchn.send(port);
    expect(evtchn.close(port)).toBe(0);
    const other = evtchn.bindIpi({ vcpu: 0 });
    expect(other).not.toBe(port);
    expect(drained(vm)).toEqual([]);
    expect(evtchn.bindIpi({ vcpu: 1 })).toBe(port);
    evtchn.send(port);
    expect(vm.portStatus(port).fifo).toMatchObject({ linked: true, queue: { vcpu: 1, priority: 7 } });
    expect(drained(vm, 1)).toEqual([port]);
  });

  test('XE-OP-22 a channel between a FIFO and a 2-level domain, both ways', () => {
    const xen = createXen();
    const { domain: a } = fifoDomain(shared, xen);
    const b = makeDomain(xen, { shared });
    const { atA, atB } = channel(a, b);
    expect([a.evtchn.send(atA), drained(b.vm)]).toEqual([0, [atB]]);
    expect([b.evtchn.send(atB), drained(a.vm)]).toEqual([0, [atA]]);
    expect(b.evtchn.close(atB)).toBe(0);
    expect(a.evtchn.send(atA)).toBe(0);
    expect(drained(a.vm)).toEqual([]);
  });

  test('XE-OP-90 XE-OP-91 bind_vcpu: the next raise goes to the new vCPU', () => {
    const { domain } = fifoDomain(shared);
    const { evtchn, vm } = domain;
    const [port, peer] = (() => {
      const first = evtchn.allocUnbound({ remoteDom: domain.domid });
      return [first, evtchn.bindInterdomain({ remoteDom: domain.domid, remotePort: first })];
    })();
    drained(vm);
    expect(evtchn.send(peer)).toBe(0);
    expect(evtchn.bindVcpu({ port, vcpu: 1 })).toBe(0);
    expect([drained(vm, 1), drained(vm, 0)]).toEqual([[], [port]]);
    expect(evtchn.send(peer)).toBe(0);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [port]]);
  });

  test('XE-OP-111 KF-75 reset: ports closed, the 2-level ABI in force, expand_array refused; the guest may begin again', () => {
    const { domain, guest } = fifoDomain(shared);
    const { evtchn, vm } = domain;
    evtchn.send(evtchn.bindIpi({ vcpu: 0 }));
    expect(evtchn.reset()).toBe(0);
    expect([domain.fifo.active, drained(vm), evtchn.expandArray({ arrayGfn: 8 })]).toEqual([false, [], -95]);
    guest.begin(1);
    const port = evtchn.bindIpi({ vcpu: 0 });
    expect([port, evtchn.send(port), drained(vm)]).toEqual([1, 0, [1]]);
  });

  test('XE-FF-10 a raise through a descriptor before the page is there, and XE-FF-12 without a control block', () => {
    const domain = makeDomain(createXen(), { shared, vcpus: 2, fifoPorts: 4096 });
    const guest = new FifoGuest(domain.vm);
    guest.init(0);
    const port = domain.evtchn.bindIpi({ vcpu: 0 });
    const deaf = domain.evtchn.bindIpi({ vcpu: 1 });
    expect(domain.evtchn.send(port)).toBe(0);
    guest.prepare(0, 0);
    guest.expect(guest.expand(0));
    expect(drained(domain.vm)).toEqual([port]);
    expect([domain.evtchn.send(deaf), domain.fifo.dropped]).toEqual([0, 1]);
  });
});
