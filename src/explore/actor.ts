// One party of a model on its way: its view of the VM, its code, and where it is in it.

import {
  AGENT_BAD,
  AGENT_INBOX,
  AGENT_OUTBOX,
  AGENT_POLL_LIST,
  AGENT_RECORD,
  AGENT_RECORD_SIZE,
  AGENT_STATE,
} from '../abi/region.ts';
import { STEP_LOAD, STEP_RMW, STEP_STORE } from '../abi/step.ts';
import { EvtchnError } from '../errors.ts';
import type { Kernel } from '../kernel.ts';
import { Region } from '../memory/region.ts';
import type { Words } from '../memory/words.ts';
import { UpcallListeners } from '../vm/listeners.ts';
import type { VirtualClock } from '../vm/time/clock.ts';
import { Vm } from '../vm/vm.ts';
import { ActorWords } from './actor_words.ts';
import type { Access, Answer, Operation } from './operation.ts';
import { type Place, Program } from './program.ts';
import type { StateName } from './state_memory.ts';
import { type BufferedStore, StoreBuffer } from './store_buffer.ts';

/** The agent's own memory that its code uses: room for a structure, and as much of its lists as models need. */
const LISTED = 16;
const POLLED = 4;
const PARTS: readonly (readonly [at: number, words: number])[] = [
  [AGENT_RECORD, AGENT_RECORD_SIZE / 4],
  [AGENT_OUTBOX, LISTED],
  [AGENT_INBOX, LISTED],
  [AGENT_POLL_LIST, POLLED],
];
/** its counts, which the kernel keeps without telling */
const COUNTS_SIZE = AGENT_BAD + 4 - AGENT_STATE;
const PART_WORDS = AGENT_RECORD_SIZE / 4 + 2 * LISTED + POLLED;
const NOTHING = new Int32Array(0);

/** What an actor's code may do besides using the library. */
export interface Self {
  /** A part of the code, in words. Only its value counts afterwards: variables that it sets are not kept. */
  do<T extends Answer>(doing: string, part: () => T): T;
  do(doing: string, part: () => void): void;
  /** Bookkeeping, at the moment of the access before it. Uses nothing but the model's own counters. */
  note<T extends Answer>(run: () => T): T;
  /** A guest's or driver's own look at the word of 32 bits at linear address `address`: a step. */
  read(address: number): number;
  /** Its write of a word: a step, that the others see at once. */
  write(address: number, value: number): void;
  /** Its locked change of a word: a step. @returns what the word had before */
  change(address: number, to: (word: number) => number): number;
  /** Changes a counter of the model as data that a driver writes: stays in the store buffer until the next locked operation. */
  publish(counter: number): void;
  /** Goes on once `ready` says so; asks about counters of the model and who is dead. */
  until(ready: () => boolean): void;
}

/** An actor's code: an ordinary function over the ordinary library; it has to do the same each time it runs. */
export type Code = (vm: Vm, self: Self) => void;

/** What a model says of an actor. */
export interface Party {
  readonly name: string;
  readonly code: Code;
  /** it may change attributes and bindings */
  readonly owner?: boolean;
  /** it may die before any of its steps */
  readonly mortal?: boolean;
}

/** What the actors share. */
export interface Stage {
  readonly vm: Vm;
  readonly module: WebAssembly.Module;
  readonly clock: VirtualClock;
  touch(address: number, bytes: number): void;
  /** the linear address of a counter */
  counter(index: number): number;
}

/** What a view of the VM is made of. */
export interface ViewParts {
  readonly words: Words;
  readonly kernel: Kernel;
  readonly agent: number;
  readonly owner: boolean;
}

/** A view of a VM for an agent that is attached already. */
export function viewOf(parts: ViewParts, vm: Vm, module: WebAssembly.Module, clock: VirtualClock): Vm {
  const region = Region.open(parts.words, vm.vmBase);
  region.takeAgent = () => parts.agent;
  const { kernel, owner } = parts;
  return new Vm({ kernel, module, region, listeners: new UpcallListeners(), owner, clock, hold: undefined });
}

/** Where an agent's own lists are, in bytes. */
export function listsOf(agent: number): (readonly [at: number, bytes: number])[] {
  return [[agent + AGENT_STATE, COUNTS_SIZE], ...PARTS.map(([at, words]) => [agent + at, words * 4] as const)];
}

/** An actor's part of a saved state. */
export interface SavedActor {
  readonly place: Place;
  readonly stopped: boolean;
  readonly asleep: number;
  readonly woken: boolean;
  readonly dead: boolean;
  readonly step: number;
  readonly address: number;
  readonly buffered: number;
  readonly flushDue: boolean;
  readonly stack: Int32Array | null;
  readonly stores: readonly BufferedStore[];
}

/** Keys of what is not in memory, in the name of a state. */
const FIRST_KEY = 0x50000000;
const KEYS = 0x1000;
const STORE_KEYS = KEYS / 2;

/** The kernel as the code of an actor sees it: each call is an operation. */
function kernelOf(program: Program): Kernel {
  const call =
    (name: keyof Kernel) =>
    (...args: number[]): number => {
      // Turning in place is waiting: the code looks once, then waits, and the others move meanwhile.
      if (name === 'awaitReaders' || name === 'spin') args[3] = 0;
      if (name === 'sendMany' && (args[3] as number) > LISTED) {
        throw new EvtchnError('E2BIG', `a batch in a model has at most ${LISTED} ports, this one has ${args[3]}`);
      }
      return program.operation(() => ({ kind: 'kernel', name, args })) as number;
    };
  return new Proxy({} as Kernel, { get: (_kernel, name) => call(name as keyof Kernel) });
}

export class Actor {
  readonly index: number;
  readonly party: Party;
  /** its record as an agent of the VM */
  readonly agent: number;
  readonly stack: number;
  readonly #stage: Stage;
  readonly #words: ActorWords;
  readonly #lists: Int32Array;
  /** the same parts as indices of words */
  readonly #parts: readonly (readonly [from: number, to: number])[];
  readonly #program: Program;
  readonly #kernel: Kernel;
  #asking = false;

  /** where it is */
  place: Place;
  /** in the middle of a call into the kernel */
  stopped = false;
  /** asleep on this address, 0 = awake */
  asleep = 0;
  /** notified, or its time has passed */
  woken = false;
  dead = false;
  /** the access that it has stopped before */
  step = 0;
  address = 0;
  /** counters that it has published and that the others do not see yet, as bits */
  buffered = 0;
  /** a locked operation was made since */
  flushDue = false;
  /** stores that the others do not see yet */
  readonly stores: StoreBuffer;

  constructor(stage: Stage, index: number, party: Party, agent: number, stack: number) {
    this.#stage = stage;
    this.index = index;
    this.party = party;
    this.agent = agent;
    this.stack = stack;
    const { memory } = stage.vm;
    const gate = {
      owner: this,
      get asking(): boolean {
        return this.owner.#asking;
      },
      ask: (make: () => Operation) => this.#program.operation(make),
      touch: (address: number, bytes: number) => stage.touch(address, bytes),
    };
    this.#words = new ActorWords(memory, gate);
    this.#lists = new Int32Array(memory.buffer);
    this.stores = new StoreBuffer(this.#lists);
    this.#program = new Program(() => this.#run(), { save: () => this.#save(), load: (words) => this.load(words) });
    this.#parts = PARTS.map(([at, words]) => [(agent + at) >>> 2, ((agent + at) >>> 2) + words]);
    for (const [at, bytes] of listsOf(agent)) stage.touch(at, bytes);
    this.#kernel = kernelOf(this.#program);
    this.place = this.#program.begin();
  }

  /** Back to its first step. */
  begin(): void {
    this.place = this.#program.begin();
    this.load(this.place.scratch);
    this.stopped = false;
    this.asleep = 0;
    this.woken = false;
    this.dead = false;
    this.buffered = 0;
    this.flushDue = false;
    this.stores.begin();
  }

  saveState(i32: Int32Array): SavedActor {
    const { place, stopped, asleep, woken, dead, step, address, buffered, flushDue } = this;
    const stack = stopped && !dead ? i32.slice(this.stack >>> 2, (i32[this.stack >>> 2] as number) >>> 2) : null;
    return {
      place,
      stopped,
      asleep,
      woken,
      dead,
      step,
      address,
      buffered,
      flushDue,
      stack,
      stores: this.stores.save(),
    };
  }

  restoreState(saved: SavedActor, i32: Int32Array): void {
    this.place = saved.place;
    this.stopped = saved.stopped;
    this.asleep = saved.asleep;
    this.woken = saved.woken;
    this.dead = saved.dead;
    this.step = saved.step;
    this.address = saved.address;
    this.buffered = saved.buffered;
    this.flushDue = saved.flushDue;
    this.stores.restore(saved.stores);
    if (saved.stack !== null) i32.set(saved.stack, this.stack >>> 2);
  }

  /** Folds where it is into the name of a state. Where a dead one was does not matter. */
  fold(name: StateName, i32: Int32Array): void {
    const key = FIRST_KEY + this.index * KEYS;
    this.stores.fold(name, key + STORE_KEYS);
    if (this.dead) {
      name.add(key, -1);
      return;
    }
    name.add(key, this.place.id);
    name.add(key + 1, this.asleep);
    name.add(key + 2, (this.buffered << 2) | (this.flushDue ? 2 : 0) | (this.woken ? 1 : 0));
    if (!this.stopped) return;
    const from = this.stack >>> 2;
    const words = ((i32[from] as number) >>> 2) - from;
    for (let i = 2; i < words; i++) name.add(key + 2 + i, i32[from + i] as number);
  }

  get name(): string {
    return this.party.name;
  }
  /** Places of its code that were found so far. */
  get places(): number {
    return this.#program.size;
  }
  get ended(): boolean {
    return this.dead || this.place.next.kind === 'end';
  }

  /** Where it is when its operation has answered; `lists`: what a call into the kernel has left in its lists counts. */
  answer(answer: Answer, lists: boolean): void {
    this.place = this.#program.after(this.place, answer, lists ? this.#save() : null);
    this.load(this.place.scratch);
  }

  /** Begins anew with a fresh view of the VM: a view keeps a little of its own. */
  #run(): void {
    this.#words.begin();
    const { vm, module, clock } = this.#stage;
    const parts = { words: this.#words, kernel: this.#kernel, agent: this.agent, owner: this.party.owner ?? false };
    const view = viewOf(parts, vm, module, clock);
    this.#asking = true;
    try {
      this.party.code(view, this.#self());
    } finally {
      this.#asking = false;
    }
  }

  #self(): Self {
    const program = this.#program;
    const access = (address: number, bytes: number, run: () => Answer, step = STEP_RMW): Access => {
      return { kind: 'access', step, address, bytes, run };
    };
    return {
      do: <T extends Answer>(doing: string, part: () => T) => program.section(doing, part) as T,
      note: <T extends Answer>(run: () => T) => program.operation(() => ({ kind: 'note', run })) as T,
      read: (address) => program.operation(() => access(address, 4, () => this.#read(address), STEP_LOAD)) as number,
      write: (address, value) => {
        program.operation(() => access(address, 4, () => this.#write(address, value), STEP_STORE));
      },
      change: (address, to) => {
        const change = (): number => {
          const before = this.#read(address);
          this.#write(address, to(before));
          return before;
        };
        return program.operation(() => access(address, 4, change)) as number;
      },
      publish: (counter) => {
        const address = this.#stage.counter(counter);
        program.operation(() => access(address, 4, () => this.#buffer(counter), STEP_LOAD));
      },
      until: (ready) => {
        program.operation(() => ({ kind: 'until', ready }));
      },
    };
  }

  #read(address: number): number {
    return this.#lists[address >>> 2] as number;
  }

  #write(address: number, value: number): null {
    this.#lists[address >>> 2] = value;
    return null;
  }

  #buffer(counter: number): null {
    this.buffered |= 1 << counter;
    return null;
  }

  /** What it has published reaches the others. */
  flush(): void {
    for (let rest = this.buffered; rest !== 0; rest &= rest - 1) {
      const address = this.#stage.counter(31 - Math.clz32(rest & -rest));
      this.#stage.touch(address, 4);
      this.#lists[address >>> 2] = (this.#lists[address >>> 2] as number) + 1;
    }
    this.buffered = 0;
    this.flushDue = false;
  }

  #save(): Int32Array {
    const i32 = this.#lists;
    let used = false;
    for (const [from, to] of this.#parts) for (let i = from; i < to; i++) used ||= i32[i] !== 0;
    if (!used) return NOTHING;
    const words = new Int32Array(PART_WORDS);
    let n = 0;
    for (const [from, to] of this.#parts) {
      words.set(i32.subarray(from, to), n);
      n += to - from;
    }
    return words;
  }

  /** Puts words into the agent's lists; none clears them. */
  load(words: Int32Array): void {
    let n = 0;
    for (const [from, to] of this.#parts) {
      if (words.length === 0) this.#lists.fill(0, from, to);
      else this.#lists.set(words.subarray(n, n + to - from), from);
      n += to - from;
    }
  }
}
