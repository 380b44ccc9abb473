// What a bench says: rows of figures, and goals.

import { type Figures, median } from './rounds.ts';

/** One figure. `ratio` is to the row named `base` of the same path and workload. */
export interface Row {
  readonly path: string;
  readonly workload: string;
  readonly name: string;
  readonly ns: number;
  readonly ratio: number | null;
  readonly base: string;
}

/** A figure that was promised. `value` is null when it could not be measured here; the note says why. */
export interface Goal {
  readonly name: string;
  readonly value: number | null;
  readonly goal: number;
  readonly met: boolean;
  readonly note: string;
}

/** What one process has measured. */
export interface Report {
  readonly rows: readonly Row[];
  readonly claims: readonly Claim[];
}

/** What all processes of a path have measured. */
export interface Summary {
  readonly rows: readonly Row[];
  readonly goals: readonly Goal[];
}

/** What a process that measures is told. */
export interface Setting {
  /** Less effort and no native peers: for a figure on the way, not for the record. */
  readonly quick: boolean;
  /** Whether the native addon was built. */
  readonly native: boolean;
  /** The kind of memory, for a path that is measured in both. */
  readonly shared: boolean;
}

/** All figures as rows, beside the first of `bases` that was measured. */
export function rowsOf(path: string, workload: string, figures: Figures, ...bases: string[]): Row[] {
  const base = bases.find((name) => figures.has(name)) ?? figures.names[0] ?? '';
  return figures.names.map((name) => ({
    path,
    workload,
    name,
    ns: figures.ns(name),
    ratio: figures.ratio(name, base),
    base,
  }));
}

const NOT_BUILT = 'not measured: the native peer could not be built here (no C compiler or no Node headers)';

/** What a process says about a goal: a note is judged and written when all processes have reported. */
export interface Claim {
  readonly name: string;
  /** null when it needs a native peer that there is none of */
  readonly value: number | null;
  readonly goal: number;
  /** Why it may be missed, with a {} for each of `figures`. */
  readonly why: string;
  readonly figures: readonly (number | null)[];
}

function judge({ name, value, goal, why, figures }: Claim): Goal {
  if (value === null) return { name, value, goal, met: false, note: NOT_BUILT };
  let next = 0;
  const met = value <= goal;
  return { name, value, goal, met, note: met ? '' : why.replaceAll('{}', () => digits(figures[next++] ?? null)) };
}

/** The median over processes that measured the same. */
export function mergeReports(reports: readonly Report[]): Summary {
  const [first] = reports;
  if (!first) throw new Error('no process has reported');
  const middle = (of: (report: Report) => number | null | undefined): number | null => {
    const values = reports.map(of).filter((value) => value !== null && value !== undefined);
    return values.length ? median(values) : null;
  };
  const rows = first.rows.map((row, i) => ({
    ...row,
    ns: middle((report) => report.rows[i]?.ns) ?? row.ns,
    ratio: middle((report) => report.rows[i]?.ratio),
  }));
  const goals = first.claims.map((claim, i) =>
    judge({
      ...claim,
      value: middle((report) => report.claims[i]?.value),
      figures: claim.figures.map((_, k) => middle((report) => report.claims[i]?.figures[k])),
    }),
  );
  return { rows, goals };
}

/** A ratio or a time with as many digits as mean something. */
export function digits(value: number | null): string {
  if (value === null) return '-';
  if (Number.isInteger(value)) return String(value);
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(value < 0.1 ? 4 : value < 1 ? 3 : 2);
}
