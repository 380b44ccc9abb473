// The plain stores of one actor that the others do not see yet. It sees them itself.

import type { StateName } from './state_memory.ts';

/** A word and what it will have. */
export interface BufferedStore {
  readonly word: number;
  readonly value: number;
}

export class StoreBuffer {
  readonly #i32: Int32Array;
  #stores: BufferedStore[] = [];
  /** while they are applied: what the others see in their words */
  readonly #under = new Map<number, number>();

  constructor(i32: Int32Array) {
    this.#i32 = i32;
  }

  begin(): void {
    this.#stores = [];
    this.#under.clear();
  }

  save(): readonly BufferedStore[] {
    return this.#stores;
  }
  restore(stores: readonly BufferedStore[]): void {
    this.#stores = [...stores];
    this.#under.clear();
  }

  /** A store that was just made over `before`, which the others go on seeing. */
  add(word: number, value: number, before: number): void {
    if (!this.#under.has(word)) this.#under.set(word, before);
    this.#stores = [...this.#stores, { word, value }];
  }

  /** The actor moves: it sees its own stores. */
  apply(): void {
    for (const { word, value } of this.#stores) {
      if (!this.#under.has(word)) this.#under.set(word, this.#i32[word] as number);
      this.#i32[word] = value;
    }
  }

  /** The others move: they do not. */
  hide(): void {
    if (this.#under.size === 0) return;
    for (const [word, value] of this.#under) this.#i32[word] = value;
    this.#under.clear();
  }

  /** All have reached the others: the actor makes an atomic store or a read-modify-write. */
  clear(): void {
    if (this.#under.size === 0 && this.#stores.length === 0) return;
    this.#stores = [];
    this.#under.clear();
  }

  /** Which may reach the others next: of each word the first. */
  *mayLeave(): Generator<number> {
    for (let i = 0; i < this.#stores.length; i++) {
      const word = this.#stores[i]?.word;
      if (this.#stores.findIndex((store) => store.word === word) === i) yield i;
    }
  }

  /** One reaches the others. */
  leave(index: number): void {
    const store = this.#stores[index];
    if (store === undefined) return;
    this.#i32[store.word] = store.value;
    this.#stores = this.#stores.toSpliced(index, 1);
  }

  fold(name: StateName, key: number): void {
    for (let i = 0; i < this.#stores.length; i++) {
      const { word, value } = this.#stores[i] as BufferedStore;
      name.add(key + i, word);
      name.add(key + 0x400 + i, value);
    }
  }
}
