// The protocols as models, searched through exhaustively, and with every fault that is known put into them. [R1, R2, R3, R6]

import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { type Case, FAULTS, type ModelName, RUNS } from './cases.ts';
import { defines, marksOf, stepsOf, textOf } from './correspondence.ts';
import { explore, type Finding, find, missingPrograms } from './verifier.ts';

const MODELS = [...new Set(RUNS.map(({ model }) => model))];
const missing = missingPrograms();
const without =
  missing.length > 0 ? ` (skipped: ${missing.join(' and ')} not found, needs Debian's packages spin and gcc)` : '';

/** A watchdog: a search takes seconds, but waits for its turn. */
const TIMEOUT = 300_000;

const figures: string[] = [];
function note({ model, defines: words }: Case, { states, depth }: Finding, what: string): void {
  figures.push(`${[model, words].join(' ').padEnd(66)} ${String(states).padStart(8)} states  ${what} ${depth}`);
}

afterAll(() => {
  if (figures.length > 0) console.log(figures.sort().join('\n'));
});

describe.skipIf(missing.length > 0)(`every state of a model${without}`, () => {
  // Not by `each`, which cuts long names.
  for (const run of RUNS) {
    test.concurrent(
      `${run.model}: ${run.name}`,
      async () => {
        const finding = await explore(run);
        expect(finding.outcome, finding.output).toBe('nothing wrong');
        expect(finding.complete, finding.output).toBe(true);
        // Else the assertions about the end say nothing.
        expect(finding.ended || run.search === 'progress', finding.output).toBe(true);
        expect(finding.states).toBeGreaterThan(100);
        note(run, finding, 'all, depth');
      },
      TIMEOUT,
    );
  }
});

describe.skipIf(missing.length > 0)(`a fault is found${without}`, () => {
  for (const fault of FAULTS) {
    test.concurrent(
      `${fault.model}: ${fault.name}`,
      async () => {
        const finding = await find(fault);
        expect(finding.outcome, finding.output).toBe(fault.found ?? 'assertion');
        note(fault, finding, fault.search === 'progress' ? 'found, depth' : 'found, shortest in');
      },
      TIMEOUT,
    );
  }

  test('each differs from a run in one macro only, and each such macro of a model is tried', () => {
    for (const model of MODELS) {
      const known = settingsOf(model);
      const faults = FAULTS.filter((fault) => fault.model === model).map((fault) => fault.defines.split(' '));
      const tried = faults.map((words) => words.filter((word) => !known.includes(word.replace(/=.*/, ''))));
      expect(tried.map(({ length }) => length)).toEqual(tried.map(() => 1));
      const all = [...textOf(model).matchAll(/^ *#(?:ifdef|ifndef|elif|if) (.*)$/gm)].flatMap(([line]) => [
        ...line.matchAll(/\b[A-Z][A-Z_0-9]+\b/g),
      ]);
      const faultMacros = new Set(all.map(([word]) => word).filter((word) => !known.includes(word)));
      expect(new Set(tried.flat()), model).toEqual(faultMacros);
    }
  });
});

/** The macros that a model's head describes. */
function settingsOf(model: ModelName): string[] {
  const text = textOf(model);
  const head = text.slice(0, text.indexOf('*/'));
  const own = [...text.matchAll(/^#define (\w+) /gm)].map(([, word = '']) => word);
  return [...(head.match(/\b[A-Z][A-Z_]+\b/g) ?? []), ...own];
}

describe.each(MODELS.map((model) => ({ model })))('the steps of $model', ({ model }) => {
  const steps = stepsOf(model);

  test('are each a function that the engine has', () => {
    expect(steps.length).toBeGreaterThan(5);
    for (const { step, file, where } of steps) {
      expect(defines(readFileSync(file, 'utf8'), where), `${step}: ${where} in ${file}`).toBe(true);
    }
  });

  test('stand in its text, and no other does', () => {
    expect(marksOf(model).sort()).toEqual(steps.map(({ step }) => step).sort());
  });
});
