// Clock records under a version: odd while they change, even when stable, never 0 once written. [KX-ABI-18, KX-CLK-11]
// The guest may place them at any byte and write anything into them; versions that are misaligned are written byte by byte.

import { EAGAIN } from '../src/abi/errno.ts';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_GUEST_STOPPED,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_TIMESTAMP,
  PVCLOCK_VERSION,
  WALL_CLOCK_NSEC,
  WALL_CLOCK_SEC,
  WALL_CLOCK_VERSION,
} from '../src/abi/pvclock.ts';
import {
  AGENT_RECORD,
  GPC_LONG_MODE,
  GPC_WORD,
  REGION_SHARED_INFO,
  REGION_VCPU_RECORDS,
  VCPU_INFO_GPC,
  VCPU_RECORD_SIZE,
  VCPU_TIME_INFO_GPC,
} from '../src/abi/region.ts';
import { VCPU_INFO_TIME } from '../src/abi/vcpu_info.ts';
import { Bracket } from './bracket';
import { Dirty } from './dirty';
import { Layout } from './layout';
import { Shared } from './shared';
import { Vcpu } from './upcall';

/** Looks of a reader at a version that a guest may leave odd for ever. */
const READ_TRIES: i32 = 1000;

class Version {
  @inline static aligned(p: usize): bool {
    return !ASC_FEATURE_THREADS || !(p & 3);
  }
  static load(p: usize): u32 {
    if (Version.aligned(p)) return Shared.load<u32>(p);
    let value: u32 = 0;
    for (let i = 0; i < 4; i++) value |= (Shared.load<u8>(p + i) as u32) << (i << 3);
    return value;
  }
  /** The low byte decides odd or even: first when it turns odd, last when it turns even. */
  static store(p: usize, value: u32): void {
    if (Version.aligned(p)) {
      Shared.store<u32>(p, value);
      return;
    }
    if (value & 1) Shared.store<u8>(p, value as u8);
    for (let i = 1; i < 4; i++) Shared.store<u8>(p + i, (value >> (i << 3)) as u8);
    if (!(value & 1)) Shared.store<u8>(p, value as u8);
  }
  /** Makes the version odd. @returns the even one that ends the change */
  static begin(p: usize): u32 {
    const odd = (Version.load(p) + 1) | 1;
    Version.store(p, odd);
    // Keeps the plain stores behind the odd version on machines with weak ordering.
    Version.load(p);
    return odd == 0xffffffff ? 2 : odd + 1;
  }
}

/**
 * Publishes the pvclock record in the agent's record area to vcpu_info.time (`which` bit 0) and vcpu_time_info (bit 1).
 * @returns the bits of those written; one that is not mapped is left out
 */
export function timeWrite(vm: usize, agent: usize, vcpu: i32, which: i32): i32 {
  const record = vm + load<i32>(vm + REGION_VCPU_RECORDS) + (vcpu as usize) * VCPU_RECORD_SIZE;
  const token = Bracket.enter(agent);
  let written = 0;
  const info = Vcpu.info(Vcpu.line(vm, vcpu));
  if (which & 1 && !Layout.unmapped(info)) {
    writeTime((info as usize) + VCPU_INFO_TIME, agent + AGENT_RECORD);
    Dirty.mark(vm, vcpu, Vcpu.line(vm, vcpu) + VCPU_INFO_GPC);
    written |= 1;
  }
  const timeInfo = Shared.load<i32>(record + VCPU_TIME_INFO_GPC + GPC_WORD);
  if (which & 2 && !Layout.unmapped(timeInfo)) {
    writeTime(timeInfo as usize, agent + AGENT_RECORD);
    Dirty.mark(vm, vcpu, record + VCPU_TIME_INFO_GPC);
    written |= 2;
  }
  Bracket.leave(agent, token);
  return written;
}

function writeTime(to: usize, from: usize): void {
  const even = Version.begin(to + PVCLOCK_VERSION);
  const stopped = Shared.plainLoad<u8>(to + PVCLOCK_FLAGS) & PVCLOCK_GUEST_STOPPED;
  Shared.plainStore<u32>(to + PVCLOCK_VERSION + 4, 0);
  Shared.plainStore<u64>(to + PVCLOCK_TSC_TIMESTAMP, load<u64>(from, PVCLOCK_TSC_TIMESTAMP));
  Shared.plainStore<u64>(to + PVCLOCK_SYSTEM_TIME, load<u64>(from, PVCLOCK_SYSTEM_TIME));
  Shared.plainStore<u32>(to + PVCLOCK_MUL, load<u32>(from, PVCLOCK_MUL));
  Shared.plainStore<u8>(to + PVCLOCK_SHIFT, load<u8>(from, PVCLOCK_SHIFT));
  Shared.plainStore<u8>(to + PVCLOCK_FLAGS, (load<u8>(from, PVCLOCK_FLAGS) | stopped) as u8);
  Shared.plainStore<u16>(to + PVCLOCK_FLAGS + 1, 0);
  Version.store(to + PVCLOCK_VERSION, even);
}

/**
 * Reads the guest's time at `tsc` (two halves) as the guest does, from vcpu_info.time (`which` 1) or vcpu_time_info (2),
 * and leaves it as a u64 at the start of the agent's record area. [KX-ABI-17]
 * @returns 0, or -EAGAIN: not mapped, never written, or its version stays odd
 */
export function timeRead(vm: usize, agent: usize, vcpu: i32, which: i32, tscLo: u32, tscHi: u32): i32 {
  const record = vm + load<i32>(vm + REGION_VCPU_RECORDS) + (vcpu as usize) * VCPU_RECORD_SIZE;
  const token = Bracket.enter(agent);
  const word = which == 1 ? Vcpu.info(Vcpu.line(vm, vcpu)) : Shared.load<i32>(record + VCPU_TIME_INFO_GPC + GPC_WORD);
  const offset: usize = which == 1 ? (VCPU_INFO_TIME as usize) : 0;
  const p = (word as usize) + offset;
  const tsc = (tscLo as u64) | ((tscHi as u64) << 32);
  const result = Layout.unmapped(word) ? -EAGAIN : readTime(p, tsc, agent + AGENT_RECORD);
  Bracket.leave(agent, token);
  return result;
}

function readTime(p: usize, tsc: u64, out: usize): i32 {
  for (let i = 0; i < READ_TRIES; i++) {
    const version = Version.load(p + PVCLOCK_VERSION);
    if (version == 0) return -EAGAIN;
    if (version & 1) continue;
    const delta = tsc - Shared.plainLoad<u64>(p + PVCLOCK_TSC_TIMESTAMP);
    const base = Shared.plainLoad<u64>(p + PVCLOCK_SYSTEM_TIME);
    const mul = Shared.plainLoad<u32>(p + PVCLOCK_MUL);
    const shift = Shared.plainLoad<i8>(p + PVCLOCK_SHIFT) as i32;
    if (Version.load(p + PVCLOCK_VERSION) != version) continue;
    store<u64>(out, base + scale(delta, mul, shift));
    return 0;
  }
  return -EAGAIN;
}

/** (delta shifted) * mul / 2^32, modulo 2^64; a guest may have written any shift. */
function scale(delta: u64, mul: u32, shift: i32): u64 {
  if (shift <= -64 || shift >= 64) return 0;
  const ticks = shift < 0 ? delta >> (-shift as u64) : delta << (shift as u64);
  return (ticks >> 32) * (mul as u64) + (((ticks & 0xffffffff) * (mul as u64)) >> 32);
}

/**
 * Publishes the epoch of the guest's clock in shared_info. [KX-VMA-20]
 * @returns 0, or -EAGAIN shared_info is not mapped
 */
export function wallClockWrite(vm: usize, agent: usize, secLo: u32, secHi: u32, nsec: u32): i32 {
  const token = Bracket.enter(agent);
  const word = Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD);
  const mapped = !Layout.unmapped(word);
  if (mapped) {
    if (word & GPC_LONG_MODE) writeWallClock<u64>(Layout.page(word), secLo, secHi, nsec);
    else writeWallClock<u32>(Layout.page(word), secLo, secHi, nsec);
  }
  Bracket.leave(agent, token);
  return mapped ? 0 : -EAGAIN;
}

function writeWallClock<W extends number>(page: usize, secLo: u32, secHi: u32, nsec: u32): void {
  const clock = page + Layout.wallClock<W>();
  const even = Version.begin(clock + WALL_CLOCK_VERSION);
  Shared.plainStore<u32>(clock + WALL_CLOCK_SEC, secLo);
  Shared.plainStore<u32>(clock + WALL_CLOCK_NSEC, nsec);
  Shared.plainStore<u32>(page + Layout.wallClockHigh<W>(), secHi);
  Version.store(clock + WALL_CLOCK_VERSION, even);
}
