// Listeners that run in the middle of a batch, in memory of a single agent: what they do does not harm it. [R1, R3]

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gfn, type Vm } from '../../src/index.ts';
import { drained, LAYOUTS, makeVm, ram, SHARED_INFO_GPA } from '../support.ts';
import { dropMappings, invalidate, POISON, refusal, scratchIsClean } from './evidence.ts';

/** Reports of what listeners threw. */
let reports: (() => void)[] = [];

beforeEach(() => {
  reports = [];
  vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => reports.push(report));
});

afterEach(() => {
  vi.restoreAllMocks();
});

const CASES = LAYOUTS.flatMap((layout) =>
  [4, 16, 63, 64, 200, 700].flatMap((n) => [false, true].map((moved) => ({ ...layout, n, moved }))),
);

describe.each(CASES)('a batch of $n, $layout layout, pages moved before: $moved', ({ longMode, bits, n, moved }) => {
  /** Ports of odd words are on vCPU 1, so that a batch tells vCPU 0 before it is through. */
  function make(): Vm {
    const vm = makeVm({ longMode, shared: false, vcpus: 2, guestPages: 8 });
    for (let port = 1; port < 1024; port++) vm.bindVcpu(port, Math.floor(port / bits) % 2);
    if (moved) dropMappings(vm);
    return vm;
  }

  /** The ports to send: from word to word, none of them with a bit that the poison hides. */
  const list = (): number[] =>
    Array.from({ length: n }, (_, i) => (i % 16) * bits + 3 + 8 * (Math.floor(i / 16) % (bits / 8)));
  const ports = (): number[] => [...new Set(list())].sort((a, b) => a - b);

  /** What both vCPUs have, with what was seen already. */
  function rest(vm: Vm, seen: readonly number[] = []): number[] {
    return [...seen, ...drained(vm, 0), ...drained(vm, 1)].sort((a, b) => a - b);
  }

  test('a listener that sends a batch of its own: both are whole, and the counts are of the outer one', () => {
    const vm = make();
    const seen: number[] = [];
    const own = [5, 6, 7].map((bit) => 15 * bits + bit);
    vm.vcpu(0).onUpcall((vcpu) => {
      vm.sendMany(own);
      vcpu.drain((port) => seen.push(port));
    });
    expect(vm.sendMany(list())).toBe(ports().length);
    const { delivered, coalesced, masked, bad } = vm.batchCounts;
    expect([delivered, delivered + coalesced, masked, bad]).toEqual([ports().length, n, 0, 0]);
    expect(rest(vm, seen)).toEqual([...ports(), ...own].sort((a, b) => a - b));
    expect(scratchIsClean(vm)).toBe(true);
    expect(reports).toEqual([]);
  });

  test('a listener that sends single events and drains', () => {
    const vm = make();
    const seen: number[] = [];
    vm.vcpu(0).onUpcall((vcpu) => {
      vm.send(15 * bits + 5);
      vcpu.drain((port) => seen.push(port));
    });
    vm.sendMany(list());
    expect([...new Set(rest(vm, seen))]).toEqual([...ports(), 15 * bits + 5].sort((a, b) => a - b));
  });

  test('a listener that polls', () => {
    const vm = make();
    let answers: unknown[] = [];
    vm.vcpu(0).onUpcall((vcpu) => {
      answers = [refusal(() => vcpu.poll([3, 4, 5, 6, 7])), ...answers];
    });
    expect(vm.sendMany(list())).toBe(ports().length);
    expect(answers.length).toBeGreaterThan(0);
    for (const answer of answers) expect([undefined, 'EBUSY']).toContain(answer);
    expect(rest(vm)).toEqual(ports());
  });

  test('R3 a listener that moves shared_info, or announces that its page changes: refused, or the page is left alone', () => {
    for (const change of ['move', 'invalidate'] as const) {
      const vm = make();
      const page = ram(vm).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
      let answer: string | undefined = 'not called';
      vm.vcpu(0).onUpcall(() => {
        answer = refusal(() => {
          if (change === 'move') vm.setAttr({ type: 'shared_info', gfn: gfn(6) });
          else invalidate(vm, SHARED_INFO_GPA);
          page.fill(POISON);
        });
      });
      vm.sendMany(list());
      if (answer === undefined) expect(page.every((byte) => byte === POISON)).toBe(true);
      else expect(answer).toBe('EBUSY');
    }
  });

  test('R3 a leave() of a listener, which has entered nothing, does not end the protection of the batch', () => {
    const vm = make();
    const page = ram(vm).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
    let [left, moved]: [string | undefined, string | undefined] = ['not called', 'not called'];
    vm.vcpu(0).onUpcall(() => {
      left = refusal(() => vm.leave());
      moved = refusal(() => {
        vm.setAttr({ type: 'shared_info', gfn: gfn(6) });
        page.fill(POISON);
      });
    });
    vm.sendMany(list());
    expect(left).toBe('EINVAL');
    if (moved === undefined) expect(page.every((byte) => byte === POISON)).toBe(true);
    else expect(moved).toBe('EBUSY');
  });

  test('R3 a listener that detaches or closes: refused, or the place it gave back is left alone', () => {
    for (const leave of ['detach', 'close'] as const) {
      const vm = make();
      let next: Vm | undefined;
      let [answer, counts]: [string | undefined, unknown] = ['not called', undefined];
      vm.vcpu(0).onUpcall(() => {
        const handle = vm.handle();
        answer = refusal(() => vm[leave]());
        if (answer !== undefined || leave === 'close') return;
        next = attachVm(handle);
        next.sendMany([1023]);
        counts = next.batchCounts;
      });
      vm.sendMany(list());
      if (answer === undefined) expect(next?.batchCounts).toEqual(counts);
      else expect(answer).toBe('EBUSY');
      vm.vcpu(0).onUpcall(null);
      vm[leave]();
      expect(vm.detached).toBe(true);
    }
  });

  test('a listener that throws does not stop it, and is reported', () => {
    const vm = make();
    vm.vcpu(0).onUpcall(() => {
      throw new RangeError('mine');
    });
    expect(vm.sendMany(list())).toBe(ports().length);
    expect(reports.length).toBeGreaterThan(0);
    expect(() => reports[0]?.()).toThrow(RangeError);
    expect(rest(vm)).toEqual(ports());
  });
});
