// What the engine relies on and a platform could get wrong, tried at start-up on 64 bytes that belong to nobody else.
// Each probe leaves a number that src/platform.ts compares with what it must be.

import { Shared } from './shared';

/** u8 0xff and u16 0xffff widened, i32 -1 through a narrow variable. */
export function probeNarrowLoads(p: usize): i32 {
  Shared.store<u8>(p, 0xff);
  Shared.store<u16>(p + 2, 0xffff);
  Shared.store<i32>(p + 4, -1);
  const narrow = Shared.load<i32>(p + 4);
  const wide = narrow as i64;
  return (Shared.load<u8>(p) as i32) + (Shared.load<u16>(p + 2) as i32) + (wide == -1 ? 1 : 0);
}

/** Results of each read-modify-write at each width the engine uses, folded. */
export function probeReadModifyWrite(p: usize): i32 {
  Shared.store<i64>(p, 0);
  let ok = 0;
  if (Shared.or<u64>(p, 1 << 63) == 0 && Shared.load<u64>(p) == 1 << 63) ok |= 1;
  if (Shared.and<u64>(p, ~(1 << 63)) == 1 << 63 && Shared.load<u64>(p) == 0) ok |= 2;
  if (Shared.exchange<u32>(p, 0x80000000) == 0 && Shared.load<u32>(p) == 0x80000000) ok |= 4;
  if (Shared.compareExchange<i32>(p, i32.MIN_VALUE, 7) == i32.MIN_VALUE && Shared.load<i32>(p) == 7) ok |= 8;
  if (Shared.compareExchange<i32>(p, 8, 9) == 7 && Shared.load<i32>(p) == 7) ok |= 16;
  // A byte changes alone, and the word around it shows it.
  if (Shared.or<u8>(p + 1, 0x80) == 0 && Shared.load<u32>(p) == 0x8007) ok |= 32;
  if (Shared.add<i32>(p, -8) == 0x8007 && Shared.load<i32>(p) == 0x7fff) ok |= 64;
  return ok;
}

/** A misaligned atomic, which has to trap in the shared builds: a platform that tears it silently is refused. */
export function probeMisaligned(p: usize): i32 {
  return Shared.or<u32>(p + 1, 0) as i32;
}

/** What wait answers; nothing follows it, see sleepOn. */
export function probeWait(p: usize, expected: i32, timeoutNs: f64): i32 {
  return Shared.wait(p, expected, timeoutNs as i64);
}

export function probeNotify(p: usize): i32 {
  return Shared.notify(p);
}

/** Reads and writes one word, for another instance over the same memory to see. */
export function probeExchange(p: usize, value: i32): i32 {
  return Shared.exchange<i32>(p, value);
}
