import { describe, expect, test } from 'vitest';
import { STEP_NOTIFY } from '../../src/abi/step.ts';
import { attachVm } from '../../src/index.ts';
import { kernelBytes, LAYOUTS, makeVm } from '../support.ts';
import { SCENARIOS } from './scenarios.ts';
import { Interleaver } from './world.ts';

const interleaver = new Interleaver(kernelBytes('trace-shared'));

describe.each(LAYOUTS)('a whole second actor inside every step, $layout', ({ longMode }) => {
  test.each(SCENARIOS)('$name', (scenario) => {
    const { findings, steps } = interleaver.explore(scenario, longMode);
    expect(findings).toEqual([]);
    expect(steps).toBeGreaterThan(1);
  });
});

describe('a million signals, one wake', () => {
  test('KF-24 a batch over all words wakes its receiver once, though it drains and sleeps again at the wake', () => {
    let onNotify = (): void => {};
    const trace = {
      module: new WebAssembly.Module(kernelBytes('trace-shared')),
      onStep: (kind: number) => {
        if (kind === STEP_NOTIFY) onNotify();
      },
    };
    const sender = makeVm({ trace });
    const receiver = attachVm(sender.handle(), { trace: { module: trace.module, onStep: () => {} } });
    const fallAsleep = (): number => receiver.kernel.sleepBegin(receiver.vmBase, receiver.agent, 0);
    const ports = Array.from({ length: 64 }, (_, word) => word * 64 + 1);
    const drained: number[] = [];
    onNotify = () => {
      receiver.vcpu(0).drain((port) => drained.push(port));
      fallAsleep();
    };
    expect(fallAsleep()).toBe(0);
    expect(sender.sendMany(ports)).toBe(64);
    expect(sender.wakes).toBe(1);
    expect(drained).toEqual(ports);
  });
});
