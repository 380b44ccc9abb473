// A model that runs: a VM in memory, its actors, and one transition after the other. Everything that decides what happens next is
// in the memory and in where the actors are, so a state can be saved, brought back and recognised.

import { PAGE_SIZE } from '../abi/shared_info.ts';
import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_WAIT } from '../abi/step.ts';
import { createVm } from '../create.ts';
import { EvtchnError } from '../errors.ts';
import { gfn, gpa } from '../memory/address.ts';
import { regionBytes } from '../memory/region.ts';
import { VirtualClock } from '../vm/time/clock.ts';
import type { Vm } from '../vm/vm.ts';
import { Actor, listsOf, type Party, type SavedActor, viewOf } from './actor.ts';
import { ActorWords } from './actor_words.ts';
import { type CallHooks, Coroutines, STACK_SIZE, STOPPED } from './coroutine.ts';
import type { Access, Answer, KernelCall } from './operation.ts';
import { Sharing } from './sharing.ts';
import { StateMemory, type StateName } from './state_memory.ts';

/** What is explored. */
export interface Model {
  readonly name: string;
  readonly vcpus?: number;
  readonly longMode?: boolean;
  /** guest pages; shared_info is in page 1, the vcpu_info of vCPU n in page 2 + n */
  readonly guestPages?: number;
  /** whether host addresses go through a table, so that pages can move */
  readonly hostPages?: boolean;
  /** counters of 32 bits that the model keeps its notes in */
  readonly counters?: number;
  /** before the actors begin */
  readonly setup?: (world: World) => void;
  readonly parties: readonly Party[];
  /** what must hold in every state; null, or what does not */
  readonly always?: (world: World) => string | null;
  /** what must hold at every end */
  readonly finally?: (world: World) => string | null;
  /** sleepers may wake without a reason, once each */
  readonly spurious?: boolean;
  /**
   * Stores that are no atomics stay in a buffer of the actor's and reach the others one by one, in any order, those of 64 bits in
   * halves; at the latest before its next atomic store or read-modify-write. What a machine with weak ordering may do.
   */
  readonly storeBuffers?: boolean;
}

/** Pages of shared_info and of the first vcpu_info in a model's guest. */
export const SHARED_INFO_PAGE = 1;
export const VCPU_INFO_PAGE = 2;
const GUEST_PAGES = 12;
/** Entries of a model's page table: as far as any model's guest reaches. */
const HOST_PAGES = 512;
/** Bytes behind the guest for stacks and counters. */
const ROOM = 65536;

/** Who makes more accesses than this without meeting anybody turns in place: in one call, and in TypeScript. [R5] */
const MOST_ACCESSES = 20_000;
const MOST_LOOKS = 2_000;

/** What can happen next: an actor's number and how it goes on, or that time passes. */
export const MOVE = 0;
export const DIE = 16;
export const TIME_OUT = 32;
export const SPURIOUS = 48;
/** A store leaves the actor's store buffer: which one stands above the lowest 8 bits. */
export const DRAIN = 64;

/** Of a choice: whose it is, and how he goes on. */
export function whoOf(choice: number): number {
  return choice & 15;
}
export function howOf(choice: number): number {
  return choice & 0xf0;
}
/** Not a death nor an awakening without a reason: those may happen, and need not. */
export function isUsual(choice: number): boolean {
  const how = howOf(choice);
  return how !== DIE && how !== SPURIOUS;
}

/** One access, as it happened. */
export interface Happening {
  readonly actor: number;
  readonly doing: string;
  /** STEP_ kind */
  readonly step: number;
  readonly address: number;
  readonly before: number;
  readonly after: number;
}

/** A state, to come back to. */
export interface SavedState {
  readonly memory: Int32Array;
  readonly actors: readonly SavedActor[];
  /** actors that have woken without a reason, as bits */
  readonly spurious: number;
}

/** An access that has begun, for whoever tells the story. */
interface Begun {
  readonly actor: Actor;
  readonly doing: string;
  readonly step: number;
  readonly address: number;
  readonly before: number;
}

/** Runs models, one after the other, over one memory: each memory would reserve gigabytes of addresses. */
export class World {
  readonly memory: WebAssembly.Memory;
  readonly sharing: Sharing;
  readonly #i32: Int32Array;
  readonly #module: WebAssembly.Module;
  readonly #state: StateMemory;
  #coroutines: Coroutines | null = null;
  #takeAgent: () => number = () => 0;
  #vm: Vm | null = null;
  #model: Model | null = null;
  #counters = 0;
  #spurious = 0;
  #initial: SavedState | null = null;
  /** the actor whose call runs */
  #running: Actor | null = null;
  /** accesses since the last choice, and that choice itself */
  #units = 0;
  /** the accesses that each actor made on its way to its first step */
  #first: readonly number[] = [];
  #begun: Begun | null = null;
  /** a plain access under way, and what its words had before */
  #plain: { readonly actor: Actor; readonly words: readonly (readonly [word: number, value: number])[] } | null = null;
  /** called after each access, when somebody wants to tell the story */
  onHappening: ((happening: Happening) => void) | null = null;
  actors: readonly Actor[] = [];
  /** what went wrong, if something has */
  fault: string | null = null;
  clock: VirtualClock = new VirtualClock();

  /** `module`: the kernel's trace build, transformed by Asyncify. */
  constructor(module: WebAssembly.Module, pages = 32) {
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#i32 = new Int32Array(this.memory.buffer);
    this.#module = module;
    this.#state = new StateMemory(this.memory);
    this.sharing = new Sharing(this.memory);
  }

  /** The VM as the one who sets a model up and judges it sees it: its calls are no steps. */
  get vm(): Vm {
    if (this.#vm === null) throw new EvtchnError('EINVAL', 'no model has begun');
    return this.#vm;
  }
  get model(): Model {
    if (this.#model === null) throw new EvtchnError('EINVAL', 'no model has begun');
    return this.#model;
  }

  /** Makes the VM of a model and lets its actors come to their first steps. */
  begin(model: Model): void {
    if (this.#model !== model) this.sharing.clear();
    this.sharing.all = false;
    this.#model = model;
    this.#i32.fill(0);
    this.#state.begin();
    this.#begun = null;
    this.clock = new VirtualClock();
    const stacks = this.#place(model);
    this.#counters = stacks + model.parties.length * STACK_SIZE;
    const agents = model.parties.map(() => this.#takeAgent());
    model.setup?.(this);
    this.#state.begin();
    for (const [at, bytes] of listsOf(this.vm.agent)) this.#state.touch(at, bytes);
    this.#state.touch(this.#counters, (model.counters ?? 0) * 4);
    const stage = {
      vm: this.vm,
      module: this.#module,
      clock: this.clock,
      touch: (address: number, bytes: number) => this.#state.touch(address, bytes),
      counter: (index: number) => this.counter(index),
    };
    this.actors = model.parties.map(
      (party, i) => new Actor(stage, i, party, agents[i] as number, stacks + i * STACK_SIZE),
    );
    this.#initial = null;
    this.again();
  }

  /** Back to where the model began. */
  again(): void {
    if (this.#initial !== null) {
      this.restore(this.#initial);
      return;
    }
    this.fault = null;
    this.#spurious = 0;
    this.#state.reset();
    this.#plain = null;
    for (const actor of this.actors) actor.begin();
    this.#first = this.actors.map((actor) => {
      this.#units = 0;
      this.#arrive(actor);
      this.#settlePlain();
      actor.stores.hide();
      return this.#units;
    });
    this.#tellBegun();
    this.#initial = this.save();
  }

  /** Goes on with what was learnt since the beginning about which accesses are steps, or with every access as one. */
  afresh(all = false): void {
    this.#initial = null;
    this.sharing.all = all;
    this.sharing.learnt = false;
    this.again();
  }

  /** Words of memory that the model has changed so far. */
  get changed(): number {
    return this.#state.length;
  }
  /** The accesses that each actor has made before its first step. */
  get first(): readonly number[] {
    return this.#first;
  }
  /** The accesses of the last choice: its own, and those up to the next step. */
  get units(): number {
    return this.#units;
  }

  /** Makes the VM. @returns where the stacks begin */
  #place(model: Model): number {
    const { vcpus = 1, guestPages = GUEST_PAGES } = model;
    const sizes = { agents: model.parties.length + 1, memslots: 4, dirtyPages: 0, routes: 0, eventfds: 0, vcpus };
    const hostPages = model.hostPages ? HOST_PAGES : 0;
    const guestBase = Math.ceil(regionBytes({ ...sizes, hostPages }) / PAGE_SIZE) * PAGE_SIZE;
    const end = guestBase + guestPages * PAGE_SIZE;
    if (end + ROOM > this.memory.buffer.byteLength) {
      throw new EvtchnError(
        'ENOMEM',
        `the model takes ${end} bytes, the explorer has ${this.memory.buffer.byteLength}`,
      );
    }
    const touch = (address: number, bytes: number): void => this.#state.touch(address, bytes);
    const onStep = (step: number, address: number): void => {
      if (step !== STEP_LOAD) touch(address >>> 0, 8);
    };
    // Who judges never waits: all others stand still.
    const trace = { module: this.#module, onStep, onWait: () => 2 };
    const place = { memory: this.memory, regionBase: 0, guestBase, guestPages };
    const made = createVm({ ...sizes, ...place, hostPages, clock: this.clock, trace });
    const words = new ActorWords(this.memory, { asking: false, ask: () => undefined, touch });
    this.#coroutines = new Coroutines(this.#module, words);
    this.#takeAgent = () => made.region.takeAgent();
    const vm = viewOf({ words, kernel: made.kernel, agent: made.agent, owner: true }, made, this.#module, this.clock);
    this.#vm = vm;
    vm.setAttr({ type: 'long_mode', enabled: model.longMode ?? true });
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_PAGE) });
    for (let i = 0; i < vcpus; i++) {
      vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa((VCPU_INFO_PAGE + i) * PAGE_SIZE) });
    }
    return end;
  }

  // ── the model's counters ─────────────────────────────────────────────────────────────────────────────────────────

  /** A counter of the model's. */
  count(counter: number): number {
    return this.#i32[this.counter(counter) >>> 2] as number;
  }
  /** Changes a counter; in a note, or while the model is set up. */
  add(counter: number, n = 1): number {
    const at = this.counter(counter) >>> 2;
    this.#i32[at] = (this.#i32[at] as number) + n;
    return this.#i32[at];
  }
  /** Writes a word of guest memory at linear address `at`; in a note, or while the model is set up. */
  poke(at: number, value: number): void {
    this.#state.touch(at, 4);
    this.#i32[at >>> 2] = value;
  }
  /** A word of memory at linear address `at`. */
  peek(at: number): number {
    return this.#i32[at >>> 2] as number;
  }
  /** The linear address of a counter. */
  counter(counter: number): number {
    return this.#counters + counter * 4;
  }

  // ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────

  save(): SavedState {
    return {
      memory: this.#state.save(),
      actors: this.actors.map((actor) => actor.saveState(this.#i32)),
      spurious: this.#spurious,
    };
  }

  restore(saved: SavedState): void {
    this.fault = null;
    this.#spurious = saved.spurious;
    this.#state.restore(saved.memory);
    for (let i = 0; i < this.actors.length; i++) {
      (this.actors[i] as Actor).restoreState(saved.actors[i] as SavedActor, this.#i32);
    }
  }

  /** Folds the state into `name`. */
  fold(name: StateName): void {
    name.clear();
    name.add(KEYS, this.#spurious);
    this.#state.fold(name);
    for (const actor of this.actors) actor.fold(name, this.#i32);
  }

  /** Runs `part` over the memory as it was when the model began, then brings the present state back. */
  fromTheBeginning<T>(part: () => T): T {
    const state = this.save();
    this.#state.reset();
    try {
      return part();
    } finally {
      this.restore(state);
    }
  }

  // ── what can happen ──────────────────────────────────────────────────────────────────────────────────────────────

  /** What can happen next, none at an end. */
  choices(): number[] {
    const moves: number[] = [];
    const others: number[] = [];
    for (const actor of this.actors) {
      if (actor.ended) continue;
      if (this.#ready(actor)) moves.push(MOVE + actor.index);
      else if (actor.asleep && this.model.spurious && !(this.#spurious & (1 << actor.index))) {
        others.push(SPURIOUS + actor.index);
      }
      if (actor.party.mortal) others.push(DIE + actor.index);
    }
    if (this.model.storeBuffers) {
      for (const actor of this.actors) {
        for (const store of actor.stores.mayLeave()) moves.push(DRAIN + actor.index + (store << 8));
      }
    }
    if (moves.length > 0) return moves.concat(others);
    // Time passes only when nobody can move: everybody may be as slow as he likes. It passes for all who wait.
    if (this.actors.some(waits)) moves.push(TIME_OUT);
    return moves.concat(others);
  }

  #ready(actor: Actor): boolean {
    if (actor.asleep) return actor.woken;
    const { next } = actor.place;
    if (next.kind === 'until') return next.ready();
    if (next.kind === 'wait') return actor.woken || this.#i32[next.address >>> 2] !== next.expected;
    return true;
  }

  /** Lets one of the choices happen. */
  take(choice: number): void {
    const actor = this.actors[whoOf(choice)] as Actor;
    const how = howOf(choice);
    this.#units = 1;
    if (how === DRAIN) actor.stores.leave(choice >>> 8);
    else if (how === DIE) actor.dead = true;
    else if (how === TIME_OUT) {
      for (const other of this.actors) if (waits(other)) other.woken = true;
    } else {
      if (how === SPURIOUS) this.#spurious |= 1 << actor.index;
      actor.stores.apply();
      this.#move(actor);
      this.#settlePlain();
      actor.stores.hide();
    }
    this.#tellBegun();
    this.fault ??= this.model.always?.(this) ?? null;
  }

  #move(actor: Actor): void {
    const { next } = actor.place;
    if (next.kind === 'kernel') this.#resume(actor, next);
    else if (next.kind === 'access') {
      this.#before(actor, next.step, next.address, next.bytes, this.#matters(next.address));
      this.#answer(actor, next.run(), false);
    } else if (next.kind === 'wait') {
      actor.woken = false;
      this.#answer(actor, next.run(), false);
    } else if (next.kind === 'until') this.#answer(actor, null, false);
  }

  /** The call makes the access that it has stopped before, or comes back from its sleep, and goes on to its next step. */
  #resume(actor: Actor, next: KernelCall): void {
    if (actor.asleep === 0) this.#before(actor, actor.step, actor.address, 8, this.#matters(actor.address));
    actor.asleep = 0;
    actor.woken = false;
    actor.stopped = false;
    this.#call(actor, next, true);
  }

  /** Whether an access that is a step concerns others: where every access is one, by what is known. */
  #matters(address: number): boolean {
    return !this.sharing.all || this.sharing.shared(address);
  }

  /** What an access does to the others besides what it writes. */
  #before(actor: Actor, step: number, address: number, bytes: number, visible: boolean): void {
    if (this.onHappening !== null) {
      this.#tellBegun();
      const { doing } = actor.place;
      this.#begun = { actor, doing, step, address, before: this.#i32[address >>> 2] as number };
    }
    // A copy of a page says itself what it changes.
    if (step !== STEP_LOAD && bytes <= 8) this.#state.touch(address, bytes);
    this.#settlePlain();
    if (step === STEP_PLAIN && this.model.storeBuffers) this.#plain = { actor, words: this.#wordsAt(address) };
    else if (step !== STEP_LOAD && step !== STEP_WAIT) actor.stores.clear();
    if (visible && actor.flushDue) actor.flush();
    if (step === STEP_LOAD) return;
    if (step === STEP_NOTIFY) this.#notify(address);
    // A locked operation empties the store buffer first. One that concerns nobody else may as well be later: right before the
    // next that does.
    else if (step !== STEP_PLAIN && step !== STEP_WAIT && actor.buffered !== 0) {
      if (visible) actor.flush();
      else actor.flushDue = true;
    }
  }

  #notify(address: number): void {
    for (const other of this.actors) {
      const { next } = other.place;
      if (other.asleep === address || (next.kind === 'wait' && next.address === address)) other.woken = true;
    }
  }

  /** The words that an access of up to 8 bytes may change, as they are. */
  #wordsAt(address: number): [word: number, value: number][] {
    const first = address >>> 2;
    return [first, first + 1, first + 2].map((word) => [word, this.#i32[word] as number]);
  }

  /** What the last plain access has changed goes to its actor's store buffer. */
  #settlePlain(): void {
    const plain = this.#plain;
    if (plain === null) return;
    this.#plain = null;
    for (const [word, before] of plain.words) {
      const value = this.#i32[word] as number;
      if (value !== before) plain.actor.stores.add(word, value, before);
    }
  }

  #tellBegun(): void {
    const begun = this.#begun;
    if (begun === null) return;
    this.#begun = null;
    this.onHappening?.({ ...begun, actor: begun.actor.index, after: this.#i32[begun.address >>> 2] as number });
  }

  // ── from one step to the next ────────────────────────────────────────────────────────────────────────────────────

  /** The operation has answered: on to the next step. */
  #answer(actor: Actor, answer: Answer, lists: boolean): void {
    actor.answer(answer, lists);
    this.#arrive(actor);
  }

  /** Does what is not a step: bookkeeping, accesses that concern nobody else, the way to a call's first access. */
  #arrive(actor: Actor): void {
    for (;;) {
      const { next } = actor.place;
      if (next.kind === 'kernel') {
        this.#call(actor, next, false);
        return;
      }
      if (next.kind === 'note') actor.answer(next.run(), false);
      else if (next.kind === 'access' && !this.#isStep(actor, next)) {
        if (++this.#units > MOST_LOOKS) {
          this.fault ??= `${actor.name} makes more than ${MOST_LOOKS} accesses between two steps: it goes on for ever`;
          actor.dead = true;
          return;
        }
        this.#before(actor, next.step, next.address, next.bytes, false);
        actor.answer(next.run(), false);
      } else {
        if (next.kind === 'end' && next.error !== null) this.fault ??= `${actor.name} threw ${next.error}`;
        return;
      }
    }
  }

  #isStep(actor: Actor, { step, address, bytes }: Access): boolean {
    return this.sharing.note(actor.index, step, address, bytes);
  }

  #call(actor: Actor, { name, args }: KernelCall, resumed: boolean): void {
    const coroutines = this.#coroutines as Coroutines;
    this.#running = actor;
    try {
      const result = resumed
        ? coroutines.resume(actor.stack, name, args, this.#hooks)
        : coroutines.start(actor.stack, name, args, this.#hooks);
      if (result === STOPPED) actor.stopped = true;
      else this.#answer(actor, result, true);
    } catch (error) {
      this.fault ??= `${actor.name} trapped in ${name}: ${String(error)}`;
      actor.dead = true;
    }
  }

  readonly #hooks: CallHooks = {
    onStep: (step, address) => this.#onStep(this.#running as Actor, step, address),
    onWait: (address, expected) => this.#onWait(this.#running as Actor, address, expected),
    // Nothing but a notify, or no reason at all, ends a sleep: that it looks by itself now and then must not be needed.
    waited: () => 0,
  };

  #onStep(actor: Actor, step: number, address: number): boolean {
    const bytes = step === STEP_PLAIN ? 8 : 1;
    if (this.sharing.note(actor.index, step, address, bytes)) {
      actor.step = step;
      actor.address = address;
      return true;
    }
    if (++this.#units > MOST_ACCESSES) throw new Error(`more than ${MOST_ACCESSES} accesses between two steps`);
    this.#before(actor, step, address, 8, false);
    return false;
  }

  #onWait(actor: Actor, address: number, expected: number): number | null {
    if (this.#i32[address >>> 2] !== expected) return 1;
    actor.asleep = address;
    return null;
  }
}

/** Whether it waits for a word to change, or a little while. */
function waits(actor: Actor): boolean {
  return !actor.ended && actor.place.next.kind === 'wait';
}

/** Keys of the parts of a state that are not in memory; those of words are lower. */
const KEYS = 0x40000000;
