// Virtual interrupts: classes, who may bind them, where they go. [XE-MOD-20..24, XE-OP-30..33]

import { describe, expect, test } from 'vitest';
import { createXen, type VirqClass, virqClass } from '../../src/xen/index.ts';
import { errorOf } from '../support.ts';
import { channel, makeDomain, takeAll, taken, twoDomains } from './guests.ts';

/** As the specification has them. */
const CLASSES: readonly (readonly [virq: number, kind: VirqClass])[] = Array.from({ length: 24 }, (_, virq) => {
  if ([0, 1, 7, 13].includes(virq)) return [virq, 'vcpu'];
  return [virq, virq === 11 ? 'domain' : 'global'];
});

test.each(CLASSES)('XE-MOD-20 the class of VIRQ %i is %s', (virq, kind) => {
  expect(virqClass(virq)).toBe(kind);
});

describe('bind_virq', () => {
  test('XE-OP-30 the order of checks', () => {
    const { a } = twoDomains({ vcpus: 2, maxPort: 1 });
    const bind = (virq: number, vcpu: number): number => a.evtchn.bindVirq({ virq, vcpu });
    for (const virq of [24, 25, 2 ** 32 - 1, -1]) expect(bind(virq, 9)).toBe(-22);
    // Neither of the domain's nor on vCPU 0: the class is looked at before the vCPU.
    expect(bind(11, 9)).toBe(-22);
    expect(bind(2, 1)).toBe(-22);
    expect(bind(0, 9)).toBe(-2);
    expect(bind(2, 0)).toBe(-16);
    expect(bind(0, 1)).toBe(1);
    expect(bind(0, 1)).toBe(-17);
    expect(bind(2, 0)).toBe(-16);
    expect(bind(0, 0)).toBe(-28);
  });

  test('XE-OP-30 XE-TC-03 QEMU allocates before it looks whether it is bound, and has no handlers', () => {
    const { a } = twoDomains({ dialect: 'qemu', maxPort: 2 });
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 0 })).toBe(1);
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 0 })).toBe(-17);
    expect(a.evtchn.bindVirq({ virq: 2, vcpu: 0 })).toBe(2);
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 0 })).toBe(-28);
  });

  test('XE-OP-31 the vCPU and the number are recorded; nothing is pending', () => {
    const { a } = twoDomains({ vcpus: 2 });
    const port = a.evtchn.bindVirq({ virq: 1, vcpu: 1 });
    expect(a.evtchn.status({ port })).toEqual({ status: 'virq', vcpu: 1, virq: 1 });
    expect([a.virqPort(1, 1), a.virqPort(1, 0)]).toEqual([port, 0]);
    expect(taken(a)).toEqual([]);
  });

  test('XE-OP-32 who has lost its ports finds a bound VIRQ by a scan with status', () => {
    const { a } = twoDomains({ vcpus: 3 });
    a.evtchn.bindIpi({ vcpu: 0 });
    for (const vcpu of [0, 1, 2]) a.evtchn.bindVirq({ virq: 0, vcpu });
    expect(a.evtchn.bindVirq({ virq: 0, vcpu: 2 })).toBe(-17);
    const found: number[] = [];
    for (let port = 1; port < 4096; port++) {
      const status = a.evtchn.status({ port });
      if (typeof status === 'number' || status.status !== 'virq') continue;
      if (status.virq === 0 && status.vcpu === 2) found.push(port);
    }
    expect(found).toEqual([4]);
  });

  test('XE-OP-33 XE-TC-24 a bind that fails, of a full table or of another VIRQ, leaves DOM_EXC of its holder alone', () => {
    const xen = createXen();
    const a = makeDomain(xen);
    const b = makeDomain(xen, { maxPort: 1 });
    xen.setVirqHandler(3, 1);
    const port = a.evtchn.bindVirq({ virq: 3, vcpu: 0 });
    b.evtchn.bindIpi({ vcpu: 0 });
    for (let virq = 0; virq < 24; virq++) expect(b.evtchn.bindVirq({ virq, vcpu: 0 })).toBeLessThan(0);
    expect(xen.raiseGlobalVirq(3)).toBe(1);
    expect(takeAll(a)).toEqual([port]);
  });
});

describe('whose a VIRQ is', () => {
  test('XE-MOD-21 per vCPU: one port of each vCPU, which stays its own', () => {
    const { a } = twoDomains({ vcpus: 3 });
    const ports = [0, 1, 2].map((vcpu) => a.evtchn.bindVirq({ virq: 0, vcpu }));
    expect(ports).toEqual([1, 2, 3]);
    for (const port of ports) expect(a.evtchn.bindVcpu({ port, vcpu: 0 })).toBe(-22);
    for (const vcpu of [0, 1, 2]) expect(a.raiseVirq(0, vcpu)).toBe(1);
    expect(taken(a)).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
  });

  test('XE-MOD-21 XE-MOD-23 per domain: one port, found though it was moved; it fires where it is, whatever vCPU is named', () => {
    const { a, b } = twoDomains({ vcpus: 2 });
    const port = a.evtchn.bindVirq({ virq: 11, vcpu: 0 });
    expect(b.evtchn.bindVirq({ virq: 11, vcpu: 0 })).toBe(1);
    a.evtchn.bindVcpu({ port, vcpu: 1 });
    expect(a.evtchn.bindVirq({ virq: 11, vcpu: 0 })).toBe(-17);
    for (const vcpu of [0, 1]) {
      expect(a.raiseVirq(11, vcpu)).toBe(1);
      expect(taken(a)).toEqual([[1, port]]);
    }
    expect(a.evtchn.close(port)).toBe(0);
    expect(a.virqPort(11)).toBe(0);
    expect(a.evtchn.bindVirq({ virq: 11, vcpu: 0 })).toBe(port);
    expect(taken(b)).toEqual([]);
  });

  test('XE-MOD-22 KF-26 global: the handler alone may bind it, and what it has bound fires', () => {
    const { xen, a, b } = twoDomains();
    for (let virq = 0; virq < 24; virq++) {
      if (virqClass(virq) !== 'global') continue;
      // The host is the handler until somebody else is.
      for (const domain of [a, b]) expect(domain.evtchn.bindVirq({ virq, vcpu: 0 })).toBe(-16);
      xen.setVirqHandler(virq, 2);
      expect(xen.virqHandler(virq)).toBe(2);
      expect(a.evtchn.bindVirq({ virq, vcpu: 0 })).toBe(-16);
      const port = b.evtchn.bindVirq({ virq, vcpu: 0 });
      expect(port).toBeGreaterThan(0);
      expect([xen.raiseGlobalVirq(virq), taken(b), taken(a)]).toEqual([1, [[0, port]], []]);
    }
  });

  test('KF-26 each kind of VIRQ as each kind of domain: a bind that succeeds can fire', () => {
    for (const privileged of [false, true]) {
      const { a } = twoDomains({ privileged, vcpus: 2 });
      for (let virq = 0; virq < 24; virq++) {
        for (const vcpu of [0, 1]) {
          const port = a.evtchn.bindVirq({ virq, vcpu });
          if (port < 0) continue;
          expect(a.raiseVirq(virq, vcpu)).toBe(1);
          expect(taken(a)).toEqual([[vcpu, port]]);
        }
      }
    }
  });

  test('XE-MOD-22 KF-26 a handler: of a global VIRQ only, a domain that there is; one that holds a port keeps it', () => {
    const { xen, a, b } = twoDomains();
    expect(errorOf(() => xen.setVirqHandler(0, 1)).code).toBe('EINVAL');
    expect(errorOf(() => xen.setVirqHandler(11, 1)).code).toBe('EINVAL');
    expect(errorOf(() => xen.setVirqHandler(24, 1)).code).toBe('EINVAL');
    expect(errorOf(() => xen.setVirqHandler(2, 9)).code).toBe('ESRCH');
    xen.setVirqHandler(2, 1);
    const port = a.evtchn.bindVirq({ virq: 2, vcpu: 0 });
    expect(errorOf(() => xen.setVirqHandler(2, 2)).code).toBe('EBUSY');
    expect([xen.raiseGlobalVirq(2), taken(a)]).toEqual([1, [[0, port]]]);
    a.evtchn.close(port);
    xen.setVirqHandler(2, 2);
    expect(b.evtchn.bindVirq({ virq: 2, vcpu: 0 })).toBe(1);
    b.destroy();
    expect(xen.virqHandler(2)).toBe(0);
    expect(xen.raiseGlobalVirq(2)).toBe(0);
  });
});

describe('raise', () => {
  test('XE-MOD-23 nobody has bound it: dropped; a bad number or vCPU is refused', () => {
    const { a } = twoDomains();
    expect([a.raiseVirq(0), a.raiseVirq(11), a.raiseVirq(5)]).toEqual([0, 0, 0]);
    expect([a.raiseVirq(24), a.raiseVirq(-1), a.raiseVirq(0, 1), a.raiseVirq(0, -1)]).toEqual([-22, -22, -22, -22]);
    expect(errorOf(() => a.virqPort(24)).code).toBe('EINVAL');
    expect(errorOf(() => a.virqPort(0, 1)).code).toBe('EINVAL');
  });

  test('XE-MOD-23 1 raised, 0 pending already, -107 masked', () => {
    const { a } = twoDomains();
    const port = a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
    expect([a.raiseVirq(0), a.raiseVirq(0), takeAll(a)]).toEqual([1, 0, [port]]);
    a.vm.mask(port);
    expect([a.raiseVirq(0), a.raiseVirq(0)]).toEqual([-107, 0]);
    a.evtchn.unmask(port);
    expect(takeAll(a)).toEqual([port]);
  });

  test('XE-MOD-24 a bind publishes a VIRQ last, a close takes it away first: a raise inside every step meets nothing or all of it', () => {
    const { a } = twoDomains({ vcpus: 2 });
    channel(a, a);
    takeAll(a);
    const { words } = a.vm.region;
    const store = words.store.bind(words);
    let port = 0;
    const outcomes = new Set<string>();
    words.store = (at, value) => {
      store(at, value);
      const raised = a.raiseVirq(0, 1);
      const got = taken(a);
      expect(got.length).toBe(raised);
      for (const [vcpu, found] of got) expect([vcpu, port || found]).toEqual([1, found]);
      outcomes.add(`${raised}`);
    };
    port = a.evtchn.bindVirq({ virq: 0, vcpu: 1 });
    expect(port).toBe(3);
    a.evtchn.close(port);
    words.store = store;
    expect([...outcomes].sort()).toEqual(['0', '1']);
    expect(a.raiseVirq(0, 1)).toBe(0);
    expect(a.vm.portStatus(port).pending).toBe(false);
  });
});
