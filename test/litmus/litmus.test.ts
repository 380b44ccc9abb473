// The machine and the engine that runs WebAssembly give only the outcomes that this library stands on. [R15, KF-84]

import { beforeAll, describe, expect, test } from 'vitest';
import { type Program, STRICT_PROGRAMS, WEAK_PROGRAMS } from './programs.ts';
import { compile, litmus, type Verdict } from './runner.ts';

const ROUNDS = 100_000;
const ALL: readonly Program[] = [...STRICT_PROGRAMS, ...WEAK_PROGRAMS];

let verdicts: Verdict[] = [];

beforeAll(async () => {
  verdicts = await litmus(ALL, await compile(ALL), ROUNDS);
  const seen = verdicts.map(
    ({ name, weak, rounds, met }) => `${weak ?? '-'} of ${rounds}, ${met} side by side: ${name}`,
  );
  console.log(`allowed outcomes that only threads which have met can give:\n${seen.join('\n')}`);
}, 240_000);

describe('R15 what the machine may not do', () => {
  test.each(STRICT_PROGRAMS.map(({ name }, i) => [name, i] as const))('KF-84 %s', (_name, i) => {
    const { rounds, forbidden } = verdicts[i] as Verdict;
    expect(rounds).toBeGreaterThanOrEqual(ROUNDS / (STRICT_PROGRAMS[i]?.slow ?? 1));
    expect(forbidden).toBe(0);
  });
});
