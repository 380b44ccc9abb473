// Spin as a function: a model is turned into C, compiled and searched, below build/spin.

import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Case, Outcome } from './cases.ts';

const execute = promisify(execFile);

/** Beyond these a search has not been through everything, and fails. */
const MAX_STEPS = 200_000;
const MAX_MEGABYTES = 1_500;
/** Slots of the table of states, as a power of two: a larger one takes longer to clear than to fill. */
const HASH_BITS = 21;

/** The programs that are needed and not there. */
export function missingPrograms(): string[] {
  return [
    ['spin', '-V'],
    ['gcc', '--version'],
  ].flatMap(([program = '', flag = '']) => (spawnSync(program, [flag]).status === 0 ? [] : [program]));
}

/** What a search has found. */
export interface Finding {
  readonly outcome: Outcome;
  /** different states it has seen */
  readonly states: number;
  /** steps to what is wrong, else of the longest run */
  readonly depth: number;
  /** every state was seen */
  readonly complete: boolean;
  /** the end, with the assertions about it, was reached */
  readonly ended: boolean;
  readonly output: string;
}

/** Searches through all of a model. */
export const explore = (test: Case): Promise<Finding> =>
  test.search === 'progress' ? search(test, ['-O1', '-DNP'], ['-l', '-f']) : search(test, ['-O1', '-DSAFETY'], []);

/** Searches for a fault: breadth first, so that what is found is the shortest run to it. Compiled fast, for it ends soon. */
export const find = (test: Case): Promise<Finding> =>
  test.search === 'progress' ? explore(test) : search(test, ['-O0', '-DSAFETY', '-DBFS', '-DNOREDUCE'], []);

async function search(test: Case, flags: readonly string[], options: readonly string[]): Promise<Finding> {
  return await inTurn(async () => {
    const defines = test.defines.split(' ').filter((word) => word !== '');
    const folder = join('build', 'spin', [test.model, ...defines].join('-').replaceAll('=', ''));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const run = async (program: string, args: readonly string[]): Promise<string> =>
      (await execute(program, args, { cwd: folder, maxBuffer: 1 << 24 })).stdout;
    try {
      await run('spin', [
        '-a',
        ...defines.map((define) => `-D${define}`),
        resolve('test', 'spin', `${test.model}.pml`),
      ]);
      await run('gcc', ['-w', `-DMEMLIM=${MAX_MEGABYTES}`, ...flags, '-o', 'pan', 'pan.c']);
      return read(await run(resolve(folder, 'pan'), [`-m${MAX_STEPS}`, `-w${HASH_BITS}`, ...options]));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

function read(output: string): Finding {
  const number = (pattern: RegExp): number => Number(output.match(pattern)?.[1] ?? Number.NaN);
  const wrong = output.match(/^pan:1: (.*) \(at depth (\d+)\)/m);
  return {
    outcome: outcomeOf(wrong?.[1], number(/errors: (\d+)/)),
    states: number(/(\d+) states, stored/),
    depth: wrong ? Number(wrong[2]) : number(/depth reached (\d+)/),
    complete: !/^error:|out of memory|Search not completed|too small/im.test(output),
    ended: /unreached in init\s+\(0 of/.test(output),
    output,
  };
}

function outcomeOf(wrong: string | undefined, errors: number): Outcome {
  if (wrong?.startsWith('assertion violated')) return 'assertion';
  if (wrong?.startsWith('invalid end state')) return 'invalid end state';
  if (wrong?.startsWith('non-progress cycle')) return 'cycle without progress';
  if (wrong === undefined && errors === 0) return 'nothing wrong';
  throw new Error(`Spin says what is not known here: ${wrong ?? `${errors} errors`}`);
}

let running = 0;
const waiting: (() => void)[] = [];

/** As many at a time as there are cores. */
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= availableParallelism()) await new Promise<void>((resume) => waiting.push(resume));
  else running++;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
}
