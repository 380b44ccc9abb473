// Further scenarios about events, routes and send ports. [kvm-xen 12.3]

import { describe, expect, test } from 'vitest';
import { gpa } from '../../src/index.ts';
import { references } from '../spec/ports.ts';
import { EVENTFD, LOOPBACK, route, signal } from './events.ts';
import { VCPU_INFO } from './guest.ts';
import { machine, VCPU, VECTOR } from './machine.ts';
import { WAYS } from './surface.ts';

const OWN_VECTOR = 0x51;

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  test('X-01 a second EVTCHN_SEND of a pending port: 0, no second interrupt, the mask is not consulted', () => {
    const { vm, surface, guest } = machine(way);
    const event = { port: 66, vcpu: VCPU };
    expect(surface.send(event)).toBe(0);
    expect(guest.run()).toBe(1);
    for (const masked of [false, true, false]) {
      guest.setMask(66, masked);
      expect(surface.send(event)).toBe(0);
      expect([vm.vcpu(0).runnable, vm.vcpu(0).leaveRequested]).toEqual([false, false]);
      expect(guest.upcall).toEqual({ byte: 0n, selector: 0n });
    }
    expect(guest.run()).toBe(0);
    expect(guest.pending(66)).toBe(true);
  });

  test('X-02 two ports of a selector word: while its bit is set the second asks for nothing, also if the byte is clear', () => {
    const { surface, guest } = machine(way);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect(guest.upcall).toEqual({ byte: 1n, selector: 2n });
    expect(surface.send({ port: 67, vcpu: VCPU })).toBe(0);
    guest.write(VCPU_INFO, 1, 0n);
    expect(surface.send({ port: 68, vcpu: VCPU })).toBe(0);
    expect(guest.upcall).toEqual({ byte: 0n, selector: 2n });
    expect(guest.run()).toBe(0);
    expect([66, 67, 68].map((port) => guest.pending(port))).toEqual([true, true, true]);
    // Another word.
    expect(surface.send({ port: 3, vcpu: VCPU })).toBe(0);
    expect(guest.run()).toBe(1);
  });

  test('X-03 an event without vcpu_info, which is then set: selector and byte appear when the guest runs', () => {
    const { vm, surface, guest } = machine(way);
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: null })).toBe(0);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect(guest.pending(66)).toBe(true);
    expect(guest.upcall).toEqual({ byte: 0n, selector: 0n });
    expect(vm.vcpu(0).hasEvents).toBe(true);
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: gpa(VCPU_INFO) })).toBe(0);
    expect(guest.upcall).toEqual({ byte: 0n, selector: 0n });
    vm.vcpu(0).beforeEntry();
    expect(guest.upcall).toEqual({ byte: 1n, selector: 2n });
    expect(guest.run()).toBe(1);
  });

  test('X-04 port 1024 in 32-bit mode: its route is taken, its delivery is EINVAL; after LONG_MODE 1 both work', () => {
    const { vm, surface, guest } = machine(way, { longMode: false });
    const fd = vm.eventfds.create();
    expect(surface.routes([{ gsi: 40, type: 'xen_evtchn', port: 1024, vcpu: VCPU }])).toBe(0);
    expect(surface.irqfd(fd.fd, 40)).toBe(0);
    signal(fd);
    expect([surface.send({ port: 1024, vcpu: VCPU }), vm.routes.raise(40, 1)]).toEqual([-22, -1]);
    expect(guest.run()).toBe(0);
    expect(surface.set({ type: 'long_mode', enabled: true })).toBe(0);
    signal(fd);
    expect(guest.pending(1024)).toBe(true);
    expect(guest.run()).toBe(1);
    guest.setPending(1024, false);
    expect(surface.send({ port: 1024, vcpu: VCPU })).toBe(0);
    expect(guest.run()).toBe(1);
  });

  test('X-17 a table of routes with one bad entry: EINVAL, the old routes still work', () => {
    const made = machine(way);
    const [first, second] = route(made);
    const bad = [
      { gsi: 32, type: 'xen_evtchn', port: 20, vcpu: VCPU },
      { gsi: 33, type: 'xen_evtchn', port: 150, vcpu: VCPU, priority: 7 },
    ] as const;
    expect(made.surface.routes(bad)).toBe(-22);
    expect(made.surface.routes([...bad].reverse())).toBe(-22);
    signal(first);
    expect(made.guest.run()).toBe(1);
    signal(second);
    expect(made.guest.run()).toBe(1);
    expect([15, 66, 20, 150].map((port) => made.guest.pending(port))).toEqual([true, true, false, false]);
  });

  test('X-18 what the attribute for send ports refuses', () => {
    const made = machine(way);
    const { vm, surface } = made;
    const [, second] = route(made);
    const toEventfd = { ...EVENTFD, vcpu: second.fd };
    expect([surface.evtchn(LOOPBACK), surface.evtchn(toEventfd)]).toEqual([0, 0]);
    const list = vm.sendPorts.list();
    const closed = vm.eventfds.create();
    closed.close();
    const held = references(vm);
    // Present; an eventfd is not updated; not there; flags that are none; a VIRQ; a descriptor that is not open.
    expect(surface.evtchn({ ...LOOPBACK, port: 16 })).toBe(-17);
    expect(surface.evtchn(toEventfd)).toBe(-17);
    expect(surface.evtchn({ ...toEventfd, flags: 2 })).toBe(-22);
    expect(surface.evtchn({ ...LOOPBACK, sendPort: 128, flags: 2 })).toBe(-2);
    expect(surface.evtchn({ ...LOOPBACK, sendPort: 128, flags: 3 })).toBe(-22);
    expect(surface.evtchn({ ...LOOPBACK, sendPort: 128, type: 4 })).toBe(-22);
    expect(surface.evtchn({ ...EVENTFD, sendPort: 128, vcpu: closed.fd })).toBe(-9);
    expect(vm.sendPorts.list()).toEqual(list);
    expect(references(vm)).toEqual(held);
    const gone = { sendPort: 127, flags: 1 };
    expect([surface.evtchn(gone), surface.evtchn(gone)]).toEqual([0, -2]);
    expect(vm.sendPorts.list()).toEqual(list.slice(1));
  });

  test('X-19 DEASSIGN between sends: who has its eventfd’s record next is not signalled', () => {
    const { vm, surface, guest } = machine(way);
    for (let round = 0; round < 20; round++) {
      const old = vm.eventfds.create();
      expect(surface.evtchn({ ...EVENTFD, vcpu: old.fd })).toBe(0);
      old.close();
      // It lives on for the send port.
      expect(guest.ring(197)).toEqual({ result: 0n, interrupts: 0 });
      expect(references(vm)[0]).toBe(1);
      expect(surface.evtchn({ sendPort: 197, flags: 1 })).toBe(0);
      const next = vm.eventfds.create();
      expect(next.fd).toBe(old.fd);
      expect(guest.ring(197)).toMatchObject({ result: null, interrupts: 0 });
      expect(next.read()).toBe(-11n);
      next.close();
      expect(references(vm)[0]).toBe(0);
    }
  });

  test('X-20 the vCPU’s own vector while its LAPIC is disabled is lost, and sent when it is enabled', () => {
    const { vm, surface, guest } = machine(way);
    const vcpu = vm.vcpu(0);
    expect(surface.set({ type: 'upcall_vector', vector: 0 })).toBe(0);
    expect(surface.setVcpu({ type: 'upcall_vector', vector: OWN_VECTOR })).toBe(0);
    vcpu.setLapicEnabled(false);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect(guest.run()).toBe(0);
    expect(guest.upcall).toEqual({ byte: 1n, selector: 2n });
    vcpu.setLapicEnabled(true);
    expect(guest.run()).toBe(1);
    expect(guest.injected).toEqual([OWN_VECTOR]);
    // An edge: once, and again for another event.
    expect(guest.run()).toBe(0);
    expect(surface.send({ port: 3, vcpu: VCPU })).toBe(0);
    expect(guest.run()).toBe(1);
    expect(guest.injected).not.toContain(VECTOR);
  });
});
