// Runstate: transitions, stolen time, and the guest's copy at every place. [kvm-xen 12.1: S-11 to S-16, S-51, S-52]

import { describe, expect, test } from 'vitest';
import { gpa } from '../../src/index.ts';
import { CANARY } from '../spec/evidence.ts';
import { G, type RunstateCopy } from './guest.ts';
import { type Machine, machine } from './machine.ts';
import { type RunstateNumbers, WAYS } from './surface.ts';

const STAYS = -1n;
const NOTHING: RunstateNumbers = [STAYS, 0n, 0n, 0n, 0n, 0n];

/** What the host has, in the shape of the guest's copy. */
function hostCopy({ surface }: Machine): RunstateCopy {
  const data = surface.getVcpu('runstate_data');
  if (typeof data === 'number') expect.fail(`RUNSTATE_DATA cannot be read: ${data}`);
  const { state, entryTime, times } = data;
  const names = ['running', 'runnable', 'blocked', 'offline'] as const;
  return { state: names.indexOf(state), entryTime, times: names.map((name) => times[name]) };
}

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  test.each([
    ['S-11 the host says runnable', 1, 'runnable'],
    ['S-12 the host says blocked', 2, 'blocked'],
    ['S-13 the host says offline', 3, 'offline'],
  ] as const)('%s: the guest sees that time, and is running again', (_, number, state) => {
    const { surface, guest, clock } = machine(way);
    const before = guest.runstate();
    expect(surface.setVcpu({ type: 'runstate_current', state })).toBe(0);
    expect(surface.getVcpu('runstate_current')).toEqual({ type: 'runstate_current', state });
    expect(guest.runstate().state).toBe(number);
    clock.advance(777n);
    expect(guest.run()).toBe(0);
    const after = guest.runstate();
    expect(after.state).toBe(0);
    const grown = after.times.map((time, i) => time - (before.times[i] ?? 0n));
    // The guest's clock goes by its TSC, which rounds.
    expect(grown[number]).toBeGreaterThanOrEqual(776n);
    expect(grown[number]).toBeLessThanOrEqual(778n);
    expect(grown.filter((ns) => ns !== 0n)).toHaveLength(2);
  });

  test('S-14 ADJUST by differences: the guest reads exactly what they make', () => {
    const made = machine(way);
    const { surface, guest } = made;
    const [, , blocked = 0n, offline = 0n] = hostCopy(made).times;
    const [moreBlocked, moreOffline] = [0x5an - blocked, 0x6b6bn - offline];
    const before = hostCopy(made);
    const deltas = [STAYS, 0n, 0n, -(moreBlocked + moreOffline), moreBlocked, moreOffline] as const;
    expect(surface.runstate('adjust', deltas)).toBe(0);
    expect(guest.runstate()).toEqual(hostCopy(made));
    expect(guest.runstate().times.slice(2)).toEqual([0x5an, 0x6b6bn]);
    expect(guest.runstate().entryTime).toBe(before.entryTime);
    expect(guest.run()).toBe(0);
    expect(guest.runstate().times.slice(2)).toEqual([0x5an, 0x6b6bn]);
  });

  test('S-15 DATA replaces all of it: what was given stays, the rest runs on', () => {
    const { surface, guest } = machine(way);
    expect(surface.runstate('data', [0n, 0x6b6bn + 0x5an, 0n, 0n, 0x6b6bn, 0x5an])).toBe(0);
    expect(guest.run()).toBe(0);
    const { state, entryTime, times } = guest.runstate();
    expect(state).toBe(0);
    expect(entryTime).toBeGreaterThanOrEqual(0x8000n);
    expect(times.slice(1)).toEqual([0n, 0x6b6bn, 0x5an]);
  });

  test('S-16 the thread waits 50 µs for a core: they are stolen time', () => {
    const { guest, clock } = machine(way);
    const before = guest.runstate();
    clock.advance(60_000n);
    guest.runDelay += 50_000n;
    expect(guest.run()).toBe(0);
    const after = guest.runstate();
    expect((after.times[1] ?? 0n) - (before.times[1] ?? 0n)).toBe(50_000n);
    expect(guest.run()).toBe(0);
    expect(guest.runstate().times[1]).toBe(after.times[1]);
  });

  const places = Array.from({ length: 64 }, (_, i) => G + 0x2000 - 60 + i);
  const canary = new Uint8Array(256).fill(CANARY);

  /** The copy at `at` is what the host has, and what lies around it is untouched. */
  function checkCopy(made: Machine, at: number, size: number): void {
    const { guest } = made;
    expect(guest.runstate(at)).toEqual(hostCopy(made));
    expect(guest.bytes(at + size, 8)).toEqual(canary.subarray(0, 8));
    expect(guest.bytes(at - 8, 8)).toEqual(canary.subarray(0, 8));
    guest.checkRunstate();
  }

  /** The area registered at `at` in 32-bit mode. */
  function registered(made: Machine, at: number): void {
    made.guest.fill(G + 0x2000 - 128, canary);
    expect(made.surface.set({ type: 'long_mode', enabled: false })).toBe(0);
    expect(made.surface.setVcpu({ type: 'runstate_addr', gpa: gpa(at) })).toBe(0);
  }

  test('S-51 the area at every byte around the page edge, 32-bit layout: the copy is whole, nothing beside it changes', () => {
    for (const at of places) {
      const made = machine(way);
      registered(made, at);
      checkCopy(made, at, 44);
    }
  });

  test('S-52 the same places after a change to the 64-bit layout: the second page comes by itself', () => {
    for (const at of places) {
      const made = machine(way);
      registered(made, at);
      expect(made.surface.set({ type: 'long_mode', enabled: true })).toBe(0);
      made.guest.fill(G + 0x2000 - 128, canary);
      expect(made.surface.runstate('adjust', NOTHING)).toBe(0);
      checkCopy(made, at, 48);
    }
  });
});
