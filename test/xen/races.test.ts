import { expect, test } from 'vitest';
import { kernelBytes } from '../support.ts';
import { faultyRunner, RACE_FAULTS } from './race_faults.ts';
import { RACES } from './race_scenarios.ts';
import { RaceRunner } from './race_world.ts';

const runner = new RaceRunner(kernelBytes('trace-shared'));

test.each(RACES)('$name', (race) => {
  const { findings, steps } = runner.explore(race);
  expect(findings).toEqual([]);
  expect(steps).toBeGreaterThan(3);
});

test.each(RACE_FAULTS)('a fault that is put in turns a race red: $name', async (fault) => {
  const faulty = await faultyRunner(fault);
  const red = RACES.find((race) => faulty.explore(race).findings.length > 0);
  expect(red?.name).toBeDefined();
});
