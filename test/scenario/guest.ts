// A small guest with the vCPU loop of its VMM around it: it runs, takes its upcalls, calls, waits, and reports. After every report
// the host looks at its runstate. No time passes but what is said here. [kvm-xen 12.1]

import { expect } from 'vitest';
import {
  FlatCpu,
  gpa,
  type HypercallResult,
  type Vcpu,
  type VirtualClock,
  type Vm,
  type XenExit,
} from '../../src/index.ts';
import type { Surface } from './surface.ts';

/** Where the three pages are in the guest, and what is in them. */
export const G = 0xc000_0000;
export const SHARED_INFO = G;
export const VCPU_INFO = G + 0x40;
export const TIME_INFO = G + 0x1000;
/** Its first 15 bytes are in the second page, the rest in the third. */
export const RUNSTATE = G + 0x2000 - 15;

/** Where the guest keeps what it passes by pointer, in its low memory. */
export const ARGUMENT = 0x2000;
export const PORT_LIST = 0x3000;

/** How long a guest runs between two reports, ns. */
const STRETCH = 10_000n;
/** The watchdog, ns: nothing takes longer than the timer of S-41. */
const LONGEST = 2_500_000_000n;
/** Upcalls at one entry: more are a storm. */
const STORM = 4;

/** What became of a hypercall, and the upcalls of that time. */
export interface Called {
  /** RAX, signed; null: it has left to the VMM */
  readonly result: bigint | null;
  readonly exit?: XenExit;
  readonly interrupts: number;
}

/** The runstate record as a guest reads it. */
export interface RunstateCopy {
  readonly state: number;
  readonly entryTime: bigint;
  /** running, runnable, blocked, offline */
  readonly times: readonly bigint[];
}

export class Guest {
  readonly cpu: FlatCpu;
  /** how long the thread of the vCPU has waited for a core so far, ns */
  runDelay = 0n;
  /** vectors that have been injected, in their order */
  readonly injected: number[] = [];
  readonly #vm: Vm;
  readonly #vcpu: Vcpu;
  readonly #surface: Surface;
  readonly #clock: VirtualClock;

  constructor(vm: Vm, surface: Surface, clock: VirtualClock) {
    this.#vm = vm;
    this.#vcpu = vm.vcpu(0);
    this.#surface = surface;
    this.#clock = clock;
    this.cpu = new FlatCpu(vm, { rip: 0x1000n });
  }

  // ── running ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs a stretch. @returns how many upcalls it took */
  run(): number {
    return this.#report(() => {
      this.#enter();
      this.#clock.advance(STRETCH);
    });
  }

  /** Runs until it is interrupted. @returns how long that took, ns; fails when nothing comes */
  awaitInterrupt(): bigint {
    const from = this.#clock.now();
    const interrupts = this.#report(() => {
      const before = this.injected.length;
      this.#enter();
      this.#passTime(() => {
        if (this.injected.length === before && this.#vcpu.runnable) this.#enter();
        return this.injected.length > before;
      });
    });
    expect(interrupts).toBe(1);
    return this.#clock.now() - from;
  }

  /** Makes a hypercall, and waits for its end if it sleeps. */
  call(number: number, ...params: readonly (number | bigint)[]): Called {
    let result: HypercallResult | undefined;
    const interrupts = this.#report(() => {
      this.#enter();
      this.#load(number, params);
      result = this.#vcpu.hypercall(this.cpu);
      if (result.kind === 'blocked') this.#passTime(() => this.#vcpu.runnable);
      this.#enter();
    });
    if (result?.kind === 'exit') return { result: null, exit: result.exit, interrupts };
    expect(result?.kind).not.toBe('other');
    return { result: BigInt.asIntN(64, this.cpu.registers.rax), interrupts };
  }

  /** EVTCHNOP_send. */
  ring(sendPort: number): Called {
    this.write(ARGUMENT, 4, BigInt(sendPort));
    return this.call(32, 4, ARGUMENT);
  }

  /** SCHEDOP_poll, with a timeout in ns, 0 for none. */
  poll(ports: readonly number[], timeout = 0n): Called {
    ports.forEach((port, i) => {
      this.write(PORT_LIST + 4 * i, 4, BigInt(port));
    });
    const word = this.cpu.longMode ? 8 : 4;
    this.write(ARGUMENT, word, BigInt(PORT_LIST));
    this.write(ARGUMENT + word, 4, BigInt(ports.length));
    this.write(ARGUMENT + 2 * word, 8, timeout);
    return this.call(29, 3, ARGUMENT);
  }

  /** HYPERVISOR_set_timer_op. */
  setTimer(expires: bigint): Called {
    if (this.cpu.longMode) return this.call(15, expires);
    return this.call(15, expires & 0xffff_ffffn, expires >> 32n);
  }

  // ── its memory ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** A field of up to 8 bytes. */
  read(at: number, bytes: number): bigint {
    return this.bytes(at, bytes).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }
  write(at: number, bytes: number, value: bigint): void {
    this.fill(
      at,
      Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
    );
  }
  bytes(at: number, length: number): Uint8Array {
    const found = this.#vm.guestMemory.read(gpa(at), length);
    if (found === null) return expect.fail(`the guest has no memory at 0x${at.toString(16)}`);
    return found;
  }
  fill(at: number, bytes: Uint8Array): void {
    expect(this.#vm.guestMemory.write(gpa(at), bytes)).toBe(true);
  }

  /** Its bits of a port. */
  pending(port: number): boolean {
    return this.#bit(this.#pendingAt, port);
  }
  setPending(port: number, on: boolean): void {
    this.#setBit(this.#pendingAt, port, on);
  }
  setMask(port: number, on: boolean): void {
    this.#setBit(this.#long ? 0xa00 : 0x880, port, on);
  }

  /** Its upcall byte and selector. */
  get upcall(): { readonly byte: bigint; readonly selector: bigint } {
    const word = this.#long ? 8 : 4;
    return { byte: this.read(VCPU_INFO, 1), selector: this.read(VCPU_INFO + word, word) };
  }

  /** Its copy of the runstate. */
  runstate(at = RUNSTATE): RunstateCopy {
    const entry = at + (this.#long ? 8 : 4);
    const times = [1, 2, 3, 4].map((i) => this.read(entry + 8 * i, 8));
    return { state: Number(this.read(at, 4)), entryTime: this.read(entry, 8), times };
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  get #long(): boolean {
    return this.#vm.maxPorts === 4096;
  }
  get #pendingAt(): number {
    return 0x800;
  }

  #bit(bitmap: number, port: number): boolean {
    return ((this.read(SHARED_INFO + bitmap + (port >> 3), 1) >> BigInt(port & 7)) & 1n) === 1n;
  }
  #setBit(bitmap: number, port: number, on: boolean): void {
    const at = SHARED_INFO + bitmap + (port >> 3);
    const bit = 1n << BigInt(port & 7);
    const old = this.read(at, 1);
    this.write(at, 1, on ? old | bit : old & ~bit);
  }

  #load(number: number, params: readonly (number | bigint)[]): void {
    const names = this.cpu.longMode
      ? (['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const)
      : (['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const);
    this.cpu.registers.rax = BigInt(number);
    for (const [i, name] of names.entries()) this.cpu.registers[name] = BigInt(params[i] ?? 0);
  }

  /** KVM_RUN around what the guest does, and the host's look at it afterwards. @returns upcalls meanwhile */
  #report(act: () => void): number {
    const before = this.injected.length;
    this.#vcpu.load(this.runDelay);
    act();
    this.#vcpu.afterExit();
    this.#vcpu.unload({ runDelay: this.runDelay });
    this.checkRunstate();
    return this.injected.length - before;
  }

  /** Times add up, for the host and in the guest's copy where there is one. */
  checkRunstate(): void {
    const data = this.#surface.getVcpu('runstate_data');
    if (typeof data === 'number') expect.fail(`RUNSTATE_DATA cannot be read: ${data}`);
    const { running, runnable, blocked, offline } = data.times;
    expect(BigInt.asUintN(64, running + runnable + blocked + offline)).toBe(data.entryTime);
    const place = this.#surface.getVcpu('runstate_addr');
    if (typeof place === 'number' || place.gpa === null) return;
    const copy = this.runstate(place.gpa);
    expect(
      BigInt.asUintN(
        64,
        copy.times.reduce((a, b) => a + b, 0n),
      ),
    ).toBe(copy.entryTime);
  }

  /** The loop before guest code: upcalls are taken until there are none. */
  #enter(): void {
    for (let upcalls = 0; upcalls < STORM; upcalls++) {
      const entry = this.#vcpu.beforeEntry();
      if (entry.kind !== 'enter') expect.fail(`the guest cannot be entered: ${entry.kind}`);
      const vectors = [entry.externalInterrupt, entry.lapicInterrupt].filter((vector) => vector !== 0);
      if (vectors.length === 0) return;
      for (const vector of vectors) this.injected.push(vector);
      this.#upcall();
    }
    expect.fail('upcalls come without an end');
  }

  /** The handler: clears the byte, then the selector. */
  #upcall(): void {
    const word = this.#long ? 8 : 4;
    this.write(VCPU_INFO, 1, 0n);
    this.write(VCPU_INFO + word, word, 0n);
  }

  /** Time goes on from deadline to deadline until something has happened. */
  #passTime(over: () => boolean): void {
    const end = this.#clock.now() + LONGEST;
    for (let i = 0; i < 100 && !over(); i++) {
      const next = this.#vm.nextDeadline();
      if (next === null || next > end) expect.fail('the watchdog: nothing happens');
      if (next > this.#clock.now()) this.#clock.advance(next - this.#clock.now());
      this.#vm.tick();
    }
    expect(over()).toBe(true);
  }
}
