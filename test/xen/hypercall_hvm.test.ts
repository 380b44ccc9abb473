// hvm_op, memory_op, xen_version, physdev_op and hooks: parameters, shared_info, what the guest is told. [XE-CB-07, XE-QE-45, XE-BT-04]

import { describe, expect, test } from 'vitest';
import { REGION_INVALIDATE_SEQ } from '../../src/abi/region.ts';
import { dropMappings, refuses } from '../spec/evidence.ts';
import { drained, errorOf, fields, pendingBit, ram } from '../support.ts';
import {
  AREA,
  addToPhysmap,
  answer,
  CALLERS,
  type Caller,
  call,
  END,
  expectUntouched,
  getParam,
  LIST,
  makeCaller,
  makeGuest,
  PAGES,
  put,
  quiet,
  registerVcpuInfo,
  SELF,
  SHARED_INFO_FRAME,
  START,
  setParam,
  u32,
  u64,
  VCPU_INFO_FRAME,
  VECTOR_VIA,
} from './caller.ts';

const [MEMORY, VERSION, CONSOLE, GRANT, PHYSDEV, HVM] = [12, 17, 18, 20, 33, 34];
const [EBUSY, EPERM, ENOENT, ESRCH, EFAULT, EINVAL, ENOSPC, ERANGE, ENOSYS, EOPNOTSUPP] = [
  -16, -1, -2, -3, -14, -22, -28, -34, -38, -95,
];

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}): Caller => makeGuest({ long, shared, ...more });

  // ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-CB-07 which parameters a guest may set and read', () => {
    const guest = make();
    const settable = [2, 15, 18, 19, 34, 36, 37];
    const readable = [0, ...settable, 1, 17, 35];
    const deprecated = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
    for (let index = 0; index < 39; index++) {
      if (index !== 0) {
        const expected = settable.includes(index) ? 0 : deprecated.includes(index) ? EINVAL : EPERM;
        expect(setParam(guest, index, 0x1_0000_0000n + BigInt(index)), String(index)).toBe(expected);
      }
      const [result, value] = getParam(guest, index);
      expect(result, String(index)).toBe(readable.includes(index) ? 0 : deprecated.includes(index) ? EINVAL : EPERM);
      const set = index === 0 ? VECTOR_VIA : settable.includes(index) ? 0x1_0000_0000n + BigInt(index) : 0n;
      expect(value, String(index)).toBe(set);
    }
  });

  test('XE-CB-07 the index comes first, then the domain, then whether it may', () => {
    const guest = make();
    for (const index of [39, 40, 2 ** 31, 2 ** 32 - 1]) {
      expect(setParam(guest, index, 1, 99)).toBe(EINVAL);
      expect(getParam(guest, index, 99)[0]).toBe(EINVAL);
    }
    const other = guest.xen.createDomain();
    for (const domid of [99, 0x7ff1, 0x7ff4]) {
      expect(setParam(guest, 2, 1, domid)).toBe(ESRCH);
      expect(getParam(guest, 1, domid)[0]).toBe(ESRCH);
    }
    for (const domid of [other.domid, 0]) expect(setParam(guest, 2, 1, domid)).toBe(EPERM);
    expect(setParam(guest, 2, 1, guest.domain.domid)).toBe(0);
    expect([answer(guest, HVM, [0, END]), answer(guest, HVM, [1, END - 15])]).toEqual([EFAULT, EFAULT]);
  });

  test('XE-CB-07 a privileged domain sets what the others may not', () => {
    const guest = make({ privileged: true });
    const other = guest.xen.createDomain();
    expect(setParam(guest, 1, 77, other.domid)).toBe(0);
    expect(getParam(guest, 1, other.domid)).toEqual([0, 77n]);
    expect(setParam(guest, 13, 77, other.domid)).toBe(EINVAL);
    expect(setParam(guest, 1, 77)).toBe(EPERM);
    expect(setParam(guest, 2, 77, 0)).toBe(EINVAL);
  });

  test('XE-CB-08 parameters that nobody has set are 0; the embedder sets any', () => {
    const guest = make();
    const { hvm, vm } = guest.domain;
    expect(getParam(guest, 1)).toEqual([0, 0n]);
    hvm.setParam(1, 0xfeff9n);
    hvm.setParam(38, 2n ** 64n - 1n);
    expect(getParam(guest, 1)).toEqual([0, 0xfeff9n]);
    expect(hvm.getParam(38)).toBe(2n ** 64n - 1n);
    for (const index of [-1, 39, 0.5]) refuses(vm, () => hvm.setParam(index, 0n), 'EINVAL', index);
    refuses(vm, () => hvm.setParam(1, 2n ** 64n), 'EINVAL');
    refuses(vm, () => hvm.setParam(1, -1n), 'EINVAL');
    refuses(vm, () => hvm.setParam(0, (2n << 56n) | 15n), 'EINVAL', '0x20000000000000f');
    expect(errorOf(() => hvm.getParam(39)).code).toBe('EINVAL');
  });

  test('XE-MOD-30 setting the callback takes over the caller’s width, and the wall clock with it', () => {
    const guest = makeCaller({ long, shared });
    const { clock, domain } = guest;
    domain.vm.setAttr({ type: 'long_mode', enabled: !long });
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0);
    quiet(guest);
    clock.advance(5_000_000_000n);
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    expect(domain.vm.region.longMode).toBe(long);
    const wallClock = SHARED_INFO_FRAME * 4096 + (long ? 0xc00 : 0x900);
    expect(u32(guest, wallClock) % 2).toBe(0);
    expect(u32(guest, wallClock)).toBeGreaterThan(0);
    // Once it is taken over, nothing is asked for again.
    expect(domain.vm.vcpu(0).upcallPending).toBe(true);
    quiet(guest);
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    expect(domain.vm.vcpu(0).upcallPending).toBe(false);
  });

  test('XE-MOD-31 KF-77 an event that came before the width was known is found afterwards, and no other', () => {
    const guest = makeCaller({ long, shared });
    const { domain } = guest;
    domain.vm.setAttr({ type: 'long_mode', enabled: !long });
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0);
    quiet(guest);
    const port = domain.evtchn.bindIpi({ vcpu: 0 });
    domain.send(port);
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
  });

  test('pagetable_dying is for guests with shadow page tables; get_time is system time', () => {
    const guest = make();
    const dying = (domid: number): number => answer(guest, HVM, [9, put(guest, 16, [[0, 2, domid]])]);
    const other = guest.xen.createDomain();
    expect([dying(SELF), dying(99), dying(other.domid)]).toEqual([EINVAL, ESRCH, EOPNOTSUPP]);
    expect(answer(guest, HVM, [9, END])).toBe(EFAULT);
    const at = put(guest, 8, []);
    expect([answer(guest, HVM, [10, at]), u64(guest, at)]).toEqual([0, START]);
    expect(answer(guest, HVM, [10, END - 7])).toBe(EFAULT);
  });

  // ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BT-10 XE-QE-45 shared_info is where the guest says, zeros but for clocks that are right when the call returns', () => {
    const guest = makeCaller({ long, shared, vcpus: 2 });
    ram(guest.domain.vm).fill(0xa5, SHARED_INFO_FRAME * 4096, (SHARED_INFO_FRAME + 1) * 4096 + 16);
    expect(addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME)).toBe(0);
    const page = SHARED_INFO_FRAME * 4096;
    for (const index of [0, 1]) {
      const time = page + index * 64 + 32;
      expect(u32(guest, time) % 2).toBe(0);
      expect(u64(guest, time + 16)).toBe(START);
      expect(u32(guest, time + 24)).not.toBe(0);
      ram(guest.domain.vm).fill(0, time, time + 32);
    }
    const wallClock = page + (long ? 0xc00 : 0x900);
    expect(u32(guest, wallClock)).toBeGreaterThan(0);
    ram(guest.domain.vm).fill(0, wallClock, wallClock + 12);
    expect(
      ram(guest.domain.vm)
        .subarray(page, page + 4096)
        .every((byte) => byte === 0),
    ).toBe(true);
    expectUntouched(guest, page + 4096);
    expect(guest.domain.vm.getAttr('shared_info').gfn).toBe(SHARED_INFO_FRAME);
  });

  test('add_to_physmap: domain, permission, space, index, frame', () => {
    const guest = makeCaller({ long, shared });
    const other = guest.xen.createDomain();
    expect(addToPhysmap(guest, 0, 0, 3, 99)).toBe(ESRCH);
    expect(addToPhysmap(guest, 0, 0, 3, other.domid)).toBe(EPERM);
    expect(addToPhysmap(guest, 0, 1, 3)).toBe(EINVAL);
    for (const frame of [PAGES, 2 ** 31, 2 ** 32 - 1, ...(long ? [2 ** 40, 2 ** 52] : [])]) {
      expect(addToPhysmap(guest, 0, 0, frame)).toBe(EINVAL);
    }
    for (const space of [2, 3, 4, 5, 6, 2 ** 32 - 1]) expect(addToPhysmap(guest, space, 0, 3)).toBe(ENOSYS);
    expect(addToPhysmap(guest, 1, 0, 3)).toBe(ENOSYS);
    expect(answer(guest, MEMORY, [7, END - (long ? 23 : 15)])).toBe(EFAULT);
    expect(guest.domain.vm.getAttr('shared_info').gfn).toBeNull();
    for (const command of [0, 1, 6, 9, 15]) expect(answer(guest, MEMORY, [command, END])).toBe(ENOSYS);
  });

  test('XE-TC-23 a move takes pending bits, masks and vcpu_infos along; the old frame is zeros', () => {
    const guest = makeCaller({ long, shared, vcpus: 2 });
    const { domain } = guest;
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    const [a, b] = [0, 1].map((vcpu) => domain.evtchn.bindIpi({ vcpu })) as [number, number];
    domain.vm.mask(b);
    for (const port of [a, b]) domain.send(port);
    ram(domain.vm).fill(0xa5, AREA, AREA + 4096);
    expect(addToPhysmap(guest, 0, 0, AREA / 4096)).toBe(0);
    expect([a, b].map((port) => pendingBit(domain.vm, port, AREA))).toEqual([true, true]);
    expect(
      ram(domain.vm)
        .subarray(SHARED_INFO_FRAME * 4096, SHARED_INFO_FRAME * 4096 + 4096)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect([0, 1].map((i) => domain.vm.vcpu(i).getAttr('vcpu_info').gpa)).toEqual([AREA, AREA + 64]);
    expect(u64(guest, AREA + 64 + 48)).toBe(START);
    expect([drained(domain.vm), drained(domain.vm, 1)]).toEqual([[a], []]);
    domain.evtchn.unmask(b);
    expect(drained(domain.vm, 1)).toEqual([b]);
    // To where it is: nothing moves.
    domain.send(a);
    expect(addToPhysmap(guest, 0, 0, AREA / 4096)).toBe(0);
    expect(drained(domain.vm)).toEqual([a]);
  });

  test('XE-QE-45 a vcpu_info that the guest has placed itself stays there', () => {
    const guest = make();
    expect(addToPhysmap(guest, 0, 0, AREA / 4096)).toBe(0);
    expect(guest.domain.vm.vcpu(0).getAttr('vcpu_info').gpa).toBe(VCPU_INFO_FRAME * 4096);
    dropMappings(guest.domain.vm);
    const port = guest.domain.evtchn.bindIpi({ vcpu: 0 });
    guest.domain.send(port);
    expect(pendingBit(guest.domain.vm, port, AREA)).toBe(true);
    expect(drained(guest.domain.vm)).toEqual([port]);
  });

  test('KF-13 a vcpu_info of the embedder’s that the page replaces is not forgotten: the guest looks at every word', () => {
    const guest = makeCaller({ long, shared, bare: false, guestPages: 32 });
    const { domain } = guest;
    domain.vm.setAttr({ type: 'long_mode', enabled: long });
    const port = domain.evtchn.bindIpi({ vcpu: 0 });
    domain.send(port);
    expect(addToPhysmap(guest, 0, 0, AREA / 4096)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
  });

  test('events from before there was a page are in it', () => {
    const guest = makeCaller({ long, shared });
    const channel = guest.xen.host.bindUnbound(guest.domain.domid, () => {});
    expect(channel.notify()).toBe(0);
    expect(addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME)).toBe(0);
    expect(pendingBit(guest.domain.vm, channel.port)).toBe(true);
    expect(drained(guest.domain.vm)).toEqual([channel.port]);
  });

  test('grant frames are the embedder’s; a batch has an error for each', () => {
    const told: number[][] = [];
    const guest = make({
      hvm: {
        onGrantFrame: (index: number, frame: number) => {
          told.push([index, frame]);
          return index === 1 ? EINVAL : 0;
        },
      },
    });
    expect(addToPhysmap(guest, 1, 5, 0x12345)).toBe(0);
    const { vm } = guest.domain;
    const bytes = long ? 8 : 4;
    const words = (at: number, values: readonly number[]): void => {
      for (const [i, value] of values.entries()) {
        if (long) fields(vm).setBigUint64(at + i * 8, BigInt(value), true);
        else fields(vm).setUint32(at + i * 4, value, true);
      }
    };
    words(LIST, [0, 1, 2]);
    words(LIST + 64, [100, 101, 102]);
    ram(vm).fill(0xa5, LIST + 128, LIST + 160);
    const batch = (space: number, count: number, errors = LIST + 128): number => {
      const pointers = [LIST, LIST + 64, errors].map((pointer, i) => [8 + i * bytes, bytes, pointer] as const);
      const at = put(guest, 8 + 3 * bytes, [
        [0, 2, SELF],
        [2, 2, space],
        [4, 2, count],
        [6, 2, 0],
        ...(pointers as never[]),
      ]);
      return answer(guest, MEMORY, [23, at]);
    };
    expect(batch(1, 3)).toBe(0);
    expect(told).toEqual([
      [5, 0x12345],
      [0, 100],
      [1, 101],
      [2, 102],
    ]);
    expect([0, 1, 2].map((i) => fields(vm).getInt32(LIST + 128 + 4 * i, true))).toEqual([0, EINVAL, 0]);
    expectUntouched(guest, LIST + 140);
    expect(batch(3, 1)).toBe(0);
    expect(fields(vm).getInt32(LIST + 128, true)).toBe(ENOSYS);
    expect([batch(1, 0), batch(1, 3, END - 8)]).toEqual([0, EFAULT]);
    expect(answer(guest, MEMORY, [23, END - 8])).toBe(EFAULT);
  });

  test('KF-42 a batch of 65,535 places of shared_info: each is checked, and it moves once, to the last that is RAM', () => {
    const guest = make();
    const { vm } = guest.domain;
    const bytes = long ? 8 : 4;
    const port = guest.domain.evtchn.bindIpi({ vcpu: 0 });
    guest.domain.send(port);
    // All lists are one page, read again and again: frame 5 or no RAM; indices are 0 elsewhere.
    const { cpu } = guest;
    const read = cpu.readVirtual.bind(cpu);
    let reads = 0;
    const frames = 0x2000_0000;
    cpu.readVirtual = (address, length) => {
      if (address < 0x1000_0000n) return read(address, length);
      reads++;
      const copy = new Uint8Array(length);
      if (address < BigInt(frames)) return copy;
      for (let at = 0; at < length; at += bytes) copy[at] = at % (2 * bytes) === 0 ? 5 : 99;
      return copy;
    };
    const errors: number[] = [];
    cpu.writeVirtual = (_address, written) => {
      const view = new DataView(written.buffer, written.byteOffset, written.byteLength);
      for (let at = 0; at < written.length; at += 4) errors.push(view.getInt32(at, true));
      return true;
    };
    const pointers = [0x1000_0000, frames, 0x3000_0000].map((pointer, i) => [8 + i * bytes, bytes, pointer] as const);
    const structure = [[0, 2, SELF], [2, 2, 0], [4, 2, 65_535], [6, 2, 0], ...(pointers as never[])] as const;
    const generation = vm.region.words.load(vm.vmBase + REGION_INVALIDATE_SEQ);
    expect(answer(guest, MEMORY, [23, put(guest, 8 + 3 * bytes, structure as never)])).toBe(0);
    expect(errors.length).toBe(65_535);
    expect([errors[0], errors[1], errors.at(-1)]).toEqual([0, EINVAL, 0]);
    expect(vm.region.words.load(vm.vmBase + REGION_INVALIDATE_SEQ) - generation).toBe(1);
    expect(reads).toBe(2 * 1024);
    expect(vm.getAttr('shared_info').gfn).toBe(5);
    expect(pendingBit(vm, port, AREA)).toBe(true);
  });

  // ── what the guest is told ───────────────────────────────────────────────────────────────────────────────────────

  test('xen_version: numbers, strings, features', () => {
    const guest = make({
      hvm: {
        identity: {
          major: 4,
          minor: 19,
          extraVersion: '.1-test',
          changeset: 'abc',
          handle: new Uint8Array(16).fill(7),
        },
      },
    });
    const text = (at: number, size: number): string => {
      return new TextDecoder().decode(ram(guest.domain.vm).slice(at, at + size)).replaceAll('\0', '');
    };
    const gives = (command: number, size: number): string => {
      const at = put(guest, size, []);
      expect(answer(guest, VERSION, [command, at])).toBe(0);
      expectUntouched(guest, at + size);
      expect(answer(guest, VERSION, [command, END - size + 1])).toBe(EFAULT);
      return text(at, size);
    };
    expect(answer(guest, VERSION, [0])).toBe(0x40013);
    expect(gives(1, 16)).toBe('.1-test');
    expect(gives(2, 144)).toBe('');
    expect(gives(3, 1024)).toContain('hvm-3.0-x86_64');
    expect(gives(4, 64)).toBe('abc');
    expect(gives(5, long ? 8 : 4)).toBe('');
    expect(gives(8, 16)).toBe('\x07'.repeat(16));
    expect(gives(9, 9)).toBe('<denied>');
    expect([answer(guest, VERSION, [7, 0]), answer(guest, VERSION, [7, 8])]).toEqual([4096, EINVAL]);
    expect([answer(guest, VERSION, [10, 0]), answer(guest, VERSION, [99, 0])]).toEqual([EPERM, ENOSYS]);
  });

  test('XE-QE-06 XE-BT-23 features of submap 0; the others are refused, in QEMU’s dialect empty', () => {
    const features = (guest: Caller, submap: number): [number, number] => {
      const at = put(guest, 8, [[0, 4, submap]]);
      return [answer(guest, VERSION, [6, at]), u32(guest, at + 4)];
    };
    expect(features(make(), 0)).toEqual([0, 0x305]);
    expect(features(make({ pirqs: 16 }), 0)).toEqual([0, 0x705]);
    expect(features(make({ hvm: { identity: { features: 0xc0305 } } }), 0)).toEqual([0, 0xc0305]);
    expect(features(make(), 1)).toEqual([EINVAL, 0xa5a5a5a5]);
    expect(features(make({ dialect: 'qemu' }), 1)).toEqual([0, 0]);
    expect(answer(make(), VERSION, [6, END])).toBe(EFAULT);
  });

  test('what cannot be said is refused when the domain is made', () => {
    const bad = (hvm: object): string => errorOf(() => makeCaller({ hvm })).code;
    expect(bad({ identity: { major: 65536 } })).toBe('EINVAL');
    expect(bad({ identity: { minor: -1 } })).toBe('EINVAL');
    expect(bad({ identity: { features: 2 ** 32 } })).toBe('EINVAL');
    expect(bad({ identity: { handle: new Uint8Array(15) } })).toBe('EINVAL');
    for (const base of [0, 0x40000001, 0x40010000, 0.5]) expect(bad({ cpuid: { base } })).toBe('EINVAL');
  });

  test('XE-BT-04 the leaves of CPUID', () => {
    const guest = make({ vcpus: 2, hvm: { cpuid: { upcallVectors: true } } });
    const { domain } = guest;
    const leaf = (n: number, sub = 0) => domain.hvm.cpuid(domain.vm.vcpu(1), 0x40000000 + n, sub);
    expect(leaf(0)).toEqual({ eax: 0x40000004, ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e });
    expect(leaf(1)).toEqual({ eax: 0x40011, ebx: 0, ecx: 0, edx: 0 });
    expect(leaf(2)).toEqual({ eax: 1, ebx: 0x40000000, ecx: 0, edx: 0 });
    expect(leaf(3)).toEqual({ eax: 0, ebx: 0, ecx: 1_000_000, edx: 0 });
    expect(leaf(3, 1)).toEqual({ eax: 0, ebx: 0, ecx: 0x80000000, edx: 1 });
    expect(leaf(3, 2)).toEqual({ eax: 1_000_000, ebx: 0, ecx: 0, edx: 0 });
    expect(leaf(4)).toEqual({ eax: 8 + 16 + 64, ebx: 1, ecx: domain.domid, edx: 0 });
    expect(leaf(4, 1)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
    expect([leaf(5), leaf(-1), leaf(0x100)]).toEqual([null, null, null]);
    const beside = make({ hvm: { cpuid: { besideHyperv: true } } });
    expect(beside.domain.hvm.cpuid(beside.domain.vm.vcpu(0), 0x40000102)?.ebx).toBe(0x40000200);
    expect(beside.domain.hvm.cpuid(beside.domain.vm.vcpu(0), 0x40000104)?.eax).toBe(8 + 16);
  });

  test('XE-BT-03 the hypercall page: an entry for each number, UD2 at that of iret; it takes over the width', () => {
    const guest = makeCaller({ long, shared });
    const { cpu, domain } = guest;
    domain.vm.setAttr({ type: 'long_mode', enabled: !long });
    cpu.lma = long;
    const vcpu = domain.vm.vcpu(0);
    expect(domain.hvm.writeMsr(vcpu, cpu, 0x40000000, BigInt(AREA))).toBe('written');
    const page = ram(domain.vm).subarray(AREA, AREA + 4096);
    expect([...page.subarray(32 * 32, 32 * 32 + 9)]).toEqual([0xb8, 32, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
    expect([...page.subarray(23 * 32, 23 * 32 + 2)]).toEqual([0x0f, 0x0b]);
    expect(domain.vm.region.longMode).toBe(long);
    expect(domain.hvm.writeMsr(vcpu, cpu, 0x40000000, BigInt(AREA + 1))).toBe('gp');
    expect(domain.hvm.writeMsr(vcpu, cpu, 0x40000001, BigInt(AREA))).toBe('other');
    cpu.cpl = 3;
    expect(domain.hvm.writeMsr(vcpu, cpu, 0x40000000, BigInt(AREA))).toBe('gp');
  });

  // ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('console_io is refused unless the embedder takes it; writes come in pieces', () => {
    const guest = make();
    expect([answer(guest, CONSOLE, [0, 5, LIST]), answer(guest, CONSOLE, [1, 5, LIST])]).toEqual([EPERM, EPERM]);
    let said = '';
    const hvm = {
      onConsole: (bytes: Uint8Array): void => {
        said += new TextDecoder().decode(bytes);
      },
      onConsoleRead: (room: number) => new TextEncoder().encode('yes, my lord'.slice(0, room + 1)),
    };
    const talker = make({ hvm });
    const words = 'x'.repeat(300);
    talker.cpu.writeVirtual(BigInt(LIST), new TextEncoder().encode(words));
    expect([answer(talker, CONSOLE, [0, 300, LIST]), said]).toEqual([0, words]);
    expect([answer(talker, CONSOLE, [0, 9, END - 8]), answer(talker, CONSOLE, [2, 9, LIST])]).toEqual([EFAULT, ENOSYS]);
    const at = put(talker, 16, []);
    expect(answer(talker, CONSOLE, [1, 3, at])).toBe(3);
    expect(new TextDecoder().decode(ram(talker.domain.vm).slice(at, at + 3))).toBe('yes');
    expectUntouched(talker, at + 3);
    expect(answer(talker, CONSOLE, [1, 3, END - 2])).toBe(EFAULT);
  });

  test('XE-GT-05 grant_table_op is the embedder’s, with its width', () => {
    expect(answer(make(), GRANT, [6, LIST, 1])).toBe(ENOSYS);
    const told: unknown[] = [];
    const guest = make({ hvm: { onGrantTableOp: (what: object) => (told.push(what) === 1 ? 0 : null) } });
    expect(answer(guest, GRANT, [6, LIST, 1])).toBe(0);
    expect(told).toEqual([{ command: 6, argument: BigInt(LIST), count: 1, longMode: long }]);
    expect(answer(guest, GRANT, [6, LIST, 1])).toBe(ENOSYS);
  });

  test('XE-QE-05 QEMU’s parameters are few', () => {
    const guest = make({ dialect: 'qemu' });
    expect([setParam(guest, 0, VECTOR_VIA), setParam(guest, 2, 1)]).toEqual([0, ENOSYS]);
    expect([getParam(guest, 1)[0], getParam(guest, 18)[0], getParam(guest, 0)[0]]).toEqual([0, 0, ENOSYS]);
    expect(answer(guest, HVM, [9, END])).toBe(ENOSYS);
  });

  // ── PIRQs ────────────────────────────────────────────────────────────────────────────────────────────────────────

  const map = (guest: Caller, gsi: number, pirq: number, type = 1, domid = SELF): [number, number] => {
    const at = put(guest, long ? 40 : 36, [
      [0, 2, domid],
      [4, 4, type],
      [8, 4, gsi],
      [12, 4, pirq],
    ]);
    return [answer(guest, PHYSDEV, [13, at]), fields(guest.domain.vm).getInt32(at + 12, true)];
  };
  const unmap = (guest: Caller, pirq: number): number =>
    answer(guest, PHYSDEV, [
      14,
      put(guest, 8, [
        [0, 2, SELF],
        [4, 4, pirq],
      ]),
    ]);
  const eoi = (guest: Caller, pirq: number): number => answer(guest, PHYSDEV, [12, put(guest, 4, [[0, 4, pirq]])]);
  const status = (guest: Caller, pirq: number): [number, number] => {
    const at = put(guest, 8, [[0, 4, pirq]]);
    return [answer(guest, PHYSDEV, [5, at]), u32(guest, at + 4)];
  };

  test('XE-QE-31 a domain without PIRQs has no physdev_op', () => {
    const guest = make();
    for (const command of [5, 12, 13, 14, 23]) expect(answer(guest, PHYSDEV, [command, END])).toBe(ENOSYS);
  });

  test('XE-QE-30 XE-QE-32 mapping: vectors first, GSIs 0..47, PIRQs for GSIs from 16 up', () => {
    const guest = makeCaller({ long, shared, pirqs: 64 });
    expect(map(guest, 5, -1)[0]).toBe(EINVAL);
    expect(setParam(guest, 0, VECTOR_VIA)).toBe(0);
    expect(map(guest, 5, -1)).toEqual([0, 16]);
    expect(map(guest, 6, -1)).toEqual([0, 17]);
    expect(map(guest, 7, 40)).toEqual([0, 40]);
    for (const gsi of [48, -1, 2 ** 31 - 1]) expect(map(guest, gsi, -1)[0]).toBe(EINVAL);
    for (const pirq of [64, 256, 2 ** 31 - 1]) expect(map(guest, 9, pirq)[0]).toBe(EINVAL);
    for (const type of [0, 2, 3]) expect(map(guest, 9, -1, type)[0]).toBe(EINVAL);
    expect(map(guest, 9, -1, 1, 99)[0]).toBe(ESRCH);
    expect([status(guest, 16), status(guest, 18), status(guest, 2 ** 32 - 1)[0]]).toEqual([
      [0, 1],
      [EINVAL, 0xa5a5a5a5],
      EINVAL,
    ]);
    expect([unmap(guest, 16), unmap(guest, 16), unmap(guest, -1), unmap(guest, 9999)]).toEqual([0, 0, 0, 0]);
    expect(status(guest, 16)[0]).toBe(EINVAL);
    expect(map(guest, 9, -1)).toEqual([0, 16]);
    for (const command of [5, 12, 13, 14, 23]) expect(answer(guest, PHYSDEV, [command, END])).toBe(EFAULT);
  });

  test('XE-QE-32 XE-QE-36 QEMU’s dialect: 24 GSIs, a PIRQ in use is EBUSY; one that is not is ENOENT to unmap, a message’s EINVAL', () => {
    const guest = make({ pirqs: 64, dialect: 'qemu' });
    expect([map(guest, 23, -1), map(guest, 24, -1)[0]]).toEqual([[0, 16], EINVAL]);
    expect([map(guest, 5, 16)[0], map(guest, 23, 16)[0]]).toEqual([EBUSY, 0]);
    expect(guest.domain.hvm.raiseMsi(0xfee00000n | (63n << 12n))).toBe(0);
    expect([unmap(guest, 63), unmap(guest, 30), unmap(guest, 16)]).toEqual([EINVAL, ENOENT, 0]);
    // Out of range it is nothing, whoever asks.
    for (const pirq of [64, 255, 256, 2 ** 31, 2 ** 32 - 1]) {
      expect([eoi(guest, pirq), status(guest, pirq)[0], unmap(guest, pirq)]).toEqual([EINVAL, EINVAL, ENOENT]);
    }
  });

  test('XE-QE-30 get_free_pirq: for messages from the last down, until there is none', () => {
    const guest = makeCaller({ long, shared, pirqs: 26 });
    const free = (type: number): [number, number] => {
      const at = put(guest, 8, [[0, 4, type]]);
      return [answer(guest, PHYSDEV, [23, at]), u32(guest, at + 4)];
    };
    expect([free(0), free(1), free(0)]).toEqual([
      [0, 25],
      [0, 16],
      [0, 24],
    ]);
    expect(free(0)[0]).toBe(ENOSPC);
    for (let pirq = 17; pirq < 24; pirq++) expect(free(1)).toEqual([0, pirq]);
    expect(free(1)[0]).toBe(ENOSPC);
  });

  test('XE-QE-35 a mapped GSI with a port raises it instead of its line; a level that is up comes again after its EOI', () => {
    const lines: [number, boolean][] = [];
    const guest = make({ pirqs: 64, hvm: { onGsi: (gsi: number, level: boolean) => void lines.push([gsi, level]) } });
    const { domain } = guest;
    expect(map(guest, 20, -1)).toEqual([0, 16]);
    domain.hvm.assertGsi(20);
    domain.hvm.deassertGsi(20);
    expect(lines).toEqual([
      [20, true],
      [20, false],
    ]);
    const port = domain.evtchn.bindPirq({ pirq: 16 });
    domain.hvm.assertGsi(20);
    expect([lines.length, drained(domain.vm)]).toEqual([2, [port]]);
    domain.hvm.assertGsi(20);
    expect(drained(domain.vm)).toEqual([]);
    expect([eoi(guest, 16), drained(domain.vm)]).toEqual([0, [port]]);
    domain.hvm.deassertGsi(20);
    domain.hvm.deassertGsi(20);
    expect([eoi(guest, 16), drained(domain.vm), lines.length]).toEqual([0, [], 2]);
    expect([eoi(guest, 17), eoi(guest, 2 ** 32 - 1)]).toEqual([EINVAL, EINVAL]);
    // Edges do not come again.
    expect(map(guest, 3, 30)).toEqual([0, 30]);
    const edge = domain.evtchn.bindPirq({ pirq: 30 });
    domain.hvm.assertGsi(3);
    expect(drained(domain.vm)).toEqual([edge]);
    expect([eoi(guest, 30), drained(domain.vm)]).toEqual([0, []]);
  });

  test('XE-QE-34 a message without a vector names its PIRQ by its address', () => {
    const guest = make({ pirqs: 64 });
    const { domain } = guest;
    const address = (pirq: number): bigint => 0xfee00000n | (BigInt(pirq & 0xff) << 12n) | (BigInt(pirq >> 8) << 40n);
    const port = domain.evtchn.bindPirq({ pirq: 63 });
    expect([domain.hvm.raiseMsi(address(63)), drained(domain.vm)]).toEqual([1, [port]]);
    expect(status(guest, 63)).toEqual([0, 1]);
    expect(domain.hvm.raiseMsi(address(0))).toBe(ERANGE);
    for (const pirq of [64, 0x1ff, 0xffff]) expect(domain.hvm.raiseMsi(address(pirq))).toBe(EINVAL);
    expect(map(guest, 20, 17)[0]).toBe(0);
    expect(domain.hvm.raiseMsi(address(17))).toBe(EINVAL);
    expect(errorOf(() => domain.hvm.raiseMsi(-1n)).code).toBe('EINVAL');
  });

  test('XE-CB-06 a vCPU’s own vector: refused below 16 and for no vCPU; set, it fires once', () => {
    const guest = make({ vcpus: 2 });
    const vector = (vcpu: number, value: number): number =>
      answer(guest, HVM, [
        23,
        put(guest, 8, [
          [0, 4, vcpu],
          [4, 1, value],
        ]),
      ]);
    for (const value of [0, 1, 15]) expect(vector(0, value)).toBe(EINVAL);
    for (const vcpu of [2, 2 ** 32 - 1]) expect(vector(vcpu, 0x40)).toBe(ENOENT);
    expect(
      answer(make({ dialect: 'qemu' }), HVM, [
        23,
        put(guest, 8, [
          [0, 4, 9],
          [4, 1, 0x40],
        ]),
      ]),
    ).toBe(EINVAL);
    expect(answer(guest, HVM, [23, END])).toBe(EFAULT);
    expect(vector(1, 0x41)).toBe(0);
    const vcpu = guest.domain.vm.vcpu(1);
    expect(vcpu.runnable).toBe(true);
    expect(vcpu.beforeEntry()).toMatchObject({ kind: 'enter', lapicInterrupt: 0x41 });
    expect(vcpu.beforeEntry()).toMatchObject({ kind: 'enter', lapicInterrupt: 0 });
    expect(call(guest, HVM, [99, 0])).toMatchObject({ kind: 'handled' });
  });
});
