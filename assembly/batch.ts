// Many events in one call. Results are exactly those of single sends in the same order: a 2-level bitmap keeps no order.
//
// The ports are gathered by word, so that each touched word costs one read-modify-write:
//   a short list   run by run: neighbours in the list that lie in the same word
//   a longer one   in private bitmaps, two used in turn, so that ports of one word do not wait for each other's store
//   a long one     in a private byte per port: a store each and nothing to wait for; eight bytes become bits at a time

import { EAGAIN } from '../src/abi/errno.ts';
import {
  AGENT_BAD,
  AGENT_COALESCED,
  AGENT_DELIVERED,
  AGENT_DONE,
  AGENT_MARKS,
  AGENT_MASKED,
  AGENT_PLANE0,
  AGENT_PLANE1,
  AGENT_READER,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  GROUP_MIXED,
  PORT_VCPU_BITS,
  REGION_SHARED_INFO,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { count, fifoSendMany } from './fifo_send';
import { Layout } from './layout';
import { anyPoller, wakePoller } from './poll';
import { Port } from './port';
import { send } from './send';
import { Shared } from './shared';
import { raiseAll } from './upcall';

/** From these lengths on bitmaps and bytes are faster (bench/batch). */
const PLANES_FROM: i32 = 64;
const MARKS_FROM: i32 = 640;

/**
 * Sends the `n` ports (u32 each) at `list`, at most AGENT_LIST_PORTS of them.
 * Exact counts are left in the agent's record: delivered + coalesced + masked + bad = n.
 * @returns the number delivered, or -EAGAIN: shared_info is not mapped, nothing was changed; under the FIFO ABI AGENT_DONE ports were
 *   sent, go on with `sendRest`
 */
export function sendMany(vm: usize, agent: usize, list: usize, n: i32): i32 {
  const token = Bracket.announce(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result = -EAGAIN;
  store<i32>(agent + AGENT_DONE, 0);
  if (word & GPC_FIFO) {
    result = fifoSendMany(vm, agent, list, n);
  } else if (!Layout.unmapped(word)) {
    const page = Layout.page(word);
    // One barrier for all: what the caller wrote for these events is visible before any pending bit is looked at, so a
    // bit that is set already may be left alone. A bracket that was just opened has been one.
    if (ASC_FEATURE_THREADS && token & 1) Shared.or<i32>(agent + AGENT_READER, 0);
    result = word & GPC_LONG_MODE ? batch<u64>(vm, agent, page, list, n) : batch<u32>(vm, agent, page, list, n);
  }
  Bracket.leave(agent, token);
  return result;
}

/**
 * Goes on with a batch that ended half-way, port by port, whatever ABI is in force by now.
 * @returns as `sendMany`
 */
export function sendRest(vm: usize, agent: usize, list: usize, n: i32): i32 {
  for (let i = load<i32>(agent + AGENT_DONE); i < n; i++) {
    store<i32>(agent + AGENT_DONE, i);
    const result = send(vm, agent, load<i32>(list + ((i as usize) << 2)));
    if (result == -EAGAIN) return -EAGAIN;
    count(agent, result);
  }
  return load<i32>(agent + AGENT_DELIVERED);
}

function batch<W extends number>(vm: usize, agent: usize, page: usize, list: usize, n: i32): i32 {
  const end = list + ((n as usize) << 2);
  store<i32>(agent + AGENT_MASKED, 0);
  if (n < PLANES_FROM) {
    return n > 1 && Word.ofBoth<W>(load<i32>(list), load<i32>(list, 4))
      ? runs<W>(vm, agent, page, list, end)
      : singles<W>(vm, agent, page, list, end);
  }
  const marks = n >= MARKS_FROM;
  let bad = 0;
  // Filled without a branch per port; what is no port shows at the end, and then it is done again with care.
  if (!(marks ? fillMarks<W>(agent, list, end) : fillPlanes<W>(agent, list, end))) {
    bad = refill<W>(agent, list, end, marks);
  }
  const delivered = marks ? raiseGathered<W, u8>(vm, agent, page) : raiseGathered<W, W>(vm, agent, page);
  return report(agent, n, delivered, bad);
}

/** What is done for each word of a batch: inlined, because a call costs as much as the locked operation. */
class Word {
  @inline static ofBoth<W extends number>(a: i32, b: i32): bool {
    return a >> Layout.wordShift<W>() == b >> Layout.wordShift<W>();
  }

  /** Sets some ports of one word pending and counts the masked among the new ones. @returns the new ones that are not masked */
  @inline static raise<W extends number>(vm: usize, agent: usize, page: usize, index: i32, bits: W): W {
    const p = Layout.pending<W>(page, index);
    // Legal only because the batch began with a barrier, see sendMany.
    if ((Shared.load<W>(p) & bits) == bits) return 0 as W;
    const fresh = (bits & ~Shared.or<W>(p, bits)) as W;
    if (!fresh) return fresh;
    // After the bits are set. On the other side: unmask clears the mask, then looks at pending.
    const held = (fresh & Shared.load<W>(p + Layout.toMask<W>())) as W;
    if (held) hold<W>(vm, agent, index, held);
    return (fresh & ~held) as W;
  }

  /**
   * The vCPU whose selector gets the bit of word `index`. A word whose ports are bound to several tells all but the last
   * of them here.
   */
  @inline static owner<W extends number>(vm: usize, agent: usize, index: i32, live: W): i32 {
    // After pending was set. On the other side: bindVcpu changes the table, then looks at pending.
    const entry = Port.groupEntry(vm, Layout.groupOf<W>(index));
    return entry != GROUP_MIXED ? entry & PORT_VCPU_BITS : tellOwners<W>(vm, agent, index, live);
  }
}

/** A list whose first two ports lie apart: looking for neighbours would cost more than it saves. */
function singles<W extends number>(vm: usize, agent: usize, page: usize, list: usize, end: usize): i32 {
  const n = ((end - list) >> 2) as i32;
  let bad = 0;
  let delivered = 0;
  let vcpu = GROUP_MIXED;
  let selector: W = 0 as W;
  for (; list < end; list += 4) {
    const port = load<i32>(list);
    if (!Layout.isPort<W>(port)) {
      bad++;
      continue;
    }
    const index = port >> Layout.wordShift<W>();
    const bit = Layout.bit<W>(port);
    const p = Layout.pending<W>(page, index);
    // As in Word.raise and Word.owner.
    if (Shared.load<W>(p) & bit || Shared.or<W>(p, bit) & bit) continue;
    if (Shared.load<W>(p + Layout.toMask<W>()) & bit) {
      hold<W>(vm, agent, index, bit);
      continue;
    }
    delivered++;
    const owner = Port.vcpu(vm, port);
    if (owner != vcpu) {
      settle<W>(vm, agent, vcpu, selector);
      vcpu = owner;
      selector = 0 as W;
    }
    selector = (selector | Layout.bit<W>(index)) as W;
  }
  settle<W>(vm, agent, vcpu, selector);
  return report(agent, n, delivered, bad);
}

function runs<W extends number>(vm: usize, agent: usize, page: usize, list: usize, end: usize): i32 {
  const n = ((end - list) >> 2) as i32;
  let bad = 0;
  let delivered = 0;
  let vcpu = GROUP_MIXED;
  let selector: W = 0 as W;
  while (list < end) {
    const port = load<i32>(list);
    list += 4;
    if (!Layout.isPort<W>(port)) {
      bad++;
      continue;
    }
    const index = port >> Layout.wordShift<W>();
    let bits = Layout.bit<W>(port);
    // The neighbours that follow in the list and lie in the same word.
    for (; list < end; list += 4) {
      const next = load<i32>(list);
      if (next >> Layout.wordShift<W>() != index || !next) break;
      bits = (bits | Layout.bit<W>(next)) as W;
    }
    const live = Word.raise<W>(vm, agent, page, index, bits);
    if (!live) continue;
    delivered += popcnt<W>(live) as i32;
    const owner = Word.owner<W>(vm, agent, index, live);
    if (owner != vcpu) {
      settle<W>(vm, agent, vcpu, selector);
      vcpu = owner;
      selector = 0 as W;
    }
    selector = (selector | Layout.bit<W>(index)) as W;
  }
  settle<W>(vm, agent, vcpu, selector);
  return report(agent, n, delivered, bad);
}

/** Raises what lies in the marks (G is their byte) or the planes, and leaves them 0. @returns how many were delivered */
function raiseGathered<W extends number, G extends number>(vm: usize, agent: usize, page: usize): i32 {
  const words = Layout.words<W>();
  let delivered = 0;
  let vcpu = GROUP_MIXED;
  let selector: W = 0 as W;
  for (let index = 0; index < words; index++) {
    const bits = sizeof<G>() == 1 ? takeMarks<W>(agent, index) : takePlanes<W>(agent, index);
    if (!bits) continue;
    const live = Word.raise<W>(vm, agent, page, index, bits);
    if (!live) continue;
    delivered += popcnt<W>(live) as i32;
    const owner = Word.owner<W>(vm, agent, index, live);
    if (owner != vcpu) {
      settle<W>(vm, agent, vcpu, selector);
      vcpu = owner;
      selector = 0 as W;
    }
    selector = (selector | Layout.bit<W>(index)) as W;
  }
  settle<W>(vm, agent, vcpu, selector);
  return delivered;
}

/** Where a port of any value is wrapped to, so that nothing outside is touched. */
class Wrap {
  @inline static byte<W extends number>(port: i32): usize {
    return (port & ((Layout.words<W>() << Layout.wordShift<W>()) - 1)) as usize;
  }
  @inline static word<W extends number>(port: i32): usize {
    return (Wrap.byte<W>(port) >> Layout.wordShift<W>()) * sizeof<W>();
  }
  /** Whether ports whose bits are or-ed in `all`, and of which `zero` says whether one was wrapped to 0, were all good. */
  @inline static good<W extends number>(all: i32, zero: u32): bool {
    return !zero && (all as u32) < ((Layout.words<W>() << Layout.wordShift<W>()) as u32);
  }
}

/** @returns false when one was no port */
function fillPlanes<W extends number>(agent: usize, list: usize, end: usize): bool {
  const even = agent + AGENT_PLANE0;
  const odd = agent + AGENT_PLANE1;
  let all = 0;
  if ((end - list) & 4) {
    const port = load<i32>(list);
    all = port;
    setBit<W>(even, port);
    list += 4;
  }
  for (; list < end; list += 8) {
    const first = load<i32>(list);
    const second = load<i32>(list, 4);
    all |= first | second;
    setBit<W>(even, first);
    setBit<W>(odd, second);
  }
  return Wrap.good<W>(all, (load<u8>(even) | load<u8>(odd)) & 1);
}

function setBit<W extends number>(plane: usize, port: i32): void {
  const p = plane + Wrap.word<W>(port);
  store<W>(p, (load<W>(p) | Layout.bit<W>(port)) as W);
}

/** @returns false when one was no port */
function fillMarks<W extends number>(agent: usize, list: usize, end: usize): bool {
  const marks = agent + AGENT_MARKS;
  let all = 0;
  for (; list + 16 <= end; list += 16) {
    const a = load<i32>(list);
    const b = load<i32>(list, 4);
    const c = load<i32>(list, 8);
    const d = load<i32>(list, 12);
    all |= a | b | c | d;
    store<u8>(marks + Wrap.byte<W>(a), 1);
    store<u8>(marks + Wrap.byte<W>(b), 1);
    store<u8>(marks + Wrap.byte<W>(c), 1);
    store<u8>(marks + Wrap.byte<W>(d), 1);
  }
  for (; list < end; list += 4) {
    const port = load<i32>(list);
    all |= port;
    store<u8>(marks + Wrap.byte<W>(port), 1);
  }
  return Wrap.good<W>(all, load<u8>(marks));
}

/** Empties what was filled and fills it again with what is a port. @returns how many were none */
function refill<W extends number>(agent: usize, list: usize, end: usize, marks: bool): i32 {
  for (let index = 0; index < Layout.words<W>(); index++) {
    if (marks) takeMarks<W>(agent, index);
    else takePlanes<W>(agent, index);
  }
  let bad = 0;
  for (; list < end; list += 4) {
    const port = load<i32>(list);
    if (!Layout.isPort<W>(port)) bad++;
    else if (marks) store<u8>(agent + AGENT_MARKS + Wrap.byte<W>(port), 1);
    else setBit<W>(agent + AGENT_PLANE0, port);
  }
  return bad;
}

function takePlanes<W extends number>(agent: usize, index: i32): W {
  const p = agent + AGENT_PLANE0 + (index as usize) * sizeof<W>();
  const bits = (load<W>(p) | load<W>(p, AGENT_PLANE1 - AGENT_PLANE0)) as W;
  if (bits) {
    store<W>(p, 0 as W);
    store<W>(p, 0 as W, AGENT_PLANE1 - AGENT_PLANE0);
  }
  return bits;
}

/** Moves bit 0 of byte k to bit 56 + k, for eight bytes at once: no two of the products' bits meet. */
const PACK: u64 = 0x0102040810204080;

function takeMarks<W extends number>(agent: usize, index: i32): W {
  let p = agent + AGENT_MARKS + ((index as usize) << Layout.wordShift<W>());
  let bits: u64 = 0;
  for (let shift: u64 = 0; shift < ((sizeof<W>() << 3) as u64); shift += 8, p += 8) {
    bits |= ((load<u64>(p) * PACK) >> 56) << shift;
    store<u64>(p, 0);
  }
  return bits as W;
}

/** Ports that are pending now but masked: they wait for an unmask, or for a poller. */
function hold<W extends number>(vm: usize, agent: usize, index: i32, held: W): void {
  store<i32>(agent + AGENT_MASKED, load<i32>(agent + AGENT_MASKED) + (popcnt<W>(held) as i32));
  if (!anyPoller(vm)) return;
  for (let rest = held; rest; rest = (rest & (rest - (1 as W))) as W) {
    const port = (index << Layout.wordShift<W>()) + (ctz<W>(rest) as i32);
    wakePoller(vm, agent, Port.vcpu(vm, port), port);
  }
}

function tellOwners<W extends number>(vm: usize, agent: usize, index: i32, live: W): i32 {
  let last = GROUP_MIXED;
  for (let rest = live; rest; rest = (rest & (rest - (1 as W))) as W) {
    const owner = Port.vcpu(vm, (index << Layout.wordShift<W>()) + (ctz<W>(rest) as i32));
    if (owner == last) continue;
    settle<W>(vm, agent, last, Layout.bit<W>(index));
    last = owner;
  }
  return last;
}

/**
 * Sets the selector bits that a run of words owes to one vCPU: one upcall and at most one wake for all of them.
 * A receiver that was woken for each word would drain it, fall asleep, and be woken again.
 */
function settle<W extends number>(vm: usize, agent: usize, vcpu: i32, selector: W): void {
  if (vcpu != GROUP_MIXED) raiseAll<W>(vm, agent, vcpu, selector);
}

function report(agent: usize, n: i32, delivered: i32, bad: i32): i32 {
  store<i32>(agent + AGENT_DELIVERED, delivered);
  store<i32>(agent + AGENT_COALESCED, n - bad - load<i32>(agent + AGENT_MASKED) - delivered);
  store<i32>(agent + AGENT_BAD, bad);
  return delivered;
}
