// Exactness where a wrong step can hide behind a right result: each test was written for a fault that the others let pass. [R16]

import { describe, expect, test } from 'vitest';
import {
  GPC_WORD,
  KICK_VECTOR,
  REQUEST_VECTOR,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_REQUESTS,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, hva } from '../../src/index.ts';
import { changes, dropMappings, guestSets, layoutOf, traceOf } from '../spec/evidence.ts';
import { drained, fields, KINDS, makeVm, memoryBytes, ram, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  // A port that is read at a wrong byte is mostly none, and then the list is gathered with care; not when bytes of 0 follow it.
  test.each([2, 3, 63, 64, 65, 639, 640, 641, 642, 643, 700])(
    'KX-EVT-13 R1 a list of %i ports with low bytes of 0: exactly these are raised',
    (n) => {
      const vm = makeVm({ longMode, shared });
      const ports = Array.from({ length: n }, (_, i) => 256 * (1 + (i % (maxPorts / 256 - 1))));
      const once = [...new Set(ports)].sort((a, b) => a - b);
      expect(vm.sendMany(ports)).toBe(once.length);
      expect(vm.batchCounts).toEqual({ delivered: once.length, coalesced: n - once.length, masked: 0, bad: 0 });
      expect(drained(vm)).toEqual(once);
    },
  );

  // One that is none is noticed by its value, or by port 0, where it wraps to: each way alone.
  test.each([2, 3, 64, 65, 640, 643])('KX-EVT-11 a list of %i ports with one that is none: it alone is bad', (n) => {
    const vm = makeVm({ longMode, shared });
    for (const none of [0, maxPorts, 2 * maxPorts, -maxPorts, maxPorts + 1, -1]) {
      // A long list is read by four, the rest one by one.
      for (const at of new Set([0, 1, 2, 3, n - 2, n - 1].filter((i) => i < n))) {
        const ports = Array.from({ length: n }, (_, i) => (i === at ? none : i + 1));
        expect([none, at, vm.sendMany(ports)]).toEqual([none, at, n - 1]);
        expect(vm.batchCounts).toEqual({ delivered: n - 1, coalesced: 0, masked: 0, bad: 1 });
        expect(drained(vm)).toEqual(ports.filter((port) => port !== none));
      }
    }
  });

  test('KX-GPC-40 KF-12 each cache of each vCPU is dropped with its own page, and nothing else', () => {
    const vm = makeVm({ longMode, shared, vcpus: 3, guestPages: 32 });
    const { words } = vm.region;
    const caches = [vm.region.sharedInfo];
    for (let i = 0; i < 3; i++) {
      const { line, record } = vm.vcpu(i);
      const page = (8 + 6 * i) * PAGE_SIZE;
      vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(page) });
      vm.vcpu(i).setAttr({ type: 'vcpu_time_info', gpa: gpa(page + PAGE_SIZE) });
      vm.vcpu(i).setAttr({ type: 'runstate_addr', gpa: gpa(page + 3 * PAGE_SIZE - 16) });
      caches.push(line + VCPU_INFO_GPC, record + VCPU_TIME_INFO_GPC);
      caches.push(record + VCPU_RUNSTATE1_GPC, record + VCPU_RUNSTATE2_GPC);
    }
    for (const gpc of caches) vm.gpcs.refresh(gpc);
    const pageOf = (gpc: number): number => words.load(gpc + GPC_WORD) >>> 12;
    const pages = caches.map(pageOf);
    expect(new Set(pages).size).toBe(13);
    vm.kernel.invalidateStart(vm.vmBase);
    for (const [i, page] of pages.entries()) {
      const before = memoryBytes(vm);
      expect(vm.kernel.unmapRange(vm.vmBase, page, page)).toBe(1);
      const touched = changes(before, memoryBytes(vm)).map(([at]) => at & ~3);
      expect([...new Set(touched)]).toEqual([(caches[i] ?? 0) + GPC_WORD]);
    }
    vm.kernel.invalidateEnd(vm.vmBase);
    for (const gpc of caches) vm.gpcs.refresh(gpc);
    expect(caches.map(pageOf)).toEqual(pages);
    expect(vm.kernel.unmapSlots(vm.vmBase)).toBe(13);
  });

  test('KX-EVT-18 KX-EVT-55 a vCPU with a vector whose vcpu_info is away: the vector waits, however it is told', () => {
    const calls: number[] = [];
    const vm = makeVm({ longMode, trace: traceOf(shared, { kick: (_vm, vcpu) => calls.push(vcpu) }), shared });
    const { words } = vm.region;
    const { line } = vm.vcpu(0);
    const asked = (): number => words.load(line + VCPU_REQUESTS) & REQUEST_VECTOR;
    words.or(line + VCPU_KICK, KICK_VECTOR);
    dropMappings(vm);
    expect(vm.kernel.resync(vm.vmBase, vm.agent, 0)).toBe(-11);
    expect([asked(), calls]).toEqual([0, []]);
    // Nothing is new in the shadow now; and when it is empty, an event is.
    expect(vm.kernel.send(vm.vmBase, vm.agent, 5)).toBe(-11);
    for (const half of [VCPU_SHADOW_LO, VCPU_SHADOW_HI]) words.store(line + half, 0);
    vm.gpcs.refresh(vm.region.sharedInfo);
    expect(vm.kernel.send(vm.vmBase, vm.agent, 5)).toBe(1);
    expect([asked(), calls]).toEqual([0, []]);
    vm.gpcs.refresh(line + VCPU_INFO_GPC);
    expect(vm.kernel.flushShadow(vm.vmBase, vm.agent, 0)).toBe(1);
    expect([asked(), calls]).toEqual([REQUEST_VECTOR, []]);
  });

  test('KX-ABI-17 KX-CLK-11 what the kernel answers about clocks: 0 or -EAGAIN, and which records were written', () => {
    const vm = makeVm({ longMode, shared });
    const { kernel, vmBase, agent } = vm;
    const read = (which: number): number => kernel.timeRead(vmBase, agent, 0, which, 0, 0);
    expect([read(1), read(2)]).toEqual([-11, -11]);
    expect([1, 2, 3].map((which) => kernel.timeWrite(vmBase, agent, 0, which))).toEqual([1, 0, 1]);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x8000) });
    expect([1, 2, 3].map((which) => kernel.timeWrite(vmBase, agent, 0, which))).toEqual([1, 2, 3]);
    expect([read(1), read(2)]).toEqual([0, 0]);
    expect(kernel.wallClockWrite(vmBase, agent, 1, 2, 3)).toBe(0);
    const [seconds, nanoseconds, high] = longMode ? [0xc04, 0xc08, 0xc0c] : [0x904, 0x908, 0x924];
    const at = [seconds, nanoseconds, high].map((offset = 0) => fields(vm).getUint32(SHARED_INFO_GPA + offset, true));
    expect(at).toEqual([1, 3, 2]);
    dropMappings(vm);
    expect(kernel.wallClockWrite(vmBase, agent, 1, 2, 3)).toBe(-11);
  });

  test('R10 the status of a port: each of its bits comes from its own place alone', () => {
    const vm = makeVm({ longMode, shared });
    const { words } = vm.region;
    const { line } = vm.vcpu(0);
    const { selector, bits } = layoutOf(vm);
    // In another word than the first, and at another place in it than its word's bit has in the selector.
    const port = 2 * bits + 7;
    const status = (): number => vm.kernel.portStatus(vm.vmBase, vm.agent, port);
    const places: [bit: number, set: (on: boolean) => void][] = [
      [1, (on) => guestSets(vm, 'pending', port, on)],
      [2, (on) => guestSets(vm, 'mask', port, on)],
      [4, (on) => fields(vm).setUint32(VCPU_INFO_GPA + selector, on ? 1 << 2 : 0, true)],
      [8, (on) => fields(vm).setUint8(VCPU_INFO_GPA, on ? 1 : 0)],
      [16, (on) => words.store(line + VCPU_SHADOW_LO, on ? 1 << 2 : 0)],
    ];
    for (let all = 0; all < 32; all++) {
      for (const [bit, set] of places) set((all & bit) !== 0);
      expect(status()).toBe(all | 32);
    }
    // Away, what lies in vcpu_info is not known.
    vm.kernel.gpcUnmap(vm.vmBase, line + VCPU_INFO_GPC);
    expect(status()).toBe(1 | 2 | 16);
  });

  test('KX-EVT-61 a sleep that nobody ends times out; one whose flag is gone does not begin', () => {
    const vm = makeVm({ longMode, shared });
    const sleep = (): number => vm.kernel.sleepOn(vm.vmBase, 0, 1000);
    expect(sleep()).toBe(1);
    expect(vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0)).toBe(0);
    expect(sleep()).toBe(2);
    expect(vm.kernel.sleepEnd(vm.vmBase, vm.agent, 0)).toBe(0);
    expect(sleep()).toBe(1);
  });

  test('KX-ABI-18 a version at any byte: its own four bytes count, whatever the guest wrote next to them', () => {
    for (const offset of [0, 1, 2, 3]) {
      const vm = makeVm({ longMode, shared });
      const at = 0x8100 + offset;
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(at) });
      const version = (): number => fields(vm).getUint32(at, true);
      fields(vm).setUint32(at, 0x01fefefe, true);
      ram(vm)[at - 1] = 0xff;
      ram(vm)[at + 4] = 0xff;
      expect(vm.kernel.timeWrite(vm.vmBase, vm.agent, 0, 2)).toBe(2);
      expect([offset, version(), ram(vm)[at - 1]]).toEqual([offset, 0x01feff00, 0xff]);
    }
  });

  test('KX-MEM-28 a page at a guest address of 45 bits and more is marked in its own slot', () => {
    // Bits of the frame number in both halves of the address, next to where they meet.
    for (const base of [0x1000_0000, 2 ** 32, 2 ** 44, 2 ** 44 + 2 ** 32, 2 ** 45, 2 ** 47 + 2 ** 44]) {
      const vm = makeVm({ longMode, shared });
      vm.memslots.set({
        id: 1,
        gpa: gpa(base),
        bytes: 4 * PAGE_SIZE,
        hva: hva(vm.guestBase + 8 * PAGE_SIZE),
        logDirty: true,
      });
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(base + 2 * PAGE_SIZE) });
      vm.dirtyLog.take(1);
      expect(vm.kernel.timeWrite(vm.vmBase, vm.agent, 0, 2)).toBe(2);
      expect([base, ...vm.dirtyLog.take(1)]).toEqual([base, 4]);
    }
  });
});
