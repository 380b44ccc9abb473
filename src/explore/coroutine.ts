// Kernel calls that stop before a shared access and go on later, while others run: the kernel's trace build, transformed by
// Binaryen's Asyncify. A stopped call keeps its frames on a stack of its own in the memory, so a copy of memory is a copy of it.

import type { Kernel } from '../kernel.ts';
import type { Words } from '../memory/words.ts';

/** Bytes of one call's stack; a call that needs more traps. */
export const STACK_SIZE = 3 * 1024;
/** The stack begins behind two words that Asyncify keeps: where it ends now, and where it has to end. */
const STACK_HEAD = 8;

/** What a call asks before each access, and in place of a sleep. */
export interface CallHooks {
  /** whether to stop before this access */
  onStep(kind: number, address: number): boolean;
  /** before a sleep on `address` while it is `expected`: null to sleep, or what the wait answers at once */
  onWait(address: number, expected: number): number | null;
  /** what the wait that the call was stopped in answers: 0 woken, 2 timed out */
  waited(): number;
}

type Exports = Kernel & {
  asyncify_start_unwind(stack: number): void;
  asyncify_stop_unwind(): void;
  asyncify_start_rewind(stack: number): void;
  asyncify_stop_rewind(): void;
};
type Entry = (...args: readonly number[]) => number | undefined;

/** What a call that has stopped answers in place of a result. */
export const STOPPED = Symbol('stopped');

/** One instance of the transformed kernel: runs the calls of all actors, one at a time. */
export class Coroutines {
  readonly #exports: Exports;
  readonly #words: Words;
  #hooks: CallHooks | null = null;
  /** the stack of the call that runs */
  #stack = 0;
  #unwinding = false;
  #rewinding = false;

  constructor(module: WebAssembly.Module, words: Words) {
    this.#words = words;
    const env = {
      memory: words.memory,
      kick: () => {},
      onStep: (kind: number, address: number) => this.#onStep(kind, address >>> 0),
      onWait: (address: number, expected: number) => this.#onWait(address >>> 0, expected),
    };
    this.#exports = new WebAssembly.Instance(module, { env }).exports as unknown as Exports;
  }

  /** Starts a call, which may stop at once. @returns its result, or `STOPPED` */
  start(stack: number, name: keyof Kernel, args: readonly number[], hooks: CallHooks): number | typeof STOPPED {
    this.#words.store(stack, stack + STACK_HEAD);
    this.#words.store(stack + 4, stack + STACK_SIZE);
    return this.#run(stack, name, args, hooks);
  }

  /** Goes on with the call that has stopped on this stack: makes the access that it stopped before. */
  resume(stack: number, name: keyof Kernel, args: readonly number[], hooks: CallHooks): number | typeof STOPPED {
    this.#rewinding = true;
    this.#exports.asyncify_start_rewind(stack);
    return this.#run(stack, name, args, hooks);
  }

  /** Bytes of frames on a stack, behind its head. */
  static depth(words: Words, stack: number): number {
    return words.load(stack) - stack - STACK_HEAD;
  }

  #run(stack: number, name: keyof Kernel, args: readonly number[], hooks: CallHooks): number | typeof STOPPED {
    this.#stack = stack;
    this.#hooks = hooks;
    const result = (this.#exports[name] as Entry)(...args);
    if (!this.#unwinding) return result ?? 0;
    this.#unwinding = false;
    this.#exports.asyncify_stop_unwind();
    return STOPPED;
  }

  #stop(): void {
    this.#unwinding = true;
    this.#exports.asyncify_start_unwind(this.#stack);
  }

  /** Whether this is the stopped call coming back to where it was. */
  #arrived(): boolean {
    if (!this.#rewinding) return false;
    this.#rewinding = false;
    this.#exports.asyncify_stop_rewind();
    return true;
  }

  #onStep(kind: number, address: number): void {
    if (this.#arrived()) return;
    if (this.#hooks?.onStep(kind, address)) this.#stop();
  }

  #onWait(address: number, expected: number): number {
    if (this.#arrived()) return this.#hooks?.waited() ?? 0;
    const answer = this.#hooks?.onWait(address, expected) ?? null;
    if (answer === null) this.#stop();
    return answer ?? 0;
  }
}
