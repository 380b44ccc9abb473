// Two agents under the FIFO ABI over one memory in one thread. The first runs on a trace kernel; at each of its steps the second may run
// its whole operation, or, while that has to wait for a lock of the first, at the next step where it does not.

import { EVENT_LINKED, EVENT_MASKED, EVENT_PENDING, FIFO_QUEUES, QUEUE_HOLDER_BITS } from '../../src/abi/fifo.ts';
import { REGION_INVALIDATE_ACTIVE } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gfn, gpa, regionBytes, type Vm } from '../../src/index.ts';
import { SHARED_INFO_GFN, SHARED_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { ARRAY_GFN, CONTROL_GFN, FifoGuest } from './fifo_guest.ts';

const VCPUS = 2;
const GUEST_PAGES = ARRAY_GFN + 4;
const SIZES = { vcpus: VCPUS, agents: 2, fifoPorts: 2048, routes: 0, eventfds: 0, memslots: 4, dirtyPages: 0 };
const GUEST_BASE = Math.ceil(regionBytes(SIZES) / PAGE_SIZE) * PAGE_SIZE;
export const NOT_NOW = -11;

export interface FifoWorld {
  readonly owner: Vm;
  readonly other: Vm;
  /** the owner's; `guest.fifo` for control operations */
  readonly guest: FifoGuest;
  /** ports that were handled by either agent's drains, in order */
  readonly handled: number[];
  /** by port: the vCPU that handled it last */
  readonly where: Map<number, number>;
  readonly faults: string[];
  /** what was written for an event, and the last of it that a handler has seen */
  payload: number;
  seen: number;
  /** a store that is still in the store buffer of the first agent */
  buffered: number | null;
}

/** What runs inside: NOT_NOW when it has to wait for the other. */
export type Inner = (world: FifoWorld) => unknown;

export interface FifoScenario {
  readonly name: string;
  /** who is interrupted at its steps; the other agent runs inside */
  readonly who: 'owner' | 'other';
  /** pages of event words at the beginning; undefined: the 2-level ABI is in force */
  readonly pages?: number;
  readonly setup?: (world: FifoWorld) => void;
  readonly a: (world: FifoWorld) => void;
  readonly b: Inner;
  /** looks of the half in TypeScript are steps as well */
  readonly slowHalf?: boolean;
  readonly judge: (world: FifoWorld) => string | null;
}

export class FifoInterleaver {
  readonly #module: WebAssembly.Module;
  readonly #memory = new WebAssembly.Memory({
    initial: Math.ceil((GUEST_BASE + GUEST_PAGES * PAGE_SIZE) / 65536),
    maximum: 64,
    shared: true,
  });
  #onStep: (kind: number, address: number) => void = () => {};
  #traced: 'owner' | 'other' = 'owner';
  readonly #patch: ((world: FifoWorld) => void) | undefined;

  constructor(kernel: Uint8Array<ArrayBuffer>, patch?: (world: FifoWorld) => void) {
    this.#module = new WebAssembly.Module(kernel);
    this.#patch = patch;
  }

  /** @returns what went wrong, with the step before which the other ran, and how many steps there were */
  explore(scenario: FifoScenario): { findings: string[]; steps: number } {
    const findings: string[] = [];
    const { steps, fault } = this.#run(scenario, -1);
    if (fault !== null) findings.push(`alone: ${fault}`);
    for (let step = 0; step <= steps; step += strideAt(step, steps)) {
      const found = this.#run(scenario, step).fault;
      if (found !== null) findings.push(`step ${step}: ${found}`);
    }
    return { findings, steps: steps + 1 };
  }

  #run(scenario: FifoScenario, at: number): { steps: number; fault: string | null } {
    this.#onStep = () => {};
    this.#traced = scenario.who;
    const world = this.#fresh(scenario.pages);
    scenario.setup?.(world);
    const a = world[scenario.who];
    if (scenario.slowHalf) stepAtWords(a, (address) => this.#onStep(0, address));
    let steps = 0;
    let inside = false;
    let over = at < 0;
    const runB = (): void => {
      inside = true;
      over = scenario.b(world) !== NOT_NOW;
      inside = false;
    };
    this.#onStep = (kind, address) => {
      if (inside) return;
      guard(world, a, address);
      if (steps++ >= at && !over) runB();
      // A store of the caller's becomes visible at its next locked operation.
      if ((kind === 2 || kind === 3) && world.buffered !== null) flush(world);
    };
    try {
      scenario.a(world);
      flush(world);
      for (let i = 0; i < 3 && !over; i++) runB();
      if (at < 0) scenario.b(world);
      else if (!over) world.faults.push('the other waits for ever');
    } catch (error) {
      world.faults.push(`threw ${String(error)}`);
    }
    this.#onStep = () => {};
    if (world.faults.length === 0) settle(world);
    return { steps, fault: world.faults[0] ?? scenario.judge(world) };
  }

  #fresh(pages: number | undefined): FifoWorld {
    new Uint8Array(this.#memory.buffer).fill(0);
    const traceOf = (who: 'owner' | 'other') => ({
      module: this.#module,
      onStep: (kind: number, address: number) => {
        if (who === this.#traced) this.#onStep(kind, address);
      },
      onWait: () => 1,
    });
    const owner = createVm({
      memory: this.#memory,
      regionBase: 0,
      guestBase: GUEST_BASE,
      guestPages: GUEST_PAGES,
      trace: traceOf('owner'),
      ...SIZES,
    });
    owner.setAttr({ type: 'long_mode', enabled: true });
    owner.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    for (let i = 0; i < VCPUS; i++) owner.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(i)) });
    const other = attachVm(owner.handle(), { trace: traceOf('other') });
    // Who would have to sleep until the other goes on is told at once that it cannot.
    for (const { region } of [owner, other]) region.words.wait = () => false;
    const guest = new FifoGuest(owner);
    if (pages !== undefined) guest.begin(pages);
    const world: FifoWorld = {
      owner,
      other,
      guest,
      handled: [],
      where: new Map(),
      faults: [],
      payload: 0,
      seen: 0,
      buffered: null,
    };
    this.#patch?.(world);
    return world;
  }
}

/**
 * Every step of what is short. A switch goes through all ports, which makes thousands of steps that are all alike to others: there the
 * first and the last ones, and some of those between.
 */
function strideAt(step: number, steps: number): number {
  return step < EVERY || step > steps - EVERY ? 1 : Math.max(1, Math.ceil((steps - 2 * EVERY) / BETWEEN));
}
const EVERY = 90;
const BETWEEN = 40;

/** R3: the engine touches a page of the guest's only in a bracket, or while nobody else can be in one: in a change. */
function guard(world: FifoWorld, a: Vm, address: number): void {
  if (address < GUEST_BASE || address >= GUEST_BASE + GUEST_PAGES * PAGE_SIZE) return;
  if (a.region.bracketOpen(a.agent) || a.region.words.load(a.vmBase + REGION_INVALIDATE_ACTIVE) > 0) return;
  world.faults.push(`byte ${address - GUEST_BASE} of guest RAM is touched outside of a bracket`);
}

export function holdsLock({ region }: Vm): boolean {
  for (let i = 0; i < VCPUS; i++) {
    for (let queue = 0; queue < 16; queue++) {
      if (region.words.load(region.fifoVcpu(i) + FIFO_QUEUES + 4 * queue) & QUEUE_HOLDER_BITS) return true;
    }
  }
  return false;
}

function flush(world: FifoWorld): void {
  if (world.buffered === null) return;
  world.payload = world.buffered;
  world.buffered = null;
}

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

// ── what agents do ─────────────────────────────────────────────────────────────────────────────────────────────────

export const send = (vm: Vm, port: number): number => vm.kernel.send(vm.vmBase, vm.agent, port);
export const unmask = (vm: Vm, port: number): number => vm.kernel.unmask(vm.vmBase, vm.agent, port);

/** The fast half's drain, whose ports are handled. @returns how many, or NOT_NOW */
export function drain(world: FifoWorld, vm: Vm, vcpu = 0): number {
  const inbox = vm.region.inbox(vm.agent);
  const found = vm.kernel.drain(vm.vmBase, vm.agent, vcpu, inbox);
  const count = found < 0 ? 0 : found & 0xffff;
  for (const port of new Uint32Array(vm.memory.buffer, inbox, count)) {
    world.handled.push(port);
    world.where.set(port, vcpu);
    world.seen = world.payload;
  }
  return found;
}

/** A send by the half that may sleep, for agents that nobody interrupts. */
export const sendSlow = (vm: Vm, port: number): number => vm.send(port);

/** The guest answers every upcall that it is asked for. */
function settle(world: FifoWorld): void {
  const { other } = world;
  for (let round = 0; round < 12; round++) {
    let asked = false;
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
      if (!other.vcpu(vcpu).upcallPending) continue;
      asked = true;
      other.vcpu(vcpu).drain((port) => {
        world.handled.push(port);
        world.where.set(port, vcpu);
        world.seen = world.payload;
      });
    }
    if (!asked) return;
  }
  world.faults.push('upcalls without end');
}

/** Each port was handled that often, and nothing is pending, linked or lost. */
export function handled(expected: Readonly<Record<number, number | readonly [least: number, most: number]>>) {
  return (world: FifoWorld): string | null => {
    for (const [name, times] of Object.entries(expected)) {
      const port = Number(name);
      const count = world.handled.filter((p) => p === port).length;
      const [least, most] = typeof times === 'number' ? [times, times] : times;
      if (count < least) return `port ${port} was lost`;
      if (count > most) return `port ${port} was handled ${count} times`;
    }
    const stranger = world.handled.find((port) => !(port in expected));
    if (stranger !== undefined) return `port ${stranger} was invented`;
    return left(world);
  };
}

/** The same, and `port` was handled by `vcpu`: a queue that is hung behind another's port goes to the wrong one. */
export function handledBy(expected: Parameters<typeof handled>[0], port: number, vcpu: number) {
  const judge = handled(expected);
  return (world: FifoWorld): string | null =>
    world.where.get(port) === vcpu ? judge(world) : `port ${port} was handled by vCPU ${world.where.get(port)}`;
}

function left({ owner, guest }: FifoWorld): string | null {
  if (holdsLock(owner)) return 'a queue stays locked';
  if (owner.region.fifoActive) {
    const port = guest.words.findIndex(
      (word) => (word & EVENT_LINKED) !== 0 || (word & (EVENT_PENDING | EVENT_MASKED)) === EVENT_PENDING,
    );
    return port < 0 ? null : `port ${port} is left in a queue, or pending and in none`;
  }
  const bits = new Uint32Array(owner.memory.buffer, owner.guestBase + SHARED_INFO_GPA + 0x800, 128);
  const masks = new Uint32Array(owner.memory.buffer, owner.guestBase + SHARED_INFO_GPA + 0xa00, 128);
  const word = bits.findIndex((pending, i) => (pending & ~(masks[i] as number)) !== 0);
  return word < 0 ? null : `word ${word} of the pending bitmap is left`;
}

export { CONTROL_GFN };
