// What must happen, worked out from the recording alone: two sets of ports and one level. The engine is held against it.

import { ENOTCONN } from '../../src/abi/errno.ts';

/** Why the guest is being asked for an upcall. */
export type Cause = 'registration' | 'raise' | 'unmask';

/** The event channels of one vCPU as a plain sequential program. Results are those of the engine's calls. */
export class Model {
  readonly #pending = new Set<number>();
  readonly #masked = new Set<number>();
  #cause: Cause | null = null;

  /** Why the guest is asked for an upcall; null while it is not. */
  get cause(): Cause | null {
    return this.#cause;
  }

  isPending(port: number): boolean {
    return this.#pending.has(port);
  }

  raise(port: number): number {
    if (this.#pending.has(port)) return 0;
    this.#pending.add(port);
    if (this.#masked.has(port)) return -ENOTCONN;
    this.ask('raise');
    return 1;
  }

  mask(port: number): number {
    const was = this.#masked.has(port);
    this.#masked.add(port);
    return was ? 0 : 1;
  }

  unmask(port: number): number {
    if (!this.#masked.delete(port) || !this.#pending.has(port)) return 0;
    this.ask('unmask');
    return 1;
  }

  /** The first cause since the last drain is the one that counts. */
  ask(cause: Cause): void {
    this.#cause ??= cause;
  }

  /** The guest's handler runs. @returns the ports it finds, lowest first */
  drain(): number[] {
    this.#cause = null;
    const ports = [...this.#pending].filter((port) => !this.#masked.has(port)).sort((a, b) => a - b);
    for (const port of ports) this.#pending.delete(port);
    return ports;
  }
}
