// Every schedule of a model, or as many as there is time for: exhaustively with states that are recognised, bounded by how often an
// actor is interrupted, or at random with priorities.

import type { Block, Schedule } from './schedule.ts';
import { joined } from './schedule.ts';
import { StateName, StateTable } from './state_memory.ts';
import { howOf, isUsual, MOVE, type Model, type SavedState, SPURIOUS, type World, whoOf } from './world.ts';

/** A schedule that ended badly. */
export interface Finding {
  readonly fault: string;
  readonly schedule: Schedule;
}

/** How far to go. */
export interface Bounds {
  /** states at most; 2^22 by default */
  readonly states?: number;
  /** how often an actor that could go on is interrupted, in one schedule; as often as there are steps by default */
  readonly preemptions?: number;
}

export interface Exhausted {
  readonly states: number;
  readonly transitions: number;
  /** schedules that differ in the order of accesses that matter: the paths through the states */
  readonly schedules: number;
  /** words of memory that the model changed */
  readonly words: number;
  /** steps of the longest schedule */
  readonly longest: number;
  /** whether all of it was seen within the bounds */
  readonly complete: boolean;
  readonly finding: Finding | null;
}

export interface SampleOptions {
  readonly seed: number;
  readonly schedules: number;
  /**
   * How priorities decide: an actor with a higher one goes first, and at this many random steps the one that runs falls behind
   * all others. 0: the next is chosen at random at each step.
   */
  readonly changes?: number;
}

export interface Sampled {
  readonly schedules: number;
  readonly steps: number;
  readonly finding: Finding | null;
}

const MOST_STATES = 2 ** 22;
/** Runs at random that find out which words are shared, before all schedules are gone through. */
const WARM_UP = 128;
/** A schedule longer than this goes on for ever. [R5] */
const MOST_STEPS = 1_000;

/** Numbers that look random, the same for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What is wrong in the present state, if it is an end. */
export function judged(world: World, choices: readonly number[]): string | null {
  if (world.fault !== null) return world.fault;
  if (choices.some(isUsual)) return null;
  const stuck = world.actors.find((actor) => !actor.ended && actor.asleep === 0);
  // Somebody may still die, which is what it may wait for.
  if (stuck && choices.length > 0) return null;
  if (stuck) return `${stuck.name} waits for ever (${stuck.place.doing})`;
  if (choices.length === 0) return world.model.finally?.(world) ?? null;
  // It may go on by a death: the judge leaves no trace.
  const state = world.save();
  const fault = world.model.finally?.(world) ?? null;
  world.restore(state);
  return fault;
}

/** Begins a model and runs it a few times at random, to find out which words are shared. */
export function warmUp(world: World, model: Model): void {
  world.begin(model);
  // One by one: those that end badly teach as well.
  for (let i = 0; i < WARM_UP; i++) sampleBegun(world, { seed: i, schedules: 1, changes: i % 4 });
  world.sharing.keep();
}

// ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** Goes through every schedule of a model within the bounds, or up to the first that ends badly. */
export function exhaust(world: World, model: Model, bounds: Bounds = {}): Exhausted {
  warmUp(world, model);
  for (;;) {
    world.afresh();
    const result = new Search(world, bounds).run();
    if (!world.sharing.learnt || result.finding !== null) return result;
  }
}

interface Frame {
  readonly state: SavedState;
  readonly choices: readonly number[];
  readonly hi: number;
  readonly lo: number;
  /** who moved last, and how many interruptions are left */
  readonly last: number;
  readonly left: number;
  at: number;
  schedules: number;
}

class Search {
  readonly #world: World;
  readonly #table = new StateTable();
  readonly #name = new StateName();
  readonly #stack: Frame[] = [];
  readonly #path: Block[] = [];
  readonly #bounds: Required<Bounds>;
  #transitions = 0;
  #longest = 0;
  #finding: Finding | null = null;

  constructor(world: World, bounds: Bounds) {
    this.#world = world;
    this.#bounds = {
      states: bounds.states ?? MOST_STATES,
      preemptions: bounds.preemptions ?? Number.POSITIVE_INFINITY,
    };
  }

  run(): Exhausted {
    let schedules = this.#enter(-1, this.#bounds.preemptions);
    while (this.#stack.length > 0 && this.#finding === null && this.#table.size < this.#bounds.states) {
      const frame = this.#stack[this.#stack.length - 1] as Frame;
      if (frame.at === frame.choices.length) {
        this.#stack.pop();
        this.#path.pop();
        this.#table.set(frame.hi, frame.lo, frame.schedules);
        const before = this.#stack.at(-1);
        if (before) before.schedules += frame.schedules;
        else schedules = frame.schedules;
        continue;
      }
      this.#follow(frame);
    }
    const complete = this.#stack.length === 0 && this.#finding === null;
    const { size: states } = this.#table;
    const words = this.#world.changed;
    return {
      states,
      transitions: this.#transitions,
      schedules,
      words,
      longest: this.#longest,
      complete,
      finding: this.#finding,
    };
  }

  #follow(frame: Frame): void {
    const world = this.#world;
    const choice = frame.choices[frame.at++] as number;
    const left = frame.left - this.#cost(frame, choice);
    if (left < 0) return;
    // The first choice goes on from the state as it is.
    if (frame.at > 1) world.restore(frame.state);
    world.take(choice);
    this.#transitions++;
    this.#path.push({ choice, units: world.units });
    if (this.#path.length > MOST_STEPS) world.fault ??= `more than ${MOST_STEPS} steps: it goes on for ever`;
    const ends = this.#enter(whoOf(choice), left);
    if (ends < 0) return;
    frame.schedules += ends;
    this.#path.pop();
  }

  /** An interruption: somebody else moves although the last one could have gone on. */
  #cost(frame: Frame, choice: number): number {
    if (this.#bounds.preemptions === Number.POSITIVE_INFINITY) return 0;
    const how = howOf(choice);
    if (how !== MOVE) return how === SPURIOUS ? 1 : 0;
    return frame.last >= 0 && choice !== frame.last && frame.choices.includes(MOVE + frame.last) ? 1 : 0;
  }

  /** Looks at the state that was reached. @returns the schedules that end there or go on from there, -1 if they are still to be gone through */
  #enter(last: number, left: number): number {
    const world = this.#world;
    const choices = world.choices();
    const fault = judged(world, choices);
    this.#longest = Math.max(this.#longest, this.#path.length);
    if (fault !== null) {
      this.#finding = { fault, schedule: this.#schedule() };
      return 1;
    }
    if (choices.length === 0) return 1;
    const name = this.#name;
    world.fold(name);
    if (left !== Number.POSITIVE_INFINITY) name.add(0x70000000, (left << 8) | (last + 1));
    const known = this.#table.get(name.hi, name.lo);
    // Being counted: a circle. It is gone through once.
    if (known !== undefined) return Math.max(known, 0);
    this.#table.set(name.hi, name.lo, -1);
    this.#stack.push({ state: world.save(), choices, hi: name.hi, lo: name.lo, last, left, at: 0, schedules: 0 });
    return -1;
  }

  #schedule(): Schedule {
    return joined([...firstBlocks(this.#world), ...this.#path]);
  }
}

/** What happened before the first choice. */
export function firstBlocks(world: World): Block[] {
  return world.first.map((units, i) => ({ choice: MOVE + i, units }));
}

// ── some of them ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a model at random. */
export function sample(world: World, model: Model, options: SampleOptions): Sampled {
  warmUp(world, model);
  world.afresh();
  return sampleBegun(world, options);
}

/** Goes on with the model that has begun. */
function sampleBegun(world: World, { seed, schedules, changes = 0 }: SampleOptions): Sampled {
  const random = randomFrom(seed);
  const path: Block[] = [];
  let steps = 0;
  let length = 32;
  for (let run = 1; run <= schedules; run++) {
    world.again();
    path.length = 0;
    const choose = changes > 0 ? byPriority(world.actors.length, changes, length, random) : anyOf(random);
    for (let choices = world.choices(); ; choices = world.choices()) {
      if (path.length > MOST_STEPS) world.fault ??= `more than ${MOST_STEPS} steps: it goes on for ever`;
      const fault = judged(world, choices);
      if (fault !== null)
        return { schedules: run, steps, finding: { fault, schedule: joined([...firstBlocks(world), ...path]) } };
      if (choices.length === 0) break;
      const choice = choose(choices, path.length);
      if (choice < 0) break;
      world.take(choice);
      steps++;
      path.push({ choice, units: world.units });
    }
    length = Math.max(length, path.length);
  }
  return { schedules, steps, finding: null };
}

type Choose = (choices: readonly number[], step: number) => number;

/** How seldom somebody dies or wakes without a reason, when the next is chosen at random. */
const RARELY = 0.05;

function anyOf(random: () => number): Choose {
  return (choices) => {
    const usual = choices.filter(isUsual);
    const from = usual.length > 0 && random() >= RARELY ? usual : choices;
    // At an end where somebody could still die, he mostly does not.
    if (usual.length === 0 && random() < 0.5) return -1;
    return from[Math.floor(random() * from.length)] as number;
  };
}

function byPriority(actors: number, changes: number, length: number, random: () => number): Choose {
  const priorities = Array.from({ length: actors }, random);
  const at = new Set(Array.from({ length: changes }, () => Math.floor(random() * length)));
  let lowest = 0;
  const other = anyOf(random);
  return (choices, step) => {
    const moves = choices.filter(isUsual);
    if (moves.length === 0 || (moves.length < choices.length && random() < RARELY)) return other(choices, step);
    const best = (): number =>
      moves.reduce((a, b) => ((priorities[whoOf(b)] ?? 0) > (priorities[whoOf(a)] ?? 0) ? b : a));
    if (at.has(step)) priorities[whoOf(best())] = --lowest;
    return best();
  };
}
