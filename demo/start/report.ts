// What the job found: tables for a person, lines that hold or do not, and the shape of the JSON file.

import type { HypercallReplay } from './hypercalls.ts';
import { PORTS } from './ledger.ts';
import { type PortCounts, RECORDED, type ReplayResult } from './replay.ts';
import { type Column, count, decimal, type Paint, table } from './terminal.ts';
import type { WorkerRow } from './workers.ts';

/** What one way of sending costs; the ratio is to hand-written Atomics. */
export interface CostRow {
  readonly name: string;
  readonly ns: number;
  readonly ratio: number;
}

/** A statement that must hold. */
export interface Line {
  readonly ok: boolean;
  readonly text: string;
}

/** What `--json` writes. A part that could not run is null or empty, and a line says why. */
export interface JobReport {
  readonly ok: boolean;
  readonly replay: ReplayResult | null;
  readonly workers: readonly WorkerRow[];
  readonly cost: readonly CostRow[];
  readonly lines: readonly Line[];
  readonly seconds: number;
  /** what it ran on */
  readonly machine: string;
}

/** A check mark or a cross, then what must hold. */
export function mark(line: Line, paint: Paint): string {
  return `${line.ok ? paint.good('✓') : paint.bad('✗')} ${line.ok ? line.text : paint.bad(line.text)}`;
}

/** The last line of all. */
export function conclusion({ ok, lines, seconds }: JobReport, paint: Paint): string {
  const failed = lines.filter((line) => !line.ok).length;
  const text = ok
    ? `All ${lines.length} lines hold.`
    : `${failed} of ${lines.length} lines ${failed === 1 ? 'does' : 'do'} not hold.`;
  return `${mark({ ok, text }, paint)} ${paint.dim(`${decimal(seconds, 1)} s`)}`;
}

// ── a real guest's events ──────────────────────────────────────────────────────────────────────────────────────────

const PORT_COLUMNS: readonly Column[] = [
  { title: 'port', numeric: true },
  { title: 'kind' },
  { title: 'name' },
  { title: 'raises', numeric: true },
  { title: 'coalesced', numeric: true },
  { title: 'drained', numeric: true },
];

export function replayTable(result: ReplayResult, paint: Paint): string[] {
  const rows = result.ports
    .filter((port) => port.kind !== 'reserved')
    .map((port) => [
      String(port.port),
      port.kind,
      port.name || '-',
      count(port.raises),
      count(port.coalesced),
      count(port.drained),
    ]);
  const drained = result.ports.reduce((sum, port) => sum + port.drained, 0);
  rows.push([], ['', '', 'all', count(result.raises), count(result.coalesced), count(drained)]);
  return table(PORT_COLUMNS, rows, paint);
}

/** What must hold of a replay of the whole recording. */
export function replayLines(result: ReplayResult): Line[] {
  const { raises, coalesced, upcalls, causes, missed, invented, differences, left } = result;
  const early = result.ports.filter((port) => port.early > 0);
  const held = early.map(({ name, port }) => `, ${causes.unmask} for unmasking ${name || `port ${port}`}`);
  const text = {
    raises: `${count(raises)} raises, ${count(coalesced)} of them coalesced`,
    upcalls: `${count(upcalls)} upcalls: ${count(causes.raise)} for raises, ${causes.registration} for registering vcpu_info`,
  };
  const lines = [
    {
      ok: raises === RECORDED.raises && coalesced === RECORDED.coalesced,
      text: `${text.raises}${recorded([RECORDED.raises, RECORDED.coalesced], [raises, coalesced])}`,
    },
    {
      ok: upcalls === RECORDED.upcalls && causes.registration === 1 && causes.unmask === early.length,
      text: `${text.upcalls}${held.join('')}${recorded([RECORDED.upcalls], [upcalls])}`,
    },
    {
      ok: missed === 0 && invented === 0,
      text: `${missed} missed, ${invented} invented, looked at after each of ${count(result.records)} records`,
    },
    {
      ok: differences === 0 && result.ports.every(adds),
      text: `every port drained what it was sent: ${count(differences)} answers differ from a sequential model's`,
    },
    { ok: left === 0, text: `${left} left at the end` },
  ];
  if (result.fault !== null) lines.push({ ok: false, text: `the first fault: ${result.fault}` });
  return lines;
}

/** What the recording has, where it is something else. */
function recorded(expected: readonly number[], found: readonly number[]): string {
  return expected.join() === found.join() ? '' : `; recorded are ${expected.map(count).join(' and ')}`;
}

function adds({ raises, coalesced, early, drained }: PortCounts): boolean {
  return drained === raises - coalesced + early;
}

/** What must hold of the same recording, played to a Xen domain by its hypercalls. */
export function hypercallLines(result: HypercallReplay): Line[] {
  const { hypercalls, same, better, different, timers, timersRecorded, sends, sendsRecorded, fault } = result;
  const answered = different === 0 ? 'as recorded' : `as recorded, ${count(different)} in another way`;
  const lines = [
    {
      ok: different === 0 && same + better === hypercalls && result.left === 0,
      text: `as a Xen domain: ${count(same)} hypercalls answered ${answered}, byte by byte; ${better} better, each on a list`,
    },
    {
      ok: timers === timersRecorded && sends === sendsRecorded && result.missed === 0 && result.invented === 0,
      text:
        `its own timers expire ${count(timers)} times and its ${count(sends)} sends arrive` +
        `${recorded([timersRecorded, sendsRecorded], [timers, sends])}; upcalls ${result.missed} missed, ${result.invented} invented`,
    },
  ];
  if (fault !== null) lines.push({ ok: false, text: `the first fault: ${fault}` });
  return lines;
}

/** The same recording in another kind of memory. */
export function sameLine(result: ReplayResult, shared: ReplayResult): Line {
  const ok = JSON.stringify(result) === JSON.stringify(shared);
  return { ok, text: `shared memory gives ${ok ? 'the same numbers, port by port' : 'other numbers'}` };
}

// ── two workers, one memory ────────────────────────────────────────────────────────────────────────────────────────

const WORKER_COLUMNS: readonly Column[] = [
  { title: 'receiver' },
  { title: 'sends', numeric: true },
  { title: 'delivered', numeric: true },
  { title: 'coalesced', numeric: true },
  { title: 'upcalls', numeric: true },
  { title: 'wakes', numeric: true },
  { title: 'events/s', numeric: true },
];

export function workerTable(rows: readonly WorkerRow[], paint: Paint): string[] {
  const cells = rows.map((row) => [
    row.mode,
    ...[row.sends, row.delivered, row.coalesced, row.upcalls, row.wakes, row.eventsPerSecond].map(count),
  ]);
  return table(WORKER_COLUMNS, cells, paint);
}

/** A sleep of the engine looks again after a second, so this is what a lost wake-up would cost. */
const LOST_WAKE_MS = 900;

/** What must hold of the workers. */
export function workerLines(rows: readonly WorkerRow[]): Line[] {
  const lines = rows.map((row) => ({
    ok: row.failure === null && row.lost === 0 && row.invented === 0 && balanced(row),
    text: `receiver ${row.mode}: ${row.failure ?? ledgerText(row)}`,
  }));
  const slowest = Math.max(0, ...rows.map((row) => row.slowestMs));
  const handOvers = rows.reduce((sum, row) => sum + row.handOvers, 0);
  const ok = slowest < LOST_WAKE_MS;
  lines.push({
    ok,
    text:
      `${ok ? 'no wake-up lost' : 'a wake-up was lost, or the machine stood still'}: the slowest of ${count(handOvers)} ` +
      `hand-overs took ${decimal(slowest, 1)} ms, a lost one takes 1 s`,
  });
  return lines;
}

function ledgerText(row: WorkerRow): string {
  const { lost, invented, refused, drained } = row;
  const text = `lost ${count(lost)}, invented ${count(invented)}`;
  return balanced(row)
    ? text
    : `${text}; the books do not balance: ${count(drained)} drained, ${count(refused)} refused`;
}

/** Every send was answered, and every event that was delivered was drained once. */
function balanced({ sends, delivered, coalesced, drained }: WorkerRow): boolean {
  return delivered + coalesced === sends && drained === delivered;
}

export function workersAbout(sends: number): string[] {
  return [
    `${count(sends)} sends a row over ${count(PORTS)} ports, from one worker to another; by turns single,`,
    'in brackets and in batches. A ledger follows every port.',
  ];
}

// ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────

const COST_COLUMNS: readonly Column[] = [
  { title: '' },
  { title: 'ns', numeric: true },
  { title: 'ratio', numeric: true },
];

export function costTable(rows: readonly CostRow[], paint: Paint): string[] {
  return table(
    COST_COLUMNS,
    rows.map(({ name, ns, ratio }) => [name, decimal(ns, 2), decimal(ratio, 2)]),
    paint,
  );
}

/** Speed is for information: what must hold is that it was measured. */
export function costLine(rows: readonly CostRow[]): Line {
  const bad = rows.filter(({ ns, ratio }) => !isMeasure(ns) || !isMeasure(ratio));
  if (rows.length === 0) return { ok: false, text: 'nothing was measured' };
  if (bad.length === 0) return { ok: true, text: `${rows.length} ways of sending measured in the same run` };
  return { ok: false, text: `not measured: ${bad.map(({ name }) => name).join(', ')}` };
}

function isMeasure(value: number): boolean {
  return Number.isFinite(value) && value > 0;
}
