// Each bit of the capability, from the VMM's call to what the guest sees: a feature that is advertised and silently off shows.

import { describe, expect, test } from 'vitest';
import { FlatCpu, gpa, VirtualClock, type Vm } from '../../src/index.ts';
import { fields, KINDS, makeVm, pendingBit, ram, SHARED_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { tracing } from './evidence.ts';
import {
  attr,
  CHECK_EXTENSION,
  config,
  EVTCHN_SEND,
  evtchn,
  evtchnRoute,
  HVM_CONFIG,
  IRQ_LINE,
  memory,
  routing,
  runstate,
  SET_GSI_ROUTING,
  SET_USER_MEMORY_REGION,
  send,
  set,
  struct,
  u32,
  u64,
} from './structures.ts';

const MSR = 0x4000_0000;
const PAGE = 0x9000;
const TIME_INFO = 0x6000;
const RUNSTATE = 0x7000;
/** In pages that nothing else uses. */
const ARGUMENT = 0xa000;
const BLOB = 0xb000;

describe.each(KINDS)('KF-80 $layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const clock = (): VirtualClock => new VirtualClock(1_000_000_000n, 0n, { tscHz: 1_000_000_000 });

  /** A VM that says it has the feature. */
  function make(bit: number, options = {}): Vm {
    const vm = makeVm({ longMode, shared, clock: clock(), ...options });
    expect(vm.ioctl(CHECK_EXTENSION, 38) & bit).toBe(bit);
    return vm;
  }

  const guestOf = (vm: Vm): FlatCpu => new FlatCpu(vm, { longMode, lma: longMode, rip: 0x1234n });

  /** The guest rings a port. @returns what it gets, or that the VMM has to answer */
  function rings(vm: Vm, port: number): bigint | 'exit' {
    const cpu = guestOf(vm);
    fields(vm).setUint32(ARGUMENT, port, true);
    cpu.registers.rax = 32n;
    const [command, pointer] = longMode ? (['rdi', 'rsi'] as const) : (['rbx', 'rcx'] as const);
    cpu.registers[command] = 4n;
    cpu.registers[pointer] = BigInt(ARGUMENT);
    const result = vm.vcpu(0).hypercall(cpu);
    if (result.kind === 'exit') return 'exit';
    return cpu.registers.rax;
  }

  test('KF-80 KX-CAP-01 bit 0: the page that the VMM gave lies where the guest asked for it', () => {
    const vm = make(0x001);
    ram(vm).fill(0x5a, BLOB, BLOB + 4096);
    const blob = longMode ? { blob64: vm.guestBase + BLOB, size64: 1 } : { blob32: vm.guestBase + BLOB, size32: 1 };
    expect(vm.vcpu(0).writeMsr(guestOf(vm), MSR, BigInt(PAGE))).toBe('other');
    expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR, ...blob }))).toBe(0);
    expect(vm.vcpu(0).writeMsr(guestOf(vm), MSR, BigInt(PAGE))).toBe('written');
    expect(
      ram(vm)
        .subarray(PAGE, PAGE + 4096)
        .every((byte) => byte === 0x5a),
    ).toBe(true);
  });

  test('KF-80 KX-CAP-02 bit 1: the stubs are there, and what they call is answered', () => {
    const vm = make(0x002);
    set(vm, attr(4, [[8, u32(0x40011)]]));
    expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR, flags: 0x02 }))).toBe(0);
    expect(vm.vcpu(0).writeMsr(guestOf(vm), MSR, BigInt(PAGE))).toBe('written');
    const stub = PAGE + 17 * 32;
    expect([...ram(vm).subarray(stub, stub + 9)]).toEqual([0xb8, 17, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
    const cpu = guestOf(vm);
    cpu.registers.rax = 17n;
    expect(vm.vcpu(0).hypercall(cpu)).toEqual({ kind: 'handled', result: 0x40011n });
  });

  test('KF-80 KX-CAP-03 bit 2: an event becomes an upcall by the vector of the VM', () => {
    const vm = make(0x004);
    expect(set(vm, attr(2, [[8, [0x10]]]))).toBe(0);
    expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR }))).toBe(0);
    expect(vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0 });
    expect(vm.ioctl(EVTCHN_SEND, send(5))).toBe(0);
    expect(ram(vm)[vcpuInfoGpa(0)]).toBe(1);
    expect(vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0x10 });
  });

  test('KF-80 KX-CAP-04 bit 3: the guest sees how long it was blocked', () => {
    const time = clock();
    const vm = make(0x008, { clock: time });
    expect(set(vm.vcpu(0), attr(2, [[8, u64(RUNSTATE)]]))).toBe(0);
    // The guest's clock is at 0, which means "never" to a runstate.
    time.advance(1n);
    expect(set(vm.vcpu(0), runstate(3, [2]))).toBe(0);
    time.advance(500n);
    expect(set(vm.vcpu(0), runstate(3, [0]))).toBe(0);
    const times = RUNSTATE + (longMode ? 16 : 12);
    expect(fields(vm).getInt32(RUNSTATE, true)).toBe(0);
    expect(fields(vm).getBigUint64(times + 8 * 2, true)).toBe(500n);
  });

  test('KF-80 KX-CAP-05 bit 4: an interrupt becomes an event', () => {
    const vm = make(0x010);
    expect(vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(32, 15, 0)]))).toBe(0);
    expect(
      vm.ioctl(
        IRQ_LINE,
        struct(8, [
          [0, u32(32)],
          [4, u32(1)],
        ]),
      ),
    ).toBe(0);
    expect(pendingBit(vm, 15)).toBe(true);
    expect(ram(vm)[vcpuInfoGpa(0)]).toBe(1);
  });

  test('KF-80 KX-CAP-06 bit 5: the guest rings a port and its event arrives; without that port the VMM answers', () => {
    const vm = make(0x020);
    expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR, flags: 0x22 }))).toBe(0);
    expect(rings(vm, 127)).toBe('exit');
    expect(set(vm, evtchn({ sendPort: 127, type: 2, port: 15 }))).toBe(0);
    expect(rings(vm, 127)).toBe(0n);
    expect(pendingBit(vm, 15)).toBe(true);
  });

  test('KF-80 KX-CAP-07 bit 6: while the guest’s runstate is written its marker is on, afterwards it is off', () => {
    for (const enabled of [1, 0]) {
      let vm: Vm | null = null;
      const seen = new Set<number>();
      const marker = RUNSTATE + (longMode ? 15 : 11);
      const onStep = (): void => {
        if (vm) seen.add((ram(vm)[marker] as number) & 0x80);
      };
      vm = make(0x040, tracing(shared, { onStep }));
      expect(set(vm.vcpu(0), attr(2, [[8, u64(RUNSTATE)]]))).toBe(0);
      expect(set(vm, attr(5, [[8, [enabled]]]))).toBe(0);
      expect(seen).toEqual(new Set([0]));
      expect(set(vm.vcpu(0), runstate(3, [2]))).toBe(0);
      expect(seen).toEqual(new Set(enabled ? [0, 0x80] : [0]));
      expect((ram(vm)[marker] as number) & 0x80).toBe(0);
    }
  });

  test('KF-80 KX-CAP-08 bit 7: the guest’s clock does not say that the TSC is stable, and does without the flag', () => {
    const vm = make(0x080);
    expect(set(vm.vcpu(0), attr(1, [[8, u64(TIME_INFO)]]))).toBe(0);
    for (const [flags, stable] of [
      [0x00, 1],
      [0x80, 0],
      [0x00, 1],
    ] as const) {
      expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR, flags }))).toBe(0);
      vm.vcpu(0).beforeEntry();
      vm.vcpu(0).afterExit();
      for (const at of [TIME_INFO, vcpuInfoGpa(0) + 32]) expect((ram(vm)[at + 29] as number) & 1).toBe(stable);
    }
  });

  test('KF-80 KX-CAP-09 bit 8: by host address the pages stay, also while the guest has none there', () => {
    const vm = make(0x100);
    expect(set(vm, attr(6, [[8, u64(vm.guestBase + SHARED_INFO_GPA)]]))).toBe(0);
    expect(set(vm.vcpu(0), attr(9, [[8, u64(vm.guestBase + vcpuInfoGpa(0))]]))).toBe(0);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, memory(0, 0, 0, 0, 0))).toBe(0);
    expect(vm.ioctl(EVTCHN_SEND, send(5))).toBe(0);
    expect(pendingBit(vm, 5)).toBe(true);
    expect(ram(vm)[vcpuInfoGpa(0)]).toBe(1);
    expect(vm.memslots.hvaOf(gpa(SHARED_INFO_GPA))).toBe(null);
  });

  test('KF-80 ids of vCPUs that are alike in their low 8 bits are different vCPUs, in every call', () => {
    const ids = [1, 257, 513];
    const vm = make(0x1ff, { vcpus: 3, vcpuIds: ids });
    const arrived = (): number[] => ids.map((_, i) => ram(vm)[vcpuInfoGpa(i)] as number);
    const quiet = (): void => {
      for (const [i] of ids.entries()) ram(vm).fill(0, vcpuInfoGpa(i), vcpuInfoGpa(i) + 32);
    };
    expect(vm.ioctl(HVM_CONFIG, config({ msr: MSR, flags: 0x22 }))).toBe(0);
    expect(vm.ioctl(SET_GSI_ROUTING, routing(ids.map((id, i) => evtchnRoute(32 + i, 40 + i, id))))).toBe(0);
    ids.forEach((id, i) => {
      const only = ids.map((other) => (other === id ? 1 : 0));
      expect(set(vm, evtchn({ sendPort: 100 + i, type: 2, port: 60 + i, vcpu: id }))).toBe(0);
      for (const raise of [
        () => vm.ioctl(EVTCHN_SEND, send(20 + i, id)),
        () =>
          vm.ioctl(
            IRQ_LINE,
            struct(8, [
              [0, u32(32 + i)],
              [4, u32(1)],
            ]),
          ),
        () => Number(rings(vm, 100 + i)),
      ]) {
        quiet();
        expect(raise()).toBe(0);
        expect(arrived()).toEqual(only);
      }
    });
    expect(vm.ioctl(EVTCHN_SEND, send(20, 2))).toBe(-22);
  });
});
