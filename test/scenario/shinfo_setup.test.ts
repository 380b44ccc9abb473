// Setting up: attributes, routes, send ports, timer. [kvm-xen 12.1: S-01 to S-07, S-42, S-50]

import { describe, expect, test } from 'vitest';
import { gpa, hva } from '../../src/index.ts';
import { references } from '../spec/ports.ts';
import { EVENTFD, LOOPBACK, route } from './events.ts';
import { G, RUNSTATE, SHARED_INFO, TIME_INFO, VCPU_INFO } from './guest.ts';
import {
  bareMachine,
  EPOCH,
  FRESH_PAGE,
  frame,
  homeFrame,
  hostPage,
  machine,
  NO_VCPU,
  replaceSharedInfo,
  VCPU,
} from './machine.ts';
import { WAYS } from './surface.ts';

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  test('S-01 RUNSTATE_UPDATE_FLAG is set and reads back', () => {
    const { surface } = bareMachine(way);
    expect(surface.get('runstate_update_flag')).toEqual({ type: 'runstate_update_flag', enabled: false });
    expect(surface.set({ type: 'runstate_update_flag', enabled: true })).toBe(0);
    expect(surface.get('runstate_update_flag')).toEqual({ type: 'runstate_update_flag', enabled: true });
  });

  test('S-02 shared_info by host address, then its page replaced: everything later is in the new page', () => {
    const { vm, surface, guest } = bareMachine(way);
    expect(surface.capabilities() & 0x100).toBe(0x100);
    expect(surface.set({ type: 'long_mode', enabled: true })).toBe(0);
    expect(surface.set({ type: 'shared_info_hva', hva: hostPage(vm, 0) })).toBe(0);
    expect(surface.get('shared_info_hva')).toEqual({ type: 'shared_info_hva', hva: hostPage(vm, 0) });
    expect(surface.get('shared_info')).toEqual({ type: 'shared_info', gfn: null });
    const wallClock = guest.bytes(SHARED_INFO + 0xc00, 16);
    replaceSharedInfo(vm);
    const old = new Uint8Array(vm.memory.buffer, homeFrame(vm, 0), 4096).slice();
    expect(guest.bytes(SHARED_INFO + 0xc00, 16)).toEqual(wallClock);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect(guest.pending(66)).toBe(true);
    expect(new Uint8Array(vm.memory.buffer, frame(vm, FRESH_PAGE) + 0x808, 1)[0]).toBe(4);
    expect(new Uint8Array(vm.memory.buffer, homeFrame(vm, 0), 4096)).toEqual(old);
  });

  test('S-03 vcpu_info, time info, upcall vector and runstate area are taken and read back', () => {
    const { surface } = bareMachine(way);
    const places = [
      { type: 'vcpu_info', gpa: gpa(VCPU_INFO) },
      { type: 'vcpu_time_info', gpa: gpa(TIME_INFO) },
      { type: 'runstate_addr', gpa: gpa(RUNSTATE) },
    ] as const;
    for (const place of places) {
      expect(surface.setVcpu(place)).toBe(0);
      expect(surface.getVcpu(place.type)).toEqual(place);
    }
    expect(surface.set({ type: 'upcall_vector', vector: 0x10 })).toBe(0);
    expect(surface.get('upcall_vector')).toEqual({ type: 'upcall_vector', vector: 0x10 });
  });

  test('S-04 gsi 32 to port 15, gsi 33 to port 66, an irqfd on each', () => {
    const made = machine(way);
    const [first, second] = route(made);
    expect(made.vm.routes.list()).toEqual([
      { gsi: 32, type: 'xen_evtchn', port: 15, vcpu: VCPU },
      { gsi: 33, type: 'xen_evtchn', port: 66, vcpu: VCPU },
    ]);
    expect(made.vm.eventfds.list().map(({ fd, gsi }) => [fd, gsi])).toEqual([
      [first.fd, 32],
      [second.fd, 33],
    ]);
    expect(made.guest.run()).toBe(0);
  });

  test('S-05 send port 127 to port 15 of a vCPU that is not there, then updated to the one that is', () => {
    const { surface, guest } = machine(way);
    expect(surface.evtchn({ ...LOOPBACK, vcpu: NO_VCPU })).toBe(0);
    // Nobody to raise it on: the call is the VMM's.
    expect(guest.ring(127)).toMatchObject({ result: null, interrupts: 0 });
    expect(guest.pending(15)).toBe(false);
    expect(surface.evtchn({ ...LOOPBACK, flags: 2 })).toBe(0);
    expect(guest.ring(127)).toEqual({ result: 0n, interrupts: 1 });
    expect(guest.pending(15)).toBe(true);
  });

  test('S-06 send port 197 signals the eventfd of gsi 33', () => {
    const made = machine(way);
    const [, second] = route(made);
    expect(made.surface.evtchn({ ...EVENTFD, vcpu: second.fd })).toBe(0);
    expect(made.vm.sendPorts.list()).toEqual([
      { sendPort: 197, channel: 'interdomain', target: { eventfd: second.fd } },
    ]);
    expect(made.guest.run()).toBe(0);
  });

  test('S-07 the timer attribute with port 13 and no expiry', () => {
    const { vm, surface } = machine(way);
    expect(surface.setVcpu({ type: 'timer', port: 13, expires: 0n })).toBe(0);
    expect(surface.getVcpu('timer')).toEqual({ type: 'timer', port: 13, priority: -1, expires: 0n });
    expect(vm.nextDeadline()).toBeNull();
  });

  test('S-42 reset: 0, no send port is left, and none of their eventfds is held', () => {
    const made = machine(way);
    const [, second] = route(made);
    expect(made.surface.evtchn(LOOPBACK)).toBe(0);
    expect(made.surface.evtchn({ ...EVENTFD, vcpu: second.fd })).toBe(0);
    expect(references(made.vm).slice(0, 2)).toEqual([2, 3]);
    expect(made.surface.evtchn({ flags: 4 })).toBe(0);
    expect(made.vm.sendPorts.list()).toEqual([]);
    expect(references(made.vm).slice(0, 2)).toEqual([2, 2]);
    for (const port of [127, 197]) expect(made.guest.ring(port)).toMatchObject({ result: null, interrupts: 0 });
    expect(made.surface.evtchn({ flags: 4 })).toBe(0);
  });

  test('S-50 in the end: wall clock and time infos have a stable version, and the times agree', () => {
    const { surface, guest, clock } = machine(way);
    clock.advance(3_456_789_012n);
    expect(guest.run()).toBe(0);
    const version = guest.read(SHARED_INFO + 0xc00, 4);
    expect([version % 2n, version > 0n]).toEqual([0n, true]);
    const seconds = guest.read(SHARED_INFO + 0xc04, 4) | (guest.read(SHARED_INFO + 0xc0c, 4) << 32n);
    const wall = seconds * 1_000_000_000n + guest.read(SHARED_INFO + 0xc08, 4);
    const { clock: now, realtime } = surface.clock();
    const epoch = (realtime ?? 0n) - now;
    expect(epoch).toBeGreaterThan(EPOCH);
    // The two are of different moments, and the guest's clock goes by its TSC: some ns.
    expect(wall - epoch).toBeLessThan(1000n);
    expect(epoch - wall).toBeLessThan(1000n);
    for (const at of [VCPU_INFO + 32, TIME_INFO]) {
      const version = guest.read(at, 4);
      expect([version % 2n, version > 0n]).toEqual([0n, true]);
    }
    expect(guest.bytes(VCPU_INFO + 36, 28)).toEqual(guest.bytes(TIME_INFO + 4, 28));
  });

  test('S-02 a host address that is no page, and a guest address that is none of the three pages: refused', () => {
    const { vm, surface } = bareMachine(way);
    expect(surface.set({ type: 'shared_info_hva', hva: hva(hostPage(vm, 0) + 8) })).toBe(-22);
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: gpa(G + 3 * 4096) })).toBe(-14);
  });
});
