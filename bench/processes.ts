// Measures a path in processes of its own and takes the median: where code and stack come to lie differs from process to
// process, and with it some figures by a third.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Path } from './family.ts';
import { mergeReports, type Report, type Setting, type Summary } from './report.ts';

const FAMILY = fileURLToPath(new URL('./family.js', import.meta.url));

/** A process that takes longer hangs. */
const TIMEOUT_MS = 60_000;

/** The figures of `path`, from `count` processes one after the other; an odd number has a middle. */
export async function measurePath(path: Path, setting: Setting, count: number): Promise<Summary> {
  const reports: Report[] = [];
  for (let i = 0; i < count; i++) reports.push(await measureOnce(path, setting));
  return mergeReports(reports);
}

/** The figures of one process; `family` is the file that it runs. */
export function measureOnce(path: Path, setting: Setting, family = FAMILY): Promise<Report> {
  return new Promise((resolve, reject) => {
    const child = fork(family, [path, JSON.stringify(setting)], { timeout: TIMEOUT_MS });
    let report: Report | null = null;
    child.on('message', (message) => {
      report = message as Report;
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (report) resolve(report);
      else
        reject(new Error(`the process that measures "${path}" ended with ${signal ?? `code ${code}`} and no figures`));
    });
  });
}
