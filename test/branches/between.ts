// Another actor between two accesses: a VM whose kernel stops before an access that a test names, runs the other, and goes on.

import type { Vm } from '../../src/index.ts';
import { type TraceOption, traceOf } from '../spec/evidence.ts';
import { type MakeOptions, makeVm } from '../support.ts';

/** The access before which the other actor runs: its kind (src/abi/step.ts), its address, the how-manieth such one. */
export interface Access {
  readonly kind: number;
  readonly at: number;
  readonly count?: number;
}

export class Interrupted {
  readonly vm: Vm;
  #armed: { access: Access; inside: () => void; seen: number } | null = null;

  constructor(options: MakeOptions = {}) {
    const { shared = true } = options;
    const trace: TraceOption = traceOf(shared, { onStep: (kind, address) => this.#step(kind, address) });
    this.vm = makeVm({ ...options, shared, trace });
  }

  /** Runs `call`, and `inside` once before `access`. Throws when `call` never made it: the test would say nothing. */
  run<T>(access: Access, inside: () => void, call: () => T): T {
    this.#armed = { access, inside, seen: 0 };
    const result = call();
    if (this.#armed) throw new Error(`the access ${JSON.stringify(access)} was not made`);
    return result;
  }

  /** From inside: before `access`, later in the same call, `inside` runs once. */
  next(access: Access, inside: () => void): void {
    this.#armed = { access, inside, seen: 0 };
  }

  #step(kind: number, address: number): void {
    const armed = this.#armed;
    if (armed?.access.kind !== kind || armed.access.at !== address) return;
    if (++armed.seen < (armed.access.count ?? 1)) return;
    this.#armed = null;
    armed.inside();
  }
}
