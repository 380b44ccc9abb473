// Races around a vcpu_info that goes away and comes back, which test/spin/shadow.pml found: each would lose a wake-up.

import { describe, expect, test } from 'vitest';
import { VCPU_INFO_GPC } from '../../src/abi/region.ts';
import { attachVm, type Vm } from '../../src/index.ts';
import { drained, LAYOUTS, makeVm } from '../support.ts';
import { dropMappings, traceOf } from './evidence.ts';

/** Does `inside` before step `k` of `call` by another view of the VM. @returns whether there is such a step */
function interrupted(k: number, vm: Vm, inside: () => void, call: (other: Vm) => void): boolean {
  let steps = Number.NEGATIVE_INFINITY;
  const onStep = (): void => {
    if (steps++ === k) inside();
  };
  const other = attachVm(vm.handle(), { trace: traceOf(true, { onStep }) });
  steps = 0;
  call(other);
  return steps > k;
}

const gpcOf = (vm: Vm): number => vm.vcpu(0).line + VCPU_INFO_GPC;

describe.each(LAYOUTS)('$layout layout, at every step', ({ longMode }) => {
  test('R1 KX-EVT-55 an event that meets a half-done flush of its shadow bit is not forgotten', () => {
    let k = 0;
    const flushing = (): boolean => {
      const vm = makeVm({ longMode });
      dropMappings(vm);
      expect(vm.send(5)).toBe(1);
      expect(vm.gpcs.refresh(gpcOf(vm))).toBe(0);
      const ports: number[] = [];
      let open = false;
      const inside = (): void => {
        ports.push(...drained(vm));
        // Up to where the owner would wait for the flusher's bracket.
        vm.kernel.invalidateStart(vm.vmBase);
        open = true;
        vm.kernel.gpcUnmap(vm.vmBase, gpcOf(vm));
        expect(vm.send(6)).toBe(1);
      };
      const reached = interrupted(k, vm, inside, (other) => other.kernel.flushShadow(other.vmBase, other.agent, 0));
      if (open) vm.kernel.invalidateEnd(vm.vmBase);
      expect(vm.gpcs.refresh(gpcOf(vm))).toBe(0);
      ports.push(...drained(vm));
      expect(ports, `before step ${k}`).toEqual(reached ? [5, 6] : [5]);
      return reached;
    };
    while (flushing()) k++;
    expect(k).toBeGreaterThan(5);
  });

  test('R1 KF-16 KX-EVT-46 a sleeper whose vcpu_info comes back in the middle of its look sees what is in it', () => {
    let k = 0;
    const sleeping = (): boolean => {
      const vm = makeVm({ longMode });
      expect(vm.send(5)).toBe(1);
      dropMappings(vm);
      let found = 0;
      const inside = (): void => {
        expect(vm.gpcs.refresh(gpcOf(vm))).toBe(0);
      };
      const reached = interrupted(k, vm, inside, (other) => {
        found = other.kernel.sleepBegin(other.vmBase, other.agent, 0, 0);
      });
      expect(found, `before step ${k}`).not.toBe(0);
      return reached;
    };
    while (sleeping()) k++;
    expect(k).toBeGreaterThan(5);
  });
});
