// The wall clock in shared_info: when it is written, where, and under which version. [KX-VMA-02, 20; KX-ABI-16, 18]

import { describe, expect, test } from 'vitest';
import { WALL_CLOCK_NSEC, WALL_CLOCK_SEC, WALL_CLOCK_SIZE, WALL_CLOCK_VERSION } from '../../src/abi/pvclock.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
} from '../../src/abi/shared_info.ts';
import { createVm, gfn, VirtualClock, type Vm } from '../../src/index.ts';
import { errorOf, fields, KINDS, makeVm, ram, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';
import { CANARY, changed, changes, tracing } from './evidence.ts';

const SECOND = 1_000_000_000n;

interface WallClock {
  version: number;
  seconds: bigint;
  nsec: number;
}

function wallClock(vm: Vm, page = SHARED_INFO_GPA): WallClock {
  const long = vm.maxPorts === 4096;
  const at = page + (long ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT);
  const high = page + (long ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT);
  const view = fields(vm);
  return {
    version: view.getUint32(at + WALL_CLOCK_VERSION, true),
    seconds: BigInt(view.getUint32(at + WALL_CLOCK_SEC, true)) | (BigInt(view.getUint32(high, true)) << 32n),
    nsec: view.getUint32(at + WALL_CLOCK_NSEC, true),
  };
}

/** The bytes of a page that the wall clock occupies. */
function wallClockBytes(longMode: boolean): Set<number> {
  const at = longMode ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT;
  const high = longMode ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT;
  return new Set([
    ...Array.from({ length: WALL_CLOCK_SIZE }, (_, i) => at + i),
    ...Array.from({ length: 4 }, (_, i) => high + i),
  ]);
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const bare = (options = {}): Vm => {
    const vm = createVm({ guestPages: 8, vcpus: 2, bare: true, shared, ...options });
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    return vm;
  };

  test.each([
    ['at zero', 0n, 0n, 0],
    ['one ns', 1n, 0n, 1],
    ['the last ns of a second', SECOND - 1n, 0n, 999_999_999],
    ['today', 1_790_000_000n * SECOND + 123_456_789n, 1_790_000_000n, 123_456_789],
    ['beyond 32 bits of seconds', (2n ** 32n + 7n) * SECOND + 5n, 2n ** 32n + 7n, 5],
    ['the far end of 64 bits of ns', 2n ** 64n - 1n, 18_446_744_073n, 709_551_615],
    ['before 1970 counts as 1970', -5n, 0n, 0],
  ])('KX-VMA-20 KX-VMA-05 the wall clock of shared_info, %s', (_what, epoch, seconds, nsec) => {
    const vm = bare({ clock: new VirtualClock(0n, epoch) });
    const page = 3 * PAGE_SIZE;
    ram(vm).fill(CANARY, 2 * PAGE_SIZE, 5 * PAGE_SIZE);
    vm.setAttr({ type: 'shared_info', gfn: gfn(3) });
    // The old version is 0xa5a5a5a5: the next odd one is ...a7, the even one that ends the change ...a8.
    expect(wallClock(vm, page)).toEqual({ version: 0xa5a5a5a8, seconds, nsec });
    const own = wallClockBytes(longMode);
    const found = ram(vm).slice(2 * PAGE_SIZE, 5 * PAGE_SIZE);
    for (const at of own) found[PAGE_SIZE + at] = CANARY;
    expect(found.every((byte) => byte === CANARY)).toBe(true);
  });

  test('KX-VMA-20 KX-ABI-18 the version: next odd, then even, and never 0', () => {
    const clock = new VirtualClock(5n * SECOND, 100n * SECOND);
    const vm = bare({ clock });
    const at = SHARED_INFO_GPA + (longMode ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT) + WALL_CLOCK_VERSION;
    for (const [old, stable] of [
      [0, 2],
      [1, 4],
      [2, 4],
      [5, 8],
      [0xfffffffd, 2],
      [0xfffffffe, 2],
      [0xffffffff, 2],
    ] as const) {
      fields(vm).setUint32(at, old, true);
      vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      expect(wallClock(vm).version, `after ${old}`).toBe(stable);
      // The time of day when the VM was made, at which its clock began.
      expect(wallClock(vm).seconds).toBe(105n);
    }
  });

  test('KX-VMA-02 setting the mode, changed or not, writes the wall clock again at the place of that mode', () => {
    const clock = new VirtualClock(0n, 7n * SECOND);
    const vm = bare({ clock });
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect(wallClock(vm).version).toBe(2);
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    expect(wallClock(vm)).toEqual({ version: 4, seconds: 7n, nsec: 0 });
    const before = ram(vm).slice();
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    expect(wallClock(vm)).toEqual({ version: 2, seconds: 7n, nsec: 0 });
    // The old place keeps what it had.
    const own = wallClockBytes(!longMode);
    for (const [at] of changes(before, ram(vm))) expect(own.has(at - SHARED_INFO_GPA), `byte ${at}`).toBe(true);
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    expect(wallClock(vm)).toEqual({ version: 6, seconds: 7n, nsec: 0 });
  });

  test('KX-VMA-02 without shared_info a change of mode writes nothing', () => {
    const vm = bare();
    expect(changed(vm, () => vm.setAttr({ type: 'long_mode', enabled: !longMode }))).toEqual([]);
  });

  test('KX-VMA-02 a mode whose wall clock cannot be written stays changed, and the set says EFAULT', () => {
    const vm = bare();
    errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(8) }));
    const error = errorOf(() => vm.setAttr({ type: 'long_mode', enabled: !longMode }));
    expect(error.code).toBe('EFAULT');
    expect(vm.getAttr('long_mode').enabled).toBe(!longMode);
  });

  test('KX-VMA-20 the wall clock is realtime less the guest clock, of the same instant', () => {
    const clock = new VirtualClock(0n, 1000n * SECOND + 1n);
    const vm = bare({ clock });
    clock.advance(123_456_789_012n);
    vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    expect(wallClock(vm)).toEqual({ version: 2, seconds: 1000n, nsec: 1 });
  });

  test('KX-VMA-20 the wall clock: no reader sees a stable version over half of a change', () => {
    let vm: Vm | undefined;
    const [clockAt, highAt] = longMode
      ? [SHARED_INFO_GPA + SHARED_INFO_WC_LONG, SHARED_INFO_GPA + SHARED_INFO_WC_SEC_HI_LONG]
      : [SHARED_INFO_GPA + SHARED_INFO_WC_COMPAT, SHARED_INFO_GPA + SHARED_INFO_WC_SEC_HI_COMPAT];
    const seen: (readonly [number, string])[] = [];
    const look = (): readonly [number, string] => {
      const view = fields(vm as Vm);
      const words = [clockAt + WALL_CLOCK_SEC, clockAt + WALL_CLOCK_SEC + 4, highAt].map((at) =>
        view.getUint32(at, true),
      );
      return [view.getUint32(clockAt + WALL_CLOCK_VERSION, true), words.join(' ')];
    };
    const made = makeVm({
      longMode,
      guestPages: 8,
      clock: new VirtualClock(0n, (5n * 2n ** 32n + 6n) * 1_000_000_000n + 7n),
      ...tracing(shared, { onStep: () => vm && seen.push(look()) }),
    });
    fields(made).setUint32(clockAt + WALL_CLOCK_SEC, 99, true);
    fields(made).setUint32(highAt, 98, true);
    vm = made;
    const old = look()[1];
    made.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
    const final = look()[1];
    // 5 * 2^32 seconds of ns do not fit 64 bits, and need not: the clock gives whole seconds and the rest.
    expect(final).toBe('6 7 5');
    for (const [version, words] of seen) if (version % 2 === 0) expect([old, final]).toContain(words);
    expect(seen.filter(([version]) => version % 2).length).toBeGreaterThan(2);
  });
});
