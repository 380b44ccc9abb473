// The control plane's way to shared words: atomics on i32, through a view that follows a memory that grows.
// Nothing else in src/ reads or writes shared memory, but in views of what only this agent writes.

/** @internal */
export class Words {
  readonly memory: WebAssembly.Memory;
  #i32: Int32Array;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    this.#i32 = new Int32Array(memory.buffer);
  }

  /** The current view; a memory that grew has a new buffer and the old views of an unshared one are empty. */
  get i32(): Int32Array {
    if (this.#i32.buffer !== this.memory.buffer) this.#i32 = new Int32Array(this.memory.buffer);
    return this.#i32;
  }

  load(at: number): number {
    return Atomics.load(this.i32, at >>> 2);
  }

  store(at: number, value: number): void {
    Atomics.store(this.i32, at >>> 2, value);
  }

  or(at: number, bits: number): number {
    return Atomics.or(this.i32, at >>> 2, bits);
  }

  and(at: number, keep: number): number {
    return Atomics.and(this.i32, at >>> 2, keep);
  }

  add(at: number, value: number): number {
    return Atomics.add(this.i32, at >>> 2, value);
  }

  compareExchange(at: number, expected: number, value: number): number {
    return Atomics.compareExchange(this.i32, at >>> 2, expected, value);
  }

  notify(at: number): void {
    Atomics.notify(this.i32, at >>> 2);
  }

  /** Sleeps at most `ms` while the word is `value`; false on a thread that may not block. */
  wait(at: number, value: number, ms: number): boolean {
    try {
      Atomics.wait(this.i32, at >>> 2, value, ms);
      return true;
    } catch {
      return false;
    }
  }

  /** A view for memory that only this agent writes. */
  view(at: number, length: number): DataView {
    return new DataView(this.memory.buffer, at, length);
  }

  zero(at: number, length: number): void {
    new Uint8Array(this.memory.buffer, at, length).fill(0);
  }
}
