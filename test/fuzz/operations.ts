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
const ALWAYS = [
  'furnish',
  'furnish',
  'leave',
  'invalidateEnd',
  'advance',
  'beforeEntry',
  'hostile',
  'hostile',
  'attach',
];
/** Handlers inside handlers end here. */
const DEEPEST = 2;

/** Operations that lead to each other. */
const THEMES: readonly (readonly string[])[] = [
  Object.keys(EVENTS),
  [...Object.keys(DEVICES), ...Object.keys(DEVICES), 'setPort', 'setPort', 'setPort', 'hypercall', 'setConfig'],
  [...Object.keys(MEMORY), 'send', 'sendMany', 'drain', 'setVm', 'setVcpu', 'faultHook', 'stubborn', 'ioctl'],
  [...Object.keys(GUEST), 'hypercall', 'hypercall', 'hypercall', 'setTimer', 'setPort', 'setPort', 'tick', 'send'],
  [...Object.keys(TIME), 'setTimer', 'setTimer', 'tick', 'beforeEntry', 'poke', 'setVcpu', 'explain'],
  [...Object.keys(SAVING), ...Object.keys(SAVING), 'setPort', 'fdCreate', 'fdBind', 'routesSet', 'slotSet', 'setTimer'],
  [...Object.keys(WIRE), 'ioctl', 'ioctl', 'ioctl', 'ioctl', 'ioctl', 'fdCreate'],
  [...Object.keys(ATTRIBUTES), 'send', 'drain', 'ioctl'],
];

/** The operations of one sequence: all, or one or two themes with a few others, which then meet each other more often. */
export function swarm(chance: Chance): readonly string[] {
  if (chance.once(5)) return NAMES;
  const names = [...chance.pick(THEMES), ...(chance.once(2) ? chance.pick(THEMES) : [])];
  // The end of the VM once in a while only: most of what follows it is told that it is over.
  const few = names.filter((name) => name !== 'close');
  return [...few, ...few, ...ALWAYS, ...Array.from({ length: 6 }, () => chance.pick(NAMES))];
}

/** A call that is made up, of one of the operations `names`. */
export function randomCall(chance: Chance, names: readonly string[] = NAMES, depth = 0): Call {
  return anotherCall(chance, chance.pick(names), names, depth);
}

/** A call of an operation; those inside it are of `names`. */
export function anotherCall(chance: Chance, name: string, names: readonly string[] = NAMES, depth = 0): Call {
  const calls = (most: number): readonly Call[] =>
    depth >= DEEPEST ? [] : Array.from({ length: 1 + chance.int(most) }, () => randomCall(chance, names, depth + 1));
  const of = (other: string): Call => anotherCall(chance, other, names, depth + 1);
  return [name, ...(OPERATIONS[name] as Operation).args(chance, Object.assign(calls, { of }))];
}
