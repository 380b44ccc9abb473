// In which order ports are sent. Fixed seeds: every visit shows the same guest.

import { PORTS_LONG } from '../../src/abi/shared_info.ts';

/** Port 0 is never valid. */
const PORTS = PORTS_LONG - 1;
/** The longest call; an order is continued by so many ports, so that a call never has to wrap. */
export const LONGEST_BATCH = 4096;

/** A cyclic list of ports and where in it the sender is. */
export class Order {
  /** the cycle, followed by its own beginning */
  readonly ports: Uint32Array;
  readonly length: number;
  cursor = 0;

  constructor(cycle: Uint32Array) {
    this.length = cycle.length;
    this.ports = new Uint32Array(cycle.length + LONGEST_BATCH);
    for (let i = 0; i < this.ports.length; i++) this.ports[i] = cycle[i % cycle.length] as number;
  }

  advance(n: number): void {
    this.cursor = (this.cursor + n) % this.length;
  }
}

/** Every port once per cycle, in a scattered order. */
export function evenOrder(): Order {
  return new Order(shuffled(allPorts(), random(1)));
}

/** As in a real guest: few ports are busy, most are quiet, none is silent. The busiest come first in `busiest`. */
export function guestOrder(): { order: Order; busiest: Uint32Array } {
  const next = random(2);
  const busiest = shuffled(allPorts(), next);
  const cycle = new Uint32Array(16 * PORTS);
  cycle.set(busiest);
  // The rest by Zipf's law: the port of rank r is sent in proportion to 1 / r.
  const limit = Math.log(PORTS);
  for (let i = PORTS; i < cycle.length; i++) {
    const rank = Math.floor(Math.exp((next(2 ** 24) / 2 ** 24) * limit)) - 1;
    cycle[i] = busiest[Math.min(rank, PORTS - 1)] as number;
  }
  return { order: new Order(shuffled(cycle, next)), busiest };
}

function allPorts(): Uint32Array {
  return Uint32Array.from({ length: PORTS }, (_, i) => i + 1);
}

function shuffled(list: Uint32Array, next: (n: number) => number): Uint32Array {
  for (let i = list.length - 1; i > 0; i--) {
    const j = next(i + 1);
    const kept = list[i] as number;
    list[i] = list[j] as number;
    list[j] = kept;
  }
  return list;
}

/** A repeatable source of integers in 0..n-1 (xorshift). */
function random(seed: number): (n: number) => number {
  let x = Math.imul(seed, 0x9e3779b1) >>> 0;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x % n;
  };
}
