// The upcall as an edge: listeners in memory of a single agent, vectors of a vCPU. [KX-EVT-17, 18, 48, 50, 55]

import { describe, expect, test, vi } from 'vitest';
import { KICK_LISTENER, VCPU_KICK } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import type { Vm } from '../../src/index.ts';
import { drained, KINDS, LAYOUTS, makeVm } from '../support.ts';
import { register, unregister } from './evidence.ts';

const OTHER = 6 * PAGE_SIZE + 0x400;

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, bits }) => {
  const make = (vcpus = 1): Vm => makeVm({ longMode, shared, vcpus, guestPages: 8 });

  test('KX-EVT-18 KX-EVT-48 takeUpcallVector: due for each new selector bit, taken once, not for coalesced or masked events', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    expect(vcpu.takeUpcallVector()).toBe(0);
    vm.send(5);
    expect(vcpu.takeUpcallVector()).toBe(0);
    vcpu.setAttr({ type: 'upcall_vector', vector: 0x40 });
    vm.send(6);
    expect(vcpu.takeUpcallVector()).toBe(0);
    vm.send(3 * bits);
    expect(vcpu.takeUpcallVector()).toBe(0x40);
    expect(vcpu.takeUpcallVector()).toBe(0);
    vm.send(3 * bits);
    vm.mask(4 * bits);
    vm.send(4 * bits);
    expect(vcpu.takeUpcallVector()).toBe(0);
    vm.unmask(4 * bits);
    expect(vcpu.takeUpcallVector()).toBe(0x40);
  });

  test('KX-EVT-18 KX-EVT-55 takeUpcallVector: an event in the shadow is due when it is flushed, not before', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'upcall_vector', vector: 0x40 });
    unregister(vm);
    vm.send(5);
    expect(vm.vcpu(0).takeUpcallVector()).toBe(0);
    register(vm, OTHER);
    vm.vcpu(0).flushShadow();
    expect(vm.vcpu(0).takeUpcallVector()).toBe(0x40);
  });
});

describe.each(LAYOUTS)('onUpcall, $layout layout', ({ longMode, bits }) => {
  function listening(vector = 0): { vm: Vm; calls: number[] } {
    const vm = makeVm({ longMode, shared: false, vcpus: 2, guestPages: 8 });
    const calls: number[] = [];
    if (vector) vm.vcpu(0).setAttr({ type: 'upcall_vector', vector });
    vm.vcpu(0).onUpcall((vcpu, due) => {
      expect(vcpu).toBe(vm.vcpu(0));
      calls.push(due);
    });
    return { vm, calls };
  }

  test('KX-EVT-17 called on the edge of the byte, from inside the send, once', () => {
    const { vm, calls } = listening();
    expect(vm.send(5)).toBe(1);
    expect(calls).toEqual([0]);
    vm.send(6);
    vm.send(5);
    vm.send(3 * bits);
    expect(calls).toEqual([0]);
    drained(vm);
    vm.send(5);
    expect(calls).toEqual([0, 0]);
  });

  test('KX-EVT-14 not called for a masked port, called by the unmask', () => {
    const { vm, calls } = listening();
    vm.mask(5);
    vm.send(5);
    expect(calls).toEqual([]);
    vm.unmask(5);
    expect(calls).toEqual([0]);
  });

  test('KX-EVT-10 not called for the ports of another vCPU', () => {
    const { vm, calls } = listening();
    vm.bindVcpu(5, 1);
    vm.send(5);
    expect(calls).toEqual([]);
    vm.bindVcpu(5, 0);
    expect(calls).toEqual([0]);
  });

  test('KF-20 an event that came before the listener calls it at once', () => {
    const vm = makeVm({ longMode, shared: false });
    vm.send(5);
    let calls = 0;
    vm.vcpu(0).onUpcall(() => calls++);
    expect(calls).toBe(1);
    vm.vcpu(0).onUpcall(null);
    drained(vm);
    vm.send(5);
    expect(calls).toBe(1);
  });

  test('KX-EVT-48 KX-EVT-50 with a vector of its own the vCPU gets it for every new selector bit', () => {
    const { vm, calls } = listening(0x40);
    vm.send(5);
    expect(calls).toEqual([0x40]);
    vm.send(6);
    expect(calls).toEqual([0x40]);
    vm.send(3 * bits);
    expect(calls).toEqual([0x40, 0x40]);
    vm.vcpu(0).setAttr({ type: 'upcall_vector', vector: 0 });
    drained(vm);
    vm.send(5);
    expect(calls).toEqual([0x40, 0x40, 0]);
  });

  test('KX-EVT-18 KX-EVT-48 an event that goes to the shadow kicks without a vector; the flush sends the vector', () => {
    const { vm, calls } = listening(0x40);
    unregister(vm);
    vm.send(5);
    expect(calls).toEqual([0]);
    register(vm, OTHER);
    vm.vcpu(0).flushShadow();
    expect(calls).toEqual([0, 0x40]);
  });

  test('KX-EVT-55 a flush sends the vector even if the bits and the byte were set already', () => {
    const { vm, calls } = listening(0x40);
    unregister(vm);
    vm.send(5);
    calls.length = 0;
    register(vm, OTHER);
    vm.send(6);
    calls.length = 0;
    vm.vcpu(0).flushShadow();
    expect(calls).toEqual([0x40]);
  });

  test('KX-EVT-16 events in the shadow call the listener once, for the first, and again after a drain', () => {
    const { vm, calls } = listening();
    unregister(vm);
    vm.send(5);
    vm.send(6);
    vm.send(3 * bits);
    expect(calls.length).toBe(1);
    register(vm, OTHER);
    expect(drained(vm)).toEqual([5, 6, 3 * bits]);
    unregister(vm);
    vm.send(5);
    expect(calls.length).toBe(2);
  });

  test('what a listener throws never reaches the sender; it is reported', () => {
    const vm = makeVm({ longMode, shared: false });
    const reports: (() => void)[] = [];
    const spy = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => reports.push(report));
    try {
      vm.vcpu(0).onUpcall(() => {
        throw new RangeError('mine');
      });
      expect(vm.send(5)).toBe(1);
    } finally {
      spy.mockRestore();
    }
    expect(reports.length).toBe(1);
    expect(() => reports[0]?.()).toThrow(RangeError);
    expect(drained(vm)).toEqual([5]);
  });

  test('a listener may drain, and its handlers may send to another vCPU, from single sends and from a batch', () => {
    const vm = makeVm({ longMode, shared: false, vcpus: 2 });
    for (const port of [20, 21, 22]) vm.bindVcpu(port, 1);
    const seen: number[] = [];
    vm.vcpu(1).onUpcall((vcpu) => vcpu.drain((port) => seen.push(port)));
    vm.vcpu(0).onUpcall((vcpu) =>
      vcpu.drain((port) => {
        seen.push(port);
        vm.send(port + 15);
      }),
    );
    for (const port of [5, 6, 7]) vm.send(port);
    expect(seen).toEqual([5, 20, 6, 21, 7, 22]);
    expect(vm.sendMany([5, 6, 7])).toBe(3);
    expect(seen.slice(6).sort((a, b) => a - b)).toEqual([5, 6, 7, 20, 21, 22]);
  });

  test('R1 an event that a handler sends to its own vCPU, inside a listener, is not left without an upcall', () => {
    const vm = makeVm({ longMode, shared: false });
    const reports: (() => void)[] = [];
    const spy = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => reports.push(report));
    const seen: number[] = [];
    try {
      vm.vcpu(0).onUpcall((vcpu) =>
        vcpu.drain((port) => {
          seen.push(port);
          if (port === 5) vm.send(6);
        }),
      );
      vm.send(5);
      vm.send(7);
    } finally {
      spy.mockRestore();
    }
    expect(reports.length).toBe(0);
    expect(seen).toEqual([5, 6, 7]);
  });

  test('without a listener nothing of a kick is left set', () => {
    const vm = makeVm({ longMode, shared: false });
    const kick = (): number => vm.region.words.load(vm.vcpu(0).line + VCPU_KICK);
    vm.vcpu(0).onUpcall(() => {});
    expect(kick()).toBe(KICK_LISTENER);
    vm.vcpu(0).onUpcall(null);
    expect(kick()).toBe(0);
  });
});
