// Hypercalls: who handles them, registers and results, and each that is answered here. [KX-HCL-10..14, 20..24, 30, 40..53]

import { describe, expect, test } from 'vitest';
import { attachVm, FlatCpu, type GuestCpu } from '../../src/index.ts';
import { drained, fields, KINDS, LAYOUTS, maskBit, pendingBit, ram, random, SHARED_INFO_GPA } from '../support.ts';
import { cast, changed, changes, dropMappings, guestSets, refuses } from './evidence.ts';
import {
  ARGUMENT,
  answer,
  argument32,
  CALLERS,
  CALLS,
  call,
  END,
  type Guest,
  leaves,
  load,
  loopback,
  MSR,
  makeGuest,
  pollArgument,
  RIP,
  setVector,
  VECTOR,
} from './guest.ts';
import { outside } from './values.ts';

const SET_TIMER_OP = 15;
const XEN_VERSION = 17;
const VCPU_OP = 24;
const SCHED_OP = 29;
const EVENT_CHANNEL_OP = 32;
const YIELD = 0;
const POLL = 3;
const SEND = 4;
const SET_SINGLESHOT = 8;
const STOP_SINGLESHOT = 9;
const EFAULT = -14;
const EINVAL = -22;
const VERSION = 0x40011;
const MS = 1_000_000n;
/** the second halves of registers are told apart by these */
const PATTERN = [1, 2, 3, 4, 5, 6].map((n) => 0xdeadbeef5a5a0000n + BigInt(n));

describe.each(CALLS)('$layout layout, shared memory: $shared, $caller caller', (kind) => {
  const { long, longMode, shared, maxPorts } = kind;
  const make = (more = {}): Guest => makeGuest({ long, longMode, shared, ...more });
  const cut = (value: bigint): bigint => (long ? value : BigInt.asUintN(32, value));

  // ── dispatch ───────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-10 KX-GEN-05 a call that is not intercepted, or comes while the gate is closed, is not Xen’s', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'xen_version', version: VERSION });
    for (const config of [
      { msr: MSR, interceptHypercalls: false },
      { msr: 0, interceptHypercalls: true },
    ]) {
      guest.vm.setConfig(config);
      load(guest, 17n);
      const before = { ...guest.cpu.registers };
      expect(guest.vcpu.hypercall(guest.cpu)).toEqual({ kind: 'other', to: 'host' });
      expect([guest.cpu.registers, guest.cpu.rip]).toEqual([before, RIP]);
    }
    guest.vm.setConfig({ msr: MSR, interceptHypercalls: true });
    expect(answer(guest, XEN_VERSION, 0)).toBe(VERSION);
  });

  test('KX-HCL-10 with Hyper-V offered, bit 31 of the number says Hyper-V, from any privilege; without, it is a number', () => {
    const hyperv = make({ hyperv: true });
    for (const cpl of [0, 3]) {
      hyperv.cpu.cpl = cpl;
      expect(call(hyperv, 0x80000011, 0)).toEqual({ kind: 'other', to: 'hyperv' });
    }
    hyperv.cpu.cpl = 0;
    leaves(hyperv, 0x40000011, 0);
    hyperv.vm.setAttr({ type: 'xen_version', version: VERSION });
    expect(answer(hyperv, XEN_VERSION, 0)).toBe(VERSION);
    leaves(make(), 0x80000011, 0);
    hyperv.vm.setConfig({ msr: MSR });
    expect(call(hyperv, XEN_VERSION, 0)).toEqual({ kind: 'other', to: 'hyperv' });
  });

  test('KX-HCL-11 number and parameters come from the registers of the caller’s mode, cut to its width', () => {
    const guest = make();
    const { registers } = guest.cpu;
    const names = ['rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp', 'r8', 'r9', 'r10'] as const;
    for (const [i, name] of names.entries()) registers[name] = 0xabcdef0100000000n + BigInt(i);
    const order = long
      ? (['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const)
      : (['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const);
    expect(guest.vcpu.hypercall(guest.cpu)).toEqual({
      kind: 'exit',
      exit: { longMode: long, cpl: 0, input: cut(registers.rax), params: order.map((name) => cut(registers[name])) },
    });
  });

  test.each([1, 2, 3])(
    'KX-HCL-12 X-21 KF-59 calls from CPL %i always leave, and nothing of them happens here',
    (cpl) => {
      const guest = make();
      guest.vm.setAttr({ type: 'xen_version', version: VERSION });
      guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
      loopback(guest, 127, 15);
      guest.cpu.cpl = cpl;
      argument32(guest, 127);
      const calls = [
        [XEN_VERSION, 0],
        [EVENT_CHANNEL_OP, SEND, ARGUMENT],
        [SCHED_OP, YIELD],
        [SCHED_OP, POLL, ARGUMENT],
        [SET_TIMER_OP, 5],
        [VCPU_OP, STOP_SINGLESHOT, 0],
      ] as const;
      for (const [number, ...params] of calls) {
        const before = ram(guest.vm).slice();
        leaves(guest, number, ...params);
        expect(changes(before, ram(guest.vm))).toEqual([]);
      }
      expect(pendingBit(guest.vm, 15)).toBe(false);
      expect(guest.vcpu.getAttr('timer').expires).toBe(0n);
      const result = call(guest, XEN_VERSION, 0);
      expect(result.kind === 'exit' && result.exit.cpl).toBe(cpl);
    },
  );

  test('KX-HCL-13 a handled call sets all of RAX and goes on behind the instruction', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'xen_version', version: 0xffffffff });
    expect(call(guest, XEN_VERSION, 0)).toEqual({ kind: 'handled', result: 0xffffffffn });
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([0xffffffffn, RIP + 3n]);
    expect(call(guest, EVENT_CHANNEL_OP, SEND, END)).toEqual({ kind: 'handled', result: 2n ** 64n - 14n });
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([2n ** 64n - 14n, RIP + 6n]);
    guest.cpu.instructionLength = 0;
    call(guest, SCHED_OP, YIELD);
    expect(guest.cpu.rip).toBe(RIP + 6n);
  });

  test('KX-HCL-13 the instruction pointer wraps at the end of the caller’s addresses', () => {
    const guest = make();
    guest.cpu.rip = long ? 2n ** 64n - 2n : 2n ** 32n - 2n;
    call(guest, SCHED_OP, YIELD);
    expect(guest.cpu.rip).toBe(1n);
  });

  test('KX-HCL-14 the result of the embedder goes to RAX, and the guest goes on behind the instruction; once', () => {
    const guest = make();
    leaves(guest, 99, 1);
    const result = 0xcafef00dfbfbffffn;
    expect(guest.vcpu.completeHypercall(guest.cpu, result)).toBe(true);
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([result, RIP + 3n]);
    refuses(guest.vm, () => guest.vcpu.completeHypercall(guest.cpu, 0n), 'EINVAL', 'no hypercall');
  });

  test('KX-HCL-14 X-24 a completion is dropped when RIP has changed: RAX and RIP stay, and it does not wait any more', () => {
    const guest = make();
    leaves(guest, 99, 1);
    const { rax } = guest.cpu.registers;
    guest.cpu.rip = RIP + 0x10n;
    expect(guest.vcpu.completeHypercall(guest.cpu, 5n)).toBe(false);
    expect([guest.cpu.registers.rax, guest.cpu.rip]).toEqual([rax, RIP + 0x10n]);
    guest.cpu.rip = RIP;
    refuses(guest.vm, () => guest.vcpu.completeHypercall(guest.cpu, 5n), 'EINVAL', 'no hypercall');
    expect(guest.cpu.registers.rax).toBe(rax);
  });

  test('KX-HCL-14 the last exit is the one that waits, a handled call in between leaves it alone; vCPUs wait apart', () => {
    const guest = make({ vcpus: 2 });
    const other = guest.vm.vcpu(1);
    leaves(guest, 99);
    guest.cpu.rip = RIP + 0x100n;
    leaves(guest, 98);
    refuses(guest.vm, () => other.completeHypercall(guest.cpu, 0n), 'EINVAL', 'vCPU 1');
    guest.cpu.rip = RIP + 0x200n;
    expect(answer(guest, SCHED_OP, YIELD)).toBe(0);
    guest.cpu.rip = RIP + 0x100n;
    expect(guest.vcpu.completeHypercall(guest.cpu, 7n)).toBe(true);
    expect(guest.cpu.registers.rax).toBe(7n);
  });

  test('KX-HCL-14 what makes no sense is refused, and no byte of the memory and no register changes', () => {
    const guest = make();
    leaves(guest, 99);
    const before = { ...guest.cpu.registers };
    for (const bad of [-1n, 2n ** 64n, cast<bigint>(5), cast<bigint>(undefined)]) {
      refuses(guest.vm, () => guest.vcpu.completeHypercall(guest.cpu, bad), 'EINVAL', 'the result', String(bad));
    }
    guest.cpu.rip = -1n;
    refuses(guest.vm, () => guest.vcpu.completeHypercall(guest.cpu, 0n), 'EINVAL', 'rip');
    guest.cpu.rip = RIP;
    expect(guest.cpu.registers).toEqual(before);
    expect(guest.vcpu.completeHypercall(guest.cpu, 2n ** 64n - 1n)).toBe(true);
  });

  test('KF-59 BigInts outside u64, a wrong privilege level and a wrong length are refused before anything happens', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'xen_version', version: VERSION });
    const names = long ? (['rax', 'rdi', 'r10', 'r9'] as const) : (['rax', 'rbx', 'rdi', 'rbp'] as const);
    for (const name of names) {
      for (const bad of [-1n, 2n ** 64n, cast<bigint>(0), cast<bigint>(undefined)]) {
        load(guest, 17n, 0n);
        guest.cpu.registers[name] = bad;
        refuses(guest.vm, () => guest.vcpu.hypercall(guest.cpu), 'EINVAL', name, String(bad));
      }
    }
    load(guest, 17n, 0n);
    for (const bad of outside(0, 3, [4, 255])) {
      refuses(guest.vm, () => guest.vcpu.hypercall(cpuWith(guest, { cpl: cast(bad) })), 'EINVAL', 'privilege');
    }
    for (const bad of outside(0, 15)) {
      const cpu = cpuWith(guest, { instructionLength: cast(bad) });
      refuses(guest.vm, () => guest.vcpu.hypercall(cpu), 'EINVAL', 'instruction');
    }
    refuses(guest.vm, () => guest.vcpu.hypercall(cpuWith(guest, { rip: 2n ** 64n })), 'EINVAL', 'rip');
    expect(answer(guest, XEN_VERSION, 0)).toBe(VERSION);
  });

  test('a detached view refuses hypercalls', () => {
    const guest = make();
    leaves(guest, 99);
    guest.vm.detach();
    for (const [name, use] of [
      ['hypercall', () => guest.vcpu.hypercall(guest.cpu)],
      ['completeHypercall', () => guest.vcpu.completeHypercall(guest.cpu, 0n)],
      ['writeMsr', () => guest.vcpu.writeMsr(guest.cpu, MSR, 0n)],
      ['setLapicEnabled', () => guest.vcpu.setLapicEnabled(true)],
    ] as const) {
      expect(use, name).toThrow('EBADF');
    }
  });

  test('readVirtual that answers another number of bytes is told so; what it throws arrives', () => {
    const guest = make();
    load(guest, 32n, 4n, BigInt(ARGUMENT));
    const short: GuestCpu['readVirtual'] = () => new Uint8Array(3);
    refuses(
      guest.vm,
      () => guest.vcpu.hypercall(cpuWith(guest, { readVirtual: short })),
      'EINVAL',
      'readVirtual',
      4,
      3,
    );
    const failing: GuestCpu['readVirtual'] = () => {
      throw new RangeError('mine');
    };
    expect(() => guest.vcpu.hypercall(cpuWith(guest, { readVirtual: failing }))).toThrow(RangeError);
  });

  test('KF-47 an argument may be handed over as a view of live memory: it is copied before anything is made of it', () => {
    const guest = make();
    loopback(guest, 127, 15);
    argument32(guest, 127);
    const live: GuestCpu['readVirtual'] = (address, length) =>
      ram(guest.vm).subarray(Number(address)).subarray(0, length);
    load(guest, 32n, 4n, BigInt(ARGUMENT));
    expect(guest.vcpu.hypercall(cpuWith(guest, { readVirtual: live }))).toEqual({ kind: 'handled', result: 0n });
    expect(pendingBit(guest.vm, 15)).toBe(true);
  });

  test('KF-47 an argument is read once, by its address and size in the caller’s width', () => {
    const guest = make();
    loopback(guest, 127, 15);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    argument32(guest, 127);
    const reads: [bigint, number][] = [];
    const cpu = cpuWith(guest, {
      readVirtual: (address, length) => {
        reads.push([address, length]);
        return guest.cpu.readVirtual(address, length);
      },
    });
    load(guest, 32n, 4n, BigInt(ARGUMENT));
    guest.vcpu.hypercall(cpu);
    load(guest, 24n, 8n, 0n, BigInt(ARGUMENT));
    guest.vcpu.hypercall(cpu);
    pollArgument(guest, [7, 8, 9]);
    guestSets(guest.vm, 'pending', 9);
    load(guest, 29n, 3n, BigInt(ARGUMENT));
    guest.vcpu.hypercall(cpu);
    expect(reads).toEqual([
      [BigInt(ARGUMENT), 4],
      [BigInt(ARGUMENT), long ? 16 : 12],
      [BigInt(ARGUMENT), long ? 24 : 16],
      [BigInt(9 * 4096), 12],
    ]);
  });

  // ── each hypercall ─────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-20 xen_version answers XENVER_version if a version is set, else all of it is the embedder’s', () => {
    const guest = make();
    leaves(guest, XEN_VERSION, 0);
    guest.vm.setAttr({ type: 'xen_version', version: 0x80040011 });
    expect(answer(guest, XEN_VERSION, 0)).toBe(0x80040011);
    for (const command of [1, 2, 0xffffffffn]) leaves(guest, XEN_VERSION, command);
    guest.vm.setAttr({ type: 'xen_version', version: 0 });
    leaves(guest, XEN_VERSION, 0);
  });

  test('KX-HCL-24 every hypercall and command that is not handled here leaves', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'xen_version', version: VERSION });
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    loopback(guest, 127, 15);
    argument32(guest, 127);
    const handled = new Set([SET_TIMER_OP, XEN_VERSION, VCPU_OP, SCHED_OP, EVENT_CHANNEL_OP]);
    for (let number = 0; number < 64; number++) if (!handled.has(number)) leaves(guest, number, 0, ARGUMENT, ARGUMENT);
    for (const number of [0x7fffffff, 0xffffffff]) leaves(guest, number, 0, ARGUMENT);
    if (long) leaves(guest, XEN_VERSION + 2 ** 32, 0);
  });

  test('KX-HCL-21 event_channel_op: send only', () => {
    const guest = make();
    loopback(guest, 127, 15);
    argument32(guest, 127);
    for (let command = 0; command < 16; command++) {
      if (command !== SEND) leaves(guest, EVENT_CHANNEL_OP, command, ARGUMENT);
    }
    expect(pendingBit(guest.vm, 15)).toBe(false);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(pendingBit(guest.vm, 15)).toBe(true);
  });

  test('KX-HCL-22 KX-HCL-30 sched_op: yield succeeds; block, shutdown and the others are the embedder’s', () => {
    const guest = make();
    expect(changed(guest.vm, () => expect(answer(guest, SCHED_OP, YIELD)).toBe(0))).toEqual([]);
    for (const command of [1, 2, 4, 5, 6, 7, 0xffffffff]) leaves(guest, SCHED_OP, command, ARGUMENT);
  });

  test('KX-HCL-40 KX-ABI-32 send: an argument that cannot be read is EFAULT, a port that is not registered the embedder’s', () => {
    const guest = make();
    loopback(guest, 127, 15);
    for (const at of [END, END - 3, 0xfffffffen]) expect(answer(guest, EVENT_CHANNEL_OP, SEND, at)).toBe(EFAULT);
    for (const port of [0, 126, 128, maxPorts - 1, maxPorts, 4095, 4096, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      argument32(guest, port);
      leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
    }
    argument32(guest, 127, END - 4);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, END - 4)).toBe(0);
    // Across two pages, at an odd address.
    argument32(guest, 127, ARGUMENT + 4095);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT + 4095)).toBe(0);
  });

  test('KX-HCL-41 KX-EVT-30..32 a loopback raises its target: delivered, coalesced and masked are 0 alike', () => {
    const guest = make({ vcpus: 2 });
    loopback(guest, 127, 15, 1);
    loopback(guest, 128, 16, 1);
    argument32(guest, 127);
    for (let i = 0; i < 2; i++) expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect([pendingBit(guest.vm, 15), pendingBit(guest.vm, 127)]).toEqual([true, false]);
    expect([guest.vm.vcpu(0).upcallPending, guest.vm.vcpu(1).upcallPending]).toEqual([false, true]);
    expect(drained(guest.vm, 1)).toEqual([15]);
    guest.vm.mask(16);
    argument32(guest, 128);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect([pendingBit(guest.vm, 16), maskBit(guest.vm, 16)]).toEqual([true, true]);
    expect(guest.vm.vcpu(1).upcallPending).toBe(false);
  });

  test('KX-HCL-41 KX-EVT-33, 34 a target that cannot be reached is the embedder’s: no vCPU, no page', () => {
    const guest = make();
    loopback(guest, 126, 14, 77);
    loopback(guest, 127, 15);
    argument32(guest, 126);
    leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
    argument32(guest, 127);
    dropMappings(guest.vm);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    guest.vm.setAttr({ type: 'shared_info', gfn: null });
    leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
  });

  test('KX-HCL-41 KX-EVA-16 KF-60 a target above the ports of the mode is the embedder’s, and nothing behind the bitmaps changes', () => {
    const guest = make();
    guest.vm.setAttr({ type: 'long_mode', enabled: true });
    loopback(guest, 4000, 2000);
    loopback(guest, 500, 3000);
    guest.vm.setAttr({ type: 'long_mode', enabled: longMode });
    for (const port of [4000, 500]) {
      argument32(guest, port);
      const before = ram(guest.vm).slice();
      if (longMode) expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
      else {
        leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
        expect(changes(before, ram(guest.vm))).toEqual([]);
      }
    }
  });

  test('KX-HCL-42 a send to an eventfd adds one to it', () => {
    const guest = make();
    const eventfd = guest.vm.eventfds.create(5);
    guest.vm.setAttr({
      type: 'evtchn',
      action: 'assign',
      sendPort: 197,
      channel: 'interdomain',
      target: { eventfd: eventfd.fd },
    });
    argument32(guest, 197);
    const before = ram(guest.vm).slice();
    for (let i = 0; i < 3; i++) expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(changes(before, ram(guest.vm))).toEqual([]);
    expect(eventfd.read()).toBe(8n);
  });

  test('KX-HCL-43 the target of a send port outlives the descriptor it was named by', () => {
    const guest = make();
    const eventfd = guest.vm.eventfds.create();
    const target = { eventfd: eventfd.fd };
    guest.vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 197, channel: 'interdomain', target });
    eventfd.close();
    argument32(guest, 197);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    guest.vm.setAttr({ type: 'evtchn', action: 'deassign', sendPort: 197 });
    leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
  });

  test('KX-HCL-44 a registered port is enough: the flag of the configuration is not asked', () => {
    const guest = make({ evtchnSend: false });
    loopback(guest, 127, 15);
    argument32(guest, 127);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(pendingBit(guest.vm, 15)).toBe(true);
  });

  // ── timers ─────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-HCL-53 KX-HCL-23 without a port the timer is the embedder’s, and periodic timers always are', () => {
    const guest = make();
    const calls = [
      [VCPU_OP, SET_SINGLESHOT, 0, ARGUMENT],
      [VCPU_OP, STOP_SINGLESHOT, 0, 0],
      [SET_TIMER_OP, 5],
      [SET_TIMER_OP, 0],
    ] as const;
    for (const [number, ...params] of calls) leaves(guest, number, ...params);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    for (const command of [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13]) leaves(guest, VCPU_OP, command, 0, ARGUMENT);
    singleshot(guest, 5n);
    for (const [number, ...params] of calls) expect(answer(guest, number, ...params)).toBe(0);
  });

  test('KX-HCL-50 KX-ABI-31 set_singleshot_timer: at the absolute time, however far, for the calling vCPU only', () => {
    const guest = make();
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    guest.vcpu.setAttr({ type: 'vcpu_id', id: 77 });
    const far = guest.vm.kvmclock.now() + (1n << 60n);
    singleshot(guest, far);
    expect(answer(guest, VCPU_OP, SET_SINGLESHOT, 77, ARGUMENT)).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(far);
    singleshot(guest, far + 1n);
    for (const id of [0, 1, 78, 0xffffffff]) {
      expect(answer(guest, VCPU_OP, SET_SINGLESHOT, id, ARGUMENT)).toBe(EINVAL);
      expect(answer(guest, VCPU_OP, STOP_SINGLESHOT, id, ARGUMENT)).toBe(EINVAL);
    }
    const size = long ? 16 : 12;
    expect(answer(guest, VCPU_OP, SET_SINGLESHOT, 77, END - size + 1)).toBe(EFAULT);
    expect(guest.vcpu.getAttr('timer').expires).toBe(far);
    singleshot(guest, far + 2n, 0, END - size);
    expect(answer(guest, VCPU_OP, SET_SINGLESHOT, 77, END - size)).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(far + 2n);
  });

  test('KX-HCL-50 KF-57 the flags are ignored: a time in the past is delivered at once, not refused with ETIME', () => {
    for (const flags of [0, 1, 2, 0xffffffff]) {
      const guest = make();
      guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
      singleshot(guest, guest.vm.kvmclock.now() - 5n, flags);
      expect(answer(guest, VCPU_OP, SET_SINGLESHOT, 0, ARGUMENT)).toBe(0);
      expect(pendingBit(guest.vm, 13)).toBe(true);
      expect(guest.vcpu.getAttr('timer').expires).toBe(0n);
    }
  });

  test('KX-HCL-51 stop_singleshot_timer: stopped, and nothing comes', () => {
    const guest = make();
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() + 5n * MS });
    expect(answer(guest, VCPU_OP, STOP_SINGLESHOT, 0, 0)).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(0n);
    guest.clock.advance(10n * MS);
    guest.vm.tick();
    expect(pendingBit(guest.vm, 13)).toBe(false);
  });

  test('KX-HCL-52 set_timer_op: 64 bits in a 64-bit call, two halves in a 32-bit one; 0 stops', () => {
    const guest = make();
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    const soon = guest.vm.kvmclock.now() + (1n << 34n) + 5n;
    expect(answer(guest, SET_TIMER_OP, ...halves(guest, soon))).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(soon);
    // What is 0 in its lower half alone does not stop.
    expect(answer(guest, SET_TIMER_OP, ...halves(guest, 1n << 40n))).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(1n << 40n);
    expect(answer(guest, SET_TIMER_OP, ...halves(guest, 0n))).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(0n);
    expect(pendingBit(guest.vm, 13)).toBe(false);
  });

  test('KX-HCL-52 KX-TMR-03 X-23 set_timer_op with the workaround: -1 and more than 2^50 ns ahead expire in 100 ms', () => {
    const guest = make();
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    const now = guest.vm.kvmclock.now();
    for (const time of [2n ** 64n - 1n, 2n ** 63n, now + (1n << 50n) + 1n]) {
      expect(answer(guest, SET_TIMER_OP, ...halves(guest, time))).toBe(0);
      expect(guest.vcpu.getAttr('timer').expires).toBe(now + 100n * MS);
    }
    const honest = now + (1n << 50n) - 1n;
    expect(answer(guest, SET_TIMER_OP, ...halves(guest, honest))).toBe(0);
    expect(guest.vcpu.getAttr('timer').expires).toBe(honest);
  });

  // ── scenarios ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('S-24 the guest sends port 127: 0, and an upcall for port 15', () => {
    const guest = make();
    setVector(guest);
    loopback(guest, 127, 15);
    argument32(guest, 127);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'enter', externalInterrupt: VECTOR, lapicInterrupt: 0 });
    expect(drained(guest.vm)).toEqual([15]);
  });

  test('S-25 the same after another memory slot was added: the caches are made again', () => {
    const guest = make({ memslots: 4 });
    setVector(guest);
    loopback(guest, 127, 15);
    argument32(guest, 127);
    const [first] = guest.vm.memslots.list();
    if (!first) expect.fail('no slot');
    guest.vm.memslots.set({ ...first, id: 2, gpa: cast(2 ** 32), bytes: 4096 });
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: VECTOR });
    expect(drained(guest.vm)).toEqual([15]);
  });

  test('S-26 the guest sends port 197: eventfd, interrupt, upcall for port 66', () => {
    const guest = make();
    setVector(guest);
    const eventfd = guest.vm.eventfds.create();
    guest.vm.routes.set([{ type: 'xen_evtchn', gsi: 33, port: 66, vcpu: 0 }]);
    guest.vm.eventfds.bindIrq(eventfd.fd, 33);
    guest.vm.setAttr({
      type: 'evtchn',
      action: 'assign',
      sendPort: 197,
      channel: 'interdomain',
      target: { eventfd: eventfd.fd },
    });
    argument32(guest, 197);
    expect(answer(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ kind: 'enter', externalInterrupt: VECTOR });
    expect(drained(guest.vm)).toEqual([66]);
  });

  test('S-30 set_timer_op 100 ms ahead: the host reads it back, and the upcall comes when it is time', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    const expires = guest.vm.kvmclock.now() + 100n * MS;
    expect(answer(guest, SET_TIMER_OP, ...halves(guest, expires))).toBe(0);
    expect(guest.vcpu.getAttr('timer')).toMatchObject({ port: 13, expires });
    guest.vcpu.beforeEntry();
    guest.clock.advance(100n * MS - 1n);
    guest.vm.tick();
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: 0 });
    guest.clock.advance(1n);
    guest.vm.tick();
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect(drained(guest.vm)).toEqual([13]);
  });

  test('V-01 xen_version with other parameters leaves with all of them; the host’s result arrives in RAX', () => {
    const guest = make({ hyperv: true });
    load(guest, 17n, ...PATTERN);
    expect(guest.vcpu.hypercall(guest.cpu)).toEqual({
      kind: 'exit',
      exit: {
        longMode: long,
        cpl: 0,
        input: 17n,
        params: PATTERN.map(
          (value) => (long ? value : value | (0xdeadbeefn << 32n)) & (long ? 2n ** 64n - 1n : 2n ** 32n - 1n),
        ),
      },
    });
    expect(guest.vcpu.completeHypercall(guest.cpu, 0xcafef00dfbfbffffn)).toBe(true);
    expect(guest.cpu.registers.rax).toBe(0xcafef00dfbfbffffn);
  });
});

// ── both modes ─────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  test('KF-65 every operation is there in both modes: mirrored calls have equal results and effects', () => {
    const next = random(65);
    const guests = CALLERS.map(({ long }) => {
      const guest = makeGuest({ long, longMode, shared });
      guest.vm.setAttr({ type: 'xen_version', version: VERSION });
      guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
      loopback(guest, 127, 15);
      loopback(guest, 5, 6);
      return guest;
    });
    for (let round = 0; round < 300; round++) {
      const what = next(8);
      const port = [5, 127, 128, 0, maxPorts - 1, maxPorts, 4095, 4096][next(8)] ?? 0;
      const time = BigInt(next(1_000_000)) * 10_000n;
      const good = next(4) > 0;
      const number = [0, 1, 16, 17, 18, 23, 25, 30, 31, 33][next(10)] ?? 0;
      const results = guests.map((guest) => {
        const before = ram(guest.vm).slice();
        const result = mirrored(guest, what, { port, time, good, number });
        const params = result.kind === 'exit' ? result.exit.input : null;
        const seen = result.kind === 'handled' ? result.result : params;
        // What the guest was told, and what has changed in its structures.
        const touched = changes(before, ram(guest.vm)).filter(([at]) => at < ARGUMENT);
        guest.vcpu.beforeEntry();
        return { kind: result.kind, seen, touched, timer: guest.vcpu.getAttr('timer') };
      });
      expect(results[0], `round ${round}, call ${what}`).toEqual(results[1]);
    }
  });

  test('KF-59 32-bit calls with anything in the upper halves are as with nothing', () => {
    const next = random(59);
    const word = (): bigint => BigInt(next(0x7fffffff)) * 2n + BigInt(next(2));
    for (let round = 0; round < 60; round++) {
      const number = BigInt([15, 17, 24, 29, 32, 3][next(6)] ?? 0);
      const params = [
        BigInt(next(10)),
        BigInt([0, ARGUMENT, END][next(3)] ?? 0),
        BigInt(ARGUMENT),
        word(),
        word(),
        word(),
      ];
      const results = [false, true].map((dirty) => {
        const guest = makeGuest({ long: false, longMode, shared: false });
        guest.vm.setAttr({ type: 'xen_version', version: VERSION });
        guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
        load(guest, number, ...params);
        const { registers } = guest.cpu;
        for (const name of Object.keys(registers) as (keyof typeof registers)[]) {
          registers[name] = BigInt.asUintN(32, registers[name]) | (dirty ? word() << 32n : 0n);
        }
        guest.cpu.rip = RIP | (dirty ? word() << 32n : 0n);
        const result = guest.vcpu.hypercall(guest.cpu);
        return [
          result,
          result.kind === 'exit' ? 0n : guest.cpu.rip,
          ram(guest.vm).slice(),
          guest.vcpu.getAttr('timer'),
        ];
      });
      expect(results[1], `round ${round}`).toEqual(results[0]);
    }
  });

  test('KF-58 each port argument at the ends of its range: the expected answer, and nothing else is touched', () => {
    for (const { long } of CALLERS) {
      for (const port of [0, 1, maxPorts - 1, maxPorts, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
        const guest = makeGuest({ long, longMode, shared });
        guest.vm.mask(1);
        argument32(guest, port);
        leaves(guest, EVENT_CHANNEL_OP, SEND, ARGUMENT);
        pollArgument(guest, [port]);
        const before = ram(guest.vm).slice();
        const result = call(guest, SCHED_OP, POLL, ARGUMENT);
        expect(changes(before, ram(guest.vm)), `port ${port}`).toEqual([]);
        if (port < maxPorts) expect(result).toEqual({ kind: 'blocked', deadline: null });
        else expect(result).toEqual({ kind: 'handled', result: 2n ** 64n - 22n });
      }
    }
  });

  test('KF-64 each way out of each hypercall sets a result or leaves, and says which', () => {
    const guest = makeGuest({ longMode, shared });
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    guest.vm.setAttr({ type: 'xen_version', version: VERSION });
    loopback(guest, 127, 15);
    const at = (write: () => number): number => write();
    const outcomes: [string, () => unknown, unknown][] = [
      ['version', () => answer(guest, XEN_VERSION, 0), VERSION],
      [
        'send',
        () =>
          answer(
            guest,
            EVENT_CHANNEL_OP,
            SEND,
            at(() => argument32(guest, 127)),
          ),
        0,
      ],
      ['send, no memory', () => answer(guest, EVENT_CHANNEL_OP, SEND, END), EFAULT],
      [
        'send, no port',
        () =>
          call(
            guest,
            EVENT_CHANNEL_OP,
            SEND,
            at(() => argument32(guest, 9)),
          ).kind,
        'exit',
      ],
      ['yield', () => answer(guest, SCHED_OP, YIELD), 0],
      ['poll, no memory', () => answer(guest, SCHED_OP, POLL, END), EFAULT],
      [
        'poll, no list',
        () =>
          answer(
            guest,
            SCHED_OP,
            POLL,
            at(() => pollArgument(guest, [], 0n, 129)),
          ),
        EINVAL,
      ],
      [
        'poll, bad port',
        () =>
          answer(
            guest,
            SCHED_OP,
            POLL,
            at(() => pollArgument(guest, [maxPorts])),
          ),
        EINVAL,
      ],
      [
        'poll, pending',
        () =>
          answer(
            guest,
            SCHED_OP,
            POLL,
            at(() => pollArgument(guest, [15])),
          ),
        0,
      ],
      [
        'poll',
        () =>
          call(
            guest,
            SCHED_OP,
            POLL,
            at(() => pollArgument(guest, [9])),
          ).kind,
        'blocked',
      ],
      [
        'singleshot',
        () =>
          answer(
            guest,
            VCPU_OP,
            SET_SINGLESHOT,
            0,
            at(() => singleshot(guest, 2n ** 40n)),
          ),
        0,
      ],
      ['singleshot, other vCPU', () => answer(guest, VCPU_OP, SET_SINGLESHOT, 1, ARGUMENT), EINVAL],
      ['singleshot, no memory', () => answer(guest, VCPU_OP, SET_SINGLESHOT, 0, END), EFAULT],
      ['stop', () => answer(guest, VCPU_OP, STOP_SINGLESHOT, 0), 0],
      ['stop, other vCPU', () => answer(guest, VCPU_OP, STOP_SINGLESHOT, 1), EINVAL],
      ['set_timer_op', () => answer(guest, SET_TIMER_OP, 2n ** 40n), 0],
      ['set_timer_op, stop', () => answer(guest, SET_TIMER_OP, 0), 0],
    ];
    for (const [name, run, expected] of outcomes) expect(run(), name).toBe(expected);
  });
});

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  test('KX-HCL-14 an exit that one agent has made is completed by another, who runs the vCPU now', () => {
    const guest = makeGuest({ longMode, shared: true });
    leaves(guest, 99);
    const other = attachVm(guest.vm.handle());
    const cpu = new FlatCpu(other, { longMode: true, rip: RIP });
    expect(other.vcpu(0).completeHypercall(cpu, 5n)).toBe(true);
    expect(cpu.registers.rax).toBe(5n);
    expect(() => guest.vcpu.completeHypercall(guest.cpu, 5n)).toThrow('no hypercall');
  });

  test('an attached agent that is not the owner may make every hypercall', () => {
    const guest = makeGuest({ longMode, shared: true });
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: 0n });
    loopback(guest, 127, 15);
    argument32(guest, 127);
    const vm = attachVm(guest.vm.handle(), { clock: guest.clock });
    const cpu = new FlatCpu(vm, { longMode: true });
    const visitor: Guest = { vm, vcpu: vm.vcpu(0), cpu, clock: guest.clock };
    expect(answer(visitor, EVENT_CHANNEL_OP, SEND, ARGUMENT)).toBe(0);
    expect(answer(visitor, SET_TIMER_OP, guest.vm.kvmclock.now() + MS)).toBe(0);
    expect(call(visitor, SCHED_OP, POLL, pollArgument(visitor, [7])).kind).toBe('blocked');
    expect(visitor.vcpu.writeMsr(cpu, MSR, 0x9000n)).toBe('written');
  });
});

test('FlatCpu: 64-bit mode at privilege level 0 and all registers 0 where nothing is said', () => {
  const { vm } = makeGuest();
  const cpu = new FlatCpu(vm);
  expect([cpu.longMode, cpu.lma, cpu.cpl, cpu.rip, cpu.instructionLength]).toEqual([true, true, 0, 0n, 3]);
  expect(Object.values(cpu.registers)).toEqual(Array.from({ length: 10 }, () => 0n));
  expect(new FlatCpu(vm, { longMode: false }).lma).toBe(false);
  expect(new FlatCpu(vm, { longMode: false, lma: true }).lma).toBe(true);
  expect(new FlatCpu(vm, { registers: { rdi: 7n } }).registers).toMatchObject({ rdi: 7n, rsi: 0n });
});

test('FlatCpu reads guest RAM and nothing else, at any address', () => {
  const { vm, cpu } = makeGuest();
  fields(vm).setUint32(END - 4, 0x12345678, true);
  expect(cpu.readVirtual(BigInt(END - 4), 4)).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  expect(cpu.readVirtual(BigInt(SHARED_INFO_GPA), 0)).toEqual(new Uint8Array(0));
  for (const at of [
    BigInt(END - 3),
    BigInt(END),
    2n ** 52n - 4n,
    2n ** 52n,
    2n ** 53n,
    2n ** 64n - 2n,
    2n ** 64n - 1n,
  ]) {
    expect(cpu.readVirtual(at, 4), String(at)).toBeNull();
  }
});

// ── helpers ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** A processor that differs from the guest's in something. */
function cpuWith({ cpu }: Guest, change: Partial<GuestCpu>): GuestCpu {
  const { longMode, lma, cpl, rip, instructionLength, registers } = cpu;
  const readVirtual: GuestCpu['readVirtual'] = (address, length) => cpu.readVirtual(address, length);
  return { longMode, lma, cpl, rip, instructionLength, registers, readVirtual, ...change };
}

/** A 64-bit time as parameters of the caller's mode. */
function halves({ cpu }: Guest, time: bigint): bigint[] {
  return cpu.longMode ? [time] : [time & 0xffffffffn, time >> 32n];
}

/** Writes a struct vcpu_set_singleshot_timer. @returns where it is */
function singleshot({ vm }: Guest, expires: bigint, flags = 0, at = ARGUMENT): number {
  fields(vm).setBigUint64(at, expires, true);
  fields(vm).setUint32(at + 8, flags, true);
  return at;
}

interface Mirrored {
  readonly port: number;
  readonly time: bigint;
  readonly good: boolean;
  readonly number: number;
}

/** One of the calls, with its arguments in the caller's layout. */
function mirrored(guest: Guest, what: number, { port, time, good, number }: Mirrored) {
  const at = (write: number): number => (good ? write : END);
  switch (what) {
    case 0:
      return call(guest, EVENT_CHANNEL_OP, SEND, at(argument32(guest, port)));
    case 1:
      return call(guest, SCHED_OP, POLL, at(pollArgument(guest, [port], time)));
    case 2:
      return call(guest, SCHED_OP, POLL, at(pollArgument(guest, [7, port, 15])));
    case 3:
      return call(guest, VCPU_OP, SET_SINGLESHOT, good ? 0 : 1, singleshot(guest, time));
    case 4:
      return call(guest, VCPU_OP, STOP_SINGLESHOT, good ? 0 : 1);
    case 5:
      return call(guest, SET_TIMER_OP, ...halves(guest, good ? time : 0n));
    case 6:
      return call(guest, XEN_VERSION, good ? 0 : 1);
    default:
      return call(guest, number, 63, ARGUMENT);
  }
}
