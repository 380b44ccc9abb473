// What changes a vCPU's runstate by itself: its thread loads it, enters the guest, leaves, loses its core. [KX-RUN-01, KX-EVT-58]

import { describe, expect, test } from 'vitest';
import {
  REQUEST_CLOCK_UPDATE,
  REQUEST_STEAL_UPDATE,
  VCPU_LOADED,
  VCPU_MODE,
  VCPU_REQUESTS,
} from '../../src/abi/region.ts';
import { attachVm, gpa, hva, VirtualClock, type Vm } from '../../src/index.ts';
import { KINDS, makeVm, SHARED_INFO_GFN, VCPU_INFO_GPA, vcpuInfoGpa } from '../support.ts';
import { cast, changed, dropMappings, refuses } from './evidence.ts';
import { EDGE, guestCopy, hostCopy, runstateAddr, sum } from './runstate_record.ts';
import { named, STRANGE } from './values.ts';

const MSR = 0x40000000;

function requests(vm: Vm, index = 0): number {
  return vm.region.words.load(vm.vcpu(index).line + VCPU_REQUESTS);
}
function loaded(vm: Vm): boolean {
  return (vm.region.words.load(vm.vcpu(0).record + VCPU_MODE) & VCPU_LOADED) !== 0;
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): { vm: Vm; clock: VirtualClock } => {
    const clock = new VirtualClock(55n);
    const vm = makeVm({ longMode, shared, guestPages: 9, clock, ...options });
    vm.setConfig({ msr: MSR });
    clock.advance(1000n);
    return { vm, clock };
  };
  const enter = (vm: Vm): void => expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');

  test('KX-RUN-01 a loaded vCPU is running from its next guest entry on, not from the load', () => {
    const { vm, clock } = make();
    vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'blocked' });
    vm.vcpu(0).load();
    expect(loaded(vm)).toBe(true);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'blocked', entryTime: 1000n });
    clock.advance(10n);
    enter(vm);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'running', entryTime: 1010n, times: { blocked: 10n } });
    expect(requests(vm) & REQUEST_STEAL_UPDATE).toBe(0);
  });

  test('KX-RUN-01 without the gate nothing is accounted by itself', () => {
    const { vm, clock } = make();
    vm.setConfig({ msr: 0 });
    vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'blocked' });
    const before = vm.vcpu(0).runstate();
    vm.vcpu(0).load();
    expect(requests(vm) & REQUEST_STEAL_UPDATE).toBe(0);
    clock.advance(10n);
    enter(vm);
    vm.vcpu(0).unload({ preempted: true });
    expect(vm.vcpu(0).runstate()).toEqual(before);
  });

  test('KX-RUN-01 a gate that closes between load and entry: nothing is accounted', () => {
    const { vm, clock } = make();
    vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'blocked' });
    vm.vcpu(0).load();
    vm.setConfig({ msr: 0 });
    clock.advance(10n);
    enter(vm);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'blocked', entryTime: 1000n });
  });

  test('KX-RUN-01 entries without a load between them are no transitions', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load();
    enter(vm);
    const before = vm.vcpu(0).runstate();
    clock.advance(10n);
    vm.vcpu(0).afterExit();
    enter(vm);
    expect(vm.vcpu(0).runstate()).toEqual(before);
  });

  test('KX-RUN-01 a vCPU that is halted, or has exited to the embedder, stays running', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load();
    enter(vm);
    const before = vm.vcpu(0).runstate();
    clock.advance(10n);
    vm.vcpu(0).afterExit();
    if (shared) expect(vm.vcpu(0).wait(0)).toBe('timeout');
    expect(vm.vcpu(0).runstate()).toEqual(before);
    vm.vcpu(0).unload();
    expect(loaded(vm)).toBe(false);
    expect(vm.vcpu(0).runstate()).toEqual(before);
    clock.advance(10n);
    vm.vcpu(0).load();
    enter(vm);
    expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'running', entryTime: 1020n });
    expect(vm.vcpu(0).runstate().times).toMatchObject({ running: 20n, runnable: 0n });
  });

  test('KX-RUN-01 preempted within KVM_RUN it is runnable, and running again when it has its core back', () => {
    const { vm, clock } = make();
    runstateAddr(vm, EDGE - 10);
    vm.vcpu(0).load();
    enter(vm);
    clock.advance(10n);
    vm.vcpu(0).unload({ preempted: true });
    expect(guestCopy(vm, EDGE - 10)).toMatchObject({ state: 1, entryTime: 1010n });
    expect(loaded(vm)).toBe(false);
    clock.advance(25n);
    vm.vcpu(0).load(25n);
    enter(vm);
    expect(guestCopy(vm, EDGE - 10)).toEqual({ state: 0, entryTime: 1035n, times: [10n, 25n, 0n, 1000n] });
  });

  test('KX-RUN-01 outside KVM_RUN a thread may lose its core as it likes', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load();
    enter(vm);
    vm.vcpu(0).unload();
    const before = vm.vcpu(0).runstate();
    clock.advance(10n);
    vm.vcpu(0).unload({ preempted: true });
    expect(vm.vcpu(0).runstate()).toEqual(before);
  });

  test('KX-RUN-01 blocked and offline are left by the next entry, as every attribute of the vCPU loads it', () => {
    const { vm } = make();
    for (const state of ['blocked', 'offline'] as const) {
      vm.vcpu(0).setAttr({ type: 'runstate_current', state });
      expect(vm.vcpu(0).runstate().state).toBe(state);
      enter(vm);
      expect(vm.vcpu(0).runstate().state).toBe('running');
    }
  });

  test.each([
    ['first', EDGE - 1],
    ['second', EDGE],
  ])(
    'KX-RUN-20 KX-RUN-21 KX-RUN-44 KF-50 X-13 preempted with its %s page away: nothing is written or waited for, the next entry repairs it',
    (_which, away) => {
      const { vm, clock } = make();
      const at = EDGE - 10;
      runstateAddr(vm, at);
      vm.vcpu(0).load();
      enter(vm);
      const before = guestCopy(vm, at);
      vm.invalidateStart(vm.guestBase + away, vm.guestBase + away);
      clock.advance(10n);
      expect(changed(vm, () => vm.vcpu(0).unload({ preempted: true }))).toEqual([]);
      vm.invalidateEnd();
      // Mapped or not: what was skipped is not written by itself.
      expect(guestCopy(vm, at)).toEqual(before);
      expect(vm.vcpu(0).runstate()).toMatchObject({ state: 'runnable', entryTime: 1010n });
      clock.advance(5n);
      vm.vcpu(0).load();
      enter(vm);
      expect(guestCopy(vm, at)).toEqual(hostCopy(vm.vcpu(0).runstate()));
      expect(guestCopy(vm, at)).toEqual({ state: 0, entryTime: 1015n, times: [10n, 5n, 0n, 1000n] });
    },
  );

  test('KX-RUN-20 preempted with its pages mapped, a bracket of a batch open or not: the copy is written', () => {
    const { vm, clock } = make();
    runstateAddr(vm, EDGE - 10);
    vm.vcpu(0).load();
    enter(vm);
    clock.advance(10n);
    vm.enter();
    vm.vcpu(0).unload({ preempted: true });
    vm.leave();
    expect(guestCopy(vm, EDGE - 10)).toMatchObject({ state: 1, entryTime: 1010n });
  });

  test('KX-RUN-02 S-16 50 us more waiting for a core are 50 us more in runnable', () => {
    const { vm, clock } = make();
    runstateAddr(vm, EDGE - 10);
    vm.vcpu(0).load(7_000n);
    enter(vm);
    // In KVM_RUN, and again after an exit: what the thread waited meanwhile was not running.
    clock.advance(200_000n);
    vm.vcpu(0).unload();
    vm.vcpu(0).load(57_000n);
    enter(vm);
    const copy = guestCopy(vm, EDGE - 10);
    expect(copy).toEqual({ state: 0, entryTime: 201_000n, times: [150_000n, 50_000n, 0n, 1_000n] });
    expect(sum(copy.times)).toBe(copy.entryTime);
  });

  test('KX-RUN-02 KX-RUN-04 preempted, a thread waits once: as runnable, not as stolen as well', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load(100n);
    enter(vm);
    clock.advance(1000n);
    vm.vcpu(0).unload({ preempted: true, runDelay: 100n });
    clock.advance(300n);
    vm.vcpu(0).load(400n);
    enter(vm);
    expect(vm.vcpu(0).runstate().times).toEqual({ running: 1000n, runnable: 300n, blocked: 0n, offline: 1000n });
  });

  test('KX-RUN-02 a preemption says how long the thread has waited, or leaves it as it was', () => {
    const { vm, clock } = make();
    vm.vcpu(0).load(100n);
    enter(vm);
    clock.advance(1000n);
    vm.vcpu(0).unload({ preempted: true, runDelay: 160n });
    expect(vm.vcpu(0).runstate().times).toMatchObject({ running: 940n, runnable: 60n });
    vm.vcpu(0).load(160n);
    enter(vm);
    clock.advance(1000n);
    vm.vcpu(0).unload({ preempted: true });
    expect(vm.vcpu(0).runstate().times).toMatchObject({ running: 1940n, runnable: 60n });
  });

  test('KX-RUN-01 another thread that runs the vCPU accounts from the same record', () => {
    if (!shared) return;
    const { vm, clock } = make();
    const other = attachVm(vm.handle(), { clock });
    runstateAddr(vm, EDGE - 10);
    other.vcpu(0).load(50n);
    expect(other.vcpu(0).beforeEntry().kind).toBe('enter');
    clock.advance(100n);
    other.vcpu(0).unload({ preempted: true, runDelay: 60n });
    expect(guestCopy(vm, EDGE - 10)).toEqual({ state: 1, entryTime: 1100n, times: [90n, 10n, 0n, 1000n] });
    expect(vm.vcpu(0).runstate()).toEqual(other.vcpu(0).runstate());
  });

  test('KX-GEN-02 each vCPU has its own load', () => {
    const { vm } = make({ vcpus: 2 });
    vm.vcpu(1).load();
    expect(requests(vm, 0) & REQUEST_STEAL_UPDATE).toBe(0);
    expect(requests(vm, 1) & REQUEST_STEAL_UPDATE).toBe(REQUEST_STEAL_UPDATE);
    expect(loaded(vm)).toBe(false);
  });

  test.each(named([...STRANGE, 2n ** 64n, -1n].filter((v) => v !== undefined)))(
    'a run delay of $name is EINVAL',
    ({ value }) => {
      const { vm } = make();
      refuses(vm, () => vm.vcpu(0).load(cast(value)), 'EINVAL', 'runDelay');
      vm.vcpu(0).load();
      refuses(vm, () => vm.vcpu(0).unload({ preempted: true, runDelay: cast(value) }), 'EINVAL', 'runDelay');
    },
  );

  test('a view that is detached can neither load nor unload', () => {
    const { vm } = make();
    const vcpu = vm.vcpu(0);
    vm.detach();
    expect(() => vcpu.load()).toThrow('EBADF');
    expect(() => vcpu.unload({ preempted: true })).toThrow('EBADF');
  });

  test('KX-EVT-58 KX-EVT-57 at entry: master clock, then the clock records, then runstate', () => {
    const { vm, clock } = make({ clock: new VirtualClock(0n, 0n, { tscHz: 1_000_000_000 }) });
    runstateAddr(vm, EDGE);
    vm.vcpu(0).load();
    enter(vm);
    clock.advance(77n);
    const order: string[] = [];
    const { kvmclock, kernel } = vm;
    const resample = kvmclock.resample.bind(kvmclock);
    kvmclock.resample = () => {
      order.push('master');
      resample();
    };
    vm.kernel = Object.create(kernel, {
      timeWrite: {
        value: (...args: Parameters<typeof kernel.timeWrite>) => {
          order.push('clock');
          return kernel.timeWrite(...args);
        },
      },
      runstateEnter: {
        value: (...args: Parameters<typeof kernel.runstateEnter>) => {
          order.push('runstate');
          return kernel.runstateEnter(...args);
        },
      },
    });
    vm.vcpu(0).load();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO_GPA) });
    vm.setAttr({ type: 'shared_info', gfn: vm.getAttr('shared_info').gfn });
    enter(vm);
    expect(order).toEqual(['master', 'clock', 'runstate']);
  });

  // ── dirty log ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-RUN-32 X-16 each page of the runstate copy that is written is marked dirty, and no other', () => {
    for (const [at, pages] of [
      [EDGE, [6]],
      [EDGE - 10, [5, 6]],
    ] as const) {
      const { vm } = make();
      logDirty(vm);
      runstateAddr(vm, at);
      expect(dirtyPages(vm)).toEqual(pages);
      vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'blocked' });
      expect(dirtyPages(vm)).toEqual(pages);
      // Not written, not marked.
      dropMappings(vm);
      vm.vcpu(0).setAttr({ type: 'runstate_current', state: 'runnable' });
      expect(dirtyPages(vm)).toEqual([]);
    }
  });

  test('KX-MEM-25 KX-MEM-28 KX-CLK-11 X-16 the clock records of vcpu_info and vcpu_time_info are marked, shared_info is not', () => {
    const { vm } = make();
    logDirty(vm);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(7 * 4096) });
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    expect(dirtyPages(vm)).toEqual([]);
    enter(vm);
    expect(dirtyPages(vm)).toEqual([VCPU_INFO_GPA / 4096, 7]);
    vm.send(9);
    expect(dirtyPages(vm)).not.toContain(SHARED_INFO_GFN);
  });

  test('KX-MEM-21 KX-MEM-27 X-16 a vcpu_info by host address belongs to no slot: its clock record marks nothing', () => {
    const { vm } = make();
    vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + vcpuInfoGpa(0)) });
    logDirty(vm);
    expect(requests(vm) & REQUEST_CLOCK_UPDATE).toBe(REQUEST_CLOCK_UPDATE);
    enter(vm);
    expect(dirtyPages(vm)).toEqual([]);
  });
});

/** Slot 0 logs from here on. */
function logDirty(vm: Vm): void {
  vm.memslots.set({ id: 0, gpa: gpa(0), bytes: vm.guestBytes, hva: hva(vm.guestBase), logDirty: true });
}

/** The pages of slot 0 that were marked since the last look. */
function dirtyPages(vm: Vm): number[] {
  const bits = vm.dirtyLog.take(0);
  return Array.from({ length: bits.length * 8 }, (_, i) => i).filter((i) => ((bits[i >> 3] ?? 0) >> (i & 7)) & 1);
}
