// Virtual interrupts: their classes, and which port each of them raises. [XE-MOD-20..24]

import { REGION_VIRQS } from '../abi/region.ts';
import { NR_VIRQS, VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from '../abi/xen_virq.ts';
import type { Region } from '../memory/region.ts';

/** Whose a VIRQ is: of each vCPU, of each domain, or of one domain. */
export type VirqClass = 'vcpu' | 'domain' | 'global';

const PER_VCPU: ReadonlySet<number> = new Set([VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU]);

/** The class of VIRQ `virq`, 0..23; numbers that have no name are global. [XE-MOD-20] */
export function virqClass(virq: number): VirqClass {
  if (PER_VCPU.has(virq)) return 'vcpu';
  return virq === VIRQ_ARGO ? 'domain' : 'global';
}

/** Whether there is such a VIRQ. @internal */
export function isVirq(virq: number): boolean {
  return Number.isInteger(virq) && virq >= 0 && virq < NR_VIRQS;
}

/** The row of the table that a VIRQ of `vcpu` is in: what is not per vCPU stands in vCPU 0's. [XE-MOD-21] @internal */
export function virqRow(virq: number, vcpu: number): number {
  return virqClass(virq) === 'vcpu' ? vcpu : 0;
}

/** Which port each VIRQ of each vCPU raises, 0 for none: records in the region. @internal */
export class VirqTable {
  readonly #region: Region;
  readonly #first: number;

  constructor(region: Region) {
    this.#region = region;
    this.#first = region.part(REGION_VIRQS);
  }

  port(row: number, virq: number): number {
    return this.#region.words.load(this.#at(row, virq));
  }

  /** Last in a bind, and with port 0 first in a close. On the other side: a raise reads it in a bracket. [XE-MOD-24] */
  set(row: number, virq: number, port: number): void {
    this.#region.words.store(this.#at(row, virq), port);
  }

  #at(row: number, virq: number): number {
    return this.#first + (row * NR_VIRQS + virq) * 4;
  }
}
