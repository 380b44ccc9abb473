// Hypercalls that leave to the VMM, and the page from which they are made. [kvm-xen 12.2]

import { describe, expect, test } from 'vitest';
import type { XenExit } from '../../src/index.ts';
import { G, type Guest } from './guest.ts';
import { bareMachine, type Machine } from './machine.ts';
import { WAYS } from './surface.ts';

const MSR = 0x4000_0200;
const PAGE = G;
const INPUT = 17;
const PARAMS = [1n, 2n, 3n, 4n, 5n, 6n].map((n) => 0xdead_beef_5a5a_0000n + n);
const RESULT = 0xcafe_f00d_fbfb_ffffn;
const EXIT = { longMode: true, cpl: 0, input: BigInt(INPUT), params: PARAMS };

/** Runs the stub that a call leads to up to its VMCALL, and says what the guest has done besides. */
function callStub(guest: Guest, number: number): Guest['cpu'] {
  const at = PAGE + 32 * number;
  const stub = [...guest.bytes(at, 32)];
  // mov $number, %eax; vmcall; ret; int3 ...
  expect(stub.slice(0, 9)).toEqual([0xb8, number, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
  expect(new Set(stub.slice(9))).toEqual(new Set([0xcc]));
  guest.cpu.registers.rax = BigInt(number);
  guest.cpu.rip = BigInt(at + 5);
  return guest.cpu;
}

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  function fresh(): Machine {
    const made = bareMachine(way, { hyperv: true });
    expect(made.surface.config({ msr: MSR, interceptHypercalls: true })).toBe(0);
    expect(made.surface.set({ type: 'long_mode', enabled: true })).toBe(0);
    return made;
  }

  /** Gives the guest the VMM's result, over the surface. */
  function answer({ vm, surface, guest }: Machine, exit: XenExit): void {
    const answered = surface.exit(exit, RESULT);
    expect(answered).toEqual({ ...EXIT, result: RESULT });
    expect(vm.vcpu(0).completeHypercall(guest.cpu, answered.result)).toBe(true);
  }

  test('V-01 xen_version with parameters that are none: all of them leave, the VMM’s result arrives in RAX', () => {
    const made = fresh();
    const { rip } = made.guest.cpu;
    const { result, exit, interrupts } = made.guest.call(INPUT, ...PARAMS);
    expect([result, exit, interrupts]).toEqual([null, EXIT, 0]);
    expect([made.guest.cpu.registers.rax, made.guest.cpu.rip]).toEqual([BigInt(INPUT), rip]);
    if (exit) answer(made, exit);
    expect([made.guest.cpu.registers.rax, made.guest.cpu.rip]).toEqual([RESULT, rip + 3n]);
  });

  test('V-02 the guest writes the MSR: the page appears', () => {
    const { vm, guest } = fresh();
    expect(guest.bytes(PAGE, 4096).every((byte) => byte === 0)).toBe(true);
    // There is one page, page 0, and another MSR is none of ours.
    expect(vm.vcpu(0).writeMsr(guest.cpu, MSR, BigInt(PAGE) + 1n)).toBe('gp');
    expect(vm.vcpu(0).writeMsr(guest.cpu, MSR + 1, BigInt(PAGE))).toBe('other');
    expect(guest.bytes(PAGE, 4096).every((byte) => byte === 0)).toBe(true);
    expect(vm.vcpu(0).writeMsr(guest.cpu, MSR, BigInt(PAGE))).toBe('written');
    for (let number = 0; number < 128; number++) callStub(guest, number);
    expect(guest.bytes(PAGE + 4096, 4096).every((byte) => byte === 0)).toBe(true);
  });

  test('V-04 the guest calls stub 17 with the same registers: as V-01', () => {
    const made = fresh();
    const { vm, guest } = made;
    expect(vm.vcpu(0).writeMsr(guest.cpu, MSR, BigInt(PAGE))).toBe('written');
    const names = ['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const;
    for (const [i, name] of names.entries()) guest.cpu.registers[name] = PARAMS[i] ?? 0n;
    const called = vm.vcpu(0).hypercall(callStub(guest, INPUT));
    if (called.kind !== 'exit') expect.fail(`it was expected to leave, it is ${called.kind}`);
    expect(called.exit).toEqual(EXIT);
    answer(made, called.exit);
    expect(guest.cpu.registers.rax).toBe(RESULT);
    // The stub's RET is next.
    expect(guest.read(Number(guest.cpu.rip), 1)).toBe(0xc3n);
  });
});
