// The 2-level ABI as a domain's events go through it, and as its guest consumes them. [XE-2L, XE-GC]

import { describe, expect, test } from 'vitest';
import { createXen, type Domain } from '../../src/xen/index.ts';
import {
  changed,
  footprint,
  guestSets,
  guestTakes,
  layoutOf,
  selector,
  selectorBit,
  traceOf,
} from '../spec/evidence.ts';
import {
  drained,
  fields,
  LAYOUTS,
  maskBit,
  pendingBit,
  ram,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
  vcpuInfoGpa,
} from '../support.ts';
import { channel, makeDomain, takeAll, taken, twoDomains } from './guests.ts';

/** A domain that tells which of the guest's words a send touches, in order. */
function traced(longMode: boolean, shared: boolean): { a: Domain; log: string[] } {
  const log: string[] = [];
  let a: Domain | undefined;
  const kinds = ['load', 'store', 'rmw'];
  const name = (address: number): string | undefined => {
    if (!a) return undefined;
    const { pending, mask, selector: offset } = layoutOf(a.vm);
    const at = address - a.vm.guestBase;
    if (at === SHARED_INFO_GPA + pending) return 'pending';
    if (at === SHARED_INFO_GPA + mask) return 'mask';
    if (at === VCPU_INFO_GPA + offset) return 'selector';
    return at === VCPU_INFO_GPA ? 'upcall' : undefined;
  };
  const trace = traceOf(shared, {
    onStep: (kind, address) => {
      const what = name(address);
      if (what) log.push(`${kinds[kind]} ${what}`);
    },
  });
  a = makeDomain(createXen(), { longMode, shared, trace });
  return { a, log };
}

describe.each(LAYOUTS)('what an event writes, $layout layout', ({ longMode, maxPorts }) => {
  test.each([true, false])(
    'XE-2L-01 XE-2L-02 XE-2L-04 pending, mask, selector, upcall; pending already ends it; shared memory %s',
    (shared) => {
      const { a, log } = traced(longMode, shared);
      const port = a.evtchn.bindIpi({ vcpu: 0 });
      a.evtchn.bindVirq({ virq: 0, vcpu: 0 });
      log.length = 0;
      a.send(port);
      expect(log.filter((step) => step !== 'load selector' && step !== 'load upcall')).toEqual([
        'rmw pending',
        'load mask',
        'rmw selector',
        'store upcall',
      ]);
      log.length = 0;
      a.send(port);
      expect(log).toEqual(['rmw pending']);
      a.vm.mask(2);
      log.length = 0;
      expect(a.raiseVirq(0)).toBe(-107);
      expect(log).toEqual(['rmw pending', 'load mask']);
    },
  );

  test('XE-2L-01..02, 10 XE-MOD-33, 34 three bits at their places, and no other byte of the guest’s', () => {
    const { a } = twoDomains({ longMode, vcpus: 2 });
    const ports = [1, 31, 32, 63, 64, 66, maxPorts - 1];
    for (let port = 1; port < maxPorts; port++) a.evtchn.bindIpi({ vcpu: 1 });
    for (const port of ports) {
      expect(changed(a.vm, () => a.send(port))).toEqual(footprint(a.vm, port, vcpuInfoGpa(1)));
      taken(a);
      guestTakes(a.vm, vcpuInfoGpa(1));
    }
    // As words of 32 bits, whatever the width: port 66 is bit 2 of the word at 0x808, its selector bit is that of its word.
    a.vm.mask(66);
    a.send(66);
    const words = fields(a.vm);
    expect(words.getUint32(SHARED_INFO_GPA + 0x808, true)).toBe(4);
    expect(words.getUint32(SHARED_INFO_GPA + (longMode ? 0xa08 : 0x888), true)).toBe(4);
    a.evtchn.unmask(66);
    expect(selector(a.vm, vcpuInfoGpa(1))).toBe(longMode ? 2n : 4n);
  });

  test('XE-2L-05 XE-MOD-15 XE-QE-12 a close clears the pending bit and nothing else', () => {
    for (const dialect of ['xen', 'qemu'] as const) {
      const a = makeDomain(createXen(), { longMode, dialect });
      const port = a.evtchn.bindIpi({ vcpu: 0 });
      a.send(port);
      guestSets(a.vm, 'mask', port);
      expect(changed(a.vm, () => a.evtchn.close(port))).toEqual([[SHARED_INFO_GPA + 0x800, 1 << port, 0]]);
    }
  });

  test('XE-2L-10 the upcall byte is set by a new selector bit, and only its edge tells the embedder', () => {
    const { a } = twoDomains({ longMode });
    const [one, two] = [a.evtchn.bindIpi({ vcpu: 0 }), a.evtchn.bindIpi({ vcpu: 0 })];
    let upcalls = 0;
    a.vm.vcpu(0).onUpcall(() => upcalls++);
    a.send(one);
    a.send(two);
    expect([upcalls, ram(a.vm)[VCPU_INFO_GPA]]).toEqual([1, 1]);
    takeAll(a);
    a.send(two);
    expect(upcalls).toBe(2);
  });

  test('XE-2L-11 the upcall mask does not hold an upcall of an HVM guest', () => {
    const { a } = twoDomains({ longMode });
    ram(a.vm)[VCPU_INFO_GPA + 1] = 1;
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    let upcalls = 0;
    a.vm.vcpu(0).onUpcall(() => upcalls++);
    a.send(port);
    expect([upcalls, a.vm.vcpu(0).upcallPending, ram(a.vm)[VCPU_INFO_GPA + 1]]).toEqual([1, true, 1]);
  });

  test('XE-2L-22 no operation sets a mask bit, and a new port is not masked', () => {
    const { a, b } = twoDomains({ longMode });
    channel(a, b);
    for (let i = 0; i < 70; i++) a.evtchn.bindIpi({ vcpu: 0 });
    for (let port = 1; port < 72; port++) a.send(port);
    a.evtchn.reset();
    for (let port = 0; port < maxPorts; port++) expect(maskBit(a.vm, port)).toBe(false);
  });

  test('XE-2L-23 a closed port can be allocated at once, its selector bit or not', () => {
    const { a } = twoDomains({ longMode });
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.send(port);
    a.evtchn.close(port);
    expect(a.evtchn.bindIpi({ vcpu: 0 })).toBe(port);
    expect(a.evtchn.setPriority({ port, priority: 3 })).toBeLessThan(0);
  });
});

describe('the guest’s side', () => {
  test('XE-GC-02 XE-TC-20 the flag is cleared before the selector is taken: an event in between is seen in the next round', () => {
    const { a, log } = traced(true, true);
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.send(port);
    log.length = 0;
    takeAll(a);
    expect(log.slice(0, 2)).toEqual(['store upcall', 'rmw selector']);
  });

  test('XE-TC-20 an event between the flag and the selector, or at any other step of the scan, is handled', () => {
    const runs = (at: number): { steps: number; handled: number[] } => {
      let [steps, armed] = [0, false];
      const xen = createXen();
      const trace = traceOf(true, {
        onStep: () => {
          if (!armed || steps++ !== at) return;
          armed = false;
          view.send(3);
          armed = true;
        },
      });
      const a = makeDomain(xen, { shared: true, trace });
      const view = createXen().attachDomain(a.vm.handle(), { trace: traceOf(true, {}) });
      const handled: number[] = [];
      for (let i = 0; i < 3; i++) a.evtchn.bindIpi({ vcpu: 0 });
      a.send(1);
      a.send(2);
      armed = true;
      for (let round = 0; round < 3 && (round === 0 || a.vm.vcpu(0).upcallPending); round++) {
        a.vm.vcpu(0).drain((port) => handled.push(port));
        armed = false;
      }
      return { steps, handled };
    };
    const { steps, handled } = runs(-1);
    expect([steps > 4, handled]).toEqual([true, [1, 2]]);
    for (let at = 0; at < steps; at++) expect(runs(at).handled.sort(), `step ${at}`).toEqual([1, 2, 3]);
  });

  test('XE-GC-01 the loop ends when the flag stays clear, however many events come in a handler', () => {
    const { a } = twoDomains();
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    let handled = 0;
    a.send(port);
    while (a.vm.vcpu(0).upcallPending) {
      a.vm.vcpu(0).drain(() => {
        if (++handled < 5) a.send(port);
      });
    }
    expect(handled).toBe(5);
  });

  test('XE-GC-11 taken is what is pending, of this vCPU, and not masked', () => {
    const { a } = twoDomains({ vcpus: 2 });
    const [mine, theirs, masked] = [0, 1, 0].map((vcpu) => a.evtchn.bindIpi({ vcpu })) as [number, number, number];
    a.vm.mask(masked);
    for (const port of [mine, theirs, masked]) a.send(port);
    expect(drained(a.vm, 0)).toEqual([mine]);
    expect([mine, theirs, masked].map((port) => pendingBit(a.vm, port))).toEqual([false, true, true]);
    expect(drained(a.vm, 1)).toEqual([theirs]);
  });

  test('XE-GC-13 a word is looked at once: what becomes pending in a handler waits for its selector bit', () => {
    const { a } = twoDomains();
    const ports = [1, 2, 3].map(() => a.evtchn.bindIpi({ vcpu: 0 }));
    a.send(1);
    const rounds: number[][] = [[], []];
    for (const round of rounds) {
      a.vm.vcpu(0).drain((port) => {
        if (round.push(port) === 1 && port === 1) for (const other of ports) a.send(other);
      });
    }
    expect(rounds).toEqual([[1], [1, 2, 3]]);
  });

  test('XE-GC-14 a selector bit without an event is harmless', () => {
    const { a } = twoDomains();
    for (const bits of [1n, 2n ** 63n, 2n ** 64n - 1n]) {
      fields(a.vm).setBigUint64(VCPU_INFO_GPA + layoutOf(a.vm).selector, bits, true);
      expect(drained(a.vm)).toEqual([]);
    }
  });

  test('XE-GC-21 XE-OP-93 the guest unmasks: a port of another vCPU, or one that is pending, by hypercall', () => {
    const { a } = twoDomains({ vcpus: 2 });
    const port = a.evtchn.bindIpi({ vcpu: 1 });
    guestSets(a.vm, 'mask', port);
    a.send(port);
    // By hand first, then because it is pending masked again and asked for.
    guestSets(a.vm, 'mask', port, false);
    expect(a.vm.vcpu(1).upcallPending).toBe(false);
    guestSets(a.vm, 'mask', port);
    expect(a.evtchn.unmask(port)).toBe(0);
    expect(taken(a)).toEqual([[1, port]]);
  });

  test('XE-GC-22 pending is cleared before the handler: an event in it comes again', () => {
    const { a } = twoDomains();
    const port = a.evtchn.bindIpi({ vcpu: 0 });
    a.send(port);
    const seen: boolean[] = [];
    a.vm.vcpu(0).drain(() => {
      seen.push(pendingBit(a.vm, port));
      a.send(port);
    });
    expect([seen, takeAll(a)]).toEqual([[false], [port]]);
  });

  test('XE-GC-25 a pending bit that the guest has set itself is raised by an unmask', () => {
    const { a } = twoDomains({ vcpus: 2 });
    const port = a.evtchn.bindIpi({ vcpu: 1 });
    guestSets(a.vm, 'mask', port);
    guestSets(a.vm, 'pending', port);
    expect(a.evtchn.unmask(port)).toBe(0);
    expect(selector(a.vm, vcpuInfoGpa(1))).toBe(selectorBit(a.vm, port));
    expect(taken(a)).toEqual([[1, port]]);
  });
});

describe('who changes ports', () => {
  test('XE-MOD-40 one thread owns both ends of a channel: a domain of another thread’s cannot be bound to', () => {
    const mine = createXen();
    const theirs = createXen();
    const a = makeDomain(mine, { shared: true });
    const b = makeDomain(theirs, { shared: true, domid: 2 });
    const port = b.evtchn.allocUnbound({ remoteDom: 1 });
    const view = mine.attachDomain(b.vm.handle());
    expect(() => a.evtchn.bindInterdomain({ remoteDom: 2, remotePort: port })).toThrow('EPERM');
    expect([a.evtchn.bindIpi({ vcpu: 0 }), view.evtchn.status({ port })]).toEqual([
      1,
      { status: 'unbound', vcpu: 0, dom: 1 },
    ]);
  });

  test('XE-OP-114 expand_array works until a reset has ended, and not afterwards', () => {
    const xen = createXen();
    const a = makeDomain(xen, { fifoPorts: 4096 });
    expect(a.evtchn.initControl({ controlGfn: 8, offset: 0, vcpu: 0 })).toBe(0);
    for (let i = 0; i < 100; i++) a.evtchn.bindIpi({ vcpu: 0 });
    expect(a.evtchn.reset({ atMost: 64 })).toBe(-85);
    expect(a.evtchn.expandArray({ arrayGfn: 9 })).toBe(0);
    expect(a.evtchn.resetContinue()).toBe(0);
    expect([a.fifo.active, a.evtchn.expandArray({ arrayGfn: 10 })]).toEqual([false, -95]);
  });
});
