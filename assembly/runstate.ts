// Runstate: what a vCPU does and for how long, kept on our side and copied to the guest. [KX-RUN-01..33]
//
// The host's record has one writer (the agent that runs the vCPU) and a version for readers. The guest's copy may lie at
// any byte and across two pages; nothing of it is written before every page it needs is mapped.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  AGENT_RECORD,
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_LONG_MODE,
  GPC_WORD,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_SHARED_INFO,
  REGION_VCPU_RECORDS,
  VCPU_LAST_STEAL,
  VCPU_RECORD_SIZE,
  VCPU_RUN_DELAY,
  VCPU_RUNSTATE_ENTRY_TIME,
  VCPU_RUNSTATE_STATE,
  VCPU_RUNSTATE_TIMES,
  VCPU_RUNSTATE_VERSION,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
} from '../src/abi/region.ts';
import {
  RUNSTATE_ENTRY_TIME_COMPAT,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_OFFLINE,
  RUNSTATE_RUNNABLE,
  RUNSTATE_RUNNING,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_COMPAT,
  RUNSTATE_TIMES_LONG,
  RUNSTATE_UPDATE_BIT,
  RUNSTATE_UPDATE_BYTE_COMPAT,
  RUNSTATE_UPDATE_BYTE_LONG,
} from '../src/abi/runstate.ts';
import { PAGE_SIZE } from '../src/abi/shared_info.ts';
import { Bracket } from './bracket';
import { Dirty } from './dirty';
import { Layout } from './layout';
import { Shared } from './shared';

/** Looks of a reader at a record whose writer does not finish; then it is told to come again. */
const READ_TRIES: i32 = 1000;

class Record {
  @inline static of(vm: usize, vcpu: i32): usize {
    return vm + load<i32>(vm + REGION_VCPU_RECORDS) + (vcpu as usize) * VCPU_RECORD_SIZE;
  }
  @inline static entryTime(record: usize): u64 {
    return Shared.plainLoad<u64>(record + VCPU_RUNSTATE_ENTRY_TIME);
  }
  @inline static time(record: usize, state: i32): u64 {
    return Shared.plainLoad<u64>(record + VCPU_RUNSTATE_TIMES + ((state as usize) << 3));
  }
  @inline static addTime(record: usize, state: i32, delta: u64): void {
    Shared.plainStore<u64>(record + VCPU_RUNSTATE_TIMES + ((state as usize) << 3), Record.time(record, state) + delta);
  }
}

/**
 * Accounts a transition to `state` at `now` (ns, two halves); `delay` is the time the running thread has waited for a
 * core so far, ns. Then writes the guest's copy. [KX-RUN-02]
 * @returns 0, or -EAGAIN: accounted, but a page of the guest's copy is not mapped and it was left as it was
 */
export function runstateEnter(
  vm: usize,
  agent: usize,
  vcpu: i32,
  state: i32,
  nowLo: u32,
  nowHi: u32,
  delayLo: u32,
  delayHi: u32,
): i32 {
  const record = Record.of(vm, vcpu);
  const now = (nowLo as u64) | ((nowHi as u64) << 32);
  const delay = (delayLo as u64) | ((delayHi as u64) << 32);
  if (beginWrite(record)) mend(record);
  const entry = Record.entryTime(record);
  const from = entry ? Shared.plainLoad<i32>(record + VCPU_RUNSTATE_STATE) & 3 : RUNSTATE_OFFLINE;
  let delta = now - entry;
  if (from == RUNSTATE_RUNNING) {
    // Waiting while it wanted to run is taken out of running; more than delta wraps, and the sum still holds. [KX-RUN-05]
    const steal = delay - Shared.plainLoad<u64>(record + VCPU_LAST_STEAL);
    delta -= steal;
    Record.addTime(record, RUNSTATE_RUNNABLE, steal);
  }
  Shared.plainStore<u64>(record + VCPU_LAST_STEAL, delay);
  Shared.plainStore<u64>(record + VCPU_RUN_DELAY, delay);
  Record.addTime(record, from, delta);
  Shared.plainStore<i32>(record + VCPU_RUNSTATE_STATE, state);
  Shared.plainStore<u64>(record + VCPU_RUNSTATE_ENTRY_TIME, now);
  endWrite(record);
  return runstateWrite(vm, agent, vcpu);
}

/**
 * Replaces the host's record by the one in the agent's record area: i32 state, u64 entry time at 8, u64[4] times at 16.
 * `delay` becomes what the running thread has waited for a core so far. [KX-VCA-08]
 */
export function runstateReplace(vm: usize, agent: usize, vcpu: i32, delayLo: u32, delayHi: u32): void {
  const record = Record.of(vm, vcpu);
  const from = agent + AGENT_RECORD;
  beginWrite(record);
  Shared.plainStore<i32>(record + VCPU_RUNSTATE_STATE, load<i32>(from, RUNSTATE_STATE));
  Shared.plainStore<u64>(record + VCPU_RUNSTATE_ENTRY_TIME, load<u64>(from, RUNSTATE_ENTRY_TIME_LONG));
  for (let i: usize = 0; i < 32; i += 8) {
    Shared.plainStore<u64>(record + VCPU_RUNSTATE_TIMES + i, load<u64>(from + RUNSTATE_TIMES_LONG + i));
  }
  Shared.plainStore<u64>(record + VCPU_LAST_STEAL, (delayLo as u64) | ((delayHi as u64) << 32));
  endWrite(record);
}

/**
 * Odd: readers wait. The load after the store keeps the plain stores behind it on machines with weak ordering.
 * @returns whether it was odd: the writer before has died over the record
 */
function beginWrite(record: usize): bool {
  const p = record + VCPU_RUNSTATE_VERSION;
  const old = Shared.load<i32>(p);
  Shared.store<i32>(p, old | 1);
  Shared.load<i32>(p);
  return (old & 1) != 0;
}

/**
 * Whatever of a transition was done by one that died in it, the times that were accounted are those up to their sum: that is
 * when the state was entered, as far as anybody can tell, and what follows adds up again. [KX-RUN-03, KF-89]
 */
function mend(record: usize): void {
  let sum: u64 = 0;
  for (let state = 0; state < 4; state++) sum += Record.time(record, state);
  Shared.plainStore<u64>(record + VCPU_RUNSTATE_ENTRY_TIME, sum);
}

function endWrite(record: usize): void {
  const p = record + VCPU_RUNSTATE_VERSION;
  Shared.store<i32>(p, Shared.load<i32>(p) + 1);
}

/**
 * Copies the host's record to the agent's record area: i32 state, u64 entry time at 8, u64[4] times at 16.
 * @returns 0, or -EAGAIN: its writer did not finish
 */
export function runstateRead(vm: usize, agent: usize, vcpu: i32): i32 {
  const record = Record.of(vm, vcpu);
  const out = agent + AGENT_RECORD;
  for (let i = 0; i < READ_TRIES; i++) {
    const version = Shared.load<i32>(record + VCPU_RUNSTATE_VERSION);
    if (version & 1) continue;
    writeLayout<u64>(record, out, false);
    // An atomic that the plain loads may not pass. On the other side: beginWrite and endWrite.
    if (Shared.add<i32>(record + VCPU_RUNSTATE_VERSION, 0) == version) return 0;
  }
  return -EAGAIN;
}

/**
 * Writes the guest's copy if one is registered.
 * @returns 0 written or none registered, -EAGAIN a page it needs is not mapped: nothing was written
 */
export function runstateWrite(vm: usize, agent: usize, vcpu: i32): i32 {
  const record = Record.of(vm, vcpu);
  if (!Shared.load<i32>(record + VCPU_RUNSTATE1_GPC + GPC_ACTIVE)) return 0;
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const marked = Shared.load<i32>(vm + REGION_RUNSTATE_UPDATE_FLAG) != 0;
  const result = word & GPC_LONG_MODE ? writeCopy<u64>(record, agent, marked) : writeCopy<u32>(record, agent, marked);
  if (Dirty.logging(vm) && !result) markPages(vm, vcpu, record, word);
  Bracket.leave(agent, token);
  return result;
}

/** Each page that was written. [KX-RUN-32] */
function markPages(vm: usize, vcpu: i32, record: usize, word: i32): void {
  const size = word & GPC_LONG_MODE ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
  const offset = Shared.load<i32>(record + VCPU_RUNSTATE1_GPC + GPC_ADDRESS_LO) & (PAGE_SIZE - 1);
  if (offset + size > PAGE_SIZE) Dirty.mark(vm, vcpu, record + VCPU_RUNSTATE2_GPC);
  Dirty.mark(vm, vcpu, record + VCPU_RUNSTATE1_GPC);
}

/** One place of the copy, when the area may continue on another page: `first` bytes at `page1`, the rest at `page2`. */
class Area {
  @inline static at(page1: usize, page2: usize, first: usize, offset: usize): usize {
    return offset < first ? page1 + offset : page2 + (offset - first);
  }
}

function writeCopy<W extends number>(record: usize, agent: usize, marked: bool): i32 {
  const size: usize = Layout.isLong<W>() ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
  const markerAt: usize = Layout.isLong<W>() ? RUNSTATE_UPDATE_BYTE_LONG : RUNSTATE_UPDATE_BYTE_COMPAT;
  const word1 = Shared.load<i32>(record + VCPU_RUNSTATE1_GPC + GPC_WORD);
  if (Layout.unmapped(word1)) return -EAGAIN;
  const page1 = word1 as usize;
  const offset = Shared.load<i32>(record + VCPU_RUNSTATE1_GPC + GPC_ADDRESS_LO) & (PAGE_SIZE - 1);
  const room = (PAGE_SIZE - offset) as usize;
  const first = room < size ? room : size;
  let page2: usize = 0;
  if (first < size) {
    // Both pages before the first byte: the write is all or nothing. [KX-RUN-27]
    const word2 = Shared.load<i32>(record + VCPU_RUNSTATE2_GPC + GPC_WORD);
    if (Layout.unmapped(word2)) return -EAGAIN;
    page2 = word2 as usize;
  }
  // A byte of its own, because the field may straddle lines and pages. [KX-RUN-29]
  const marker = Area.at(page1, page2, first, markerAt);
  // Without its bit 7 when it ends: a guest that reads it waits for ever.
  const top = (Record.entryTime(record) >> 56) as u8;
  if (marked) {
    // Before the fields; the load keeps the plain stores behind it. On the other side: the guest reads the marker first.
    Shared.store<u8>(marker, (top | RUNSTATE_UPDATE_BIT) as u8);
    Shared.load<u8>(marker);
  }
  if (first == size) {
    writeLayout<W>(record, page1, marked);
  } else {
    const whole = agent + AGENT_RECORD;
    store<u64>(whole, 0);
    writeLayout<W>(record, whole, marked);
    for (let i: usize = 0; i < size; i++) Shared.plainStore<u8>(Area.at(page1, page2, first, i), load<u8>(whole + i));
  }
  // After the fields. On the other side: the guest reads the marker again.
  if (marked) Shared.store<u8>(marker, (top & ~RUNSTATE_UPDATE_BIT) as u8);
  return 0;
}

/** Writes the fields in layout W in place; the padding of the long layout is not touched. [KX-RUN-30] */
function writeLayout<W extends number>(record: usize, to: usize, marked: bool): void {
  const entryAt: usize = Layout.isLong<W>() ? RUNSTATE_ENTRY_TIME_LONG : RUNSTATE_ENTRY_TIME_COMPAT;
  const timesAt: usize = Layout.isLong<W>() ? RUNSTATE_TIMES_LONG : RUNSTATE_TIMES_COMPAT;
  const mark: u64 = marked ? (RUNSTATE_UPDATE_BIT as u64) << 56 : 0;
  Shared.plainStore<i32>(to + RUNSTATE_STATE, Shared.plainLoad<i32>(record + VCPU_RUNSTATE_STATE));
  Shared.plainStore<u64>(to + entryAt, Record.entryTime(record) | mark);
  Shared.plainStore<u64>(to + timesAt, Record.time(record, 0));
  Shared.plainStore<u64>(to + timesAt + 8, Record.time(record, 1));
  Shared.plainStore<u64>(to + timesAt + 16, Record.time(record, 2));
  Shared.plainStore<u64>(to + timesAt + 24, Record.time(record, 3));
}
