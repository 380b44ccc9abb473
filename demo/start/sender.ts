// A worker that sends: an epoch into the ledger, then the event, ten million times. Bursts take turns: single sends, single
// sends in a bracket, batches.

import { parentPort, workerData } from 'node:worker_threads';
import { attachVm, type Vm, type VmHandle } from '../../src/index.ts';
import { DONE, DRAINED, Ledger, PORTS, READY, SENT, type SenderTotals } from './ledger.ts';

export interface SenderTask {
  readonly handle: VmHandle;
  readonly sends: number;
  /** Rest after each burst, so that the receiver catches up and falls asleep. */
  readonly rests: boolean;
  /** how long to wait for a receiver that makes no progress, ms; then the ledger tells what is missing */
  readonly patienceMs: number;
}

/** Ports per `sendMany`. */
const BATCH = 256;
/** Bursts and rests are of varied length, so that sends meet the receiver at every point of falling asleep. */
const LONGEST_BURST = 4096;
const LONGEST_REST = 8192;
/** Odd, so that stepping by it visits all ports, each in another word than the one before. */
const STRIDE = 389;
const LOOKS_BEFORE_NAP = 20_000;

class Sender {
  readonly #vm: Vm;
  readonly #task: SenderTask;
  readonly #ledger: Ledger;
  #slot = 0;
  #sent = 0;
  #delivered = 0;
  #coalesced = 0;
  #refused = 0;
  #slowestMs = 0;
  #handOvers = 0;
  #gaveUp = false;
  #random = 0x2545f491;

  constructor(task: SenderTask) {
    this.#vm = attachVm(task.handle);
    this.#task = task;
    this.#ledger = new Ledger(this.#vm);
  }

  run(): SenderTotals {
    const { counters } = this.#ledger;
    Atomics.wait(counters, READY, 0);
    const start = performance.now();
    for (let round = 0; this.#sent < this.#task.sends; round++) {
      const length = 1 + this.#below(LONGEST_BURST);
      const end = Math.min(this.#sent + length, this.#task.sends);
      if (round % 3 === 2) this.#batches(end);
      else this.#singles(end, round % 3 === 1);
      Atomics.store(counters, SENT, this.#sent);
      if (this.#task.rests) this.#rest();
    }
    this.#handOver();
    const seconds = (performance.now() - start) / 1000;
    Atomics.store(counters, DONE, 1);
    this.#vm.vcpu(0).kick();
    const wakes = this.#vm.wakes;
    this.#vm.detach();
    return {
      delivered: this.#delivered,
      coalesced: this.#coalesced,
      refused: this.#refused,
      wakes,
      seconds,
      slowestMs: this.#slowestMs,
      handOvers: this.#handOvers,
    };
  }

  #singles(end: number, bracket: boolean): void {
    if (bracket) this.#vm.enter();
    for (; this.#sent < end; this.#sent++) {
      const port = this.#nextPort();
      this.#ledger.publish(port);
      const result = this.#vm.send(port);
      if (result === 1) this.#delivered++;
      else if (result === 0) this.#coalesced++;
      else this.#refused++;
    }
    if (bracket) this.#vm.leave();
  }

  #batches(end: number): void {
    while (this.#sent < end) this.#batch(Math.min(BATCH, end - this.#sent));
  }

  #batch(n: number): void {
    const { outbox } = this.#vm;
    for (let i = 0; i < n; i++) {
      const port = this.#nextPort();
      outbox[i] = port;
      this.#ledger.publish(port);
    }
    this.#sent += n;
    if (this.#vm.sendMany(outbox, n) < 0) {
      this.#refused += n;
      return;
    }
    const { delivered, coalesced, masked, bad } = this.#vm.batchCounts;
    this.#delivered += delivered;
    this.#coalesced += coalesced;
    this.#refused += masked + bad;
  }

  #rest(): void {
    this.#handOver();
    for (let i = this.#below(LONGEST_REST); i > 0; i--) Atomics.load(this.#ledger.counters, DRAINED);
  }

  /** Waits until the receiver has drained all that was delivered; gives up for good when it makes no progress. */
  #handOver(): void {
    if (this.#gaveUp) return;
    const { counters } = this.#ledger;
    const start = performance.now();
    let looks = 0;
    let moved = start;
    for (let seen = -1; ; ) {
      const drained = Atomics.load(counters, DRAINED);
      if (drained >= this.#delivered) break;
      if (++looks < LOOKS_BEFORE_NAP) continue;
      // Somebody else may need this core for the receiver to go on.
      Atomics.wait(counters, DRAINED, drained, 1);
      if (drained !== seen) moved = performance.now();
      seen = drained;
      this.#gaveUp = performance.now() - moved > this.#task.patienceMs;
      if (this.#gaveUp) return;
    }
    this.#handOvers++;
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - start);
  }

  #nextPort(): number {
    this.#slot = (this.#slot + STRIDE) & (PORTS - 1);
    return this.#slot + 1;
  }

  /** 0..limit-1, the same on every run. */
  #below(limit: number): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return (x >>> 0) % limit;
  }
}

parentPort?.postMessage(new Sender(workerData).run());
