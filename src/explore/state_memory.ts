// The part of memory that a model has changed: saved, brought back, and folded into the name of a state.

/** How many words a saved state can have. */
const MOST = 4096;

/** Words of 32 bits that were written since the model began, in the order they were first written. */
export class StateMemory {
  readonly #i32: Int32Array;
  /** 1 for each word that is listed */
  readonly #listed: Uint8Array;
  readonly #words: Int32Array = new Int32Array(MOST);
  /** what each had at the beginning */
  readonly #base: Int32Array = new Int32Array(MOST);
  #length = 0;

  constructor(memory: WebAssembly.Memory) {
    this.#i32 = new Int32Array(memory.buffer);
    this.#listed = new Uint8Array(this.#i32.length);
  }

  /** Words that are listed so far. */
  get length(): number {
    return this.#length;
  }

  /** Forgets everything: a model begins, and what memory has now is its beginning. */
  begin(): void {
    for (let i = 0; i < this.#length; i++) this.#listed[this.#words[i] ?? 0] = 0;
    this.#length = 0;
  }

  /** `bytes` at `address` are about to be written, for the first time perhaps. */
  touch(address: number, bytes: number): void {
    const last = (address + bytes - 1) >>> 2;
    for (let word = address >>> 2; word <= last; word++) if (!this.#listed[word]) this.#list(word);
  }

  #list(word: number): void {
    if (this.#length === MOST) throw new RangeError(`a model may change at most ${MOST} words of memory`);
    this.#listed[word] = 1;
    this.#words[this.#length] = word;
    this.#base[this.#length++] = this.#i32[word] ?? 0;
  }

  /** A copy of what is listed. */
  save(): Int32Array {
    const saved = new Int32Array(this.#length);
    for (let i = 0; i < saved.length; i++) saved[i] = this.#i32[this.#words[i] as number] as number;
    return saved;
  }

  /** Brings a copy back; what was listed since it was made had not been changed then. */
  restore(saved: Int32Array): void {
    const { length } = saved;
    for (let i = 0; i < length; i++) this.#i32[this.#words[i] as number] = saved[i] as number;
    for (let i = length; i < this.#length; i++) this.#i32[this.#words[i] as number] = this.#base[i] as number;
  }

  /** Brings the beginning back. */
  reset(): void {
    for (let i = 0; i < this.#length; i++) this.#i32[this.#words[i] as number] = this.#base[i] as number;
  }

  /** Folds what differs from the beginning into `name`; the order in which words were listed does not matter. */
  fold(name: StateName): void {
    for (let i = 0; i < this.#length; i++) {
      const word = this.#words[i] as number;
      const value = this.#i32[word] as number;
      if (value !== this.#base[i]) name.add(word, value);
    }
  }
}

/** 64 bits that stand for a state: two states that differ have the same one with a chance of 2^-64. */
export class StateName {
  hi = 0;
  lo = 0;

  clear(): void {
    this.hi = 0;
    this.lo = 0;
  }

  /** Adds one part: sums do not depend on the order. */
  add(key: number, value: number): void {
    let a = Math.imul(key ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(value, 0xc2b2ae35);
    a = Math.imul(a ^ (a >>> 15), 0x2c1b3c6d);
    a = Math.imul(a ^ (a >>> 13), 0x297a2d39);
    this.hi = (this.hi + (a ^ (a >>> 16))) | 0;
    let b = Math.imul(key + 0x7f4a7c15, 0xbf58476d) ^ Math.imul(value ^ 0x94d049bb, 0x133111eb);
    b = Math.imul(b ^ (b >>> 16), 0x7feb352d);
    b = Math.imul(b ^ (b >>> 15), 0x846ca68b);
    this.lo = (this.lo + (b ^ (b >>> 16))) | 0;
  }
}

/** The states that were met, each with the number of schedules that lead from it to an end. */
export class StateTable {
  #hi: Int32Array;
  #lo: Int32Array;
  #used: Uint8Array;
  #schedules: Float64Array;
  #size = 0;

  constructor(capacity = 1 << 14) {
    this.#hi = new Int32Array(capacity);
    this.#lo = new Int32Array(capacity);
    this.#used = new Uint8Array(capacity);
    this.#schedules = new Float64Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** How many schedules go on from here; -1 while that is being counted, undefined for a state that was not met. */
  get(hi: number, lo: number): number | undefined {
    const at = this.#find(hi, lo);
    return this.#used[at] ? this.#schedules[at] : undefined;
  }

  set(hi: number, lo: number, schedules: number): void {
    let at = this.#find(hi, lo);
    if (!this.#used[at]) {
      if (++this.#size * 2 > this.#used.length) {
        this.#grow();
        at = this.#find(hi, lo);
      }
      this.#used[at] = 1;
      this.#hi[at] = hi;
      this.#lo[at] = lo;
    }
    this.#schedules[at] = schedules;
  }

  #find(hi: number, lo: number): number {
    const mask = this.#used.length - 1;
    let at = lo & mask;
    while (this.#used[at] && (this.#hi[at] !== hi || this.#lo[at] !== lo)) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const bigger = new StateTable(this.#used.length * 2);
    for (let i = 0; i < this.#used.length; i++) {
      if (this.#used[i]) bigger.set(this.#hi[i] as number, this.#lo[i] as number, this.#schedules[i] as number);
    }
    this.#hi = bigger.#hi;
    this.#lo = bigger.#lo;
    this.#used = bigger.#used;
    this.#schedules = bigger.#schedules;
  }
}
