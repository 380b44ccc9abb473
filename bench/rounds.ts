// Several ways to do the same work, timed side by side.
//
// Every round times every variant once and the order rotates, so that whatever disturbs the machine disturbs all of them.
// A figure is the median over rounds; a ratio is the median of the ratios within each round, which moves far less than
// the nanoseconds do.

/** One way to do the work. */
export interface Variant {
  readonly name: string;
  /** Events in one run: times are given per event. */
  readonly events: number;
  /** Does the work once. @returns the sum of its result codes, in Smi range */
  readonly run: () => number;
  /** Puts the memory back before each run, outside of the timed part. */
  readonly reset?: () => void;
  /** A run of no events: what a run costs beside them is taken off. By default that of an empty function. */
  readonly empty?: () => number;
  /** True where the result says something else than that of the others. */
  readonly alone?: boolean;
}

/** How long to measure a group of variants. */
export interface Effort {
  readonly warmMs: number;
  readonly measureMs: number;
}

export const FULL: Effort = { warmMs: 250, measureMs: 300 };
export const QUICK: Effort = { warmMs: 150, measureMs: 150 };

/** V8 needs some 400,000 calls of a function before its code is final. */
const WARM_EVENTS = 600_000;
const MIN_ROUNDS = 31;
const MAX_ROUNDS = 1001;
const CALIBRATIONS = 301;

/** Depths that cover a page of stack, taken in an order that does not go with that of the variants. */
const DEPTHS = 61;
const DEPTH_STEP = 17;

/** What rounds have measured. */
export class Figures {
  readonly #samples: ReadonlyMap<string, readonly number[]>;

  constructor(samples: ReadonlyMap<string, readonly number[]>) {
    this.#samples = samples;
  }

  get names(): string[] {
    return [...this.#samples.keys()];
  }

  has(name: string): boolean {
    return this.#samples.has(name);
  }

  /** Nanoseconds per event. */
  ns(name: string): number {
    return median(this.#of(name));
  }

  /** `name` to `base`, or null when one of them was not measured. */
  ratio(name: string, base: string): number | null {
    if (!this.has(name) || !this.has(base)) return null;
    const bases = this.#of(base);
    return median(this.#of(name).map((ns, round) => ns / (bases[round] ?? Number.NaN)));
  }

  #of(name: string): readonly number[] {
    const samples = this.#samples.get(name);
    if (!samples) throw new Error(`"${name}" was not measured`);
    return samples;
  }
}

/** Checks that all variants give the same result, warms them up, and times them in rounds. */
export function measureRounds(variants: readonly Variant[], effort: Effort): Figures {
  compare(variants);
  warm(variants, effort.warmMs);
  const overhead = variants.map((variant) => calibrate(variant.empty ?? nothing));
  const samples: number[][] = variants.map(() => []);
  const end = performance.now() + effort.measureMs;
  for (let round = 0; round < MAX_ROUNDS && (round < MIN_ROUNDS || performance.now() < end); round++) {
    for (let k = 0; k < variants.length; k++) {
      const i = (k + round) % variants.length;
      const variant = variants[i] as Variant;
      variant.reset?.();
      const ns = below((round * DEPTH_STEP) % DEPTHS, variant.run) - (overhead[i] ?? 0);
      samples[i]?.push(Math.max(ns, 0) / variant.events);
    }
  }
  return new Figures(new Map(variants.map((variant, i) => [variant.name, samples[i] ?? []])));
}

/** Throws unless the variants agree: a loop that does less work than the others measures nothing. */
function compare(variants: readonly Variant[]): void {
  const compared = variants.filter((variant) => !variant.alone);
  const results = compared.map((variant) => {
    variant.reset?.();
    return variant.run();
  });
  results.forEach((result, i) => {
    if (result !== results[0]) {
      throw new Error(`"${compared[i]?.name}" gives ${result}, "${compared[0]?.name}" gives ${results[0]}`);
    }
  });
}

function warm(variants: readonly Variant[], ms: number): void {
  const fewest = Math.min(...variants.map((variant) => variant.events));
  const runs = Math.ceil(WARM_EVENTS / fewest);
  const end = performance.now() + ms;
  for (let i = 0; i < runs && performance.now() < end; i++) {
    for (const variant of variants) {
      variant.reset?.();
      below(i % DEPTHS, variant.run);
    }
  }
}

function calibrate(empty: () => number): number {
  const samples: number[] = [];
  for (let i = 0; i < CALIBRATIONS; i++) samples.push(time(empty));
  // The mean of the middle half: a clock that counts in tens of nanoseconds makes the median too coarse.
  const middle = samples.sort((a, b) => a - b).slice(CALIBRATIONS >> 2, (3 * CALIBRATIONS) >> 2);
  return middle.reduce((sum, ns) => sum + ns, 0) / middle.length;
}

function nothing(): number {
  return 0;
}

/** Keeps what was computed, so that no compiler may leave the work out. */
let kept = 0;

/**
 * Times `run` that many calls further down the stack. A locked operation waits for stores at the same place of another
 * page, so a stack that lies badly makes every send a third slower, for as long as the process lives. At changing depths
 * that is an accident of some rounds, which the median forgets, and not of a variant.
 */
function below(calls: number, run: () => number): number {
  return calls === 0 ? time(run) : below(calls - 1, run) + 0;
}

function time(run: () => number): number {
  const start = performance.now();
  kept = (kept + run()) | 0;
  return (performance.now() - start) * 1e6;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a share `q` of the values lies. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

/** Does the events `from` to `to - 1` and adds up what they answer. */
export type Loop = (from: number, to: number) => number;

/** Events per call of a loop. */
const SLICE = 256;

let copies = 0;

/**
 * A run of `events` events by a loop of its own. V8 keeps what it has learned about a piece of source, so two loops made
 * from one text spoil each other: the calls in them are no longer inlined; hence a copy with a text of its own. And what it
 * compiles while a loop runs, rather than when it is called again, folds no constants; hence slices. `make` must use
 * nothing but its arguments and globals, and should hold them in constants.
 */
export function fresh<A extends unknown[]>(events: number, make: (...args: A) => Loop, ...args: A): () => number {
  copies++;
  const loop = new Function(`return (${make}) // ${copies}`)()(...args) as Loop;
  return () => {
    let sum = 0;
    for (let from = 0; from < events; from += SLICE) sum = (sum + loop(from, Math.min(from + SLICE, events))) | 0;
    return sum;
  };
}
