// Every access to memory that another party may touch goes through here, at one width per word for ever.
//
// With threads enabled these are sequentially consistent atomics; without, the memory has a single agent and they are
// plain loads and stores. In the trace builds each calls the embedder first: that is the seam for interleavings.
// asc's atomic.fence() is dropped by the optimiser, so barriers here are read-modify-writes.
// A narrow atomic load zero-extends whatever its type says, and the optimiser turns "load i32, widen unsigned" of a plain
// load into a sign-extending one: so a word that will be widened is loaded unsigned.

import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_RMW, STEP_STORE, STEP_WAIT } from '../src/abi/step.ts';
import { onStep, onWait } from './env';

export class Shared {
  @inline static load<T extends number>(p: usize): T {
    if (TRACE) onStep(STEP_LOAD, p);
    if (ASC_FEATURE_THREADS) return atomic.load<T>(p);
    return load<T>(p);
  }

  @inline static store<T extends number>(p: usize, value: T): void {
    if (TRACE) onStep(STEP_STORE, p);
    if (ASC_FEATURE_THREADS) atomic.store<T>(p, value);
    else store<T>(p, value);
  }

  /** Sets bits, returns the word as it was. */
  @inline static or<T extends number>(p: usize, bits: T): T {
    if (TRACE) onStep(STEP_RMW, p);
    if (ASC_FEATURE_THREADS) return atomic.or<T>(p, bits);
    const old = load<T>(p);
    store<T>(p, (old | bits) as T);
    return old;
  }

  /** Keeps only the bits of `keep`, returns the word as it was. */
  @inline static and<T extends number>(p: usize, keep: T): T {
    if (TRACE) onStep(STEP_RMW, p);
    if (ASC_FEATURE_THREADS) return atomic.and<T>(p, keep);
    const old = load<T>(p);
    store<T>(p, (old & keep) as T);
    return old;
  }

  @inline static add<T extends number>(p: usize, value: T): T {
    if (TRACE) onStep(STEP_RMW, p);
    if (ASC_FEATURE_THREADS) return atomic.add<T>(p, value);
    const old = load<T>(p);
    store<T>(p, (old + value) as T);
    return old;
  }

  @inline static exchange<T extends number>(p: usize, value: T): T {
    if (TRACE) onStep(STEP_RMW, p);
    if (ASC_FEATURE_THREADS) return atomic.xchg<T>(p, value);
    const old = load<T>(p);
    store<T>(p, value);
    return old;
  }

  /** Stores `value` if the word equals `expected`; returns the word as it was. */
  @inline static compareExchange<T extends number>(p: usize, expected: T, value: T): T {
    if (TRACE) onStep(STEP_RMW, p);
    if (ASC_FEATURE_THREADS) return atomic.cmpxchg<T>(p, expected, value);
    const old = load<T>(p);
    if (old == expected) store<T>(p, value);
    return old;
  }

  /** The only sleep in the engine. 0 woken, 1 the word differed, 2 timed out; a negative timeout waits for ever. */
  @inline static wait(p: usize, expected: i32, timeoutNs: i64): i32 {
    if (TRACE) {
      onStep(STEP_WAIT, p);
      return onWait(p, expected);
    }
    if (ASC_FEATURE_THREADS) return atomic.wait<i32>(p, expected, timeoutNs);
    return 2;
  }

  @inline static notify(p: usize): i32 {
    if (TRACE) onStep(STEP_NOTIFY, p);
    if (ASC_FEATURE_THREADS) return atomic.notify(p, -1);
    return 0;
  }

  /**
   * Non-atomic accesses: only for fields that a version or marker word protects (pvclock, runstate), whose address
   * the guest may choose without regard to alignment.
   */
  @inline static plainLoad<T extends number>(p: usize): T {
    if (TRACE) onStep(STEP_PLAIN, p);
    return load<T>(p);
  }

  @inline static plainStore<T extends number>(p: usize, value: T): void {
    if (TRACE) onStep(STEP_PLAIN, p);
    store<T>(p, value);
  }
}
