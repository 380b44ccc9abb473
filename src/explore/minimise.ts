// A failing schedule made short: as few changes from one actor to another as can be found, then as few accesses.

import type { Block, Schedule } from './schedule.ts';
import { joined } from './schedule.ts';
import { warmUp } from './search.ts';
import { follow, type Replay } from './story.ts';
import { type Model, type World, whoOf } from './world.ts';

/** How many schedules are tried at most. */
const TRIES = 600;

/** The shortest schedule found that ends as badly as `schedule` does; as it is when that does not end badly any more. */
export function minimise(world: World, model: Model, schedule: Schedule): Replay {
  warmUp(world, model);
  let best = follow(world, schedule);
  if (best.fault === null) return best;
  let tries = 0;
  for (let better = true; better && tries < TRIES; ) {
    better = false;
    for (const candidate of candidates(best.schedule)) {
      if (++tries > TRIES) break;
      const found = follow(world, candidate);
      if (found.fault === null || !isShorter(found, best)) continue;
      best = found;
      better = true;
      break;
    }
  }
  return best;
}

function isShorter(a: Replay, b: Replay): boolean {
  if (a.schedule.length !== b.schedule.length) return a.schedule.length < b.schedule.length;
  return a.steps.length < b.steps.length;
}

/** Schedules that are the same but for one change that may make them shorter. */
function* candidates(schedule: Schedule): Generator<Schedule> {
  // Without its end: the rest is then run in order.
  for (let i = 0; i < schedule.length; i++) yield schedule.slice(0, i);
  for (let i = 0; i < schedule.length; i++) yield [...schedule.slice(0, i), ...schedule.slice(i + 1)];
  // One actor's part earlier, or later, next to what it does there.
  for (let i = 1; i < schedule.length; i++) {
    for (let j = 0; j < schedule.length; j++) {
      if (i === j || !sameActor(schedule[i], schedule[j])) continue;
      const rest = schedule.filter((_, k) => k !== i);
      const at = j < i ? j + 1 : j - 1;
      yield joined([...rest.slice(0, at), schedule[i] as Block, ...rest.slice(at)]);
    }
  }
  // A little less before the next goes on.
  for (let i = 0; i < schedule.length; i++) {
    const block = schedule[i] as Block;
    for (const units of [1, block.units >> 1, block.units - 1]) {
      if (units > 0 && units < block.units) yield schedule.with(i, { ...block, units });
    }
  }
}

function sameActor(a: Block | undefined, b: Block | undefined): boolean {
  return a !== undefined && b !== undefined && whoOf(a.choice) === whoOf(b.choice);
}
