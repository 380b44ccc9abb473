// Every call with any arguments, in any order, while the guest writes what it likes: each ends as its documentation says, what fails
// changes nothing, nothing is written where nothing is registered, nothing is left behind, and the VM still delivers. [R4, R5, R7, R9]

import { describe, expect, test } from 'vitest';
import { loadCorpus } from './corpus.ts';
import { type FuzzReport, fuzz } from './fuzz.ts';
import { SENTENCE } from './judge.ts';
import { OPERATIONS } from './operations.ts';
import { RULES } from './outcomes.ts';
import { replay } from './sequence.ts';
import { printed } from './shrink.ts';

const CORPUS = loadCorpus();

/** Nothing was found, also not in what was waited for. */
async function expectNothing({ findings, settled }: FuzzReport): Promise<void> {
  expect(findings.map(({ message }) => message)).toEqual([]);
  await settled;
}

describe('kept sequences', () => {
  const features = new Set<string>();
  let calls = 0;

  test('R4 R5 R7 R9 KF-10 KF-28 KF-47 KF-58 KF-59 KF-66 KF-67 each of the corpus ends as it may, and leaves nothing behind', async () => {
    for (const sequence of CORPUS) {
      const run = replay(sequence);
      if (run.finding !== null) expect.fail(`${run.finding.message}\n${printed(sequence)}`);
      for (const feature of run.features) features.add(feature);
      calls += run.made;
      await run.settled;
    }
    expect(calls).toBeGreaterThan(1000);
  });

  test('R9 the corpus reaches every operation and most of the outcomes that each may have', () => {
    const reached = new Set(
      [...features]
        .filter((feature) => !feature.startsWith(SENTENCE))
        .map((feature) => feature.replace(/^(\w+) (?:.* )?([^ ]+)$/, '$1 $2')),
    );
    const outcomes = Object.entries(RULES).flatMap(([name, { answers, throws }]) => [
      ...[...answers].map((answer) => `${name} ${answer}`),
      ...[...throws].map((code) => `${name} ${code}!`),
    ]);
    const never = outcomes.filter((outcome) => !reached.has(outcome));
    const silent = Object.keys(OPERATIONS).filter(
      (name) => ![...(RULES[name]?.answers ?? [])].some((a) => reached.has(`${name} ${a}`)),
    );
    expect(silent).toEqual([]);
    expect(never.length / outcomes.length, never.join(', ')).toBeLessThan(0.15);
  });

  test('R9 every operation has its rules, and no rule is without one', () => {
    expect(Object.keys(RULES).sort()).toEqual(Object.keys(OPERATIONS).sort());
  });
});

describe('random sequences', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])('R4 R5 R7 R9 KF-10 KF-47 KF-58 KF-59 KF-67 new calls, seed %i', async (seed) => {
    await expectNothing(fuzz({ seed, calls: 7_500 }));
  });

  test.each([101, 102, 103, 104, 105, 106])(
    'R4 R5 R7 R9 KF-10 KF-47 KF-58 KF-59 KF-67 kept sequences changed, seed %i',
    async (seed) => {
      await expectNothing(fuzz({ seed, calls: 7_500, corpus: CORPUS }));
    },
  );

  test('R18 the same seed makes the same calls with the same outcomes', () => {
    const traces = [1, 2].map(() => {
      const { interesting, calls, features } = fuzz({ seed: 99, calls: 1_500 });
      return { calls, features: [...features], outcomes: interesting.map((sequence) => replay(sequence).outcomes) };
    });
    expect(traces[0]).toEqual(traces[1]);
  });
});
