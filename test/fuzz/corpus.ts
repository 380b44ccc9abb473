// The kept sequences: short ones that together reach every outcome and every sentence of an error that fuzzing has found. One call in a line.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Sequence } from './sequence.ts';
import type { Kind } from './world.ts';

/** Relative to the project, where tests run. */
const FOLDER = 'test/fuzz/corpus';

/** Which file a sequence is in. */
function fileOf({ shared, longMode }: Kind): string {
  return `${shared ? 'shared' : 'unshared'}-${longMode ? 'long' : 'compat'}.json`;
}

/** All of them, always in the same order. */
export function loadCorpus(): Sequence[] {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));
  return files.sort().flatMap((name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as Sequence[]);
}

/** Replaces all of them. */
export function saveCorpus(sequences: readonly Sequence[]): void {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const files = new Map<string, string[]>();
  for (const { kind, calls } of sequences) {
    const lines = calls.map((call) => `  ${JSON.stringify(call)}`).join(',\n');
    const name = fileOf(kind);
    files.set(name, [...(files.get(name) ?? []), `{"kind":${JSON.stringify(kind)},"calls":[\n${lines}\n]}`]);
  }
  for (const [name, texts] of files) writeFileSync(join(FOLDER, name), `[\n${texts.join(',\n')}\n]\n`);
}
