// The guest's interrupt lines by GSI: who holds each of them up, counted, and where that goes. [XE-CB-04, XE-QE-35, XE-TC-22]
//
// A line that goes up or down is told to the embedder's interrupt controller, once for all who hold it. One that the guest has mapped
// to a PIRQ with a port raises that port instead, when it goes up.

import { HVM_LINES, HVM_NR_GSIS } from '../abi/xen_hvm.ts';
import { NR_ISA_IRQS } from '../abi/xen_hypercall.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { HvmRecord } from './hvm_record.ts';

/** Where lines go. @internal */
export interface LineOutput {
  /** the embedder's interrupt controller */
  readonly onGsi: (gsi: number, level: boolean) => void;
  /** Raises the PIRQ that a GSI is mapped to. @returns whether it is mapped and has a port */
  readonly raisePirq: (gsi: number) => boolean;
  /** Whether a GSI is mapped to a PIRQ with a port. */
  readonly hasPirq: (gsi: number) => boolean;
}

/** @internal */
export class InterruptLines {
  readonly #record: HvmRecord;
  readonly #output: LineOutput;

  constructor(record: HvmRecord, output: LineOutput) {
    this.#record = record;
    this.#output = output;
  }

  /** One more holds the line of a GSI up. Throws EINVAL for no GSI. */
  assert(gsi: number): void {
    if (this.#record.words.add(this.#at(gsi), 1) !== 0) return;
    if (!this.#output.raisePirq(gsi)) this.#output.onGsi(gsi, true);
  }

  /** One less. Throws EINVAL for no GSI, or one that nobody holds. */
  deassert(gsi: number): void {
    const { words } = this.#record;
    const at = this.#at(gsi);
    for (;;) {
      const count = words.load(at);
      if (count === 0) throw new EvtchnError('EINVAL', `nobody holds the line of GSI ${gsi} up`);
      if (words.compareExchange(at, count, count - 1) !== count) continue;
      if (count === 1 && !this.#output.hasPirq(gsi)) this.#output.onGsi(gsi, false);
      return;
    }
  }

  /** Whether somebody holds it up. */
  level(gsi: number): boolean {
    return this.#record.words.load(this.#at(gsi)) !== 0;
  }

  /** The guest is done with an interrupt of the line: one that is still up, and no edge, comes again. */
  endOfInterrupt(gsi: number): void {
    if (gsi >= NR_ISA_IRQS && this.level(gsi)) this.#output.raisePirq(gsi);
  }

  /** How many hold it up; for a snapshot. */
  count(gsi: number): number {
    return this.#record.words.load(this.#at(gsi));
  }

  restore(gsi: number, count: number): void {
    this.#record.words.store(this.#at(gsi), count);
  }

  #at(gsi: number): number {
    checkRange('the GSI', gsi, 0, HVM_NR_GSIS - 1);
    return this.#record.base + HVM_LINES + 4 * gsi;
  }
}
