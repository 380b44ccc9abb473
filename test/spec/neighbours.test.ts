// Fields of the guest's structures beside each other: each is changed at its own width, by the one whose field it is, wherever a
// change of the guest's width has moved it.

import { describe, expect, test } from 'vitest';
import { STEP_LOAD } from '../../src/abi/step.ts';
import { attachVm, createVm, gfn, gpa, VirtualClock, type Vm } from '../../src/index.ts';
import { fields, KINDS, LAYOUTS, makeVm, ram, SHARED_INFO_GFN, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { CANARY, changed, dropMappings, guestSets, guestTakes, layoutOf, traceOf, tracing } from './evidence.ts';
import { runstateAddr } from './runstate_record.ts';
import { everyStep, Steps } from './steps.ts';

// ── the layout table ─────────────────────────────────────────────────────────────────────────────────────────────────

type Party = 'host' | 'guest' | 'both';

/** A field: where it is, its bytes, the bytes of each access to it, and who writes it. */
interface FieldOf {
  readonly name: string;
  readonly at: number;
  readonly size: number;
  readonly width: number;
  readonly writer: Party;
}

const field = (name: string, at: number, size: number, width: number, writer: Party): FieldOf => ({
  name,
  at,
  size,
  width,
  writer,
});

/** vcpu_info and shared_info by the specification's tables. [KX-ABI-01..12] */
function vcpuInfo(long: boolean): FieldOf[] {
  const w = long ? 8 : 4;
  return [
    field('evtchn_upcall_pending', 0, 1, 1, 'both'),
    field('evtchn_upcall_mask', 1, 1, 1, 'guest'),
    field('evtchn_pending_sel', w, w, w, 'both'),
    field('arch', 2 * w, long ? 16 : 20, w, 'guest'),
    field('time', 32, 32, 4, 'host'),
  ];
}
function sharedInfo(long: boolean): FieldOf[] {
  const w = long ? 8 : 4;
  const bitmap = 8 * w * w;
  const clock = 0x800 + 2 * bitmap;
  return [
    field('vcpu_info', 0, 0x800, w, 'guest'),
    field('evtchn_pending', 0x800, bitmap, w, 'both'),
    field('evtchn_mask', 0x800 + bitmap, bitmap, w, 'both'),
    field('wc_version', clock, 4, 4, 'host'),
    field('wc_sec', clock + 4, 4, 4, 'host'),
    field('wc_nsec', clock + 8, 4, 4, 'host'),
    long ? field('wc_sec_hi', clock + 12, 4, 4, 'host') : field('arch', clock + 12, 24, 4, 'guest'),
    long ? field('arch', clock + 16, 48, 8, 'guest') : field('wc_sec_hi', clock + 36, 4, 4, 'host'),
  ];
}

/** What a call may change: bytes of the fields that the host writes. */
function allowed(vm: Vm, names: readonly string[]): (at: number) => boolean {
  const long = vm.maxPorts === 4096;
  const places = [
    ...vcpuInfo(long).map((f) => ({ ...f, at: VCPU_INFO_GPA + f.at })),
    ...sharedInfo(long).map((f) => ({ ...f, at: SHARED_INFO_GPA + f.at })),
  ].filter(({ name }) => names.includes(name));
  return (at) => places.some((place) => at >= place.at && at < place.at + place.size);
}

describe.each(LAYOUTS)('the table, $layout layout', ({ longMode, maxPorts }) => {
  test.each([
    ['vcpu_info', vcpuInfo(longMode)],
    ['shared_info', sharedInfo(longMode)],
  ] as const)('KF-78 %s: fields that different parties write have no unit of access in common', (_, table) => {
    const units = new Map<number, FieldOf>();
    for (const one of table) {
      expect(one.at % one.width, one.name).toBe(0);
      expect(one.size % one.width, one.name).toBe(0);
      for (let at = one.at; at < one.at + one.size; at++) {
        expect(units.get(at)?.name, `${one.name} and its neighbour at ${at}`).toBe(undefined);
        units.set(at, one);
      }
    }
    // A port has as many bits as there are, and the selector one for each word.
    const pending = table.find(({ name }) => name === 'evtchn_pending');
    if (pending) expect(pending.size * 8).toBe(maxPorts);
    const selector = table.find(({ name }) => name === 'evtchn_pending_sel');
    if (selector) expect(selector.size * 8).toBe(maxPorts / (selector.width * 8));
  });
});

// ── canaries ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const DELIVERY = ['evtchn_pending', 'evtchn_pending_sel', 'evtchn_upcall_pending'];
const CLOCK = ['wc_version', 'wc_sec', 'wc_nsec', 'wc_sec_hi'];

/** What is done, and the fields of which it may write. */
const OPERATIONS: readonly [string, readonly string[], (vm: Vm) => unknown][] = [
  ['send', DELIVERY, (vm) => vm.send(77)],
  ['send of the first port', DELIVERY, (vm) => vm.send(1)],
  ['send of the last port', DELIVERY, (vm) => vm.send(vm.maxPorts - 1)],
  ['sendMany', DELIVERY, (vm) => vm.sendMany(Array.from({ length: vm.maxPorts - 1 }, (_, i) => i + 1))],
  ['evtchnSend', DELIVERY, (vm) => vm.evtchnSend({ port: 31, vcpu: 0 })],
  ['mask', ['evtchn_mask'], (vm) => vm.mask(63)],
  ['unmask', [...DELIVERY, 'evtchn_mask'], (vm) => vm.unmask(64)],
  ['drain', DELIVERY, (vm) => vm.vcpu(0).drain(() => {})],
  ['resync', DELIVERY, (vm) => vm.vcpu(0).resync()],
  ['flush', DELIVERY, (vm) => [dropMappings(vm), vm.send(40), vm.vcpu(0).flushShadow()]],
  ['writeTime', ['time'], (vm) => vm.vcpu(0).writeTime({ tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: -1 })],
  ['guest entry', [...DELIVERY, 'time', ...CLOCK], (vm) => vm.vcpu(0).beforeEntry()],
  ['the wall clock', CLOCK, (vm) => vm.writeWallClock()],
  ['the guest time', CLOCK, (vm) => vm.kvmclock.set(5n)],
  ['a bind', DELIVERY, (vm) => vm.bindVcpu(77, 0)],
  ['a poll', [], (vm) => vm.shared && vm.vcpu(0).poll([65, 66], 0)],
  ['looks', [], (vm) => [vm.portStatus(9), vm.vcpu(0).runnable, vm.vcpu(0).upcallPending, vm.explain(9)]],
];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  /** Every byte is a canary; a few bits are clear so that there is something to do. */
  function filled(): Vm {
    const vm = makeVm({ longMode, shared, clock: new VirtualClock(123_456_789n, 1_700_000_000_000_000_000n) });
    ram(vm).fill(CANARY);
    const { mask } = layoutOf(vm);
    ram(vm).fill(0, SHARED_INFO_GPA + mask, SHARED_INFO_GPA + mask + vm.maxPorts / 8);
    guestSets(vm, 'mask', 64);
    return vm;
  }

  test.each(OPERATIONS)('KF-78 %s changes no byte but of its own fields', (_, names, operation) => {
    for (const clean of [false, true]) {
      const vm = filled();
      if (clean) {
        ram(vm).fill(0, SHARED_INFO_GPA + 0x800, SHARED_INFO_GPA + 0x800 + vm.maxPorts / 8);
        guestTakes(vm);
      }
      const may = allowed(vm, names);
      expect(changed(vm, () => operation(vm)).filter(([at]) => !may(at))).toEqual([]);
    }
  });

  test('KF-78 the canaries can tell: a send changes something of each of its fields', () => {
    const vm = filled();
    ram(vm).fill(0, SHARED_INFO_GPA + 0x800, SHARED_INFO_GPA + 0x800 + vm.maxPorts / 8);
    guestTakes(vm);
    const found = changed(vm, () => vm.send(77));
    for (const name of DELIVERY)
      expect(
        found.filter(([at]) => allowed(vm, [name])(at)),
        name,
      ).toHaveLength(1);
  });

  // ── somebody else changes what is beside it ────────────────────────────────────────────────────────────────────────

  const NEIGHBOURS: readonly [string, (vm: Vm) => unknown, (vm: Vm, handled: number[]) => unknown][] = [
    ['a send', () => {}, (vm) => vm.send(77)],
    ['a batch', () => {}, (vm) => vm.sendMany([77, 78])],
    ['a mask', () => {}, (vm) => vm.mask(77)],
    ['an unmask', (vm) => [guestSets(vm, 'mask', 77), guestSets(vm, 'pending', 77)], (vm) => vm.unmask(77)],
    ['a drain', (vm) => vm.send(77), (vm, handled) => vm.vcpu(0).drain((port) => handled.push(port))],
    ['a resync', () => {}, (vm) => vm.vcpu(0).resync()],
  ];

  test.each(NEIGHBOURS)(
    'KF-18 inside every step of %s the bytes beside its own are changed, and none of it is lost',
    (_, arrange, act) => {
      const steps = everyStep((at) => {
        const inside = new Steps();
        const vm = makeVm({ longMode, shared, trace: inside.trace(shared) });
        arrange(vm);
        const { selector, wordBytes } = layoutOf(vm);
        const after = VCPU_INFO_GPA + selector + wordBytes;
        const view = fields(vm);
        /** The guest's mask byte beside the upcall byte, what is around the selector, and other ports' bits in the same words. */
        const others = (): void => {
          ram(vm)[VCPU_INFO_GPA + 1] = 0x5a;
          view.setUint16(VCPU_INFO_GPA + 2, 0x7b7b, true);
          view.setUint32(after, 0x12345678, true);
          guestSets(vm, 'mask', 90);
          guestSets(vm, 'mask', 70);
          guestSets(vm, 'pending', 70);
        };
        const handled: number[] = [];
        inside.run(at, () => act(vm, handled), others);
        if (at < 0) return inside;
        expect(ram(vm)[VCPU_INFO_GPA + 1], `step ${at}`).toBe(0x5a);
        expect(view.getUint16(VCPU_INFO_GPA + 2, true), `step ${at}`).toBe(0x7b7b);
        expect(view.getUint32(after, true), `step ${at}`).toBe(0x12345678);
        const { pending, mask } = layoutOf(vm);
        const bit = (bitmap: number, port: number): number =>
          ((ram(vm)[SHARED_INFO_GPA + bitmap + (port >> 3)] as number) >> (port & 7)) & 1;
        expect([bit(mask, 90), bit(mask, 70)], `step ${at}`).toEqual([1, 1]);
        // Pending, unless a drain that had looked at the mask before has handled it.
        expect(bit(pending, 70), `step ${at}`).toBe(handled.includes(70) ? 0 : 1);
        return inside;
      });
      expect(steps).toBeGreaterThan(1);
    },
  );

  test('KF-18 the upcall byte and the mask byte beside it: the host never reads or writes the second', () => {
    const touched: number[] = [];
    let vm: Vm | undefined;
    const made = makeVm({
      longMode,
      ...tracing(shared, {
        onStep: (kind, address) => {
          if (vm && address === vm.guestBase + VCPU_INFO_GPA + 1) touched.push(kind);
        },
      }),
    });
    vm = made;
    for (const [, , operation] of OPERATIONS) operation(made);
    expect(touched).toEqual([]);
  });

  // ── what the host touches of shared_info ───────────────────────────────────────────────────────────────────────────

  test('KX-ABI-08 of shared_info the host writes pending bits and the wall clock, also where no vcpu_info is registered', () => {
    const vm = createVm({ guestPages: 16, bare: true, vcpus: 40, shared });
    vm.setAttr({ type: 'long_mode', enabled: longMode });
    ram(vm).fill(CANARY, SHARED_INFO_GPA, SHARED_INFO_GPA + 4096);
    const { pending, mask } = layoutOf(vm);
    ram(vm).fill(0, SHARED_INFO_GPA + pending, SHARED_INFO_GPA + mask + vm.maxPorts / 8);
    const may = allowed(vm, ['evtchn_pending', ...CLOCK]);
    const found = changed(vm, () => {
      vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      vm.setConfig({ msr: 0x40000000, interceptHypercalls: true });
      for (let i = 0; i < vm.vcpus; i++) {
        const vcpu = vm.vcpu(i);
        vcpu.setAttr({ type: 'vcpu_id', id: i });
        // Default slot and all, nothing is placed: the event waits in the shadow.
        expect(vm.evtchnSend({ port: i + 1, vcpu: i })).toBe(0);
        expect(vcpu.getAttr('vcpu_info').gpa).toBe(null);
        expect(() => vcpu.drain()).toThrow('EINVAL');
        vcpu.resync();
        vcpu.load();
        vcpu.beforeEntry();
        vcpu.afterExit();
        vcpu.enterRunstate('blocked', 5n);
        vcpu.setAttr({ type: 'timer', port: 50, expires: 1n });
      }
      vm.send(vm.maxPorts - 1);
      vm.unmask(3);
      vm.vcpu(0).poll([1], 0);
      vm.kvmclock.set(99n);
      expect(vm.portStatus(3).pending).toBe(true);
      dropMappings(vm);
      vm.send(9);
    });
    expect(found.length).toBeGreaterThan(0);
    expect(found.filter(([at]) => !may(at))).toEqual([]);
  });

  test('KX-ABI-08 the mask is only read by a delivery, and the 32 slots not even that', () => {
    const touched: { kind: number; at: number }[] = [];
    let vm: Vm | undefined;
    const made = makeVm({
      longMode,
      ...tracing(shared, {
        onStep: (kind, address) => {
          if (vm) touched.push({ kind, at: address - vm.guestBase - SHARED_INFO_GPA });
        },
      }),
    });
    const { mask } = layoutOf(made);
    vm = made;
    made.send(5);
    made.evtchnSend({ port: 6, vcpu: 0 });
    made.sendMany(Array.from({ length: 700 }, (_, i) => i + 1));
    made.vcpu(0).drain(() => {});
    made.vcpu(0).beforeEntry();
    vm = undefined;
    expect(touched.filter(({ at }) => at >= 0 && at < 0x800)).toEqual([]);
    const ofMask = touched.filter(({ at }) => at >= mask && at < mask + made.maxPorts / 8);
    expect(ofMask.length).toBeGreaterThan(0);
    expect(ofMask.filter(({ kind }) => kind !== STEP_LOAD)).toEqual([]);
  });
});

// ── a change of width ────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(KINDS)('from the $layout layout to the other, shared memory: $shared', ({ longMode, shared }) => {
  const RUNSTATE = 7 * 4096;
  const clock = (): VirtualClock => new VirtualClock(123_456_789n, 5_000_000_000n * 1_000_000_000n + 7n);
  const made = (long: boolean): Vm => makeVm({ longMode: long, shared, clock: clock() });

  test('KF-77 KX-VMA-02 every field that moves is where a fresh guest of that width has it', () => {
    const vm = made(longMode);
    const { vcpu } = { vcpu: vm.vcpu(0) };
    runstateAddr(vm, RUNSTATE);
    vm.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(6 * 4096) });
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    ram(vm).fill(0, RUNSTATE, RUNSTATE + 64);
    vcpu.enterRunstate('blocked', 40n);
    vcpu.writeTime({ tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 4 });
    vm.send(77);

    const fresh = made(!longMode);
    runstateAddr(fresh, RUNSTATE);
    fresh.vcpu(0).setAttr({ type: 'vcpu_time_info', gpa: gpa(6 * 4096) });
    ram(fresh).fill(0, RUNSTATE, RUNSTATE + 64);
    fresh.vcpu(0).enterRunstate('blocked', 40n);
    fresh.vcpu(0).writeTime({ tscTimestamp: 1n, systemTime: 2n, mul: 3, shift: 4 });
    fresh.send(77);

    const copy = (of: Vm): Uint8Array => ram(of).slice();
    const [is, want] = [copy(vm), copy(fresh)];
    for (const name of [...DELIVERY, ...CLOCK, 'evtchn_mask', 'time']) {
      const [table, base] = sharedInfo(!longMode).some((f) => f.name === name)
        ? [sharedInfo(!longMode), SHARED_INFO_GPA]
        : [vcpuInfo(!longMode), VCPU_INFO_GPA];
      const { at, size } = table.find((f) => f.name === name) as FieldOf;
      // What is not cleared: the old wall clock, which lies in the mask of the longer layout. [KX-VMA-02]
      if (name === 'evtchn_mask' || name === 'evtchn_pending') continue;
      // Both counted the wall clock's changes from where its version was: 0.
      expect(is.slice(base + at, base + at + size), name).toEqual(want.slice(base + at, base + at + size));
    }
    expect(is.slice(RUNSTATE, RUNSTATE + 64)).toEqual(want.slice(RUNSTATE, RUNSTATE + 64));
    expect(is.slice(6 * 4096, 6 * 4096 + 32)).toEqual(want.slice(6 * 4096, 6 * 4096 + 32));
  });

  test('KF-77 KX-VMA-02 the old wall clock and the bits stay as they lie there; nothing else changes', () => {
    const vm = made(longMode);
    vm.send(77);
    guestSets(vm, 'mask', 78);
    const before = ram(vm).slice();
    const found = changed(vm, () => vm.setAttr({ type: 'long_mode', enabled: !longMode }));
    const may = allowed(vm, CLOCK);
    expect(found.filter(([at]) => !may(at))).toEqual([]);
    expect(found.length).toBeGreaterThan(0);
    for (const name of CLOCK) {
      const { at, size } = sharedInfo(longMode).find((f) => f.name === name) as FieldOf;
      // Where the new one does not lie over it.
      if (Array.from({ length: size }, (_, i) => SHARED_INFO_GPA + at + i).some(may)) continue;
      expect(ram(vm).slice(SHARED_INFO_GPA + at, SHARED_INFO_GPA + at + size)).toEqual(
        before.slice(SHARED_INFO_GPA + at, SHARED_INFO_GPA + at + size),
      );
    }
  });

  test('KF-77 from the change on everybody uses the new layout, whoever was attached before', () => {
    const vm = makeVm({ longMode, shared, clock: clock(), trace: traceOf(shared, {}) });
    const other = attachVm(vm.handle(), { trace: traceOf(shared, {}) });
    expect(other.send(3000)).toBe(longMode ? 1 : -22);
    guestTakes(vm);
    vm.setAttr({ type: 'long_mode', enabled: !longMode });
    expect(other.maxPorts).toBe(longMode ? 1024 : 4096);
    expect(other.send(3000)).toBe(longMode ? -22 : 1);
    expect(other.send(33)).toBe(1);
    // Port 33: the second word of a 32-bit guest, the first of a 64-bit one.
    const word = longMode
      ? fields(vm).getUint32(VCPU_INFO_GPA + 4, true)
      : fields(vm).getUint32(VCPU_INFO_GPA + 8, true);
    expect(word & 3).toBe(longMode ? 2 : 1);
  });
});
