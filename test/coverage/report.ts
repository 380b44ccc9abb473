// The coverage as text for `npm run spec`.

import { type Coverage, type Row, type State, shown } from './coverage.ts';
import { MEASURED, PROMISES } from './promises.ts';

export interface ReportOptions {
  /** only what is missing */
  readonly missing: boolean;
}

/** What `npm run spec` prints, ending with the counts. */
export function report({ rows, unknown, contradictions, notes }: Coverage, { missing }: ReportOptions): string {
  const lines: string[] = [];
  const chosen = missing ? rows.filter(({ state }) => state === 'missing') : rows;
  let heading = '';
  for (const row of chosen) {
    const next = `${row.document}: ${row.group}`;
    if (next !== heading) lines.push('', next, '');
    heading = next;
    lines.push(`  ${row.id.padEnd(9)}  ${row.summary}`);
    if (!missing) lines.push(...evidence(row).map((line) => `             ${line}`));
  }
  for (const [title, sentences] of [
    ['Unknown ids', unknown],
    ['Contradictions', contradictions],
    ['Notes', notes],
  ] as const) {
    if (sentences.length > 0) lines.push('', title, '', ...sentences.map((sentence) => `  ${sentence}`));
  }
  lines.push('', counts(rows, unknown.length, contradictions.length));
  return `${lines.join('\n').trimStart()}\n`;
}

/** The promises, with how many tests are named after each. */
export function promisesReport(tests: ReadonlyMap<string, number>): string {
  const line = ([id, promise]: [string, string]): string => {
    const count = tests.get(id) ?? 0;
    return `  ${id.padEnd(4)} ${promise}: ${MEASURED.includes(id) ? 'measured by the benchmarks' : `${count} tests`}`;
  };
  return `\nThe promises\n\n${Object.entries(PROMISES).map(line).join('\n')}\n\n`;
}

/** Whether anything is missing or wrong. */
export function failed({ rows, unknown, contradictions }: Coverage): boolean {
  return unknown.length > 0 || contradictions.length > 0 || rows.some(({ state }) => state === 'missing');
}

function evidence({ state, reason, tests }: Row): string[] {
  if (state === 'tested') return tests.map(shown);
  return [state === 'missing' ? 'MISSING' : `${state}: ${reason}`];
}

function counts(rows: readonly Row[], unknown: number, contradictions: number): string {
  const count = (state: State): number => rows.filter((row) => row.state === state).length;
  return (
    `${rows.length} ids: ${count('tested')} tested, ${count('not applicable')} not applicable, ${count('later')} later, ` +
    `${count('missing')} missing; ${unknown} unknown, ${contradictions} contradictions`
  );
}
