// Which vCPU gets a port, and what a change of that does to events on their way. [KX-EVT-10, KF-13, KF-19]

import { describe, expect, test } from 'vitest';
import type { Vm } from '../../src/index.ts';
import { drained, KINDS, makeVm, pendingBit, ram, SHARED_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { changed, layoutOf, selector, selectorBit } from './evidence.ts';

describe.each(KINDS)('binding, $layout layout, shared memory: $shared', ({ longMode, shared, bits, maxPorts }) => {
  const make = (vcpus: number): Vm => makeVm({ longMode, shared, vcpus, guestPages: 8 });

  test('KF-13 KX-EVT-10 an event that is pending when its port is bound anew reaches the new vCPU', () => {
    const vm = make(2);
    vm.send(20);
    vm.bindVcpu(20, 1);
    expect(selector(vm, vcpuInfoGpa(1))).toBe(selectorBit(vm, 20));
    expect(ram(vm)[vcpuInfoGpa(1)]).toBe(1);
    expect(drained(vm, 0)).toEqual([]);
    expect(pendingBit(vm, 20)).toBe(true);
    expect(drained(vm, 1)).toEqual([20]);
  });

  test('KF-19 a vCPU takes its own ports of a word and leaves those of others pending and announced', () => {
    const vm = make(3);
    for (let port = bits; port < 2 * bits; port++) vm.bindVcpu(port, port % 3);
    for (let port = bits; port < 2 * bits; port++) expect(vm.send(port)).toBe(1);
    for (const vcpu of [1, 0, 2]) {
      const own = Array.from({ length: bits }, (_, i) => bits + i).filter((port) => port % 3 === vcpu);
      expect(selector(vm, vcpuInfoGpa(vcpu))).toBe(selectorBit(vm, bits));
      expect(drained(vm, vcpu)).toEqual(own);
      for (const port of own) expect(pendingBit(vm, port)).toBe(false);
    }
  });

  test('KF-19 binding one port touches neither the pending bits nor the selectors of its neighbours', () => {
    const vm = make(3);
    vm.send(bits + 1);
    vm.send(bits + 2);
    const { selector: offset } = layoutOf(vm);
    const made = changed(vm, () => vm.bindVcpu(bits + 2, 2));
    expect(made).toEqual([
      [vcpuInfoGpa(2), 0, 1],
      [vcpuInfoGpa(2) + offset, 0, 2],
    ]);
    expect(drained(vm, 1)).toEqual([]);
    expect(drained(vm, 0)).toEqual([bits + 1]);
    expect(drained(vm, 2)).toEqual([bits + 2]);
  });

  test('KX-EVT-14 a masked pending port tells the new vCPU only when it is unmasked', () => {
    const vm = make(2);
    vm.mask(20);
    vm.send(20);
    expect(changed(vm, () => vm.bindVcpu(20, 1))).toEqual([]);
    expect(vm.unmask(20)).toBe(1);
    expect(drained(vm, 0)).toEqual([]);
    expect(drained(vm, 1)).toEqual([20]);
  });

  test('a bind without a pending event changes no byte of the guest, and back again neither', () => {
    const vm = make(2);
    expect(changed(vm, () => vm.bindVcpu(maxPorts - 1, 1))).toEqual([]);
    expect(changed(vm, () => vm.bindVcpu(maxPorts - 1, 0))).toEqual([]);
    expect(changed(vm, () => vm.bindVcpu(1, 1))).toEqual([]);
    vm.send(maxPorts - 1);
    expect(drained(vm, 0)).toEqual([maxPorts - 1]);
  });

  test('an unbound port asks vCPU 0, and whichever vCPU looks at its word first takes it', () => {
    const vm = make(3);
    expect(vm.send(bits + 1)).toBe(1);
    expect(selector(vm, vcpuInfoGpa(0))).toBe(selectorBit(vm, bits));
    expect(drained(vm, 1)).toEqual([]);
    expect(pendingBit(vm, bits + 1)).toBe(true);
    // vCPU 2 looks at the word for a port of its own.
    vm.bindVcpu(bits + 2, 2);
    vm.send(bits + 2);
    expect(drained(vm, 2)).toEqual([bits + 1, bits + 2]);
    expect(drained(vm, 0)).toEqual([]);
    expect(vm.portStatus(bits + 1)).toMatchObject({ vcpu: 0, bound: false, pending: false });
    expect(vm.portStatus(bits + 2)).toMatchObject({ vcpu: 2, bound: true });
  });

  test('a port bound to vCPU 0 is not an unbound one: no other vCPU takes it', () => {
    const vm = make(2);
    vm.bindVcpu(bits + 1, 0);
    vm.bindVcpu(bits + 2, 1);
    vm.sendMany([bits + 1, bits + 2, bits + 3]);
    expect(drained(vm, 1)).toEqual([bits + 2, bits + 3]);
    expect(drained(vm, 0)).toEqual([bits + 1]);
    expect(vm.portStatus(bits + 1)).toMatchObject({ vcpu: 0, bound: true });
  });

  test('a group all of whose ports are bound to vCPU 0 is not an unbound one either', () => {
    const vm = make(2);
    for (let port = 64; port < 128; port++) vm.bindVcpu(port, 0);
    vm.sendMany([64, 127]);
    vm.vcpu(1).resync();
    expect(drained(vm, 1)).toEqual([]);
    expect(drained(vm, 0)).toEqual([64, 127]);
  });

  test('KF-39 after many moves the last binding holds, for its whole group too', () => {
    const vm = make(4);
    for (let round = 0; round < 4; round++)
      for (let port = 64; port < 128; port++) vm.bindVcpu(port, (port + round) % 4);
    for (let port = 64; port < 128; port++) vm.bindVcpu(port, 3);
    vm.sendMany(Array.from({ length: 64 }, (_, i) => 64 + i));
    expect(selector(vm, vcpuInfoGpa(0)) | selector(vm, vcpuInfoGpa(1)) | selector(vm, vcpuInfoGpa(2))).toBe(0n);
    expect(drained(vm, 3).length).toBe(64);
  });

  test('KX-EVT-16 a bind while shared_info is away costs at most one look too many, and loses nothing', () => {
    const vm = make(2);
    vm.send(20);
    vm.invalidateStart(vm.guestBase + SHARED_INFO_GPA, vm.guestBase + SHARED_INFO_GPA);
    vm.bindVcpu(20, 1);
    vm.invalidateEnd();
    expect(drained(vm, 0)).toEqual([]);
    expect(drained(vm, 1)).toEqual([20]);
  });

  test('KX-EVT-10 the last of 4096 vCPUs gets its ports like the first', () => {
    const vm = makeVm({ longMode, shared, vcpus: 4096, agents: 1, guestPages: 4 + 64 });
    vm.bindVcpu(bits, 4095);
    vm.bindVcpu(bits + 1, 0);
    vm.bindVcpu(maxPorts - 1, 4094);
    vm.send(bits);
    vm.sendMany([bits + 1, maxPorts - 1]);
    expect(drained(vm, 4095)).toEqual([bits]);
    expect(drained(vm, 4094)).toEqual([maxPorts - 1]);
    expect(drained(vm, 0)).toEqual([bits + 1]);
    expect(vm.portStatus(bits).vcpu).toBe(4095);
  });
});
