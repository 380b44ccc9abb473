// One vCPU as one thread sees it: the receiving side.

import { EAGAIN, EBUSY, EFAULT, EINVAL } from '../abi/errno.ts';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SIZE,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_TIMESTAMP,
} from '../abi/pvclock.ts';
import {
  AGENT_LIST_PORTS,
  AGENT_RECORD,
  KICK_LISTENER,
  KICK_SLEEPER,
  REQUEST_VECTOR,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_REQUESTS,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
  VCPU_UPCALL_VECTOR,
} from '../abi/region.ts';
import {
  RUNSTATE_BLOCKED,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_OFFLINE,
  RUNSTATE_RUNNABLE,
  RUNSTATE_RUNNING,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_LONG,
} from '../abi/runstate.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange, EvtchnError, errnoName } from '../errors.ts';
import { gpa, type Hpa, pageOffset } from '../memory/address.ts';
import { canBlock } from '../platform.ts';
import { type AttrOf, getAttr, setAttr, VCPU_ATTRS, type VcpuAttr } from './attributes.ts';
import { checkTime, checkTimeout, highHalf, lowHalf, type Nanoseconds } from './time.ts';
import type { Vm } from './vm.ts';

/** Why a wait ended. 'unblocked' is somebody's `kick()`, 'closed' the end of the VM or of this view. */
export type WaitResult = 'events' | 'unblocked' | 'timeout' | 'closed';

/** What a vCPU does. */
export type RunstateName = 'running' | 'runnable' | 'blocked' | 'offline';

/** A vCPU's runstate: times in ns. `entryTime` equals the sum of `times`. [KX-RUN-03] */
export interface Runstate {
  readonly state: RunstateName;
  readonly entryTime: bigint;
  readonly times: Readonly<Record<RunstateName, bigint>>;
}

/** A pvclock record: the guest's time is systemTime + ((tsc - tscTimestamp) << shift) * mul / 2^32. [KX-ABI-15, 17] */
export interface TimeInfo {
  readonly tscTimestamp: Nanoseconds;
  readonly systemTime: Nanoseconds;
  /** u32 */
  readonly mul: number;
  /** -63..63 */
  readonly shift: number;
  /** bit 0: the TSC is stable */
  readonly flags?: number;
}

/** Called on the edge of an upcall, synchronously. `vector` is the vCPU's own upcall vector if one is due, else 0. */
export type UpcallListener = (vcpu: Vcpu, vector: number) => void;

const STATES: Readonly<Record<RunstateName, number>> = {
  running: RUNSTATE_RUNNING,
  runnable: RUNSTATE_RUNNABLE,
  blocked: RUNSTATE_BLOCKED,
  offline: RUNSTATE_OFFLINE,
};
const STATE_NAMES = Object.keys(STATES) as RunstateName[];

/** What `pendingWork` and the sleeps of the kernel find. */
const EVENTS = 1;
const UNBLOCKED = 2;
const CLOSED = 4;

/** No sleep lasts longer without a look, ns: a platform that forgets a notify costs a second. */
const LONGEST_SLEEP = 1e9;
const NS_PER_MS = 1e6;

/** What `sleepOn` answers when time has run out. */
const TIMED_OUT = 2;

/** The times a refresh is tried before a call that may sleep gives up. */
const REFRESH_TRIES = 16;

export class Vcpu {
  readonly vm: Vm;
  readonly index: number;
  /** @internal */ readonly line: number;
  /** @internal */ readonly record: number;
  #inbox: Uint32Array;
  #listener: UpcallListener | null = null;

  /** @internal */
  constructor(vm: Vm, index: number) {
    this.vm = vm;
    this.index = index;
    this.line = vm.region.vcpuLine(index);
    this.record = vm.region.vcpuRecord(index);
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

  // ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes every port that is pending, unmasked and bound to this vCPU: clears the bits, then calls `onPort` for each,
   * lowest first. Without `onPort` read them from `drained`. Bounded by the bitmap, however fast others send.
   * If `onPort` throws, the ports it was not called for are raised again.
   * @returns how many ports. Throws EINVAL when shared_info or vcpu_info is not registered, EFAULT when it cannot be
   *   reached, EBUSY without `onPort` from inside an `onPort`, which still reads the list.
   */
  drain(onPort?: (port: number) => void): number {
    const { vm } = this;
    if (vm.handling > 0) return this.#drainInside(onPort);
    let count = vm.kernel.drain(vm.vmBase, vm.agent, this.index, vm.region.inbox(vm.agent));
    if (count < 0) count = this.#drainSlow(count);
    if (onPort !== undefined) this.#handle(onPort, count);
    return count;
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
    const { words } = this.vm.region;
    const due = words.and(this.line + VCPU_REQUESTS, ~REQUEST_VECTOR) & REQUEST_VECTOR;
    return due ? words.load(this.line + VCPU_UPCALL_VECTOR) : 0;
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
    this.#listener = listener;
    if (listener === null) {
      vm.region.words.and(this.line + VCPU_KICK, ~KICK_LISTENER);
      return;
    }
    vm.region.words.or(this.line + VCPU_KICK, KICK_LISTENER);
    if (vm.kernel.pendingWork(vm.vmBase, vm.agent, this.index) & EVENTS) this.answerKick();
  }

  // ── sleeping ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Blocks this thread until there are events, a `kick()`, or about `timeoutNs` have passed; looks `spins` times first,
   * which is faster when events come close together. Throws EINVAL for a bad timeout, EBUSY inside a bracket or when
   * another thread sleeps for this vCPU, EOPNOTSUPP where a thread may not block (use `waitAsync`).
   */
  wait(timeoutNs?: number, spins = 0): WaitResult {
    const timeout = checkTimeout(timeoutNs);
    const { vm } = this;
    if (vm.detached) return 'closed';
    vm.gpcs.checkNoBracket();
    const found = vm.kernel.spin(vm.vmBase, vm.agent, this.index, spins);
    if (found) return result(found);
    if (!vm.shared)
      throw new EvtchnError(
        'EOPNOTSUPP',
        'wait needs shared memory: with a single agent nobody could wake it, use onUpcall',
      );
    if (!canBlock()) throw new EvtchnError('EOPNOTSUPP', 'this thread may not block: use waitAsync');
    return result(this.#sleep(timeout));
  }

  /**
   * As `wait`, without blocking the thread. A pending promise does not keep a Node process alive; give `createVm` or
   * `attachVm` a `hold` if it should.
   */
  async waitAsync(timeoutNs?: number): Promise<WaitResult> {
    let left = checkTimeout(timeoutNs);
    const { vm } = this;
    if (!vm.shared)
      throw new EvtchnError('EOPNOTSUPP', 'waitAsync needs shared memory: with a single agent use onUpcall');
    const release = vm.hold?.();
    try {
      while (!vm.detached) {
        vm.gpcs.checkNoBracket();
        let found = this.#checkSleeper(vm.kernel.sleepBegin(vm.vmBase, vm.agent, this.index));
        if (found) return result(found);
        const chunk = left < 0 ? LONGEST_SLEEP : Math.min(LONGEST_SLEEP, left);
        const outcome = await this.#sleepAsync(chunk / NS_PER_MS);
        if (vm.detached) break;
        found = vm.kernel.sleepEnd(vm.vmBase, vm.agent, this.index);
        if (found) return result(found);
        if (outcome === 'timed-out' && left >= 0) {
          left -= chunk;
          if (left <= 0) return 'timeout';
        }
      }
      return 'closed';
    } finally {
      release?.();
    }
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
    const { vm } = this;
    checkTimeout(timeoutNs);
    vm.checkOpen();
    checkRange('the number of ports to poll', ports.length, 0, AGENT_LIST_PORTS);
    vm.gpcs.checkNoBracket();
    vm.outbox.set(ports);
    const begin = (): number =>
      vm.kernel.pollBegin(vm.vmBase, vm.agent, this.index, vm.region.outbox(vm.agent), ports.length);
    const begun = this.#retry(begin);
    if (begun === -EINVAL)
      throw new EvtchnError('EINVAL', `poll: ports are 0 to ${vm.maxPorts - 1}, given were ${ports.join(', ')}`);
    if (begun < 0) this.#fail(begun);
    try {
      if (begun === 0) this.wait(timeoutNs);
      return ports.some((port) => (vm.kernel.portStatus(vm.vmBase, vm.agent, port) & 1) === 1);
    } finally {
      vm.kernel.pollEnd(vm.vmBase, this.index);
    }
  }

  // ── runstate and time ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Accounts a change of what this vCPU does at time `now`, and updates the guest's copy. `runDelay` is how long the
   * running thread has waited for a core so far; its growth while running counts as runnable (stolen). [KX-RUN-02]
   * One thread at a time may do this for a vCPU. Throws EINVAL for an unknown state or a bad time.
   */
  enterRunstate(state: RunstateName, now: Nanoseconds, runDelay: Nanoseconds = 0): void {
    const number = STATES[state];
    if (number === undefined)
      throw new EvtchnError('EINVAL', `the runstate is ${String(state)}, allowed are ${STATE_NAMES.join(', ')}`);
    checkTime('now', now);
    checkTime('runDelay', runDelay);
    const { vm } = this;
    vm.checkOpen();
    const written = vm.kernel.runstateEnter(
      vm.vmBase,
      vm.agent,
      this.index,
      number,
      lowHalf(now),
      highHalf(now),
      lowHalf(runDelay),
      highHalf(runDelay),
    );
    // Entering runnable happens where nothing may sleep: the guest's copy waits for the next change. [KX-RUN-20, 21]
    if (written === -EAGAIN && number !== RUNSTATE_RUNNABLE) this.writeRunstate();
  }

  /** The runstate as the host keeps it. Any thread; throws EAGAIN when its writer does not finish. */
  runstate(): Runstate {
    const { vm } = this;
    vm.checkOpen();
    if (vm.kernel.runstateRead(vm.vmBase, vm.agent, this.index) < 0) {
      throw new EvtchnError(
        'EAGAIN',
        `the runstate of vCPU ${this.index} is being changed for longer than a reader waits`,
      );
    }
    const view = vm.region.words.view(vm.agent + AGENT_RECORD, RUNSTATE_SIZE_LONG);
    const time = (state: number): bigint => view.getBigUint64(RUNSTATE_TIMES_LONG + 8 * state, true);
    return {
      state: STATE_NAMES[view.getInt32(RUNSTATE_STATE, true)] ?? 'offline',
      entryTime: view.getBigUint64(RUNSTATE_ENTRY_TIME_LONG, true),
      times: {
        running: time(RUNSTATE_RUNNING),
        runnable: time(RUNSTATE_RUNNABLE),
        blocked: time(RUNSTATE_BLOCKED),
        offline: time(RUNSTATE_OFFLINE),
      },
    };
  }

  /** Writes the guest's copy, refreshing its pages; gives up silently when they cannot be reached. [KX-RUN-22..26] @internal */
  writeRunstate(): void {
    const { vm } = this;
    for (let i = 0; i < REFRESH_TRIES; i++) {
      if (vm.kernel.runstateWrite(vm.vmBase, vm.agent, this.index) === 0) return;
      if (vm.gpcs.refresh(this.record + VCPU_RUNSTATE1_GPC) < 0 || !this.#mapSecondPage()) return;
    }
  }

  /** The mode may have grown the area over the page edge since it was registered. [KX-RUN-26] */
  #mapSecondPage(): boolean {
    const { gpcs, region } = this.vm;
    const gpc2 = this.record + VCPU_RUNSTATE2_GPC;
    if (gpcs.isActive(gpc2)) return gpcs.refresh(gpc2) === 0;
    const address = gpcs.gpaOf(this.record + VCPU_RUNSTATE1_GPC);
    const size = region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
    if (address === null) return false;
    const room = PAGE_SIZE - pageOffset(address);
    if (room >= size) return true;
    try {
      gpcs.activate(gpc2, 'the second page of runstate', gpa(address + room), size - room);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Publishes a clock record to vcpu_info and vcpu_time_info, whichever are registered, under the version protocol.
   * [KX-CLK-11] Throws EINVAL for a value out of range.
   */
  writeTime(time: TimeInfo): void {
    checkTime('tscTimestamp', time.tscTimestamp);
    checkTime('systemTime', time.systemTime);
    checkRange('mul', time.mul, 0, 2 ** 32 - 1);
    checkRange('shift', time.shift, -63, 63);
    checkRange('flags', time.flags ?? 0, 0, 255);
    const { vm } = this;
    vm.checkOpen();
    const view = vm.region.words.view(vm.agent + AGENT_RECORD, PVCLOCK_SIZE);
    view.setBigUint64(PVCLOCK_TSC_TIMESTAMP, BigInt(time.tscTimestamp), true);
    view.setBigUint64(PVCLOCK_SYSTEM_TIME, BigInt(time.systemTime), true);
    view.setUint32(PVCLOCK_MUL, time.mul, true);
    view.setInt8(PVCLOCK_SHIFT, time.shift);
    view.setUint8(PVCLOCK_FLAGS, time.flags ?? 0);
    const caches = [this.line + VCPU_INFO_GPC, this.record + VCPU_TIME_INFO_GPC];
    caches.forEach((gpc, i) => {
      const write = (): number => (vm.kernel.timeWrite(vm.vmBase, vm.agent, this.index, 1 << i) === 0 ? -EAGAIN : 0);
      if (vm.gpcs.isActive(gpc) && write() < 0 && vm.gpcs.refresh(gpc) === 0) write();
    });
  }

  /**
   * The guest's time at `tsc`, ns, computed from the guest's own record as the guest does. [KX-ABI-17]
   * Throws EAGAIN when there is no record, it was never written, or its version stays odd.
   */
  readTime(tsc: Nanoseconds, from: 'vcpu_info' | 'vcpu_time_info' = 'vcpu_info'): bigint {
    checkTime('tsc', tsc);
    const { vm } = this;
    vm.checkOpen();
    const which = from === 'vcpu_info' ? 1 : 2;
    if (vm.kernel.timeRead(vm.vmBase, vm.agent, this.index, which, lowHalf(tsc), highHalf(tsc)) < 0) {
      throw new EvtchnError('EAGAIN', `vCPU ${this.index} has no clock record in ${from} that can be read`);
    }
    return vm.region.words.view(vm.agent + AGENT_RECORD, 8).getBigUint64(0, true);
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

  /** This view goes away: an asynchronous wait of it ends. @internal */
  abandon(): void {
    const { words } = this.vm.region;
    if (this.#listener !== null) words.and(this.line + VCPU_KICK, ~KICK_LISTENER);
    if (this.vm.shared) words.notify(this.line + VCPU_KICK);
  }

  #sleep(timeout: number): number {
    const { kernel, vmBase, agent } = this.vm;
    for (let left = timeout; ; ) {
      let found = this.#checkSleeper(kernel.sleepBegin(vmBase, agent, this.index));
      if (found) return found;
      const chunk = left < 0 ? LONGEST_SLEEP : Math.min(LONGEST_SLEEP, left);
      const outcome = kernel.sleepOn(vmBase, this.index, chunk);
      found = kernel.sleepEnd(vmBase, agent, this.index);
      if (found) return found;
      if (outcome === TIMED_OUT && left >= 0) {
        left -= chunk;
        if (left <= 0) return 0;
      }
    }
  }

  async #sleepAsync(ms: number): Promise<string> {
    const { words } = this.vm.region;
    const flag = words.load(this.line + VCPU_KICK);
    if (!(flag & KICK_SLEEPER)) return 'not-equal';
    return await Atomics.waitAsync(words.i32, (this.line + VCPU_KICK) >>> 2, flag, ms).value;
  }

  #checkSleeper(found: number): number {
    if (found === -EBUSY)
      throw new EvtchnError('EBUSY', `another thread sleeps for vCPU ${this.index}: one runs a vCPU at a time`);
    return found;
  }

  #handle(onPort: (port: number) => void, count: number): void {
    const { vm } = this;
    let done = 0;
    vm.handling = count;
    try {
      while (done < count) onPort(this.drained[done++] as number);
    } finally {
      vm.handling = 0;
      // The bits of these are cleared already: forgetting them would lose them.
      for (; done < count; done++) vm.send(this.drained[done] as number);
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
      error === -EAGAIN
        ? this.#retry(() => vm.kernel.drain(vm.vmBase, vm.agent, this.index, vm.region.inbox(vm.agent)))
        : error;
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
      const sharedInfo = gpcs.refresh(region.sharedInfo);
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

function result(found: number): WaitResult {
  if (found & CLOSED) return 'closed';
  if (found & EVENTS) return 'events';
  return found & UNBLOCKED ? 'unblocked' : 'timeout';
}
