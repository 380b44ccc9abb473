// One event word: how it becomes pending and linked, and how the next port is hung onto it. All of it under the queue's lock;
// on the other side are the guest, which may write what it likes, and senders that only set PENDING.

import {
  EVENT_BUSY,
  EVENT_LINK_BITS,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  FIFO_DROPPED,
} from '../src/abi/fifo.ts';
import { Shared } from './shared';

/** How often the link of a tail is tried again: the transitions a guest may make can fail it that often. [XE-FF-32] */
const LINK_TRIES: i32 = 4;

/** What happened to a word; 0: it was pending already, and nothing had to be done. */
export const FRESH: i32 = 1;
export const HELD: i32 = 2;
export const LINKED_NOW: i32 = 4;
export const NEW_HEAD: i32 = 8;

export class Link {
  /**
   * Sets PENDING and LINKED of a word that has neither, and nothing else that stands in the way: one read-modify-write for both, which
   * is the barrier between what the caller wrote for this event and the consumer's handler. @returns whether it did
   */
  @inline static raiseNew(word: usize): bool {
    const old = Shared.load<i32>(word);
    if (old & (EVENT_PENDING | EVENT_MASKED | EVENT_LINKED | EVENT_BUSY)) return false;
    return Shared.compareExchange<i32>(word, old, old | EVENT_PENDING | EVENT_LINKED) == old;
  }

  /** Sets PENDING, and LINKED unless it is masked. @returns FRESH, HELD, LINKED_NOW bits [XE-FF-13, XE-FF-14] */
  @inline static raise(word: usize): i32 {
    const fresh = Shared.or<i32>(word, EVENT_PENDING) & EVENT_PENDING ? 0 : FRESH;
    return fresh | Link.link(word);
  }

  /** Sets LINKED of a word that is pending, unless it is masked. [XE-FF-14] */
  @inline static link(word: usize): i32 {
    // After PENDING is set. On the other side: the guest clears MASKED, then looks at PENDING.
    if (Shared.load<i32>(word) & EVENT_MASKED) return HELD;
    return Shared.or<i32>(word, EVENT_LINKED) & EVENT_LINKED ? 0 : LINKED_NOW;
  }

  /** Puts `port`, which was linked just now, behind the tail. @returns NEW_HEAD when there is none, and it was made the head [XE-FF-17] */
  @inline static enqueue(fifo: usize, port: i32, tail: i32, tailWord: usize, head: usize): i32 {
    // A port that is its own tail was taken since: the queue is empty. [XE-FF-15]
    if (tail && tail != port && Link.append(fifo, tailWord, port)) return 0;
    Shared.store<i32>(head, port);
    return NEW_HEAD;
  }

  /** @returns whether the tail was still in the queue [XE-FF-30] */
  @inline static append(fifo: usize, tailWord: usize, port: i32): bool {
    const old = Shared.load<i32>(tailWord);
    if (!(old & EVENT_LINKED)) return false;
    // On the other side: the consumer, which takes LINKED and the link away in one step.
    const next = (old & ~(EVENT_BUSY | EVENT_LINK_BITS)) | port;
    return Shared.compareExchange<i32>(tailWord, old, next) == old || appendLate(fifo, tailWord, port);
  }
}

/** Somebody else writes the word: BUSY keeps a guest that obeys from unmasking, and what else it may do is soon done. [XE-FF-31, XE-FF-33] */
function appendLate(fifo: usize, tailWord: usize, port: i32): bool {
  Shared.or<i32>(tailWord, EVENT_BUSY);
  for (let i = 0; i < LINK_TRIES; i++) {
    const old = Shared.load<i32>(tailWord);
    if (!(old & EVENT_LINKED)) {
      Shared.and<i32>(tailWord, ~EVENT_BUSY);
      return false;
    }
    const next = (old & ~(EVENT_BUSY | EVENT_LINK_BITS)) | port;
    if (Shared.compareExchange<i32>(tailWord, old, next) == old) return true;
  }
  // Only a guest that does not obey comes here, and it is its own event. [XE-FF-32, KF-66]
  Shared.and<i32>(tailWord, ~EVENT_BUSY);
  Shared.add<i32>(fifo + FIFO_DROPPED, 1);
  return true;
}
