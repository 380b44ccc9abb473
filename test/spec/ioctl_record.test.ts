// Recordings of a VMM's calls: what they hold, how they read, and whether another VM answers the same.

import { describe, expect, test } from 'vitest';
import {
  createVm,
  describeEntry,
  describeIoctl,
  type IoctlEntry,
  type IoctlVm,
  recordIoctls,
  replayIoctls,
  VirtualClock,
  type Vm,
} from '../../src/index.ts';
import { errorOf } from '../support.ts';
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
  struct,
  timer,
  u32,
  u64,
  VCPU_GET_ATTR,
  VCPU_SET_ATTR,
} from './structures.ts';

const fresh = (options = {}): Vm => {
  const vm = createVm({ guestPages: 16, vcpus: 2, bare: true, clock: new VirtualClock(), ...options });
  vm.eventfds.create();
  return vm;
};

/** What a VMM does to set up a guest: the steps S-01 to S-07 and S-23 of the selftest, and a call that fails. */
function setUp(vm: IoctlVm): number[] {
  const vcpu = vm.vcpu(1);
  return [
    vm.ioctl(CHECK_EXTENSION, 38),
    vm.ioctl(HVM_CONFIG, config({ msr: 0x4000_0000, flags: 0x22 })),
    vm.ioctl(HVM_SET_ATTR, attr(0, [[8, [1]]])),
    vm.ioctl(HVM_SET_ATTR, attr(5, [[8, [1]]])),
    vm.ioctl(HVM_GET_ATTR, attr(5, [], 0xa5)),
    vm.ioctl(HVM_SET_ATTR, attr(1, [[8, u64(3)]])),
    vcpu.ioctl(VCPU_SET_ATTR, attr(0, [[8, u64(0x4040)]])),
    vcpu.ioctl(VCPU_SET_ATTR, attr(1, [[8, u64(0x5000)]])),
    vm.ioctl(HVM_SET_ATTR, attr(2, [[8, [0x10]]])),
    vcpu.ioctl(VCPU_SET_ATTR, attr(2, [[8, u64(0x5ff1)]])),
    vm.ioctl(SET_GSI_ROUTING, routing([evtchnRoute(32, 15, 1), evtchnRoute(33, 66, 1)])),
    vm.ioctl(IRQFD, irqfd(3, 32)),
    vm.ioctl(HVM_SET_ATTR, evtchn({ sendPort: 127, type: 2, port: 15, vcpu: 9 })),
    vm.ioctl(HVM_SET_ATTR, evtchn({ sendPort: 127, type: 2, port: 15, vcpu: 1, flags: 2 })),
    vcpu.ioctl(VCPU_SET_ATTR, timer(13, 0xffffffff, 0)),
    vm.ioctl(EVTCHN_SEND, send(66, 1)),
    vcpu.ioctl(VCPU_SET_ATTR, runstate(3, [4])),
    vm.ioctl(0x1234),
  ];
}
const ANSWERS = [0x1ff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -22, -25];

function record(vm: Vm, run: (vm: IoctlVm) => void): IoctlEntry[] {
  const entries: IoctlEntry[] = [];
  run(recordIoctls(vm, (entry) => entries.push(entry)));
  return entries;
}

describe('KX-ABI-46 recordings', () => {
  test('KX-ABI-46 a recorder answers as the VM does, and holds every call: target, request, bytes before and after, answer', () => {
    const vm = fresh();
    let answers: number[] = [];
    const entries = record(vm, (recorder) => {
      answers = setUp(recorder);
    });
    expect(answers).toEqual(ANSWERS);
    expect(setUp(fresh())).toEqual(ANSWERS);
    expect(entries.map(({ result }) => result)).toEqual(ANSWERS);
    expect(entries[0]).toEqual({
      target: 'vm',
      request: CHECK_EXTENSION,
      bytes: new Uint8Array([38, 0, 0, 0]),
      result: 0x1ff,
      out: new Uint8Array([38, 0, 0, 0]),
    });
    expect(entries[4]).toEqual({
      target: 'vm',
      request: HVM_GET_ATTR,
      bytes: attr(5, [], 0xa5),
      result: 0,
      out: attr(5, [[8, [1]]], 0xa5),
    });
    expect(entries[6]).toMatchObject({ target: 1, request: VCPU_SET_ATTR });
    expect(entries[17]).toEqual({
      target: 'vm',
      request: 0x1234,
      bytes: new Uint8Array(),
      result: -25,
      out: new Uint8Array(),
    });
  });

  test('a recording keeps its bytes when the VMM uses its buffer again', () => {
    const buffer = attr(2, [[8, [0x20]]]);
    const entries = record(fresh(), (vm) => {
      vm.ioctl(HVM_SET_ATTR, buffer);
      buffer[8] = 0x30;
      vm.ioctl(HVM_SET_ATTR, buffer);
      vm.ioctl(HVM_GET_ATTR, buffer);
    });
    expect(entries.map(({ bytes, out }) => [bytes[8], out[8]])).toEqual([
      [0x20, 0x20],
      [0x30, 0x30],
      [0x30, 0x30],
    ]);
  });

  test('replayed on a VM like it, there is no difference, also twice from the same recording', () => {
    const entries = record(fresh(), setUp);
    expect(replayIoctls(fresh(), entries)).toEqual([]);
    expect(replayIoctls(fresh(), entries)).toEqual([]);
  });

  test('replayed on a VM that behaves differently: each difference, in answer or in bytes, and it goes on', () => {
    const entries = record(fresh(), setUp);
    const differences = replayIoctls(fresh({ schedInfo: false, irqchip: false }), entries);
    expect(differences.map(({ index, result }) => [index, result])).toEqual([
      [0, 0x1b7],
      [3, -95],
      [4, -95],
      [9, -95],
      [10, -22],
      [11, -22],
      [16, -95],
    ]);
    expect(differences[2]?.entry).toBe(entries[4]);
    expect(differences[2]?.out).toEqual(attr(5, [], 0xa5));
    const set = record(fresh(), (vm) => {
      vm.ioctl(HVM_SET_ATTR, attr(4, [[8, u32(5)]]));
      vm.ioctl(HVM_GET_ATTR, attr(4));
    });
    expect(replayIoctls(fresh(), set.slice(1))).toEqual([{ index: 0, entry: set[1], result: 0, out: attr(4) }]);
  });

  test('a recording of a vCPU that is not there: EINVAL', () => {
    const entries = record(fresh(), setUp);
    const error = errorOf(() => replayIoctls(fresh({ vcpus: 1 }), entries));
    expect(error.code).toBe('EINVAL');
  });

  test('a recorder can be recorded, and replayed upon', () => {
    const outer: IoctlEntry[] = [];
    const vm = fresh();
    const entries = record(vm, (inner) => setUp(recordIoctls(inner, (entry) => outer.push(entry))));
    expect(outer).toEqual(entries);
    const again: IoctlEntry[] = [];
    expect(
      replayIoctls(
        recordIoctls(fresh(), (entry) => again.push(entry)),
        entries,
      ),
    ).toEqual([]);
    expect(again).toEqual(entries);
  });
});

describe('lines', () => {
  const LINES: [request: number, bytes: Uint8Array | number, line: string][] = [
    [CHECK_EXTENSION, 38, 'KVM_CHECK_EXTENSION extension=38'],
    [
      SET_USER_MEMORY_REGION,
      memory(0x1_0003, 1, 0x1000, 0x2000, 0x7f00_0000_3000),
      'KVM_SET_USER_MEMORY_REGION id=3 addressSpace=1 gpa=0x1000 bytes=0x2000 hva=0x7f0000003000 logDirty=true readonly=false',
    ],
    [GET_DIRTY_LOG, struct(16, [[0, u32(3)]]), 'KVM_GET_DIRTY_LOG id=3 addressSpace=0'],
    [RESET_DIRTY_RINGS, new Uint8Array(), 'KVM_RESET_DIRTY_RINGS'],
    [
      IRQ_LINE,
      struct(8, [
        [0, u32(32)],
        [4, u32(1)],
      ]),
      'KVM_IRQ_LINE gsi=32 level=1',
    ],
    [
      SET_GSI_ROUTING,
      routing([
        evtchnRoute(32, 15, 1),
        struct(48, [
          [0, u32(2)],
          [4, u32(2)],
          [16, u64(0xfee0_0000)],
          [24, u32(65)],
        ]),
      ]),
      'KVM_SET_GSI_ROUTING routes=[{gsi=32 xen_evtchn port=15 vcpu=1}, {gsi=2 msi address=0xfee00000 data=65}]',
    ],
    [SET_GSI_ROUTING, routing([]), 'KVM_SET_GSI_ROUTING routes=[]'],
    [IRQFD, irqfd(3, 32), 'KVM_IRQFD fd=3 gsi=32 flags=0x0'],
    [
      HVM_CONFIG,
      config({ msr: 0x4000_0000, flags: 0x22 }),
      'KVM_XEN_HVM_CONFIG flags=0x22 msr=0x40000000 interceptHypercalls=true evtchnSend=true tscUnstable=false ' +
        'blobCompat=0x0 blobLong=0x0 blobPagesCompat=0 blobPagesLong=0',
    ],
    [GET_CLOCK, new Uint8Array(48), 'KVM_GET_CLOCK'],
    [
      SET_CLOCK,
      struct(48, [
        [0, u64(5)],
        [8, [4]],
        [16, u64(6)],
      ]),
      'KVM_SET_CLOCK clock=5 realtime=6 hostTsc=none tscStable=false',
    ],
    [HVM_SET_ATTR, attr(1, [[8, u64(3)]]), 'KVM_XEN_HVM_SET_ATTR shared_info gfn=0x3'],
    [HVM_SET_ATTR, attr(1, [[8, u64(ALL1)]]), 'KVM_XEN_HVM_SET_ATTR shared_info gfn=none'],
    [
      HVM_SET_ATTR,
      evtchn({ sendPort: 127, type: 2, port: 15, vcpu: 1 }),
      'KVM_XEN_HVM_SET_ATTR evtchn action=assign sendPort=127 channel=interdomain target={port=15 vcpu=1 priority=-1}',
    ],
    [HVM_GET_ATTR, attr(6, [], 0xa5), 'KVM_XEN_HVM_GET_ATTR shared_info_hva'],
    [EVTCHN_SEND, send(66, 1), 'KVM_XEN_HVM_EVTCHN_SEND port=66 vcpu=1 priority=-1'],
    [
      VCPU_SET_ATTR,
      runstate(4, [2, 6, 1, 2, 3, 0]),
      'KVM_XEN_VCPU_SET_ATTR runstate_data state=blocked entryTime=6 times={running=1 runnable=2 blocked=3 offline=0}',
    ],
    [VCPU_SET_ATTR, timer(13, 0xffffffff, 5), 'KVM_XEN_VCPU_SET_ATTR timer port=13 priority=-1 expires=5'],
    [VCPU_GET_ATTR, attr(7), 'KVM_XEN_VCPU_GET_ATTR timer'],
  ];
  test.each(LINES)('request %i reads as it should', (request, bytes, line) => {
    expect(describeIoctl(request, bytes)).toBe(line);
    expect(describeIoctl(request | 0, bytes)).toBe(line);
  });

  test('every request has its name', () => {
    for (const [name, request] of REQUESTS)
      expect(describeIoctl(request, new Uint8Array(80)).startsWith(name)).toBe(true);
  });

  test('what is wrong with a structure, and a request that is not known', () => {
    expect(describeIoctl(HVM_SET_ATTR, evtchn({ flags: 3, sendPort: 1 }))).toBe(
      'KVM_XEN_HVM_SET_ATTR: EINVAL: the flags of an event channel are 3, allowed are 0, 1, 2 and 4',
    );
    expect(describeIoctl(HVM_SET_ATTR, attr(9))).toBe('KVM_XEN_HVM_SET_ATTR: ENOENT: there is no attribute of type 9');
    expect(describeIoctl(HVM_SET_ATTR)).toBe(
      'KVM_XEN_HVM_SET_ATTR: EFAULT: the structure has 72 bytes, but only 0 were given',
    );
    expect(describeIoctl(VCPU_SET_ATTR, attr(0, [[8, u64(2n ** 63n)]]))).toBe(
      'KVM_XEN_VCPU_SET_ATTR: EFAULT: the guest-physical address 0x8000000000000000 is in no memory slot',
    );
    expect(describeIoctl(0x1234, new Uint8Array(5))).toBe('ioctl 0x1234, which is not known, with 5 bytes');
    expect(describeIoctl(-1)).toBe('ioctl 0xffffffff, which is not known, with 0 bytes');
  });

  test('an entry says who was called and what the answer was', () => {
    const entries = record(fresh(), setUp);
    expect(entries.slice(0, 1).concat(entries.slice(15)).map(describeEntry)).toEqual([
      'vm: KVM_CHECK_EXTENSION extension=38 = 511',
      'vm: KVM_XEN_HVM_EVTCHN_SEND port=66 vcpu=1 priority=-1 = 0',
      'vcpu 1: KVM_XEN_VCPU_SET_ATTR: EINVAL: the runstate is 4, allowed are 0 to 3 = -22 (EINVAL)',
      'vm: ioctl 0x1234, which is not known, with 0 bytes = -25 (ENOTTY)',
    ]);
  });
});
