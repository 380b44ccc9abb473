// From a selector bit to a vCPU that looks: selector, upcall byte, kick, and the shadow for a vcpu_info that is away.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  AGENT_WAKES,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  KICK_LISTENER,
  KICK_SLEEPER,
  KICK_VECTOR,
  REGION_SHARED_INFO,
  REQUEST_VECTOR,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_LINE_SIZE,
  VCPU_LINES,
  VCPU_REQUESTS,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
} from '../src/abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../src/abi/vcpu_info.ts';
import { Bracket } from './bracket';
import { Dirty } from './dirty';
import { kick as kickEmbedder } from './env';
import { Layout } from './layout';
import { Selector } from './selector';
import { Shared } from './shared';

export class Vcpu {
  /** The one cache line of a vCPU that senders touch. */
  @inline static line(vm: usize, vcpu: i32): usize {
    return vm + VCPU_LINES + (vcpu as usize) * VCPU_LINE_SIZE;
  }
  @inline static info(line: usize): i32 {
    return Shared.load<i32>(line + VCPU_INFO_GPC + GPC_WORD);
  }
}

export class Upcall {
  /** Sets one selector bit of a vCPU and, if it is new, asks it for an upcall. [KX-EVT-16..19] */
  @inline static raise<W extends number>(vm: usize, agent: usize, vcpu: i32, bit: W): void {
    const line = Vcpu.line(vm, vcpu);
    const info = Vcpu.info(line);
    // Testing before the read-modify-write is safe: it follows the one on pending, and the consumer takes the selector
    // before it reads pending, so a bit seen here belongs to a scan that is still to come. [KX-EVT-66]
    if (Selector.usable<W>(info) && Shared.load<W>(Selector.address<W>(info)) & bit) return;
    raiseNew<W>(vm, agent, vcpu, line, info, bit);
  }
}

/** As `Upcall.raise`, for several selector bits at once. */
export function raiseAll<W extends number>(vm: usize, agent: usize, vcpu: i32, bits: W): void {
  const line = Vcpu.line(vm, vcpu);
  const info = Vcpu.info(line);
  if (Selector.usable<W>(info) && (Shared.load<W>(Selector.address<W>(info)) & bits) == bits) return;
  raiseNew<W>(vm, agent, vcpu, line, info, bits);
}

function raiseNew<W extends number>(vm: usize, agent: usize, vcpu: i32, line: usize, info: i32, bits: W): void {
  if (Layout.unmapped(info)) {
    shade<W>(vm, agent, vcpu, line, bits);
    return;
  }
  if ((Selector.or<W>(Selector.address<W>(info), bits) & bits) == bits) return;
  kick(vm, agent, vcpu, line, setUpcallPending(info));
}

/**
 * Asks a vCPU for an upcall whatever its selector says: the FIFO ABI's ready word takes its place. In a bracket, after the ready bit
 * was newly set. While vcpu_info is away the request is kept in bit 0 of the shadow.
 */
export function raiseByte(vm: usize, agent: usize, vcpu: i32): void {
  const line = Vcpu.line(vm, vcpu);
  const info = Vcpu.info(line);
  if (Layout.unmapped(info)) {
    shade<u32>(vm, agent, vcpu, line, 1);
    return;
  }
  setUpcallPending(info);
  // Whether the byte was set or not: a consumer that has taken ready and left the byte to be cleared sleeps on its next look.
  kick(vm, agent, vcpu, line, true);
}

/** Sets the upcall byte, after the selector bit. The guest clears it before it takes the selector. @returns was it 0? */
function setUpcallPending(info: i32): bool {
  const p = (info as usize) + VCPU_INFO_UPCALL_PENDING;
  const edge = ASC_FEATURE_THREADS || Shared.load<u8>(p) == 0;
  Shared.store<u8>(p, 1);
  return edge;
}

/** Keeps selector bits on our side until vcpu_info is back, and tells the vCPU of new ones. */
function shade<W extends number>(vm: usize, agent: usize, vcpu: i32, line: usize, bits: W): void {
  const lo = bits as u32 as i32;
  const hi = Layout.isLong<W>() ? (((bits as u64) >> 32) as i32) : 0;
  let oldLo = lo;
  let oldHi = hi;
  const edge = !ASC_FEATURE_THREADS && !shadow<W>(line);
  if (lo) oldLo = Shared.or<i32>(line + VCPU_SHADOW_LO, lo);
  if (hi) oldHi = Shared.or<i32>(line + VCPU_SHADOW_HI, hi);
  if ((oldLo & lo) == lo && (oldHi & hi) == hi) return;
  // As in `kick`, but the vector waits for the flush. [KX-EVT-18, 55]
  const what = Shared.load<i32>(line + VCPU_KICK) & ~KICK_VECTOR;
  if (what) answerKick(vm, agent, vcpu, line, what, edge);
}

/** Tells a vCPU that asked to be told. An awake one that looks by itself costs one load. */
function kick(vm: usize, agent: usize, vcpu: i32, line: usize, edge: bool): void {
  // After the read-modify-write on selector or shadow. On the other side a sleeper sets its flag with one, then looks at
  // those again: one of the two sees the other.
  const what = Shared.load<i32>(line + VCPU_KICK);
  if (what) answerKick(vm, agent, vcpu, line, what, edge);
}

function answerKick(vm: usize, agent: usize, vcpu: i32, line: usize, what: i32, edge: bool): void {
  if (what & KICK_VECTOR) Shared.or<i32>(line + VCPU_REQUESTS, REQUEST_VECTOR);
  if (ASC_FEATURE_THREADS) {
    if (what & KICK_SLEEPER) wakeSleeper(agent, line);
  } else if (what & KICK_LISTENER && (edge || what & KICK_VECTOR)) {
    kickEmbedder(vm, vcpu);
  }
}

/** The word changes before the notify, and only the one that clears the flag notifies. */
function wakeSleeper(agent: usize, line: usize): void {
  if (!(Shared.and<i32>(line + VCPU_KICK, ~KICK_SLEEPER) & KICK_SLEEPER)) return;
  Shared.notify(line + VCPU_KICK);
  Shared.add<i32>(agent + AGENT_WAKES, 1);
}

/** Asks a vCPU to do something other than take an upcall: wakes it if it sleeps. */
export function request(agent: usize, line: usize, bits: i32): void {
  // The request before the look at the flag. On the other side: a sleeper looks after it has set the flag. [KX-EVT-61]
  Shared.or<i32>(line + VCPU_REQUESTS, bits);
  if (Shared.load<i32>(line + VCPU_KICK) & KICK_SLEEPER) wakeSleeper(agent, line);
}

/**
 * Moves the shadow selector into vcpu_info and asks for the upcall. [KX-EVT-55]
 * @returns 0 nothing to do, 1 flushed, -EAGAIN vcpu_info is not mapped (the shadow is kept)
 */
export function flushShadow(vm: usize, agent: usize, vcpu: i32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const result = word & GPC_LONG_MODE ? flush<u64>(vm, agent, vcpu) : flush<u32>(vm, agent, vcpu);
  Bracket.leave(agent, token);
  return result;
}

function flush<W extends number>(vm: usize, agent: usize, vcpu: i32): i32 {
  const line = Vcpu.line(vm, vcpu);
  const bits = shadow<W>(line);
  if (!bits) return 0;
  const info = Vcpu.info(line);
  if (Layout.unmapped(info)) return -EAGAIN;
  Selector.or<W>(Selector.address<W>(info), bits);
  // Exactly the bits that were moved: a sender may have added others since.
  Shared.and<i32>(line + VCPU_SHADOW_LO, ~(bits as u32 as i32));
  if (Layout.isLong<W>()) Shared.and<i32>(line + VCPU_SHADOW_HI, ~(((bits as u64) >> 32) as i32));
  const edge = setUpcallPending(info);
  Dirty.mark(vm, vcpu, line + VCPU_INFO_GPC);
  kick(vm, agent, vcpu, line, edge);
  return 1;
}

/** The shadow bits that mean something in layout W. */
export function shadow<W extends number>(line: usize): W {
  const lo = Shared.load<u32>(line + VCPU_SHADOW_LO);
  if (!Layout.isLong<W>()) return lo as W;
  const hi = Shared.load<u32>(line + VCPU_SHADOW_HI);
  return ((lo as u64) | ((hi as u64) << 32)) as W;
}

/**
 * Keeps the selector bits of a vcpu_info that has just been unregistered from linear address `info`: they go to the shadow
 * and from there to the next place. KVM and QEMU forget them, which leaves their ports pending and unseen. [XE-2L-30]
 */
export function keepSelector(vm: usize, agent: usize, vcpu: i32, info: i32): void {
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  if (word & GPC_FIFO && Shared.load<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING)) {
    shade<u32>(vm, agent, vcpu, Vcpu.line(vm, vcpu), 1);
  }
  if (word & GPC_LONG_MODE) keep<u64>(vm, agent, vcpu, info);
  else keep<u32>(vm, agent, vcpu, info);
}

function keep<W extends number>(vm: usize, agent: usize, vcpu: i32, info: i32): void {
  const bits = Selector.load<W>(Selector.address<W>(info));
  if (bits) shade<W>(vm, agent, vcpu, Vcpu.line(vm, vcpu), bits);
}

/** Takes the shadow for a consumer that scans right away. */
export function takeShadow<W extends number>(line: usize): W {
  const seen = shadow<W>(line);
  if (!seen) return seen;
  const lo = Shared.exchange<u32>(line + VCPU_SHADOW_LO, 0);
  if (!Layout.isLong<W>()) return lo as W;
  const hi = Shared.exchange<u32>(line + VCPU_SHADOW_HI, 0);
  return ((lo as u64) | ((hi as u64) << 32)) as W;
}

/**
 * Makes the vCPU look at every word, as Xen does when a vcpu_info is registered. [XE-2L-30]
 * @returns 1 the guest was asked, -EAGAIN vcpu_info is not mapped (it will be asked once it is)
 */
export function resync(vm: usize, agent: usize, vcpu: i32): i32 {
  const line = Vcpu.line(vm, vcpu);
  Shared.or<i32>(line + VCPU_SHADOW_LO, -1);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  if (word & GPC_LONG_MODE) Shared.or<i32>(line + VCPU_SHADOW_HI, -1);
  const result = flushShadow(vm, agent, vcpu);
  if (result < 0) {
    // The shadow has every bit now, so no sender will find one that is new.
    const what = Shared.load<i32>(line + VCPU_KICK) & ~KICK_VECTOR;
    if (what) answerKick(vm, agent, vcpu, line, what, true);
  }
  return result;
}

/** The level of the upcall: 1 while the guest is asked for one, 0 not, -EAGAIN vcpu_info is not mapped. [KX-EVT-45] */
export function upcallPending(vm: usize, agent: usize, vcpu: i32): i32 {
  const token = Bracket.enter(agent);
  const info = Vcpu.info(Vcpu.line(vm, vcpu));
  let level = -EAGAIN;
  if (!Layout.unmapped(info)) level = Shared.load<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING) ? 1 : 0;
  Bracket.leave(agent, token);
  return level;
}
