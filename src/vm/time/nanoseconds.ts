// Nanoseconds at the boundary: two u32 halves in, so that no BigInt is made on the way.

import { EvtchnError } from '../../errors.ts';

/** A time or span in nanoseconds: a bigint in 0..2^64-1, or an integer number up to 2^53-1. */
export type Nanoseconds = bigint | number;

const HALF = 2 ** 32;

/** Throws EINVAL unless `ns` is a time. @internal */
export function checkTime(what: string, ns: Nanoseconds): void {
  const good = typeof ns === 'bigint' ? ns >= 0n && ns < 1n << 64n : Number.isSafeInteger(ns) && ns >= 0;
  if (!good)
    throw new EvtchnError('EINVAL', `${what} is ${ns}, allowed are integers from 0 to 2^64-1 (numbers to 2^53-1)`);
}

/** @internal */
export function lowHalf(ns: Nanoseconds): number {
  return typeof ns === 'bigint' ? Number(ns & 0xffffffffn) : ns >>> 0;
}

/** @internal */
export function highHalf(ns: Nanoseconds): number {
  return typeof ns === 'bigint' ? Number(ns >> 32n) : Math.floor(ns / HALF);
}
