// Every pair of operations that may meet: A is interrupted at each of its shared accesses, B runs there as a whole.
// A judge says what was lost or invented once the guest has answered every upcall it was asked for.

import { EVENTS } from './events.ts';
import { MAPPINGS } from './mappings.ts';
import type { Scenario } from './world.ts';

export const SCENARIOS: readonly Scenario[] = [...EVENTS, ...MAPPINGS];
