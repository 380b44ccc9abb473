// A vCPU that waits for events.
//
//   sleeper: flag (read-modify-write) ─ look again at selector, shadow and requests ─ sleep on the flag
//   sender:  selector or shadow (read-modify-write) ─ look at the flag ─ clear it ─ notify
//
// One of the two sees the other. The word that is tested is the word that is slept on, and it changes before the notify.

import { EBUSY } from '../src/abi/errno.ts';
import {
  GPC_ACTIVE,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_WORD,
  KICK_SLEEPER,
  REGION_SHARED_INFO,
  REQUEST_CLOSED,
  REQUEST_POLLED,
  REQUEST_UNBLOCK,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_POLLER,
  VCPU_REQUESTS,
  VCPU_SLEEPER,
} from '../src/abi/region.ts';
import { Bracket } from './bracket';
import { fifoReady } from './fifo_drain';
import { Layout } from './layout';
import { Selector } from './selector';
import { Shared } from './shared';
import { request, shadow, Vcpu } from './upcall';

/** What a look can find; 0 means nothing. */
const EVENTS: i32 = 1;
const UNBLOCKED: i32 = 2;
const CLOSED: i32 = 4;
/** vcpu_info (or the control block) is registered and cannot be seen now: it may have events. [KX-EVT-46] */
const AWAY: i32 = 8;

/** Looks for a reason not to sleep: selector, shadow (not the upcall byte, which the consumer clears first), requests. */
function look(vm: usize, agent: usize, vcpu: i32): i32 {
  const line = Vcpu.line(vm, vcpu);
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  let events: bool;
  let away = false;
  if (word & GPC_FIFO) {
    const ready = fifoReady(vm, vcpu);
    events = ready > 0 || shadow<u64>(line) != 0;
    away = ready < 0;
  } else {
    events = word & GPC_LONG_MODE ? hasEvents<u64>(line) : hasEvents<u32>(line);
  }
  Bracket.leave(agent, token);
  const requests = Shared.load<i32>(line + VCPU_REQUESTS);
  let found = events ? EVENTS : 0;
  if (!events && away) found |= AWAY;
  if (!events && Layout.unmapped(Vcpu.info(line)) && Shared.load<i32>(line + VCPU_INFO_GPC + GPC_ACTIVE)) found |= AWAY;
  if (requests & REQUEST_UNBLOCK) found |= UNBLOCKED;
  // Only while it polls: a sender may leave this late.
  if (requests & REQUEST_POLLED && Shared.load<i32>(line + VCPU_POLLER)) found |= EVENTS;
  if (requests & REQUEST_CLOSED) found |= CLOSED;
  return found;
}

function hasEvents<W extends number>(line: usize): bool {
  const info = Vcpu.info(line);
  if (!Layout.unmapped(info) && Selector.load<W>(Selector.address<W>(info))) return true;
  return shadow<W>(line) != (0 as W);
}

/** Consumes the request to unblock. */
function answer(line: usize, found: i32): i32 {
  if (found & UNBLOCKED) Shared.and<i32>(line + VCPU_REQUESTS, ~REQUEST_UNBLOCK);
  return found;
}

/**
 * @returns what there is to do for `vcpu`: 1 events, 2 unblocked by a kick, 4 the VM is closed, 8 its vcpu_info is not mapped: map
 *   it and look again; or a sum; 0 nothing
 */
export function pendingWork(vm: usize, agent: usize, vcpu: i32): i32 {
  return answer(Vcpu.line(vm, vcpu), look(vm, agent, vcpu));
}

/** As `pendingWork`, looking up to `spins` times until there is something. */
export function spin(vm: usize, agent: usize, vcpu: i32, spins: i32): i32 {
  let found = look(vm, agent, vcpu);
  for (; !found && spins > 0; spins--) found = look(vm, agent, vcpu);
  return answer(Vcpu.line(vm, vcpu), found);
}

/**
 * Announces that `vcpu` goes to sleep, then looks; `blind`: although its vcpu_info cannot be reached. New events are told in
 * any case: they go to the shadow.
 * @returns 0 sleep now (on the kick word, then `sleepEnd`); what there is to do; -EBUSY somebody sleeps for it already
 */
export function sleepBegin(vm: usize, agent: usize, vcpu: i32, blind: bool): i32 {
  const line = Vcpu.line(vm, vcpu);
  const sleeper = Shared.compareExchange<i32>(line + VCPU_SLEEPER, 0, agent as i32);
  if (sleeper) return -EBUSY;
  // Before the look. On the other side: kick, after the sender's read-modify-write.
  Shared.or<i32>(line + VCPU_KICK, KICK_SLEEPER);
  const found = look(vm, agent, vcpu);
  const reason = blind ? found & ~AWAY : found;
  return reason ? wakeUp(line, reason) : 0;
}

/** Ends a sleep. @returns what there is to do, 0 nothing */
export function sleepEnd(vm: usize, agent: usize, vcpu: i32): i32 {
  return wakeUp(Vcpu.line(vm, vcpu), look(vm, agent, vcpu));
}

function wakeUp(line: usize, found: i32): i32 {
  Shared.and<i32>(line + VCPU_KICK, ~KICK_SLEEPER);
  Shared.exchange<i32>(line + VCPU_SLEEPER, 0);
  return answer(line, found);
}

/**
 * Sleeps on the kick word while the flag stands, at most `timeoutNs`. Only on a thread that may block.
 * Nothing may stay live across the wait: the baseline compiler of V8 11 forgets a local that it keeps in the register of
 * the result. So the loop around it is in TypeScript, and this function ends with the wait.
 * @returns 0 woken, 1 the flag was cleared before, 2 timed out. An atomic look (`sleepEnd`) follows in every case.
 */
export function sleepOn(vm: usize, vcpu: i32, timeoutNs: f64): i32 {
  const kickWord = Vcpu.line(vm, vcpu) + VCPU_KICK;
  const flag = Shared.load<i32>(kickWord);
  if (!(flag & KICK_SLEEPER)) return 1;
  return Shared.wait(kickWord, flag, timeoutNs as i64);
}

/** Makes the vCPU return from a sleep, or not begin one, whether it has events or not. [KX-EVT-61] */
export function unblock(vm: usize, agent: usize, vcpu: i32, closed: bool): void {
  request(agent, Vcpu.line(vm, vcpu), closed ? REQUEST_CLOSED : REQUEST_UNBLOCK);
}
