// Runs litmus programs on real threads and adds up what they saw.

import { Worker } from 'node:worker_threads';
import asc from 'assemblyscript/asc';
import type { LitmusPart } from '../workers/litmus.ts';
import {
  FIRST_PATIENCE,
  FIRST_SLOT,
  MEMORY_PAGES,
  MET,
  OUTCOME_WORDS,
  OUTCOMES,
  PATIENCE,
  type Program,
  SEEN,
  SLOT,
  SLOTS,
  source,
  Y,
} from './programs.ts';

const FILE = new URL('../../dist/test/workers/litmus.js', import.meta.url);

export interface Verdict {
  readonly name: string;
  readonly rounds: number;
  /** of these the threads came to so many side by side */
  readonly met: number;
  /** forbidden outcomes that were seen */
  readonly forbidden: number;
  /** allowed ones that show that the threads have met */
  readonly weak: number | null;
}

export async function compile(programs: readonly Program[]): Promise<WebAssembly.Module> {
  const text = source(programs);
  let binary: Uint8Array | null = null;
  const flags = ['--enable', 'threads', '--importMemory', '--noExportMemory', '--sharedMemory', '--runtime', 'stub'];
  const limits = [
    '--initialMemory',
    '1',
    '--maximumMemory',
    '65536',
    '--optimizeLevel',
    '3',
    '--noAssert',
    '--use',
    'abort=',
  ];
  const { error, stderr } = await asc.main(
    ['litmus.ts', '--config', 'none', '-o', 'litmus.wasm', ...flags, ...limits],
    {
      readFile: (name) => (name === 'litmus.ts' ? text : null),
      writeFile: (_name, contents) => {
        if (typeof contents !== 'string') binary = contents;
      },
      listFiles: () => [],
    },
  );
  if (error || binary === null) throw new Error(`the litmus programs do not compile: ${stderr.toString()}`);
  return new WebAssembly.Module(new Uint8Array(binary));
}

/** Runs each of them `rounds` times. */
export async function litmus(
  programs: readonly Program[],
  module: WebAssembly.Module,
  rounds: number,
): Promise<Verdict[]> {
  const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true });
  const threads = Math.max(...programs.map((program) => program.threads));
  const part = (who: number): LitmusPart => ({
    module,
    memory,
    who,
    tasks: programs.map(({ threads, bodies, script, slow = 1 }, program) => ({
      program,
      threads,
      rounds: Math.ceil(rounds / slow),
      script: bodies[who] === null ? (script ?? null) : null,
    })),
    place: {
      slot: SLOT,
      slots: SLOTS,
      first: FIRST_SLOT,
      y: Y,
      seen: SEEN,
      patience: PATIENCE,
      firstPatience: FIRST_PATIENCE,
    },
  });
  await Promise.all(Array.from({ length: threads }, (_, who) => play(part(who))));
  return programs.map((program, i) =>
    verdict(program, new Int32Array(memory.buffer, OUTCOMES + 4 * OUTCOME_WORDS * i, MET + 1)),
  );
}

function verdict({ name, forbidden, weak }: Program, seen: Int32Array): Verdict {
  const sum = (outcomes: readonly number[]): number => outcomes.reduce((total, o) => total + (seen[o] ?? 0), 0);
  return {
    name,
    rounds: seen.subarray(0, MET).reduce((total, n) => total + n, 0),
    met: seen[MET] ?? 0,
    forbidden: sum(forbidden),
    weak: weak === null ? null : sum([weak]),
  };
}

function play(part: LitmusPart): Promise<void> {
  const worker = new Worker(FILE, { workerData: part });
  return new Promise((resolve, reject) => {
    worker.on('message', () => resolve());
    worker.on('error', reject);
    worker.on('exit', () => reject(new Error(`thread ${part.who} ended without a word`)));
  });
}
