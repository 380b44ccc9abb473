// Further scenarios about hypercalls and the configuration. [kvm-xen 12.3]

import { describe, expect, test } from 'vitest';
import { hva } from '../../src/index.ts';
import { LOOPBACK } from './events.ts';
import { MS, MSR, machine } from './machine.ts';
import { configFlags, type RunstateNumbers, WAYS } from './surface.ts';

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  test('X-21 a hypercall of user code always leaves', () => {
    const { surface, guest } = machine(way);
    expect(surface.evtchn(LOOPBACK)).toBe(0);
    expect(surface.set({ type: 'xen_version', version: 0x40011 })).toBe(0);
    expect(surface.setVcpu({ type: 'timer', port: 13, expires: 0n })).toBe(0);
    const calls = [
      () => guest.ring(127),
      () => guest.call(17, 0),
      () => guest.poll([15]),
      () => guest.call(29, 0),
      () => guest.setTimer(5n),
      () => guest.call(24, 9, 0),
    ];
    guest.cpu.cpl = 3;
    for (const call of calls) expect(call()).toMatchObject({ result: null, exit: { cpl: 3 }, interrupts: 0 });
    expect([guest.pending(15), guest.pending(13)]).toEqual([false, false]);
    guest.cpu.cpl = 0;
    expect(guest.call(17, 0)).toEqual({ result: 0x40011n, interrupts: 0 });
  });

  test('X-22 a poll without EVTCHN_SEND in the configuration: 0 at once', () => {
    const { vm, surface, guest, clock } = machine(way);
    expect(surface.config({ msr: MSR, interceptHypercalls: true })).toBe(0);
    const before = clock.now();
    expect(guest.poll([15])).toEqual({ result: 0n, interrupts: 0 });
    expect(guest.poll([15], 100n * MS)).toEqual({ result: 0n, interrupts: 0 });
    expect([clock.now(), vm.nextDeadline()]).toEqual([before, null]);
  });

  test.each([
    ['-1', () => 2n ** 64n - 1n],
    ['now + 2^50 + 1', (now: bigint) => now + 2n ** 50n + 1n],
  ])('X-23 set_timer_op with %s: it expires 100 ms from now', (_, expiryAt) => {
    const { vm, surface, guest } = machine(way);
    expect(surface.setVcpu({ type: 'timer', port: 13, expires: 0n })).toBe(0);
    const now = vm.kvmclock.now();
    expect(guest.setTimer(expiryAt(now))).toEqual({ result: 0n, interrupts: 0 });
    const timer = surface.getVcpu('timer');
    if (typeof timer === 'number') expect.fail(`TIMER cannot be read: ${timer}`);
    expect(timer.expires - now).toBeGreaterThanOrEqual(100n * MS);
    expect(timer.expires - now).toBeLessThan(101n * MS);
    expect(guest.awaitInterrupt()).toBeLessThan(101n * MS);
    expect(guest.pending(13)).toBe(true);
  });

  test('X-24 the VMM changes RIP during a hypercall: RAX is not touched', () => {
    const { vm, guest } = machine(way);
    expect(guest.call(17, 99)).toMatchObject({ result: null });
    guest.cpu.rip += 0x100n;
    const { rip } = guest.cpu;
    expect(vm.vcpu(0).completeHypercall(guest.cpu, 0x1234n)).toBe(false);
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([17n, rip]);
    // The completion is dropped, not kept.
    expect(guest.call(17, 98)).toMatchObject({ result: null });
    expect(vm.vcpu(0).completeHypercall(guest.cpu, 0x1234n)).toBe(true);
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([0x1234n, rip + 3n]);
  });

  test('X-25 configurations that are refused, and change nothing', () => {
    const { vm, surface } = machine(way);
    const before = vm.getConfig();
    // No object says this one.
    expect(configFlags(vm, 1, MSR)).toBe(-22);
    expect(surface.config({ msr: MSR, interceptHypercalls: true, blobLong: hva(0x1000), blobPagesLong: 1 })).toBe(-22);
    expect(surface.config({ msr: MSR, interceptHypercalls: true, blobPagesCompat: 1 })).toBe(-22);
    for (const msr of [0x3fff_ffff, 0x5000_0000, 1]) expect(surface.config({ msr })).toBe(-22);
    expect(vm.getConfig()).toEqual(before);
    expect(surface.config({ msr: 0x4fff_ffff, blobLong: hva(0x1000), blobPagesLong: 1 })).toBe(0);
    expect(vm.getConfig()).toMatchObject({ msr: 0x4fff_ffff, interceptHypercalls: false, blobPagesLong: 1 });
    expect(surface.config({ msr: 0 })).toBe(0);
  });

  test('X-26 DATA and ADJUST that are refused, and change nothing', () => {
    const { vm, surface } = machine(way);
    const before = surface.getVcpu('runstate_data');
    const now = vm.kvmclock.now();
    const refused: readonly (readonly ['data' | 'adjust', RunstateNumbers])[] = [
      // Does not add up; begins in the future; no such state.
      ['data', [0n, 100n, 1n, 2n, 3n, 95n]],
      ['data', [0n, now + 1n, now + 1n, 0n, 0n, 0n]],
      ['data', [4n, 10n, 1n, 2n, 3n, 4n]],
      ['data', [-1n, 10n, 1n, 2n, 3n, 4n]],
      ['adjust', [-1n, 5n, 1n, 1n, 1n, 1n]],
      ['adjust', [-1n, now, now, 0n, 0n, 0n]],
      ['adjust', [4n, 0n, 0n, 0n, 0n, 0n]],
    ];
    for (const [which, values] of refused) expect(surface.runstate(which, values), `${which} ${values}`).toBe(-22);
    expect(surface.getVcpu('runstate_adjust')).toBe(-22);
    expect(surface.getVcpu('runstate_data')).toEqual(before);
    // The limits themselves are taken.
    expect(surface.runstate('data', [2n, now, 0n, now, 0n, 0n])).toBe(0);
    expect(surface.runstate('adjust', [-1n, -5n, 0n, -5n, 0n, 0n])).toBe(0);
    expect(surface.getVcpu('runstate_data')).toMatchObject({ state: 'blocked', entryTime: now - 5n });
  });
});
