// EVTCHNOP_* as calls: what a guest's hypercall asks for, with Xen's order of checks and its answers. [XE-OP]
//
// Each returns 0 or what it has made, or a negative errno that the guest gets. Those that change something throw EPERM on a thread
// that is not the owner, EBADF on a view that is detached, and EBUSY or EAGAIN when they cannot wait for senders (inside a bracket,
// an agent that does not leave its own, an open invalidation): nothing has changed then.

import { EBUSY, EEXIST, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../abi/errno.ts';
import { DOMID_SELF } from '../abi/xen_domain.ts';
import {
  PORT_FREE,
  PORT_INTERDOMAIN,
  PORT_IPI,
  PORT_PIRQ,
  PORT_RESERVED,
  PORT_UNBOUND,
  PORT_VIRQ,
} from '../abi/xen_port.ts';
import type { Domain } from './domain.ts';
import type { InitControl } from './fifo.ts';
import type { Port } from './port_table.ts';
import { raisePort } from './ports.ts';
import { isVirq, virqClass, virqRow } from './virq.ts';

/** What EVTCHNOP_status says. [XE-OP-80] */
export type EvtchnStatus = { readonly vcpu: number } & (
  | { readonly status: 'closed' }
  /** `dom` may bind it */
  | { readonly status: 'unbound'; readonly dom: number }
  | { readonly status: 'interdomain'; readonly dom: number; readonly port: number }
  | { readonly status: 'pirq'; readonly pirq: number }
  | { readonly status: 'virq'; readonly virq: number }
  | { readonly status: 'ipi' }
);

/** The event channels of a domain, as its guest asks for them. */
export class Evtchn {
  readonly #domain: Domain;

  /** @internal */
  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /**
   * A port that `remoteDom` may bind; in domain `dom`, which is DOMID_SELF by default.
   * @returns the port, or -ESRCH, -EINVAL, -ENOSPC, -EPERM [XE-OP-10, 11]
   */
  allocUnbound({ dom = DOMID_SELF, remoteDom }: { readonly dom?: number; readonly remoteDom: number }): number {
    const caller = this.#caller();
    const { dialect, domid, xen } = caller;
    const owner = caller.resolve(dom);
    if (!owner || (dialect.twoDomains && owner !== caller)) return -ESRCH;
    const binder = remoteDom === DOMID_SELF ? domid : remoteDom;
    if (dialect.twoDomains && binder !== domid && binder !== xen.hostDomid) return -EPERM;
    // The host's ports are the embedder's own.
    if (owner === 'host') return -EPERM;
    const port = owner.ports.allocate();
    if (port < 0) return port;
    if (!caller.mayActOn(owner)) return -EPERM;
    owner.ports.bind(port, { state: PORT_UNBOUND, dom: binder });
    return port;
  }

  /**
   * Connects a port that a domain has left unbound for this one; the local port is pending then, because something may have been
   * sent before. @returns the local port, or -ESRCH, -EINVAL, -ENOSPC [XE-OP-20..23]
   */
  bindInterdomain({ remoteDom, remotePort }: { readonly remoteDom: number; readonly remotePort: number }): number {
    const caller = this.#caller();
    const { dialect, domid, ports, vm, xen } = caller;
    const remote = xen.end(remoteDom === DOMID_SELF ? domid : remoteDom);
    if (!remote || (dialect.twoDomains && remote.vm !== null && remote.domid !== domid)) return -ESRCH;
    if (dialect.remoteRangeFirst && !(remotePort >= 1 && remotePort < vm.maxPorts)) return -EINVAL;
    const port = ports.allocate();
    if (port < 0) return port;
    const known = remote.table.isValid(remotePort);
    // QEMU names what it finds in its table of handles.
    if (dialect.twoDomains && remote.vm === null) {
      const { state } = known ? remote.table.load(remotePort) : { state: PORT_FREE };
      if (state !== PORT_UNBOUND) return state === PORT_FREE ? -ENOENT : -EBUSY;
    }
    if (!known) return -EINVAL;
    const { state, dom } = remote.table.load(remotePort);
    if (state !== PORT_UNBOUND || dom !== domid) return -EINVAL;
    remote.vm?.checkOwner();
    if (dialect.pendingOnBind) ports.checkReachable();
    ports.connect(port, remote, remotePort);
    if (dialect.pendingOnBind) raisePort(vm, port);
    return port;
  }

  /** @returns the port, or -EINVAL, -ENOENT, -EBUSY, -EEXIST, -ENOSPC [XE-OP-30] */
  bindVirq({ virq, vcpu }: { readonly virq: number; readonly vcpu: number }): number {
    const domain = this.#caller();
    const { dialect, ports, xen } = domain;
    if (!isVirq(virq)) return -EINVAL;
    const kind = virqClass(virq);
    if (kind !== 'vcpu' && vcpu !== 0) return -EINVAL;
    if (!domain.hasVcpu(vcpu)) return -ENOENT;
    if (kind === 'global' && dialect.virqHandlers && xen.virqHandler(virq) !== domain.domid) return -EBUSY;
    const bound = ports.virqs.port(virqRow(virq, vcpu), virq) !== 0;
    if (bound && !dialect.virqAllocatesFirst) return -EEXIST;
    const port = ports.allocate();
    if (port < 0) return port;
    if (bound) return -EEXIST;
    ports.bind(port, { state: PORT_VIRQ, target: vcpu, number: virq });
    return port;
  }

  /** @returns the port, or -ENOENT, -ENOSPC [XE-OP-40] */
  bindIpi({ vcpu }: { readonly vcpu: number }): number {
    const domain = this.#caller();
    if (!domain.hasVcpu(vcpu)) return -ENOENT;
    const port = domain.ports.allocate();
    if (port < 0) return port;
    domain.ports.bind(port, { state: PORT_IPI, target: vcpu });
    return port;
  }

  /** BIND_PIRQ_WILL_SHARE, the only flag, means nothing to this kind of guest. @returns the port, or -EINVAL, -EEXIST, -ENOSPC [XE-OP-50, 51] */
  bindPirq({ pirq }: { readonly pirq: number; readonly flags?: number }): number {
    const domain = this.#caller();
    if (!Number.isInteger(pirq) || pirq < 0 || pirq >= domain.pirqs) return -EINVAL;
    if (domain.pirqPort(pirq) !== 0) return domain.dialect.pirqBound;
    const port = domain.ports.allocate();
    if (port < 0) return port;
    domain.ports.bind(port, { state: PORT_PIRQ, number: pirq });
    return port;
  }

  /** @returns 0, or -EINVAL [XE-OP-60..65] */
  close(port: number): number {
    const { dialect, ports } = this.#caller();
    if (!ports.isValid(port)) return -EINVAL;
    const { consumer, state } = ports.table.load(port);
    if (consumer || state === PORT_RESERVED) return -EINVAL;
    if (state === PORT_FREE) return dialect.closeFree;
    ports.close([port]);
    return 0;
  }

  /** On any thread. @returns 0, or -EINVAL [XE-OP-70]; see `Domain.send` for what else */
  send(port: number): number {
    return this.#domain.send(port);
  }

  /** Of a port of domain `dom`, DOMID_SELF by default. @returns what it is, or -ESRCH, -EINVAL, -EPERM [XE-OP-80] */
  status({ dom = DOMID_SELF, port }: { readonly dom?: number; readonly port: number }): EvtchnStatus | number {
    const caller = this.#domain;
    caller.vm.checkOpen();
    const owner = caller.resolve(dom);
    if (!owner || (caller.dialect.twoDomains && owner !== caller)) return -ESRCH;
    const known = owner === 'host' ? caller.xen.host.table.isValid(port) : owner.ports.isValid(port);
    if (!known) return -EINVAL;
    if (!caller.mayActOn(owner)) return -EPERM;
    return statusOf((owner === 'host' ? caller.xen.host.table : owner.table).load(port));
  }

  /** Later events of the port go to `vcpu`; one that is pending is not moved. @returns 0, or -ENOENT, -EINVAL [XE-OP-90, 91] */
  bindVcpu({ port, vcpu }: { readonly port: number; readonly vcpu: number }): number {
    const domain = this.#caller();
    if (!domain.hasVcpu(vcpu)) return -ENOENT;
    if (!domain.ports.isValid(port)) return -EINVAL;
    const found = domain.table.load(port);
    if (found.consumer || !isMovable(found)) return -EINVAL;
    domain.ports.move(port, vcpu);
    return 0;
  }

  /** On any thread. Clears the mask and, if the port was masked and is pending, raises it. @returns 0, or -EINVAL [XE-OP-100] */
  unmask(port: number): number {
    return this.#domain.unmask(port);
  }

  /**
   * Closes every port of domain `dom`, DOMID_SELF by default, and goes back to the 2-level ABI. With `atMost` it stops after so many
   * ports with -ERESTART; `resetContinue` goes on. @returns 0, or -ESRCH, -EPERM, -EINVAL not paused, -EBUSY one is under way,
   *   -EAGAIN a port was bound meanwhile [XE-OP-110..113]
   */
  reset({ dom = DOMID_SELF, atMost }: { readonly dom?: number; readonly atMost?: number } = {}): number {
    return this.#reset(dom, atMost, false);
  }

  /** Goes on with a reset that was stopped. @returns as `reset`, -EBUSY when there is none [XE-OP-112] */
  resetContinue({ dom = DOMID_SELF, atMost }: { readonly dom?: number; readonly atMost?: number } = {}): number {
    return this.#reset(dom, atMost, true);
  }

  #reset(dom: number, atMost: number | undefined, resuming: boolean): number {
    const caller = this.#caller();
    const owner = caller.resolve(dom);
    if (!owner || (caller.dialect.twoDomains && owner !== caller)) return -ESRCH;
    if (!caller.mayActOn(owner)) return -EPERM;
    if (owner === 'host' || (owner !== caller && !owner.paused)) return -EINVAL;
    return owner.resetPorts(resuming, atMost);
  }

  /** @returns 0 (the link bits are 17), or a negative errno [XE-OP-120] */
  initControl(args: InitControl): number {
    const { allowsFifo, dialect, fifo } = this.#caller();
    if (!dialect.fifo) return -ENOSYS;
    return allowsFifo ? fifo.initControl(args) : -EOPNOTSUPP;
  }

  /** @returns 0, or a negative errno [XE-OP-124] */
  expandArray(args: { readonly arrayGfn: number }): number {
    const { dialect, fifo } = this.#caller();
    return dialect.fifo ? fifo.expandArray(args) : -ENOSYS;
  }

  /** @returns 0, or a negative errno [XE-OP-126] */
  setPriority(args: { readonly port: number; readonly priority: number }): number {
    const { dialect, fifo } = this.#caller();
    return dialect.fifo ? fifo.setPriority(args) : -ENOSYS;
  }

  /** The domain, on the thread that may change it. */
  #caller(): Domain {
    this.#domain.vm.checkOwner();
    return this.#domain;
  }
}

/** What is bound to a vCPU for life stays there. [XE-OP-90] */
function isMovable({ state, number }: Port): boolean {
  if (state === PORT_VIRQ) return virqClass(number) !== 'vcpu';
  return state === PORT_UNBOUND || state === PORT_INTERDOMAIN || state === PORT_PIRQ;
}

function statusOf({ state, target: vcpu, dom, number }: Port): EvtchnStatus {
  switch (state) {
    case PORT_UNBOUND:
      return { status: 'unbound', vcpu, dom };
    case PORT_INTERDOMAIN:
      return { status: 'interdomain', vcpu, dom, port: number };
    case PORT_PIRQ:
      return { status: 'pirq', vcpu, pirq: number };
    case PORT_VIRQ:
      return { status: 'virq', vcpu, virq: number };
    case PORT_IPI:
      return { status: 'ipi', vcpu };
    default:
      return { status: 'closed', vcpu };
  }
}
