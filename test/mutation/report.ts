// The score of a sample: how many mutants were noticed, by file, and what was not.

import type { Result } from './score.ts';
import { isEquivalent } from './survivors.ts';

/** One on a line: `assembly/send.ts:50 Event.raise, & to |: …`. */
export function describe({ mutant }: Result): string {
  const { file, line, kind, becomes } = mutant;
  return `${file}:${line} ${mutant.function}, ${kind}: ${becomes}`;
}

/** Those that say something about the tests: they compile to other code, and not to the same behaviour. */
export function counted(results: readonly Result[]): Result[] {
  return results.filter(({ fate, mutant }) => (fate === 'killed' || fate === 'survived') && !isEquivalent(mutant));
}

export function survivors(results: readonly Result[]): Result[] {
  return counted(results).filter(({ fate }) => fate === 'survived');
}

/** 0..1 */
export function scoreOf(results: readonly Result[]): number {
  const all = counted(results);
  return all.filter(({ fate }) => fate === 'killed').length / all.length;
}

export function report(results: readonly Result[]): string {
  const files = [...new Set(results.map(({ mutant }) => mutant.file))].sort();
  const row = (name: string, of: readonly Result[]): string => {
    const all = counted(of);
    const killed = all.filter(({ fate }) => fate === 'killed').length;
    return `${`${killed}/${all.length}`.padStart(9)}  ${name}`;
  };
  const left = results.length - counted(results).length;
  return [
    ...files.map((file) =>
      row(
        file,
        results.filter(({ mutant }) => mutant.file === file),
      ),
    ),
    row(`in all (${left} more compile to the same, not at all, or are known to be equivalent)`, results),
    '',
    ...survivors(results).map((result) => `survived: ${describe(result)}`),
    '',
  ].join('\n');
}
