// The consumer of the FIFO ABI, as a guest's upcall handler is one. [XE-FF-70..73]
//
// It holds no queue lock: what it shares with senders are the words, each changed in one step. What it keeps between two drains (the
// queues it has taken, and where it stands in each) is in the region; one agent at a time consumes for a vCPU.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  CONTROL_HEAD,
  CONTROL_READY,
  DRAIN_MORE,
  EVENT_BUSY,
  EVENT_LINK_BITS,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  EVENT_WORDS_SHIFT,
  FIFO_CONSUMER,
  FIFO_CONTROL_GPC,
  FIFO_LOCAL_HEADS,
  FIFO_LOCAL_READY,
  FIFO_PARKED,
  FIFO_PRIORITIES,
} from '../src/abi/fifo.ts';
import { AGENT_LIST_PORTS, GPC_ACTIVE } from '../src/abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { AWAY, Fifo } from './fifo_table';
import { Layout } from './layout';
import { Shared } from './shared';
import { takeShadow, Vcpu } from './upcall';

const QUEUES: i32 = (1 << FIFO_PRIORITIES) - 1;

/** How often somebody else may change a word while it is being taken; then it is left for the next drain. */
const TAKE_TRIES: i32 = 64;

/**
 * Takes what is queued for `vcpu`, highest priority first, in the order of each queue: writes the ports to `out` as u32, at most
 * AGENT_LIST_PORTS of them. What is left keeps asking for an upcall. Bounded by that and by the number of words, whatever the guest has
 * written into them. In a bracket.
 * @returns the number of ports, with DRAIN_MORE when there are more; or -EAGAIN: a page is not mapped, and nothing was taken
 */
export function fifoDrain(vm: usize, agent: usize, vcpu: i32, out: usize): i32 {
  const fifo = Fifo.part(vm);
  const pages = Fifo.pages(fifo);
  const record = Fifo.vcpu(fifo, vcpu);
  const line = Vcpu.line(vm, vcpu);
  const info = Vcpu.info(line);
  const control = Fifo.control(record);
  if (pages == FIFO_PARKED || Layout.unmapped(info)) return -EAGAIN;
  const none = Layout.unmapped(control);
  if (none && Shared.load<i32>(record + FIFO_CONTROL_GPC + GPC_ACTIVE)) return -EAGAIN;
  // Before the byte is cleared: whoever has it now will look at ready again.
  if (Shared.compareExchange<i32>(record + FIFO_CONSUMER, 0, agent as i32)) return 0;
  // The byte before ready: an event that comes in between sets it again. On the other side: follow, in fifo_send.
  Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);
  takeShadow<u64>(line);
  let found = none ? 0 : consume(fifo, record, control, pages, out);
  if (Shared.load<i32>(record + FIFO_LOCAL_READY)) {
    Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 1);
    if (found > 0) found |= DRAIN_MORE;
  }
  Shared.store<i32>(record + FIFO_CONSUMER, 0);
  return found;
}

/** Whether there is something for `vcpu` to consume: 1 or 0, -EAGAIN its control block is not mapped now. In a bracket. */
export function fifoReady(vm: usize, vcpu: i32): i32 {
  const record = Fifo.vcpu(Fifo.part(vm), vcpu);
  const control = Fifo.control(record);
  if (Shared.load<i32>(record + FIFO_LOCAL_READY)) return 1;
  if (Layout.unmapped(control)) return Shared.load<i32>(record + FIFO_CONTROL_GPC + GPC_ACTIVE) ? -EAGAIN : 0;
  return Shared.load<i32>((control as usize) + CONTROL_READY) & QUEUES ? 1 : 0;
}

function consume(fifo: usize, record: usize, control: i32, pages: i32, out: usize): i32 {
  const start = out;
  const end = out + AGENT_LIST_PORTS * 4;
  // As many visits as there are words, and one to each queue: more are only needed for what is linked meanwhile.
  let visits = (pages << EVENT_WORDS_SHIFT) + FIFO_PRIORITIES;
  let stop = 0;
  let ready = Shared.load<i32>(record + FIFO_LOCAL_READY) | takeReady(control);
  while (ready && !stop) {
    const priority = ctz<i32>(ready);
    const local = record + FIFO_LOCAL_HEADS + ((priority as usize) << 2);
    let port = load<i32>(local);
    // After ready was taken. On the other side: enqueue stores the head, then sets ready.
    if (!port) port = Shared.load<i32>((control as usize) + CONTROL_HEAD + ((priority as usize) << 2));
    // Along the queue, until one of a higher priority has something. [XE-FF-71]
    for (;;) {
      stop = out == end || visits-- == 0 ? FULL : 0;
      if (stop) break;
      const word = Fifo.word(fifo, pages, port);
      if (word == AWAY) stop = GONE;
      // A head or a link that is no port ends the queue: only a guest writes such. [KF-66]
      const old = stop ? MOVING : port && word ? take(word) : 0;
      if (old == MOVING) {
        stop |= FULL;
        break;
      }
      if ((old & (EVENT_PENDING | EVENT_MASKED)) == EVENT_PENDING) {
        store<i32>(out, port);
        out += 4;
      }
      port = old & EVENT_LINK_BITS;
      if (!port) ready &= ~(1 << priority);
      ready |= takeReady(control);
      if (!port || ready & ((1 << priority) - 1)) break;
    }
    store<i32>(local, port);
  }
  Shared.store<i32>(record + FIFO_LOCAL_READY, ready);
  return stop & GONE && out == start ? -EAGAIN : (((out - start) >> 2) as i32);
}

/** Why a drain ends before its queues do: the list or its bound is full, or a word does not hold still; a page is not mapped. */
const FULL: i32 = 1;
const GONE: i32 = 2;

/** In place of a word that somebody else does not stop changing: what is returned of a word lacks BUSY. */
const MOVING: i32 = -1;

/** Takes a word out of its queue, and its event unless it is masked. @returns the word as it was [XE-FF-72] */
function take(word: usize): i32 {
  for (let i = 0; i < TAKE_TRIES; i++) {
    const old = Shared.load<i32>(word);
    const taken = (old & (EVENT_PENDING | EVENT_MASKED)) == EVENT_PENDING ? EVENT_PENDING : 0;
    // In one step. On the other side: a sender that hangs the next port onto this word, or finds it gone and makes a new head.
    const next = old & ~(EVENT_LINKED | EVENT_LINK_BITS | taken);
    if (Shared.compareExchange<i32>(word, old, next) == old) return old & ~EVENT_BUSY;
  }
  return MOVING;
}

function takeReady(control: i32): i32 {
  const ready = (control as usize) + CONTROL_READY;
  return Shared.load<i32>(ready) ? Shared.exchange<i32>(ready, 0) & QUEUES : 0;
}
