// What a kind of call is: how its arguments are made up, and what it does.

import type { Chance } from './chance.ts';
import type { Call, Value } from './value.ts';
import type { World } from './world.ts';

/** Calls that are made from inside a call: by a handler, a listener or a hook. */
export interface Inner {
  (most: number): readonly Call[];
  /** a call of one operation */
  of(name: string): Call;
}

export interface Operation {
  /** how often it is made, beside the others */
  readonly weight: number;
  args(chance: Chance, inner: Inner): readonly Value[];
  /** `args` as JavaScript values; what it returns or throws is judged */
  run(world: World, args: readonly unknown[]): unknown;
  /** of its arguments those that are told apart when outcomes are collected */
  tag?(args: readonly Value[]): string;
  /** guest bytes that it may write besides those that are registered: what the guest itself can write, or all */
  readonly writes?: 'reachable' | 'all';
}

export type Operations = Readonly<Record<string, Operation>>;

/** A value of any type as the one that a signature asks for: JavaScript lets it through. */
export function as<T>(value: unknown): T {
  return value as T;
}

/** The owner's view mostly, else the second one. */
export function who(chance: Chance): number {
  return chance.once(5) ? 1 : 0;
}
