// The three faults that cost most when they are not found: each is found by going through schedules, and told in at most 20 steps.

import { expect, test } from 'vitest';
import { exhaust, MODELS, minimise, told, World } from '../../src/explore/index.ts';
import { suspendable } from '../../tools/suspendable.js';
import { buildMutant, MUTANTS } from '../interleave/mutants.ts';

const MOST_STEPS = 20;

test.each([
  ['KF-16 no second look before sleeping', 'two-senders-same-port'],
  ['KX-EVT-65 the barrier is left out: a bit that is pending already is not set again', 'upcall-same-port'],
  ['R3 invalidation does not wait for readers', 'shared-info-moves-alone'],
  ['KX-EVT-66 the receiver takes the selector before it clears the upcall byte', 'upcall-different-words'],
  ['KF-23 unmask does not look at pending', 'unmask'],
  ['KF-22 bind does not look at pending', 'bind-two-words'],
])(
  'R18 %s: found by %s, with a schedule of at most 20 steps',
  async (name, id) => {
    const mutant = MUTANTS.find((known) => known.name === name);
    const maker = MODELS.find((known) => known.id === id);
    if (mutant === undefined || maker === undefined) throw new Error(`${name} or ${id} is not known`);
    const world = new World(new WebAssembly.Module(suspendable(await buildMutant(mutant), 1)));
    const model = maker.make(true);
    let finding = null;
    for (let preemptions = 0; preemptions <= 4 && finding === null; preemptions++) {
      ({ finding } = exhaust(world, model, { preemptions }));
    }
    expect(finding).not.toBeNull();
    const { fault, steps } = minimise(world, model, finding?.schedule ?? []);
    expect(fault).not.toBeNull();
    expect(steps.length).toBeLessThanOrEqual(MOST_STEPS);
    expect(steps.length).toBeGreaterThan(0);
    console.log([`${name}: ${fault}`, ...told(steps)].join('\n'));
  },
  300_000,
);
