// A schedule: who made how many accesses, one after the other. As a short string it can be told, kept and run again: `a3.b7.a~.c!`
// is three accesses of the first actor, seven of the second, time passes, the third dies; `b^2`: the third store in the second one's
// store buffer reaches the others, `b?5`: it wakes without a reason and makes five accesses.

import { EvtchnError } from '../errors.ts';
import { DIE, DRAIN, howOf, MOVE, SPURIOUS, TIME_OUT, whoOf } from './world.ts';

/** Consecutive accesses of one actor; `choice` is how the first of them came about. */
export interface Block {
  readonly choice: number;
  readonly units: number;
}

export type Schedule = readonly Block[];

const SIGNS: readonly (readonly [how: number, sign: string])[] = [
  [MOVE, ''],
  [DIE, '!'],
  [TIME_OUT, '~'],
  [SPURIOUS, '?'],
  [DRAIN, '^'],
];
const BLOCK = /^([a-p])([!~?^]?)(\d*)$/;

/** Puts together what belongs together. */
export function joined(blocks: Iterable<Block>): Block[] {
  const out: Block[] = [];
  for (const block of blocks) {
    const last = out.at(-1);
    const goesOn =
      last !== undefined &&
      howOf(block.choice) === MOVE &&
      whoOf(last.choice) === block.choice &&
      last.choice >>> 4 !== DIE >>> 4;
    if (block.units === 0) continue;
    if (goesOn) out[out.length - 1] = { choice: last.choice, units: last.units + block.units };
    else out.push(block);
  }
  return out;
}

/** Of the others none is an access. */
function counts(choice: number): boolean {
  return howOf(choice) === MOVE || howOf(choice) === SPURIOUS;
}

export function scheduleText(schedule: Schedule): string {
  return schedule
    .map(({ choice, units }) => {
      const sign = SIGNS.find(([how]) => how === howOf(choice))?.[1] ?? '';
      return `${String.fromCharCode(97 + whoOf(choice))}${sign}${counts(choice) ? units : howOf(choice) === DRAIN ? choice >>> 8 : ''}`;
    })
    .join('.');
}

/** Throws EINVAL for a text that is no schedule. */
export function parseSchedule(text: string): Block[] {
  if (text === '') return [];
  return text.split('.').map((part) => {
    const match = BLOCK.exec(part);
    if (match === null) {
      throw new EvtchnError(
        'EINVAL',
        `"${part}" is no part of a schedule; parts look like a3, a~, c! and stand between dots`,
      );
    }
    const [, letter = 'a', sign = '', units = ''] = match;
    const how = SIGNS.find(([, known]) => known === sign)?.[0] ?? MOVE;
    const choice = how + letter.charCodeAt(0) - 97;
    if (how === DRAIN) return { choice: choice + (Number(units) << 8), units: 1 };
    return { choice, units: counts(how) ? Number(units) : 1 };
  });
}
