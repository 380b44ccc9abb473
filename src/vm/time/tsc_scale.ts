// Arithmetic between a TSC's ticks and nanoseconds, and between a host's TSC and a guest's. [KX-CLK-03, 10; KX-ABI-17]

/** How ticks become nanoseconds: (ticks << shift) * mul / 2^32; a negative shift goes right. */
export interface TimeScale {
  /** u32 */
  readonly mul: number;
  readonly shift: number;
}

const NS_PER_SECOND = 1e9;
const WORD = 2 ** 32;
const TOP_BIT = 2 ** 31;

/** Bits of a ratio of two TSCs behind the point. */
const RATIO_BITS = 48n;

/** The scale of a TSC of `hz`, an integer from 1 to 2^53-1. [KX-CLK-03] @internal */
export function timeScale(hz: number): TimeScale {
  let ticks = hz;
  let ns = NS_PER_SECOND;
  let shift = 0;
  while (ticks > 2 * ns || ticks >= WORD) {
    ticks = Math.floor(ticks / 2);
    shift--;
  }
  while (ticks <= ns || ns >= WORD) {
    if (ns >= WORD || ticks >= TOP_BIT) ns = Math.floor(ns / 2);
    else ticks *= 2;
    shift++;
  }
  // Their product has more bits than a number.
  return { mul: Number((BigInt(ns) << 32n) / BigInt(ticks)), shift };
}

/** Nanoseconds of a span of ticks, rounded down; a span may be negative. @internal */
export function ticksToNs(ticks: bigint, { mul, shift }: TimeScale): bigint {
  const shifted = shift < 0 ? ticks >> BigInt(-shift) : ticks << BigInt(shift);
  return (shifted * BigInt(mul)) >> 32n;
}

/** How fast a TSC of `hz` goes beside the host's, with 48 fraction bits, rounded down. @internal */
export function tscRatio(hz: number, hostHz: number): bigint {
  return (BigInt(hz) << RATIO_BITS) / BigInt(hostHz);
}

/** The host's TSC at the speed of a guest's. @internal */
export function scaleTsc(tsc: bigint, ratio: bigint): bigint {
  return (tsc * ratio) >> RATIO_BITS;
}
