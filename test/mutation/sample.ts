// A repeatable sample of all mutants.

import { readFileSync } from 'node:fs';
import { sources } from '../../tools/coverage/kernels.ts';
import { random } from '../support.ts';
import { type Mutant, mutantsOf } from './mutator.ts';

/** All mutants of all files. */
export function allMutants(): Mutant[] {
  return sources().flatMap((file) => mutantsOf(file, readFileSync(file, 'utf8')));
}

/** The mutants in an order that depends on the seed: a sample is its beginning. */
export function shuffled(mutants: readonly Mutant[], seed: number): Mutant[] {
  const n = random(seed);
  const order = [...mutants];
  for (let i = order.length - 1; i > 0; i--) {
    const j = n(i + 1);
    const [a, b] = [order[i], order[j]];
    if (a && b) [order[i], order[j]] = [b, a];
  }
  return order;
}
