// The gfn-to-pfn cache: who may touch a page, and when it is gone. [kvm-xen 6 and 11.1, known faults group 1]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { GPC_ACTIVE, REGION_INVALIDATE_ACTIVE, REGION_INVALIDATE_SEQ } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gfn, gpa, type Vm } from '../../src/index.ts';
import { drained, errorOf, KINDS, makeVm, ram, random, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import {
  changed,
  dropMappings,
  invalidate,
  noNaps,
  POISON,
  refuses,
  selector,
  sharedInfoWord,
  UNMAPPED,
  vcpuInfoWord,
} from './evidence.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, guestPages: 9, ...options });

  test('KX-GPC-40 an invalidation drops what lies in its pages, and counts it', () => {
    const vm = make({ vcpus: 3 });
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5000) });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x5ff0) });
    expect(invalidate(vm, 0x5000)).toBe(2);
    vm.invalidateEnd();
    expect(invalidate(vm, 0x6000)).toBe(1);
    vm.invalidateEnd();
    expect(invalidate(vm, VCPU_INFO_GPA)).toBe(3);
    vm.invalidateEnd();
    expect(invalidate(vm, SHARED_INFO_GPA)).toBe(1);
    vm.invalidateEnd();
    expect(dropMappings(vm)).toBe(0);
  });

  test.each([
    ['the first byte', 0, 0],
    ['the last byte', PAGE_SIZE - 1, PAGE_SIZE - 1],
    ['a byte in the middle', 100, 100],
    ['the page and both neighbours', -PAGE_SIZE, 2 * PAGE_SIZE - 1],
  ])('KX-GPC-40 ranges count as whole pages: %s drops it', (_what, from, to) => {
    const vm = make();
    const base = vm.guestBase + SHARED_INFO_GPA;
    vm.invalidateStart(base + from, base + to);
    expect(sharedInfoWord(vm)).toBeGreaterThanOrEqual(UNMAPPED);
    vm.invalidateEnd();
  });

  test('X-12 KX-GPC-40 a range beside the page leaves it valid', () => {
    const vm = make();
    const mapped = [sharedInfoWord(vm), vcpuInfoWord(vm)];
    expect(invalidate(vm, SHARED_INFO_GPA - PAGE_SIZE)).toBe(0);
    vm.invalidateEnd();
    expect(invalidate(vm, VCPU_INFO_GPA + PAGE_SIZE, 3 * PAGE_SIZE)).toBe(0);
    // KF-12: one that is open elsewhere does not stop events.
    expect(vm.send(5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
    vm.invalidateEnd();
    expect([sharedInfoWord(vm), vcpuInfoWord(vm)]).toEqual(mapped);
  });

  test('KX-GPC-38 KX-MEM-03 the sequence rises on every end, whatever the range met', () => {
    const vm = make();
    const seq = (): number => vm.region.words.load(vm.vmBase + REGION_INVALIDATE_SEQ);
    const first = seq();
    vm.invalidateStart(0, 0);
    expect(seq()).toBe(first);
    vm.invalidateEnd();
    expect(seq()).toBe(first + 1);
    dropMappings(vm);
    expect(seq()).toBe(first + 2);
  });

  test('KX-MEM-07 KX-GPC-32 X-11 invalidations nest: a page is mapped again only after the last end', () => {
    const vm = make();
    invalidate(vm, SHARED_INFO_GPA);
    invalidate(vm, 0x7000);
    expect(vm.send(5)).toBe(-11);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(-11);
    expect(sharedInfoWord(vm)).toBeGreaterThanOrEqual(UNMAPPED);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
  });

  test('R3 KX-MEM-02 between start and end no byte of the page is read or written', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(0x5100) });
    vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x6fe0) });
    vm.send(5);
    vm.mask(6);
    const saved = ram(vm).slice();
    invalidate(vm, 0, vm.guestBytes);
    ram(vm).fill(POISON);
    const next = random(9);
    const calls = [
      () => vm.send(1 + next(1000)),
      () => vm.sendMany([3, 4, 5, 60]),
      () => vm.sendMany(Array.from({ length: 100 }, () => 1 + next(1000))),
      () => vm.mask(1 + next(1000)),
      () => vm.unmask(1 + next(1000)),
      () => vm.bindVcpu(1 + next(1000), 0),
      () => vm.vcpu(0).drain(),
      () => vm.vcpu(0).upcallPending,
      () => vm.vcpu(0).flushShadow(),
      () => vm.vcpu(0).resync(),
      () => vm.vcpu(0).enterRunstate('blocked', 10n),
      () => vm.vcpu(0).enterRunstate('runnable', 20n),
      () => vm.vcpu(0).writeTime({ tscTimestamp: 1, systemTime: 2, mul: 3, shift: 0 }),
      () => errorOf(() => vm.vcpu(0).readTime(5)),
      () => errorOf(() => vm.vcpu(0).poll([3])),
    ];
    for (const call of calls) call();
    expect(ram(vm).every((byte) => byte === POISON)).toBe(true);
    ram(vm).set(saved);
    vm.invalidateEnd();
    // Everything goes on where it was; resync made the guest look everywhere.
    expect(drained(vm)).toEqual([5]);
    expect(vm.send(6)).toBe(-107);
    expect(vm.send(7)).toBe(1);
  });

  test('KF-06 KX-GPC-17 shared_info and vcpu_info in one page are dropped and mapped together', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(SHARED_INFO_GPA + 64) });
    expect(invalidate(vm, SHARED_INFO_GPA)).toBe(2);
    vm.invalidateEnd();
    vm.send(5);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(selector(vm, SHARED_INFO_GPA + 64)).toBe(1n);
    expect(drained(vm)).toEqual([5]);
  });

  test('KF-03 KX-GPC-18 an inactive cache is not brought back by a refresh', () => {
    const vm = make();
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(vm.gpcs.refresh(vm.region.sharedInfo)).toBe(-22);
    expect(sharedInfoWord(vm)).toBeGreaterThanOrEqual(UNMAPPED);
    expect(vm.region.words.load(vm.region.sharedInfo + GPC_ACTIVE)).toBe(0);
  });

  test('KF-04 valid implies active, after every random step', () => {
    const vm = make();
    const next = random(21);
    let open = 0;
    const steps = [
      () => vm.setAttr({ type: 'shared_info', gfn: null }),
      () => vm.setAttr({ type: 'shared_info', gfn: gfn(next(12)) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(next(12) * PAGE_SIZE + next(0xfc1)) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }),
      () => vm.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(next(12) * PAGE_SIZE + next(PAGE_SIZE)) }),
      () => vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(next(12) * PAGE_SIZE + next(0xfe1)) }),
      () => vm.send(1 + next(1023)),
      () => vm.vcpu(0).drain(),
      () => vm.vcpu(0).enterRunstate('blocked', 5n),
      () => {
        if (open < 2) open += invalidate(vm, next(9) * PAGE_SIZE) >= 0 ? 1 : 0;
      },
      () => {
        if (open > 0) {
          vm.invalidateEnd();
          open--;
        }
      },
    ];
    for (let i = 0; i < 600; i++) {
      try {
        steps[next(steps.length)]?.();
      } catch (error) {
        expect((error as Error).name).toBe('EvtchnError');
      }
      for (const gpc of vm.region.gpcs()) {
        const mapped = vm.region.words.load(gpc) >>> 0 < UNMAPPED;
        if (mapped) expect(vm.region.words.load(gpc + GPC_ACTIVE)).toBe(1);
        if (!mapped) continue;
        const address = vm.gpcs.gpaOf(gpc) as number;
        const mode = gpc === vm.region.sharedInfo ? 1 : 0;
        expect((vm.region.words.load(gpc) & ~mode) >>> 0).toBe(vm.guestBase + address);
      }
      expect(vm.region.words.load(vm.vmBase + REGION_INVALIDATE_ACTIVE)).toBe(open);
    }
  });

  test('KX-MEM-03 an end without a start is refused', () => {
    const vm = make();
    refuses(vm, () => vm.invalidateEnd(), 'EINVAL', 'invalidateStart');
    dropMappings(vm);
    refuses(vm, () => vm.invalidateEnd(), 'EINVAL', 'invalidateStart');
  });
});

describe.each([true, false])('two agents, shared memory: %s', (shared) => {
  test('KX-GPC-32 an agent that did not start an invalidation cannot end it, and waits for its end in vain: -11', () => {
    noNaps();
    const vm = makeVm({ shared, guestPages: 9 });
    const other = attachVm(vm.handle());
    invalidate(vm, SHARED_INFO_GPA);
    expect(changed(vm, () => expect(other.send(5)).toBe(-11))).toEqual([]);
    vm.invalidateEnd();
    expect(other.send(5)).toBe(1);
  });
});
