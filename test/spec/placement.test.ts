// The engine owns no memory: it works in the window and the region it was given, and touches no byte beside them.

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gfn, gpa, hva, type Memslot, regionBytes, type Vm } from '../../src/index.ts';
import { drained, errorOf, ram } from '../support.ts';
import { CANARY, changes, dropMappings, guestTakes } from './evidence.ts';

const PAGES = 12;
const VCPUS = 3;
const AGENTS = 2;
const GUEST_PAGES = 6;
const REGION = regionBytes({ vcpus: VCPUS, agents: AGENTS });
const GUEST = GUEST_PAGES * PAGE_SIZE;
const MEMORY = PAGES * 65536;

function memoryOf(shared: boolean, maximum = PAGES): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: PAGES, maximum, shared });
}

/** Uses everything a VM has once. */
function exercise(vm: Vm): void {
  for (const longMode of [false, true]) {
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
    vm.setAttr({ type: 'runstate_update_flag', enabled: longMode });
    for (let i = 0; i < vm.vcpus; i++) {
      const vcpu = vm.vcpu(i);
      vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(PAGE_SIZE + i * 67) });
      vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(2 * PAGE_SIZE + i * 33) });
      vcpu.setAttr({ type: 'runstate_addr', gpa: gpa(i ? 4 * PAGE_SIZE - 5 * i : vm.guestBytes - 48) });
    }
    for (let port = 1; port < vm.maxPorts; port += 3) {
      vm.bindVcpu(port, port % vm.vcpus);
      if (port % 5 === 0) vm.mask(port);
      vm.send(port);
    }
    vm.sendMany(Uint32Array.from({ length: 4096 }, (_, i) => i));
    vm.sendMany([1, 2, vm.maxPorts - 1, vm.maxPorts, 0]);
    for (let port = 1; port < vm.maxPorts; port += 5) vm.unmask(port);
    for (let i = 0; i < vm.vcpus; i++) {
      const vcpu = vm.vcpu(i);
      vcpu.enterRunstate('blocked', 100n);
      vcpu.enterRunstate('running', 200n);
      vcpu.writeTime({ tscTimestamp: 1, systemTime: 2, mul: 3, shift: -4 });
      vcpu.readTime(10);
      vcpu.runstate();
      vcpu.resync();
      vcpu.drain(() => {});
      vcpu.kick();
      vcpu.wait(0);
      vm.send(7);
      vcpu.poll([7]);
      dropMappings(vm);
      vcpu.drain();
      vcpu.setAttr({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + PAGE_SIZE + i * 67) });
      vcpu.setAttr({ type: 'vcpu_id', id: 100 + i });
    }
    vm.setAttr({ type: 'shared_info_hva', hva: hva(vm.guestBase + 5 * PAGE_SIZE) });
    vm.sendMany([8, 9, 10]);
    vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
    vm.setAttr({ type: 'xen_version', version: 0x40011 });
    vm.memslots.set({ ...(vm.memslots.list()[0] as Memslot), logDirty: longMode });
    vm.send(8);
    vm.guestMemory.write(gpa(3 * PAGE_SIZE - 2), new Uint8Array([1, 2, 3, 4]));
    vm.guestMemory.read(gpa(0), 2 * PAGE_SIZE);
    if (longMode) vm.dirtyLog.take(0);
  }
}

const places = [
  { what: 'guest at 0, region behind', guestBase: 0, regionBase: GUEST },
  { what: 'guest at 0, region far behind', guestBase: 0, regionBase: 2 * 65536 + 64 },
  { what: 'region at 0, guest behind', guestBase: Math.ceil(REGION / PAGE_SIZE) * PAGE_SIZE, regionBase: 0 },
  { what: 'region right before the guest', guestBase: 65536 * 6, regionBase: 65536 * 6 - REGION },
  { what: 'guest at the very end', guestBase: MEMORY - GUEST, regionBase: 64 },
  { what: 'region at the very end', guestBase: PAGE_SIZE, regionBase: MEMORY - REGION },
];

describe.each([true, false])('shared memory: %s', (shared) => {
  test.each(places)('KF-11 $what: all works, and 0xa5 outside window and region stays', ({ guestBase, regionBase }) => {
    const memory = memoryOf(shared);
    const bytes = new Uint8Array(memory.buffer).fill(CANARY);
    bytes.fill(0, guestBase, guestBase + GUEST);
    const place = { memory, guestBase, guestPages: GUEST_PAGES, regionBase };
    const vm = createVm({ ...place, vcpus: VCPUS, agents: AGENTS });
    expect(bytes.subarray(guestBase, guestBase + GUEST).every((byte) => byte === 0)).toBe(true);
    exercise(vm);
    const other = attachVm(vm.handle());
    other.send(5);
    other.detach();
    expect([vm.guestBase, vm.guestBytes, vm.memory]).toEqual([guestBase, GUEST, memory]);
    vm.close();
    const found = bytes.slice();
    found.fill(CANARY, guestBase, guestBase + GUEST);
    found.fill(CANARY, regionBase, regionBase + REGION);
    expect(changes(new Uint8Array(found.length).fill(CANARY), found)).toEqual([]);
  });

  test('KF-58 above 2 GiB, where an address has the sign bit: the same guest, byte by byte', () => {
    // The pages that nobody touches take no room.
    const high = 2 ** 31;
    const memory = new WebAssembly.Memory({ initial: 32768 + PAGES, maximum: 32768 + PAGES, shared });
    const low = createVm({
      memory: memoryOf(shared),
      guestBase: 0,
      guestPages: GUEST_PAGES,
      regionBase: GUEST,
      vcpus: VCPUS,
      agents: AGENTS,
    });
    const vm = createVm({
      memory,
      guestBase: high,
      guestPages: GUEST_PAGES,
      regionBase: high + GUEST,
      vcpus: VCPUS,
      agents: AGENTS,
    });
    exercise(low);
    exercise(vm);
    expect(changes(ram(low).slice(), ram(vm).slice())).toEqual([]);
    const other = attachVm(vm.handle());
    expect([vm.agentNumber, other.agentNumber]).toEqual([0, 1]);
    other.detach();
    const calls: number[] = [];
    drained(vm);
    if (!shared) vm.vcpu(0).onUpcall(() => calls.push(1));
    vm.bindVcpu(6, 0);
    vm.send(6);
    expect(calls.length).toBe(shared ? 0 : 1);
    expect(vm.invalidateStart(high, high + GUEST - 1)).toBeGreaterThan(0);
    vm.invalidateEnd();
    vm.close();
  });

  test('two places give the same guest, byte by byte', () => {
    const rams = places.map(({ guestBase, regionBase }) => {
      const place = { memory: memoryOf(shared), guestBase, guestPages: GUEST_PAGES, regionBase };
      const vm = createVm({ ...place, vcpus: VCPUS, agents: AGENTS });
      exercise(vm);
      return ram(vm).slice();
    });
    for (const other of rams) expect(changes(rams[0] as Uint8Array, other)).toEqual([]);
  });

  test('two VMs in one memory do not hear of each other', () => {
    const memory = memoryOf(shared);
    const first = createVm({ memory, guestBase: 0, guestPages: GUEST_PAGES, regionBase: GUEST, agents: 1 });
    const base = 65536 * 6;
    const second = createVm({ memory, guestBase: base, guestPages: GUEST_PAGES, regionBase: base + GUEST, agents: 1 });
    const calls: string[] = [];
    for (const [name, vm] of [
      ['first', first],
      ['second', second],
    ] as const) {
      vm.setAttr({ type: 'long_mode', enabled: true });
      vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(2 * PAGE_SIZE) });
      if (!shared) vm.vcpu(0).onUpcall(() => calls.push(name));
    }
    const before = new Uint8Array(memory.buffer).slice(base);
    first.send(5);
    first.sendMany([6, 7]);
    expect(changes(before, new Uint8Array(memory.buffer).slice(base))).toEqual([]);
    expect(second.send(5)).toBe(1);
    if (!shared) expect(calls).toEqual(['first', 'second']);
    first.close();
    expect(drained(second)).toEqual([5]);
    expect(second.send(6)).toBe(1);
    if (!shared) expect(calls).toEqual(['first', 'second', 'second']);
  });

  test('KF-85 a memory that grows: everything goes on', () => {
    const memory = memoryOf(shared, PAGES + 4);
    const vm = createVm({
      memory,
      guestBase: 0,
      guestPages: GUEST_PAGES,
      regionBase: GUEST,
      vcpus: VCPUS,
      agents: AGENTS,
    });
    exercise(vm);
    vm.vcpu(0).resync();
    drained(vm);
    for (let i = 0; i < vm.vcpus; i++) guestTakes(vm, PAGE_SIZE + i * 67);
    vm.bindVcpu(6, 0);
    vm.bindVcpu(8, 0);
    vm.send(6);
    memory.grow(2);
    vm.outbox.set([8, 9]);
    vm.bindVcpu(9, 0);
    expect(vm.sendMany(vm.outbox, 2)).toBe(2);
    expect(vm.vcpu(0).drain()).toBe(3);
    expect([...vm.vcpu(0).drained.subarray(0, 3)]).toEqual([6, 8, 9]);
    memory.grow(1);
    exercise(vm);
    expect(vm.vcpu(0).runstate().state).toBe('running');
    expect(new Uint8Array(memory.buffer, MEMORY).every((byte) => byte === 0)).toBe(true);
  });

  test('a region that held something else before is written afresh', () => {
    const memory = memoryOf(shared);
    new Uint8Array(memory.buffer).fill(0xff, GUEST, GUEST + REGION);
    const vm = createVm({
      memory,
      guestBase: 0,
      guestPages: GUEST_PAGES,
      regionBase: GUEST,
      vcpus: VCPUS,
      agents: AGENTS,
    });
    exercise(vm);
    expect(vm.agentNumber).toBe(0);
    const again = createVm({
      memory,
      guestBase: 0,
      guestPages: GUEST_PAGES,
      regionBase: GUEST,
      vcpus: VCPUS,
      agents: AGENTS,
    });
    expect(again.getAttr('shared_info').gfn).toBe(null);
    expect(again.vcpu(0).runstate().entryTime).toBe(0n);
  });

  test('a window of no pages: nothing can be registered, everything else answers', () => {
    const vm = createVm({ shared, guestPages: 0, bare: true });
    expect(errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(0) })).code).toBe('EFAULT');
    expect(errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0) })).code).toBe('EFAULT');
    expect(vm.send(5)).toBe(-14);
    expect(vm.vcpu(0).upcallPending).toBe(false);
  });
});
