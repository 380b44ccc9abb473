// A page that was invalidated and not mapped again yet: what is in it must not be taken for nothing.

import { describe, expect, test } from 'vitest';
import { hva, type Vm } from '../../src/index.ts';
import { KINDS, makeVm, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';

const PORT = 5;

/** Drops every mapping, as any change of host pages may. */
function dropAll(vm: Vm): void {
  vm.invalidateStart(0, 2 ** 32 - 1);
  vm.invalidateEnd();
}

/** A VM with a table of host pages, so that a page can be absent. */
function makePaged(longMode: boolean): Vm {
  return makeVm({ longMode, hostPages: 1024 });
}

describe.each(KINDS.filter(({ shared }) => shared))('a sleeper, $layout layout', ({ longMode }) => {
  test('KX-EVT-46 KF-16 an event that came before the page was dropped is found by wait', () => {
    const vm = makeVm({ longMode });
    vm.send(PORT);
    dropAll(vm);
    expect(vm.vcpu(0).wait(1e6)).toBe('events');
  });

  test('KX-EVT-46 KF-16 and by waitAsync', async () => {
    const vm = makeVm({ longMode });
    vm.send(PORT);
    dropAll(vm);
    expect(await vm.vcpu(0).waitAsync(1e6)).toBe('events');
  });

  test('KX-EVT-46 nothing there: the wait lasts its time, however often the page is dropped', () => {
    const vm = makeVm({ longMode });
    dropAll(vm);
    expect(vm.vcpu(0).wait(1e6)).toBe('timeout');
  });

  test('KX-EVT-56 a page out of reach: the wait begins all the same, and a new event ends it by the shadow', () => {
    const vm = makePaged(longMode);
    const page = hva(vm.guestBase + VCPU_INFO_GPA);
    vm.hostPages.unmap(page, 1);
    expect(vm.vcpu(0).wait(1e6)).toBe('timeout');
    expect(vm.send(PORT)).toBe(1);
    expect(vm.vcpu(0).wait(1e6)).toBe('events');
  });

  test('KX-EVT-46 the page comes back with an event in it: the sleeper looks at it soon', () => {
    const vm = makePaged(longMode);
    const page = hva(vm.guestBase + VCPU_INFO_GPA);
    const frame = vm.hostPages.lookup(page)?.hpa;
    vm.send(PORT);
    vm.hostPages.unmap(page, 1);
    expect(vm.vcpu(0).wait(1e6)).toBe('timeout');
    if (frame === undefined) throw new Error('the page was not present');
    vm.hostPages.map(page, 1, frame);
    expect(vm.vcpu(0).wait(1e6)).toBe('events');
  });
});

describe.each(KINDS.filter(({ shared }) => !shared))('a listener, $layout layout', ({ longMode }) => {
  test('KX-EVT-46 one that comes after the page was dropped is told of what waits', () => {
    const vm = makeVm({ longMode, shared: false });
    vm.send(PORT);
    dropAll(vm);
    let calls = 0;
    vm.vcpu(0).onUpcall(() => calls++);
    expect(calls).toBe(1);
  });

  test('KX-EVT-46 wait, which only looks here, finds it', () => {
    const vm = makeVm({ longMode, shared: false });
    vm.send(PORT);
    dropAll(vm);
    expect(vm.vcpu(0).wait(0)).toBe('events');
  });
});

describe.each(KINDS)('an eventfd with an interrupt, $layout layout, shared memory: $shared', ({ longMode, shared }) => {
  /** A VM whose shared_info cannot be mapped: this thread has an invalidation open. */
  function held(): { vm: Vm; write: () => number; counter: () => bigint | undefined } {
    const vm = makeVm({ longMode, shared });
    vm.routes.set([{ gsi: 8, type: 'xen_evtchn', port: PORT, vcpu: 0 }]);
    const eventfd = vm.eventfds.create();
    vm.eventfds.bindIrq(eventfd.fd, 8);
    vm.setAttr({
      type: 'evtchn',
      action: 'assign',
      sendPort: 9,
      channel: 'interdomain',
      target: { eventfd: eventfd.fd },
    });
    vm.invalidateStart(vm.guestBase + SHARED_INFO_GPA, vm.guestBase + SHARED_INFO_GPA);
    return { vm, write: () => eventfd.write(1), counter: () => vm.eventfds.list()[0]?.counter };
  }

  test('KX-RTE-21 KX-EVT-34 a write whose interrupt cannot be raised says so, and the next one raises it', () => {
    const { vm, write, counter } = held();
    expect(write()).toBe(-11);
    expect(counter()).toBe(0n);
    vm.invalidateEnd();
    expect(write()).toBe(0);
    expect(vm.portStatus(PORT).pending).toBe(true);
  });

  test('KX-HCL-42 a ring whose interrupt cannot be raised stays counted, and goes with the next', () => {
    const { vm, counter } = held();
    expect(vm.sendPorts.ring(9)).toBe(0);
    expect(counter()).toBe(1n);
    vm.invalidateEnd();
    expect(vm.sendPorts.ring(9)).toBe(0);
    expect(counter()).toBe(0n);
    expect(vm.portStatus(PORT).pending).toBe(true);
  });
});
