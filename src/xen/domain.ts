// A guest as a Xen domain: a Vm with a port state machine.

import { ENOSYS } from '../abi/errno.ts';
import { REGION_DOMAIN } from '../abi/region.ts';
import type { GuestCpu } from '../vm/guest/guest_cpu.ts';
import type { HypercallResult } from '../vm/guest/hypercall.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';
import type { Dialect, DialectName } from './dialect.ts';
import { Evtchn } from './evtchn.ts';
import { Fifo } from './fifo.ts';
import { domainHypercall } from './hypercall.ts';
import { PortTable } from './port_table.ts';
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
  /** Number of PIRQs; 0 by default. [XE-OP-50] */
  readonly pirqs?: number;
}

/** A domain. Made by `Xen.createDomain` and `Xen.adopt`, or by `Xen.attachDomain` on another thread. */
export class Domain {
  readonly vm: Vm;
  readonly xen: Xen;
  readonly domid: number;
  readonly privileged: boolean;
  /** The port operations. */
  readonly evtchn: Evtchn;
  /** The FIFO ABI. */
  readonly fifo: Fifo;
  /** @internal */ readonly dialect: Dialect;
  /** @internal */ readonly table: PortTable;

  /** @internal */
  constructor(xen: Xen, vm: Vm, dialect: Dialect, options: DomainOptions) {
    this.xen = xen;
    this.vm = vm;
    this.dialect = dialect;
    this.domid = vm.region.words.load(vm.vmBase + REGION_DOMAIN) - 1;
    this.privileged = options.privileged ?? false;
    this.table = new PortTable(vm.region);
    this.evtchn = new Evtchn(this);
    const { table } = this;
    this.fifo = new Fifo({
      vm,
      isValid: (port) => table.isValid(port),
      isUsable: (port) => table.isValid(port) && table.isUsable(port),
      target: (port) => table.target(port),
    });
  }

  /** EVTCHNOP_send by this domain. Any thread. Does not throw. @returns 0, or -EINVAL [XE-OP-70, 71] */
  send(_port: number): number {
    return -ENOSYS;
  }

  /** Raises a VIRQ of vCPU `vcpu` (of any for those that are not per vCPU). Any thread. Does not throw. [XE-MOD-23] */
  raiseVirq(_virq: number, _vcpu = 0): number {
    return -ENOSYS;
  }

  /** The port that a VIRQ raises, 0 for none. */
  virqPort(_virq: number, _vcpu = 0): number {
    return 0;
  }

  /** Raises the port that a PIRQ is bound to. Any thread. Does not throw. */
  raisePirq(_pirq: number): number {
    return -ENOSYS;
  }

  /** The guest has executed VMCALL or VMMCALL on `vcpu`, or its index. */
  hypercall(vcpu: Vcpu | number, cpu: GuestCpu): HypercallResult {
    return domainHypercall(this, typeof vcpu === 'number' ? this.vm.vcpu(vcpu) : vcpu, cpu);
  }
}
