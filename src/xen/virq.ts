// Virtual interrupts: their classes, and which port each of them raises. [XE-MOD-20..24]

import { VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from '../abi/xen_virq.ts';

/** Whose a VIRQ is: of each vCPU, of each domain, or of one domain. */
export type VirqClass = 'vcpu' | 'domain' | 'global';

const PER_VCPU: ReadonlySet<number> = new Set([VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU]);

/** The class of VIRQ `virq`, 0..23; numbers that have no name are global. [XE-MOD-20] */
export function virqClass(virq: number): VirqClass {
  if (PER_VCPU.has(virq)) return 'vcpu';
  return virq === VIRQ_ARGO ? 'domain' : 'global';
}
