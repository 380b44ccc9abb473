// One thread of the litmus programs.

import { parentPort, workerData } from 'node:worker_threads';
import { type Kernel, kernelModule } from '../../src/kernel.ts';
import { Words } from '../../src/memory/words.ts';

/** What a thread has to know of a program. */
export interface LitmusTask {
  readonly program: number;
  readonly threads: number;
  readonly rounds: number;
  /** this thread's part in JavaScript, by its name */
  readonly script: string | null;
}

export interface LitmusPart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly who: number;
  readonly tasks: readonly LitmusTask[];
  readonly place: {
    readonly slot: number;
    readonly slots: number;
    readonly first: number;
    readonly y: number;
    readonly seen: number;
    readonly patience: number;
    readonly firstPatience: number;
  };
}

interface Exports {
  run(program: number, who: number, threads: number, rounds: number): void;
  meet(who: number, threads: number, round: number, patience: number): number;
  together(program: number, threads: number): void;
}

/** How long a sleep in a program is, ns, and one at a barrier, ms. */
const SLEEP = 100_000;
const REST = 0.05;

const { module, memory, who, tasks, place } = workerData as LitmusPart;
const words = new Words(memory);
const kernel = new WebAssembly.Instance(kernelModule(true), { env: { memory } }).exports as unknown as Kernel;
const env = {
  memory,
  /** the kernel's own sleep, until the word is not 0 any more: 0 woken, 1 it was not 0, 2 time has run out */
  sleep: (p: number): number => kernel.probeWait(p, 0, SLEEP),
  /** Nobody notifies: a thread that is woken by another comes to the core of that one, and the two never run at once. */
  rest: (barrier: number, generation: number): void => void words.wait(barrier, generation, REST),
};
const { run, meet, together } = new WebAssembly.Instance(module, { env }).exports as unknown as Exports;

const SCRIPTS: Readonly<Record<string, (x: number, y: number) => boolean>> = {
  'set y, look at x': (x, y) => {
    words.or(y, 1);
    return words.load(x) !== 0;
  },
  'take y, look at x': (x, y) => words.exchange(y, 0) !== 0 && words.load(x) === 0,
  'look at 64 bits': (x) => {
    const seen = words.load64(x);
    return seen !== 0n && seen !== 2n ** 64n - 1n;
  },
};

/** As the module's own `run` for a body in JavaScript. It is never the first thread, which counts. */
function runScript({ program, threads, rounds }: LitmusTask, body: (x: number, y: number) => boolean): void {
  for (let from = 0; from < rounds; from += place.slots) {
    together(program, threads);
    let met = true;
    for (let i = 0; i < place.slots; i++) {
      if (met) met = meet(who, threads, from + i + 1, i ? place.patience : place.firstPatience) !== 0;
      const slot = place.first + i * place.slot;
      const seen = body(slot, slot + place.y);
      words.store(slot + place.seen + 64 * who, seen ? 1 : 0);
    }
    together(program, threads);
  }
  together(program, threads);
}

for (const task of tasks) {
  if (who >= task.threads) continue;
  const body = task.script === null ? undefined : SCRIPTS[task.script];
  if (body) runScript(task, body);
  else run(task.program, who, task.threads, task.rounds);
}
parentPort?.postMessage('done');
