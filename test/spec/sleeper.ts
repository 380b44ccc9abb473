// A vCPU whose sleeps are calls of the test, and what is left when nobody sleeps.

import { expect } from 'vitest';
import { KICK_SLEEPER, REGION_POLLERS, VCPU_KICK, VCPU_POLL, VCPU_SLEEPER } from '../../src/abi/region.ts';
import type { Vm } from '../../src/index.ts';
import type { KernelHooks } from '../../src/kernel.ts';
import { makeVm } from '../support.ts';
import { tracing } from './evidence.ts';

/** What a platform answers to a sleep. */
export const WOKEN = 0;
export const TIMED_OUT = 2;

/** More often than any test sleeps on purpose. */
const MOST_NAPS = 500;

/** What is left in a vCPU's line when nobody sleeps or polls for it. */
export function expectAwake(vm: Vm, index = 0): void {
  const { words } = vm.region;
  const { line } = vm.vcpu(index);
  expect(words.load(line + VCPU_KICK) & KICK_SLEEPER).toBe(0);
  expect(words.load(line + VCPU_SLEEPER)).toBe(0);
  expect(words.load(line + VCPU_POLL)).toBe(0);
  expect(words.load(vm.vmBase + REGION_POLLERS)).toBe(0);
}

/** What `makeSleeper` takes: the layout, and what happens while the vCPU sleeps; that says what the platform answers. */
export interface SleeperOptions {
  readonly longMode: boolean;
  readonly asleep: (vm: Vm) => number;
  readonly onStep?: (kind: number, address: number) => void;
  readonly vcpus?: number;
}

/** A traced VM, and how often it has slept. */
export function makeSleeper({ longMode, asleep, onStep, vcpus = 1 }: SleeperOptions): { vm: Vm; naps: () => number } {
  let [naps, vm] = [0, undefined as Vm | undefined];
  const hooks: KernelHooks = {
    onWait: () => {
      // A wake that gets lost would make this loop for ever.
      if (++naps > MOST_NAPS) expect.fail(`asleep for the ${naps}th time: nothing wakes it`);
      return asleep(vm as Vm);
    },
    ...(onStep ? { onStep } : {}),
  };
  vm = makeVm({ longMode, vcpus, ...tracing(true, hooks) });
  return { vm, naps: () => naps };
}
