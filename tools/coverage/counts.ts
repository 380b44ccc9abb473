// Where the count of each side of a branch lies, and how processes leave their counts in a folder.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type Counts = Float64Array;

/** Branches that there may be; far more than there are. */
const BRANCHES = 4096;
/** For each branch: no layout, compat, long; both sides of each. */
const PER_BRANCH = 6;

export function emptyCounts(): Counts {
  return new Float64Array(BRANCHES * PER_BRANCH);
}

/** `wordBytes` is the size of the guest word, 0 outside of a generic. */
export function countIndex(branch: number, wordBytes: number, outcome: boolean): number {
  return branch * PER_BRANCH + (wordBytes >> 2) * 2 + (outcome ? 1 : 0);
}

/** Leaves what this process has counted so far. */
export function writeCounts(folder: string, counts: Counts): void {
  writeFileSync(join(folder, `${process.pid}.counts`), counts);
}

/** @returns the sum of what was left */
export function readCounts(folder: string): Counts {
  const total = emptyCounts();
  for (const name of countFiles(folder)) {
    const counts = new Float64Array(new Uint8Array(readFileSync(join(folder, name))).buffer);
    for (const [at, count] of counts.entries()) total[at] = (total[at] ?? 0) + count;
  }
  return total;
}

export function clearCounts(folder: string): void {
  for (const name of countFiles(folder)) rmSync(join(folder, name));
}

function countFiles(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.counts'));
}
