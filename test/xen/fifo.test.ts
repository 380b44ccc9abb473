// The FIFO ABI: control operations, sending, the guest's consumer and ours. [xen chapter 4]

import { describe, expect, test } from 'vitest';
import { EVENT_BUSY, EVENT_LINKED, EVENT_MASKED, EVENT_PENDING } from '../../src/abi/fifo.ts';
import { hva } from '../../src/index.ts';
import { drained, makeVm, ram, SHARED_INFO_GPA } from '../support.ts';
import { ARRAY_GFN, bitsOf, CONTROL_GFN, FifoGuest, makeFifo } from './fifo_guest.ts';

const KINDS = [
  { kind: 'shared', shared: true },
  { kind: 'of a single agent', shared: false },
] as const;

describe.each(KINDS)('memory $kind', ({ shared }) => {
  describe('set_pending', () => {
    test('XE-FF-60 XE-FF-01 two ports in one queue: links, head, tail, one ready bit and one upcall', () => {
      const guest = makeFifo({ shared });
      const { vm } = guest;
      expect(vm.send(5)).toBe(1);
      expect(bitsOf(guest.word(5))).toBe('PENDING LINKED 0');
      expect([guest.control()[0], guest.control()[2 + 7], guest.tail(7)]).toEqual([1 << 7, 5, 5]);
      expect(guest.upcall()).toBe(true);
      guest.clearUpcall();
      expect(vm.send(9)).toBe(1);
      expect(bitsOf(guest.word(5))).toBe('PENDING LINKED 9');
      expect([guest.control()[2 + 7], guest.tail(7), guest.upcall()]).toEqual([5, 9, false]);
      expect(guest.consume()).toEqual([5, 9]);
      expect([guest.word(5), guest.word(9)]).toEqual([0, 0]);
      expect(vm.send(5)).toBe(1);
      expect([guest.control()[0], guest.control()[2 + 7], guest.tail(7)]).toEqual([1 << 7, 5, 5]);
      expect(guest.upcall()).toBe(true);
      expect(guest.answer()).toEqual([5]);
    });

    test('XE-TC-13 XE-FF-13 a second raise of a pending port: no upcall, no duplicate link', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      guest.vm.send(6);
      guest.clearUpcall();
      const before = guest.words.slice(0, 8);
      expect(guest.vm.send(5)).toBe(0);
      expect(guest.words.slice(0, 8)).toEqual(before);
      expect(guest.upcall()).toBe(false);
      expect(guest.consume()).toEqual([5, 6]);
    });

    test('XE-FF-14 XE-FF-73 a masked port is pending and in no queue; XE-FF-50 its unmask queues it', () => {
      const guest = makeFifo({ shared, open: false });
      expect(guest.vm.send(5)).toBe(-107);
      expect(bitsOf(guest.word(5))).toBe('PENDING MASKED 0');
      expect([guest.tail(7), guest.upcall(), guest.control()[0]]).toEqual([0, false, 0]);
      expect(guest.unmask(5)).toBe(1);
      expect(bitsOf(guest.word(5))).toBe('PENDING LINKED 0');
      expect(guest.answer()).toEqual([5]);
    });

    test('XE-FF-14 XE-TC-14 a port that is pending, unmasked and unlinked is queued by a raise and by an unmask', () => {
      const guest = makeFifo({ shared });
      guest.set(5, EVENT_PENDING);
      guest.set(6, EVENT_PENDING);
      expect(guest.vm.send(5)).toBe(0);
      expect(guest.vm.unmask(6)).toBe(1);
      expect(guest.vm.unmask(6)).toBe(0);
      expect(guest.answer()).toEqual([5, 6]);
    });

    test('XE-FF-74 the guest unmasks by itself what is not pending; BUSY holds it off, not the hypercall', () => {
      const guest = makeFifo({ shared, open: false });
      expect(guest.unmask(5)).toBe(0);
      expect(guest.word(5)).toBe(0);
      guest.set(6, EVENT_MASKED | EVENT_BUSY);
      expect(guest.vm.unmask(6)).toBe(0);
      expect(bitsOf(guest.word(6))).toBe('BUSY 0');
    });

    test('XE-FF-10 KF-70 XE-FF-20 a raise before the page is there is remembered, once, and replayed when it comes', () => {
      const guest = makeFifo({ shared, pages: 0 });
      expect(guest.vm.send(5)).toBe(-107);
      expect(guest.vm.send(5)).toBe(0);
      expect(guest.vm.portStatus(5)).toMatchObject({
        pending: true,
        masked: true,
        fifo: { saved: true, hasWord: false },
      });
      expect(guest.upcall()).toBe(false);
      guest.prepare(0, 0);
      expect(guest.expand(0)).toBe(0);
      expect(guest.answer()).toEqual([5]);
      expect(guest.vm.portStatus(5).fifo?.saved).toBe(false);
      expect(guest.vm.send(5)).toBe(1);
    });

    test('XE-FF-10 a port that is no longer valid is not replayed', () => {
      const guest = makeFifo({ shared, pages: 0, domain: { isValid: (port) => port !== 5 } });
      guest.vm.send(5);
      guest.vm.send(6);
      guest.prepare(0, 0);
      expect(guest.expand(0)).toBe(0);
      expect(guest.answer()).toEqual([6]);
    });

    test('XE-FF-12 XE-TC-08 KF-71 XE-BT-15 a vCPU without control block: the event is dropped without PENDING, and counted', () => {
      const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
      guest.vm.bindVcpu(5, 1);
      expect(guest.vm.send(5)).toBe(-6);
      expect(guest.word(5)).toBe(0);
      expect([guest.upcall(0), guest.upcall(1), guest.fifo.dropped]).toEqual([false, false, 1]);
      expect(guest.init(1)).toBe(0);
      expect(guest.vm.send(5)).toBe(1);
      expect(guest.answer(1)).toEqual([5]);
    });

    test('XE-FF-12 unmask of a pending port whose vCPU has no control block clears MASKED and queues nothing', () => {
      const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
      guest.vm.bindVcpu(5, 1);
      guest.set(5, EVENT_PENDING | EVENT_MASKED);
      expect(guest.vm.unmask(5)).toBe(0);
      expect(bitsOf(guest.word(5))).toBe('PENDING 0');
    });

    test('XE-FF-17 KF-68 the ready bit is set for a new head only', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      expect(guest.control()[0]).toBe(1 << 7);
      guest.control()[0] = 0;
      guest.vm.send(6);
      expect(guest.control()[0]).toBe(0);
    });

    test('XE-FF-03 XE-FF-51 KF-78 numbers that are no ports, and a port above 65535', () => {
      const guest = makeFifo({ shared, fifoPorts: 131072, guestPages: 8 + 128, pages: 128 });
      const { vm } = guest;
      for (const port of [0, -1, 131072, 2 ** 31 - 1, -(2 ** 31), 1.5, Number.NaN]) expect(vm.send(port)).toBe(-22);
      expect([vm.send(70000), vm.send(131071), vm.send(4464)]).toEqual([1, 1, 1]);
      expect(guest.answer()).toEqual([70000, 131071, 4464]);
      expect(vm.maxPorts).toBe(131072);
    });
  });

  describe('moves', () => {
    test('XE-FF-61 XE-TC-11 KF-69 KF-73 a stale tail that moves to another priority leaves its old queue empty', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      vm.send(5);
      expect(guest.answer()).toEqual([5]);
      expect(guest.tail(7)).toBe(5);
      expect(fifo.setPriority({ port: 5, priority: 2 })).toBe(0);
      vm.send(5);
      expect([guest.tail(7), guest.tail(2)]).toEqual([0, 5]);
      vm.send(6);
      expect([guest.queue(2), guest.queue(7)]).toEqual([[5], [6]]);
      expect(guest.answer()).toEqual([5, 6]);
    });

    test('XE-FF-61 the same for a move to another vCPU, which takes nothing from the old queue', () => {
      const guest = makeFifo({ shared, vcpus: 2 });
      const { vm } = guest;
      vm.send(5);
      vm.send(6);
      guest.consume(0);
      vm.bindVcpu(6, 1);
      vm.send(6);
      vm.send(7);
      expect([guest.queue(7, 0), guest.queue(7, 1)]).toEqual([[7], [6]]);
      expect([guest.answer(0), guest.answer(1)]).toEqual([[7], [6]]);
    });

    test('XE-FF-42 XE-OP-91 XE-OP-126 what is queued stays on its queue, and is not queued twice', () => {
      const guest = makeFifo({ shared, vcpus: 2 });
      const { vm, fifo } = guest;
      vm.send(5);
      vm.send(6);
      vm.bindVcpu(5, 1);
      fifo.setPriority({ port: 6, priority: 0 });
      expect([vm.send(5), vm.send(6)]).toEqual([0, 0]);
      expect([guest.queue(7, 0), guest.upcall(1)]).toEqual([[5, 6], false]);
      expect(guest.answer(0)).toEqual([5, 6]);
      vm.send(5);
      vm.send(6);
      expect([guest.queue(7, 1), guest.queue(0, 0)]).toEqual([[5], [6]]);
    });

    test('XE-FF-42 a port that was acknowledged but is linked still is raised where it is', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      vm.send(5);
      guest.clear(5, EVENT_PENDING);
      fifo.setPriority({ port: 5, priority: 0 });
      expect(vm.send(5)).toBe(1);
      expect([guest.queue(7), guest.queue(0)]).toEqual([[5], []]);
    });

    test('XE-FF-43 XE-OP-12 KF-74 a bind makes the priority 7', () => {
      const guest = makeFifo({ shared });
      guest.fifo.setPriority({ port: 5, priority: 3 });
      guest.fifo.bound(5);
      guest.vm.send(5);
      expect(guest.queue(7)).toEqual([5]);
    });

    test('XE-FF-41 XE-FF-40 XE-TC-10 a closed port is busy while it is linked, and is not handled', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      guest.vm.send(6);
      expect(guest.fifo.clearPending(5)).toBe(1);
      expect(guest.fifo.clearPending(5)).toBe(0);
      expect(bitsOf(guest.word(5))).toBe('LINKED 6');
      expect(guest.fifo.isBusy(5)).toBe(true);
      expect(guest.answer()).toEqual([6]);
      expect(guest.fifo.isBusy(5)).toBe(false);
      expect(guest.fifo.isBusy(7)).toBe(false);
    });
  });

  describe('setting the link of a tail', () => {
    test('XE-FF-30 a tail that the guest has taken: the next port is a new head', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      guest.clear(5, EVENT_LINKED);
      guest.vm.send(6);
      expect([guest.control()[2 + 7], guest.tail(7)]).toEqual([6, 6]);
    });

    test('XE-FF-33 reserved bits stay as they are, PENDING and MASKED too', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      guest.set(5, 0x0ffe0000 | EVENT_MASKED);
      guest.vm.send(6);
      expect(guest.word(5) >>> 0).toBe((EVENT_PENDING | EVENT_MASKED | EVENT_LINKED | 0x0ffe0000 | 6) >>> 0);
    });
  });

  describe('our consumer', () => {
    test('XE-FF-71 XE-FF-01 ports come by priority, within one in the order they were sent', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      for (const port of [10, 11, 12]) fifo.setPriority({ port, priority: 12 });
      for (const port of [20, 21]) fifo.setPriority({ port, priority: 0 });
      vm.sendMany([12, 30, 10, 21, 31, 11, 20, 29]);
      expect(drained(vm)).toEqual([21, 20, 30, 31, 29, 12, 10, 11]);
      expect([vm.vcpu(0).upcallPending, guest.control()[0]]).toEqual([false, 0]);
      expect(drained(vm)).toEqual([]);
    });

    test('XE-FF-71 a port of a higher priority that a handler sends comes in the next drain, and is not forgotten', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      fifo.setPriority({ port: 20, priority: 0 });
      const seen: number[] = [];
      vm.sendMany([5, 6]);
      vm.vcpu(0).drain((port) => {
        seen.push(port);
        if (port === 5) vm.send(20);
      });
      vm.vcpu(0).drain((port) => seen.push(port));
      expect(seen).toEqual([5, 6, 20]);
      expect(guest.upcall()).toBe(false);
    });

    test('XE-FF-72 a masked port is taken out of its queue, keeps PENDING, and comes with its unmask', () => {
      const guest = makeFifo({ shared });
      guest.vm.send(5);
      expect(guest.vm.mask(5)).toBe(1);
      expect(guest.vm.mask(5)).toBe(0);
      expect(drained(guest.vm)).toEqual([]);
      expect(bitsOf(guest.word(5))).toBe('PENDING MASKED 0');
      expect(guest.vm.unmask(5)).toBe(1);
      expect(drained(guest.vm)).toEqual([5]);
    });

    test('131,072 ports: all sent, all drained once, in order', () => {
      const guest = makeFifo({ shared, fifoPorts: 131072, guestPages: 8 + 128, pages: 128 });
      const { vm } = guest;
      const ports = Uint32Array.from({ length: 131071 }, (_, i) => ((i * 40503) % 131071) + 1);
      expect(vm.sendMany(ports)).toBe(131071);
      const seen: number[] = [];
      expect(vm.vcpu(0).drain((port) => seen.push(port))).toBe(131071);
      expect(seen).toEqual([...ports]);
      expect(guest.words.subarray(0, 131072).every((word) => word === 0)).toBe(true);
    });

    test('a drain without handler takes 4096 ports and keeps asking for an upcall', () => {
      const guest = makeFifo({ shared, fifoPorts: 8192, guestPages: 16, pages: 8 });
      const { vm } = guest;
      const ports = Uint32Array.from({ length: 5000 }, (_, i) => i + 1);
      vm.sendMany(ports);
      const vcpu = vm.vcpu(0);
      expect(vcpu.drain()).toBe(4096);
      expect([...vcpu.drained]).toEqual([...ports.subarray(0, 4096)]);
      expect([vcpu.upcallPending, vm.kernel.pendingWork(vm.vmBase, vm.agent, 0)]).toEqual([true, 1]);
      expect(vcpu.drain()).toBe(904);
      expect([...vcpu.drained.subarray(0, 904)]).toEqual([...ports.subarray(4096)]);
      expect([vcpu.upcallPending, vm.kernel.pendingWork(vm.vmBase, vm.agent, 0)]).toEqual([false, 0]);
    });

    test('a guest and our consumer see the same ports in the same order', () => {
      const [a, b] = [makeFifo({ shared }), makeFifo({ shared })];
      for (const { vm, fifo } of [a, b]) {
        for (let port = 1; port < 300; port++) fifo.setPriority({ port, priority: (port * 7) % 16 });
        vm.sendMany(Array.from({ length: 299 }, (_, i) => ((i * 101) % 299) + 1));
      }
      expect(drained(a.vm)).toEqual(b.answer());
    });
  });

  describe('batches', () => {
    test('counts are exact: delivered, coalesced, masked, bad, dropped', () => {
      const guest = makeFifo({ shared, vcpus: 2, controls: 1 });
      const { vm } = guest;
      vm.mask(7);
      vm.bindVcpu(9, 1);
      expect(vm.sendMany([5, 6, 5, 7, 0, 9, 5000, 8])).toBe(3);
      expect(vm.batchCounts).toEqual({ delivered: 3, coalesced: 1, masked: 1, bad: 3 });
      expect(drained(vm)).toEqual([5, 6, 8]);
    });

    test('ports of several queues in turn', () => {
      const guest = makeFifo({ shared, vcpus: 2 });
      const { vm, fifo } = guest;
      for (let port = 1; port < 200; port++) {
        if (port % 2) vm.bindVcpu(port, 1);
        fifo.setPriority({ port, priority: port % 3 });
      }
      const ports = Array.from({ length: 199 }, (_, i) => i + 1);
      expect(vm.sendMany(ports)).toBe(199);
      const byPriority = (mine: number[]): number[] => [0, 1, 2].flatMap((p) => mine.filter((port) => port % 3 === p));
      expect(drained(vm, 0)).toEqual(byPriority(ports.filter((port) => port % 2 === 0)));
      expect(drained(vm, 1)).toEqual(byPriority(ports.filter((port) => port % 2 === 1)));
    });
  });

  describe('poll', () => {
    test('XE-BP-24 KF-72 a poller of any vCPU is woken by a new PENDING, masked or not, and by no second one', () => {
      const guest = makeFifo({ shared, vcpus: 2 });
      const { vm } = guest;
      const list = new Uint32Array(vm.memory.buffer, vm.region.outbox(vm.agent), 1);
      const begin = (port: number): number => {
        list[0] = port;
        return vm.kernel.pollBegin(vm.vmBase, vm.agent, 1, list.byteOffset, 1);
      };
      const polled = (): boolean => {
        const woken = (vm.kernel.pendingWork(vm.vmBase, vm.agent, 1) & 1) === 1;
        vm.kernel.pollEnd(vm.vmBase, 1);
        return woken;
      };
      expect(begin(5)).toBe(0);
      vm.send(5);
      expect(polled()).toBe(true);
      expect(begin(5)).toBe(1);
      vm.kernel.pollEnd(vm.vmBase, 1);
      vm.mask(6);
      expect(begin(6)).toBe(0);
      vm.sendMany([7, 6]);
      expect(polled()).toBe(true);
      // Linked again by an unmask: PENDING was there before. [XE-FF-50]
      expect(begin(4000)).toBe(0);
      vm.unmask(6);
      expect(polled()).toBe(false);
      expect(begin(4096)).toBe(-22);
    });
  });

  describe('control operations', () => {
    test('XE-OP-120 XE-TC-18 init_control: the order of its errors', () => {
      const vm = makeVm({ shared, fifoPorts: 1024, vcpus: 2 });
      const { fifo } = new FifoGuest(vm);
      const init = (vcpu: number, offset = 0, controlGfn: number | bigint = CONTROL_GFN): number =>
        fifo.initControl({ controlGfn, offset, vcpu });
      expect(init(2, 4025, 999)).toBe(-2);
      expect(init(-1)).toBe(-2);
      expect([init(0, 4025), init(0, 4095), init(0, 4028), init(0, 4), init(0, -8), init(0, 1.5)]).toEqual([
        -22, -22, -22, -22, -22, -22,
      ]);
      for (const gfn of [16, 999, 2 ** 40, 2n ** 64n - 1n]) expect(init(0, 0, gfn)).toBe(-22);
      expect(fifo.active).toBe(false);
      expect(init(0, 4024)).toBe(0);
      expect(fifo.active).toBe(true);
      expect(init(0, 4024)).toBe(-22);
      expect(init(1, 0, 999)).toBe(-22);
      expect(init(1, 0)).toBe(0);
    });

    test('XE-OP-121 a first init_control that fails leaves the domain with the 2-level ABI', () => {
      const vm = makeVm({ shared, fifoPorts: 1024 });
      const { fifo } = new FifoGuest(vm);
      vm.send(5);
      expect(fifo.initControl({ controlGfn: 999, offset: 0, vcpu: 0 })).toBe(-22);
      expect([fifo.active, vm.maxPorts]).toEqual([false, 4096]);
      expect(drained(vm)).toEqual([5]);
    });

    test('XE-OP-127 without room for it: -EOPNOTSUPP, and set_priority as at 2 levels', () => {
      const { fifo } = new FifoGuest(makeVm({ shared }));
      expect(fifo.initControl({ controlGfn: CONTROL_GFN, offset: 0, vcpu: 0 })).toBe(-95);
      expect(fifo.expandArray({ arrayGfn: ARRAY_GFN })).toBe(-95);
      expect(fifo.setPriority({ port: 5, priority: 1 })).toBe(-38);
      expect([fifo.active, fifo.pages, fifo.dropped, fifo.isBusy(5)]).toEqual([false, 0, 0, false]);
    });

    test('XE-OP-124 XE-TC-18 XE-MOD-12 expand_array: before init -EOPNOTSUPP, 128 pages, then -ENOSPC, a bad page -EINVAL', () => {
      const vm = makeVm({ shared, fifoPorts: 131072, guestPages: 8 + 129 });
      const guest = new FifoGuest(vm);
      expect(guest.expand(0)).toBe(-95);
      guest.init(0);
      expect(guest.fifo.expandArray({ arrayGfn: 999 })).toBe(-22);
      for (let page = 0; page < 128; page++) expect(guest.expand(page)).toBe(0);
      expect(guest.expand(128)).toBe(-28);
      expect(guest.fifo.expandArray({ arrayGfn: 999 })).toBe(-28);
      expect(guest.fifo.pages).toBe(128);
    });

    test('XE-OP-126 XE-TC-19 set_priority: the order of its errors', () => {
      const isValid = (port: number): boolean => port < 100;
      const isUsable = (port: number): boolean => port < 50;
      const vm = makeVm({ shared, fifoPorts: 1024 });
      const guest = new FifoGuest(vm, { isValid, isUsable });
      expect(guest.fifo.setPriority({ port: 100, priority: 16 })).toBe(-22);
      expect(guest.fifo.setPriority({ port: 60, priority: 16 })).toBe(-38);
      guest.init(0);
      expect(guest.fifo.setPriority({ port: 60, priority: 16 })).toBe(-13);
      for (const priority of [16, -1, 1.5, Number.NaN]) expect(guest.fifo.setPriority({ port: 5, priority })).toBe(-22);
      for (const priority of [0, 15]) expect(guest.fifo.setPriority({ port: 5, priority })).toBe(0);
    });

    test('XE-OP-123 the engine writes neither a control block nor a page of event words at registration', () => {
      const vm = makeVm({ shared, fifoPorts: 1024, guestPages: 16 });
      const guest = new FifoGuest(vm);
      ram(vm).fill(0xa5, CONTROL_GFN * 4096, 16 * 4096);
      expect(guest.fifo.initControl({ controlGfn: CONTROL_GFN, offset: 0, vcpu: 0 })).toBe(0);
      expect(guest.expand(0)).toBe(0);
      expect(
        ram(vm)
          .subarray(CONTROL_GFN * 4096)
          .every((byte) => byte === 0xa5),
      ).toBe(true);
    });
  });

  describe('the switch', () => {
    test('XE-OP-122 XE-TC-17 what is pending at 2 levels fires after expand_array, once the guest unmasks', () => {
      const vm = makeVm({ shared, fifoPorts: 4096, guestPages: 16 });
      vm.sendMany([5, 70, 1023]);
      vm.mask(6);
      vm.send(6);
      const page = ram(vm).slice(SHARED_INFO_GPA, SHARED_INFO_GPA + 4096);
      const guest = new FifoGuest(vm);
      guest.begin(1, false);
      // Xen leaves the old bits as they are.
      expect(ram(vm).slice(SHARED_INFO_GPA, SHARED_INFO_GPA + 4096)).toEqual(page);
      expect(guest.control()[0]).toBe(0);
      for (const port of [1023, 6, 5, 70]) expect(guest.unmask(port)).toBe(1);
      guest.clearUpcall();
      expect(guest.consume()).toEqual([1023, 6, 5, 70]);
    });

    test('XE-OP-122 ports of later pages wait for theirs; port priorities are 7', () => {
      const vm = makeVm({ shared, fifoPorts: 4096, guestPages: 16 });
      vm.sendMany([5, 1024, 4095]);
      const guest = new FifoGuest(vm);
      guest.begin(1);
      expect(guest.queue(7)).toEqual([5]);
      for (let page = 1; page < 4; page++) {
        guest.prepare(page, 0);
        guest.expand(page);
      }
      expect(guest.queue(7)).toEqual([5, 1024, 4095]);
    });

    test('beyond Xen: back to 2 levels, pending and masked carried over, every vCPU asked to look', () => {
      const guest = makeFifo({ shared, vcpus: 2, pages: 2 });
      const { vm, fifo } = guest;
      vm.bindVcpu(9, 1);
      vm.sendMany([5, 1500, 9]);
      vm.mask(6);
      vm.send(6);
      vm.mask(8);
      vm.send(3000);
      expect(fifo.toTwoLevel()).toBe(0);
      expect([fifo.active, vm.maxPorts]).toEqual([false, 4096]);
      expect([drained(vm, 0), drained(vm, 1)]).toEqual([[5, 1500, 3000], [9]]);
      expect([vm.portStatus(6), vm.portStatus(8)]).toMatchObject([
        { pending: true, masked: true },
        { pending: false, masked: true },
      ]);
      expect(vm.unmask(6)).toBe(1);
      expect(drained(vm, 0)).toEqual([6]);
      expect(guest.words.subarray(0, 2048).every((word) => (word & ~EVENT_MASKED) === 0)).toBe(true);
      expect(fifo.toTwoLevel()).toBe(0);
    });

    test('back and forth: old 2-level bits and old links mean nothing later', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      for (let round = 0; round < 5; round++) {
        vm.sendMany([5, 6, 7]);
        expect(drained(vm)).toEqual([5, 6, 7]);
        vm.send(6);
        expect(fifo.toTwoLevel()).toBe(0);
        vm.send(900);
        expect(drained(vm)).toEqual([6, 900]);
        vm.send(8);
        guest.begin(1);
        expect(guest.answer()).toEqual([8]);
      }
    });

    test('a usable port that has no place at 2 levels: -ENOSPC, and nothing has changed', () => {
      const guest = makeFifo({ shared, fifoPorts: 8192, domain: { isUsable: (port) => port < 4097 } });
      guest.vm.send(5);
      expect(guest.fifo.toTwoLevel()).toBe(-28);
      expect(drained(guest.vm)).toEqual([5]);
      const smaller = makeFifo({ shared, fifoPorts: 8192, domain: { isUsable: (port) => port < 4096 } });
      expect(smaller.fifo.toTwoLevel()).toBe(0);
    });

    test('XE-OP-111 reset goes back; what a port that is not usable has pending is not carried', () => {
      const guest = makeFifo({ shared, domain: { isUsable: (port) => port === 6 } });
      const { vm, fifo } = guest;
      vm.sendMany([5, 6]);
      fifo.reset();
      expect([fifo.active, drained(vm)]).toEqual([false, [6]]);
      fifo.reset();
      expect(guest.fifo.expandArray({ arrayGfn: ARRAY_GFN })).toBe(-95);
      guest.begin(1);
      expect([fifo.pages, vm.send(5)]).toEqual([1, 1]);
    });

    test('without shared_info the way back is refused while it is asked to lose nothing, and reset takes it', () => {
      const guest = makeFifo({ shared });
      const { vm, fifo } = guest;
      vm.setAttr({ type: 'shared_info', gfn: null });
      expect(vm.send(5)).toBe(1);
      expect(fifo.toTwoLevel()).toBe(-22);
      expect([fifo.active, drained(vm)]).toEqual([true, [5]]);
      fifo.reset();
      expect([fifo.active, vm.send(5)]).toEqual([false, -22]);
    });
  });

  describe('pages that go away', () => {
    const away = (guest: FifoGuest, gfn: number, then: () => void): void => {
      const { vm } = guest;
      const at = vm.guestBase + gfn * 4096;
      vm.invalidateStart(hva(at), hva(at + 4095));
      then();
      vm.invalidateEnd();
    };

    test('R3 an invalidation takes event words and control blocks; sends say -EAGAIN, change nothing, and go on after it', () => {
      const guest = makeFifo({ shared });
      const { vm } = guest;
      for (const gfn of [ARRAY_GFN, CONTROL_GFN]) {
        const before = ram(vm).slice();
        away(guest, gfn, () => {
          expect(vm.send(5)).toBe(-11);
          expect(vm.sendMany([5, 6])).toBe(-11);
          expect(ram(vm)).toEqual(before);
        });
        expect(vm.sendMany([5, 6])).toBe(2);
        expect(guest.answer()).toEqual([5, 6]);
      }
    });

    test('a batch that ends half-way for want of a page goes on where it ended', () => {
      const guest = makeFifo({ shared, pages: 2 });
      const { vm } = guest;
      away(guest, ARRAY_GFN + 1, () => {
        expect(vm.sendMany([5, 6, 1030, 7])).toBe(-11);
        expect(vm.batchCounts).toMatchObject({ delivered: 2 });
      });
      expect(vm.sendMany([1030, 7, 8])).toBe(3);
      expect(guest.answer()).toEqual([5, 6, 1030, 7, 8]);
    });

    test('a drain whose page is away takes what it can reach, and the rest later', () => {
      const guest = makeFifo({ shared, pages: 2 });
      const { vm } = guest;
      vm.sendMany([5, 1030, 6]);
      away(guest, ARRAY_GFN + 1, () => {
        expect(drained(vm)).toEqual([5]);
        expect(guest.upcall()).toBe(true);
        expect(drained(vm)).toEqual([]);
      });
      expect(drained(vm)).toEqual([1030, 6]);
    });

    test('a vcpu_info that is away: the upcall is kept, and asked for when it is back', () => {
      const guest = makeFifo({ shared });
      const { vm } = guest;
      away(guest, 4, () => {
        expect(vm.send(5)).toBe(1);
        expect(guest.upcall()).toBe(false);
      });
      expect(vm.vcpu(0).upcallPending).toBe(true);
      expect(guest.answer()).toEqual([5]);
    });
  });
});
