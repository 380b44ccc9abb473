// Saving and restoring: the restored VM is the saved one, whoever sends meanwhile, and goes on as it would have.

import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  GPC_FAR_ADDRESS,
  KICK_SLEEPER,
  REGION_SHARED_INFO,
  REGION_TIMEKEEPER,
  VCPU_KICK,
  VCPU_TIMER_CALLBACK,
  VCPU_TIMER_PENDING,
} from '../../src/abi/region.ts';
import { attachVm, FlatCpu, gfn, gpa, hva, readSnapshot, VirtualClock, type Vm } from '../../src/index.ts';
import {
  drained,
  errorOf,
  KINDS,
  type MakeOptions,
  makeVm,
  pendingBit,
  ram,
  SHARED_INFO_GFN,
  SHARED_INFO_GPA,
  vcpuInfoGpa,
} from '../support.ts';
import {
  changed,
  dropMappings,
  guestTakes,
  invalidate,
  noNaps,
  refuses,
  selectorBit,
  shadow,
  traceOf,
  UNMAPPED,
  unregister,
  vcpuInfoWord,
} from './evidence.ts';
import { clockThen, copyRam, emptyVm, furnishedVm } from './furnished.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A fresh VM that a snapshot of `from`, RAM and all, was restored into. */
function copyOf(from: Vm, to: Vm): Vm {
  to.restore(from.snapshot({ ram: true }));
  return to;
}

const MACHINES = KINDS.flatMap((kind) => [
  { ...kind, table: 'slots', sizes: {} },
  { ...kind, table: 'host pages', sizes: { hostPages: 128 } },
  { ...kind, table: 'dirty rings', sizes: { dirtyRingBytes: 2048 } },
]);

describe('identity', () => {
  test.each(MACHINES)(
    'R13 restore, then snapshot: byte for byte the same ($layout, shared $shared, $table)',
    ({ longMode, shared, sizes }) => {
      const from = furnishedVm({ longMode, shared, ...sizes });
      const saved = from.snapshot({ ram: true });
      const to = emptyVm({ longMode: !longMode, shared, ...sizes });
      to.restore(saved);
      expect(to.snapshot({ ram: true })).toEqual(saved);
      expect(Buffer.compare(ram(to), ram(from))).toBe(0);
      // Taking one changes nothing either.
      expect(from.snapshot({ ram: true })).toEqual(saved);
    },
  );

  test.each(KINDS)('R13 into memory of the other kind ($layout, shared $shared)', ({ longMode, shared }) => {
    const saved = furnishedVm({ longMode, shared }).snapshot({ ram: true });
    const to = emptyVm({ shared: !shared });
    to.restore(saved);
    expect(to.snapshot({ ram: true })).toEqual(saved);
  });

  test('R13 KF-79 into a region and a window elsewhere, with more room for everything', () => {
    const from = furnishedVm();
    from.setAttr({ type: 'shared_info_hva', hva: hva(from.guestBase + SHARED_INFO_GPA) });
    const to = emptyVm({ agents: 20, memslots: 9, routes: 100, eventfds: 9, dirtyPages: 4096 });
    expect(to.guestBase).not.toBe(from.guestBase);
    const saved = from.snapshot({ ram: true });
    to.restore(saved);
    expect(to.snapshot({ ram: true })).toEqual(saved);
    expect(to.getAttr('shared_info_hva').hva).toBe(to.guestBase + SHARED_INFO_GPA);
    expect(to.send(100)).toBe(1);
    expect(pendingBit(to, 100)).toBe(true);
  });

  test('R13 host pages lie on the same frames of the window, wherever that is', () => {
    const from = makeVm({ hostPages: 300 });
    from.hostPages.move(hva(from.guestBase + 5 * 4096), 2, (from.guestBase + 9 * 4096) as never);
    from.hostPages.map(hva(0), 1, (from.guestBase + 4096) as never, { writable: false });
    const to = makeVm({ hostPages: 400, agents: 30 });
    const saved = from.snapshot({ ram: true });
    to.restore(saved);
    expect(to.snapshot({ ram: true })).toEqual(saved);
    expect(to.hostPages.lookup(hva(from.guestBase + 6 * 4096))).toEqual({
      hpa: to.guestBase + 10 * 4096,
      writable: true,
    });
    expect(to.hostPages.lookup(hva(0))).toEqual({ hpa: to.guestBase + 4096, writable: false });
    expect(to.hostPages.lookup(hva(from.guestBase - 4096))).toBeNull();
  });

  test('R13 a VM that was just made restores its own snapshot, and a used one becomes what it was', () => {
    const vm = emptyVm();
    const saved = vm.snapshot({ ram: true });
    vm.restore(saved);
    expect(vm.snapshot({ ram: true })).toEqual(saved);
    const full = furnishedVm();
    full.restore(saved);
    expect(full.snapshot({ ram: true })).toEqual(saved);
    expect(full.eventfds.list()).toEqual([]);
    expect(full.routes.list()).toEqual([]);
    expect(full.sendPorts.list()).toEqual([]);
    // Also in what it does: the vector that it had is not asked for.
    for (const used of [full, vm]) expect(used.send(5)).toBe(1);
    expect(full.snapshotState()).toEqual(vm.snapshotState());
  });

  test('lists are in the order of their numbers, however they came about', () => {
    const vm = makeVm();
    for (const id of [7, 2, 5]) vm.memslots.set({ id, gpa: gpa(id * 2 ** 20), bytes: 4096, hva: hva(vm.guestBase) });
    for (const port of [30, 4, 17]) {
      vm.bindVcpu(port, 0);
      vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: port, channel: 'ipi', target: { port, vcpu: 0 } });
    }
    const { memslots, ports, sendPorts } = vm.snapshotState();
    expect(memslots.map(({ id }) => id)).toEqual([0, 2, 5, 7]);
    expect(ports.map(({ port }) => port)).toEqual([4, 17, 30]);
    expect(sendPorts.map(({ sendPort }) => sendPort)).toEqual([4, 17, 30]);
  });

  test('R13 what a caller set can be read back from the restored VM', () => {
    const from = furnishedVm();
    const to = copyOf(from, emptyVm());
    for (const type of [
      'long_mode',
      'shared_info',
      'upcall_vector',
      'xen_version',
      'runstate_update_flag',
      'evtchn',
    ] as const) {
      expect(to.getAttr(type)).toEqual(from.getAttr(type));
    }
    for (const index of [0, 1]) {
      for (const type of [
        'vcpu_info',
        'vcpu_time_info',
        'runstate_addr',
        'vcpu_id',
        'timer',
        'upcall_vector',
      ] as const) {
        expect(to.vcpu(index).getAttr(type)).toEqual(from.vcpu(index).getAttr(type));
      }
      expect(to.vcpu(index).runstate()).toEqual(from.vcpu(index).runstate());
      expect(to.vcpu(index).lapicEnabled).toBe(from.vcpu(index).lapicEnabled);
      expect(to.vcpu(index).readTsc()).toBe(from.vcpu(index).readTsc());
    }
    expect(to.getConfig()).toEqual(from.getConfig());
    expect(to.memslots.list()).toEqual(
      from.memslots.list().map((slot) => ({ ...slot, hva: slot.hva - from.guestBase + to.guestBase })),
    );
    expect(to.memslots.generation()).toBe(from.memslots.generation());
    expect(to.routes.list()).toEqual(from.routes.list());
    expect(to.eventfds.list()).toEqual(from.eventfds.list());
    expect(to.kvmclock.now()).toBe(from.kvmclock.now());
  });

  test('R13 a hypercall blob is where it was in the window, and none is none', () => {
    const from = makeVm();
    from.setConfig({ msr: 0x40000000, blobLong: hva(from.guestBase + 8192), blobPagesLong: 2 });
    const to = copyOf(from, makeVm({ agents: 30 }));
    expect(to.getConfig()).toEqual({ ...from.getConfig(), blobLong: to.guestBase + 8192 });
    expect(to.getConfig().blobCompat).toBe(0);
  });

  test('R13 an address that no number holds is read back as it was given', () => {
    const from = emptyVm();
    const far = 2n ** 63n + 4096n * 7n;
    const [gpc, words] = [from.vmBase + REGION_SHARED_INFO, from.region.words];
    // As the kernel's interface registers it: by an address that stands for it.
    expect(errorOf(() => from.setAttr({ type: 'shared_info', gfn: gfn(2 ** 40 + 7) })).code).toBe('EFAULT');
    words.store64(gpc + GPC_FAR_ADDRESS, far);
    expect(from.snapshotState().attributes.sharedInfo).toEqual({
      by: 'gpa',
      address: 2 ** 52 + 7 * 4096,
      far: String(far),
    });
    const to = copyOf(from, emptyVm());
    expect(to.region.words.load64(to.vmBase + REGION_SHARED_INFO + GPC_FAR_ADDRESS)).toBe(far);
    expect(to.snapshotState()).toEqual(from.snapshotState());
  });
});

describe('what was on its way', () => {
  test.each(KINDS)('R1 R13 events that are pending are pending, for their vCPU ($layout, shared $shared)', (kind) => {
    const from = makeVm({ ...kind, vcpus: 2 });
    from.bindVcpu(9, 1);
    from.mask(40);
    for (const port of [3, 9, 40, 100]) from.send(port);
    const to = copyOf(from, makeVm({ ...kind, vcpus: 2 }));
    expect(to.vcpu(1).upcallPending).toBe(true);
    expect(drained(to, 0)).toEqual([3, 100]);
    expect(drained(to, 1)).toEqual([9]);
    expect(to.unmask(40)).toBe(1);
    expect(drained(to, 0)).toEqual([40]);
    expect(to.send(9)).toBe(1);
    expect(drained(to, 1)).toEqual([9]);
  });

  test.each(KINDS)('R1 R13 events that wait for a vcpu_info wait on ($layout, shared $shared)', (kind) => {
    const from = makeVm({ ...kind, vcpus: 2 });
    unregister(from);
    from.send(5);
    from.send(200);
    const to = copyOf(from, makeVm({ ...kind, vcpus: 2 }));
    expect(shadow(to)).toBe(selectorBit(to, 5) | selectorBit(to, 200));
    to.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(0)) });
    expect(drained(to)).toEqual([5, 200]);
  });

  test('R13 a structure that cannot be reached stays registered, and is found when it can be', () => {
    const from = makeVm();
    expect(errorOf(() => from.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x100000) })).code).toBe('EFAULT');
    const to = copyOf(from, makeVm());
    expect(to.vcpu(0).getAttr('vcpu_info').gpa).toBe(0x100000);
    expect(to.send(5)).toBe(1);
    to.memslots.set({ id: 1, gpa: gpa(0x100000), bytes: 4096, hva: hva(to.guestBase + 8 * 4096) });
    expect(to.vcpu(0).flushShadow()).toBe(true);
    expect(drained(to)).toEqual([5]);
  });

  test('KX-TMR-25 R13 an expiry that waits for its vCPU is in the saved RAM', () => {
    const clock = new VirtualClock();
    const from = makeVm({ clock });
    from.vcpu(0).setAttr({ type: 'timer', port: 7, expires: 1000n });
    from.setConfig({ msr: 0x40000000, interceptHypercalls: true });
    clock.advance(2000n);
    dropMappings(from);
    from.tick();
    expect(from.region.words.load(from.vcpu(0).record + VCPU_TIMER_PENDING)).toBe(1);
    expect(pendingBit(from, 7)).toBe(false);
    const to = copyOf(from, makeVm({ clock }));
    expect(pendingBit(to, 7)).toBe(true);
    expect(to.vcpu(0).getAttr('timer').expires).toBe(0n);
    expect(drained(to)).toEqual([7]);
  });

  test('KX-TMR-25 R13 an expiry that cannot be delivered because shared_info is away is a timer that is set', () => {
    const clock = new VirtualClock();
    const from = makeVm({ clock });
    from.vcpu(0).setAttr({ type: 'timer', port: 7, expires: 1000n });
    from.memslots.delete(0);
    clock.advance(2000n);
    from.tick();
    const saved = from.snapshotState();
    expect(saved.vcpus[0]?.timer).toEqual({ port: 7, expires: '1000' });
    const to = makeVm({ clock });
    to.restore(saved);
    to.memslots.set({ id: 0, gpa: gpa(0), bytes: to.guestBytes, hva: hva(to.guestBase) });
    expect(to.nextDeadline()).toBe(2000n);
    expect(to.tick()).toBe(1);
    expect(to.vcpu(0).getAttr('timer').expires).toBe(0n);
    expect(drained(to)).toEqual([7]);
  });

  test.each([1n, 12_345_678n])(
    'R12 R13 KF-32 a timer expires when it would have, %i ns after; one that is due waits for a tick',
    (left) => {
      const from = makeVm({ clock: new VirtualClock(1_000_000n) });
      from.kvmclock.set(500n);
      from.vcpu(0).setAttr({ type: 'timer', port: 7, expires: 500n + left });
      const clock = new VirtualClock(77n);
      const to = copyOf(from, makeVm({ clock }));
      expect(to.nextDeadline()).toBe(77n + left);
      clock.advance(left - 1n);
      expect(to.tick()).toBe(0);
      clock.advance(1n);
      const again = copyOf(to, makeVm({ clock }));
      expect(pendingBit(again, 7)).toBe(false);
      expect(again.tick()).toBe(1);
      expect(drained(again)).toEqual([7]);
    },
  );

  test('KX-HCL-14 R13 a hypercall that the embedder handles is completed after a restore', () => {
    const from = furnishedVm();
    const to = copyOf(from, emptyVm());
    const cpu = new FlatCpu(to, { rip: 0xffff_ffff_8100_0000n });
    expect(to.vcpu(1).completeHypercall(cpu, 42n)).toBe(true);
    expect(cpu.registers.rax).toBe(42n);
    expect(errorOf(() => to.vcpu(0).completeHypercall(cpu, 42n)).code).toBe('EINVAL');
  });

  test('KX-EVT-18, 49 R13 an own vector that is due is due; one of an APIC that is off comes when it is on', () => {
    const from = makeVm({ vcpus: 2 });
    from.setConfig({ msr: 0x40000000 });
    for (const index of [0, 1]) {
      from.vcpu(index).setAttr({ type: 'upcall_vector', vector: 0x50 + index });
      from.bindVcpu(5 + index, index);
    }
    from.vcpu(1).setLapicEnabled(false);
    from.send(5);
    from.send(6);
    const to = copyOf(from, makeVm({ vcpus: 2 }));
    expect(to.vcpu(0).takeUpcallVector()).toBe(0x50);
    expect(to.vcpu(0).takeUpcallVector()).toBe(0);
    expect(to.vcpu(1).takeUpcallVector()).toBe(0);
    to.vcpu(1).setLapicEnabled(true);
    expect(to.vcpu(1).takeUpcallVector()).toBe(0x51);
    expect(to.send(5)).toBe(0);
    guestTakes(to);
    to.send(70);
    expect(to.vcpu(0).takeUpcallVector()).toBe(0x50);
  });

  test('KX-HCL-36 R13 a vCPU that sleeps in a poll wakes up and looks again', () => {
    const from = makeVm();
    from.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true });
    from.mask(6);
    const view = new DataView(from.memory.buffer, from.guestBase + 0x8000);
    view.setBigUint64(0, 0x8100n, true);
    view.setUint32(8, 1, true);
    view.setUint32(0x100, 6, true);
    const cpu = new FlatCpu(from, { registers: { rax: 29n, rdi: 3n, rsi: 0x8000n } });
    expect(from.vcpu(0).hypercall(cpu)).toEqual({ kind: 'blocked', deadline: null });
    expect(from.vcpu(0).runnable).toBe(false);
    const to = copyOf(from, makeVm());
    expect(to.vcpu(0).runnable).toBe(true);
    expect(to.snapshot()).toEqual(from.snapshot());
    // The one that was saved sleeps on.
    expect(from.vcpu(0).runnable).toBe(false);
    from.send(6);
    expect(from.vcpu(0).runnable).toBe(true);
  });

  test('R13 eventfds keep their numbers, counts and interrupts, and who held one before finds it gone', () => {
    const from = furnishedVm();
    const to = emptyVm();
    const old = to.eventfds.create(3);
    copyRam(from, to);
    to.restore(from.snapshot());
    expect(old.write(1)).toBe(-9);
    const line = to.eventfds.get(old.fd);
    expect(line.write(1)).toBe(0);
    expect(pendingBit(to, 30)).toBe(true);
    // The one that is closed counts what its send port signals.
    expect(to.sendPorts.ring(23)).toBe(0);
    expect(to.eventfds.list()[1]).toEqual({ ...from.eventfds.list()[1], counter: 42n });
    // References are whole: without its send port it is gone.
    to.setAttr({ type: 'evtchn', action: 'reset' });
    to.eventfds.get(old.fd).close();
    expect(to.eventfds.list()).toEqual([]);
    expect(to.eventfds.create().fd).toBe(old.fd);
  });

  test('R13 send ports and routes lead where they led, also on a thread that has used the old ones', () => {
    const from = furnishedVm();
    const to = emptyVm();
    to.routes.set([{ gsi: 24, type: 'xen_evtchn', port: 99, vcpu: 3 }]);
    const other = attachVm(to.handle(), { clock: clockThen() });
    expect(other.routes.raise(24, 1)).toBe(1);
    to.restore(from.snapshot({ ram: true }));
    expect(other.routes.raise(24, 1)).toBe(1);
    expect([pendingBit(to, 30), pendingBit(to, 99)]).toEqual([true, false]);
    expect(other.sendPorts.ring(21)).toBe(0);
    expect(pendingBit(to, 21)).toBe(true);
    // Its vCPU does not exist.
    expect(other.sendPorts.ring(22)).toBeNull();
    other.detach();
  });

  test('KF-34 KX-EVA-16 send ports that a 32-bit guest cannot have stay', () => {
    const from = makeVm();
    from.setAttr({ type: 'evtchn', action: 'assign', sendPort: 4000, channel: 'ipi', target: { port: 4000, vcpu: 0 } });
    from.bindVcpu(4001, 0);
    from.setAttr({ type: 'long_mode', enabled: false });
    const to = copyOf(from, makeVm({ longMode: false }));
    expect(to.sendPorts.ring(4000)).toBeNull();
    to.setAttr({ type: 'long_mode', enabled: true });
    expect(to.sendPorts.ring(4000)).toBe(0);
    expect(to.portStatus(4001).bound).toBe(true);
  });

  test('KX-MEM-35 R13 pages that were written are still to be copied', () => {
    const from = furnishedVm();
    const to = copyOf(from, emptyVm());
    expect(to.dirtyLog.take(7)).toEqual(Uint8Array.of(2));
    expect(to.dirtyLog.take(7)).toEqual(Uint8Array.of(0));
  });

  test('KX-MEM-36 R13 rings hold what they held, collected or not, and go on where they were', () => {
    const options = { dirtyRingBytes: 2048, clock: clockThen() };
    const from = furnishedVm(options);
    const at = gpa(2 ** 33);
    from.guestMemory.write(at, Uint8Array.of(1), 1);
    expect(from.dirtyLog.collect(1)).toEqual([
      { slot: 7, page: 1 },
      { slot: 7, page: 0 },
    ]);
    expect(from.dirtyLog.reset()).toBe(2);
    from.guestMemory.write(at, Uint8Array.of(1), 1);
    from.dirtyLog.collect(1);
    from.guestMemory.write(gpa(at + 4096), Uint8Array.of(1), 1);
    const saved = from.snapshot({ ram: true });
    expect(readSnapshot(saved).vcpus[1]?.ring).toEqual({
      reset: 2,
      entries: [
        { slot: 7, page: 0, harvested: true },
        { slot: 7, page: 1, harvested: false },
      ],
    });
    const to = emptyVm(options);
    to.restore(saved);
    expect(to.dirtyLog.collect(1)).toEqual([{ slot: 7, page: 1 }]);
    expect(to.dirtyLog.reset()).toBe(2);
    expect(to.dirtyLog.reset()).toBe(0);
  });

  test('KX-RUN-26 R13 a runstate area across two pages is written across them', () => {
    const from = furnishedVm();
    const to = copyOf(from, emptyVm());
    const change = (vm: Vm) =>
      changed(vm, () => {
        vm.vcpu(0).load(400);
        vm.vcpu(0).enterRunstate('running', 5000, 400);
        vm.vcpu(0).enterRunstate('blocked', 9000, 450);
      });
    const written = change(to);
    expect(written).toEqual(change(from));
    expect(written.some(([at]) => at < 0x8000) && written.some(([at]) => at >= 0x8000)).toBe(true);
    expect(to.vcpu(0).runstate()).toEqual(from.vcpu(0).runstate());
  });

  test('R13 nothing of what the VM did before is left: its timer, its second runstate page, its mappings', () => {
    const clock = new VirtualClock();
    const to = makeVm({ clock });
    to.setConfig({ msr: 0x40000000, interceptHypercalls: true });
    to.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x7ff0) });
    to.vcpu(0).setAttr({ type: 'timer', port: 7, expires: 1000n });
    clock.advance(2000n);
    dropMappings(to);
    to.tick();
    const from = makeVm({ clock });
    from.setConfig({ msr: 0x40000000, interceptHypercalls: true });
    from.vcpu(0).setAttr({ type: 'timer', port: 9, expires: 5000n });
    from.vcpu(0).setAttr({ type: 'runstate_addr', gpa: gpa(0x9ff0) });
    copyOf(from, to);
    expect(changed(to, () => to.vcpu(0).beforeEntry()).filter(([at]) => at >> 12 === SHARED_INFO_GFN)).toEqual([]);
    const pages = changed(to, () => to.vcpu(0).enterRunstate('blocked', 2 ** 50, 0)).map(([at]) => at >> 12);
    expect(new Set(pages)).toEqual(new Set([9, 10]));
    expect(to.nextDeadline()).toBe(7000n);
  });

  test('KF-03 R13 a refresh of the old place that is under way does not come to pass', () => {
    const to = makeVm();
    expect(errorOf(() => to.setAttr({ type: 'shared_info', gfn: gfn(0x999) })).code).toBe('EFAULT');
    const other = attachVm(to.handle());
    const token = other.agentNumber + 1;
    expect(other.kernel.gpcBeginRefresh(to.vmBase, to.region.sharedInfo, token)).toBe(0);
    to.restore(makeVm().snapshot());
    expect(other.kernel.gpcPublish(to.vmBase, to.region.sharedInfo, token, to.guestBase)).toBe(-11);
    expect(to.send(5)).toBe(1);
    expect(pendingBit(to, 5)).toBe(true);
    other.detach();
  });

  test('KX-RUN-02 R13 threads of another host: what was waited before counts, their own beginning does not', () => {
    const from = makeVm();
    from.vcpu(0).load(1000);
    from.vcpu(0).enterRunstate('running', 10_000, 1000);
    from.vcpu(0).unload({ runDelay: 1030 });
    const to = makeVm();
    to.restore(from.snapshot(), { runDelay: 7 });
    to.vcpu(0).enterRunstate('blocked', 11_000, 7);
    expect(to.vcpu(0).runstate().times).toEqual({ running: 970n, runnable: 30n, blocked: 0n, offline: 10_000n });
    refuses(to, () => to.restore(from.snapshot(), { runDelay: -1 }), 'EINVAL', 'runDelay');
  });
});

describe('time', () => {
  test.each([
    { name: 'without a TSC', tscHz: undefined },
    { name: 'by the TSC', tscHz: 1_000_000_000 },
  ])('R12 R13 the guest’s clock and TSC go on from where they stood, on any host ($name)', ({ tscHz }) => {
    const host = new VirtualClock(9_000_000n, 0n, { ...(tscHz && { tscHz }) });
    const from = makeVm({ clock: host, vcpus: 2 });
    from.kvmclock.set(123_456n);
    for (const index of [0, 1]) from.vcpu(index).setTsc({ hz: 500_000_000, offset: 777n });
    from.vcpu(0).beforeEntry();
    host.advance(1000n);
    const saved = from.snapshot({ ram: true });
    // This one has run for longer, and its TSC is faster.
    const other = new VirtualClock(55_000_000_000n, 0n, { ...(tscHz && { tscHz: 3 * tscHz }) });
    const to = makeVm({ clock: other, vcpus: 2 });
    to.restore(saved);
    expect(to.kvmclock.now()).toBe(124_456n);
    expect(to.kvmclock.master).toBe(tscHz !== undefined);
    expect(to.vcpu(1).readTsc()).toBe(from.vcpu(1).readTsc());
    for (const clock of [host, other]) clock.advance(1_000_000n);
    expect(to.kvmclock.now()).toBe(1_124_456n);
    expect(to.vcpu(0).readTsc()).toBe(from.vcpu(0).readTsc());
    // What the guest reads from its record, once it runs.
    to.setConfig({ msr: 0x40000000 });
    expect(to.vcpu(0).beforeEntry().kind).toBe('enter');
    expect(to.vcpu(0).readTime(to.vcpu(0).readTsc())).toBe(to.kvmclock.now());
  });

  test('KF-56 R13 the wall clock follows when the guest’s zero has moved in the time of day, and is left alone when not', () => {
    const clock = new VirtualClock(1_000n, 1_600_000_000_000_000_000n);
    const from = makeVm({ clock });
    from.setConfig({ msr: 0x40000000 });
    const saved = from.snapshot({ ram: true });
    const same = makeVm({ clock });
    same.restore(saved);
    expect(changed(same, () => same.vcpu(0).beforeEntry()).filter(([at]) => at >> 12 === SHARED_INFO_GFN)).toEqual([]);
    clock.advance(3_600_000_000_000n);
    const later = makeVm({ clock });
    later.restore(saved);
    // RAM is the saved one until a vCPU runs.
    expect(Buffer.compare(ram(later), ram(from))).toBe(0);
    expect(readSnapshot(later.snapshot()).clock.wallClockOwed).toBe(true);
    later.vcpu(0).beforeEntry();
    const wall = new DataView(later.memory.buffer, later.guestBase + SHARED_INFO_GPA + 0xc00, 12);
    expect(BigInt(wall.getUint32(4, true))).toBe(1_600_003_600n);
    expect(readSnapshot(later.snapshot()).clock.wallClockOwed).toBe(false);
  });

  test('a thread whose clock is another than the VM was made with is refused', () => {
    const vm = makeVm({ clock: new VirtualClock(0n, 0n, { tscHz: 1_000_000 }) });
    const saved = vm.snapshot();
    Object.defineProperty(vm.clock, 'tscHz', { value: 2_000_000 });
    refuses(vm, () => vm.snapshot(), 'EOPNOTSUPP', '1000000');
    refuses(vm, () => vm.restore(saved), 'EOPNOTSUPP', '1000000');
  });
});

describe('room', () => {
  const ROOM: readonly (readonly [option: string, from: MakeOptions, to: MakeOptions, furnish: (vm: Vm) => void])[] = [
    ['memslots', { memslots: 3 }, { memslots: 2 }, (vm) => addSlots(vm, 2)],
    ['dirtyPages', { dirtyPages: 64 }, { dirtyPages: 32 }, (vm) => addSlots(vm, 2)],
    [
      'routes',
      { routes: 3 },
      { routes: 2 },
      (vm) => vm.routes.set([24, 25, 26].map((gsi) => ({ gsi, type: 'xen_evtchn', port: 1, vcpu: 0 }))),
    ],
    ['eventfds', { eventfds: 2 }, { eventfds: 1 }, (vm) => [vm.eventfds.create(), vm.eventfds.create()]],
    [
      'hostPages',
      { hostPages: 300 },
      { hostPages: 160 },
      (vm) => vm.hostPages.map(hva(200 * 4096), 1, vm.guestBase as never),
    ],
    ['dirtyRingBytes', { dirtyRingBytes: 4096 }, { dirtyRingBytes: 2048 }, fillRing],
  ];

  function addSlots(vm: Vm, count: number): void {
    for (let id = 1; id <= count; id++) {
      vm.memslots.set({ id, gpa: gpa(id * 2 ** 20), bytes: 4096, hva: hva(vm.guestBase), logDirty: true });
    }
  }

  function fillRing(vm: Vm): void {
    vm.memslots.set({ id: 0, gpa: gpa(0), bytes: vm.guestBytes, hva: hva(vm.guestBase), logDirty: true });
    for (let i = 0; i < 150; i++) vm.guestMemory.write(gpa(4096 * (i % 16)), Uint8Array.of(1));
  }

  test.each(ROOM)('R4 a VM without room is refused, one with it is not: %s', (option, from, to, furnish) => {
    const vm = makeVm(from);
    furnish(vm);
    const saved = vm.snapshot();
    const small = makeVm(to);
    refuses(small, () => small.restore(saved), 'ENOSPC', option);
    const same = makeVm(from);
    same.restore(saved);
    expect(same.snapshot()).toEqual(saved);
  });

  test.each([
    ['another number of vCPUs', { vcpus: 1 }, 'vcpuIds'],
    ['a smaller window', { guestPages: 15 }, 'guestBytes'],
    ['another processor', { amd: true }, 'amd'],
    ['no irqchip', { irqchip: false }, 'irqchip'],
    ['no runstate', { schedInfo: false }, 'schedInfo'],
    ['Hyper-V', { hyperv: true }, 'hyperv'],
    ['host pages', { hostPages: 160 }, 'hostTable'],
    ['rings', { dirtyRingBytes: 2048 }, 'dirtyRings'],
  ])('R4 another machine is refused by what differs: %s', (_, options, word) => {
    const saved = makeVm({ vcpus: 2 }).snapshot();
    const vm = makeVm({ vcpus: 2, ...options });
    refuses(vm, () => vm.restore(saved), 'EINVAL', word);
  });
});

describe('who may, and when', () => {
  test('R4 only the owner', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const other = attachVm(vm.handle());
    for (const call of [() => other.snapshot(), () => other.snapshotState(), () => other.restore(saved)]) {
      refuses(vm, call, 'EPERM', 'owner');
    }
    other.detach();
    vm.detach();
    for (const call of [() => vm.snapshot(), () => vm.restore(saved)]) expect(errorOf(call).code).toBe('EBADF');
  });

  test('R4 not inside a bracket, nor while an invalidation is open', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    vm.enter();
    for (const call of [() => vm.snapshot(), () => vm.restore(saved)]) refuses(vm, call, 'EBUSY', 'bracket');
    vm.leave();
    invalidate(vm, 0);
    for (const call of [() => vm.snapshot(), () => vm.restore(saved)]) refuses(vm, call, 'EBUSY', 'invalidation');
    vm.invalidateEnd();
    vm.restore(vm.snapshot());
  });

  test('R1 R4 not in a handler of a drain: the ports that wait for theirs are in nobody’s RAM', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    vm.sendMany([5, 6]);
    const seen: string[] = [];
    vm.vcpu(0).drain((port) => {
      seen.push(`${port} ${errorOf(() => vm.snapshot()).code} ${errorOf(() => vm.restore(saved)).code}`);
    });
    expect(seen).toEqual(['5 EBUSY EBUSY', '6 EBUSY EBUSY']);
  });

  test('R4 not while another thread is inside a bracket: it is named, and nothing changes', () => {
    noNaps();
    const vm = makeVm();
    const saved = furnishedVm({ vcpus: 2 }).snapshot();
    const to = emptyVm();
    for (const [target, call] of [
      [vm, () => vm.snapshot()],
      [to, () => to.restore(saved)],
    ] as const) {
      const other = attachVm(target.handle());
      const before = target.snapshotState();
      other.enter();
      const error = errorOf(call);
      expect([error.code, error.message]).toEqual(['EBUSY', expect.stringContaining(`agent ${other.agentNumber}`)]);
      other.leave();
      expect(target.snapshotState()).toEqual(before);
      expect(target.send(5)).toBe(1);
      other.detach();
    }
  });

  test('R4 not while another thread delivers a timer: it is named, and nothing changes', () => {
    noNaps();
    const vm = makeVm({ vcpus: 2 });
    const saved = makeVm({ vcpus: 2 }).snapshot();
    const other = attachVm(vm.handle());
    const before = vm.snapshotState();
    // As it says while it delivers.
    vm.region.words.store(vm.vcpu(1).record + VCPU_TIMER_CALLBACK, other.agent);
    const error = errorOf(() => vm.restore(saved));
    expect([error.code, error.message]).toEqual(['EBUSY', expect.stringContaining('timer of vCPU 1')]);
    vm.detachAgent(other.agentNumber);
    expect(vm.snapshotState()).toEqual(before);
    vm.restore(saved);
  });
});

describe('while others are at work', () => {
  /** Whether the word of vcpu_info maps something. */
  const mapped = (vm: Vm): boolean => vcpuInfoWord(vm) < UNMAPPED;

  test.each(KINDS)('R1 R3 nobody can send in `during`, and all go on after ($layout, shared $shared)', (kind) => {
    noNaps();
    const vm = makeVm(kind);
    const other = attachVm(vm.handle());
    const results: number[] = [];
    const saved = vm.snapshot({ ram: true, during: () => results.push(vm.send(5), other.send(6), vm.unmask(5)) });
    expect(results).toEqual([-11, -11, -11]);
    expect(mapped(vm)).toBe(true);
    expect([vm.send(5), other.send(6)]).toEqual([1, 1]);
    expect(readSnapshot(saved)).toEqual(vm.snapshotState());
    const to = makeVm(kind);
    to.restore(saved);
    expect(drained(to)).toEqual([]);
    expect(drained(vm)).toEqual([5, 6]);
    other.detach();
  });

  test.each(KINDS)(
    'R13 RAM that the embedder copies in `during` belongs to the state ($layout, shared $shared)',
    (kind) => {
      const from = makeVm(kind);
      unregister(from);
      from.send(5);
      let copy = new Uint8Array();
      const saved = from.snapshot({
        during: () => {
          copy = ram(from).slice();
        },
      });
      from.send(6);
      const to = makeVm(kind);
      to.restore(saved, { during: () => ram(to).set(copy) });
      to.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(0)) });
      expect(drained(to)).toEqual([5]);
    },
  );

  test('R4 what `during` throws comes through, nothing is restored, and senders go on', () => {
    const saved = furnishedVm().snapshot();
    const vm = emptyVm();
    const before = vm.snapshotState();
    const fail = (): never => {
      throw new RangeError('no disk');
    };
    for (const call of [
      () => vm.snapshot({ during: fail }),
      () => vm.snapshotState({ during: fail }),
      () => vm.restore(saved, { during: fail }),
    ]) {
      expect(call).toThrow(new RangeError('no disk'));
      expect(vm.snapshotState()).toEqual(before);
    }
    expect(vm.send(5)).toBe(1);
  });

  test('R4 a `during` that is asynchronous is refused: senders are held off only until it returns', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const during = async (): Promise<void> => {};
    for (const call of [() => vm.snapshot({ during }), () => vm.restore(saved, { during })]) {
      expect(errorOf(call).code).toBe('EINVAL');
    }
    expect(vm.send(5)).toBe(1);
  });

  test('R4 `during` may not change mappings, nor save or restore', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    const codes: string[] = [];
    vm.snapshot({
      during: () => {
        for (const call of [
          () => vm.memslots.delete(0),
          () => vm.snapshot(),
          () => vm.restore(saved),
          () => vm.setAttr({ type: 'shared_info', gfn: gfn(3) }),
        ])
          codes.push(errorOf(call).code);
      },
    });
    expect(codes).toEqual(['EBUSY', 'EBUSY', 'EBUSY', 'EAGAIN']);
  });

  test('a view that `during` detaches is detached', () => {
    const vm = makeVm();
    expect(() => vm.snapshot({ during: () => vm.detach() })).toThrow('detached');
    expect(vm.detached).toBe(true);
  });

  test('no page is asked for that nobody needs: one that is absent stays so', () => {
    const asked: number[] = [];
    const from = makeVm({ hostPages: 200, onPageFault: (address) => asked.push(address) });
    from.hostPages.unmap(hva(from.guestBase + vcpuInfoGpa(0)), 1);
    const to = makeVm({ hostPages: 200, onPageFault: (address) => asked.push(address) });
    to.restore(from.snapshot());
    expect(asked).toEqual([]);
    expect(vcpuInfoWord(to)).toBeGreaterThanOrEqual(UNMAPPED);
    expect(to.vcpu(0).getAttr('vcpu_info').gpa).toBe(vcpuInfoGpa(0));
  });

  test.each(KINDS.filter(({ shared }) => shared))(
    'R1 R13 at every step of a send a snapshot has the event whole, or not at all, or waits ($layout)',
    ({ longMode }) => {
      noNaps();
      const outcomes: string[] = [];
      for (let stop = 0; ; stop++) {
        const vm = makeVm({ longMode });
        let steps = 0;
        let seen = '';
        const onStep = (): void => {
          if (steps++ !== stop) return;
          try {
            const to = makeVm({ longMode });
            to.restore(vm.snapshot({ ram: true }));
            seen = pendingBit(to, 9) ? 'half' : 'none';
            expect(drained(to)).toEqual([]);
          } catch (error) {
            if ((error as { code?: string }).code !== 'EBUSY') throw error;
            seen = 'waits';
          }
        };
        const sender = attachVm(vm.handle(), { trace: traceOf(true, { onStep }) });
        // After a snapshot that was not to be had, or that took the mapping away, it goes on.
        expect(sender.send(9)).toBe(1);
        expect(drained(copyOf(vm, makeVm({ longMode })))).toEqual([9]);
        expect(drained(vm)).toEqual([9]);
        if (seen === '') break;
        outcomes.push(seen);
      }
      // It waits from the bracket on, in which everything happens.
      expect(outcomes.join(' ')).toMatch(/^(none ){1,3}(waits ?){4,20}$/);
    },
  );
});

describe('who sleeps', () => {
  /** Whether a thread sleeps for vCPU 0 that was not told to look. (It would look by itself within a second.) */
  const sleeps = (vm: Vm): boolean => (vm.region.words.load(vm.vcpu(0).line + VCPU_KICK) & KICK_SLEEPER) !== 0;

  const SHARED = KINDS.filter(({ shared }) => shared);

  test.each(SHARED)(
    'R1 a restore wakes who sleeps for a vCPU that is asked for an upcall ($layout)',
    async ({ longMode }) => {
      const from = makeVm({ longMode });
      from.send(5);
      const to = makeVm({ longMode });
      const woken = to.vcpu(0).waitAsync();
      expect(sleeps(to)).toBe(true);
      to.restore(from.snapshot({ ram: true }));
      expect(sleeps(to)).toBe(false);
      expect(await woken).toBe('events');
      expect(drained(to)).toEqual([5]);
    },
  );

  test.each(SHARED)(
    'R1 a restore wakes who sleeps for a vCPU whose vcpu_info is away ($layout)',
    async ({ longMode }) => {
      const from = makeVm({ longMode });
      unregister(from);
      from.send(5);
      const to = makeVm({ longMode });
      const woken = to.vcpu(0).waitAsync();
      expect(sleeps(to)).toBe(true);
      to.restore(from.snapshot({ ram: true }));
      expect(sleeps(to)).toBe(false);
      expect(await woken).toBe('events');
    },
  );

  test('R13 a kick that was not answered is, and one that was is not again', () => {
    const from = makeVm({ vcpus: 2 });
    from.vcpu(1).kick();
    const to = copyOf(from, makeVm({ vcpus: 2 }));
    expect(to.vcpu(0).wait(0)).toBe('timeout');
    expect(to.vcpu(1).wait(0)).toBe('unblocked');
    expect(to.vcpu(1).wait(0)).toBe('timeout');
  });

  test.each(SHARED)(
    'R1 who goes to sleep while a snapshot is taken does not miss what is pending ($layout)',
    async ({ longMode }) => {
      const vm = makeVm({ longMode });
      vm.send(5);
      let woken: Promise<string> = Promise.resolve('');
      vm.snapshot({
        during: () => {
          woken = vm.vcpu(0).waitAsync();
        },
      });
      expect(sleeps(vm)).toBe(false);
      expect(await woken).toBe('events');
    },
  );

  test('R2 a snapshot and a restore wake nobody for nothing', async () => {
    const vm = makeVm();
    const woken = vm.vcpu(0).waitAsync(50e6);
    vm.restore(vm.snapshot({ ram: true }));
    expect(await woken).toBe('timeout');
  });

  test.each(KINDS.filter(({ shared }) => !shared))(
    'R1 R2 a restore calls listeners of vCPUs that are asked for an upcall ($layout)',
    (kind) => {
      const from = makeVm({ ...kind, vcpus: 3 });
      from.bindVcpu(6, 1);
      unregister(from, 1);
      from.send(5);
      from.send(6);
      const to = makeVm({ ...kind, vcpus: 3 });
      const called: number[] = [];
      for (const index of [0, 1, 2]) to.vcpu(index).onUpcall((vcpu) => called.push(vcpu.index));
      to.restore(from.snapshot({ ram: true }));
      expect(called).toEqual([0, 1]);
      // They are still there.
      to.vcpu(2).setAttr({ type: 'vcpu_info', gpa: gpa(vcpuInfoGpa(2)) });
      to.evtchnSend({ port: 7, vcpu: 2 });
      expect(called).toEqual([0, 1, 2]);
    },
  );

  test('R12 a timekeeper that sleeps is told of the timers', () => {
    const vm = makeVm();
    const saved = vm.snapshot();
    vm.region.words.store(vm.vmBase + REGION_TIMEKEEPER, 1);
    vm.restore(saved);
    expect(vm.region.words.load(vm.vmBase + REGION_TIMEKEEPER)).toBe(0);
  });

  test('KX-CLK-13 R12 a vCPU that is in the guest leaves it, to write its clock', () => {
    const vm = makeVm();
    vm.setConfig({ msr: 0x40000000 });
    const saved = vm.snapshot();
    vm.vcpu(0).beforeEntry();
    expect(vm.vcpu(0).leaveRequested).toBe(false);
    vm.restore(saved);
    expect(vm.vcpu(0).leaveRequested).toBe(true);
    expect(vm.vcpu(0).wait(0)).toBe('unblocked');
  });

  test('R1 who waits for an eventfd looks again', async () => {
    const from = makeVm();
    from.eventfds.create(4);
    const to = makeVm();
    const old = to.eventfds.create();
    const before = to.region.words.load(to.vmBase);
    to.restore(from.snapshot());
    expect(to.region.words.load(to.vmBase)).toBe(before);
    expect(old.wait(0)).toBe(false);
    expect(to.eventfds.get(old.fd).read()).toBe(4n);
  });
});
