// The half in TypeScript as an actor: each of its looks at shared words is a step, as the kernel's are.

import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_RMW, STEP_STORE } from '../abi/step.ts';
import { Words } from '../memory/words.ts';
import type { Operation } from './operation.ts';

/** Where the accesses go: to the actor's code tree while that is being found out, else they are done at once. */
export interface AccessGate {
  /** whether the code runs to be found out */
  readonly asking: boolean;
  /** an operation of the code */
  ask(make: () => Operation): unknown;
  /** `bytes` at `address` are about to be written */
  touch(address: number, bytes: number): void;
}

/** So many looks in a row at one word that finds the same are a loop that waits; code that only asks again makes fewer. */
const SAME_LOOKS = 16;

/** The library's way to shared words, through a gate. */
export class ActorWords extends Words {
  readonly #gate: AccessGate;
  /** the last look, and how often in a row it was the same */
  #looked = { address: -1, value: 0, times: 0 };

  constructor(memory: WebAssembly.Memory, gate: AccessGate) {
    super(memory);
    this.#gate = gate;
  }

  /** The code begins anew. */
  begin(): void {
    this.#looked = { address: -1, value: 0, times: 0 };
  }

  override load(at: number): number {
    const { address, value, times } = this.#looked;
    // Looking again and again is waiting: it goes on when there is something new to see, or when nobody else can move.
    const again = this.#gate.asking && address === at && times >= SAME_LOOKS;
    // Time has passed and there was nothing new: the other looks of this loop are as good as made.
    if (again && times > SAME_LOOKS) return value;
    const seen = again
      ? (this.#gate.ask(() => ({
          kind: 'wait',
          address: at,
          expected: value,
          run: () => super.load(at),
        })) as number)
      : this.#access(STEP_LOAD, at, 4, () => super.load(at));
    this.#looked = { address: at, value: seen, times: address === at && value === seen ? times + 1 : 1 };
    return seen;
  }

  override store(at: number, value: number): void {
    this.#access(STEP_STORE, at, 4, () => super.store(at, value));
  }
  override or(at: number, bits: number): number {
    return this.#access(STEP_RMW, at, 4, () => super.or(at, bits));
  }
  override and(at: number, keep: number): number {
    return this.#access(STEP_RMW, at, 4, () => super.and(at, keep));
  }
  override add(at: number, value: number): number {
    return this.#access(STEP_RMW, at, 4, () => super.add(at, value));
  }
  override exchange(at: number, value: number): number {
    return this.#access(STEP_RMW, at, 4, () => super.exchange(at, value));
  }
  override compareExchange(at: number, expected: number, value: number): number {
    return this.#access(STEP_RMW, at, 4, () => super.compareExchange(at, expected, value));
  }
  override load64(at: number): bigint {
    return this.#access(STEP_LOAD, at, 8, () => super.load64(at));
  }
  override store64(at: number, value: bigint): void {
    this.#access(STEP_STORE, at, 8, () => super.store64(at, value));
  }
  override exchange64(at: number, value: bigint): bigint {
    return this.#access(STEP_RMW, at, 8, () => super.exchange64(at, value));
  }
  override compareExchange64(at: number, expected: bigint, value: bigint): bigint {
    return this.#access(STEP_RMW, at, 8, () => super.compareExchange64(at, expected, value));
  }
  override notify(at: number): void {
    this.#access(STEP_NOTIFY, at, 4, () => {});
  }

  override wait(at: number, value: number, ms: number): boolean {
    if (!this.#gate.asking) return super.wait(at, value, ms);
    this.begin();
    this.#gate.ask(() => ({ kind: 'wait', address: at, expected: value, run: () => null }));
    return true;
  }

  override zero(at: number, length: number): void {
    this.#access(STEP_STORE, at, length, () => super.zero(at, length));
  }
  override write(at: number, bytes: Uint8Array): void {
    this.#access(STEP_PLAIN, at, bytes.length, () => this.#writeNew(at, bytes));
  }
  override read(at: number, length: number): Uint8Array {
    // A page is mostly zeros, and what it had is part of the name of where the actor is.
    const sparse = this.#access(STEP_LOAD, at, length, () => sparseOf(super.read(at, length)));
    const copy = new Uint8Array(length);
    for (let i = 0; i < sparse.length; i += 2) copy[sparse[i] as number] = sparse[i + 1] as number;
    return copy;
  }

  /** Only what is new counts as changed: a page that is copied is mostly as the one it is copied to. */
  #writeNew(at: number, bytes: Uint8Array): void {
    const before = super.read(at, bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      if (before[i] === bytes[i]) continue;
      this.#gate.touch(at + i, 1);
      super.write(at + i, bytes.subarray(i, i + 1));
    }
  }

  #access<T>(step: number, address: number, bytes: number, run: () => T): T {
    if (step !== STEP_LOAD && step !== STEP_PLAIN && !this.#gate.asking) this.#gate.touch(address, bytes);
    if (!this.#gate.asking) return run();
    this.#looked.times = 0;
    return this.#gate.ask(() => ({ kind: 'access', step, address, bytes, run: run as () => never })) as T;
  }
}

/** Index and value of each byte that is not 0. */
function sparseOf(bytes: Uint8Array): number[] {
  const out: number[] = [];
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) out.push(i, bytes[i] as number);
  return out;
}
