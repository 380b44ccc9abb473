// The suites of `npm run soak`. One more is one more line.

import { DEATHS, OWNER_DEATHS } from './deaths.ts';
import { ALL_SCHEDULES, FUZZING, RANDOM_SCHEDULES } from './generated.ts';
import { LITMUS, RESTORES } from './platform.ts';
import type { Suite } from './suite.ts';
import { KILLS_SUITE, LEDGER, MOVES, REMAPS, RUNSTATES, TIMERS } from './threads.ts';

export const SUITES: readonly Suite[] = [
  DEATHS,
  OWNER_DEATHS,
  KILLS_SUITE,
  LEDGER,
  REMAPS,
  MOVES,
  RESTORES,
  RUNSTATES,
  TIMERS,
  LITMUS,
  RANDOM_SCHEDULES,
  ALL_SCHEDULES,
  FUZZING,
];
