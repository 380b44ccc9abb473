import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { instrument } from '../../tools/coverage/branches.ts';
import { sources } from '../../tools/coverage/kernels.ts';
import { describeSide, report, type Side } from '../../tools/coverage/report.ts';
import { type Run, runWithCounters } from './run.ts';
import { TESTS } from './selection.ts';
import { UNREACHABLE, type Unreachable } from './unreachable.ts';

let run: Run;
let uncovered: readonly Side[];

beforeAll(async () => {
  run = await runWithCounters(TESTS);
  uncovered = run.sides.filter((side) => side.count === 0);
  writeFileSync('build/branches/report.txt', report(run.sides));
}, 180_000);

const isListed = (side: Side): boolean => UNREACHABLE.some((one) => matches(one, side));

function matches(one: Unreachable, { branch, layout, outcome }: Side): boolean {
  const here = one.file === branch.file && one.function === branch.function && one.condition === branch.condition;
  return here && one.outcome === outcome && (one.layout === undefined || one.layout === layout);
}

describe('branches of the kernel', () => {
  test('the tests that count are green on a kernel with counters', () => {
    expect(run.green, run.output).toBe(true);
  });

  test.each(sources())('R16 every branch of %s goes both ways, in both layouts', (file) => {
    const missing = uncovered.filter((side) => side.branch.file === file && !isListed(side));
    expect(missing.map(describeSide)).toEqual([]);
  });

  test('R16 no part of delivery, caches, polls, sleeps and runstate is without counters', () => {
    const counted = new Set(run.sides.map((side) => side.branch.file));
    const without = sources().filter((file) => !counted.has(file));
    // They have no condition, or only ones that the compiler folds.
    expect(without).toEqual(['assembly/env.ts', 'assembly/index.ts']);
  });

  test('R16 what is listed as unreachable is there, is not reached, and is said once', () => {
    for (const one of UNREACHABLE) {
      const sides = run.sides.filter((side) => matches(one, side));
      expect(sides.length, `${one.file} has no ${one.condition}`).toBeGreaterThan(0);
      const reached = sides.filter((side) => side.count > 0).map(describeSide);
      expect(reached, 'it is reached: take it off the list').toEqual([]);
    }
    const twice = run.sides.filter((side) => UNREACHABLE.filter((one) => matches(one, side)).length > 1);
    expect(twice.map(describeSide)).toEqual([]);
  });
});

describe('the counters', () => {
  const source = `
class Half {
  @inline static of<W extends number>(p: usize): bool {
    return sizeof<W>() == 8 ? p > 1 && !(p & 2) : ASC_FEATURE_THREADS || load<u8>(p ? p + 1 : p) == 0;
  }
}
export function walk(n: i32): i32 {
  if (TRACE) return 0;
  while (n > 0) n -= (n & 1) == 0 ? 2 : 1;
  for (;;) if (!Half.of<u64>(n)) break;
  do n++; while (n < 3 || (n > 5 && n < 7));
  return n;
}
`;

  test('R16 every operand that decides is a branch; what the compiler folds is none', () => {
    const { branches } = instrument('assembly/x.ts', source, 0);
    const conditions = branches.map((one) => `${one.line} ${one.function} ${one.condition}`);
    expect(conditions.sort()).toEqual(
      [
        '10 walk Half.of<u64>(n)',
        '11 walk n < 3',
        '11 walk n < 7',
        '11 walk n > 5',
        '4 Half.of load<u8>(p ? p + 1 : p) == 0',
        '4 Half.of p',
        '4 Half.of p & 2',
        '4 Half.of p > 1',
        '9 walk (n & 1) == 0',
        '9 walk n > 0',
      ].sort(),
    );
    expect(branches.filter((one) => one.layouts).every((one) => one.function === 'Half.of')).toBe(true);
  });

  test('R16 a counter is put around each operand and nothing else changes', () => {
    const { text } = instrument('assembly/x.ts', source, 7);
    const line4 =
      '    return sizeof<W>() == 8 ? coverageBranch(7, sizeof<W>(), (p > 1)) && !(coverageBranch(8, sizeof<W>(), (p & 2)))' +
      ' : ASC_FEATURE_THREADS || coverageBranch(9, sizeof<W>(), (load<u8>(coverageBranch(10, sizeof<W>(), (p)) ? p + 1 : p) == 0));';
    expect(text.split('\n')[3]).toBe(line4);
    expect(text.split('\n')[7]).toBe('  if (TRACE) return 0;');
  });

  test('R16 a switch is refused: its arms would go uncounted', () => {
    const arms = 'export function f(n: i32): i32 { switch (n) { case 1: return 2; default: return 3; } }';
    expect(() => instrument('assembly/x.ts', arms, 0)).toThrow('switch');
  });
});
