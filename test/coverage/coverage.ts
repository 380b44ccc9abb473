// Which tests carry which requirement, and what contradicts itself.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { idsIn } from './ids.ts';
import type { Requirement } from './list.ts';
import { type TestName, testNames } from './names.ts';

/** id: reason */
export type Reasons = Readonly<Record<string, string>>;

export interface CoverageInput {
  readonly requirements: readonly Requirement[];
  readonly names: readonly TestName[];
  readonly notApplicable: Reasons;
  readonly later: Reasons;
  /** families of ids that have no list yet, and are not looked at */
  readonly withoutList: readonly string[];
}

export type State = 'tested' | 'not applicable' | 'later' | 'missing';

/** One requirement with what is known of it. */
export interface Row extends Requirement {
  readonly state: State;
  /** why it is not applicable or comes later; null when nobody said so */
  readonly reason: string | null;
  readonly tests: readonly TestName[];
}

export interface Coverage {
  readonly rows: readonly Row[];
  /** ids in test names that are in no list, as sentences */
  readonly unknown: readonly string[];
  /** declarations that tests, lists or each other contradict, as sentences */
  readonly contradictions: readonly string[];
  /** what is not wrong and should be tidied up */
  readonly notes: readonly string[];
}

/** Joins requirements, test names and declarations. */
export function coverageOf({ requirements, names, notApplicable, later, withoutList }: CoverageInput): Coverage {
  const known = new Set(requirements.map(({ id }) => id));
  const testsOf = new Map<string, TestName[]>(requirements.map(({ id }) => [id, []]));
  const unknown: string[] = [];
  for (const name of names) {
    const found = idsIn(name.text, known);
    for (const id of found.ids) testsOf.get(id)?.push(name);
    for (const id of found.unknown) {
      if (!withoutList.some((family) => id.startsWith(`${family}-`)))
        unknown.push(`${id} is in no list: ${shown(name)}`);
    }
  }
  const rows = requirements.map((requirement): Row => {
    const tests = testsOf.get(requirement.id) ?? [];
    const [state, reason] = declaration(requirement.id, notApplicable, later);
    return { ...requirement, state: tests.length > 0 ? 'tested' : state, reason, tests };
  });
  const carried = (id: string): boolean => (testsOf.get(id)?.length ?? 0) > 0;
  const contradictions = [
    ...[...Object.keys(notApplicable), ...Object.keys(later)]
      .filter((id) => !known.has(id))
      .map((id) => `${id} is declared and in no list`),
    ...Object.keys(notApplicable)
      .filter((id) => Object.hasOwn(later, id))
      .map((id) => `${id} is declared not applicable, and later as well`),
    ...Object.keys(notApplicable)
      .filter(carried)
      .map(
        (id) => `${id} is declared not applicable, and a test carries it: ${testsOf.get(id)?.map(shown).join('; ')}`,
      ),
  ];
  const notes = Object.keys(later)
    .filter(carried)
    .map((id) => `${id} is declared later, and a test carries it already: the declaration can go`);
  return { rows, unknown, contradictions, notes };
}

function declaration(id: string, notApplicable: Reasons, later: Reasons): [State, string | null] {
  if (Object.hasOwn(notApplicable, id)) return ['not applicable', notApplicable[id] ?? ''];
  if (Object.hasOwn(later, id)) return ['later', later[id] ?? ''];
  return ['missing', null];
}

/** Where a name stands and what it says. */
export function shown({ file, line, text }: TestName): string {
  return `${file}:${line}  ${text}`;
}

/** The names of all tests below `folder`, without those in the folder `except`. */
export function readTests(folder: string, except: string): TestName[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((file) => file.endsWith('.ts') && !file.startsWith(join(except, '/')))
    .sort()
    .flatMap((file) => testNames(file, readFileSync(file, 'utf8')));
}
