// Which words several actors use and somebody changes. Only accesses to those have to be interleaved: all others commute with
// whatever the rest does. It is learnt by running, and what was explored before something new was learnt is explored again.

import { STEP_LOAD } from '../abi/step.ts';

/** Accesses are told apart by aligned 8 bytes. */
const SHIFT = 3;

export class Sharing {
  readonly #actors: Uint16Array;
  readonly #written: Uint8Array;
  /** what was known when it was last asked to keep that apart */
  readonly #kept: Uint8Array;
  /** every access is a step of its own, whatever is known */
  all = false;
  /** something was learnt since this was cleared */
  learnt = false;

  constructor(memory: WebAssembly.Memory) {
    this.#actors = new Uint16Array(memory.buffer.byteLength >>> SHIFT);
    this.#written = new Uint8Array(this.#actors.length);
    this.#kept = new Uint8Array(this.#actors.length);
  }

  /** A new model. */
  clear(): void {
    this.#actors.fill(0);
    this.#written.fill(0);
    this.#kept.fill(0);
    this.learnt = false;
  }

  /** Keeps what is known now apart from what will be learnt: stories of one schedule are to be the same. */
  keep(): void {
    for (let at = 0; at < this.#kept.length; at++) this.#kept[at] = this.#visible(at) ? 1 : 0;
  }

  /** Actor `actor` accesses `bytes` at `address`. @returns whether that has to be a step */
  note(actor: number, step: number, address: number, bytes: number): boolean {
    const last = (address + bytes - 1) >>> SHIFT;
    let visible = this.all;
    for (let at = address >>> SHIFT; at <= last; at++) if (this.#noteWord(actor, step, at)) visible = true;
    return visible;
  }

  /** Whether several actors use what is at `address` and somebody changes it, as far as was known at the last `keep`. */
  shared(address: number): boolean {
    return this.#kept[address >>> SHIFT] === 1;
  }

  #noteWord(actor: number, step: number, at: number): boolean {
    const before = this.#visible(at);
    this.#actors[at] = (this.#actors[at] as number) | (1 << actor);
    if (step !== STEP_LOAD) this.#written[at] = 1;
    const now = this.#visible(at);
    if (now && !before) this.learnt = true;
    return now;
  }

  #visible(at: number): boolean {
    const actors = this.#actors[at] as number;
    return this.#written[at] === 1 && (actors & (actors - 1)) !== 0;
  }
}
