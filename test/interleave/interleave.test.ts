import { describe, expect, test } from 'vitest';
import { kernelBytes, LAYOUTS } from '../support.ts';
import { SCENARIOS } from './scenarios.ts';
import { Interleaver } from './world.ts';

const interleaver = new Interleaver(kernelBytes('trace-shared'));

describe.each(LAYOUTS)('a whole second actor inside every step, $layout', ({ longMode }) => {
  test.each(SCENARIOS)('$name', (scenario) => {
    const { findings, steps } = interleaver.explore(scenario, longMode);
    expect(findings).toEqual([]);
    expect(steps).toBeGreaterThan(1);
  });
});
