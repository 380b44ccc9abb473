// Time comes from outside: the engine has no timer and reads no clock of its own.

/** Where a VM gets its time from. Both in nanoseconds. */
export interface Clock {
  /** The guest's clock (kvmclock): starts near 0 at creation and never goes back. */
  now(): bigint;
  /** Time since 1970-01-01 UTC, from the same instant as `now()` if possible. [KX-CLK-12] */
  realtime(): bigint;
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

/** The machine's own clocks. `now()` starts at 0 when it is created. */
export function systemClock(): Clock {
  const start = performance.now();
  return {
    now: () => BigInt(Math.round((performance.now() - start) * 1e6)),
    realtime: () => BigInt(Date.now()) * 1_000_000n,
  };
}
