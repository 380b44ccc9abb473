// The owner dies at every step of what only it does. [R8, KF-89, KF-90]

import { describe, expect, test } from 'vitest';
import { ownerDies, ownerSteps } from './owner.ts';
import { OWNER_OPERATIONS } from './owner_operations.ts';

/** Steps at which it dies here: the first, and some of the others; `npm run soak` visits all, in both layouts. */
const [DENSE, MORE] = [20, 20];

describe('R8 KF-89 KF-90 the owner dies: what the others do ends, and where no change was open, events arrive', () => {
  test.each(OWNER_OPERATIONS)('$name', (operation) => {
    const steps = ownerSteps(operation, true);
    expect(steps).toBeGreaterThan(0);
    const stride = Math.max(1, Math.ceil((steps - DENSE) / MORE));
    const faults: string[] = [];
    let arrived = 0;
    for (let at = 0; at < steps; at += at < DENSE ? 1 : stride) {
      try {
        if (ownerDies(operation, true, at)) arrived++;
      } catch (error) {
        faults.push(`step ${at}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    if (faults.length > 0) expect.fail(`${faults.length} of ${steps}:\n${faults.slice(0, 20).join('\n')}`);
    expect(arrived).toBeGreaterThan(0);
  });
});
