// The sending side: calls of one port or of many, and exact counts of what they answered.

import { ENOTCONN } from '../../src/abi/errno.ts';
import { PORTS_LONG } from '../../src/abi/shared_info.ts';
import { errnoName, type Vm } from '../../src/index.ts';
import { COALESCED, DELIVERED, HELD, type Ledger, POSITION, SENT, WAKES } from './ledger.ts';
import type { Order } from './order.ts';

/** Single sends inside one bracket; brackets are kept short. */
const BRACKET = 64;
/** From here on a copied list beats a loop. */
const COPY_FROM = 64;

export class Load {
  sent = 0;
  delivered = 0;
  coalesced = 0;
  /** raised while masked */
  held = 0;
  /** per port: its last position, as far as `note` has worked it out */
  readonly lastSent = new Int32Array(PORTS_LONG);
  readonly #vm: Vm;
  readonly #ledger: Ledger;
  #order: Order | null = null;
  #unnoted = 0;

  constructor(vm: Vm, ledger: Ledger) {
    this.#vm = vm;
    this.#ledger = ledger;
  }

  /** Sends the next `events` ports of `order`, `batch` to a call. */
  send(order: Order, events: number, batch: number): void {
    if (order !== this.#order) this.note();
    this.#order = order;
    for (let left = events; left > 0; ) {
      const n = Math.min(left, batch === 1 ? BRACKET : batch);
      if (batch === 1) this.#sendSingly(order, n);
      else this.#sendTogether(order, n);
      order.advance(n);
      this.#unnoted += n;
      left -= n;
    }
    this.#publish();
  }

  #sendSingly(order: Order, n: number): void {
    const vm = this.#vm;
    const { words } = this.#ledger;
    const { ports, cursor } = order;
    let position = this.sent | 0;
    let delivered = 0;
    let held = 0;
    vm.enter();
    for (let i = 0; i < n; i++) {
      // A plain store will do: the send's own read-modify-write orders it before the event.
      words[POSITION] = position = (position + 1) | 0;
      const result = vm.send(ports[cursor + i] as number);
      if (result === 1) delivered++;
      else if (result === -ENOTCONN) held++;
      else if (result !== 0) fail(result);
    }
    vm.leave();
    this.#count(n, delivered, n - delivered - held, held);
  }

  #sendTogether(order: Order, n: number): void {
    const vm = this.#vm;
    const { ports, cursor } = order;
    const { outbox } = vm;
    if (n >= COPY_FROM) outbox.set(ports.subarray(cursor, cursor + n));
    else for (let i = 0; i < n; i++) outbox[i] = ports[cursor + i] as number;
    this.#ledger.words[POSITION] = (this.sent + n) | 0;
    const result = vm.sendMany(outbox, n);
    if (result < 0) fail(result);
    const { delivered, coalesced, masked } = vm.batchCounts;
    this.#count(n, delivered, coalesced, masked);
  }

  #count(sent: number, delivered: number, coalesced: number, held: number): void {
    this.sent += sent;
    this.delivered += delivered;
    this.coalesced += coalesced;
    this.held += held;
  }

  #publish(): void {
    const ledger = this.#ledger;
    ledger.set(DELIVERED, this.delivered | 0);
    ledger.set(COALESCED, this.coalesced | 0);
    ledger.set(HELD, this.held | 0);
    ledger.set(WAKES, this.#vm.wakes | 0);
    ledger.set(SENT, this.sent | 0);
  }

  /** Brings `lastSent` up to date. Done at leisure, so that a send costs no bookkeeping of its own. */
  note(): void {
    const order = this.#order;
    if (!order) return;
    for (let back = Math.min(this.#unnoted, order.length); back > 0; back--) {
      const port = order.ports[(order.cursor - back + order.length) % order.length] as number;
      this.lastSent[port] = (this.sent - back + 1) | 0;
    }
    this.#unnoted = 0;
  }
}

function fail(result: number): never {
  throw new Error(`a send answered ${result} (${errnoName(result) ?? 'unknown'})`);
}

/** How many events are due at a rate. Time that was missed is made up for, up to a tenth of a second. */
export class Pace {
  #owed = 0;
  #last = 0;

  due(now: number, perSecond: number, batch: number): number {
    const elapsed = Math.min(now - this.#last, 100);
    this.#last = now;
    this.#owed = Math.min(this.#owed + (elapsed * perSecond) / 1000, Math.max(batch, perSecond / 10));
    const events = Math.floor(this.#owed / batch) * batch;
    this.#owed -= events;
    return events;
  }
}
