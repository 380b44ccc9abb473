// npm run bench -- --against FOLDER: this build beside another one, such as the last release's, in one run.
//
// Processes of the two take turns, so that whatever disturbs the machine disturbs both, and a figure is the median of the
// ratios of neighbours.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Path } from './family.ts';
import { measureOnce } from './processes.ts';
import { digits, type Report, type Setting } from './report.ts';
import { median } from './rounds.ts';

const PATHS: readonly { readonly path: Path; readonly shared: boolean }[] = [
  { path: 'send', shared: true },
  { path: 'single_agent', shared: false },
  { path: 'batch', shared: true },
  { path: 'drain', shared: true },
  { path: 'runstate', shared: true },
  { path: 'runstate', shared: false },
];

/** Rows of the engine itself; the others' are the same code in both. */
const ENGINE = /^(vm\.|vcpu\.)/;

/** Prints how the engine's figures compare with those of the build in `folder`, over `pairs` pairs of processes. */
export async function compareWith(folder: string, pairs: number): Promise<void> {
  const other = join(folder, 'dist/bench/family.js');
  if (!existsSync(other)) throw new Error(`${other} is not there: build that folder first`);
  console.log(`\nthis build to the one in ${folder}, median of ${pairs} pairs of processes`);
  for (const { path, shared } of PATHS) {
    const setting: Setting = { quick: true, native: false, shared };
    const reports: [Report, Report][] = [];
    for (let i = 0; i < pairs; i++) {
      const mine = i % 2 === 0 ? await measureOnce(path, setting) : null;
      const theirs = await measureOnce(path, setting, other);
      reports.push([mine ?? (await measureOnce(path, setting)), theirs]);
    }
    printRatios(reports);
  }
}

function printRatios(reports: readonly [Report, Report][]): void {
  const rows = reports[0]?.[0].rows ?? [];
  rows.forEach((row, i) => {
    const pairs = reports.map(([mine, theirs]) => [mine.rows[i], theirs.rows[i]] as const);
    if (!ENGINE.test(row.name) || pairs.some(([, theirs]) => theirs?.name !== row.name)) return;
    const ns = median(pairs.map(([mine]) => mine?.ns ?? Number.NaN));
    const ratio = median(pairs.map(([mine, theirs]) => (mine?.ns ?? Number.NaN) / (theirs?.ns ?? Number.NaN)));
    console.log(`  ${`${row.path}: ${row.name}`.padEnd(64)}${digits(ns).padStart(10)} ns${digits(ratio).padStart(9)}`);
  });
}
