// One actor's accesses to shared words, one by one: a test runs another actor's whole operation before each of them.

import type { Vm } from '../../src/index.ts';
import { traceOf } from './evidence.ts';

const ACCESSES = [
  'load',
  'store',
  'or',
  'and',
  'add',
  'exchange',
  'compareExchange',
  'load64',
  'store64',
  'exchange64',
  'compareExchange64',
] as const;

export type Access = (typeof ACCESSES)[number];

/** Counts the steps of one actor, and interrupts it before one of them. */
export class Steps {
  taken = 0;
  #at = -1;
  #inside: () => void = () => {};
  #counting = false;

  /** The option that makes a view's kernel take steps. */
  trace(shared: boolean) {
    return traceOf(shared, { onStep: () => this.#step() });
  }

  /** Makes a view's own accesses steps, or only some kinds of them. */
  watch(vm: Vm, kinds: readonly Access[] = ACCESSES): void {
    const { words } = vm.region;
    for (const kind of kinds) {
      const access = words[kind] as (...args: unknown[]) => unknown;
      Object.defineProperty(words, kind, {
        value: (...args: unknown[]) => {
          this.#step();
          return access.apply(words, args);
        },
      });
    }
  }

  /** Runs `actor`, and `inside` before its step number `at`, from 0 on. */
  run<T>(at: number, actor: () => T, inside: () => void): T {
    [this.taken, this.#at, this.#inside, this.#counting] = [0, at, inside, true];
    try {
      return actor();
    } finally {
      this.#counting = false;
    }
  }

  #step(): void {
    if (!this.#counting) return;
    if (this.taken++ !== this.#at) return;
    // The other actor's own steps, should it have some, are not counted.
    this.#counting = false;
    this.#inside();
    this.#counting = true;
  }
}

/** Runs `round` with the number of every step of an actor, which it returns, and once without an interruption. */
export function everyStep(round: (at: number) => Steps): number {
  const steps = round(-1).taken;
  for (let at = 0; at < steps; at++) round(at);
  return steps;
}
