// The cache of Linux 5.17: deferred dirty marks, frames that hardware uses in guest mode, and the faults not to copy. [kvm-xen 6.6]

import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  KICK_SLEEPER,
  REQUEST_GPC_INVALIDATE,
  VCPU_IN_GUEST,
  VCPU_KICK,
  VCPU_MODE,
  VCPU_REQUESTS,
} from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, type Gpa, gpa, type HistoricCache, type Hva, hva, type Memslot, type Vm } from '../../src/index.ts';
import { errorOf, ram } from '../support.ts';
import { cast, noNaps, POISON, refuses } from './evidence.ts';
import { ELSEWHERE, framePage, hostPage, makePaged, slotAt, TABLES } from './pages.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const AT = gpa(0x5040);
const LENGTH = 64;

function logAll(vm: Vm): void {
  const [slot] = vm.memslots.list();
  vm.memslots.set({ ...(slot as Memslot), logDirty: true });
}

/** The pages of slot 0 that are marked; reads and clears. */
function marked(vm: Vm): number[] {
  if (vm.dirtyLog.ringEntries) {
    const pages = [0, 1].flatMap((vcpu) => vm.dirtyLog.collect(vcpu).map(({ page }) => page));
    vm.dirtyLog.reset();
    return pages;
  }
  return [...vm.dirtyLog.take(0)].flatMap((byte, i) =>
    [...Array(8).keys()].filter((bit) => (byte >> bit) & 1).map((bit) => 8 * i + bit),
  );
}

function invalidatePage(vm: Vm, page: number): number {
  const count = vm.invalidateStart(hostPage(vm, page), hostPage(vm, page));
  vm.invalidateEnd();
  return count;
}

describe.each(TABLES)('shared memory: $shared, table of host pages: $table', ({ shared, hostPages }) => {
  const make = (options = {}): Vm => makePaged({ shared, hostPages, vcpus: 2, ...options });

  function mapped(vm: Vm, dirty = false, options = {}): HistoricCache {
    const cache = vm.historicCache(options);
    cache.init(AT, LENGTH, dirty);
    return cache;
  }

  // ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-GPH-01 init makes it active and maps it; before that it holds nothing', () => {
    const vm = make();
    const cache = vm.historicCache();
    expect([cache.active, cache.gpa, cache.hva, cache.frame, cache.khva]).toEqual([false, null, null, null, null]);
    expect(cache.check(AT, LENGTH)).toBe(false);
    cache.init(AT, LENGTH);
    expect([cache.active, cache.gpa, cache.hva]).toEqual([true, AT, hostPage(vm, 5) + 0x40]);
    expect([cache.frame, cache.khva]).toEqual([framePage(vm, 5), framePage(vm, 5) + 0x40]);
    expect(cache.check(AT, LENGTH)).toBe(true);
    // Again: as a refresh.
    cache.init(gpa(0x6000), LENGTH);
    expect(cache.frame).toBe(framePage(vm, 6));
  });

  test('KX-GPH-01 an init that fails leaves it active: a refresh maps it once the page is there', () => {
    const vm = make();
    const cache = vm.historicCache();
    expect(errorOf(() => cache.init(gpa(ELSEWHERE), LENGTH)).code).toBe('EFAULT');
    expect([cache.active, cache.frame, cache.check(gpa(ELSEWHERE), LENGTH)]).toEqual([true, null, false]);
    vm.memslots.set(slotAt(vm, 9));
    cache.refresh(gpa(ELSEWHERE), LENGTH);
    expect(cache.frame).toBe(framePage(vm, 9));
  });

  test('KX-GPH-01 without a kernel map there is the frame only', () => {
    const vm = make();
    const cache = mapped(vm, false, { kernelMap: false });
    expect([cache.frame, cache.khva, cache.check(AT, LENGTH)]).toEqual([framePage(vm, 5), null, true]);
  });

  const stale: readonly [string, (vm: Vm, cache: HistoricCache) => void, Gpa, number][] = [
    ['another address', () => {}, gpa(0x5041), LENGTH],
    ['an area that leaves the page', () => {}, AT, PAGE_SIZE],
    ['the slots have changed', (vm) => vm.memslots.set(slotAt(vm, 9)), AT, LENGTH],
    ['invalidated', (vm) => invalidatePage(vm, 5), AT, LENGTH],
    ['unmapped', (_vm, cache) => cache.unmap(), AT, LENGTH],
    ['destroyed', (_vm, cache) => cache.destroy(), AT, LENGTH],
    ['its slot is gone', (_vm, cache) => errorOf(() => cache.refresh(gpa(ELSEWHERE), LENGTH)), gpa(ELSEWHERE), LENGTH],
  ];
  test.each(stale)('KX-GPH-02 a check fails: %s', (_what, spoil, at, length) => {
    const vm = make();
    const cache = mapped(vm);
    spoil(vm, cache);
    expect(cache.check(at, length)).toBe(false);
  });

  test('KX-GPH-03 a refresh takes its address from the caller each time', () => {
    const vm = make();
    const cache = mapped(vm);
    for (const page of [6, 7, 5]) {
      cache.refresh(gpa(page * PAGE_SIZE + page), LENGTH);
      expect(cache.khva).toBe(framePage(vm, page) + page);
      expect(cache.check(gpa(page * PAGE_SIZE + page), LENGTH)).toBe(true);
    }
  });

  test('KX-GPH-03 what a refresh refuses', () => {
    const vm = make();
    const cache = vm.historicCache();
    refuses(vm, () => cache.refresh(AT, LENGTH), 'EINVAL', 'not active');
    cache.init(AT, LENGTH);
    refuses(vm, () => cache.refresh(gpa(0x5fc1), LENGTH), 'EINVAL', '0x5fc1', '0xfc0');
    refuses(vm, () => cache.refresh(AT, 0), 'EINVAL', 'length', 0);
    refuses(vm, () => cache.refresh(cast(-1), LENGTH), 'EINVAL', -1);
    vm.enter();
    refuses(vm, () => cache.refresh(AT, LENGTH), 'EBUSY', 'bracket');
    vm.leave();
    // Refused is not failed: what was mapped is.
    expect(cache.check(AT, LENGTH)).toBe(true);
    vm.memslots.set(slotAt(vm, 9, { readonly: true }));
    refuses(vm, () => cache.refresh(gpa(ELSEWHERE), LENGTH), 'EFAULT', '0x100000');
    expect([cache.frame, cache.active]).toEqual([null, true]);
  });

  test('KX-GPH-04 unmap is light: the mapping goes, address, translation and registration stay', () => {
    const vm = make();
    const cache = mapped(vm);
    cache.unmap();
    expect([cache.frame, cache.khva, cache.check(AT, LENGTH)]).toEqual([null, null, false]);
    expect([cache.active, cache.gpa, cache.hva]).toEqual([true, AT, hostPage(vm, 5) + 0x40]);
    cache.unmap();
    cache.refresh(AT, LENGTH);
    expect(invalidatePage(vm, 5)).toBe(1);
  });

  test('KX-GPH-04 destroy is full: inactive and reached by nothing; init begins again', () => {
    const vm = make();
    const cache = mapped(vm);
    cache.destroy();
    cache.destroy();
    expect([cache.active, cache.frame]).toEqual([false, null]);
    expect(invalidatePage(vm, 5)).toBe(0);
    refuses(vm, () => cache.refresh(AT, LENGTH), 'EINVAL', 'not active');
    cache.init(AT, LENGTH);
    expect(invalidatePage(vm, 5)).toBe(1);
  });

  test('EPERM for who is not the owner, EINVAL for bad options, EBADF once detached', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    refuses(vm, () => other.historicCache(), 'EPERM', 'owner');
    refuses(vm, () => vm.historicCache({ vcpu: 2 }), 'EINVAL', 2);
    refuses(vm, () => vm.historicCache({ guestUsesPa: true }), 'EINVAL', 'vcpu');
    const cache = mapped(vm);
    vm.detach();
    for (const call of [
      () => cache.check(AT, LENGTH),
      () => cache.init(AT, LENGTH),
      () => cache.unmap(),
      () => cache.destroy(),
    ]) {
      expect(errorOf(call).code).toBe('EBADF');
    }
  });

  // ── dirty at release ─────────────────────────────────────────────────────────────────────────────────────────────

  describe.each([0, 2048])('KX-GPH-05 a page that counts as written, ring of %i bytes', (dirtyRingBytes) => {
    function stage(dirty: boolean): { vm: Vm; cache: HistoricCache } {
      const vm = make({ dirtyRingBytes });
      logAll(vm);
      return { vm, cache: mapped(vm, dirty, { vcpu: 1 }) };
    }

    const releases: readonly [string, (cache: HistoricCache) => void][] = [
      ['unmap', (cache) => cache.unmap()],
      ['destroy', (cache) => cache.destroy()],
      ['a refresh to another page', (cache) => cache.refresh(gpa(0x6000), LENGTH)],
      ['a refresh that fails', (cache) => errorOf(() => cache.refresh(gpa(ELSEWHERE), LENGTH))],
    ];
    test.each(releases)('is marked by %s, once', (_what, release) => {
      const { vm, cache } = stage(true);
      expect(marked(vm)).toEqual([]);
      release(cache);
      expect(marked(vm)).toEqual([5]);
      cache.destroy();
      expect(marked(vm)).toEqual([]);
    });

    test.each(releases)('is not marked by %s when it does not', (_what, release) => {
      const { vm, cache } = stage(false);
      release(cache);
      expect(marked(vm)).toEqual([]);
    });

    test('is not marked by an invalidation, nor by a change of slots: the guest may still write', () => {
      const { vm, cache } = stage(true);
      invalidatePage(vm, 5);
      vm.memslots.set(slotAt(vm, 9));
      expect(marked(vm)).toEqual([]);
      cache.unmap();
      expect(marked(vm)).toEqual([5]);
    });

    test('still counts after its page was mapped again, also by a refresh that does not say so', () => {
      const { vm, cache } = stage(true);
      invalidatePage(vm, 5);
      cache.refresh(AT, LENGTH, false);
      cache.refresh(gpa(0x5080), LENGTH, false);
      expect(marked(vm)).toEqual([]);
      cache.unmap();
      expect(marked(vm)).toEqual([5]);
    });

    test('says so when it is mapped already', () => {
      const { vm, cache } = stage(false);
      cache.refresh(AT, LENGTH, true);
      expect(marked(vm)).toEqual([]);
      cache.unmap();
      expect(marked(vm)).toEqual([5]);
    });

    test('is marked in the ring of its vCPU; without one a ring cannot be written', () => {
      const { vm, cache } = stage(true);
      cache.unmap();
      if (dirtyRingBytes) {
        expect(vm.dirtyLog.collect(0)).toEqual([]);
        expect(vm.dirtyLog.collect(1)).toEqual([{ slot: 0, page: 5 }]);
        const none = vm.historicCache();
        refuses(vm, () => none.init(AT, LENGTH, true), 'EINVAL', 'ring');
        none.init(AT, LENGTH);
        refuses(vm, () => none.refresh(AT, LENGTH, true), 'EINVAL', 'ring');
      } else {
        mapped(vm, true).unmap();
        expect(marked(vm)).toEqual([5]);
      }
    });
  });

  // ── guest use ────────────────────────────────────────────────────────────────────────────────────────────────────

  describe('a frame that hardware uses while a vCPU is in guest mode', () => {
    interface Stage {
      readonly vm: Vm;
      readonly cache: HistoricCache;
      readonly warnings: string[];
      inGuest(on: boolean): void;
      requested(vcpu?: number): boolean;
    }
    function stage(): Stage {
      const vm = make();
      const warnings: string[] = [];
      const cache = mapped(vm, false, { vcpu: 1, guestUsesPa: true, onWarning: (text: string) => warnings.push(text) });
      const { words } = vm.region;
      return {
        vm,
        cache,
        warnings,
        inGuest: (on) => {
          const mode = vm.vcpu(1).record + VCPU_MODE;
          if (on) words.or(mode, VCPU_IN_GUEST);
          else words.and(mode, ~VCPU_IN_GUEST);
        },
        requested: (vcpu = 1) => (words.load(vm.vcpu(vcpu).line + VCPU_REQUESTS) & REQUEST_GPC_INVALIDATE) !== 0,
      };
    }

    test('KX-GPH-06 out of the guest: the request is made, nobody is waited for, no other vCPU is asked', () => {
      const { vm, cache, requested } = stage();
      const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
      expect(invalidatePage(vm, 5)).toBe(1);
      expect([requested(1), requested(0), cache.check(AT, LENGTH)]).toEqual([true, false, false]);
      expect(naps).not.toHaveBeenCalled();
    });

    test('KX-GPH-06 a range elsewhere, or a cache that is invalid already, asks nobody', () => {
      const { vm, cache, inGuest, requested } = stage();
      inGuest(true);
      invalidatePage(vm, 6);
      expect([requested(), cache.check(AT, LENGTH)]).toEqual([false, true]);
      inGuest(false);
      cache.unmap();
      inGuest(true);
      invalidatePage(vm, 5);
      expect(requested()).toBe(false);
    });

    test('KX-GPH-06 in the guest: start returns only when it has left, and meanwhile the frame is not given up', () => {
      const { vm, inGuest, requested, cache } = stage();
      inGuest(true);
      let naps = 0;
      vi.spyOn(Atomics, 'wait').mockImplementation(() => {
        // The vCPU is still there: asked, and refused a check from now on.
        expect([requested(), cache.check(AT, LENGTH)]).toEqual([true, false]);
        if (++naps === 3) inGuest(false);
        return 'timed-out';
      });
      expect(vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5))).toBe(1);
      expect(naps).toBe(3);
      vm.invalidateEnd();
    });

    test('KX-GPH-06 who has taken the request was outside since, even if he is in the guest again', () => {
      const { vm, inGuest } = stage();
      inGuest(true);
      let naps = 0;
      vi.spyOn(Atomics, 'wait').mockImplementation(() => {
        naps++;
        vm.vcpu(1).takeRequests(REQUEST_GPC_INVALIDATE);
        return 'timed-out';
      });
      expect(invalidatePage(vm, 5)).toBe(1);
      expect(naps).toBe(1);
    });

    test('KX-GPH-06 who does not leave: EBUSY, the invalidation is not granted and the page is mapped again', () => {
      noNaps();
      const { vm, inGuest, cache } = stage();
      inGuest(true);
      const error = errorOf(() => vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5)));
      expect([error.code, error.message]).toEqual(['EBUSY', expect.stringContaining('vCPU 1')]);
      expect(errorOf(() => vm.invalidateEnd()).code).toBe('EINVAL');
      inGuest(false);
      cache.refresh(AT, LENGTH);
      expect(cache.check(AT, LENGTH)).toBe(true);
    });

    test('KX-GPH-06 a vCPU that sleeps is not woken', () => {
      const { vm, requested } = stage();
      const { line } = vm.vcpu(1);
      vm.region.words.or(line + VCPU_KICK, KICK_SLEEPER);
      const notified = vi.spyOn(Atomics, 'notify');
      const start = notified.mock.calls.length;
      vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5));
      expect(notified.mock.calls.slice(start)).toEqual([]);
      expect([requested(), vm.region.words.load(line + VCPU_KICK) & KICK_SLEEPER]).toEqual([true, KICK_SLEEPER]);
      vm.invalidateEnd();
    });

    test('KX-GPH-06 two caches of one vCPU: one request, one wait; of two vCPUs: each', () => {
      const { vm, inGuest } = stage();
      mapped(vm, false, { vcpu: 1, guestUsesPa: true });
      const third = mapped(vm, false, { vcpu: 0, guestUsesPa: true });
      inGuest(true);
      let naps = 0;
      vi.spyOn(Atomics, 'wait').mockImplementation(() => {
        naps++;
        inGuest(false);
        return 'timed-out';
      });
      expect(invalidatePage(vm, 5)).toBe(3);
      expect(naps).toBe(1);
      expect([0, 1].map((i) => vm.vcpu(i).takeRequests(REQUEST_GPC_INVALIDATE))).toEqual([
        REQUEST_GPC_INVALIDATE,
        REQUEST_GPC_INVALIDATE,
      ]);
      expect(third.check(AT, LENGTH)).toBe(false);
    });

    test('KX-GPH-07 in the guest first, then the check: an invalidation before is seen, one after waits', () => {
      const { vm, cache } = stage();
      const vcpu = vm.vcpu(1);
      const enter = (): boolean => {
        expect(vcpu.beforeEntry().kind).toBe('enter');
        if (cache.check(AT, LENGTH)) return true;
        vcpu.afterExit();
        return false;
      };
      expect(enter()).toBe(true);
      expect(vcpu.leaveRequested).toBe(false);
      let naps = 0;
      vi.spyOn(Atomics, 'wait').mockImplementation(() => {
        naps++;
        expect(vcpu.leaveRequested).toBe(true);
        vcpu.afterExit();
        return 'timed-out';
      });
      invalidatePage(vm, 5);
      expect(naps).toBe(1);
      expect(enter()).toBe(false);
      cache.refresh(AT, LENGTH);
      expect(enter()).toBe(true);
    });

    test('KX-GPH-07 a change of the slots asks nobody: the next check notices it', () => {
      const { vm, cache, inGuest, requested } = stage();
      inGuest(true);
      vm.memslots.set(slotAt(vm, 9));
      expect([requested(), cache.check(AT, LENGTH)]).toEqual([false, false]);
    });

    test('KX-GPH-07 it is not refreshed, unmapped or destroyed under a vCPU that is in the guest', () => {
      const { vm, cache, inGuest } = stage();
      inGuest(true);
      for (const call of [
        () => cache.refresh(AT, LENGTH),
        () => cache.unmap(),
        () => cache.destroy(),
        () => cache.init(AT, LENGTH),
      ]) {
        refuses(vm, call, 'EBUSY', 'vCPU 1', 'guest mode');
      }
      expect(cache.check(AT, LENGTH)).toBe(true);
    });

    test('KX-GPH-08 an invalidation that may not block asks, does not wait, and warns if the vCPU was in the guest', () => {
      const { vm, cache, warnings, inGuest, requested } = stage();
      const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
      vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5), { mayBlock: false });
      vm.invalidateEnd();
      expect([requested(), warnings]).toEqual([true, []]);
      vm.vcpu(1).takeRequests(REQUEST_GPC_INVALIDATE);
      cache.refresh(AT, LENGTH);
      inGuest(true);
      expect(vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5), { mayBlock: false })).toBe(1);
      vm.invalidateEnd();
      expect(requested()).toBe(true);
      expect(warnings).toEqual([expect.stringContaining('vCPU 1')]);
      expect(naps).not.toHaveBeenCalled();
    });

    test('KX-GPH-08 the warning goes to the console by default', () => {
      const vm = make();
      const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
      mapped(vm, false, { vcpu: 0, guestUsesPa: true });
      vm.region.words.or(vm.vcpu(0).record + VCPU_MODE, VCPU_IN_GUEST);
      vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5), { mayBlock: false });
      expect(warn).toHaveBeenCalledTimes(1);
      vm.invalidateEnd();
    });
  });

  test('KX-GPH-09 a refresh sits out the invalidations of others, and cannot those of its own thread', () => {
    const vm = make();
    const other = attachVm(vm.handle());
    const cache = mapped(vm);
    cache.unmap();
    vm.invalidateStart(hva(0), hva(0));
    expect(errorOf(() => cache.refresh(AT, LENGTH)).code).toBe('EAGAIN');
    expect(cache.frame).toBeNull();
    vm.invalidateEnd();
    other.changes.invalidateStart(hva(0), hva(0));
    let naps = 0;
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      expect(cache.check(AT, LENGTH)).toBe(false);
      if (++naps === 4) other.changes.invalidateEnd();
      return 'timed-out';
    });
    cache.refresh(AT, LENGTH);
    expect([naps, cache.check(AT, LENGTH)]).toEqual([4, true]);
  });

  test('KX-GPH-11 today’s caches and historic ones live side by side: one invalidation reaches both', () => {
    const vm = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x5000) });
    const cache = mapped(vm, false, { vcpu: 0, guestUsesPa: true });
    expect(invalidatePage(vm, 5)).toBe(2);
    expect(vm.send(5)).toBe(1);
    expect(vm.vcpu(0).drain()).toBe(1);
    cache.refresh(AT, LENGTH);
    expect(cache.check(AT, LENGTH)).toBe(true);
  });
});

// ── the faults of the first versions ─────────────────────────────────────────────────────────────────────────────────

describe.each([true, false])('KX-GPH-10 faults that are not copied, shared memory: %s', (shared) => {
  function stage(fault: (vm: Vm, cache: HistoricCache, at: Hva) => void): { vm: Vm; cache: HistoricCache } {
    const vm: Vm = makePaged({ shared, vcpus: 2, onPageFault: (at) => fault(vm, cache, at) });
    logAll(vm);
    const cache: HistoricCache = vm.historicCache({ vcpu: 1 });
    return { vm, cache };
  }
  const bring = (vm: Vm, page = 5): void => vm.hostPages.map(hostPage(vm, 5), 1, framePage(vm, page));

  test('valid without an address: while the page is asked for every check fails, and another refresh is refused', () => {
    const seen: unknown[] = [];
    const { vm, cache } = stage((vm, cache) => {
      seen.push(
        cache.check(AT, LENGTH),
        errorOf(() => cache.refresh(AT, LENGTH)).code,
        errorOf(() => cache.destroy()).code,
      );
      bring(vm);
    });
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    cache.init(AT, LENGTH);
    expect(seen).toEqual([false, 'EBUSY', 'EBUSY']);
    expect([cache.check(AT, LENGTH), cache.khva]).toEqual([true, framePage(vm, 5) + 0x40]);
  });

  test('valid for the old page while the new one is asked for: neither address passes a check', () => {
    const seen: boolean[] = [];
    const { vm, cache } = stage((vm, cache) => {
      seen.push(cache.check(AT, LENGTH), cache.check(gpa(0x6000), LENGTH));
      bring(vm);
    });
    cache.init(gpa(0x6000), LENGTH);
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    cache.refresh(AT, LENGTH);
    expect(seen).toEqual([false, false]);
    expect([cache.check(AT, LENGTH), cache.check(gpa(0x6000), LENGTH)]).toEqual([true, false]);
  });

  test('a frame in use released: a refresh that changes nothing keeps mapping and mark', () => {
    const { vm, cache } = stage(() => {});
    cache.init(AT, LENGTH, true);
    for (let i = 0; i < 3; i++) cache.refresh(AT, LENGTH, true);
    expect(marked(vm)).toEqual([]);
    expect([cache.check(AT, LENGTH), cache.frame]).toEqual([true, framePage(vm, 5)]);
    // Nor one after a change of the slots that left the page where it is.
    vm.memslots.set(slotAt(vm, 9));
    cache.refresh(AT, LENGTH, true);
    expect(marked(vm)).toEqual([]);
    cache.unmap();
    expect(marked(vm)).toEqual([5]);
  });

  test('an address taken for a frame number: the page that is marked is the page of the address', () => {
    const { vm, cache } = stage(() => {});
    cache.init(gpa(0x1000 + 5), LENGTH, true);
    cache.unmap();
    expect(marked(vm)).toEqual([1]);
  });

  test('an address that has moved since: what is marked is the page that was mapped', () => {
    const { vm, cache } = stage(() => {});
    cache.init(AT, LENGTH, true);
    cache.refresh(gpa(0x9000), LENGTH);
    expect(marked(vm)).toEqual([5]);
  });

  test('the new offset subtracted from the old address: another place in the page is frame plus offset', () => {
    const { vm, cache } = stage(() => {});
    cache.init(gpa(0x5100), LENGTH);
    for (const offset of [0x40, 0xfc0, 0, 0x101]) {
      cache.refresh(gpa(0x5000 + offset), LENGTH);
      expect(cache.khva).toBe(framePage(vm, 5) + offset);
    }
    invalidatePage(vm, 5);
    cache.refresh(gpa(0x5200), LENGTH);
    expect(cache.khva).toBe(framePage(vm, 5) + 0x200);
  });

  test('an invalidation before publication that is lost: the new frame is mapped, the old one is nobody’s', () => {
    const { vm, cache } = stage((vm) => {
      bring(vm, 5);
      bring(vm, 11);
    });
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    cache.init(AT, LENGTH);
    expect(cache.frame).toBe(framePage(vm, 11));
    // Between what was found and its publication.
    cache.unmap();
    const faultIn = vm.gpcs.faultIn.bind(vm.gpcs);
    const spy = vi.spyOn(vm.gpcs, 'faultIn').mockImplementation((at, writable) => {
      const page = faultIn(at, writable);
      spy.mockRestore();
      vm.hostPages.move(hostPage(vm, 5), 1, framePage(vm, 12));
      return page;
    });
    cache.refresh(AT, LENGTH);
    expect([cache.frame, cache.check(AT, LENGTH)]).toEqual([framePage(vm, 12), true]);
  });

  test('an invalidation that is still open then: not mapped', () => {
    const { vm, cache } = stage((vm) => {
      bring(vm);
      vm.invalidateStart(hostPage(vm, 5), hostPage(vm, 5));
    });
    vm.hostPages.unmap(hostPage(vm, 5), 1);
    expect(errorOf(() => cache.init(AT, LENGTH)).code).toBe('EAGAIN');
    expect([cache.frame, cache.check(AT, LENGTH)]).toEqual([null, false]);
    vm.invalidateEnd();
    cache.refresh(AT, LENGTH);
    ram(vm).fill(POISON, 0x5000, 0x6000);
    expect(cache.check(AT, LENGTH)).toBe(true);
  });
});
