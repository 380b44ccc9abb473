// From one thread to another: every event is taken exactly once, the receiver looks without sleeping.
//
// Valid only while both cores are free; a ping-pong on one word tells. The figure of a way is its median over runs.

import { Worker } from 'node:worker_threads';
import type { Vm } from '../src/index.ts';
import { makeOne } from './guest.ts';
import { parts, shuffled } from './ports.ts';
import {
  BACK_OFF,
  COMMAND,
  CONTROL_WORDS,
  COUNT_MESSAGES,
  DONE,
  ECHO,
  NOT_YET,
  PING,
  PONG,
  type ReceiverData,
  STOP,
  TAKE,
  TAKEN,
  TOTAL,
} from './receiver.ts';
import { type Report, rowsOf, type Setting } from './report.ts';
import { Figures, quantile } from './rounds.ts';

export const POST_MESSAGE = 'postMessage stream';
const TRIP = 'a round trip of one word';
const BATCHES = 'vm.sendMany of 256, receiver backs off';

/** A way to get events across: ports per call, and how long the receiver lets them collect. */
const WAYS = [
  { name: 'vm.send, eager receiver', batch: 1, backOff: 0, events: 20_000 },
  { name: 'vm.send, receiver backs off', batch: 1, backOff: 1000, events: 100_000 },
  { name: 'vm.sendMany of 64, receiver backs off', batch: 64, backOff: 1000, events: 300_000 },
  { name: BATCHES, batch: 256, backOff: 1000, events: 500_000 },
  { name: 'vm.sendMany of 1024, receiver backs off', batch: 1024, backOff: 1000, events: 500_000 },
] as const;

const MESSAGES = 10_000;
const ROUNDS = 9;
const QUICK_ROUNDS = 3;

/** Where other work holds a core, every step waits for the scheduler: no way is given longer than this. */
const WAY_MS = 20;
/** Sends between two looks at the time. */
const SENDS_PER_LOOK = 1024;

/** A round trip in ns that two free cores stay below. */
const FREE = 300;
const PINGS = 300;
/** How long to wait for two free cores before a round, and between two looks. */
const PATIENCE_MS = 500;
const PAUSE_MS = 20;

class Receiver {
  readonly control = new Int32Array(new SharedArrayBuffer(4 * CONTROL_WORDS));
  readonly #worker: Worker;

  constructor(vm: Vm) {
    const data: ReceiverData = { handle: vm.handle(), control: this.control };
    this.#worker = new Worker(new URL('./receiver.js', import.meta.url), { workerData: data });
  }

  start(command: number): void {
    Atomics.store(this.control, DONE, 0);
    Atomics.store(this.control, COMMAND, command);
    Atomics.notify(this.control, COMMAND);
  }

  /** Spins: this thread has nothing else to do. */
  finish(): void {
    while (Atomics.load(this.control, DONE) === 0);
  }

  post(value: number): void {
    this.#worker.postMessage(value);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.start(STOP);
    await ended;
  }
}

/** The tenth part of the round trips between the cores that is fastest, ns. */
function pingPong(receiver: Receiver): number {
  const { control } = receiver;
  const trips: number[] = [];
  Atomics.store(control, PING, 0);
  Atomics.store(control, PONG, 0);
  receiver.start(ECHO);
  const end = performance.now() + WAY_MS;
  for (let i = 1; i <= PINGS && performance.now() < end; i++) {
    const start = performance.now();
    for (let k = 0; k < 10; k++) {
      Atomics.store(control, PING, 10 * i + k);
      while (Atomics.load(control, PONG) !== 10 * i + k);
    }
    trips.push((performance.now() - start) * 1e5);
  }
  Atomics.store(control, PING, -1);
  receiver.finish();
  return quantile(trips, 0.1);
}

/** Sends until `events` were delivered or time is up; what coalesces is not counted, it goes again. @returns ns per event */
function send(vm: Vm, lists: readonly Uint32Array[], events: number, backOff: number, receiver: Receiver): number {
  const { control } = receiver;
  Atomics.store(control, TOTAL, NOT_YET);
  Atomics.store(control, BACK_OFF, backOff);
  receiver.start(TAKE);
  const start = performance.now();
  let delivered = 0;
  let next = 0;
  while (delivered < events && performance.now() - start < WAY_MS) {
    for (let left = SENDS_PER_LOOK; left > 0; ) {
      const list = lists[next] as Uint32Array;
      delivered += list.length === 1 ? vm.send(list[0] as number) : vm.sendMany(list);
      next = next + 1 === lists.length ? 0 : next + 1;
      left -= list.length;
    }
  }
  Atomics.store(control, TOTAL, delivered);
  receiver.finish();
  const ns = ((performance.now() - start) * 1e6) / delivered;
  const taken = Atomics.load(control, TAKEN);
  if (taken !== delivered) throw new Error(`${delivered} events were delivered, ${taken} were taken`);
  return ns;
}

/** @returns ns per message of a stream */
function post(receiver: Receiver): number {
  const { control } = receiver;
  Atomics.store(control, TOTAL, MESSAGES);
  receiver.start(COUNT_MESSAGES);
  const start = performance.now();
  for (let i = 0; i < MESSAGES; i++) receiver.post(i);
  receiver.finish();
  return ((performance.now() - start) * 1e6) / MESSAGES;
}

/** Waits for both cores while there is patience. @returns the round trip, ns */
async function findFreeCores(receiver: Receiver, patienceMs: number): Promise<number> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const trip = pingPong(receiver);
    if (trip < FREE || performance.now() > end) return trip;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

export async function measure(setting: Setting): Promise<Report> {
  const { vm } = makeOne(true);
  const receiver = new Receiver(vm);
  const ways = setting.quick ? WAYS.filter((way) => way.name === BATCHES) : WAYS;
  const lists = ways.map((way) => parts(shuffled(), way.batch).filter((list) => list.length === way.batch));
  const count = setting.quick ? QUICK_ROUNDS : ROUNDS;
  const rounds: Map<string, number>[] = [];
  for (let round = 0; round <= count; round++) {
    const figures = new Map([[TRIP, await findFreeCores(receiver, setting.quick ? 0 : PATIENCE_MS)]]);
    for (const [i, way] of ways.entries()) {
      figures.set(way.name, send(vm, lists[i] ?? [], way.events, way.backOff, receiver));
    }
    figures.set(POST_MESSAGE, post(receiver));
    // The first warms up.
    if (round > 0) rounds.push(figures);
  }
  await receiver.stop();
  return summarize(rounds);
}

/** Of the rounds that had both cores, if any had. */
function summarize(rounds: Map<string, number>[]): Report {
  const quiet = rounds.filter((round) => (round.get(TRIP) ?? FREE) < FREE);
  const used = quiet.length > 0 ? quiet : rounds;
  const names = [...(used[0]?.keys() ?? [])];
  const figures = new Figures(new Map(names.map((name) => [name, used.map((round) => round.get(name) ?? Number.NaN)])));
  return {
    rows: rowsOf('two cores', 'exactly once', figures, POST_MESSAGE),
    claims: [
      {
        name: 'two cores, batches of 256, to a postMessage stream',
        value: figures.ratio(BATCHES, POST_MESSAGE),
        goal: 0.007,
        why: 'an event takes {} ns, a message {} ns; two free cores were found in {} of {} rounds (a round trip took {} ns)',
        figures: [figures.ns(BATCHES), figures.ns(POST_MESSAGE), quiet.length, rounds.length, figures.ns(TRIP)],
      },
    ],
  };
}
