// What an actor does next: the operations that its code comes to, seen from outside.

import type { Kernel } from '../kernel.ts';

/** What an operation can answer to the code that does it. Bookkeeping may answer anything that JSON can say. */
export type Answer = number | bigint | string | boolean | null | undefined | readonly Answer[];

/** A call into the kernel: a coroutine that stops before its shared accesses. */
export interface KernelCall {
  readonly kind: 'kernel';
  readonly name: keyof Kernel;
  readonly args: readonly number[];
}

/** One access by the half in TypeScript. */
export interface Access {
  readonly kind: 'access';
  /** STEP_ kind, address and bytes */
  readonly step: number;
  readonly address: number;
  readonly bytes: number;
  readonly run: () => Answer;
}

/** A sleep or a repeated look by the half in TypeScript: goes on when the word has another value, or when time passes. */
export interface Wait {
  readonly kind: 'wait';
  readonly address: number;
  readonly expected: number;
  readonly run: () => Answer;
}

/** Bookkeeping of the model: happens together with the access before it. */
export interface Note {
  readonly kind: 'note';
  readonly run: () => Answer;
}

/** Goes on once something has happened that the model keeps a note of. */
export interface Until {
  readonly kind: 'until';
  readonly ready: () => boolean;
}

/** The code has ended, or has thrown what it should not have. */
export interface End {
  readonly kind: 'end';
  readonly error: string | null;
}

export type Operation = KernelCall | Access | Wait | Note | Until | End;
