// An actor's code as a tree: what it does next, given what its operations have answered so far. The code is an ordinary function
// over the ordinary library. To find out what it does next, it is run again from its beginning: operations that have been done
// answer from the log, the first that has not been done stops it. Each place in the tree is found once and remembered.

import type { Answer, Operation } from './operation.ts';

/** An operation's answer and what it has left in the agent's lists, or the value of a section that is over. */
interface Entry {
  readonly answer: Answer;
  readonly scratch: Int32Array | null;
  readonly section: boolean;
}

/** A place in an actor's code: everything before it has been done. */
export interface Place {
  /** numbers the places of an actor */
  readonly id: number;
  readonly next: Operation;
  /** what the actor is doing there, in words */
  readonly doing: string;
  /** what the agent's lists have there */
  readonly scratch: Int32Array;
  /** @internal */ readonly log: readonly Entry[];
  /** @internal */ readonly following: Map<string, Place>;
}

/** Thrown through the code to stop it; nothing in the library keeps it. */
class Stop {}
const STOP = new Stop();

/** The agent's own part of memory, which its code uses without telling anybody. */
export interface Scratch {
  save(): Int32Array;
  load(words: Int32Array): void;
}

/** Runs an actor's code again and again. `code` begins anew with fresh objects at each call. */
export class Program {
  readonly #code: () => void;
  readonly #scratch: Scratch;
  readonly #places = new Map<string, Place>();
  #log: readonly Entry[] = [];
  #at = 0;
  /** the log as it will be: without what is inside of sections that are over */
  #kept: Entry[] = [];
  #next: Operation | null = null;
  #doing = '';
  #running = false;

  constructor(code: () => void, scratch: Scratch) {
    this.#code = code;
    this.#scratch = scratch;
  }

  /** Whether the code runs: its operations are asked about, not done. */
  get running(): boolean {
    return this.#running;
  }

  /** Places found so far. */
  get size(): number {
    return this.#places.size;
  }

  begin(): Place {
    return this.#find([]);
  }

  /** Where the actor is when the operation at `place` has answered. */
  after(place: Place, answer: Answer, scratch: Int32Array | null): Place {
    const key = `${keyOf(answer)}${scratch === null ? '' : keyOfWords(scratch)}`;
    let next = place.following.get(key);
    if (next === undefined) {
      next = this.#find([...place.log, { answer, scratch, section: false }]);
      place.following.set(key, next);
    }
    return next;
  }

  /** An operation of the code: answers from the log, or stops here. */
  operation(make: () => Operation): Answer {
    const entry = this.#stopped() ? undefined : this.#log[this.#at];
    if (entry === undefined) {
      this.#next ??= make();
      throw STOP;
    }
    this.#at++;
    this.#kept.push(entry);
    if (entry.scratch !== null) this.#scratch.load(entry.scratch);
    return entry.answer;
  }

  /** A part of the code of which only the value counts once it is over. */
  section(doing: string, part: () => Answer): Answer {
    const known = this.#stopped() ? undefined : this.#log[this.#at];
    if (known?.section) {
      this.#at++;
      this.#kept.push(known);
      return known.answer;
    }
    const outer = this.#doing;
    const from = this.#kept.length;
    this.#doing = doing;
    const answer = part();
    if (this.#stopped()) throw STOP;
    this.#doing = outer;
    this.#kept.length = from;
    this.#kept.push({ answer, scratch: null, section: true });
    this.#scratch.load(NOTHING);
    return answer;
  }

  /** Code that catches errors may have caught the stop. */
  #stopped(): boolean {
    return this.#next !== null;
  }

  #find(log: readonly Entry[]): Place {
    const real = this.#scratch.save();
    this.#scratch.load(NOTHING);
    this.#log = log;
    this.#at = 0;
    this.#kept = [];
    this.#next = null;
    this.#doing = '';
    this.#running = true;
    try {
      this.#code();
      this.#next ??= { kind: 'end', error: null };
    } catch (error) {
      if (error !== STOP && this.#next === null) this.#next = { kind: 'end', error: String(error) };
    }
    this.#running = false;
    const scratch = this.#scratch.save();
    this.#scratch.load(real);
    return this.#intern(this.#next ?? { kind: 'end', error: null }, scratch);
  }

  #intern(next: Operation, scratch: Int32Array): Place {
    const key = this.#kept.map(
      (e) => `${e.section ? 's' : 'o'}${keyOf(e.answer)}${e.scratch ? keyOfWords(e.scratch) : ''}`,
    );
    const name = key.join('|');
    let place = this.#places.get(name);
    if (place === undefined) {
      place = { id: this.#places.size, next, doing: this.#doing, scratch, log: this.#kept, following: new Map() };
      this.#places.set(name, place);
    }
    return place;
  }
}

const NOTHING = new Int32Array(0);

function keyOf(answer: Answer): string {
  return typeof answer === 'number'
    ? String(answer)
    : typeof answer === 'bigint'
      ? `${answer}n`
      : (JSON.stringify(answer) ?? '-');
}

function keyOfWords(words: Int32Array): string {
  let key = '';
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) key += `,${i}=${words[i]}`;
  return key;
}
