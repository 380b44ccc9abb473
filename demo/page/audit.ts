// The books: every event that was raised has been taken or waits behind its mask, and the receiver has looked at every
// port after its last send. They are checked while nothing is being sent; a lost wake-up shows as well as a lost bit.

import { type Ledger, TAKEN } from './ledger.ts';
import type { Load } from './load.ts';
import type { Machine } from './machine.ts';

/** The books are checked this often, ms. */
export const AUDIT_PERIOD = 250;
export interface AuditResult {
  readonly sent: number;
  readonly delivered: number;
  readonly coalesced: number;
  readonly held: number;
  readonly taken: number;
  /** pending behind their masks */
  readonly waiting: number;
  readonly lost: number;
  /** taken, but never raised */
  readonly invented: number;
}

export class Audit {
  #taken = 0;
  readonly #load: Load;
  readonly #ledger: Ledger;
  readonly #machine: Machine;

  readonly #pause: () => void;
  readonly #patience: number;

  /**
   * @param pause lets the receiver work
   * @param patience what is missing after this long counts as lost, ms
   */
  constructor(load: Load, ledger: Ledger, machine: Machine, pause: () => void, patience: number) {
    this.#load = load;
    this.#ledger = ledger;
    this.#machine = machine;
    this.#pause = pause;
    this.#patience = patience;
  }

  /** Lets the receiver work until all that was raised has been taken or waits behind its mask, or patience ends. */
  settle(pause: () => void): void {
    const deadline = performance.now() + this.#patience;
    let even = this.#balanced();
    for (let late = false; !even && !late; ) {
      late = performance.now() >= deadline;
      pause();
      even = this.#balanced();
    }
  }

  /** The sender calls it between two calls. */
  check(): AuditResult {
    this.#load.note();
    this.settle(this.#pause);
    const behind = this.#behind();
    const { sent, delivered, coalesced, held } = this.#load;
    const { due, waiting } = this.#machine;
    // All from the last look: the page may unmask a port at any moment.
    const missing = this.#raised - this.#taken - waiting;
    return {
      sent,
      delivered,
      coalesced,
      held,
      taken: this.#taken,
      waiting,
      // A port that nobody looked at, one that is due and not taken, or a sum that is too small.
      lost: Math.max(behind, due, missing),
      invented: Math.max(0, -missing),
    };
  }

  #balanced(): boolean {
    this.#machine.copy();
    return this.#machine.due === 0 && this.#raised - this.#countTaken() === this.#machine.waiting;
  }

  get #raised(): number {
    return this.#load.delivered + this.#load.held;
  }

  /** The ledger's count wraps; this one does not. */
  #countTaken(): number {
    this.#taken += (this.#ledger.get(TAKEN) - this.#taken) | 0;
    return this.#taken;
  }

  /** Ports that do not wait, and that the receiver has not looked at since their last send. */
  #behind(): number {
    const { lastSent } = this.#load;
    const { seen } = this.#ledger;
    let n = 0;
    for (let port = 1; port < lastSent.length; port++) {
      const ahead = ((lastSent[port] as number) - (seen[port] as number)) | 0;
      if (ahead > 0 && !this.#machine.isPending(port)) n++;
    }
    return n;
  }
}
