// What another agent, a handler or a page fault does in the middle of a call, and what a thread leaves that dies there.

import { describe, expect, test } from 'vitest';
import { AGENT_POLL_LIST, KICK_SLEEPER, REGION_POLLERS, VCPU_KICK, VCPU_RUNSTATE2_GPC } from '../../src/abi/region.ts';
import { attachVm, gpa, hva, type Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  KINDS,
  LAYOUTS,
  makeVm,
  pendingBit,
  ram,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { traceOf } from './evidence.ts';

const hostOf = (vm: Vm, at: number): number => vm.guestBase + at;

function dropPage(vm: Vm, at: number): void {
  vm.invalidateStart(hostOf(vm, at), hostOf(vm, at));
  vm.invalidateEnd();
}

const asleep = (vm: Vm): boolean => (vm.region.words.load(vm.vcpu(0).line + VCPU_KICK) & KICK_SLEEPER) !== 0;

/** Runs `call` at the first nap of this view's waits, instead of the nap. */
function inNap(vm: Vm, call: () => void): void {
  let done = false;
  vm.region.words.wait = () => {
    if (!done) call();
    done = true;
    return true;
  };
}

function irqVm(longMode: boolean) {
  const vm = makeVm({ longMode });
  const eventfd = vm.eventfds.create();
  vm.routes.set([{ type: 'xen_evtchn', gsi: 1, port: 5, vcpu: 0 }]);
  vm.eventfds.bindIrq(eventfd.fd, 1);
  const target = { eventfd: eventfd.fd };
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 9, channel: 'interdomain', target });
  return { vm, eventfd };
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  test('R1 a handler that throws on vCPU 1: unbound ports are told to vCPU 1 again', () => {
    const vm = makeVm({ longMode, shared, vcpus: 2 });
    vm.evtchnSend({ port: 5, vcpu: 1 });
    vm.evtchnSend({ port: 6, vcpu: 1 });
    const fail = (): never => {
      throw new Error('a handler');
    };
    expect(() => vm.vcpu(1).drain(fail)).toThrow('a handler');
    expect(pendingBit(vm, 6)).toBe(true);
    expect([vm.vcpu(0).upcallPending, vm.vcpu(1).upcallPending]).toEqual([false, true]);
  });

  test('KX-EVT-16 KX-EVT-61 a resync while vcpu_info is away: the vCPU is told', () => {
    const vm = makeVm({ longMode, shared });
    let told = 0;
    if (shared) expect(vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0)).toBe(0);
    else vm.vcpu(0).onUpcall(() => told++);
    dropPage(vm, VCPU_INFO_GPA);
    vm.vcpu(0).resync();
    expect(shared ? !asleep(vm) : told > 0).toBe(true);
    expect(vm.send(5)).toBe(1);
  });

  test('KX-GPC-30 R1 a page-fault handler that sends a batch leaves the batch alone that it was called for', () => {
    let fault = (): void => {};
    const vm = makeVm({ longMode, shared, hostPages: 1024, onPageFault: () => fault() });
    const page = hva(hostOf(vm, SHARED_INFO_GPA));
    const frame = vm.hostPages.lookup(page)?.hpa;
    if (frame === undefined) throw new Error('the page was not present');
    vm.hostPages.unmap(page, 1);
    fault = () => {
      fault = () => {};
      vm.hostPages.map(page, 1, frame);
      vm.sendMany([100, 101]);
    };
    expect(vm.sendMany([5, 6])).toBe(2);
    expect(drained(vm)).toEqual([5, 6, 100, 101]);
  });

  test('R1 R2 a handler of a drain may neither detach its view nor close the VM: its list would be another’s', () => {
    const vm = makeVm({ longMode, shared });
    vm.sendMany([5, 6]);
    const codes: string[] = [];
    vm.vcpu(0).drain(() => {
      codes.push(errorOf(() => vm.detach()).code, errorOf(() => vm.close()).code);
    });
    expect(codes).toEqual(['EBUSY', 'EBUSY', 'EBUSY', 'EBUSY']);
    expect(vm.send(7)).toBe(1);
    vm.close();
    expect(vm.detached).toBe(true);
  });
});

describe.each(LAYOUTS)('a thread that dies, $layout layout', ({ longMode }) => {
  test('KF-89 while a sleeper’s vcpu_info is away: the sleeper is woken', () => {
    const vm = makeVm({ longMode });
    const dead = attachVm(vm.handle());
    expect(vm.kernel.sleepBegin(vm.vmBase, vm.agent, 0)).toBe(0);
    dropPage(vm, VCPU_INFO_GPA);
    vm.detachAgent(dead.agentNumber);
    expect(asleep(vm)).toBe(false);
  });

  test.each(['pollBegin', 'pollEnd'] as const)('KF-89 KX-EVT-40 in %s: later batches still wake pollers', (where) => {
    for (let die = 0; die < 12; die++) {
      const vm = makeVm({ longMode, vcpus: 2 });
      let left = -1;
      const onStep = (): void => {
        if (left >= 0 && left-- === 0) throw new Error('dies');
      };
      const other = attachVm(vm.handle(), { trace: traceOf(true, { onStep }) });
      const { kernel, vmBase, agent } = other;
      const list = agent + AGENT_POLL_LIST;
      vm.region.words.store(list, 7);
      if (where === 'pollEnd') kernel.pollBegin(vmBase, agent, 1, list, 1);
      left = die;
      try {
        if (where === 'pollBegin') kernel.pollBegin(vmBase, agent, 1, list, 1);
        else kernel.pollEnd(vmBase, 1);
      } catch {
        // It is dead.
      }
      left = -1;
      vm.detachAgent(other.agentNumber);
      expect(vm.region.words.load(vmBase + REGION_POLLERS)).toBeGreaterThanOrEqual(0);
      drained(vm);
      vm.mask(9);
      const own = vm.agent + AGENT_POLL_LIST;
      vm.region.words.store(own, 9);
      expect(vm.kernel.pollBegin(vmBase, vm.agent, 0, own, 1)).toBe(0);
      vm.sendMany([9]);
      expect(vm.kernel.pendingWork(vmBase, vm.agent, 0), `died at step ${die}`).toBe(1);
    }
  });
});

describe.each(LAYOUTS)('a change that gives up, $layout layout', ({ longMode }) => {
  test.each(['unbindIrq', 'close'] as const)('KX-RTE-21 KF-10 %s: a signal meanwhile still raises', (what) => {
    const { vm, eventfd } = irqVm(longMode);
    const stuck = attachVm(vm.handle());
    const writer = attachVm(vm.handle());
    stuck.enter();
    inNap(vm, () => expect(writer.sendPorts.ring(9)).toBe(0));
    const call = (): void => (what === 'close' ? eventfd.close() : vm.eventfds.unbindIrq(eventfd.fd, 1));
    expect(errorOf(call).code).toBe('EBUSY');
    stuck.leave();
    expect(pendingBit(vm, 5)).toBe(true);
  });

  test('KX-GPC-18 KF-16 removing vcpu_info: who went to sleep meanwhile is woken', () => {
    const vm = makeVm({ longMode });
    const stuck = attachVm(vm.handle());
    const runner = attachVm(vm.handle());
    vm.send(5);
    stuck.enter();
    inNap(vm, () => expect(runner.kernel.sleepBegin(runner.vmBase, runner.agent, 0)).toBe(0));
    expect(errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null })).code).toBe('EBUSY');
    stuck.leave();
    expect(asleep(vm)).toBe(false);
  });

  test('KF-29 a ring that could not raise its interrupt counts on no other eventfd', () => {
    const { vm, eventfd } = irqVm(longMode);
    const other = attachVm(vm.handle());
    vm.invalidateStart(hostOf(vm, SHARED_INFO_GPA), hostOf(vm, SHARED_INFO_GPA));
    let next: ReturnType<typeof vm.eventfds.create> | undefined;
    inNap(other, () => {
      vm.setAttr({ type: 'evtchn', action: 'deassign', sendPort: 9 });
      eventfd.close();
      next = vm.eventfds.create();
    });
    other.sendPorts.ring(9);
    vm.invalidateEnd();
    expect(next?.fd).toBe(eventfd.fd);
    expect(next?.read()).toBe(-11n);
  });
});

describe('the second page of a runstate area', () => {
  /** 44 bytes end with their page, 48 do not. */
  const FIRST = 8 * 4096 - 44;
  const second = (vm: Vm): number | null => vm.gpcs.gpaOf(vm.vcpu(0).record + VCPU_RUNSTATE2_GPC);

  test('KX-RUN-26 KF-09 one that only the long layout reaches is registered, moved and removed with the area, by the owner', () => {
    const vm = makeVm({ longMode: false });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(FIRST) });
    expect(second(vm)).toBe(8 * 4096);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(FIRST + 2 * 4096) });
    expect(second(vm)).toBe(10 * 4096);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(100) });
    expect(second(vm)).toBe(null);
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(FIRST) });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: null });
    expect(second(vm)).toBe(null);
  });

  test('KX-RUN-26 it may be out of reach while the layout does not need it', () => {
    const vm = makeVm({ longMode: false });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(16 * 4096 - 44) });
    const before = ram(vm).slice();
    vm.setAttr({ type: 'long_mode', enabled: true });
    vm.vcpu(0).enterRunstate('blocked', 1000);
    expect(ram(vm).slice(15 * 4096)).toEqual(before.slice(15 * 4096));
  });

  test('KX-RUN-26 a thread that is not the owner registers nothing', () => {
    const vm = makeVm({ longMode: false });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(FIRST) });
    vm.gpcs.deactivate(vm.vcpu(0).record + VCPU_RUNSTATE2_GPC);
    vm.setAttr({ type: 'long_mode', enabled: true });
    attachVm(vm.handle()).vcpu(0).enterRunstate('blocked', 1000);
    expect(second(vm)).toBe(null);
    vm.vcpu(0).enterRunstate('running', 2000);
    expect(second(vm)).toBe(8 * 4096);
  });
});
