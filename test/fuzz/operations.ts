// The whole call surface by name, and choosing from it.

import type { Chance } from './chance.ts';
import type { Operation, Operations } from './operation.ts';
import { AGENTS } from './operations/agents.ts';
import { ATTRIBUTES } from './operations/attributes.ts';
import { DEVICES } from './operations/devices.ts';
import { EVENTS } from './operations/events.ts';
import { GUEST } from './operations/guest.ts';
import { MEMORY } from './operations/memory.ts';
import { SAVING } from './operations/saving.ts';
import { TIME } from './operations/time.ts';
import { WIRE } from './operations/wire.ts';
import type { Call } from './value.ts';

export const OPERATIONS: Operations = {
  ...EVENTS,
  ...ATTRIBUTES,
  ...MEMORY,
  ...GUEST,
  ...TIME,
  ...DEVICES,
  ...WIRE,
  ...SAVING,
  ...AGENTS,
};

const NAMES = Object.entries(OPERATIONS).flatMap(([name, { weight }]) => Array<string>(weight).fill(name));
/** Handlers inside handlers end here. */
const DEEPEST = 2;

/** A call that is made up. */
export function randomCall(chance: Chance, depth = 0): Call {
  const name = chance.pick(NAMES);
  const inner = (most: number): readonly Call[] =>
    depth >= DEEPEST ? [] : Array.from({ length: 1 + chance.int(most) }, () => randomCall(chance, depth + 1));
  return [name, ...(OPERATIONS[name] as Operation).args(chance, inner)];
}
