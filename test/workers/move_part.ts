// What test/hammer/moves.ts and its senders agree on.

import type { VmHandle } from '../../src/index.ts';

export interface MovePart {
  readonly handle: VmHandle;
  /** control words, i32: which life of the VM is the current one, then how many senders have come to it */
  readonly control: SharedArrayBuffer;
  /** ports first, first + step, ... up to `last`, each sent once */
  readonly first: number;
  readonly step: number;
  readonly last: number;
}

/** Counted up while senders are held off for a snapshot. */
export const LIFE = 0;
/** Senders that have found the VM of the current life. */
export const ARRIVED = 1;
/** Senders that have sent everything. */
export const DONE = 2;

export interface MoveTally {
  /** sends that were made again, because nobody can tell which life they fell into */
  again: number;
  /** results that no send may have */
  strange: number;
}
