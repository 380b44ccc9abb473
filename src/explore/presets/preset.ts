// A bug that was real, as a model of who made it; and the same with what mended it.

import type { Model } from '../world.ts';

export interface Preset {
  /** for the command line */
  readonly id: string;
  readonly title: string;
  /** what went wrong, and what mends it, in a sentence each */
  readonly bug: string;
  readonly remedy: string;
  readonly broken: () => Model;
  readonly fixed: () => Model;
}
