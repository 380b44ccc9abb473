// Guest RAM by guest-physical address: across slots and pages, inside brackets, and what a page that is away means. [kvm-xen 11]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gpa, type Hva, hva, type Vm } from '../../src/index.ts';
import { memoryBytes, ram, SHARED_INFO_GFN } from '../support.ts';
import { CANARY, cast, changes, noNaps, refuses, stateBytes } from './evidence.ts';
import { ELSEWHERE, framePage, GUEST_PAGES, hostPage, makePaged, slotAt, TABLES } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const RAM = GUEST_PAGES * PAGE_SIZE;

function counting(length: number, first = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (first + i) % 251);
}

describe.each(TABLES)('shared memory: $shared, table of host pages: $table', ({ shared, hostPages }) => {
  const make = (options = {}): Vm => makePaged({ shared, hostPages, ...options });

  test('what is written is what is read, and lies there, at any offset and across pages', () => {
    const vm = make();
    for (const [at, length] of [
      [0x5000, 1],
      [0x5ffe, 4],
      [0x6fff, 2],
      [0x7123, 3 * PAGE_SIZE],
      [RAM - 8, 8],
      [0x9000, 0],
    ] as const) {
      const bytes = counting(length, at % 100);
      expect(vm.guestMemory.write(gpa(at), bytes)).toBe(true);
      expect(vm.guestMemory.read(gpa(at), length)).toEqual(bytes);
      expect(ram(vm).slice(at, at + length)).toEqual(bytes);
    }
  });

  test('a read is a copy: what the guest changes later was not seen', () => {
    const vm = make();
    ram(vm).fill(7, 0x5000, 0x5010);
    const copy = vm.guestMemory.read(gpa(0x5000), 16);
    ram(vm).fill(8, 0x5000, 0x5010);
    expect(copy).toEqual(new Uint8Array(16).fill(7));
  });

  test('pages of one access may lie in different slots', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 12, { id: 1, gpa: gpa(ELSEWHERE) }));
    vm.memslots.set(slotAt(vm, 9, { id: 2, gpa: gpa(ELSEWHERE + PAGE_SIZE) }));
    const bytes = counting(64);
    expect(vm.guestMemory.write(gpa(ELSEWHERE + PAGE_SIZE - 32), bytes)).toBe(true);
    expect(vm.guestMemory.read(gpa(ELSEWHERE + PAGE_SIZE - 32), 64)).toEqual(bytes);
    expect(ram(vm).slice(13 * PAGE_SIZE - 32, 13 * PAGE_SIZE)).toEqual(bytes.slice(0, 32));
    expect(ram(vm).slice(9 * PAGE_SIZE, 9 * PAGE_SIZE + 32)).toEqual(bytes.slice(32));
  });

  test('a page in no slot: null and false, and only the pages before it were written', () => {
    const vm = make();
    expect(vm.guestMemory.read(gpa(RAM - 4), 8)).toBeNull();
    expect(vm.guestMemory.read(gpa(ELSEWHERE), 1)).toBeNull();
    expect(vm.guestMemory.read(gpa(Number.MAX_SAFE_INTEGER), 64)).toBeNull();
    const before = memoryBytes(vm);
    expect(vm.guestMemory.write(gpa(RAM - 4), counting(8))).toBe(false);
    const end = vm.guestBase + vm.guestBytes;
    expect(changes(before, memoryBytes(vm)).filter(([at]) => at >= vm.guestBase)).toEqual(
      [1, 2, 3, 4].map((value, i) => [end - 4 + i, 0, value]),
    );
  });

  test('a read-only slot is read and not written', () => {
    const vm = make();
    vm.memslots.set(slotAt(vm, 9, { readonly: true }));
    ram(vm).fill(CANARY, 9 * PAGE_SIZE, 10 * PAGE_SIZE);
    expect(vm.guestMemory.read(gpa(ELSEWHERE + 8), 4)).toEqual(new Uint8Array(4).fill(CANARY));
    expect(vm.guestMemory.write(gpa(ELSEWHERE + 8), counting(4))).toBe(false);
    expect(ram(vm)[9 * PAGE_SIZE + 8]).toBe(CANARY);
  });

  test.each([
    ['an address below 0', -1, 4, 'guest-physical'],
    ['an address that is no integer', 0.5, 4, 'guest-physical'],
    ['a length below 0', 0, -1, 'length'],
    ['a length that is no integer', 0, 1.5, 'length'],
    ['a length of 2^31', 0, 2 ** 31, 'length'],
  ])('a read with %s: EINVAL', (_what, at, length, word) => {
    const vm = make();
    refuses(vm, () => vm.guestMemory.read(cast(at), length), 'EINVAL', word);
  });

  test.each([[-1], [1], [0.5]])('KF-07 a write for vCPU %s, which does not exist: EINVAL, not a byte', (vcpu) => {
    const vm = make({ dirtyRingBytes: 2048 });
    refuses(vm, () => vm.guestMemory.write(gpa(0x5000), counting(4), vcpu), 'EINVAL', 'vCPU', vcpu);
    refuses(vm, () => vm.guestMemory.write(cast(-1), counting(4)), 'EINVAL', 'guest-physical');
  });

  test('any attached thread may read and write', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    expect(other.guestMemory.write(gpa(0x5000), counting(8))).toBe(true);
    expect(other.guestMemory.read(gpa(0x5000), 8)).toEqual(counting(8));
  });

  test('once detached: EBADF, and the reader word of whoever has the place now stays as it is', () => {
    const vm = make({ agents: 2 });
    const gone = attachVm(vm.handle());
    gone.detach();
    const next = attachVm(vm.handle());
    expect(next.agent).toBe(gone.agent);
    next.enter();
    const word = vm.region.words.load(next.agent);
    refuses(vm, () => gone.guestMemory.read(gpa(0x5000), 4), 'EBADF', 'detached');
    refuses(vm, () => gone.guestMemory.write(gpa(0x5000), counting(4)), 'EBADF', 'detached');
    refuses(vm, () => gone.guestMemory.read(gpa(0x5000), 0), 'EBADF', 'detached');
    expect(vm.region.words.load(next.agent)).toBe(word);
    next.leave();
  });

  // ── pages that are being taken away ──────────────────────────────────────────────────────────────────────────────

  test('KX-MEM-02 between start and end of this thread’s own invalidation nothing is read or written', () => {
    const vm = make();
    vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5));
    ram(vm).fill(CANARY, 0x5000, 0x6000);
    const before = stateBytes(vm);
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toBeNull();
    expect(vm.guestMemory.write(gpa(0x5000), counting(4))).toBe(false);
    expect(changes(before, stateBytes(vm))).toEqual([]);
    vm.invalidateEnd();
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toEqual(new Uint8Array(4).fill(CANARY));
  });

  test('KX-MEM-02 nor by another thread, which waits for the end; also not inside a bracket of its own', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5));
    ram(vm).fill(CANARY, 0x5000, 0x6000);
    other.enter();
    expect(other.guestMemory.read(gpa(0x5000), 4)).toBeNull();
    expect(other.guestMemory.write(gpa(0x5000), counting(4))).toBe(false);
    other.leave();
    let naps = 0;
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      if (++naps === 3) vm.invalidateEnd();
      return 'timed-out';
    });
    expect(other.guestMemory.read(gpa(0x5000), 4)).toEqual(new Uint8Array(4).fill(CANARY));
    expect(naps).toBe(3);
    other.enter();
    expect(other.guestMemory.write(gpa(0x5000), counting(4))).toBe(true);
    other.leave();
    expect(ram(vm).slice(0x5000, 0x5004)).toEqual(counting(4));
  });

  test('KX-MEM-02 an invalidation that does not end: null and false after a bounded number of naps', () => {
    noNaps();
    const vm = make();
    const other = attachVm(vm.handle());
    vm.invalidateStart(0, 0);
    expect(other.guestMemory.read(gpa(0x5000), 4)).toBeNull();
    expect(other.guestMemory.write(gpa(0x5000), counting(4))).toBe(false);
    vm.invalidateEnd();
  });
});

// ── pages that are asked for ─────────────────────────────────────────────────────────────────────────────────────────

describe.each([true, false])('KX-GPC-30 a page that is away is asked for, shared memory: %s', (shared) => {
  type Asked = [page: number, writable: boolean];

  function stage(onFault: (vm: Vm, at: Hva, writable: boolean) => void): { vm: Vm; asked: Asked[] } {
    const asked: Asked[] = [];
    const vm: Vm = makePaged({
      shared,
      onPageFault: (at, writable) => {
        asked.push([Math.floor((at - vm.guestBase) / PAGE_SIZE), writable]);
        onFault(vm, at, writable);
      },
    });
    return { vm, asked };
  }
  const bring = (vm: Vm, at: Hva): void => {
    const first = hva(at - (at % PAGE_SIZE));
    vm.hostPages.map(first, 1, framePage(vm, (first - vm.guestBase) / PAGE_SIZE));
  };

  test('once each, outside the bracket, for reading or writing as it is needed', () => {
    const { vm, asked } = stage((vm, at) => {
      expect(vm.region.bracketOpen(vm.agent)).toBe(false);
      bring(vm, at);
    });
    vm.hostPages.unmap(hostPage(vm, 5), 3);
    expect(vm.guestMemory.read(gpa(0x5ff0), 32)).toHaveLength(32);
    expect(asked).toEqual([
      [5, false],
      [6, false],
    ]);
    expect(vm.guestMemory.write(gpa(0x6ff0), counting(32))).toBe(true);
    expect(asked.slice(2)).toEqual([[7, true]]);
  });

  test('a page that may only be read is asked for again by who writes', () => {
    const { vm, asked } = stage((vm, at, writable) => {
      if (writable) bring(vm, at);
    });
    vm.hostPages.map(hostPage(vm, 5), 1, framePage(vm, 5), { writable: false });
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toHaveLength(4);
    expect(asked).toEqual([]);
    expect(vm.guestMemory.write(gpa(0x5000), counting(4))).toBe(true);
    expect(asked).toEqual([[5, true]]);
  });

  test('who does not bring it is asked once, and the access fails', () => {
    const { vm, asked } = stage(() => {});
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toBeNull();
    expect(vm.guestMemory.write(gpa(0x5000), counting(4))).toBe(false);
    expect(asked).toEqual([
      [5, false],
      [5, true],
    ]);
  });

  test('not for an address in no slot, nor inside a bracket, where it could not be brought', () => {
    const { vm, asked } = stage(bring);
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    expect(vm.guestMemory.read(gpa(ELSEWHERE), 4)).toBeNull();
    vm.enter();
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toBeNull();
    vm.leave();
    expect(asked).toEqual([]);
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toHaveLength(4);
  });

  test('not from within itself: an access there finds the page away', () => {
    const { vm, asked } = stage((vm, at) => {
      expect(vm.guestMemory.read(gpa(at - vm.guestBase), 4)).toBeNull();
      expect(vm.guestMemory.read(gpa(0), 4)).toHaveLength(4);
      bring(vm, at);
    });
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    expect(vm.guestMemory.read(gpa(0x5000), 4)).toHaveLength(4);
    expect(asked).toHaveLength(1);
  });

  test('what it throws is reported as uncaught, and the page counts as away', () => {
    const reports: (() => void)[] = [];
    vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => reports.push(report));
    const { vm } = stage(() => {
      throw new Error('out of disk');
    });
    vm.hostPages.unmap(hostPage(vm, SHARED_INFO_GFN), 1);
    expect(vm.send(5)).toBe(-14);
    expect(vm.guestMemory.read(gpa(SHARED_INFO_GFN * PAGE_SIZE), 4)).toBeNull();
    expect(reports).toHaveLength(2);
    expect(() => reports[0]?.()).toThrow('out of disk');
    // It may be asked again.
    expect(vm.guestMemory.read(gpa(0), 4)).toHaveLength(4);
  });

  test('a page that is taken away each time after it was brought: an end, and no byte', () => {
    const { vm, asked } = stage((vm, at) => {
      bring(vm, at);
    });
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    const lookup = vm.gpcs.faultIn.bind(vm.gpcs);
    vi.spyOn(vm.gpcs, 'faultIn').mockImplementation((at, writable) => {
      const page = lookup(at, writable);
      vm.hostPages.unmap(hostPage(vm, 5), 1);
      return page;
    });
    expect(vm.guestMemory.write(gpa(0x5000), counting(4))).toBe(false);
    expect(asked).toHaveLength(200);
    expect(ram(vm)[0x5000]).toBe(0);
  });
});
