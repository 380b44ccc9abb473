// Scenarios about routes, irqfds, send ports and explicit sends: one test per step, each from a fresh VM. [kvm-xen 12.1, 12.3]

import { describe, expect, test } from 'vitest';
import { type Eventfd, gfn, gpa, hva, type Vm } from '../../src/index.ts';
import { changed, guestSets, guestTakes, refuses, SEND_RESULTS } from '../spec/evidence.ts';
import { assign, deassign, ledger, loopback, reset, toEventfd, update } from '../spec/ports.ts';
import { drained, KINDS, makeVm, maskBit, pendingBit, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';

/** KVM's id of the one vCPU, and one that nobody has. */
const VCPU = 3;
const NO_VCPU = 4;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, bits }) => {
  /** shared_info and vcpu_info registered, a vector for upcalls, hypercalls intercepted. */
  function fresh(): Vm {
    const vm = makeVm({ longMode, shared, vcpuIds: [VCPU] });
    vm.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true });
    vm.setAttr({ type: 'upcall_vector', vector: 0x10 });
    return vm;
  }

  /** Step S-04: gsi 32 raises port 15, gsi 33 port 66; an eventfd each. */
  function routed(): { vm: Vm; fds: [Eventfd, Eventfd] } {
    const vm = fresh();
    vm.routes.set([
      { gsi: 32, type: 'xen_evtchn', port: 15, vcpu: VCPU },
      { gsi: 33, type: 'xen_evtchn', port: 66, vcpu: VCPU },
    ]);
    const fds: [Eventfd, Eventfd] = [vm.eventfds.create(), vm.eventfds.create()];
    vm.eventfds.bindIrq(fds[0].fd, 32);
    vm.eventfds.bindIrq(fds[1].fd, 33);
    return { vm, fds };
  }

  const interrupted = (vm: Vm): boolean => vm.vcpu(0).upcallPending;

  function addSlot(vm: Vm, id: number): void {
    const page = vm.guestBase + 8 * 4096;
    vm.memslots.set({ id, gpa: gpa(0x10000000 * id), bytes: 4096, hva: hva(page) });
  }

  test('S-04 two routes, and an irqfd on each', () => {
    const { vm, fds } = routed();
    expect(vm.routes.list()).toHaveLength(2);
    expect(vm.eventfds.list().map(({ fd, gsi }) => [fd, gsi])).toEqual([
      [fds[0].fd, 32],
      [fds[1].fd, 33],
    ]);
    expect(interrupted(vm)).toBe(false);
  });

  test('S-05 a send port for a vCPU that is not there, then updated to the one that is', () => {
    const vm = fresh();
    assign(vm, loopback(127, 15, NO_VCPU));
    expect(vm.sendPorts.ring(127)).toBeNull();
    update(vm, loopback(127, 15, VCPU));
    expect(vm.sendPorts.ring(127)).toBe(0);
    expect(drained(vm)).toEqual([15]);
  });

  test('S-06 S-26 a send port that signals the eventfd of an interrupt: the guest rings it and is interrupted', () => {
    const { vm, fds } = routed();
    assign(vm, toEventfd(197, fds[1].fd));
    expect(vm.sendPorts.ring(197)).toBe(0);
    expect(fds[1].read()).toBe(-11n);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([66]);
  });

  test('S-25 the same after a memory slot was added: each by the slow way', () => {
    const { vm, fds } = routed();
    assign(vm, toEventfd(197, fds[1].fd));
    assign(vm, loopback(127, 15, VCPU));
    addSlot(vm, 1);
    expect(vm.sendPorts.ring(197)).toBe(0);
    expect(drained(vm)).toEqual([66]);
    addSlot(vm, 2);
    expect(vm.sendPorts.ring(127)).toBe(0);
    expect(drained(vm)).toEqual([15]);
  });

  test('S-20 a masked port: the pending bit appears, no interrupt', () => {
    const { vm, fds } = routed();
    guestSets(vm, 'mask', 15);
    fds[0].write(1);
    expect([pendingBit(vm, 15), maskBit(vm, 15), interrupted(vm)]).toEqual([true, true, false]);
  });

  test('S-21 pending and mask cleared, the other interrupt: interrupted', () => {
    const { vm, fds } = routed();
    guestSets(vm, 'mask', 15);
    fds[0].write(1);
    guestSets(vm, 'pending', 15, false);
    guestSets(vm, 'mask', 15, false);
    fds[1].write(1);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([66]);
  });

  test('S-22 a memory slot that has nothing to do with it is added: the interrupt comes by the slow way', () => {
    const { vm, fds } = routed();
    addSlot(vm, 1);
    fds[0].write(1);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([15]);
  });

  test('S-23 an explicit send: interrupted', () => {
    const vm = fresh();
    expect(vm.evtchnSend({ port: 66, vcpu: VCPU })).toBe(0);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([66]);
  });

  test('S-42 reset: 0, and nothing is left', () => {
    const { vm, fds } = routed();
    assign(vm, loopback(127, 15, VCPU));
    assign(vm, toEventfd(197, fds[1].fd));
    reset(vm);
    expect(vm.getAttr('evtchn')).toEqual({ type: 'evtchn', action: 'set', ports: [] });
    expect([vm.sendPorts.ring(127), vm.sendPorts.ring(197)]).toEqual([null, null]);
    expect(ledger(vm)).toBe(4);
  });

  test('X-01 a second explicit send of a pending port: 0, no second interrupt, the mask is not looked at', () => {
    const vm = fresh();
    expect(vm.evtchnSend({ port: 66, vcpu: VCPU })).toBe(0);
    guestTakes(vm);
    for (const masked of [false, true, false]) {
      guestSets(vm, 'mask', 66, masked);
      expect(changed(vm, () => expect(vm.evtchnSend({ port: 66, vcpu: VCPU })).toBe(0))).toEqual([]);
    }
    expect(interrupted(vm)).toBe(false);
  });

  test('X-02 two ports of a selector word: while its bit is set the second asks for nothing, also if the byte is clear', () => {
    const { vm, fds } = routed();
    vm.evtchnSend({ port: bits, vcpu: VCPU });
    new Uint8Array(vm.memory.buffer)[vm.guestBase + 4 * 4096] = 0;
    vm.evtchnSend({ port: bits + 1, vcpu: VCPU });
    expect(interrupted(vm)).toBe(false);
    expect(pendingBit(vm, bits + 1)).toBe(true);
    // Port 15 is in another word.
    fds[0].write(1);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([15, bits, bits + 1]);
  });

  test('X-17 a table of routes with one bad entry: the old routes still work', () => {
    const { vm, fds } = routed();
    const bad = [
      { gsi: 32, type: 'xen_evtchn', port: 20, vcpu: VCPU },
      { gsi: 33, type: 'xen_evtchn', port: 21, vcpu: VCPU, priority: 7 },
    ] as const;
    refuses(vm, () => vm.routes.set(bad), 'EINVAL', 'priority');
    fds[0].write(1);
    fds[1].write(1);
    expect(drained(vm)).toEqual([15, 66]);
  });

  test('X-19 deassign between two rings: the second is the embedder’s, the eventfd is not touched any more', () => {
    const { vm, fds } = routed();
    assign(vm, toEventfd(197, fds[1].fd));
    expect(vm.sendPorts.ring(197)).toBe(0);
    expect(drained(vm)).toEqual([66]);
    deassign(vm, 197);
    expect(vm.sendPorts.ring(197)).toBeNull();
    expect([fds[1].read(), drained(vm)]).toEqual([-11n, []]);
  });

  test('S-40 shared_info comes and goes between sends: each has one of its results, and the last event arrives', () => {
    const { vm, fds } = routed();
    assign(vm, loopback(127, 2, VCPU));
    const at = hva(vm.guestBase + SHARED_INFO_GPA);
    const turns = [
      () => vm.setAttr({ type: 'shared_info', gfn: null }),
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) }),
      () => vm.setAttr({ type: 'shared_info_hva', hva: null }),
      () => vm.setAttr({ type: 'shared_info_hva', hva: at }),
    ];
    const sent = new Map<number, number>();
    for (let i = 0; i < 400; i++) {
      turns[i % 4]?.();
      const result = vm.evtchnSend({ port: 1, vcpu: VCPU });
      sent.set(result, (sent.get(result) ?? 0) + 1);
      expect([0, null]).toContain(vm.sendPorts.ring(127));
      expect(fds[0].write(1)).toBe(0);
      if (i % 4 === 1) drained(vm);
    }
    expect([...sent.keys()].every((result) => SEND_RESULTS.includes(result))).toBe(true);
    expect([sent.get(0), sent.get(-22)]).toEqual([200, 200]);
    drained(vm);
    expect(vm.evtchnSend({ port: 1, vcpu: VCPU })).toBe(0);
    expect(interrupted(vm)).toBe(true);
    expect(drained(vm)).toEqual([1]);
  });
});
