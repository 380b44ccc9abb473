import { describe, expect, test } from 'vitest';
import { kernelBytes } from '../support.ts';
import { FIFO_SCENARIOS } from './fifo_scenarios.ts';
import { FifoInterleaver } from './fifo_world.ts';

const interleaver = new FifoInterleaver(kernelBytes('trace-shared'));

describe('a whole second actor inside every step, under the FIFO ABI', () => {
  test.each(FIFO_SCENARIOS)('$name', (scenario) => {
    const { findings, steps } = interleaver.explore(scenario);
    expect(findings).toEqual([]);
    expect(steps).toBeGreaterThan(1);
  });
});
