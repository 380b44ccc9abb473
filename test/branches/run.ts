// Runs some of the other tests on kernels with counters, in a Vitest of their own.

import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { clearCounts, readCounts } from '../../tools/coverage/counts.ts';
import { buildInstrumented } from '../../tools/coverage/kernels.ts';
import { type Side, sidesOf } from '../../tools/coverage/report.ts';

const FOLDER = 'build/branches';

export interface Run {
  readonly sides: readonly Side[];
  /** whether the tests are green on these kernels too, and what they printed */
  readonly green: boolean;
  readonly output: string;
}

/** `tests` are the files to run. */
export async function runWithCounters(tests: readonly string[]): Promise<Run> {
  const branches = await buildInstrumented(FOLDER);
  clearCounts(FOLDER);
  const { green, output } = await vitest(tests);
  return { sides: sidesOf(branches, readCounts(FOLDER)), green, output };
}

function vitest(tests: readonly string[]): Promise<{ green: boolean; output: string }> {
  const program = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
  const args = [program, 'run', '--config', 'test/branches/vitest.config.ts', ...tests];
  // Without what tells a Vitest that it is a worker of another.
  const outer = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'));
  const env = { ...Object.fromEntries(outer), EVTCHN_TEST_KERNELS: FOLDER };
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
      resolve({ green: error === null, output: stdout + stderr }),
    );
  });
}
