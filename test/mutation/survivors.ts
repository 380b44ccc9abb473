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

const RUNSTATE = 'assembly/runstate.ts';

export const EQUIVALENT: readonly Equivalent[] = [
  {
    file: RUNSTATE,
    function: 'writeCopy',
    kind: 'constant',
    becomes: 'let page2: usize = 1;',
    why: 'it is used only when there is a second page, and then it has been set',
  },
  {
    file: RUNSTATE,
    function: 'runstateReplace',
    kind: '< to <=',
    becomes: 'for (let i: usize = 0; i <= 32; i += 8) {',
    why: 'the field behind the four times is the last steal, which is written next',
  },
];

export function isEquivalent(mutant: Mutant): boolean {
  return EQUIVALENT.some((one) => sameMutant(one, mutant));
}

export function sameMutant(one: Equivalent, mutant: Mutant): boolean {
  const { file, kind, becomes } = one;
  return file === mutant.file && one.function === mutant.function && kind === mutant.kind && becomes === mutant.becomes;
}
