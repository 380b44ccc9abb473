// Coming and going: handles, attached threads, detach, close, and what a dead thread leaves behind.

import { describe, expect, test } from 'vitest';
import {
  AGENT_MARKS,
  AGENT_OUTBOX,
  AGENT_PLANE0,
  AGENT_PLANE1,
  REGION_FINGERPRINT,
  REGION_MAGIC_AT,
  REGION_POLLERS,
  REGION_VERSION_AT,
  VCPU_POLL,
} from '../../src/abi/region.ts';
import { SHARED_INFO_PENDING } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gfn, gpa, hpa, hva, type Vm } from '../../src/index.ts';
import { drained, errorOf, LAYOUTS, makeVm, memoryBytes, ram, SHARED_INFO_GPA } from '../support.ts';
import { changes, refusal, refuses } from './evidence.ts';

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  test('a handle survives a structured clone, and what attaches by it sees the same VM', () => {
    const vm = makeVm({ longMode, vcpus: 2 });
    const other = attachVm(structuredClone(vm.handle()));
    expect([other.owner, vm.owner, other.vcpus, other.maxPorts]).toEqual([false, true, 2, vm.maxPorts]);
    expect([vm.agentNumber, other.agentNumber]).toEqual([0, 1]);
    expect([other.guestBase, other.guestBytes]).toEqual([vm.guestBase, vm.guestBytes]);
    expect(other.send(5)).toBe(1);
    expect(vm.send(5)).toBe(0);
    other.mask(6);
    expect(vm.send(6)).toBe(-107);
    expect(other.unmask(6)).toBe(1);
    expect(drained(vm)).toEqual([5, 6]);
    vm.send(7);
    expect(drained(other)).toEqual([7]);
    for (const type of ['long_mode', 'shared_info', 'upcall_vector', 'runstate_update_flag'] as const) {
      expect(other.getAttr(type)).toEqual(vm.getAttr(type));
    }
    expect(other.vcpu(1).getAttr('vcpu_info')).toEqual(vm.vcpu(1).getAttr('vcpu_info'));
  });

  test('every configuration change is seen by who is attached: mode, pages, bindings', () => {
    const vm = makeVm({ longMode, vcpus: 2, guestPages: 8 });
    const other = attachVm(vm.handle());
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    expect(other.send(1024)).toBe(longMode ? -22 : 1);
    vm.setAttr({ type: 'shared_info', gfn: gfn(6) });
    vm.bindVcpu(5, 1);
    vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: gpa(0x5003) });
    expect(other.send(5)).toBe(1);
    expect(drained(other, 1)).toEqual([5]);
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(other.send(5)).toBe(-22);
  });

  test('who is attached may not configure: EPERM, and nothing changed', () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    const calls: (() => unknown)[] = [
      () => other.setAttr({ type: 'long_mode', enabled: true }),
      () => other.setAttr({ type: 'shared_info', gfn: null }),
      () => other.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }),
      () => other.vcpu(0).setAttr({ type: 'upcall_vector', vector: 32 }),
      () => other.setAttr({ type: 'shared_info_hva', hva: hva(other.guestBase) }),
      () => other.setAttr({ type: 'xen_version', version: 5 }),
      () => other.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: null }),
      () => other.vcpu(0).setAttr({ type: 'vcpu_id', id: 5 }),
      () => other.setConfig({ msr: 0x40000000 }),
      () => other.memslots.set({ id: 5, gpa: gpa(0x100000), bytes: 4096, hva: hva(0) }),
      () => other.memslots.delete(0),
      () => other.hostPages.map(hva(0), 1, hpa(other.guestBase)),
      () => other.hostPages.unmap(hva(0), 1),
      () => other.hostPages.move(hva(0), 1, hpa(other.guestBase)),
      () => other.dirtyLog.take(0),
      () => other.dirtyLog.collect(0),
      () => other.dirtyLog.reset(),
      () => other.bindVcpu(5, 0),
      () => other.invalidateStart(0, 1),
      () => other.invalidateEnd(),
      () => other.detachAgent(0),
      () => other.close(),
    ];
    for (const call of calls) refuses(vm, call, 'EPERM', 'owner');
  });

  test('as many agents as there are places, then ENOSPC with the number; a place that is given back can be had again', () => {
    const vm = makeVm({ longMode, agents: 3 });
    const second = attachVm(vm.handle());
    const third = attachVm(vm.handle());
    expect([second.agentNumber, third.agentNumber]).toEqual([1, 2]);
    refuses(vm, () => attachVm(vm.handle()), 'ENOSPC', 3, 'agents');
    second.detach();
    const again = attachVm(vm.handle());
    expect(again.agentNumber).toBe(1);
    expect(again.send(5)).toBe(1);
  });

  test('attaching where there is no VM, or half of one, or another version: EINVAL, and nothing changed', () => {
    const vm = makeVm({ longMode });
    const handle = vm.handle();
    for (const regionBase of [handle.regionBase + 64, handle.regionBase + 4, 0, 64]) {
      refuses(vm, () => attachVm({ ...handle, regionBase }), 'EINVAL', regionBase);
    }
    for (const regionBase of [-64, 2 ** 32, 2 ** 53, Number.NaN, 1.5, vm.memory.buffer.byteLength]) {
      refuses(vm, () => attachVm({ ...handle, regionBase }), 'EINVAL', regionBase);
    }
    const { words } = vm.region;
    for (const at of [REGION_MAGIC_AT, REGION_VERSION_AT, REGION_FINGERPRINT]) {
      const old = words.load(vm.vmBase + at);
      words.store(vm.vmBase + at, old + 1);
      refuses(vm, () => attachVm(handle), 'EINVAL');
      words.store(vm.vmBase + at, old);
    }
    words.store(vm.vmBase + REGION_VERSION_AT, 77);
    refuses(vm, () => attachVm(handle), 'EINVAL', 77);
  });

  test('attaching to a region that goes on behind the end of its memory: EINVAL, not a RangeError', () => {
    const vm = makeVm({ longMode });
    const half = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    const bytes = new Uint8Array(half.buffer);
    bytes.set(new Uint8Array(vm.memory.buffer, 0, bytes.length));
    expect(errorOf(() => attachVm({ memory: half, module: vm.handle().module, regionBase: vm.vmBase })).code).toBe(
      'EINVAL',
    );
  });

  test('detach: sends say -EBADF, calls that throw say EBADF, waits end, and no byte is touched any more', async () => {
    const vm = makeVm({ longMode, vcpus: 2 });
    const other = attachVm(vm.handle());
    const vcpu = other.vcpu(0);
    other.detach();
    expect([other.detached, vm.detached]).toEqual([true, false]);
    const before = memoryBytes(vm);
    other.detach();
    expect([other.send(5), other.mask(5), other.unmask(5)]).toEqual([-9, -9, -9]);
    const throwing: (() => unknown)[] = [
      () => other.enter(),
      () => other.leave(),
      () => other.getAttr('long_mode'),
      () => other.setAttr({ type: 'long_mode', enabled: true }),
      () => other.setConfig({ msr: 0 }),
      () => other.getConfig(),
      () => other.memslots.delete(0),
      () => other.hostPages.unmap(hva(0), 1),
      () => other.dirtyLog.reset(),
      () => other.guestMemory.read(gpa(0), 4),
      () => other.guestMemory.write(gpa(0), new Uint8Array([1])),
      () => other.bindVcpu(5, 0),
      () => other.invalidateStart(0, 1),
      () => other.invalidateEnd(),
      () => other.detachAgent(0),
      () => vcpu.drain(),
      () => vcpu.getAttr('vcpu_info'),
      () => vcpu.setAttr({ type: 'vcpu_info', gpa: null }),
      () => vcpu.resync(),
      () => vcpu.kick(),
      () => vcpu.poll([5]),
      () => vcpu.onUpcall(() => {}),
      () => vcpu.enterRunstate('blocked', 5),
      () => vcpu.runstate(),
      () => vcpu.writeTime({ tscTimestamp: 1, systemTime: 2, mul: 3, shift: 0 }),
      () => vcpu.readTime(5),
    ];
    for (const call of throwing) expect(errorOf(call).code, String(call)).toBe('EBADF');
    expect(vcpu.wait()).toBe('closed');
    expect(await vcpu.waitAsync()).toBe('closed');
    expect(vcpu.flushShadow()).toBe(false);
    expect(vcpu.upcallPending).toBe(false);
    other.close();
    expect(changes(before, memoryBytes(vm))).toEqual([]);
    expect(vm.send(5)).toBe(1);
  });

  test('detach: a batch of a detached view leaves the list of who has its place now alone', () => {
    const vm = makeVm({ longMode });
    const gone = attachVm(vm.handle());
    gone.detach();
    const next = attachVm(vm.handle());
    expect(next.agentNumber).toBe(1);
    next.outbox.set([5, 6, 7]);
    expect(gone.sendMany([900, 901, 902])).toBe(-9);
    expect([...next.outbox.subarray(0, 3)]).toEqual([5, 6, 7]);
    expect(next.agent + AGENT_OUTBOX).toBe(next.region.outbox(next.agent));
  });

  test('detach inside a bracket closes it: mappings can change', () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    other.enter();
    other.detach();
    expect(vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1)).toBe(2);
    vm.invalidateEnd();
    const again = attachVm(vm.handle());
    again.enter();
    again.leave();
  });

  test('R7 an owner that goes while it has announced a change: others are not kept out for ever', () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    const refused = refusal(() => vm.detach());
    expect([undefined, 'EBUSY']).toContain(refused);
    if (refused) vm.invalidateEnd();
    expect(other.send(5)).toBe(1);
  });

  test('KF-88 detach ends an asynchronous wait at once, and the vCPU can be waited for by another', async () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    const asleep = other.vcpu(0).waitAsync();
    other.detach();
    expect(await asleep).toBe('closed');
    expect(vm.vcpu(0).wait(0)).toBe('timeout');
  });

  test('KF-89 detachAgent of a thread that died asleep and inside a bracket: others go on', () => {
    const vm = makeVm({ longMode });
    const dead = attachVm(vm.handle());
    dead.kernel.sleepBegin(dead.vmBase, dead.agent, 0);
    dead.enter();
    expect(errorOf(() => vm.vcpu(0).wait(0)).code).toBe('EBUSY');
    vm.detachAgent(dead.agentNumber);
    // Everybody looks once.
    expect(vm.vcpu(0).wait(0)).toBe('events');
    expect(drained(vm)).toEqual([]);
    expect(vm.vcpu(0).wait(0)).toBe('timeout');
    expect(vm.invalidateStart(0, vm.memory.buffer.byteLength - 1)).toBe(2);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
    expect(attachVm(vm.handle()).agentNumber).toBe(1);
  });

  test('R1 KF-89 detachAgent of a thread that died between a pending bit and its upcall: the event is told', () => {
    const vm = makeVm({ longMode });
    const dead = attachVm(vm.handle());
    ram(vm)[SHARED_INFO_GPA + SHARED_INFO_PENDING] = 1 << 5;
    expect(vm.vcpu(0).wait(0)).toBe('timeout');
    vm.detachAgent(dead.agentNumber);
    expect(vm.vcpu(0).wait(0)).toBe('events');
    expect(drained(vm)).toEqual([5]);
  });

  test('R7 KF-89 detachAgent of a thread that died in a poll: nothing of the poll is left', () => {
    const vm = makeVm({ longMode });
    const dead = attachVm(vm.handle());
    dead.outbox[0] = 7;
    dead.kernel.pollBegin(dead.vmBase, dead.agent, 0, dead.region.outbox(dead.agent), 1);
    vm.detachAgent(dead.agentNumber);
    expect(vm.region.words.load(vm.vmBase + REGION_POLLERS)).toBe(0);
    expect(vm.region.words.load(vm.vcpu(0).line + VCPU_POLL)).toBe(0);
  });

  test('R2 KF-89 detachAgent of a thread that died in a batch: who gets its place sends nothing of it', () => {
    const vm = makeVm({ longMode });
    const dead = attachVm(vm.handle());
    const { words } = vm.region;
    for (const at of [AGENT_PLANE0, AGENT_PLANE1, AGENT_MARKS]) words.store(dead.agent + at, 0x01010108);
    vm.detachAgent(dead.agentNumber);
    const next = attachVm(vm.handle());
    expect(next.agent).toBe(dead.agent);
    for (const n of [100, 1000]) {
      const list = Array.from({ length: n }, (_, i) => 600 + (i % 300));
      const delivered = next.sendMany(list);
      expect(delivered).toBe(n === 100 ? 100 : 200);
      expect(next.batchCounts).toEqual({ delivered, coalesced: n - delivered, masked: 0, bad: 0 });
    }
    expect(drained(vm)).toEqual(Array.from({ length: 300 }, (_, i) => 600 + i));
  });

  test('close: sleepers return closed, nobody attaches, and it may be called twice', async () => {
    const vm = makeVm({ longMode, vcpus: 2 });
    const other = attachVm(vm.handle());
    const asleep = other.vcpu(1).waitAsync();
    const handle = vm.handle();
    vm.close();
    vm.close();
    expect(await asleep).toBe('closed');
    expect(other.vcpu(0).wait(0)).toBe('closed');
    expect(other.vcpu(0).wait()).toBe('closed');
    expect(await other.vcpu(0).waitAsync()).toBe('closed');
    expect(vm.detached).toBe(true);
    refuses(other, () => attachVm(handle), 'EBADF', 'closed');
  });

  test('close wins over events', () => {
    const vm = makeVm({ longMode });
    const other = attachVm(vm.handle());
    other.send(5);
    vm.close();
    expect(other.vcpu(0).wait()).toBe('closed');
    expect(drained(other)).toEqual([5]);
  });

  test('KF-10 after an owner has gone another VM can be made at the same place', () => {
    const memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
    const place = { memory, guestBase: 0, guestPages: 8, regionBase: 0x10000, agents: 2 };
    const first = createVm(place);
    first.setAttr({ type: 'shared_info', gfn: gfn(1) });
    first.close();
    const second = createVm(place);
    expect(second.getAttr('shared_info').gfn).toBe(null);
    second.setAttr({ type: 'shared_info', gfn: gfn(1) });
    expect(second.send(5)).toBe(1);
    expect(first.send(6)).toBe(-9);
  });
});

describe('memory of a single agent', () => {
  const make = (): { vm: Vm; calls: number[] } => {
    const vm = makeVm({ shared: false });
    const calls: number[] = [];
    vm.vcpu(0).onUpcall(() => calls.push(1));
    return { vm, calls };
  };

  test('a second view that attaches does not take the upcalls away from the first', () => {
    const { vm, calls } = make();
    const other = attachVm(vm.handle());
    vm.send(5);
    expect(calls.length).toBe(1);
    drained(vm);
    other.send(5);
    expect(calls.length).toBe(2);
  });

  test('a second view that detaches does not take the upcalls away from the first', () => {
    const { vm, calls } = make();
    attachVm(vm.handle()).detach();
    vm.send(5);
    expect(calls.length).toBe(1);
  });

  test('of two views that listen to a vCPU one may stop, or go, and the other is still called', () => {
    for (const leave of ['detach', 'null'] as const) {
      const { vm, calls } = make();
      const other = attachVm(vm.handle());
      other.vcpu(0).onUpcall(() => calls.push(2));
      vm.send(5);
      expect(calls).toEqual([1, 2]);
      drained(vm);
      if (leave === 'detach') other.detach();
      else other.vcpu(0).onUpcall(null);
      vm.send(5);
      expect(calls, leave).toEqual([1, 2, 1]);
    }
  });

  test('a vCPU whose listener went with its view does not kick into nothing', () => {
    const { vm, calls } = make();
    vm.detach();
    expect(vm.send(5)).toBe(-9);
    expect(calls).toEqual([]);
  });
});
