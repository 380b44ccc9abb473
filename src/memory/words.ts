// The control plane's way to shared words: atomics on i32, through a view that follows a memory that grows.
// Nothing else in src/ reads or writes shared memory, but in views of what only this agent writes.

/** @internal */
export class Words {
  readonly memory: WebAssembly.Memory;
  #i32: Int32Array;
  #u64: BigUint64Array;
  #bytes: Uint8Array;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    this.#i32 = new Int32Array(memory.buffer);
    this.#u64 = new BigUint64Array(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
  }

  /**
   * The current view. When an unshared memory grows its old views become empty; those of a shared one stay good, as far as
   * they reach, and the VM lies within that. Asking for `memory.buffer` at every access would cost ten times the access.
   */
  get i32(): Int32Array {
    if (this.#i32.length === 0) this.#i32 = new Int32Array(this.memory.buffer);
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

  exchange(at: number, value: number): number {
    return Atomics.exchange(this.i32, at >>> 2, value);
  }

  compareExchange(at: number, expected: number, value: number): number {
    return Atomics.compareExchange(this.i32, at >>> 2, expected, value);
  }

  /** A u64 field up to 2^53-1, as two words: for what changes only while nobody reads it. */
  loadWide(at: number): number {
    return (this.load(at + 4) >>> 0) * 2 ** 32 + (this.load(at) >>> 0);
  }

  storeWide(at: number, value: number): void {
    this.store(at, value | 0);
    this.store(at + 4, Math.floor(value / 2 ** 32) | 0);
  }

  /** A u64 that several parties change: one atomic of 64 bits. `at` is a multiple of 8. */
  load64(at: number): bigint {
    return Atomics.load(this.#wide(), at >>> 3);
  }

  store64(at: number, value: bigint): void {
    Atomics.store(this.#wide(), at >>> 3, value);
  }

  exchange64(at: number, value: bigint): bigint {
    return Atomics.exchange(this.#wide(), at >>> 3, value);
  }

  compareExchange64(at: number, expected: bigint, value: bigint): bigint {
    return Atomics.compareExchange(this.#wide(), at >>> 3, expected, value);
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
    this.bytes.fill(0, at, at + length);
  }

  /** A copy of guest bytes, each read once: what a guest changes later was not seen. */
  read(at: number, length: number): Uint8Array {
    return this.bytes.slice(at, at + length);
  }

  /** Writes guest bytes that no protocol orders, such as code. */
  write(at: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, at);
  }

  get bytes(): Uint8Array {
    if (this.#bytes.length === 0) this.#bytes = new Uint8Array(this.memory.buffer);
    return this.#bytes;
  }

  /** It ends with the last whole word of a memory, whose size is a multiple of 65536. */
  #wide(): BigUint64Array {
    if (this.#u64.length === 0) this.#u64 = new BigUint64Array(this.memory.buffer);
    return this.#u64;
  }
}
