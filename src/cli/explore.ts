// `evtchn explore`: a preset's bug found, shown and mended; or one of the engine's own models gone through.

import { checkRange, EvtchnError } from '../errors.ts';
import {
  type Exhausted,
  exhaust,
  exploreModule,
  type Finding,
  MODELS,
  type Model,
  minimise,
  PRESETS,
  type Preset,
  parseSchedule,
  replay,
  sample,
  scheduleText,
  told,
  World,
} from '../explore/index.ts';

export const EXPLORE_HELP = `evtchn explore --list               what there is
evtchn explore PRESET               finds the schedule on which a real bug goes wrong, and shows it mended
evtchn explore MODEL                goes through every schedule of one of the engine's own models
  --compat                          the 32-bit layout (models; presets are 32-bit)
  --preemptions N                   only schedules that interrupt an actor at most N times
  --random N [--seed S]             N schedules at random in place of all
  --changes D                       at random with priorities, D changes of them
  --replay SCHEDULE                 runs one schedule again, as it was printed`;

export interface ExploreOptions {
  readonly list?: boolean | undefined;
  readonly compat?: boolean | undefined;
  readonly replay?: string | undefined;
  readonly random?: string | undefined;
  readonly seed?: string | undefined;
  readonly changes?: string | undefined;
  readonly preemptions?: string | undefined;
}

type Print = (line: string) => void;

/** @returns the exit code: 0 when all is as it should be. Throws EINVAL for what is not understood. */
export function explore(name: string | undefined, options: ExploreOptions, print: Print): number {
  if (options.list || name === undefined) {
    for (const { id, title } of [...PRESETS, ...MODELS]) print(`${id.padEnd(32)} ${title}`);
    return 0;
  }
  const world = new World(exploreModule());
  const preset = PRESETS.find(({ id }) => id === name);
  if (preset) return explorePreset(world, preset, options, print);
  const maker = MODELS.find(({ id }) => id === name);
  if (!maker)
    throw new EvtchnError('EINVAL', `there is no preset or model "${name}"; evtchn explore --list names them`);
  const model = maker.make(!options.compat);
  print(`${maker.title} (${options.compat ? '32-bit' : '64-bit'} layout)`);
  if (options.replay !== undefined) return again(world, model, options.replay, print) === null ? 0 : 1;
  return search(world, model, options, print, maker.bounds?.preemptions) === null ? 0 : 1;
}

function explorePreset(world: World, preset: Preset, options: ExploreOptions, print: Print): number {
  print(preset.title);
  print(`the bug: ${preset.bug}`);
  if (options.replay !== undefined) return again(world, preset.broken(), options.replay, print) === null ? 1 : 0;
  print('');
  const bad = search(world, preset.broken(), options, print);
  print('');
  print(`the remedy: ${preset.remedy}`);
  const good = search(world, preset.fixed(), options, print);
  return bad !== null && good === null ? 0 : 1;
}

/** Goes through a model and tells what it found. */
function search(
  world: World,
  model: Model,
  options: ExploreOptions,
  print: Print,
  preemptions?: number,
): Finding | null {
  const finding =
    options.random === undefined ? all(world, model, options, print, preemptions) : some(world, model, options, print);
  if (finding === null) return null;
  const shortest = minimise(world, model, finding.schedule);
  print(`goes wrong: ${shortest.fault}`);
  for (const line of told(shortest.steps)) print(line);
  print(`again: --replay ${scheduleText(shortest.schedule)}`);
  return finding;
}

function all(world: World, model: Model, options: ExploreOptions, print: Print, preemptions?: number): Finding | null {
  const bound = options.preemptions === undefined ? preemptions : numberOf('--preemptions', options.preemptions);
  const result = exhaust(world, model, bound === undefined ? {} : { preemptions: bound });
  if (result.finding === null) print(sentence(result, bound));
  return result.finding;
}

function sentence({ states, schedules, longest, complete }: Exhausted, preemptions: number | undefined): string {
  const within =
    preemptions === undefined || !Number.isFinite(preemptions) ? '' : ` with at most ${preemptions} interruptions`;
  const what = complete ? `all ${large(schedules)} schedules${within}` : 'as many schedules as states could be kept';
  return `clean: ${what}, through ${states} states, at most ${longest} steps each`;
}

function some(world: World, model: Model, options: ExploreOptions, print: Print): Finding | null {
  const schedules = numberOf('--random', options.random ?? '');
  const seed = numberOf('--seed', options.seed ?? '1');
  const changes = numberOf('--changes', options.changes ?? '0');
  const result = sample(world, model, { seed, schedules, changes });
  if (result.finding === null) print(`clean: ${result.schedules} schedules at random, seed ${seed}`);
  return result.finding;
}

function again(world: World, model: Model, text: string, print: Print): string | null {
  const { fault, steps } = replay(world, model, parseSchedule(text));
  for (const line of told(steps)) print(line);
  print(fault === null ? 'ends well' : `goes wrong: ${fault}`);
  return fault;
}

function numberOf(option: string, text: string): number {
  const value = text === '' ? Number.NaN : Number(text);
  checkRange(option, value, 0, 2 ** 31 - 1);
  return value;
}

function large(n: number): string {
  return n < 1e6 ? String(n) : n.toExponential(1).replace('e+', ' * 10^');
}
