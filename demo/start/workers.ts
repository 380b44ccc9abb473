// Two workers, one memory: one sends ten million events, the other receives them, and a ledger says whether all arrived.

import { Worker } from 'node:worker_threads';
import { createVm } from '../../src/index.ts';
import { DRAINED, LEDGER_PAGES, Ledger, type ReceiverTotals, SENT, type SenderTotals } from './ledger.ts';
import type { ReceiverTask } from './receiver.ts';
import type { SenderTask } from './sender.ts';
import { count } from './terminal.ts';

/** What the receiver does while there is nothing to receive. */
export type Mode = 'sleeping' | 'spinning';

/** Looks of a spinning receiver before it sleeps after all: on a single core it would keep the sender out. */
const SPINS = 20_000;

export interface WorkerRow {
  readonly mode: Mode;
  readonly sends: number;
  readonly delivered: number;
  readonly coalesced: number;
  /** sends answered with an error */
  readonly refused: number;
  readonly drained: number;
  readonly lost: number;
  readonly invented: number;
  readonly upcalls: number;
  readonly wakes: number;
  /** sends per second: each is an event, coalesced or not */
  readonly eventsPerSecond: number;
  /** the longest time the receiver took to catch up when the sender waited for it, ms */
  readonly slowestMs: number;
  readonly handOvers: number;
  /** a sentence when the run did not come to its end */
  readonly failure: string | null;
}

export interface HammerOptions {
  readonly sends: number;
  readonly onProgress?: ((text: string) => void) | undefined;
  /** how long nothing may move while events are pending, ms */
  readonly stallMs?: number | undefined;
  /** the built worker files; those beside this file by default */
  readonly sender?: URL | undefined;
  readonly receiver?: URL | undefined;
}

const LOOK_MS = 100;
const STALL_MS = 5000;

/** Runs one mode. What goes wrong is in the row; nothing is thrown but what `createVm` throws. */
export async function hammer(mode: Mode, options: HammerOptions): Promise<WorkerRow> {
  const { sends, stallMs = STALL_MS } = options;
  const sleeps = mode === 'sleeping';
  // Two pages for the engine's own layout, the rest for the books.
  const vm = createVm({ guestPages: 2 + LEDGER_PAGES });
  const ledger = new Ledger(vm);
  const handle = vm.handle();
  const receiver: ReceiverTask = { handle, spins: sleeps ? 0 : SPINS };
  const sender: SenderTask = { handle, sends, rests: sleeps, patienceMs: stallMs / 2 };
  const workers = [
    new Worker(options.receiver ?? new URL('./receiver.js', import.meta.url), { workerData: receiver }),
    new Worker(options.sender ?? new URL('./sender.js', import.meta.url), { workerData: sender }),
  ];
  const watchdog = watch(ledger, stallMs, (sent) => options.onProgress?.(progress(mode, sent, sends)));
  let totals: Totals = NOTHING;
  let failure: string | null = null;
  try {
    const [received, sent] = await Promise.race([Promise.all(workers.map(answer)), watchdog.stalled]);
    totals = { ...(received as ReceiverTotals), ...(sent as SenderTotals) };
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  } finally {
    watchdog.stop();
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  const row = { mode, sends, ...verdict(ledger, totals, failure), failure };
  vm.close();
  return row;
}

type Totals = ReceiverTotals & SenderTotals;

const NOTHING: Totals = {
  drained: 0,
  upcalls: 0,
  delivered: 0,
  coalesced: 0,
  refused: 0,
  wakes: 0,
  seconds: 0,
  slowestMs: 0,
  handOvers: 0,
};

/** A run that was cut short has lost what the ledger still misses. */
function verdict(ledger: Ledger, totals: Totals, failure: string | null) {
  const { seconds, ...counts } = totals;
  const settled = ledger.settle(totals.delivered, totals.drained);
  const sent = Atomics.load(ledger.counters, SENT);
  return { ...counts, ...settled, eventsPerSecond: failure === null ? Math.round(sent / seconds) : 0 };
}

/** What a worker posts, which is one message. Rejects when it ends without. */
function answer(worker: Worker, index: number): Promise<unknown> {
  const name = index === 0 ? 'receiver' : 'sender';
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', (error) => reject(new Error(`the ${name} failed: ${error.message}`)));
    worker.once('exit', (code) => reject(new Error(`the ${name} ended without a result, exit code ${code}`)));
  });
}

/** Turns a stall into a sentence, so that a lost wake-up is a failure and not a hang. */
function watch(ledger: Ledger, stallMs: number, look: (sent: number) => void) {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    let before = '';
    let since = performance.now();
    timer = setInterval(() => {
      const sent = Atomics.load(ledger.counters, SENT);
      const now = `${count(sent)} sends, ${count(Atomics.load(ledger.counters, DRAINED))} events drained`;
      if (now !== before) since = performance.now();
      before = now;
      look(sent);
      if (performance.now() - since > stallMs) {
        reject(new Error(`nothing moved for ${stallMs / 1000} s: ${now}, ${ledger.stale().length} ports wait`));
      }
    }, LOOK_MS);
  });
  // When the workers finish first nobody waits for this one.
  stalled.catch(() => {});
  return { stalled, stop: () => clearInterval(timer) };
}

function progress(mode: Mode, sent: number, sends: number): string {
  return `receiver ${mode}: ${count(sent)} of ${count(sends)} sends`;
}
