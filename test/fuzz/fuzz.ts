// Random sequences by a seed, some of them made from those that are kept: what found something new is kept and changed further.
// Plain, so that it runs without a test runner for as long as one likes.

import { Chance } from './chance.ts';
import { anotherCall, randomCall, swarm } from './operations.ts';
import { type Run, runSequence, type Sequence } from './sequence.ts';
import { printed, shrink } from './shrink.ts';
import type { Call, Value } from './value.ts';
import { type Kind, WORLD_KINDS } from './world.ts';

export interface FuzzOptions {
  /** decides everything */
  readonly seed: number;
  /** ends after about so many calls */
  readonly calls: number;
  /** ends after about so many milliseconds; no limit by default */
  readonly millis?: number;
  /** sequences to begin with */
  readonly corpus?: readonly Sequence[];
  /** ends with the first finding; true by default */
  readonly stop?: boolean;
  /** a finding is made shorter; true by default */
  readonly shrinks?: boolean;
  /** only these kinds of VM */
  readonly kinds?: readonly Kind[];
}

export interface FuzzFinding {
  /** what was found, with the sequence that finds it in one line of JSON, and the seed */
  readonly message: string;
  readonly sequence: Sequence;
}

export interface FuzzReport {
  readonly seed: number;
  /** calls that were made, those inside others as well */
  readonly calls: number;
  readonly sequences: number;
  /** operations with their outcomes */
  readonly features: ReadonlySet<string>;
  /** those that found something new, in that order */
  readonly interesting: readonly Sequence[];
  readonly findings: readonly FuzzFinding[];
  /** most steps of a call by operation */
  readonly mostSteps: ReadonlyMap<string, number>;
  /** settled when the asynchronous waits of all sequences are over; rejected when one of them came to something else than it may */
  readonly settled: Promise<void>;
}

/** Calls of a sequence. */
const LONGEST = 140;
const SHORTEST = 20;

/** Fuzzes the whole call surface. Does not throw for what it finds. */
export function fuzz(options: FuzzOptions): FuzzReport {
  const { seed, calls: most, millis = Number.POSITIVE_INFINITY, corpus = [], stop = true, shrinks = true } = options;
  const kinds = options.kinds ?? WORLD_KINDS;
  const chance = new Chance(seed);
  const pool = [...corpus];
  const interesting: Sequence[] = [];
  const features = new Set<string>();
  const findings: FuzzFinding[] = [];
  const mostSteps = new Map<string, number>();
  const settling = new Set<Promise<void>>();
  const end = performance.now() + millis;
  let [calls, sequences] = [0, 0];
  while (calls < most && (!Number.isFinite(millis) || performance.now() < end)) {
    const kind = kinds[sequences % kinds.length] as Kind;
    const run = runSequence(kind, sourceOf(chance, pool));
    sequences++;
    calls += run.made;
    settling.add(run.settled);
    for (const [name, steps] of run.mostSteps) mostSteps.set(name, Math.max(steps, mostSteps.get(name) ?? 0));
    if (run.finding !== null) {
      findings.push(report(run, kind, seed, shrinks));
      if (stop) break;
      continue;
    }
    if (addNew(features, run.features)) {
      const sequence = { kind, calls: run.calls };
      pool.push(sequence);
      interesting.push(sequence);
    }
  }
  const settled = Promise.all(settling).then(() => {});
  settled.catch(() => {});
  return { seed, calls, sequences, features, interesting, findings, mostSteps, settled };
}

/** @returns whether there was a new one */
export function addNew(known: Set<string>, found: ReadonlySet<string>): boolean {
  const before = known.size;
  for (const feature of found) known.add(feature);
  return known.size > before;
}

function report(run: Run, kind: Kind, seed: number, shrinks: boolean): FuzzFinding {
  const found = { kind, calls: run.calls };
  const line = (message: string, sequence: Sequence): string => `${message}\nseed ${seed}: ${printed(sequence)}`;
  if (!shrinks) return { message: line(run.finding?.message ?? '', found), sequence: found };
  try {
    const { sequence, message } = shrink(found);
    return { message: line(message, sequence), sequence };
  } catch {
    return { message: line(`${run.finding?.message} (not found again by a replay)`, found), sequence: found };
  }
}

/** New calls, or the calls of a kept sequence with some of them changed, left out, doubled or followed by new ones. */
function sourceOf(chance: Chance, pool: readonly Sequence[]): (index: number) => Call | null {
  const length = SHORTEST + chance.int(LONGEST - SHORTEST);
  const names = swarm(chance);
  if (pool.length === 0 || chance.once(2)) return (index) => (index < length ? randomCall(chance, names) : null);
  const calls = mutated(chance, chance.pick(pool).calls, chance.pick(pool).calls);
  return (index) => calls[index] ?? (index < length ? randomCall(chance, names) : null);
}

function mutated(chance: Chance, calls: readonly Call[], others: readonly Call[]): readonly Call[] {
  let result = calls.slice(0, LONGEST);
  for (let n = 1 + chance.int(6); n > 0; n--) {
    const at = chance.int(result.length + 1);
    const call = result[at] ?? randomCall(chance);
    switch (chance.int(5)) {
      case 0:
        result = [...result.slice(0, at), ...result.slice(at + 1 + chance.int(4))];
        break;
      case 1:
        result = [...result.slice(0, at), randomCall(chance), ...result.slice(at)];
        break;
      case 2:
        result = [...result.slice(0, at), changedCall(chance, call), ...result.slice(at + 1)];
        break;
      case 3:
        result = [...result.slice(0, at), call, ...result.slice(at)];
        break;
      default: {
        const from = chance.int(others.length + 1);
        result = [...result.slice(0, at), ...others.slice(from, from + 12)];
      }
    }
  }
  return result.slice(0, LONGEST);
}

/** The same operation with other arguments, or with one of them replaced. */
function changedCall(chance: Chance, call: Call): Call {
  const again = anotherCall(chance, call[0]);
  if (again.length !== call.length) return again;
  const at = 1 + chance.int(Math.max(call.length - 1, 1));
  return call.map((value, i) => (i === at ? (again[i] as Value) : value)) as unknown as Call;
}
