// Worker: the sending side. It keeps to the page's wishes, and now and then stops for the books.

import { attachVm, type VmHandle } from '../../src/index.ts';
import { AUDIT_PERIOD, Audit } from './audit.ts';
import { Comparison, FIRST_ROUND, ROUND_PERIOD } from './comparison.ts';
import { BATCH, COMPARING, Ledger, RATE, RUNNING, TURN } from './ledger.ts';
import { Load, Pace } from './load.ts';
import { Machine } from './machine.ts';
import { guestOrder } from './order.ts';
import type { Report } from './report.ts';

/** What the page hands to its workers. */
export interface Setup {
  readonly handle: VmHandle;
  readonly ledger: SharedArrayBuffer;
  /** where the same load goes as messages */
  readonly mailbox: MessagePort;
}

/** A receiver that is awake needs microseconds; what it has not taken after this long is lost, ms. */
const PATIENCE = 1000;
/** As fast as possible: so many events, at least, between two looks at the clock. */
const STRETCH = 2048;

const report = (what: Report): void => postMessage(what);

async function run({ handle, ledger: buffer, mailbox }: Setup): Promise<void> {
  const vm = attachVm(handle);
  const ledger = new Ledger(buffer);
  const load = new Load(vm, ledger);
  const audit = new Audit(load, ledger, new Machine(vm), pause, PATIENCE);
  const comparison = new Comparison(load, audit, ledger, mailbox, () => {});
  const pace = new Pace();
  const { order } = guestOrder();
  let nextAudit = 0;
  let nextRound = performance.now() + FIRST_ROUND;
  for (;;) {
    const turn = ledger.get(TURN);
    const now = performance.now();
    if (now >= nextAudit || ledger.get(RUNNING) === 0) {
      report({ kind: 'audit', result: audit.check() });
      nextAudit = performance.now() + AUDIT_PERIOD;
    }
    if (ledger.get(RUNNING) === 0) {
      // Until a wish changes; a port that is unmasked meanwhile changes the books.
      Atomics.wait(ledger.words, TURN, turn, AUDIT_PERIOD);
    } else if (ledger.get(COMPARING) === 1 && now >= nextRound) {
      report({ kind: 'round', result: await comparison.round() });
      nextRound = performance.now() + ROUND_PERIOD;
    } else {
      sendFor(now, turn);
    }
  }

  function sendFor(now: number, turn: number): void {
    const batch = ledger.get(BATCH);
    const rate = ledger.get(RATE);
    const due = pace.due(now, rate, batch);
    if (rate > 0) {
      load.send(order, due, batch);
      Atomics.wait(ledger.words, TURN, turn, 1);
    } else {
      while (performance.now() - now < 2) load.send(order, Math.max(batch, STRETCH), batch);
    }
  }
}

/** Gives the processor to the receiver, in case both share one. */
function pause(): void {
  Atomics.wait(scratch, 0, 0, 0.02);
}
const scratch = new Int32Array(new SharedArrayBuffer(4));

addEventListener(
  'message',
  ({ data }: MessageEvent<Setup>) => {
    run(data).catch((error: unknown) => report({ kind: 'failed', reason: String(error) }));
  },
  { once: true },
);
