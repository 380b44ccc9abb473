// What test/hammer/remap.test.ts and its threads agree on.

import type { VmHandle } from '../../src/index.ts';

export interface RemapPart {
  /** `press` sends one port as fast as it can, and keeps no ledger */
  readonly role: 'send' | 'drain' | 'both' | 'press';
  readonly handle: VmHandle;
  /** control words, then an epoch per port that is counted up before each send, then one that the receiver copies; i32 each */
  readonly ledger: SharedArrayBuffer;
  readonly ports: number;
}

export interface RemapOutcome {
  delivered: number;
  coalesced: number;
  drained: number;
  /** uses that found a page away, until the owner brings it back; each was tried again */
  unreachable: number;
  /** uses outside brackets that an open invalidation outlasted; each was tried again */
  late: number;
  /** results that no use may have */
  strange: number;
}

/** Control words: the threads stop; and how often they have sent and drained, on which the owner may sleep. */
export const REMAP_STOP = 0;
export const REMAP_SENT = 1;
export const REMAP_DRAINED = 2;
export const REMAP_CONTROL_WORDS = 16;
