// One event on its way: pending, mask, selector, upcall byte, to the byte. [kvm-xen section 5]

import { describe, expect, test } from 'vitest';
import { VCPU_SHADOW_LO } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_UPCALL_MASK } from '../../src/abi/vcpu_info.ts';
import { gfn, type Vm } from '../../src/index.ts';
import {
  drained,
  KINDS,
  makeVm,
  maskBit,
  pendingBit,
  ram,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
  vcpuInfoGpa,
} from '../support.ts';
import {
  bitAt,
  CANARY,
  changed,
  changes,
  dropMappings,
  footprint,
  guestSets,
  guestTakes,
  layoutOf,
  selector,
  selectorBit,
  sharedInfoWord,
  stateBytes,
  unregister,
} from './evidence.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts, words, bits }) => {
  const make = (vcpus = 1): Vm => makeVm({ longMode, shared, vcpus, guestPages: 8 });
  const edges = [...new Set([1, 2, 7, 8, 31, 32, 33, 63, 64, 65, bits - 1, bits, maxPorts - bits, maxPorts - 1])];

  test.each(edges)(
    'KX-EVT-13 KX-EVT-15 KX-EVT-17 port %i: its pending bit, selector bit and the upcall byte',
    (port) => {
      const vm = make();
      let result = -1;
      expect(changed(vm, () => (result = vm.send(port)))).toEqual(footprint(vm, port));
      expect(result).toBe(1);
    },
  );

  test('KX-EVT-13 every port sets the one bit that is its own', () => {
    const vm = make();
    const { pending } = layoutOf(vm);
    const want = new Uint8Array(maxPorts / 8);
    for (let port = 1; port < maxPorts; port++) {
      expect(vm.send(port)).toBe(1);
      want[port >> 3] = (want[port >> 3] as number) | (1 << (port & 7));
      const byte = SHARED_INFO_GPA + pending + (port >> 3);
      if (ram(vm)[byte] !== want[port >> 3]) expect.fail(`port ${port}: byte ${ram(vm)[byte]}, not ${want[port >> 3]}`);
    }
    const found = ram(vm).slice(SHARED_INFO_GPA + pending, SHARED_INFO_GPA + pending + maxPorts / 8);
    expect(changes(want, found)).toEqual([]);
    expect(selector(vm)).toBe((1n << BigInt(words)) - 1n);
  });

  test('X-01 KX-EVT-13 KX-EVT-31 a pending port coalesces: 0, and nothing is written even if masked or the vCPU looked', () => {
    const vm = make();
    vm.send(70);
    expect(changed(vm, () => expect(vm.send(70)).toBe(0))).toEqual([]);
    guestSets(vm, 'mask', 70);
    expect(changed(vm, () => expect(vm.send(70)).toBe(0))).toEqual([]);
    guestSets(vm, 'mask', 70, false);
    guestTakes(vm);
    expect(changed(vm, () => expect(vm.send(70)).toBe(0))).toEqual([]);
  });

  test('X-02 KX-EVT-17 a second port of a selector word raises no new upcall, also after the byte was cleared', () => {
    const vm = make();
    vm.send(bits);
    ram(vm)[VCPU_INFO_GPA] = 0;
    const { pending } = layoutOf(vm);
    const { at, bit } = bitAt(SHARED_INFO_GPA + pending, bits + 1);
    expect(changed(vm, () => expect(vm.send(bits + 1)).toBe(1))).toEqual([[at, 1, 1 | bit]]);
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('KX-EVT-17 a port of another word raises the upcall again', () => {
    const vm = make();
    vm.send(bits);
    ram(vm)[VCPU_INFO_GPA] = 0;
    expect(changed(vm, () => vm.send(2 * bits))).toEqual([
      [SHARED_INFO_GPA + layoutOf(vm).pending + (2 * bits) / 8, 0, 1],
      [VCPU_INFO_GPA, 0, 1],
      [VCPU_INFO_GPA + layoutOf(vm).selector, 2, 6],
    ]);
  });

  test('KX-EVT-14 KX-EVT-32 a masked port stays pending, -107, and the vCPU is not told', () => {
    const vm = make();
    guestSets(vm, 'mask', 33);
    const { at, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm).pending, 33);
    expect(changed(vm, () => expect(vm.send(33)).toBe(-107))).toEqual([[at, 0, bit]]);
    expect(changed(vm, () => expect(vm.send(33)).toBe(0))).toEqual([]);
  });

  test('KX-EVT-14 only the mask bit of that port decides', () => {
    const vm = make();
    for (let port = 1; port < maxPorts; port++) if (port !== 40) guestSets(vm, 'mask', port);
    expect(vm.send(40)).toBe(1);
    expect(vm.send(39)).toBe(-107);
    expect(vm.send(41)).toBe(-107);
  });

  test('KX-EVT-11 KX-EVT-33 KF-58 a port out of range is -22 and no byte of the memory changes', () => {
    const vm = make();
    const before = stateBytes(vm);
    const bad = [0, -1, maxPorts, maxPorts + 1, 65535, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, -(2 ** 31)];
    for (const port of bad) {
      expect(vm.send(port), `send ${port}`).toBe(-22);
      expect(vm.mask(port), `mask ${port}`).toBe(-22);
      expect(vm.unmask(port), `unmask ${port}`).toBe(-22);
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });

  test('KX-EVT-20 the upcall mask byte of the guest is never looked at', () => {
    const vm = make();
    ram(vm)[VCPU_INFO_GPA + VCPU_INFO_UPCALL_MASK] = 1;
    expect(changed(vm, () => vm.send(9))).toEqual(footprint(vm, 9));
    expect(ram(vm)[VCPU_INFO_GPA + VCPU_INFO_UPCALL_MASK]).toBe(1);
    expect(vm.vcpu(0).upcallPending).toBe(true);
  });

  test('KX-EVT-16 KX-EVT-20 without a vcpu_info a send succeeds and its selector bit waits on our side', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    const { at, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm).pending, 100);
    expect(changed(vm, () => expect(vm.send(100)).toBe(1))).toEqual([[at, 0, bit]]);
    const word = Math.floor(100 / bits);
    expect(vm.region.words.load(vm.vcpu(0).line + VCPU_SHADOW_LO)).toBe(1 << word);
  });

  test('KF-04 a send after shared_info was cleared is an error, not a trap, and changes nothing', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    const before = stateBytes(vm);
    expect(vm.send(5)).toBe(-22);
    expect(vm.mask(5)).toBe(-22);
    expect(vm.unmask(5)).toBe(-22);
    expect(vm.sendMany([5, 6])).toBe(-22);
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });

  test('KX-EVT-10 the event goes to the vCPU the port is bound to, and to no other', () => {
    const vm = make(3);
    vm.bindVcpu(50, 2);
    expect(changed(vm, () => vm.send(50))).toEqual(footprint(vm, 50, vcpuInfoGpa(2)));
    expect(drained(vm, 0)).toEqual([]);
    expect(drained(vm, 1)).toEqual([]);
    expect(drained(vm, 2)).toEqual([50]);
  });

  test('KX-EVT-66 a drain clears the byte, takes the selector, clears exactly the bits it lists, lowest first', () => {
    const vm = make();
    const sent = [maxPorts - 1, 1, 2 * bits, bits + 3, bits + 2];
    for (const port of sent) vm.send(port);
    vm.mask(bits + 3);
    guestSets(vm, 'pending', 3 * bits + 1); // no selector bit: nobody was told
    const before = ram(vm).slice();
    expect(drained(vm)).toEqual([1, bits + 2, 2 * bits, maxPorts - 1]);
    expect(selector(vm)).toBe(0n);
    expect(ram(vm)[VCPU_INFO_GPA]).toBe(0);
    expect(pendingBit(vm, bits + 3)).toBe(true);
    expect(pendingBit(vm, 3 * bits + 1)).toBe(true);
    const where = new Set(changes(before, ram(vm)).map(([at]) => at - (at % PAGE_SIZE)));
    expect([...where].sort()).toEqual([SHARED_INFO_GPA, VCPU_INFO_GPA]);
    expect(drained(vm)).toEqual([]);
  });

  test('KX-EVT-65 XE-2L-20 unmask raises a pending port once: 1, and 0 for a port that was not masked or not pending', () => {
    const vm = make();
    expect(vm.mask(60)).toBe(1);
    expect(vm.mask(60)).toBe(0);
    expect(vm.send(60)).toBe(-107);
    expect(maskBit(vm, 60)).toBe(true);
    expect(vm.unmask(60)).toBe(1);
    expect(maskBit(vm, 60)).toBe(false);
    expect(selector(vm)).toBe(selectorBit(vm, 60));
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([60]);
    expect(vm.unmask(60)).toBe(0);
    vm.mask(61);
    expect(vm.unmask(61)).toBe(0);
    expect(selector(vm)).toBe(0n);
  });

  test('XE-2L-20 a guest that cleared the mask itself gets no help from unmask', () => {
    const vm = make();
    vm.mask(60);
    vm.send(60);
    guestSets(vm, 'mask', 60, false);
    expect(changed(vm, () => expect(vm.unmask(60)).toBe(0))).toEqual([]);
  });

  test('KX-EVT-65 unmask of a port bound elsewhere tells its vCPU', () => {
    const vm = make(2);
    vm.bindVcpu(60, 1);
    vm.mask(60);
    vm.send(60);
    expect(vm.unmask(60)).toBe(1);
    expect(selector(vm, vcpuInfoGpa(0))).toBe(0n);
    expect(drained(vm, 1)).toEqual([60]);
  });

  test('KX-EVT-65 mask and unmask change their one bit and no other', () => {
    const vm = make();
    for (const port of edges) {
      const { at, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm).mask, port);
      expect(
        changed(vm, () => vm.mask(port)),
        `mask ${port}`,
      ).toEqual([[at, 0, bit]]);
      expect(
        changed(vm, () => vm.unmask(port)),
        `unmask ${port}`,
      ).toEqual([[at, bit, 0]]);
    }
  });

  test('KX-EVT-12 while a page may not be used a send is -11 and changes nothing; afterwards it is delivered', () => {
    const vm = make();
    vm.invalidateStart(vm.guestBase + SHARED_INFO_GPA, vm.guestBase + SHARED_INFO_GPA + PAGE_SIZE - 1);
    const before = ram(vm).slice();
    expect(vm.send(5)).toBe(-11);
    expect(vm.mask(5)).toBe(-11);
    expect(vm.unmask(5)).toBe(-11);
    expect(vm.sendMany([5, 6, 7])).toBe(-11);
    expect(vm.vcpu(0).drain()).toBe(0);
    expect(changes(before, ram(vm))).toEqual([]);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
    expect(vm.sendMany([6, 7])).toBe(2);
    expect(drained(vm)).toEqual([5, 6, 7]);
  });

  test('KX-EVT-16 while the page of vcpu_info may not be used the shadow takes the event, and the next look has it', () => {
    const vm = make();
    vm.invalidateStart(vm.guestBase + VCPU_INFO_GPA, vm.guestBase + VCPU_INFO_GPA);
    const { at, bit } = bitAt(SHARED_INFO_GPA + layoutOf(vm).pending, 5);
    expect(changed(vm, () => expect(vm.send(5)).toBe(1))).toEqual([[at, 0, bit]]);
    expect(vm.vcpu(0).upcallPending).toBe(false);
    vm.invalidateEnd();
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-EVT-25 KX-EVT-27 a send after a page move maps it again by itself', () => {
    const vm = make();
    expect(dropMappings(vm)).toBe(2);
    expect(sharedInfoWord(vm)).toBeGreaterThanOrEqual(2 ** 32 - PAGE_SIZE);
    expect(vm.send(5)).toBe(1);
    dropMappings(vm);
    expect(vm.mask(5)).toBe(1);
    dropMappings(vm);
    expect(vm.unmask(5)).toBe(1);
    dropMappings(vm);
    expect(drained(vm)).toEqual([5]);
  });

  test('XE-2L-21 portStatus says what lies in the pages and on our side, and changes nothing', () => {
    const vm = make(2);
    const quiet = {
      vcpu: 0,
      bound: false,
      pending: false,
      masked: false,
      selected: false,
      upcallPending: false,
      shadowed: false,
      vcpuInfoMapped: true,
    };
    expect(vm.portStatus(70)).toEqual(quiet);
    vm.mask(70);
    vm.send(70);
    expect(changed(vm, () => expect(vm.portStatus(70)).toEqual({ ...quiet, pending: true, masked: true }))).toEqual([]);
    vm.unmask(70);
    const raised = { ...quiet, pending: true, selected: true, upcallPending: true };
    expect(changed(vm, () => expect(vm.portStatus(70)).toEqual(raised))).toEqual([]);
    expect(vm.portStatus(71)).toEqual({ ...raised, pending: false });
    expect(vm.portStatus(5 * bits)).toEqual({ ...quiet, upcallPending: true });
    vm.bindVcpu(200, 1);
    unregister(vm, 1);
    vm.send(200);
    expect(vm.portStatus(200)).toEqual({
      ...quiet,
      vcpu: 1,
      bound: true,
      pending: true,
      shadowed: true,
      vcpuInfoMapped: false,
    });
    dropMappings(vm);
    expect(vm.portStatus(70)).toMatchObject({ pending: true });
  });

  test('X-04 X-05 KF-61 a change of mode moves the limit at once; what is pending stays where it was', () => {
    const vm = make();
    vm.setAttr({ type: 'long_mode', enabled: false });
    expect(vm.maxPorts).toBe(1024);
    expect(vm.send(1023)).toBe(1);
    expect(vm.send(1024)).toBe(-22);
    vm.setAttr({ type: 'long_mode', enabled: true });
    expect(vm.maxPorts).toBe(4096);
    expect(vm.send(1024)).toBe(1);
    expect(vm.send(4095)).toBe(1);
    // Pending bits are at the same place in both layouts.
    expect(vm.send(1023)).toBe(0);
  });
});

describe('KF-60 the compat bitmaps end where the long ones go on', () => {
  test.each([true, false])('a canary after them survives every port, shared memory: %s', (shared) => {
    const vm = makeVm({ longMode: false, shared, guestPages: 8 });
    const { pending, mask } = layoutOf(vm);
    const from = SHARED_INFO_GPA + mask + 128;
    ram(vm).fill(CANARY, from, SHARED_INFO_GPA + PAGE_SIZE);
    for (let port = 0; port < 4100; port++) {
      vm.mask(port);
      vm.send(port);
      vm.unmask(port);
    }
    const ports = Uint32Array.from({ length: 4096 }, (_, i) => i);
    vm.sendMany(ports);
    drained(vm);
    expect(
      ram(vm)
        .subarray(from, SHARED_INFO_GPA + PAGE_SIZE)
        .every((byte) => byte === CANARY),
    ).toBe(true);
    expect(pending).toBeLessThan(mask);
  });
});

describe('KX-VMA-04 KX-EVT-34 the page goes and comes back', () => {
  test.each(KINDS)('$layout layout, shared memory: $shared: pending and mask bits survive', ({ longMode, shared }) => {
    const vm = makeVm({ longMode, shared });
    vm.send(5);
    vm.mask(6);
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(vm.send(7)).toBe(-22);
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GPA / PAGE_SIZE) });
    expect(vm.send(5)).toBe(0);
    expect(vm.send(6)).toBe(-107);
    expect(vm.send(7)).toBe(1);
    expect(drained(vm)).toEqual([5, 7]);
  });
});
