// The suite of litmus programs, and that of saves and restores at random points.

import { STRICT_PROGRAMS, WEAK_PROGRAMS } from '../litmus/programs.ts';
import { compile, litmus } from '../litmus/runner.ts';
import { moved, run, stayed } from '../spec/restored_trace.ts';
import { type Suite, same, until } from './suite.ts';

const ALL = [...STRICT_PROGRAMS, ...WEAK_PROGRAMS];
const ROUNDS = 8_192;

export const LITMUS: Suite = {
  name: 'litmus',
  promises: ['R15'],
  async run(_seed, budgetMs) {
    const module = await compile(ALL);
    let [rounds, met, weak] = [0, 0, 0];
    const turn = await until(budgetMs, async () => {
      for (const verdict of await litmus(ALL, module, ROUNDS)) {
        rounds += verdict.rounds;
        met += verdict.met;
        weak += verdict.weak ?? 0;
        if (verdict.forbidden > 0) throw new Error(`${verdict.name}: ${verdict.forbidden} of ${verdict.rounds}`);
      }
    });
    return { ...turn, tries: rounds, note: `${met} rounds side by side, ${weak} weak outcomes` };
  },
};

const STEPS = 300;

export const RESTORES: Suite = {
  name: 'restores',
  promises: ['R13'],
  async run(seed, budgetMs) {
    let restores = 0;
    const turn = await until(budgetMs, (i) => {
      const options = { longMode: (seed + i) % 2 === 0, shared: i % 3 !== 0 };
      const whole = run(seed + i, STEPS, options, (world, next) => {
        if (next(15) === 0) stayed(world, next);
      });
      const parts = run(seed + i, STEPS, options, (world, next) => {
        if (next(15) !== 0) return;
        moved(world, next, options);
        restores++;
      });
      same(`seed ${seed + i}: trace`, parts, whole);
    });
    return { ...turn, tries: restores };
  },
};
