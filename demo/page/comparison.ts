// The same events twice: as event channels, then as messages to another worker. One after the other, so that neither
// takes processor time from the other; each is timed until the last event has arrived.

import type { Audit } from './audit.ts';
import { BATCH, GROUPED, type Ledger } from './ledger.ts';
import type { Load } from './load.ts';
import { evenOrder, type Order } from './order.ts';
import type { RoundResult } from './report.ts';

/** Events that may be under way as messages: the receiver gives credit back. */
const WINDOW = 2048;
/** The receiver answers after so many events, and after the last. */
export const CREDIT = 512;
/** A round sends every port this often. */
const PASSES = 8;
/** When the first round begins, and the pause after each, ms. */
export const FIRST_ROUND = 400;
export const ROUND_PERIOD = 1000;

/** Announces to the receiver of messages how many events will come. */
export interface Announcement {
  readonly events: number;
}

export class Comparison {
  readonly #load: Load;
  readonly #audit: Audit;
  readonly #ledger: Ledger;
  readonly #port: MessagePort;
  readonly #serve: () => void;
  readonly #order = evenOrder();

  /** @param serve runs the receiver of the event channels, where it is on this thread */
  constructor(load: Load, audit: Audit, ledger: Ledger, port: MessagePort, serve: () => void) {
    this.#load = load;
    this.#audit = audit;
    this.#ledger = ledger;
    this.#port = port;
    this.#serve = serve;
  }

  async round(): Promise<RoundResult> {
    const events = PASSES * this.#order.length;
    const batch = this.#ledger.get(BATCH);
    const before = this.#audit.check().sent;
    const channelMs = this.#sendChannels(events, batch);
    const after = this.#audit.check();
    const { ms, received } = await this.#sendMessages(events, this.#ledger.get(GROUPED) ? batch : 1);
    const channelEvents = after.sent - before - after.lost;
    return { events, channelMs, messageMs: ms, channelEvents, messageEvents: received };
  }

  #sendChannels(events: number, batch: number): number {
    const start = performance.now();
    // In parts, so that a receiver on the same thread gets its turn.
    const part = Math.max(batch, 1024);
    for (let left = events; left > 0; left -= part) {
      this.#load.send(this.#order, Math.min(left, part), batch);
      this.#serve();
    }
    this.#audit.settle(this.#serve);
    return performance.now() - start;
  }

  #sendMessages(events: number, batch: number): Promise<{ ms: number; received: number }> {
    const port = this.#port;
    const order = this.#order;
    const window = Math.max(WINDOW, 4 * batch);
    return new Promise((resolve) => {
      const start = performance.now();
      let sent = 0;
      const sendOn = (received: number): void => {
        if (received >= events) resolve({ ms: performance.now() - start, received });
        for (; sent < events && sent - received < window; )
          sent += postNext(port, order, Math.min(batch, events - sent));
      };
      port.onmessage = ({ data }: MessageEvent<number>) => sendOn(data);
      port.postMessage({ events } satisfies Announcement);
      sendOn(0);
    });
  }
}

function postNext(port: MessagePort, order: Order, n: number): number {
  const { ports, cursor } = order;
  port.postMessage(n === 1 ? ports[cursor] : ports.slice(cursor, cursor + n));
  order.advance(n);
  return n;
}
