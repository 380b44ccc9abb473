// An agent that dies at a step of its own: an exception comes out of its next shared access, and from then on out of every one,
// so that no `finally` of the library does anything in its name any more. That is what a terminated thread looks like to others.

import { STEP_NOTIFY } from '../../src/abi/step.ts';
import type { Vm } from '../../src/index.ts';
import type { KernelHooks } from '../../src/kernel.ts';

/** What a death is thrown as. */
export class Death extends Error {}

/** The accesses of the half in TypeScript. */
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
  'write',
  'notify',
] as const;

/** Steps of one agent, and the one at which it dies. */
export class Mortal {
  taken = 0;
  dead = false;
  #at = -1;
  #armed = false;
  readonly #onNotify: (address: number) => void;

  constructor(onNotify: (address: number) => void) {
    this.#onNotify = onNotify;
  }

  /** What makes its kernel take steps. */
  readonly hooks: Required<Pick<KernelHooks, 'onStep'>> = {
    onStep: (kind, address) => {
      this.#step();
      if (kind === STEP_NOTIFY) this.#onNotify(address);
    },
  };

  /** Makes the accesses of its half in TypeScript steps as well. */
  inhabit(vm: Vm): void {
    const { words } = vm.region;
    for (const kind of ACCESSES) {
      const access = words[kind] as (...args: unknown[]) => unknown;
      const value = (...args: unknown[]): unknown => {
        this.#step();
        if (kind === 'notify') this.#onNotify(args[0] as number);
        return access.apply(words, args);
      };
      Object.defineProperty(words, kind, { value });
    }
    // It never sleeps: there is nobody who could wake it.
    words.wait = () => {
      this.#step();
      return true;
    };
  }

  /** Runs `life`, which ends before step `at`, from 0 on; or at its own end. */
  live(at: number, life: () => void): void {
    [this.taken, this.#at, this.#armed] = [0, at, true];
    try {
      life();
    } catch (error) {
      if (!this.dead) throw error;
    } finally {
      this.#armed = false;
    }
  }

  #step(): void {
    if (this.dead) throw new Death('the dead do nothing');
    if (!this.#armed || this.taken++ !== this.#at) return;
    this.dead = true;
    throw new Death(`died at step ${this.#at}`);
  }
}
