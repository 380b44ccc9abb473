// A vcpu_info at any byte: KVM allows it, wasm atomics trap on it. [KF-62, KF-06]

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../../src/abi/vcpu_info.ts';
import { gpa } from '../../src/index.ts';
import { drained, KINDS, makeVm, ram, SHARED_INFO_GPA } from '../support.ts';
import {
  bitAt,
  CANARY,
  type Change,
  changed,
  changes,
  dropMappings,
  footprint,
  guestTakes,
  layoutOf,
  selector,
} from './evidence.ts';

describe.each(KINDS)(
  'vcpu_info at any byte, $layout layout, shared memory: $shared',
  ({ longMode, shared, words, bits }) => {
    const FRAME = 5 * PAGE_SIZE;
    const offsets = [...Array.from({ length: 66 }, (_, i) => i), 0xf7f, 0xfa1, 0xfb8, 0xfbc, 0xfbd, 0xfbf, 0xfc0];

    test.each(offsets)('KF-62 KF-06 offset %i: bits at the place itself, 0xa5 around it untouched', (offset) => {
      const vm = makeVm({ longMode, shared, guestPages: 8 });
      const at = FRAME + offset;
      ram(vm).fill(CANARY, FRAME - PAGE_SIZE, FRAME + 2 * PAGE_SIZE);
      ram(vm).fill(0, at, at + VCPU_INFO_SIZE);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(at) });
      const outside = (): Change[] => {
        const expected = new Uint8Array(3 * PAGE_SIZE).fill(CANARY);
        const found = ram(vm).slice(FRAME - PAGE_SIZE, FRAME + 2 * PAGE_SIZE);
        expected.set(found.subarray(PAGE_SIZE + offset, PAGE_SIZE + offset + VCPU_INFO_SIZE), PAGE_SIZE + offset);
        return changes(expected, found);
      };
      const ports = Array.from({ length: words }, (_, i) => i * bits + 1);
      for (const [i, port] of ports.entries()) {
        expect(vm.send(port)).toBe(1);
        expect(selector(vm, at)).toBe((2n << BigInt(i)) - 1n);
        expect(ram(vm)[at]).toBe(1);
      }
      expect(vm.vcpu(0).upcallPending).toBe(true);
      expect(outside()).toEqual([]);
      expect(drained(vm)).toEqual(ports);
      expect(
        ram(vm)
          .slice(at, at + VCPU_INFO_SIZE)
          .every((byte) => byte === 0),
      ).toBe(true);
      vm.mask(bits);
      vm.send(bits);
      vm.unmask(bits);
      expect(selector(vm, at)).toBe(2n);
      vm.vcpu(0).resync();
      expect(selector(vm, at)).toBe((1n << BigInt(words)) - 1n);
      dropMappings(vm);
      expect(vm.send(2 * bits)).toBe(1);
      expect(drained(vm)).toEqual([bits, 2 * bits]);
      expect(outside()).toEqual([]);
    });

    test('KF-62 KX-EVT-17 one selector bit changes one byte at every offset', () => {
      for (const offset of [1, 2, 3, 5, 7, 63]) {
        const vm = makeVm({ longMode, shared, guestPages: 8 });
        const at = FRAME + offset;
        vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(at) });
        for (let word = 0; word < words; word += 5) {
          guestTakes(vm, at);
          expect(changed(vm, () => vm.send(word * bits + 2))).toEqual(footprint(vm, word * bits + 2, at));
          ram(vm)[at] = 0;
          const { at: byte, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm).pending, word * bits + 3);
          expect(changed(vm, () => vm.send(word * bits + 3))).toEqual([[byte, bit >> 1, bit | (bit >> 1)]]);
        }
      }
    });
  },
);
