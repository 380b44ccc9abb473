// The main job: three parts, each printed as soon as it is done. A part that fails is a line that does not hold, and the
// next part still runs.

import { cpus } from 'node:os';
import { replayHypercalls } from './hypercalls.ts';
import { readRecording } from './recording.ts';
import { guestVm, type ReplayResult, replay } from './replay.ts';
import {
  type CostRow,
  conclusion,
  costLine,
  costTable,
  hypercallLines,
  type JobReport,
  type Line,
  mark,
  replayLines,
  replayTable,
  sameLine,
  workerLines,
  workersAbout,
  workerTable,
} from './report.ts';
import { count, type Paint, type Status } from './terminal.ts';
import { type HammerOptions, hammer, type WorkerRow } from './workers.ts';

export interface JobOptions {
  /** sends per row of the second part */
  readonly sends: number;
  readonly print: (line: string) => void;
  readonly status: Status;
  readonly paint: Paint;
  readonly measureCost: (onProgress?: (text: string) => void) => Promise<CostRow[]>;
  /** the worker files, when they are not beside this one */
  readonly files?: Pick<HammerOptions, 'sender' | 'receiver'>;
}

/** Runs the job and prints it. @returns what was found */
export async function runJob(options: JobOptions): Promise<JobReport> {
  const start = performance.now();
  const job = new Job(options);
  const machine = `Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? process.arch}`;
  options.print('');
  options.print(`${options.paint.bold('evtchn')}  ${options.paint.dim(machine)}`);
  const replay = await job.part("A real guest's events", () => job.replay(), null);
  const workers = await job.part('Two workers, one memory', () => job.workers(), []);
  const cost = await job.part('What it costs', () => job.cost(), []);
  const { lines } = job;
  const seconds = (performance.now() - start) / 1000;
  const ok = lines.every((line) => line.ok);
  const report = { ok, replay, workers, cost, lines, seconds, machine };
  options.print('');
  options.print(conclusion(report, options.paint));
  return report;
}

class Job {
  readonly lines: Line[] = [];
  readonly #options: JobOptions;
  #parts = 0;

  constructor(options: JobOptions) {
    this.#options = options;
  }

  async part<T>(title: string, run: () => T | Promise<T>, nothing: T): Promise<T> {
    const { print, paint } = this.#options;
    print('');
    print(`${paint.dim(String(++this.#parts))}  ${paint.bold(title)}`);
    try {
      return await run();
    } catch (error) {
      this.#show([], [{ ok: false, text: error instanceof Error ? error.message : String(error) }]);
      return nothing;
    }
  }

  replay(): ReplayResult {
    const { status, paint } = this.#options;
    const recording = readRecording();
    this.#say(`Debian's ${recording.guest}, recorded as a Xen guest:`);
    this.#say(`32-bit layout, one vCPU, ${count(recording.records.length)} records of a boot and of work on a disk.`);
    const [unshared, shared] = [false, true].map((kind) => {
      status.show(`replay: ${kind ? 'shared' : 'unshared'} memory`);
      const vm = guestVm(recording, kind);
      const result = replay(recording, vm);
      vm.close();
      return result;
    }) as [ReplayResult, ReplayResult];
    status.show('replay: hypercalls');
    const hypercalls = hypercallLines(replayHypercalls(recording, false));
    this.#show(replayTable(unshared, paint), [...replayLines(unshared), sameLine(unshared, shared), ...hypercalls]);
    return unshared;
  }

  async workers(): Promise<WorkerRow[]> {
    const { sends, status, paint, files } = this.#options;
    for (const text of workersAbout(sends)) this.#say(text);
    const rows: WorkerRow[] = [];
    for (const mode of ['sleeping', 'spinning'] as const)
      rows.push(await hammer(mode, { ...files, sends, onProgress: status.show }));
    this.#show(workerTable(rows, paint), workerLines(rows));
    return rows;
  }

  async cost(): Promise<CostRow[]> {
    const { status, paint, measureCost } = this.#options;
    this.#say('Nanoseconds per event; the ratio is to Atomics written by hand in TypeScript.');
    const rows = await measureCost(status.show);
    this.#show(costTable(rows, paint), [costLine(rows)]);
    return rows;
  }

  #say(text: string): void {
    this.#options.print(`   ${this.#options.paint.dim(text)}`);
  }

  #show(rows: readonly string[], lines: readonly Line[]): void {
    const { status, print, paint } = this.#options;
    status.clear();
    print('');
    for (const row of rows) print(`   ${row}`);
    if (rows.length > 0) print('');
    for (const line of lines) print(`   ${mark(line, paint)}`);
    this.lines.push(...lines);
  }
}
