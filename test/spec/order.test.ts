// The order of the shared accesses, as the trace build reports them. [KX-EVT-65, 66; KF-15]

import { describe, expect, test } from 'vitest';
import type { Vm } from '../../src/index.ts';
import { LAYOUTS, makeVm, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { layoutOf, type TraceOption, traceOf } from './evidence.ts';

describe.each(LAYOUTS)('the order of the steps, $layout layout', ({ longMode, bits }) => {
  /** The guest words that the calls touch, in order, as words. */
  function traced(shared: boolean): { vm: Vm; log: string[] } {
    const log: string[] = [];
    let vm: Vm | undefined;
    const name = (address: number): string | undefined => {
      if (!vm) return undefined;
      const { pending, mask, selector: offset, wordBytes } = layoutOf(vm);
      const at = address - vm.guestBase;
      if (at === SHARED_INFO_GPA + pending + wordBytes) return 'pending';
      if (at === SHARED_INFO_GPA + mask + wordBytes) return 'mask';
      if (at === VCPU_INFO_GPA + offset) return 'selector';
      return at === VCPU_INFO_GPA ? 'upcall' : undefined;
    };
    const kinds = ['load', 'store', 'rmw'];
    const trace: TraceOption = traceOf(shared, {
      onStep: (kind, address) => {
        const what = name(address);
        if (what) log.push(`${kinds[kind]} ${what}`);
      },
    });
    vm = makeVm({ longMode, shared, trace });
    log.length = 0;
    return { vm, log };
  }

  test.each([true, false])('KX-EVT-66 KF-15 send: pending, mask, selector, upcall; shared memory: %s', (shared) => {
    const { vm, log } = traced(shared);
    vm.send(bits + 1);
    expect(log.filter((step) => step !== 'load selector' && step !== 'load upcall')).toEqual([
      'rmw pending',
      'load mask',
      'rmw selector',
      'store upcall',
    ]);
    log.length = 0;
    vm.send(bits + 2);
    expect(log).toEqual(['rmw pending', 'load mask', 'load selector']);
    log.length = 0;
    vm.send(bits + 2);
    expect(log).toEqual(['rmw pending']);
  });

  test.each([true, false])('KX-EVT-66 KF-15 drain: upcall, selector, then the words; shared memory: %s', (shared) => {
    const { vm, log } = traced(shared);
    vm.send(bits + 1);
    log.length = 0;
    vm.vcpu(0).drain();
    // With the mask 0 the word is taken in one step; nothing is read of it before.
    expect(log).toEqual(['store upcall', 'rmw selector', 'load mask', 'rmw pending']);
  });

  test.each([true, false])('KX-EVT-65 KF-23 unmask: mask, pending, selector, upcall; shared memory: %s', (shared) => {
    const { vm, log } = traced(shared);
    vm.mask(bits + 1);
    vm.send(bits + 1);
    log.length = 0;
    vm.unmask(bits + 1);
    expect(log.filter((step) => step !== 'load selector' && step !== 'load upcall')).toEqual([
      'rmw mask',
      'load pending',
      'rmw selector',
      'store upcall',
    ]);
  });
});
