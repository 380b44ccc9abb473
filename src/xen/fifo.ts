// The FIFO event-channel ABI's control operations, as a hypercall calls them: results are numbers, in Xen's order of checks.
// [XE-OP-120..127, XE-FF-40..43]

import { EACCES, EAGAIN, EBUSY, EINVAL, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP } from '../abi/errno.ts';
import {
  CONTROL_SIZE,
  EVENT_WORDS_PER_PAGE,
  FIFO_CAPACITY,
  FIFO_CONTROL_GPC,
  FIFO_DROPPED,
  FIFO_PAGES,
  FIFO_PORT_ENTRY,
  FIFO_PRIORITIES,
  FIFO_PRIORITY_DEFAULT,
  FIFO_SAVED,
} from '../abi/fifo.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { EvtchnError } from '../errors.ts';
import { gpa } from '../memory/address.ts';
import { fifoPort } from '../vm/fifo/records.ts';
import { repairFifo } from '../vm/fifo/repair.ts';
import { enterFifo, leaveFifo } from '../vm/fifo/switch.ts';
import type { Vm } from '../vm/vm.ts';
import { captureFifo, type FifoState, restoreFifo } from './fifo_state.ts';

/** What the FIFO ABI has to know of a domain's ports. */
export interface FifoPorts {
  readonly vm: Vm;
  /** whether a port has a descriptor, free or not [XE-MOD-13] */
  isValid(port: number): boolean;
  /** whether it is bound to something that the guest consumes [XE-MOD-05] */
  isUsable(port: number): boolean;
}

/** EVTCHNOP_init_control. */
export interface InitControl {
  /** frame of the guest that has the control block; it may be any u64 */
  readonly controlGfn: number | bigint;
  /** where in it: a multiple of 8 up to 4024 */
  readonly offset: number;
  /** index of the vCPU */
  readonly vcpu: number;
}

/** EVTCHNOP_expand_array. */
export interface ExpandArray {
  readonly arrayGfn: number | bigint;
}

/** EVTCHNOP_set_priority. */
export interface SetPriority {
  readonly port: number;
  readonly priority: number;
}

/** Frames beyond this are no number that is exact, and no guest's RAM either. */
const LAST_FRAME = 2 ** 40;

/** The FIFO ABI of one domain. Owner only (EPERM): Xen holds the domain's event lock for all of these. [XE-MOD-40] */
export class Fifo {
  readonly #ports: FifoPorts;
  readonly #vm: Vm;

  constructor(ports: FifoPorts) {
    this.#ports = ports;
    this.#vm = ports.vm;
  }

  /** Whether the FIFO ABI is in force. */
  get active(): boolean {
    return this.#vm.region.fifoActive;
  }

  /** Pages of event words that the guest has given; ports from 1024 times this on have no word. */
  get pages(): number {
    return this.active ? Math.max(this.#load(FIFO_PAGES), 0) : 0;
  }

  /** Events that were dropped: their vCPU had no control block, or a guest did not leave a tail alone. [XE-FF-12, XE-FF-32] */
  get dropped(): number {
    return this.#vm.region.fifo === 0 ? 0 : this.#load(FIFO_DROPPED) >>> 0;
  }

  /**
   * Gives a vCPU its control block; the first one of the domain puts the FIFO ABI in force, with what is pending kept until there are
   * words for it. [XE-OP-120..123]
   * @returns 0, or -EOPNOTSUPP the VM was made without `fifoPorts`, -ENOENT no such vCPU, -EINVAL a bad offset, a vCPU that has one, or a
   *   page that is not RAM, -EBUSY or -EAGAIN mappings cannot change now; nothing has changed then
   */
  initControl({ controlGfn, offset, vcpu }: InitControl): number {
    const vm = this.#vm;
    vm.checkOwner();
    if (vm.region.fifo === 0) return -EOPNOTSUPP;
    if (!Number.isInteger(vcpu) || vcpu < 0 || vcpu >= vm.vcpus) return -ENOENT;
    if (!Number.isInteger(offset) || offset < 0 || offset > PAGE_SIZE - CONTROL_SIZE) return -EINVAL;
    if (offset % 8 !== 0) return -EINVAL;
    const gpc = vm.region.fifoVcpu(vcpu) + FIFO_CONTROL_GPC;
    if (vm.gpcs.isActive(gpc)) return -EINVAL;
    const mapped = this.#map(gpc, 'the control block', controlGfn, offset, CONTROL_SIZE);
    if (mapped < 0 || this.active) return mapped;
    const entered = attempt(() => enterFifo(vm));
    if (entered < 0) vm.gpcs.deactivate(gpc);
    return entered;
  }

  /**
   * Appends a page of 1024 event words, and raises what was waiting for one of them. [XE-OP-124, XE-OP-125]
   * @returns 0, or -EOPNOTSUPP the 2-level ABI is in force, -ENOSPC there are as many as the ABI, or `fifoPorts`, allows, -EINVAL a page
   *   that is not RAM, -EBUSY or -EAGAIN mappings cannot change now
   */
  expandArray({ arrayGfn }: ExpandArray): number {
    const vm = this.#vm;
    vm.checkOwner();
    if (!this.active) return -EOPNOTSUPP;
    const page = this.pages;
    if (page >= this.#load(FIFO_CAPACITY)) return -ENOSPC;
    const gpc = vm.region.fifoPage(page);
    const mapped = this.#map(gpc, 'the page of event words', arrayGfn, 0, PAGE_SIZE);
    if (mapped < 0) return mapped;
    // After its page can be found. On the other side: a sender reads the number of pages first.
    vm.region.words.store(vm.region.fifo + FIFO_PAGES, page + 1);
    // A sender that has seen the old number may be saving an event still: it is in a bracket.
    const quiet = attempt(() => vm.changes.awaitReaders());
    this.#replay(page * EVENT_WORDS_PER_PAGE);
    return quiet;
  }

  /**
   * The priority of a port, 0..15, from its next link on. [XE-OP-126]
   * @returns 0, or -EINVAL no such port, -ENOSYS the 2-level ABI is in force, -EACCES the port is not usable, -EINVAL a bad priority
   */
  setPriority({ port, priority }: SetPriority): number {
    const vm = this.#vm;
    vm.checkOwner();
    if (!this.#ports.isValid(port)) return -EINVAL;
    if (!this.active) return -ENOSYS;
    if (!this.#ports.isUsable(port)) return -EACCES;
    if (!Number.isInteger(priority) || priority < 0 || priority >= FIFO_PRIORITIES) return -EINVAL;
    vm.kernel.fifoPriority(vm.vmBase, port, priority);
    return 0;
  }

  /** A port was bound, in whatever way: its priority is the default. [XE-FF-43, XE-OP-12, KF-74] */
  bound(port: number): void {
    const vm = this.#vm;
    vm.checkOwner();
    if (this.#has(port)) vm.kernel.fifoPriority(vm.vmBase, port, FIFO_PRIORITY_DEFAULT);
  }

  /**
   * A port is closed: what is pending of it is forgotten; in its queue it stays until the guest takes it out. [XE-FF-40, XE-MOD-15]
   * @returns 1 it was pending, 0 not, or a negative errno: -EAGAIN or -EFAULT its page cannot be reached
   */
  clearPending(port: number): number {
    const vm = this.#vm;
    if (!this.active || !this.#has(port)) return 0;
    return vm.retry(() => vm.kernel.fifoClear(vm.vmBase, vm.agent, port));
  }

  /** Whether a port is in a queue still, so that it must not be allocated again. [XE-FF-41, XE-MOD-10] */
  isBusy(port: number): boolean {
    const vm = this.#vm;
    if (!this.active || !this.#has(port)) return false;
    const bits = vm.retry(() => vm.kernel.portStatus(vm.vmBase, vm.agent, port));
    // One that cannot be looked at is better left alone.
    return bits < 0 || (bits & LINKED) !== 0;
  }

  /**
   * Back to the 2-level ABI as EVTCHNOP_reset does it, when all ports are closed: control blocks and pages of event words are given up. What
   * a port that is usable still has pending is carried over where there is a shared_info. Throws EBUSY when mappings cannot change.
   * [XE-OP-111]
   */
  reset(): void {
    this.#vm.checkOwner();
    if (this.active) leaveFifo(this.#vm, (port) => this.#ports.isUsable(port), false);
  }

  /**
   * Back to the 2-level ABI without losing an event, while others send; beyond Xen. PENDING and MASKED of every usable port become its
   * bits in shared_info, queues are emptied, every vCPU is asked to look.
   * @returns 0, or -ENOSPC a usable port has no place at 2 levels, -EINVAL there is no shared_info, -EFAULT a page of event words cannot be
   *   reached, -EBUSY or -EAGAIN mappings cannot change now; nothing has changed then
   */
  toTwoLevel(): number {
    const vm = this.#vm;
    vm.checkOwner();
    if (!this.active) return 0;
    for (let port = vm.max2LevelPorts; port < vm.maxPorts; port++) if (this.#ports.isUsable(port)) return -ENOSPC;
    repairFifo(vm);
    return attempt(() => leaveFifo(vm, (port) => this.#ports.isUsable(port), true));
  }

  /** What a snapshot has to hold of it beside guest RAM, or null while the 2-level ABI is in force. Senders held off, as for a snapshot. */
  state(): FifoState | null {
    return this.active ? captureFifo(this.#vm) : null;
  }

  /** Puts a saved state in force, with guest RAM as it was then. Throws EINVAL when it does not fit this VM or the FIFO ABI is in force already. */
  restore(state: FifoState): void {
    this.#vm.checkOwner();
    restoreFifo(this.#vm, state);
  }

  /** Raises the ports of a page that were pending before it was there. */
  #replay(first: number): void {
    const vm = this.#vm;
    const { words } = vm.region;
    for (let port = Math.max(first, 1); port < first + EVENT_WORDS_PER_PAGE; port++) {
      const entry = fifoPort(vm.region, port) + FIFO_PORT_ENTRY;
      if (!(words.load(entry) & FIFO_SAVED)) continue;
      if (this.#ports.isValid(port)) vm.retry(() => vm.kernel.fifoReplay(vm.vmBase, vm.agent, port));
      else words.and(entry, ~FIFO_SAVED);
    }
  }

  /** Points a cache at a page of the guest's, for good. @returns 0 or a negative errno: the cache is inactive then */
  #map(gpc: number, what: string, frame: number | bigint, offset: number, length: number): number {
    const gfn = Number(frame);
    if (!Number.isSafeInteger(gfn) || gfn < 0 || gfn > LAST_FRAME) return -EINVAL;
    const at = gpa(gfn * PAGE_SIZE + offset);
    const mapped = attempt(() => this.#vm.gpcs.activate(gpc, what, { gpa: at }, length));
    if (mapped < 0) attempt(() => this.#vm.gpcs.deactivate(gpc));
    return mapped === -EBUSY || mapped === -EAGAIN ? mapped : mapped < 0 ? -EINVAL : 0;
  }

  #has(port: number): boolean {
    const { fifo, words } = this.#vm.region;
    return fifo !== 0 && port > 0 && port < words.load(fifo + FIFO_CAPACITY) * EVENT_WORDS_PER_PAGE;
  }

  #load(field: number): number {
    const { words, fifo } = this.#vm.region;
    return words.load(fifo + field);
  }
}

/** Of what portStatus answers. */
const LINKED = 64;

/** Calls `body`. @returns 0, or the negative errno of what it throws */
function attempt(body: () => unknown): number {
  try {
    body();
    return 0;
  } catch (error) {
    if (error instanceof EvtchnError) return -error.errno;
    throw error;
  }
}
