// The books of the two workers, in the last pages of guest RAM. Coalescing is legal, so the number of events that arrive
// proves little. What is proven: before each send of a port the sender raises the port's epoch, and the receiver, when it
// drains the port, writes down the epoch it finds. At the end it must have written down the last one of every port, and
// must have drained exactly as many ports as sends were answered "delivered".

import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import type { Vm } from '../../src/index.ts';

/** Ports 1..PORTS are used; a power of two. */
export const PORTS = 1024;

/** Counters that one side writes and others read, each on a cache line of its own, as i32. */
const LINE = 16;
/** sends made so far */
export const SENT = 0;
/** ports drained so far; as many as were delivered once the receiver has caught up */
export const DRAINED = LINE;
/** 1 once the receiver listens */
export const READY = 2 * LINE;
/** 1 once the sender has sent everything */
export const DONE = 3 * LINE;
const COUNTERS = 4 * LINE;

const BYTES = (COUNTERS + 2 * PORTS) * 4;

/** Pages of guest RAM the books take. */
export const LEDGER_PAGES = Math.ceil(BYTES / PAGE_SIZE);

/** What the sender reports. */
export interface SenderTotals {
  readonly delivered: number;
  readonly coalesced: number;
  /** sends answered with an error; none is expected */
  readonly refused: number;
  readonly wakes: number;
  readonly seconds: number;
  /** the longest time the receiver took to catch up once the sender had stopped, ms; and how often that was looked at */
  readonly slowestMs: number;
  readonly handOvers: number;
}

/** What the receiver reports. */
export interface ReceiverTotals {
  readonly drained: number;
  /** drains that found something */
  readonly upcalls: number;
}

export class Ledger {
  readonly counters: Int32Array;
  /** epoch by port - 1: sends of it so far */
  readonly #epochs: Int32Array;
  /** epoch by port - 1 that the receiver found last */
  readonly #seen: Int32Array;
  /** The sender's own copy, so that publishing is one store. */
  readonly #next = new Int32Array(PORTS);

  constructor(vm: Vm) {
    const base = vm.guestBase + vm.guestBytes - LEDGER_PAGES * PAGE_SIZE;
    this.counters = new Int32Array(vm.memory.buffer, base, COUNTERS);
    this.#epochs = new Int32Array(vm.memory.buffer, base + COUNTERS * 4, PORTS);
    this.#seen = new Int32Array(vm.memory.buffer, base + (COUNTERS + PORTS) * 4, PORTS);
  }

  /** Before each send of `port`: what the receiver must see once it gets this event. */
  publish(port: number): void {
    const epoch = (this.#next[port - 1] ?? 0) + 1;
    this.#next[port - 1] = epoch;
    Atomics.store(this.#epochs, port - 1, epoch);
  }

  /** For each of the first `count` ports of a drain. */
  record(ports: Uint32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const index = (ports[i] ?? 0) - 1;
      // A port that nobody sends has no epoch; that it was drained shows in the number of drained ports.
      if (index < 0 || index >= PORTS) continue;
      this.#seen[index] = Atomics.load(this.#epochs, index);
    }
  }

  /** Ports whose last event the receiver has not seen. To be asked when both sides have stopped. */
  stale(): number[] {
    const ports: number[] = [];
    this.#epochs.forEach((epoch, i) => {
      if (epoch !== this.#seen[i]) ports.push(i + 1);
    });
    return ports;
  }

  /** The verdict on a finished run. An event that is lost may show as a stale port, as a missing one, or as both. */
  settle(delivered: number, drained: number): { lost: number; invented: number } {
    return {
      lost: Math.max(this.stale().length, delivered - drained),
      invented: Math.max(0, drained - delivered),
    };
  }
}
