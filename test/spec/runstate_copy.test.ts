// The guest's copy of runstate: at any byte, across a page edge, all or nothing, under its marker. [KX-RUN-10..33]

import { describe, expect, test } from 'vitest';
import {
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_UPDATE_BIT,
  RUNSTATE_UPDATE_BYTE_COMPAT,
  RUNSTATE_UPDATE_BYTE_LONG,
} from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { STEP_PLAIN, STEP_STORE } from '../../src/abi/step.ts';
import type { Vm } from '../../src/index.ts';
import { KINDS, makeVm, ram } from '../support.ts';
import { CANARY, changed, changes, dropMappings, POISON, tracing } from './evidence.ts';
import { EDGE, guestCopy, hostCopy, MARK, runstateAddr, STATES, sizeOf, sum } from './runstate_record.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, guestPages: 9, ...options });

  test('KX-VCA-05 registration writes what the host knows at once, without a transition', () => {
    const vm = make();
    vm.vcpu(0).enterRunstate('blocked', 10n);
    const before = vm.vcpu(0).runstate();
    runstateAddr(vm, EDGE + 3);
    expect(vm.vcpu(0).runstate()).toEqual(before);
    expect(guestCopy(vm, EDGE + 3)).toEqual({ state: 2, entryTime: 10n, times: [0n, 0n, 0n, 10n] });
  });

  test('KX-VCA-05 without an address transitions write no byte of the guest', () => {
    const vm = make();
    expect(changed(vm, () => vm.vcpu(0).enterRunstate('blocked', 10n))).toEqual([]);
    runstateAddr(vm, EDGE);
    runstateAddr(vm, null);
    expect(changed(vm, () => vm.vcpu(0).enterRunstate('running', 20n))).toEqual([]);
  });

  test('R3 KF-09 an area that moved is never written again', () => {
    const vm = make();
    runstateAddr(vm, EDGE - 10);
    runstateAddr(vm, EDGE + 0x100);
    ram(vm).fill(POISON, EDGE - 64, EDGE + 64);
    for (const state of STATES) vm.vcpu(0).enterRunstate(state, 10n);
    expect(
      ram(vm)
        .subarray(EDGE - 64, EDGE + 64)
        .every((byte) => byte === POISON),
    ).toBe(true);
  });

  for (const marked of [false, true]) {
    const places = Array.from({ length: 64 }, (_, i) => EDGE - 60 + i);
    test.each(places)(`S-51 S-52 KX-RUN-10 KX-RUN-11 KX-RUN-30 update flag ${marked}, area at %i`, (at) => {
      // Registered in compat and written; then the mode changes, and the same area grows over the edge. [KX-VCA-06]
      const vm = makeVm({ longMode: false, shared, guestPages: 9 });
      vm.setAttr({ type: 'runstate_update_flag', enabled: marked });
      const whole = (): Uint8Array => ram(vm).slice(EDGE - PAGE_SIZE, EDGE + PAGE_SIZE);
      for (const long of longMode ? [false, true] : [false]) {
        if (long) vm.setAttr({ type: 'long_mode', enabled: true });
        ram(vm).fill(CANARY, EDGE - PAGE_SIZE, EDGE + PAGE_SIZE);
        if (!long) runstateAddr(vm, at);
        vm.vcpu(0).enterRunstate('blocked', long ? 0x1112131415161718n : 0x0102030405060708n);
        const host = hostCopy(vm.vcpu(0).runstate());
        expect(guestCopy(vm, at)).toEqual(host);
        expect(sum(host.times)).toBe(host.entryTime);
        const size = sizeOf(vm);
        const split = at + size > EDGE && at < EDGE;
        const want = new Uint8Array(2 * PAGE_SIZE).fill(CANARY);
        const from = at - (EDGE - PAGE_SIZE);
        want.set(ram(vm).subarray(at, at + size), from);
        // KX-RUN-30: padding is 0 in a split area and not touched in one piece.
        if (long) want.fill(split ? 0 : CANARY, from + 4, from + 8);
        expect(changes(want, whole())).toEqual([]);
      }
    });
  }

  test('KX-RUN-11 an area that just touches the end of its page needs no second one', () => {
    const vm = make();
    const at = vm.guestBytes - sizeOf(vm);
    runstateAddr(vm, at);
    vm.vcpu(0).enterRunstate('blocked', 10n);
    expect(guestCopy(vm, at).entryTime).toBe(10n);
  });

  test('KX-RUN-20 KX-RUN-21 KF-50 entering runnable does not wait: the copy stays old, the account stands, the next entry repairs it', () => {
    const vm = make();
    const at = EDGE - 10;
    runstateAddr(vm, at);
    vm.vcpu(0).enterRunstate('running', 10n);
    dropMappings(vm);
    expect(changed(vm, () => vm.vcpu(0).enterRunstate('runnable', 20n))).toEqual([]);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'runnable', entryTime: 20n });
    vm.vcpu(0).enterRunstate('running', 30n);
    expect(guestCopy(vm, at)).toEqual(hostCopy(vm.vcpu(0).runstate()));
    expect(vm.vcpu(0).runstate().times.runnable).toBe(10n);
  });

  test('KX-RUN-20 entering runnable with everything mapped writes the copy', () => {
    const vm = make();
    runstateAddr(vm, EDGE - 10);
    vm.vcpu(0).enterRunstate('runnable', 20n);
    expect(guestCopy(vm, EDGE - 10)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });

  test.each(['running', 'blocked', 'offline'] as const)('KX-RUN-22 entering %s maps moved pages again', (state) => {
    for (const at of [EDGE, EDGE - 10]) {
      const vm = make();
      runstateAddr(vm, at);
      dropMappings(vm);
      vm.vcpu(0).enterRunstate(state, 20n);
      expect(guestCopy(vm, at)).toEqual(hostCopy(vm.vcpu(0).runstate()));
    }
  });

  test.each([
    ['first', EDGE - 1],
    ['second', EDGE],
  ])('KX-RUN-24 KX-RUN-27 X-13 while the %s page of a split area may not be used neither changes', (_which, page) => {
    for (const marked of [false, true]) {
      const vm = make();
      vm.setAttr({ type: 'runstate_update_flag', enabled: marked });
      const at = EDGE - 13;
      runstateAddr(vm, at);
      vm.vcpu(0).enterRunstate('running', 10n);
      vm.invalidateStart(vm.guestBase + page, vm.guestBase + page);
      for (const [i, state] of STATES.entries()) {
        expect(
          changed(vm, () => vm.vcpu(0).enterRunstate(state, 20n + BigInt(i))),
          state,
        ).toEqual([]);
      }
      expect(guestCopy(vm, at)).toEqual({ state: 0, entryTime: 10n, times: [0n, 0n, 0n, 10n] });
      vm.invalidateEnd();
      vm.vcpu(0).enterRunstate('running', 40n);
      expect(guestCopy(vm, at)).toEqual(hostCopy(vm.vcpu(0).runstate()));
    }
  });

  test('KX-RUN-28 KX-RUN-31 KF-51 the marker never stays in the copy and never enters the host record', () => {
    const vm = make();
    vm.setAttr({ type: 'runstate_update_flag', enabled: true });
    for (const at of [EDGE, EDGE - 11, EDGE - 12, EDGE - 15, EDGE - 16]) {
      runstateAddr(vm, at);
      for (const state of STATES) {
        vm.vcpu(0).enterRunstate(state, 30n);
        expect(vm.vcpu(0).runstate().entryTime & MARK).toBe(0n);
        expect(guestCopy(vm, at).entryTime & MARK).toBe(0n);
      }
    }
  });

  const tracedPlaces = [
    EDGE,
    EDGE + 1,
    EDGE + 5,
    EDGE - 4,
    EDGE - 8,
    EDGE - 11,
    EDGE - 12,
    EDGE - 15,
    EDGE - 16,
    EDGE - 40,
  ];
  test.each(tracedPlaces)(
    'KX-RUN-28 KX-RUN-29 KF-48 X-14 with the marker, area at %i: marker byte first, alone; then the fields; marker byte last',
    (at) => {
      let vm: Vm | undefined;
      const log: { kind: number; address: number; copy: ReturnType<typeof guestCopy> }[] = [];
      const options = tracing(shared, {
        onStep: (kind, address) => vm && log.push({ kind, address: address - vm.guestBase, copy: guestCopy(vm, at) }),
      });
      const made = make(options);
      made.setAttr({ type: 'runstate_update_flag', enabled: true });
      runstateAddr(made, at);
      made.vcpu(0).enterRunstate('running', 0x0102030405060708n);
      const old = guestCopy(made, at);
      vm = made;
      made.vcpu(0).enterRunstate('blocked', 0x1112131415161718n);
      vm = undefined;
      const final = guestCopy(made, at);
      const marker = at + (longMode ? RUNSTATE_UPDATE_BYTE_LONG : RUNSTATE_UPDATE_BYTE_COMPAT);
      const writes = log.filter(
        ({ kind, address }) =>
          (kind === STEP_STORE || kind === STEP_PLAIN) && address >= at && address < at + sizeOf(made),
      );
      expect(writes[0]).toMatchObject({ kind: STEP_STORE, address: marker });
      expect(writes.at(-1)).toMatchObject({ kind: STEP_STORE, address: marker });
      expect(writes.filter(({ kind }) => kind === STEP_STORE).length).toBe(2);
      // A reader as KX-RUN-33 describes it: entry time, fields, entry time again, at any three moments in this order.
      const moments = [...log.map(({ copy }) => copy), final];
      const last = new Map<bigint, number>();
      for (const [i, copy] of moments.entries()) last.set(copy.entryTime, i);
      for (const [i, first] of moments.entries()) {
        if (first.entryTime & MARK) continue;
        for (let j = i; j <= (last.get(first.entryTime) ?? i); j++) {
          const { times, state } = moments[j] as typeof final;
          const accepted = { state, entryTime: first.entryTime, times };
          if (JSON.stringify(accepted, text) !== JSON.stringify(old, text)) expect(accepted).toEqual(final);
        }
      }
      expect(old.entryTime).toBe(0x0102030405060708n);
      expect(final.entryTime).toBe(0x1112131415161718n);
    },
  );

  test('KX-RUN-31 without the flag bit 63 is never set, at no step', () => {
    let vm: Vm | undefined;
    let seen = 0n;
    const onStep = (): void => {
      if (vm) seen |= guestCopy(vm, EDGE - 12).entryTime;
    };
    const options = tracing(shared, { onStep });
    const made = make(options);
    runstateAddr(made, EDGE - 12);
    vm = made;
    for (const state of STATES) made.vcpu(0).enterRunstate(state, 77n);
    expect(seen).toBe(77n);
    expect(seen & MARK).toBe(0n);
  });

  test('KX-RUN-28 the marker byte keeps the low bits of the top byte of the entry time', () => {
    let vm: Vm | undefined;
    const bytes = new Set<number>();
    const marker = EDGE + (longMode ? RUNSTATE_UPDATE_BYTE_LONG : RUNSTATE_UPDATE_BYTE_COMPAT);
    const options = tracing(shared, { onStep: () => vm && bytes.add(ram(vm)[marker] as number) });
    const made = make(options);
    made.setAttr({ type: 'runstate_update_flag', enabled: true });
    runstateAddr(made, EDGE);
    vm = made;
    made.vcpu(0).enterRunstate('blocked', 0x2a00000000000000n);
    expect([...bytes].filter((byte) => byte !== 0x2a)).toEqual([0, 0x2a | RUNSTATE_UPDATE_BIT]);
    expect(ram(made)[marker]).toBe(0x2a);
  });

  test('KX-RUN-26 KX-VCA-06 a second page that does not exist when the mode grows the area: nothing is written', () => {
    const vm = makeVm({ longMode: false, shared, guestPages: 9 });
    const at = vm.guestBytes - RUNSTATE_SIZE_COMPAT;
    runstateAddr(vm, at);
    vm.vcpu(0).enterRunstate('running', 10n);
    vm.setAttr({ type: 'long_mode', enabled: true });
    expect(changed(vm, () => vm.vcpu(0).enterRunstate('blocked', 20n))).toEqual([]);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'blocked', entryTime: 20n });
    vm.setAttr({ type: 'long_mode', enabled: false });
    vm.vcpu(0).enterRunstate('running', 30n);
    expect(guestCopy(vm, at)).toEqual(hostCopy(vm.vcpu(0).runstate()));
  });
});

function text(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
