// Without isolation browsers share no memory between threads: the same machine on this one thread, in unshared memory,
// a slice per frame.

import { createVm, type Vm } from '../../src/index.ts';
import { AUDIT_PERIOD, Audit } from './audit.ts';
import { Comparison, FIRST_ROUND, ROUND_PERIOD } from './comparison.ts';
import { BATCH, COMPARING, Ledger, RATE, RUNNING } from './ledger.ts';
import { Load, Pace } from './load.ts';
import { Machine } from './machine.ts';
import { guestOrder } from './order.ts';
import type { Report } from './report.ts';
import { type Rig, startMailbox } from './rig.ts';

/** The page's thread is kept busy for so long per frame, ms. */
const SLICE = 5;
/** Events the VMM sends before the guest runs. */
const TURN_EVENTS = 1024;

export function startSingleAgent(report: (what: Report) => void): Rig {
  const messages = new MessageChannel();
  startMailbox(messages.port2, report);
  return new SingleAgent(messages.port1, report);
}

class SingleAgent implements Rig {
  readonly vm: Vm = createVm({ shared: false });
  readonly ledger = new Ledger(new ArrayBuffer(Ledger.bytes));
  readonly #report: (what: Report) => void;
  readonly #load = new Load(this.vm, this.ledger);
  readonly #audit = new Audit(this.#load, this.ledger, new Machine(this.vm), () => this.#runGuest(), 0);
  readonly #comparison: Comparison;
  readonly #pace = new Pace();
  readonly #order = guestOrder().order;
  #upcallDue = false;
  #inRound = false;
  #nextRound = performance.now() + FIRST_ROUND;
  #nextAudit = 0;

  constructor(mailbox: MessagePort, report: (what: Report) => void) {
    this.#report = report;
    this.#comparison = new Comparison(this.#load, this.#audit, this.ledger, mailbox, () => this.#runGuest());
    // As an emulator does it: note the interrupt now, take it when the guest runs next.
    this.vm.vcpu(0).onUpcall(() => {
      this.#upcallDue = true;
    });
  }

  frame(now: number): void {
    this.#runGuest();
    if (this.#inRound) return;
    const running = this.ledger.get(RUNNING) === 1;
    if (now >= this.#nextAudit) {
      this.#report({ kind: 'audit', result: this.#audit.check() });
      this.#nextAudit = now + AUDIT_PERIOD;
    }
    if (running && this.ledger.get(COMPARING) === 1 && now >= this.#nextRound) void this.#compare();
    else if (running) this.#send(now);
  }

  /** The last turn's events are left to the next frame, so that the picture between shows them pending. */
  #send(now: number): void {
    const batch = this.ledger.get(BATCH);
    const rate = this.ledger.get(RATE);
    let left = rate > 0 ? this.#pace.due(now, rate, batch) : Number.POSITIVE_INFINITY;
    const end = performance.now() + SLICE;
    while (left > 0 && performance.now() < end) {
      this.#runGuest();
      const events = Math.min(left, Math.max(batch, TURN_EVENTS));
      this.#load.send(this.#order, events, batch);
      left -= events;
    }
  }

  #runGuest(): void {
    if (!this.#upcallDue) return;
    this.#upcallDue = false;
    const vcpu = this.vm.vcpu(0);
    const n = vcpu.drain();
    this.ledger.receive(vcpu.drained, n);
  }

  async #compare(): Promise<void> {
    this.#inRound = true;
    try {
      this.#report({ kind: 'round', result: await this.#comparison.round() });
    } catch (error) {
      this.#report({ kind: 'failed', reason: String(error) });
    }
    this.#inRound = false;
    this.#nextRound = performance.now() + ROUND_PERIOD;
  }
}
