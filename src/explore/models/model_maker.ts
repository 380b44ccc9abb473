// A model that can be made for either layout, with the promises that it is about.

import type { Bounds } from '../search.ts';
import type { Model } from '../world.ts';

/** The promises of the engine: no event lost, none invented, nothing touched after it was given away, and so on. */
export type Promised = 'R1' | 'R2' | 'R3' | 'R4' | 'R5' | 'R6' | 'R7' | 'R8' | 'R9' | 'R11' | 'R13' | 'R14' | 'R18';

export interface ModelMaker {
  /** short, for the command line: words between hyphens */
  readonly id: string;
  /** who does what, in a line */
  readonly title: string;
  readonly promises: readonly Promised[];
  /** how far a search has to go; everything by default */
  readonly bounds?: Bounds;
  make(longMode: boolean): Model;
}
