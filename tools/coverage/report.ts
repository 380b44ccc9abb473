// What the counters say: each side of each branch, in each layout, and sums by file and function.

import type { Branch } from './branches.ts';
import { type Counts, countIndex } from './counts.ts';

/** One way that a branch can go. */
export interface Side {
  readonly branch: Branch;
  readonly layout: 'long' | 'compat' | null;
  readonly outcome: boolean;
  readonly count: number;
}

const WORD_BYTES = { long: 8, compat: 4 } as const;

/** All sides of all branches; a branch of a generic has two for each layout. */
export function sidesOf(branches: readonly Branch[], counts: Counts): Side[] {
  return branches.flatMap((branch, number) =>
    (branch.layouts ? (['long', 'compat'] as const) : [null]).flatMap((layout) =>
      [true, false].map((outcome) => {
        const at = countIndex(number, layout ? WORD_BYTES[layout] : 0, outcome);
        return { branch, layout, outcome, count: counts[at] ?? 0 };
      }),
    ),
  );
}

/** A side as one finds it: `assembly/send.ts:50 Event.raise, long, never false: …`. */
export function describeSide({ branch, layout, outcome }: Side): string {
  const where = `${branch.file}:${branch.line} ${branch.function}${layout ? `, ${layout}` : ''}`;
  return `${where}, never ${outcome}: ${branch.condition}`;
}

/** `covered/total` of some sides. */
export function ratio(sides: readonly Side[]): string {
  return `${sides.filter((side) => side.count > 0).length}/${sides.length}`;
}

/** The whole report: each file with its functions, then what was not covered. */
export function report(sides: readonly Side[]): string {
  const lines: string[] = [];
  for (const [file, ofFile] of grouped(sides, (side) => side.branch.file)) {
    lines.push(`${ratio(ofFile).padStart(9)}  ${file}`);
    for (const [name, ofFunction] of grouped(ofFile, (side) => side.branch.function)) {
      lines.push(`${ratio(ofFunction).padStart(9)}    ${name}`);
    }
  }
  const missing = sides.filter((side) => side.count === 0).map(describeSide);
  return [...lines, `${ratio(sides).padStart(9)}  in all`, '', ...missing, ''].join('\n');
}

function grouped(sides: readonly Side[], key: (side: Side) => string): Map<string, Side[]> {
  const groups = new Map<string, Side[]>();
  for (const side of sides) groups.set(key(side), [...(groups.get(key(side)) ?? []), side]);
  return groups;
}
