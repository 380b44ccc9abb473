// A schedule run again, and told as numbered steps in words.

import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_RMW, STEP_STORE, STEP_WAIT } from '../abi/step.ts';
import { EvtchnError } from '../errors.ts';
import { nameOf } from './names.ts';
import type { Block, Schedule } from './schedule.ts';
import { joined } from './schedule.ts';
import { firstBlocks, judged, warmUp } from './search.ts';
import {
  DIE,
  DRAIN,
  type Happening,
  howOf,
  isUsual,
  MOVE,
  type Model,
  SPURIOUS,
  TIME_OUT,
  type World,
  whoOf,
} from './world.ts';

/** One step of a story: an access that matters, or something that happened to an actor. */
export interface Step {
  readonly actor: string;
  /** what it is doing */
  readonly doing: string;
  readonly what: string;
}

export interface Replay {
  readonly fault: string | null;
  readonly steps: readonly Step[];
  /** the schedule as it was run, up to its end */
  readonly schedule: Schedule;
}

/**
 * Runs a schedule again, every access a step of its own, and goes on to an end in the order of the actors. Throws EINVAL for a
 * schedule that does not fit the model as it is now.
 */
export function replay(world: World, model: Model, schedule: Schedule): Replay {
  warmUp(world, model);
  return new Replayer(world).run(schedule, true);
}

/** The same for a schedule that may not fit: what cannot happen is left out. */
export function follow(world: World, schedule: Schedule): Replay {
  return new Replayer(world).run(schedule, false);
}

/** A story's steps, numbered; those that one actor makes in a row, doing one thing, begin with who and what. */
export function told(steps: readonly Step[]): string[] {
  let last: Step | null = null;
  return steps.map((step, i) => {
    const goesOn = last !== null && last.actor === step.actor && last.doing === step.doing;
    last = step;
    const who = step.doing === '' ? step.actor : `${step.actor} (${step.doing})`;
    return `${String(i + 1).padStart(3)}. ${goesOn ? ' '.repeat(who.length + 1) : `${who}:`} ${step.what}`;
  });
}

class Replayer {
  readonly #world: World;
  readonly #happened: (Happening | { readonly actor: number; readonly what: string })[] = [];
  readonly #path: Block[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  run(schedule: Schedule, strict: boolean): Replay {
    const world = this.#world;
    world.onHappening = (happening) => this.#happened.push(happening);
    try {
      world.afresh(true);
      this.#path.push(...firstBlocks(world));
      for (const block of schedule) this.#run(block, strict);
      let fault = judged(world, world.choices());
      while (fault === null) {
        const choices = world.choices();
        if (choices.length === 0) break;
        const choice = choices.find(isUsual);
        if (choice === undefined) break;
        this.#take(choice);
        fault = judged(world, world.choices());
      }
      return { fault, steps: this.#steps(), schedule: joined(this.#path) };
    } finally {
      world.onHappening = null;
    }
  }

  #run({ choice, units }: Block, strict: boolean): void {
    const world = this.#world;
    for (let i = 0; i < units; i++) {
      if (world.fault !== null) return;
      const next = i === 0 ? choice : MOVE + whoOf(choice);
      if (!world.choices().includes(next)) {
        if (!strict) return;
        const who = world.actors[whoOf(choice)]?.name ?? `actor ${whoOf(choice)}`;
        throw new EvtchnError('EINVAL', `the schedule does not fit: ${who} cannot move at access ${i + 1} of ${units}`);
      }
      this.#take(next);
    }
  }

  #take(choice: number): void {
    const how = howOf(choice);
    if (how === DIE) this.#happened.push({ actor: whoOf(choice), what: 'dies' });
    if (how === TIME_OUT) this.#happened.push({ actor: -1, what: 'time passes' });
    if (how === SPURIOUS) this.#happened.push({ actor: whoOf(choice), what: 'wakes without a reason' });
    if (how === DRAIN) this.#happened.push({ actor: whoOf(choice), what: 'is seen to have made a store' });
    this.#world.take(choice);
    this.#path.push({ choice, units: this.#world.units });
  }

  /** Only what concerns several: which that is, is known at the end. */
  #steps(): Step[] {
    const world = this.#world;
    const steps: Step[] = [];
    for (const happened of this.#happened) {
      const actor = world.actors[happened.actor]?.name ?? 'nobody';
      if ('what' in happened) steps.push({ actor, doing: '', what: happened.what });
      else if (happened.step === STEP_WAIT || world.sharing.shared(happened.address)) {
        steps.push({ actor, doing: happened.doing, what: what(world, happened) });
      }
    }
    return steps;
  }
}

function what(world: World, { step, address, before, after }: Happening): string {
  const name = nameOf(world.vm, address);
  const [from, to] = [hexOf(before), hexOf(after)];
  if (step === STEP_LOAD) return `reads ${name}: ${to}`;
  if (step === STEP_STORE) return `sets ${name} to ${to}${before === after ? ' (as it was)' : ''}`;
  if (step === STEP_RMW) return before === after ? `leaves ${name} at ${to}` : `changes ${name} from ${from} to ${to}`;
  if (step === STEP_WAIT) return `goes to sleep on ${name}`;
  if (step === STEP_NOTIFY) return `wakes who sleeps on ${name}`;
  if (step === STEP_PLAIN) return before === after ? `looks at ${name}: ${to}` : `writes ${name}: ${to}`;
  return `step ${step} at ${name}`;
}

function hexOf(value: number): string {
  const unsigned = value >>> 0;
  return unsigned < 10 ? String(unsigned) : `0x${unsigned.toString(16)}`;
}
