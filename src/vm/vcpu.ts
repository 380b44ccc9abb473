// One vCPU as one thread sees it: the receiving side.

import { EAGAIN, EFAULT, EINVAL } from '../abi/errno.ts';
import { DRAIN_MORE } from '../abi/fifo.ts';
import {
  AGENT_LIST_PORTS,
  KICK_LISTENER,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_KVM_ID,
  VCPU_REQUESTS,
} from '../abi/region.ts';
import { EvtchnError, errnoName } from '../errors.ts';
import type { Hpa } from '../memory/address.ts';
import type { AttrOf } from './attribute_row.ts';
import { getAttr, setAttr, VCPU_ATTRS, type VcpuAttr } from './attributes.ts';
import { raise } from './events/event.ts';
import { poll } from './events/poll.ts';
import { EVENTS, type WaitResult, wait, waitAsync } from './events/sleep.ts';
import { mapFifo } from './fifo/retry.ts';
import { type Cpuid, type CpuidRegisters, findXenLeaves, patchCpuid } from './guest/cpuid.ts';
import type { GuestCpu } from './guest/guest_cpu.ts';
import { afterExit, beforeEntry, type GuestEntry, hasEvents, leaveRequested, runnable } from './guest/guest_entry.ts';
import { completeHypercall, type HypercallResult, hypercall } from './guest/hypercall.ts';
import { type MsrWrite, writeMsr } from './guest/hypercall_page.ts';
import { lapicEnabled, setLapicEnabled, takeVector } from './guest/local_apic.ts';
import { type GuestTsc, getTsc, readTsc, setTsc } from './time/guest_clock.ts';
import type { Nanoseconds } from './time/nanoseconds.ts';
import { readTime, type TimeInfo, type TimeSource, writeTime } from './time/pvclock.ts';
import { enterRunstate, type Runstate, type RunstateName, readRunstate } from './time/runstate.ts';
import { load, type Unload, unload } from './time/scheduling.ts';
import type { Vm } from './vm.ts';
import { vcpuIoctl } from './wire/ioctl.ts';

/** Called on the edge of an upcall, synchronously. `vector` is the vCPU's own upcall vector if one is due, else 0. */
export type UpcallListener = (vcpu: Vcpu, vector: number) => void;

/** The times a refresh is tried before a call that may sleep gives up. */
const REFRESH_TRIES = 16;

export class Vcpu {
  readonly vm: Vm;
  readonly index: number;
  /** @internal */ readonly line: number;
  /** @internal */ readonly record: number;
  readonly #list: number;
  #inbox: Uint32Array;
  #listener: UpcallListener | null = null;

  /** @internal */
  constructor(vm: Vm, index: number) {
    this.vm = vm;
    this.index = index;
    this.line = vm.region.vcpuLine(index);
    this.record = vm.region.vcpuRecord(index);
    this.#list = vm.region.inbox(vm.agent);
    this.#inbox = this.#mapInbox();
  }

  // ── attributes ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sets an attribute. Errors as `Vm.setAttr`. Events sent meanwhile are kept and delivered at the new place. */
  setAttr(attr: VcpuAttr): void {
    this.vm.checkOwner();
    setAttr(VCPU_ATTRS, this, attr);
  }

  /** Reads an attribute back. Throws ENOENT for an unknown type. */
  getAttr<T extends VcpuAttr['type']>(type: T): AttrOf<VcpuAttr, T> {
    this.vm.checkOpen();
    return getAttr<Vcpu, VcpuAttr, T>(VCPU_ATTRS, this, type);
  }

  /** As `Vm.ioctl`, for the requests that go to a vCPU: KVM_XEN_VCPU_SET_ATTR and KVM_XEN_VCPU_GET_ATTR. [KX-ABI-42] */
  ioctl(request: number, argument?: Uint8Array | number): number {
    return vcpuIoctl(this, request, argument);
  }

  // ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes every port that is pending, unmasked and bound to this vCPU or to none: clears the bits, then calls `onPort` for each,
   * lowest first. Without `onPort` read them from `drained`. Bounded by the bitmap, however fast others send.
   * Under the FIFO ABI: what is queued for this vCPU, by priority, each queue in its order, and up to 4096 without `onPort`: what is left
   * keeps asking for an upcall. [XE-FF-71]
   * If `onPort` throws, the ports it was not called for are raised again.
   * @returns how many ports. Throws EINVAL when shared_info or vcpu_info is not registered, EFAULT when it cannot be
   *   reached, EBUSY without `onPort` from inside an `onPort`, which still reads the list.
   */
  drain(onPort?: (port: number) => void): number {
    const { vm } = this;
    if (vm.handling > 0) return this.#drainInside(onPort);
    let count = vm.kernel.drain(vm.vmBase, vm.agent, this.index, this.#list);
    if (count < 0) count = this.#drainSlow(count);
    if (count > AGENT_LIST_PORTS) return this.#drainMore(count - DRAIN_MORE, onPort);
    if (onPort !== undefined) this.#handle(onPort, count);
    return count;
  }

  /** Under the FIFO ABI a drain may end before its queues do: the list is full, or a page has gone away. Bounded by the number of ports. */
  #drainMore(first: number, onPort?: (port: number) => void): number {
    if (onPort === undefined) return first;
    const { vm } = this;
    this.#handle(onPort, first);
    let all = first;
    for (let more = true; more && all < vm.maxPorts; ) {
      let count = vm.kernel.drain(vm.vmBase, vm.agent, this.index, this.#list);
      // A page that cannot be mapped: what is left keeps asking for an upcall.
      if (count < 0) count = this.#retry(() => vm.kernel.drain(vm.vmBase, vm.agent, this.index, this.#list));
      if (count < 0) break;
      more = count > AGENT_LIST_PORTS;
      if (more) count -= DRAIN_MORE;
      this.#handle(onPort, count);
      all += count;
    }
    return all;
  }

  /** The ports of the last `drain` of this thread; valid until its next. Fetch it anew after the memory has grown. */
  get drained(): Uint32Array {
    if (this.#inbox.length === 0) this.#inbox = this.#mapInbox();
    return this.#inbox;
  }

  /** Whether the guest is being asked for an upcall: a level, cheap enough to ask at every instruction boundary. [KX-EVT-45] */
  get upcallPending(): boolean {
    const { vm } = this;
    this.flushShadow();
    const level = vm.kernel.upcallPending(vm.vmBase, vm.agent, this.index);
    if (level >= 0) return level === 1;
    return this.#retry(() => vm.kernel.upcallPending(vm.vmBase, vm.agent, this.index)) === 1;
  }

  /**
   * Moves events that came while vcpu_info was away into it. `drain` and `upcallPending` do it by themselves; a vCPU loop
   * calls it at guest entry. [KX-EVT-55]
   * @returns whether there were any
   */
  flushShadow(): boolean {
    const { vm } = this;
    const result = vm.kernel.flushShadow(vm.vmBase, vm.agent, this.index);
    if (result >= 0) return result === 1;
    return this.#retry(() => vm.kernel.flushShadow(vm.vmBase, vm.agent, this.index)) === 1;
  }

  /**
   * The vCPU's own upcall vector if it is due to be injected as an edge, else 0; taking it makes it no longer due.
   * For embedders with a local APIC of their own; `onUpcall` takes it by itself. [KX-EVT-18, 48]
   */
  takeUpcallVector(): number {
    this.vm.checkOpen();
    return takeVector(this);
  }

  /**
   * Says that the guest has enabled or disabled its local APIC in software (bit 8 of its spurious-vector register); enabled at
   * first. Its own upcall vector is lost while it is disabled, and due again when it is enabled while the guest is asked for
   * an upcall. [KX-EVT-49]
   */
  setLapicEnabled(on: boolean): void {
    setLapicEnabled(this, on);
  }

  /** Whether the local APIC takes this vCPU's own upcall vector. */
  get lapicEnabled(): boolean {
    return lapicEnabled(this);
  }

  /** Makes the guest look at every word: all selector bits and the upcall byte, as Xen does at registration. [XE-2L-30] */
  resync(): void {
    this.vm.checkOpen();
    this.vm.kernel.resync(this.vm.vmBase, this.vm.agent, this.index);
  }

  /**
   * Calls `listener` whenever this vCPU begins to want an upcall, from inside the send that caused it; at once if it wants
   * one already. `null` removes it. What the listener throws is reported as an uncaught error; it never reaches the sender.
   * Memory of a single agent only: throws EOPNOTSUPP for shared memory, where `wait` and `waitAsync` are the way.
   */
  onUpcall(listener: UpcallListener | null): void {
    const { vm } = this;
    vm.checkOpen();
    if (vm.shared) {
      throw new EvtchnError(
        'EOPNOTSUPP',
        'onUpcall needs unshared memory: in shared memory a send may come from another thread, use wait or waitAsync',
      );
    }
    if (listener === null) {
      this.#stopListening();
      return;
    }
    this.#listener = listener;
    vm.region.words.or(this.line + VCPU_KICK, KICK_LISTENER);
    vm.gpcs.refresh(this.line + VCPU_INFO_GPC);
    if (vm.kernel.pendingWork(vm.vmBase, vm.agent, this.index) & EVENTS) this.answerKick();
  }

  // ── sleeping ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Blocks this thread until there are events, a `kick()`, or about `timeoutNs` have passed; looks `spins` times first,
   * which is faster when events come close together. Throws EINVAL for a bad timeout, EBUSY inside a bracket or when
   * another thread sleeps for this vCPU, EOPNOTSUPP where a thread may not block (use `waitAsync`).
   */
  wait(timeoutNs?: number, spins = 0): WaitResult {
    return wait(this, timeoutNs, spins);
  }

  /**
   * As `wait`, without blocking the thread. A pending promise does not keep a Node process alive; give `createVm` or
   * `attachVm` a `hold` if it should.
   */
  waitAsync(timeoutNs?: number): Promise<WaitResult> {
    return waitAsync(this, timeoutNs);
  }

  /** Makes the vCPU return from its wait, or not begin one, events or not. */
  kick(): void {
    this.vm.checkOpen();
    this.vm.kernel.unblock(this.vm.vmBase, this.vm.agent, this.index, 0);
  }

  /**
   * Sleeps until one of `ports` is pending, masked or not; or as `wait`. [KX-HCL-33]
   * @returns true when one of them is pending. Throws EINVAL for a port out of range, and what `wait` throws.
   */
  poll(ports: readonly number[], timeoutNs?: number): boolean {
    return poll(this, ports, timeoutNs);
  }

  // ── the guest ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * What a thread that runs the vCPU does before guest code, and after a halt or a poll: answers every request, flushes the
   * shadow, delivers what a timer left, writes clocks and runstate, and says what to inject. After 'enter' the vCPU counts as
   * being in guest mode until `afterExit` or the next `beforeEntry`. [KX-EVT-57, 58, 61]
   * Throws EBUSY inside a bracket, and what writing the clock throws.
   */
  beforeEntry(): GuestEntry {
    return beforeEntry(this);
  }

  /** The vCPU has left guest mode. */
  afterExit(): void {
    afterExit(this);
  }

  /**
   * Whether a vCPU that halts or sleeps in a poll has a reason to go on, with `beforeEntry`: events, an expired timer, a kick,
   * the end of its poll or of the VM. After HLT the guest goes on when there is something to inject; a poll is over in any
   * case. [KX-EVT-60]
   */
  get runnable(): boolean {
    return runnable(this);
  }

  /** Whether events keep the vCPU from halting: kept in the shadow, or asking for an upcall by a vector. [KX-EVT-56] */
  get hasEvents(): boolean {
    return hasEvents(this);
  }

  /**
   * Whether the guest has to be left for `beforeEntry`: something was requested, or the vCPU's own vector is due. Cheap enough
   * to be asked between blocks of guest code; an upcall by the VM's vector shows in `upcallPending`. [KX-EVT-58]
   */
  get leaveRequested(): boolean {
    return leaveRequested(this);
  }

  // ── hypercalls ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The guest has executed VMCALL or VMMCALL. Any thread that runs the vCPU. [KX-HCL-10..14]
   * Throws EINVAL for a register, RIP or privilege level out of range, EBUSY when another thread polls for this vCPU, and what
   * `cpu` throws.
   */
  hypercall(cpu: GuestCpu): HypercallResult {
    return hypercall(this, cpu);
  }

  /**
   * Gives the guest the result, u64, of a hypercall that the embedder has handled, and goes on behind its instruction; unless
   * RIP has changed since, then nothing is touched. [KX-HCL-14]
   * @returns whether the guest got it. Throws EINVAL for a bad result, or when no hypercall waits for one.
   */
  completeHypercall(cpu: GuestCpu, result: bigint): boolean {
    return completeHypercall(this, cpu, result);
  }

  /**
   * The guest has executed WRMSR: if it is the hypercall page's MSR, its mode is taken over and the page is written. Never for
   * a write by the embedder itself. [KX-HCL-01..07, KX-VMA-03] Throws EFAULT for a hypercall blob that is not mapped.
   */
  writeMsr(cpu: GuestCpu, index: number, value: bigint): MsrWrite {
    return writeMsr(this, cpu, index, value);
  }

  // ── runstate and time ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Accounts a change of what this vCPU does at time `now`, and updates the guest's copy. `runDelay` is how long the
   * running thread has waited for a core so far; its growth while running counts as runnable (stolen). [KX-RUN-02]
   * One thread at a time may do this for a vCPU. Throws EINVAL for an unknown state or a bad time.
   */
  enterRunstate(state: RunstateName, now: Nanoseconds, runDelay: Nanoseconds = 0): void {
    enterRunstate(this, state, now, runDelay);
  }

  /**
   * This thread begins to run the vCPU: it enters KVM_RUN, or has its core back. With the gate open (`msr` configured) the vCPU
   * counts as running from its next guest entry on. `runDelay` as in `enterRunstate`. [KX-RUN-01] Throws EINVAL for a bad time.
   */
  load(runDelay: Nanoseconds = 0): void {
    load(this, runDelay);
  }

  /**
   * This thread ends to run the vCPU. Left to the embedder it stays running; preempted within KVM_RUN it becomes runnable, if
   * the gate is open; nothing in it waits for a page. [KX-RUN-01, KX-RUN-20] Throws EINVAL for a bad time.
   */
  unload(how: Unload = {}): void {
    unload(this, how);
  }

  /** The runstate as the host keeps it. Any thread; throws EAGAIN when its writer does not finish. */
  runstate(): Runstate {
    return readRunstate(this);
  }

  /**
   * Publishes a clock record to vcpu_info and vcpu_time_info, whichever are registered, under the version protocol.
   * [KX-CLK-11] Throws EINVAL for a value out of range.
   */
  writeTime(time: TimeInfo): void {
    writeTime(this, time);
  }

  /**
   * The guest's time at `tsc`, ns, computed from the guest's own record as the guest does. [KX-ABI-17]
   * Throws EAGAIN when there is no record, it was never written, or its version stays odd.
   */
  readTime(tsc: Nanoseconds, from: TimeSource = 'vcpu_info'): bigint {
    return readTime(this, tsc, from);
  }

  /**
   * Sets frequency and offset of the guest's TSC; what is left out stays. At first it is the host's, or nanoseconds where the
   * clock has none. The guest's clock records follow at its next entry. Owner only. Throws EINVAL for a frequency or offset out
   * of range. [KX-CLK-10]
   */
  setTsc(tsc: Partial<GuestTsc>): void {
    setTsc(this, tsc);
  }

  /** Frequency and offset of the guest's TSC; its offset as a u64. */
  getTsc(): GuestTsc {
    return getTsc(this);
  }

  /** The guest's TSC now, u64: the host's, scaled and shifted. Throws EOPNOTSUPP when this thread's clock lacks the VM's TSC. */
  readTsc(): bigint {
    return readTsc(this);
  }

  /**
   * Finds the Xen leaves in the embedder's CPUID, as KVM does when CPUID is set. Owner only. [KX-CLK-14]
   * @returns the first of them, or null: there are none
   */
  setCpuid(cpuid: Cpuid): number | null {
    return findXenLeaves(this, cpuid);
  }

  /**
   * What the guest gets for a leaf of CPUID of which the embedder has `registers`: in the Xen leaf about time, the scale and kHz
   * of its TSC, which it compares with its clock records. Needs the gate. [KX-CLK-14]
   */
  patchCpuid(leaf: number, subleaf: number, registers: CpuidRegisters): CpuidRegisters {
    return patchCpuid(this, leaf, subleaf, registers);
  }

  /** Asks the vCPU to do something before it runs again, without waking it. @internal */
  request(bits: number): void {
    this.vm.region.words.or(this.line + VCPU_REQUESTS, bits);
  }

  /** Takes requests. @returns those of `bits` that stood @internal */
  takeRequests(bits: number): number {
    return this.vm.region.words.and(this.line + VCPU_REQUESTS, ~bits) & bits;
  }

  /** KVM's id of this vCPU (the APIC id). */
  get id(): number {
    return this.vm.region.words.load(this.record + VCPU_KVM_ID);
  }

  // ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Events whose selector bit is in a vcpu_info that was just unregistered wait for the next one. [KF-13] @internal */
  keepSelector(info: Hpa): void {
    this.vm.kernel.keepSelector(this.vm.vmBase, this.vm.agent, this.index, info);
  }

  /** The kernel asks for this vCPU's upcall (unshared memory). @internal */
  answerKick(): void {
    if (this.#listener === null) return;
    try {
      this.#listener(this, this.takeUpcallVector());
    } catch (error) {
      // The sender is in the middle of a call: it must not see a stranger's exception.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  /** @internal */
  get listens(): boolean {
    return this.#listener !== null;
  }

  /** This view goes away: its listener is not called any more, an asynchronous wait of it ends. @internal */
  abandon(): void {
    if (this.listens) this.#stopListening();
    if (this.vm.shared) this.vm.region.words.notify(this.line + VCPU_KICK);
  }

  #stopListening(): void {
    const { vm } = this;
    this.#listener = null;
    // Another view of this VM may still listen.
    if (!vm.listeners.any(vm.vmBase, this.index)) vm.region.words.and(this.line + VCPU_KICK, ~KICK_LISTENER);
  }

  #handle(onPort: (port: number) => void, count: number): void {
    const { vm } = this;
    let done = 0;
    vm.handling = count;
    try {
      while (done < count) onPort(this.drained[done++] as number);
    } finally {
      vm.handling = 0;
      // The bits of these are cleared already: forgetting them would lose them. A copy, because a send may call a
      // listener that drains.
      for (const port of this.drained.slice(done, count)) raise(vm, port, this.index);
    }
  }

  /** A handler that drains, this vCPU or another: the list it is called from is kept aside. */
  #drainInside(onPort?: (port: number) => void): number {
    const { vm } = this;
    if (onPort === undefined) {
      throw new EvtchnError(
        'EBUSY',
        'drain() without a handler from inside a handler, whose ports are still in the list: pass one',
      );
    }
    const outer = vm.handling;
    const kept = this.drained.slice(0, outer);
    vm.handling = 0;
    try {
      return this.drain(onPort);
    } finally {
      this.drained.set(kept);
      vm.handling = outer;
    }
  }

  #drainSlow(error: number): number {
    const { vm } = this;
    vm.checkOpen();
    const count =
      error === -EAGAIN ? this.#retry(() => vm.kernel.drain(vm.vmBase, vm.agent, this.index, this.#list)) : error;
    // Not mapped in time: nothing was taken, and the next wait returns at once.
    if (count === -EAGAIN) return 0;
    return count < 0 ? this.#fail(count) : count;
  }

  /** Refreshes shared_info and vcpu_info and calls again while the fast half says "not usable here". */
  #retry(call: () => number): number {
    let result = call();
    for (let i = 0; i < REFRESH_TRIES && result === -EAGAIN; i++) {
      const { gpcs, region } = this.vm;
      const vcpuInfo = gpcs.refresh(this.line + VCPU_INFO_GPC);
      const sharedInfo = region.fifoActive ? mapFifo(this.vm) : gpcs.refresh(region.sharedInfo);
      result = call();
      if (result === -EAGAIN && (vcpuInfo < 0 || sharedInfo < 0)) return vcpuInfo < 0 ? vcpuInfo : sharedInfo;
    }
    return result;
  }

  #fail(error: number): never {
    const what = `shared_info or the vcpu_info of vCPU ${this.index}`;
    if (error === -EFAULT) throw new EvtchnError('EFAULT', `${what} is not in guest RAM`);
    if (error === -EINVAL)
      throw new EvtchnError('EINVAL', `${what} is not registered: set the attributes shared_info and vcpu_info first`);
    throw new EvtchnError(errnoName(error) ?? 'EAGAIN', `${what} could not be mapped in time`);
  }

  #mapInbox(): Uint32Array {
    const { memory, region, agent } = this.vm;
    return new Uint32Array(memory.buffer, region.inbox(agent), AGENT_LIST_PORTS);
  }
}
