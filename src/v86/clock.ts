// The clock that v86 runs its devices by, as the engine's.
//
// The guest's TSC is v86's, which counts ns of the same clock but which the guest may set: it is this clock's TSC plus an offset
// that the machine tells the engine.

import { type Clock, systemClock } from '../vm/time/clock.ts';

/** v86's TSC counts ns. */
const TSC_HZ = 1_000_000_000;

/** ns of v86's `microtick`, which is in ms. @internal */
export class V86Clock implements Clock {
  readonly tscHz = TSC_HZ;
  readonly #microtick: () => number;
  readonly #wall: Clock = systemClock();

  constructor(microtick: () => number) {
    this.#microtick = microtick;
  }
  now(): bigint {
    return BigInt(Math.floor(this.#microtick() * 1e6));
  }
  tsc(): bigint {
    return this.now();
  }
  realtime(): bigint {
    return this.#wall.realtime();
  }
}
