// A sequence of calls on a fresh world, and what has to hold when it is over: the VM still delivers, and nothing is held. [R1, R7]

import {
  AGENT_FREE,
  AGENT_INVALIDATIONS,
  AGENT_READER,
  AGENT_STATE,
  EVENTFD_REFERENCES,
  EVENTFD_SIZE,
  REGION_CLOCK_WRITER,
  REGION_EVENTFD_CAPACITY,
  REGION_EVENTFDS,
  REGION_INVALIDATE_ACTIVE,
  REGION_POLLERS,
  VCPU_POLLER,
  VCPU_SLEEPER,
  VCPU_TIMER_CALLBACK,
} from '../../src/abi/region.ts';
import { gfn, gpa, type Hpa, type Hva, type Vm } from '../../src/index.ts';
import { PAGES } from './chance.ts';
import { Finding, Judge } from './judge.ts';
import type { Call } from './value.ts';
import { forgetGround, groundOf, HookError, type Kind, World } from './world.ts';

const PAGE = 4096;
/** A port and a place that the last look uses. */
const LAST_PORT = 77;

/** What can be kept and replayed. */
export interface Sequence {
  readonly kind: Kind;
  readonly calls: readonly Call[];
}

export interface Run {
  readonly calls: readonly Call[];
  /** of each call */
  readonly outcomes: readonly string[];
  /** operations with their outcomes, each in the order in which it first came */
  readonly features: ReadonlySet<string>;
  /** calls that were made, those inside others as well */
  readonly made: number;
  readonly finding: Finding | null;
  readonly mostSteps: ReadonlyMap<string, number>;
  /** settled when the asynchronous waits are over; rejected with a finding. What they hold is given back then. */
  readonly settled: Promise<void>;
}

/** The next call, or null: that was all. */
export type Source = (index: number) => Call | null;

/** Makes the calls of a source one after the other. */
export function runSequence(kind: Kind, source: Source): Run {
  const world = new World(groundOf(kind));
  const judge = new Judge(world);
  const calls: Call[] = [];
  const outcomes: string[] = [];
  const features = new Set<string>();
  let finding: Finding | null = null;
  const restore = embedder(world);
  try {
    for (let call = source(0); call !== null; call = source(calls.length)) {
      calls.push(call);
      outcomes.push(judge.judge(call));
      for (const feature of judge.features) features.add(feature);
      restore.check();
    }
    finish(world);
    restore.check();
  } catch (error) {
    finding = error instanceof Finding ? error : new Finding('exception', `${(error as Error).stack}`);
    forgetGround(kind);
  } finally {
    restore.end();
  }
  const { calls: made, mostSteps } = judge;
  return { calls, outcomes, features, made, finding, mostSteps, settled: settledOf(world) };
}

/** Makes the calls of a list. */
export function replay({ kind, calls }: Sequence): Run {
  return runSequence(kind, (index) => calls[index] ?? null);
}

const SETTLED = Promise.resolve();

/** Keeps hold of the waits, not of the world. */
function settledOf({ promises, held }: World): Promise<void> {
  if (promises.length === 0) return SETTLED;
  const settled = Promise.all(promises).then(() => {
    if (held.count !== 0) throw new Finding('ledger', `${held.count} waits hold the event loop [R7]`);
  });
  settled.catch(() => {});
  return settled;
}

/** Stands for the platform while a sequence runs: naps pass at once, and what a hook threw is looked at. */
function embedder(world: World): { check(): void; end(): void } {
  const { wait } = Atomics;
  const { queueMicrotask } = globalThis;
  let late: unknown;
  Atomics.wait = (() => {
    world.nap();
    return 'timed-out';
  }) as typeof Atomics.wait;
  // The engine reports what a hook throws as an uncaught error; it has to be the hook's own.
  globalThis.queueMicrotask = (report) => {
    try {
      report();
    } catch (error) {
      if (!(error instanceof HookError)) late ??= error;
    }
  };
  return {
    check: () => {
      if (late !== undefined) throw late;
    },
    end: () => {
      Atomics.wait = wait;
      globalThis.queueMicrotask = queueMicrotask;
    },
  };
}

// ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────────

function finish(world: World): void {
  const { vm, other } = world;
  [world.faultHook, world.stubborn, world.atStep] = ['nothing', false, null];
  if (other !== null && !other.detached) {
    leaveAll(other);
    other.detach();
  }
  if (!vm.detached) {
    leaveAll(vm);
    for (let i = 0; i < vm.vcpus; i++) {
      vm.vcpu(i).afterExit();
      if (!vm.shared) vm.vcpu(i).onUpcall(null);
    }
    deliver(world);
    settle(world);
    vm.close();
  }
  const touched = world.guards.touched();
  if (touched !== null) throw new Finding('guard', `byte ${touched}, which is nobody's, was changed at the end`);
  closedLedger(vm);
}

/** What a thread has open it closes. */
function leaveAll(vm: Vm): void {
  if (vm.changes.inBracket) vm.leave();
  while (vm.region.words.load(vm.agent + AGENT_INVALIDATIONS) > 0) vm.invalidateEnd();
}

/** Whatever was done to it: with its pages in place a VM delivers an event. [R1] */
function deliver({ vm, ram }: World): void {
  if (vm.hostPages.count > 0) {
    const first = vm.guestBase as Hva;
    vm.hostPages.map(first, PAGES, vm.guestBase as Hpa);
  }
  for (const { id, addressSpace } of vm.memslots.list()) vm.memslots.delete(id, addressSpace);
  vm.memslots.set({ id: 0, gpa: gpa(0), bytes: PAGES * PAGE, hva: vm.guestBase as Hva });
  vm.setAttr({ type: 'shared_info', gfn: gfn(10) });
  const vcpu = vm.vcpu(1);
  vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(11 * PAGE) });
  vcpu.drain(() => {});
  // The guest has seen everything.
  ram.fill(0, 10 * PAGE);
  vm.bindVcpu(LAST_PORT, 1);
  const sent = vm.send(LAST_PORT);
  const pending = vcpu.upcallPending;
  const ports: number[] = [];
  vcpu.drain((port) => ports.push(port));
  if (sent !== 1 || !pending || !ports.includes(LAST_PORT)) {
    throw new Finding('delivery', `a fresh event: sent ${sent}, upcall ${pending}, drained ${ports.join(' ')} [R1]`);
  }
}

/** Everything is given back by the calls that are there for it. [R7] */
function settle({ vm, caches }: World): void {
  for (const cache of caches) if (cache.active) cache.destroy();
  vm.setAttr({ type: 'evtchn', action: 'reset' });
  vm.routes.set([]);
  for (const { fd, open, gsi } of vm.eventfds.list()) {
    if (gsi !== null && open) vm.eventfds.unbindIrq(fd, gsi);
    if (open) vm.eventfds.get(fd).close();
  }
  for (let i = 0; i < vm.vcpus; i++) {
    const vcpu = vm.vcpu(i);
    vcpu.setAttr({ type: 'timer', port: 0, expires: 0n });
    vcpu.beforeEntry();
    vcpu.afterExit();
    vcpu.unload();
  }
  const { words, base } = vm.region;
  expectZero('eventfds', vm.eventfds.list().length);
  expectZero('send ports', vm.sendPorts.list().length);
  expectZero('pollers', words.load(base + REGION_POLLERS));
  expectZero('open invalidations', words.load(base + REGION_INVALIDATE_ACTIVE));
  expectZero('the writer of the clock', words.load(base + REGION_CLOCK_WRITER));
  expectZero('deadlines', Number(vm.nextDeadline() ?? 0n));
  for (let i = 0; i < vm.vcpus; i++)
    expectZero('a timer being delivered', words.load(vm.vcpu(i).record + VCPU_TIMER_CALLBACK));
}

/** Of a VM that is closed nothing is left in the region. */
function closedLedger(vm: Vm): void {
  const { region } = vm;
  const { words, base } = region;
  expectZero('pollers of a closed VM', words.load(base + REGION_POLLERS));
  expectZero('invalidations of a closed VM', words.load(base + REGION_INVALIDATE_ACTIVE));
  for (let i = 0; i < region.agents; i++) {
    const agent = region.agentRecord(i);
    expectZero(`the bracket of agent ${i}`, words.load(agent + AGENT_READER) & 1);
    expectZero(`the place of agent ${i}`, words.load(agent + AGENT_STATE) - AGENT_FREE);
  }
  for (let i = 0; i < region.vcpus; i++) {
    expectZero(`the sleeper of vCPU ${i}`, words.load(region.vcpuLine(i) + VCPU_SLEEPER));
    expectZero(`the poller of vCPU ${i}`, words.load(region.vcpuLine(i) + VCPU_POLLER));
  }
  const first = region.part(REGION_EVENTFDS);
  for (let i = 0; i < words.load(base + REGION_EVENTFD_CAPACITY); i++) {
    expectZero(`references of eventfd ${i}`, words.load(first + i * EVENTFD_SIZE + EVENTFD_REFERENCES));
  }
}

function expectZero(what: string, n: number): void {
  if (n !== 0) throw new Finding('ledger', `${what}: ${n} are left [R7]`);
}
