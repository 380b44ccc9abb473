// vcpu_op, set_timer_op and vm_assist: timers, and where the guest keeps what is written for each vCPU. [XE-BP-30..54]

import { describe, expect, test } from 'vitest';
import { HVM_VCPU_PERIOD } from '../../src/abi/xen_hvm.ts';
import { gpa, hva } from '../../src/index.ts';
import { dropMappings } from '../spec/evidence.ts';
import { drained, fields, ram } from '../support.ts';
import {
  AREA,
  addToPhysmap,
  answer,
  CALLERS,
  type Caller,
  call,
  END,
  expectUntouched,
  makeCaller,
  makeGuest,
  PAGES,
  put,
  quiet,
  registerVcpuInfo,
  SHARED_INFO_FRAME,
  START,
  u32,
  u64,
  VCPU_INFO_FRAME,
} from './caller.ts';

const VCPU = 24;
const [ENOENT, EACCES, EFAULT, EBUSY, EINVAL, ENXIO, ENOSYS] = [-2, -13, -14, -16, -22, -6, -38];
const MS = 1_000_000n;

describe.each(CALLERS)('$caller caller, shared memory: $shared', ({ long, shared }) => {
  const make = (more = {}): Caller => makeGuest({ long, shared, vcpus: 2, ...more });
  const op = (guest: Caller, command: number, vcpu: number, at: number | bigint = 0, on = 0): number =>
    answer(guest, VCPU, [command, vcpu, at], on);
  const area = (guest: Caller, address: number | bigint): number => put(guest, 8, [[0, 8, address]]);

  test('a vCPU that does not exist is ENOENT before anything else, an unknown command ENOSYS', () => {
    const guest = make();
    for (const vcpu of [2, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      for (const command of [0, 4, 8, 10, 99]) expect(op(guest, command, vcpu, END)).toBe(ENOENT);
    }
    for (const command of [16, 99, 2 ** 32 - 1]) expect(op(guest, command, 1, END)).toBe(ENOSYS);
  });

  // ── singleshot ───────────────────────────────────────────────────────────────────────────────────────────────────

  const singleshot = (guest: Caller, at: bigint, flags = 0, vcpu = 0): number => {
    const where = put(guest, long ? 16 : 12, [
      [0, 8, at],
      [8, 4, flags],
    ]);
    return op(guest, 8, vcpu, where, 0);
  };
  const timerPort = ({ domain }: Caller, vcpu = 0): number => domain.evtchn.bindVirq({ virq: 0, vcpu });

  test('XE-BP-50 XE-BP-51 the singleshot timer raises VIRQ_TIMER at its absolute time, once; it can be replaced and stopped', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = timerPort(guest);
    expect(singleshot(guest, START + 5n * MS)).toBe(0);
    expect(singleshot(guest, START + 3n * MS)).toBe(0);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + 3n * MS);
    clock.advance(3n * MS - 1n);
    expect([domain.vm.tick(), drained(domain.vm)]).toEqual([0, []]);
    clock.advance(1n);
    expect([domain.vm.tick(), drained(domain.vm)]).toEqual([1, [port]]);
    expect(domain.vm.nextDeadline()).toBeNull();
    singleshot(guest, START + 100n * MS);
    expect(op(guest, 9, 0)).toBe(0);
    expect(op(guest, 9, 0)).toBe(0);
    expect(domain.vm.nextDeadline()).toBeNull();
  });

  test('XE-BP-50 KF-57 one that is past fires at once with 0, also with the flag that once asked for ETIME', () => {
    const guest = make();
    const port = timerPort(guest);
    for (const [at, flags] of [
      [1n, 0],
      [START - 1n, 1],
      [START, 1],
      [2n ** 64n - 1n, 0],
    ] as const) {
      expect(singleshot(guest, at, flags)).toBe(0);
      expect(drained(guest.domain.vm)).toEqual([port]);
    }
  });

  test('XE-BP-50 it is the caller’s own: of another vCPU EINVAL, before the argument is read', () => {
    const guest = make();
    expect(op(guest, 8, 1, END)).toBe(EINVAL);
    expect(op(guest, 9, 1)).toBe(EINVAL);
    expect(op(guest, 8, 0, END - (long ? 15 : 11))).toBe(EFAULT);
    expect(op(guest, 8, 1, END - (long ? 16 : 12), 1)).toBe(0);
  });

  test('XE-MOD-23 a VIRQ that nobody has bound is dropped; the port is the one that it has when the timer expires', () => {
    const guest = make();
    const { clock, domain } = guest;
    expect(singleshot(guest, START + MS)).toBe(0);
    clock.advance(MS);
    expect([domain.vm.tick(), domain.vm.nextDeadline(), domain.vm.vcpu(0).upcallPending]).toEqual([1, null, false]);
    const first = timerPort(guest);
    singleshot(guest, START + 5n * MS);
    domain.evtchn.close(first);
    const other = domain.evtchn.bindIpi({ vcpu: 0 });
    const second = timerPort(guest);
    expect([other, second]).toEqual([first, first + 1]);
    clock.advance(5n * MS);
    expect([domain.vm.tick(), drained(domain.vm)]).toEqual([1, [second]]);
  });

  test('XE-BP-53 set_timer_op: 0 stops, a past deadline fires at once, one that is negative or too far comes in 100 ms', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = timerPort(guest);
    const set = (at: bigint): number => {
      const words = long ? [at] : [at & 0xffffffffn, at >> 32n];
      return answer(guest, 15, words);
    };
    expect(set(START + MS)).toBe(0);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + MS);
    expect(set(0n)).toBe(0);
    expect(domain.vm.nextDeadline()).toBeNull();
    expect(set(1n)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
    for (const at of [2n ** 63n, 2n ** 64n - 1n, START + 2n ** 50n, 2n ** 62n]) {
      expect(set(at)).toBe(0);
      expect(domain.vm.nextDeadline()).toBe(clock.now() + 100n * MS);
    }
    expect(set(START + 2n ** 50n - 1n)).toBe(0);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + 2n ** 50n - 1n);
  });

  // ── periodic ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const periodic = (guest: Caller, period: bigint, vcpu = 0): number => op(guest, 6, vcpu, area(guest, period));

  test('XE-BP-52 KF-54 periods from 1 ms to 2^62-1 ns; others are EINVAL', () => {
    const guest = make();
    for (const period of [0n, 1n, MS - 1n, 2n ** 62n, 2n ** 63n - 1n, 2n ** 64n - 1n]) {
      expect(periodic(guest, period)).toBe(EINVAL);
    }
    expect(guest.domain.vm.nextDeadline()).toBeNull();
    for (const period of [MS, 2n ** 62n - 1n]) expect(periodic(guest, period)).toBe(0);
    expect(op(guest, 6, 0, END)).toBe(EFAULT);
  });

  test('XE-BP-51 XE-BP-52 it ticks every period; the first tick is due a period after the last, which may be now', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = timerPort(guest);
    // The first ever: a second has passed since time began.
    expect(periodic(guest, 10n * MS)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
    for (let i = 0; i < 3; i++) {
      clock.advance(10n * MS - 1n);
      expect(domain.vm.tick()).toBe(0);
      clock.advance(1n);
      expect([domain.vm.tick(), drained(domain.vm)]).toEqual([1, [port]]);
    }
    // 4 ms after a tick: a new period counts from that tick.
    clock.advance(4n * MS);
    expect(periodic(guest, 5n * MS)).toBe(0);
    expect([drained(domain.vm), domain.vm.nextDeadline()]).toEqual([[], clock.now() + MS]);
    clock.advance(2n * MS);
    expect(periodic(guest, MS)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
    expect(op(guest, 7, 0)).toBe(0);
    expect(op(guest, 7, 0)).toBe(0);
    expect(domain.vm.nextDeadline()).toBeNull();
  });

  test('XE-BP-52 KF-54 ticks that were missed are one; a clock that is set back by a year does not stop them', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = timerPort(guest);
    periodic(guest, MS);
    drained(domain.vm);
    clock.advance(365n * 86_400n * 1000n * MS);
    expect([domain.vm.tick(), drained(domain.vm)]).toEqual([1, [port]]);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + MS);
    domain.vm.kvmclock.set(1000n);
    clock.advance(MS);
    domain.vm.tick();
    expect(domain.vm.nextDeadline()).toBe(clock.now() + MS);
    clock.advance(MS);
    domain.vm.tick();
    clock.advance(MS);
    expect(domain.vm.tick()).toBeLessThan(2);
  });

  test('XE-BP-51 it is beside the singleshot timer, and of any vCPU; each raises its own VIRQ', () => {
    const guest = make();
    const { clock, domain } = guest;
    registerVcpuInfo(guest, 1, VCPU_INFO_FRAME, 64);
    quiet(guest, 1, VCPU_INFO_FRAME * 4096 + 64);
    const [mine, others] = [timerPort(guest), timerPort(guest, 1)];
    expect(periodic(guest, 2n * MS, 1)).toBe(0);
    expect(drained(domain.vm, 1)).toEqual([others]);
    singleshot(guest, START + MS);
    clock.advance(2n * MS);
    expect(domain.vm.tick()).toBe(2);
    expect([drained(domain.vm), drained(domain.vm, 1)]).toEqual([[mine], [others]]);
  });

  test('KF-14 a tick while shared_info cannot be mapped is not lost: it is due until it was told', () => {
    const guest = make();
    const { clock, domain } = guest;
    const port = timerPort(guest);
    periodic(guest, MS);
    drained(domain.vm);
    clock.advance(MS);
    domain.vm.invalidateStart(domain.vm.guestBase, domain.vm.guestBase + domain.vm.guestBytes - 1);
    expect(domain.vm.tick()).toBe(0);
    expect(domain.vm.nextDeadline()).toBeLessThanOrEqual(clock.now());
    domain.vm.invalidateEnd();
    expect([domain.vm.tick(), drained(domain.vm)]).toEqual([1, [port]]);
    expect(domain.vm.nextDeadline()).toBe(clock.now() + MS);
  });

  // ── vcpu_info ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-30 register_vcpu_info: checks in order, and once for each vCPU', () => {
    const guest = makeCaller({ long, shared, vcpus: 2 });
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    const word = long ? 8 : 4;
    expect(op(guest, 10, 0, END)).toBe(EFAULT);
    for (const offset of [4096, 2 ** 31, 2 ** 32 - 1]) expect(registerVcpuInfo(guest, 0, 4, offset)).toBe(EINVAL);
    for (const offset of [4095, 4033, 1, word - 1, word + 1]) expect(registerVcpuInfo(guest, 0, 4, offset)).toBe(ENXIO);
    for (const frame of [PAGES, 2 ** 40, 2n ** 52n, 2n ** 64n - 1n])
      expect(registerVcpuInfo(guest, 0, frame, 0)).toBe(EINVAL);
    expect(registerVcpuInfo(guest, 0, 4, word)).toBe(0);
    expect(registerVcpuInfo(guest, 0, 5, 0)).toBe(EBUSY);
    expect(registerVcpuInfo(guest, 0, 5, 1)).toBe(EBUSY);
    expect(registerVcpuInfo(guest, 1, 4, 4096 - 64)).toBe(0);
    expect(guest.domain.vm.vcpu(1).getAttr('vcpu_info').gpa).toBe(4 * 4096 + 4032);
  });

  test('XE-BP-30 RAM that may not be written is EACCES, and nothing has changed', () => {
    const guest = makeCaller({ long, shared });
    const { vm } = guest.domain;
    const at = END + 65536;
    vm.memslots.set({ id: 1, gpa: gpa(at), bytes: 4096, hva: hva(vm.guestBase), readonly: true });
    expect(registerVcpuInfo(guest, 0, at / 4096, 0)).toBe(EACCES);
    expect(vm.vcpu(0).getAttr('vcpu_info').gpa).toBeNull();
    expect(registerVcpuInfo(guest, 0, 4, 0)).toBe(0);
  });

  test('XE-2L-30 it moves with what is in it, asks the guest to look at every word, and its time is right at once', () => {
    const guest = makeCaller({ long, shared });
    const { domain } = guest;
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    const old = SHARED_INFO_FRAME * 4096;
    const [selector, width] = long ? [8, 8] : [4, 4];
    const bytes = ram(domain.vm);
    bytes[old + 1] = 1;
    bytes[old + (long ? 16 : 8)] = 0x77;
    const to = VCPU_INFO_FRAME * 4096 + 256;
    bytes.fill(0xa5, to - 16, to + 80);
    guest.clock.advance(MS);
    expect(registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 256)).toBe(0);
    expect([bytes[to], bytes[to + 1], bytes[to + (long ? 16 : 8)]]).toEqual([1, 1, 0x77]);
    expect([...bytes.subarray(to + selector, to + selector + width)]).toEqual(
      Array.from({ length: width }, () => 0xff),
    );
    expect(u32(guest, to + 32) % 2).toBe(0);
    expect(u32(guest, to + 32)).toBeGreaterThan(0);
    expect(u64(guest, to + 48)).toBe(START + MS);
    expect(u32(guest, to + 56)).not.toBe(0);
    expectUntouched(guest, to - 16);
    expectUntouched(guest, to + 64);
    expect(domain.vm.vcpu(0).upcallPending).toBe(true);
  });

  test('XE-MOD-32 a vCPU from 32 on has no place in shared_info: none of its events arrives until it registers one, which is masked at first', () => {
    const guest = makeCaller({ long, shared, vcpus: 33, guestPages: 32 });
    const { domain } = guest;
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    expect(domain.vm.vcpu(31).getAttr('vcpu_info').gpa).toBe(SHARED_INFO_FRAME * 4096 + 31 * 64);
    expect(domain.vm.vcpu(32).getAttr('vcpu_info').gpa).toBeNull();
    const port = domain.evtchn.bindIpi({ vcpu: 32 });
    expect(domain.send(port)).toBe(0);
    ram(domain.vm).fill(0xa5, AREA, AREA + 64);
    expect(registerVcpuInfo(guest, 32, AREA / 4096, 0)).toBe(0);
    const bytes = ram(domain.vm);
    expect([bytes[AREA], bytes[AREA + 1], bytes[AREA + 2], bytes[AREA + 30]]).toEqual([1, 1, 0, 0]);
    expect(drained(domain.vm, 32)).toEqual([port]);
  });

  test('XE-2L-30 an event that was raised in the old place is found in the new one', () => {
    const guest = makeCaller({ long, shared });
    const { domain } = guest;
    addToPhysmap(guest, 0, 0, SHARED_INFO_FRAME);
    const port = domain.evtchn.bindIpi({ vcpu: 0 });
    domain.send(port);
    ram(domain.vm).fill(0, SHARED_INFO_FRAME * 4096, SHARED_INFO_FRAME * 4096 + 16);
    expect(registerVcpuInfo(guest, 0, VCPU_INFO_FRAME, 0)).toBe(0);
    expect(drained(domain.vm)).toEqual([port]);
  });

  // ── areas ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('XE-BP-31 the runstate area is written at once and at every change; address 0 takes it away', () => {
    const guest = make();
    const { clock, domain } = guest;
    const vcpu = domain.vm.vcpu(0);
    vcpu.enterRunstate('running', domain.vm.kvmclock.now());
    ram(domain.vm).fill(0xa5, AREA, AREA + 64);
    expect(op(guest, 5, 0, area(guest, AREA + 4))).toBe(0);
    const [entry, times, size] = long ? [8, 16, 48] : [4, 12, 44];
    expect([u32(guest, AREA + 4), u64(guest, AREA + 4 + entry)]).toEqual([0, START]);
    expectUntouched(guest, AREA, 4);
    expectUntouched(guest, AREA + 4 + size, 12);
    clock.advance(5n * MS);
    vcpu.enterRunstate('blocked', domain.vm.kvmclock.now());
    expect([u32(guest, AREA + 4), u64(guest, AREA + 4 + times)]).toEqual([2, 5n * MS]);
    expect(op(guest, 5, 0, area(guest, 0))).toBe(0);
    vcpu.enterRunstate('running', domain.vm.kvmclock.now());
    expect(u32(guest, AREA + 4)).toBe(2);
  });

  test('XE-BP-31 an address that leads nowhere is EFAULT, and what was registered stays', () => {
    const guest = make();
    expect(op(guest, 5, 0, area(guest, AREA))).toBe(0);
    for (const address of [END, END - 20, 2n ** 52n, 2n ** 63n]) {
      expect(op(guest, 5, 0, area(guest, long ? address : BigInt.asUintN(32, BigInt(address)) || BigInt(END)))).toBe(
        EFAULT,
      );
    }
    expect(op(guest, 5, 0, END)).toBe(EFAULT);
    expect(guest.domain.vm.vcpu(0).getAttr('runstate_addr').gpa).toBe(AREA);
  });

  test('KF-49 an area across two pages that are apart in the guest’s memory: both are followed, nothing else is touched', () => {
    const guest = make();
    const { clock, cpu, domain } = guest;
    const vcpu = domain.vm.vcpu(0);
    // Virtual page 10 is frame 12, virtual page 11 is frame 6; arguments are where they were.
    const pages = new Map([
      [10, 12],
      [11, 6],
    ]);
    cpu.translate = (address) => {
      const page = pages.get(Number(address >> 12n));
      return page === undefined ? Number(address) : page * 4096 + Number(address & 0xfffn);
    };
    vcpu.enterRunstate('running', domain.vm.kvmclock.now());
    const bytes = ram(domain.vm);
    for (const frame of [6, 12, 13]) bytes.fill(0xa5, frame * 4096, frame * 4096 + 4096);
    const room = 20;
    expect(op(guest, 5, 0, area(guest, 11 * 4096 - room))).toBe(0);
    clock.advance(7n * MS);
    vcpu.enterRunstate('blocked', domain.vm.kvmclock.now());
    const size = long ? 48 : 44;
    const whole = new Uint8Array(size);
    whole.set(bytes.subarray(13 * 4096 - room, 13 * 4096));
    whole.set(bytes.subarray(6 * 4096, 6 * 4096 + size - room), room);
    const view = new DataView(whole.buffer);
    const [entry, times] = long ? [8, 16] : [4, 12];
    expect(view.getInt32(0, true)).toBe(2);
    expect(view.getBigUint64(entry, true)).toBe(START + 7n * MS);
    expect(view.getBigUint64(times, true)).toBe(7n * MS);
    expectUntouched(guest, 13 * 4096);
    expectUntouched(guest, 6 * 4096 + size - room);
    expectUntouched(guest, 13 * 4096 - room - 16);
    // The mappings go away and come back.
    dropMappings(domain.vm);
    clock.advance(MS);
    vcpu.enterRunstate('running', domain.vm.kvmclock.now());
    expect(fields(domain.vm).getInt32(13 * 4096 - room, true)).toBe(0);
    expectUntouched(guest, 13 * 4096);
  });

  test('XE-BP-32 the time area is filled at once and follows the clock; across a page it is EFAULT; address 0 takes it away', () => {
    const guest = make();
    const { domain } = guest;
    expect(op(guest, 13, 0, area(guest, AREA + 8))).toBe(0);
    expect([u32(guest, AREA + 8) % 2, u64(guest, AREA + 8 + 16)]).toEqual([0, START]);
    expect(u32(guest, AREA + 8 + 24)).not.toBe(0);
    domain.vm.kvmclock.set(77n);
    domain.vm.vcpu(0).beforeEntry();
    expect(u64(guest, AREA + 8 + 16)).toBe(77n);
    expect(op(guest, 13, 0, area(guest, AREA + 4096 - 16))).toBe(EFAULT);
    expect(op(guest, 13, 0, area(guest, END))).toBe(EFAULT);
    expect(op(guest, 13, 0, area(guest, 0))).toBe(0);
    expect(domain.vm.vcpu(0).getAttr('vcpu_time_info').gpa).toBeNull();
  });

  test('areas by guest-physical address: aligned, within a page, all ones take them away', () => {
    const guest = make();
    const vcpu = guest.domain.vm.vcpu(1);
    for (const command of [14, 15]) {
      expect(op(guest, command, 1, area(guest, AREA + 16))).toBe(0);
      expect(op(guest, command, 1, area(guest, AREA + 2))).toBe(ENXIO);
      expect(op(guest, command, 1, area(guest, AREA + 4096 - 16))).toBe(ENXIO);
      for (const address of [END, 2n ** 52n, 2n ** 64n - 8n])
        expect(op(guest, command, 1, area(guest, address))).toBe(EINVAL);
    }
    expect([vcpu.getAttr('runstate_addr').gpa, vcpu.getAttr('vcpu_time_info').gpa]).toEqual([AREA + 16, AREA + 16]);
    for (const command of [14, 15]) expect(op(guest, command, 1, area(guest, 2n ** 64n - 1n))).toBe(0);
    expect([vcpu.getAttr('runstate_addr').gpa, vcpu.getAttr('vcpu_time_info').gpa]).toEqual([null, null]);
  });

  test('get_runstate_info counts the present state up to now; get_physid is for pinned vCPUs', () => {
    const guest = make();
    const { clock, domain } = guest;
    domain.vm.vcpu(1).enterRunstate('blocked', domain.vm.kvmclock.now());
    clock.advance(3n * MS);
    const [entry, times, size] = long ? [8, 16, 48] : [4, 12, 44];
    const at = put(guest, size, []);
    expect(op(guest, 4, 1, at)).toBe(0);
    expect([u32(guest, at), u64(guest, at + entry), u64(guest, at + times + 16)]).toEqual([2, START, 3n * MS]);
    expectUntouched(guest, at + size);
    expect(op(guest, 4, 1, END - size + 1)).toBe(EFAULT);
    expect(op(guest, 12, 0, at)).toBe(EINVAL);
  });

  // ── vCPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────

  test('up, down and is_up: a vCPU is up once it has made a call; the last one that goes down ends the domain', () => {
    const told: unknown[] = [];
    const onVcpu = ({ index }: { index: number }, up: boolean): void => void told.push([index, up]);
    const guest = make({ hvm: { onVcpu } });
    expect([op(guest, 3, 0), op(guest, 3, 1), op(guest, 1, 1)]).toEqual([1, 0, EINVAL]);
    expect(op(guest, 3, 1, 0, 1)).toBe(1);
    expect(op(guest, 2, 1)).toBe(0);
    expect([op(guest, 3, 1), op(guest, 2, 1), op(guest, 1, 1), op(guest, 1, 1), op(guest, 3, 1)]).toEqual([
      0, 0, 0, 0, 1,
    ]);
    expect(told).toEqual([
      [1, false],
      [1, true],
    ]);
    guest.domain.hvm.setUp(guest.domain.vm.vcpu(1), false);
    expect(op(guest, 2, 0)).toBe(0);
    expect(guest.domain.hvm.shutdownReason).toBe('poweroff');
  });

  test('initialise and send_nmi are the embedder’s', () => {
    const told: unknown[] = [];
    const guest = make({
      hvm: {
        onVcpuInitialise: ({ index }: { index: number }, context: bigint) => told.push([index, context]) - 18,
        onNmi: ({ index }: { index: number }) => void told.push(index),
      },
    });
    expect(op(guest, 0, 1, 0x1234)).toBe(-17);
    expect([op(guest, 11, 1, 5), op(guest, 11, 1)]).toEqual([EINVAL, 0]);
    expect(told).toEqual([[1, 0x1234n], 1]);
    const bare = make();
    expect([op(bare, 0, 1), op(bare, 11, 1)]).toEqual([ENOSYS, ENOSYS]);
  });

  test('XE-BP-54 vm_assist 5 marks the runstate while it is written; other types are EINVAL, other commands ENOSYS', () => {
    const guest = make();
    const flag = (): boolean => guest.domain.vm.getAttr('runstate_update_flag').enabled;
    expect([answer(guest, 21, [0, 5]), flag()]).toEqual([0, true]);
    expect([answer(guest, 21, [1, 5]), flag()]).toEqual([0, false]);
    for (const type of [0, 1, 4, 6, 64, 2 ** 32 - 1]) expect(answer(guest, 21, [0, type])).toBe(EINVAL);
    expect(answer(guest, 21, [2, 5])).toBe(ENOSYS);
    const plain = make({ schedInfo: false });
    expect(answer(plain, 21, [0, 5])).toBe(EINVAL);
    expect(op(plain, 5, 0, area(plain, AREA))).toBe(0);
  });
});

test('XE-QE-05 what QEMU does not handle is ENOSYS in its dialect', () => {
  const guest = makeGuest({ dialect: 'qemu', long: false });
  for (const command of [0, 1, 2, 3, 4, 11, 12, 14, 15]) expect(answer(guest, VCPU, [command, 0, END])).toBe(ENOSYS);
  expect(answer(guest, 21, [0, 5])).toBe(ENOSYS);
  expect(answer(guest, VCPU, [6, 0, put(guest, 8, [[0, 8, MS]])])).toBe(0);
  expect(guest.domain.vm.region.words.load64(guest.domain.hvm.record.vcpu(0) + HVM_VCPU_PERIOD)).toBe(MS);
  expect(call(guest, VCPU, [9, 0])).toEqual({ kind: 'handled', result: 0n });
});
