// From the 2-level ABI to the FIFO one and back, and the repair of queues after an agent has died in one of them.
//
//   change: count ─ park, unmap ─ wait for readers and locks ─ convert (here) ─ say which ABI ─ count
//
// Nobody else is in any page of events meanwhile but the guest itself: so what it may write at the same time is taken in one step.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  EVENT_BUSY,
  EVENT_LINK_BITS,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  EVENT_WORDS_PER_PAGE,
  FIFO_CONSUMER,
  FIFO_LIMIT,
  FIFO_LOCAL_HEADS,
  FIFO_LOCAL_READY,
  FIFO_PORT_ENTRY,
  FIFO_PORT_LAST,
  FIFO_PRIORITIES,
  FIFO_PRIORITY_DEFAULT,
  FIFO_PRIORITY_SHIFT,
  FIFO_QUEUES,
  FIFO_SAVED,
  QUEUE_TAIL_BITS,
} from '../src/abi/fifo.ts';
import { REGION_VCPUS } from '../src/abi/region.ts';
import { fifoAct, RELINK, REPLAY } from './fifo_send';
import { Fifo } from './fifo_table';
import { Layout } from './layout';
import { Shared } from './shared';

/**
 * Remembers what is pending at 2 levels, with shared_info at `page` (0: there is none), and gives every port the default priority
 * and no queue. The 2-level bits stay as they are. [XE-OP-122]
 */
export function fifoSave(vm: usize, page: usize, long: bool): void {
  const fifo = Fifo.part(vm);
  const limit = load<i32>(fifo + FIFO_LIMIT);
  for (let port = 0; port < limit; port++) {
    const record = Fifo.port(fifo, port);
    const entry = Fifo.entry(record) & ~(FIFO_SAVED | (15 << FIFO_PRIORITY_SHIFT));
    const saved = page != 0 && (long ? isPending<u64>(page, port) : isPending<u32>(page, port)) ? FIFO_SAVED : 0;
    Shared.store<i32>(record + FIFO_PORT_ENTRY, entry | saved | (FIFO_PRIORITY_DEFAULT << FIFO_PRIORITY_SHIFT));
    Shared.store<i32>(record + FIFO_PORT_LAST, 0);
  }
  emptyQueues(vm);
}

function isPending<W extends number>(page: usize, port: i32): bool {
  if (!Layout.isPort<W>(port)) return false;
  return (Shared.load<W>(Layout.pending<W>(page, port >> Layout.wordShift<W>())) & Layout.bit<W>(port)) != (0 as W);
}

/** No queue has a tail, and no consumer stands in one. */
function emptyQueues(vm: usize): void {
  const fifo = Fifo.part(vm);
  const vcpus = load<i32>(vm + REGION_VCPUS);
  for (let i = 0; i < vcpus; i++) {
    const record = Fifo.vcpu(fifo, i);
    for (let p: usize = 0; p < 4 * (FIFO_PRIORITIES as usize); p += 4) {
      Shared.and<i32>(record + FIFO_QUEUES + p, ~QUEUE_TAIL_BITS);
      Shared.store<i32>(record + FIFO_LOCAL_HEADS + p, 0);
    }
    Shared.store<i32>(record + FIFO_LOCAL_READY, 0);
    Shared.store<i32>(record + FIFO_CONSUMER, 0);
  }
}

/**
 * Takes a page of event words back into shared_info at `page`: PENDING and MASKED of the ports from `first` on whose bits are set in `usable`,
 * a private bitmap of all 2-level ports. The words keep MASKED only. `words` 0: there is no such page, what was saved is pending.
 */
export function fifoCarry(vm: usize, page: usize, long: bool, words: usize, first: i32, usable: usize): void {
  if (long) carry<u64>(vm, page, words, first, usable);
  else carry<u32>(vm, page, words, first, usable);
  emptyQueues(vm);
}

function carry<W extends number>(vm: usize, page: usize, words: usize, first: i32, usable: usize): void {
  const bits = 1 << Layout.wordShift<W>();
  for (let from = first; from < first + EVENT_WORDS_PER_PAGE; from += bits) {
    let pending: W = 0 as W;
    let masked: W = 0 as W;
    for (let port = from; port < from + bits; port++) {
      const old = takeWord(vm, words, port);
      if (old & EVENT_PENDING) pending = (pending | Layout.bit<W>(port)) as W;
      if (old & EVENT_MASKED) masked = (masked | Layout.bit<W>(port)) as W;
    }
    // Words of its own were unlinked above; what has no place at 2 levels ends here.
    if (from >= Layout.words<W>() << Layout.wordShift<W>()) continue;
    const index = from >> Layout.wordShift<W>();
    const p = Layout.pending<W>(page, index);
    Shared.store<W>(p, (pending & load<W>(usable + (index as usize) * sizeof<W>())) as W);
    if (words) Shared.store<W>(p + Layout.toMask<W>(), masked);
  }
}

/** Empties a word, and what was saved in its place. @returns its PENDING and MASKED bits */
function takeWord(vm: usize, words: usize, port: i32): i32 {
  const fifo = Fifo.part(vm);
  let old = 0;
  if (words) {
    const word = words + ((port & (EVENT_WORDS_PER_PAGE - 1)) << 2);
    // In one step: a guest that acknowledges the event at this moment has it, or the 2-level bit has.
    old = Shared.and<i32>(word, ~(EVENT_PENDING | EVENT_LINKED | EVENT_BUSY | EVENT_LINK_BITS));
  }
  if (!Fifo.isPort(fifo, port)) return old;
  return Shared.and<i32>(Fifo.port(fifo, port) + FIFO_PORT_ENTRY, ~FIFO_SAVED) & FIFO_SAVED ? old | EVENT_PENDING : old;
}

/** Takes every word of a page out of its queue, because an agent died in one; `relink` puts them back. */
export function fifoUnlink(vm: usize, words: usize): void {
  for (let word = words; word < words + EVENT_WORDS_PER_PAGE * 4; word += 4) {
    if (!(Shared.load<i32>(word) & (EVENT_LINKED | EVENT_BUSY))) continue;
    Shared.and<i32>(word, ~(EVENT_LINKED | EVENT_BUSY | EVENT_LINK_BITS));
  }
  emptyQueues(vm);
}

/** Queues what is pending and not masked in ports `from`..`to - 1`. @returns `to`, or the port that a page or a lock is missing for: go on there */
export function fifoRelink(vm: usize, agent: usize, from: i32, to: i32): i32 {
  for (let port = from; port < to; port++) if (fifoAct(vm, agent, port, -1, RELINK) == -EAGAIN) return port;
  return to;
}

/** Raises a port that was saved for the time when there is a word for it. @returns 0, or -EAGAIN */
export function fifoReplay(vm: usize, agent: usize, port: i32): i32 {
  return fifoAct(vm, agent, port, -1, REPLAY) == -EAGAIN ? -EAGAIN : 0;
}
