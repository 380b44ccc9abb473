// What a suite of the soak is. A new one is a function and a line in suites.ts.

/** The promises R1..R20 that the table at the end is about. */
export type Promised = `R${number}`;

/** What a turn of a suite has found. */
export interface Turn {
  /** schedules, deaths, rounds, timers: whatever the suite counts */
  readonly tries: number;
  /** one sentence each; a suite ends its turn at the first few */
  readonly failures: readonly string[];
  /** the worst figure, or what else is to be known */
  readonly note?: string;
}

export interface Suite {
  readonly name: string;
  readonly promises: readonly Promised[];
  /** Runs for about `budgetMs`, at the least one try. The same seed does the same, as far as threads can. */
  run(seed: number, budgetMs: number): Promise<Turn>;
}

/** Ends a turn when so many have failed. */
const ENOUGH = 3;

/** Tries again and again until the time is over; what `attempt` throws is a failure. */
export async function until(budgetMs: number, attempt: (i: number) => Promise<void> | void): Promise<Turn> {
  const end = performance.now() + budgetMs;
  const failures: string[] = [];
  let tries = 0;
  do {
    try {
      await attempt(tries);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
    tries++;
  } while (performance.now() < end && failures.length < ENOUGH);
  return { tries, failures };
}

/** Throws unless what was found is what was expected. */
export function same(what: string, found: unknown, expected: unknown): void {
  const text = (value: unknown): string => JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  if (text(found) !== text(expected)) throw new Error(`${what}: ${text(found)}, not ${text(expected)}`);
}
