// A schedule: who made how many accesses, one after the other. As a short string it can be told, kept and run again: `a3.b7.a~.c!`
// is three accesses of the first actor, seven of the second, time passes, the third dies.

import { EvtchnError } from '../errors.ts';
import { DIE, MOVE, SPURIOUS, TIME_OUT } from './world.ts';

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
];
const BLOCK = /^([a-p])([!~?]?)(\d*)$/;

/** Puts together what belongs together. */
export function joined(blocks: Iterable<Block>): Block[] {
  const out: Block[] = [];
  for (const block of blocks) {
    const last = out.at(-1);
    const goesOn =
      last !== undefined &&
      block.choice < DIE &&
      (last.choice & 15) === block.choice &&
      last.choice >>> 4 !== DIE >>> 4;
    if (block.units === 0) continue;
    if (goesOn) out[out.length - 1] = { choice: last.choice, units: last.units + block.units };
    else out.push(block);
  }
  return out;
}

/** A death and the passing of time are no accesses. */
function counts(choice: number): boolean {
  return choice < DIE || choice >= SPURIOUS;
}

export function scheduleText(schedule: Schedule): string {
  return schedule
    .map(({ choice, units }) => {
      const sign = SIGNS.find(([how]) => how === (choice & ~15))?.[1] ?? '';
      return `${String.fromCharCode(97 + (choice & 15))}${sign}${counts(choice) ? units : ''}`;
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
    return { choice: how + letter.charCodeAt(0) - 97, units: counts(how) ? Number(units) : 1 };
  });
}
