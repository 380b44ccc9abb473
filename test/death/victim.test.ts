// An agent dies at every step of everything that it can do; the owner removes it, and the others go on. [R8, KF-89]

import { describe, expect, test } from 'vitest';
import { LAYOUTS } from '../support.ts';
import { OPERATIONS } from './operations.ts';
import { victimDies, victimSteps } from './victim.ts';

/** A look through thousands of words dies at all of the first steps, and then at some: `npm run soak` visits all. */
const [DENSE, STRIDE] = [400, 61];

describe.each(LAYOUTS)(
  'R8 KF-89 dies at every step, is removed, and the others deliver, $layout layout',
  ({ longMode }) => {
    test.each(OPERATIONS)('$name', (operation) => {
      const steps = victimSteps(operation, longMode);
      expect(steps).toBeGreaterThan(0);
      const faults: string[] = [];
      for (let at = 0; at < steps; at += at < DENSE ? 1 : STRIDE) {
        try {
          victimDies(operation, longMode, at);
        } catch (error) {
          faults.push(`step ${at}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
      if (faults.length > 0) expect.fail(`${faults.length} of ${steps}:\n${faults.slice(0, 20).join('\n')}`);
    });

    test('all operations together have thousands of steps, of which none is left out', () => {
      const steps = OPERATIONS.map((operation) => victimSteps(operation, longMode));
      expect(steps.every((n) => n > 0)).toBe(true);
      expect(steps.reduce((sum, n) => sum + n, 0)).toBeGreaterThan(4000);
    });
  },
);
