// Prints the branches of the wasm half that tests reach, by file and function, and those that they do not: `npm run coverage`.
// The same test runs in `npm test`; it leaves this report.

import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
const REPORT = 'build/branches/report.txt';
rmSync(REPORT, { force: true });
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const { status } = spawnSync(process.execPath, [vitest, 'run', 'test/branches/branches.test.ts'], { stdio: 'inherit' });
process.stdout.write(readFileSync(REPORT, 'utf8'));
process.exitCode = status ?? 1;
