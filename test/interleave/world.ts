// Two agents over one memory in one thread. The first runs on a trace kernel; before each of its shared accesses the test
// may run the second agent's whole operation. No threads, no luck.

import { KICK_SLEEPER, VCPU_KICK } from '../../src/abi/region.ts';
import { STEP_LOAD, STEP_RMW, STEP_STORE } from '../../src/abi/step.ts';
import { attachVm, createVm, gfn, gpa, type Vm } from '../../src/index.ts';
import { SHARED_INFO_GFN, vcpuInfoGpa } from '../support.ts';

export interface World {
  /** the agent that is interrupted, and the one that runs inside its steps */
  readonly a: Vm;
  readonly b: Vm;
  /** ports handled by either agent's drains, in order */
  readonly handled: number[];
  /** what the sender wrote for its event, and the last of it that a handler saw */
  payload: number;
  seen: number;
  /** a store of the sender that is still in its store buffer: becomes visible at its next locked operation */
  buffered: number | null;
  /** whether a sleep of vCPU 0 was reached by either agent */
  asleep: boolean;
  /** what the last send gave that a scenario keeps */
  result: number;
  /** what B does again when A is through */
  later: (() => void) | null;
  /** what went wrong along the way */
  readonly faults: string[];
}

export type Actor = (world: World) => void;

/** What runs inside a step of A: as a whole, or up to each `yield`, where it waits until A has left its bracket. */
export type Inner = (world: World) => unknown;

export interface Scenario {
  readonly name: string;
  readonly vcpus?: number;
  readonly setup?: Actor;
  readonly a: Actor;
  readonly b: Inner;
  /** the half of A that is in TypeScript makes steps as well, each time it looks at the region */
  readonly slowHalf?: boolean;
  /** the guest stays away: judge right after both have run */
  readonly unattended?: boolean;
  /** after both have run and the guest has answered its upcalls */
  readonly judge: (world: World) => string | null;
}

/** One interleaving that ended badly: the step of A before which B ran. */
export interface Finding {
  readonly step: number;
  readonly fault: string;
}

export class Interleaver {
  readonly #module: WebAssembly.Module;
  /** one memory for all worlds: each would reserve gigabytes of addresses */
  readonly #memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
  #onStep: (kind: number, address: number) => void = () => {};
  #onWait: (address: number, expected: number) => number = () => 1;
  #world: World | null = null;
  readonly #patch: Actor | undefined;

  /** `patch` puts a fault into the half in TypeScript of each fresh world. */
  constructor(kernel: Uint8Array<ArrayBuffer>, patch?: Actor) {
    this.#module = new WebAssembly.Module(kernel);
    this.#patch = patch;
  }

  /** Runs B inside every step of A, and before and after it. @returns the interleavings that ended badly, and how many there were */
  explore(scenario: Scenario, longMode: boolean): { findings: Finding[]; steps: number } {
    const findings: Finding[] = [];
    const steps = this.#run(scenario, longMode, -1).steps;
    for (let step = 0; step <= steps; step++) {
      const { fault } = this.#run(scenario, longMode, step);
      if (fault !== null) findings.push({ step, fault });
    }
    return { findings, steps: steps + 1 };
  }

  #run(scenario: Scenario, longMode: boolean, at: number): { steps: number; fault: string | null } {
    const world = this.#fresh(longMode, scenario.vcpus ?? 1);
    if (scenario.slowHalf) stepAtWords(world.a, (address) => this.#onStep(STEP_LOAD, address));
    scenario.setup?.(world);
    let steps = 0;
    let inside = false;
    const inner = new InnerRun(scenario.b, world);
    const runB = (): void => {
      if (inside) return;
      inside = true;
      inner.advance();
      inside = false;
    };
    this.#onStep = (kind) => {
      if (inside) return;
      if (steps++ === at || inner.waiting) runB();
      if (kind === STEP_RMW || kind === STEP_STORE) flushStore(world);
    };
    this.#onWait = (address, expected) => {
      if (at >= 0 && !inside) runB();
      return this.#sleep(address, expected);
    };
    try {
      scenario.a(world);
      if (at >= 0) runB();
      if (inner.waiting) world.faults.push('waits for a bracket that nobody closes');
      inside = true;
      world.later?.();
    } catch (error) {
      world.faults.push(`threw ${String(error)}`);
    }
    this.#onStep = () => {};
    flushStore(world);
    if (!scenario.unattended && !world.faults.length) settle(world);
    return { steps, fault: world.faults[0] ?? scenario.judge(world) };
  }

  /** A sleep that nobody ends is a lost wake-up: the other agent has run, or is suspended and will not notify any more. */
  #sleep(address: number, expected: number): number {
    const word = Atomics.load(new Int32Array(this.#memory.buffer), address >>> 2);
    if (word !== expected) return 1;
    if (this.#world) this.#world.asleep = true;
    return 2;
  }

  #fresh(longMode: boolean, vcpus: number): World {
    new Uint8Array(this.#memory.buffer).fill(0);
    const trace = {
      module: this.#module,
      onStep: (kind: number, address: number) => this.#onStep(kind, address),
      onWait: (address: number, expected: number) => this.#onWait(address, expected),
    };
    const a = createVm({
      memory: this.#memory,
      regionBase: 0,
      guestBase: 6 * 65536,
      guestPages: 16,
      vcpus,
      agents: 2,
      trace,
    });
    a.setAttr({ type: 'long_mode', enabled: longMode });
    a.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    for (let i = 0; i < vcpus; i++) a.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(i)) });
    // B's accesses are not steps: it runs as a whole. Its sleeps are answered in the same way.
    const b = attachVm(a.handle(), { trace: { ...trace, onStep: () => {} } });
    // Who would have to wait for the other agent, which is suspended, is told at once that it cannot.
    for (const { region } of [a, b]) region.words.wait = () => false;
    const world: World = {
      a,
      b,
      handled: [],
      payload: 0,
      seen: 0,
      buffered: null,
      asleep: false,
      result: 0,
      later: null,
      faults: [],
    };
    this.#patch?.(world);
    this.#world = world;
    return world;
  }
}

/** B on its way through a run of A. */
class InnerRun {
  readonly #start: () => unknown;
  readonly #a: Vm;
  #rest: Iterator<unknown> | null = null;
  #begun = false;

  constructor(b: Inner, world: World) {
    this.#start = () => b(world);
    this.#a = world.a;
  }

  /** It has begun, and A is in a bracket that it waits for. */
  get waiting(): boolean {
    return this.#rest !== null;
  }

  /** Begins, or goes on, as far as A's bracket lets it. */
  advance(): void {
    if (!this.#begun) {
      this.#begun = true;
      const started = this.#start();
      if (isGenerator(started)) this.#rest = started;
      if (this.#rest?.next().done) this.#rest = null;
    }
    while (this.#rest && !this.#a.region.bracketOpen(this.#a.agent)) {
      if (this.#rest.next().done) this.#rest = null;
    }
  }
}

function isGenerator(value: unknown): value is Generator {
  return typeof value === 'object' && value !== null && Symbol.iterator in value && 'next' in value;
}

/** Makes every look of the TypeScript half at the region a step. */
function stepAtWords(vm: Vm, onStep: (address: number) => void): void {
  const { words } = vm.region;
  const [load, store] = [words.load.bind(words), words.store.bind(words)];
  words.load = (at) => {
    onStep(at);
    return load(at);
  };
  words.store = (at, value) => {
    onStep(at);
    store(at, value);
  };
}

function flushStore(world: World): void {
  if (world.buffered === null) return;
  world.payload = world.buffered;
  world.buffered = null;
}

/** Drains as a guest handler: notes the ports and reads the payload. */
export function drain(world: World, vm: Vm, vcpu = 0): void {
  vm.vcpu(vcpu).drain((port) => {
    world.handled.push(port);
    world.seen = world.payload;
  });
}

/** The guest answers every upcall it is asked for, and looks at nothing else. */
function settle(world: World): void {
  for (let i = 0; i < world.b.vcpus; i++) {
    for (let round = 0; world.b.vcpu(i).upcallPending; round++) {
      drain(world, world.b, i);
      if (round > 8) {
        world.faults.push(`vCPU ${i} is asked for upcalls without end`);
        return;
      }
    }
  }
}

/** Whether the sleeping flag of vCPU 0 stands. */
export function sleeping(world: World): boolean {
  return (world.b.region.words.load(world.b.vcpu(0).line + VCPU_KICK) & KICK_SLEEPER) !== 0;
}
