// A guest as a Xen domain: a Vm with a port state machine.

import { EAGAIN, EBUSY, EINVAL, ERESTART } from '../abi/errno.ts';
import { REGION_DOMAIN, REGION_PEERS } from '../abi/region.ts';
import { DOMID_SELF } from '../abi/xen_domain.ts';
import { PEER_SIZE, PEERS, PORT_FREE, PORT_PIRQ, PORT_RESERVED } from '../abi/xen_port.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { reading } from '../vm/events/event.ts';
import type { XenGuestCpu } from '../vm/guest/guest_cpu.ts';
import type { HypercallResult } from '../vm/guest/hypercall.ts';
import type { HeldOptions, RestoreOptions, SnapshotOptions } from '../vm/snapshot/snapshot.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';
import { Consumer, type ConsumerListener, type ConsumerOptions, checkRemote } from './consumer.ts';
import type { Dialect, DialectName } from './dialect.ts';
import { Evtchn } from './evtchn.ts';
import { Fifo } from './fifo.ts';
import { Hvm, type HvmOptions } from './hvm.ts';
import { domainHypercall } from './hypercall/surface.ts';
import type { PortTable } from './port_table.ts';
import { Ports } from './ports.ts';
import { sendSlow } from './send.ts';
import { domainState, restoreDomain, snapshotDomain } from './snapshot/snapshot.ts';
import type { DomainState } from './snapshot/state.ts';
import { isVirq, virqRow } from './virq.ts';
import type { Xen } from './xen.ts';

/** What a domain is besides its Vm. */
export interface DomainOptions {
  /** 0..0x7fef; the lowest free from 1 on by default. */
  readonly domid?: number;
  /** Whose behaviour it shows; 'xen' by default. */
  readonly dialect?: DialectName;
  /** Whether it may act on other domains, as a control domain does; false by default. */
  readonly privileged?: boolean;
  /** The highest port that may be allocated: the administrative maximum; the last descriptor by default. [XE-MOD-11] */
  readonly maxPort?: number;
  /** Number of PIRQs, 0..65536; 0 by default. [XE-OP-50] */
  readonly pirqs?: number;
  /** Whether its guest may use the FIFO ABI; true by default. [XE-OP-127] */
  readonly fifo?: boolean;
  /** What it shows its guest besides event channels, and what the embedder does for it; the same on every thread. */
  readonly hvm?: HvmOptions;
}

/** A constant of this file: V8 reads and checks an imported one at every use. */
const NOT_HERE = -EAGAIN;
const INVALID = -EINVAL;

/**
 * A domain. Made by `Xen.createDomain` and `Xen.adopt`, or by `Xen.attachDomain` on another thread. Every thread sends and receives;
 * ports are changed by the owner's.
 */
export class Domain {
  readonly vm: Vm;
  readonly xen: Xen;
  readonly domid: number;
  readonly privileged: boolean;
  readonly pirqs: number;
  /** whether the guest may use the FIFO ABI @internal */ readonly allowsFifo: boolean;
  /** The port operations. */
  readonly evtchn: Evtchn;
  /** The FIFO ABI. */
  readonly fifo: Fifo;
  /** What it is to its guest besides event channels. */
  readonly hvm: Hvm;
  /** @internal */ readonly dialect: Dialect;
  /** @internal */ readonly ports: Ports;
  /** where this agent's records in other domains are, for the kernel @internal */
  readonly peers: number;
  /** the hypervisor's own ports @internal */
  readonly consumers: Map<number, Consumer> = new Map();
  #pauses = 0;
  /** the first port that a reset under way has not looked at, 0 while there is none */
  #resetNext = 0;
  /** ports of PIRQs as they were found last */
  readonly #pirqPorts = new Map<number, number>();

  /** @internal */
  constructor(xen: Xen, vm: Vm, dialect: Dialect, options: DomainOptions) {
    this.xen = xen;
    this.vm = vm;
    this.dialect = dialect;
    this.domid = vm.region.words.load(vm.vmBase + REGION_DOMAIN) - 1;
    this.privileged = options.privileged ?? false;
    this.pirqs = options.pirqs ?? 0;
    this.allowsFifo = options.fifo ?? true;
    this.peers = vm.region.part(REGION_PEERS) + vm.agentNumber * PEERS * PEER_SIZE;
    // What a thread that had this place has left.
    vm.region.words.zero(this.peers, PEERS * PEER_SIZE);
    this.fifo = new Fifo({
      vm,
      isValid: (port) => this.ports.isValid(port),
      isUsable: (port) => this.ports.isValid(port) && this.table.isUsable(port),
    });
    this.ports = new Ports(this, options.maxPort);
    this.evtchn = new Evtchn(this);
    this.hvm = new Hvm(this, options.hvm ?? {});
  }

  // ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * EVTCHNOP_send by this domain. Any thread. Does not throw. [XE-OP-70, 71]
   * @returns 0, whatever became of it; -EINVAL no port that can be sent to. Beyond Xen: -EFAULT (-14) and -EAGAIN (-11) when the
   *   receiver's shared_info cannot be reached, -ENXIO (-6) when this thread has no view of it or it is code on another thread,
   *   -EBADF (-9) on a view that is detached
   */
  send(port: number): number {
    if ((port | 0) !== port) return INVALID;
    const { vm } = this;
    const result = vm.kernel.xenSend(vm.vmBase, vm.agent, this.peers, port);
    return result > 0 || result === NOT_HERE ? sendSlow(this, port) : result;
  }

  /**
   * Raises a VIRQ: on `vcpu`, which matters to those that are per vCPU. Any thread. Does not throw. [XE-MOD-23]
   * @returns 1 raised, 0 pending already or nobody has bound it, or a negative errno: -ENOTCONN (-107) masked, it stays pending;
   *   -EINVAL (-22) no such VIRQ or vCPU; -EFAULT, -EAGAIN and -EBADF as `send`
   */
  raiseVirq(virq: number, vcpu = 0): number {
    if (!isVirq(virq) || !this.hasVcpu(vcpu)) return -EINVAL;
    const { vm } = this;
    const row = virqRow(virq, vcpu);
    const result = vm.kernel.xenRaiseVirq(vm.vmBase, vm.agent, row, virq);
    if (result !== NOT_HERE) return result;
    return vm.retry(() => vm.kernel.xenRaiseVirq(vm.vmBase, vm.agent, row, virq));
  }

  /** The port that a VIRQ raises, 0 for none. Throws EINVAL for no VIRQ or no vCPU. */
  virqPort(virq: number, vcpu = 0): number {
    this.vm.checkOpen();
    if (!isVirq(virq)) throw new EvtchnError('EINVAL', `there is no VIRQ ${String(virq)}`);
    checkRange('the vCPU index', vcpu, 0, this.vm.vcpus - 1);
    return this.ports.virqs.port(virqRow(virq, vcpu), virq);
  }

  /** Raises the port that a PIRQ is bound to. Any thread. Does not throw. @returns as `raiseVirq` */
  raisePirq(pirq: number): number {
    if (!Number.isInteger(pirq) || pirq < 0) return -EINVAL;
    const { vm } = this;
    return vm.retry(() =>
      reading(vm, () => {
        const port = this.pirqPort(pirq);
        return port === 0 ? 0 : vm.kernel.xenRaise(vm.vmBase, vm.agent, port);
      }),
    );
  }

  /** The port that a PIRQ is bound to, 0 for none. */
  pirqPort(pirq: number): number {
    const isBound = (port: number): boolean => {
      const { state, number } = this.table.load(port);
      return state === PORT_PIRQ && number === pirq;
    };
    const known = this.#pirqPorts.get(pirq);
    if (known !== undefined && isBound(known)) return known;
    for (let port = 1; port < this.table.valid; port++) {
      if (this.table.state(port) !== PORT_PIRQ || !isBound(port)) continue;
      this.#pirqPorts.set(pirq, port);
      return port;
    }
    return 0;
  }

  /** EVTCHNOP_unmask. Any thread. Does not throw. @returns 0, or -EINVAL [XE-OP-100] @internal */
  unmask(port: number): number {
    const { vm, table } = this;
    if (vm.detached || !this.ports.isValid(port)) return -EINVAL;
    if (table.state(port) === PORT_FREE) return this.dialect.unmaskFree;
    // Nothing that it could say matters to the guest.
    if (table.isUsable(port)) vm.unmask(port);
    return 0;
  }

  /**
   * The guest has executed VMCALL or VMMCALL on `vcpu`, or its index. Any thread that runs the vCPU; what changes the configuration is
   * 'exit' on a thread that is not the owner's: that one calls this for the same vCPU, with a processor that stands for the caller's.
   * Throws EINVAL for a register, RIP or privilege level out of range, EBUSY and EAGAIN as `Evtchn`, and what `cpu` and the hooks throw:
   * the guest's registers are untouched then. [XE-OP-01..03, XE-BT-01, 02]
   */
  hypercall(vcpu: Vcpu | number, cpu: XenGuestCpu): HypercallResult {
    return domainHypercall(this, typeof vcpu === 'number' ? this.vm.vcpu(vcpu) : vcpu, cpu);
  }

  // ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * A port of this domain's whose events the hypervisor, that is the embedder, consumes by itself; another domain or the host binds
   * it, and `onEvent` is called when that sends. The guest can neither use nor close it. Owner only. [XE-MOD-05]
   * Throws EINVAL, ENOENT for a vCPU that does not exist, ENOSPC.
   */
  consume(options: ConsumerOptions, onEvent: ConsumerListener): Consumer {
    checkRemote(options.remoteDom);
    const consumer = new Consumer(this, options, onEvent);
    this.consumers.set(consumer.port, consumer);
    return consumer;
  }

  /** Says that a controller has stopped the guest, which another domain's reset of its ports needs. Counts. */
  pause(): void {
    this.#pauses++;
  }
  /** Throws EINVAL without a `pause`. */
  unpause(): void {
    if (this.#pauses === 0) throw new EvtchnError('EINVAL', `domain ${this.domid} is not paused`);
    this.#pauses--;
  }
  get paused(): boolean {
    return this.#pauses > 0;
  }

  // ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Saves the domain as bytes: its VM as `Vm.snapshot` does, and its ports, HVM and FIFO state of the same moment. Owner only. Throws as
   * `Vm.snapshot`, and EBUSY while a reset is under way.
   */
  snapshot(options: SnapshotOptions = {}): Uint8Array<ArrayBuffer> {
    return snapshotDomain(this, options);
  }

  /** As `snapshot`, as an object that can be read, compared and put into JSON. It holds no RAM. */
  snapshotState(options: HeldOptions = {}): DomainState {
    return domainState(this, options);
  }

  /**
   * Makes this domain what was saved, whatever its own id is. All is checked before anything changes. A channel is connected again if its
   * other end is there: left unbound for this domain, or the host's, where `Host.bind` finds it. Else it is unbound, as if the other end
   * had been closed, and connects when that domain is restored. `Domain.consume` takes over the ports that the hypervisor had.
   * Owner only. Throws as `Vm.restore`; EINVAL for another dialect or ports that contradict each other, ENOSPC for more ports than there
   * is room for, EBUSY while a reset is under way. Nothing has changed then.
   */
  restore(saved: Uint8Array | DomainState, options: RestoreOptions = {}): void {
    restoreDomain(this, saved, options);
  }

  /**
   * Ends the domain: all its ports are closed, the other ends are unbound; a VM that was made with it is closed. Owner only.
   * Throws EBUSY and EAGAIN as `Evtchn.close`; nothing has changed then. Idempotent.
   */
  destroy(): void {
    if (this.vm.detached) return;
    this.vm.checkOwner();
    this.ports.dying = true;
    try {
      this.ports.close([...this.ports.bound()]);
    } catch (error) {
      this.ports.dying = false;
      throw error;
    }
    if (this.fifo.active) this.fifo.reset();
    this.xen.remove(this);
  }

  // ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  get table(): PortTable {
    return this.ports.table;
  }

  /** @internal */
  hasVcpu(vcpu: number): boolean {
    return Number.isInteger(vcpu) && vcpu >= 0 && vcpu < this.vm.vcpus;
  }

  /** Whom a domain id that this domain gives stands for. [XE-MOD-01] @internal */
  resolve(dom: number): Domain | 'host' | undefined {
    if (dom === DOMID_SELF || dom === this.domid) return this;
    return dom === this.xen.hostDomid ? 'host' : this.xen.find(dom);
  }

  /** @internal */
  mayActOn(owner: Domain | 'host'): boolean {
    return owner === this || this.privileged;
  }

  /** The end that a domain id stands for. @internal */
  end(domid: number) {
    return this.xen.end(domid);
  }

  /** The agent's entry for sends to a domain. @internal */
  peerEntry(domid: number): number {
    return this.peers + (domid & (PEERS - 1)) * PEER_SIZE;
  }

  /** @internal */
  closeConsumer(port: number): void {
    this.vm.checkOwner();
    this.ports.close([port]);
    this.consumers.delete(port);
  }

  /** Closes the guest's ports. @returns as `Evtchn.reset` [XE-OP-110..112] @internal */
  resetPorts(resuming: boolean, atMost: number | undefined): number {
    const { resetAtOnce } = this.dialect;
    const first = resuming ? this.#resetNext : resetAtOnce || this.#resetNext === 0 ? 1 : 0;
    if (first === 0) return -EBUSY;
    const end = atMost === undefined || resetAtOnce ? this.table.valid : Math.min(first + atMost, this.table.valid);
    this.ports.close(this.#guestPorts(first, end));
    this.#resetNext = end < this.table.valid ? end : 0;
    if (this.#resetNext !== 0) return -ERESTART;
    if (this.#guestPorts(1, this.table.valid).length > 0) return -EAGAIN;
    if (this.fifo.active) this.fifo.reset();
    return 0;
  }

  /** Ports from `first` to before `end` that are bound and no consumer's. */
  #guestPorts(first: number, end: number): number[] {
    const ports: number[] = [];
    for (let port = first; port < end; port++) {
      const { state, consumer } = this.table.load(port);
      if (state > PORT_RESERVED && !consumer) ports.push(port);
    }
    return ports;
  }

  /** @internal */
  get resetting(): boolean {
    return this.#resetNext !== 0;
  }
}
