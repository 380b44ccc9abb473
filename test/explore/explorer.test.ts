// The explorer itself, on models whose answers are known. [R18]

import { describe, expect, test } from 'vitest';
import type { Code, Model, Party } from '../../src/explore/index.ts';
import {
  exhaust,
  exploreModule,
  MODELS,
  minimise,
  parseSchedule,
  replay,
  sample,
  scheduleText,
  told,
  World,
} from '../../src/explore/index.ts';
import { runstateModel } from '../../src/explore/models/runstate.ts';
import { errorOf } from '../support.ts';

const world = new World(exploreModule());

/** A guest page that nothing else uses, and words of it on lines of their own. */
const word = (base: number, n: number): number => base + 8 * 4096 + n * 64;

function toy(name: string, codes: readonly Code[], rest: Partial<Model> = {}): Model {
  const parties = codes.map((code, i): Party => ({ name: `actor ${i}`, code }));
  return { name, parties, ...rest };
}

/** Adds one in two steps, or in one. */
const adds =
  (locked: boolean): Code =>
  (vm, self) => {
    const at = word(vm.guestBase, 0);
    if (locked) self.change(at, (n) => n + 1);
    else self.write(at, self.read(at) + 1);
  };
const two: Partial<Model> = {
  finally: (w) => (w.peek(word(w.vm.guestBase, 0)) === 2 ? null : `the sum is ${w.peek(word(w.vm.guestBase, 0))}`),
};

describe('every schedule', () => {
  test('of two actors that add in two steps: the lost update is found', () => {
    const { finding } = exhaust(world, toy('adds', [adds(false), adds(false)], two));
    expect(finding?.fault).toBe('the sum is 1');
  });

  test('of two actors that add in one step: there are two, and both are right', () => {
    const result = exhaust(world, toy('adds', [adds(true), adds(true)], two));
    expect(result).toMatchObject({ schedules: 2, complete: true, finding: null });
  });

  test.each([
    [1, 1, 2],
    [2, 2, 6],
    [3, 3, 20],
    [4, 2, 15],
  ])('of %i and %i accesses to one word: as many as there are ways to shuffle them', (m, n, expected) => {
    const touches =
      (times: number): Code =>
      (vm, self) => {
        for (let i = 0; i < times; i++) self.change(word(vm.guestBase, 0), (value) => value * 2 + times);
      };
    expect(exhaust(world, toy('shuffle', [touches(m), touches(n)])).schedules).toBe(expected);
  });

  test('of actors that do not meet: one, because their order makes no difference', () => {
    const alone =
      (n: number): Code =>
      (vm, self) => {
        for (let i = 0; i < 5; i++) self.change(word(vm.guestBase, n), (value) => value + 1);
      };
    expect(exhaust(world, toy('alone', [alone(1), alone(2), alone(3)]))).toMatchObject({
      schedules: 1,
      complete: true,
    });
  });

  test('with at most so many interruptions: the lost update needs one', () => {
    expect(exhaust(world, toy('adds', [adds(false), adds(false)], two), { preemptions: 0 }).finding).toBeNull();
    expect(exhaust(world, toy('adds', [adds(false), adds(false)], two), { preemptions: 1 }).finding).not.toBeNull();
  });

  test('R6 two actors that wait for each other: a deadlock, with who waits for what', () => {
    const waits =
      (own: number, other: number): Code =>
      (vm, self) => {
        self.do(`waits for word ${other}`, () => {
          self.until(() => world.peek(word(vm.guestBase, other)) === 1);
          self.write(word(vm.guestBase, own), 1);
        });
      };
    const { finding } = exhaust(world, toy('deadlock', [waits(1, 2), waits(2, 1)]));
    expect(finding?.fault).toBe('actor 0 waits for ever (waits for word 2)');
  });

  test('R5 an actor that never comes to an end is told', () => {
    const turns: Code = (vm, self) => {
      for (;;) self.change(word(vm.guestBase, 0), () => 0);
    };
    const { finding } = exhaust(world, toy('turns', [turns, turns]));
    expect(finding?.fault).toContain('it goes on for ever');
  });

  test('R8 an actor that may die: each step that it does not make any more is gone through', () => {
    const sums = new Set<number>();
    const model = toy('dies', [], {
      parties: [
        {
          name: 'mortal',
          mortal: true,
          code: (vm, self) => {
            for (let i = 0; i < 3; i++) self.change(word(vm.guestBase, 0), (n) => n + 1);
          },
        },
        { name: 'other', code: (vm, self) => void self.read(word(vm.guestBase, 0)) },
      ],
      finally: (w) => {
        sums.add(w.peek(word(w.vm.guestBase, 0)));
        return null;
      },
    });
    expect(exhaust(world, model).complete).toBe(true);
    expect([...sums].sort()).toEqual([0, 1, 2, 3]);
  });

  test('R4 what the code throws is a fault with its sentence', () => {
    const throws: Code = (vm) => void vm.vcpu(7);
    expect(exhaust(world, toy('throws', [throws])).finding?.fault).toMatch(/actor 0 threw EvtchnError: EINVAL/);
  });

  test('KF-87 a sleeper that wakes without a reason goes on sleeping', () => {
    const sleeps: Code = (vm, self) => self.do('sleeps', () => void vm.vcpu(0).wait());
    const sends: Code = (vm, self) => self.do('sends', () => void vm.send(5));
    const result = exhaust(world, toy('spurious', [sleeps, sends], { spurious: true }));
    expect(result).toMatchObject({ complete: true, finding: null });
    expect(result.states).toBeGreaterThan(exhaust(world, toy('spurious', [sleeps, sends])).states);
  });
});

describe('stores that stay in a buffer', () => {
  const reads = (): Model => runstateModel(false, true);

  test('R11 without the marker a guest accepts what does not add up; with it never', () => {
    expect(exhaust(world, reads(), { preemptions: 2 }).finding?.fault).toContain('do not add up');
    expect(exhaust(world, runstateModel(true, true), { preemptions: 2 }).finding).toBeNull();
  });

  test('they make schedules that there are not without them', () => {
    const without = exhaust(world, runstateModel(true, false), { preemptions: 2 });
    const withThem = exhaust(world, runstateModel(true, true), { preemptions: 2 });
    expect(withThem.states).toBeGreaterThan(without.states);
  });
});

describe('R18 a schedule', () => {
  const broken = (): Model => toy('adds', [adds(false), adds(false)], two);

  test('is a short string, and comes back from it', () => {
    for (const text of ['a3.b7.a~.c!', 'a1.b?2.c^3.a4', '']) expect(scheduleText(parseSchedule(text))).toBe(text);
  });

  test('runs the same a hundred times', () => {
    const { finding } = sample(world, broken(), { seed: 7, schedules: 1000 });
    const shortest = minimise(world, broken(), finding?.schedule ?? []);
    expect(scheduleText(shortest.schedule)).toBe('a1.b2.a1');
    const stories = new Set<string>();
    for (let i = 0; i < 100; i++) stories.add(told(replay(world, broken(), shortest.schedule).steps).join('\n'));
    expect([...stories]).toEqual([
      [
        '  1. actor 0: reads guest page 8, byte 0: 0',
        '  2. actor 1: reads guest page 8, byte 0: 0',
        '  3.          sets guest page 8, byte 0 to 1',
        '  4. actor 0: sets guest page 8, byte 0 to 1 (as it was)',
      ].join('\n'),
    ]);
  });

  test('that does not fit is refused with the place', () => {
    expect(errorOf(() => replay(world, broken(), parseSchedule('a1.b9')))).toMatchObject({
      code: 'EINVAL',
      message: 'EINVAL: the schedule does not fit: actor 1 cannot move at access 3 of 9',
    });
    expect(errorOf(() => parseSchedule('a1,b2'))).toMatchObject({ code: 'EINVAL' });
  });

  test.each([0, 1, 2, 3])('at random, with %i changes of priority: the same seed finds the same', (changes) => {
    const options = { seed: 11, schedules: 2000, changes };
    const first = sample(world, broken(), options);
    expect(first.finding?.fault).toBe('the sum is 1');
    expect(sample(world, broken(), options)).toEqual(first);
  });
});

describe('a million schedules', () => {
  const EACH = 12_000;

  test('R1 R2 R3 R8 R9 R14 at random and by priorities, over all models in both layouts: none ends badly', () => {
    let schedules = 0;
    for (const [i, maker] of MODELS.entries()) {
      for (const longMode of [true, false]) {
        const result = sample(world, maker.make(longMode), { seed: i, schedules: EACH, changes: i % 4 });
        expect(result.finding, maker.id).toBeNull();
        schedules += result.schedules;
      }
    }
    expect(schedules).toBeGreaterThanOrEqual(1e6);
    console.log(`${schedules} schedules over ${MODELS.length} models in 2 layouts`);
  }, 600_000);
});
