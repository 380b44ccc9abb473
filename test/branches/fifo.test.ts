// Corners of the FIFO ABI that the objects of the library do not lead to, asked of the kernel itself: what is missing, what is
// locked, what a guest does not leave alone. [R16]

import { describe, expect, test } from 'vitest';
import {
  CONTROL_HEAD,
  EVENT_BUSY,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  FIFO_CONSUMER,
  FIFO_CONTROL_GPC,
  FIFO_LOCAL_READY,
  FIFO_PAGES,
  FIFO_PARKED,
  FIFO_PORT_ENTRY,
  FIFO_PRIORITY_SHIFT,
  FIFO_QUEUE_BITS,
  FIFO_SAVED,
} from '../../src/abi/fifo.ts';
import { PORT_BOUND, VCPU_INFO_GPC } from '../../src/abi/region.ts';
import { STEP_RMW } from '../../src/abi/step.ts';
import { gpa, type Vm } from '../../src/index.ts';
import { fifoPort } from '../../src/vm/fifo/records.ts';
import { changed, traceOf } from '../spec/evidence.ts';
import { drained, LAYOUTS, makeVm, maskBit, SHARED_INFO_GPA } from '../support.ts';
import { ARRAY_GFN, FifoGuest, makeFifo } from '../xen/fifo_guest.ts';
import { commonMemory, placeIn } from '../xen/guests.ts';

const KINDS = [
  { kind: 'shared', shared: true },
  { kind: 'of a single agent', shared: false },
] as const;

/** Writes ports where the kernel reads lists. */
function listOf(vm: Vm, ports: readonly number[]): number {
  const at = vm.region.outbox(vm.agent);
  new Uint32Array(vm.memory.buffer, at, ports.length).set(ports);
  return at;
}

/** What the kernel answers to one call, without the half that maps pages and waits. */
function asked({ kernel, vmBase, agent, region }: Vm) {
  return {
    send: (port: number): number => kernel.send(vmBase, agent, port),
    sendTo: (port: number, vcpu: number): number => kernel.sendTo(vmBase, agent, port, vcpu),
    mask: (port: number): number => kernel.mask(vmBase, agent, port),
    unmask: (port: number): number => kernel.unmask(vmBase, agent, port),
    clear: (port: number): number => kernel.fifoClear(vmBase, agent, port),
    status: (port: number): number => kernel.portStatus(vmBase, agent, port),
    drain: (vcpu = 0): number => kernel.drain(vmBase, agent, vcpu, region.inbox(agent)),
    work: (vcpu = 0): number => kernel.pendingWork(vmBase, agent, vcpu),
    relink: (from: number, to: number): number => kernel.fifoRelink(vmBase, agent, from, to),
    replay: (port: number): number => kernel.fifoReplay(vmBase, agent, port),
  };
}

describe.each(KINDS)('memory $kind', ({ shared }) => {
  const away = ({ kernel, vmBase }: Vm, gpc: number): number => kernel.gpcUnmap(vmBase, gpc);

  test('XE-OP-122 R3 while the ABI changes: every operation says -EAGAIN and touches nothing of the guest', () => {
    const { vm } = makeFifo({ shared });
    const { words, fifo } = vm.region;
    const ask = asked(vm);
    // One that takes the short way, two that are pending, and one that was never queued.
    vm.send(8);
    drained(vm);
    vm.sendMany([5, 6]);
    words.store(fifo + FIFO_PAGES, FIFO_PARKED);
    const list = listOf(vm, [5]);
    const calls = [
      () => ask.send(5),
      () => ask.send(7),
      () => ask.send(8),
      () => ask.sendTo(5, 0),
      () => ask.mask(5),
      () => ask.unmask(5),
      () => ask.clear(5),
      () => ask.status(5),
      () => ask.drain(),
      () => ask.replay(5),
      () => vm.kernel.anyPending(vm.vmBase, vm.agent, list, 1),
      () => vm.kernel.sendMany(vm.vmBase, vm.agent, list, 1),
    ];
    expect(changed(vm, () => expect(calls.map((call) => call())).toEqual(calls.map(() => -11)))).toEqual([]);
    words.store(fifo + FIFO_PAGES, 1);
    expect(drained(vm)).toEqual([5, 6]);
  });

  test('XE-FF-51 a page of event words that is away: no operation on one of its ports changes anything', () => {
    const guest = makeFifo({ shared, vcpus: 2 });
    const { vm } = guest;
    const ask = asked(vm);
    vm.sendMany([5, 6]);
    away(vm, vm.region.fifoPage(0));
    const list = listOf(vm, [6]);
    const calls = [
      () => ask.send(5),
      () => ask.mask(5),
      () => ask.unmask(5),
      () => ask.clear(5),
      () => ask.status(5),
      () => vm.kernel.anyPending(vm.vmBase, vm.agent, list, 1),
    ];
    expect(changed(vm, () => expect(calls.map((call) => call())).toEqual(calls.map(() => -11)))).toEqual([]);
  });

  test('R1 R2 one agent at a time consumes: whoever comes second takes nothing and leaves the upcall asked for', () => {
    const guest = makeFifo({ shared });
    const { vm } = guest;
    const { words } = vm.region;
    const consumer = vm.region.fifoVcpu(0) + FIFO_CONSUMER;
    vm.send(5);
    words.store(consumer, 12345);
    expect(changed(vm, () => expect(asked(vm).drain()).toBe(0))).toEqual([]);
    expect([guest.upcall(), words.load(consumer)]).toEqual([true, 12345]);
    words.store(consumer, 0);
    expect(drained(vm)).toEqual([5]);
  });

  test('KX-EVT-46 XE-FF-19 what a sleeper sees: a ready bit, a control block that is away, one that there is not, a kept upcall', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
    const { vm } = guest;
    const ask = asked(vm);
    const control = vm.region.fifoVcpu(0) + FIFO_CONTROL_GPC;
    expect([ask.work(0), ask.work(1)]).toEqual([0, 0]);
    guest.control()[0] = 1 << 16;
    expect(ask.work()).toBe(0);
    guest.control()[0] = 0;
    away(vm, control);
    expect(ask.work()).toBe(8);
    vm.gpcs.refresh(control);
    vm.send(5);
    expect(ask.work()).toBe(1);
    expect(guest.answer()).toEqual([5]);
    expect(ask.work()).toBe(0);
    // Asked for while vcpu_info was away, and taken meanwhile: the upcall is owed still.
    const info = vm.vcpu(0).line + VCPU_INFO_GPC;
    away(vm, info);
    expect(ask.send(5)).toBe(1);
    expect(guest.consume()).toEqual([5]);
    vm.gpcs.refresh(info);
    expect(ask.work()).toBe(1);
    expect(vm.kernel.flushShadow(vm.vmBase, vm.agent, 0)).toBe(1);
    expect([guest.upcall(), ask.work()]).toEqual([true, 0]);
  });

  test.each([true, false])('XE-2L-30 a vcpu_info that moves under the FIFO ABI takes its upcall along: %s', (asks) => {
    const guest = makeFifo({ shared });
    const { vm } = guest;
    vm.send(5);
    if (!asks) guest.clearUpcall();
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(0x7000) });
    vm.kernel.flushShadow(vm.vmBase, vm.agent, 0);
    expect(vm.vcpu(0).upcallPending).toBe(asks);
    // Unregistered without another: it waits.
    vm.kernel.drain(vm.vmBase, vm.agent, 0, vm.region.inbox(vm.agent));
    vm.kernel.flushShadow(vm.vmBase, vm.agent, 0);
    const byte = new Uint8Array(vm.memory.buffer, vm.guestBase + 0x7000, 1);
    byte[0] = Number(asks);
    vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: null });
    expect(asked(vm).work() & 1).toBe(Number(asks));
  });

  test('KX-EVT-41 XE-FF-11 an event that names a vCPU: that one queues a port that is bound to none, the binding one that is', () => {
    const { vm } = makeFifo({ shared, vcpus: 2 });
    const ask = asked(vm);
    vm.bindVcpu(6, 0);
    for (const port of [5, 6, 5]) ask.sendTo(port, 1);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[6], [5]]);
    expect([ask.sendTo(0, 1), ask.sendTo(4096, 1)]).toEqual([-22, -22]);
  });

  test('XE-FF-03 XE-FF-51 numbers that are no ports of the FIFO ABI: the kernel says so, and configures nothing', () => {
    const { vm } = makeFifo({ shared, fifoPorts: 1024 });
    const ask = asked(vm);
    for (const none of [0, 1024, -1]) {
      const calls = [ask.send, ask.mask, ask.unmask, ask.clear, ask.status];
      expect(calls.map((call) => call(none))).toEqual(calls.map(() => -22));
    }
    const { fifo, words } = vm.region;
    const before = words.load(fifoPort(vm.region, 1023) + FIFO_PORT_ENTRY);
    const whole = new Uint8Array(vm.memory.buffer).slice(fifo, vm.guestBase);
    vm.kernel.placePort(vm.vmBase, 1024, PORT_BOUND);
    expect(new Uint8Array(vm.memory.buffer).slice(fifo, vm.guestBase)).toEqual(whole);
    vm.kernel.placePort(vm.vmBase, 1023, PORT_BOUND);
    expect(words.load(fifoPort(vm.region, 1023) + FIFO_PORT_ENTRY)).toBe(before | PORT_BOUND);
  });

  test('R10 the status of a port: each bit of its word shows alone', () => {
    const guest = makeFifo({ shared });
    const { vm } = guest;
    const places = [
      [1, EVENT_PENDING],
      [2, EVENT_MASKED],
      [64, EVENT_LINKED],
      [128, EVENT_BUSY],
    ] as const;
    for (let all = 0; all < 16; all++) {
      const chosen = places.filter((_, i) => all & (1 << i));
      guest.words[5] = chosen.reduce((word, [, bit]) => word | bit, 0);
      const seen = chosen.reduce((bits, [bit]) => bits | bit, 0);
      expect(asked(vm).status(5)).toBe(seen | 256 | 512 | 32);
    }
  });

  test('XE-BP-24 KF-72 a poller is woken by a send, and by each way that a batch raises a port', () => {
    const guest = makeFifo({ shared, vcpus: 2 });
    const { vm } = guest;
    const ask = asked(vm);
    const { kernel, vmBase, agent } = vm;
    const polled = (port: number, then: () => void): boolean => {
      expect(kernel.pollBegin(vmBase, agent, 1, listOf(vm, [port]), 1)).toBe(0);
      then();
      const woken = (ask.work(1) & 1) === 1;
      kernel.pollEnd(vmBase, 1);
      return woken;
    };
    const batch = (ports: readonly number[]) => () =>
      void kernel.sendMany(vmBase, agent, listOf(vm, ports), ports.length);
    // Ports that have been on their queue before: a batch takes them under one lock.
    for (let port = 5; port < 9; port++) vm.send(port);
    drained(vm);
    expect(polled(5, () => ask.send(5))).toBe(true);
    expect(polled(6, batch([6, 7]))).toBe(true);
    vm.mask(8);
    expect(polled(8, batch([7, 8]))).toBe(true);
    guest.clear(8, EVENT_PENDING);
    const again = (): void => {
      guest.set(8, EVENT_PENDING);
      batch([7, 8])();
    };
    expect(polled(8, again)).toBe(false);
    // Not the port that is polled: it is nobody's news.
    vm.mask(9);
    expect(polled(9, batch([7, 8, 8]))).toBe(false);
    // Saved for want of a page, on the queue that all ports begin with: not pending yet, as the poller looks. [XE-FF-10]
    for (const port of [10, 2000]) guest.fifo.setPriority({ port, priority: 0 });
    expect(polled(2000, batch([10, 2000]))).toBe(false);
    expect(ask.status(2000) & 1024).toBe(1024);
  });

  test('XE-FF-12 XE-OP-124 KF-71 a replay for a vCPU without control block: dropped and counted once; nothing saved, nothing done', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
    const { vm, fifo } = guest;
    const { words } = vm.region;
    const ask = asked(vm);
    const entry = (port: number): number => fifoPort(vm.region, port) + FIFO_PORT_ENTRY;
    for (const port of [5, 6]) vm.bindVcpu(port, 1);
    words.or(entry(5), FIFO_SAVED);
    expect([ask.replay(5), ask.replay(5), ask.replay(6), ask.replay(7)]).toEqual([0, 0, 0, 0]);
    expect([fifo.dropped, words.load(entry(5)) & FIFO_SAVED]).toEqual([1, 0]);
    expect([5, 6, 7].map((port) => guest.word(port))).toEqual([0, 0, 0]);
    words.or(entry(7), FIFO_SAVED);
    away(vm, vm.region.fifoPage(0));
    expect([ask.replay(7), words.load(entry(7)) & FIFO_SAVED]).toEqual([-11, FIFO_SAVED]);
    vm.gpcs.refresh(vm.region.fifoPage(0));
    expect(ask.replay(7)).toBe(0);
    expect(drained(vm)).toEqual([7]);
  });

  test('XE-FF-10 XE-FF-40 XE-FF-50 a port whose page is not there: an unmask says no, a close forgets what was saved, once', () => {
    const { vm } = makeFifo({ shared });
    const ask = asked(vm);
    expect([ask.unmask(2000), ask.clear(2000)]).toEqual([0, 0]);
    expect([ask.send(2000), ask.unmask(2000), ask.mask(2000)]).toEqual([-107, 0, 0]);
    expect([ask.clear(2000), ask.clear(2000)]).toEqual([1, 0]);
    expect(ask.status(2000) & (1 | 1024)).toBe(0);
    expect([ask.send(5), ask.clear(5), ask.clear(5)]).toEqual([1, 1, 0]);
    expect(drained(vm)).toEqual([]);
  });

  test('XE-FF-50 XE-FF-12 an unmask for a vCPU without control block of what is not pending drops nothing', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
    const { vm, fifo } = guest;
    vm.bindVcpu(5, 1);
    guest.set(5, EVENT_MASKED);
    expect([asked(vm).unmask(5), guest.word(5), fifo.dropped]).toEqual([0, 0, 0]);
  });

  test('XE-FF-51 the page of the tail is away: nothing can be hung behind it, and nothing is changed', () => {
    const guest = makeFifo({ shared, pages: 2 });
    const { vm } = guest;
    const ask = asked(vm);
    vm.sendMany([5, 1030]);
    drained(vm);
    vm.send(1030);
    away(vm, vm.region.fifoPage(1));
    const calls = [
      () => ask.send(5),
      () => ask.send(6),
      () => vm.kernel.sendMany(vm.vmBase, vm.agent, listOf(vm, [5]), 1),
    ];
    expect(changed(vm, () => expect(calls.map((call) => call())).toEqual([-11, -11, -11]))).toEqual([]);
    vm.sendMany([5, 6]);
    expect(drained(vm)).toEqual([1030, 5, 6]);
  });

  test('KX-EVT-13 XE-FF-12 batches: a number that is no port between neighbours, and what has no control block', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 0 });
    const { vm, fifo } = guest;
    // The first queue of vCPU 0 is where every port was last that was in none.
    guest.init(1);
    guest.prepare(0, 0);
    guest.expect(guest.expand(0));
    for (const port of [5, 6]) fifo.setPriority({ port, priority: 0 });
    const send = (ports: readonly number[]): number =>
      vm.kernel.sendMany(vm.vmBase, vm.agent, listOf(vm, ports), ports.length);
    expect(send([5, 6, 0, 5])).toBe(0);
    expect([vm.batchCounts.bad, fifo.dropped, guest.upcall()]).toEqual([4, 3, false]);
    guest.init(0);
    expect(send([5, 0, 6, 4096])).toBe(2);
    expect(vm.batchCounts).toEqual({ delivered: 2, coalesced: 0, masked: 0, bad: 2 });
    expect(drained(vm)).toEqual([5, 6]);
  });

  test('KX-EVT-13 the rest of a batch that ended for want of a page: it ends there again, and goes on once the page is back', () => {
    const { vm } = makeFifo({ shared, pages: 2 });
    const { kernel, vmBase, agent } = vm;
    const list = listOf(vm, [5, 1030, 6]);
    const page = vm.region.fifoPage(1);
    away(vm, page);
    expect(kernel.sendMany(vmBase, agent, list, 3)).toBe(-11);
    expect(kernel.sendRest(vmBase, agent, list, 3)).toBe(-11);
    vm.gpcs.refresh(page);
    expect(kernel.sendRest(vmBase, agent, list, 3)).toBe(3);
    expect(drained(vm)).toEqual([5, 1030, 6]);
  });

  test('XE-FF-70 a consumer that stands in a queue goes on there, whatever the control block says; at its end it reads that again', () => {
    const guest = makeFifo({ shared, pages: 2 });
    const { vm } = guest;
    const page = vm.region.fifoPage(1);
    const head = CONTROL_HEAD / 4 + 7;
    vm.sendMany([5, 1030, 6]);
    away(vm, page);
    expect([asked(vm).drain(), guest.upcall()]).toEqual([0x10001, true]);
    for (const other of [0, 5, 6]) {
      guest.control()[head] = other;
      expect(changed(vm, () => expect(asked(vm).drain()).toBe(-11))).toEqual([]);
    }
    vm.gpcs.refresh(page);
    expect(drained(vm)).toEqual([1030, 6]);
    vm.send(7);
    expect([guest.control()[head], drained(vm)]).toEqual([7, [7]]);
  });

  test('R4 a drain without vcpu_info, without a control block that is registered, and without any', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
    const { vm } = guest;
    const ask = asked(vm);
    vm.send(5);
    const control = vm.region.fifoVcpu(0) + FIFO_CONTROL_GPC;
    for (const gpc of [vm.vcpu(0).line + VCPU_INFO_GPC, control]) {
      away(vm, gpc);
      expect(changed(vm, () => expect(ask.drain()).toBe(-11))).toEqual([]);
      vm.gpcs.refresh(gpc);
    }
    vm.kernel.resync(vm.vmBase, vm.agent, 1);
    expect([guest.upcall(1), ask.drain(1), guest.upcall(1)]).toEqual([true, 0, false]);
    expect(drained(vm)).toEqual([5]);
  });

  test('R10 the status of a port: what of its vCPU cannot be seen is left out', () => {
    const guest = makeFifo({ shared });
    const { vm } = guest;
    const ask = asked(vm);
    const control = vm.region.fifoVcpu(0) + FIFO_CONTROL_GPC;
    const info = vm.vcpu(0).line + VCPU_INFO_GPC;
    vm.send(5);
    const seen = 1 | 64 | 256;
    expect(ask.status(5)).toBe(seen | 512 | 4 | 32 | 8);
    away(vm, control);
    expect(ask.status(5)).toBe(seen | 32 | 8);
    vm.gpcs.refresh(control);
    guest.answer();
    away(vm, info);
    expect(ask.send(5)).toBe(1);
    expect(ask.status(5)).toBe(seen | 512 | 4 | 16);
  });

  test('KF-89 queues built anew: all that is pending and not masked, in the order of the ports; a vCPU without control block gets nothing', () => {
    const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
    const { vm, fifo } = guest;
    const ask = asked(vm);
    vm.sendMany([8, 5, 6]);
    // Linked to nobody, as by an agent that died; and one whose tail was to be changed.
    guest.set(7, EVENT_PENDING | EVENT_LINKED);
    guest.set(9, EVENT_LINKED | EVENT_BUSY | 77);
    guest.set(10, EVENT_PENDING | EVENT_MASKED);
    vm.bindVcpu(11, 1);
    guest.set(11, EVENT_PENDING);
    vm.kernel.fifoUnlink(vm.vmBase, vm.guestBase + ARRAY_GFN * 4096);
    expect([...guest.words.subarray(5, 12)].map((word) => word >>> 28)).toEqual([8, 8, 8, 8, 0, 12, 8]);
    expect(guest.tail(7)).toBe(0);
    expect(ask.relink(1, 1024)).toBe(1024);
    expect(guest.queue(7)).toEqual([5, 6, 7, 8]);
    expect([bits(guest, 11), fifo.dropped]).toEqual([EVENT_PENDING, 0]);
    expect(drained(vm)).toEqual([5, 6, 7, 8]);
    // It stops where a page is missing.
    guest.set(12, EVENT_PENDING);
    away(vm, vm.region.fifoPage(0));
    expect(ask.relink(3, 1024)).toBe(3);
  });

  test('KF-66 a guest that links a word to itself as often as it is taken: the drain ends, and asks for an upcall', () => {
    let hostile = false;
    let visits = 0;
    const guest: FifoGuest = makeFifo({
      shared,
      trace: traceOf(shared, {
        onStep: (kind, address) => {
          if (!hostile) return;
          guest.words[5] = EVENT_LINKED | 5;
          if (kind === STEP_RMW && address === guest.words.byteOffset + 4 * 5) visits++;
        },
      }),
    });
    const { vm } = guest;
    vm.send(5);
    hostile = true;
    expect(asked(vm).drain()).toBe(0);
    hostile = false;
    expect([guest.upcall(), vm.region.words.load(vm.region.fifoVcpu(0) + FIFO_LOCAL_READY)]).toEqual([true, 1 << 7]);
    expect(visits).toBe(1024 + 16);
    guest.words[5] = 0;
    expect(drained(vm)).toEqual([]);
    vm.send(6);
    expect(drained(vm)).toEqual([6]);
  });

  test('KF-66 XE-FF-72 a guest that changes a word as often as it is looked at: it is left for the next drain', () => {
    let hostile = false;
    const guest: FifoGuest = makeFifo({
      shared,
      trace: traceOf(shared, {
        onStep: () => {
          if (hostile) guest.words[6] = guest.word(6) ^ 0x00040000;
        },
      }),
    });
    const { vm } = guest;
    vm.sendMany([5, 6, 7]);
    hostile = true;
    const found = asked(vm).drain();
    hostile = false;
    expect([found, guest.upcall(), asked(vm).work()]).toEqual([0x10001, true, 1]);
    expect(drained(vm)).toEqual([6, 7]);
  });
});

function bits(guest: FifoGuest, port: number): number {
  return guest.word(port) & (EVENT_PENDING | EVENT_MASKED | EVENT_LINKED | EVENT_BUSY);
}

describe.each(KINDS.flatMap((kind) => LAYOUTS.map((layout) => ({ ...kind, ...layout }))))(
  'memory $kind, $layout layout',
  ({ shared, longMode, maxPorts }) => {
    test('XE-OP-122 what is pending at 2 levels is saved, in the layout that the guest has', () => {
      const vm = makeVm({ shared, longMode, fifoPorts: 8192, guestPages: 24 });
      const last = maxPorts - 1;
      vm.sendMany([5, last]);
      const guest = new FifoGuest(vm);
      guest.begin(8);
      expect(guest.queue(7)).toEqual([5, last]);
      expect(asked(vm).send(8191)).toBe(1);
      expect(drained(vm)).toEqual([5, last, 8191]);
    });

    test('XE-OP-111 back at 2 levels: PENDING and MASKED of what has a place there, and of what was saved for want of a page', () => {
      const guest = makeFifo({
        shared,
        longMode,
        fifoPorts: 8192,
        pages: 5,
        domain: { isUsable: (port) => port < maxPorts },
      });
      const { vm, fifo } = guest;
      vm.mask(6);
      vm.sendMany([5, 6, maxPorts - 1, maxPorts + 1, 4097]);
      vm.mask(maxPorts + 2);
      expect(fifo.toTwoLevel()).toBe(0);
      expect(drained(vm)).toEqual([5, maxPorts - 1]);
      expect(vm.portStatus(6)).toMatchObject({ pending: true, masked: true });
      expect([...guest.words.subarray(1, 5 * 1024)].filter((word) => word & ~EVENT_MASKED)).toEqual([]);
      expect(vm.unmask(6)).toBe(1);
      expect(drained(vm)).toEqual([6]);
    });

    test('XE-OP-111 XE-FF-10 back at 2 levels before there was a page: what was saved is pending', () => {
      const vm = makeVm({ shared, longMode, fifoPorts: 4096, guestPages: 16 });
      vm.mask(7);
      const guest = new FifoGuest(vm, { isUsable: (port) => port < maxPorts });
      guest.begin(0);
      expect(vm.send(5)).toBe(-107);
      expect(guest.fifo.toTwoLevel()).toBe(0);
      // Without words nobody has said otherwise.
      expect([maskBit(vm, 7), maskBit(vm, 5)]).toEqual([true, false]);
      expect(drained(vm)).toEqual([5]);
    });

    test('XE-OP-121 the FIFO ABI before there is a shared_info: nothing is saved', () => {
      const memory = commonMemory(shared);
      const vm = makeVm({ ...placeIn(memory, 1), shared, longMode, fifoPorts: 4096 });
      vm.send(5);
      vm.setAttr({ type: 'shared_info', gfn: null });
      // The first page of the memory is none of the guest's.
      new Uint8Array(memory.buffer, 0, 4096).fill(0xff);
      const guest = new FifoGuest(vm);
      guest.begin(1);
      expect([guest.control()[0], guest.queue(7)]).toEqual([0, []]);
      const entry = vm.region.words.load(fifoPort(vm.region, 5) + FIFO_PORT_ENTRY);
      expect(entry & (FIFO_SAVED | FIFO_QUEUE_BITS)).toBe(7 << FIFO_PRIORITY_SHIFT);
      expect(new Uint8Array(vm.memory.buffer, vm.guestBase + SHARED_INFO_GPA + 0x800, 1)[0]).toBe(1 << 5);
    });
  },
);
