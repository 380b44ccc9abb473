// The FIFO part of the region as the half in TypeScript reads it.

import { FIFO_PORT_SIZE, FIFO_PORTS, FIFO_PRIORITIES, FIFO_PRIORITY_SHIFT } from '../../abi/fifo.ts';
import type { Region } from '../../memory/region.ts';

/** The record of a port below FIFO_LIMIT. @internal */
export function fifoPort(region: Region, port: number): number {
  return region.fifo + region.words.load(region.fifo + FIFO_PORTS) + port * FIFO_PORT_SIZE;
}

/** The priority in an entry, or in the queue of one. @internal */
export function priorityOf(entry: number): number {
  return (entry >> FIFO_PRIORITY_SHIFT) & (FIFO_PRIORITIES - 1);
}
