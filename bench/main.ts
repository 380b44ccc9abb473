// npm run bench [-- --json FILE | --against FOLDER]: what the engine costs on this machine, beside what else one could use.

import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { compareWith } from './against.ts';
import type { Path } from './family.ts';
import { buildNative } from './native.ts';
import { measurePath } from './processes.ts';
import { digits, type Goal, type Row, type Setting } from './report.ts';

/** Every path, the kind of memory, and in how many processes it is measured. */
const PLAN: readonly { readonly path: Path; readonly shared: boolean; readonly processes: number }[] = [
  { path: 'send', shared: true, processes: 3 },
  { path: 'single_agent', shared: false, processes: 3 },
  { path: 'batch', shared: true, processes: 3 },
  { path: 'drain', shared: true, processes: 3 },
  { path: 'fifo', shared: true, processes: 3 },
  { path: 'fifo', shared: false, processes: 3 },
  { path: 'edge', shared: true, processes: 3 },
  { path: 'two_cores', shared: true, processes: 3 },
  { path: 'growth', shared: true, processes: 3 },
  { path: 'runstate', shared: true, processes: 3 },
  { path: 'runstate', shared: false, processes: 3 },
];

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly platform: string;
  readonly node: string;
  readonly v8: string;
  /** 'built', or why there are no native peers */
  readonly native: string;
}

function describeMachine(missing: string | null): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    v8: process.versions.v8,
    native: missing ?? 'built',
  };
}

function printMachine(machine: Machine): void {
  const { cpu, cores, platform, node, v8, native } = machine;
  console.log(`${cpu}, ${cores} cores, ${platform}, Node ${node} (V8 ${v8})`);
  if (native !== 'built') console.log(`native C: left out, ${native}`);
  console.log('Ratios are medians over rounds and processes; they say more than nanoseconds do.');
}

function printRows(rows: readonly Row[]): void {
  let heading = '';
  for (const row of rows) {
    const next = `${row.path}: ${row.workload}`;
    if (next !== heading) console.log(`\n${next}${' '.repeat(Math.max(1, 58 - next.length))}ns/event   to ${row.base}`);
    heading = next;
    console.log(`  ${row.name.padEnd(54)}${digits(row.ns).padStart(10)}${digits(row.ratio).padStart(9)}`);
  }
}

function printGoals(goals: readonly Goal[]): void {
  console.log(`\n${'goals'.padEnd(58)}measured     goal`);
  for (const { name, value, goal, met, note } of goals) {
    const verdict = value === null ? '-' : met ? 'met' : 'MISSED';
    console.log(`  ${name.padEnd(54)}${digits(value).padStart(10)} <= ${String(goal).padEnd(6)} ${verdict}`);
    if (note) console.log(`      ${note}`);
  }
  const met = goals.filter((goal) => goal.met).length;
  console.log(`\n${met} of ${goals.length} goals met`);
}

/** What stands behind an option; null when it is not given. */
function argument(option: string): string | null {
  const at = process.argv.indexOf(option);
  const value = at < 0 ? null : process.argv[at + 1];
  if (value === undefined) throw new Error(`${option} needs a name behind it`);
  return value;
}

/** Pairs of processes of a comparison; an odd number has a middle. */
const PAIRS = 7;

async function main(): Promise<void> {
  const file = argument('--json');
  const folder = argument('--against');
  if (folder) return compareWith(folder, PAIRS);
  const missing = buildNative();
  const machine = describeMachine(missing);
  printMachine(machine);
  const rows: Row[] = [];
  const goals: Goal[] = [];
  for (const { path, shared, processes } of PLAN) {
    const setting: Setting = { quick: false, native: missing === null, shared };
    const report = await measurePath(path, setting, processes);
    printRows(report.rows);
    rows.push(...report.rows);
    goals.push(...report.goals);
  }
  printGoals(goals);
  if (file) writeFileSync(file, `${JSON.stringify({ goals, rows, machine }, null, 2)}\n`);
}

await main();
