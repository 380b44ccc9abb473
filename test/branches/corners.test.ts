// Corners that the objects of the library do not lead to, or only with machinery around: asked of the kernel itself. [R16]

import { describe, expect, test } from 'vitest';
import {
  AGENT_RECORD,
  GPC_TOKEN_SHIFT,
  GPC_UNMAPPED,
  GPC_WORD,
  KICK_SLEEPER,
  MEMSLOT_ID,
  MEMSLOT_PAGES,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REGION_MEMSLOTS,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, type Memslot, type Vm } from '../../src/index.ts';
import { changed, dropMappings, footprint, selector, selectorBit, shadow } from '../spec/evidence.ts';
import { KINDS, makeVm } from '../support.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, vcpus: 2, ...options });

  test('KX-EVT-11 a bind of a port that the layout does not have touches nothing of the guest', () => {
    const vm = make();
    const port = Math.min(maxPorts, 4095);
    const bind = (): void => vm.kernel.bindVcpu(vm.vmBase, vm.agent, port, 1);
    expect(changed(vm, bind)).toEqual([]);
  });

  test('KX-EVT-17 a bind of a port that is pending: its new vCPU is told, at the words that the layout has', () => {
    const vm = make();
    const port = maxPorts - 1;
    vm.send(port);
    const info = footprint(vm, port)
      .slice(1)
      .map(([at, from, to]) => [at + 64, from, to]);
    expect(changed(vm, () => vm.bindVcpu(port, 1))).toEqual(info);
  });

  test('KF-22 a bind while no shared_info is registered makes nobody look', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    const bind = (): void => vm.kernel.bindVcpu(vm.vmBase, vm.agent, 5, 1);
    expect(changed(vm, bind)).toEqual([]);
    expect([shadow(vm, 0), shadow(vm, 1)]).toEqual([0n, 0n]);
  });

  test('KF-22 a bind while shared_info is away makes the new vCPU look: nobody can tell whether the port is pending', () => {
    const vm = make();
    vm.kernel.gpcUnmap(vm.vmBase, vm.region.sharedInfo);
    vm.kernel.bindVcpu(vm.vmBase, vm.agent, 5, 1);
    expect([selector(vm), selector(vm, 0x4040)]).toEqual([0n, selectorBit(vm, 5)]);
  });

  test('KX-GPC-40 an invalidation takes the token of a refresh of what it concerns, and only of that', () => {
    const vm = make();
    const { words } = vm.region;
    const token = (7 << GPC_TOKEN_SHIFT) | GPC_UNMAPPED;
    const gpcs = [0, 1].map((i) => vm.vcpu(i).line + VCPU_INFO_GPC);
    vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: gpa(0x7000) });
    for (const gpc of gpcs) words.store(gpc + GPC_WORD, token);
    vm.kernel.invalidateStart(vm.vmBase);
    const page = (vm.guestBase + 0x7000) / PAGE_SIZE;
    // A refresh under way is nothing that was mapped.
    expect(vm.kernel.unmapRange(vm.vmBase, page, page)).toBe(0);
    expect(vm.kernel.invalidateEnd(vm.vmBase)).toBe(0);
    expect(gpcs.map((gpc) => words.load(gpc + GPC_WORD))).toEqual([token, GPC_UNMAPPED]);
  });

  test('KX-MEM-02 the end of an invalidation that nobody began: refused, neither count nor sequence changes', () => {
    const vm = make();
    const { words } = vm.region;
    const counts = (): number[] =>
      [REGION_INVALIDATE_ACTIVE, REGION_INVALIDATE_SEQ].map((at) => words.load(vm.vmBase + at));
    const before = counts();
    expect(vm.kernel.invalidateEnd(vm.vmBase)).toBe(-22);
    expect(counts()).toEqual(before);
  });

  test('KX-MEM-21 a page that no slot holds, or one that does not log, is marked nowhere', () => {
    const vm = make();
    const mark = (page: number, high = 0): number => vm.kernel.markPage(vm.vmBase, 0, page, high);
    expect(mark(1)).toBe(0);
    const [slot] = vm.memslots.list();
    vm.memslots.set({ ...(slot as Memslot), logDirty: true });
    expect([mark(1), mark(15), mark(16), mark(1, 1)]).toEqual([1, 1, 0, 0]);
    expect([...vm.dirtyLog.take(0)]).toEqual([2, 0x80]);
  });

  test('KX-MEM-10 a slot of another address space holds no frame of this one', () => {
    const vm = make();
    const { words } = vm.region;
    const slot = vm.vmBase + words.load(vm.vmBase + REGION_MEMSLOTS);
    const [first] = vm.memslots.list();
    vm.memslots.set({ ...(first as Memslot), logDirty: true });
    words.store(slot + MEMSLOT_ID, 0x10000);
    expect(words.load(slot + MEMSLOT_PAGES)).toBe(16);
    expect(vm.kernel.markPage(vm.vmBase, 0, 1, 0)).toBe(0);
  });

  test('KX-MEM-36 a nearly full ring: a page that was collected but not given back is pushed again', () => {
    const vm = make({ dirtyRingBytes: 2048 });
    const [slot] = vm.memslots.list();
    vm.memslots.set({ ...(slot as Memslot), logDirty: true });
    const mark = (page: number): number => vm.kernel.markPage(vm.vmBase, 0, page, 0);
    // Until the part that is left for other pages: from there on, a page that waits already is not pushed twice.
    for (let i = 0; i < 200; i++) mark(1);
    const pages = (): number[] => vm.dirtyLog.collect(0).map(({ page }) => Number(page));
    const room = 128 - pages().length;
    expect(room).toBeGreaterThan(1);
    expect(pages()).toEqual([]);
    mark(1);
    mark(1);
    mark(2);
    expect(pages()).toEqual([1, 2]);
  });

  test('KX-RUN-27 a second page that is away: nothing of the copy is written', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    vcpu.setAttr({ type: 'runstate_addr', gpa: gpa(0x7000 - 15) });
    vcpu.enterRunstate('running', 1_000);
    vm.kernel.gpcUnmap(vm.vmBase, vcpu.record + VCPU_RUNSTATE2_GPC);
    const write = (): number => vm.kernel.runstateWrite(vm.vmBase, vm.agent, 0);
    expect(changed(vm, () => expect(write()).toBe(-11))).toEqual([]);
    vm.kernel.gpcUnmap(vm.vmBase, vcpu.record + VCPU_RUNSTATE1_GPC);
    expect(changed(vm, () => expect(write()).toBe(-11))).toEqual([]);
  });

  test('KX-VCA-08 the whole record is replaced: state, entry time and all four times', () => {
    const vm = make();
    // State 2, entry time, the four times: as the kernel takes it.
    new BigUint64Array(vm.memory.buffer, vm.agent + AGENT_RECORD, 6).set([2n, 100n, 1n, 2n, 3n, 94n]);
    vm.kernel.runstateReplace(vm.vmBase, vm.agent, 0, 0, 0);
    const times = { running: 1n, runnable: 2n, blocked: 3n, offline: 94n };
    expect(vm.vcpu(0).runstate()).toEqual({ state: 'blocked', entryTime: 100n, times });
  });

  test('KX-EVT-61 XE-2L-30 a resync while vcpu_info is away tells a vCPU that asked to be told, and no other', () => {
    const vm = make();
    const { words } = vm.region;
    const { line } = vm.vcpu(0);
    dropMappings(vm);
    const resync = (): number => vm.kernel.resync(vm.vmBase, vm.agent, 0);
    expect(resync()).toBe(-11);
    expect(vm.wakes).toBe(0);
    let told = 0;
    if (shared) words.or(line + VCPU_KICK, KICK_SLEEPER);
    else vm.vcpu(0).onUpcall(() => told++);
    dropMappings(vm);
    const before = shared ? vm.wakes : told;
    expect(resync()).toBe(-11);
    expect((shared ? vm.wakes : told) - before).toBe(1);
  });

  test('R3 the end of a bracket that is not open: refused', () => {
    const vm = make();
    expect(vm.kernel.leave(vm.agent)).toBe(-22);
    expect([vm.kernel.enter(vm.agent), vm.kernel.enter(vm.agent)]).toEqual([0, -16]);
    expect([vm.kernel.leave(vm.agent), vm.kernel.leave(vm.agent)]).toEqual([0, -22]);
  });
});
