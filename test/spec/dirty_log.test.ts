// The dirty log: which write marks which page, in the bitmap or in the ring, and how both are read. [kvm-xen 11.3, 11.4]

import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_HARVESTED,
  DIRTY_ENTRY_SIZE,
  REGION_DIRTY_RINGS,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, FlatCpu, gfn, gpa, hva, type Memslot, type Vm } from '../../src/index.ts';
import { errorOf, ram, SHARED_INFO_GFN, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { cast, noNaps, refuses } from './evidence.ts';
import { ELSEWHERE, framePage, hostPage, makePaged, slotAt, TABLES } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A slot of 2 pages whose second is the page of nothing else. */
const TIME = 0x5000;
const RUNSTATE = 0x6000 + PAGE_SIZE - 16;
const TIME_INFO = { tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 0 };

type Mark = [slot: number, page: number];

/** The log as pages, however it is kept: reads and clears. */
function marks(vm: Vm): Mark[] {
  const found: Mark[] = [];
  if (vm.dirtyLog.ringEntries) {
    for (let i = 0; i < vm.vcpus; i++) for (const { slot, page } of vm.dirtyLog.collect(i)) found.push([slot, page]);
    vm.dirtyLog.reset();
  } else {
    for (const { id, addressSpace, logDirty } of vm.memslots.list()) {
      if (!logDirty || addressSpace) continue;
      vm.dirtyLog.take(id).forEach((byte, i) => {
        for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) found.push([id, 8 * i + bit]);
      });
    }
  }
  return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

/** A page once, however often it was pushed. */
function distinct(found: readonly Mark[]): Mark[] {
  return found.filter(([slot, page], i) => found.findIndex((m) => m[0] === slot && m[1] === page) === i);
}

function logAll(vm: Vm): void {
  const [slot] = vm.memslots.list();
  vm.memslots.set({ ...(slot as Memslot), logDirty: true });
}

const LOGS = TABLES.flatMap((table) => [0, 2048].map((dirtyRingBytes) => ({ ...table, dirtyRingBytes })));

describe.each(LOGS)(
  'shared: $shared, table: $table, ring of $dirtyRingBytes bytes',
  ({ shared, hostPages, dirtyRingBytes }) => {
    /** A VM that logs all of its RAM, with every area registered by guest address, and an empty log. */
    function make(options = {}): Vm {
      const vm = makePaged({ shared, hostPages, dirtyRingBytes, vcpus: 2, ...options });
      logAll(vm);
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME) });
      vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(RUNSTATE) });
      // Logging is a change of the slots: everything is mapped again before anything is measured.
      for (const gpc of vm.region.gpcs()) vm.gpcs.refresh(gpc);
      marks(vm);
      return vm;
    }
    const written = (vm: Vm, call: () => unknown): Mark[] => {
      call();
      return distinct(marks(vm));
    };

    // ── the table of 11.3 ────────────────────────────────────────────────────────────────────────────────────────────

    test('KX-MEM-25 shared_info is never marked: pending bits, masks, wall clock', () => {
      const vm = make();
      expect(
        written(vm, () => {
          vm.send(5);
          vm.sendMany([1, 2, 300, 301]);
          vm.mask(9);
          vm.send(9);
          vm.unmask(9);
          vm.setAttr({ type: 'long_mode', enabled: true });
          vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
        }),
      ).toEqual([]);
    });

    test('KX-MEM-26 KX-EVT-21 vcpu_info by the fast path is not marked: selector and upcall byte', () => {
      const vm = make();
      expect(written(vm, () => expect(vm.send(5)).toBe(1))).toEqual([]);
      expect(ram(vm)[VCPU_INFO_GPA]).toBe(1);
      expect(written(vm, () => vm.vcpu(0).drain())).toEqual([]);
    });

    test('KX-MEM-27 vcpu_info by a flush of the shadow is marked', () => {
      const vm = make();
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      vm.send(5);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x8040) });
      marks(vm);
      expect(written(vm, () => vm.vcpu(0).flushShadow())).toEqual([[0, 8]]);
      expect(written(vm, () => vm.vcpu(0).flushShadow())).toEqual([]);
    });

    test('KX-MEM-27 KX-MEM-28 the clock records are marked: vcpu_info and vcpu_time_info', () => {
      const vm = make();
      expect(written(vm, () => vm.vcpu(0).writeTime(TIME_INFO))).toEqual([
        [0, VCPU_INFO_GPA / PAGE_SIZE],
        [0, TIME / PAGE_SIZE],
      ]);
    });

    test('KX-MEM-29 runstate is marked, each page that is written', () => {
      const vm = make();
      expect(written(vm, () => vm.vcpu(0).enterRunstate('blocked', 10n))).toEqual([
        [0, 6],
        [0, 7],
      ]);
      vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x9000) });
      marks(vm);
      expect(written(vm, () => vm.vcpu(0).enterRunstate('running', 20n))).toEqual([[0, 9]]);
    });

    test('KX-MEM-29 a runstate whose second page is away is neither written nor marked', () => {
      noNaps();
      const vm = make();
      vm.memslots.set({ id: 1, gpa: gpa(ELSEWHERE), bytes: 2 * PAGE_SIZE, hva: hostPage(vm, 10), logDirty: true });
      vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(ELSEWHERE + PAGE_SIZE - 16) });
      marks(vm);
      if (hostPages) vm.hostPages.unmap(hostPage(vm, 11), 1);
      else vm.memslots.delete(1);
      expect(written(vm, () => vm.vcpu(0).enterRunstate('blocked', 10n))).toEqual([]);
    });

    test('KX-MEM-30 the hypercall page is marked', () => {
      const vm = make();
      vm.setConfig({ msr: 0x40000000, interceptHypercalls: true });
      const cpu = new FlatCpu(vm);
      marks(vm);
      expect(written(vm, () => expect(vm.vcpu(1).writeMsr(cpu, 0x40000000, 0x9000n)).toBe('written'))).toContainEqual([
        0, 9,
      ]);
    });

    test('KX-MEM-30 what is written to guest RAM is marked, each page; what fails marks what it wrote', () => {
      const vm = make();
      expect(written(vm, () => vm.guestMemory.write(gpa(0x9fff), new Uint8Array(PAGE_SIZE + 2)))).toEqual([
        [0, 9],
        [0, 10],
        [0, 11],
      ]);
      expect(written(vm, () => expect(vm.guestMemory.write(gpa(0xffff), new Uint8Array(2))).toBe(false))).toEqual([
        [0, 15],
      ]);
      expect(written(vm, () => vm.guestMemory.read(gpa(0x9000), 8))).toEqual([]);
    });

    test('X-16 KX-MEM-21 runstate and time info are marked, shared_info is not, a vcpu_info by host address is not', () => {
      const vm = make();
      // A host address is no guest address, even where there is one of that number. [KF-11]
      vm.memslots.set(slotAt(vm, 9, { gpa: gpa(hostPage(vm, 8)), logDirty: true }));
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hostPage(vm, 8) });
      marks(vm);
      expect(
        written(vm, () => {
          vm.send(5);
          vm.vcpu(0).writeTime(TIME_INFO);
          vm.vcpu(0).enterRunstate('blocked', 10n);
        }),
      ).toEqual([
        [0, 5],
        [0, 6],
        [0, 7],
      ]);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
      vm.send(200);
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hostPage(vm, 8) });
      marks(vm);
      expect(written(vm, () => expect(vm.vcpu(0).flushShadow()).toBe(true))).toEqual([]);
    });

    // ── which page, and whose ────────────────────────────────────────────────────────────────────────────────────────

    test('KF-07 KX-MEM-20 the mark names slot and page of the address the write went to', () => {
      const vm = make();
      vm.memslots.set(slotAt(vm, 10, { id: 7, bytes: 3 * PAGE_SIZE, logDirty: true }));
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(ELSEWHERE + 2 * PAGE_SIZE + 8) });
      marks(vm);
      const write = (): void => vm.vcpu(0).writeTime(TIME_INFO);
      expect(written(vm, write)).toContainEqual([7, 2]);
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(ELSEWHERE) });
      marks(vm);
      expect(written(vm, write)).toContainEqual([7, 0]);
      // Moved: the same host page under another guest address.
      vm.memslots.set(slotAt(vm, 10, { id: 7, bytes: 3 * PAGE_SIZE, logDirty: true, gpa: gpa(2 * ELSEWHERE) }));
      vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(2 * ELSEWHERE + PAGE_SIZE) });
      marks(vm);
      expect(written(vm, write)).toContainEqual([7, 1]);
      // Elsewhere in host memory: the guest page is what counts.
      if (hostPages) vm.hostPages.move(hostPage(vm, 11), 1, framePage(vm, 15));
      expect(written(vm, write)).toContainEqual([7, 1]);
    });

    test('KF-07 areas set by the control plane with no vCPU entered: no fault, and the pages are those written', () => {
      const vm = makePaged({ shared, hostPages, dirtyRingBytes });
      logAll(vm);
      vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x9000) });
      expect(distinct(marks(vm))).toEqual([[0, 9]]);
    });

    test('KX-MEM-20 a slot that does not log is not marked, nor one of the other address space', () => {
      const vm = make();
      vm.memslots.set(slotAt(vm, 10, { bytes: 2 * PAGE_SIZE }));
      vm.memslots.set({
        id: 1,
        addressSpace: 1,
        gpa: gpa(ELSEWHERE),
        bytes: PAGE_SIZE,
        hva: hostPage(vm, 10),
        logDirty: true,
      });
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE) });
      marks(vm);
      expect(written(vm, () => vm.vcpu(0).writeTime(TIME_INFO))).toEqual([[0, 5]]);
      vm.memslots.set(slotAt(vm, 10, { bytes: 2 * PAGE_SIZE, logDirty: true }));
      expect(written(vm, () => vm.vcpu(0).writeTime(TIME_INFO))).toEqual([
        [0, 5],
        [1, 0],
      ]);
      if (!dirtyRingBytes) expect(vm.dirtyLog.take(1, 1)).toEqual(new Uint8Array(1));
    });

    test('KX-MEM-20 when no slot logs any more nothing is marked, and when one logs again it begins empty', () => {
      const vm = make();
      const [slot] = vm.memslots.list() as [Memslot];
      vm.vcpu(0).writeTime(TIME_INFO);
      vm.memslots.set({ ...slot, logDirty: false });
      vm.vcpu(0).enterRunstate('blocked', 10n);
      vm.memslots.set({ ...slot, logDirty: true });
      const found = distinct(marks(vm));
      // A ring still has what it had; a bitmap went with its slot's logging.
      expect(found).toEqual(
        dirtyRingBytes
          ? [
              [0, 4],
              [0, 5],
            ]
          : [],
      );
    });

    test('KX-MEM-22 marks go to the vCPU whose area it is, whoever writes it', () => {
      const vm = make();
      vm.vcpu(1).setAttr({ type: 'vcpu_time_info', gpa: gpa(0xa000) });
      marks(vm);
      attachVm(vm.handle()).vcpu(1).writeTime(TIME_INFO);
      vm.guestMemory.write(gpa(0xb000), new Uint8Array(1), 1);
      if (!dirtyRingBytes) {
        expect(distinct(marks(vm))).toEqual([
          [0, 4],
          [0, 10],
          [0, 11],
        ]);
        return;
      }
      expect(vm.dirtyLog.collect(0)).toEqual([]);
      expect(vm.dirtyLog.collect(1).map(({ page }) => page)).toEqual([4, 10, 11]);
    });

    test('EPERM for who is not the owner, EBADF once detached', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      for (const call of [
        () => other.dirtyLog.take(0),
        () => other.dirtyLog.collect(0),
        () => other.dirtyLog.reset(),
      ]) {
        refuses(vm, call, 'EPERM', 'owner');
      }
      other.detach();
      refuses(vm, () => other.dirtyLog.take(0), 'EBADF', 'detached');
    });
  },
);

// ── the bitmap ───────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each([true, false])('the bitmap, shared memory: %s', (shared) => {
  const make = (options = {}): Vm => {
    const vm = makePaged({ shared, hostPages: 0, ...options });
    logAll(vm);
    return vm;
  };

  test('KX-MEM-35 a bit per page, read and cleared', () => {
    const vm = make();
    for (const page of [0, 1, 7, 8, 15]) vm.guestMemory.write(gpa(page * PAGE_SIZE), new Uint8Array(1));
    expect(vm.dirtyLog.take(0)).toEqual(new Uint8Array([0b10000011, 0b10000001]));
    expect(vm.dirtyLog.take(0)).toEqual(new Uint8Array(2));
  });

  test.each([1, 31, 32, 33, 64, 65])(
    'KX-MEM-35 a slot of %i pages: as many bits, and the next slot’s begin with a word of their own',
    (pages) => {
      const vm = makePaged({ shared, hostPages: 256, dirtyPages: 256 });
      const first = hva(150 * PAGE_SIZE);
      for (let i = 0; i < pages; i++) vm.hostPages.map(hva(first + i * PAGE_SIZE), 1, framePage(vm, i % 16));
      vm.memslots.set({ id: 1, gpa: gpa(ELSEWHERE), bytes: pages * PAGE_SIZE, hva: first, logDirty: true });
      logAll(vm);
      const last = gpa(ELSEWHERE + (pages - 1) * PAGE_SIZE);
      vm.guestMemory.write(last, new Uint8Array(1));
      vm.guestMemory.write(gpa(0), new Uint8Array(1));
      const bits = vm.dirtyLog.take(1);
      expect(bits).toHaveLength(Math.ceil(pages / 8));
      expect(bits[(pages - 1) >> 3]).toBe(1 << ((pages - 1) & 7));
      expect(bits.filter((byte) => byte !== 0)).toHaveLength(1);
      expect(vm.dirtyLog.take(0)).toEqual(new Uint8Array([1, 0]));
    },
  );

  test('KX-MEM-35 what is marked while it is read is in this answer or in the next', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    const exchange = Atomics.exchange;
    let seen = 0;
    vi.spyOn(Atomics, 'exchange').mockImplementation(((view: Int32Array, index: number, value: number) => {
      if (seen++ === 0) other.guestMemory.write(gpa(0x9000), new Uint8Array(1));
      const old = exchange(view, index, value);
      other.guestMemory.write(gpa(0xa000), new Uint8Array(1));
      return old;
    }) as typeof Atomics.exchange);
    const first = vm.dirtyLog.take(0);
    vi.restoreAllMocks();
    expect(first).toEqual(new Uint8Array([0, 1 << 1]));
    expect(vm.dirtyLog.take(0)).toEqual(new Uint8Array([0, 1 << 2]));
  });

  test('KX-MEM-35 bad ids EINVAL, a slot that is not there or does not log ENOENT, rings instead ENXIO', () => {
    const vm = makePaged({ shared, hostPages: 0 });
    for (const id of [-1, 32764, 0.5]) refuses(vm, () => vm.dirtyLog.take(id), 'EINVAL', id, 32763);
    refuses(vm, () => vm.dirtyLog.take(0, 2), 'EINVAL', 2);
    refuses(vm, () => vm.dirtyLog.take(0), 'ENOENT', 'does not log');
    refuses(vm, () => vm.dirtyLog.take(1), 'ENOENT', 'does not exist');
    refuses(vm, () => vm.dirtyLog.take(0, 1), 'ENOENT', 'does not exist');
    const ring = makePaged({ shared, hostPages: 0, dirtyRingBytes: 2048 });
    refuses(ring, () => ring.dirtyLog.take(0), 'ENXIO', 'ring');
    // Before the id is looked at, as in KVM.
    refuses(ring, () => ring.dirtyLog.take(-1), 'ENXIO', 'ring');
    expect(ring.dirtyLog.ringEntries).toBe(128);
    expect(vm.dirtyLog.ringEntries).toBe(0);
  });

  test('KX-MEM-35 a bitmap that is freed and taken again begins empty; a move keeps it', () => {
    const vm = makePaged({ shared, hostPages: 0, dirtyPages: 32 });
    const slot = slotAt(vm, 8, { logDirty: true });
    vm.memslots.set(slot);
    vm.guestMemory.write(gpa(ELSEWHERE), new Uint8Array(1));
    vm.memslots.set({ ...slot, gpa: gpa(2 * ELSEWHERE) });
    expect(vm.dirtyLog.take(1)).toEqual(new Uint8Array([1]));
    vm.guestMemory.write(gpa(2 * ELSEWHERE), new Uint8Array(1));
    vm.memslots.delete(1);
    vm.memslots.set(slotAt(vm, 9, { id: 2, logDirty: true }));
    expect(vm.dirtyLog.take(2)).toEqual(new Uint8Array([0]));
  });
});

// ── the ring ─────────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each([true, false])('the ring, shared memory: %s', (shared) => {
  const ENTRIES = 128;
  const SOFT = ENTRIES - 64;
  const make = (options = {}): Vm => {
    const vm = makePaged({ shared, hostPages: 256, dirtyRingBytes: 2048, vcpus: 2, ...options });
    // 200 guest pages on 16 frames: enough to fill a ring.
    const first = hva(0);
    for (let i = 0; i < 100; i++) vm.hostPages.map(hva(first + i * PAGE_SIZE), 1, framePage(vm, i % 16));
    vm.memslots.set({ id: 3, gpa: gpa(ELSEWHERE), bytes: 100 * PAGE_SIZE, hva: first, logDirty: true });
    vm.memslots.set({ id: 4, gpa: gpa(2 * ELSEWHERE), bytes: 100 * PAGE_SIZE, hva: first, logDirty: true });
    return vm;
  };
  const touch = (vm: Vm, page: number, vcpu = 0): void => {
    const base = page < 100 ? ELSEWHERE : 2 * ELSEWHERE - 100 * PAGE_SIZE;
    vm.guestMemory.write(gpa(base + page * PAGE_SIZE), new Uint8Array(1), vcpu);
  };
  const counters = (vm: Vm, vcpu: number): number[] => {
    const { record } = vm.vcpu(vcpu);
    return [vm.region.words.load(record + VCPU_RING_PUSHED), vm.region.words.load(record + VCPU_RING_RESET)];
  };

  const sizes: readonly [number, 'EINVAL' | 'E2BIG'][] = [
    [1024, 'EINVAL'],
    [2047, 'EINVAL'],
    [3072, 'EINVAL'],
    [-2048, 'EINVAL'],
    [2048.5, 'EINVAL'],
    [Number.NaN, 'EINVAL'],
    [2 ** 21, 'E2BIG'],
    [2 ** 20 + 1, 'E2BIG'],
  ];
  test.each(sizes)('KX-MEM-36 a ring of %d bytes: %s', (dirtyRingBytes, code) => {
    const error = errorOf(() => createVm({ shared, dirtyRingBytes }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(String(2 ** 20));
    expect(error.message).toContain(String(dirtyRingBytes));
  });

  test.each([2048, 4096, 2 ** 20])('KX-MEM-36 a ring of %i bytes has an entry per 16', (dirtyRingBytes) => {
    expect(createVm({ shared, dirtyRingBytes, bare: true }).dirtyLog.ringEntries).toBe(dirtyRingBytes / 16);
  });

  test('KX-MEM-36 an entry as it lies in memory: flags, slot, page; collected, then given back', () => {
    const vm = make();
    touch(vm, 7);
    touch(vm, 105);
    const view = new DataView(vm.memory.buffer, vm.region.part(REGION_DIRTY_RINGS), ENTRIES * DIRTY_ENTRY_SIZE);
    const entry = (i: number): unknown[] => [
      view.getUint32(16 * i, true),
      view.getUint32(16 * i + 4, true),
      view.getBigUint64(16 * i + 8, true),
    ];
    expect([entry(0), entry(1), entry(2)]).toEqual([
      [1, 3, 7n],
      [1, 4, 5n],
      [0, 0, 0n],
    ]);
    expect(vm.dirtyLog.collect(0)).toEqual([
      { slot: 3, page: 7 },
      { slot: 4, page: 5 },
    ]);
    expect(view.getUint32(DIRTY_ENTRY_FLAGS, true) & DIRTY_ENTRY_HARVESTED).toBe(DIRTY_ENTRY_HARVESTED);
    // Once: what was collected is not told again.
    expect(vm.dirtyLog.collect(0)).toEqual([]);
    touch(vm, 9);
    expect(vm.dirtyLog.collect(0)).toEqual([{ slot: 3, page: 9 }]);
    expect(counters(vm, 0)).toEqual([3, 0]);
    expect(vm.dirtyLog.reset()).toBe(3);
    expect(counters(vm, 0)).toEqual([3, 3]);
    expect([entry(0)[0], entry(1)[0], entry(2)[0]]).toEqual([0, 0, 0]);
    expect(vm.dirtyLog.reset()).toBe(0);
  });

  test('KX-MEM-36 only what was collected is given back', () => {
    const vm = make();
    touch(vm, 1);
    expect(vm.dirtyLog.reset()).toBe(0);
    vm.dirtyLog.collect(0);
    touch(vm, 2);
    touch(vm, 3, 1);
    expect(vm.dirtyLog.reset()).toBe(1);
    expect(vm.dirtyLog.collect(0)).toEqual([{ slot: 3, page: 2 }]);
    expect(vm.dirtyLog.collect(1)).toEqual([{ slot: 3, page: 3 }]);
    expect(vm.dirtyLog.reset()).toBe(2);
  });

  test('KX-MEM-36 round and round: the entries are used again, in order', () => {
    const vm = make();
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 50; i++) touch(vm, (round * 7 + i) % 100);
      expect(vm.dirtyLog.collect(0).map(({ page }) => page)).toEqual(
        Array.from({ length: 50 }, (_, i) => (round * 7 + i) % 100),
      );
      expect(vm.dirtyLog.reset()).toBe(50);
    }
    expect(counters(vm, 0)).toEqual([500, 500]);
  });

  test('KX-MEM-36 the counters may wrap', () => {
    const vm = make();
    const { record } = vm.vcpu(0);
    for (const field of [VCPU_RING_PUSHED, VCPU_RING_RESET]) vm.region.words.store(record + field, 0x7ffffffe);
    for (let i = 0; i < 6; i++) touch(vm, i);
    expect(vm.dirtyLog.full(0)).toBe(false);
    expect(vm.dirtyLog.collect(0).map(({ page }) => page)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(vm.dirtyLog.reset()).toBe(6);
  });

  test('KX-MEM-36 at the soft limit the vCPU has to leave, until entries are given back', () => {
    const vm = make();
    for (let i = 0; i < SOFT - 1; i++) touch(vm, i);
    expect(vm.dirtyLog.full(0)).toBe(false);
    touch(vm, SOFT - 1);
    expect(vm.dirtyLog.full(0)).toBe(true);
    expect(vm.dirtyLog.full(1)).toBe(false);
    expect(vm.vcpu(0).beforeEntry()).toEqual({ kind: 'exit', reason: 31 });
    vm.dirtyLog.collect(0);
    expect(vm.dirtyLog.full(0)).toBe(true);
    vm.dirtyLog.reset();
    expect(vm.dirtyLog.full(0)).toBe(false);
    expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
  });

  test('KX-MEM-36 beyond it a page that is in the ring is not pushed again, so that the reserve is for others', () => {
    const vm = make();
    for (let i = 0; i < SOFT; i++) touch(vm, i);
    for (let i = 0; i < 1000; i++) touch(vm, i % SOFT);
    expect(counters(vm, 0)[0]).toBe(SOFT);
    for (let i = SOFT; i < ENTRIES; i++) touch(vm, i);
    expect(counters(vm, 0)[0]).toBe(ENTRIES);
    // No more: what is in the ring is never overwritten.
    touch(vm, 190);
    expect(counters(vm, 0)[0]).toBe(ENTRIES);
    const pages = vm.dirtyLog.collect(0).map(({ slot, page }) => (slot === 3 ? page : page + 100));
    expect(pages).toEqual(Array.from({ length: ENTRIES }, (_, i) => i));
    // One that was collected counts as not in it: it was written again.
    touch(vm, 5);
    expect(counters(vm, 0)[0]).toBe(ENTRIES);
    vm.dirtyLog.reset();
    touch(vm, 5);
    expect(vm.dirtyLog.collect(0)).toEqual([{ slot: 3, page: 5 }]);
  });

  test('KX-MEM-36 an entry that is taken and not written yet ends a collection; it is in the next', () => {
    const vm = make();
    touch(vm, 1);
    touch(vm, 2);
    const at = vm.region.part(REGION_DIRTY_RINGS);
    // As its writer leaves it between taking the entry and writing it.
    vm.region.words.store(at + DIRTY_ENTRY_FLAGS, 0);
    expect(vm.dirtyLog.collect(0)).toEqual([]);
    expect(vm.dirtyLog.reset()).toBe(0);
    vm.region.words.store(at + DIRTY_ENTRY_FLAGS, 1);
    expect(vm.dirtyLog.collect(0)).toHaveLength(2);
  });

  test.each([[-1], [2], [0.5]])('KX-MEM-36 no vCPU %s', (vcpu) => {
    const vm = make();
    refuses(vm, () => vm.dirtyLog.collect(cast(vcpu)), 'EINVAL', vcpu);
    expect(errorOf(() => vm.dirtyLog.full(cast(vcpu))).code).toBe('EINVAL');
  });

  test('KX-MEM-36 a VM without rings: nothing to collect, nothing to give back, never full', () => {
    const vm = makePaged({ shared, hostPages: 0 });
    logAll(vm);
    vm.guestMemory.write(gpa(0x5000), new Uint8Array(1));
    expect([vm.dirtyLog.collect(0), vm.dirtyLog.reset(), vm.dirtyLog.full(0)]).toEqual([[], 0, false]);
  });
});

test('the shared_info page may be logged as any other: only the engine’s own writes to it are not marked', () => {
  const vm = makePaged({ hostPages: 0 });
  logAll(vm);
  vm.guestMemory.write(gpa(SHARED_INFO_GPA), new Uint8Array(1));
  expect(vm.dirtyLog.take(0)).toEqual(new Uint8Array([1 << SHARED_INFO_GFN, 0]));
});
