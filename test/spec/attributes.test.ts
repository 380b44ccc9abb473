// VM and vCPU attributes: what a set writes, what a get reads back, what a failure leaves. [kvm-xen sections 3.2 and 4]

import { describe, expect, test } from 'vitest';
import { PVCLOCK_SIZE } from '../../src/abi/pvclock.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../../src/abi/vcpu_info.ts';
import { createVm, gfn, gpa, hva, type Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  KINDS,
  makeVm,
  pendingBit,
  ram,
  random,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { changed, changes, POISON, refuses, stateBytes } from './evidence.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const bare = (options = {}): Vm => {
    const vm = createVm({ guestPages: 8, vcpus: 2, bare: true, shared, ...options });
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    return vm;
  };

  test('KX-GEN-01 KX-GEN-02 a bare VM: compat, nothing registered, no vectors, no marker', () => {
    const vm = createVm({ guestPages: 8, bare: true, shared });
    expect(vm.getAttr('long_mode')).toEqual({ type: 'long_mode', enabled: false });
    expect(vm.getAttr('shared_info')).toEqual({ type: 'shared_info', gfn: null });
    expect(vm.getAttr('upcall_vector')).toEqual({ type: 'upcall_vector', vector: 0 });
    expect(vm.getAttr('runstate_update_flag')).toEqual({ type: 'runstate_update_flag', enabled: false });
    for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const) {
      expect(vm.vcpu(0).getAttr(type)).toEqual({ type, gpa: null });
    }
    expect(vm.vcpu(0).getAttr('upcall_vector')).toEqual({ type: 'upcall_vector', vector: 0 });
    expect(vm.getAttr('shared_info_hva')).toEqual({ type: 'shared_info_hva', hva: null });
    expect(vm.getAttr('xen_version')).toEqual({ type: 'xen_version', version: 0 });
    expect(vm.vcpu(0).getAttr('vcpu_info_hva')).toEqual({ type: 'vcpu_info_hva', hva: null });
    expect(vm.vcpu(0).getAttr('vcpu_id')).toEqual({ type: 'vcpu_id', id: 0 });
    expect(ram(vm).every((byte) => byte === 0)).toBe(true);
  });

  test('createVm with sizes only is ready: long mode, all registered', () => {
    const vm = createVm({ vcpus: 3, shared });
    expect(vm.getAttr('long_mode').enabled).toBe(true);
    expect(vm.getAttr('shared_info').gfn).toBe(0);
    for (let i = 0; i < 3; i++) expect(vm.vcpu(i).getAttr('vcpu_info').gpa).toBe(PAGE_SIZE + i * VCPU_INFO_SIZE);
    expect(vm.send(1)).toBe(1);
    expect(drained(vm)).toEqual([1]);
  });

  test('KF-64 what is set is read back, for random values of every attribute', () => {
    const vm = bare();
    const vcpu = vm.vcpu(1);
    const next = random(11);
    for (let round = 0; round < 40; round++) {
      const enabled = next(2) === 1;
      const vector = next(5) === 0 ? 0 : 16 + next(240);
      for (const type of ['long_mode', 'runstate_update_flag'] as const) {
        vm.setAttr({ type, enabled });
        expect(vm.getAttr(type)).toEqual({ type, enabled });
      }
      vm.setAttr({ type: 'upcall_vector', vector });
      expect(vm.getAttr('upcall_vector')).toEqual({ type: 'upcall_vector', vector });
      vcpu.setAttr({ type: 'upcall_vector', vector: 255 - (vector && vector - 16) });
      expect(vcpu.getAttr('upcall_vector').vector).toBe(255 - (vector && vector - 16));
      const version = next(2 ** 32 - 1);
      vm.setAttr({ type: 'xen_version', version });
      expect(vm.getAttr('xen_version')).toEqual({ type: 'xen_version', version });
      const id = next(1024);
      vcpu.setAttr({ type: 'vcpu_id', id });
      expect(vcpu.getAttr('vcpu_id')).toEqual({ type: 'vcpu_id', id });
      const byHost = hva(vm.guestBase + next(8) * PAGE_SIZE);
      vm.setAttr({ type: 'shared_info_hva', hva: byHost });
      expect(vm.getAttr('shared_info_hva')).toEqual({ type: 'shared_info_hva', hva: byHost });
      vcpu.setAttr({ type: 'vcpu_info_hva', hva: byHost });
      expect(vcpu.getAttr('vcpu_info_hva')).toEqual({ type: 'vcpu_info_hva', hva: byHost });
      vm.setAttr({ type: 'shared_info', gfn: gfn(next(8)) });
      const frame = vm.getAttr('shared_info');
      vm.setAttr(frame);
      expect(vm.getAttr('shared_info')).toEqual(frame);
      for (const [type, room] of [
        ['vcpu_info', PAGE_SIZE - VCPU_INFO_SIZE],
        ['vcpu_time_info', PAGE_SIZE - PVCLOCK_SIZE],
        ['runstate_addr', PAGE_SIZE - 1],
      ] as const) {
        const at = gpa(next(7) * PAGE_SIZE + next(room + 1));
        vcpu.setAttr({ type, gpa: at });
        expect(vcpu.getAttr(type)).toEqual({ type, gpa: at });
        expect(vm.vcpu(0).getAttr(type).gpa).toBe(null);
      }
    }
  });

  test('KF-11 guest address 0 is an address like any other', () => {
    const vm = bare();
    vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0) });
    expect(vm.getAttr('shared_info').gfn).toBe(0);
    expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(0);
    expect(vm.send(5)).toBe(1);
    expect(ram(vm)[0]).toBe(1);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-VMA-04 unregistering shared_info works twice, and writes nothing', () => {
    const vm = makeVm({ longMode, shared });
    for (let i = 0; i < 2; i++) {
      expect(changed(vm, () => vm.setAttr({ type: 'shared_info', gfn: null }))).toEqual([]);
      expect(vm.getAttr('shared_info').gfn).toBe(null);
    }
  });

  test('KX-VMA-05 KX-VMA-06 X-06 a frame out of reach: EFAULT, the get shows it, sends try again by themselves', () => {
    const vm = bare();
    vm.setAttr({ type: 'shared_info', gfn: gfn(3) });
    vm.send(5);
    const before = ram(vm).slice();
    const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(8) }));
    expect(error.code).toBe('EFAULT');
    for (const word of ['0x8000', '0x0..0x7fff']) expect(error.message).toContain(word);
    expect(vm.getAttr('shared_info').gfn).toBe(8);
    for (const call of [() => vm.send(6), () => vm.sendMany([6, 7]), () => vm.mask(6), () => vm.unmask(6)]) {
      expect(call()).toBe(-14);
    }
    expect(changes(before, ram(vm))).toEqual([]);
    // The slot appears.
    const page = 7 * PAGE_SIZE;
    vm.memslots.set({ id: 1, gpa: gpa(0x8000), bytes: PAGE_SIZE, hva: hva(vm.guestBase + page) });
    expect(vm.send(6)).toBe(1);
    expect([...ram(vm).subarray(page, page + PAGE_SIZE)].filter((byte) => byte !== 0)).toEqual([1 << 6]);
  });

  test('KX-VMA-05 a frame out of reach replaces the one before: the old page is left alone', () => {
    const vm = makeVm({ longMode, shared });
    vm.send(5);
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(2 ** 41 - 1) }));
    expect(vm.getAttr('shared_info').gfn).toBe(2 ** 41 - 1);
    expect(vm.send(6)).toBe(-14);
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect(pendingBit(vm, 5)).toBe(true);
    expect(vm.send(5)).toBe(0);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-VMA-07 the page is not cleared: its pending and mask bits count from the start', () => {
    const vm = bare();
    const at = 2 * PAGE_SIZE;
    ram(vm).fill(0xff, at, at + PAGE_SIZE);
    vm.setAttr({ type: 'shared_info', gfn: gfn(2) });
    expect(vm.send(7)).toBe(0);
    expect(vm.mask(7)).toBe(0);
    expect(vm.unmask(7)).toBe(1);
  });

  test('KX-GPC-17 R3 shared_info that moves: new events only at the new frame, the old one is poisoned and stays so', () => {
    const vm = makeVm({ longMode, shared });
    vm.send(5);
    vm.setAttr({ type: 'shared_info', gfn: gfn(6) });
    ram(vm).fill(POISON, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
    expect(vm.send(5)).toBe(1);
    vm.mask(6);
    vm.send(6);
    vm.unmask(6);
    vm.sendMany([7, 8, 9]);
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    expect(drained(vm)).toEqual([5, 6, 7, 8, 9]);
    const old = ram(vm).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
    expect(old.every((byte) => byte === POISON)).toBe(true);
  });

  test('KX-VMA-13 KX-VCA-13 vectors: a set writes nothing to the guest and injects nothing', () => {
    const vm = makeVm({ longMode, shared });
    for (const vector of [16, 255, 0]) {
      expect(changed(vm, () => vm.setAttr({ type: 'upcall_vector', vector }))).toEqual([]);
      expect(changed(vm, () => vm.vcpu(0).setAttr({ type: 'upcall_vector', vector }))).toEqual([]);
    }
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });

  test('KX-VMA-15 the update flag writes nothing at once', () => {
    const vm = makeVm({ longMode, shared });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0) });
    expect(changed(vm, () => vm.setAttr({ type: 'runstate_update_flag', enabled: true }))).toEqual([]);
  });

  test('KX-VCA-01 X-09 vcpu_info: nothing is written by the set, any byte of a page, but not across its end', () => {
    const vm = makeVm({ longMode, shared });
    expect(changed(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5fc0) }))).toEqual([]);
    for (const offset of [0xfc1, 0xfff]) {
      refuses(
        vm,
        () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5000 + offset) }),
        'EINVAL',
        `0x5${offset.toString(16)}`,
        '0xfc0',
      );
    }
    expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(0x5fc0);
    expect(vm.send(5)).toBe(1);
    expect(ram(vm)[0x5fc0]).toBe(1);
  });

  test('KX-VCA-04 vcpu_time_info: 32 bytes in one page', () => {
    const vm = makeVm({ longMode, shared });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5fe0) });
    refuses(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5fe1) }), 'EINVAL', '0x5fe1', '0xfe0');
    expect(vm.vcpu(0).getAttr('vcpu_time_info').gpa).toBe(0x5fe0);
  });

  test('KX-VCA-01 KX-VCA-03 an address out of reach: EFAULT, and the get shows it', () => {
    const vm = makeVm({ longMode, shared });
    for (const type of ['vcpu_info', 'vcpu_time_info'] as const) {
      for (const at of [vm.guestBytes, vm.guestBytes + PAGE_SIZE, 2 ** 32, 2 ** 40, 2 ** 53 - PAGE_SIZE]) {
        const before = ram(vm).slice();
        const error = errorOf(() => vm.vcpu(0).setAttr({ type, gpa: gpa(at) }));
        expect(error.code).toBe('EFAULT');
        expect(error.message).toContain(`0x${at.toString(16)}`);
        expect(error.message).toContain(`0x0..0x${(vm.guestBytes - 1).toString(16)}`);
        expect(vm.vcpu(0).getAttr(type).gpa).toBe(at);
        expect(changes(before, ram(vm))).toEqual([]);
      }
    }
    // KX-EVT-16: delivery goes on without it.
    expect(vm.send(5)).toBe(1);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) });
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-VCA-05 X-15 runstate with its second page out of reach: EFAULT, both inactive, nothing written', () => {
    const vm = makeVm({ longMode, shared });
    const size = longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x5000) });
    const before = ram(vm).slice();
    const error = errorOf(() => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(vm.guestBytes - size + 1) }));
    expect(error.code).toBe('EFAULT');
    expect(error.message).toContain(`0x${vm.guestBytes.toString(16)}`);
    expect(vm.vcpu(0).getAttr('runstate_addr').gpa).toBe(null);
    vm.vcpu(0).enterRunstate('blocked', 10n);
    expect(changes(before, ram(vm))).toEqual([]);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(vm.guestBytes - size) });
    expect(changes(before, ram(vm)).length).toBeGreaterThan(0);
  });

  test('KX-VCA-05 runstate with its first page out of reach: EFAULT and inactive', () => {
    const vm = makeVm({ longMode, shared });
    const error = errorOf(() => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(vm.guestBytes) }));
    expect(error.code).toBe('EFAULT');
    expect(vm.vcpu(0).getAttr('runstate_addr').gpa).toBe(null);
  });

  test('a set while its page is being changed: EAGAIN, the get shows the address, afterwards it is used', () => {
    const vm = makeVm({ longMode, shared });
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    const shared_info = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(6) }));
    expect(shared_info.code).toBe('EAGAIN');
    expect(shared_info.message).toContain('0x6000');
    const vcpu_info = errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5040) }));
    expect(vcpu_info.code).toBe('EAGAIN');
    expect(vm.getAttr('shared_info').gfn).toBe(6);
    expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(0x5040);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
  });

  test('a change of mode while shared_info is being changed says EAGAIN, not EFAULT: the page is there', () => {
    const vm = makeVm({ longMode, shared });
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    const error = errorOf(() => vm.setAttr({ type: 'long_mode', enabled: !longMode }));
    expect(vm.getAttr('long_mode').enabled).toBe(!longMode);
    vm.invalidateEnd();
    expect(error.code).toBe('EAGAIN');
  });

  test('R4 an attribute that is refused leaves every byte of the VM as it was', () => {
    const vm = makeVm({ longMode, shared });
    vm.send(5);
    const before = stateBytes(vm);
    for (const value of [-1, 1.5, Number.NaN, 2 ** 53]) {
      expect(errorOf(() => vm.setAttr({ type: 'shared_info', gfn: value as ReturnType<typeof gfn> })).code).toBe(
        'EINVAL',
      );
      for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const) {
        const attr = { type, gpa: value as ReturnType<typeof gpa> };
        expect(errorOf(() => vm.vcpu(0).setAttr(attr)).code).toBe('EINVAL');
      }
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });
});
