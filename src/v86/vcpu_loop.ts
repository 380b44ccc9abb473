// v86's processor as the vCPU of a domain: hypercalls and MSRs from it, time and upcalls to it.

import { ENOSYS } from '../abi/errno.ts';
import { levelVector, peekLevel } from '../vm/guest/upcall_level.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Domain } from '../xen/index.ts';
import type { V86Processor } from './emulator.ts';
import type { HookHandler } from './hooks.ts';
import { EAX, EBX, ECX, EDI, EDX, ESI, type GuestProcessor } from './processor.ts';

/** Sees what passes between guest and engine; for reports and tests. It must not change anything. */
export interface Observer {
  /** A hypercall was answered: its number, its first five parameters and its result, as 32-bit registers. */
  hypercall?(number: number, params: readonly number[], result: number): void;
  /** The guest begins to be asked for an upcall. */
  pending?(): void;
  /** The upcall's vector is given to the guest. */
  inject?(vector: number): void;
}

const IA32_TSC = 0x10;
const PARAMS = [EBX, ECX, EDX, ESI, EDI] as const;
/** VMCALL and VMMCALL: either is a hypercall, whatever CPUID says of the processor's maker. */
const HYPERCALL_OPCODE = [0x0f, 0x01] as const;
const VMCALL = 0xc1;
const VMMCALL = 0xd9;

/** Longest time between two looks while a poll sleeps, ms: what wakes it may be an event that asks for no upcall. */
const POLL_INTERVAL = 1;

/** @internal */
export class VcpuLoop implements HookHandler {
  readonly #domain: Domain;
  readonly #vcpu: Vcpu;
  readonly #cpu: GuestProcessor;
  readonly #v86: V86Processor;
  readonly #readTsc: () => bigint;
  readonly #observer: Observer;
  #polling = false;

  constructor(parts: {
    readonly domain: Domain;
    readonly cpu: GuestProcessor;
    readonly v86: V86Processor;
    readonly readTsc: () => bigint;
    readonly observer: Observer;
  }) {
    this.#domain = parts.domain;
    this.#vcpu = parts.domain.vm.vcpu(0);
    this.#cpu = parts.cpu;
    this.#v86 = parts.v86;
    this.#readTsc = parts.readTsc;
    this.#observer = parts.observer;
  }

  /** Takes over the processor: from here on it is the domain's vCPU. */
  start(): void {
    this.syncTsc();
    this.#vcpu.onUpcall(() => {
      this.#observer.pending?.();
      this.#v86.stop_idling();
    });
    const mainLoop = this.#v86.main_loop;
    this.#v86.main_loop = () => this.#run(mainLoop);
  }

  /** Tells the engine what the guest's TSC is. A little behind rather than ahead: no timer may expire early. */
  syncTsc(): void {
    const guest = this.#readTsc();
    this.#vcpu.setTsc({ offset: BigInt.asUintN(64, guest - this.#vcpu.vm.clock.now()) });
  }

  // ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────────────

  cpuid(): boolean {
    const cpu = this.#cpu;
    const found = this.#domain.hvm.cpuid(this.#vcpu, cpu.get(EAX), cpu.get(ECX));
    if (found === null) return false;
    cpu.set(EAX, found.eax);
    cpu.set(EBX, found.ebx);
    cpu.set(ECX, found.ecx);
    cpu.set(EDX, found.edx);
    return true;
  }

  wrmsr(): boolean {
    const cpu = this.#cpu;
    if (cpu.cpl !== 0) return false;
    const [low, high] = [cpu.get(EAX), cpu.get(EDX)];
    const msr = cpu.get(ECX);
    if (msr === IA32_TSC) {
      this.#v86.set_tsc(low, high);
      this.syncTsc();
      return true;
    }
    const value = (BigInt(high) << 32n) | BigInt(low);
    if (this.#domain.hvm.writeMsr(this.#vcpu, cpu, msr, value) !== 'written') return false;
    // The page of stubs is code.
    this.#v86.jit_dirty_cache(low & -4096, (low & -4096) + 4096);
    return true;
  }

  invalidOpcode(): boolean {
    const cpu = this.#cpu;
    const code = cpu.instruction(3);
    if (code === null || HYPERCALL_OPCODE.some((byte, i) => code[i] !== byte)) return false;
    if (code[2] !== VMCALL && code[2] !== VMMCALL) return false;
    return this.#hypercall();
  }

  /** Asked some hundred thousand times a second: as a rule it is one look at the byte. */
  interrupt(): number {
    const vcpu = this.#vcpu;
    const level = peekLevel(vcpu);
    if (level === 'down' || (level === 'away' && !vcpu.upcallPending)) return -1;
    const vector = levelVector(vcpu);
    if (vector === 0) return -1;
    this.#observer.inject?.(vector);
    return vector;
  }

  timers(): number {
    const vcpu = this.#vcpu;
    const { vm } = vcpu;
    let deadline = vm.nextDeadline();
    const due = deadline !== null && deadline <= vm.clock.now();
    if (due) {
      vm.tick();
      deadline = vm.nextDeadline();
    }
    // The next entry would end a poll.
    if (!this.#polling && (due || vcpu.leaveRequested)) vcpu.beforeEntry();
    return deadline === null ? Number.POSITIVE_INFINITY : Math.max(0, Number(deadline - vm.clock.now()) / 1e6);
  }

  // ── guest code ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends a poll that the guest sleeps in: it looks for itself. */
  endPoll(): void {
    if (!this.#polling) return;
    this.#polling = false;
    this.#v86.in_hlt[0] = 0;
    this.#vcpu.beforeEntry();
    this.#vcpu.afterExit();
  }

  #run(mainLoop: () => number): number {
    const vcpu = this.#vcpu;
    vcpu.vm.tick();
    if (this.#polling && vcpu.runnable) this.endPoll();
    vcpu.load();
    if (!this.#polling) vcpu.beforeEntry();
    this.#domain.hvm.updateCallback();
    const wait = mainLoop();
    if (!this.#polling) vcpu.afterExit();
    vcpu.unload();
    const halted = this.#v86.in_hlt[0] !== 0;
    vcpu.enterRunstate(halted ? 'blocked' : 'runnable', vcpu.vm.kvmclock.now());
    // An interrupt of a device ends a poll as well.
    if (!halted) this.endPoll();
    return this.#polling ? Math.min(wait, POLL_INTERVAL) : wait;
  }

  #hypercall(): boolean {
    const cpu = this.#cpu;
    const number = cpu.get(EAX);
    const params = this.#observer.hypercall ? PARAMS.map((register) => cpu.get(register)) : [];
    const result = this.#domain.hypercall(this.#vcpu, cpu);
    if (result.kind === 'other') return false;
    // A hypercall that nobody has answered.
    if (result.kind === 'exit') this.#vcpu.completeHypercall(cpu, BigInt.asUintN(64, BigInt(-ENOSYS)));
    this.#observer.hypercall?.(number, params, cpu.get(EAX) | 0);
    if (result.kind === 'blocked') {
      // It sleeps as if it had halted, whether it takes interrupts or not.
      this.#polling = true;
      this.#v86.in_hlt[0] = 1;
      return true;
    }
    // What it has asked for is done before the guest goes on, such as the clock of a page that it has placed. [XE-BT-10]
    if (this.#vcpu.leaveRequested) this.#vcpu.beforeEntry();
    // Else it would be seen at the end of a block only.
    this.#v86.handle_irqs();
    return true;
  }
}
