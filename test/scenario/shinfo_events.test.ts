// Events: the upcall byte, irqfds, explicit sends, what the guest rings. [kvm-xen 12.1: S-10, S-20 to S-26, S-40]

import { describe, expect, test } from 'vitest';
import { gfn } from '../../src/index.ts';
import { SEND_RESULTS } from '../spec/evidence.ts';
import { mappedAt } from '../spec/pages.ts';
import { LAYOUTS } from '../support.ts';
import { EVENTFD, LOOPBACK, route, signal } from './events.ts';
import { VCPU_INFO } from './guest.ts';
import { addOtherSlot, hostPage, type Machine, machine, NO_VCPU, SHARED_INFO_GFN, VCPU, VECTOR } from './machine.ts';
import { WAYS } from './surface.ts';

const ALL = LAYOUTS.flatMap(({ layout, longMode }) => WAYS.map((way) => ({ ...way, layout, longMode })));

describe.each(ALL)('$layout layout, by $surface, shared memory: $shared', ({ longMode, ...way }) => {
  const fresh = () => machine(way, { longMode });

  /** A slot beside shared_info, which has to be mapped anew after it. */
  function addSlot(made: Machine): void {
    expect(made.surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN })).toBe(0);
    addOtherSlot(made);
    expect(mappedAt(made.vm, made.vm.region.sharedInfo)).toBeNull();
  }

  test('S-10 the host sets the upcall byte: the guest is interrupted when it runs', () => {
    const { guest } = fresh();
    guest.write(VCPU_INFO, 1, 1n);
    expect(guest.run()).toBe(1);
    expect(guest.injected).toEqual([VECTOR]);
    expect(guest.run()).toBe(0);
  });

  test('S-20 port 15 is masked: the pending bit appears, no interrupt', () => {
    const made = fresh();
    const [first] = route(made);
    made.guest.setMask(15, true);
    signal(first);
    expect(made.guest.pending(15)).toBe(true);
    expect(made.guest.run()).toBe(0);
  });

  test('S-21 pending and mask cleared, the other gsi signalled: interrupted', () => {
    const made = fresh();
    const [first, second] = route(made);
    made.guest.setMask(15, true);
    signal(first);
    expect(made.guest.run()).toBe(0);
    made.guest.setPending(15, false);
    made.guest.setMask(15, false);
    signal(second);
    expect(made.guest.run()).toBe(1);
    expect([made.guest.pending(15), made.guest.pending(66)]).toEqual([false, true]);
  });

  test('S-22 a memory slot that has nothing to do with it is added: the interrupt comes by the slow way', () => {
    const made = fresh();
    const [first] = route(made);
    addSlot(made);
    signal(first);
    expect(made.guest.pending(15)).toBe(true);
    expect(made.guest.run()).toBe(1);
    expect(first.read()).toBe(-11n);
  });

  test('S-23 EVTCHN_SEND of port 66: interrupted', () => {
    const { surface, guest } = fresh();
    expect(surface.send({ port: 66, vcpu: NO_VCPU })).toBe(-22);
    expect(guest.pending(66)).toBe(false);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect(guest.pending(66)).toBe(true);
    expect(guest.run()).toBe(1);
  });

  test('S-24 the guest rings send port 127: 0, and it is interrupted for port 15', () => {
    const { surface, guest } = fresh();
    expect(surface.evtchn(LOOPBACK)).toBe(0);
    expect(guest.ring(127)).toEqual({ result: 0n, interrupts: 1 });
    expect([guest.pending(15), guest.pending(127)]).toEqual([true, false]);
  });

  test('S-25 the same after another memory slot: by the slow way of the vCPU’s own thread', () => {
    const made = fresh();
    expect(made.surface.evtchn(LOOPBACK)).toBe(0);
    addSlot(made);
    expect(made.guest.ring(127)).toEqual({ result: 0n, interrupts: 1 });
    expect(made.guest.pending(15)).toBe(true);
  });

  test('S-26 the guest rings send port 197: eventfd, irqfd, interrupt for port 66', () => {
    const made = fresh();
    const [, second] = route(made);
    expect(made.surface.evtchn({ ...EVENTFD, vcpu: second.fd })).toBe(0);
    expect(made.guest.ring(197)).toEqual({ result: 0n, interrupts: 1 });
    expect(made.guest.pending(66)).toBe(true);
    // The interrupt has consumed it.
    expect(second.read()).toBe(-11n);
  });

  test('S-40 shared_info comes and goes while the host sends port 1: each has one of its results, in the end it interrupts', () => {
    const made = fresh();
    const { vm, surface, guest } = made;
    const [first] = route(made);
    expect(surface.evtchn({ ...LOOPBACK, port: 2 })).toBe(0);
    const turns = [
      () => surface.set({ type: 'shared_info', gfn: null }),
      () => surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN }),
      () => surface.set({ type: 'shared_info_hva', hva: null }),
      () => surface.set({ type: 'shared_info_hva', hva: hostPage(vm, 0) }),
      // What the test program does where it means "off by host address": frame 0 is low memory of the guest.
      () => surface.set({ type: 'shared_info', gfn: gfn(0) }),
    ];
    const sent = new Map<number, number>();
    for (let i = 0; i < 200; i++) {
      expect(turns[i % turns.length]?.()).toBe(0);
      for (let k = 0; k < 3; k++) {
        const result = surface.send({ port: 1, vcpu: VCPU });
        sent.set(result, (sent.get(result) ?? 0) + 1);
      }
      expect(first.write(1)).toBe(0);
      expect([0, null]).toContain(vm.sendPorts.ring(127));
    }
    expect([...sent.keys()].every((result) => SEND_RESULTS.includes(result))).toBe(true);
    expect(sent).toEqual(
      new Map([
        [-22, 240],
        [0, 360],
      ]),
    );
    expect(guest.run()).toBe(1);
    expect(surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN })).toBe(0);
    guest.setPending(1, false);
    expect(surface.send({ port: 1, vcpu: VCPU })).toBe(0);
    expect(guest.run()).toBe(1);
  });
});
