// Totals and rates of the ledger's counters.

import type { Vm } from '../../src/index.ts';
import { COALESCED, DELIVERED, HELD, type Ledger, SENT, UPCALLS, WAKES } from './ledger.ts';
import { inFull, rounded, write } from './page.ts';

/** Rates are those of the last second: so many updates. */
const SAMPLES = 4;

const ROWS = [
  ['sent', SENT],
  ['delivered', DELIVERED],
  ['coalesced', COALESCED],
  ['held', HELD],
  ['upcalls', UPCALLS],
  ['wakes', WAKES],
] as const;

type Name = (typeof ROWS)[number][0];
type Totals = Record<Name, number>;

export class Counters {
  readonly #vm: Vm;
  readonly #ledger: Ledger;
  readonly #totals: Totals = { sent: 0, delivered: 0, coalesced: 0, held: 0, upcalls: 0, wakes: 0 };
  readonly #history: { readonly time: number; readonly totals: Totals }[] = [];

  constructor(vm: Vm, ledger: Ledger) {
    this.#vm = vm;
    this.#ledger = ledger;
  }

  /** The ledger's words wrap; read often enough, their differences do not. */
  count(): void {
    for (const [name, word] of ROWS) {
      // In shared memory an unmask by the page itself may wake the receiver, too.
      const own = name === 'wakes' && this.#vm.shared ? this.#vm.wakes : 0;
      const total = this.#totals[name];
      this.#totals[name] = total + ((this.#ledger.get(word) + own - total) >>> 0);
    }
  }

  show(now: number): void {
    this.#history.push({ time: now, totals: { ...this.#totals } });
    if (this.#history.length > SAMPLES + 1) this.#history.shift();
    const rates = this.#rates();
    for (const [name] of ROWS) {
      write(name, inFull(this.#totals[name]));
      write(`${name}-rate`, inFull(rates[name]));
    }
    write('per-upcall', per(rates.delivered, rates.upcalls, 'events each'));
    write('per-wake', this.#vm.shared ? per(rates.sent, rates.wakes, 'sends each') : 'nobody sleeps');
  }

  #rates(): Totals {
    const first = this.#history[0];
    const last = this.#history.at(-1);
    const rates = { ...this.#totals };
    for (const [name] of ROWS) {
      const elapsed = first && last ? last.time - first.time : 0;
      rates[name] = first && elapsed > 0 ? ((this.#totals[name] - first.totals[name]) * 1000) / elapsed : 0;
    }
    return rates;
  }
}

function per(events: number, occasions: number, what: string): string {
  return occasions > 0 ? `${rounded(events / occasions)} ${what}` : 'none';
}
