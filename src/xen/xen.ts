// The host: its domains by id, its own end points, its clock.

import { EAGAIN, EFAULT, ENXIO } from '../abi/errno.ts';
import { EVENT_WORDS_PER_PAGE } from '../abi/fifo.ts';
import { REGION_DOMAIN, REGION_PORT_CAPACITY, REGION_VALID_PORTS } from '../abi/region.ts';
import { DOMID_FIRST_RESERVED } from '../abi/xen_domain.ts';
import { MAX_DOMAIN_PORTS } from '../abi/xen_port.ts';
import { type AgentOptions, attachVm, createVm, type VmOptions } from '../create.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { type Clock, VirtualClock } from '../vm/time/clock.ts';
import type { Vm, VmHandle } from '../vm/vm.ts';
import { DIALECTS, type Dialect, type DialectName } from './dialect.ts';
import { Domain, type DomainOptions } from './domain.ts';
import { Host } from './host.ts';
import { type End, raisePort } from './ports.ts';
import { forget } from './send.ts';
import { isVirq, virqClass } from './virq.ts';

export interface XenOptions {
  /** The clock of domains made here; a `VirtualClock` by default. */
  readonly clock?: Clock;
  /** The id under which guests see the host; 0 by default. */
  readonly hostDomid?: number;
}

/** Descriptors of a domain that says nothing. */
const DEFAULT_PORTS = 4096;
const MAX_PIRQS = 65536;

/**
 * The host of a number of domains, in one memory or in several. The thread that made it owns them; another thread makes its own and
 * attaches the domains that it runs or sends to.
 */
export class Xen {
  readonly clock: Clock;
  readonly hostDomid: number;
  /** Code on the host at the other end of channels. */
  readonly host: Host;
  readonly #domains = new Map<number, Domain>();
  /** domains whose VM was made here, and ends with them */
  readonly #made = new WeakSet<Domain>();
  readonly #virqHandlers = new Map<number, number>();

  /** @internal */
  constructor(options: XenOptions) {
    this.clock = options.clock ?? new VirtualClock();
    this.hostDomid = options.hostDomid ?? 0;
    checkRange("the host's domain id", this.hostDomid, 0, DOMID_FIRST_RESERVED - 1);
    this.host = new Host(this);
  }

  // ── domains ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** All of them, by id. */
  get domains(): Domain[] {
    return [...this.#domains.values()].sort((a, b) => a.domid - b.domid);
  }

  /** The domain with that id. Throws ESRCH when there is none. */
  domain(domid: number): Domain {
    const found = this.#domains.get(domid);
    if (!found) throw new EvtchnError('ESRCH', `there is no domain ${domid}`);
    return found;
  }

  /**
   * Makes a VM and a domain of it, by default with 4096 ports and room for as many under the FIFO ABI. In a memory of the caller's
   * nothing is added: `ports` and `fifoPorts` say how many, and `regionBytes(options)` what they take. Throws what `createVm` and `adopt` throw.
   */
  createDomain(options: DomainOptions & VmOptions = {}): Domain {
    const dialect = this.#checkOptions(options);
    // A region that the caller has placed is as large as the caller's options say: nothing is added to it.
    const own = options.memory === undefined;
    const { ports = own ? DEFAULT_PORTS : 0 } = options;
    // Room for the FIFO ABI, which a guest prefers where there is one.
    const fifo = own && dialect.fifo && (options.fifo ?? true);
    const fifoPorts = fifo ? Math.ceil(ports / EVENT_WORDS_PER_PAGE) * EVENT_WORDS_PER_PAGE : 0;
    const vm = createVm({ ports, fifoPorts, clock: this.clock, ...options });
    try {
      const domain = this.adopt(vm, options);
      this.#made.add(domain);
      return domain;
    } catch (error) {
      vm.close();
      throw error;
    }
  }

  /**
   * Makes a domain of a VM that this thread owns and that was made with `ports`. Its PIRQs, VIRQs and ports are the domain's from here
   * on. Throws EINVAL for an option out of range or a VM without ports, EEXIST for an id in use or a VM that is a domain.
   */
  adopt(vm: Vm, options: DomainOptions = {}): Domain {
    vm.checkOwner();
    const dialect = this.#checkOptions(options);
    const { words, base } = vm.region;
    if (words.load(base + REGION_PORT_CAPACITY) === 0) {
      throw new EvtchnError('EINVAL', 'this VM has no port descriptors: createVm({ ports }) sets how many');
    }
    if (words.load(base + REGION_DOMAIN) !== 0) throw new EvtchnError('EEXIST', 'this VM is a domain already');
    words.store(base + REGION_DOMAIN, (options.domid ?? this.#freeId()) + 1);
    const domain = new Domain(this, vm, dialect, options);
    domain.ports.begin();
    domain.hvm.begin();
    vm.onSharedInfo.add(() => domain.ports.flushSaved());
    return this.#add(domain);
  }

  /**
   * This thread's view of a domain that another thread made: it sends and receives. To send to a domain, that has to be attached here
   * too. Throws what `attachVm` throws, EINVAL when it is no domain, EEXIST when its id is in use here.
   */
  attachDomain(
    handle: VmHandle,
    options: AgentOptions & Pick<DomainOptions, 'dialect' | 'pirqs' | 'hvm'> = {},
  ): Domain {
    const dialect = dialectOf(options.dialect);
    const vm = attachVm(handle, options);
    const domid = vm.region.words.load(vm.vmBase + REGION_DOMAIN) - 1;
    if (domid >= 0 && !this.#taken(domid)) return this.#add(new Domain(this, vm, dialect, options));
    vm.detach();
    if (domid < 0) throw new EvtchnError('EINVAL', 'that VM is no domain');
    throw new EvtchnError('EEXIST', `there is a domain ${domid} here already`);
  }

  #add(domain: Domain): Domain {
    this.#domains.set(domain.domid, domain);
    domain.vm.onDetach.add(() => this.#forget(domain));
    return domain;
  }

  /** All its ports are closed. @internal */
  remove(domain: Domain): void {
    if (this.#made.has(domain)) {
      domain.vm.close();
      return;
    }
    this.#forget(domain);
    const { words, base } = domain.vm.region;
    words.store(base + REGION_VALID_PORTS, 0);
    words.store(base + REGION_DOMAIN, 0);
  }

  /** It is out of reach of this thread: by its end, by a detach of its view, or by a close of its VM. */
  #forget(domain: Domain): void {
    if (this.#domains.get(domain.domid) !== domain) return;
    this.#domains.delete(domain.domid);
    for (const other of this.#domains.values()) forget(other, domain);
    for (const consumer of domain.consumers.values()) consumer.end();
    for (const [virq, domid] of this.#virqHandlers) if (domid === domain.domid) this.#virqHandlers.delete(virq);
    if (!domain.vm.owner) return;
    domain.ports.abandon();
    this.host.forget(domain.domid);
  }

  #taken(domid: number): boolean {
    return domid === this.hostDomid || this.#domains.has(domid);
  }

  #freeId(): number {
    let domid = 1;
    while (this.#taken(domid)) domid++;
    return domid;
  }

  #checkOptions({ dialect, domid, maxPort, pirqs }: DomainOptions): Dialect {
    if (domid !== undefined) checkRange('the domain id', domid, 0, DOMID_FIRST_RESERVED - 1);
    if (maxPort !== undefined) checkRange('the highest port', maxPort, 0, MAX_DOMAIN_PORTS - 1);
    if (pirqs !== undefined) checkRange('the number of PIRQs', pirqs, 0, MAX_PIRQS);
    if (domid !== undefined && this.#taken(domid))
      throw new EvtchnError('EEXIST', `there is a domain ${domid} already`);
    return dialectOf(dialect);
  }

  // ── global VIRQs ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** The domain that a global VIRQ goes to: the host unless it was said. [XE-MOD-22] */
  virqHandler(virq: number): number {
    return this.#virqHandlers.get(virq) ?? this.hostDomid;
  }

  /**
   * Hands a global VIRQ to a domain. Throws EINVAL for one that is not global, ESRCH for no domain, EBUSY while the domain that has it
   * has bound it: it would lose it without a word. [XE-MOD-22, KF-26]
   */
  setVirqHandler(virq: number, domid: number): void {
    if (!isVirq(virq) || virqClass(virq) !== 'global') {
      throw new EvtchnError('EINVAL', `VIRQ ${String(virq)} is not global: it has no handler`);
    }
    if (domid !== this.hostDomid) this.domain(domid);
    const holder = this.virqHandler(virq);
    if (holder !== domid && (this.#domains.get(holder)?.virqPort(virq) ?? 0) !== 0) {
      throw new EvtchnError('EBUSY', `VIRQ ${virq} is bound by its handler, domain ${holder}: close its port first`);
    }
    this.#virqHandlers.set(virq, domid);
  }

  /** Raises a global VIRQ in its handler domain. @returns as `Domain.raiseVirq`; 0 also when the host is the handler */
  raiseGlobalVirq(virq: number): number {
    const domain = this.#domains.get(this.virqHandler(virq));
    return domain ? domain.raiseVirq(virq) : 0;
  }

  // ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  find(domid: number): Domain | undefined {
    return this.#domains.get(domid);
  }

  /** @internal */
  end(domid: number): End | undefined {
    return domid === this.hostDomid ? this.host : this.#domains.get(domid)?.ports;
  }

  /** What delivers to a port that is no guest's: code on the host, or the hypervisor's own; null for others. @internal */
  listenerOf(sender: Domain, dom: number, port: number): (() => number) | null {
    if (dom === this.hostDomid) {
      return sender.vm.owner ? () => this.host.deliver(port, sender.dialect.hostGone) : () => -ENXIO;
    }
    const peer = this.#domains.get(dom);
    if (!peer || peer.vm.detached || !peer.ports.isValid(port) || !peer.table.load(port).consumer) return null;
    const consumer = peer.consumers.get(port);
    return () => consumer?.deliver() ?? -ENXIO;
  }

  /** Raises a port at the other end of a consumer's. @internal */
  raise(from: Domain, dom: number, port: number): number {
    const listener = this.listenerOf(from, dom, port);
    if (listener) return listener();
    const peer = this.#domains.get(dom);
    if (!peer || peer.vm.detached) return -ENXIO;
    const raised = raisePort(peer.vm, port);
    return raised === -EAGAIN || raised === -EFAULT ? raised : 0;
  }
}

function dialectOf(name: DialectName = 'xen'): Dialect {
  if (!Object.hasOwn(DIALECTS, name)) {
    throw new EvtchnError(
      'EINVAL',
      `the dialect is ${String(name)}, allowed are ${Object.keys(DIALECTS).join(' and ')}`,
    );
  }
  return DIALECTS[name];
}

/** A host for domains. Throws EINVAL for an id out of range. */
export function createXen(options: XenOptions = {}): Xen {
  return new Xen(options);
}
