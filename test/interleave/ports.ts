// What scenarios send, and what their judges look at.

import type { Vm } from '../../src/index.ts';
import { pendingBit } from '../support.ts';
import type { World } from './world.ts';

export const PORT = 70;
/** in the same word as PORT in both layouts, and in another */
export const NEIGHBOUR = 71;
export const STRANGER = 200;
export const PORTS = [PORT, NEIGHBOUR, STRANGER];
/** long enough to be combined */
export const MANY = Array.from({ length: 100 }, (_, i) => PORTS[i % 3] as number);
/** no two neighbours in one word, so it is sent port by port; and long enough for a byte per port */
export const APART = [PORT, STRANGER, NEIGHBOUR];
export const MOST = Array.from({ length: 700 }, (_, i) => PORTS[i % 3] as number);

export const send = (vm: Vm, port: number): number => vm.send(port);

/** Each of `ports` was handled exactly once and nothing stays pending. */
export function once(ports: readonly number[]) {
  return ({ handled, b }: World): string | null => {
    for (const port of ports) {
      const times = handled.filter((p) => p === port).length;
      if (times !== 1) return times ? `port ${port} was handled ${times} times` : `port ${port} was lost`;
      if (pendingBit(b, port)) return `port ${port} stays pending`;
    }
    return handled.length === ports.length ? null : `handled ${handled.join(' ')}, a port that nobody sent`;
  };
}
