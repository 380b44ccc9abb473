// Ports in a guest's table whose events the hypervisor itself consumes: the guest may not touch them. [XE-MOD-05]

import { ENOENT, ENOTCONN } from '../abi/errno.ts';
import { PORT_INTERDOMAIN, PORT_UNBOUND } from '../abi/xen_port.ts';
import { EvtchnError } from '../errors.ts';
import type { Domain } from './domain.ts';
import { failed } from './host.ts';

/** What `Domain.consume` takes. */
export interface ConsumerOptions {
  /** the domain, or the host, that may bind the port */
  readonly remoteDom: number;
  /** the vCPU that it is about, 0 by default */
  readonly vcpu?: number;
  /** takes over the port that the hypervisor had in a domain that was restored, and nobody has taken yet; then the other two say nothing */
  readonly port?: number;
}

/** Called when the other end has sent, inside its send. It must not run guest code; what it throws is reported as an uncaught error. */
export type ConsumerListener = (consumer: Consumer) => void;

/** The hypervisor's end of a channel that goes through a guest's port number. */
export class Consumer {
  readonly #domain: Domain;
  readonly #listener: ConsumerListener;
  /** its number in the domain's table */
  readonly port: number;
  #closed = false;

  /** @internal */
  constructor(domain: Domain, options: ConsumerOptions, listener: ConsumerListener) {
    domain.vm.checkOwner();
    this.#domain = domain;
    this.#listener = listener;
    this.port = options.port === undefined ? allocate(domain, options) : takeOver(domain, options.port);
  }

  /** Sets the other end pending. Does not throw. @returns 0, or -ENOTCONN when nobody has bound it */
  notify(): number {
    const { state, dom, number } = this.#domain.table.load(this.port);
    if (this.#closed || state !== PORT_INTERDOMAIN) return -ENOTCONN;
    return this.#domain.xen.raise(this.#domain, dom, number);
  }

  /** Closes the port: its other end is unbound then. Idempotent. Throws as `Evtchn.close`. */
  close(): void {
    if (this.#closed) return;
    if (!this.#domain.vm.detached) this.#domain.closeConsumer(this.port);
    this.#closed = true;
  }

  /** @internal */
  deliver(): number {
    try {
      this.#listener(this);
    } catch (error) {
      // The sender is in the middle of a hypercall.
      queueMicrotask(() => {
        throw error;
      });
    }
    return 0;
  }

  /** The domain is no more. @internal */
  end(): void {
    this.#closed = true;
  }
}

function allocate(domain: Domain, { remoteDom, vcpu = 0 }: ConsumerOptions): number {
  if (!domain.hasVcpu(vcpu)) throw failed(-ENOENT, `domain ${domain.domid} has no vCPU ${vcpu}`);
  const port = domain.ports.allocate();
  if (port < 0) throw failed(port, `domain ${domain.domid} has no port for the hypervisor`);
  domain.ports.bind(port, { state: PORT_UNBOUND, consumer: true, dom: remoteDom, target: vcpu });
  return port;
}

function takeOver(domain: Domain, port: number): number {
  const found = domain.table.isValid(port) && domain.table.load(port).consumer;
  if (found && !domain.consumers.has(port)) return port;
  throw new EvtchnError('EINVAL', `port ${port} of domain ${domain.domid} is not one that the hypervisor has left`);
}

/** @internal */
export function checkRemote(remoteDom: number): void {
  if (Number.isInteger(remoteDom) && remoteDom >= 0 && remoteDom <= 0xffff) return;
  throw new EvtchnError('EINVAL', `the remote domain is ${String(remoteDom)}, allowed are integers from 0 to 65535`);
}
