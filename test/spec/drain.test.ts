// The receiver: what a drain takes, what it leaves, what a handler may do. [KX-EVT-66, KF-19]

import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { STEP_LOAD, STEP_RMW } from '../../src/abi/step.ts';
import type { Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  KINDS,
  LAYOUTS,
  makeVm,
  pendingBit,
  ram,
  random,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
} from '../support.ts';
import { changed, dropMappings, guestSets, layoutOf, refuses, selector, tracing } from './evidence.ts';

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, bits, maxPorts }) => {
  test('a handler that throws: the ports it was not called for are raised again', () => {
    const vm = makeVm({ longMode, shared });
    for (const port of [3, 4, 5, bits + 1]) vm.send(port);
    const seen: number[] = [];
    const handler = (port: number): void => {
      seen.push(port);
      if (port === 4) throw new RangeError('mine');
    };
    expect(() => vm.vcpu(0).drain(handler)).toThrow(RangeError);
    expect(seen).toEqual([3, 4]);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([5, bits + 1]);
  });

  test('an event that a handler sends is not lost: the next drain has it', () => {
    const vm = makeVm({ longMode, shared });
    vm.send(3);
    const seen: number[] = [];
    vm.vcpu(0).drain((port) => {
      seen.push(port);
      vm.send(3);
      vm.send(4);
    });
    expect(seen).toEqual([3]);
    expect(vm.vcpu(0).upcallPending).toBe(true);
    expect(drained(vm)).toEqual([3, 4]);
  });

  test('a handler may drain another vCPU without harm to its own list', () => {
    const vm = makeVm({ longMode, shared, vcpus: 2 });
    for (const port of [40, 41, 42]) vm.bindVcpu(port, 1);
    for (const port of [3, 4, 5, 40, 41, 42]) vm.send(port);
    const seen: string[] = [];
    vm.vcpu(0).drain((port) => {
      seen.push(`0:${port}`);
      vm.vcpu(1).drain((other) => seen.push(`1:${other}`));
    });
    expect(seen).toEqual(['0:3', '1:40', '1:41', '1:42', '0:4', '0:5']);
  });

  test('drain without a handler leaves the list in drained', () => {
    const vm = makeVm({ longMode, shared });
    for (const port of [9, 8, bits]) vm.send(port);
    const vcpu = vm.vcpu(0);
    expect(vcpu.drain()).toBe(3);
    expect([...vcpu.drained.subarray(0, 3)]).toEqual([8, 9, bits]);
  });

  test('a handler may drain its own vCPU: what came since, and the outer list goes on', () => {
    const vm = makeVm({ longMode, shared });
    for (const port of [3, 4]) vm.send(port);
    const seen: string[] = [];
    vm.vcpu(0).drain((port) => {
      seen.push(`outer ${port}`);
      for (const more of [20, 21, 22]) vm.send(more);
      vm.vcpu(0).drain((inner) => seen.push(`inner ${inner}`));
    });
    const inner = ['inner 20', 'inner 21', 'inner 22'];
    expect(seen).toEqual(['outer 3', ...inner, 'outer 4', ...inner]);
  });

  test('handlers inside handlers inside handlers: every list is whole', () => {
    const vm = makeVm({ longMode, shared, vcpus: 4 });
    for (let port = 4; port < 40; port++) vm.bindVcpu(port, port % 4);
    for (let port = 4; port < 40; port++) vm.send(port);
    const seen: number[] = [];
    const into = (vcpu: number): void => {
      if (vcpu === 4) return;
      vm.vcpu(vcpu).drain((port) => {
        seen.push(port);
        into(vcpu + 1);
      });
    };
    into(0);
    expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 36 }, (_, i) => 4 + i));
  });

  test('a drain without a handler from inside a handler is refused with EBUSY, and nothing is lost', () => {
    const vm = makeVm({ longMode, shared });
    for (const port of [3, 4]) vm.send(port);
    const error = errorOf(() => vm.vcpu(0).drain(() => vm.vcpu(0).drain()));
    expect(error.code).toBe('EBUSY');
    expect(drained(vm)).toEqual([4]);
  });

  test('an inner handler that throws: neither list loses a port', () => {
    const vm = makeVm({ longMode, shared, vcpus: 2 });
    for (const port of [40, 41, 42]) vm.bindVcpu(port, 1);
    for (const port of [3, 4, 5, 40, 41, 42]) vm.send(port);
    const call = (): unknown =>
      vm.vcpu(0).drain(() =>
        vm.vcpu(1).drain((port) => {
          if (port === 41) throw new RangeError('mine');
        }),
      );
    expect(call).toThrow(RangeError);
    expect(drained(vm, 0)).toEqual([4, 5]);
    expect(drained(vm, 1)).toEqual([42]);
  });

  test('KX-EVT-66 an empty drain clears the byte and changes nothing else', () => {
    const vm = makeVm({ longMode, shared });
    ram(vm)[VCPU_INFO_GPA] = 1;
    expect(changed(vm, () => expect(vm.vcpu(0).drain()).toBe(0))).toEqual([[VCPU_INFO_GPA, 1, 0]]);
    expect(changed(vm, () => expect(vm.vcpu(0).drain()).toBe(0))).toEqual([]);
  });

  test('KX-EVT-66 every port at once: all words, lowest first, and every pending bit is 0 after', () => {
    const vm = makeVm({ longMode, shared });
    const ports = Array.from({ length: maxPorts - 1 }, (_, i) => i + 1);
    vm.sendMany(ports);
    expect(drained(vm)).toEqual(ports);
    const { pending } = layoutOf(vm);
    const bits = ram(vm).subarray(SHARED_INFO_GPA + pending, SHARED_INFO_GPA + pending + maxPorts / 8);
    expect(bits.every((byte) => byte === 0)).toBe(true);
    expect(selector(vm)).toBe(0n);
  });

  test('KX-EVT-14 masked ports stay pending in every mixture with unmasked ones', () => {
    const next = random(7);
    for (let round = 0; round < 50; round++) {
      const vm = makeVm({ longMode, shared });
      const masked = new Set(Array.from({ length: 20 }, () => 1 + next(maxPorts - 1)));
      const sent = new Set(Array.from({ length: 40 }, () => 1 + next(maxPorts - 1)));
      for (const port of sent) vm.send(port);
      for (const port of masked) guestSets(vm, 'mask', port);
      const want = [...sent].filter((port) => !masked.has(port)).sort((a, b) => a - b);
      expect(drained(vm)).toEqual(want);
      for (const port of sent) expect(pendingBit(vm, port)).toBe(masked.has(port));
    }
  });

  test('KX-EVT-66 an event that comes between the look at a word and its clear is in this drain or in the next', () => {
    let hook: ((kind: number, address: number) => void) | undefined;
    const options = tracing(shared, { onStep: (kind, address) => hook?.(kind, address) });
    for (const masked of [false, true]) {
      for (let step = 0; step < 40; step++) {
        const vm = makeVm({ longMode, ...options });
        // A masked neighbour makes the drain clear bit by bit instead of the whole word.
        if (masked) vm.mask(bits + 5);
        vm.send(bits + 1);
        let at = -1;
        hook = () => {
          if (++at !== step) return;
          const resume = hook;
          hook = undefined;
          vm.send(bits + 2);
          hook = resume;
        };
        const first = drained(vm);
        hook = undefined;
        if (at < step) break;
        const again = vm.vcpu(0).upcallPending;
        const both = [...first, ...drained(vm)];
        expect(both, `step ${step}`).toEqual([bits + 1, bits + 2]);
        expect(again || first.length === 2, `an upcall after step ${step}`).toBe(true);
      }
    }
  });

  test('KX-EVT-66 the drain reads a word only if the selector names it', () => {
    const touched = new Set<number>();
    let on = false;
    const vm = makeVm({
      longMode,
      ...tracing(shared, {
        onStep: (kind, address) => {
          if (on && (kind === STEP_LOAD || kind === STEP_RMW)) touched.add(address);
        },
      }),
    });
    vm.send(3 * bits);
    on = true;
    vm.vcpu(0).drain();
    on = false;
    const { pending, mask, wordBytes } = layoutOf(vm);
    const page = vm.guestBase + SHARED_INFO_GPA;
    const inPage = [...touched].filter((at) => at >= page && at < page + PAGE_SIZE).map((at) => at - page);
    expect(inPage.sort((a, b) => a - b)).toEqual([pending + 3 * wordBytes, mask + 3 * wordBytes]);
  });

  test('KX-EVT-27 a drain maps moved pages again', () => {
    const vm = makeVm({ longMode, shared });
    vm.send(5);
    dropMappings(vm);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-EVT-12 while a page may not be used a drain takes nothing; afterwards it has everything', () => {
    for (const at of [SHARED_INFO_GPA, VCPU_INFO_GPA]) {
      const vm = makeVm({ longMode, shared });
      vm.send(5);
      vm.invalidateStart(vm.guestBase + at, vm.guestBase + at + PAGE_SIZE - 1);
      expect(changed(vm, () => expect(vm.vcpu(0).drain()).toBe(0))).toEqual([]);
      vm.invalidateEnd();
      expect(drained(vm)).toEqual([5]);
    }
  });

  test('a drain with nothing registered names what is missing', () => {
    const vm: Vm = makeVm({ longMode, shared });
    vm.setAttr({ type: 'shared_info', gfn: null });
    refuses(vm, () => vm.vcpu(0).drain(), 'EINVAL', 'shared_info', 'vCPU 0');
  });
});

describe.each(LAYOUTS)('a handler that throws while a listener drains, $layout layout', ({ longMode }) => {
  test('the ports that are raised again are those of its list', () => {
    const vm = makeVm({ longMode, shared: false, vcpus: 2 });
    for (let port = 40; port < 50; port++) vm.bindVcpu(port, 1);
    for (const port of [3, 4, 5, 6]) vm.bindVcpu(port, 0);
    for (let port = 40; port < 50; port++) vm.send(port);
    for (const port of [3, 4, 5, 6]) vm.send(port);
    const seen: number[] = [];
    const listen = (): void => vm.vcpu(0).onUpcall(() => vm.vcpu(1).drain((port) => seen.push(port)));
    const call = (): unknown =>
      vm.vcpu(0).drain(() => {
        listen();
        throw new RangeError('mine');
      });
    expect(call).toThrow(RangeError);
    expect(drained(vm, 0)).toEqual([4, 5, 6]);
    expect(seen).toEqual(Array.from({ length: 10 }, (_, i) => 40 + i));
  });
});
