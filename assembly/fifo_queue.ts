// The lock of a FIFO queue, in one word with its tail: taking it reads the tail, and giving it back writes the new one.
//
//   bits 0..16 tail │ 17..27 who holds it │ 28..31 count of unlockings
//
// It is only held in a bracket, so whoever waits for readers has waited for locks. It names its agent, so that the owner can take it
// from one that died (detachAgent). Nobody waits for it in here for long: a send that does not get it answers -EAGAIN, and the half
// that may sleep tries again. Memory of a single agent has no locks.

import { QUEUE_COUNT_ONE, QUEUE_HOLDER_BITS, QUEUE_TAIL_BITS } from '../src/abi/fifo.ts';
import { Shared } from './shared';

/** Looks at a lock that another agent holds. It holds it for some ten accesses, unless its thread has lost its core. */
const SPINS: i32 = 400;

/** In place of the word of a queue that was locked. */
export const BUSY: i32 = 0;

export class Queue {
  /** Locks a queue for the agent named in `holder`. @returns its word, with the holder in it, or BUSY */
  @inline static lock(queue: usize, holder: i32): i32 {
    return Queue.tryLock(queue, holder) || lockLate(queue, holder);
  }

  /** The same in one try. */
  @inline static tryLock(queue: usize, holder: i32): i32 {
    const word = Shared.load<i32>(queue);
    if (!ASC_FEATURE_THREADS) return word | holder;
    // Before anything of the queue is looked at. On the other side: unlock.
    if (word & QUEUE_HOLDER_BITS || Shared.compareExchange<i32>(queue, word, word | holder) != word) return BUSY;
    return word | holder;
  }

  /** Unlocks a queue whose word was `word`, leaving `tail`. */
  @inline static unlock(queue: usize, word: i32, tail: i32): void {
    // After the last access to words of the queue. On the other side: the next lock.
    Shared.store<i32>(queue, ((word + QUEUE_COUNT_ONE) & ~(QUEUE_HOLDER_BITS | QUEUE_TAIL_BITS)) | tail);
  }

  @inline static tail(word: i32): i32 {
    return word & QUEUE_TAIL_BITS;
  }
}

function lockLate(queue: usize, holder: i32): i32 {
  for (let i = 0; i < SPINS; i++) {
    const word = Shared.load<i32>(queue);
    if (word & QUEUE_HOLDER_BITS) continue;
    if (Shared.compareExchange<i32>(queue, word, word | holder) == word) return word | holder;
  }
  return BUSY;
}
