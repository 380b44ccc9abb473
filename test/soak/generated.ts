// The suites that make up what they try: schedules of the models, and sequences of calls.

import {
  exhaust,
  exploreModule,
  MODELS,
  type ModelMaker,
  minimise,
  sample,
  scheduleText,
  World,
} from '../../src/explore/index.ts';
import { loadCorpus } from '../fuzz/corpus.ts';
import { fuzz } from '../fuzz/fuzz.ts';
import { type Suite, until } from './suite.ts';

const SCHEDULES = 2_000;
const CALLS = 2_000;

export const RANDOM_SCHEDULES: Suite = {
  name: 'schedules',
  promises: ['R1', 'R2', 'R3', 'R5', 'R6', 'R8', 'R9', 'R11', 'R14', 'R18'],
  async run(seed, budgetMs) {
    const world = new World(exploreModule());
    let schedules = 0;
    const turn = await until(budgetMs, (i) => {
      const maker = MODELS[(seed + i) % MODELS.length] as ModelMaker;
      const longMode = i % 2 === 0;
      const model = maker.make(longMode);
      const result = sample(world, model, { seed: seed + i, schedules: SCHEDULES, changes: i % 5 });
      schedules += result.schedules;
      if (result.finding === null) return;
      const { fault, schedule } = minimise(world, model, result.finding.schedule);
      const layout = longMode ? '' : ' --compat';
      throw new Error(`${maker.id}: ${fault}; evtchn explore ${maker.id}${layout} --replay ${scheduleText(schedule)}`);
    });
    return { ...turn, tries: schedules };
  },
};

export const ALL_SCHEDULES: Suite = {
  name: 'all schedules',
  promises: ['R1', 'R2', 'R3', 'R6', 'R8', 'R14'],
  async run(seed, budgetMs) {
    const world = new World(exploreModule());
    let [states, largest] = [0, 0];
    const turn = await until(budgetMs, (i) => {
      const maker = MODELS[(seed + i) % MODELS.length] as ModelMaker;
      // One interruption more than the quick suite allows.
      const preemptions = (maker.bounds?.preemptions ?? Number.POSITIVE_INFINITY) + 1;
      const result = exhaust(world, maker.make(i % 2 === 0), { preemptions });
      states += result.states;
      largest = Math.max(largest, result.states);
      if (result.finding !== null) throw new Error(`${maker.id}: ${result.finding.fault}`);
    });
    return { ...turn, tries: states, note: `${largest} states at most` };
  },
};

export const FUZZING: Suite = {
  name: 'fuzzing',
  promises: ['R4', 'R5', 'R7', 'R9', 'R10'],
  async run(seed, budgetMs) {
    const corpus = loadCorpus();
    let calls = 0;
    const turn = await until(budgetMs, async (i) => {
      const report = fuzz({ seed: seed + i, calls: CALLS, corpus });
      calls += report.calls;
      await report.settled;
      const [finding] = report.findings;
      if (finding) throw new Error(finding.message);
    });
    return { ...turn, tries: calls };
  },
};
