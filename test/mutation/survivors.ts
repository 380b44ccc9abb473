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

/** `if (!x) return x;` and `if (!x) return 0;` are one. */
const zeroIsZero = (file: string, name: string, becomes: string): Equivalent => ({
  file: `assembly/${file}.ts`,
  function: name,
  kind: 'return 0',
  becomes,
  why: 'what is returned there is 0',
});

const RUNSTATE = 'assembly/runstate.ts';

/** A batch begins with no vCPU: what it would owe to nobody is set to 0 before it is used. */
const owedToNobody = (name: string): Equivalent => ({
  file: 'assembly/batch.ts',
  function: name,
  kind: 'constant',
  becomes: 'let selector: W = 1 as W;',
  why: 'at the first word the vCPU changes, and with it the selector is set to 0',
});

export const EQUIVALENT: readonly Equivalent[] = [
  owedToNobody('singles'),
  owedToNobody('runs'),
  owedToNobody('raiseGathered'),
  zeroIsZero('batch', 'Word.raise', 'if (!fresh) return (0 as W);'),
  zeroIsZero('upcall', 'takeShadow', 'if (!seen) return (0 as W);'),
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
