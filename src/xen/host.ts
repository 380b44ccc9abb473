// The host's own end points: code of the embedder's at the other end of a guest's port, as back ends in a control domain are. [XE-QE-20]

import { EAGAIN, EFAULT, ENOTCONN } from '../abi/errno.ts';
import { PORT_FREE, PORT_INTERDOMAIN, PORT_UNBOUND } from '../abi/xen_port.ts';
import { EvtchnError, errnoName } from '../errors.ts';
import type { Domain } from './domain.ts';
import { FREE_PORT, type Port } from './port_table.ts';
import { type End, raisePort } from './ports.ts';
import type { Xen } from './xen.ts';

/**
 * Called when the guest has sent, inside its send; and once when a channel is bound to a guest that may have sent before. It must not
 * run guest code; it may close channels. What it throws is reported as an uncaught error and does not reach the sender.
 */
export type HostListener = (channel: HostChannel) => void;

/** One event channel between a domain and code on the host. */
export interface HostChannel {
  readonly domid: number;
  /** the guest's port, 0 while it has not bound it */
  readonly port: number;
  /** the host's own end, as the guest's status shows it */
  readonly hostPort: number;
  /** Sets the guest's port pending. Does not throw. @returns 0, -ENOTCONN when the guest has none, -EAGAIN or -EFAULT when its page cannot be reached */
  notify(): number;
  /** Closes the host's end: the guest's port is unbound again, for the host. Idempotent. */
  close(): void;
}

interface HostPort {
  port: Port;
  /** null: the guest was restored, and nobody has bound it again */
  listener: HostListener | null;
  /** something was sent that nobody was told */
  missed: boolean;
  channel: Channel | null;
}

/** Ports of the host: 1..4095. */
const HOST_PORTS = 4096;

/** The host's ports. */
export class Host implements End {
  readonly #xen: Xen;
  readonly #ports = new Map<number, HostPort>();
  /** nobody but this thread sends from here @internal */ readonly vm = null;

  /** @internal */
  constructor(xen: Xen) {
    this.#xen = xen;
  }

  /** The id under which guests see the host. */
  get domid(): number {
    return this.#xen.hostDomid;
  }

  /**
   * Makes a port in domain `domid` that the host has bound: what a tool stack does for the console and for XenStore before the guest
   * starts. Throws ESRCH, EINVAL, ENOSPC as `allocUnbound` and `bind`.
   */
  bindUnbound(domid: number, onEvent: HostListener): HostChannel {
    const domain = this.#xen.domain(domid);
    const hostPort = this.#allocate();
    const port = domain.evtchn.allocUnbound({ remoteDom: this.domid });
    if (port < 0) throw failed(port, `domain ${domid} has no port for the host`);
    return this.#connect(domain, port, hostPort, onEvent, false);
  }

  /**
   * Binds a port that the guest has left unbound for the host, and calls `onEvent` once before it returns: what the guest has sent so
   * far was dropped (QEMU's dialect does not). Or one that was the host's when the guest was saved.
   * Throws ESRCH for no such domain, EINVAL for a port that is neither, ENOSPC when the host has no port.
   */
  bind(domid: number, port: number, onEvent: HostListener): HostChannel {
    const domain = this.#xen.domain(domid);
    domain.vm.checkOwner();
    if (!domain.ports.isValid(port)) throw new EvtchnError('EINVAL', `domain ${domid} has no port ${port}`);
    const { state, dom, number } = domain.table.load(port);
    const orphan = state === PORT_INTERDOMAIN && dom === this.domid ? this.#ports.get(number) : undefined;
    if (orphan && orphan.listener === null) return this.#listen(number, orphan, onEvent);
    const mine = dom === this.domid || domain.dialect.twoDomains;
    if (state !== PORT_UNBOUND || !mine) {
      throw new EvtchnError(
        'EINVAL',
        `port ${port} of domain ${domid} is not unbound for the host, domain ${this.domid}`,
      );
    }
    return this.#connect(domain, port, this.#allocate(), onEvent, domain.dialect.pendingOnBind);
  }

  /** A port of the host's that domain `domid` may bind, by its `hostPort`. Throws EINVAL for no domain id, ENOSPC. */
  listen(domid: number, onEvent: HostListener): HostChannel {
    const hostPort = this.#allocate();
    const entry = {
      port: { ...FREE_PORT, state: PORT_UNBOUND, dom: domid },
      listener: null,
      missed: false,
      channel: null,
    };
    this.#ports.set(hostPort, entry);
    return this.#listen(hostPort, entry, onEvent);
  }

  /** What the state machine of a domain sees. @internal */
  readonly table: End['table'] = {
    isValid: (port) => Number.isInteger(port) && port > 0 && port < HOST_PORTS,
    load: (port) => this.#ports.get(port)?.port ?? FREE_PORT,
    store: (port, to) => this.#store(port, to),
    storeWhat: (port, to) => this.#store(port, to),
  };

  #store(port: number, to: Port): void {
    const entry = this.#ports.get(port);
    if (entry) entry.port = to;
  }

  /** The guest has sent. @internal */
  deliver(hostPort: number, gone: number): number {
    const entry = this.#ports.get(hostPort);
    if (!entry) return gone;
    if (entry.listener === null || entry.channel === null) {
      entry.missed = true;
      return gone;
    }
    try {
      entry.listener(entry.channel);
    } catch (error) {
      // The guest is in the middle of a hypercall: it must not see a stranger's exception.
      queueMicrotask(() => {
        throw error;
      });
    }
    return 0;
  }

  /** A port of a guest that is restored: its end here waits for code to bind it. @internal */
  restore(hostPort: number, domid: number, port: number): boolean {
    const entry = this.#ports.get(hostPort);
    const back = { ...FREE_PORT, state: PORT_INTERDOMAIN, dom: domid, number: port };
    if (!entry) {
      if (!this.table.isValid(hostPort)) return false;
      this.#ports.set(hostPort, { port: back, listener: null, missed: true, channel: null });
      return true;
    }
    if (entry.port.state !== PORT_UNBOUND || entry.port.dom !== domid) return false;
    entry.port = back;
    return true;
  }

  /** The domain is no more: what waited for code to bind it is nobody's. @internal */
  forget(domid: number): void {
    for (const [hostPort, { listener, port }] of this.#ports) {
      if (listener === null && port.dom === domid) this.#ports.delete(hostPort);
    }
  }

  /** Takes `restore` back. @internal */
  unrestore(hostPort: number): void {
    const entry = this.#ports.get(hostPort);
    if (!entry) return;
    if (entry.listener === null) this.#ports.delete(hostPort);
    else entry.port = { ...FREE_PORT, state: PORT_UNBOUND, dom: entry.port.dom };
  }

  /** @internal */
  notify(hostPort: number): number {
    const { state, dom, number } = this.table.load(hostPort);
    if (state !== PORT_INTERDOMAIN) return -ENOTCONN;
    const domain = this.#xen.find(dom);
    if (!domain || domain.vm.detached) return -ENOTCONN;
    const consumer = this.#xen.listenerOf(domain, dom, number);
    if (consumer) return consumer();
    const raised = raisePort(domain.vm, number);
    return raised === -EAGAIN || raised === -EFAULT ? raised : 0;
  }

  /** @internal */
  close(hostPort: number): void {
    const entry = this.#ports.get(hostPort);
    if (!entry) return;
    const { state, dom, number } = entry.port;
    const domain = state === PORT_INTERDOMAIN ? this.#xen.find(dom) : undefined;
    if (domain && !domain.vm.detached) {
      domain.vm.checkOwner();
      const guest = domain.table.load(number);
      domain.table.storeWhat(number, { ...guest, state: PORT_UNBOUND, dom: this.domid });
    }
    this.#ports.delete(hostPort);
  }

  #connect(domain: Domain, port: number, hostPort: number, onEvent: HostListener, missed: boolean): HostChannel {
    const { consumer, target } = domain.table.load(port);
    const back = { ...FREE_PORT, state: PORT_INTERDOMAIN, dom: domain.domid, number: port };
    const entry = { port: back, listener: null, missed, channel: null };
    this.#ports.set(hostPort, entry);
    // After this end: who sees the state finds it.
    domain.table.store(port, {
      state: PORT_INTERDOMAIN,
      consumer,
      target,
      dom: this.domid,
      number: hostPort,
      peerRegion: 0,
    });
    return this.#listen(hostPort, entry, onEvent);
  }

  #listen(hostPort: number, entry: HostPort, onEvent: HostListener): HostChannel {
    const channel = new Channel(this, hostPort);
    entry.listener = onEvent;
    entry.channel = channel;
    // Something may have been sent while nobody listened. [XE-OP-22]
    if (entry.missed) this.deliver(hostPort, 0);
    entry.missed = false;
    return channel;
  }

  #allocate(): number {
    for (let port = 1; port < HOST_PORTS; port++) if (!this.#ports.has(port)) return port;
    throw new EvtchnError('ENOSPC', `all ${HOST_PORTS - 1} ports of the host are in use`);
  }
}

class Channel implements HostChannel {
  readonly #host: Host;
  readonly hostPort: number;
  #closed = false;

  constructor(host: Host, hostPort: number) {
    this.#host = host;
    this.hostPort = hostPort;
  }

  get domid(): number {
    return this.#host.table.load(this.hostPort).dom;
  }
  get port(): number {
    const { state, number } = this.#host.table.load(this.hostPort);
    return !this.#closed && state === PORT_INTERDOMAIN ? number : PORT_FREE;
  }
  notify(): number {
    return this.#closed ? -ENOTCONN : this.#host.notify(this.hostPort);
  }
  close(): void {
    if (this.#closed) return;
    this.#host.close(this.hostPort);
    this.#closed = true;
  }
}

/** @internal */
export function failed(result: number, sentence: string): EvtchnError {
  return new EvtchnError(errnoName(result) ?? 'EINVAL', sentence);
}
