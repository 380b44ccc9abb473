// Mutants that no test can notice, because what they do cannot be told from what they change; each with its reason.
// The list is exact: one that is not there any more, or that a test notices, fails.

import type { Mutant } from './mutator.ts';

export interface Equivalent {
  readonly file: string;
  readonly function: string;
  readonly kind: string;
  readonly becomes: string;
  readonly why: string;
}

export const EQUIVALENT: readonly Equivalent[] = [];

export function isEquivalent(mutant: Mutant): boolean {
  return EQUIVALENT.some((one) => sameMutant(one, mutant));
}

export function sameMutant(one: Equivalent, mutant: Mutant): boolean {
  const { file, kind, becomes } = one;
  return file === mutant.file && one.function === mutant.function && kind === mutant.kind && becomes === mutant.becomes;
}
