import { describe, expect, test } from 'vitest';
import { LAYOUTS } from '../support.ts';
import { buildMutant, MUTANTS } from './mutants.ts';
import { SCENARIOS } from './scenarios.ts';
import { Interleaver } from './world.ts';

describe('every fault that is put in turns an interleaving red', () => {
  test.each(MUTANTS)('$name', async (mutant) => {
    const interleaver = new Interleaver(await buildMutant(mutant));
    const red = SCENARIOS.filter((scenario) =>
      LAYOUTS.some(({ longMode }) => interleaver.explore(scenario, longMode).findings.length > 0),
    );
    expect(red.map((scenario) => scenario.name)).not.toEqual([]);
  });
});
