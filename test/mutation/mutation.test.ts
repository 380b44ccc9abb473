import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Mutant, mutantsOf, mutate } from './mutator.ts';
import { describe as describeResult, report, scoreOf, survivors } from './report.ts';
import { allMutants, shuffled } from './sample.ts';
import { type Result, Score } from './score.ts';
import { EQUIVALENT, isEquivalent, sameMutant } from './survivors.ts';

/** How many mutants are tried, of which files, in which order: `npm run mutate` tries far more than `npm test` has time for. */
const COUNT = Number(process.env['EVTCHN_MUTANTS'] ?? 4);
const SEED = Number(process.env['EVTCHN_MUTATION_SEED'] ?? 1);
const FILE = process.env['EVTCHN_MUTATION_FILE'] ?? '';

/** Of the mutants that can be noticed, the part that is. */
const DEMANDED = 0.9;

describe('a sample of mutants of the kernel', () => {
  const results: Result[] = [];
  let score: Score;

  beforeAll(async () => {
    score = await Score.create();
    const mutants = shuffled(allMutants(), SEED).filter(({ file }) => file.includes(FILE));
    for (const mutant of mutants) {
      if (results.filter(({ fate }) => fate === 'killed' || fate === 'survived').length >= COUNT) break;
      results.push(await score.try(mutant));
      // After each: a long run can be followed.
      writeFileSync('build/mutation/report.txt', report(results));
    }
  }, 86_400_000);

  afterAll(() => score.dispose());

  test('R16 a test notices at least nine of ten', () => {
    expect(scoreOf(results), report(results)).toBeGreaterThanOrEqual(DEMANDED);
    // Of a few, each.
    if (COUNT < 10) expect(survivors(results).map(describeResult)).toEqual([]);
  });

  test('R16 what is listed as equivalent is not noticed', () => {
    const noticed = results.filter(({ fate, mutant }) => fate === 'killed' && isEquivalent(mutant));
    expect(noticed.map((result) => `${describeResult(result)}, by ${result.by}`)).toEqual([]);
  });
});

describe('the mutator', () => {
  const source = `
import { SHADOW_HI, SHADOW_LO, WAKES } from './x.ts';

export function f(p: usize): bool {
  if ((load<i32>(p + SHADOW_LO) & ~2) == 0) wake(p, WAKES);
  return p > 1;
}
`;
  const mutants = mutantsOf('assembly/x.ts', source);
  const linesOf = (kind: string): string[] => mutants.filter((one) => one.kind === kind).map(({ becomes }) => becomes);

  test('R16 each operator makes its single change', () => {
    expect(linesOf('& to |')).toEqual(['if ((load<i32>(p + SHADOW_LO) | ~2) == 0) wake(p, WAKES);']);
    expect(linesOf('+ to -')).toEqual(['if ((load<i32>(p - SHADOW_LO) & ~2) == 0) wake(p, WAKES);']);
    expect(linesOf('~ left out')).toEqual(['if ((load<i32>(p + SHADOW_LO) & 2) == 0) wake(p, WAKES);']);
    expect(linesOf('== to !=')).toEqual(['if ((load<i32>(p + SHADOW_LO) & ~2) != 0) wake(p, WAKES);']);
    expect(linesOf('call left out')).toEqual(['if ((load<i32>(p + SHADOW_LO) & ~2) == 0) {}']);
    expect(linesOf('negate')).toEqual(['if (!((load<i32>(p + SHADOW_LO) & ~2) == 0)) wake(p, WAKES);']);
    expect(linesOf('> to >=')).toEqual(['return p >= 1;']);
    expect([...linesOf('return false'), ...linesOf('return true')]).toEqual(['return false;', 'return true;']);
    expect(linesOf('constant')).toEqual([
      'if ((load<i32>(p + SHADOW_HI) & ~2) == 0) wake(p, WAKES);',
      'if ((load<i32>(p + SHADOW_LO) & ~3) == 0) wake(p, WAKES);',
      'if ((load<i32>(p + SHADOW_LO) & ~2) == 1) wake(p, WAKES);',
      'if ((load<i32>(p + SHADOW_LO) & ~2) == 0) wake(p, SHADOW_HI);',
      'return p > 0;',
    ]);
    expect(mutants).toHaveLength(14);
  });

  test('R16 a mutant changes its own place and nothing else', () => {
    for (const mutant of mutants) {
      const changed = mutate(source, mutant);
      expect(changed).not.toBe(source);
      expect(changed.startsWith(source.slice(0, mutant.start))).toBe(true);
      expect(changed.endsWith(source.slice(mutant.end))).toBe(true);
    }
  });

  test('R18 a sample is the same for the same seed, another for another', () => {
    const places = (seed: number): number[] => shuffled(mutants, seed).map(({ start }) => start);
    expect(places(1)).toEqual(places(1));
    expect(places(1)).not.toEqual(places(2));
    expect([...places(1)].sort()).toEqual(mutants.map(({ start }) => start).sort());
  });

  test('R16 what is listed as equivalent is a mutant of the sources, and is said once', () => {
    const all: readonly Mutant[] = allMutants();
    const gone = EQUIVALENT.filter((one) => !all.some((mutant) => sameMutant(one, mutant)));
    expect(gone).toEqual([]);
    expect(new Set(EQUIVALENT.map(({ why: _, ...place }) => JSON.stringify(place))).size).toBe(EQUIVALENT.length);
  });
});
