// Many events in one call. Results are exactly those of single sends in the same order: a 2-level bitmap keeps no order.
//
// A short list is sent run by run: neighbours in the same word share one read-modify-write. A long one is combined in a
// private bitmap first, so that each touched word costs one. Two planes, used in turn, keep consecutive ports of one word
// from waiting for each other's store.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  AGENT_BAD,
  AGENT_COALESCED,
  AGENT_DELIVERED,
  AGENT_MASKED,
  AGENT_PLANE0,
  AGENT_PLANE1,
  AGENT_READER,
  GPC_LONG_MODE,
  GPC_WORD,
  GROUP_MIXED,
  REGION_SHARED_INFO,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { Layout } from './layout';
import { anyPoller, wakePoller } from './poll';
import { Port } from './port';
import { Shared } from './shared';
import { Upcall } from './upcall';

/** From this length on combining is faster than runs (bench/batch). */
const COMBINE_FROM: i32 = 48;

/**
 * Sends the `n` ports (u32 each) at `list`, at most AGENT_LIST_PORTS of them.
 * Exact counts are left in the agent's record: delivered + coalesced + masked + bad = n.
 * @returns the number delivered, or -EAGAIN: shared_info is not mapped, nothing was changed
 */
export function sendMany(vm: usize, agent: usize, list: usize, n: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result = -EAGAIN;
  if (!Layout.unmapped(word)) {
    const page = Layout.page(word);
    // One barrier for all: what the caller wrote for these events is visible before any pending bit is looked at, so a
    // bit that is set already may be left alone. A bracket that was just opened has been one.
    if (ASC_FEATURE_THREADS && token & 1) Shared.or<i32>(agent + AGENT_READER, 0);
    result = word & GPC_LONG_MODE ? batch<u64>(vm, agent, page, list, n) : batch<u32>(vm, agent, page, list, n);
  }
  Bracket.leave(agent, token);
  return result;
}

function batch<W extends number>(vm: usize, agent: usize, page: usize, list: usize, n: i32): i32 {
  return n < COMBINE_FROM ? runs<W>(vm, agent, page, list, n) : combine<W>(vm, agent, page, list, n);
}

function runs<W extends number>(vm: usize, agent: usize, page: usize, list: usize, n: i32): i32 {
  const end = list + ((n as usize) << 2);
  let bad = 0;
  let delivered = 0;
  let vcpu = GROUP_MIXED;
  let selector: W = 0 as W;
  store<i32>(agent + AGENT_MASKED, 0);
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
    const live = raiseWord<W>(vm, agent, page, index, bits);
    if (!live) continue;
    delivered += popcnt<W>(live) as i32;
    const owner = ownerOf<W>(vm, agent, index, live);
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

function combine<W extends number>(vm: usize, agent: usize, page: usize, list: usize, n: i32): i32 {
  const bad = fillPlanes<W>(agent, list, n);
  const words = Layout.words<W>();
  let delivered = 0;
  let vcpu = GROUP_MIXED;
  let selector: W = 0 as W;
  let p = agent + AGENT_PLANE0;
  store<i32>(agent + AGENT_MASKED, 0);
  for (let index = 0; index < words; index++, p += sizeof<W>()) {
    const bits = (load<W>(p) | load<W>(p, AGENT_PLANE1 - AGENT_PLANE0)) as W;
    if (!bits) continue;
    store<W>(p, 0 as W);
    store<W>(p, 0 as W, AGENT_PLANE1 - AGENT_PLANE0);
    const live = raiseWord<W>(vm, agent, page, index, bits);
    if (!live) continue;
    delivered += popcnt<W>(live) as i32;
    const owner = ownerOf<W>(vm, agent, index, live);
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

/** Ors the ports into the two planes, which are all 0 between calls. @returns how many were no port */
function fillPlanes<W extends number>(agent: usize, list: usize, n: i32): i32 {
  const even = agent + AGENT_PLANE0;
  const odd = agent + AGENT_PLANE1;
  const end = list + ((n as usize) << 2);
  let bad = 0;
  if (n & 1) {
    bad += fill<W>(even, load<i32>(list));
    list += 4;
  }
  for (; list < end; list += 8) {
    bad += fill<W>(even, load<i32>(list));
    bad += fill<W>(odd, load<i32>(list, 4));
  }
  return bad;
}

function fill<W extends number>(plane: usize, port: i32): i32 {
  if (!Layout.isPort<W>(port)) return 1;
  const p = plane + ((port >> Layout.wordShift<W>()) as usize) * sizeof<W>();
  store<W>(p, (load<W>(p) | Layout.bit<W>(port)) as W);
  return 0;
}

/** Sets some ports of one word pending and counts the masked among the new ones. @returns the new ones that are not masked */
function raiseWord<W extends number>(vm: usize, agent: usize, page: usize, index: i32, bits: W): W {
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

/** Ports that are pending now but masked: they wait for an unmask, or for a poller. */
function hold<W extends number>(vm: usize, agent: usize, index: i32, held: W): void {
  store<i32>(agent + AGENT_MASKED, load<i32>(agent + AGENT_MASKED) + (popcnt<W>(held) as i32));
  if (!anyPoller(vm)) return;
  for (let rest = held; rest; rest = (rest & (rest - (1 as W))) as W) {
    const port = (index << Layout.wordShift<W>()) + (ctz<W>(rest) as i32);
    wakePoller(vm, agent, Port.vcpu(vm, port), port);
  }
}

/**
 * The vCPU whose selector gets the bit of word `index`. A word whose ports are bound to several tells all but the last
 * of them here.
 */
function ownerOf<W extends number>(vm: usize, agent: usize, index: i32, live: W): i32 {
  // After pending was set. On the other side: bindVcpu changes the table, then looks at pending.
  const owner = Port.groupOwner(vm, Layout.groupOf<W>(index));
  return owner != GROUP_MIXED ? owner : tellOwners<W>(vm, agent, index, live);
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
  if (vcpu != GROUP_MIXED) Upcall.raise<W>(vm, agent, vcpu, selector);
}

function report(agent: usize, n: i32, delivered: i32, bad: i32): i32 {
  store<i32>(agent + AGENT_DELIVERED, delivered);
  store<i32>(agent + AGENT_COALESCED, n - bad - load<i32>(agent + AGENT_MASKED) - delivered);
  store<i32>(agent + AGENT_BAD, bad);
  return delivered;
}
