// Builds mutants, one after the other, and runs tests on each until one of them notices.

import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compile, KERNELS, type KernelName } from '../../tools/coverage/kernels.ts';
import { type Mutant, mutate } from './mutator.ts';
import { testsFor } from './tests.ts';

/** Of this process alone: two may run at once. */
const FOLDER = join('build/mutation', String(process.pid));
/** Far longer than any single test takes on kernels without a fault, ms. */
const WATCHDOG = 60_000;

/** killed: a test noticed, or the mutant came to no end. same: the compiler makes the same code of it. stillborn: it does not compile. */
export type Fate = 'killed' | 'survived' | 'same' | 'stillborn';

export interface Result {
  readonly mutant: Mutant;
  readonly fate: Fate;
  /** the test that noticed, or why it counts as noticed */
  readonly by: string;
}

interface Failure {
  readonly file: string;
  readonly test: string;
}

type Binaries = ReadonlyMap<KernelName, Uint8Array>;
type Run = Failure | 'green' | 'no end';

/** Tries mutants. `dispose` ends its process. */
export class Score {
  readonly #plain: Binaries;
  /** test files that are known to be green on kernels without a fault */
  readonly #sound = new Set<string>();
  #runner: ChildProcess | null = null;

  private constructor(plain: Binaries) {
    this.#plain = plain;
  }

  static async create(): Promise<Score> {
    mkdirSync(FOLDER, { recursive: true });
    return new Score(await buildAll(new Map()));
  }

  /** `thorough`, or with the quick tests only. Throws when the test that notices is red without the fault as well: then it says nothing. */
  async try(mutant: Mutant, thorough = true): Promise<Result> {
    const text = mutate(readFileSync(mutant.file, 'utf8'), mutant);
    let binaries: Binaries;
    try {
      binaries = await buildAll(new Map([[mutant.file, text]]));
    } catch (error) {
      return { mutant, fate: 'stillborn', by: String(error) };
    }
    if (KERNELS.every((name) => equal(binaries.get(name), this.#plain.get(name)))) {
      return { mutant, fate: 'same', by: '' };
    }
    const run = await this.#run(binaries, testsFor(mutant.file, thorough));
    if (run === 'green') return { mutant, fate: (await sameRelease(mutant.file, text)) ? 'same' : 'survived', by: '' };
    if (run === 'no end') return { mutant, fate: 'killed', by: 'it came to no end' };
    await this.#checkSound(run.file);
    return { mutant, fate: 'killed', by: `${run.file}: ${run.test}` };
  }

  dispose(): void {
    this.#stop();
    rmSync(FOLDER, { recursive: true, force: true });
  }

  #stop(): void {
    this.#runner?.kill('SIGKILL');
    this.#runner = null;
  }

  async #checkSound(test: string): Promise<void> {
    if (this.#sound.has(test)) return;
    const run = await this.#run(this.#plain, [test]);
    if (run !== 'green') throw new Error(`without a fault ${test} gives ${JSON.stringify(run)}`);
    this.#sound.add(test);
  }

  async #run(binaries: Binaries, tests: readonly string[]): Promise<Run> {
    for (const [name, bytes] of binaries) writeFileSync(join(FOLDER, `${name}.wasm`), bytes);
    this.#runner ??= await start();
    const answer = await ask(this.#runner, { tests });
    if (answer) return answer.failure ?? 'green';
    this.#stop();
    return 'no end';
  }
}

interface Answer {
  readonly failure: Failure | null;
}

/** Starts the process that runs tests, and waits until it is ready. */
async function start(): Promise<ChildProcess> {
  const outer = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'));
  const env = { ...Object.fromEntries(outer), EVTCHN_TEST_KERNELS: FOLDER };
  const runner = fork('test/mutation/runner.js', { env, execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  await answerOf(runner);
  return runner;
}

function ask(runner: ChildProcess, question: object): Promise<Answer | null> {
  const answer = answerOf(runner);
  runner.send(question);
  return answer;
}

/** The next answer, or null when there is no sign of life for too long or the process is gone. */
function answerOf(runner: ChildProcess): Promise<Answer | null> {
  return new Promise((resolve) => {
    const end = (answer: Answer | null): void => {
      clearTimeout(timer);
      runner.off('message', heard).off('exit', gone);
      resolve(answer);
    };
    const gone = (): void => end(null);
    const heard = (message: Answer | { readonly alive: true }): void => {
      timer.refresh();
      if (!('alive' in message)) end(message);
    };
    const timer = setTimeout(gone, WATCHDOG);
    runner.on('message', heard).on('exit', gone);
  });
}

async function buildAll(changed: ReadonlyMap<string, string>): Promise<Binaries> {
  const binaries = new Map<KernelName, Uint8Array>();
  for (const name of KERNELS) binaries.set(name, await compile(name, changed));
  return binaries;
}

/** Whether what is shipped is the same, byte by byte: what was built for the tests is optimised less. */
async function sameRelease(file: string, text: string): Promise<boolean> {
  for (const name of ['shared', 'unshared'] as const) {
    const [plain, changed] = [await compile(name, new Map(), 3), await compile(name, new Map([[file, text]]), 3)];
    if (!equal(plain, changed)) return false;
  }
  return true;
}

function equal(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a !== undefined && b !== undefined && Buffer.compare(a, b) === 0;
}
