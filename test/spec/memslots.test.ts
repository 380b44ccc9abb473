// The memory slots: what may be set, what a change does to the caches, and what nobody sees half of it. [kvm-xen 11.2]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { MEMSLOT_ID, REGION_GENERATIONS, REGION_INVALIDATE_ACTIVE, REGION_MEMSLOTS } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, type ErrorCode, gfn, gpa, hva, type Memslot, type Vm } from '../../src/index.ts';
import { drained, errorOf, makeVm, memoryBytes, pendingBit, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';
import {
  cast,
  changes,
  noNaps,
  refuses,
  sharedInfoWord,
  stateBytes,
  tracing,
  UNMAPPED,
  vcpuInfoWord,
} from './evidence.ts';
import {
  ELSEWHERE,
  GUEST_PAGES,
  hostPage,
  makePaged,
  mappedAt,
  mappedCount,
  rawGeneration,
  slotAt,
  slotRecords,
  TABLES,
} from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const BUSY = 1n << 63n;
const RAM = GUEST_PAGES * PAGE_SIZE;

describe.each(TABLES)('shared memory: $shared, table of host pages: $table', ({ shared, hostPages }) => {
  const make = (options = {}): Vm => makePaged({ shared, hostPages, ...options });

  // ── what may be set ──────────────────────────────────────────────────────────────────────────────────────────────

  const bad: readonly [string, Partial<Memslot>, ErrorCode, ...(string | number)[]][] = [
    ['an id below 0', { id: -1 }, 'EINVAL', -1, 32763],
    ['an id too high', { id: 32764 }, 'EINVAL', 32764, 32763],
    ['an id that is no integer', { id: 1.5 }, 'EINVAL', 1.5],
    ['an address space that does not exist', { addressSpace: 2 }, 'EINVAL', 2],
    ['an address space below 0', { addressSpace: -1 }, 'EINVAL', -1],
    ['a guest address in a page', { gpa: gpa(0x100010) }, 'EINVAL', 0x100010, 4096],
    ['a guest address beyond 2^52', { gpa: gpa(2 ** 52) }, 'EINVAL', 2 ** 52],
    ['a guest address that is none', { gpa: cast(-4096) }, 'EINVAL', -4096],
    ['a size that is no pages', { bytes: 100 }, 'EINVAL', 100, 4096],
    ['a size below 0', { bytes: -4096 }, 'EINVAL', -4096],
    ['a size above 2^31-1 pages', { bytes: 2 ** 31 * PAGE_SIZE }, 'EINVAL', 2 ** 31 * PAGE_SIZE],
    ['a host address in a page', { hva: hva(0x1001) }, 'EINVAL', 0x1001, 4096],
    ['a host address beyond user space', { hva: cast(2 ** 47) }, 'EINVAL', 2 ** 47],
    ['an end beyond 2^52', { gpa: gpa(2 ** 52 - PAGE_SIZE), bytes: 2 * PAGE_SIZE }, 'EINVAL', 2 ** 52],
    [
      'host addresses that leave user space',
      { hva: hva(2 ** 47 - 2 * PAGE_SIZE), bytes: 2 * PAGE_SIZE },
      'EINVAL',
      2 ** 47 - 4096,
    ],
    ['an overlap', { gpa: gpa(RAM - PAGE_SIZE), bytes: 2 * PAGE_SIZE }, 'EEXIST', 'slot 0'],
    ['a slot around another', { gpa: gpa(0), bytes: 2 * RAM }, 'EEXIST', 'slot 0'],
    ['a deletion of what does not exist', { bytes: 0 }, 'EINVAL', 'slot 1'],
    ['a deletion in the other address space', { id: 0, addressSpace: 1, bytes: 0 }, 'EINVAL', 'address space 1'],
  ];
  test.each(bad)('KX-MEM-10 a slot with %s is refused: nothing has changed', (_what, slot, code, ...words) => {
    const vm = make();
    refuses(vm, () => vm.memslots.set(slotAt(vm, 8, slot)), code, ...words);
    expect(vm.send(5)).toBe(1);
  });

  const fixed: readonly [string, (vm: Vm) => Partial<Memslot>][] = [
    ['size', () => ({ bytes: 2 * PAGE_SIZE })],
    ['host address', (vm) => ({ hva: hostPage(vm, 9) })],
    ['readonly', () => ({ readonly: true })],
  ];
  test.each(fixed)('KX-MEM-10 the %s of a slot that exists cannot change', (_what, change) => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8));
    refuses(vm, () => vm.memslots.set(slotAt(vm, 8, change(vm))), 'EINVAL', 'slot 1', 'readonly');
  });

  test('KX-MEM-10 a move onto another slot: EEXIST; next to it is free', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8));
    refuses(vm, () => vm.memslots.set(slotAt(vm, 8, { gpa: gpa(RAM - PAGE_SIZE) })), 'EEXIST', 'slot 1', 'slot 0');
    vm.memslots.set(slotAt(vm, 8, { gpa: gpa(RAM) }));
    expect(vm.memslots.hvaOf(gpa(RAM))).toBe(hostPage(vm, 8));
    expect(vm.memslots.hvaOf(gpa(RAM - 1))).toBe(hostPage(vm, GUEST_PAGES) - 1);
    expect(vm.memslots.hvaOf(gpa(RAM + PAGE_SIZE))).toBeNull();
  });

  test('KX-MEM-10 the same settings again: no effect, not even on generation and mappings', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8, { logDirty: true }));
    vm.send(5);
    const before = stateBytes(vm);
    vm.memslots.set(slotAt(vm, 8, { logDirty: true }));
    expect(changes(before, stateBytes(vm))).toEqual([]);
    expect(sharedInfoWord(vm)).toBeLessThan(UNMAPPED);
  });

  test('KX-MEM-10 no slot and no bitmap left: ENOSPC and ENOMEM name the limit', () => {
    const vm = make({ memslots: 2, dirtyPages: 40 });
    vm.memslots.set(slotAt(vm, 8, { bytes: 2 * PAGE_SIZE, logDirty: true }));
    refuses(vm, () => vm.memslots.set(slotAt(vm, 9, { id: 2, gpa: gpa(2 * ELSEWHERE) })), 'ENOSPC', 2, 'memslots');
    const ram0: Memslot = { id: 0, gpa: gpa(0), bytes: RAM, hva: hostPage(vm, 0) };
    vm.memslots.set({ ...ram0, logDirty: true });
    vm.memslots.delete(1);
    refuses(vm, () => vm.memslots.set(slotAt(vm, 0, { bytes: 33 * PAGE_SIZE, logDirty: true })), 'ENOMEM', 33, 40);
    vm.memslots.set(slotAt(vm, 0, { bytes: 32 * PAGE_SIZE, logDirty: true }));
  });

  test('the largest slots and addresses are allowed, far outside of memory', () => {
    const vm = make();
    vm.memslots.set({ id: 32763, gpa: gpa(2 ** 52 - PAGE_SIZE), bytes: PAGE_SIZE, hva: hva(2 ** 47 - 2 * PAGE_SIZE) });
    expect(vm.memslots.hvaOf(gpa(2 ** 52 - 1))).toBe(2 ** 47 - PAGE_SIZE - 1);
    const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(2 ** 40 - 1) }));
    expect(error.code).toBe('EFAULT');
    vm.memslots.delete(32763);
    expect(vm.memslots.list().map(({ id }) => id)).toEqual([0]);
  });

  // ── who may, and when ────────────────────────────────────────────────────────────────────────────────────────────

  test('EPERM for who is not the owner, EBADF once detached, EBUSY in a bracket', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    refuses(vm, () => other.memslots.set(slotAt(vm, 8)), 'EPERM', 'owner');
    refuses(vm, () => other.memslots.delete(0), 'EPERM', 'owner');
    expect(other.memslots.list()).toEqual(vm.memslots.list());
    vm.enter();
    refuses(vm, () => vm.memslots.set(slotAt(vm, 8)), 'EBUSY', 'bracket');
    vm.leave();
    other.detach();
    for (const call of [
      () => other.memslots.list(),
      () => other.memslots.hvaOf(gpa(0)),
      () => other.memslots.generation(),
    ]) {
      refuses(vm, call, 'EBADF', 'detached');
    }
  });

  test.each([[-1], [0.5], [Number.NaN], [2 ** 53], ['x']])('no guest address: %s', (address) => {
    const vm = make();
    refuses(vm, () => vm.memslots.hvaOf(cast(address)), 'EINVAL', 'guest-physical');
  });

  test('KX-MEM-05 KX-MEM-12 a change would wait for this thread’s own invalidation: EBUSY, and afterwards it goes', () => {
    const vm = make();
    vm.invalidateStart(0, 0);
    refuses(vm, () => vm.memslots.set(slotAt(vm, 8)), 'EBUSY', 1, 'invalidation');
    refuses(vm, () => vm.memslots.delete(0), 'EBUSY', 'invalidation');
    // What does not wait is not refused: the table can be read, and a set that changes nothing does nothing.
    expect(vm.memslots.list()).toHaveLength(1);
    expect(vm.memslots.hvaOf(gpa(0))).toBe(hostPage(vm, 0));
    vm.invalidateEnd();
    vm.memslots.set(slotAt(vm, 8));
    expect(vm.memslots.list()).toHaveLength(2);
  });

  test('KX-MEM-12 a reader that does not leave: EBUSY with its number, the slots are as before', () => {
    noNaps();
    const vm = make();
    const other = attachVm(vm.handle());
    const generation = vm.memslots.generation();
    const slots = vm.memslots.list();
    other.enter();
    const error = errorOf(() => vm.memslots.set(slotAt(vm, 8)));
    expect(error.code).toBe('EBUSY');
    expect(error.message).toContain(`agent ${other.agentNumber} `);
    expect(errorOf(() => vm.memslots.delete(0)).code).toBe('EBUSY');
    expect(vm.memslots.generation()).toBe(generation);
    other.leave();
    expect(vm.memslots.list()).toEqual(slots);
    expect(vm.send(5)).toBe(1);
    vm.memslots.set(slotAt(vm, 8));
    expect(vm.memslots.generation()).toBe(generation + 2n);
  });

  // ── what a change does ───────────────────────────────────────────────────────────────────────────────────────────

  test('KX-MEM-11 create, move, change of flags, delete: the map is that, whatever was there', () => {
    const vm = make();
    const at = gpa(ELSEWHERE + 0x123);
    expect(vm.memslots.hvaOf(at)).toBeNull();
    vm.memslots.set(slotAt(vm, 8, { bytes: 2 * PAGE_SIZE }));
    expect(vm.memslots.hvaOf(at)).toBe(hostPage(vm, 8) + 0x123);
    expect(vm.memslots.hvaOf(gpa(ELSEWHERE + PAGE_SIZE))).toBe(hostPage(vm, 9));
    vm.memslots.set(slotAt(vm, 8, { bytes: 2 * PAGE_SIZE, gpa: gpa(2 * ELSEWHERE) }));
    expect(vm.memslots.hvaOf(at)).toBeNull();
    expect(vm.memslots.hvaOf(gpa(2 * ELSEWHERE))).toBe(hostPage(vm, 8));
    vm.memslots.set(slotAt(vm, 8, { bytes: 2 * PAGE_SIZE, gpa: gpa(2 * ELSEWHERE), logDirty: true }));
    expect(vm.memslots.list()[1]).toEqual({
      id: 1,
      addressSpace: 0,
      gpa: 2 * ELSEWHERE,
      bytes: 2 * PAGE_SIZE,
      hva: hostPage(vm, 8),
      logDirty: true,
      readonly: false,
    });
    vm.memslots.delete(1);
    expect(vm.memslots.hvaOf(gpa(2 * ELSEWHERE))).toBeNull();
    expect(vm.memslots.hvaOf(gpa(0))).toBe(hostPage(vm, 0));
    expect(vm.memslots.list()).toHaveLength(1);
  });

  test('KX-MEM-11 a slot that is deleted between others leaves the others', () => {
    const vm = make();
    for (const id of [1, 2, 3]) vm.memslots.set(slotAt(vm, 7 + id, { id, gpa: gpa(id * ELSEWHERE) }));
    vm.memslots.delete(2);
    expect(vm.memslots.list().map(({ id }) => id)).toEqual([0, 1, 3]);
    expect(vm.memslots.hvaOf(gpa(3 * ELSEWHERE))).toBe(hostPage(vm, 10));
    vm.memslots.set(slotAt(vm, 12, { id: 2, gpa: gpa(5 * ELSEWHERE) }));
    expect(vm.memslots.hvaOf(gpa(5 * ELSEWHERE))).toBe(hostPage(vm, 12));
    expect(vm.memslots.hvaOf(gpa(ELSEWHERE))).toBe(hostPage(vm, 8));
  });

  test('KX-MEM-12 KX-MEM-13 the generation grows by 2, by 4 when a slot is deleted or moved', () => {
    const vm = make();
    const grown = (change: () => void): bigint => {
      const before = vm.memslots.generation();
      change();
      return vm.memslots.generation() - before;
    };
    expect(grown(() => vm.memslots.set(slotAt(vm, 8)))).toBe(2n);
    expect(grown(() => vm.memslots.set(slotAt(vm, 8, { logDirty: true })))).toBe(2n);
    expect(grown(() => vm.memslots.set(slotAt(vm, 8, { gpa: gpa(2 * ELSEWHERE) })))).toBe(4n);
    expect(grown(() => vm.memslots.delete(1))).toBe(4n);
    refuses(vm, () => vm.memslots.generation(2), 'EINVAL', 2);
  });

  test('KX-MEM-12 the generation is one number of 64 bits: it carries into the upper half', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8));
    vm.region.words.store64(vm.vmBase + REGION_GENERATIONS, 0xffff_fffen);
    expect(vm.memslots.generation()).toBe(0xffff_fffen);
    vm.memslots.delete(1);
    expect(vm.memslots.generation()).toBe(0x1_0000_0002n);
  });

  test('KX-MEM-14 KX-GPC-42 every change drops what goes through slots, and only that', () => {
    const vm = make({ vcpus: 2 });
    vm.vcpu(1).setAttr({ type: 'vcpu_info_hva', hva: hva(hostPage(vm, 6) + 64) });
    const byHva = vm.vcpu(1).line;
    const steps: (() => void)[] = [
      () => vm.memslots.set(slotAt(vm, 8)),
      () => vm.memslots.set(slotAt(vm, 8, { logDirty: true })),
      () => vm.memslots.set(slotAt(vm, 8, { logDirty: true, gpa: gpa(2 * ELSEWHERE) })),
      () => vm.memslots.delete(1),
    ];
    for (const step of steps) {
      expect(vm.send(5)).toBe(1);
      expect(drained(vm)).toEqual([5]);
      expect(mappedCount(vm)).toBe(3);
      step();
      expect(mappedCount(vm)).toBe(1);
      expect(mappedAt(vm, byHva)).toBe(hostPage(vm, 6) + 64);
    }
  });

  test('KX-MEM-15 after a foreign change a cache maps the page it had, without asking for it', () => {
    const asked: number[] = [];
    const vm = make({ onPageFault: (at: number) => asked.push(at) });
    vm.send(5);
    const [shared0, info0] = [sharedInfoWord(vm), vcpuInfoWord(vm)];
    vm.memslots.set(slotAt(vm, 8));
    expect(drained(vm)).toEqual([5]);
    expect([sharedInfoWord(vm), vcpuInfoWord(vm)]).toEqual([shared0, info0]);
    expect(asked).toEqual([]);
  });

  // ── scenarios ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('X-06 shared_info in no slot: EFAULT, the get shows it; once the slot is there the next send succeeds', () => {
    const vm = make();
    const frame = gfn(ELSEWHERE / PAGE_SIZE);
    const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: frame }));
    expect(error.code).toBe('EFAULT');
    expect(error.message).toContain('0x100000');
    expect(vm.getAttr('shared_info').gfn).toBe(frame);
    expect(vm.send(5)).toBe(-14);
    vm.memslots.set(slotAt(vm, 8));
    expect(vm.send(5)).toBe(1);
    // By the slot, the eighth page of guest RAM.
    expect(vm.guestMemory.read(gpa(8 * PAGE_SIZE + 0x800), 1)).toEqual(new Uint8Array([1 << 5]));
    expect(drained(vm)).toEqual([5]);
  });

  test('X-07 KX-MEM-16 the slot under shared_info is deleted: by guest address EFAULT, until it is there again', () => {
    const vm = make();
    const [slot] = vm.memslots.list();
    vm.send(5);
    vm.memslots.delete(0);
    const before = memoryBytes(vm);
    const guest = [vm.guestBase, vm.guestBase + vm.guestBytes] as const;
    expect(vm.send(6)).toBe(-14);
    expect(vm.sendMany([6, 7])).toBe(-14);
    expect(errorOf(() => vm.vcpu(0).drain()).code).toBe('EFAULT');
    expect(vm.mask(6)).toBe(-14);
    expect(memoryBytes(vm).slice(...guest)).toEqual(before.slice(...guest));
    expect(vm.getAttr('shared_info').gfn).toBe(SHARED_INFO_GFN);
    vm.memslots.set(slot as Memslot);
    expect(vm.send(6)).toBe(1);
    expect(drained(vm)).toEqual([5, 6]);
  });

  test('X-07 KX-MEM-16 by host address nothing of that is noticed', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info_hva', hva: hostPage(vm, SHARED_INFO_GFN) });
    vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hostPage(vm, 4) });
    vm.memslots.delete(0);
    expect(vm.send(5)).toBe(1);
    expect(pendingBit(vm, 5)).toBe(true);
    expect(drained(vm)).toEqual([5]);
    // The overlay appears elsewhere, and is the same page.
    vm.memslots.set(slotAt(vm, SHARED_INFO_GFN));
    expect(vm.send(6)).toBe(1);
    expect(vm.guestMemory.read(gpa(ELSEWHERE + 0x800), 1)).toEqual(new Uint8Array([1 << 6]));
  });

  test('X-07 with vcpu_info in the deleted slot, shared_info not: events wait on our side and arrive', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8));
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE) });
    vm.memslots.delete(1);
    expect(vm.send(5)).toBe(1);
    expect(errorOf(() => vm.vcpu(0).drain()).code).toBe('EFAULT');
    vm.memslots.set(slotAt(vm, 8));
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5]);
  });

  test('X-08 KX-GPC-23 a read-only slot: EFAULT for all that can be registered, and the sentence says so', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 8, { readonly: true, bytes: 2 * PAGE_SIZE }));
    const at = gpa(ELSEWHERE + 0xff0);
    const sets = [
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(ELSEWHERE / PAGE_SIZE) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(ELSEWHERE) }),
      () => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: at }),
    ];
    for (const set of sets) {
      const error = errorOf(set);
      expect(error.code).toBe('EFAULT');
      expect(error.message).toContain('read-only');
    }
    expect(vm.send(5)).toBe(-14);
    expect(vm.memslots.hvaOf(at)).toBe(hostPage(vm, 8) + 0xff0);
    expect(vm.memslots.hvaOf(at, true)).toBeNull();
    expect(vm.guestMemory.read(at, 32)).toHaveLength(32);
    expect(vm.guestMemory.write(at, new Uint8Array(32))).toBe(false);
    // Its host page may be written: read-only is a property of the slot.
    vm.setAttr({ type: 'shared_info_hva', hva: hostPage(vm, 8) });
    expect(vm.send(5)).toBe(1);
  });

  // ── two address spaces ───────────────────────────────────────────────────────────────────────────────────────────

  test('KX-MEM-10 the address spaces are apart: same ids, same addresses, own generations', () => {
    const vm = make();
    const generation = vm.memslots.generation();
    vm.send(5);
    const words = [sharedInfoWord(vm), vcpuInfoWord(vm)];
    vm.memslots.set({ id: 0, addressSpace: 1, gpa: gpa(0), bytes: RAM, hva: hostPage(vm, 8) });
    vm.memslots.set(slotAt(vm, 8, { addressSpace: 1 }));
    expect(vm.memslots.hvaOf(gpa(0))).toBe(hostPage(vm, 0));
    expect(vm.memslots.hvaOf(gpa(ELSEWHERE))).toBeNull();
    expect(vm.memslots.generation()).toBe(generation);
    expect(vm.memslots.generation(1)).toBe(4n);
    // Nothing was dropped: caches use address space 0. [KX-MEM-14]
    expect([sharedInfoWord(vm), vcpuInfoWord(vm)]).toEqual(words);
    expect(errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(ELSEWHERE / PAGE_SIZE) })).code).toBe('EFAULT');
    vm.memslots.delete(0, 1);
    expect(vm.memslots.generation(1)).toBe(8n);
    expect(vm.memslots.list().map(({ id, addressSpace }) => [addressSpace, id])).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  test('KF-07 KX-MEM-10 a change of the other address space stores nothing over the slots of this one', () => {
    const vm = make();
    for (const id of [0, 1, 2]) {
      const place = { id, addressSpace: 1, gpa: gpa((id + 4) * ELSEWHERE) };
      vm.memslots.set(slotAt(vm, 10 + id, place));
    }
    for (const id of [1, 2]) vm.memslots.set(slotAt(vm, 7 + id, { id, gpa: gpa(id * ELSEWHERE) }));
    const records = slotRecords(vm, 3);
    const store = Atomics.store;
    let stores = 0;
    vi.spyOn(Atomics, 'store').mockImplementation(((view: Int32Array, index: number, value: number) => {
      const stored = store(view, index, value);
      stores++;
      expect(slotRecords(vm, 3)).toEqual(records);
      return stored;
    }) as typeof Atomics.store);
    vm.memslots.delete(0, 1);
    vm.memslots.set(slotAt(vm, 10, { id: 5, addressSpace: 1, gpa: gpa(9 * ELSEWHERE) }));
    vm.memslots.set(slotAt(vm, 11, { id: 1, addressSpace: 1, gpa: gpa(11 * ELSEWHERE) }));
    vi.restoreAllMocks();
    expect(stores).toBeGreaterThan(20);
    const first = vm.region.part(REGION_MEMSLOTS) + MEMSLOT_ID;
    expect(vm.region.words.load(first) >>> 16).toBe(0);
    expect(vm.memslots.hvaOf(gpa(2 * ELSEWHERE))).toBe(hostPage(vm, 9));
  });
});

// ── what nobody sees half of ─────────────────────────────────────────────────────────────────────────────────────────

describe('inside a change, shared memory', () => {
  /** A VM whose owner's kernel steps are seen. */
  function stage(): { vm: Vm; other: Vm; during(look: () => void, change: () => void): number } {
    let hook: (() => void) | undefined;
    const vm = makePaged(tracing(true, { onStep: () => hook?.() }));
    const other = attachVm(vm.handle());
    return {
      vm,
      other,
      during(look, change) {
        let steps = 0;
        hook = () => {
          steps++;
          look();
        };
        change();
        hook = undefined;
        return steps;
      },
    };
  }

  test('KX-MEM-12 KX-GPC-11 bit 63 of the generation stands from the first step to the last, then it has grown', () => {
    const { vm, during } = stage();
    const before = vm.memslots.generation();
    const seen: bigint[] = [];
    during(
      () => seen.push(rawGeneration(vm)),
      () => vm.memslots.set(slotAt(vm, 8)),
    );
    expect(new Set(seen)).toEqual(new Set([before | BUSY, (before + 2n) | BUSY]));
    expect(vm.memslots.generation()).toBe(before + 2n);
  });

  test('KX-MEM-14 KX-MEM-12 nothing that goes through slots is mapped during a change, nor afterwards with what was seen then', () => {
    noNaps();
    const { vm, other, during } = stage();
    vm.send(5);
    let [mapped, refused] = [0, 0];
    during(
      () => {
        // The owner counts itself first: until then everything is as it was.
        const open = vm.region.words.load(vm.vmBase + REGION_INVALIDATE_ACTIVE) !== 0;
        const result = other.send(6 + mapped + refused);
        if (!open) mapped++;
        else if (result === -11) refused++;
        if (open && refused > 0) expect(mappedCount(vm)).toBeLessThanOrEqual(1);
      },
      () => vm.memslots.delete(0),
    );
    expect(refused).toBeGreaterThan(2);
    expect(mappedCount(vm)).toBe(0);
    expect(other.send(900)).toBe(-14);
  });

  test('another thread reads the map before or after a change, or is told that it is under way', () => {
    noNaps();
    const { vm, other, during } = stage();
    const before = vm.memslots.list();
    const seen: string[] = [];
    during(
      () => {
        try {
          seen.push(JSON.stringify(other.memslots.list()));
        } catch (error) {
          seen.push((error as { code: string }).code);
        }
      },
      () => vm.memslots.set(slotAt(vm, 8)),
    );
    const after = vm.memslots.list();
    expect(new Set(seen)).toEqual(new Set([JSON.stringify(before), 'EAGAIN']));
    expect(other.memslots.list()).toEqual(after);
    vm.memslots.delete(1);
    expect(other.memslots.hvaOf(gpa(SHARED_INFO_GPA))).toBe(hostPage(vm, SHARED_INFO_GFN));
  });
});

test('a VM without guest RAM has no slot', () => {
  const vm = makeVm({ guestPages: 16 });
  vm.memslots.delete(0);
  expect(vm.memslots.list()).toEqual([]);
  expect(errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(3) })).message).toContain('empty');
});
