// The receiver: upcall byte off, selector taken, then per word the pending and unmasked ports cleared and listed.
// The mirror image of the sender's order. [KX-EVT-66]

import { EAGAIN } from '../src/abi/errno.ts';
import { GPC_FIFO, GPC_LONG_MODE, GPC_WORD, GROUP_MIXED, PORT_BOUND, REGION_SHARED_INFO } from '../src/abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { Bracket } from './bracket';
import { fifoDrain } from './fifo_drain';
import { Layout } from './layout';
import { Port } from './port';
import { Selector } from './selector';
import { Shared } from './shared';
import { takeShadow, Vcpu } from './upcall';

/**
 * Takes what is pending for `vcpu`: clears the bits and writes the ports to `out` as u32, lowest first.
 * Bounded by the words of the bitmap, however fast others send.
 * @returns the number of ports, or -EAGAIN: shared_info or vcpu_info is not mapped, nothing was changed
 */
export function drain(vm: usize, agent: usize, vcpu: i32, out: usize): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const long = (word & GPC_LONG_MODE) != 0;
  let result = long ? scan<u64>(vm, word, vcpu, out) : scan<u32>(vm, word, vcpu, out);
  if (result == -EAGAIN && word & GPC_FIFO) result = fifoDrain(vm, agent, vcpu, out);
  Bracket.leave(agent, token);
  return result;
}

function scan<W extends number>(vm: usize, word: i32, vcpu: i32, out: usize): i32 {
  const line = Vcpu.line(vm, vcpu);
  const info = Vcpu.info(line);
  if (!Layout.is2Level<W>(word) || Layout.unmapped(info)) return -EAGAIN;
  const start = out;
  // The byte before the selector: an event that comes in between sets it again. On the other side: Upcall.raise.
  Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);
  let selector = (Selector.take<W>(Selector.address<W>(info)) | takeShadow<W>(line)) as W;
  // After the selector was taken: whoever sets pending from here on sets the selector again.
  for (; selector; selector = (selector & (selector - (1 as W))) as W) {
    const index = ctz<W>(selector) as i32;
    if (index >= Layout.words<W>()) break;
    const bits = takeWord<W>(vm, Layout.page(word), vcpu, index);
    if (bits) out = list<W>(bits, index, out);
  }
  return ((out - start) >> 2) as i32;
}

/** Clears and returns the ports of one word that are pending, unmasked and served by `vcpu`. */
function takeWord<W extends number>(vm: usize, page: usize, vcpu: i32, index: i32): W {
  const p = Layout.pending<W>(page, index);
  const mask = Shared.load<W>(p + Layout.toMask<W>());
  const entry = Port.groupEntry(vm, Layout.groupOf<W>(index));
  if (entry == 0 || entry == (vcpu | PORT_BOUND)) {
    if (!mask) return Shared.exchange<W>(p, 0 as W);
    return clear<W>(p, (Shared.load<W>(p) & ~mask) as W);
  }
  const pending = Shared.load<W>(p);
  // A port of another vCPU is left alone: its own selector has the bit, or the bind that moved it will set it.
  return entry == GROUP_MIXED ? clear<W>(p, servedBy<W>(vm, vcpu, index, (pending & ~mask) as W)) : (0 as W);
}

function clear<W extends number>(p: usize, bits: W): W {
  return bits ? ((Shared.and<W>(p, ~bits as W) & bits) as W) : (0 as W);
}

function servedBy<W extends number>(vm: usize, vcpu: i32, index: i32, bits: W): W {
  let own: W = 0 as W;
  for (let rest = bits; rest; rest = (rest & (rest - (1 as W))) as W) {
    const port = (index << Layout.wordShift<W>()) + (ctz<W>(rest) as i32);
    if (Port.serves(vcpu, Port.entry(vm, port))) own = (own | Layout.bit<W>(port)) as W;
  }
  return own;
}

/** Appends the ports of a word, at least one, to the list. */
function list<W extends number>(bits: W, index: i32, out: usize): usize {
  const first = index << Layout.wordShift<W>();
  store<i32>(out, first + (ctz<W>(bits) as i32));
  bits = (bits & (bits - (1 as W))) as W;
  if (!bits) return out + 4;
  if (bits == (~1 as W)) return listAll<W>(first, out);
  do {
    out += 4;
    store<i32>(out, first + (ctz<W>(bits) as i32));
    bits = (bits & (bits - (1 as W))) as W;
  } while (bits);
  return out + 4;
}

/** All ports of a word, two at a time: no bit has to be looked for. */
function listAll<W extends number>(first: i32, out: usize): usize {
  let pair = (first as u64) | (((first + 1) as u64) << 32);
  const end = out + 32 * sizeof<W>();
  for (; out < end; out += 32) {
    store<u64>(out, pair);
    store<u64>(out, pair + 0x200000002, 8);
    store<u64>(out, pair + 0x400000004, 16);
    store<u64>(out, pair + 0x600000006, 24);
    pair += 0x800000008;
  }
  return out;
}
