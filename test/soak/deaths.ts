// Deaths at every step of every operation, in both layouts, from a place that the seed names on and round again.

import { OPERATIONS } from '../death/operations.ts';
import { ownerDies, ownerSteps } from '../death/owner.ts';
import { OWNER_OPERATIONS } from '../death/owner_operations.ts';
import { victimDies, victimSteps } from '../death/victim.ts';
import { type Suite, type Turn, until } from './suite.ts';

interface Case {
  readonly name: string;
  readonly longMode: boolean;
  readonly steps: () => number;
  readonly die: (at: number) => unknown;
}

const LAYOUTS = [true, false];

const VICTIMS: readonly Case[] = LAYOUTS.flatMap((longMode) =>
  OPERATIONS.map((operation) => ({
    name: operation.name,
    longMode,
    steps: () => victimSteps(operation, longMode),
    die: (at: number) => victimDies(operation, longMode, at),
  })),
);

const OWNERS: readonly Case[] = LAYOUTS.flatMap((longMode) =>
  OWNER_OPERATIONS.map((operation) => ({
    name: operation.name,
    longMode,
    steps: () => ownerSteps(operation, longMode),
    die: (at: number) => ownerDies(operation, longMode, at),
  })),
);

/** Walks through all steps of a case, then of the next one. */
function walk(cases: readonly Case[], seed: number, budgetMs: number): Promise<Turn> {
  let index = seed;
  let at = 0;
  let left = 0;
  return until(budgetMs, () => {
    const one = cases[index % cases.length] as Case;
    if (left === 0) left = one.steps();
    try {
      one.die(at);
    } catch (error) {
      throw new Error(`${one.name}, ${one.longMode ? 'long' : 'compat'}, step ${at}: ${(error as Error).message}`);
    } finally {
      at++;
      if (at >= left) [index, at, left] = [index + 1, 0, 0];
    }
  });
}

export const DEATHS: Suite = {
  name: 'deaths',
  promises: ['R1', 'R6', 'R8'],
  run: (seed, budgetMs) => walk(VICTIMS, seed, budgetMs),
};

export const OWNER_DEATHS: Suite = {
  name: 'owner deaths',
  promises: ['R6', 'R8'],
  run: (seed, budgetMs) => walk(OWNERS, seed, budgetMs),
};
