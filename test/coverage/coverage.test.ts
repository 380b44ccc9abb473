// Every requirement has a test, or a reason why not; and the scanner that says so reads what test files write.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: sources with templates are data here

import { describe, expect, test } from 'vitest';
import { type CoverageInput, coverageOf, type Reasons } from './coverage.ts';
import { idsIn } from './ids.ts';
import { LATER } from './later.ts';
import { requirementsOf, type SpecList } from './list.ts';
import { FAMILIES_WITHOUT_LIST, LISTS } from './lists.ts';
import { testNames } from './names.ts';
import { NOT_APPLICABLE } from './not_applicable.ts';
import { projectCoverage } from './project.ts';
import { failed, report } from './report.ts';

const REQUIREMENTS = requirementsOf(LISTS);
const IDS = REQUIREMENTS.map(({ id }) => id);

describe('the requirements of this project', () => {
  const { rows, unknown, contradictions } = projectCoverage();

  test('none is missing: a test carries it, or a table says why none does', () => {
    expect(rows.filter(({ state }) => state === 'missing').map(({ id, summary }) => `${id} ${summary}`)).toEqual([]);
  });

  test('no test name carries an id that is in no list', () => {
    expect(unknown).toEqual([]);
  });

  test('what is declared is in a list, is declared once, and no test carries what cannot apply', () => {
    expect(contradictions).toEqual([]);
  });
});

describe('the lists', () => {
  test('have each id once, in the form that the scanner reads', () => {
    expect(new Set(IDS).size).toBe(IDS.length);
    for (const id of IDS) expect(idsIn(id, new Set(IDS))).toEqual({ ids: [id], unknown: [] });
  });

  test('are complete: as many ids of each family as the documents define', () => {
    const families: Record<string, number> = {};
    for (const id of IDS) {
      const family = id.slice(0, id.lastIndexOf('-'));
      families[family] = (families[family] ?? 0) + 1;
    }
    expect(families).toEqual({
      'KX-GEN': 8,
      'KX-ABI': 30,
      'KX-CAP': 19,
      'KX-VMA': 16,
      'KX-EVA': 18,
      'KX-VCA': 13,
      'KX-EVT': 38,
      'KX-GPC': 30,
      'KX-GPH': 11,
      'KX-RUN': 25,
      'KX-CLK': 8,
      'KX-TMR': 10,
      'KX-HCL': 33,
      'KX-RTE': 12,
      'KX-MEM': 26,
      'KX-UNC': 8,
      S: 35,
      V: 5,
      X: 26,
      KF: 90,
      'XE-MOD': 26,
      'XE-OP': 45,
      'XE-2L': 13,
      'XE-CB': 11,
      'XE-FF': 37,
      'XE-GC': 17,
      'XE-BP': 22,
      'XE-QE': 24,
      'XE-KV': 8,
      'XE-BT': 15,
      'XE-XS': 11,
      'XE-GT': 5,
      'XE-RG': 7,
      'XE-TC': 24,
      'XE-UN': 8,
    });
  });

  test('say of each id in one short line what it asks for', () => {
    for (const { id, summary } of REQUIREMENTS) expect(summary, id).toMatch(/^.{10,100}$/);
  });

  test('a family without a list is in none of them', () => {
    for (const family of FAMILIES_WITHOUT_LIST) expect(IDS.filter((id) => id.startsWith(`${family}-`))).toEqual([]);
  });

  test.each([
    ['not applicable', NOT_APPLICABLE],
    ['later', LATER],
  ])('every reason for %s is a sentence of one line', (_what, reasons) => {
    for (const [id, reason] of Object.entries(reasons)) expect(reason, id).toMatch(/^[A-Z].{15,140}\.$/);
  });
});

describe('ids in a name', () => {
  const known = new Set([
    'KX-EVT-10',
    'KX-EVT-11',
    'KX-EVT-13',
    'KX-EVT-20',
    'KX-EVT-21',
    'KF-87',
    'KF-88',
    'S-11',
    'S-13',
  ]);
  const found = (name: string): readonly string[] => idsIn(name, known).ids;
  const strange = (name: string): readonly string[] => idsIn(name, known).unknown;

  test.each([
    ['alone, at any place', 'KX-EVT-13 a pending port (KF-87)', ['KX-EVT-13', 'KF-87']],
    ['several', 'S-11 KX-EVT-13 KX-EVT-21 ports', ['S-11', 'KX-EVT-13', 'KX-EVT-21']],
    ['a list', 'KF-87, 88 waits', ['KF-87', 'KF-88']],
    ['a list of whole ids', 'KF-87, KX-EVT-10: waits', ['KF-87', 'KX-EVT-10']],
    ['a list that ends in whole ids', 'KX-EVT-10, 11, KF-88', ['KX-EVT-10', 'KX-EVT-11', 'KF-88']],
    [
      'a range, without numbers nobody defined',
      'KX-EVT-10..20 send',
      ['KX-EVT-10', 'KX-EVT-11', 'KX-EVT-13', 'KX-EVT-20'],
    ],
    ['a range with the family twice', 'KX-EVT-11..KX-EVT-20', ['KX-EVT-11', 'KX-EVT-13', 'KX-EVT-20']],
    ['a list with a range', 'KX-EVT-10, 13..21', ['KX-EVT-10', 'KX-EVT-13', 'KX-EVT-20', 'KX-EVT-21']],
    ['a range, then a list', 'S-11..13, KF-87', ['S-11', 'S-13', 'KF-87']],
    ['at the end of a sentence', 'as in KX-EVT-13.', ['KX-EVT-13']],
    ['twice is once', 'KF-87 KF-87, 87', ['KF-87']],
    ['in brackets', '[KX-EVT-20, 21]', ['KX-EVT-20', 'KX-EVT-21']],
  ])('%s', (_what, name, ids) => {
    expect(found(name)).toEqual(ids);
    expect(strange(name)).toEqual([]);
  });

  test.each([
    'KX-EVT-13, 4096 ports',
    'KX-EVT-13, 10^7 sends',
    'KX-EVT-13, 64-bit',
    'KX-EVT-13, 20.5 ns',
    'KX-EVT-13 20 ports',
    'KX-EVT-13, -107',
    'KX-EVT-13 MAX-10 AXS-11 S-box',
  ])('a number or word that is none: %s', (name) => {
    expect(found(name)).toEqual(['KX-EVT-13']);
    expect(strange(name)).toEqual([]);
  });

  test.each([
    ['a number nobody defined', 'KX-EVT-12 send', ['KX-EVT-12']],
    ['in a list', 'KF-87, 89', ['KF-89']],
    ['the end of a range', 'KX-EVT-20..22', ['KX-EVT-22']],
    ['a range that runs backwards', 'KX-EVT-21..10', ['KX-EVT-21..10']],
    ['a range over two families', 'KF-10..S-11', ['KF-10', 'KF-10..S-11', 'KF-11']],
    ['a family nobody defined', 'KX-EVR-13', ['KX-EVR-13']],
    ['too few digits', 'KF-9', ['KF-9']],
    ['too many', 'KF-870', ['KF-870']],
    ['a letter behind', 'KX-EVT-13a', ['KX-EVT-13a']],
  ])('an unknown one is told: %s', (_what, name, ids) => {
    expect(strange(name)).toEqual(ids);
  });
});

describe('names in a test file', () => {
  const names = (source: string): string[] => testNames('a.test.ts', source).map(({ text }) => text);

  test('titles of test, it and describe, with their lines', () => {
    const source = `describe('one', () => {\n  test("two", () => {});\n  it.concurrent('three', async () => {});\n});`;
    expect(testNames('a.test.ts', source)).toEqual([
      { file: 'a.test.ts', line: 1, text: 'one' },
      { file: 'a.test.ts', line: 2, text: 'two' },
      { file: 'a.test.ts', line: 3, text: 'three' },
    ]);
  });

  test('titles over several lines, of each, for, skipIf and a type argument', () => {
    const source = `
      test.each([1, 2])(
        'one',
        () => {});
      describe.each<Row>(rows)('two %i', () => { test.for(rows)('three', () => {}); });
      test.skipIf(!chromium)('four', () => {});`;
    expect(names(source)).toEqual(['one', 'two %i', 'three', 'four']);
  });

  test('templates and sums: what is written out stays, the rest is shown as its source', () => {
    expect(names('test(`KF-87 ${kind} of ${a.b}, 3`, f); test("KF-88 a " + "b", f); test(make("KF-89"), f);')).toEqual([
      'KF-87 ${kind} of ${a.b}, 3',
      'KF-88 a b',
      'make("KF-89")',
    ]);
  });

  test('neither comments nor other strings nor calls that look alike', () => {
    const source = `
      // test('KF-01 a comment', f);
      const text = "test('KF-02 a string', f)";
      /KF-03/.test('KF-03'); other.describe('KF-04'); expect(x, 'KF-05').toBe('KF-06'); run({ test: 'KF-07' });`;
    expect(names(source)).toEqual([]);
  });

  test('nothing that does not run, or is expected to fail', () => {
    const source = `
      test.skip('a', f); test.todo('b'); test.fails('c', f); test.skip.each(rows)('d', f); it.concurrent.skip('e', f);
      describe.skip('f', () => { test('g', f); });
      describe('h', () => { describe('i', () => { test.skip('j', f); }); });
      describe('k', () => { test.skip('l', f); test('m', f); });
      describe('n', () => { sharedTests(); });
      describe('o', () => { describe('p', () => { test('q', f); }); test.skip('r', f); });`;
    expect(names(source)).toEqual(['k', 'm', 'n', 'o', 'p', 'q']);
  });

  test('the property name of a table, in any file', () => {
    const source =
      "export const SCENARIOS: Scenario[] = [{ name: 'one', a: 'no' }, { 'name': `two ${x}` } as const, { name }];";
    expect(names(source)).toEqual(['one', 'two ${x}']);
  });

  test('a property that a title shows', () => {
    const table = "const rows = [{ id: 'KF-87', what: 'waits', other: 'no' }];";
    expect(names(`${table} test.each(rows)('$id $what', f);`)).toEqual(['KF-87', 'waits', '$id $what']);
    expect(names(`${table} for (const row of rows) test(\`\${row.id}\`, f);`)).toEqual(['KF-87', '${row.id}']);
    expect(names(`${table} for (const { what } of rows) test(what, f);`)).toEqual(['waits', 'what']);
    expect(names(`${table} test('x', f);`)).toEqual(['x']);
  });

  test('a row that begins with an id, when a title shows rows', () => {
    const table =
      "const rows = [['KF-87', 'waits', 1], ['none', 'KF-88']]; const more = x.map((y) => ['KF-89', `z ${y}`, y]);";
    expect(names(`${table} test.each(rows)('%s %s', f);`)).toEqual(['KF-87 waits', 'KF-89 z ${y}', '%s %s']);
    expect(names(`${table} for (const [id] of rows) test(id, f);`)).toEqual(['KF-87 waits', 'KF-89 z ${y}', 'id']);
    expect(names(`${table} test.each(rows)('%i', f);`)).toEqual(['%i']);
  });

  test('a file that is not TypeScript is an error with its name', () => {
    expect(() => names("test('one'")).toThrow(/^a\.test\.ts: /);
  });
});

describe('the verdict', () => {
  const LIST: SpecList = {
    document: 'sample',
    groups: { first: { 'KF-01': 'one', 'KF-02': 'two' }, second: { 'KF-03': 'three' } },
  };

  const verdict = (
    texts: string[],
    notApplicable: Reasons = {},
    later: Reasons = {},
  ): ReturnType<typeof coverageOf> => {
    const input: CoverageInput = {
      requirements: requirementsOf([LIST]),
      names: texts.map((text, i) => ({ file: 'a.test.ts', line: i + 1, text })),
      notApplicable,
      later,
      withoutList: ['XE'],
    };
    return coverageOf(input);
  };
  const states = (coverage: ReturnType<typeof coverageOf>): string[] => coverage.rows.map(({ state }) => state);

  test('tested, not applicable, later: nothing fails', () => {
    const coverage = verdict(['KF-01 a', 'XE-2L-20 b'], { 'KF-02': 'No.' }, { 'KF-03': 'Soon.' });
    expect(states(coverage)).toEqual(['tested', 'not applicable', 'later']);
    expect(failed(coverage)).toBe(false);
    expect(report(coverage, { missing: false })).toBe(
      [
        'sample: first',
        '',
        '  KF-01      one',
        '             a.test.ts:1  KF-01 a',
        '  KF-02      two',
        '             not applicable: No.',
        '',
        'sample: second',
        '',
        '  KF-03      three',
        '             later: Soon.',
        '',
        '3 ids: 1 tested, 1 not applicable, 1 later, 0 missing; 0 unknown, 0 contradictions',
        '',
      ].join('\n'),
    );
  });

  test('one that is missing fails, and is all that --missing prints', () => {
    const coverage = verdict(['KF-01..02 a']);
    expect(states(coverage)).toEqual(['tested', 'tested', 'missing']);
    expect(failed(coverage)).toBe(true);
    expect(report(coverage, { missing: false })).toContain('  KF-03      three\n             MISSING\n');
    expect(report(coverage, { missing: true })).toBe(
      'sample: second\n\n  KF-03      three\n\n' +
        '3 ids: 2 tested, 0 not applicable, 0 later, 1 missing; 0 unknown, 0 contradictions\n',
    );
  });

  test('an id in no list fails, but for families whose list is to come', () => {
    const coverage = verdict(['KF-01, 02, 03 a', 'KF-04 b', 'XE-2L-20 c']);
    expect(coverage.unknown).toEqual(['KF-04 is in no list: a.test.ts:2  KF-04 b']);
    expect(failed(coverage)).toBe(true);
    expect(report(coverage, { missing: true })).toContain('Unknown ids\n\n  KF-04 is in no list');
  });

  test('a test of what cannot apply fails; of what comes later it is a note', () => {
    const coverage = verdict(['KF-01..03 a'], { 'KF-01': 'No.' }, { 'KF-02': 'Soon.' });
    expect(states(coverage)).toEqual(['tested', 'tested', 'tested']);
    expect(coverage.contradictions).toEqual([
      'KF-01 is declared not applicable, and a test carries it: a.test.ts:1  KF-01..03 a',
    ]);
    expect(coverage.notes).toHaveLength(1);
    expect(failed(coverage)).toBe(true);
    expect(failed(verdict(['KF-01..03 a'], {}, { 'KF-02': 'Soon.' }))).toBe(false);
  });

  test('declarations of nothing, or of both kinds, fail', () => {
    expect(verdict(['KF-01..03 a'], { 'KF-09': 'No.' }, { 'KF-08': 'Soon.' }).contradictions).toEqual([
      'KF-09 is declared and in no list',
      'KF-08 is declared and in no list',
    ]);
    const both = verdict(['KF-02, 03 a'], { 'KF-01': 'No.' }, { 'KF-01': 'Soon.' });
    expect(both.contradictions).toEqual(['KF-01 is declared not applicable, and later as well']);
    expect(failed(both)).toBe(true);
  });
});
