// The gfn-to-pfn cache over slots and host pages: its bases, its states, and what a refresh does while things change. [kvm-xen 6]

import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  GPC_BY_HVA,
  GPC_LENGTH,
  REGION_INVALIDATE_SEQ,
  VCPU_REQUESTS,
  VCPU_RUNSTATE1_GPC,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gfn, gpa, type Hva, hva, type Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  memoryBytes,
  pendingBit,
  ram,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { cast, changed, changes, dropMappings, noNaps, POISON, refuses, stateBytes } from './evidence.ts';
import { ELSEWHERE, framePage, hostPage, makePaged, mappedAt, mappedCount, slotAt, TABLES } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const INFO_HVA = (vm: Vm): Hva => hostPage(vm, SHARED_INFO_GFN);
const fastSend = (vm: Vm, port: number): number => vm.kernel.send(vm.vmBase, vm.agent, port);
const sequence = (vm: Vm): number => vm.region.words.load(vm.vmBase + REGION_INVALIDATE_SEQ);

/** A frame that is given away: poison that nobody may change. */
function poison(vm: Vm, page: number): () => boolean {
  const bytes = ram(vm).subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  bytes.fill(POISON);
  return () => bytes.every((byte) => byte === POISON);
}

describe.each(TABLES)('shared memory: $shared, table of host pages: $table', ({ shared, hostPages }) => {
  const make = (options = {}): Vm => makePaged({ shared, hostPages, ...options });

  // ── the object ───────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-GPC-05 a fresh VM: every cache is inactive, maps nothing and has no base', () => {
    const vm = createVm({ shared, hostPages, bare: true, guestPages: 4, vcpus: 3 });
    const gpcs = [...vm.region.gpcs()];
    expect(gpcs).toHaveLength(13);
    for (const gpc of gpcs) {
      expect(vm.region.words.load(gpc + GPC_ACTIVE)).toBe(0);
      expect(mappedAt(vm, gpc)).toBeNull();
      expect(vm.gpcs.baseOf(gpc)).toBeNull();
    }
  });

  test('KX-GPC-01 what a cache holds: base, length, and the linear address with the offset in the page', () => {
    const vm = make();
    const { words } = vm.region;
    const line = vm.vcpu(0).line;
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5123) });
    expect(words.load(line + GPC_ACTIVE)).toBe(GPC_BY_GPA);
    expect(words.loadWide(line + GPC_ADDRESS_LO)).toBe(0x5123);
    expect(words.load(line + GPC_LENGTH)).toBe(64);
    expect(mappedAt(vm, line)).toBe(framePage(vm, 5) + 0x123);
    vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(hostPage(vm, 6) + 0x45) });
    expect(words.load(line + GPC_ACTIVE)).toBe(GPC_BY_HVA);
    expect(words.loadWide(line + GPC_ADDRESS_LO)).toBe(hostPage(vm, 6) + 0x45);
    expect(mappedAt(vm, line)).toBe(framePage(vm, 6) + 0x45);
  });

  test('KX-GPC-02 KX-GPC-24 one base at a time: each get answers for its own, the last set decides', () => {
    const vm = make();
    const vcpu = vm.vcpu(0);
    const seen = (): unknown[] => [
      vm.getAttr('shared_info').gfn,
      vm.getAttr('shared_info_hva').hva,
      vcpu.getAttr('vcpu_info').gpa,
      vcpu.getAttr('vcpu_info_hva').hva,
    ];
    expect(seen()).toEqual([SHARED_INFO_GFN, null, VCPU_INFO_GPA, null]);
    vm.setAttr({ type: 'shared_info_hva', hva: INFO_HVA(vm) });
    vcpu.setAttr({ type: 'vcpu_info_hva', hva: hostPage(vm, 4) });
    expect(seen()).toEqual([null, INFO_HVA(vm), null, hostPage(vm, 4)]);
    vm.setAttr({ type: 'shared_info', gfn: gfn(7) });
    expect(seen()).toEqual([7, null, null, hostPage(vm, 4)]);
    vm.setAttr({ type: 'shared_info_hva', hva: null });
    expect(seen()).toEqual([null, null, null, hostPage(vm, 4)]);
  });

  test('KX-GPC-03 inactive, invalid, valid: what each answers to a use', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect([fastSend(vm, 5), vm.send(5)]).toEqual([-11, -22]);
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(ELSEWHERE / PAGE_SIZE) }));
    expect([fastSend(vm, 5), vm.send(5)]).toEqual([-11, -14]);
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect([fastSend(vm, 5), vm.send(5)]).toEqual([1, 0]);
  });

  // ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────

  const spoil: readonly [string, (vm: Vm) => void][] = [
    ['inactive', (vm) => vm.setAttr({ type: 'shared_info', gfn: null })],
    ['its slots have changed', (vm) => vm.memslots.set(slotAt(vm, 9))],
    ['its slot is gone', (vm) => vm.memslots.delete(0)],
    ['invalidated', (vm) => dropMappings(vm)],
    ['being invalidated', (vm) => vm.invalidateStart(INFO_HVA(vm), INFO_HVA(vm))],
  ];
  test.each(spoil)(
    'KX-GPC-10 KX-GPC-04 the fast half refuses a cache that is not usable, and changes nothing: %s',
    (_what, spoils) => {
      const vm = make();
      expect(fastSend(vm, 5)).toBe(1);
      spoils(vm);
      expect(changed(vm, () => expect(fastSend(vm, 6)).toBe(-11))).toEqual([]);
    },
  );

  test('KX-GPC-11 KX-GPC-42 a cache by host address does not look at the slots', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info_hva', hva: INFO_HVA(vm) });
    vm.memslots.set(slotAt(vm, 9));
    expect(fastSend(vm, 5)).toBe(1);
    vm.memslots.delete(0);
    expect(fastSend(vm, 6)).toBe(1);
  });

  test('KX-GPC-04 a refresh that succeeded is no permission: what counts is the look inside the bracket', () => {
    const vm = make();
    dropMappings(vm);
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(0);
    dropMappings(vm);
    expect(fastSend(vm, 5)).toBe(-11);
    expect(vm.send(5)).toBe(1);
  });

  // ── activation, deactivation ─────────────────────────────────────────────────────────────────────────────────────

  const beyond = 2 ** 47 - PAGE_SIZE;
  const refusals: readonly [string, (vm: Vm) => void, ...(string | number)[]][] = [
    ['shared_info at no frame', (vm) => vm.setAttr({ type: 'shared_info', gfn: cast(-1) }), -1],
    ['shared_info at half a frame', (vm) => vm.setAttr({ type: 'shared_info', gfn: cast(1.5) }), 1.5],
    ['shared_info in a page', (vm) => vm.setAttr({ type: 'shared_info_hva', hva: hva(0x5010) }), 0x5010, 4096],
    ['shared_info beyond user space', (vm) => vm.setAttr({ type: 'shared_info_hva', hva: cast(beyond) }), beyond],
    ['vcpu_info across a page', (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5fc1) }), '0x5fc1', '0xfc0'],
    [
      'vcpu_info across a host page',
      (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(0x5fc1) }),
      '0x5fc1',
      '0xfc0',
    ],
    ['vcpu_info beyond user space', (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: cast(beyond) }), beyond],
    ['vcpu_time_info across a page', (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5fe1) }), '0xfe0'],
    ['a vcpu_info below 0', (vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: cast(-64) }), -64],
  ];
  test.each(refusals)('KX-GPC-15 %s: EINVAL, nothing has changed', (_what, set, ...words) => {
    const vm = make();
    refuses(vm, () => set(vm), 'EINVAL', ...words);
    expect(vm.send(5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-GPC-16 KX-GPC-26 an activation that fails leaves the cache active with the new base: it is found once it can be', () => {
    const vm = make();
    const { line } = vm.vcpu(0);
    expect(errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE + 8) })).code).toBe('EFAULT');
    expect(vm.gpcs.baseOf(line)).toEqual({ gpa: ELSEWHERE + 8 });
    expect(mappedAt(vm, line)).toBeNull();
    vm.send(5);
    vm.memslots.set(slotAt(vm, 9));
    expect(drained(vm)).toEqual([5]);
    expect(mappedAt(vm, line)).toBe(framePage(vm, 9) + 8);
  });

  test('KX-GPC-16 no mapping escapes an invalidation: each cache is reached as soon as it maps something', () => {
    const vm = createVm({ shared, hostPages, bare: true, guestPages: 16, vcpus: 2 });
    const registrations: (() => void)[] = [
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(3) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x4000) }),
      () => vm.vcpu(1).setAttr({ type: 'vcpu_info_hva', hva: hva(hostPage(vm, 4) + 64) }),
      () => vm.vcpu(1).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5000) }),
      () => vm.vcpu(1).setAttr({ type: 'runstate_addr', gpa: gpa(0x5200) }),
    ];
    for (const registers of registrations) {
      registers();
      expect(mappedCount(vm)).toBe(1);
      expect(dropMappings(vm)).toBe(1);
      expect(mappedCount(vm)).toBe(0);
    }
  });

  test('KX-GPC-17 KX-GPC-35 by guest address, by host address, and back: bits only at the current place', () => {
    const vm = make();
    const places: [() => void, number][] = [
      [() => vm.setAttr({ type: 'shared_info', gfn: gfn(7) }), 7],
      [() => vm.setAttr({ type: 'shared_info_hva', hva: hostPage(vm, 9) }), 9],
      [() => vm.setAttr({ type: 'shared_info_hva', hva: hostPage(vm, 10) }), 10],
      [() => vm.setAttr({ type: 'shared_info', gfn: gfn(10) }), 10],
      [() => vm.setAttr({ type: 'shared_info', gfn: gfn(11) }), 11],
    ];
    const kept: (() => boolean)[] = [];
    let last = SHARED_INFO_GFN;
    for (const [moves, page] of places) {
      moves();
      if (page !== last) kept.push(poison(vm, last));
      last = page;
      expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, page));
      expect(vm.send(5)).toBe(1);
      expect(drained(vm)).toEqual([5]);
    }
    expect(kept.map((intact) => intact())).toEqual([true, true, true, true]);
  });

  test('KX-GPC-18 deactivation: nothing is mapped, the page is nobody’s; again without effect', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    const intact = poison(vm, SHARED_INFO_GFN);
    const before = stateBytes(vm);
    vm.setAttr({ type: 'shared_info', gfn: null });
    vm.setAttr({ type: 'shared_info_hva', hva: null });
    expect(changes(before, stateBytes(vm))).toEqual([]);
    expect(vm.send(5)).toBe(-22);
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(-22);
    expect(intact()).toBe(true);
  });

  test('KX-GPC-18 a reader that does not leave: EBUSY, the cache stays registered and is used again', () => {
    noNaps();
    const vm = make();
    const other = attachVm(vm.handle());
    other.enter();
    for (const set of [
      () => vm.setAttr({ type: 'shared_info', gfn: null }),
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(7) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }),
      () => vm.invalidateStart(INFO_HVA(vm), INFO_HVA(vm)),
    ]) {
      const error = errorOf(set);
      expect(error.code).toBe('EBUSY');
      expect(error.message).toContain(`agent ${other.agentNumber} `);
    }
    other.leave();
    expect(vm.getAttr('shared_info').gfn).toBe(SHARED_INFO_GFN);
    expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(VCPU_INFO_GPA);
    expect(vm.send(5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
    refuses(vm, () => vm.invalidateEnd(), 'EINVAL', 'invalidateStart');
  });

  // ── refresh ──────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-GPC-21 KX-GPC-22 a refresh of a cache that is not active: -EINVAL, and not a byte has changed', () => {
    const vm = make();
    const record = vm.vcpu(0).record;
    for (const gpc of [record + VCPU_TIME_INFO_GPC, record + VCPU_RUNSTATE1_GPC]) {
      const before = stateBytes(vm);
      expect(vm.gpcs.refresh(gpc)).toBe(-22);
      expect(changes(before, stateBytes(vm))).toEqual([]);
    }
  });

  test('KX-GPC-23 KX-GPC-26 a refresh finds no slot: EFAULT, base and state are kept, it tries again at the next use', () => {
    const vm = make();
    const [slot] = vm.memslots.list();
    vm.memslots.delete(0);
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(-14);
    expect(vm.gpcs.baseOf(vm.region.sharedInfo)).toEqual({ gpa: SHARED_INFO_GPA });
    expect(mappedAt(vm, vm.region.sharedInfo)).toBeNull();
    if (slot) vm.memslots.set(slot);
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(0);
  });

  test('KX-GPC-23 the slot is looked up anew: the same guest address kept elsewhere is the other page', () => {
    const vm = make();
    const [slot] = vm.memslots.list();
    const intact = ((): (() => boolean) => {
      vm.memslots.delete(0);
      return poison(vm, SHARED_INFO_GFN);
    })();
    if (slot) vm.memslots.set({ ...slot, bytes: 8 * PAGE_SIZE, hva: hostPage(vm, 8) });
    expect(vm.send(5)).toBe(1);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, 8 + SHARED_INFO_GFN));
    expect(drained(vm)).toEqual([5]);
    expect(intact()).toBe(true);
  });

  test('KX-GPC-25 KF-06 another offset in the same page: the address with the new offset, without asking for the page', () => {
    const asked: number[] = [];
    const vm = make({ onPageFault: (at: number) => asked.push(at) });
    const vcpu = vm.vcpu(0);
    for (const offset of [0, 1, 4, 64, 0x7ff, 0xfc0, 8]) {
      vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(0x5000 + offset) });
      expect(mappedAt(vm, vcpu.line)).toBe(framePage(vm, 5) + offset);
    }
    expect(asked).toEqual([]);
  });

  test('KX-GPC-33 KX-GPC-32 X-11 an open invalidation of any range holds a refresh up until its end', () => {
    const vm = make();
    dropMappings(vm);
    vm.invalidateStart(0, 0);
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(-11);
    expect(mappedCount(vm)).toBe(0);
    vm.invalidateEnd();
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(0);
  });

  test('KX-GPC-32 a cache that is valid is not touched by an open invalidation elsewhere', () => {
    const vm = make();
    vm.invalidateStart(hostPage(vm, 9), hostPage(vm, 9));
    expect(fastSend(vm, 5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
    vm.invalidateEnd();
  });

  test('KX-GPC-34 X-11 another thread sleeps until the end and then succeeds', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    dropMappings(vm);
    vm.invalidateStart(0, 0);
    let naps = 0;
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      if (++naps === 5) vm.invalidateEnd();
      return 'timed-out';
    });
    expect(other.send(5)).toBe(1);
    expect(naps).toBe(5);
  });

  test('KX-GPC-34 an invalidation that does not end: -EAGAIN after a bounded number of naps, nothing is left behind', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    dropMappings(vm);
    vm.invalidateStart(0, 0);
    const before = stateBytes(vm);
    const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
    expect(other.send(5)).toBe(-11);
    expect(naps.mock.calls.length).toBe(200);
    expect(changes(before, stateBytes(vm))).toEqual([]);
    vm.invalidateEnd();
    expect(other.send(5)).toBe(1);
  });

  test('KX-GPC-34 inside its own bracket it does not wait: the invalidation may be waiting for that very bracket', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    dropMappings(vm);
    vm.invalidateStart(0, 0);
    const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
    other.enter();
    expect(other.send(5)).toBe(-11);
    other.leave();
    expect(naps).not.toHaveBeenCalled();
    vm.invalidateEnd();
  });

  test('KX-GPC-20 KX-GPC-36 a refresh that another agent has under way is waited for, not taken over', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    dropMappings(vm);
    const gpc = vm.region.sharedInfo;
    const token = other.agentNumber + 1;
    expect(other.kernel.gpcBeginRefresh(vm.vmBase, gpc, token)).toBe(0);
    const { words } = vm.region;
    const load = words.load.bind(words);
    let [looks, published] = [0, 99];
    const spy = vi.spyOn(words, 'load').mockImplementation((at) => {
      if (at === gpc && ++looks === 50) {
        published = other.kernel.gpcPublish(vm.vmBase, gpc, token, framePage(vm, SHARED_INFO_GFN));
      }
      return load(at);
    });
    expect(vm.gpcs.refresh(gpc)).toBe(0);
    spy.mockRestore();
    // The other one's token stood: it was its refresh that mapped the page.
    expect([looks, published]).toEqual([50, 0]);
    expect(vm.send(5)).toBe(1);
  });

  test('KX-GPC-20 KF-89 one whose agent is dead, or sleeps over it, is taken over after a while', () => {
    const vm = make();
    const dead = attachVm(vm.handle());
    dropMappings(vm);
    expect(dead.kernel.gpcBeginRefresh(vm.vmBase, vm.region.sharedInfo, dead.agentNumber + 1)).toBe(0);
    expect(vm.send(5)).toBe(1);
    // And it cannot publish any more.
    expect(dead.kernel.gpcPublish(vm.vmBase, vm.region.sharedInfo, dead.agentNumber + 1, framePage(vm, 9))).toBe(-11);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, SHARED_INFO_GFN));
  });

  // ── invalidation ─────────────────────────────────────────────────────────────────────────────────────────────────

  test('X-12 KX-GPC-40 a range that does not contain the address leaves the cache valid', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info_hva', hva: INFO_HVA(vm) });
    const beside: [number, number][] = [
      [0, INFO_HVA(vm) - 1],
      [hostPage(vm, SHARED_INFO_GFN + 2), 2 ** 47 - PAGE_SIZE - 1],
      [hostPage(vm, 9), hostPage(vm, 9)],
    ];
    for (const [first, last] of beside) {
      vm.invalidateStart(first, last);
      expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, SHARED_INFO_GFN));
      expect(fastSend(vm, 5)).toBe(1);
      vm.invalidateEnd();
      expect(drained(vm)).toEqual([5]);
    }
    expect(vm.invalidateStart(INFO_HVA(vm), INFO_HVA(vm))).toBe(1);
    vm.invalidateEnd();
  });

  test.each([
    ['backwards', (vm: Vm) => vm.invalidateStart(5, 4), '5'],
    ['below 0', (vm: Vm) => vm.invalidateStart(-1, 4), '-1'],
    ['beyond user space', (vm: Vm) => vm.invalidateStart(0, 2 ** 47), String(2 ** 47)],
    ['no integer', (vm: Vm) => vm.invalidateStart(0.5, 4), '0.5'],
  ])('a range %s: EINVAL, nothing is begun', (_what, starts, word) => {
    const vm = make();
    refuses(vm, () => starts(vm), 'EINVAL', word);
    expect(vm.send(5)).toBe(1);
  });

  test('KX-GPC-41 KX-GPC-43 it drops the mapping and does nothing else: no byte of the guest, no mark, no base, nobody is told', () => {
    const vm = make();
    const [slot] = vm.memslots.list();
    if (slot) vm.memslots.set({ ...slot, logDirty: true });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5000) });
    vm.send(5);
    vm.dirtyLog.take(0);
    const bases = [...vm.region.gpcs()].map((gpc) => vm.gpcs.baseOf(gpc));
    const requests = vm.region.words.load(vm.vcpu(0).line + VCPU_REQUESTS);
    expect(changed(vm, () => dropMappings(vm))).toEqual([]);
    expect([...vm.region.gpcs()].map((gpc) => vm.gpcs.baseOf(gpc))).toEqual(bases);
    expect(vm.dirtyLog.take(0).every((byte) => byte === 0)).toBe(true);
    expect(vm.region.words.load(vm.vcpu(0).line + VCPU_REQUESTS)).toBe(requests);
    // They find out at their next use, and go on.
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-GPC-38 the sequence rises at the end of every range and every change, wherever it was', () => {
    const vm = make();
    const first = sequence(vm);
    vm.invalidateStart(2 ** 46, 2 ** 46);
    expect(sequence(vm)).toBe(first);
    vm.invalidateEnd();
    expect(sequence(vm)).toBe(first + 1);
    vm.memslots.set(slotAt(vm, 9));
    expect(sequence(vm)).toBe(first + 2);
  });

  test('KX-MEM-07 an invalidation that may not block does not sleep: it looks at a reader until it has left, or EBUSY', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
    other.enter();
    expect(errorOf(() => vm.invalidateStart(0, PAGE_SIZE, { mayBlock: false })).code).toBe('EBUSY');
    other.leave();
    expect(vm.invalidateStart(0, 2 ** 40, { mayBlock: false })).toBe(2);
    vm.invalidateEnd();
    expect(naps).not.toHaveBeenCalled();
    expect(vm.send(5)).toBe(1);
  });

  test('KF-89 an agent that died in a change of its own: with it goes what it had begun', () => {
    const vm = make();
    const dead = attachVm(vm.handle());
    dropMappings(vm);
    // As far as a registration comes whose thread is gone before its end.
    dead.changes.invalidateStart(hva(0), hva(0));
    noNaps();
    expect(vm.send(5)).toBe(-11);
    const before = sequence(vm);
    vm.detachAgent(dead.agentNumber);
    expect(sequence(vm)).toBe(before + 1);
    expect(vm.send(5)).toBe(1);
  });
});

// ── a page that is asked for ─────────────────────────────────────────────────────────────────────────────────────────

describe.each([true, false])('a refresh that has to ask for its page, shared memory: %s', (shared) => {
  interface Stage {
    readonly vm: Vm;
    readonly asked: [Hva, boolean][];
    fault: (at: Hva) => void;
  }
  /** shared_info by host address on a page outside all slots, absent; its frame is guest page 9 when it is brought. */
  function stage(options = {}): Stage {
    const stage: Stage = { vm: cast(null), asked: [], fault: () => {} };
    const vm = makePaged({
      shared,
      onPageFault: (at, writable) => {
        stage.asked.push([at, writable]);
        stage.fault(at);
      },
      ...options,
    });
    Object.assign(stage, { vm });
    return stage;
  }
  const OUTSIDE = hva(10 * PAGE_SIZE);
  const bring = (vm: Vm, page: number): void => vm.hostPages.map(OUTSIDE, 1, framePage(vm, page));

  test('KX-GPC-30 KX-GPC-24 KX-GPC-35 it asks once, for writing, holding nothing, and maps what is brought', () => {
    const s = stage();
    s.fault = () => {
      expect(s.vm.region.bracketOpen(s.vm.agent)).toBe(false);
      bring(s.vm, 9);
    };
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    expect(s.asked).toEqual([[OUTSIDE, true]]);
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBe(framePage(s.vm, 9));
    expect(s.vm.send(5)).toBe(1);
    expect(ram(s.vm)[9 * PAGE_SIZE + 0x800]).toBe(1 << 5);
    // It is not pinned: whoever wants the page back gets it.
    s.vm.hostPages.unmap(OUTSIDE, 1);
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBeNull();
    expect(s.asked).toHaveLength(1);
  });

  test('KX-GPC-30 KX-GPC-26 a page that is not brought: EFAULT, asked once, the cache waits with its base', () => {
    const s = stage();
    const error = errorOf(() => s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE }));
    expect([error.code, error.message]).toEqual(['EFAULT', expect.stringContaining('absent')]);
    expect(s.asked).toHaveLength(1);
    expect(s.vm.getAttr('shared_info_hva').hva).toBe(OUTSIDE);
    expect(s.vm.send(5)).toBe(-14);
    s.fault = () => bring(s.vm, 9);
    expect(s.vm.send(5)).toBe(1);
  });

  test('KX-GPC-36 KX-GPC-03 while it is asked for, every check fails: nobody sees the old page or the new one', () => {
    const s = stage();
    const other = attachVm(s.vm.handle());
    const seen: number[] = [];
    s.fault = () => {
      seen.push(fastSend(s.vm, 6), fastSend(other, 6), other.send(6), s.vm.send(6));
      expect(s.vm.gpcs.isActive(s.vm.region.sharedInfo)).toBe(true);
      bring(s.vm, 9);
    };
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    expect(seen.slice(0, 4)).toEqual([-11, -11, -14, -14]);
    expect(s.vm.send(6)).toBe(1);
  });

  test('X-10 KX-GPC-30 KX-GPC-32 an invalidation between fault-in and publication: the new frame is mapped', () => {
    const s = stage();
    let intact = (): boolean => false;
    s.fault = () => bring(s.vm, 9);
    // Between what the refresh has found and its publication.
    const faultIn = s.vm.gpcs.faultIn.bind(s.vm.gpcs);
    const spy = vi.spyOn(s.vm.gpcs, 'faultIn').mockImplementation((at, writable) => {
      const page = faultIn(at, writable);
      spy.mockRestore();
      s.vm.hostPages.move(OUTSIDE, 1, framePage(s.vm, 11));
      intact = poison(s.vm, 9);
      return page;
    });
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBe(framePage(s.vm, 11));
    expect(s.vm.send(5)).toBe(1);
    expect(intact()).toBe(true);
  });

  test('KX-GPC-38 also when the page is in no slot, and start and end lie entirely inside the refresh', () => {
    const s = stage();
    s.vm.memslots.delete(0);
    s.fault = () => {
      bring(s.vm, 9);
      bring(s.vm, 12);
    };
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBe(framePage(s.vm, 12));
  });

  test('X-11 KX-GPC-32 an invalidation that begins while the page is asked for and stays open: nothing is mapped', () => {
    const s = stage();
    s.fault = () => {
      bring(s.vm, 9);
      s.vm.invalidateStart(OUTSIDE, OUTSIDE);
      // A use in between does not help it either: the token it leaves would be the outer refresh's. [KX-GPC-20]
      expect(s.vm.send(6)).toBe(-11);
    };
    expect(errorOf(() => s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE })).code).toBe('EAGAIN');
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBeNull();
    const intact = poison(s.vm, 9);
    expect(s.vm.send(5)).toBe(-11);
    expect(intact()).toBe(true);
    s.vm.invalidateEnd();
    expect(s.vm.send(5)).toBe(1);
  });

  test('KX-GPC-20 a refresh of the same cache from inside the question: one of the two publishes, once', () => {
    const s = stage();
    s.fault = () => {
      bring(s.vm, 9);
      expect(s.vm.send(6)).toBe(1);
    };
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    expect(s.asked).toHaveLength(1);
    expect(s.vm.send(5)).toBe(1);
    expect([pendingBit(s.vm, 5), ram(s.vm)[9 * PAGE_SIZE + 0x800]]).toEqual([false, (1 << 5) | (1 << 6)]);
  });

  test('KF-03 unregistered while the page is asked for: nothing is mapped afterwards', () => {
    const s = stage();
    s.fault = () => {
      bring(s.vm, 9);
      s.vm.setAttr({ type: 'shared_info', gfn: null });
    };
    errorOf(() => s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE }));
    const intact = poison(s.vm, 9);
    expect(mappedAt(s.vm, s.vm.region.sharedInfo)).toBeNull();
    expect(s.vm.send(5)).toBe(-22);
    expect(intact()).toBe(true);
  });

  test('a send inside a bracket does not ask: -EAGAIN, and after the bracket it works', () => {
    const s = stage();
    s.fault = () => bring(s.vm, 9);
    s.vm.setAttr({ type: 'shared_info_hva', hva: OUTSIDE });
    s.vm.hostPages.unmap(OUTSIDE, 1);
    s.vm.enter();
    expect(s.vm.send(5)).toBe(-11);
    s.vm.leave();
    expect(s.asked).toHaveLength(1);
    expect(s.vm.send(5)).toBe(1);
    expect(s.asked).toHaveLength(2);
  });

  test('KX-GPC-20 KF-02 a base or a slot that changes under a refresh: it begins again, and asks for nothing of the old one', () => {
    const { vm } = stage();
    const asked: Hva[] = [];
    const other = attachVm(vm.handle(), { onPageFault: (at) => asked.push(at) });
    dropMappings(vm);
    const { words } = other.region;
    const loadWide = words.loadWide.bind(words);
    let loads = 0;
    const spy = vi.spyOn(words, 'loadWide').mockImplementation((at) => {
      const value = loadWide(at);
      // The fourth is the slot's host address: from here on it is kept elsewhere, and its old page is away.
      if (++loads === 4) {
        vm.memslots.delete(0);
        vm.memslots.set({ id: 0, gpa: gpa(0), bytes: 8 * PAGE_SIZE, hva: hostPage(vm, 8) });
        vm.hostPages.unmap(hostPage(vm, SHARED_INFO_GFN), 1);
      }
      return value;
    });
    expect(other.send(5)).toBe(1);
    spy.mockRestore();
    expect(loads).toBeGreaterThan(4);
    expect(asked).toEqual([]);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, 8 + SHARED_INFO_GFN));
  });
});

test('KF-11 host address 0 is what the kernel’s interface calls none; guest address 0 is an address', () => {
  const vm = makePaged();
  vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
  expect(vm.getAttr('shared_info').gfn).toBe(0);
  expect(vm.send(5)).toBe(1);
  vm.setAttr({ type: 'shared_info_hva', hva: hva(0) });
  expect(vm.getAttr('shared_info_hva').hva).toBeNull();
  expect(vm.send(5)).toBe(-22);
  const bytes = memoryBytes(vm);
  expect(bytes.slice(0, PAGE_SIZE).every((byte) => byte === 0)).toBe(true);
});
