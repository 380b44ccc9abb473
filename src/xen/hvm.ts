// What a domain is to its guest besides event channels: parameters, callback, timers, interrupt lines, its end; and what the embedder
// adds to that. All state is in the region; options and hooks are each thread's own, so give every thread the same.

import { EINVAL } from '../abi/errno.ts';
import { GPC_UNMAPPED, GPC_WORD, VCPU_INFO_GPC } from '../abi/region.ts';
import { VCPU_INFO_UPCALL_MASK } from '../abi/vcpu_info.ts';
import {
  HVM_NR_PARAMS,
  HVM_SHUT_DOWN,
  HVM_SHUTDOWN_CODE,
  HVM_VCPU_DOWN,
  HVM_VCPU_STATE,
  HVM_VCPU_UNSEEN,
  HVM_VCPU_UP,
} from '../abi/xen_hvm.ts';
import { HVM_PARAM_CALLBACK_IRQ, SHUTDOWN_POWEROFF } from '../abi/xen_hypercall.ts';
import { checkRange, EvtchnError, hex } from '../errors.ts';
import type { CpuidRegisters } from '../vm/guest/cpuid.ts';
import { checkU64, type XenGuestCpu } from '../vm/guest/guest_cpu.ts';
import type { XenExit } from '../vm/guest/hypercall.ts';
import type { MsrWrite } from '../vm/guest/hypercall_page.ts';
import { gateOpen, type HvmConfig } from '../vm/hvm_config.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import { Callback, type IntxRouting, xenIntxGsi } from './callback.ts';
import { type CpuidOptions, checkCpuidBase, xenCpuid } from './cpuid_leaves.ts';
import type { Domain } from './domain.ts';
import { latchWidth, writeHypercallPage } from './guest_width.ts';
import { HvmRecord } from './hvm_record.ts';
import { Identity, type IdentityOptions } from './identity.ts';
import { InterruptLines } from './interrupt_lines.ts';
import { PeriodicTimers } from './periodic_timer.ts';
import { PirqMap } from './pirq_map.ts';
import { placeSharedInfo } from './shared_page.ts';
import { softReset } from './soft_reset.ts';
import { Watchdogs } from './watchdog.ts';

/** Why a domain has ended. */
export type ShutdownReason = 'poweroff' | 'reboot' | 'suspend' | 'crash' | 'watchdog' | 'soft_reset';

/** A grant_table_op of the guest's. */
export interface GrantTableCall {
  readonly command: number;
  /** guest-virtual address of `count` structures */
  readonly argument: bigint;
  readonly count: number;
  /** they are of the 64-bit layout */
  readonly longMode: boolean;
}

/**
 * What the embedder does for the guest. Called inside the guest's hypercall, or inside the send or tick that causes it: they must not
 * run guest code. What they throw reaches the caller of `hypercall`; the guest's registers are untouched then.
 */
export interface HvmHooks {
  /** The domain has ended; its vCPUs are to be stopped. `code` is the number that the guest gave. [XE-BP-03] */
  readonly onShutdown?: (reason: ShutdownReason, code: number) => void;
  /** An interrupt line goes up or down. [XE-CB-04] */
  readonly onGsi?: (gsi: number, level: boolean) => void;
  /** VCPUOP_up and _down: the vCPU is to run, or to stop. */
  readonly onVcpu?: (vcpu: Vcpu, up: boolean) => void;
  /** VCPUOP_initialise: a context at a guest-virtual address. @returns the guest's result; null: -ENOSYS */
  readonly onVcpuInitialise?: (vcpu: Vcpu, context: bigint, cpu: XenGuestCpu) => number | null;
  /** VCPUOP_send_nmi; -ENOSYS without. */
  readonly onNmi?: (vcpu: Vcpu) => void;
  /** grant_table_op. @returns the guest's result; null: -ENOSYS [XE-GT-05] */
  readonly onGrantTableOp?: (call: GrantTableCall, cpu: XenGuestCpu, vcpu: Vcpu) => number | null;
  /** add_to_physmap: frame `index` of the grant table is to be at frame `gfn` of the guest. @returns the guest's result; -ENOSYS without */
  readonly onGrantFrame?: (index: number, gfn: number) => number;
  /** console_io: what the guest writes, in pieces, and up to `room` bytes for it to read; -EPERM without. */
  readonly onConsole?: (bytes: Uint8Array) => void;
  readonly onConsoleRead?: (room: number) => Uint8Array;
  /** Any other hypercall, or command of one. @returns the guest's result; nothing: -ENOSYS */
  readonly onHypercall?: (exit: XenExit, cpu: XenGuestCpu, vcpu: Vcpu) => number | bigint | null | undefined;
}

/** What a domain shows its guest, and what the embedder does for it. */
export interface HvmOptions extends HvmHooks {
  /** versions and features */
  readonly identity?: IdentityOptions;
  /** the leaves of CPUID */
  readonly cpuid?: CpuidOptions;
  /** The GSI of a PCI function's pin, for callbacks by INTx; as on Xen's own machines by default. */
  readonly intxGsi?: IntxRouting;
}

const REASONS: readonly ShutdownReason[] = ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog', 'soft_reset'];

/** The index of the hypercall page's MSR where Hyper-V has no leaves, and where it has. [XE-BT-02] */
const MSR = 0x40000000;
const MSR_BESIDE_HYPERV = 0x40000200;

/** The guest's side of a domain: `domain.hvm`. */
export class Hvm {
  /** @internal */ readonly record: HvmRecord;
  /** @internal */ readonly hooks: HvmHooks;
  /** @internal */ readonly identity: Identity;
  /** @internal */ readonly lines: InterruptLines;
  /** @internal */ readonly callback: Callback;
  /** @internal */ readonly pirqMap: PirqMap;
  /** @internal */ readonly watchdogs: Watchdogs;
  /** @internal */ readonly periodicTimers: PeriodicTimers;
  readonly #domain: Domain;
  readonly #cpuid: CpuidOptions;

  /** @internal */
  constructor(domain: Domain, options: HvmOptions) {
    const { vm } = domain;
    this.#domain = domain;
    this.hooks = options;
    this.#cpuid = options.cpuid ?? {};
    checkCpuidBase(this.#cpuid);
    this.identity = new Identity(options.identity ?? {}, domain.pirqs > 0);
    this.record = new HvmRecord(vm);
    this.pirqMap = new PirqMap(this.record, domain);
    this.lines = new InterruptLines(this.record, {
      onGsi: (gsi, level) => this.hooks.onGsi?.(gsi, level),
      hasPirq: (gsi) => this.pirqMap.hasPort(gsi),
      raisePirq: (gsi) => this.pirqMap.raise(gsi),
    });
    this.callback = new Callback(this.record, this.lines, options.intxGsi ?? xenIntxGsi, domain.dialect.intxHasToLead);
    this.watchdogs = new Watchdogs(this.record, (reason) => this.shutdown(reason));
    this.periodicTimers = new PeriodicTimers(this.record, (virq, vcpu) => domain.raiseVirq(virq, vcpu));
    vm.deadlineSources.add(() => this.periodicTimers.deadlines());
    vm.deadlineSources.add(() => this.watchdogs.deadlines());
  }

  /** The domain is new. @internal */
  begin(): void {
    const { vm, dialect } = this.#domain;
    // Hypercalls, vectors and runstate are on; a VM that was configured before keeps what it was told.
    if (!gateOpen(vm)) vm.setConfig(this.#config());
    // Xen takes a guest for a 64-bit one until it has seen it. [XE-MOD-30]
    if (dialect.longAtFirst && !vm.gpcs.isActive(vm.region.sharedInfo)) vm.kernel.setLongMode(vm.vmBase, 1);
  }

  #config(): HvmConfig {
    return { msr: this.#cpuid.besideHyperv ? MSR_BESIDE_HYPERV : MSR, interceptHypercalls: true, evtchnSend: true };
  }

  // ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** HVM parameter `index`, 0..38, u64; 0 until set. Throws EINVAL for no index. [XE-CB-08] */
  getParam(index: number): bigint {
    this.#domain.vm.checkOpen();
    checkRange('the HVM parameter', index, 0, HVM_NR_PARAMS - 1);
    return this.record.words.load64(this.record.param(index));
  }

  /** Sets one as a toolstack does, the callback included. Owner only. Throws EINVAL for no index or a value out of range. [XE-CB-07] */
  setParam(index: number, value: bigint): void {
    this.#domain.vm.checkOwner();
    checkRange('the HVM parameter', index, 0, HVM_NR_PARAMS - 1);
    checkU64(`HVM parameter ${index}`, value);
    if (this.setGuestParam(index, value, null) === 0) return;
    throw new EvtchnError('EINVAL', `the callback ${hex(value)} is by a vector below 16, or a pin that leads nowhere`);
  }

  /** `long` is the width of the caller if it is the guest itself. @returns the guest's result @internal */
  setGuestParam(index: number, value: bigint, long: boolean | null): number {
    if (index === HVM_PARAM_CALLBACK_IRQ) {
      const result = this.callback.set(value);
      if (result < 0) return result;
    }
    this.record.words.store64(this.record.param(index), value);
    if (index === HVM_PARAM_CALLBACK_IRQ && long !== null) latchWidth(this.#domain.vm, long);
    return 0;
  }

  // ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  placeSharedInfo(frame: number): number {
    return placeSharedInfo(this.record, frame);
  }

  /**
   * The guest has executed WRMSR: if it is the hypercall page's MSR, the page is written and the guest's width is taken over. Owner
   * only. [XE-BT-03, XE-MOD-30]
   */
  writeMsr(vcpu: Vcpu, cpu: XenGuestCpu, index: number, value: bigint): MsrWrite {
    this.#domain.vm.checkOwner();
    return writeHypercallPage(vcpu, cpu, index, value);
  }

  /** What CPUID says of Xen on a vCPU: the registers of a leaf; null: it is none of Xen's. [XE-BT-04] */
  cpuid(vcpu: Vcpu, leaf: number, subleaf = 0): CpuidRegisters | null {
    return xenCpuid(this.#domain, vcpu, this.#cpuid, leaf, subleaf);
  }

  // ── interrupts ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Looks whether vCPU 0 has an upcall, for a callback by an interrupt line. In memory of a single agent the line goes up by itself;
   * elsewhere, and for it to go down, call this after the guest was left and before it is entered. Hypercalls do it by themselves.
   * Costs one load while there is no such callback. [XE-CB-04]
   */
  updateCallback(): void {
    this.callback.update();
  }

  /** A device holds the line of GSI `gsi`, 0..47, up: counted, together with the callback. Throws EINVAL for no GSI. [XE-TC-22] */
  assertGsi(gsi: number): void {
    this.lines.assert(gsi);
  }

  /** It lets it go. Throws EINVAL for no GSI, or one that nobody holds. */
  deassertGsi(gsi: number): void {
    this.lines.deassert(gsi);
  }

  /** A message-signalled interrupt without a vector, which names a PIRQ by its address. @returns as `Domain.raisePirq`; -ERANGE, -EINVAL: none [XE-QE-34] */
  raiseMsi(address: bigint): number {
    checkU64('the address of a message', address);
    return this.pirqMap.raiseMsi(address);
  }

  // ── vCPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether the guest counts the vCPU as up: it has made a hypercall, or was taken up, and was not taken down since. */
  isUp(vcpu: Vcpu): boolean {
    return this.record.words.load(this.#stateOf(vcpu)) === HVM_VCPU_UP;
  }

  /** The embedder has started a vCPU (INIT and SIPI), or stopped it. */
  setUp(vcpu: Vcpu, up: boolean): void {
    this.record.words.store(this.#stateOf(vcpu), up ? HVM_VCPU_UP : HVM_VCPU_DOWN);
  }

  /** @internal */
  vcpuUp(vcpu: Vcpu): number {
    const { words } = this.record;
    const state = this.#stateOf(vcpu);
    if (words.load(state) === HVM_VCPU_UNSEEN) return -EINVAL;
    if (words.exchange(state, HVM_VCPU_UP) === HVM_VCPU_DOWN) this.hooks.onVcpu?.(vcpu, true);
    return 0;
  }

  /** The last one ends the domain. @internal */
  vcpuDown(vcpu: Vcpu): number {
    const { vm } = this.#domain;
    const others = Array.from({ length: vm.vcpus }, (_, index) => vm.vcpu(index)).filter((other) => other !== vcpu);
    if (!others.some((other) => this.isUp(other))) {
      this.shutdown(SHUTDOWN_POWEROFF);
      return 0;
    }
    if (this.record.words.exchange(this.#stateOf(vcpu), HVM_VCPU_DOWN) !== HVM_VCPU_DOWN)
      this.hooks.onVcpu?.(vcpu, false);
    return 0;
  }

  #stateOf({ index }: Vcpu): number {
    return this.record.vcpu(index) + HVM_VCPU_STATE;
  }

  /** Clears the upcall mask in vcpu_info, which nobody here obeys but the guest may look at. [XE-BP-02, XE-2L-11] @internal */
  unmaskUpcalls({ vm, line }: Vcpu): void {
    const { words } = vm.region;
    vm.gpcs.refresh(line + VCPU_INFO_GPC);
    const opened = vm.changes.enter();
    try {
      const at = words.load(line + VCPU_INFO_GPC + GPC_WORD) >>> 0;
      if (at < GPC_UNMAPPED >>> 0) words.write(at + VCPU_INFO_UPCALL_MASK, Uint8Array.of(0));
    } finally {
      if (opened) vm.changes.leave();
    }
  }

  // ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Why the domain has ended; null while it goes on. */
  get shutdownReason(): ShutdownReason | null {
    const { words, base } = this.record;
    return words.load(base + HVM_SHUT_DOWN) === 0 ? null : reasonOf(words.load(base + HVM_SHUTDOWN_CODE) - 1);
  }

  /** Ends the domain; the reason that was given first counts. [XE-BP-03] @internal */
  shutdown(code: number): void {
    const { words, base } = this.record;
    this.setShutdownCode(code);
    if (words.exchange(base + HVM_SHUT_DOWN, 1) !== 0) return;
    const given = words.load(base + HVM_SHUTDOWN_CODE) - 1;
    this.hooks.onShutdown?.(reasonOf(given), given);
  }

  /** @internal */
  setShutdownCode(code: number): void {
    this.record.words.compareExchange(this.record.base + HVM_SHUTDOWN_CODE, 0, code + 1);
  }

  /**
   * The guest starts anew in the same memory: all that it has set up is taken back, with its ports. The embedder makes those of
   * XenStore and the console again. Stop its vCPUs before. Owner only. Throws EBUSY and EAGAIN as `Evtchn.reset`: nothing has changed
   * then. [XE-CB-20]
   */
  softReset(): void {
    softReset(this.#domain);
  }

  /** A domain that was shut down goes on, as after a suspend that was saved or given up. Throws EPERM when it was not. */
  resume(): void {
    const { words, base } = this.record;
    if (words.load(base + HVM_SHUT_DOWN) === 0) throw new EvtchnError('EPERM', 'the domain is not shut down');
    words.store(base + HVM_SHUTDOWN_CODE, 0);
    words.store(base + HVM_SHUT_DOWN, 0);
  }
}

/** What the interface has no name for counts as a crash. */
function reasonOf(code: number): ShutdownReason {
  return REASONS[code] ?? 'crash';
}
