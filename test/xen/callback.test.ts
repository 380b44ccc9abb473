// How upcalls reach the guest: by vectors and by interrupt lines. [XE-CB-01..06]

import { describe, expect, test } from 'vitest';
import type { PciIntx } from '../../src/xen/index.ts';
import { dropMappings } from '../spec/evidence.ts';
import { drained, errorOf, ram } from '../support.ts';
import {
  answer,
  CALLERS,
  type Caller,
  call,
  makeGuest,
  put,
  setParam,
  VCPU_INFO_FRAME,
  VECTOR,
  VECTOR_VIA,
  WIDTHS,
} from './caller.ts';

type Edge = readonly [gsi: number, level: boolean];
const GSI_5 = 5n;
const intx = (device: number, pin: number): bigint => (1n << 56n) | (BigInt(device) << 11n) | BigInt(pin);

/** A guest with the edges of its interrupt lines. */
function makeLined(more: object = {}, hooks: object = {}): Caller & { edges: Edge[] } {
  const edges: Edge[] = [];
  const onGsi = (...edge: Edge): void => void edges.push(edge);
  return { ...makeGuest({ vcpus: 2, hvm: { onGsi, ...hooks }, ...more }), edges };
}

const via = (guest: Caller, value: bigint): number => setParam(guest, 0, value);

/** The guest's handler clears its upcall byte; the hypervisor notices at the next exit. */
function answered(guest: Caller): void {
  ram(guest.domain.vm)[VCPU_INFO_FRAME * 4096] = 0;
  drained(guest.domain.vm);
  guest.domain.hvm.updateCallback();
}

test.each(WIDTHS)('XE-CB-04 in memory of a single agent the line goes up inside the send: $caller', ({ long }) => {
  const guest = makeLined({ long, shared: false });
  const { domain } = guest;
  via(guest, GSI_5);
  const port = domain.evtchn.bindIpi({ vcpu: 0 });
  domain.send(port);
  expect(guest.edges).toEqual([[5, true]]);
  answered(guest);
  // Beside the embedder's own listener, which may come and go.
  const upcalls: number[] = [];
  domain.vm.vcpu(0).onUpcall(({ index }) => upcalls.push(index));
  domain.send(port);
  expect([guest.edges.length, upcalls]).toEqual([3, [0]]);
  answered(guest);
  domain.vm.vcpu(0).onUpcall(null);
  domain.send(port);
  expect([guest.edges.length, upcalls.length]).toEqual([5, 1]);
  via(guest, 0n);
  domain.vm.vcpu(0).drain();
  domain.send(port);
  expect(guest.edges.at(-1)).toEqual([5, false]);
});

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more: object = {}, hooks: object = {}) => makeLined({ long, shared, ...more }, hooks);
  const send = (guest: Caller, vcpu = 0): number => {
    const port = guest.domain.evtchn.bindIpi({ vcpu });
    guest.domain.send(port);
    guest.domain.hvm.updateCallback();
    return port;
  };
  test('XE-CB-03 XE-TC-21 by the domain’s vector: a level, as long as the byte is set', () => {
    const guest = make();
    const vcpu = guest.domain.vm.vcpu(0);
    send(guest);
    for (let i = 0; i < 3; i++)
      expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR, lapicInterrupt: 0 });
    answered(guest);
    expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: 0 });
    expect(guest.edges).toEqual([]);
  });

  test('XE-CB-02 XE-TC-21 by a vector of its own: an edge for the local APIC, told once', () => {
    const guest = make();
    via(guest, 0n);
    const vcpu = guest.domain.vm.vcpu(0);
    answer(guest, 34, [
      23,
      put(guest, 8, [
        [0, 4, 0],
        [4, 1, 0x40],
      ]),
    ]);
    vcpu.beforeEntry();
    send(guest);
    expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: 0, lapicInterrupt: 0x40 });
    expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: 0, lapicInterrupt: 0 });
  });

  test('XE-CB-01 the vCPU’s own vector goes before a line: GSI 1 beside it is only a sign', () => {
    const guest = make();
    answer(guest, 34, [
      23,
      put(guest, 8, [
        [0, 4, 0],
        [4, 1, 0x40],
      ]),
    ]);
    expect(via(guest, 1n)).toBe(0);
    guest.domain.vm.vcpu(0).beforeEntry();
    send(guest);
    expect(guest.edges).toEqual([]);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0, lapicInterrupt: 0x40 });
  });

  test('XE-CB-04 by a GSI: the line is up while vCPU 0 has an upcall, once, and events of other vCPUs do not count', () => {
    const guest = make();
    expect(via(guest, GSI_5)).toBe(0);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0 });
    send(guest, 1);
    expect(guest.edges).toEqual([]);
    send(guest);
    send(guest);
    expect(guest.edges).toEqual([[5, true]]);
    answered(guest);
    expect(guest.edges).toEqual([
      [5, true],
      [5, false],
    ]);
    send(guest);
    expect(guest.edges.length).toBe(3);
  });

  test('XE-BP-02 XE-CB-04 a line that is up keeps vCPU 0 from blocking', () => {
    const guest = make();
    via(guest, GSI_5);
    send(guest);
    expect(answer(guest, 29, [1])).toBe(0);
    answered(guest);
    expect(call(guest, 29, [1]).kind).toBe('blocked');
  });

  test('XE-CB-04 a hypercall is an exit: the line goes down with it', () => {
    const guest = make();
    via(guest, GSI_5);
    send(guest);
    ram(guest.domain.vm)[VCPU_INFO_FRAME * 4096] = 0;
    answer(guest, 29, [0]);
    expect(guest.edges).toEqual([
      [5, true],
      [5, false],
    ]);
  });

  test('XE-CB-04 XE-TC-22 a line that a device holds, too, goes down with the last of them', () => {
    const guest = make();
    const { hvm } = guest.domain;
    via(guest, GSI_5);
    hvm.assertGsi(5);
    send(guest);
    expect(guest.edges).toEqual([[5, true]]);
    answered(guest);
    expect(guest.edges).toEqual([[5, true]]);
    send(guest);
    hvm.deassertGsi(5);
    expect(guest.edges).toEqual([[5, true]]);
    answered(guest);
    expect(guest.edges).toEqual([
      [5, true],
      [5, false],
    ]);
    expect(errorOf(() => hvm.deassertGsi(5)).code).toBe('EINVAL');
    for (const gsi of [-1, 48, 0.5]) {
      expect(errorOf(() => hvm.assertGsi(gsi)).code).toBe('EINVAL');
      expect(errorOf(() => hvm.deassertGsi(gsi)).code).toBe('EINVAL');
    }
  });

  test('XE-CB-05 a change lets the old line go and takes the new one if an upcall waits', () => {
    const guest = make();
    via(guest, GSI_5);
    send(guest);
    expect(via(guest, 7n)).toBe(0);
    expect(guest.edges).toEqual([
      [5, true],
      [5, false],
      [7, true],
    ]);
    expect(via(guest, VECTOR_VIA)).toBe(0);
    expect(guest.edges.at(-1)).toEqual([7, false]);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect(via(guest, GSI_5)).toBe(0);
    expect(guest.edges.at(-1)).toEqual([5, true]);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0 });
  });

  test('XE-CB-05 GSI 0, one beyond the pins, and kinds that do not exist, turn delivery off, and the call succeeds', () => {
    const guest = make();
    for (const value of [0n, 48n, 255n, 0x1_0000n, 3n << 56n, 255n << 56n, (2n << 56n) | 0n]) {
      via(guest, GSI_5);
      send(guest);
      expect(via(guest, value)).toBe(0);
      expect(guest.domain.hvm.getParam(0)).toBe(value);
      guest.domain.hvm.updateCallback();
      expect(guest.edges.at(-1)).toEqual([5, false]);
      expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0, lapicInterrupt: 0 });
      answered(guest);
    }
    // Of a GSI the low byte counts.
    expect(via(guest, 0x105n)).toBe(0);
    send(guest);
    expect(guest.edges.at(-1)).toEqual([5, true]);
  });

  test('XE-CB-01 vectors of exceptions are refused, and nothing has changed', () => {
    const guest = make();
    for (const vector of [1n, 2n, 15n]) expect(via(guest, (2n << 56n) | vector)).toBe(-22);
    expect(guest.domain.hvm.getParam(0)).toBe(VECTOR_VIA);
    send(guest);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect(via(guest, (2n << 56n) | 0xffff_ff10n)).toBe(0);
    expect(guest.domain.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0x10 });
  });

  test('XE-CB-01 by a PCI pin: as a GSI, by the machine’s own routing or the embedder’s', () => {
    const guest = make();
    expect(via(guest, intx(3, 1))).toBe(0);
    send(guest);
    // 16 + 3 * 4 + 1
    expect(guest.edges).toEqual([[29, true]]);
    const asked: PciIntx[] = [];
    const routed = make({}, { intxGsi: (pin: PciIntx) => (asked.push(pin) === 1 ? 11 : null) });
    expect(via(routed, intx(4, 2))).toBe(0);
    send(routed);
    expect([asked, routed.edges]).toEqual([[{ device: 4, function: 0, pin: 2 }], [[11, true]]]);
    expect(via(routed, intx(4, 3))).toBe(0);
    expect(routed.edges.at(-1)).toEqual([11, false]);
  });

  test('XE-CB-04 while vcpu_info cannot be seen the line stays as it is', () => {
    const guest = make();
    const { vm } = guest.domain;
    via(guest, GSI_5);
    send(guest);
    dropMappings(vm);
    guest.domain.hvm.updateCallback();
    expect(guest.edges).toEqual([[5, true]]);
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    ram(vm)[VCPU_INFO_FRAME * 4096] = 0;
    guest.domain.hvm.updateCallback();
    expect(guest.edges).toEqual([[5, true]]);
    vm.invalidateEnd();
    guest.domain.hvm.updateCallback();
    expect(guest.edges).toEqual([
      [5, true],
      [5, false],
    ]);
  });

  test('XE-CB-05 a callback that is set while an upcall waits is told to the vCPU that sleeps', () => {
    const guest = make();
    via(guest, 0n);
    send(guest);
    send(guest, 1);
    const vcpu = guest.domain.vm.vcpu(0);
    vcpu.beforeEntry();
    expect(vcpu.leaveRequested).toBe(false);
    via(guest, VECTOR_VIA);
    expect([vcpu.runnable, vcpu.leaveRequested]).toEqual([true, true]);
    expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });
});
