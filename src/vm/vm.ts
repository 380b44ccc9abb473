// A VM as one thread sees it: its own view of records that live in the memory.

import { EAGAIN, EINVAL } from '../abi/errno.ts';
import { FIFO_LIMIT } from '../abi/fifo.ts';
import {
  AGENT_BAD,
  AGENT_COALESCED,
  AGENT_DELIVERED,
  AGENT_DONE,
  AGENT_LIST_PORTS,
  AGENT_MASKED,
  AGENT_STATE,
  AGENT_USED,
  AGENT_WAKES,
  REGION_CLOSED,
  REGION_STATE,
  VCPU_KVM_ID,
  VCPU_REQUESTS,
} from '../abi/region.ts';
import { PORTS_COMPAT, PORTS_LONG } from '../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { isShared, type Kernel } from '../kernel.ts';
import type { Hva } from '../memory/address.ts';
import { hva } from '../memory/address.ts';
import { Changes, type InvalidateOptions } from '../memory/changes.ts';
import { DirtyLog } from '../memory/dirty_log.ts';
import { GpcSet, type PageFault } from '../memory/gpc.ts';
import { GuestMemory } from '../memory/guest_memory.ts';
import { createHistoricCache, type HistoricCache, type HistoricCacheOptions } from '../memory/historic_gpc.ts';
import { HostPages } from '../memory/host_pages.ts';
import { Memslots } from '../memory/memslots.ts';
import type { Region } from '../memory/region.ts';
import { getAttr, setAttr, VM_ATTRS, type VmAttr, type VmAttrRead } from './attributes.ts';
import { detachedKernel, isDetached } from './detached.ts';
import { type EvtchnEvent, evtchnSend } from './events/event.ts';
import { Eventfds } from './events/eventfds.ts';
import { type PortStatus, portStatus } from './events/port.ts';
import { type InterruptHandler, Routes } from './events/routes.ts';
import { SendPorts } from './events/send_ports.ts';
import { type Explanation, explain } from './explain/explain.ts';
import { repairFifo } from './fifo/repair.ts';
import { retryFifo } from './fifo/retry.ts';
import { capabilities, getHvmConfig, type HvmConfig, setHvmConfig } from './hvm_config.ts';
import type { Listening, UpcallListeners } from './listeners.ts';
import {
  type HeldOptions,
  type RestoreOptions,
  restore,
  type SnapshotOptions,
  snapshot,
  snapshotState,
} from './snapshot/snapshot.ts';
import type { VmState } from './snapshot/state.ts';
import type { Clock } from './time/clock.ts';
import { announceDeadline } from './time/deadline_watch.ts';
import { type DeadlineSource, nextDeadline, tick } from './time/deadlines.ts';
import { Kvmclock } from './time/kvmclock.ts';
import { checkTime, type Nanoseconds } from './time/nanoseconds.ts';
import { writeWallClock } from './time/wall_clock.ts';
import { Vcpu } from './vcpu.ts';
import { vmIoctl } from './wire/ioctl.ts';

/** Everything another thread needs to attach; `postMessage` can carry it when the memory is shared. */
export interface VmHandle {
  readonly memory: WebAssembly.Memory;
  readonly module: WebAssembly.Module;
  readonly regionBase: number;
}

/** Exact results of the last `sendMany`; they add up to the ports of its last 4096. */
export interface BatchCounts {
  readonly delivered: number;
  readonly coalesced: number;
  readonly masked: number;
  /** ports out of range */
  readonly bad: number;
}

/** How the owner of a thread keeps its event loop alive during an asynchronous wait: called at its start, returns the release. */
export type Hold = () => () => void;

/** @internal */
export interface VmParts {
  readonly kernel: Kernel;
  readonly module: WebAssembly.Module;
  readonly region: Region;
  readonly owner: boolean;
  readonly clock: Clock;
  readonly hold: Hold | undefined;
  readonly listeners: UpcallListeners;
  readonly onPageFault?: PageFault | undefined;
  readonly onInterrupt?: InterruptHandler | undefined;
}

/** From this length on `TypedArray.set` beats a loop. */
const SET_FROM = 32;

/** How often a send refreshes shared_info and begins again before it reports EAGAIN. */
const SEND_TRIES = 16;

/** Constants of this file: V8 reads and checks an imported one at every use. */
const NOT_HERE = -EAGAIN;
const INVALID = -EINVAL;

/**
 * A guest's event channels. Made by `createVm` (the owner) or `attachVm` (any other thread).
 * Sends, drains and waits may come from every attached thread; attributes and bindings from the owner only.
 */
export class Vm {
  // Plain fields, because a private one costs a send half a nanosecond.
  /** @internal */ kernel: Kernel;
  /** @internal */ readonly vmBase: number;
  /** @internal */ readonly agent: number;
  /** @internal */ readonly region: Region;
  /** @internal */ readonly changes: Changes;
  /** @internal */ readonly gpcs: GpcSet;
  /** @internal */ readonly hold: Hold | undefined;
  /** @internal */ readonly listeners: UpcallListeners;
  readonly #listening: Listening = {
    listens: (index) => this.#vcpus[index]?.listens ?? false,
    answer: (index) => this.#vcpus[index]?.answerKick(),
  };
  /** Guest-physical to host addresses. */
  readonly memslots: Memslots;
  /** Host addresses to frames of the memory. */
  readonly hostPages: HostPages;
  /** Which guest pages the engine has written. */
  readonly dirtyLog: DirtyLog;
  /** Guest RAM by guest-physical address. */
  readonly guestMemory: GuestMemory;
  /** What the guest may ring without leaving to the embedder. */
  readonly sendPorts: SendPorts;
  /** What each interrupt raises. */
  readonly routes: Routes;
  /** Counters that send ports signal and that raise interrupts. */
  readonly eventfds: Eventfds;
  /** The guest's clock. */
  readonly kvmclock: Kvmclock;
  /** Where time comes from. */
  readonly clock: Clock;
  /** Whether this thread may change attributes and bindings. */
  readonly owner: boolean;
  /** Whether the memory is shared: atomics and sleeping, or plain operations and synchronous upcalls. */
  readonly shared: boolean;
  readonly #module: WebAssembly.Module;
  readonly #vcpus: (Vcpu | undefined)[] = [];
  /** KVM's ids to indices */
  readonly #ids: ReadonlyMap<number, number>;
  #outbox: Uint32Array;
  #inBatch = false;
  /** ports of the drain whose handler is running, 0 when none is @internal */
  handling = 0;
  /** who wants to know that the guest has a shared_info, new or moved @internal */
  readonly onSharedInfo: Set<() => void> = new Set();
  /** what ends with this view @internal */
  readonly onDetach: Set<() => void> = new Set();
  /** what else has deadlines, for this view @internal */
  readonly deadlineSources: Set<DeadlineSource> = new Set();

  /** @internal */
  constructor(parts: VmParts) {
    this.kernel = parts.kernel;
    this.region = parts.region;
    this.vmBase = parts.region.base;
    this.agent = parts.region.takeAgent();
    this.changes = new Changes(parts.kernel, parts.region, this.agent);
    this.gpcs = new GpcSet(parts.kernel, parts.region, this.changes, parts.onPageFault);
    const checkOwner = (): void => this.checkOwner();
    this.memslots = new Memslots(parts.region, this.changes, checkOwner);
    this.hostPages = new HostPages(parts.region, this.changes, checkOwner);
    this.dirtyLog = new DirtyLog(parts.region, checkOwner);
    this.guestMemory = new GuestMemory(parts.region, this.gpcs, () => this.checkOpen());
    this.clock = parts.clock;
    this.hold = parts.hold;
    this.owner = parts.owner;
    this.shared = isShared(this.memory);
    this.listeners = parts.listeners;
    this.#module = parts.module;
    this.#outbox = this.#mapOutbox();
    this.sendPorts = new SendPorts(this);
    this.routes = new Routes(this, parts.onInterrupt);
    this.eventfds = new Eventfds(this);
    this.kvmclock = new Kvmclock(this);
    this.#ids = new Map(Array.from({ length: this.vcpus }, (_, i) => [this.#idOf(i), i]));
    this.listeners.add(this.vmBase, this.#listening);
  }

  get memory(): WebAssembly.Memory {
    return this.region.words.memory;
  }
  /** Number of vCPUs. */
  get vcpus(): number {
    return this.region.vcpus;
  }
  /** Linear offset of guest-physical address 0. */
  get guestBase(): number {
    return this.region.guestBase;
  }
  /** Bytes of guest RAM. */
  get guestBytes(): number {
    return this.region.guestBytes;
  }
  /** Ports are 1..maxPorts-1: 4096 in long mode, 1024 in compat [KX-ABI-07]; under the FIFO ABI what `fifoPorts` said [XE-MOD-12]. */
  get maxPorts(): number {
    const { region } = this;
    return region.fifoActive ? region.words.load(region.fifo + FIFO_LIMIT) : this.max2LevelPorts;
  }
  /** The same for what is the 2-level ABI's whatever ABI is in force: send ports and their structures. @internal */
  get max2LevelPorts(): number {
    return this.region.longMode ? PORTS_LONG : PORTS_COMPAT;
  }
  /** This thread's number among the agents of the VM. */
  get agentNumber(): number {
    return this.region.agentNumber(this.agent);
  }
  /** Sleepers that this thread's sends have woken. */
  get wakes(): number {
    return this.detached ? 0 : this.region.words.load(this.agent + AGENT_WAKES) >>> 0;
  }

  /** What another thread needs for `attachVm`. */
  handle(): VmHandle {
    return { memory: this.memory, module: this.#module, regionBase: this.vmBase };
  }

  /** vCPU `index`, 0..vcpus-1. Throws EINVAL for any other. */
  vcpu(index: number): Vcpu {
    const known = this.#vcpus[index];
    if (known) return known;
    checkRange('the vCPU index', index, 0, this.vcpus - 1);
    const vcpu = new Vcpu(this, index);
    this.#vcpus[index] = vcpu;
    return vcpu;
  }

  // ── attributes ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sets an attribute. Owner only (EPERM). Throws ENOENT for an unknown type, EINVAL for a bad value; where a mapping
   * changes also EFAULT for a page that cannot be reached, EAGAIN while an invalidation is open, EBUSY inside a bracket.
   * After EFAULT the new place stays registered: sends answer -EFAULT until it can be reached. [KX-VMA-05]
   */
  setAttr(attr: VmAttr): void {
    this.checkOwner();
    setAttr(VM_ATTRS, this, attr);
  }

  /** Reads an attribute back; `evtchn` reads as all outbound ports. Throws ENOENT for an unknown type, EOPNOTSUPP without runstate. */
  getAttr<T extends VmAttr['type']>(type: T): VmAttrRead<T> {
    this.checkOpen();
    return getAttr<Vm, VmAttr, T>(VM_ATTRS, this, type) as VmAttrRead<T>;
  }

  /** Replaces the configuration. Owner only. Throws EINVAL for a value out of range or blobs beside interception. [KX-CAP-11..17] */
  setConfig(config: HvmConfig): void {
    this.checkOwner();
    setHvmConfig(this, config);
  }

  /** The configuration; all 0 and false until set. */
  getConfig(): Required<HvmConfig> {
    this.checkOpen();
    return getHvmConfig(this);
  }

  /** What this VM offers, as bits of KVM_CAP_XEN_HVM. [KX-CAP-10] */
  get capabilities(): number {
    return capabilities(this);
  }

  /**
   * What the kernel would do for a VMM: a KVM_ request with its structure, or with the number that it takes. Does not throw for
   * anything that it may be given. [KX-ABI-40..46]
   * @returns 0 or more, or a negative errno: -ENOTTY (-25) for a request that is not known, -EFAULT (-14) for a structure that is
   *   too short, -EPERM (-1) for what only the owner may do; what is written into the structure is written on success only
   */
  ioctl(request: number, argument?: Uint8Array | number): number {
    return vmIoctl(this, request, argument);
  }

  /** The index of the vCPU with KVM's id `id`, or -1. [KX-EVT-10] @internal */
  indexOf(id: number): number {
    return this.#ids.get(id) ?? -1;
  }

  #idOf(index: number): number {
    return this.region.words.load(this.region.vcpuRecord(index) + VCPU_KVM_ID);
  }

  /** Asks every vCPU to do something before it runs again. @internal */
  requestAll(bits: number): void {
    for (let i = 0; i < this.vcpus; i++) this.region.words.or(this.region.vcpuLine(i) + VCPU_REQUESTS, bits);
  }

  /**
   * Binds a port to the vCPU that shall get its upcalls and alone drain it. Until then it is unbound: its upcall goes to the vCPU
   * that an event names, to vCPU 0 when it names none, and any vCPU drains it. An event on its way is not lost. Owner only.
   */
  bindVcpu(port: number, vcpuIndex: number): void {
    this.checkOwner();
    checkRange('the port', port, 1, this.maxPorts - 1);
    checkRange('the vCPU index', vcpuIndex, 0, this.vcpus - 1);
    // Mapped if it can be: a bind that cannot look at pending makes the new vCPU look, which costs a spurious upcall.
    this.gpcs.refresh(this.region.sharedInfo);
    this.kernel.bindVcpu(this.vmBase, this.agent, port, vcpuIndex);
  }

  // ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Raises a port. Does not throw.
   * @returns 1 delivered, 0 coalesced with one that is pending, or a negative errno: -ENOTCONN (-107) masked, it stays
   *   pending; -ENXIO (-6) under the FIFO ABI, its vCPU has no control block: dropped; -EINVAL (-22) no such port, or no shared_info; -EFAULT (-14) shared_info cannot be reached; -EAGAIN (-11)
   *   it could not be mapped in time; -EBADF (-9) this view is detached. [KX-EVT-10..21]
   */
  send(port: number): number {
    // The call would wrap it to 32 bits, to some other port. (Costs nothing that can be measured.)
    if ((port | 0) !== port) return INVALID;
    const result = this.kernel.send(this.vmBase, this.agent, port);
    return result === NOT_HERE ? this.#sendSlow(port) : result;
  }

  /**
   * Raises many ports as single sends would, at a fraction of the cost from some 8 on. Does not throw.
   * Pass `vm.outbox` itself, filled, to save the copy.
   * @returns the number delivered (`batchCounts` has the rest), or a negative errno as `send`: nothing was sent then of the 4096 that failed,
   *   under the FIFO ABI those that `batchCounts` has;
   *   -EINVAL also when `n` is no integer from 0 to the list's length
   */
  sendMany(ports: Uint32Array | readonly number[], n: number = ports.length): number {
    if (n >>> 0 !== n || n > ports.length) return -EINVAL;
    if (n > AGENT_LIST_PORTS) return this.#sendParts(ports, n);
    if (this.#inBatch) return this.#sendSingly(ports, n);
    if (ports !== this.#outbox) this.#fillOutbox(ports, n);
    this.#inBatch = !this.shared;
    const list = this.region.outbox(this.agent);
    let result = this.kernel.sendMany(this.vmBase, this.agent, list, n);
    if (result === NOT_HERE) {
      // A page-fault handler that sends must leave the list alone.
      this.#inBatch = true;
      result = this.#sendManySlow(n);
    }
    this.#inBatch = false;
    return result;
  }

  /**
   * Raises a port on a vCPU, as KVM_XEN_HVM_EVTCHN_SEND does. Any thread. Does not throw. [KX-RTE-30]
   * @returns 0 when it is pending now, whether it was before or is masked; or a negative errno: -EINVAL (-22) no such port, vCPU or
   *   priority, or no shared_info; -EFAULT (-14), -EAGAIN (-11) and -EBADF (-9) as `send`
   */
  evtchnSend(event: EvtchnEvent): number {
    return evtchnSend(this, event);
  }

  /** Exact counts of the last `sendMany` of up to 4096 ports. */
  get batchCounts(): BatchCounts {
    const { words } = this.region;
    if (this.detached) return { delivered: 0, coalesced: 0, masked: 0, bad: 0 };
    return {
      delivered: words.load(this.agent + AGENT_DELIVERED),
      coalesced: words.load(this.agent + AGENT_COALESCED),
      masked: words.load(this.agent + AGENT_MASKED),
      bad: words.load(this.agent + AGENT_BAD),
    };
  }

  /** This thread's list of 4096 ports to send, in the region. Fetch it anew after the memory has grown. */
  get outbox(): Uint32Array {
    if (this.#outbox.length === 0) this.#outbox = this.#mapOutbox();
    return this.#outbox;
  }

  /** Masks a port. @returns 1 it is masked now, 0 it was, or a negative errno as `send` */
  mask(port: number): number {
    if ((port | 0) !== port) return -EINVAL;
    const result = this.kernel.mask(this.vmBase, this.agent, port);
    return result === -EAGAIN ? this.#maskSlow(port) : result;
  }

  /** Unmasks a port; one that is pending is raised. @returns 1 raised, 0 nothing waited, or a negative errno as `send` */
  unmask(port: number): number {
    if ((port | 0) !== port) return -EINVAL;
    const result = this.kernel.unmask(this.vmBase, this.agent, port);
    return result === -EAGAIN ? this.#unmaskSlow(port) : result;
  }

  /** What can be seen of a port, for inspectors. Throws EINVAL for no port, or while shared_info is not registered. */
  portStatus(port: number): PortStatus {
    return portStatus(this, port);
  }

  /**
   * Why an event of a port did not arrive: one sentence, what it was found by, and what to do; `String(vm.explain(5))` shows all
   * of it. On any thread and for any number. Changes nothing, maps nothing and waits for nobody.
   */
  explain(port: number): Explanation {
    return explain(this, port);
  }

  /**
   * Opens a bracket: sends until `leave` skip their own, which is most of their cost. Keep it short; mappings cannot
   * change while it is open, and this thread may neither change them nor sleep. Throws EBUSY when one is open.
   */
  enter(): void {
    if (this.kernel.enter(this.agent) < 0) {
      this.checkOpen();
      throw new EvtchnError('EBUSY', 'this thread has a bracket open already: brackets do not nest');
    }
  }

  /** Closes the bracket. Throws EINVAL when none is open. */
  leave(): void {
    // In a listener that a batch has called, the bracket is the batch's.
    if (this.#inBatch || this.kernel.leave(this.agent) < 0) {
      this.checkOpen();
      throw new EvtchnError('EINVAL', 'leave() without an enter(): no bracket is open here');
    }
  }

  // ── mappings ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Announces that host addresses `first`..`last` (inclusive) are about to change. When it returns nothing
   * uses what was there, and nothing will before `invalidateEnd`. Owner only. [KX-MEM-01, 02]
   * @returns how many mappings were dropped. Throws EBUSY inside a bracket or when an agent does not leave its own.
   */
  invalidateStart(first: Hva | number, last: Hva | number, options: InvalidateOptions = {}): number {
    this.checkOwner();
    const [from, to] = [hva(first), hva(last)];
    if (from > to) throw new EvtchnError('EINVAL', `the first address ${from} is behind the last, ${to}`);
    return this.changes.invalidateStart(from, to, options);
  }

  /** The announced change is made. Throws EINVAL without a start. [KX-MEM-03] */
  invalidateEnd(): void {
    this.checkOwner();
    this.changes.invalidateEnd();
  }

  /**
   * A gfn-to-pfn cache as Linux 5.17 had it, to study: `init` maps it, invalidations of this VM reach it. Owner only. [KX-GPH-01..11]
   * Throws EINVAL for a vCPU that does not exist, and for `guestUsesPa` without one.
   */
  historicCache(options: HistoricCacheOptions = {}): HistoricCache {
    this.checkOwner();
    return createHistoricCache(this.region, this.gpcs, options);
  }

  /** Tells the guest the time of day at its clock's zero. [KX-VMA-20] @internal */
  writeWallClock(): void {
    writeWallClock(this);
  }

  // ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * When `tick` has something to do next, ns on the host's clock (`clock.now()`), or null: nothing is set. What is due already
   * has a deadline in the past. [KX-TMR-03, KX-HCL-34]
   */
  nextDeadline(): bigint | null {
    this.checkOpen();
    return nextDeadline(this);
  }

  /**
   * Does what is due at `now`, a reading of `clock` (ns): timers of vCPUs that expire, polls that time out; earliest first, each
   * once. Never early: a `now` ahead of the clock is taken back to it. Any thread; nothing in it waits. [KX-TMR-10, KX-HCL-37]
   * @returns how many there were. Throws EINVAL for what is no time.
   */
  tick(now: Nanoseconds = this.clock.now()): number {
    this.checkOpen();
    checkTime('now', now);
    return tick(this, BigInt(now));
  }

  // ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Saves the VM as bytes: all that the engine keeps, and with `ram` the guest's RAM. The VM goes on as it was; expiries of timers
   * that wait for their vCPU are delivered first. [KX-TMR-25, KF-79]
   *
   * Stop the vCPUs before: each unloaded, and no thread in guest code, in a handler of a drain or in the middle of a hypercall.
   * Senders may go on. An event whose send has returned is saved; one whose send is on its way is saved whole or not at all. RAM
   * that is not saved here has to be copied in `during`: before or after it, it would be of another moment than the state.
   *
   * Owner only. Throws EBUSY inside a bracket, while an invalidation is open, in a handler of a drain, or when an agent does not
   * leave its bracket; EOPNOTSUPP when this thread's clock is another than the VM was made with.
   */
  snapshot(options: SnapshotOptions = {}): Uint8Array<ArrayBuffer> {
    return snapshot(this, options);
  }

  /** As `snapshot`, as an object that can be read, compared and put into JSON. It holds no RAM. */
  snapshotState(options: HeldOptions = {}): VmState {
    return snapshotState(this, options);
  }

  /**
   * Makes this VM what was saved: one that was made with the same ids, RAM size and features, and with room for what is in it. All
   * is checked before anything changes. The guest's clock and TSC go on from where they stood; its wall clock follows. A vCPU that
   * slept in a poll wakes up and looks again. Eventfds keep their numbers: fetch them anew. With RAM in the snapshot the window is
   * replaced as well; without, put it there before, or in `during`, before any vCPU runs.
   *
   * Owner only, vCPUs stopped as for `snapshot`. Throws EINVAL for bytes that are damaged, cut off or of an unknown version, for a
   * value out of range and for a VM that is another machine; ENOSPC when this one has no room for something; EBUSY and EOPNOTSUPP
   * as `snapshot`. Nothing has changed then.
   */
  restore(saved: Uint8Array | VmState, options: RestoreOptions = {}): void {
    restore(this, saved, options);
  }

  // ── coming and going ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Gives this thread's place back. Its sends return -EBADF from here on. Idempotent; EBUSY from a drain's handler or a listener inside a batch. */
  detach(): void {
    if (this.detached) return;
    this.#checkMayLeave();
    this.listeners.remove(this.vmBase, this.#listening);
    this.changes.abandon();
    this.region.releaseAgent(this.agent);
    this.kernel = detachedKernel(this.kernel);
    // The list in the region belongs to whoever takes the place next.
    this.#outbox = new Uint32Array(AGENT_LIST_PORTS);
    // Now that the view is detached: its asynchronous waits wake up and find that.
    for (const vcpu of this.#vcpus) vcpu?.abandon();
    for (const end of this.onDetach) end();
  }

  /** Whose list is being worked off must stay until it is: it would be that of whoever takes the place next. */
  #checkMayLeave(): void {
    if (this.handling > 0)
      throw new EvtchnError('EBUSY', 'a handler of a drain may not detach its view or close the VM');
    if (this.#inBatch)
      throw new EvtchnError('EBUSY', 'a listener may not detach or close the view whose batch called it');
  }

  /** Removes an agent whose thread is dead: its bracket, its sleep and its place; what it had half sent is told. Owner only. Throws EINVAL for a number
   *  that is not attached, or this thread's own. */
  detachAgent(number: number): void {
    this.checkOwner();
    checkRange('the agent number', number, 0, this.region.agents - 1);
    const agent = this.region.agentRecord(number);
    if (agent === this.agent || this.region.words.load(agent + AGENT_STATE) !== AGENT_USED) {
      throw new EvtchnError('EINVAL', `agent ${number} is not another attached thread`);
    }
    this.region.releaseAgent(agent);
    repairFifo(this);
    // It may have died between a pending bit and its upcall: everybody looks at every word once. [KF-89]
    for (let i = 0; i < this.vcpus; i++) this.kernel.resync(this.vmBase, this.agent, i);
    // A timer that it was delivering is due again.
    announceDeadline(this);
  }

  /** Ends the VM for everybody: sleepers return 'closed', nobody can attach. Owner only; idempotent. */
  close(): void {
    if (this.detached) return;
    this.checkOwner();
    this.#checkMayLeave();
    this.region.words.store(this.vmBase + REGION_STATE, REGION_CLOSED);
    for (let i = 0; i < this.vcpus; i++) this.kernel.unblock(this.vmBase, this.agent, i, 1);
    this.sendPorts.end();
    this.eventfds.end();
    announceDeadline(this);
    this.detach();
  }

  /** Whether `detach` or `close` was called here. */
  get detached(): boolean {
    return isDetached(this.kernel);
  }

  /** @internal */
  checkOpen(): void {
    if (this.detached) throw new EvtchnError('EBADF', 'this view of the VM is detached');
  }

  /** @internal */
  checkOwner(): void {
    this.checkOpen();
    if (!this.owner) throw new EvtchnError('EPERM', 'only the owner, the thread that created the VM, may do this');
  }

  // ── the half that may sleep ──────────────────────────────────────────────────────────────────────────────────────

  /**
   * Refreshes shared_info and calls again while the fast half says "not usable here", up to SEND_TRIES times. [KX-EVT-27]
   * @internal
   */
  retry(call: () => number): number {
    let result = call();
    for (let i = 0; i < SEND_TRIES && result === -EAGAIN; i++) {
      if (this.region.fifoActive) {
        result = retryFifo(this, call);
        continue;
      }
      const refreshed = this.gpcs.refresh(this.region.sharedInfo);
      if (refreshed < 0) return refreshed;
      result = call();
    }
    return result;
  }

  // Each in a method of its own: a closure in the fast method would cost every call a context.
  #sendSlow(port: number): number {
    return this.retry(() => this.kernel.send(this.vmBase, this.agent, port));
  }
  #sendManySlow(n: number): number {
    const list = this.region.outbox(this.agent);
    return this.retry(() =>
      // Under the FIFO ABI a batch may end half-way: what was sent must not be sent again.
      this.region.words.load(this.agent + AGENT_DONE) === 0
        ? this.kernel.sendMany(this.vmBase, this.agent, list, n)
        : this.kernel.sendRest(this.vmBase, this.agent, list, n),
    );
  }
  #maskSlow(port: number): number {
    return this.retry(() => this.kernel.mask(this.vmBase, this.agent, port));
  }
  #unmaskSlow(port: number): number {
    return this.retry(() => this.kernel.unmask(this.vmBase, this.agent, port));
  }

  #mapOutbox(): Uint32Array {
    return new Uint32Array(this.memory.buffer, this.region.outbox(this.agent), AGENT_LIST_PORTS);
  }

  #fillOutbox(ports: Uint32Array | readonly number[], n: number): void {
    const outbox = this.outbox;
    if (ports instanceof Uint32Array && n === ports.length && n >= SET_FROM) {
      outbox.set(ports);
      return;
    }
    for (let i = 0; i < n; i++) {
      const port = ports[i] as number;
      // What is no 32-bit integer must not wrap to some port: 0 is none, and is counted as bad.
      outbox[i] = (port | 0) === port ? port : 0;
    }
  }

  #sendParts(ports: Uint32Array | readonly number[], n: number): number {
    let delivered = 0;
    for (let from = 0; from < n; from += AGENT_LIST_PORTS) {
      const part = ports.slice(from, Math.min(from + AGENT_LIST_PORTS, n));
      const result = this.sendMany(part);
      if (result < 0) return result;
      delivered += result;
    }
    return delivered;
  }

  /** A listener that sends while a batch is on its way must not touch that batch's list. */
  #sendSingly(ports: Uint32Array | readonly number[], n: number): number {
    let delivered = 0;
    for (let i = 0; i < n; i++) if (this.send(ports[i] as number) === 1) delivered++;
    return delivered;
  }
}
