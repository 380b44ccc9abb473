// Raising a port under the FIFO ABI. [XE-FF-10..22]
//
//   sender:   lock the queue(s) ─ PENDING, LINKED ─ link of the tail, or head ─ ready bit ─ unlock ─ upcall byte ─ kick, pollers
//   consumer: upcall byte off ─ take ready ─ head ─ word: LINKED and link off, PENDING off ─ handler
//
// The lock is the reader section of the pages; the upcall, whose page is vcpu_info, has a bracket of its own.

import { EAGAIN, EINVAL, ENOTCONN, ENXIO } from '../src/abi/errno.ts';
import {
  CONTROL_READY,
  EVENT_MASKED,
  EVENT_PENDING,
  FIFO_CONTROL_GPC,
  FIFO_DROPPED,
  FIFO_PARKED,
  FIFO_PORT_ENTRY,
  FIFO_PORT_LAST,
  FIFO_SAVED,
} from '../src/abi/fifo.ts';
import {
  AGENT_BAD,
  AGENT_COALESCED,
  AGENT_DELIVERED,
  AGENT_DONE,
  AGENT_HOLDER,
  AGENT_MASKED,
  GPC_ACTIVE,
  REGION_VCPUS,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { FRESH, HELD, LINKED_NOW, Link, NEW_HEAD } from './fifo_link';
import { BUSY, Queue } from './fifo_queue';
import { AWAY, Fifo } from './fifo_table';
import { Layout } from './layout';
import { anyPoller, wakePoller } from './poll';
import { Shared } from './shared';
import { raiseByte } from './upcall';

/** How often a port's queue may change between a look and the lock. [XE-FF-11] */
const LOCK_TRIES: i32 = 3;

/** What to do to the word, once the queue is locked. */
export const RAISE: i32 = 0;
/** clear MASKED, then link what is pending [XE-FF-50] */
export const UNMASK: i32 = 1;
/** link what is pending and not masked: after a repair */
export const RELINK: i32 = 2;
/** raise it if it was saved for the time when there is a word [XE-OP-124] */
export const REPLAY: i32 = 3;

/** Beside the bits of a link: the ready bit of the queue is new, so the vCPU has to be told; the event was saved, for want of a word. */
const TELL: i32 = 16;
const SAVED_NOW: i32 = 32;

/** Ports of a batch for which a queue stays locked. */
const RUN: i32 = 64;

/**
 * Raises `port` on the vCPU it is bound to, on `named` while it is bound to none (-1: on vCPU 0).
 * @returns 1 delivered, 0 coalesced with one that is pending, -ENOTCONN masked or without a word yet (it stays pending), -ENXIO its
 *   vCPU has no control block: dropped [XE-FF-12], -EINVAL no such port, -EAGAIN a page is not mapped, or a queue is locked by an
 *   agent that does not go on: nothing was changed
 */
export function fifoSend(vm: usize, agent: usize, port: i32, named: i32): i32 {
  const fifo = Fifo.part(vm);
  if (!Fifo.isPort(fifo, port)) return -EINVAL;
  const record = Fifo.port(fifo, port);
  const queue = Fifo.queueOf(Fifo.entry(record), named);
  if (Shared.load<i32>(record + FIFO_PORT_LAST) != queue) return sendLate(vm, agent, port, named);
  const q = Fifo.queue(fifo, queue);
  const word = Queue.tryLock(q, load<i32>(agent + AGENT_HOLDER));
  if (word == BUSY) return sendLate(vm, agent, port, named);
  const tail = Queue.tail(word);
  // One locked operation each for the lock, the word, the tail's link and the unlocking.
  const done = Fast.stands(record, queue, named)
    ? Fast.raise(fifo, Fifo.pages(fifo), Fast.control(fifo, queue), queue, port, tail)
    : 0;
  Queue.unlock(q, word, done ? port : tail);
  if (!done) return sendLate(vm, agent, port, named);
  if (done & TELL) tell(vm, agent, Fifo.vcpuOf(queue));
  if (anyPoller(vm)) wakePollers(vm, agent, port);
  return 1;
}

/** The common case, under the lock: a port on the queue it was on last, with nothing set in its word, and every page mapped. */
class Fast {
  @inline static stands(record: usize, queue: i32, named: i32): bool {
    return !ASC_FEATURE_THREADS || stands(record, queue, queue, named);
  }
  @inline static control(fifo: usize, queue: i32): i32 {
    return Fifo.control(Fifo.vcpu(fifo, Fifo.vcpuOf(queue)));
  }
  /** @returns LINKED_NOW, with TELL; or 0: nothing was changed, the long way has to look */
  @inline static raise(fifo: usize, pages: i32, control: i32, queue: i32, port: i32, tail: i32): i32 {
    if (pages == FIFO_PARKED || Layout.unmapped(control)) return 0;
    const word = Fifo.word(fifo, pages, port);
    const tailWord = Fifo.word(fifo, pages, tail);
    if (word <= AWAY || tailWord <= AWAY || !Link.raiseNew(word)) return 0;
    if (!Link.enqueue(fifo, port, tail, tailWord, Fifo.head(control, queue))) return LINKED_NOW;
    return setReady(control, queue) ? LINKED_NOW | TELL : LINKED_NOW;
  }
}

function sendLate(vm: usize, agent: usize, port: i32, named: i32): i32 {
  const done = fifoAct(vm, agent, port, named, RAISE);
  // It may be because the 2-level ABI is in force again: the next try looks.
  if (ASC_FEATURE_THREADS && done == -EAGAIN) Bracket.forgetFifo(agent);
  return done < 0 ? done : resultOf(done);
}

/** What a send says of what happened to the word. */
export function resultOf(done: i32): i32 {
  if (!(done & FRESH)) return 0;
  return done & HELD ? -ENOTCONN : 1;
}

/**
 * Does `what` to a port. @returns what happened to its word (FRESH, HELD, LINKED_NOW bits), or a negative errno as fifoSend
 */
export function fifoAct(vm: usize, agent: usize, port: i32, named: i32, what: i32): i32 {
  const fifo = Fifo.part(vm);
  if (!Fifo.isPort(fifo, port)) return -EINVAL;
  const record = Fifo.port(fifo, port);
  const holder = load<i32>(agent + AGENT_HOLDER);
  for (let i = 0; i < LOCK_TRIES; i++) {
    const queue = Fifo.queueOf(Fifo.entry(record), named);
    const last = Shared.load<i32>(record + FIFO_PORT_LAST);
    if (queue != last) {
      const done = actOnTwo(vm, agent, port, named, queue, last, what);
      if (done != MOVED) return done;
      continue;
    }
    const q = Fifo.queue(fifo, queue);
    const word = Queue.lock(q, holder);
    if (word == BUSY) return -EAGAIN;
    const tail = Queue.tail(word);
    if (!stands(record, queue, last, named)) {
      Queue.unlock(q, word, tail);
      continue;
    }
    const done = act(fifo, port, record, queue, tail, what);
    Queue.unlock(q, word, done >= 0 && done & LINKED_NOW ? port : tail);
    if (done > 0) follow(vm, agent, port, queue, done);
    return done;
  }
  return -EAGAIN;
}

/** The port's queue is another by now. */
const MOVED: i32 = i32.MIN_VALUE;

/**
 * A port whose queue is not the one it was linked on last. Both are locked, in the order of their addresses: two senders that
 * disagree about the new one still meet at the old one. [XE-FF-11, XE-FF-16]
 */
function actOnTwo(vm: usize, agent: usize, port: i32, named: i32, queue: i32, last: i32, what: i32): i32 {
  const fifo = Fifo.part(vm);
  const record = Fifo.port(fifo, port);
  const holder = load<i32>(agent + AGENT_HOLDER);
  const q = Fifo.queue(fifo, queue);
  const old = Fifo.queue(fifo, last);
  const lower = q < old ? q : old;
  const upper = q < old ? old : q;
  const lowerWord = Queue.lock(lower, holder);
  if (lowerWord == BUSY) return -EAGAIN;
  const upperWord = Queue.lock(upper, holder);
  if (upperWord == BUSY) {
    Queue.unlock(lower, lowerWord, Queue.tail(lowerWord));
    return -EAGAIN;
  }
  const word = q < old ? lowerWord : upperWord;
  const oldWord = q < old ? upperWord : lowerWord;
  let tail = Queue.tail(word);
  let oldTail = Queue.tail(oldWord);
  let done = MOVED;
  if (stands(record, queue, last, named)) {
    done = act(fifo, port, record, queue, tail, what);
    if (done >= 0 && done & LINKED_NOW) {
      // It was taken from there since, so there is nobody to be hung behind. [XE-FF-15, KF-69]
      if (oldTail == port) oldTail = 0;
      Shared.store<i32>(record + FIFO_PORT_LAST, queue);
      tail = port;
    }
  }
  Queue.unlock(old, oldWord, oldTail);
  Queue.unlock(q, word, tail);
  if (done > 0) follow(vm, agent, port, queue, done);
  return done;
}

/** Whether a port's queues are, under their locks, still those that were locked. On the other side: bindVcpu, setPriority, other senders. */
function stands(record: usize, queue: i32, last: i32, named: i32): bool {
  return Shared.load<i32>(record + FIFO_PORT_LAST) == last && Fifo.queueOf(Fifo.entry(record), named) == queue;
}

/** Under the locks: all that can be missing is looked for before anything changes. */
function act(fifo: usize, port: i32, record: usize, queue: i32, tail: i32, what: i32): i32 {
  const pages = Fifo.pages(fifo);
  if (pages == FIFO_PARKED) return -EAGAIN;
  const word = Fifo.word(fifo, pages, port);
  if (word <= AWAY) return word == AWAY ? -EAGAIN : save(record, what);
  const vcpu = Fifo.vcpu(fifo, Fifo.vcpuOf(queue));
  const control = Fifo.control(vcpu);
  if (Layout.unmapped(control)) {
    return Shared.load<i32>(vcpu + FIFO_CONTROL_GPC + GPC_ACTIVE) ? -EAGAIN : drop(fifo, record, word, what);
  }
  let tailWord: usize = 0;
  if (tail) {
    tailWord = Fifo.word(fifo, pages, tail);
    if (tailWord <= AWAY) return -EAGAIN;
  }
  const done = what == RAISE ? Link.raise(word) : change(record, word, what);
  if (!(done & LINKED_NOW)) return done;
  const queued = done | Link.enqueue(fifo, port, tail, tailWord, Fifo.head(control, queue));
  return queued & NEW_HEAD && setReady(control, queue) ? queued | TELL : queued;
}

/** The page of event words is not there yet. [XE-FF-10] */
function save(record: usize, what: i32): i32 {
  if (what != RAISE) return 0;
  return Shared.or<i32>(record + FIFO_PORT_ENTRY, FIFO_SAVED) & FIFO_SAVED ? 0 : FRESH | HELD | SAVED_NOW;
}

/** The vCPU has no control block: what would have been linked is dropped. [XE-FF-12] */
function drop(fifo: usize, record: usize, word: usize, what: i32): i32 {
  if (what == UNMASK && !(Shared.and<i32>(word, ~EVENT_MASKED) & EVENT_PENDING)) return 0;
  if (what == RELINK) return 0;
  if (what == REPLAY && !(Shared.and<i32>(record + FIFO_PORT_ENTRY, ~FIFO_SAVED) & FIFO_SAVED)) return 0;
  Shared.add<i32>(fifo + FIFO_DROPPED, 1);
  return what == RAISE ? -ENXIO : 0;
}

function change(record: usize, word: usize, what: i32): i32 {
  if (what == REPLAY) {
    if (!(Fifo.entry(record) & FIFO_SAVED)) return 0;
    const done = Link.raise(word);
    // Last: who dies in between raises it twice, which is harmless.
    Shared.and<i32>(record + FIFO_PORT_ENTRY, ~FIFO_SAVED);
    return done;
  }
  const old = what == UNMASK ? Shared.and<i32>(word, ~EVENT_MASKED) : Shared.load<i32>(word);
  return old & EVENT_PENDING ? Link.link(word) : 0;
}

/** After the head. On the other side: the consumer takes ready, then reads the head. [XE-FF-19, XE-FF-22] @returns whether the bit is new */
function setReady(control: i32, queue: i32): bool {
  const ready = (control as usize) + CONTROL_READY;
  const bit = 1 << Fifo.priorityOf(queue);
  // Testing first is safe: it follows the store of the head, and a bit that is seen here will be taken, and the head read, after it.
  return !(Shared.load<i32>(ready) & bit) && !(Shared.or<i32>(ready, bit) & bit);
}

/** What follows once the queue is unlocked: the upcall, and pollers of a port that is newly pending. [XE-FF-19, XE-FF-21, KF-72] */
function follow(vm: usize, agent: usize, port: i32, queue: i32, done: i32): void {
  if (done & TELL) tell(vm, agent, Fifo.vcpuOf(queue));
  if (done & FRESH && !(done & SAVED_NOW) && anyPoller(vm)) wakePollers(vm, agent, port);
}

function tell(vm: usize, agent: usize, vcpu: i32): void {
  const token = Bracket.enter(agent);
  raiseByte(vm, agent, vcpu);
  Bracket.leave(agent, token);
}

/** Whichever vCPU polls for it, masked or not. [XE-BP-24] */
function wakePollers(vm: usize, agent: usize, port: i32): void {
  const vcpus = load<i32>(vm + REGION_VCPUS);
  for (let i = 0; i < vcpus; i++) wakePoller(vm, agent, i, port);
}

/**
 * Sends the `n` ports (u32 each) at `list`, in their order: queues keep it. Counts as sendMany does, and in AGENT_DONE how far it got.
 * What was dropped for want of a control block counts as bad.
 * @returns the number delivered, or -EAGAIN after AGENT_DONE of them: go on with `rest`
 */
export function fifoSendMany(vm: usize, agent: usize, list: usize, n: i32): i32 {
  store<i32>(agent + AGENT_DELIVERED, 0);
  store<i32>(agent + AGENT_COALESCED, 0);
  store<i32>(agent + AGENT_MASKED, 0);
  store<i32>(agent + AGENT_BAD, 0);
  let i = 0;
  while (i < n) {
    const next = run(vm, agent, list, i, n);
    if (next == i) {
      const done = fifoSend(vm, agent, load<i32>(list + ((i as usize) << 2)), -1);
      if (done == -EAGAIN) {
        store<i32>(agent + AGENT_DONE, i);
        return -EAGAIN;
      }
      count(agent, done);
      i++;
    } else {
      i = next;
    }
  }
  store<i32>(agent + AGENT_DONE, n);
  return load<i32>(agent + AGENT_DELIVERED);
}

/** Counts one port of a batch. */
export function count(agent: usize, result: i32): void {
  const field =
    result > 0 ? AGENT_DELIVERED : result == 0 ? AGENT_COALESCED : result == -ENOTCONN ? AGENT_MASKED : AGENT_BAD;
  store<i32>(agent + field, load<i32>(agent + field) + 1);
}

/** Neighbours of the list that go to one queue, and were on it last, under one lock. @returns where it ended: at `i` when the first is none */
function run(vm: usize, agent: usize, list: usize, i: i32, n: i32): i32 {
  const fifo = Fifo.part(vm);
  const first = load<i32>(list + ((i as usize) << 2));
  if (!Fifo.isPort(fifo, first)) return i;
  const queue = Fifo.queueOf(Fifo.entry(Fifo.port(fifo, first)), -1);
  const q = Fifo.queue(fifo, queue);
  const word = Queue.lock(q, load<i32>(agent + AGENT_HOLDER));
  if (word == BUSY) return i;
  // What is mapped now may be used until the lock is given back.
  const pages = Fifo.pages(fifo);
  const control = Fast.control(fifo, queue);
  const polled = anyPoller(vm);
  const end = i + RUN < n ? i + RUN : n;
  let tail = Queue.tail(word);
  let told = 0;
  let delivered = 0;
  for (; i < end; i++) {
    const port = load<i32>(list + ((i as usize) << 2));
    if (!Fifo.isPort(fifo, port)) break;
    const record = Fifo.port(fifo, port);
    if (!stands(record, queue, queue, -1)) break;
    let done = Fast.raise(fifo, pages, control, queue, port, tail);
    if (done) {
      tail = port;
      delivered++;
      if (polled) wakePollers(vm, agent, port);
    } else {
      done = act(fifo, port, record, queue, tail, RAISE);
      if (done == -EAGAIN) break;
      count(agent, done < 0 ? done : resultOf(done));
      if (done < 0) continue;
      if (done & LINKED_NOW) tail = port;
      // It is in the queue by now, and a poller takes no locks.
      if (polled && done & FRESH && !(done & SAVED_NOW)) wakePollers(vm, agent, port);
    }
    told |= done;
  }
  Queue.unlock(q, word, tail);
  store<i32>(agent + AGENT_DELIVERED, load<i32>(agent + AGENT_DELIVERED) + delivered);
  if (told & TELL) tell(vm, agent, Fifo.vcpuOf(queue));
  return i;
}
