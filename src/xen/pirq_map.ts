// Which interrupt of the guest's machine each PIRQ stands for. Ports of PIRQs are in ports.ts. [XE-QE-30..36, XE-OP-50]

import { EINVAL, ENOSPC, ERANGE } from '../abi/errno.ts';
import {
  HVM_NR_PIRQS,
  HVM_PIRQS,
  HVM_VIA,
  HVM_VIA_VECTOR,
  PIRQ_GSI,
  PIRQ_MSI,
  PIRQ_RESERVED,
  PIRQ_UNMAPPED,
} from '../abi/xen_hvm.ts';
import { NR_ISA_IRQS } from '../abi/xen_hypercall.ts';
import type { Domain } from './domain.ts';
import type { HvmRecord } from './hvm_record.ts';

/** PIRQs for GSIs are counted up from here, those for messages down from the last. */
const FIRST_GSI_PIRQ = NR_ISA_IRQS;
const FIRST_MSI_PIRQ = 24;

/** @internal */
export class PirqMap {
  readonly #record: HvmRecord;
  readonly #domain: Domain;

  constructor(record: HvmRecord, domain: Domain) {
    this.#record = record;
    this.#domain = domain;
  }

  /** PIRQs that can be mapped: those below. */
  get count(): number {
    return Math.min(this.#domain.pirqs, HVM_NR_PIRQS);
  }

  isValid(pirq: number): boolean {
    return pirq >= 0 && pirq < this.count;
  }

  isMapped(pirq: number): boolean {
    return this.isValid(pirq) && this.#load(pirq) > PIRQ_RESERVED;
  }

  /** The GSI that a PIRQ stands for, or null. */
  gsiOf(pirq: number): number | null {
    const entry = this.isValid(pirq) ? this.#load(pirq) : PIRQ_UNMAPPED;
    return entry >= PIRQ_GSI ? entry - PIRQ_GSI : null;
  }

  /** Maps a GSI; `pirq` below 0 takes the first that is free. A GSI or PIRQ that is mapped elsewhere stays so. @returns the PIRQ, or -EINVAL, -ENOSPC */
  mapGsi(gsi: number, pirq: number): number {
    // With another callback the upcall would go by an interrupt line itself.
    if (this.#record.words.load(this.#record.base + HVM_VIA) !== HVM_VIA_VECTOR) return -EINVAL;
    const { dialect } = this.#domain;
    if (gsi < 0 || gsi >= dialect.pirqGsis) return -EINVAL;
    const at = pirq < 0 ? this.#free(true) : pirq;
    if (at < 0 || !this.isValid(at)) return at < 0 ? at : -EINVAL;
    const entry = this.#load(at);
    if (entry > PIRQ_RESERVED && entry !== PIRQ_GSI + gsi && dialect.pirqTaken < 0) return dialect.pirqTaken;
    if (entry <= PIRQ_RESERVED && this.#find(gsi) === null) this.#store(at, PIRQ_GSI + gsi);
    return at;
  }

  /** @returns 0, or what the dialect says of one that stands for nothing, or for a message */
  unmap(pirq: number): number {
    const { dialect } = this.#domain;
    if (!this.isMapped(pirq)) return dialect.unmapUnused;
    if (this.#load(pirq) === PIRQ_MSI && dialect.unmapMsi < 0) return dialect.unmapMsi;
    this.#store(pirq, PIRQ_UNMAPPED);
    return 0;
  }

  /** Takes a PIRQ for what the guest will say. @returns the PIRQ, or -ENOSPC */
  reserve(forGsi: boolean): number {
    const pirq = this.#free(forGsi);
    if (pirq >= 0) this.#store(pirq, PIRQ_RESERVED);
    return pirq;
  }

  /** Whether a GSI's interrupts go to a port. */
  hasPort(gsi: number): boolean {
    const pirq = this.#find(gsi);
    return pirq !== null && this.#domain.pirqPort(pirq) !== 0;
  }

  /** Raises the port of a GSI. @returns whether it has one */
  raise(gsi: number): boolean {
    const pirq = this.#find(gsi);
    if (pirq === null || this.#domain.pirqPort(pirq) === 0) return false;
    this.#domain.raisePirq(pirq);
    return true;
  }

  /** The PIRQ is in bits 12..19 and 40..63 of the address; the first message maps it. [XE-QE-34] @returns as `Domain.raisePirq` */
  raiseMsi(address: bigint): number {
    const pirq = Number((address >> 12n) & 0xffn) + Number(address >> 40n) * 0x100;
    if (pirq === 0) return -ERANGE;
    if (!this.isValid(pirq) || this.gsiOf(pirq) !== null) return -EINVAL;
    if (this.#load(pirq) !== PIRQ_MSI) this.#store(pirq, PIRQ_MSI);
    return this.#domain.raisePirq(pirq);
  }

  /** An entry as it is in the region; for a snapshot. */
  entry(pirq: number): number {
    return this.#load(pirq);
  }
  restore(pirq: number, entry: number): void {
    this.#store(pirq, entry);
  }

  #find(gsi: number): number | null {
    for (let pirq = 0; pirq < this.count; pirq++) if (this.#load(pirq) === PIRQ_GSI + gsi) return pirq;
    return null;
  }

  #free(forGsi: boolean): number {
    const isFree = (pirq: number): boolean => this.#load(pirq) === PIRQ_UNMAPPED;
    const end = Math.min(FIRST_MSI_PIRQ, this.count);
    for (let pirq = FIRST_GSI_PIRQ; forGsi && pirq < end; pirq++) if (isFree(pirq)) return pirq;
    for (let pirq = this.count - 1; pirq >= FIRST_MSI_PIRQ; pirq--) if (isFree(pirq)) return pirq;
    return -ENOSPC;
  }

  #load(pirq: number): number {
    return this.#record.words.load(this.#record.base + HVM_PIRQS + 4 * pirq);
  }
  #store(pirq: number, entry: number): void {
    this.#record.words.store(this.#record.base + HVM_PIRQS + 4 * pirq, entry);
  }
}
