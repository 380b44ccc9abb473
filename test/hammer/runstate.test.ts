// The guest reads its runstate while another thread accounts transitions: at every alignment, and across a page edge.

import { describe, expect, test } from 'vitest';
import { LAYOUTS } from '../support.ts';
import { readRunstates, unbalanced } from './runstates.ts';

const READS = 10_000;

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  test('KF-48 KX-RUN-33 X-14 R11 at every byte of a line and across a page edge every accepted read fits together', async () => {
    const { vm, places, writer, reader } = await readRunstates(longMode, READS);
    expect(reader.torn).toEqual([]);
    expect(reader.stuck).toBe(0);
    expect(reader.accepted).toBeGreaterThanOrEqual(READS * places);
    expect(writer.transitions).toBeGreaterThanOrEqual(places);
    expect(unbalanced(vm)).toEqual([]);
  });
});
