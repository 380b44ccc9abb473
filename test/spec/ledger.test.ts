// What a call takes it gives back, however it ends: brackets, invalidations, references, places; and nothing that a guest can say
// throws at its embedder. [KF-67]

import { describe, expect, test } from 'vitest';
import {
  AGENT_INVALIDATIONS,
  AGENT_READER,
  REGION_INVALIDATE_ACTIVE,
  REGION_POLLERS,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_POLLER,
  VCPU_SLEEPER,
  VCPU_TIMER_CALLBACK,
} from '../../src/abi/region.ts';
import { EvtchnError, FlatCpu, hva, type Vm } from '../../src/index.ts';
import { KINDS, ram, random } from '../support.ts';
import { scratchIsClean } from './evidence.ts';
import { furnishedVm } from './furnished.ts';
import { references } from './ports.ts';

/** Everything that is held for the time of a call: all 0, but for references and places that are kept. */
function ledger(vm: Vm) {
  const { words, base } = vm.region;
  const vcpus = Array.from({ length: vm.vcpus }, (_, i) => vm.vcpu(i));
  return {
    bracket: words.load(vm.agent + AGENT_READER) & 1,
    invalidations: [words.load(vm.agent + AGENT_INVALIDATIONS), words.load(base + REGION_INVALIDATE_ACTIVE)],
    timers: vcpus.map(({ record }) => words.load(record + VCPU_TIMER_CALLBACK)),
    sleepers: vcpus.map(({ line }) => words.load(line + VCPU_SLEEPER)),
    scratch: scratchIsClean(vm),
    eventfds: references(vm),
    slots: vm.memslots.list().length,
  };
}

/** Pollers stay while a poll sleeps; the count of the VM and the vCPUs' words agree. */
function pollersAgree(vm: Vm): boolean {
  const { words, base } = vm.region;
  const polling = Array.from({ length: vm.vcpus }, (_, i) => words.load(vm.vcpu(i).line + VCPU_POLLER) !== 0);
  return words.load(base + REGION_POLLERS) === polling.filter(Boolean).length;
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (): Vm => furnishedVm({ longMode, shared, agents: 1, hostPages: 256 });

  test('KF-67 every outcome of a write of the hypercall page gives back what it took', () => {
    const vm = make();
    const before = ledger(vm);
    const outcomes = new Set<string>();
    const cpu = new FlatCpu(vm, { lma: longMode });
    const write = (index: number, value: bigint): void => {
      let outcome: string;
      try {
        outcome = vm.vcpu(0).writeMsr(cpu, index, value);
      } catch (error) {
        outcome = (error as EvtchnError).code;
      }
      outcomes.add(outcome);
      expect(ledger(vm), outcome).toEqual(before);
    };
    const tryAll = (): void => {
      for (const lma of [true, false, longMode]) {
        cpu.lma = lma;
        // Another MSR; a page; one that has no such number; no RAM; RAM that is read-only; another privilege level.
        for (const value of [0x5000n, 0x5001n, 0x50ffn, 2n ** 40n, 2n ** 63n])
          for (const index of [1, 0x40000000]) write(index, value);
        cpu.cpl = 3;
        write(0x40000000, 0x5000n);
        cpu.cpl = 0;
      }
    };
    tryAll();
    const blobs = { blobPagesLong: 2, blobPagesCompat: 2 };
    // A blob that is there, and one whose second page is on no host page.
    vm.setConfig({ msr: 0x40000000, blobLong: hva(vm.guestBase), blobCompat: hva(vm.guestBase), ...blobs });
    tryAll();
    const last = hva(255 * 4096);
    vm.setConfig({ msr: 0x40000000, blobLong: last, blobCompat: last, ...blobs });
    tryAll();
    expect([...outcomes].sort()).toEqual(['EFAULT', 'gp', 'other', 'written']);
  });

  test('KF-67 whatever a guest calls with whatever arguments, the call ends in a way that it may, and holds nothing', () => {
    const vm = make();
    const next = random(longMode ? 0x67 : 0x6732);
    const before = ledger(vm);
    const kinds = new Map<string, number>();
    const numbers = [15n, 17n, 24n, 29n, 32n, 0n, 2n ** 31n, 2n ** 64n - 1n];
    const edges = [
      0n,
      1n,
      3n,
      4n,
      8n,
      9n,
      128n,
      4095n,
      4096n,
      2n ** 31n,
      2n ** 32n - 1n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n,
    ];
    const pick = <T>(from: readonly T[]): T => from[next(from.length)] as T;
    const value = (): bigint => (next(3) ? pick(edges) : BigInt(next(17 * 4096)));
    for (let i = 0; i < 3_000; i++) {
      // Arguments of all kinds lie everywhere, where shared_info and vcpu_info are not.
      const at = 8 * 4096 + 4 * next(2048);
      new DataView(vm.memory.buffer, vm.guestBase).setUint32(at, Number(value() & 0xffffffffn), true);
      const cpu = new FlatCpu(vm, { longMode: next(2) === 0, cpl: next(8) ? 0 : next(4), rip: value() });
      for (const name of ['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9', 'rbx', 'rcx', 'rbp'] as const)
        cpu.registers[name] = next(2) ? value() : BigInt(at);
      cpu.registers.rax = pick(numbers);
      if (next(4) === 0) {
        // A poll of what lies there: most of the others are refused early.
        cpu.registers.rax = 29n;
        [cpu.registers.rdi, cpu.registers.rbx] = [3n, 3n];
        [cpu.registers.rsi, cpu.registers.rcx] = [BigInt(at), BigInt(at)];
      }
      const vcpu = vm.vcpu(next(2));
      const { kind } = vcpu.hypercall(cpu);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      // The embedder answers, or lets the vCPU go on.
      if (kind === 'exit') vcpu.completeHypercall(cpu, value());
      expect(pollersAgree(vm), `call ${i}`).toBe(true);
      if (kind === 'blocked') vcpu.beforeEntry();
      vcpu.afterExit();
      expect(ledger(vm), `call ${i}: ${kind}`).toEqual(before);
      expect(vm.region.words.load(vcpu.record + VCPU_MODE) & VCPU_IN_GUEST).toBe(0);
    }
    for (const kind of ['handled', 'exit', 'blocked']) expect(kinds.get(kind) ?? 0, kind).toBeGreaterThan(10);
  });

  test('KF-67 a call of the embedder that fails holds nothing either', () => {
    const vm = make();
    const before = ledger(vm);
    const fd = vm.eventfds.list()[0]?.fd as number;
    const failing: (() => unknown)[] = [
      () =>
        vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 21, channel: 'interdomain', target: { eventfd: fd } }),
      () => vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 90, channel: 'ipi', target: { eventfd: fd } }),
      () =>
        vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 90, channel: 'interdomain', target: { eventfd: 77 } }),
      () =>
        vm.setAttr({
          type: 'evtchn',
          action: 'set',
          ports: [90, 90].map((sendPort) => ({ sendPort, channel: 'interdomain', target: { eventfd: fd } })),
        }),
      () => vm.eventfds.bindIrq(fd, 5),
      () => vm.eventfds.bindIrq(77, 5),
      () => vm.hostPages.move(hva(0), 1, (vm.guestBase + 4096) as never),
      () => vm.memslots.set({ id: 3, gpa: 0 as never, bytes: 4096, hva: hva(0) }),
      () => vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: (2 ** 40) as never }),
      () => vm.vcpu(1).setAttr({ type: 'runstate_addr', gpa: 0xffff as never }),
      () => vm.setAttr({ type: 'shared_info', gfn: (2 ** 30) as never }),
      () => vm.invalidateStart(4096, 0),
      () => vm.restore(new Uint8Array(5)),
    ];
    for (const call of failing) {
      expect(call).toThrow(EvtchnError);
      expect(ledger(vm), String(call)).toEqual(before);
    }
    vm.close();
    expect(references(vm).every((n) => n === 0)).toBe(true);
  });

  test('KF-67 whatever lies in guest RAM, nothing that runs the guest throws', () => {
    const vm = make();
    const next = random(0x676);
    const before = ledger(vm);
    for (let round = 0; round < 60; round++) {
      const bytes = ram(vm);
      for (let i = 0; i < 4_000; i++) bytes[next(bytes.length)] = next(256);
      for (let i = 0; i < vm.vcpus; i++) {
        const vcpu = vm.vcpu(i);
        vcpu.load();
        vcpu.beforeEntry();
        if (i === 1) vcpu.drain(() => {});
        vcpu.afterExit();
        vcpu.unload({ preempted: next(2) === 0 });
      }
      vm.send(1 + next(vm.maxPorts - 1));
      vm.tick();
      expect(ledger(vm)).toEqual(before);
    }
  });
});
