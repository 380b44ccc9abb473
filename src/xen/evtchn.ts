// EVTCHNOP_* as calls: what a guest's hypercall asks for, with Xen's order of checks and its answers. [XE-OP]
//
// Each returns 0 or what it has made, or a negative errno that the guest gets. They throw EPERM on a thread that is not the owner,
// EBADF on a view that is detached, and EBUSY inside a bracket or when an agent does not leave its own: nothing has changed then.

import { ENOSYS } from '../abi/errno.ts';
import type { Domain } from './domain.ts';
import type { InitControl } from './fifo.ts';

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

  /** A port that `remoteDom` may bind. `dom` is DOMID_SELF by default. @returns the port, or -ESRCH, -EINVAL, -ENOSPC, -EPERM [XE-OP-10, 11] */
  allocUnbound(_args: { readonly dom?: number; readonly remoteDom: number }): number {
    return this.#todo();
  }

  /** Connects a port that a domain has left unbound for this one. @returns the local port, or -ESRCH, -ENOSPC, -EINVAL [XE-OP-20..23] */
  bindInterdomain(_args: { readonly remoteDom: number; readonly remotePort: number }): number {
    return this.#todo();
  }

  /** @returns the port, or -EINVAL, -ENOENT, -EBUSY, -EEXIST, -ENOSPC [XE-OP-30] */
  bindVirq(_args: { readonly virq: number; readonly vcpu: number }): number {
    return this.#todo();
  }

  /** @returns the port, or -ENOENT, -ENOSPC [XE-OP-40] */
  bindIpi(_args: { readonly vcpu: number }): number {
    return this.#todo();
  }

  /** @returns the port, or -EINVAL, -EEXIST, -ENOSPC [XE-OP-50] */
  bindPirq(_args: { readonly pirq: number; readonly flags?: number }): number {
    return this.#todo();
  }

  /** @returns 0, or -EINVAL [XE-OP-60..65] */
  close(_port: number): number {
    return this.#todo();
  }

  /** On any thread. @returns 0, or -EINVAL [XE-OP-70]; see `Domain.send` for what else */
  send(port: number): number {
    return this.#domain.send(port);
  }

  /** `dom` is DOMID_SELF by default. @returns what the port is, or -ESRCH, -EINVAL, -EPERM [XE-OP-80] */
  status(_args: { readonly dom?: number; readonly port: number }): EvtchnStatus | number {
    return this.#todo();
  }

  /** @returns 0, or -ENOENT, -EINVAL [XE-OP-90] */
  bindVcpu(_args: { readonly port: number; readonly vcpu: number }): number {
    return this.#todo();
  }

  /** On any thread. @returns 0, or -EINVAL [XE-OP-100] */
  unmask(_port: number): number {
    return this.#todo();
  }

  /**
   * Closes every port. With `atMost` it stops after so many ports with -ERESTART, to be continued by `resetContinue`.
   * @returns 0, or -ESRCH, -EPERM, -EINVAL, -EBUSY, -EAGAIN, -ERESTART [XE-OP-110..113]
   */
  reset(_args: { readonly dom?: number; readonly atMost?: number } = {}): number {
    return this.#todo();
  }

  /** Goes on with a reset. @returns as `reset`; -EBUSY when none is under way [XE-OP-112] */
  resetContinue(_args: { readonly dom?: number; readonly atMost?: number } = {}): number {
    return this.#todo();
  }

  /** @returns 0 (the link bits are 17), or a negative errno [XE-OP-120] */
  initControl(args: InitControl): number {
    return this.#domain.fifo.initControl(args);
  }

  /** @returns 0, or a negative errno [XE-OP-124] */
  expandArray(args: { readonly arrayGfn: number }): number {
    return this.#domain.fifo.expandArray(args);
  }

  /** @returns 0, or a negative errno [XE-OP-126] */
  setPriority(args: { readonly port: number; readonly priority: number }): number {
    return this.#domain.fifo.setPriority(args);
  }

  #todo(): number {
    return this.#domain.vm.detached ? -ENOSYS : -ENOSYS;
  }
}
