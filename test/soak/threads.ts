// The suites of real threads.

import { Field, ROUNDS } from '../hammer/field.ts';
import { Hammer, sum } from '../hammer/hammer.ts';
import { KillingField } from '../hammer/killing_field.ts';
import { moveUnderLoad } from '../hammer/moves.ts';
import { readRunstates, unbalanced } from '../hammer/runstates.ts';
import { expireTimers } from '../hammer/timers.ts';
import { type Suite, same, until } from './suite.ts';

/** Kills in one field; then a fresh one. */
const KILLS = 200;

export const KILLS_SUITE: Suite = {
  name: 'kills',
  promises: ['R1', 'R6', 'R8'],
  async run(seed, budgetMs) {
    let worst = 0;
    let field = new KillingField(seed);
    const settle = async (): Promise<void> => {
      const { delays, lost, strange } = await field.stop();
      worst = Math.max(worst, ...delays);
      same('lost ports and strange results', [lost, strange], [[], 0]);
    };
    let kills = 0;
    const turn = await until(budgetMs, async (i) => {
      if (i > 0 && i % KILLS === 0) {
        await settle();
        field = new KillingField(seed + i);
      }
      await field.kill();
      kills++;
    });
    const failures = [...turn.failures];
    if (failures.length === 0) await settle().catch((error: Error) => failures.push(error.message));
    return { tries: kills, failures, note: `worst removal to arrival ${worst.toFixed(1)} ms` };
  },
};

const ROLES = ['single', 'batch', 'bracket'] as const;

export const LEDGER: Suite = {
  name: 'ledger',
  promises: ['R1', 'R2'],
  async run(seed, budgetMs) {
    let sends = 0;
    const turn = await until(budgetMs, async (i) => {
      const hammer = new Hammer();
      const each = 500_000;
      const [first, second] = [ROLES[(seed + i) % 3], ROLES[(seed + i + 1) % 3]] as const;
      const { sent, got } = await hammer.run(
        i % 4 === 3 ? 'async' : 'receive',
        hammer.start(first ?? 'single', each, 1, 2),
        hammer.start(second ?? 'batch', each, 2, 2),
      );
      same('lost ports', hammer.lost(), []);
      same('other results', sum(sent, 'other'), 0);
      same('drained', got.drained, sum(sent, 'delivered'));
      sends += 2 * each;
    });
    return { ...turn, tries: sends };
  },
};

/** Moves in one try. */
const SOME_MOVES = 2_000;

export const REMAPS: Suite = {
  name: 'remaps',
  promises: ['R1', 'R2', 'R3'],
  async run(seed, budgetMs) {
    let moves = 0;
    const turn = await until(budgetMs, async (i) => {
      const round = ROUNDS[(seed + i) % ROUNDS.length];
      if (!round) return;
      const field = new Field(round.byHost);
      const change = round.change(field);
      for (const role of round.threads) field.start(role);
      field.run(SOME_MOVES, change);
      const { lost, total } = await field.stop();
      same(`${round.name}: poison, lost ports, strange results`, [field.spoilt, lost, total.strange], [0, [], 0]);
      same(`${round.name}: drained`, total.drained, total.delivered);
      moves += SOME_MOVES;
    });
    return { ...turn, tries: moves };
  },
};

export const MOVES: Suite = {
  name: 'moves',
  promises: ['R1', 'R13'],
  async run(seed, budgetMs) {
    let moved = 0;
    const turn = await until(budgetMs, async (i) => {
      const { moves, arrived, again, strange } = await moveUnderLoad(seed + i);
      same('strange results', strange, 0);
      same('a port that did not arrive', arrived.indexOf(0), -1);
      const twice = arrived.reduce((total, n) => total + n, 0) - arrived.length;
      if (twice > again) throw new Error(`${twice} events came twice, but only ${again} were sent twice`);
      moved += moves;
    });
    return { ...turn, tries: moved };
  },
};

export const RUNSTATES: Suite = {
  name: 'runstates',
  promises: ['R11'],
  async run(seed, budgetMs) {
    let reads = 0;
    const turn = await until(budgetMs, async (i) => {
      const { vm, reader } = await readRunstates((seed + i) % 2 === 0, 2_000);
      same('torn reads', reader.torn, []);
      same('areas that stood still', reader.stuck, 0);
      same('vCPUs whose times do not add up', unbalanced(vm), []);
      reads += reader.accepted;
    });
    return { ...turn, tries: reads };
  },
};

export const TIMERS: Suite = {
  name: 'timers',
  promises: ['R1', 'R12'],
  async run(seed, budgetMs) {
    const each = 300;
    let timers = 0;
    const turn = await until(budgetMs, async (i) => {
      const outcome = await expireTimers(each, 1 + seed + i);
      same('early, lost and strange', [outcome.early, outcome.lost, outcome.strange], [0, 0, 0]);
      same('accounted for', outcome.atOnce + outcome.expired + outcome.stopped, each);
      same('expired', outcome.ticks, outcome.expired);
      same('taken', outcome.taken, outcome.atOnce + outcome.expired);
      timers += each;
    });
    return { ...turn, tries: timers };
  },
};
