// The kernel's interface as a VMM calls it: requests by number, structures by their bytes, answers as numbers.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REQUEST_CLOCK_UPDATE, VCPU_REQUESTS as REQUESTS_AT } from '../../src/abi/region.ts';
import { attachVm, createVm, EvtchnError, gpa, VirtualClock, type Vm } from '../../src/index.ts';
import { errorOf, KINDS, makeVm, pendingBit, ram, SHARED_INFO_GPA, VCPU_INFO_GPA } from '../support.ts';
import { changes, refuses, stateBytes } from './evidence.ts';
import { call, makeGuest } from './guest.ts';
import {
  ALL1,
  attr,
  CHECK_EXTENSION,
  config,
  EVTCHN_SEND,
  evtchn,
  evtchnRoute,
  GET_CLOCK,
  GET_DIRTY_LOG,
  get,
  HVM_CONFIG,
  HVM_GET_ATTR,
  HVM_SET_ATTR,
  IRQ_LINE,
  IRQFD,
  irqfd,
  memory,
  REQUESTS,
  RESET_DIRTY_RINGS,
  routing,
  runstate,
  SET_CLOCK,
  SET_GSI_ROUTING,
  SET_USER_MEMORY_REGION,
  send,
  set,
  struct,
  timer,
  u32,
  u64,
  VCPU_GET_ATTR,
  VCPU_REQUESTS,
  VCPU_SET_ATTR,
} from './structures.ts';

const PERM = -1;
const NOENT = -2;
const NXIO = -6;
const BADF = -9;
const FAULT = -14;
const EXIST = -17;
const INVAL = -22;
const NOTTY = -25;
const OPNOTSUPP = -95;

/** The extension that this is about. */
const XEN_HVM = u32(38);

/** Expects a call to answer `errno`, without one byte of the VM or of the argument changed. */
function refusesCall(vm: Vm, of: { ioctl: Vm['ioctl'] }, request: number, bytes: Uint8Array, errno: number): void {
  const before = stateBytes(vm);
  const argument = bytes.slice();
  expect(of.ioctl(request, argument)).toBe(errno);
  expect(changes(before, stateBytes(vm))).toEqual([]);
  expect(argument).toEqual(bytes);
}

/** Who takes a request. */
const target = (vm: Vm, request: number): { ioctl: Vm['ioctl'] } => (VCPU_REQUESTS.includes(request) ? vm.vcpu(0) : vm);

/** A structure that each request accepts on a fresh VM. */
const GOOD = new Map<number, Uint8Array>([
  [CHECK_EXTENSION, new Uint8Array(XEN_HVM)],
  [SET_USER_MEMORY_REGION, memory(1, 1, 0x10_0000, 0x1000, 0)],
  [GET_DIRTY_LOG, struct(16 + 8, [[0, u32(0)]])],
  [IRQ_LINE, struct(8, [[0, u32(5)]])],
  [SET_GSI_ROUTING, routing([evtchnRoute(5, 6, 0)])],
  [IRQFD, irqfd(3, 5)],
  [HVM_CONFIG, config({ msr: 0x4000_0000, flags: 0x22 })],
  [SET_CLOCK, struct(48, [[0, u64(5_000_000_000)]])],
  [GET_CLOCK, new Uint8Array(48)],
  [RESET_DIRTY_RINGS, new Uint8Array(0)],
  [HVM_GET_ATTR, attr(0)],
  [HVM_SET_ATTR, attr(2, [[8, [0x20]]])],
  [EVTCHN_SEND, send(5)],
  [VCPU_GET_ATTR, attr(0)],
  [VCPU_SET_ATTR, attr(8, [[8, [0x20]]])],
]);

/** A VM on which all of them succeed. */
function ready(options: Parameters<typeof makeVm>[0] = {}): Vm {
  const vm = makeVm({ dirtyPages: 64, ...options });
  vm.memslots.set({
    id: 0,
    gpa: gpa(0),
    bytes: vm.guestBytes,
    hva: vm.memslots.list()[0]?.hva ?? (0 as never),
    logDirty: true,
  });
  vm.eventfds.create();
  return vm;
}

describe('KX-ABI-45 requests', () => {
  test.each(REQUESTS)('KX-ABI-45 %s is %i, and goes to a VM or to a vCPU', (_, request) => {
    const vm = request === RESET_DIRTY_RINGS ? createVm({ dirtyRingBytes: 4096, bare: true, guestPages: 8 }) : ready();
    const bytes = GOOD.get(request) ?? new Uint8Array();
    expect(target(vm, request).ioctl(request, bytes.slice())).toBe(request === CHECK_EXTENSION ? 0x1ff : 0);
    const other = VCPU_REQUESTS.includes(request) ? vm : vm.vcpu(0);
    expect(other.ioctl(request, bytes.slice())).toBe(NOTTY);
  });

  test.each(REQUESTS)('KX-ABI-45 %s as the negative number that a 32-bit parameter may be', (_, request) => {
    const vm = ready();
    const bytes = GOOD.get(request) ?? new Uint8Array();
    expect(target(vm, request).ioctl(request | 0, bytes.slice())).not.toBe(NOTTY);
  });

  test('KX-ABI-45 any other request is ENOTTY, whatever comes with it, and changes nothing', () => {
    const vm = ready();
    const known = new Set<number>(REQUESTS.map(([, request]) => request));
    const others = [
      0,
      1,
      -1,
      0.5,
      Number.NaN,
      ...[...known].flatMap((request) => [request - 1, request + 1, request ^ 0x80]),
    ];
    const before = stateBytes(vm);
    for (const request of others.filter((number) => !known.has(number))) {
      for (const of of [vm, vm.vcpu(0)]) {
        expect(of.ioctl(request, new Uint8Array(80)), String(request)).toBe(NOTTY);
        expect(of.ioctl(request), String(request)).toBe(NOTTY);
      }
    }
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });
});

describe('KX-ABI-46 copying in and out', () => {
  test.each(REQUESTS.filter(([, , size]) => size > 0))(
    'KX-ABI-46 %s with a structure that is too short, or none: EFAULT, nothing changes',
    (_, request, size) => {
      const vm = ready();
      const of = target(vm, request);
      const good = GOOD.get(request) ?? new Uint8Array();
      refusesCall(vm, of, request, good.subarray(0, size - 1), FAULT);
      refusesCall(vm, of, request, new Uint8Array(0), FAULT);
      const before = stateBytes(vm);
      expect(of.ioctl(request)).toBe(FAULT);
      if (request !== CHECK_EXTENSION) expect(of.ioctl(request, 5)).toBe(FAULT);
      expect(changes(before, stateBytes(vm))).toEqual([]);
    },
  );

  test.each(REQUESTS)(
    'KX-ABI-46 %s wherever the structure lies in its buffer: what is around it stays',
    (_, request) => {
      if (request === RESET_DIRTY_RINGS) return;
      const good = GOOD.get(request) ?? new Uint8Array();
      const buffer = new Uint8Array(7 + good.length + 64).fill(0xa5);
      buffer.set(good, 7);
      const vm = ready();
      expect(target(vm, request).ioctl(request, buffer.subarray(7))).toBe(request === CHECK_EXTENSION ? 0x1ff : 0);
      expect(buffer.subarray(0, 7).every((byte) => byte === 0xa5)).toBe(true);
      expect(buffer.subarray(7 + good.length).every((byte) => byte === 0xa5)).toBe(true);
    },
  );

  /** Attributes on a VM made by makeVm: how many bytes of the union a GET writes. */
  const LENGTHS = [
    ['vm', 0, 1],
    ['vm', 1, 8],
    ['vm', 2, 1],
    ['vm', 4, 4],
    ['vm', 5, 1],
    ['vm', 6, 8],
    ['vcpu', 0, 8],
    ['vcpu', 1, 8],
    ['vcpu', 3, 8],
    ['vcpu', 4, 48],
    ['vcpu', 6, 4],
    ['vcpu', 7, 16],
    ['vcpu', 8, 1],
    ['vcpu', 9, 8],
  ] as const;
  test.each(LENGTHS)('KX-ABI-46 a GET of %s attribute %i writes its %i bytes, and no padding', (who, type, length) => {
    const vm = makeVm();
    const { result, bytes } = get(who === 'vm' ? vm : vm.vcpu(0), type);
    expect(result).toBe(0);
    const rest = [...bytes.subarray(2, 8), ...bytes.subarray(8 + length)];
    expect(rest.every((byte) => byte === 0xa5)).toBe(true);
    // Twice with other bytes in the buffer: all of the value is written.
    const again = attr(type);
    expect((who === 'vm' ? vm : vm.vcpu(0)).ioctl(who === 'vm' ? HVM_GET_ATTR : VCPU_GET_ATTR, again)).toBe(0);
    expect(again.subarray(8, 8 + length)).toEqual(bytes.subarray(8, 8 + length));
  });

  /** GETs that fail: who, attribute, answer. */
  const FAILING = [
    ['vm', 3, NOENT],
    ['vm', 7, NOENT],
    ['vm', 0xffff, NOENT],
    ['vcpu', 2, NOENT],
    ['vcpu', 5, INVAL],
    ['vcpu', 10, NOENT],
  ] as const;
  test.each(FAILING)(
    'KX-ABI-46 a GET of %s attribute %i answers %i and leaves the buffer as it was',
    (who, type, errno) => {
      const vm = makeVm();
      const of = who === 'vm' ? vm : vm.vcpu(0);
      refusesCall(vm, of, who === 'vm' ? HVM_GET_ATTR : VCPU_GET_ATTR, attr(type, [], 0xa5), errno);
    },
  );

  test('KX-ABI-46 padding of a SET is not looked at', () => {
    const vm = makeVm();
    expect(set(vm, attr(2, [[8, [0x42]]], 0xa5))).toBe(0);
    expect(vm.getAttr('upcall_vector').vector).toBe(0x42);
    expect(vm.ioctl(HVM_CONFIG, config({ msr: 0x4000_0000 }, 0xa5))).toBe(0);
    expect(vm.getConfig()).toMatchObject({ msr: 0x4000_0000, blobPagesCompat: 0, blobPagesLong: 0 });
  });

  test('KX-ABI-46 a view that is detached: EBADF for all', () => {
    const vm = ready();
    vm.detach();
    for (const [name, request] of REQUESTS) {
      const bytes = GOOD.get(request) ?? new Uint8Array();
      expect(target(vm, request).ioctl(request, bytes.slice()), name).toBe(BADF);
    }
  });

  test('what is changed by the owner only is EPERM on any other thread, the rest works there', () => {
    const vm = ready();
    const other = attachVm(vm.handle());
    const free = [CHECK_EXTENSION, IRQ_LINE, HVM_GET_ATTR, VCPU_GET_ATTR, EVTCHN_SEND, GET_CLOCK];
    for (const [name, request] of REQUESTS) {
      const bytes = GOOD.get(request) ?? new Uint8Array();
      if (free.includes(request)) expect(target(other, request).ioctl(request, bytes.slice()), name).not.toBe(PERM);
      else refusesCall(vm, target(other, request), request, bytes, PERM);
    }
  });

  test('a stranger’s exception is no errno: what the embedder’s clock throws comes through', () => {
    let broken = false;
    const realtime = (): bigint => {
      if (broken) throw new TypeError('a bug of the embedder');
      return 0n;
    };
    const vm = makeVm({ clock: { now: () => 0n, realtime } });
    broken = true;
    const before = stateBytes(vm);
    expect(() => vm.ioctl(GET_CLOCK, new Uint8Array(48))).toThrow('a bug of the embedder');
    expect(changes(before, stateBytes(vm))).toEqual([]);
  });

  test('KX-ABI-46 random structures: every call answers, with 0 or more or an errno, and never throws', () => {
    const requests = REQUESTS.filter(([, request]) => request !== SET_USER_MEMORY_REGION);
    const vm = ready({ vcpus: 2 });
    const errnos = [0, NOENT, BADF, FAULT, EXIST, INVAL, -12, -16];
    fc.assert(
      fc.property(
        fc.constantFrom(...requests),
        fc.uint8Array({ minLength: 80, maxLength: 80 }),
        fc.integer({ min: 0, max: 11 }),
        fc.uint8Array({ minLength: 8, maxLength: 8 }),
        ([, request], bytes, type, value) => {
          // Mostly small numbers, so that more than the first check is reached.
          bytes.set([type, 0, 0, 0, 0, 0, 0, 0]);
          bytes.set(
            value.map((byte, i) => (i === 0 ? byte : byte & 1)),
            8,
          );
          expect(errnos).toContain(target(vm, request).ioctl(request, bytes));
        },
      ),
      { seed: 7, numRuns: 2000 },
    );
  });
});

describe('KX-CAP capability and configuration', () => {
  const capability = (vm: Vm): number => vm.ioctl(CHECK_EXTENSION, 38);

  test('KX-CAP-10 0x1FF, and 0x1B7 without scheduler statistics', () => {
    const vm = makeVm();
    expect(capability(vm)).toBe(0x1ff);
    expect(vm.capabilities).toBe(0x1ff);
    const without = makeVm({ schedInfo: false });
    expect(capability(without)).toBe(0x1b7);
    expect(without.capabilities).toBe(0x1b7);
  });

  test('KX-CAP-10 the number as bytes, and any other extension: 0', () => {
    const vm = makeVm();
    expect(vm.ioctl(CHECK_EXTENSION, new Uint8Array(XEN_HVM))).toBe(0x1ff);
    expect(vm.ioctl(CHECK_EXTENSION, new Uint8Array([...XEN_HVM, 0, 0, 0, 0]))).toBe(0x1ff);
    for (const extension of [0, 37, 39, 38 + 256, -1, 2 ** 31]) expect(vm.ioctl(CHECK_EXTENSION, extension)).toBe(0);
  });

  test('KX-CAP-01 bit 0: there is a CONFIG call, and it is no flag', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x001).toBe(0x001);
    expect(vm.ioctl(HVM_CONFIG, config({ msr: 0x4000_0000 }))).toBe(0);
    refusesCall(vm, vm, HVM_CONFIG, config({ msr: 0x4000_0001, flags: 0x001 }), INVAL);
  });

  test('KX-CAP-02 bit 1: as a flag, hypercalls are handled here', () => {
    const guest = makeGuest({ interceptHypercalls: false });
    expect(capability(guest.vm) & 0x002).toBe(0x002);
    expect(call(guest, 17).kind).toBe('other');
    expect(guest.vm.ioctl(HVM_CONFIG, config({ msr: 0x4000_0000, flags: 0x002 }))).toBe(0);
    expect(call(guest, 17).kind).toBe('exit');
  });

  test('KX-CAP-03 bit 2: the four attribute calls exist, and an upcall byte that the VMM sets leads to an upcall', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x004).toBe(0x004);
    for (const request of [HVM_SET_ATTR, HVM_GET_ATTR]) expect(vm.ioctl(request, attr(0, [[8, [1]]]))).toBe(0);
    expect(vm.vcpu(0).ioctl(VCPU_SET_ATTR, attr(0, [[8, u64(0x5000)]]))).toBe(0);
    expect(vm.vcpu(0).ioctl(VCPU_GET_ATTR, attr(0))).toBe(0);
    expect(vm.vcpu(0).upcallPending).toBe(false);
    ram(vm)[0x5000] = 1;
    expect(vm.vcpu(0).upcallPending).toBe(true);
  });

  test('KX-CAP-04 KX-CAP-07 bits 3 and 6: runstate attributes and the update flag exist with them, else EOPNOTSUPP', () => {
    const data = runstate(4, [0, 0, 0, 0, 0, 0]);
    const current = runstate(3, [2]);
    const adjust = runstate(5, [ALL1, 0, 0, 0, 0, 0]);
    const address = attr(2, [[8, u64(0x5000)]]);
    const vm = makeVm();
    expect(capability(vm) & 0x048).toBe(0x048);
    for (const bytes of [address, data, current, adjust]) expect(set(vm.vcpu(0), bytes)).toBe(0);
    for (const type of [2, 3, 4]) expect(get(vm.vcpu(0), type).result).toBe(0);
    expect(set(vm, attr(5, [[8, [1]]]))).toBe(0);
    expect(get(vm, 5)).toMatchObject({ result: 0 });
    const without = makeVm({ schedInfo: false });
    expect(capability(without) & 0x048).toBe(0);
    for (const bytes of [address, data, current, adjust])
      refusesCall(without, without.vcpu(0), VCPU_SET_ATTR, bytes, OPNOTSUPP);
    for (const type of [2, 3, 4]) refusesCall(without, without.vcpu(0), VCPU_GET_ATTR, attr(type, [], 0xa5), OPNOTSUPP);
    refusesCall(without, without, HVM_SET_ATTR, attr(5, [[8, [1]]]), OPNOTSUPP);
    refusesCall(without, without, HVM_GET_ATTR, attr(5, [], 0xa5), OPNOTSUPP);
  });

  test('KX-CAP-05 bit 4: routes to event channels', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x010).toBe(0x010);
    expect(vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(32, 15, 0)]))).toBe(0);
    expect(vm.routes.list()).toEqual([{ gsi: 32, type: 'xen_evtchn', port: 15, vcpu: 0 }]);
  });

  test('KX-CAP-06 bit 5: sends, send ports, versions, ids, timers and vectors', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x020).toBe(0x020);
    expect(vm.ioctl(EVTCHN_SEND, send(5))).toBe(0);
    expect(set(vm, evtchn({ sendPort: 6, type: 2, port: 7 }))).toBe(0);
    expect(set(vm, attr(4, [[8, u32(0x40011)]]))).toBe(0);
    for (const bytes of [attr(6, [[8, u32(3)]]), timer(13, 0xffffffff, 0), attr(8, [[8, [0x40]]])]) {
      expect(set(vm.vcpu(0), bytes)).toBe(0);
    }
    expect(vm.ioctl(HVM_CONFIG, config({ flags: 0x020 }))).toBe(0);
    expect(vm.getConfig().evtchnSend).toBe(true);
  });

  test('KX-CAP-08 bit 7: as a flag, guest clocks do not say that the TSC is stable', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x080).toBe(0x080);
    expect(vm.ioctl(HVM_CONFIG, config({ flags: 0x080 }))).toBe(0);
    expect(vm.getConfig().tscUnstable).toBe(true);
  });

  test('KX-CAP-09 bit 8: pages by host address', () => {
    const vm = makeVm();
    expect(capability(vm) & 0x100).toBe(0x100);
    expect(set(vm, attr(6, [[8, u64(vm.guestBase + 0x5000)]]))).toBe(0);
    expect(set(vm.vcpu(0), attr(9, [[8, u64(vm.guestBase + 0x6000)]]))).toBe(0);
    expect([...get(vm, 6).bytes.subarray(8, 16)]).toEqual(u64(vm.guestBase + 0x5000));
    expect([...get(vm.vcpu(0), 9).bytes.subarray(8, 16)]).toEqual(u64(vm.guestBase + 0x6000));
  });

  test('KX-CAP-11 of the flags only 0x0A2 may be set: each of the 32 bits', () => {
    for (let bit = 0; bit < 32; bit++) {
      const vm = makeVm();
      const flags = 2 ** bit;
      if ([0x02, 0x20, 0x80].includes(flags)) expect(vm.ioctl(HVM_CONFIG, config({ flags }))).toBe(0);
      else for (const all of [flags, flags + 0x20]) refusesCall(vm, vm, HVM_CONFIG, config({ flags: all }), INVAL);
    }
    expect(makeVm().ioctl(HVM_CONFIG, config({ flags: 0x0a2 }))).toBe(0);
  });

  test('KX-CAP-12 intercepting with any address or size of a blob: EINVAL', () => {
    const vm = makeVm();
    for (const blob of [
      { blob32: 0x1000 },
      { blob64: 0x1000 },
      { size32: 1 },
      { size64: 255 },
      { blob64: 2n ** 40n },
    ]) {
      refusesCall(vm, vm, HVM_CONFIG, config({ flags: 0x02, msr: 0x4000_0000, ...blob }), INVAL);
      expect(makeVm().ioctl(HVM_CONFIG, config({ flags: 0x20, msr: 0x4000_0000, ...blob }))).toBe(0);
    }
  });

  test('KX-CAP-13 the MSR is 0 or in its window', () => {
    for (const msr of [0, 0x4000_0000, 0x4000_0200, 0x4fff_ffff])
      expect(makeVm().ioctl(HVM_CONFIG, config({ msr }))).toBe(0);
    const vm = makeVm();
    for (const msr of [1, 0x3fff_ffff, 0x5000_0000, 0x8000_0000, 0xffff_ffff]) {
      refusesCall(vm, vm, HVM_CONFIG, config({ msr }), INVAL);
    }
  });

  test('KX-CAP-14 what is refused leaves the former configuration, whole', () => {
    const vm = makeVm();
    const former = config({ msr: 0x4000_0200, flags: 0xa0, blob32: 0x3000, blob64: 0x5000, size32: 1, size64: 2 });
    expect(vm.ioctl(HVM_CONFIG, former)).toBe(0);
    const before = vm.getConfig();
    for (const bad of [
      config({ flags: 0x101, msr: 1 }),
      config({ flags: 0x02, size32: 1, msr: 1 }),
      config({ msr: 1 }),
    ]) {
      refusesCall(vm, vm, HVM_CONFIG, bad, INVAL);
      expect(vm.getConfig()).toEqual(before);
    }
  });

  test('KX-CAP-15 a configuration replaces the one before, whole; MSR 0 switches off', () => {
    const vm = makeVm();
    const all = { msr: 0x4000_0200, flags: 0xa0, blob32: 0x3000, blob64: 0x5000, size32: 1, size64: 2 };
    expect(vm.ioctl(HVM_CONFIG, config(all))).toBe(0);
    expect(vm.getConfig()).toEqual({
      msr: 0x4000_0200,
      interceptHypercalls: false,
      evtchnSend: true,
      tscUnstable: true,
      blobCompat: 0x3000,
      blobLong: 0x5000,
      blobPagesCompat: 1,
      blobPagesLong: 2,
    });
    expect(vm.ioctl(HVM_CONFIG, config({ flags: 0x02 }))).toBe(0);
    expect(vm.getConfig()).toEqual({
      msr: 0,
      interceptHypercalls: true,
      evtchnSend: false,
      tscUnstable: false,
      blobCompat: 0,
      blobLong: 0,
      blobPagesCompat: 0,
      blobPagesLong: 0,
    });
  });

  test('KX-CAP-16 a change of the unstable-TSC flag asks every vCPU for new clocks, and nothing else does', () => {
    const vm = makeVm({ vcpus: 3 });
    const asked = (): number[] =>
      [0, 1, 2].map(
        (i) => vm.region.words.and(vm.vcpu(i).line + REQUESTS_AT, ~REQUEST_CLOCK_UPDATE) & REQUEST_CLOCK_UPDATE,
      );
    asked();
    const all = [REQUEST_CLOCK_UPDATE, REQUEST_CLOCK_UPDATE, REQUEST_CLOCK_UPDATE];
    for (const [flags, expected] of [
      [0x20, [0, 0, 0]],
      [0x80, all],
      [0xa0, [0, 0, 0]],
      [0x00, all],
    ] as const) {
      expect(vm.ioctl(HVM_CONFIG, config({ flags }))).toBe(0);
      expect(asked()).toEqual(expected);
    }
  });

  test('KX-CAP-17 a configuration leaves pages, ports and attributes alone', () => {
    const vm = makeVm();
    set(vm, evtchn({ sendPort: 6, type: 2, port: 7 }));
    set(vm, attr(2, [[8, [0x30]]]));
    vm.ioctl(EVTCHN_SEND, send(5));
    const answers = () =>
      [0, 1, 2, 4, 5, 6]
        .map((type) => get(vm, type).bytes)
        .concat([0, 1, 6, 7, 8].map((type) => get(vm.vcpu(0), type).bytes));
    const [before, page, ports] = [answers(), ram(vm).slice(), vm.getAttr('evtchn')];
    for (const flags of [0xa2, 0x00])
      expect(vm.ioctl(HVM_CONFIG, config({ flags, msr: flags && 0x4000_0000 }))).toBe(0);
    expect(answers()).toEqual(before);
    expect(vm.getAttr('evtchn')).toEqual(ports);
    expect(changes(page, ram(vm))).toEqual([]);
  });

  test('KX-CAP-18 attributes work without a configuration; unknown ones are ENOENT', () => {
    const vm = makeVm();
    expect(vm.getConfig().msr).toBe(0);
    expect(set(vm, attr(2, [[8, [0x30]]]))).toBe(0);
    expect(set(vm.vcpu(0), attr(8, [[8, [0x31]]]))).toBe(0);
    for (const type of [7, 8, 9, 0x100, 0xffff]) {
      refusesCall(vm, vm, HVM_SET_ATTR, attr(type), NOENT);
      refusesCall(vm, vm, HVM_GET_ATTR, attr(type), NOENT);
    }
    for (const type of [10, 11, 0x100, 0xffff]) {
      refusesCall(vm, vm.vcpu(0), VCPU_SET_ATTR, attr(type), NOENT);
      refusesCall(vm, vm.vcpu(0), VCPU_GET_ATTR, attr(type), NOENT);
    }
  });

  test('KX-CAP-19 ENXIO comes from KVM_IRQ_LINE without an irqchip and from a dirty bitmap where there are rings', () => {
    const vm = makeVm({ irqchip: false, dirtyRingBytes: 4096 });
    refusesCall(vm, vm, IRQ_LINE, struct(8, [[0, u32(5)]]), NXIO);
    refusesCall(vm, vm, GET_DIRTY_LOG, struct(16 + 8, []), NXIO);
    vm.ioctl(SET_USER_MEMORY_REGION, memory(0, 1, 0, vm.guestBytes, vm.guestBase));
    refusesCall(vm, vm, GET_DIRTY_LOG, new Uint8Array(16), NXIO);
    // Before it is known whether there is such a slot.
    refusesCall(vm, vm, GET_DIRTY_LOG, struct(16, [[0, u32(99)]]), NXIO);
  });

  test('KX-CAP-19 no call of Xen answers ENXIO, whatever it is given', () => {
    const vm = makeVm({ irqchip: false, schedInfo: false, dirtyRingBytes: 4096 });
    const calls = REQUESTS.filter(([name]) => name.startsWith('KVM_XEN'));
    fc.assert(
      fc.property(
        fc.constantFrom(...calls),
        fc.uint8Array({ minLength: 72, maxLength: 72 }),
        fc.nat(10),
        ([, request], bytes, type) => {
          bytes.set([type, 0]);
          expect(target(vm, request).ioctl(request, bytes)).not.toBe(NXIO);
        },
      ),
      { seed: 3, numRuns: 1000 },
    );
  });

  test('X-25 flags 1, intercept with a blob, MSR 0x3FFFFFFF: EINVAL by structure and by object', () => {
    const vm = makeVm();
    for (const bad of [
      { flags: 1 },
      { flags: 2, blob32: 0x1000, size32: 1 },
      { flags: 2, size64: 1 },
      { msr: 0x3fff_ffff },
    ]) {
      refusesCall(vm, vm, HVM_CONFIG, config(bad), INVAL);
    }
    refuses(
      vm,
      () => vm.setConfig({ msr: 0, interceptHypercalls: true, blobCompat: 0x1000 as never }),
      'EINVAL',
      'blob',
    );
    refuses(vm, () => vm.setConfig({ msr: 0, interceptHypercalls: true, blobPagesLong: 1 }), 'EINVAL', 'blob');
    refuses(vm, () => vm.setConfig({ msr: 0x3fff_ffff }), 'EINVAL', 0x3fff_ffff);
    // An object has no way to say flag 1: what it does not know it does not look at.
    vm.setConfig({ msr: 0x4000_0000, flags: 1 } as never);
    expect(vm.getConfig().msr).toBe(0x4000_0000);
  });
});

describe.each(KINDS)('events, $layout layout, shared memory: $shared', ({ longMode, shared, maxPorts }) => {
  const make = (options = {}): Vm => makeVm({ longMode, shared, vcpus: 2, vcpuIds: [7, 0x7fff_fff0], ...options });

  test('KX-RTE-30 KX-EVT-30..32 EVTCHN_SEND: raised, pending already and masked are 0', () => {
    const vm = make();
    expect(vm.ioctl(EVTCHN_SEND, send(5, 0x7fff_fff0))).toBe(0);
    expect(pendingBit(vm, 5)).toBe(true);
    expect(ram(vm)[VCPU_INFO_GPA + 64]).toBe(1);
    expect(vm.ioctl(EVTCHN_SEND, send(5, 7))).toBe(0);
    vm.mask(6);
    expect(vm.ioctl(EVTCHN_SEND, send(6, 7))).toBe(0);
    expect(pendingBit(vm, 6)).toBe(true);
  });

  test('KX-RTE-30 KX-EVT-33 EVTCHN_SEND refused: port, priority, vCPU', () => {
    const vm = make();
    for (const port of [0, maxPorts, 4096, 2 ** 31, 2 ** 32 - 1])
      refusesCall(vm, vm, EVTCHN_SEND, send(port, 7), INVAL);
    for (const priority of [0, 1, 0x7fff_ffff, 0xffff_fffe])
      refusesCall(vm, vm, EVTCHN_SEND, send(5, 7, priority), INVAL);
    for (const vcpu of [0, 1, 8, 0x8000_0007, 0xffff_ffff]) refusesCall(vm, vm, EVTCHN_SEND, send(5, vcpu), INVAL);
    expect(vm.ioctl(EVTCHN_SEND, send(maxPorts - 1, 7))).toBe(0);
  });

  test('KX-EVT-34 EVTCHN_SEND without shared_info: EINVAL; with one out of reach: EFAULT', () => {
    const vm = make();
    set(vm, attr(1, [[8, u64(ALL1)]]));
    refusesCall(vm, vm, EVTCHN_SEND, send(5, 7), INVAL);
    expect(set(vm, attr(1, [[8, u64(99)]]))).toBe(FAULT);
    expect(vm.ioctl(EVTCHN_SEND, send(5, 7))).toBe(FAULT);
  });

  test('KX-RTE-31 EVTCHN_SEND needs neither routes nor an irqchip', () => {
    const vm = make({ irqchip: false });
    expect(vm.ioctl(EVTCHN_SEND, send(5, 7))).toBe(0);
  });

  test('KX-RTE-20 S-20 KVM_IRQ_LINE raises the port of its route at level 1, and answers 0 whatever became of it', () => {
    const vm = make();
    expect(vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(32, 15, 7), evtchnRoute(33, 66, 0x7fff_fff0)]))).toBe(0);
    const line = (gsi: number, level: number): number =>
      vm.ioctl(
        IRQ_LINE,
        struct(8, [
          [0, u32(gsi)],
          [4, u32(level)],
        ]),
      );
    expect(line(32, 0)).toBe(0);
    expect(pendingBit(vm, 15)).toBe(false);
    expect(line(32, 1)).toBe(0);
    expect(pendingBit(vm, 15)).toBe(true);
    expect(line(33, 1)).toBe(0);
    expect(ram(vm)[VCPU_INFO_GPA + 64]).toBe(1);
    for (const gsi of [34, 4096, 0xffff_ffff]) expect(line(gsi, 1)).toBe(0);
  });

  test('KX-RTE-21 S-04 S-21 KVM_IRQFD: a signal raises the port of its route until it is taken back', () => {
    const vm = make();
    vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(33, 66, 7)]));
    const eventfd = vm.eventfds.create();
    expect(vm.ioctl(IRQFD, irqfd(eventfd.fd, 33))).toBe(0);
    eventfd.write(1);
    expect(pendingBit(vm, 66)).toBe(true);
    vm.vcpu(0).drain();
    expect(vm.ioctl(IRQFD, irqfd(eventfd.fd, 33))).toBe(-16);
    expect(vm.ioctl(IRQFD, irqfd(eventfd.fd, 33, 1))).toBe(0);
    eventfd.write(1);
    expect(pendingBit(vm, 66)).toBe(false);
  });

  test('KX-RTE-21 KVM_IRQFD refused: flags, a descriptor that is not open', () => {
    const vm = make();
    const eventfd = vm.eventfds.create();
    for (const flags of [2, 3, 0x8000_0000]) refusesCall(vm, vm, IRQFD, irqfd(eventfd.fd, 33, flags), INVAL);
    for (const fd of [eventfd.fd + 1, 0x7fff_ffff, 0xffff_ffff]) {
      refusesCall(vm, vm, IRQFD, irqfd(fd, 33), BADF);
      refusesCall(vm, vm, IRQFD, irqfd(fd, 33, 1), BADF);
    }
    // Flags come first.
    refusesCall(vm, vm, IRQFD, irqfd(999, 33, 2), INVAL);
  });

  test('KX-RTE-10 KX-RTE-11 X-17 KVM_SET_GSI_ROUTING refused: the old routes stay', () => {
    const vm = make();
    vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(32, 15, 7)]));
    const good = evtchnRoute(40, 1, 7);
    const flags = evtchnRoute(41, 1, 7);
    flags.set(u32(1), 8);
    const type = evtchnRoute(41, 1, 7);
    type.set(u32(6), 4);
    for (const [bytes, errno] of [
      [routing([], 4097), INVAL],
      [routing([good], 1, 1), INVAL],
      [routing([good], 2), FAULT],
      [routing([good, evtchnRoute(4096, 1, 7)]), INVAL],
      [routing([good, evtchnRoute(41, 1, 7, 0)]), INVAL],
      [routing([good, evtchnRoute(40, 2, 7)]), INVAL],
      [routing([good, flags]), INVAL],
      [routing([good, type]), INVAL],
    ] as const) {
      refusesCall(vm, vm, SET_GSI_ROUTING, bytes, errno);
    }
    expect(vm.routes.raise(32, 1)).toBe(1);
    const without = make({ irqchip: false });
    for (const bytes of [routing([]), routing([], 4097), routing([], 1)]) {
      refusesCall(without, without, SET_GSI_ROUTING, bytes, INVAL);
    }
  });

  test('KX-RTE-02 KX-RTE-12 ports and vCPUs that do not exist, port 0, and no routes at all are accepted', () => {
    const vm = make();
    const far = [evtchnRoute(1, 0, 7), evtchnRoute(2, 0xffff_ffff, 0xffff_ffff), evtchnRoute(4095, maxPorts, 7)];
    expect(vm.ioctl(SET_GSI_ROUTING, routing(far))).toBe(0);
    expect(vm.routes.list()).toHaveLength(3);
    expect(vm.ioctl(SET_GSI_ROUTING, routing([]))).toBe(0);
    expect(vm.routes.list()).toEqual([]);
  });
});

describe('memory slots and the dirty log', () => {
  const make = (options = {}): Vm => makeVm({ dirtyPages: 256, memslots: 4, ...options });

  test('KX-MEM-10 a slot is created, found, changed and deleted', () => {
    const vm = make();
    const at = vm.guestBase + 0x2000;
    expect(vm.ioctl(SET_USER_MEMORY_REGION, memory(3, 0, 0x1_0000_0000, 0x3000, at))).toBe(0);
    expect(vm.memslots.hvaOf(gpa(0x1_0000_2345))).toBe(at + 0x2345);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, memory(3, 1, 0x2_0000_0000, 0x3000, at))).toBe(0);
    expect(vm.memslots.list().find(({ id }) => id === 3)).toMatchObject({ gpa: 0x2_0000_0000, logDirty: true });
    expect(vm.ioctl(SET_USER_MEMORY_REGION, memory(3, 0, 0, 0, 0))).toBe(0);
    expect(vm.memslots.hvaOf(gpa(0x2_0000_0000))).toBe(null);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, memory(0x1_0003, 2, 0, 0x1000, at))).toBe(0);
    expect(vm.memslots.list().find(({ addressSpace }) => addressSpace === 1)).toMatchObject({ id: 3, readonly: true });
  });

  test('KX-MEM-10 refused, without a change', () => {
    const vm = make();
    const hva = vm.guestBase;
    const P = 0x1000;
    const FREE = 0x10_0000;
    for (const [bytes, errno] of [
      [memory(1, 4, FREE, P, hva), INVAL],
      [memory(1, 0x8000_0000, FREE, P, hva), INVAL],
      [memory(1, 0, FREE + 1, P, hva), INVAL],
      [memory(1, 0, FREE, P + 1, hva), INVAL],
      [memory(1, 0, FREE, P, hva + 8), INVAL],
      [memory(0x2_0001, 0, FREE, P, hva), INVAL],
      [memory(0xffff, 0, FREE, P, hva), INVAL],
      [memory(1, 0, FREE, 0, hva), INVAL],
      [memory(1, 0, 2n ** 53n, P, hva), INVAL],
      [memory(1, 0, 2n ** 64n - 4096n, 0x2000, hva), INVAL],
      [memory(1, 0, 2n ** 63n + BigInt(FREE), P, hva), INVAL],
      [memory(1, 0, FREE, 2n ** 63n, hva), INVAL],
      [memory(1, 0, FREE, P, 2n ** 63n), INVAL],
      [memory(1, 0, FREE, P, 0x7fff_ffff_f000), INVAL],
      [memory(0, 2, 0, vm.guestBytes, hva), INVAL],
      [memory(0, 0, 0, P, hva), INVAL],
      [memory(1, 0, 0x3000, P, hva), EXIST],
    ] as const) {
      refusesCall(vm, vm, SET_USER_MEMORY_REGION, bytes, errno);
    }
    // The same again: 0, without a change.
    refusesCall(vm, vm, SET_USER_MEMORY_REGION, memory(0, 0, 0, vm.guestBytes, hva), 0);
  });

  test('KX-MEM-16 X-07 the slot under shared_info goes and comes: EFAULT by gfn, 0 by host address', () => {
    const vm = make();
    const remove = memory(0, 0, 0, 0, 0);
    const create = memory(0, 0, 0, vm.guestBytes, vm.guestBase);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, remove)).toBe(0);
    expect(vm.ioctl(EVTCHN_SEND, send(5))).toBe(FAULT);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, create)).toBe(0);
    expect(vm.ioctl(EVTCHN_SEND, send(5))).toBe(0);
    expect(set(vm, attr(6, [[8, u64(vm.guestBase + SHARED_INFO_GPA)]]))).toBe(0);
    expect(vm.ioctl(SET_USER_MEMORY_REGION, remove)).toBe(0);
    expect(vm.ioctl(EVTCHN_SEND, send(6))).toBe(0);
    expect(pendingBit(vm, 6)).toBe(true);
  });

  test('KX-MEM-35 the bitmap comes behind the structure, in whole words, once', () => {
    const vm = make({ guestPages: 70 });
    vm.ioctl(SET_USER_MEMORY_REGION, memory(0, 1, 0, vm.guestBytes, vm.guestBase));
    for (const page of [3, 7, 8, 69]) vm.guestMemory.write(gpa(page * 4096), new Uint8Array([1]));
    const argument = struct(16 + 16 + 4, [], 0xa5);
    argument.set(u32(0));
    expect(vm.ioctl(GET_DIRTY_LOG, argument)).toBe(0);
    expect([...argument.subarray(4, 16)]).toEqual(Array(12).fill(0xa5));
    expect([...argument.subarray(16, 32)]).toEqual([0x88, 1, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0]);
    expect([...argument.subarray(32)]).toEqual(Array(4).fill(0xa5));
    expect(vm.ioctl(GET_DIRTY_LOG, argument)).toBe(0);
    expect([...argument.subarray(16, 32)]).toEqual(Array(16).fill(0));
  });

  test('KX-MEM-35 a buffer without room for the bitmap: EFAULT, and the bits are still there', () => {
    const vm = make({ guestPages: 70 });
    vm.ioctl(SET_USER_MEMORY_REGION, memory(0, 1, 0, vm.guestBytes, vm.guestBase));
    vm.guestMemory.write(gpa(0), new Uint8Array([1]));
    refusesCall(vm, vm, GET_DIRTY_LOG, new Uint8Array(16 + 15), FAULT);
    const argument = new Uint8Array(16 + 16);
    expect(vm.ioctl(GET_DIRTY_LOG, argument)).toBe(0);
    expect(argument[16]).toBe(1);
  });

  test('KX-MEM-35 refused: no such slot and one that does not log ENOENT, a bad id EINVAL', () => {
    const vm = make();
    for (const slot of [0, 5, 0x1_0000]) refusesCall(vm, vm, GET_DIRTY_LOG, struct(16 + 8, [[0, u32(slot)]]), NOENT);
    // Also without room for a bitmap that there is not.
    refusesCall(vm, vm, GET_DIRTY_LOG, new Uint8Array(16), NOENT);
    for (const slot of [0xffff, 0x7ffc, 0x2_0000])
      refusesCall(vm, vm, GET_DIRTY_LOG, struct(16 + 8, [[0, u32(slot)]]), INVAL);
  });

  test('KX-MEM-36 KVM_RESET_DIRTY_RINGS answers how many entries it gave back', () => {
    const vm = make({ dirtyRingBytes: 4096 });
    expect(vm.ioctl(RESET_DIRTY_RINGS)).toBe(0);
    vm.ioctl(SET_USER_MEMORY_REGION, memory(0, 1, 0, vm.guestBytes, vm.guestBase));
    for (const page of [3, 7]) vm.guestMemory.write(gpa(page * 4096), new Uint8Array([1]));
    expect(vm.ioctl(RESET_DIRTY_RINGS)).toBe(0);
    expect(vm.dirtyLog.collect(0)).toHaveLength(2);
    expect(vm.ioctl(RESET_DIRTY_RINGS)).toBe(2);
    const without = make();
    refusesCall(without, without, RESET_DIRTY_RINGS, new Uint8Array(), INVAL);
  });
});

describe('KVM_GET_CLOCK and KVM_SET_CLOCK', () => {
  const read = (vm: Vm) => {
    const bytes = new Uint8Array(48).fill(0xa5);
    const result = vm.ioctl(GET_CLOCK, bytes);
    const view = new DataView(bytes.buffer);
    return {
      result,
      clock: view.getBigUint64(0, true),
      flags: view.getUint32(8, true),
      realtime: view.getBigUint64(16, true),
      tsc: view.getBigUint64(24, true),
      padding: [...bytes.subarray(12, 16), ...bytes.subarray(32)].every((byte) => byte === 0),
    };
  };
  const clockData = (clock: bigint, flags = 0, realtime = 0n): Uint8Array =>
    struct(48, [
      [0, u64(clock)],
      [8, u32(flags)],
      [16, u64(realtime)],
    ]);

  test('KX-CLK-01 the guest time from creation on, with the time of day', () => {
    const clock = new VirtualClock(1000n, 1_700_000_000_000_000_000n);
    const vm = makeVm({ clock });
    clock.advance(234n);
    const realtime = 1_700_000_000_000_001_234n;
    expect(read(vm)).toEqual({ result: 0, clock: 234n, flags: 4, realtime, tsc: 0n, padding: true });
  });

  test('KX-CLK-02 with the master clock: stable, and the TSC of the same moment', () => {
    const clock = new VirtualClock(0n, 5n, { tscHz: 2_000_000_000 });
    const vm = makeVm({ clock });
    clock.advance(1_000_000n);
    expect(read(vm)).toEqual({
      result: 0,
      clock: 1_000_000n,
      flags: 14,
      realtime: 1_000_005n,
      tsc: 2_000_000n,
      padding: true,
    });
  });

  test('S-50 the epoch of the guest’s clock is the wall clock that the guest sees', () => {
    const clock = new VirtualClock(77n, 1_700_000_000_123_456_789n);
    const vm = makeVm({ clock });
    const { realtime, clock: guest } = read(vm);
    const at = new DataView(vm.memory.buffer, vm.guestBase + SHARED_INFO_GPA + 0xc00);
    expect(BigInt(at.getUint32(4, true)) * 1_000_000_000n + BigInt(at.getUint32(8, true))).toBe(realtime - guest);
  });

  test('KX-CLK-01 KVM_SET_CLOCK: the clock goes on from there; with a time of day from that, and never back', () => {
    const clock = new VirtualClock(0n, 1_000_000n);
    const vm = makeVm({ clock });
    expect(vm.ioctl(SET_CLOCK, clockData(5_000_000_000n))).toBe(0);
    clock.advance(7n);
    expect(read(vm).clock).toBe(5_000_000_007n);
    // Read 1 us ago on another host.
    expect(vm.ioctl(SET_CLOCK, clockData(9_000n, 4, clock.realtime() - 1000n))).toBe(0);
    expect(read(vm).clock).toBe(10_000n);
    expect(vm.ioctl(SET_CLOCK, clockData(9_000n, 4, clock.realtime() + 1000n))).toBe(0);
    expect(read(vm).clock).toBe(9_000n);
    // The flag says whether the time of day counts.
    expect(vm.ioctl(SET_CLOCK, clockData(9_000n, 2, clock.realtime() - 1000n))).toBe(0);
    expect(read(vm).clock).toBe(9_000n);
    expect(vm.ioctl(SET_CLOCK, clockData(ALL1, 14, clock.realtime() - 1n))).toBe(0);
    expect(read(vm).clock).toBe(0n);
  });

  test('KX-CLK-01 KVM_SET_CLOCK refused: unknown flags', () => {
    const vm = makeVm();
    for (const flags of [1, 16, 0x8000_0000]) refusesCall(vm, vm, SET_CLOCK, clockData(5n, flags), INVAL);
  });
});

test('the errors of objects are those of structures: the same code, as a number', () => {
  const vm = makeVm();
  const error = errorOf(() => vm.setAttr({ type: 'upcall_vector', vector: 7 }));
  expect(error).toBeInstanceOf(EvtchnError);
  expect(set(vm, attr(2, [[8, [7]]]))).toBe(-error.errno);
});
