// sendMany gives what single sends give: the same bytes, the same upcalls, exact counts. [KX-EVT-13..17 by the list]

import { describe, expect, test } from 'vitest';
import { AGENT_LIST_PORTS } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gpa, type Vm } from '../../src/index.ts';
import { drained, KINDS, makeVm, ram, random, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { cast, changes, dropMappings, guestSets, scratchIsClean, selector, stateBytes } from './evidence.ts';

/** The same list by single sends. */
function singly(
  vm: Vm,
  ports: readonly number[],
): { delivered: number; coalesced: number; masked: number; bad: number } {
  const results = ports.map((port) => vm.send(port));
  const count = (result: number): number => results.filter((r) => r === result).length;
  return { delivered: count(1), coalesced: count(0), masked: count(-107), bad: count(-22) };
}

const LENGTHS = [0, 1, 2, 3, 7, 47, 48, 49, 63, 64, 65, 500, 501, 639, 640, 641, 1023, 4095, 4096];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, maxPorts, bits }) => {
  const make = (vcpus = 3): Vm => makeVm({ longMode, shared, vcpus, guestPages: 8 });

  test.each(LENGTHS)('KX-EVT-13 KX-EVT-14 KX-EVT-17 a list of %i ports: as single sends, to the byte', (n) => {
    const next = random(n + 1);
    for (let round = 0; round < 6; round++) {
      const [one, many] = [make(), make()];
      const narrow = round % 3 === 0 ? 70 : maxPorts + 20;
      const ports = Array.from({ length: n }, () => (next(40) === 0 ? -next(5) : next(narrow)));
      for (let i = 0; i < 60; i++) {
        const port = 1 + next(maxPorts - 1);
        const vcpu = next(3);
        const [masked, pending] = [next(3) === 0, next(4) === 0];
        for (const vm of [one, many]) {
          if (round % 2) vm.bindVcpu(port, vcpu);
          guestSets(vm, 'mask', port, masked);
          guestSets(vm, 'pending', port, pending);
        }
      }
      if (round === 5) for (const vm of [one, many]) vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: null });
      const want = singly(one, ports);
      const delivered = many.sendMany(round % 2 ? Uint32Array.from(ports) : ports);
      expect(delivered).toBe(want.delivered);
      expect(many.batchCounts).toEqual(want);
      expect(changes(ram(one).slice(), ram(many).slice())).toEqual([]);
      expect(scratchIsClean(many)).toBe(true);
      if (round === 5) for (const vm of [one, many]) vm.vcpu(1).setAttr({ type: 'vcpu_info', gpa: gpa(0x5001) });
      for (const vcpu of [0, 1, 2]) expect(drained(many, vcpu)).toEqual(drained(one, vcpu));
    }
  });

  test('the counts add up to the number of ports, whatever they are', () => {
    const vm = make();
    const strange = [0, -1, maxPorts, 2 ** 31, 2 ** 32 - 1, 5, 5, 6, 6.9, Number.NaN, Number.POSITIVE_INFINITY];
    for (const list of [strange, [...strange, ...Array.from({ length: 60 }, () => 7)]]) {
      vm.sendMany(list);
      const { delivered, coalesced, masked, bad } = vm.batchCounts;
      expect(delivered + coalesced + masked + bad).toBe(list.length);
      expect(bad).toBe(8);
    }
  });

  test('the outbox itself needs no copy; n says how many of it count', () => {
    const vm = make();
    vm.outbox.set([5, 6, 7, 8]);
    expect(vm.sendMany(vm.outbox, 2)).toBe(2);
    expect(drained(vm)).toEqual([5, 6]);
    expect(vm.sendMany([9, 10, 11], 2)).toBe(2);
    expect(drained(vm)).toEqual([9, 10]);
    expect(vm.sendMany(vm.outbox, 0)).toBe(0);
    expect(vm.sendMany([])).toBe(0);
    expect(vm.batchCounts).toEqual({ delivered: 0, coalesced: 0, masked: 0, bad: 0 });
  });

  test('a list longer than the outbox is sent in parts', () => {
    const vm = make();
    const ports = Uint32Array.from({ length: AGENT_LIST_PORTS + 500 }, (_, i) => 1 + (i % (maxPorts - 1)));
    expect(vm.sendMany(ports)).toBe(maxPorts - 1);
    expect(vm.vcpu(0).drain()).toBe(maxPorts - 1);
    expect(vm.sendMany([...ports])).toBe(maxPorts - 1);
  });

  const STRANGE = [
    -1,
    -4096,
    -(2 ** 31),
    Number.NaN,
    1.5,
    3,
    4097,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    Number.POSITIVE_INFINITY,
    '2',
    null,
  ];
  test.each(STRANGE)('R5 R9 an n of %s for a list of 2 is -22: nothing is sent, and the counts stay', (n) => {
    const vm = make();
    vm.sendMany([1, 2, 3]);
    const before = stateBytes(vm);
    expect(vm.sendMany([5, 6], cast(n))).toBe(-22);
    expect(vm.sendMany(Uint32Array.of(5, 6), cast(n))).toBe(-22);
    expect(changes(before, stateBytes(vm))).toEqual([]);
    expect(vm.batchCounts.delivered).toBe(3);
  });

  test('KX-EVT-12 KX-EVT-27 with the page away: -11 and nothing sent, -22 with none, and after a move by itself', () => {
    const vm = make();
    const list = Array.from({ length: 100 }, (_, i) => i + 1);
    vm.invalidateStart(vm.guestBase + SHARED_INFO_GPA, vm.guestBase + SHARED_INFO_GPA);
    const before = stateBytes(vm);
    expect(vm.sendMany(list)).toBe(-11);
    expect(vm.sendMany(list.slice(0, 5))).toBe(-11);
    expect(changes(before, stateBytes(vm)).filter(([at]) => at >= vm.guestBase)).toEqual([]);
    expect(scratchIsClean(vm)).toBe(true);
    vm.invalidateEnd();
    expect(vm.sendMany(list)).toBe(100);
    dropMappings(vm);
    expect(vm.sendMany(list)).toBe(0);
    expect(vm.batchCounts).toEqual({ delivered: 0, coalesced: 100, masked: 0, bad: 0 });
    vm.setAttr({ type: 'shared_info', gfn: null });
    expect(vm.sendMany(list)).toBe(-22);
  });

  test('KX-EVT-16 to a vCPU without vcpu_info the batch goes to the shadow', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    const list = Array.from({ length: 100 }, (_, i) => i * 8 + 1);
    expect(vm.sendMany(list)).toBe(100);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) });
    expect(drained(vm)).toEqual(list);
  });

  test('KX-EVT-17 a batch asks once for the upcall of each vCPU and sets only selector bits of its words', () => {
    const vm = make();
    vm.bindVcpu(3 * bits, 2);
    vm.sendMany([bits, bits + 1, 3 * bits, bits + 2]);
    expect(selector(vm)).toBe(2n);
    expect(selector(vm, VCPU_INFO_GPA + 128)).toBe(8n);
    expect(selector(vm, VCPU_INFO_GPA + 64)).toBe(0n);
    expect([0, 1, 2].map((i) => ram(vm)[VCPU_INFO_GPA + 64 * i])).toEqual([1, 0, 1]);
  });

  test('a misaligned vcpu_info gets the same from a batch', () => {
    const vm = make();
    const at = 5 * PAGE_SIZE + 0x7f;
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(at) });
    const list = Array.from({ length: 200 }, (_, i) => i * 5 + 1);
    expect(vm.sendMany(list)).toBe(200);
    expect(drained(vm)).toEqual(list);
    expect(selector(vm, at)).toBe(0n);
  });

  test('inside a bracket: the same', () => {
    const vm = make();
    vm.enter();
    expect(vm.sendMany([5, 6])).toBe(2);
    expect(vm.sendMany(Array.from({ length: 64 }, (_, i) => i + 1))).toBe(62);
    vm.leave();
    expect(vm.vcpu(0).drain()).toBe(64);
  });
});

test('two agents have lists of their own', () => {
  const vm = makeVm();
  const other = attachVm(vm.handle());
  vm.outbox.set([5, 6, 7]);
  other.outbox.set([8, 9]);
  expect(other.sendMany(other.outbox, 2)).toBe(2);
  expect(vm.sendMany(vm.outbox, 3)).toBe(3);
  expect(drained(vm)).toEqual([5, 6, 7, 8, 9]);
  expect(other.batchCounts.delivered).toBe(2);
  expect(vm.batchCounts.delivered).toBe(3);
});
