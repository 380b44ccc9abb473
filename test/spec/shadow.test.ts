// Events while vcpu_info is away, moves of vcpu_info, the upcall as a level and as an edge. [KX-EVT-16, 18, 45..48, 55, 56]

import { describe, expect, test } from 'vitest';
import { VCPU_SHADOW_LO } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { STEP_RMW } from '../../src/abi/step.ts';
import { VCPU_INFO_SIZE } from '../../src/abi/vcpu_info.ts';
import type { Vm } from '../../src/index.ts';
import { drained, KINDS, makeVm, pendingBit, ram, VCPU_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import {
  CANARY,
  changed,
  changes,
  dropMappings,
  guestTakes,
  layoutOf,
  POISON,
  refuses,
  register,
  selector,
  selectorBit,
  shadow,
  tracing,
  unregister,
} from './evidence.ts';

const OTHER = 6 * PAGE_SIZE + 0x400;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, words, bits, maxPorts }) => {
  const make = (vcpus = 1): Vm => makeVm({ longMode, shared, vcpus, guestPages: 8 });

  test('X-03 KX-EVT-16 KX-EVT-55 without vcpu_info, then with: selector and byte appear at the next look', () => {
    const vm = make();
    unregister(vm);
    for (const port of [1, bits + 1, maxPorts - 1]) expect(vm.send(port)).toBe(1);
    const want = selectorBit(vm, 1) | selectorBit(vm, bits + 1) | selectorBit(vm, maxPorts - 1);
    expect(shadow(vm)).toBe(want);
    expect(changed(vm, () => register(vm, OTHER))).toEqual([]);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(selector(vm, OTHER)).toBe(want);
    expect(ram(vm)[OTHER]).toBe(1);
    expect(shadow(vm)).toBe(0n);
    expect(drained(vm)).toEqual([1, bits + 1, maxPorts - 1]);
  });

  test('KX-EVT-16 every word has its bit in the shadow, and no other appears', () => {
    const vm = make();
    unregister(vm);
    for (let word = 0; word < words; word++) {
      vm.send(word * bits + 1);
      expect(shadow(vm)).toBe((2n << BigInt(word)) - 1n);
    }
    register(vm, OTHER);
    expect(vm.vcpu(0).drain()).toBe(words);
    expect(shadow(vm)).toBe(0n);
  });

  test('KX-EVT-16 a drain that finds the vcpu_info registered takes the shadow with it, without a flush', () => {
    const vm = make();
    unregister(vm);
    vm.send(5);
    register(vm, VCPU_INFO_GPA);
    vm.send(2 * bits);
    expect(drained(vm)).toEqual([5, 2 * bits]);
    expect(selector(vm)).toBe(0n);
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('KX-EVT-55 a flush asks for the upcall even when all its selector bits were set already', () => {
    const vm = make();
    vm.send(5);
    unregister(vm);
    guestTakes(vm);
    vm.send(6);
    register(vm, VCPU_INFO_GPA);
    vm.send(7);
    ram(vm)[VCPU_INFO_GPA] = 0;
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    expect(ram(vm)[VCPU_INFO_GPA]).toBe(1);
    expect(vm.vcpu(0).flushShadow()).toBe(false);
    expect(drained(vm)).toEqual([5, 6, 7]);
  });

  test('KX-EVT-55 a vcpu_info that cannot be reached keeps the shadow', () => {
    const vm = make();
    unregister(vm);
    vm.send(5);
    expect(() => register(vm, vm.guestBytes)).toThrow('EFAULT');
    expect(vm.vcpu(0).flushShadow()).toBe(false);
    expect(vm.vcpu(0).upcallPending).toBe(false);
    expect(shadow(vm)).toBe(1n);
    refuses(vm, () => vm.vcpu(0).drain(), 'EFAULT');
    register(vm, OTHER);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-EVT-56 a shadow counts as events: such a vCPU does not sleep', () => {
    const vm = make();
    unregister(vm);
    vm.send(5);
    expect(vm.vcpu(0).wait(0)).toBe('events');
  });

  test('KX-EVT-16 with no vcpu_info a drain says so, and nothing is lost', () => {
    const vm = make();
    unregister(vm);
    vm.send(5);
    refuses(vm, () => vm.vcpu(0).drain(), 'EINVAL', 'vcpu_info of vCPU 0');
    expect(pendingBit(vm, 5)).toBe(true);
    expect(shadow(vm)).toBe(1n);
  });

  test('KX-EVT-55 after a change to compat only the low half is flushed; the high half waits for long mode', () => {
    const vm = makeVm({ shared, guestPages: 8 });
    unregister(vm);
    vm.send(1);
    vm.send(40 * 64);
    vm.setAttr({ type: 'long_mode', enabled: false });
    register(vm, OTHER);
    ram(vm).fill(CANARY, OTHER + VCPU_INFO_SIZE, OTHER + 2 * VCPU_INFO_SIZE);
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    expect(selector(vm, OTHER)).toBe(1n);
    expect(shadow(vm)).toBe(1n << 40n);
    expect(ram(vm)[OTHER + 8]).toBe(0);
    vm.setAttr({ type: 'long_mode', enabled: true });
    guestTakes(vm, OTHER);
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    expect(selector(vm, OTHER)).toBe(1n << 40n);
  });

  test('KF-06 KX-GPC-17 a vcpu_info that moves: bits appear only at the current place', () => {
    const vm = make();
    const places = [0x000, 0x040, 0xfc0, 0x103, 0x7fe, 0x200, 0x040].map((offset) => 6 * PAGE_SIZE + offset);
    const frame = (): Uint8Array => ram(vm).slice(5 * PAGE_SIZE, 8 * PAGE_SIZE);
    for (const [i, at] of places.entries()) {
      ram(vm).fill(CANARY, 5 * PAGE_SIZE, 8 * PAGE_SIZE);
      ram(vm).fill(0, at, at + VCPU_INFO_SIZE);
      register(vm, at);
      expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(at);
      vm.send(i + 1);
      expect(selector(vm, at)).toBe(1n);
      expect(vm.vcpu(0).drain()).toBe(1);
      const want = new Uint8Array(3 * PAGE_SIZE).fill(CANARY);
      want.fill(0, at - 5 * PAGE_SIZE, at - 5 * PAGE_SIZE + VCPU_INFO_SIZE);
      expect(changes(want, frame())).toEqual([]);
    }
  });

  test('KF-13 events whose selector bit is at the old place are delivered at the new one', () => {
    const vm = make();
    vm.send(5);
    vm.send(3 * bits);
    register(vm, OTHER);
    vm.send(6);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5, 6, 3 * bits]);
  });

  test('KF-13 so are those of a place whose mapping was dropped in between', () => {
    const vm = make();
    vm.send(5);
    dropMappings(vm);
    register(vm, OTHER);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5]);
  });

  test('KF-13 and those of a place that was unregistered for a while', () => {
    const vm = make();
    vm.send(5);
    unregister(vm);
    vm.send(2 * bits);
    register(vm, OTHER);
    expect(drained(vm)).toEqual([5, 2 * bits]);
  });

  test('R3 the old place of vcpu_info is poisoned after the move: nothing reads or writes it', () => {
    const vm = make();
    vm.send(5);
    register(vm, OTHER);
    ram(vm).fill(POISON, VCPU_INFO_GPA, VCPU_INFO_GPA + VCPU_INFO_SIZE);
    expect(drained(vm)).toEqual([5]);
    expect(vm.vcpu(0).upcallPending).toBe(false);
    for (let port = 1; port < maxPorts; port += 7) vm.send(port);
    vm.vcpu(0).resync();
    vm.vcpu(0).drain();
    const old = ram(vm).subarray(VCPU_INFO_GPA, VCPU_INFO_GPA + VCPU_INFO_SIZE);
    expect(old.every((byte) => byte === POISON)).toBe(true);
    expect(selector(vm, OTHER)).toBe(0n);
  });

  test('S-35 registering the same place again loses nothing', () => {
    const vm = make();
    vm.send(5);
    register(vm, VCPU_INFO_GPA);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5]);
    expect(drained(vm)).toEqual([]);
  });

  test('KX-EVT-45 KX-EVT-47 the upcall is a level that the byte decides, whoever wrote it', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    expect(vcpu.upcallPending).toBe(false);
    for (const value of [1, 0x80, 0xff]) {
      ram(vm)[VCPU_INFO_GPA] = value;
      expect(vcpu.upcallPending).toBe(true);
      expect(vcpu.upcallPending).toBe(true);
      expect(ram(vm)[VCPU_INFO_GPA]).toBe(value);
    }
    ram(vm)[VCPU_INFO_GPA] = 0;
    expect(vcpu.upcallPending).toBe(false);
  });

  test('KX-EVT-46 asking for the level maps a moved page again; with no vcpu_info it is false', () => {
    const vm = make();
    vm.send(5);
    dropMappings(vm);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    unregister(vm);
    guestTakes(vm);
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('XE-2L-30 resync sets every selector bit and the byte; without vcpu_info the shadow keeps them', () => {
    const vm = make(2);
    expect(changed(vm, () => vm.vcpu(1).resync()).length).toBe(1 + layoutOf(vm).wordBytes);
    expect(selector(vm, vcpuInfoGpa(1))).toBe((1n << BigInt(words)) - 1n);
    expect(selector(vm, vcpuInfoGpa(0))).toBe(0n);
    unregister(vm);
    expect(changed(vm, () => vm.vcpu(0).resync())).toEqual([]);
    register(vm, OTHER);
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    expect(selector(vm, OTHER)).toBe((1n << BigInt(words)) - 1n);
    expect(drained(vm)).toEqual([]);
  });

  test('KX-EVT-55 bits that senders add during a flush survive it', () => {
    let hook: ((kind: number, address: number) => void) | undefined;
    const options = tracing(shared, { onStep: (kind, address) => hook?.(kind, address) });
    const vm = makeVm({ longMode, guestPages: 8, ...options });
    const { line } = vm.vcpu(0);
    unregister(vm);
    vm.send(1);
    register(vm, OTHER);
    let added = false;
    hook = (kind, address) => {
      if (added || kind !== STEP_RMW || address !== vm.guestBase + OTHER + layoutOf(vm).selector) return;
      added = true;
      vm.region.words.or(line + VCPU_SHADOW_LO, 4 | 1);
    };
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    hook = undefined;
    expect(added).toBe(true);
    expect(shadow(vm) & ~1n).toBe(4n);
    expect(vm.vcpu(0).flushShadow()).toBe(true);
    expect(selector(vm, OTHER)).toBe(5n);
  });
});
