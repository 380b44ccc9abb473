// The loop before guest code, what it injects, what ends a halt, and that no request is run through. [KX-EVT-45..47, 55..61]

import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  REQUEST_CLOCK_UPDATE,
  REQUEST_GPC_INVALIDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  REQUEST_STEAL_UPDATE,
  REQUEST_UNBLOCK,
  REQUEST_VECTOR,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_REQUESTS,
  VCPU_SHADOW_LO,
} from '../../src/abi/region.ts';
import { attachVm, gpa, hva, type Vcpu, type Vm } from '../../src/index.ts';
import type { KernelHooks } from '../../src/kernel.ts';
import type { Words } from '../../src/memory/words.ts';
import { drained, fields, KINDS, LAYOUTS, pendingBit, ram, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import {
  changed,
  dropMappings,
  guestTakes,
  noNaps,
  refuses,
  register,
  selector,
  shadow,
  traceOf,
  tracing,
  unregister,
} from './evidence.ts';
import { type Guest, MSR, makeGuest, setVector, VECTOR } from './guest.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const OWN = 0x40;
const QUIET = { kind: 'enter', externalInterrupt: 0, lapicInterrupt: 0 };
const TIME_INFO = 5 * 4096;
const RUNSTATE = 6 * 4096;
const MS = 1_000_000n;

const inGuest = ({ vm, record }: Vcpu): boolean => (vm.region.words.load(record + VCPU_MODE) & VCPU_IN_GUEST) !== 0;
const requestsOf = ({ vm, line }: Vcpu): number => vm.region.words.load(line + VCPU_REQUESTS);
const clockVersion = (vm: Vm): number => fields(vm).getUint32(TIME_INFO, true);

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared, bits }) => {
  /** Entered once, so that what the set-up has asked for is done. */
  const make = (more = {}): Guest => {
    const guest = makeGuest({ longMode, shared, ...more });
    guest.vcpu.beforeEntry();
    return guest;
  };

  // ── the VM's vector ────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-EVT-47 S-10 the host writes 1 into the byte: the upcall comes at the next entry', () => {
    const guest = make();
    setVector(guest);
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    ram(guest.vm)[VCPU_INFO_GPA] = 1;
    expect(guest.vcpu.beforeEntry()).toEqual({ ...QUIET, externalInterrupt: VECTOR });
  });

  test('KX-EVT-45 the upcall is a level: it repeats until the guest clears the byte, nobody clears it for it', () => {
    const guest = make();
    setVector(guest);
    guest.vm.send(5);
    for (let i = 0; i < 3; i++) {
      const found = changed(guest.vm, () =>
        expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR }),
      );
      expect(found).toEqual([]);
    }
    ram(guest.vm)[VCPU_INFO_GPA] = 0;
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    // Any value but 0 counts.
    ram(guest.vm)[VCPU_INFO_GPA] = 0x80;
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });

  test.each([
    ['the gate is closed', (g: Guest) => g.vm.setConfig({ msr: 0 }), (g: Guest) => g.vm.setConfig({ msr: MSR })],
    ['there is no vector', (g: Guest) => setVector(g, 0), (g: Guest) => setVector(g)],
    ['there is no vcpu_info', (g: Guest) => unregister(g.vm), (g: Guest) => register(g.vm, VCPU_INFO_GPA)],
  ])('KX-EVT-45 there is no upcall while %s; it comes when that is over', (_why, prevent, allow) => {
    const guest = make();
    setVector(guest);
    ram(guest.vm)[VCPU_INFO_GPA] = 1;
    prevent(guest);
    expect([guest.vcpu.hasEvents, guest.vcpu.beforeEntry()]).toEqual([false, QUIET]);
    allow(guest);
    expect(guest.vcpu.hasEvents).toBe(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });

  test('KX-EVT-45 nor without an interrupt controller on this side', () => {
    const guest = make({ irqchip: false });
    setVector(guest);
    guest.vm.send(5);
    expect([guest.vcpu.hasEvents, guest.vcpu.beforeEntry()]).toEqual([false, QUIET]);
  });

  test('KX-EVT-45 each vCPU looks at its own byte', () => {
    const guest = make({ vcpus: 2 });
    setVector(guest);
    guest.vm.bindVcpu(9, 1);
    guest.vm.send(9);
    expect(guest.vm.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: 0 });
    expect(guest.vm.vcpu(1).beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });

  test('KX-EVT-46 a vcpu_info that is unmapped: where nothing may sleep it counts as set, the entry maps it and looks', () => {
    const guest = make();
    setVector(guest);
    for (const byte of [0, 1]) {
      ram(guest.vm)[VCPU_INFO_GPA] = byte;
      dropMappings(guest.vm);
      expect([guest.vcpu.hasEvents, guest.vcpu.runnable]).toEqual([true, true]);
      expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: byte ? VECTOR : 0 });
      expect(guest.vcpu.hasEvents).toBe(byte === 1);
    }
  });

  test('KX-EVT-46 one that cannot be mapped does not ask for an upcall, and keeps the vCPU from sleeping', () => {
    const guest = make();
    setVector(guest);
    ram(guest.vm)[VCPU_INFO_GPA] = 1;
    guest.vm.memslots.delete(0);
    for (let i = 0; i < 2; i++) {
      expect(guest.vcpu.runnable).toBe(true);
      expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    }
  });

  test('KF-62 KX-EVT-46 a vcpu_info at any place: flushed to, looked at and injected from', () => {
    for (const offset of [1, 2, 3, 4, 5, 6, 7, 8, 4032 - 1, 4032]) {
      const guest = make();
      setVector(guest);
      unregister(guest.vm);
      guest.vm.send(5);
      guest.vm.send(3 * bits);
      register(guest.vm, VCPU_INFO_GPA + offset);
      expect(guest.vcpu.beforeEntry(), `offset ${offset}`).toMatchObject({ externalInterrupt: VECTOR });
      expect(selector(guest.vm, VCPU_INFO_GPA + offset)).toBe(0b1001n);
    }
  });

  // ── the shadow ─────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-EVT-55 X-03 an event without vcpu_info, then one is registered: selector and byte appear at the entry', () => {
    const guest = make();
    setVector(guest);
    unregister(guest.vm);
    guest.vm.send(5);
    guest.vm.send(2 * bits);
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    expect(shadow(guest.vm)).toBe(0b101n);
    register(guest.vm, VCPU_INFO_GPA);
    expect([selector(guest.vm), ram(guest.vm)[VCPU_INFO_GPA]]).toEqual([0n, 0]);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect([selector(guest.vm), ram(guest.vm)[VCPU_INFO_GPA], shadow(guest.vm)]).toEqual([0b101n, 1, 0n]);
    expect(drained(guest.vm)).toEqual([5, 2 * bits]);
  });

  test('KX-EVT-55 KX-MEM-27 the flush marks the page dirty, unless it was registered by host address', () => {
    for (const byHost of [false, true]) {
      const guest = make();
      const { vm, vcpu } = guest;
      const [slot] = vm.memslots.list();
      if (!slot) expect.fail('no slot');
      vm.memslots.set({ ...slot, logDirty: true });
      if (byHost) vcpu.setAttr({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + VCPU_INFO_GPA) });
      vcpu.beforeEntry();
      dropMappings(vm);
      vm.send(5);
      vm.dirtyLog.take(0);
      vcpu.beforeEntry();
      expect(selector(vm)).toBe(1n);
      expect([...vm.dirtyLog.take(0)]).toEqual([byHost ? 0 : 1 << (VCPU_INFO_GPA / 4096), 0]);
    }
  });

  test('KX-EVT-55 KX-GEN-05 while the gate is closed the shadow is neither flushed nor an event', () => {
    const guest = make();
    dropMappings(guest.vm);
    guest.vm.send(5);
    guest.vm.setConfig({ msr: 0 });
    expect([guest.vcpu.hasEvents, guest.vcpu.runnable]).toEqual([false, false]);
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    expect(shadow(guest.vm)).toBe(1n);
    guest.vm.setConfig({ msr: MSR });
    expect([guest.vcpu.hasEvents, guest.vcpu.runnable]).toEqual([true, true]);
    guest.vcpu.beforeEntry();
    expect(shadow(guest.vm)).toBe(0n);
  });

  test('KX-EVT-56 with a shadow that cannot be flushed the vCPU cannot sleep: it goes through its halts, one by one', () => {
    const guest = make();
    setVector(guest);
    unregister(guest.vm);
    guest.vm.send(5);
    for (let i = 0; i < 3; i++) {
      expect([guest.vcpu.hasEvents, guest.vcpu.runnable]).toEqual([true, true]);
      expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    }
  });

  test('KX-EVT-56 bits of the shadow that mean nothing in the guest’s mode are no events', () => {
    const guest = make();
    guest.vm.region.words.store(guest.vcpu.line + VCPU_SHADOW_LO + 4, 1);
    expect(guest.vcpu.hasEvents).toBe(longMode);
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
  });

  // ── halting ────────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-EVT-60 a vCPU with nothing to do is not runnable', () => {
    const guest = make();
    setVector(guest);
    expect([guest.vcpu.runnable, guest.vcpu.hasEvents, guest.vcpu.leaveRequested]).toEqual([false, false, false]);
  });

  test('KX-EVT-60 an upcall by the VM’s vector or by its own makes it runnable; a masked event does not', () => {
    for (const own of [false, true]) {
      const guest = make();
      if (own) guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
      else setVector(guest);
      guest.vm.mask(5);
      guest.vm.send(5);
      expect(guest.vcpu.runnable).toBe(false);
      guest.vm.send(6);
      expect([guest.vcpu.runnable, guest.vcpu.hasEvents]).toEqual([true, true]);
    }
  });

  test('KX-EVT-60 KX-TMR-10 a timer that could not be delivered where it expired makes it runnable, the entry delivers it', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.setAttr({ type: 'timer', port: 13, expires: guest.vm.kvmclock.now() + MS });
    dropMappings(guest.vm);
    guest.clock.advance(MS);
    guest.vm.tick();
    expect(pendingBit(guest.vm, 13)).toBe(false);
    guest.vcpu.takeRequests(REQUEST_UNBLOCK);
    register(guest.vm, VCPU_INFO_GPA);
    expect(guest.vcpu.runnable).toBe(true);
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect(drained(guest.vm)).toEqual([13]);
    expect(guest.vcpu.runnable).toBe(false);
  });

  test('KX-EVT-60 a kick wakes and injects nothing; asking takes nothing away, the entry takes it', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.kick();
    expect([guest.vcpu.runnable, guest.vcpu.runnable, guest.vcpu.hasEvents]).toEqual([true, true, false]);
    expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
    expect(guest.vcpu.runnable).toBe(false);
  });

  test('KX-EVT-60 requests that do not wake leave a halted vCPU where it is', () => {
    const guest = make();
    guest.vcpu.request(REQUEST_CLOCK_UPDATE | REQUEST_MASTERCLOCK_UPDATE | REQUEST_STEAL_UPDATE);
    expect([guest.vcpu.runnable, guest.vcpu.leaveRequested]).toEqual([false, true]);
  });

  // ── the order ──────────────────────────────────────────────────────────────────────────────────────────────────

  test('KX-EVT-57 KX-EVT-58 unblock, shadow, timer; master clock, clock, steal; interrupts; then the guest', () => {
    const order: string[] = [];
    const places = new Map<number, string>();
    let line = -1;
    const note = (what: string): void => {
      if (order.at(-1) !== what) order.push(what);
    };
    const onStep = (_kind: number, address: number): void => {
      const what = places.get(address);
      if (what === undefined) return;
      if (guest.vm.region.words.load(line + VCPU_REQUESTS) & REQUEST_UNBLOCK) note('not unblocked');
      if (inGuest(guest.vcpu)) note('in the guest');
      note(what);
    };
    const guest: Guest = make(tracing(shared, { onStep }));
    const { vm, vcpu } = guest;
    setVector(guest);
    vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
    vcpu.setAttr({ type: 'runstate_addr', gpa: gpa(RUNSTATE) });
    vcpu.setAttr({ type: 'timer', port: 2 * bits, expires: vm.kvmclock.now() + MS });
    vcpu.beforeEntry();
    dropMappings(vm);
    guest.clock.advance(MS);
    vm.tick();
    // Pending on a page that is mapped again, so that the event itself goes to the shadow.
    vm.send(5);
    vcpu.load();
    vcpu.kick();
    vcpu.request(REQUEST_MASTERCLOCK_UPDATE);
    vi.spyOn(vm.kvmclock, 'resample').mockImplementation(() => note('master clock'));
    line = vcpu.line;
    const at = vm.guestBase;
    places.set(line + VCPU_SHADOW_LO, 'shadow');
    places.set(at + SHARED_INFO_GPA + 0x800 + (2 * bits) / 8, 'timer');
    places.set(at + TIME_INFO, 'clock');
    places.set(at + RUNSTATE, 'steal');
    places.set(at + VCPU_INFO_GPA, 'upcall byte');
    expect(vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
    expect(order.filter((what, i) => order.indexOf(what) === i)).toEqual([
      'shadow',
      'upcall byte',
      'timer',
      'master clock',
      'clock',
      'steal',
      'in the guest',
    ]);
    // The flush and the timer set the byte, the evaluation reads it before and after the announcement.
    expect(order.slice(order.indexOf('steal') + 1)).toEqual(['upcall byte', 'in the guest', 'upcall byte']);
    expect(drained(vm)).toEqual([5, 2 * bits]);
  });

  test('KX-EVT-58 KX-CLK-10 a clock whose frequency is not known keeps the vCPU out of the guest', () => {
    const guest = make();
    setVector(guest);
    guest.vcpu.setTsc({ hz: 0 });
    guest.vm.send(5);
    for (let i = 0; i < 2; i++) {
      expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'again' });
      expect([inGuest(guest.vcpu), requestsOf(guest.vcpu) & REQUEST_CLOCK_UPDATE]).toEqual([
        false,
        REQUEST_CLOCK_UPDATE,
      ]);
    }
    guest.vcpu.setTsc({ hz: 1_000_000_000 });
    expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });

  test('KX-EVT-58 KX-MEM-36 a full dirty ring: exit reason 31 before the guest, until it is reset; no edge is lost', () => {
    const guest = make({ dirtyRingBytes: 2048 });
    const { vm, vcpu } = guest;
    const [slot] = vm.memslots.list();
    if (!slot) expect.fail('no slot');
    vm.memslots.set({ ...slot, logDirty: true });
    vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
    vcpu.beforeEntry();
    while (!vm.dirtyLog.full(0)) vm.guestMemory.write(gpa(0), Uint8Array.of(1), 0);
    vm.send(5);
    for (let i = 0; i < 2; i++) {
      expect(vcpu.beforeEntry()).toEqual({ kind: 'exit', reason: 31 });
      expect(inGuest(vcpu)).toBe(false);
    }
    vm.dirtyLog.collect(0);
    vm.dirtyLog.reset();
    expect(vcpu.beforeEntry()).toMatchObject({ kind: 'enter', lapicInterrupt: OWN });
  });

  test('KX-EVT-58 what is asked for while the guest runs asks to leave it, and is done at the next entry', () => {
    const guest = make();
    guest.vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
    guest.vcpu.beforeEntry();
    expect(guest.vcpu.leaveRequested).toBe(false);
    for (const bit of [
      REQUEST_UNBLOCK,
      REQUEST_CLOCK_UPDATE,
      REQUEST_MASTERCLOCK_UPDATE,
      REQUEST_STEAL_UPDATE,
      REQUEST_GPC_INVALIDATE,
    ]) {
      guest.vcpu.request(bit);
      expect(guest.vcpu.leaveRequested, `request ${bit}`).toBe(true);
      expect(guest.vcpu.beforeEntry()).toEqual(QUIET);
      expect(requestsOf(guest.vcpu), `request ${bit}`).toBe(0);
    }
    const version = clockVersion(guest.vm);
    guest.vcpu.request(REQUEST_CLOCK_UPDATE);
    guest.vcpu.beforeEntry();
    expect(clockVersion(guest.vm)).toBe(version + 2);
  });

  test('KX-GPH-07 KX-EVT-61 the vCPU is in guest mode from its entry to its exit, or to its next entry', () => {
    const guest = make();
    expect(inGuest(guest.vcpu)).toBe(true);
    guest.vcpu.afterExit();
    expect(inGuest(guest.vcpu)).toBe(false);
    guest.vcpu.afterExit();
    guest.vcpu.beforeEntry();
    guest.vcpu.setTsc({ hz: 0 });
    guest.vcpu.beforeEntry();
    expect(inGuest(guest.vcpu)).toBe(false);
  });

  // ── where it ends ──────────────────────────────────────────────────────────────────────────────────────────────

  test('inside a bracket the guest is not entered, and nothing changes', () => {
    const guest = make();
    guest.vm.send(5);
    guest.vm.enter();
    refuses(guest.vm, () => guest.vcpu.beforeEntry(), 'EBUSY', 'bracket');
    guest.vm.leave();
    expect(guest.vcpu.beforeEntry().kind).toBe('enter');
  });

  test('a view that is detached does not enter the guest', () => {
    const guest = make();
    guest.vm.detach();
    expect(guest.vcpu.beforeEntry()).toEqual({ kind: 'closed' });
    expect([guest.vcpu.runnable, guest.vcpu.leaveRequested]).toEqual([true, true]);
    expect(() => guest.vcpu.hasEvents).toThrow('EBADF');
    guest.vcpu.afterExit();
  });
});

// ── two threads ────────────────────────────────────────────────────────────────────────────────────────────────────

type WordAccess = 'load' | 'store' | 'or' | 'and' | 'exchange' | 'compareExchange' | 'load64' | 'store64';

describe.each(LAYOUTS)('$layout layout, two threads', ({ longMode, bits }) => {
  interface Pair {
    readonly guest: Guest;
    readonly other: Vm;
    /** does what is given before the access `step` of what is run */
    readonly run: <T>(step: number, disturb: () => void, call: () => T) => { result: T; disturbed: boolean };
  }

  /** A vCPU whose every access to shared words, from either language, is a step. */
  function pair(): Pair {
    let step: (() => void) | null = null;
    let inside = false;
    const hooks: KernelHooks = { onStep: () => step?.() };
    const guest = makeGuest({ longMode, ...tracing(true, hooks) });
    const words: Words = guest.vm.region.words;
    for (const name of ['load', 'store', 'or', 'and', 'exchange', 'compareExchange', 'load64', 'store64'] as const) {
      const original = words[name].bind(words) as (...values: unknown[]) => never;
      Object.assign(words, {
        [name satisfies WordAccess]: (...values: unknown[]) => {
          step?.();
          return original(...values);
        },
      });
    }
    guest.vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) });
    setVector(guest);
    guest.vcpu.beforeEntry();
    const other = attachVm(guest.vm.handle(), { clock: guest.clock, trace: traceOf(true, {}) });
    const run: Pair['run'] = (at, disturb, call) => {
      let [count, disturbed] = [-1, false];
      step = () => {
        if (inside || ++count < at || (at >= 0 && disturbed)) return;
        inside = true;
        disturbed = true;
        disturb();
        inside = false;
      };
      const result = call();
      step = null;
      return { result, disturbed };
    };
    return { guest, other, run };
  }

  /** Calls with each step in turn until there are no more. */
  function everyStep(check: (step: number) => boolean): number {
    for (let step = 0; step < 500; step++) if (!check(step)) return step;
    return expect.fail('it does not end');
  }

  test('KX-EVT-61 a request at any step of an entry is answered before the guest runs, or asks to leave it', () => {
    const steps = everyStep((step) => {
      const { guest, other, run } = pair();
      let version = -1;
      const { result, disturbed } = run(
        step,
        () => {
          version = clockVersion(guest.vm);
          other.vcpu(0).request(REQUEST_CLOCK_UPDATE);
        },
        () => guest.vcpu.beforeEntry(),
      );
      expect(result.kind).toBe('enter');
      if (disturbed) {
        const answered = clockVersion(guest.vm) > version;
        expect(answered || guest.vcpu.leaveRequested, `step ${step}`).toBe(true);
      }
      return disturbed;
    });
    expect(steps).toBeGreaterThan(10);
  });

  test('KX-EVT-61 an event at any step of an entry is injected, or shows in the level; an edge is told or asks to leave', () => {
    everyStep((step) => {
      const { guest, other, run } = pair();
      guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
      const send = (): number => other.send(3 * bits);
      const { result, disturbed } = run(step, send, () => guest.vcpu.beforeEntry());
      if (result.kind !== 'enter') expect.fail(result.kind);
      if (disturbed) {
        expect(result.externalInterrupt === VECTOR || guest.vcpu.upcallPending, `step ${step}`).toBe(true);
        expect(result.lapicInterrupt === OWN || guest.vcpu.leaveRequested, `step ${step}`).toBe(true);
      }
      return disturbed;
    });
  });

  test.each([
    ['away', false],
    ['here again', true],
  ])(
    'KX-EVT-61 KX-EVT-55 an event that goes to the shadow at any step is injected unless it came after the last look; its page is then %s',
    (_, back) => {
      everyStep((step) => {
        const { guest, other, run } = pair();
        const { kernel } = guest.vm;
        let [looked, took] = [false, false];
        // The byte is looked at last of all.
        guest.vm.kernel = {
          ...kernel,
          upcallPending: (vm, agent, vcpu) => {
            looked = took;
            return kernel.upcallPending(vm, agent, vcpu);
          },
        };
        const takePage = (): void => {
          took = true;
          other.kernel.gpcUnmap(guest.vm.vmBase, guest.vcpu.line);
          expect(other.send(3 * bits)).toBe(1);
          if (back) other.gpcs.refresh(guest.vcpu.line);
        };
        const { result, disturbed } = run(step, takePage, () => guest.vcpu.beforeEntry());
        if (result.kind !== 'enter') expect.fail(result.kind);
        if (looked) expect(result.externalInterrupt, `step ${step}`).toBe(VECTOR);
        expect(guest.vcpu.beforeEntry()).toMatchObject({ externalInterrupt: disturbed ? VECTOR : 0 });
        expect(drained(guest.vm)).toEqual(disturbed ? [3 * bits] : []);
        return disturbed;
      });
    },
  );

  test('KX-GPH-07 KX-EVT-61 whoever requests and then finds the vCPU in the guest is seen: it leaves, or is asked to', () => {
    everyStep((step) => {
      const { guest, other, run } = pair();
      guest.vcpu.afterExit();
      let found = false;
      let left = false;
      const { disturbed } = run(
        step,
        () => {
          other.vcpu(0).request(REQUEST_GPC_INVALIDATE);
          found = inGuest(other.vcpu(0));
          const { words } = guest.vm.region;
          const { and } = words;
          Object.assign(words, {
            and: (at: number, keep: number) => {
              if (at === guest.vcpu.record + VCPU_MODE && !(keep & VCPU_IN_GUEST)) left = true;
              return and(at, keep);
            },
          });
        },
        () => guest.vcpu.beforeEntry(),
      );
      if (found) expect(left || guest.vcpu.leaveRequested, `step ${step}`).toBe(true);
      return disturbed;
    });
  });

  test('KX-GPH-06 leaving the guest wakes who waits for it, if somebody does', () => {
    const { guest, other } = pair();
    const notify = vi.spyOn(Atomics, 'notify');
    guest.vcpu.afterExit();
    expect(notify).not.toHaveBeenCalled();
    guest.vcpu.beforeEntry();
    other.vcpu(0).request(REQUEST_GPC_INVALIDATE);
    guest.vcpu.afterExit();
    expect(notify).toHaveBeenCalledTimes(1);
    expect(notify.mock.calls[0]?.[1]).toBe((guest.vcpu.record + VCPU_MODE) / 4);
  });

  test('KF-66 a thread that requests without end does not hold up the entry: it says so, and the next one may succeed', () => {
    const { guest, other, run } = pair();
    let steps = 0;
    const harass = (): void => {
      if (++steps > 5000) expect.fail('it does not end');
      other.vcpu(0).request(REQUEST_UNBLOCK | REQUEST_CLOCK_UPDATE | REQUEST_STEAL_UPDATE | REQUEST_MASTERCLOCK_UPDATE);
    };
    expect(run(-1, harass, () => guest.vcpu.beforeEntry()).result).toEqual({ kind: 'again' });
    expect(inGuest(guest.vcpu)).toBe(false);
    expect(guest.vcpu.beforeEntry().kind).toBe('enter');
  });

  test('KF-66 a guest that rewrites its words, and a sender, at every step do not either', () => {
    const { guest, other, run } = pair();
    let [steps, port] = [0, 0];
    const harass = (): void => {
      if (++steps > 5000) expect.fail('it does not end');
      guestTakes(guest.vm);
      ram(guest.vm)[VCPU_INFO_GPA] = steps & 1;
      port = (port + bits) % (bits * bits);
      other.send(port || 1);
    };
    dropMappings(guest.vm);
    other.send(7);
    expect(run(-1, harass, () => guest.vcpu.beforeEntry()).result.kind).toBe('enter');
    expect(steps).toBeGreaterThan(10);
    expect(shadow(guest.vm)).toBe(0n);
  });

  test('the end of the VM: no thread enters the guest any more, and those in it are asked to leave', () => {
    const guest = makeGuest({ longMode });
    const other = attachVm(guest.vm.handle(), { clock: guest.clock });
    expect(other.vcpu(0).beforeEntry().kind).toBe('enter');
    guest.vm.close();
    expect([other.vcpu(0).leaveRequested, other.vcpu(0).runnable]).toEqual([true, true]);
    expect(other.vcpu(0).beforeEntry()).toEqual({ kind: 'closed' });
    expect(inGuest(other.vcpu(0))).toBe(false);
  });

  test('KX-EVT-46 while another thread changes the page for too long the guest is entered without its upcall, which stays', () => {
    noNaps();
    const guest = makeGuest({ longMode });
    setVector(guest);
    guest.vcpu.beforeEntry();
    guest.vm.send(5);
    const other = attachVm(guest.vm.handle(), { clock: guest.clock });
    guest.vm.invalidateStart(guest.vm.guestBase, guest.vm.guestBase + guest.vm.guestBytes - 1);
    expect(other.vcpu(0).beforeEntry()).toEqual(QUIET);
    guest.vm.invalidateEnd();
    expect(other.vcpu(0).beforeEntry()).toMatchObject({ externalInterrupt: VECTOR });
  });

  test('REQUEST_VECTOR alone does not keep the vCPU out of the guest: the entry tells it', () => {
    const { guest } = pair();
    guest.vcpu.setAttr({ type: 'upcall_vector', vector: OWN });
    guest.vcpu.request(REQUEST_VECTOR);
    expect(guest.vcpu.beforeEntry()).toEqual({ ...QUIET, lapicInterrupt: OWN });
  });
});
