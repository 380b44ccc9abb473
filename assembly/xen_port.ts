// Sends by a domain's port descriptors: IPIs, VIRQs, and interdomain channels whose other end lies in this memory. [XE-OP-70]
//
//   send:  bracket ─ descriptor ─ (bracket of the peer ─ its descriptor) ─ pending, as any send ─ leave
//   close: descriptor ─ wait for the brackets of both ends ─ clear pending
//
// So whoever has read a descriptor has raised what it says before the port can be another's. [XE-MOD-15, XE-MOD-43]

import { EAGAIN, EINVAL } from '../src/abi/errno.ts';
import {
  GPC_ACTIVE,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  REGION_PORT_DESCS,
  REGION_SHARED_INFO,
  REGION_VALID_PORTS,
  REGION_VCPUS,
  REGION_VIRQS,
} from '../src/abi/region.ts';
import {
  PEER_AGENT,
  PEER_REGION,
  PEER_SIZE,
  PEERS,
  PORT_CONSUMER,
  PORT_DESC_SIZE,
  PORT_DOM_SHIFT,
  PORT_INTERDOMAIN,
  PORT_IPI,
  PORT_KEPT,
  PORT_NUMBER,
  PORT_PEER_REGION,
  PORT_RESERVED,
  PORT_SAVED,
  PORT_STATE_BITS,
  PORT_UNBOUND,
  PORT_WHAT,
  XEN_ELSEWHERE,
} from '../src/abi/xen_port.ts';
import { NR_VIRQS } from '../src/abi/xen_virq.ts';
import { Bracket } from './bracket';
import { fifoSend } from './fifo_send';
import { fifoClear } from './fifo_state';
import { Layout } from './layout';
import { anyPoller, wakePoller } from './poll';
import { Event } from './send';
import { Shared } from './shared';

export class Desc {
  /** Whether the port has a descriptor: before anything else is looked at. [XE-MOD-13] */
  @inline static isValid(vm: usize, port: i32): bool {
    // On the other side: the owner publishes the count after the descriptors. [XE-TC-05]
    return (port as u32) < Shared.load<u32>(vm + REGION_VALID_PORTS);
  }
  @inline static at(vm: usize, port: i32): usize {
    return vm + load<u32>(vm + REGION_PORT_DESCS) + (port as usize) * PORT_DESC_SIZE;
  }
  @inline static what(desc: usize): i32 {
    // Inside a bracket. On the other side: the owner changes it, then waits for brackets.
    return Shared.load<i32>(desc + PORT_WHAT);
  }
  /** A guest's, and bound. [XE-MOD-05] */
  @inline static isUsable(what: i32): bool {
    return !(what & PORT_CONSUMER) && (what & PORT_STATE_BITS) > PORT_RESERVED;
  }
}

/**
 * EVTCHNOP_send by the domain at `vm`. `peers` is where the agent's own records in other domains are.
 * @returns 0 done, -EINVAL no port that can be sent to, -EAGAIN the page of whoever gets it is not mapped: nothing was changed;
 *   XEN_ELSEWHERE it is for TypeScript: another memory, code on the host, or a domain where this agent is not known
 */
export function xenSend(vm: usize, agent: usize, peers: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  const result = send(vm, agent, peers, port);
  Bracket.leave(agent, token);
  return result;
}

function send(vm: usize, agent: usize, peers: usize, port: i32): i32 {
  if (!Desc.isValid(vm, port)) return -EINVAL;
  const desc = Desc.at(vm, port);
  const what = Desc.what(desc);
  if (what & PORT_CONSUMER) return -EINVAL;
  const state = what & PORT_STATE_BITS;
  if (state == PORT_IPI) return quiet(setPending(vm, agent, port, desc));
  if (state == PORT_INTERDOMAIN) return sendPeer(vm, agent, peers, desc, what);
  return state == PORT_UNBOUND ? 0 : -EINVAL;
}

function sendPeer(vm: usize, agent: usize, peers: usize, desc: usize, what: i32): i32 {
  const port = Shared.load<i32>(desc + PORT_NUMBER);
  const region = Shared.load<i32>(desc + PORT_PEER_REGION);
  if (!region) return XEN_ELSEWHERE;
  const peer = (region - 1) as usize;
  if (peer == vm) return raise(vm, agent, port);
  const entry = peers + (((what >>> PORT_DOM_SHIFT) & (PEERS - 1)) as usize) * PEER_SIZE;
  // Only this agent writes its entries, and none while it is in here.
  if (load<i32>(entry + PEER_REGION) != region) return XEN_ELSEWHERE;
  const peerAgent = load<u32>(entry + PEER_AGENT) as usize;
  // Inside the bracket of the sender's own domain, which is what a close of either end waits for.
  const token = Bracket.enter(peerAgent);
  const result = raise(peer, peerAgent, port);
  Bracket.leave(peerAgent, token);
  return result;
}

/** At the other end. A port that is not usable any more drops it: its owner is in the middle of a close. */
function raise(vm: usize, agent: usize, port: i32): i32 {
  const desc = Desc.at(vm, port);
  const what = Desc.what(desc);
  if (what & PORT_CONSUMER) return XEN_ELSEWHERE;
  return Desc.isUsable(what) ? quiet(setPending(vm, agent, port, desc)) : 0;
}

/** A sender learns nothing about masks and about what was pending before. [XE-OP-71] */
function quiet(result: i32): i32 {
  return result == -EAGAIN ? result : 0;
}

/**
 * Sets a usable port pending, by whom it may be: the host, another memory, a PIRQ.
 * @returns 1 raised, 0 pending already or kept for later, -ENOTCONN masked, -EINVAL not usable, -EAGAIN not mapped
 */
export function xenRaise(vm: usize, agent: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  let result = -EINVAL;
  if (Desc.isValid(vm, port)) {
    const desc = Desc.at(vm, port);
    if (Desc.isUsable(Desc.what(desc))) result = setPending(vm, agent, port, desc);
  }
  Bracket.leave(agent, token);
  return result;
}

/** Raises the VIRQ in row `row` of the table: its vCPU's, or vCPU 0's. [XE-MOD-23] @returns as `xenRaise`; 0 also: nobody has bound it */
export function xenRaiseVirq(vm: usize, agent: usize, row: i32, virq: i32): i32 {
  const token = Bracket.enter(agent);
  let result = 0;
  // On the other side: a bind writes it last, a close clears it first, then waits for this bracket. [XE-MOD-24]
  const port = Shared.load<i32>(vm + load<u32>(vm + REGION_VIRQS) + ((row * NR_VIRQS + virq) as usize) * 4);
  if (port) {
    const desc = Desc.at(vm, port);
    if (Desc.isUsable(Desc.what(desc))) result = setPending(vm, agent, port, desc);
  }
  Bracket.leave(agent, token);
  return result;
}

/** Inside a bracket. The port is usable. [XE-2L-01..04] */
function setPending(vm: usize, agent: usize, port: i32, desc: usize): i32 {
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  if (word & GPC_FIFO) return fifoSend(vm, agent, port, -1);
  const long = (word & GPC_LONG_MODE) != 0;
  const result = long ? Event.raise<u64>(vm, agent, word, port, -1) : Event.raise<u32>(vm, agent, word, port, -1);
  if (result == 0) return 0;
  if (result == -EAGAIN) return keep(vm, desc);
  // A port beyond the layout that the guest has switched to has no bit. [XE-2L-06]
  if (result == -EINVAL) return 0;
  if (anyPoller(vm)) wakePollers(vm, agent, port);
  return result;
}

/** Whoever polls for the port, on whatever vCPU, masked or not. [XE-BP-24] */
function wakePollers(vm: usize, agent: usize, port: i32): void {
  const vcpus = load<i32>(vm + REGION_VCPUS);
  for (let vcpu = 0; vcpu < vcpus; vcpu++) wakePoller(vm, agent, vcpu, port);
}

/** Shared_info is not mapped: if the guest has none yet, the event is kept until it has. */
function keep(vm: usize, desc: usize): i32 {
  if (Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_ACTIVE)) return -EAGAIN;
  Shared.or<i32>(desc + PORT_KEPT, PORT_SAVED);
  // After the bit. On the other side: whoever registers shared_info looks for bits afterwards. The one who takes it raises it.
  if (!Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_ACTIVE)) return 0;
  return Shared.and<i32>(desc + PORT_KEPT, ~PORT_SAVED) & PORT_SAVED ? -EAGAIN : 0;
}

/** Clears what a port that ceases to be has left: pending, here and kept. Nobody sends to it any more. [XE-2L-05] @returns 0, -EAGAIN */
export function xenClearPending(vm: usize, agent: usize, port: i32): i32 {
  const token = Bracket.enter(agent);
  Shared.and<i32>(Desc.at(vm, port) + PORT_KEPT, ~PORT_SAVED);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let result: i32;
  if (word & GPC_FIFO) result = fifoClear(vm, agent, port);
  else result = word & GPC_LONG_MODE ? clear<u64>(word, port) : clear<u32>(word, port);
  Bracket.leave(agent, token);
  return result;
}

function clear<W extends number>(word: i32, port: i32): i32 {
  if (!Layout.isPort<W>(port)) return 0;
  if (Layout.unmapped(word)) return -EAGAIN;
  Shared.and<W>(Layout.pending<W>(Layout.page(word), port >> Layout.wordShift<W>()), ~Layout.bit<W>(port) as W);
  return 0;
}
