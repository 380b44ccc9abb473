// An agent dies at every step of everything that it can do; the owner removes it, and the others go on. [R8, KF-89]

import { describe, expect, test } from 'vitest';
import { LAYOUTS, ram } from '../support.ts';
import { aftermath, others } from './aftermath.ts';
import { OPERATIONS, type Operation } from './operations.ts';
import { DeathWorld } from './world.ts';

const world = new DeathWorld();

/** A look through thousands of words dies at all of the first steps, and then at some: `npm run soak` visits all. */
const [DENSE, STRIDE] = [400, 61];

/** Dies before step `at`. @returns what went wrong, or null; and the steps that were taken */
function die({ setup, run, takes }: Operation, longMode: boolean, at: number): { fault: string | null; steps: number } {
  const scene = world.fresh(longMode);
  setup?.(scene);
  const before = ram(scene.owner).slice();
  const { agent, agentNumber } = scene.victim;
  scene.notified.clear();
  scene.mortal.live(at, () => run(scene));
  if (!scene.mortal.dead) return { fault: null, steps: scene.mortal.taken };
  try {
    others(scene);
    scene.owner.detachAgent(agentNumber);
    aftermath(scene, agent, before, takes);
  } catch (error) {
    return { fault: `step ${at}: ${error instanceof Error ? error.message : String(error)}`, steps: at };
  }
  return { fault: null, steps: at };
}

describe.each(LAYOUTS)(
  'R8 KF-89 dies at every step, is removed, and the others deliver, $layout layout',
  ({ longMode }) => {
    test.each(OPERATIONS)('$name', (operation) => {
      const { steps } = die(operation, longMode, -1);
      expect(steps).toBeGreaterThan(0);
      const faults: string[] = [];
      for (let at = 0; at < steps; at += at < DENSE ? 1 : STRIDE) {
        const { fault } = die(operation, longMode, at);
        if (fault !== null) faults.push(fault);
      }
      if (faults.length > 0) expect.fail(`${faults.length} of ${steps}:\n${faults.slice(0, 20).join('\n')}`);
    });
  },
);
