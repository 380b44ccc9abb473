// Prints for every requirement id the tests that carry it, why it has none, or MISSING: `npm run spec`. With `--missing`
// only those that are missing. Ends with 1 when an id is missing, unknown or contradicted. The work is in test/coverage.

import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { missing: { type: 'boolean', default: false } } });

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
execFileSync(process.execPath, [tsc, '-p', 'test/coverage'], { stdio: 'inherit' });

const { projectCoverage, projectPromises } = await import('../build/coverage/project.js');
const { failed, promisesReport, report } = await import('../build/coverage/report.js');

const coverage = projectCoverage();
if (!values.missing) process.stdout.write(promisesReport(projectPromises()));
process.stdout.write(report(coverage, values));
process.exitCode = failed(coverage) ? 1 : 0;
