// Random operations with saves and restores in between: everything that can be seen is as if there had been none. [R13, KF-79]

import { describe, expect, test } from 'vitest';
import { moved, run, stayed } from './restored_trace.ts';

const KINDS = [
  { layout: 'long', longMode: true, shared: true },
  { layout: 'compat', longMode: false, shared: false },
];

describe.each(KINDS)('$layout', ({ longMode, shared }) => {
  test.each(Array.from({ length: 12 }, (_, i) => i + 1))(
    'R13 KF-79 seed %i: the trace is that of an uninterrupted run',
    (seed) => {
      const options = { longMode, shared };
      const whole = run(seed, 300, options, (world, next) => {
        if (next(15) === 0) stayed(world, next);
      });
      const parts = run(seed, 300, options, (world, next) => {
        if (next(15) === 0) moved(world, next, options);
      });
      expect(parts).toEqual(whole);
    },
  );
});
