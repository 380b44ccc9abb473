// The hypercall page: who asks for it, the mode that the write takes over, what is in it. [KX-HCL-01..07, KX-VMA-03]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { attachVm, FlatCpu, gfn, gpa, hva, type Vm } from '../../src/index.ts';
import { fields, KINDS, LAYOUTS, makeVm, ram, SHARED_INFO_GPA } from '../support.ts';
import { type Change, cast, changed, changes, noNaps, refuses } from './evidence.ts';
import { call, END, type Guest, MSR, makeGuest } from './guest.ts';
import { outside } from './values.ts';

const PAGE = 0x9000;
const WALL_CLOCK_LONG = 0xc00;
const WALL_CLOCK_COMPAT = 0x900;

afterEach(() => {
  vi.restoreAllMocks();
});

/** The guest's own write; `lma` is the mode it is in. */
function write({ vcpu, cpu }: Guest, value: number | bigint, lma = cpu.lma): string {
  cpu.lma = lma;
  return vcpu.writeMsr(cpu, MSR, BigInt(value));
}

function wallClockVersion(vm: Vm, long: boolean): number {
  return fields(vm).getUint32(SHARED_INFO_GPA + (long ? WALL_CLOCK_LONG : WALL_CLOCK_COMPAT), true);
}

/** Changes outside of shared_info, whose wall clock may move. */
function elsewhere(found: readonly Change[]): Change[] {
  return found.filter(([at]) => at < SHARED_INFO_GPA || at >= SHARED_INFO_GPA + 4096);
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (more = {}): Guest => makeGuest({ longMode, shared, long: longMode, ...more });

  test('KX-HCL-01 only a write of the configured MSR asks for the page, and only while the gate is open', () => {
    const guest = make();
    const { vm, vcpu, cpu } = guest;
    for (const index of [0, 1, MSR - 1, MSR + 1, 0x4fffffff, 0xffffffff]) {
      expect(changed(vm, () => expect(vcpu.writeMsr(cpu, index, BigInt(PAGE))).toBe('other'))).toEqual([]);
    }
    vm.setConfig({ msr: 0, interceptHypercalls: true });
    for (const index of [0, MSR]) {
      expect(changed(vm, () => expect(vcpu.writeMsr(cpu, index, BigInt(PAGE))).toBe('other'))).toEqual([]);
    }
    vm.setConfig({ msr: 0x40000200, interceptHypercalls: true });
    expect(vcpu.writeMsr(cpu, MSR, BigInt(PAGE))).toBe('other');
    expect(vcpu.writeMsr(cpu, 0x40000200, BigInt(PAGE))).toBe('written');
  });

  test('KX-HCL-01 KF-63 nothing that the host does writes a page or takes over a mode, whatever the numbers', () => {
    const guest = make();
    const { vm, vcpu } = guest;
    const mode = vm.region.longMode;
    ram(vm).fill(0xa5, PAGE, PAGE + 4096);
    const found = changed(vm, () => {
      for (const msr of [MSR, PAGE, 0x40009000, 0]) {
        try {
          vm.setConfig({ msr, interceptHypercalls: true });
        } catch {}
      }
      vm.setConfig({ msr: MSR, interceptHypercalls: true });
      vm.setAttr({ type: 'xen_version', version: MSR });
      vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    });
    expect(found).toEqual([]);
    expect(vm.region.longMode).toBe(mode);
  });

  test('KF-63 a guest’s write before there is memory, and after the end', () => {
    const bare = make({ guestPages: 16 });
    bare.vm.memslots.delete(0);
    expect(write(bare, PAGE)).toBe('gp');
    const closed = make();
    closed.vm.close();
    expect(() => write(closed, PAGE)).toThrow('EBADF');
  });

  test('KX-HCL-04 KX-VMA-03 the write takes over the mode of the guest, and its wall clock moves', () => {
    const guest = make();
    const { vm } = guest;
    const before = wallClockVersion(vm, !longMode);
    expect(write(guest, PAGE, !longMode)).toBe('written');
    expect(vm.getAttr('long_mode').enabled).toBe(!longMode);
    expect(wallClockVersion(vm, !longMode)).toBe(((before + 1) | 1) + 1);
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    expect(vm.getAttr('long_mode').enabled).toBe(longMode);
  });

  test('KX-HCL-04 in the mode that it is in already nothing of shared_info is written', () => {
    const guest = make();
    expect(changed(guest.vm, () => write(guest, PAGE)).every(([at]) => at >= PAGE && at < PAGE + 4096)).toBe(true);
  });

  test('KX-HCL-04 the mode of 32-bit code of a 64-bit kernel is the kernel’s', () => {
    const guest = make();
    guest.cpu.longMode = false;
    expect(write(guest, PAGE, true)).toBe('written');
    expect(guest.vm.region.longMode).toBe(true);
  });

  test('KX-HCL-04 the mode is taken over before the value is looked at, and stays', () => {
    const guest = make();
    const found = changed(guest.vm, () => expect(write(guest, PAGE + 1, !longMode)).toBe('gp'));
    expect(elsewhere(found)).toEqual([]);
    expect(guest.vm.region.longMode).toBe(!longMode);
    expect(found.length).toBeGreaterThan(0);
  });

  test('KX-HCL-04 a wall clock that cannot be written is #GP: no page, the mode stays changed', () => {
    const guest = make();
    const { vm } = guest;
    // The page asked for would be there.
    vm.memslots.set({ id: 1, gpa: gpa(2 ** 30), bytes: 4096, hva: hva(vm.guestBase + PAGE) });
    vm.memslots.delete(0);
    const found = changed(vm, () => expect(write(guest, 2 ** 30, !longMode)).toBe('gp'));
    expect(found).toEqual([]);
    expect(vm.region.longMode).toBe(!longMode);
    // In the right mode already: the wall clock is not written.
    expect(write(guest, 2 ** 30, !longMode)).toBe('written');
  });

  test('KX-HCL-04 without shared_info there is no wall clock to write', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'shared_info', gfn: null });
    const found = changed(guest.vm, () => expect(write(guest, PAGE, !longMode)).toBe('written'));
    expect(found.every(([at]) => at >= PAGE && at < PAGE + 4096)).toBe(true);
  });

  test.each([
    { amd: false, instruction: [0x0f, 0x01, 0xc1] },
    { amd: true, instruction: [0x0f, 0x01, 0xd9] },
  ])('KX-HCL-05 128 stubs of 32 bytes, all of the page, AMD: $amd', ({ amd, instruction }) => {
    const guest = make({ amd });
    const before = ram(guest.vm).slice();
    expect(write(guest, PAGE)).toBe('written');
    for (let i = 0; i < 128; i++) {
      const stub = [...ram(guest.vm).subarray(PAGE + 32 * i, PAGE + 32 * (i + 1))];
      expect(stub).toEqual([0xb8, i, 0, 0, 0, ...instruction, 0xc3, ...Array.from({ length: 23 }, () => 0xcc)]);
    }
    const outsidePage = changes(before, ram(guest.vm)).filter(([at]) => at < PAGE || at >= PAGE + 4096);
    expect(outsidePage).toEqual([]);
  });

  test('KX-HCL-05 any other page number is #GP, and so is an address that is no writable RAM', () => {
    const guest = make();
    const { vm } = guest;
    const from = hva(vm.guestBase + 0xa000);
    vm.memslots.set({ id: 1, gpa: gpa(2 ** 30), bytes: 4096, hva: from, readonly: true });
    const values = [PAGE + 1, PAGE + 0xfff, END, 2 ** 30, 2n ** 52n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 4096n];
    for (const value of values) {
      expect(changed(vm, () => expect(write(guest, value), String(value)).toBe('gp'))).toEqual([]);
    }
    expect(write(guest, END - 4096)).toBe('written');
    expect(write(guest, 0)).toBe('written');
  });

  test('a write from above privilege level 0 is #GP, and nothing happens', () => {
    const guest = make();
    guest.cpu.cpl = 3;
    expect(changed(guest.vm, () => expect(write(guest, PAGE, !longMode)).toBe('gp'))).toEqual([]);
    expect(guest.vm.region.longMode).toBe(longMode);
  });

  test('KF-59 an index or a value that is none is refused, and no byte of the memory changes', () => {
    const { vm, vcpu, cpu } = make();
    for (const bad of outside(0, 2 ** 32 - 1, [2 ** 32])) {
      refuses(vm, () => vcpu.writeMsr(cpu, cast(bad), BigInt(PAGE)), 'EINVAL', 'index');
    }
    for (const bad of [-1n, 2n ** 64n, cast<bigint>(PAGE), cast<bigint>(undefined)]) {
      refuses(vm, () => vcpu.writeMsr(cpu, MSR, bad), 'EINVAL', 'value');
    }
  });

  // ── blobs ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Pages with a number in each, at 0xa000 and 0xb000 for long mode and at 0xc080 for compat. */
  function withBlobs(more = {}): Guest {
    const guest = make({ interceptHypercalls: false, ...more });
    const { vm } = guest;
    ram(vm).fill(1, 0xa000, 0xb000).fill(2, 0xb000, 0xc000).fill(3, 0xc000, 0xd080);
    vm.setConfig({
      msr: MSR,
      blobLong: hva(vm.guestBase + 0xa000),
      blobPagesLong: 2,
      blobCompat: hva(vm.guestBase + 0xc080),
      blobPagesCompat: 1,
    });
    return guest;
  }
  const page = (guest: Guest): number[] => [...new Set(ram(guest.vm).subarray(PAGE, PAGE + 4096))];

  test('KX-HCL-06 without interception the guest gets the page of that number, of the blob for its mode', () => {
    const guest = withBlobs();
    for (const [lma, number, content] of [
      [true, 0, 1],
      [true, 1, 2],
      [false, 0, 3],
    ] as const) {
      expect(write(guest, PAGE + number, lma)).toBe('written');
      expect(page(guest)).toEqual([content]);
      expect(guest.vm.region.longMode).toBe(lma);
    }
  });

  test('KX-HCL-06 a page number that the blob does not have is #GP', () => {
    const guest = withBlobs();
    for (const [lma, number] of [
      [true, 2],
      [true, 0xfff],
      [false, 1],
    ] as const) {
      expect(elsewhere(changed(guest.vm, () => expect(write(guest, PAGE + number, lma)).toBe('gp')))).toEqual([]);
    }
    guest.vm.setConfig({ msr: MSR });
    expect(write(guest, PAGE)).toBe('gp');
  });

  test('KX-HCL-06 a page that the guest cannot get is #GP', () => {
    const guest = withBlobs();
    for (const at of [END, 2n ** 52n, 2n ** 64n - 4096n]) {
      expect(elsewhere(changed(guest.vm, () => expect(write(guest, at)).toBe('gp')))).toEqual([]);
    }
  });

  test('KX-HCL-06 a blob that cannot be read is an error of the embedder’s, with its address', () => {
    const guest = withBlobs({ onPageFault: () => {} });
    const { vm } = guest;
    const end = vm.guestBase + vm.guestBytes;
    for (const blob of [end, end - 4096 + 1, 0x7ffffffff000 - 4096]) {
      vm.setConfig({ msr: MSR, blobLong: hva(blob), blobPagesLong: 2, blobCompat: hva(blob), blobPagesCompat: 2 });
      refuses(vm, () => write(guest, PAGE), 'EFAULT', 'page 0', blob.toString(16));
    }
    refuses(vm, () => write(guest, PAGE + 1), 'EFAULT', 'page 1', (0x7ffffffff000).toString(16));
  });

  test('KX-HCL-06 blobs are read through the host pages, which may be absent, moved or asked for', () => {
    const asked: [number, boolean][] = [];
    let map: (() => void) | undefined;
    const guest = withBlobs({
      hostPages: 256,
      onPageFault: (at: number, writable: boolean) => {
        asked.push([at, writable]);
        map?.();
      },
    });
    const { vm } = guest;
    const at = hva(vm.guestBase + 0xa000);
    vm.hostPages.unmap(at, 1);
    const found = changed(vm, () => expect(() => write(guest, PAGE, true)).toThrow('EFAULT'));
    expect(elsewhere(found)).toEqual([]);
    expect(asked).toEqual([[at, false]]);
    map = () => vm.hostPages.map(at, 1, cast(vm.guestBase + 0xb000), { writable: false });
    expect(write(guest, PAGE, true)).toBe('written');
    expect(page(guest)).toEqual([2]);
  });

  // ── dirty pages ────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-07 KX-MEM-30 the page is marked dirty, once it is written', () => {
    const guest = make();
    const { vm } = guest;
    const [slot] = vm.memslots.list();
    if (!slot) expect.fail('no slot');
    vm.memslots.set({ ...slot, logDirty: true });
    write(guest, PAGE + 1);
    expect([...vm.dirtyLog.take(0)]).toEqual([0, 0]);
    write(guest, PAGE);
    expect([...vm.dirtyLog.take(0)]).toEqual([0, 1 << (PAGE / 4096 - 8)]);
  });

  test('KX-HCL-07 with rings the mark is in the ring of the vCPU that wrote', () => {
    const guest = make({ vcpus: 2, dirtyRingBytes: 4096 });
    const { vm, cpu } = guest;
    const [slot] = vm.memslots.list();
    if (!slot) expect.fail('no slot');
    vm.memslots.set({ ...slot, logDirty: true });
    expect(vm.vcpu(1).writeMsr(cpu, MSR, BigInt(PAGE))).toBe('written');
    expect([vm.dirtyLog.collect(0), vm.dirtyLog.collect(1)]).toEqual([[], [{ slot: 0, page: PAGE / 4096 }]]);
  });

  // ── scenarios ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('V-02 the guest writes the MSR: the page appears', () => {
    const vm = makeVm({ longMode, shared, bare: true, hyperv: true });
    vm.memslots.set({ id: 1, gpa: gpa(0xc0000000), bytes: 4096, hva: hva(vm.guestBase + PAGE) });
    vm.setConfig({ msr: 0x40000200, interceptHypercalls: true });
    const cpu = new FlatCpu(vm, { lma: longMode });
    expect(vm.vcpu(0).writeMsr(cpu, 0x40000200, 0xc0000000n)).toBe('written');
    expect([...ram(vm).subarray(PAGE, PAGE + 9)]).toEqual([0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
  });

  test('V-04 the guest calls stub 17 of the page: its parameters leave, the host’s result arrives', () => {
    const guest = make({ hyperv: true });
    const { cpu, vcpu, vm } = guest;
    expect(write(guest, PAGE)).toBe('written');
    cpu.longMode = true;
    const params = [1, 2, 3, 4, 5, 6].map((n) => 0xdeadbeef5a5a0000n + BigInt(n));
    for (const [i, name] of (['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const).entries()) {
      cpu.registers[name] = params[i] ?? 0n;
    }
    const stub = ram(vm).subarray(PAGE + 17 * 32, PAGE + 18 * 32);
    // mov eax, imm32; then the instruction that leaves.
    expect([stub[0], stub[5], stub[6]]).toEqual([0xb8, 0x0f, 0x01]);
    cpu.registers.rax = BigInt(new DataView(stub.buffer, stub.byteOffset + 1, 4).getUint32(0, true));
    cpu.rip = BigInt(PAGE + 17 * 32 + 5);
    const exit = { longMode: true, cpl: 0, input: 17n, params };
    expect(vcpu.hypercall(cpu)).toEqual({ kind: 'exit', exit });
    expect(vcpu.completeHypercall(cpu, 0xcafef00dfbfbffffn)).toBe(true);
    expect(cpu.registers.rax).toBe(0xcafef00dfbfbffffn);
    expect(ram(vm)[Number(cpu.rip)]).toBe(0xc3);
  });
});

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  test('KX-VMA-03 an agent that is not the owner runs the vCPU that writes', () => {
    const guest = makeGuest({ longMode });
    const other = attachVm(guest.vm.handle());
    const cpu = new FlatCpu(other, { lma: !longMode });
    expect(other.vcpu(0).writeMsr(cpu, MSR, BigInt(PAGE))).toBe('written');
    expect(guest.vm.getAttr('long_mode').enabled).toBe(!longMode);
  });

  test('KF-61 the mode of a call and the mode of the VM are two things: a 64-bit call works in a 32-bit VM and the reverse', () => {
    const guest = makeGuest({ longMode, long: !longMode });
    guest.vm.setAttr({ type: 'xen_version', version: 5 });
    expect(call(guest, 17, 0)).toEqual({ kind: 'handled', result: 5n });
    expect(guest.vm.region.longMode).toBe(longMode);
  });
});

test('KX-HCL-06 KF-01 a blob is not read while its page is being changed', () => {
  noNaps();
  const guest = makeGuest();
  const blobLong = hva(guest.vm.guestBase + 0xa000);
  guest.vm.setConfig({ msr: MSR, blobLong, blobPagesLong: 1 });
  const other = attachVm(guest.vm.handle());
  const visitor: Guest = { ...guest, vm: other, vcpu: other.vcpu(0), cpu: new FlatCpu(other) };
  guest.vm.invalidateStart(blobLong, blobLong + 4095);
  refuses(other, () => write(visitor, PAGE), 'EFAULT', 'page 0');
  guest.vm.invalidateEnd();
  expect(write(visitor, PAGE)).toBe('written');
});

test('the guest may ask for another page, and for the same again', () => {
  const guest = makeGuest();
  for (const at of [PAGE, PAGE + 4096, PAGE]) {
    expect(write(guest, at)).toBe('written');
    expect(ram(guest.vm)[at]).toBe(0xb8);
  }
  // Even shared_info itself is a page like any other.
  guest.vm.setAttr({ type: 'shared_info', gfn: gfn(PAGE / 4096) });
  expect(write(guest, PAGE)).toBe('written');
});
