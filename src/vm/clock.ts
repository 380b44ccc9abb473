// Time comes from outside: the engine has no timer and reads no clock of its own.

/** Where a VM gets its time from. */
export interface Clock {
  /** The host's monotonic clock, ns: the same in every thread that is attached, never going back. */
  now(): bigint;
  /** Time since 1970-01-01 UTC, ns, from the same instant as `now()` if possible. [KX-CLK-12] */
  realtime(): bigint;
  /** The host's TSC, if it is stable and the same in every thread; then it is the master clock. [KX-CLK-02] */
  tsc?(): bigint;
  /** its frequency, Hz */
  readonly tscHz?: number;
}

/** A clock that stands still until it is told otherwise: for emulators with a time of their own, and for tests. */
export class VirtualClock implements Clock {
  #now: bigint;
  /** realtime at now() = 0 */
  #epoch: bigint;

  constructor(now = 0n, epoch = 0n) {
    this.#now = now;
    this.#epoch = epoch;
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
