// Sides of branches that no test can reach, each with its reason. The list is exact: a side that is reached fails.

export interface Unreachable {
  readonly file: string;
  readonly function: string;
  readonly condition: string;
  /** the outcome that does not happen */
  readonly outcome: boolean;
  /** where only one layout cannot */
  readonly layout?: 'long' | 'compat';
  readonly why: string;
}

const shade = { file: 'assembly/upcall.ts', function: 'shade', layout: 'compat' } as const;

export const UNREACHABLE: readonly Unreachable[] = [
  {
    ...shade,
    condition: 'lo',
    outcome: false,
    why: 'there is always a bit to keep, and a compat selector has a low half only',
  },
  { ...shade, condition: 'hi', outcome: true, why: 'a compat selector has no high half; the release build folds this' },
  { ...shade, condition: '(oldHi & hi) == hi', outcome: false, why: 'nothing is new in a half that is not there' },
];
