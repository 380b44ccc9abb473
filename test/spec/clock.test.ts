// Clock records: what is published, under which version, and what a hostile one does to a reader. [kvm-xen 8.2, KX-ABI-15..18]

import { describe, expect, test } from 'vitest';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_GUEST_STOPPED,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SIZE,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_TIMESTAMP,
  PVCLOCK_VERSION,
} from '../../src/abi/pvclock.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE, VCPU_INFO_TIME } from '../../src/abi/vcpu_info.ts';
import { gpa, type Vm } from '../../src/index.ts';
import { errorOf, fields, KINDS, makeVm, ram, random, VCPU_INFO_GPA } from '../support.ts';
import { CANARY, changed, changes, dropMappings, refuses, selector, tracing } from './evidence.ts';

const TIME_INFO_GPA = 6 * PAGE_SIZE;
const RECORD = {
  tscTimestamp: 0x1122334455667788n,
  systemTime: 0x99aabbccddeeff00n,
  mul: 0x80000001,
  shift: -3,
  flags: 1,
};

/** The 32 bytes of `RECORD` with a version. */
function recordBytes(version: number, flags = RECORD.flags): Uint8Array {
  const bytes = new Uint8Array(PVCLOCK_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(PVCLOCK_VERSION, version, true);
  view.setBigUint64(PVCLOCK_TSC_TIMESTAMP, RECORD.tscTimestamp, true);
  view.setBigUint64(PVCLOCK_SYSTEM_TIME, RECORD.systemTime, true);
  view.setUint32(PVCLOCK_MUL, RECORD.mul, true);
  view.setInt8(PVCLOCK_SHIFT, RECORD.shift);
  view.setUint8(PVCLOCK_FLAGS, flags);
  return bytes;
}

/** The guest's formula in whole numbers. [KX-ABI-17] */
function guestTime(tsc: bigint, stamp: bigint, base: bigint, mul: number, shift: number): bigint {
  const delta = BigInt.asUintN(64, tsc - stamp);
  const ticks = shift < 0 ? delta >> BigInt(-shift) : BigInt.asUintN(64, delta << BigInt(shift));
  return BigInt.asUintN(64, base + ((ticks * BigInt(mul)) >> 32n));
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (): Vm => makeVm({ longMode, shared, guestPages: 8 });

  test('KX-CLK-10 KX-CLK-11 both copies are written whole, padding 0, and no byte beside them', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    ram(vm).fill(CANARY, VCPU_INFO_GPA, VCPU_INFO_GPA + VCPU_INFO_SIZE + 64);
    ram(vm).fill(CANARY, TIME_INFO_GPA - 64, TIME_INFO_GPA + 128);
    const before = ram(vm).slice();
    vm.vcpu(0).writeTime(RECORD);
    // GUEST_STOPPED is not in 0xa5, so the flags are those given.
    const want = before.slice();
    for (const at of [VCPU_INFO_GPA + VCPU_INFO_TIME, TIME_INFO_GPA]) want.set(recordBytes(0xa5a5a5a8), at);
    expect(changes(want, ram(vm))).toEqual([]);
    expect(CANARY & PVCLOCK_GUEST_STOPPED).toBe(0);
  });

  test('KX-CLK-10 only what is registered is written', () => {
    const vm = make();
    const inVcpuInfo = changed(vm, () => vm.vcpu(0).writeTime(RECORD)).map(([at]) => at);
    expect(inVcpuInfo.every((at) => at >= VCPU_INFO_GPA + VCPU_INFO_TIME && at < VCPU_INFO_GPA + VCPU_INFO_SIZE)).toBe(
      true,
    );
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    expect(changed(vm, () => vm.vcpu(0).writeTime(RECORD))).toEqual([]);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    const inTimeInfo = changed(vm, () => vm.vcpu(0).writeTime(RECORD)).map(([at]) => at);
    expect(inTimeInfo.every((at) => at >= TIME_INFO_GPA && at < TIME_INFO_GPA + PVCLOCK_SIZE)).toBe(true);
  });

  test('KX-CLK-11 GUEST_STOPPED of the guest survives, and is not set by itself', () => {
    const vm = make();
    const at = VCPU_INFO_GPA + VCPU_INFO_TIME + PVCLOCK_FLAGS;
    ram(vm)[at] = PVCLOCK_GUEST_STOPPED | 0x80;
    vm.vcpu(0).writeTime(RECORD);
    expect(ram(vm)[at]).toBe(PVCLOCK_GUEST_STOPPED | 1);
    ram(vm)[at] = 0;
    vm.vcpu(0).writeTime({ ...RECORD, flags: 0 });
    expect(ram(vm)[at]).toBe(0);
  });

  test('KX-ABI-18 the version: the next odd one, then even, never 0, whatever the guest left there', () => {
    const vm = make();
    const at = VCPU_INFO_GPA + VCPU_INFO_TIME;
    for (const [old, stable] of [
      [0, 2],
      [2, 4],
      [3, 6],
      [0xfffffffd, 2],
      [0xfffffffe, 2],
      [0xffffffff, 2],
    ] as const) {
      fields(vm).setUint32(at, old, true);
      vm.vcpu(0).writeTime(RECORD);
      expect(fields(vm).getUint32(at, true), `after ${old}`).toBe(stable);
    }
  });

  const offsets = [...Array.from({ length: 33 }, (_, i) => i), 61, 62, 63, 0xfdd, 0xfdf, 0xfe0];
  test.each(offsets)('KX-CLK-11 KF-62 vcpu_time_info at offset %i: read back, 0xa5 around it untouched', (offset) => {
    const vm = make();
    const at = TIME_INFO_GPA + offset;
    ram(vm).fill(CANARY, TIME_INFO_GPA - PAGE_SIZE, TIME_INFO_GPA + 2 * PAGE_SIZE);
    ram(vm).fill(0, at, at + PVCLOCK_SIZE);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(at) });
    for (const version of [2, 4, 6]) {
      vm.vcpu(0).writeTime(RECORD);
      expect(changes(recordBytes(version), ram(vm).slice(at, at + PVCLOCK_SIZE))).toEqual([]);
    }
    fields(vm).setUint32(at, 0x00fffffe, true);
    vm.vcpu(0).writeTime(RECORD);
    expect(fields(vm).getUint32(at, true)).toBe(0x01000000);
    expect(vm.vcpu(0).readTime(RECORD.tscTimestamp, 'vcpu_time_info')).toBe(RECORD.systemTime);
    ram(vm).fill(CANARY, at, at + PVCLOCK_SIZE);
    expect(
      ram(vm)
        .subarray(TIME_INFO_GPA - PAGE_SIZE, TIME_INFO_GPA + 2 * PAGE_SIZE)
        .every((b) => b === CANARY),
    ).toBe(true);
  });

  test('KX-CLK-11 KF-62 vcpu_info at odd places: its time is written and read, its selector left alone', () => {
    for (const offset of [1, 2, 3, 5, 0xfbf]) {
      const vm = make();
      const at = TIME_INFO_GPA + offset;
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(at) });
      vm.send(5);
      vm.vcpu(0).writeTime(RECORD);
      expect(changes(recordBytes(2), ram(vm).slice(at + VCPU_INFO_TIME, at + VCPU_INFO_SIZE))).toEqual([]);
      expect(selector(vm, at)).toBe(1n);
      expect(vm.vcpu(0).readTime(RECORD.tscTimestamp)).toBe(RECORD.systemTime);
    }
  });

  test('KX-ABI-17 readTime computes what the guest computes, for every shift and awkward numbers', () => {
    const vm = make();
    const next = random(5);
    const big = (): bigint => (BigInt(next(2 ** 32 - 1)) << 32n) | BigInt(next(2 ** 32 - 1));
    const values = [0n, 1n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n];
    for (let shift = -63; shift <= 63; shift++) {
      for (let i = 0; i < 12; i++) {
        const tsc = values[i] ?? big();
        const [stamp, base] = i % 2 ? [big(), big()] : [values[i % 5] ?? 0n, big()];
        const mul = [0, 1, 0x80000000, 0xffffffff, 0x12345678][i % 5] ?? 0;
        vm.vcpu(0).writeTime({ tscTimestamp: stamp, systemTime: base, mul, shift });
        expect(vm.vcpu(0).readTime(tsc)).toBe(guestTime(tsc, stamp, base, mul, shift));
      }
    }
  });

  test('numbers and bigints say the same time', () => {
    const vm = make();
    vm.vcpu(0).writeTime({ tscTimestamp: 2 ** 40 + 5, systemTime: 2 ** 52 + 3, mul: 0x80000000, shift: 1 });
    expect(vm.vcpu(0).readTime(2 ** 53 - 1)).toBe(BigInt(2 ** 52 + 3) + BigInt(2 ** 53 - 1) - BigInt(2 ** 40 + 5));
    expect(vm.vcpu(0).readTime(2n ** 53n - 1n)).toBe(vm.vcpu(0).readTime(2 ** 53 - 1));
  });

  test('R5 a version that stays odd, or is 0, is EAGAIN after a bounded number of looks', () => {
    let steps = 0;
    const vm = makeVm({ longMode, guestPages: 8, ...tracing(shared, { onStep: () => steps++ }) });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA + 1) });
    for (const [from, at] of [
      ['vcpu_info', VCPU_INFO_GPA + VCPU_INFO_TIME],
      ['vcpu_time_info', TIME_INFO_GPA + 1],
    ] as const) {
      for (const version of [0, 1, 0xffffffff]) {
        fields(vm).setUint32(at, version, true);
        steps = 0;
        refuses(vm, () => vm.vcpu(0).readTime(5, from), 'EAGAIN', from, 'vCPU 0');
        expect(steps).toBeLessThan(20_000);
      }
    }
  });

  test('R5 a version that changes at every look is EAGAIN after a bounded number of looks', () => {
    let vm: Vm | undefined;
    let steps = 0;
    const at = VCPU_INFO_GPA + VCPU_INFO_TIME;
    vm = makeVm({
      longMode,
      guestPages: 8,
      ...tracing(shared, {
        onStep: (_kind, address) => {
          steps++;
          if (vm && address === vm.guestBase + at) fields(vm).setUint32(at, fields(vm).getUint32(at, true) + 2, true);
        },
      }),
    });
    vm.vcpu(0).writeTime(RECORD);
    steps = 0;
    expect(errorOf(() => vm?.vcpu(0).readTime(5)).code).toBe('EAGAIN');
    expect(steps).toBeLessThan(20_000);
  });

  test('R5 R9 every shift byte and random records: a number comes back, nothing is written', () => {
    const vm = make();
    const at = VCPU_INFO_GPA + VCPU_INFO_TIME;
    const next = random(3);
    for (let shift = 0; shift < 256; shift++) {
      for (let i = 0; i < PVCLOCK_SIZE; i++) ram(vm)[at + i] = next(256);
      fields(vm).setUint32(at, 2, true);
      ram(vm)[at + PVCLOCK_SHIFT] = shift;
      const before = ram(vm).slice();
      const time = vm.vcpu(0).readTime(2n ** 64n - 1n);
      expect(time >= 0n && time < 2n ** 64n).toBe(true);
      expect(changes(before, ram(vm))).toEqual([]);
    }
  });

  test('KX-CLK-11 a record is written again after its page has moved', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    dropMappings(vm);
    vm.vcpu(0).writeTime(RECORD);
    for (const at of [VCPU_INFO_GPA + VCPU_INFO_TIME, TIME_INFO_GPA]) {
      expect(changes(recordBytes(2), ram(vm).slice(at, at + PVCLOCK_SIZE))).toEqual([]);
    }
  });

  test('KX-CLK-11 while its page may not be used a record is left out silently, the other is written', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    vm.invalidateStart(vm.guestBase + TIME_INFO_GPA, vm.guestBase + TIME_INFO_GPA);
    ram(vm).fill(CANARY, TIME_INFO_GPA, TIME_INFO_GPA + PAGE_SIZE);
    vm.vcpu(0).writeTime(RECORD);
    expect(
      ram(vm)
        .subarray(TIME_INFO_GPA, TIME_INFO_GPA + PAGE_SIZE)
        .every((byte) => byte === CANARY),
    ).toBe(true);
    expect(fields(vm).getUint32(VCPU_INFO_GPA + VCPU_INFO_TIME, true)).toBe(2);
    vm.invalidateEnd();
    vm.vcpu(0).writeTime(RECORD);
    expect(fields(vm).getUint32(TIME_INFO_GPA, true)).toBe(0xa5a5a5a8);
  });

  test('KX-GPC-04 the guest time can be read after its page has moved', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO_GPA) });
    vm.vcpu(0).writeTime(RECORD);
    dropMappings(vm);
    expect(vm.vcpu(0).readTime(RECORD.tscTimestamp)).toBe(RECORD.systemTime);
    expect(vm.vcpu(0).readTime(RECORD.tscTimestamp, 'vcpu_time_info')).toBe(RECORD.systemTime);
  });

  test.each([0, 1, 2, 3])(
    'KX-CLK-11 KX-ABI-18 odd before the first field, even after the last, at offset %i',
    (offset) => {
      let vm: Vm | undefined;
      const at = TIME_INFO_GPA + offset;
      const seen: Uint8Array[] = [];
      vm = makeVm({
        longMode,
        guestPages: 8,
        ...tracing(shared, { onStep: () => vm && seen.push(ram(vm).slice(at, at + PVCLOCK_SIZE)) }),
      });
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(at) });
      fields(vm).setUint32(at, 0x00fffffe, true);
      const old = ram(vm).slice(at, at + PVCLOCK_SIZE);
      seen.length = 0;
      vm.vcpu(0).writeTime(RECORD);
      const final = recordBytes(0x01000000);
      expect(changes(final, ram(vm).slice(at, at + PVCLOCK_SIZE))).toEqual([]);
      let torn = 0;
      for (const bytes of seen) {
        const odd = (bytes[PVCLOCK_VERSION] as number) & 1;
        const isOld = Buffer.compare(bytes, old) === 0;
        const isFinal = Buffer.compare(bytes, final) === 0;
        if (!odd && !isOld && !isFinal) expect.fail(`a stable version over a torn record: ${bytes.join(' ')}`);
        if (odd) torn++;
      }
      expect(torn).toBeGreaterThan(5);
    },
  );
});
