// The host: its domains by id, its own end points, its clock.

import { REGION_DOMAIN, REGION_PORT_CAPACITY } from '../abi/region.ts';
import { DOMID_FIRST_RESERVED } from '../abi/xen_domain.ts';
import { type AgentOptions, attachVm, createVm, type VmOptions } from '../create.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import { type Clock, VirtualClock } from '../vm/time/clock.ts';
import type { Vm, VmHandle } from '../vm/vm.ts';
import { DIALECTS } from './dialect.ts';
import { Domain, type DomainOptions } from './domain.ts';

export interface XenOptions {
  /** The clock of domains made here; a `VirtualClock` by default. */
  readonly clock?: Clock;
  /** The id under which guests see the host; 0 by default. */
  readonly hostDomid?: number;
}

/** Descriptors of a domain that says nothing. */
const DEFAULT_PORTS = 4096;

/** The host of a number of domains, in one memory or in several. All of them are owned by the thread that made it. */
export class Xen {
  readonly clock: Clock;
  readonly hostDomid: number;
  readonly #domains = new Map<number, Domain>();

  /** @internal */
  constructor(options: XenOptions) {
    this.clock = options.clock ?? new VirtualClock();
    this.hostDomid = options.hostDomid ?? 0;
    checkRange("the host's domain id", this.hostDomid, 0, DOMID_FIRST_RESERVED - 1);
  }

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

  /** Makes a VM and a domain of it. Throws what `createVm` and `adopt` throw. */
  createDomain(options: DomainOptions & VmOptions = {}): Domain {
    return this.adopt(createVm({ ports: DEFAULT_PORTS, clock: this.clock, ...options }), options);
  }

  /**
   * Makes a domain of a VM that this thread owns and that was made with `ports`. Throws EINVAL for an id that is reserved or the
   * host's, or a VM without ports, EEXIST for an id in use or a VM that is a domain.
   */
  adopt(vm: Vm, options: DomainOptions = {}): Domain {
    vm.checkOwner();
    const { words, base } = vm.region;
    if (words.load(base + REGION_PORT_CAPACITY) === 0) {
      throw new EvtchnError('EINVAL', 'this VM has no port descriptors: createVm({ ports }) sets how many');
    }
    if (words.load(base + REGION_DOMAIN) !== 0) throw new EvtchnError('EEXIST', 'this VM is a domain already');
    const domid = options.domid ?? this.#freeId();
    checkRange('the domain id', domid, 0, DOMID_FIRST_RESERVED - 1);
    if (domid === this.hostDomid || this.#domains.has(domid))
      throw new EvtchnError('EEXIST', `there is a domain ${domid}`);
    words.store(base + REGION_DOMAIN, domid + 1);
    return this.#add(new Domain(this, vm, DIALECTS[options.dialect ?? 'xen'], options));
  }

  /** This thread's view of a domain that another thread made: it sends and receives. Throws what `attachVm` throws, EINVAL when it is no domain. */
  attachDomain(handle: VmHandle, options: AgentOptions & Pick<DomainOptions, 'dialect'> = {}): Domain {
    const vm = attachVm(handle, options);
    if (vm.region.words.load(vm.vmBase + REGION_DOMAIN) === 0) {
      vm.detach();
      throw new EvtchnError('EINVAL', 'that VM is no domain');
    }
    return this.#add(new Domain(this, vm, DIALECTS[options.dialect ?? 'xen'], options));
  }

  #add(domain: Domain): Domain {
    this.#domains.set(domain.domid, domain);
    return domain;
  }

  #freeId(): number {
    let domid = 1;
    while (domid === this.hostDomid || this.#domains.has(domid)) domid++;
    return domid;
  }
}

/** A host for domains. Throws EINVAL for an id out of range. */
export function createXen(options: XenOptions = {}): Xen {
  return new Xen(options);
}
