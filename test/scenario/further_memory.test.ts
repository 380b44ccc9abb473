// Further scenarios about memory: slots, host pages, invalidations, the dirty log. [kvm-xen 12.3]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { attachVm, gfn, gpa, hva, type Vm } from '../../src/index.ts';
import { tracing } from '../spec/evidence.ts';
import { framePage, mappedAt } from '../spec/pages.ts';
import { route, signal } from './events.ts';
import { G, RUNSTATE, SHARED_INFO, VCPU_INFO } from './guest.ts';
import {
  FRESH_PAGE,
  frame,
  homeFrame,
  hostPage,
  type Machine,
  machine,
  PAGE,
  SHARED_INFO_GFN,
  SLOT,
  VCPU,
} from './machine.ts';
import { type Got, WAYS } from './surface.ts';

const THREE_PAGES = 3 * PAGE;
/** Frames that nothing uses. */
const SPARE = 13;
const OTHER_SPARE = 15;

afterEach(() => vi.restoreAllMocks());

/** A runstate area that is not registered reads as null, or as ENOENT. */
const NOWHERE: readonly Got<unknown>[] = [-2, { type: 'runstate_addr', gpa: null }];

describe.each(WAYS)('by $surface, shared memory: $shared', (way) => {
  const byGpa = ({ surface }: Machine): number => surface.set({ type: 'shared_info', gfn: SHARED_INFO_GFN });
  const byHva = ({ vm, surface }: Machine): number => surface.set({ type: 'shared_info_hva', hva: hostPage(vm, 0) });
  const raise = ({ surface }: Machine, port = 66): number => surface.send({ port, vcpu: VCPU });

  /** The pages' slot, or with 0 bytes its end. */
  const slot = ({ vm, surface }: Machine, bytes = THREE_PAGES, rest = {}): number =>
    surface.slot({ id: SLOT, gpa: gpa(G), bytes, hva: hostPage(vm, 0), ...rest });

  /** Everything that the wall clock is, where a layout has it: version, seconds and their high half, ns. */
  function wallClock({ guest }: Machine, at: number, highAt: number): bigint[] {
    return [...[0, 4, 8].map((field) => guest.read(SHARED_INFO + at + field, 4)), guest.read(SHARED_INFO + highAt, 4)];
  }

  test('X-05 LONG_MODE moves the wall clock to the other offset, wc_sec_hi with it', () => {
    const made = machine(way);
    expect(made.surface.set({ type: 'long_mode', enabled: true })).toBe(0);
    const [version = 0n, ...time] = wallClock(made, 0xc00, 0xc0c);
    expect(time[2]).toBe(1n);
    made.guest.fill(SHARED_INFO + 0x900, new Uint8Array(0x28));
    expect(made.surface.set({ type: 'long_mode', enabled: false })).toBe(0);
    expect(wallClock(made, 0x900, 0x924)).toEqual([2n, ...time]);
    // The old place is not cleared.
    expect(wallClock(made, 0xc00, 0xc0c)).toEqual([version, ...time]);
    expect(made.surface.set({ type: 'long_mode', enabled: true })).toBe(0);
    expect(wallClock(made, 0xc00, 0xc0c)).toEqual([version + 2n, ...time]);
  });

  test('X-06 SHARED_INFO in no slot: EFAULT, GET shows it; once the slot is there the next send succeeds', () => {
    const made = machine(way);
    const elsewhere = gfn(0xd0000);
    expect(made.surface.set({ type: 'shared_info', gfn: elsewhere })).toBe(-14);
    expect(made.surface.get('shared_info')).toEqual({ type: 'shared_info', gfn: elsewhere });
    expect(raise(made)).toBe(-14);
    const place = { id: 11, gpa: gpa(0xd000_0000), bytes: PAGE, hva: hva(frame(made.vm, SPARE)) };
    expect(made.surface.slot(place)).toBe(0);
    expect(raise(made)).toBe(0);
    expect(made.guest.read(0xd000_0808, 1)).toBe(4n);
    expect(made.guest.run()).toBe(1);
  });

  test('X-07 the slot under shared_info is deleted: by guest address EFAULT until it is back, by host address 0', () => {
    const made = machine(way);
    const { vm, guest } = made;
    expect(byGpa(made)).toBe(0);
    expect(slot(made, 0)).toBe(0);
    expect(raise(made)).toBe(-14);
    expect(slot(made)).toBe(0);
    expect(guest.pending(66)).toBe(false);
    expect(raise(made)).toBe(0);
    expect(guest.run()).toBe(1);
    guest.setPending(66, false);
    expect(byHva(made)).toBe(0);
    expect(slot(made, 0)).toBe(0);
    expect(raise(made)).toBe(0);
    expect(new Uint8Array(vm.memory.buffer, frame(vm, FRESH_PAGE) + 0x808, 1)[0]).toBe(4);
    // vcpu_info was in that slot as well: the event waits for it.
    expect(slot(made)).toBe(0);
    expect(guest.run()).toBe(1);
  });

  test('X-07 KX-MEM-16 what comes while the slot is away is lost: an irqfd’s event, a timer’s tick', () => {
    const made = machine(way);
    const { vm, surface, guest } = made;
    const [first] = route(made);
    expect(byGpa(made)).toBe(0);
    expect(slot(made, 0)).toBe(0);
    signal(first);
    expect(surface.setVcpu({ type: 'timer', port: 13, expires: 1n })).toBe(0);
    expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
    vm.vcpu(0).afterExit();
    expect(slot(made)).toBe(0);
    expect(guest.run()).toBe(0);
    expect([guest.pending(15), guest.pending(13), first.read()]).toEqual([false, false, -11n]);
    expect(surface.getVcpu('timer')).toMatchObject({ expires: 0n });
    signal(first);
    expect(guest.run()).toBe(1);
  });

  test('X-08 a read-only slot under shared_info: EFAULT', () => {
    const made = machine(way);
    expect(slot(made, 0)).toBe(0);
    expect(slot(made, THREE_PAGES, { readonly: true })).toBe(0);
    expect(byGpa(made)).toBe(-14);
    expect(raise(made)).toBe(-14);
    expect(made.guest.pending(66)).toBe(false);
  });

  test('X-09 vcpu_info at the end of a page: 0xfc1 EINVAL, 0xfc0 is taken', () => {
    const { surface, guest } = machine(way);
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: gpa(G + 0xfc1) })).toBe(-22);
    expect(surface.getVcpu('vcpu_info')).toEqual({ type: 'vcpu_info', gpa: VCPU_INFO });
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: gpa(G + 0xfc0) })).toBe(0);
    expect(surface.send({ port: 66, vcpu: VCPU })).toBe(0);
    expect([guest.read(G + 0xfc0, 1), guest.read(G + 0xfc8, 8)]).toEqual([1n, 2n]);
  });

  test('X-10 an invalidation between the look at a host page and its use: the new frame is used', () => {
    const made = machine(way);
    const { vm, guest } = made;
    vm.hostPages.move(hostPage(vm, 0), 1, frame(vm, SPARE));
    const faultIn = vm.gpcs.faultIn.bind(vm.gpcs);
    const hook = vi.spyOn(vm.gpcs, 'faultIn').mockImplementation((at, writable) => {
      const page = faultIn(at, writable);
      hook.mockRestore();
      vm.hostPages.move(hostPage(vm, 0), 1, frame(vm, OTHER_SPARE));
      new Uint8Array(vm.memory.buffer, frame(vm, SPARE), PAGE).fill(0x10);
      return page;
    });
    expect(raise(made)).toBe(0);
    expect(hook).not.toHaveBeenCalled();
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(framePage(vm, OTHER_SPARE));
    expect(guest.pending(66)).toBe(true);
    expect(new Uint8Array(vm.memory.buffer, frame(vm, SPARE), PAGE).every((byte) => byte === 0x10)).toBe(true);
    expect(guest.run()).toBe(1);
  });

  test('X-11 a refresh while an invalidation is open does not return before its end', () => {
    const made = machine(way);
    const { vm, guest } = made;
    const sender = attachVm(vm.handle(), { clock: made.clock });
    const order: string[] = [];
    const end = (): 'timed-out' => {
      if (order.length === 0) {
        order.push('end');
        vm.invalidateEnd();
      }
      return 'timed-out';
    };
    if (way.shared) vi.spyOn(Atomics, 'wait').mockImplementation(end);
    vm.invalidateStart(hostPage(vm, 0), hva(hostPage(vm, 0) + PAGE - 1));
    const result = sender.evtchnSend({ port: 66, vcpu: VCPU });
    order.push('sent');
    if (way.shared) {
      expect([result, ...order]).toEqual([0, 'end', 'sent']);
    } else {
      // Memory of one thread: nobody could end it meanwhile, so the send gives up, and has changed nothing.
      expect([result, ...order]).toEqual([-11, 'sent']);
      vm.invalidateEnd();
      expect(guest.pending(66)).toBe(false);
      expect(raise(made)).toBe(0);
    }
    expect(guest.pending(66)).toBe(true);
    expect(guest.run()).toBe(1);
  });

  test('X-12 an invalidation of the pages beside it leaves shared_info mapped', () => {
    const made = machine(way);
    const { vm } = made;
    // Runs with everything mapped.
    expect(made.guest.run()).toBe(0);
    const mapped = mappedAt(vm, vm.region.sharedInfo);
    expect(mapped).toBe(frame(vm, FRESH_PAGE));
    for (const beside of [-PAGE, 3 * PAGE]) {
      const first = hva(hostPage(vm, 0) + beside);
      expect(vm.invalidateStart(first, hva(first + PAGE - 1))).toBe(0);
      vm.invalidateEnd();
    }
    expect(mappedAt(vm, vm.region.sharedInfo)).toBe(mapped);
    expect(vm.invalidateStart(hostPage(vm, 0), hva(hostPage(vm, 0) + PAGE - 1))).toBe(2);
    vm.invalidateEnd();
    expect(mappedAt(vm, vm.region.sharedInfo)).toBeNull();
    expect(raise(made)).toBe(0);
  });

  test('X-13 runstate across two pages, the second absent: preempted nothing changes, then both are written', () => {
    const asked: number[] = [];
    const made = machine(way, {
      onPageFault: (address) => {
        asked.push(address);
        made.vm.hostPages.map(hostPage(made.vm, 2), 1, homeFrame(made.vm, 2));
      },
    });
    const { vm, guest, clock } = made;
    const vcpu = vm.vcpu(0);
    vcpu.load();
    vcpu.beforeEntry();
    const third = (): Uint8Array => new Uint8Array(vm.memory.buffer).slice(homeFrame(vm, 2), homeFrame(vm, 2) + 33);
    const before = [guest.bytes(RUNSTATE, 15), third()];
    vm.hostPages.unmap(hostPage(vm, 2), 1);
    clock.advance(5000n);
    vcpu.unload({ preempted: true });
    // Where it may not sleep, it does not ask for the page.
    expect(asked).toEqual([]);
    expect([guest.bytes(RUNSTATE, 15), third()]).toEqual(before);
    expect(vcpu.runstate().state).toBe('runnable');
    clock.advance(700n);
    expect(guest.run()).toBe(0);
    expect(asked).toEqual([hostPage(vm, 2)]);
    const { entryTime, times } = vcpu.runstate();
    expect(guest.runstate()).toEqual({ state: 0, entryTime, times: Object.values(times) });
    expect(times.runnable).toBeGreaterThan(600n);
  });

  test('X-14 a reader that obeys the update flag never sees times that do not add up', () => {
    let watch = (): void => {};
    const made = machine(way, { trace: tracing(way.shared, { onStep: () => watch() }).trace });
    const { guest, surface, clock } = made;
    const [seen, torn] = [new Set<bigint>(), { count: 0 }];
    const memory = new DataView(made.vm.memory.buffer);
    const reader = readSteps(memory, made.vm);
    let reading = reader();
    watch = () => {
      // One access of the reader between two of the writer's.
      const next = reading.next();
      if (!next.done) return;
      reading = reader();
      if (next.value === null) torn.count++;
      else {
        seen.add(next.value.entryTime);
        expect(next.value.sum).toBe(next.value.entryTime);
      }
    };
    for (let i = 0; i < 200; i++) {
      clock.advance(0x1_0000_0001n);
      expect(surface.setVcpu({ type: 'runstate_current', state: i % 2 ? 'running' : 'blocked' })).toBe(0);
    }
    watch = () => {};
    // It has met writes on their way, and has seen most of them done.
    expect(torn.count).toBeGreaterThan(20);
    expect(seen.size).toBeGreaterThan(20);
    guest.checkRunstate();
  });

  test('X-15 RUNSTATE_ADDR whose second page is in no slot: EFAULT, and no area is registered', () => {
    const { vm, surface, guest } = machine(way);
    const before = guest.bytes(RUNSTATE, 48);
    expect(surface.setVcpu({ type: 'runstate_addr', gpa: gpa(G + THREE_PAGES - 15) })).toBe(-14);
    expect(NOWHERE).toContainEqual(surface.getVcpu('runstate_addr'));
    expect(vm.vcpu(0).getAttr('runstate_addr')).toEqual({ type: 'runstate_addr', gpa: null });
    expect(guest.run()).toBe(0);
    expect(guest.bytes(RUNSTATE, 48)).toEqual(before);
    expect(guest.bytes(G + THREE_PAGES - 15, 15).every((byte) => byte === 0)).toBe(true);
  });

  test('X-16 the dirty log: runstate and time info are marked, shared_info is not, vcpu_info only by guest address', () => {
    const made = machine(way);
    const { vm, surface, guest, clock } = made;
    /** What an act of the host and an entry mark. */
    const marked = (act: () => void): number | undefined => {
      surface.dirty(SLOT, 3);
      act();
      clock.advance(1000n);
      vm.vcpu(0).load();
      expect(vm.vcpu(0).beforeEntry().kind).toBe('enter');
      vm.vcpu(0).afterExit();
      return surface.dirty(SLOT, 3)[0];
    };
    const setClock = (): void => vm.kvmclock.set(vm.kvmclock.now() + 5n);
    const event = (port: number) => (): void => expect(raise(made, port)).toBe(0);
    expect(slot(made, THREE_PAGES, { logDirty: true })).toBe(0);
    expect(byGpa(made)).toBe(0);
    expect(surface.setVcpu({ type: 'vcpu_info_hva', hva: hva(hostPage(vm, 0) + 0x40) })).toBe(0);
    expect(marked(event(66))).toBe(0b110);
    // Without a runstate in it, the second page is marked for the time info.
    expect(surface.setVcpu({ type: 'runstate_addr', gpa: null })).toBe(0);
    expect(marked(setClock)).toBe(0b010);
    expect(marked(event(130))).toBe(0);
    // With nothing in its selector, which would have to be kept for the new place.
    expect(guest.run()).toBe(1);
    // By guest address: the clock is marked; an event is where it had to be kept until the page was mapped.
    expect(surface.setVcpu({ type: 'vcpu_info', gpa: gpa(VCPU_INFO) })).toBe(0);
    expect(marked(setClock)).toBe(0b011);
    expect(marked(event(200))).toBe(0);
    vm.invalidateStart(hostPage(vm, 0), hva(hostPage(vm, 0) + PAGE - 1));
    vm.invalidateEnd();
    expect(marked(event(260))).toBe(0b001);
  });

  test('X-16 the area across two pages alone: both are marked', () => {
    const made = machine(way);
    const { surface } = made;
    expect(slot(made, THREE_PAGES, { logDirty: true })).toBe(0);
    expect(surface.setVcpu({ type: 'vcpu_time_info', gpa: null })).toBe(0);
    surface.dirty(SLOT, 3);
    expect(surface.setVcpu({ type: 'runstate_current', state: 'blocked' })).toBe(0);
    expect(surface.dirty(SLOT, 3)[0]).toBe(0b110);
    expect(surface.dirty(SLOT, 3)[0]).toBe(0);
  });
});

/** What a reader has found: null while a write was on its way. */
type Read = { readonly entryTime: bigint; readonly sum: bigint } | null;

/** A reader of the runstate at `RUNSTATE` as a guest is told to be one, access by access. [KX-RUN-33] */
function readSteps(memory: DataView, vm: Vm): () => Generator<void, Read> {
  const at = homeFrame(vm, 2) - 15;
  const bit = 1n << 63n;
  return function* read() {
    const entryTime = memory.getBigUint64(at + 8, true);
    if (entryTime & bit) return null;
    let sum = 0n;
    for (let i = 0; i < 4; i++) {
      yield;
      sum += memory.getBigUint64(at + 16 + 8 * i, true);
    }
    yield;
    return memory.getBigUint64(at + 8, true) === entryTime ? { entryTime, sum } : null;
  };
}
