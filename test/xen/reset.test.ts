// EVTCHNOP_reset: every port a guest has is closed, in one pass or in parts. [XE-OP-110..113]

import { describe, expect, test } from 'vitest';
import { createXen, DOMID_SELF } from '../../src/xen/index.ts';
import { maskBit, memoryBytes } from '../support.ts';
import { channel, makeDomain, PAIRS, takeAll, twoDomains } from './guests.ts';

/** How many calls a reset in parts of `atMost` takes. */
function inParts(domain: ReturnType<typeof makeDomain>, atMost: number): number[] {
  const results = [domain.evtchn.reset({ atMost })];
  while (results.at(-1) === -85) results.push(domain.evtchn.resetContinue({ atMost }));
  return results;
}

describe('reset', () => {
  test('XE-OP-110 domain, permission, pause; the caller itself needs neither', () => {
    const xen = createXen();
    const a = makeDomain(xen);
    const b = makeDomain(xen);
    const control = makeDomain(xen, { privileged: true });
    a.evtchn.bindIpi({ vcpu: 0 });
    expect(control.evtchn.reset({ dom: 9 })).toBe(-3);
    expect(b.evtchn.reset({ dom: 1 })).toBe(-1);
    expect(control.evtchn.reset({ dom: 0 })).toBe(-22);
    expect(control.evtchn.reset({ dom: 1 })).toBe(-22);
    a.pause();
    expect(b.evtchn.reset({ dom: 1 })).toBe(-1);
    expect(control.evtchn.reset({ dom: 1 })).toBe(0);
    expect(a.evtchn.status({ port: 1 })).toEqual({ status: 'closed', vcpu: 0 });
    expect([b.evtchn.reset(), b.evtchn.reset({ dom: DOMID_SELF }), b.evtchn.reset({ dom: 2 })]).toEqual([0, 0, 0]);
  });

  test.each(PAIRS)(
    'XE-OP-110 every port is closed as the guest would; the other ends are unbound, $where',
    ({ pair, shared }) => {
      const { xen, a, b } = pair({ shared, pirqs: 1, vcpus: 2 });
      const { atA, atB } = channel(a, b);
      const loop = channel(a, a);
      const binds = (): number[] => [
        a.evtchn.bindVirq({ virq: 0, vcpu: 1 }),
        a.evtchn.bindIpi({ vcpu: 1 }),
        a.evtchn.bindPirq({ pirq: 0 }),
        a.evtchn.allocUnbound({ remoteDom: 2 }),
      ];
      const bound = binds();
      const host = xen.host.bindUnbound(1, () => {});
      for (const port of [atA, loop.atA, loop.atB, ...bound]) a.send(port);
      expect(a.evtchn.reset()).toBe(0);
      for (let port = 1; port < 64; port++) expect(a.evtchn.status({ port })).toEqual({ status: 'closed', vcpu: 0 });
      expect(b.evtchn.status({ port: atB })).toEqual({ status: 'unbound', vcpu: 0, dom: 1 });
      expect([host.notify(), a.raiseVirq(0, 1), takeAll(a)]).toEqual([-107, 0, []]);
      expect(binds()).toEqual([1, 2, 3, 4]);
    },
  );

  test('XE-OP-111 a FIFO domain is back with the 2-level ABI; one that has an open port is not', () => {
    const { a } = twoDomains();
    let active = true;
    const resets: number[] = [];
    Object.defineProperty(a.fifo, 'active', { get: () => active });
    a.fifo.reset = () => {
      active = false;
      resets.push(1);
    };
    for (let i = 0; i < 100; i++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.reset({ atMost: 64 })).toBe(-85);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
    expect(a.evtchn.resetContinue()).toBe(-11);
    expect([active, a.evtchn.status({ port: 1 })]).toEqual([true, { status: 'ipi', vcpu: 0 }]);
    expect(a.evtchn.reset()).toBe(0);
    expect([active, resets]).toEqual([false, [1]]);
  });

  test('XE-OP-112 XE-TC-07 KF-42 in parts: each call passes a stated number of ports, and the end is the same', () => {
    const whole = makeDomain(createXen());
    const parts = makeDomain(createXen());
    for (const { evtchn } of [whole, parts]) for (let i = 1; i < 4096; i++) evtchn.bindIpi({ vcpu: 0 });
    const { table } = parts.ports;
    const store = table.storeWhat.bind(table);
    let closed = 0;
    table.storeWhat = (port, to) => {
      closed++;
      store(port, to);
    };
    const counts: number[] = [];
    for (let result = parts.evtchn.reset({ atMost: 64 }); ; result = parts.evtchn.resetContinue({ atMost: 64 })) {
      counts.push(closed);
      closed = 0;
      if (result === 0) break;
      expect(result).toBe(-85);
    }
    table.storeWhat = store;
    expect(counts.length).toBe(64);
    expect(Math.max(...counts)).toBeLessThanOrEqual(64);
    expect(whole.evtchn.reset()).toBe(0);
    expect(Buffer.compare(memoryBytes(parts.vm), memoryBytes(whole.vm))).toBe(0);
  });

  test('XE-OP-112 XE-TC-07 a second reset while one is under way, and a continuation without one', () => {
    const { a } = twoDomains();
    expect(a.evtchn.resetContinue()).toBe(-16);
    for (let i = 0; i < 100; i++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.reset({ atMost: 10 })).toBe(-85);
    expect(a.evtchn.reset()).toBe(-16);
    expect(a.evtchn.reset({ atMost: 10 })).toBe(-16);
    expect(a.evtchn.resetContinue()).toBe(0);
    expect(a.evtchn.resetContinue()).toBe(-16);
    expect(inParts(a, 7)).toEqual([...Array.from({ length: 18 }, () => -85), 0]);
  });

  test('XE-TC-06 binds between the parts: -EAGAIN as long as a port is open, a clean table when it says 0', () => {
    const { a } = twoDomains();
    for (const bindAt of [0, 1, 2, 3]) {
      for (let i = 0; i < 200; i++) a.evtchn.bindIpi({ vcpu: 0 });
      let result = a.evtchn.reset({ atMost: 64 });
      for (let part = 0; result === -85; part++) {
        if (part === bindAt) expect(a.evtchn.bindIpi({ vcpu: 0 })).toBeGreaterThan(0);
        result = a.evtchn.resetContinue({ atMost: 64 });
      }
      const open = Array.from({ length: 255 }, (_, i) => a.evtchn.status({ port: i + 1 })).filter(
        (status) => typeof status === 'object' && status.status !== 'closed',
      );
      expect(result).toBe(open.length > 0 ? -11 : 0);
      expect(a.evtchn.reset()).toBe(0);
    }
  });

  test('XE-OP-113 masks, vcpu_info, callback and pollers stay', () => {
    const { a } = twoDomains();
    a.vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.vm.mask(port);
    a.vm.mask(77);
    const info = a.vm.vcpu(0).getAttr('vcpu_info');
    expect(a.evtchn.reset()).toBe(0);
    expect([maskBit(a.vm, port), maskBit(a.vm, 77)]).toEqual([true, true]);
    expect(a.vm.vcpu(0).getAttr('vcpu_info')).toEqual(info);
    expect(a.vm.getAttr('upcall_vector')).toMatchObject({ vector: 0xf3 });
    expect(a.vm.getAttr('shared_info')).toMatchObject({ gfn: 3 });
  });

  test('XE-OP-110 QEMU closes all at once, without states in between', () => {
    const { a } = twoDomains({ dialect: 'qemu' });
    for (let i = 0; i < 200; i++) a.evtchn.bindIpi({ vcpu: 0 });
    expect([a.evtchn.reset({ atMost: 3 }), a.evtchn.reset()]).toEqual([0, 0]);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
  });
});

test('XE-OP-127 QEMU has no FIFO ABI', () => {
  const { a } = twoDomains({ dialect: 'qemu' });
  expect(a.evtchn.initControl({ controlGfn: 5, offset: 0, vcpu: 0 })).toBe(-38);
  expect(a.evtchn.expandArray({ arrayGfn: 5 })).toBe(-38);
  expect(a.evtchn.setPriority({ port: 1, priority: 1 })).toBe(-38);
});

test('XE-QE-01 QEMU knows the guest and the host, and nobody acts on another', () => {
  const xen = createXen();
  const a = makeDomain(xen, { dialect: 'qemu', privileged: true });
  makeDomain(xen);
  expect(a.evtchn.allocUnbound({ dom: 2, remoteDom: 1 })).toBe(-3);
  expect(a.evtchn.allocUnbound({ remoteDom: 2 })).toBe(-1);
  expect(a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: 1 })).toBe(-3);
  expect(a.evtchn.status({ dom: 2, port: 1 })).toBe(-3);
  expect(a.evtchn.reset({ dom: 2 })).toBe(-3);
  expect(a.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 4096 })).toBe(-22);
  expect(a.evtchn.bindInterdomain({ remoteDom: 0, remotePort: 9 })).toBe(-2);
  const { hostPort } = xen.host.bindUnbound(1, () => {});
  expect(a.evtchn.bindInterdomain({ remoteDom: 0, remotePort: hostPort })).toBe(-16);
});
