// What the audits and the rounds of the comparison say.

import type { AuditResult } from './audit.ts';
import { inFull, inShort, rounded, shown, write } from './page.ts';
import type { RoundResult } from './report.ts';

/** Rates of the comparison are those of so many last rounds. */
const ROUNDS = 8;

export class Books {
  #checks = 0;
  #lost = 0;

  show(result: AuditResult): void {
    this.#checks++;
    // What was lost once stays lost.
    this.#lost = Math.max(this.#lost, result.lost + result.invented);
    const { sent, delivered, coalesced, held, taken, waiting } = result;
    const raised = delivered + held;
    write('lost', inFull(this.#lost));
    shown('ledger').classList.toggle('bad', this.#lost > 0);
    const times = this.#checks === 1 ? 'once' : `${inFull(this.#checks)} times`;
    write('books', `Books checked ${times}, last after ${inFull(sent)} sends:`);
    const sign = raised === taken + waiting && sent === raised + coalesced ? '=' : '≠';
    write('sum', `${inFull(raised)} raised ${sign} ${inFull(taken)} taken + ${inFull(waiting)} waiting behind a mask`);
  }
}

export class Rounds {
  readonly #remark: string;
  readonly #last: RoundResult[] = [];
  #rounds = 0;
  #channelEvents = 0;
  #messageEvents = 0;

  /** @param remark what has to be known about the comparison besides */
  constructor(remark: string) {
    this.#remark = remark;
  }

  show(result: RoundResult): void {
    // The first round warms both up: it is shown, but no longer counts once there is another.
    if (++this.#rounds === 2 || this.#last.length === ROUNDS) this.#last.shift();
    this.#last.push(result);
    this.#channelEvents += result.channelEvents;
    this.#messageEvents += result.messageEvents;
    const channels = this.#rate((round) => round.channelMs);
    const messages = this.#rate((round) => round.messageMs);
    const best = Math.max(channels, messages);
    write('channel-rate', inShort(channels));
    write('message-rate', inShort(messages));
    bar('channel-bar', channels / best);
    bar('message-bar', messages / best);
    const [factor, verdict] = channels >= messages ? [channels / messages, 'faster'] : [messages / channels, 'slower'];
    write('ratio', `${rounded(factor)} times ${verdict}.`);
    const same = this.#channelEvents === this.#messageEvents;
    const both = same ? `Both got ${inFull(this.#channelEvents)} events` : 'They did not get the same events';
    write(
      'rounds',
      `${both}, in turns of ${inFull(result.events)}, each timed until the last had arrived.${this.#remark}`,
    );
    write('channel-events', String(this.#channelEvents));
    write('message-events', String(this.#messageEvents));
  }

  /** Events per second. Sums, because a coarse clock is right only on average. */
  #rate(timeOf: (round: RoundResult) => number): number {
    let events = 0;
    let ms = 0;
    for (const round of this.#last) {
      events += round.events;
      ms += timeOf(round);
    }
    return (events * 1000) / Math.max(ms, 0.05);
  }
}

function bar(id: string, share: number): void {
  document.getElementById(id)?.style.setProperty('width', `${Math.max(0.4, share * 100).toFixed(2)}%`);
}
