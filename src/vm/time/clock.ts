// Time comes from outside: the engine has no timer and reads no clock of its own.

import { checkRange, EvtchnError } from '../../errors.ts';

/** Where a VM gets its time from. Every thread that asks for the time or runs a vCPU attaches with the same clock. */
export interface Clock {
  /** The host's monotonic clock, ns: the same in every thread that is attached, never going back. */
  now(): bigint;
  /** Time since 1970-01-01 UTC, ns, from the same instant as `now()` if possible. [KX-CLK-12] */
  realtime(): bigint;
  /** The host's TSC, if it is stable and the same in every thread; then it is the master clock. [KX-CLK-02] */
  tsc?(): bigint;
  /** its frequency, Hz: an integer from 1 to 2^53-1 */
  readonly tscHz?: number;
  /** All of them at one instant, for clocks that can tell; else they are read one after another. [KX-CLK-12] */
  sample?(): ClockSample;
}

/** One instant on a host's clocks. */
export interface ClockSample {
  readonly now: bigint;
  readonly realtime: bigint;
  /** given by clocks that have a TSC */
  readonly tsc?: bigint;
}

/** Whether a clock has a TSC to go by. @internal */
export function hasTsc(clock: Clock): boolean {
  return clock.tsc !== undefined && clock.tscHz !== undefined;
}

/** Throws EINVAL unless it is a clock, and its TSC, if it has one, has a frequency to count with. @internal */
export function checkClock(clock: Clock): void {
  if (typeof clock?.now !== 'function' || typeof clock.realtime !== 'function') {
    throw new EvtchnError(
      'EINVAL',
      'the clock has no functions now() and realtime(): use systemClock() or a VirtualClock',
    );
  }
  if (clock.tscHz !== undefined)
    checkRange('the frequency of the TSC (tscHz)', clock.tscHz, 1, Number.MAX_SAFE_INTEGER);
}

/** One reading of all of a host's clocks. @internal */
export function sampleOf(clock: Clock): ClockSample {
  if (clock.sample) return clock.sample();
  const now = clock.now();
  const tsc = clock.tsc?.();
  const realtime = clock.realtime();
  return tsc === undefined ? { now, realtime } : { now, realtime, tsc };
}

/** What a virtual clock has besides its time. */
export interface VirtualClockOptions {
  /** Gives it a TSC of this frequency, Hz, that is 0 at time 0: an integer from 1 to 2^53-1. None by default. */
  readonly tscHz?: number;
}

const NS_PER_SECOND = 1_000_000_000n;

/** A clock that stands still until it is told otherwise: for emulators with a time of their own, and for tests. */
export class VirtualClock implements Clock {
  #now: bigint;
  /** realtime at now() = 0 */
  readonly #epoch: bigint;
  readonly tscHz?: number;
  readonly tsc?: () => bigint;

  /** `now` and `epoch` (realtime at 0) in ns. Throws EINVAL for a frequency out of range. */
  constructor(now = 0n, epoch = 0n, { tscHz }: VirtualClockOptions = {}) {
    this.#now = now;
    this.#epoch = epoch;
    if (tscHz === undefined) return;
    this.tscHz = tscHz;
    checkClock(this);
    const hz = BigInt(tscHz);
    this.tsc = () => (this.#now * hz) / NS_PER_SECOND;
  }
  now(): bigint {
    return this.#now;
  }
  realtime(): bigint {
    return this.#epoch + this.#now;
  }
  advance(ns: bigint): void {
    this.#now += ns;
  }
}

/** The machine's own clocks, with one origin for all threads of a process. */
export function systemClock(): Clock {
  const origin = BigInt(Math.round(performance.timeOrigin * 1e6));
  return {
    now: () => origin + BigInt(Math.round(performance.now() * 1e6)),
    realtime: () => BigInt(Date.now()) * 1_000_000n,
  };
}
