// The lock of a FIFO queue, in one word with its tail: taking it reads the tail, and giving it back writes the new one.
//
//   bits 0..16 tail │ 17..27 who holds it │ 28..31 count of unlockings
//
// It names its agent, so that the owner can take it from one that died (detachAgent). Nobody waits for it in here for long: a
// send that does not get it answers -EAGAIN, and the half that may sleep tries again. Memory of a single agent has no locks.

import {
  FIFO_PRIORITIES,
  FIFO_QUEUES,
  FIFO_VCPU_SIZE,
  QUEUE_COUNT_ONE,
  QUEUE_HOLDER_BITS,
  QUEUE_TAIL_BITS,
} from '../src/abi/fifo.ts';
import { REGION_VCPUS } from '../src/abi/region.ts';
import { Fifo } from './fifo_table';
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
    // Before every load of a gpc word. On the other side: awaitQueues, after the words were unmapped.
    if (word & QUEUE_HOLDER_BITS || Shared.compareExchange<i32>(queue, word, word | holder) != word) return BUSY;
    return word | holder;
  }

  /** Unlocks a queue whose word was `word`, leaving `tail`. */
  @inline static unlock(queue: usize, word: i32, tail: i32): void {
    // After the last access to words of the queue and to mapped pages. On the other side: the next lock, and awaitQueues.
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

/**
 * Waits until every queue from number `from` on is unlocked, or was for a moment. A queue's number is 16 times its vCPU plus its priority.
 * @returns the number of queues when all are; else the one that is still locked after `spins` looks (resume there)
 */
export function awaitQueues(vm: usize, from: i32, spins: i32): i32 {
  const queues = load<i32>(vm + REGION_VCPUS) * FIFO_PRIORITIES;
  // With a single agent the holder is further up on this very stack, and done with the queue.
  if (!ASC_FEATURE_THREADS) return queues;
  for (let i = from; i < queues; i++) {
    const queue = queueAt(vm, i);
    // After the gpc words were unmapped. On the other side: Queue.lock.
    const word = Shared.load<i32>(queue);
    if (!(word & QUEUE_HOLDER_BITS)) continue;
    while (Shared.load<i32>(queue) == word) if (--spins < 0) return i;
  }
  return queues;
}

/** The word of the queue with a number as awaitQueues gives it. */
export function queueAt(vm: usize, number: i32): usize {
  const vcpu = Fifo.vcpu(Fifo.part(vm), 0) + ((number / FIFO_PRIORITIES) as usize) * FIFO_VCPU_SIZE;
  return vcpu + FIFO_QUEUES + ((number % FIFO_PRIORITIES) << 2);
}
