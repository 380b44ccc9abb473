// What test/hammer/killing_field.ts and its threads agree on.

import type { VmHandle } from '../../src/index.ts';

/** Survivors: one receives for vCPU 0, one sends to it with a ledger. */
export interface SurvivorPart {
  readonly role: 'receive' | 'send';
  readonly handle: VmHandle;
  /** control words, then an epoch per port that the sender counts up before each send, then one that the receiver copies; i32 */
  readonly ledger: SharedArrayBuffer;
  readonly seed: number;
}

/** The next to die: runs vCPU 1 and sends to vCPU 0, until it is terminated or comes to a step of its own. */
export interface VictimPart {
  readonly handle: VmHandle;
  readonly ledger: SharedArrayBuffer;
  readonly seed: number;
  /** a trace build, and the step at which its thread traps; null: it is terminated from outside */
  readonly trap: { readonly module: WebAssembly.Module; readonly step: number } | null;
}

/** Control words: everybody stops; probes that arrived; the victim's agent number plus 1, and how often it came round. */
export const STOP = 0;
export const ARRIVED = 1;
export const VICTIM = 2;
export const ROUNDS = 3;
export const CONTROL_WORDS = 16;

/** Ports of the ledger, bound to vCPU 0: 1..PORTS-1, of which the last is the probe. */
export const PORTS = 256;
export const PROBE = PORTS - 1;
/** Ports of the victims. */
export const VICTIM_PORTS = 2048;

/** What a survivor has seen. */
export interface SurvivorTally {
  sent: number;
  taken: number;
  /** results that no send may have */
  strange: number;
}
