// Orders in which ports are raised. Every run of the bench uses the same ones.

import { PORTS_LONG } from '../src/abi/shared_info.ts';

/** All ports once, ascending: neighbours share a word. */
export function inOrder(count: number = PORTS_LONG - 1): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => i + 1);
}

/** All ports once, shuffled: neither a word nor its neighbour can be guessed. */
export function shuffled(count: number = PORTS_LONG - 1, seed = 1): Int32Array {
  return shuffle(inOrder(count), seed);
}

/** A shuffle in place (Fisher and Yates, xorshift32). */
export function shuffle(ports: Int32Array, seed: number): Int32Array {
  let x = seed;
  for (let i = ports.length - 1; i > 0; i--) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    const j = (x >>> 0) % (i + 1);
    const held = ports[i] as number;
    ports[i] = ports[j] as number;
    ports[j] = held;
  }
  return ports;
}

/** Cut into lists of `n` ports as `sendMany` takes them; the last may be shorter. */
export function parts(ports: Int32Array, n: number): Uint32Array[] {
  const whole = Uint32Array.from(ports);
  const views: Uint32Array[] = [];
  for (let i = 0; i < whole.length; i += n) views.push(whole.subarray(i, Math.min(i + n, whole.length)));
  return views;
}
