// Pages move under fire: nothing is lost, nothing is invented, no poison is touched. [R3, KF-01, KF-12]

import { describe, expect, test } from 'vitest';
import { gfn } from '../../src/index.ts';
import { REMAP_SENT } from '../workers/remap_part.ts';
import { Field, INFO, ROUNDS, SLOT_PAGES } from './field.ts';

describe('R1 R2 R3 KF-01 pages move while others send and drain: nothing lost, nothing invented, no poison touched', () => {
  test.each(ROUNDS)('$name', async ({ times, change, threads, byHost = false, gap = false }) => {
    const field = new Field(byHost);
    const move = change(field);
    for (const role of threads) field.start(role);
    field.run(times, move);
    const { lost, total } = await field.stop();
    expect(field.spoilt).toBe(0);
    expect(lost).toEqual([]);
    expect(total.strange).toBe(0);
    expect(total.drained).toBe(total.delivered);
    expect(total.delivered).toBeGreaterThan(0);
    if (!gap) expect(total.unreachable).toBe(0);
  });

  test('KX-GPC-20 shared_info goes and comes while two threads refresh it all the time: nobody keeps anybody from finishing', async () => {
    const field = new Field();
    field.start('press');
    field.start('press');
    // Throws when its own refresh does not come to its end. Few breaths in between: they bring the threads out of step.
    const toggle = (): void => {
      for (let i = 0; i < 200; i++) {
        field.vm.setAttr({ type: 'shared_info', gfn: null });
        field.vm.setAttr({ type: 'shared_info', gfn: gfn(INFO + (i % 2) * 3) });
      }
    };
    field.run(500, toggle, [REMAP_SENT]);
    const { total } = await field.stop();
    expect([total.late, total.strange]).toEqual([0, 0]);
  });

  test('KF-12 invalidations elsewhere, without a pause: every refresh still ends', async () => {
    const field = new Field();
    field.start('both');
    const foreign = field.host(SLOT_PAGES);
    let turn = 0;
    field.run(50_000, () => {
      // Now and then the page itself, so that there is something to refresh.
      const at = turn++ % 50 === 0 ? field.host(INFO) : foreign;
      field.vm.invalidateStart(at, at);
      field.vm.invalidateEnd();
    });
    const { lost, total } = await field.stop();
    expect([lost, total.unreachable, total.late, total.strange]).toEqual([[], 0, 0, 0]);
    expect(total.drained).toBe(total.delivered);
  });
});
