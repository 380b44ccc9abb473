// What the page and its two sides share besides the machine: the page's wishes, each side's counters, a line per port.
// All of it is i32 and wraps; readers look at differences.

import { PORTS_LONG } from '../../src/abi/shared_info.ts';

/** Words that one party writes start on a line of their own, so that counting does not slow the others down. */
const LINE = 16;

// What the page asks for.
/** raised with every wish, so that a resting sender can wait for a change */
export const TURN = 0;
export const RUNNING = 1;
/** events per second; 0 = as fast as possible */
export const RATE = 2;
/** ports per call */
export const BATCH = 3;
/** times the receiver looks again before it sleeps */
export const SPINS = 4;
/** 1 = the comparison with postMessage goes on */
export const COMPARING = 5;
/** 1 = postMessage carries a whole batch in one message */
export const GROUPED = 6;

// What the sender did.
/** sends begun, published before each call */
export const POSITION = LINE;
/** sends finished, and their results */
export const SENT = LINE + 1;
export const DELIVERED = LINE + 2;
export const COALESCED = LINE + 3;
export const HELD = LINE + 4;
/** sleepers woken */
export const WAKES = LINE + 5;

// What the receiver did.
/** events taken */
export const TAKEN = 2 * LINE;
/** upcalls that found something */
export const UPCALLS = 2 * LINE + 1;

const WORDS = 3 * LINE;

export class Ledger {
  readonly words: Int32Array;
  /** per port: the position that the receiver read after it had taken the port's event */
  readonly seen: Int32Array;
  /** per port: events taken */
  readonly taken: Int32Array;

  constructor(buffer: ArrayBuffer | SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, WORDS);
    this.seen = new Int32Array(buffer, WORDS * 4, PORTS_LONG);
    this.taken = new Int32Array(buffer, (WORDS + PORTS_LONG) * 4, PORTS_LONG);
  }

  static readonly bytes = (WORDS + 2 * PORTS_LONG) * 4;

  get(word: number): number {
    return Atomics.load(this.words, word);
  }

  set(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }

  /** Changes what the page asks for, and tells a sender that rests. */
  ask(word: number, value: number): void {
    this.set(word, value);
    Atomics.add(this.words, TURN, 1);
    Atomics.notify(this.words, TURN);
  }

  /** The receiver's handler, called with what a drain has taken. */
  receive(ports: Uint32Array, n: number): void {
    if (n === 0) return;
    // After the bits were cleared: whatever was announced before they were set is visible here.
    const position = Atomics.load(this.words, POSITION);
    const { seen, taken } = this;
    for (let i = 0; i < n; i++) {
      const port = ports[i] as number;
      seen[port] = position;
      taken[port] = (taken[port] as number) + 1;
    }
    Atomics.add(this.words, UPCALLS, 1);
    // Last, because it tells the sender that the lines of these ports are written.
    Atomics.add(this.words, TAKEN, n);
  }
}
