// shared_info and vcpu_info by guest and by host address, and the attributes that are only kept: what a set does to the one cache
// behind both, what the gets say, and what is left after a failure. [kvm-xen 3.2 and 4, KX-VMA-04..14, KX-VCA-01..04, 11]

import { describe, expect, test } from 'vitest';
import {
  REQUEST_CLOCK_UPDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  VCPU_REQUESTS,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import { PAGE_SIZE, SHARED_INFO_WC_COMPAT, SHARED_INFO_WC_LONG } from '../../src/abi/shared_info.ts';
import { attachVm, gfn, gpa, type Hva, hpa, hva, VirtualClock, type Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  fields,
  KINDS,
  makeVm,
  pendingBit,
  ram,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  VCPU_INFO_GPA,
  vcpuInfoGpa,
} from '../support.ts';
import {
  cast,
  changed,
  changes,
  POISON,
  refusal,
  refuses,
  sharedInfoWord,
  UNMAPPED,
  vcpuInfoWord,
} from './evidence.ts';
import { outside } from './values.ts';

/** No slot has it, and no host page. */
const NOWHERE = 0x100000;
/** A host address that is a page of the embedder's, but none of this memory. */
const FAR = hva(2 ** 40);

/** Where the embedder keeps a guest address of slot 0. */
const host = (vm: Vm, at: number): Hva => hva(vm.guestBase + at);
/** The frame of a mapped shared_info, as a guest address of slot 0. */
const frameOf = (vm: Vm): number => (sharedInfoWord(vm) & ~1) - vm.guestBase;
const requests = (vm: Vm, index = 0): number => vm.region.words.load(vm.vcpu(index).line + VCPU_REQUESTS);
const CLOCKS = REQUEST_CLOCK_UPDATE | REQUEST_MASTERCLOCK_UPDATE;

/** The requests for clocks that `set` makes, of each vCPU. */
function asked(vm: Vm, set: () => void): number[] {
  const vcpus = Array.from({ length: vm.vcpus }, (_, i) => vm.vcpu(i));
  for (const vcpu of vcpus) vcpu.takeRequests(CLOCKS);
  set();
  return vcpus.map((_, i) => requests(vm, i) & CLOCKS);
}

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, vcpus: 2, ...options });
  const bases = (vm: Vm): unknown[] => [vm.getAttr('shared_info').gfn, vm.getAttr('shared_info_hva').hva];
  const infoBases = (vm: Vm, index = 0): unknown[] => [
    vm.vcpu(index).getAttr('vcpu_info').gpa,
    vm.vcpu(index).getAttr('vcpu_info_hva').hva,
  ];
  const wallClockVersion = (vm: Vm, page: number): number =>
    fields(vm).getUint32(page + (longMode ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT), true);

  describe('shared_info', () => {
    test('KX-VMA-06 KX-VMA-09 each get answers for its own base, null for the other', () => {
      const vm = make();
      expect(bases(vm)).toEqual([SHARED_INFO_GFN, null]);
      vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) });
      expect(bases(vm)).toEqual([null, host(vm, 0x6000)]);
      vm.setAttr({ type: 'shared_info', gfn: gfn(5) });
      expect(bases(vm)).toEqual([5, null]);
    });

    test('KX-VMA-04 KX-VMA-08 null, and host address 0, unregister it whatever its base, and again without effect', () => {
      const ends = [
        (vm: Vm) => vm.setAttr({ type: 'shared_info', gfn: null }),
        (vm: Vm) => vm.setAttr({ type: 'shared_info_hva', hva: null }),
        (vm: Vm) => vm.setAttr({ type: 'shared_info_hva', hva: hva(0) }),
      ];
      for (const end of ends) {
        for (const byHost of [false, true]) {
          const vm = make();
          if (byHost) vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) });
          for (let i = 0; i < 2; i++) {
            expect(changed(vm, () => end(vm))).toEqual([]);
            expect(bases(vm)).toEqual([null, null]);
          }
          expect(vm.send(5)).toBe(-22);
        }
      }
    });

    test('KX-VMA-08 a host address in a page, before the one that is out of range: EINVAL, nothing changes', () => {
      const vm = make();
      const set = (value: unknown): void => vm.setAttr({ type: 'shared_info_hva', hva: cast<Hva>(value) });
      for (const at of [1, 0x800, PAGE_SIZE - 1, host(vm, 0x6001), 2 ** 47 + 1, -1]) {
        refuses(vm, () => set(at), 'EINVAL', at, `multiples of ${PAGE_SIZE}`);
      }
      for (const at of [2 ** 47 - PAGE_SIZE, 2 ** 47, 2 ** 53 - PAGE_SIZE, 2 ** 60, -PAGE_SIZE]) {
        refuses(vm, () => set(at), 'EINVAL', at, 2 ** 47 - PAGE_SIZE - 1);
      }
      for (const value of outside(0, 2 ** 47 - PAGE_SIZE - 1, []).filter((v) => v !== null)) {
        refuses(vm, () => set(value), 'EINVAL', String(value));
      }
      expect(bases(vm)).toEqual([SHARED_INFO_GFN, null]);
      expect(vm.send(5)).toBe(1);
    });

    test('KX-VMA-10 the last set decides: events only at the new place, the old page is left alone', () => {
      const vm = make();
      const places: [() => void, number][] = [
        [() => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) }), 0x6000],
        [() => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x7000) }), 0x7000],
        [() => vm.setAttr({ type: 'shared_info', gfn: gfn(8) }), 0x8000],
      ];
      let old = SHARED_INFO_GPA;
      for (const [move, page] of places) {
        move();
        expect(frameOf(vm)).toBe(page);
        ram(vm).fill(POISON, old, old + PAGE_SIZE);
        expect(vm.send(5)).toBe(1);
        expect(pendingBit(vm, 5, page)).toBe(true);
        expect(drained(vm)).toEqual([5]);
        expect(
          ram(vm)
            .subarray(old, old + PAGE_SIZE)
            .every((byte) => byte === POISON),
        ).toBe(true);
        old = page;
      }
    });

    test('KX-VMA-10 KX-VMA-07 the same page by its other name: what is pending and masked there stays', () => {
      const vm = make();
      vm.send(5);
      vm.mask(6);
      for (const set of [
        () => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, SHARED_INFO_GPA) }),
        () => vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) }),
      ]) {
        set();
        expect([vm.send(5), vm.send(6) <= 0, frameOf(vm)]).toEqual([0, true, SHARED_INFO_GPA]);
      }
      expect(drained(vm)).toEqual([5]);
    });

    test('KX-VMA-05 a frame in no slot: EFAULT with what there is; active with the new base, tried again by itself', () => {
      const vm = make();
      vm.send(5);
      const before = ram(vm).slice();
      const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(NOWHERE / PAGE_SIZE) }));
      expect(error.code).toBe('EFAULT');
      for (const word of ['shared_info', '0x100000', '0x0..0xffff']) expect(error.message).toContain(word);
      expect(bases(vm)).toEqual([NOWHERE / PAGE_SIZE, null]);
      expect(vm.gpcs.isActive(vm.region.sharedInfo)).toBe(true);
      expect(sharedInfoWord(vm)).toBeGreaterThanOrEqual(UNMAPPED);
      for (const call of [() => vm.send(6), () => vm.sendMany([6]), () => vm.mask(6), () => vm.unmask(6)]) {
        expect(call()).toBe(-14);
      }
      expect(changes(before, ram(vm))).toEqual([]);
      // The slot appears: the next delivery finds it, and writes no wall clock.
      vm.memslots.set({ id: 1, gpa: gpa(NOWHERE), bytes: PAGE_SIZE, hva: host(vm, 0x9000) });
      const made = changed(vm, () => expect(vm.send(6)).toBe(1));
      expect(made.filter(([at]) => at >= 0x9000 && at < 0xa000).length).toBe(1);
      expect(pendingBit(vm, 6, 0x9000)).toBe(true);
      expect(wallClockVersion(vm, 0x9000)).toBe(0);
    });

    test('KX-VMA-05 a read-only slot: EFAULT, and active with the new base', () => {
      const vm = make();
      vm.memslots.set({ id: 1, gpa: gpa(NOWHERE), bytes: PAGE_SIZE, hva: host(vm, 0x9000), readonly: true });
      const error = errorOf(() => vm.setAttr({ type: 'shared_info', gfn: gfn(NOWHERE / PAGE_SIZE) }));
      expect([error.code, error.message.includes('read-only')]).toEqual(['EFAULT', true]);
      expect(bases(vm)).toEqual([NOWHERE / PAGE_SIZE, null]);
      expect(vm.send(6)).toBe(-14);
      // The same page by its host address may be written: the slot does not matter to that.
      vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x9000) });
      expect(vm.send(6)).toBe(1);
    });

    test('KX-VMA-08 a host address outside the memory: EFAULT with the window; active with the new base', () => {
      const vm = make();
      const before = ram(vm).slice();
      const error = errorOf(() => vm.setAttr({ type: 'shared_info_hva', hva: FAR }));
      const window = `0x${vm.guestBase.toString(16)}..0x${(vm.guestBase + vm.guestBytes - 1).toString(16)}`;
      expect(error.code).toBe('EFAULT');
      for (const word of ['shared_info', '0x10000000000', window]) expect(error.message).toContain(word);
      expect(bases(vm)).toEqual([null, FAR]);
      expect(vm.gpcs.isActive(vm.region.sharedInfo)).toBe(true);
      expect([vm.send(6), vm.mask(6)]).toEqual([-14, -14]);
      expect(changes(before, ram(vm))).toEqual([]);
      vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      expect(vm.send(6)).toBe(1);
    });

    test.each([
      ['absent', (vm: Vm) => vm.hostPages.unmap(host(vm, 0x6000), 1)],
      ['read-only', (vm: Vm) => vm.hostPages.map(host(vm, 0x6000), 1, hpa(vm.guestBase + 0x6000), { writable: false })],
    ])('KX-VMA-05 KX-VMA-08 a host page that is %s: EFAULT by either base, used once it is there', (why, spoil) => {
      for (const byHost of [false, true]) {
        const vm = make({ hostPages: 256 });
        spoil(vm);
        const error = errorOf(() =>
          byHost
            ? vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) })
            : vm.setAttr({ type: 'shared_info', gfn: gfn(6) }),
        );
        expect(error.code).toBe('EFAULT');
        for (const word of [why, `0x${host(vm, 0x6000).toString(16)}`]) expect(error.message).toContain(word);
        expect(bases(vm)).toEqual(byHost ? [null, host(vm, 0x6000)] : [6, null]);
        expect(vm.send(6)).toBe(-14);
        vm.hostPages.map(host(vm, 0x6000), 1, hpa(vm.guestBase + 0x9000));
        expect(vm.send(6)).toBe(1);
        expect([frameOf(vm), pendingBit(vm, 6, 0x9000)]).toEqual([0x9000, true]);
      }
    });

    test('X-07 KX-VMA-11 KX-MEM-16 its slot goes: by guest address EFAULT, by host address events go on in the same page', () => {
      const vm = make();
      const [slot] = vm.memslots.list();
      vm.memslots.delete(0);
      expect(vm.send(5)).toBe(-14);
      expect(pendingBit(vm, 5)).toBe(false);
      if (slot) vm.memslots.set(slot);
      expect(vm.send(5)).toBe(1);
      vm.setAttr({ type: 'shared_info_hva', hva: host(vm, SHARED_INFO_GPA) });
      const word = sharedInfoWord(vm);
      vm.memslots.delete(0);
      expect(sharedInfoWord(vm)).toBe(word);
      expect(vm.send(6)).toBe(1);
      expect([pendingBit(vm, 5), pendingBit(vm, 6)]).toEqual([true, true]);
    });

    test('KX-VMA-20 KX-VMA-02 a wall clock that was written asks every vCPU to sample the master clock; else nobody', () => {
      const vm = make({ clock: new VirtualClock(0n, 7n) });
      const all = [REQUEST_MASTERCLOCK_UPDATE, REQUEST_MASTERCLOCK_UPDATE];
      expect(asked(vm, () => vm.setAttr({ type: 'shared_info', gfn: gfn(6) }))).toEqual(all);
      expect(asked(vm, () => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x7000) }))).toEqual(all);
      expect(asked(vm, () => vm.setAttr({ type: 'long_mode', enabled: longMode }))).toEqual(all);
      expect([wallClockVersion(vm, 0x6000), wallClockVersion(vm, 0x7000)]).toEqual([2, 4]);
      const nobody = [0, 0];
      expect(asked(vm, () => errorOf(() => vm.setAttr({ type: 'shared_info_hva', hva: FAR })))).toEqual(nobody);
      expect(asked(vm, () => errorOf(() => vm.setAttr({ type: 'long_mode', enabled: longMode })))).toEqual(nobody);
      expect(asked(vm, () => vm.setAttr({ type: 'shared_info', gfn: null }))).toEqual(nobody);
      expect(asked(vm, () => vm.setAttr({ type: 'long_mode', enabled: longMode }))).toEqual(nobody);
    });

    test('an attached thread sees the base and uses the page', () => {
      const vm = make();
      const other = attachVm(vm.handle());
      vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) });
      expect(bases(other)).toEqual([null, host(vm, 0x6000)]);
      expect(other.send(5)).toBe(1);
      expect(pendingBit(vm, 5, 0x6000)).toBe(true);
    });
  });

  describe('vcpu_info and vcpu_time_info', () => {
    test('KX-VCA-01 KX-VCA-02 KX-VCA-03 each get answers for its own base, null for the other, of its own vCPU', () => {
      const vm = make();
      expect(infoBases(vm)).toEqual([VCPU_INFO_GPA, null]);
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x6123) });
      expect(infoBases(vm)).toEqual([null, host(vm, 0x6123)]);
      expect(infoBases(vm, 1)).toEqual([vcpuInfoGpa(1), null]);
      expect(vcpuInfoWord(vm)).toBe(vm.guestBase + 0x6123);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7004) });
      expect(infoBases(vm)).toEqual([0x7004, null]);
    });

    test('KX-VCA-01 KX-VCA-02 null, and host address 0, unregister it whatever its base', () => {
      const ends = [
        (vm: Vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null }),
        (vm: Vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: null }),
        (vm: Vm) => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(0) }),
      ];
      for (const end of ends) {
        for (const byHost of [false, true]) {
          const vm = make();
          if (byHost) vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x6000) });
          for (let i = 0; i < 2; i++) {
            expect(changed(vm, () => end(vm))).toEqual([]);
            expect(infoBases(vm)).toEqual([null, null]);
          }
          // KX-EVT-16: events wait for the next one.
          expect(vm.send(5)).toBe(1);
          vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x7000) });
          expect(drained(vm)).toEqual([5]);
        }
      }
    });

    test('KX-VCA-02 a host address out of range or across a page: EINVAL, nothing changes', () => {
      const vm = make();
      const set = (value: unknown): void => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: cast<Hva>(value) });
      for (const value of outside(0, 2 ** 47 - PAGE_SIZE - 1, [2 ** 47, 2 ** 60]).filter((v) => v !== null)) {
        refuses(vm, () => set(value), 'EINVAL', String(value), 2 ** 47 - PAGE_SIZE - 1);
      }
      for (const offset of [0xfc1, 0xfff]) {
        const at = host(vm, 0x6000 + offset);
        refuses(vm, () => set(at), 'EINVAL', `0x${at.toString(16)}`, '0xfc0');
      }
      expect(infoBases(vm)).toEqual([VCPU_INFO_GPA, null]);
      set(host(vm, 0x6fc0));
      expect(infoBases(vm)).toEqual([null, host(vm, 0x6fc0)]);
    });

    test('KX-VCA-01 KX-VCA-02 KX-VCA-04 a set writes nothing to the area, and asks its own vCPU for the clock', () => {
      const vm = make();
      const vcpu = vm.vcpu(1);
      const sets = [
        () => vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(0x6000) }),
        () => vcpu.setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x7000) }),
        () => vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(0x8000) }),
      ];
      for (const set of sets) {
        expect(changed(vm, () => expect(asked(vm, set)).toEqual([0, REQUEST_CLOCK_UPDATE]))).toEqual([]);
      }
      const ends = [
        () => vcpu.setAttr({ type: 'vcpu_info_hva', hva: null }),
        () => vcpu.setAttr({ type: 'vcpu_info', gpa: null }),
        () => vcpu.setAttr({ type: 'vcpu_time_info', gpa: null }),
      ];
      for (const end of ends) expect(asked(vm, end)).toEqual([0, 0]);
    });

    test('KX-VCA-01 KX-VCA-04 in no slot: EFAULT, active with the new address, no clock is asked for; later it is used', () => {
      const vm = make();
      const vcpu = vm.vcpu(0);
      for (const type of ['vcpu_info', 'vcpu_time_info'] as const) {
        const before = ram(vm).slice();
        const set = (): void =>
          void expect(errorOf(() => vcpu.setAttr({ type, gpa: gpa(NOWHERE + 8) })).code).toBe('EFAULT');
        expect(asked(vm, set)).toEqual([0, 0]);
        expect(vcpu.getAttr(type).gpa).toBe(NOWHERE + 8);
        expect(changes(before, ram(vm))).toEqual([]);
      }
      expect(infoBases(vm)).toEqual([NOWHERE + 8, null]);
      expect(vcpuInfoWord(vm)).toBeGreaterThanOrEqual(UNMAPPED);
      expect(vm.send(5)).toBe(1);
      refuses(vm, () => vcpu.drain(), 'EFAULT', 'vcpu_info');
      vm.memslots.set({ id: 1, gpa: gpa(NOWHERE), bytes: PAGE_SIZE, hva: host(vm, 0x9000) });
      expect(drained(vm)).toEqual([5]);
      expect(vcpuInfoWord(vm)).toBe(vm.guestBase + 0x9008);
      vcpu.writeTime({ tscTimestamp: 1, systemTime: 2, mul: 3, shift: 0 });
      expect(vm.region.words.load(vcpu.record + VCPU_TIME_INFO_GPC)).toBe(vm.guestBase + 0x9008);
    });

    test('KX-VCA-02 a host address outside the memory: EFAULT with the window, active with the new base, events are kept', () => {
      const vm = make();
      vm.send(5);
      const set = (): void => {
        const error = errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: FAR }));
        expect(error.code).toBe('EFAULT');
        for (const word of ['vcpu_info', '0x10000000000', `0x${vm.guestBase.toString(16)}`]) {
          expect(error.message).toContain(word);
        }
      };
      expect(asked(vm, set)).toEqual([0, 0]);
      expect(infoBases(vm)).toEqual([null, FAR]);
      expect(vm.send(6)).toBe(1);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7000) });
      expect(drained(vm)).toEqual([5, 6]);
    });

    test('KX-VCA-01 a read-only slot: EFAULT for each of them, with the reason', () => {
      const vm = make();
      vm.memslots.set({ id: 1, gpa: gpa(NOWHERE), bytes: PAGE_SIZE, hva: host(vm, 0x9000), readonly: true });
      for (const type of ['vcpu_info', 'vcpu_time_info', 'runstate_addr'] as const) {
        const error = errorOf(() => vm.vcpu(0).setAttr({ type, gpa: gpa(NOWHERE) }));
        expect([error.code, error.message.includes('read-only')]).toEqual(['EFAULT', true]);
        // Of runstate nothing stays registered. [KX-VCA-05]
        expect(vm.vcpu(0).getAttr(type).gpa).toBe(type === 'runstate_addr' ? null : NOWHERE);
      }
    });

    test('KX-VCA-02 KX-GPC-42 its slot goes: by host address it stays where it is', () => {
      const vm = make();
      vm.setAttr({ type: 'shared_info_hva', hva: host(vm, SHARED_INFO_GPA) });
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, VCPU_INFO_GPA) });
      const word = vcpuInfoWord(vm);
      vm.memslots.delete(0);
      expect(vcpuInfoWord(vm)).toBe(word);
      vm.bindVcpu(6, 1);
      vm.sendMany([5, 6]);
      expect(drained(vm)).toEqual([5]);
      refuses(vm, () => vm.vcpu(1).drain(), 'EFAULT', 'vCPU 1');
    });

    test('KX-VCA-01 a move between the bases takes the selector along', () => {
      const vm = make();
      vm.send(5);
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x6040) });
      vm.send(6);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7044) });
      expect(vm.vcpu(0).upcallPending).toBe(true);
      expect(ram(vm)[0x7044]).toBe(1);
      expect(drained(vm)).toEqual([5, 6]);
    });
  });

  describe('KF-13 R2 the old place of vcpu_info cannot be read when it moves: no event is forgotten', () => {
    const away: readonly [string, (vm: Vm) => void, (vm: Vm) => void][] = [
      ['its host page is absent', (vm) => vm.hostPages.unmap(host(vm, VCPU_INFO_GPA), 1), () => {}],
      ['its slot is gone', (vm) => vm.memslots.delete(1), () => {}],
      [
        'an invalidation is open',
        (vm) => vm.invalidateStart(host(vm, 0), host(vm, 0xffff)),
        (vm) => vm.invalidateEnd(),
      ],
    ];
    test.each(away)('%s', (_why, takeAway, giveBack) => {
      for (const at of [0x7000, null]) {
        const vm = make({ hostPages: 256 });
        vm.memslots.set({ id: 1, gpa: gpa(NOWHERE), bytes: PAGE_SIZE, hva: host(vm, VCPU_INFO_GPA) });
        vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NOWHERE) });
        expect([vm.send(5), vm.send(900)]).toEqual([1, 1]);
        takeAway(vm);
        refusal(() => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: at === null ? null : gpa(at) }));
        giveBack(vm);
        if (at === null) vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7000) });
        expect(vm.vcpu(0).upcallPending).toBe(true);
        expect(drained(vm)).toEqual([5, 900]);
      }
    });

    test('inside a bracket it is refused without a trace, whatever can be read', () => {
      const vm = make({ hostPages: 256 });
      vm.hostPages.unmap(host(vm, VCPU_INFO_GPA), 1);
      vm.enter();
      refuses(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7000) }), 'EBUSY', 'bracket');
      vm.leave();
    });
  });

  test('inside a bracket neither base changes a mapping: EBUSY, and every byte stays', () => {
    const vm = make();
    vm.enter();
    refuses(vm, () => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) }), 'EBUSY', 'bracket');
    refuses(vm, () => vm.setAttr({ type: 'shared_info_hva', hva: null }), 'EBUSY', 'bracket');
    refuses(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x6000) }), 'EBUSY', 'bracket');
    refuses(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: hva(0) }), 'EBUSY', 'bracket');
    vm.leave();
  });

  test('while an invalidation is open: EAGAIN, the get shows the new base, afterwards it is used', () => {
    const vm = make();
    vm.invalidateStart(host(vm, 0), host(vm, 0));
    expect(errorOf(() => vm.setAttr({ type: 'shared_info_hva', hva: host(vm, 0x6000) })).code).toBe('EAGAIN');
    expect(errorOf(() => vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: host(vm, 0x7000) })).code).toBe('EAGAIN');
    expect([...bases(vm), ...infoBases(vm)]).toEqual([null, host(vm, 0x6000), null, host(vm, 0x7000)]);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
    expect(drained(vm)).toEqual([5]);
    expect([frameOf(vm), vcpuInfoWord(vm)]).toEqual([0x6000, vm.guestBase + 0x7000]);
  });

  test('KX-VMA-14 xen_version: any u32, 0 until set, kept as it is; the guest’s RAM is not touched', () => {
    const vm = make();
    expect(vm.getAttr('xen_version')).toEqual({ type: 'xen_version', version: 0 });
    for (const version of [0x00040011, 1, 2 ** 31, 2 ** 32 - 1, 0]) {
      expect(changed(vm, () => vm.setAttr({ type: 'xen_version', version }))).toEqual([]);
      expect(vm.getAttr('xen_version').version).toBe(version);
      expect(attachVm(vm.handle()).getAttr('xen_version').version).toBe(version);
    }
    for (const value of outside(0, 2 ** 32 - 1, [2 ** 32])) {
      refuses(
        vm,
        () => vm.setAttr({ type: 'xen_version', version: cast(value) }),
        'EINVAL',
        String(value),
        2 ** 32 - 1,
      );
    }
  });

  test('KX-VCA-11 vcpu_id: the index until set, 0 to 1023, each vCPU its own, other ids stay', () => {
    const vm = make({ vcpuIds: [8, 9] });
    const ids = (): number[] => [0, 1].map((i) => vm.vcpu(i).getAttr('vcpu_id').id);
    expect(ids()).toEqual([0, 1]);
    for (const id of [1023, 0, 7]) {
      expect(changed(vm, () => vm.vcpu(1).setAttr({ type: 'vcpu_id', id }))).toEqual([]);
      expect(ids()).toEqual([0, id]);
    }
    // KVM does not ask whether another vCPU has it.
    vm.vcpu(0).setAttr({ type: 'vcpu_id', id: 7 });
    expect(ids()).toEqual([7, 7]);
    expect([vm.vcpu(0).id, vm.vcpu(1).id]).toEqual([8, 9]);
    for (const value of outside(0, 1023, [1024, 4096])) {
      refuses(vm, () => vm.vcpu(0).setAttr({ type: 'vcpu_id', id: cast(value) }), 'EINVAL', String(value), 1023);
    }
  });
});
