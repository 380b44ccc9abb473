// The timer and the poll. [kvm-xen 12.1: S-30 to S-37, S-41]

import { describe, expect, test } from 'vitest';
import { hva } from '../../src/index.ts';
import { addOtherSlot, hostPage, type Machine, MS, machine, SHARED_INFO_GFN } from './machine.ts';
import { WAYS } from './surface.ts';

const PORT = 13;
/** In its selector word, but not it. */
const OTHER_PORT = 14;

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  /** A machine whose timer has its port. */
  function timed(): Machine {
    const made = machine(way);
    expect(made.surface.setVcpu({ type: 'timer', port: PORT, expires: 0n })).toBe(0);
    return made;
  }

  /** A time on the guest's clock, from when it last began to run. */
  const later = ({ guest }: Machine, ns: bigint): bigint => guest.runstate().entryTime + ns;

  function arm(made: Machine, expires: bigint): void {
    expect(made.surface.setVcpu({ type: 'timer', port: PORT, expires })).toBe(0);
  }

  function expiry({ surface }: Machine): bigint {
    const timer = surface.getVcpu('timer');
    if (typeof timer === 'number') expect.fail(`TIMER cannot be read: ${timer}`);
    expect(timer).toMatchObject({ port: PORT, priority: -1 });
    return timer.expires;
  }

  test('S-30 the guest sets its timer to 100 ms: the host reads port, priority and expiry, then it interrupts', () => {
    const made = timed();
    const { guest, clock } = made;
    const entry = guest.runstate().entryTime;
    expect(guest.setTimer(entry + 100n * MS)).toEqual({ result: 0n, interrupts: 0 });
    expect(expiry(made)).toBe(entry + 100n * MS);
    clock.advance(99n * MS);
    made.vm.tick();
    expect(guest.run()).toBe(0);
    expect(guest.awaitInterrupt()).toBeLessThanOrEqual(MS);
    expect(guest.pending(PORT)).toBe(true);
    expect(made.vm.kvmclock.now()).toBeGreaterThanOrEqual(entry + 100n * MS);
  });

  test('S-31 the host sets it, as after a migration: it interrupts', () => {
    const made = timed();
    const expires = later(made, 100n * MS);
    arm(made, expires);
    made.guest.awaitInterrupt();
    expect(made.guest.pending(PORT)).toBe(true);
    expect(made.vm.kvmclock.now() - expires).toBeLessThan(MS);
    expect(made.vm.kvmclock.now()).toBeGreaterThanOrEqual(expires);
  });

  test('S-32 a poll of a port that is pending and masked: 0 at once', () => {
    const made = timed();
    made.guest.setMask(PORT, true);
    made.guest.setPending(PORT, true);
    const before = made.clock.now();
    expect(made.guest.poll([PORT])).toEqual({ result: 0n, interrupts: 0 });
    expect(made.clock.now()).toBe(before);
  });

  test('S-33 a poll of a port that is not set, 100 ms: 0 when they are over', () => {
    const made = timed();
    const before = made.clock.now();
    expect(made.guest.poll([PORT], 100n * MS)).toEqual({ result: 0n, interrupts: 0 });
    expect(made.clock.now() - before).toBe(100n * MS);
    expect(made.vm.nextDeadline()).toBeNull();
  });

  test('S-34 a poll of the masked timer port without an end: the timer ends it and does not interrupt', () => {
    const made = timed();
    made.guest.setMask(PORT, true);
    const before = made.clock.now();
    arm(made, later(made, 100n * MS));
    expect(made.guest.poll([PORT])).toEqual({ result: 0n, interrupts: 0 });
    expect(made.clock.now() - before).toBeGreaterThan(99n * MS);
    expect(made.guest.pending(PORT)).toBe(true);
    expect(made.guest.run()).toBe(0);
  });

  test('S-35 a poll of another port: the timer, not masked, ends it and interrupts; vcpu_info was set again meanwhile', () => {
    const made = timed();
    const { vm, surface, guest } = made;
    const expires = later(made, 100n * MS);
    arm(made, expires);
    expect(expiry(made)).toBe(expires);
    const vcpuInfo = hva(hostPage(vm, 0) + 0x40);
    expect(surface.setVcpu({ type: 'vcpu_info_hva', hva: vcpuInfo })).toBe(0);
    expect(surface.getVcpu('vcpu_info_hva')).toEqual({ type: 'vcpu_info_hva', hva: vcpuInfo });
    expect(guest.poll([OTHER_PORT])).toEqual({ result: 0n, interrupts: 1 });
    expect([guest.pending(PORT), guest.pending(OTHER_PORT)]).toEqual([true, false]);
    expect(vm.kvmclock.now()).toBeGreaterThanOrEqual(expires);
  });

  test('S-36 the timer is read after it has expired: 0', () => {
    const made = timed();
    arm(made, later(made, 100n * MS));
    made.guest.awaitInterrupt();
    expect(expiry(made)).toBe(0n);
    expect(made.guest.run()).toBe(0);
  });

  test('S-37 the timer is set to 100 ms ago: interrupted at once', () => {
    const made = timed();
    arm(made, later(made, -100n * MS));
    expect(made.guest.pending(PORT)).toBe(true);
    expect(made.guest.run()).toBe(1);
    expect(expiry(made)).toBe(0n);
  });

  test('S-37 the same after a memory slot was added: the vCPU delivers it when it runs', () => {
    const made = timed();
    expect(made.surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN })).toBe(0);
    addOtherSlot(made);
    arm(made, later(made, -100n * MS));
    // Where the timer expires nothing may sleep for the page.
    expect(made.guest.pending(PORT)).toBe(false);
    expect(made.vm.vcpu(0).runnable).toBe(true);
    expect(made.guest.run()).toBe(1);
    expect([made.guest.pending(PORT), expiry(made)]).toEqual([true, 0n]);
  });

  test('S-41 shared_info comes and goes while the guest polls and a timer of 2 s runs: in the end it interrupts', () => {
    const made = timed();
    const { vm, surface, guest, clock } = made;
    // A page that can be used ends the poll at once.
    guest.setPending(0, true);
    const turns = [
      () => surface.set({ type: 'shared_info', gfn: null }),
      () => surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN }),
      () => surface.set({ type: 'shared_info_hva', hva: null }),
      () => surface.set({ type: 'shared_info_hva', hva: hostPage(vm, 0) }),
    ];
    let [rounds, lost, interrupts] = [0, 0, 0];
    // The first timer expires in the last turn, while shared_info is away; the one set in its place in the turn before that.
    for (let wait = 1990n; interrupts === 0; wait = 1970n) {
      expect(rounds++).toBeLessThan(3);
      arm(made, vm.kvmclock.now() + wait * MS);
      for (let i = 0; i < 100; i++) {
        expect(turns[(i + 1) % 4]?.()).toBe(0);
        const polled = guest.poll([0]);
        expect(polled.result).toBe(0n);
        interrupts += polled.interrupts;
        clock.advance(20n * MS);
        vm.tick();
      }
      interrupts += guest.run();
      if (expiry(made) === 0n && interrupts === 0) lost++;
    }
    expect([lost, interrupts]).toEqual([1, 1]);
    expect(guest.pending(PORT)).toBe(true);
  });
});
