// A refresh that is interrupted at every step: what it maps is never a page that was taken away. [KX-GPC-30..36, KF-01..03]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, gfn, hva, type Vm } from '../../src/index.ts';
import { drained, errorOf, makeVm, pendingBit, ram, SHARED_INFO_GPA } from '../support.ts';
import {
  bitAt,
  dropMappings,
  invalidate,
  layoutOf,
  noNaps,
  POISON,
  sharedInfoWord,
  traceOf,
  UNMAPPED,
} from './evidence.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each([true, false])('an invalidation inside every step of a refresh, long mode: %s', (longMode) => {
  interface Stage {
    owner: Vm;
    other: Vm;
    /** runs `intrude` before step `step` of what `other` does, unless it is inside a bracket there; says whether it came to it */
    during(step: number, intrude: () => void, call: () => void): 'ran' | 'in a bracket' | 'too short';
  }

  function stage(onPageFault?: (address: number) => void): Stage {
    let hook: (() => void) | undefined;
    const trace = traceOf(true, { onStep: () => hook?.() });
    const owner = makeVm({ longMode, shared: true, guestPages: 9 });
    const other = attachVm(owner.handle(), { trace, ...(onPageFault && { onPageFault }) });
    // The half in TypeScript makes steps as well: it reads the cache's address and the memory slots.
    const { words } = other.region;
    const load = words.load.bind(words);
    words.load = (at) => {
      hook?.();
      return load(at);
    };
    return {
      owner,
      other,
      during(step, intrude, call) {
        let [at, inside] = [-1, false];
        let outcome = 'too short' as 'ran' | 'in a bracket' | 'too short';
        hook = () => {
          if (inside || ++at !== step) return;
          inside = true;
          outcome = other.region.bracketOpen(other.agent) ? 'in a bracket' : 'ran';
          // A bracket that is open there would be waited for: the other agent cannot move while it is interrupted.
          if (outcome === 'ran') intrude();
          inside = false;
        };
        call();
        hook = undefined;
        return outcome;
      },
    };
  }

  /** Runs `body` for every step until the call is shorter than that; says at how many the intruder ran. */
  function everyStep(body: (step: number) => 'ran' | 'in a bracket' | 'too short'): number {
    let ran = 0;
    for (let step = 0; step < 200; step++) {
      const outcome = body(step);
      if (outcome === 'too short') return ran;
      if (outcome === 'ran') ran++;
    }
    throw new Error('the call has no end');
  }

  test('X-10 KF-01 KX-GPC-30 started and ended in between: the refresh begins again and the event is delivered once', () => {
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      let result = 99;
      const outcome = during(
        step,
        () => {
          const page = ram(owner).slice(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
          invalidate(owner, SHARED_INFO_GPA);
          ram(owner).set(page, SHARED_INFO_GPA);
          owner.invalidateEnd();
        },
        () => {
          result = other.send(5);
        },
      );
      expect(result, `step ${step}`).toBe(1);
      expect(pendingBit(owner, 5)).toBe(true);
      expect(drained(owner), `step ${step}`).toEqual([5]);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('R3 X-11 KF-01 started and left open: nothing is mapped and the poison stays, whatever step it was', () => {
    noNaps();
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      let result = 99;
      const { pending } = layoutOf(owner);
      const outcome = during(
        step,
        () => {
          invalidate(owner, SHARED_INFO_GPA);
          ram(owner).fill(POISON, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
        },
        () => {
          result = other.send(5);
        },
      );
      if (outcome !== 'ran') return outcome;
      const page = ram(owner).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
      expect(
        page.every((byte) => byte === POISON),
        `step ${step}: poison`,
      ).toBe(true);
      // Delivered before the invalidation began, or not at all.
      expect([1, -11], `step ${step}`).toContain(result);
      expect(sharedInfoWord(owner), `step ${step}: nothing is mapped`).toBeGreaterThanOrEqual(UNMAPPED);
      ram(owner).fill(0, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
      owner.invalidateEnd();
      expect(other.send(6)).toBe(1);
      const { at, bit } = bitAt(SHARED_INFO_GPA + pending, 6);
      expect(ram(owner)[at]).toBe(bit);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('KF-03 unregistered in between: the page is final, a refresh under way does not bring it back', () => {
    noNaps();
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      const outcome = during(
        step,
        () => {
          owner.setAttr({ type: 'shared_info', gfn: null });
          ram(owner).fill(POISON, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
        },
        () => {
          other.send(5);
        },
      );
      if (outcome !== 'ran') return outcome;
      expect(sharedInfoWord(owner), `step ${step}`).toBeGreaterThanOrEqual(UNMAPPED);
      expect(other.send(6), `step ${step}`).toBe(-22);
      const page = ram(owner).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
      expect(
        page.every((byte) => byte === POISON),
        `step ${step}`,
      ).toBe(true);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('KF-02 KF-03 moved in between: the event is at the new frame or was at the old one before, never at the old one after', () => {
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      let [result, before] = [99, false];
      const outcome = during(
        step,
        () => {
          before = pendingBit(owner, 5);
          owner.setAttr({ type: 'shared_info', gfn: gfn(6) });
          ram(owner).fill(POISON, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
        },
        () => {
          result = other.send(5);
        },
      );
      if (outcome !== 'ran') return outcome;
      expect(result, `step ${step}`).toBe(1);
      const page = ram(owner).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
      expect(
        page.every((byte) => byte === POISON),
        `step ${step}`,
      ).toBe(true);
      const { at, bit } = bitAt(6 * PAGE_SIZE + layoutOf(owner).pending, 5);
      expect(ram(owner)[at], `step ${step}`).toBe(before ? 0 : bit);
      expect(sharedInfoWord(owner) & ~1).toBe(owner.guestBase + 6 * PAGE_SIZE);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('KX-VMA-10 KX-GPC-02 moved between guest and host addresses: the event is at one of the two places, no sender gets an error', () => {
    for (const to of ['gpa', 'hva'] as const) {
      const ran = everyStep((step) => {
        const { owner, other, during } = stage();
        const host = (at: number): void => owner.setAttr({ type: 'shared_info_hva', hva: hva(owner.guestBase + at) });
        if (to === 'gpa') host(SHARED_INFO_GPA);
        dropMappings(owner);
        let [result, before] = [99, false];
        const outcome = during(
          step,
          () => {
            before = pendingBit(owner, 5);
            if (to === 'hva') host(6 * PAGE_SIZE);
            else owner.setAttr({ type: 'shared_info', gfn: gfn(6) });
            ram(owner).fill(POISON, SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
          },
          () => {
            result = other.send(5);
          },
        );
        if (outcome !== 'ran') return outcome;
        expect(result, `step ${step}`).toBe(1);
        const page = ram(owner).subarray(SHARED_INFO_GPA, SHARED_INFO_GPA + PAGE_SIZE);
        expect(
          page.every((byte) => byte === POISON),
          `step ${step}`,
        ).toBe(true);
        const { at, bit } = bitAt(6 * PAGE_SIZE + layoutOf(owner).pending, 5);
        expect(ram(owner)[at], `step ${step}`).toBe(before ? 0 : bit);
        return outcome;
      });
      expect(ran).toBeGreaterThan(8);
    }
  });

  test('KX-VMA-05 R9 moved out of reach in between: the send is delivered before or says EFAULT, and does not throw', () => {
    const ran = everyStep((step) => {
      const asked: number[] = [];
      const { owner, other, during } = stage((address) => asked.push(address));
      owner.setAttr({ type: 'shared_info_hva', hva: hva(owner.guestBase + SHARED_INFO_GPA) });
      dropMappings(owner);
      let result = 99;
      const outcome = during(
        step,
        // As a host address this one would be out of range: it must not be taken for one.
        () => errorOf(() => owner.setAttr({ type: 'shared_info', gfn: gfn(2 ** 41 - 1) })),
        () => {
          result = other.send(5);
        },
      );
      expect(result, `step ${step}`).toBe(outcome !== 'ran' || pendingBit(owner, 5) ? 1 : -14);
      expect(asked, `step ${step}: pages that nobody needs`).toEqual([]);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('KF-02 two refreshes of one cache: both sends are delivered', () => {
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      let results: number[] = [];
      const outcome = during(
        step,
        () => results.push(owner.send(6)),
        () => results.push(other.send(5)),
      );
      results = results.sort();
      expect(results, `step ${step}`).toEqual(outcome === 'ran' ? [1, 1] : [1]);
      expect(drained(owner)).toEqual(outcome === 'ran' ? [5, 6] : [5]);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });

  test('KF-01 the mode changes in between: the word keeps the new mode, the send is one of the two', () => {
    const ran = everyStep((step) => {
      const { owner, other, during } = stage();
      dropMappings(owner);
      let result = 99;
      const outcome = during(
        step,
        () => owner.setAttr({ type: 'long_mode', enabled: !longMode }),
        () => {
          result = other.send(5);
        },
      );
      expect(result, `step ${step}`).toBe(1);
      expect(pendingBit(owner, 5)).toBe(true);
      expect(owner.getAttr('long_mode').enabled).toBe(outcome === 'ran' ? !longMode : longMode);
      return outcome;
    });
    expect(ran).toBeGreaterThan(8);
  });
});
