// Tries many mutants and prints the score: `npm run mutate`, `npm run mutate -- --count 500 --seed 7 --file batch`.

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    file: { type: 'string', default: '' },
  },
});

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
const REPORT = 'build/mutation/report.txt';
rmSync(REPORT, { force: true });
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const env = {
  ...process.env,
  EVTCHN_MUTANTS: values.count,
  EVTCHN_MUTATION_SEED: values.seed,
  EVTCHN_MUTATION_FILE: values.file,
};
const { status } = spawnSync(process.execPath, [vitest, 'run', 'test/mutation/mutation.test.ts'], {
  stdio: 'inherit',
  env,
});
process.stdout.write(readFileSync(REPORT, 'utf8'));
process.exitCode = status ?? 1;
