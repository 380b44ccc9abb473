// A VM that moves at random moments while threads send to it. Counts decide, never time.

import { expect, test } from 'vitest';
import { moveUnderLoad } from './moves.ts';

test('R13 R1 a VM is saved and restored at random moments under load: what arrived before and after is what was sent', async () => {
  const { moves, arrived, again, strange } = await moveUnderLoad(13);
  expect(strange).toBe(0);
  expect(moves).toBeGreaterThan(1);
  expect(arrived.indexOf(0)).toBe(-1);
  // Twice only what was sent twice.
  expect(arrived.reduce((sum, n) => sum + n, 0)).toBeLessThanOrEqual(arrived.length + again);
}, 120_000);
