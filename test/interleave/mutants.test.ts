import { describe, expect, test } from 'vitest';
import { LAYOUTS } from '../support.ts';
import { faulty, MUTANTS, PATCHES } from './mutants.ts';
import { SCENARIOS } from './scenarios.ts';

describe('every fault that is put in turns an interleaving red', () => {
  test.each([...MUTANTS, ...PATCHES])('$name', async (mutant) => {
    const interleaver = await faulty(mutant);
    const red = SCENARIOS.filter((scenario) =>
      LAYOUTS.some(({ longMode }) => interleaver.explore(scenario, longMode).findings.length > 0),
    );
    expect(red.map((scenario) => scenario.name)).not.toEqual([]);
  });
});
