// The table at the head of each model: which of its steps is which function of the engine.

import { readFileSync } from 'node:fs';
import type { ModelName } from './cases.ts';

export interface Step {
  readonly step: string;
  readonly file: string;
  /** a function, a method of any class, or one of a class that is named */
  readonly where: string;
}

const ROW = /^ \* {3}(?<step>[A-Z]\d) +\| .+? +\| (?<file>[\w/]+\.ts) +\| (?<where>#?[\w.]+)$/gm;

export function textOf(model: ModelName): string {
  return readFileSync(`test/spin/${model}.pml`, 'utf8');
}

export function stepsOf(model: ModelName): Step[] {
  return [...textOf(model).matchAll(ROW)].map(({ groups }) => ({ step: '', file: '', where: '', ...groups }));
}

/** The steps that the body of a model is marked with. */
export function marksOf(model: ModelName): string[] {
  const body = textOf(model).slice(textOf(model).indexOf('*/'));
  return [...new Set([...body.matchAll(/\/\* ([A-Z]\d) \*\//g)].map((match) => match[1] ?? ''))];
}

/** Whether a source defines a function or method. */
export function defines(source: string, where: string): boolean {
  const [name = '', owner] = where.split('.').reverse();
  const at = owner === undefined ? 0 : source.search(new RegExp(`^(export )?class ${owner}\\b`, 'm'));
  const definition = new RegExp(
    `^( {2})?(export )?(async )?(@inline )?(static )?(function )?${name}(<[^(]*>)?\\(.*\\{$`,
    'm',
  );
  const split = new RegExp(`^( {2})?(export )?(function )?${name}(<[^(]*>)?\\($`, 'm');
  const text = source.slice(at);
  return at >= 0 && (definition.test(text) || split.test(text));
}
