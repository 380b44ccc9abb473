// An agent dies in the middle of something, the owner removes it, and the others go on.

import { watchDeadlines } from '../../src/vm/time/deadline_watch.ts';
import { ram } from '../support.ts';
import { aftermath, others } from './aftermath.ts';
import type { Operation } from './operations.ts';
import { DeathWorld, type Scene } from './world.ts';

const world = new DeathWorld();

/** How many steps an operation takes. */
export function victimSteps(operation: Operation, longMode: boolean): number {
  const scene = begin(operation, longMode);
  scene.mortal.live(-1, () => operation.run(scene));
  return scene.mortal.taken;
}

/** Dies before step `at`, is removed, and the others go on; throws what does not hold. */
export function victimDies(operation: Operation, longMode: boolean, at: number): void {
  const scene = begin(operation, longMode);
  const before = ram(scene.owner).slice();
  const { agent, agentNumber } = scene.victim;
  scene.mortal.live(at, () => operation.run(scene));
  if (!scene.mortal.dead) throw new Error('it did not come to that step');
  others(scene);
  let told = false;
  const unwatch = watchDeadlines(scene.owner, () => {
    told = true;
  });
  scene.owner.detachAgent(agentNumber);
  unwatch();
  if (!told) throw new Error('the timekeeper of the owner’s thread was not told');
  aftermath(scene, agent, before, operation.takes);
}

function begin(operation: Operation, longMode: boolean): Scene {
  const scene = world.fresh(longMode);
  operation.setup?.(scene);
  scene.notified.clear();
  return scene;
}
