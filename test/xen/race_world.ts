// Two threads over two domains in one memory, played by one: the sender runs on a trace kernel, and before each of its shared
// accesses the test may run what the owner does as a whole. What has to wait for the sender's brackets goes on when it has left them.

import { STEP_LOAD } from '../../src/abi/step.ts';
import type { Vm } from '../../src/index.ts';
import { createXen, type Domain, type Xen } from '../../src/xen/index.ts';
import { makeVm } from '../support.ts';
import { commonMemory, placeIn, taken } from './guests.ts';

export interface RaceWorld {
  /** the owner's thread: it changes ports, and receives for the guests */
  readonly owner: Xen;
  readonly one: Domain;
  readonly two: Domain;
  /** the sender's thread: its views of both */
  readonly sender: { readonly one: Domain; readonly two: Domain };
  /** ports that scenarios set up */
  readonly ports: Record<string, number>;
  /** what guests have handled, as "domain:vCPU:port" */
  readonly handled: string[];
  /** what the sender was told */
  results: number[];
}

export interface Race {
  readonly name: string;
  setup(world: RaceWorld): void;
  /** what is interrupted at each of its steps */
  a(world: RaceWorld): void;
  /** what runs inside: as a whole, or up to each `yield`, where it waits until the sender has left its brackets */
  b(world: RaceWorld): unknown;
  /** the sender's half in TypeScript makes steps as well */
  readonly slowHalf?: boolean;
  judge(world: RaceWorld): string | null;
}

export interface RaceFinding {
  readonly step: number;
  readonly fault: string;
}

/** One interleaving after the other. */
export class RaceRunner {
  readonly #module: WebAssembly.Module;
  readonly #memory = commonMemory(true);
  readonly #patch: ((world: RaceWorld) => void) | undefined;
  #onStep: () => void = () => {};

  /** `patch` puts a fault into the half in TypeScript of each fresh world. */
  constructor(kernel: Uint8Array<ArrayBuffer>, patch?: (world: RaceWorld) => void) {
    this.#module = new WebAssembly.Module(kernel);
    this.#patch = patch;
  }

  /** Runs B inside every step of A, and after it. @returns what ended badly, and how many interleavings there were */
  explore(race: Race): { findings: RaceFinding[]; steps: number } {
    const findings: RaceFinding[] = [];
    const { steps } = this.#run(race, -1);
    for (let step = 0; step <= steps; step++) {
      const { fault } = this.#run(race, step);
      if (fault !== null) findings.push({ step, fault });
    }
    return { findings, steps: steps + 1 };
  }

  #run(race: Race, at: number): { steps: number; fault: string | null } {
    const world = this.#fresh();
    race.setup(world);
    handle(world);
    world.handled.length = 0;
    const inner = new Inner(race, world);
    let steps = 0;
    let inside = false;
    const advance = (): void => {
      inside = true;
      inner.advance();
      inside = false;
    };
    const step = (): void => {
      if (!inside && (steps++ === at || inner.waiting)) advance();
    };
    this.#onStep = step;
    if (race.slowHalf) for (const { vm } of [world.sender.one, world.sender.two]) stepAtWords(vm, () => this.#onStep());
    try {
      race.a(world);
      this.#onStep = () => {};
      advance();
      if (inner.waiting) return { steps, fault: 'waits for a bracket that nobody closes' };
      handle(world);
      return { steps, fault: race.judge(world) };
    } catch (error) {
      return { steps, fault: `threw ${String(error)}` };
    } finally {
      this.#onStep = () => {};
    }
  }

  #fresh(): RaceWorld {
    new Uint8Array(this.#memory.buffer).fill(0);
    const quiet = { module: this.#module, onStep: () => {}, onWait: () => 1 };
    const traced = { ...quiet, onStep: () => this.#onStep() };
    const owner = createXen();
    const [one, two] = [0, 1].map((i) => {
      const vm = makeVm({ ...placeIn(this.#memory, i), vcpus: 2, agents: 2, ports: 64, fifoPorts: 0, trace: quiet });
      return owner.adopt(vm);
    }) as [Domain, Domain];
    const there = createXen();
    const sender = {
      one: there.attachDomain(one.vm.handle(), { trace: traced }),
      two: there.attachDomain(two.vm.handle(), { trace: traced }),
    };
    // Who would have to wait for the other thread is told at once that it cannot.
    for (const { vm } of [one, two, sender.one, sender.two]) vm.region.words.wait = () => false;
    const world: RaceWorld = { owner, one, two, sender, ports: {}, handled: [], results: [] };
    this.#patch?.(world);
    return world;
  }
}

/** B on its way through a run of A. */
class Inner {
  readonly #race: Race;
  readonly #world: RaceWorld;
  #rest: Iterator<unknown> | null = null;
  #begun = false;

  constructor(race: Race, world: RaceWorld) {
    this.#race = race;
    this.#world = world;
  }

  get waiting(): boolean {
    return this.#rest !== null;
  }

  advance(): void {
    if (!this.#begun) {
      this.#begun = true;
      const started = this.#race.b(this.#world);
      if (isGenerator(started) && !started.next().done) this.#rest = started;
    }
    const { one, two } = this.#world.sender;
    const inBracket = (vm: Vm): boolean => vm.region.bracketOpen(vm.agent);
    while (this.#rest && !inBracket(one.vm) && !inBracket(two.vm)) if (this.#rest.next().done) this.#rest = null;
  }
}

function isGenerator(value: unknown): value is Generator {
  return typeof value === 'object' && value !== null && Symbol.iterator in value && 'next' in value;
}

/** Makes every look of the TypeScript half at the region a step. */
function stepAtWords(vm: Vm, onStep: (kind: number) => void): void {
  const { words } = vm.region;
  const [load, store] = [words.load.bind(words), words.store.bind(words)];
  words.load = (at) => {
    onStep(STEP_LOAD);
    return load(at);
  };
  words.store = (at, value) => {
    onStep(STEP_LOAD);
    store(at, value);
  };
}

/** The guests answer every upcall that they are asked for. */
export function handle(world: RaceWorld): void {
  for (const domain of [world.one, world.two]) {
    if (!domain.vm.gpcs.isActive(domain.vm.region.sharedInfo)) continue;
    for (let round = 0; round < 4; round++) {
      for (const [vcpu, port] of taken(domain)) world.handled.push(`${domain.domid}:${vcpu}:${port}`);
    }
  }
}
