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
/** In every swarm: without them a sequence goes astray and does not come back. */
const ALWAYS = ['furnish', 'leave', 'invalidateEnd', 'advance', 'beforeEntry', 'hostile'];
/** Handlers inside handlers end here. */
const DEEPEST = 2;

/** The operations of one sequence: all, or a few, which then meet each other more often. */
export function swarm(chance: Chance): readonly string[] {
  if (chance.once(4)) return NAMES;
  const few = new Set<string>(ALWAYS);
  const size = ALWAYS.length + 3 + chance.int(16);
  while (few.size < size) few.add(chance.pick(NAMES));
  return [...few, ...few].concat([...few].filter((name) => !ALWAYS.includes(name)));
}

/** A call that is made up, of one of the operations `names`. */
export function randomCall(chance: Chance, names: readonly string[] = NAMES, depth = 0): Call {
  const name = chance.pick(names);
  const inner = (most: number): readonly Call[] =>
    depth >= DEEPEST ? [] : Array.from({ length: 1 + chance.int(most) }, () => randomCall(chance, names, depth + 1));
  return [name, ...(OPERATIONS[name] as Operation).args(chance, inner)];
}

/** Another call of the same operation. */
export function anotherCall(chance: Chance, name: string): Call {
  const inner = (most: number): readonly Call[] =>
    Array.from({ length: 1 + chance.int(most) }, () => randomCall(chance));
  return [name, ...(OPERATIONS[name] as Operation).args(chance, inner)];
}
