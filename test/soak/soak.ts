// Runs suites in turn until the time is over, and ends with a table of what each promise was tried for.

import { parseArgs } from 'node:util';
import type { Suite, Turn } from './suite.ts';
import { SUITES } from './suites.ts';

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  /** only this suite; null: all */
  readonly only: string | null;
  readonly write: (text: string) => void;
  readonly suites?: readonly Suite[];
}

/** The sum of a suite's turns. */
interface Total {
  readonly suite: Suite;
  tries: number;
  failures: number;
  turns: number;
  notes: string[];
}

const MS_PER_MINUTE = 60_000;
/** A turn is long enough for a suite's threads to start, and short enough that every suite gets one early. */
const [SHORTEST_TURN, LONGEST_TURN] = [1_000, 60_000];
const PROMISES = 20;

/** `node tools/soak.js` with its arguments. @returns the exit code */
export async function main(args: string[], write: (text: string) => void): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { minutes: { type: 'string' }, only: { type: 'string' }, seed: { type: 'string' } },
  });
  const minutes = Number(values.minutes ?? 10);
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  if (!(minutes > 0) || !Number.isInteger(seed) || seed < 0) {
    write(
      `--minutes takes a number above 0, --seed an integer from 0 on; given were ${values.minutes} and ${values.seed}\n`,
    );
    return 1;
  }
  return soak({ minutes, seed, only: values.only ?? null, write });
}

/** @returns 0, or 1 when something has failed */
export async function soak({ minutes, seed, only, write, suites = SUITES }: SoakOptions): Promise<number> {
  const chosen = suites.filter(({ name }) => only === null || name === only);
  if (chosen.length === 0) {
    write(`there is no suite ${only}: ${suites.map(({ name }) => name).join(', ')}\n`);
    return 1;
  }
  const totals: Total[] = chosen.map((suite) => ({ suite, tries: 0, failures: 0, turns: 0, notes: [] }));
  const end = performance.now() + minutes * MS_PER_MINUTE;
  const turn = Math.min(LONGEST_TURN, Math.max(SHORTEST_TURN, (minutes * MS_PER_MINUTE) / chosen.length / 4));
  // Each gets a turn, however short the time is.
  for (let round = 0; round === 0 || performance.now() < end; round++) {
    for (const total of totals) {
      if (round > 0 && performance.now() >= end) break;
      await take(total, seed + round, Math.min(turn, Math.max(SHORTEST_TURN, end - performance.now())), write);
    }
  }
  write(table(totals));
  return totals.some(({ failures }) => failures > 0) ? 1 : 0;
}

async function take(total: Total, seed: number, budgetMs: number, write: (text: string) => void): Promise<void> {
  const { suite } = total;
  const { tries, failures, note } = await guarded(suite, seed, budgetMs);
  total.tries += tries;
  total.failures += failures.length;
  total.turns++;
  if (note) total.notes.push(note);
  write(`${suite.name}, seed ${seed}: ${tries} tries, ${failures.length} failures${note ? `; ${note}` : ''}\n`);
  for (const failure of failures) write(`  FAILED ${failure}\n`);
  if (failures.length > 0) {
    const minutes = (budgetMs / MS_PER_MINUTE).toFixed(3);
    write(`  replay: npm run soak -- --only '${suite.name}' --seed ${seed} --minutes ${minutes}\n`);
  }
}

/** What a suite throws is a failure of its turn. */
async function guarded(suite: Suite, seed: number, budgetMs: number): Promise<Turn> {
  try {
    return await suite.run(seed, budgetMs);
  } catch (error) {
    return { tries: 1, failures: [error instanceof Error ? error.message : String(error)] };
  }
}

function table(totals: readonly Total[]): string {
  const rows = Array.from({ length: PROMISES }, (_, i) => {
    const id = `R${i + 1}` as const;
    const those = totals.filter(({ suite }) => suite.promises.includes(id));
    const failures = those.reduce((sum, total) => sum + total.failures, 0);
    const notes = those.map(({ suite, tries, notes }) => `${suite.name} ${tries}${worst(notes)}`);
    const tries = those.reduce((sum, total) => sum + total.tries, 0);
    return `${id.padEnd(4)} ${String(tries).padStart(12)} ${String(failures).padStart(9)}  ${notes.join('; ') || 'not tried here'}`;
  });
  return `\n${'     '}${'tries'.padStart(12)} ${'failures'.padStart(9)}  by\n${rows.join('\n')}\n`;
}

/** The note with the largest number in it. */
function worst(notes: readonly string[]): string {
  const figure = (note: string): number => Number(/[\d.]+/.exec(note)?.[0] ?? 0);
  const note = [...notes].sort((a, b) => figure(b) - figure(a))[0];
  return note ? ` (${note})` : '';
}
