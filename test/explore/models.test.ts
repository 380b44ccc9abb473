// Every schedule of the engine's own models, in both layouts. What was gone through is printed at the end, with its bounds.

import { afterAll, describe, expect, test } from 'vitest';
import { exhaust, exploreModule, MODELS, World } from '../../src/explore/index.ts';
import { LAYOUTS } from '../support.ts';

const world = new World(exploreModule());
const lines: string[] = [];

afterAll(() => {
  console.log(['model, layout: schedules through states, longest, interruptions', ...lines].join('\n'));
});

describe.each(LAYOUTS)('R1 R2 R3 R4 R5 R6 R8 R9 R11 R14 every schedule, $layout', ({ layout, longMode }) => {
  test.each(MODELS)(
    '$promises $id: $title',
    (maker) => {
      const result = exhaust(world, maker.make(longMode), maker.bounds);
      expect(result.finding).toBeNull();
      expect(result.complete).toBe(true);
      expect(result.schedules).toBeGreaterThan(1);
      const most = maker.bounds?.preemptions ?? Number.POSITIVE_INFINITY;
      lines.push(
        `${maker.id}, ${layout}: ${result.schedules} through ${result.states}, ${result.longest} steps, ${Number.isFinite(most) ? most : 'any number'}`,
      );
    },
    300_000,
  );
});
