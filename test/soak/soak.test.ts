// The soak: every suite can take a turn, the table is printed, and a failure ends it with 1 and a line to replay it.

import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { main, soak } from './soak.ts';
import type { Suite } from './suite.ts';
import { SUITES } from './suites.ts';

/** Shorter than a turn: each suite does one try. */
const MOMENT = 1e-6;

async function output(
  run: (write: (text: string) => void) => Promise<number>,
): Promise<{ code: number; text: string }> {
  const lines: string[] = [];
  const code = await run((text) => lines.push(text));
  return { code, text: lines.join('') };
}

describe('a turn of each suite ends green, with its tries in the table', () => {
  test.each(SUITES.map((suite) => [suite.name, suite] as const))(
    '%s',
    async (name, suite) => {
      const { code, text } = await output((write) =>
        soak({ minutes: MOMENT, seed: 7, only: null, write, suites: [suite] }),
      );
      expect(text).not.toContain('FAILED');
      expect(code).toBe(0);
      expect(text).toMatch(new RegExp(`^${name}, seed 7: [1-9]\\d* tries, 0 failures`));
      for (const promise of suite.promises) expect(text).toMatch(new RegExp(`^${promise} +[1-9]\\d* +0 `, 'm'));
    },
    120_000,
  );
});

describe('what it says', () => {
  const good: Suite = {
    name: 'good',
    promises: ['R1', 'R20'],
    run: async () => ({ tries: 3, failures: [], note: '5 ms' }),
  };
  const bad: Suite = {
    name: 'bad one',
    promises: ['R2'],
    run: async (seed) => ({ tries: 2, failures: [`because of ${seed}`] }),
  };
  const broken: Suite = {
    name: 'broken',
    promises: ['R3'],
    run: () => Promise.reject(new Error('fell over')),
  };

  test('a suite that fails makes it end with 1, with its sentence and a line to replay it; the others still take their turns', async () => {
    const run = { minutes: MOMENT, seed: 40, only: null, suites: [bad, broken, good] };
    const { code, text } = await output((write) => soak({ ...run, write }));
    expect(code).toBe(1);
    expect(text).toContain('FAILED because of 40');
    expect(text).toMatch(/replay: npm run soak -- --only 'bad one' --seed 40 --minutes \d/);
    expect(text).toContain('FAILED fell over');
    expect(text).toMatch(/^R1 +3 +0 {2}good 3 \(5 ms\)$/m);
    expect(text).toMatch(/^R2 +2 +1 {2}bad one 2$/m);
    expect(text).toMatch(/^R3 +1 +1 {2}broken 1$/m);
    expect(text).toMatch(/^R19 +0 +0 {2}not tried here$/m);
  });

  test('turns go round while there is time, each with a seed of its own', async () => {
    const seeds: number[] = [];
    const counting: Suite = {
      name: 'counting',
      promises: ['R1'],
      run: async (seed) => {
        seeds.push(seed);
        await new Promise((resolve) => setTimeout(resolve, 5));
        return { tries: 1, failures: [] };
      },
    };
    await soak({ minutes: 1 / 600, seed: 5, only: null, write: () => {}, suites: [counting] });
    expect(seeds.length).toBeGreaterThan(1);
    expect(seeds).toEqual(seeds.map((_, i) => 5 + i));
  });

  test('only one suite, and what is none', async () => {
    const only = await output((write) => soak({ minutes: MOMENT, seed: 1, only: 'good', write, suites: [bad, good] }));
    expect([only.code, only.text.includes('bad')]).toEqual([0, false]);
    const none = await output((write) => main(['--only', 'nothing', '--minutes', '1'], write));
    expect(none).toEqual({ code: 1, text: expect.stringContaining('there is no suite nothing: deaths') });
    expect((await output((write) => main(['--minutes', 'x'], write))).code).toBe(1);
    expect((await output((write) => main(['--minutes', '1', '--seed', '0.5'], write))).code).toBe(1);
  });

  test('as a command', () => {
    const text = execFileSync(
      process.execPath,
      ['tools/soak.js', '--minutes', '0.001', '--only', 'deaths', '--seed', '3'],
      {
        encoding: 'utf8',
      },
    );
    expect(text).toMatch(/^deaths, seed 3: [1-9]\d* tries, 0 failures$/m);
    expect(text).toMatch(/^R8 +[1-9]/m);
  });
});
