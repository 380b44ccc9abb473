// Brackets: what is refused inside one, and what waits for one. [design: who may touch a page, and when it is gone]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { REGION_INVALIDATE_ACTIVE } from '../../src/abi/region.ts';
import { attachVm, gfn, gpa, type Vm } from '../../src/index.ts';
import { errorOf, KINDS, makeVm, ram, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';
import { changes, invalidate, noNaps, refuses } from './evidence.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, guestPages: 9, ...options });

  test('inside a bracket mappings are not changed: EBUSY, and every byte stays', () => {
    const vm = make();
    vm.enter();
    const everything = vm.guestBase + vm.guestBytes - 1;
    refuses(vm, () => vm.invalidateStart(vm.guestBase, everything), 'EBUSY', 'bracket');
    refuses(vm, () => vm.setAttr({ type: 'shared_info', gfn: gfn(5) }), 'EBUSY', 'bracket');
    refuses(vm, () => vm.setAttr({ type: 'shared_info', gfn: null }), 'EBUSY', 'bracket');
    for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const) {
      refuses(vm, () => vm.vcpu(0).setAttr({ type, gpa: gpa(0x5000) }), 'EBUSY', 'bracket');
    }
    vm.leave();
    expect(vm.invalidateStart(vm.guestBase, everything)).toBe(2);
    vm.invalidateEnd();
  });

  test('brackets do not nest, and leave needs an enter', () => {
    const vm = make();
    refuses(vm, () => vm.leave(), 'EINVAL', 'enter');
    vm.enter();
    refuses(vm, () => vm.enter(), 'EBUSY', 'nest');
    vm.leave();
    refuses(vm, () => vm.leave(), 'EINVAL', 'enter');
  });

  test('inside a bracket sends, masks and drains work as outside', () => {
    const [a, b] = [make(), make()];
    const script = (vm: Vm): unknown[] => [
      vm.send(5),
      vm.send(5),
      vm.mask(6),
      vm.send(6),
      vm.sendMany([7, 8, 5]),
      vm.unmask(6),
      vm.vcpu(0).drain(),
    ];
    const outside = script(a);
    b.enter();
    const inside = script(b);
    b.leave();
    expect(inside).toEqual(outside);
    expect(changes(ram(a).slice(), ram(b).slice())).toEqual([]);
  });
});

describe('readers that do not leave', () => {
  function held(): { vm: Vm; other: Vm } {
    noNaps();
    const vm = makeVm({ guestPages: 9 });
    const other = attachVm(vm.handle());
    other.enter();
    return { vm, other };
  }

  test('an invalidation waits for a bracket and gives up with its agent and the way out', () => {
    const { vm, other } = held();
    const error = errorOf(() => invalidate(vm, SHARED_INFO_GPA));
    expect(error.code).toBe('EBUSY');
    expect(error.message).toContain(`agent ${other.agentNumber}`);
    expect(error.message).toContain(`detachAgent(${other.agentNumber})`);
    expect(error.message).toContain('2000 ms');
  });

  test('R4 an invalidation that gave up is not open: sends go on afterwards', () => {
    const { vm, other } = held();
    errorOf(() => invalidate(vm, SHARED_INFO_GPA));
    other.leave();
    expect(vm.region.words.load(vm.vmBase + REGION_INVALIDATE_ACTIVE)).toBe(0);
    expect(vm.send(5)).toBe(1);
  });

  test('R4 an attribute that could not be moved because of a bracket is as it was', () => {
    const { vm, other } = held();
    const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(6) }));
    expect(error.code).toBe('EBUSY');
    other.leave();
    expect(vm.getAttr('shared_info').gfn).toBe(SHARED_INFO_GFN);
    expect(vm.send(5)).toBe(1);
  });

  test('a dead agent is removed and the invalidation goes through', () => {
    const { vm, other } = held();
    vm.detachAgent(other.agentNumber);
    expect(invalidate(vm, SHARED_INFO_GPA)).toBe(1);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
  });

  test('a bracket that moves on to its next is not waited for', () => {
    const vm = makeVm({ guestPages: 9 });
    const other = attachVm(vm.handle());
    other.enter();
    const wait = vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      other.leave();
      other.enter();
      return 'timed-out';
    });
    expect(invalidate(vm, SHARED_INFO_GPA)).toBe(1);
    expect(wait).toHaveBeenCalledTimes(1);
    other.leave();
    vm.invalidateEnd();
  });
});
