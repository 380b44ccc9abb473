// The table of host pages: where the embedder keeps each page, and that a page that goes is nobody's. [kvm-xen 0.4, 11.1]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gpa, hpa, hva, type Vm } from '../../src/index.ts';
import { drained, errorOf, pendingBit, ram, SHARED_INFO_GFN, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { CANARY, cast, noNaps, POISON, refuses } from './evidence.ts';
import { ELSEWHERE, framePage, hostPage, makePaged, mappedAt, mappedCount, slotAt } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const VCPU_INFO_PAGE = VCPU_INFO_GPA / PAGE_SIZE;
const INFO_PAGE = SHARED_INFO_GFN;

/** The bytes of a frame, and filling it. */
function frame(vm: Vm, page: number): Uint8Array {
  return ram(vm).subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
}
function isAll(bytes: Uint8Array, value: number): boolean {
  return bytes.every((byte) => byte === value);
}

describe.each([true, false])('shared memory: %s', (shared) => {
  const make = (options = {}): Vm => makePaged({ shared, ...options });

  // ── what the table says ──────────────────────────────────────────────────────────────────────────────────────────

  test('it begins with guest RAM at its own linear offsets, and nothing else is present', () => {
    const vm = make();
    expect(vm.hostPages.count).toBe(256);
    expect(vm.hostPages.lookup(hva(hostPage(vm, 2) + 77))).toEqual({ hpa: framePage(vm, 2), writable: true });
    expect(vm.hostPages.lookup(hva(vm.guestBase - 1))).toBeNull();
    expect(vm.hostPages.lookup(hostPage(vm, 16))).toBeNull();
    expect(vm.hostPages.lookup(hva(256 * PAGE_SIZE))).toBeNull();
    expect(vm.hostPages.lookup(hva(2 ** 47 - PAGE_SIZE - 1))).toBeNull();
  });

  test('without a table a host address is the linear offset, and guest RAM is what is present', () => {
    const vm = make({ hostPages: 0 });
    expect(vm.hostPages.count).toBe(0);
    expect(vm.hostPages.lookup(hva(hostPage(vm, 2) + 77))).toEqual({ hpa: framePage(vm, 2), writable: true });
    expect(vm.hostPages.lookup(hva(vm.guestBase - 1))).toBeNull();
    expect(vm.hostPages.lookup(hostPage(vm, 16))).toBeNull();
    for (const call of [
      () => vm.hostPages.map(hostPage(vm, 1), 1, framePage(vm, 2)),
      () => vm.hostPages.unmap(hostPage(vm, 1), 1),
      () => vm.hostPages.move(hostPage(vm, 1), 1, framePage(vm, 2)),
    ]) {
      refuses(vm, call, 'EOPNOTSUPP', 'hostPages');
    }
  });

  test('a table that is smaller than guest RAM has what fits', () => {
    const vm = createVm({ shared, bare: true, guestPages: 16, hostPages: 130 });
    const first = vm.guestBase / PAGE_SIZE;
    expect(vm.hostPages.lookup(hva((first < 130 ? 129 : 0) * PAGE_SIZE)) !== null).toBe(first < 130);
    expect(vm.hostPages.lookup(hva(130 * PAGE_SIZE))).toBeNull();
  });

  test.each([[-1], [0.5], [Number.NaN], [2 ** 47], ['page']])('no host address: %s', (address) => {
    const vm = make();
    refuses(vm, () => vm.hostPages.lookup(cast(address)), 'EINVAL', 'host virtual address');
  });

  // ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────

  const bad: readonly [string, (vm: Vm) => [number, number, number], ...(string | number)[]][] = [
    ['no pages', (vm) => [hostPage(vm, 1), 0, framePage(vm, 2)], 'number of host pages', 0],
    ['half a page', (vm) => [hostPage(vm, 1), 1.5, framePage(vm, 2)], 'number of host pages', 1.5],
    ['more than the table has', (vm) => [0, 257, framePage(vm, 0)], 'number of host pages', 257, 256],
    ['an address in a page', (vm) => [hostPage(vm, 1) + 8, 1, framePage(vm, 2)], 'host address', 4096],
    ['an address behind the table', (vm) => [256 * PAGE_SIZE, 1, framePage(vm, 2)], 'host address', 255 * PAGE_SIZE],
    ['pages that leave the table', (vm) => [255 * PAGE_SIZE, 2, framePage(vm, 2)], 'host address', 254 * PAGE_SIZE],
    ['an address below 0', (vm) => [-PAGE_SIZE, 1, framePage(vm, 2)], 'host address'],
    ['a frame in a page', (vm) => [hostPage(vm, 1), 1, framePage(vm, 2) + 1], 'frame', 4096],
    ['a frame before guest RAM', (vm) => [hostPage(vm, 1), 1, vm.guestBase - PAGE_SIZE], 'frame'],
    ['a frame behind guest RAM', (vm) => [hostPage(vm, 1), 1, vm.guestBase + vm.guestBytes], 'frame'],
    ['frames that leave guest RAM', (vm) => [hostPage(vm, 1), 2, framePage(vm, 15)], 'frame'],
    ['more frames than guest RAM has', (vm) => [0, 17, framePage(vm, 0)], 'number of frames', 17, 16],
  ];
  test.each(bad)('map and move of %s: EINVAL, nothing has changed', (_what, place, ...words) => {
    const vm = make();
    const [first, pages, to] = place(vm);
    refuses(vm, () => vm.hostPages.map(cast(first), pages, cast(to)), 'EINVAL', ...words);
    refuses(vm, () => vm.hostPages.move(cast(first), pages, cast(to)), 'EINVAL', ...words);
    expect(vm.send(5)).toBe(1);
  });

  test('unmap of more pages than guest RAM has, up to the whole table', () => {
    const vm = make();
    vm.send(5);
    refuses(vm, () => vm.hostPages.unmap(hva(0), 257), 'EINVAL', 257);
    refuses(vm, () => vm.hostPages.unmap(hva(PAGE_SIZE), 256), 'EINVAL', 'host address');
    vm.hostPages.unmap(hva(0), 256);
    expect(mappedCount(vm)).toBe(0);
    for (let page = 0; page < 16; page++) expect(vm.hostPages.lookup(hostPage(vm, page))).toBeNull();
    vm.hostPages.map(hostPage(vm, 0), 16, framePage(vm, 0));
    expect(drained(vm)).toEqual([5]);
  });

  test('move of a page that is absent: EFAULT with its address, nothing has changed', () => {
    const vm = make();
    vm.hostPages.unmap(hostPage(vm, 9), 1);
    const address = `0x${hostPage(vm, 9).toString(16)}`;
    refuses(vm, () => vm.hostPages.move(hostPage(vm, 8), 2, framePage(vm, 10)), 'EFAULT', address);
  });

  test('EPERM for who is not the owner, EBUSY in a bracket, EBADF once detached', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    refuses(vm, () => other.hostPages.unmap(hostPage(vm, 1), 1), 'EPERM', 'owner');
    refuses(vm, () => other.hostPages.map(hostPage(vm, 1), 1, framePage(vm, 2)), 'EPERM', 'owner');
    refuses(vm, () => other.hostPages.move(hostPage(vm, 1), 1, framePage(vm, 2)), 'EPERM', 'owner');
    expect(other.hostPages.lookup(hostPage(vm, 1))).toEqual({ hpa: framePage(vm, 1), writable: true });
    vm.enter();
    refuses(vm, () => vm.hostPages.unmap(hostPage(vm, 1), 1), 'EBUSY', 'bracket');
    vm.leave();
    other.detach();
    refuses(vm, () => other.hostPages.lookup(hostPage(vm, 1)), 'EBADF', 'detached');
  });

  test('a reader that does not leave: EBUSY, the page stays where it is and is used there again', () => {
    noNaps();
    const vm = make();
    const other = attachVm(vm.handle());
    other.enter();
    expect(errorOf(() => vm.hostPages.move(hostPage(vm, INFO_PAGE), 1, framePage(vm, 9))).code).toBe('EBUSY');
    expect(isAll(frame(vm, 9), 0)).toBe(true);
    other.leave();
    expect(vm.hostPages.lookup(hostPage(vm, INFO_PAGE))?.hpa).toBe(framePage(vm, INFO_PAGE));
    expect(vm.send(5)).toBe(1);
    expect(pendingBit(vm, 5)).toBe(true);
  });

  // ── what changes do ──────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-MEM-02 R3 move: what the page held is at the new frame, the old one is never touched again', () => {
    const vm = make();
    vm.send(5);
    vm.hostPages.move(hostPage(vm, INFO_PAGE), 1, framePage(vm, 9));
    frame(vm, INFO_PAGE).fill(POISON);
    vm.hostPages.move(hostPage(vm, VCPU_INFO_PAGE), 1, framePage(vm, 10));
    frame(vm, VCPU_INFO_PAGE).fill(POISON);
    expect(mappedCount(vm)).toBe(0);
    expect(vm.send(5)).toBe(0);
    expect(vm.send(6)).toBe(1);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, 9));
    expect(drained(vm)).toEqual([5, 6]);
    expect(mappedAt(vm, vm.vcpu(0).line)).toBe(framePage(vm, 10));
    expect(isAll(frame(vm, INFO_PAGE), POISON)).toBe(true);
    expect(isAll(frame(vm, VCPU_INFO_PAGE), POISON)).toBe(true);
    // The guest sees it at the same address.
    expect(vm.guestMemory.read(gpa(SHARED_INFO_GPA), 4)).toEqual(frame(vm, 9).slice(0, 4));
  });

  test.each([
    ['upwards by one', 4, 5],
    ['upwards by two', 4, 6],
    ['downwards by one', 5, 4],
    ['to where they are', 4, 4],
  ])('moves of pages onto each other’s frames, %s: every page keeps what it held', (_how, from, to) => {
    const vm = make();
    for (let page = 8; page < 16; page++) frame(vm, page).fill(page);
    vm.hostPages.move(hostPage(vm, 4), 3, framePage(vm, 7 + from));
    for (let i = 0; i < 3; i++) frame(vm, 7 + from + i).fill(0x40 + i);
    vm.hostPages.move(hostPage(vm, 4), 3, framePage(vm, 7 + to));
    for (let i = 0; i < 3; i++) {
      expect(vm.hostPages.lookup(hostPage(vm, 4 + i))?.hpa).toBe(framePage(vm, 7 + to + i));
      expect(isAll(frame(vm, 7 + to + i), 0x40 + i)).toBe(true);
    }
  });

  test('unmap: uses fail without a trace until the page is there again, then they go on', () => {
    const vm = make();
    vm.send(5);
    vm.hostPages.unmap(hostPage(vm, INFO_PAGE), 1);
    const before = ram(vm).slice();
    expect(vm.send(6)).toBe(-14);
    expect(vm.unmask(6)).toBe(-14);
    expect(ram(vm)).toEqual(before);
    vm.hostPages.map(hostPage(vm, INFO_PAGE), 1, framePage(vm, INFO_PAGE));
    expect(vm.send(6)).toBe(1);
    expect(drained(vm)).toEqual([5, 6]);
  });

  test('KX-GPC-30 a page that may only be read is not mapped for writing, and its sentence says so', () => {
    const vm = make();
    vm.hostPages.map(hostPage(vm, INFO_PAGE), 1, framePage(vm, INFO_PAGE), { writable: false });
    expect(vm.send(5)).toBe(-14);
    const error = errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(SHARED_INFO_GPA) }));
    expect([error.code, error.message]).toEqual(['EFAULT', expect.stringContaining('read-only')]);
    expect(vm.guestMemory.read(gpa(SHARED_INFO_GPA), 8)).toHaveLength(8);
    expect(vm.guestMemory.write(gpa(SHARED_INFO_GPA), new Uint8Array(8))).toBe(false);
    // A move keeps what the page allows.
    vm.hostPages.move(hostPage(vm, INFO_PAGE), 1, framePage(vm, 9));
    expect(vm.hostPages.lookup(hostPage(vm, INFO_PAGE))).toEqual({ hpa: framePage(vm, 9), writable: false });
    vm.hostPages.map(hostPage(vm, INFO_PAGE), 1, framePage(vm, 9));
    expect(vm.send(5)).toBe(1);
  });

  test('KX-GPC-40 X-12 two host pages with one frame: only the one that changes is dropped', () => {
    const vm = make();
    const twin = hva(10 * PAGE_SIZE);
    vm.hostPages.map(twin, 1, framePage(vm, INFO_PAGE));
    vm.send(5);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, INFO_PAGE));
    expect(vm.invalidateStart(twin, twin)).toBe(0);
    vm.invalidateEnd();
    vm.hostPages.unmap(twin, 1);
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, INFO_PAGE));
    expect(vm.invalidateStart(hostPage(vm, INFO_PAGE), hostPage(vm, INFO_PAGE))).toBe(1);
    vm.invalidateEnd();
  });

  test('KX-MEM-01 a range over many pages counts every cache in it once, whether the pages are present or not', () => {
    const vm = make({ vcpus: 3 });
    vm.hostPages.unmap(hostPage(vm, 5), 8);
    expect(vm.invalidateStart(0, 2 ** 47 - PAGE_SIZE - 1)).toBe(4);
    vm.invalidateEnd();
    expect(vm.invalidateStart(0, 2 ** 47 - PAGE_SIZE - 1)).toBe(0);
    vm.invalidateEnd();
    expect(vm.invalidateStart(2 ** 46, 2 ** 46)).toBe(0);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
  });

  test('a slot of pages anywhere in the address space: found there, as wide as it is', () => {
    const vm = make();
    const far = hva(200 * PAGE_SIZE);
    vm.hostPages.map(far, 2, framePage(vm, 12));
    vm.memslots.set(slotAt(vm, 0, { hva: far, bytes: 2 * PAGE_SIZE }));
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(ELSEWHERE + PAGE_SIZE + 128) });
    expect(mappedAt(vm, vm.vcpu(0).line)).toBe(framePage(vm, 13) + 128);
    expect(vm.invalidateStart(far + PAGE_SIZE, far + PAGE_SIZE)).toBe(1);
    vm.invalidateEnd();
  });

  test('what a table maps is guest RAM only: frames elsewhere are refused, and 0xa5 around it stays', () => {
    const vm = make();
    const bytes = new Uint8Array(vm.memory.buffer);
    const end = vm.guestBase + vm.guestBytes;
    const behind = bytes.subarray(end);
    behind.fill(CANARY);
    for (const at of [0, vm.guestBase - PAGE_SIZE, end]) {
      refuses(vm, () => vm.hostPages.map(hostPage(vm, INFO_PAGE), 1, hpa(at)), 'EINVAL', 'frame');
    }
    vm.hostPages.move(hostPage(vm, INFO_PAGE), 1, framePage(vm, 15));
    for (let port = 1; port < 200; port++) vm.send(port);
    drained(vm);
    expect(isAll(behind, CANARY)).toBe(true);
  });
});
