// The port state machine of a domain: which port is allocated next, and every transition that there is. [XE-MOD-06, XE-MOD-10..15]
//
//   bind:  numbers ─ state ─ (VIRQ table)            a sender that sees the state sees the numbers
//   close: (VIRQ table) ─ peer unbound ─ free ─ wait for readers of both ends ─ pending cleared ─ numbers

import { EAGAIN, EINVAL, ENOSPC } from '../abi/errno.ts';
import { PORT_BOUND, PORT_TABLE_PORTS } from '../abi/region.ts';
import {
  MAX_DOMAIN_PORTS,
  PORT_BATCH,
  PORT_FREE,
  PORT_INTERDOMAIN,
  PORT_RESERVED,
  PORT_SAVED,
  PORT_UNBOUND,
  PORT_VIRQ,
} from '../abi/xen_port.ts';
import { EvtchnError } from '../errors.ts';
import type { Vm } from '../vm/vm.ts';
import type { Dialect } from './dialect.ts';
import type { Fifo } from './fifo.ts';
import { FREE_PORT, type Port, PortTable } from './port_table.ts';
import { VirqTable, virqRow } from './virq.ts';

/** One end of channels: a domain's ports, or the host's. @internal */
export interface End {
  readonly domid: number;
  /** whose brackets a change of its ports waits for; null: nobody else sends from it */
  readonly vm: Vm | null;
  readonly table: Pick<PortTable, 'isValid' | 'load' | 'store' | 'storeWhat'>;
}

/** What the ports ask of their domain. @internal */
export interface PortsOwner {
  readonly domid: number;
  readonly vm: Vm;
  readonly dialect: Dialect;
  readonly fifo: Fifo;
  /** the end that a domain id stands for */
  end(domid: number): End | undefined;
}

/** A close that is under way: nobody finds the ports any more, who has found them may still be sending. @internal */
export interface Closing {
  /** whose senders have to leave their brackets before `finish` */
  readonly readers: ReadonlySet<Vm>;
  undo(): void;
  finish(): void;
}

/** @internal */
export class Ports implements End {
  readonly table: PortTable;
  readonly virqs: VirqTable;
  readonly #owner: PortsOwner;
  readonly #maxPort: number;
  /** no port below is free */
  #firstFree = 1;
  /** no port may be allocated any more */
  dying = false;

  constructor(owner: PortsOwner, maxPort: number | undefined) {
    this.#owner = owner;
    this.table = new PortTable(owner.vm.region);
    this.virqs = new VirqTable(owner.vm.region);
    this.#maxPort = maxPort ?? MAX_DOMAIN_PORTS - 1;
  }

  get domid(): number {
    return this.#owner.domid;
  }
  get vm(): Vm {
    return this.#owner.vm;
  }

  /** The first descriptors. Port 0 is never anybody's. [XE-MOD-02] */
  begin(): void {
    this.table.store(0, { ...FREE_PORT, state: PORT_RESERVED });
    // QEMU's table is there from the start.
    this.table.valid = this.#owner.dialect.wholeTable ? this.table.capacity : PORT_BATCH;
  }

  /** The first port that cannot be allocated. [XE-MOD-11, XE-MOD-12] */
  get limit(): number {
    return Math.min(this.#maxPort + 1, this.table.capacity, this.#abiLimit);
  }

  get #abiLimit(): number {
    return this.vm.maxPorts;
  }

  /** Whether a guest's port names a descriptor. [XE-MOD-13] */
  isValid(port: number): boolean {
    return this.table.isValid(port) && (!this.#owner.dialect.wholeTable || port < this.#abiLimit);
  }

  /** The lowest port that is free, and not still linked in a queue. It stays free until it is bound. @returns or -EINVAL, -ENOSPC [XE-MOD-10, 11] */
  allocate(): number {
    if (this.dying) return -EINVAL;
    const { limit, table } = this;
    let free = 0;
    for (let port = this.#firstFree; port < limit; port++) {
      if (port >= table.valid) table.valid = Math.ceil((port + 1) / PORT_BATCH) * PORT_BATCH;
      if (table.state(port) !== PORT_FREE) continue;
      if (free === 0) free = this.#firstFree = port;
      if (!this.#owner.fifo.isBusy(port)) return port;
    }
    if (free === 0) this.#firstFree = Math.max(this.#firstFree, limit);
    return -ENOSPC;
  }

  /** A free port becomes something. */
  bind(port: number, to: Partial<Port> & { readonly state: number }): void {
    const { target = 0, number = 0 } = to;
    this.#owner.fifo.bound(port);
    // Before the state. On the other side: a sender that sees it looks here which vCPU gets the upcall.
    this.#place(port, PORT_BOUND | target);
    this.table.store(port, { ...FREE_PORT, ...to });
    if (to.state === PORT_VIRQ) this.virqs.set(virqRow(number, target), number, port);
  }

  /** Connects a free port of this domain and a port that the other end has left unbound for it. [XE-OP-21] */
  connect(port: number, remote: End, remotePort: number): void {
    const { vm } = this;
    // The kernel reaches what lies in its memory, by where its records are.
    const near = remote.vm !== null && remote.vm.memory === vm.memory;
    const regionOf = (of: Vm | null): number => (near && of ? of.vmBase + 1 : 0);
    const there = { dom: remote.domid, number: remotePort, peerRegion: regionOf(remote.vm) };
    this.bind(port, { state: PORT_INTERDOMAIN, ...there });
    // After the local end: a sender at the other finds this one complete.
    const { consumer, target } = remote.table.load(remotePort);
    const here = { dom: this.domid, number: port, peerRegion: regionOf(vm) };
    remote.table.store(remotePort, { state: PORT_INTERDOMAIN, consumer, target, ...here });
  }

  /** Future events of a port go to another vCPU. [XE-OP-91] */
  move(port: number, vcpu: number): void {
    this.table.storeWhat(port, { ...this.table.load(port), target: vcpu });
    this.#place(port, PORT_BOUND | vcpu);
    if (!this.#owner.dialect.raiseOnMove || port >= PORT_TABLE_PORTS) return;
    const { vm } = this;
    vm.gpcs.refresh(vm.region.sharedInfo);
    vm.kernel.bindVcpu(vm.vmBase, vm.agent, port, vcpu);
  }

  /**
   * Closes ports that are not free; the other ends of channels become unbound, for this domain. [XE-OP-61, 62]
   * Throws EBUSY and EAGAIN when it cannot wait for senders or cannot clear what is pending, EPERM when another thread owns the other
   * end: nothing has changed then.
   */
  close(ports: readonly number[]): void {
    const closing = this.beginClose(ports);
    try {
      for (const vm of closing.readers) vm.changes.awaitReaders();
    } catch (error) {
      closing.undo();
      throw error;
    }
    closing.finish();
  }

  /** A close up to where it waits for senders. */
  beginClose(ports: readonly number[]): Closing {
    const readers = this.#checkMayClose(ports);
    const undo: (() => void)[] = [];
    this.unbind(ports, undo);
    return {
      readers,
      undo: () => {
        for (const back of undo.reverse()) back();
        // Who has sent meanwhile was told nothing: better an event too many.
        for (const port of ports) this.#suspect(port);
      },
      // Nobody sends to them any more.
      finish: () => {
        for (const port of ports) this.#clear(port);
      },
    };
  }

  /** @returns the VMs whose senders may be on their way to one of the ports */
  #checkMayClose(ports: readonly number[]): Set<Vm> {
    const { vm } = this;
    const readers = new Set([vm]);
    for (const port of ports) {
      const { state, dom } = this.table.load(port);
      const peer = state === PORT_INTERDOMAIN ? this.#owner.end(dom)?.vm : undefined;
      if (peer && !peer.detached) readers.add(peer);
    }
    for (const reader of readers) {
      reader.checkOwner();
      reader.changes.checkNoBracket();
    }
    this.checkReachable();
    return readers;
  }

  /** Throws EAGAIN while shared_info may not be touched: what has to be pending, or not pending, could not be made so. */
  checkReachable(): void {
    const { gpcs, region } = this.vm;
    if (gpcs.refresh(region.sharedInfo) !== -EAGAIN) return;
    throw new EvtchnError(
      'EAGAIN',
      'an invalidation is open: ports that are or become pending can be changed when it has ended',
    );
  }

  /** Nobody finds the ports from here on. */
  unbind(ports: readonly number[], undo: (() => void)[]): void {
    for (const port of ports) this.#unbind(port, undo);
  }

  /** Allocation begins anew: descriptors were written from outside. */
  restart(): void {
    this.#firstFree = 1;
  }

  #unbind(port: number, undo: (() => void)[]): void {
    const old = this.table.load(port);
    if (old.state === PORT_VIRQ) {
      const row = virqRow(old.number, old.target);
      this.virqs.set(row, old.number, 0);
      undo.push(() => this.virqs.set(row, old.number, port));
    }
    if (old.state === PORT_INTERDOMAIN) this.#disconnect(old, port, undo);
    this.table.storeWhat(port, FREE_PORT);
    undo.push(() => this.table.storeWhat(port, old));
  }

  /** The peer keeps its vCPU, its priority and what is pending, and is not told. [XE-OP-62] */
  #disconnect({ dom, number }: Port, port: number, undo: (() => void)[]): void {
    const table = this.#owner.end(dom)?.table;
    const peer = table?.load(number);
    if (!table || !peer || !isPeer(peer, this.domid, port)) return;
    table.storeWhat(number, { ...peer, state: PORT_UNBOUND, dom: this.domid });
    undo.push(() => table.storeWhat(number, peer));
  }

  /** An event for either end may have been dropped. */
  #suspect(port: number): void {
    const { state, dom, number } = this.table.load(port);
    raisePort(this.vm, port);
    const peer = state === PORT_INTERDOMAIN ? this.#owner.end(dom)?.vm : undefined;
    if (peer && !peer.detached) raisePort(peer, number);
  }

  #clear(port: number): void {
    const { vm } = this;
    // Unreachable pages say nothing to anybody.
    vm.retry(() => vm.kernel.xenClearPending(vm.vmBase, vm.agent, port));
    this.#place(port, 0);
    this.table.store(port, FREE_PORT);
    this.#firstFree = Math.min(this.#firstFree, port);
  }

  /** The table that drains and 2-level raises look at. */
  #place(port: number, entry: number): void {
    this.vm.kernel.placePort(this.vm.vmBase, port, entry);
  }

  /** Raises what has become pending while the guest had no shared_info. */
  flushSaved(): void {
    const { table, vm } = this;
    const { words } = vm.region;
    for (let port = 1; port < table.valid; port++) {
      const kept = table.kept(port);
      if (!(words.load(kept) & PORT_SAVED) || !(words.and(kept, ~PORT_SAVED) & PORT_SAVED)) continue;
      if (raisePort(vm, port) === -EAGAIN) words.or(kept, PORT_SAVED);
    }
  }

  /** The VM is closed: the other ends are unbound, and who is late drops its event. Its records may be somebody else's soon. */
  abandon(): void {
    const readers = new Set<Vm>();
    for (const port of this.bound()) {
      const { state, dom } = this.table.load(port);
      const peer = state === PORT_INTERDOMAIN ? this.#owner.end(dom)?.vm : undefined;
      if (peer && !peer.detached) readers.add(peer);
      this.#unbind(port, []);
    }
    for (const vm of readers) {
      // Somebody who does not leave its bracket is at fault, and the close is not to be undone.
      if (!vm.changes.inBracket) attempt(() => vm.changes.awaitReaders());
    }
  }

  /** Ports that are not free, lowest first. */
  *bound(): Generator<number> {
    for (let port = 1; port < this.table.valid; port++) if (this.table.state(port) !== PORT_FREE) yield port;
  }
}

/** Whether a port is the other end of `port` of domain `domid`. @internal */
function isPeer({ state, dom, number }: Port, domid: number, port: number): boolean {
  return state === PORT_INTERDOMAIN && dom === domid && number === port;
}

/** Sets a usable port pending, mapping shared_info when it has to be. @returns as the kernel's `xenRaise`, or -EFAULT @internal */
export function raisePort(vm: Vm, port: number): number {
  return vm.retry(() => vm.kernel.xenRaise(vm.vmBase, vm.agent, port));
}

function attempt(action: () => void): void {
  try {
    action();
  } catch {}
}
