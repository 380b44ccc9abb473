// Structures of the kernel's interface from and to objects: byte for byte, at the offsets that the specification's tables say.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/errors.ts';
import {
  type ClockData,
  decodeClockData,
  decodeDirtyLog,
  decodeEvtchnSend,
  decodeHvmConfig,
  decodeIrqfd,
  decodeIrqLevel,
  decodeMemoryRegion,
  decodeRouting,
  decodeVcpuAttr,
  decodeVmAttr,
  decodeXenExit,
  encodeClockData,
  encodeDirtyLog,
  encodeEvtchnSend,
  encodeHvmConfig,
  encodeIrqfd,
  encodeIrqLevel,
  encodeMemoryRegion,
  encodeRouting,
  encodeVcpuAttr,
  encodeVmAttr,
  encodeXenExit,
  gfn,
  gpa,
  type HvmConfig,
  hva,
  type IrqRoute,
  type Memslot,
  type VcpuAttr,
  type VmAttr,
  type XenExit,
} from '../../src/index.ts';
import { errorOf } from '../support.ts';
import { cast } from './evidence.ts';
import {
  ALL1,
  attr,
  config,
  evtchn,
  irqfd,
  memory,
  routing,
  runstate,
  send,
  struct,
  timer,
  u8,
  u16,
  u32,
  u64,
} from './structures.ts';

const BIG = 0xfedc_ba98_7654_3210n;

// ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const times = (running: bigint, runnable: bigint, blocked: bigint, offline: bigint) => ({
  running,
  runnable,
  blocked,
  offline,
});

/** What it shows, the object, and its 72 bytes. */
const VM_ATTRS: [string, VmAttr, Uint8Array][] = [
  ['LONG_MODE off', { type: 'long_mode', enabled: false }, attr(0)],
  ['LONG_MODE on', { type: 'long_mode', enabled: true }, attr(0, [[8, [1]]])],
  ['SHARED_INFO', { type: 'shared_info', gfn: gfn(0x1234) }, attr(1, [[8, u64(0x1234)]])],
  ['SHARED_INFO, the last frame', { type: 'shared_info', gfn: gfn(2 ** 41 - 1) }, attr(1, [[8, u64(2n ** 41n - 1n)]])],
  ['SHARED_INFO, frame 0', { type: 'shared_info', gfn: gfn(0) }, attr(1)],
  ['SHARED_INFO nowhere', { type: 'shared_info', gfn: null }, attr(1, [[8, u64(ALL1)]])],
  ['UPCALL_VECTOR', { type: 'upcall_vector', vector: 0xf3 }, attr(2, [[8, [0xf3]]])],
  [
    'EVTCHN assign, interdomain to a port',
    {
      type: 'evtchn',
      action: 'assign',
      sendPort: 127,
      channel: 'interdomain',
      target: { port: 15, vcpu: 0x01020304, priority: -1 },
    },
    attr(3, [
      [8, [127, 0, 0, 0]],
      [12, [2, 0, 0, 0]],
      [16, [0, 0, 0, 0]],
      [20, [15, 0, 0, 0]],
      [24, [4, 3, 2, 1]],
      [28, [255, 255, 255, 255]],
    ]),
  ],
  [
    'EVTCHN assign, interdomain to an eventfd',
    { type: 'evtchn', action: 'assign', sendPort: 197, channel: 'interdomain', target: { eventfd: 0x0a0b } },
    attr(3, [
      [8, [197]],
      [12, [2]],
      [24, [0x0b, 0x0a]],
    ]),
  ],
  [
    'EVTCHN assign, a descriptor that is negative',
    { type: 'evtchn', action: 'assign', sendPort: 197, channel: 'interdomain', target: { eventfd: -2 } },
    attr(3, [
      [8, [197]],
      [12, [2]],
      [24, [254, 255, 255, 255]],
    ]),
  ],
  [
    'EVTCHN UPDATE of an IPI',
    {
      type: 'evtchn',
      action: 'update',
      sendPort: 4095,
      channel: 'ipi',
      target: { port: 4095, vcpu: 0xffffffff, priority: 7 },
    },
    attr(3, [
      [8, [255, 15]],
      [12, [5]],
      [16, [2]],
      [20, [255, 15]],
      [24, [255, 255, 255, 255]],
      [28, [7]],
    ]),
  ],
  [
    'EVTCHN DEASSIGN',
    { type: 'evtchn', action: 'deassign', sendPort: 0x304 },
    attr(3, [
      [8, [4, 3]],
      [16, [1]],
    ]),
  ],
  ['EVTCHN RESET', { type: 'evtchn', action: 'reset' }, attr(3, [[16, [4]]])],
  ['XEN_VERSION', { type: 'xen_version', version: 0x0004_0011 }, attr(4, [[8, [0x11, 0, 4, 0]]])],
  ['XEN_VERSION, the largest', { type: 'xen_version', version: 2 ** 32 - 1 }, attr(4, [[8, [255, 255, 255, 255]]])],
  ['RUNSTATE_UPDATE_FLAG on', { type: 'runstate_update_flag', enabled: true }, attr(5, [[8, [1]]])],
  ['RUNSTATE_UPDATE_FLAG off', { type: 'runstate_update_flag', enabled: false }, attr(5)],
  [
    'SHARED_INFO_HVA',
    { type: 'shared_info_hva', hva: hva(0x7fff_1234_5000) },
    attr(6, [[8, [0x00, 0x50, 0x34, 0x12, 0xff, 0x7f, 0, 0]]]),
  ],
  ['SHARED_INFO_HVA nowhere', { type: 'shared_info_hva', hva: null }, attr(6)],
];

const VCPU_ATTRS: [string, VcpuAttr, Uint8Array][] = [
  [
    'VCPU_INFO',
    { type: 'vcpu_info', gpa: gpa(0x1234_5678_9abc) },
    attr(0, [[8, [0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12]]]),
  ],
  ['VCPU_INFO, the last', { type: 'vcpu_info', gpa: gpa(2 ** 53 - 1) }, attr(0, [[8, u64(2n ** 53n - 1n)]])],
  ['VCPU_INFO nowhere', { type: 'vcpu_info', gpa: null }, attr(0, [[8, u64(ALL1)]])],
  ['VCPU_TIME_INFO', { type: 'vcpu_time_info', gpa: gpa(0x5fe0) }, attr(1, [[8, [0xe0, 0x5f]]])],
  ['VCPU_TIME_INFO nowhere', { type: 'vcpu_time_info', gpa: null }, attr(1, [[8, u64(ALL1)]])],
  ['RUNSTATE_ADDR', { type: 'runstate_addr', gpa: gpa(0x2ff1) }, attr(2, [[8, [0xf1, 0x2f]]])],
  ['RUNSTATE_ADDR nowhere', { type: 'runstate_addr', gpa: null }, attr(2, [[8, u64(ALL1)]])],
  ...(['running', 'runnable', 'blocked', 'offline'] as const).map((state, i): [string, VcpuAttr, Uint8Array] => [
    `RUNSTATE_CURRENT ${state}`,
    { type: 'runstate_current', state },
    attr(3, [[8, [i]]]),
  ]),
  [
    'RUNSTATE_DATA',
    { type: 'runstate_data', state: 'blocked', entryTime: 0x0102n, times: times(0x11n, 0x22n, 0x33n, BIG) },
    attr(4, [
      [8, [2]],
      [16, [2, 1]],
      [24, [0x11]],
      [32, [0x22]],
      [40, [0x33]],
      [48, [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]],
    ]),
  ],
  [
    'RUNSTATE_ADJUST to a state',
    { type: 'runstate_adjust', state: 'offline', entryTime: 5n, times: times(ALL1, 1n, 2n, 3n) },
    attr(5, [
      [8, [3]],
      [16, [5]],
      [24, u64(ALL1)],
      [32, [1]],
      [40, [2]],
      [48, [3]],
    ]),
  ],
  [
    'RUNSTATE_ADJUST, staying',
    { type: 'runstate_adjust', state: null, entryTime: 0n, times: times(0n, 0n, 0n, 0n) },
    attr(5, [[8, u64(ALL1)]]),
  ],
  ['VCPU_ID', { type: 'vcpu_id', id: 1023 }, attr(6, [[8, [255, 3]]])],
  [
    'TIMER',
    { type: 'timer', port: 13, priority: -1, expires: BIG },
    attr(7, [
      [8, [13]],
      [12, [255, 255, 255, 255]],
      [16, u64(BIG)],
    ]),
  ],
  ['TIMER off', { type: 'timer', port: 0, priority: 0, expires: 0n }, attr(7)],
  ['UPCALL_VECTOR', { type: 'upcall_vector', vector: 16 }, attr(8, [[8, [16]]])],
  ['VCPU_INFO_HVA', { type: 'vcpu_info_hva', hva: hva(0x7fff_ffff_e040) }, attr(9, [[8, u64(0x7fff_ffff_e040)]])],
  ['VCPU_INFO_HVA nowhere', { type: 'vcpu_info_hva', hva: null }, attr(9)],
];

describe('KX-ABI-41 kvm_xen_hvm_attr', () => {
  test.each(VM_ATTRS)('KX-ABI-41 %s, both ways', (_, object, bytes) => {
    expect(encodeVmAttr(object)).toEqual(bytes);
    expect(decodeVmAttr(bytes)).toEqual(object);
  });

  test('KX-ABI-41 every type is shown above', () => {
    expect(new Set(VM_ATTRS.map(([, , bytes]) => bytes[0]))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
  });

  test('KX-ABI-41 a u8 counts with its 8 bits, and any of them is true', () => {
    expect(decodeVmAttr(attr(0, [[8, [0x80]]]))).toEqual({ type: 'long_mode', enabled: true });
    expect(decodeVmAttr(attr(0, [[9, [1]]]))).toEqual({ type: 'long_mode', enabled: false });
    expect(decodeVmAttr(attr(5, [[8, [2]]]))).toEqual({ type: 'runstate_update_flag', enabled: true });
    expect(decodeVmAttr(attr(2, [[8, [0xff, 0xff]]]))).toEqual({ type: 'upcall_vector', vector: 255 });
  });

  test('KX-EVA-09 the priority of an eventfd is not looked at', () => {
    const bytes = evtchn({ sendPort: 5, type: 2, port: 0, vcpu: 9, priority: 1 });
    expect(decodeVmAttr(bytes)).toEqual({
      type: 'evtchn',
      action: 'assign',
      sendPort: 5,
      channel: 'interdomain',
      target: { eventfd: 9 },
    });
  });

  test('KX-EVA-02 RESET ignores the rest, DEASSIGN all but the send port', () => {
    const rest = { type: 77, port: 88, vcpu: 99, priority: 11 };
    expect(decodeVmAttr(evtchn({ ...rest, flags: 4, sendPort: 0xffffffff }))).toEqual({
      type: 'evtchn',
      action: 'reset',
    });
    const deassign = { type: 'evtchn', action: 'deassign', sendPort: 0xffffffff };
    expect(decodeVmAttr(evtchn({ ...rest, flags: 1, sendPort: 0xffffffff }))).toEqual(deassign);
  });

  test('defaults of objects: the priority is 2LEVEL', () => {
    const target = { port: 1, vcpu: 2 };
    const object = { type: 'evtchn', action: 'assign', sendPort: 3, channel: 'interdomain', target } as const;
    expect(encodeVmAttr(object)).toEqual(evtchn({ sendPort: 3, type: 2, port: 1, vcpu: 2, priority: 0xffffffff }));
    const unsigned = { ...object, target: { ...target, priority: 0xffffffff } };
    expect(encodeVmAttr(unsigned)).toEqual(encodeVmAttr(object));
  });
});

describe('KX-ABI-42 kvm_xen_vcpu_attr', () => {
  test.each(VCPU_ATTRS)('KX-ABI-42 %s, both ways', (_, object, bytes) => {
    expect(encodeVcpuAttr(object)).toEqual(bytes);
    expect(decodeVcpuAttr(bytes)).toEqual(object);
  });

  test('KX-ABI-42 every type is shown above', () => {
    expect(new Set(VCPU_ATTRS.map(([, , bytes]) => bytes[0]))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
  });

  test('KX-VCA-09 deltas below zero are those modulo 2^64', () => {
    const object = { type: 'runstate_adjust', state: null, entryTime: -1n, times: times(-2n, 1n, 0n, 0n) } as const;
    const bytes = runstate(5, [ALL1, ALL1, ALL1 - 1n, 1, 0, 0]);
    expect(encodeVcpuAttr(object)).toEqual(bytes);
    expect(decodeVcpuAttr(bytes)).toEqual({ ...object, entryTime: ALL1, times: times(ALL1 - 1n, 1n, 0n, 0n) });
  });
});

describe('structures of the other calls', () => {
  test('KX-ABI-40 kvm_xen_hvm_config', () => {
    const object: Required<HvmConfig> = {
      msr: 0x4012_3456,
      interceptHypercalls: true,
      evtchnSend: false,
      tscUnstable: true,
      blobCompat: hva(0x1122_3344_5566),
      blobLong: hva(0x0000_0abc_d000),
      blobPagesCompat: 0x12,
      blobPagesLong: 0xfe,
    };
    const bytes = struct(56, [
      [0, [0x82, 0, 0, 0]],
      [4, [0x56, 0x34, 0x12, 0x40]],
      [8, [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]],
      [16, [0x00, 0xd0, 0xbc, 0x0a, 0, 0, 0, 0]],
      [24, [0x12]],
      [25, [0xfe]],
    ]);
    expect(encodeHvmConfig(object)).toEqual(bytes);
    expect(decodeHvmConfig(bytes)).toEqual(object);
    expect(encodeHvmConfig({ msr: 0, evtchnSend: true })).toEqual(config({ flags: 0x20 }));
    expect(decodeHvmConfig(config({ flags: 0x20 }, 0))).toMatchObject({ evtchnSend: true, interceptHypercalls: false });
  });

  test('KX-ABI-43 kvm_irq_routing and its entries', () => {
    const routes: IrqRoute[] = [
      { gsi: 32, type: 'xen_evtchn', port: 15, vcpu: 0x01020304 },
      { gsi: 4095, type: 'irqchip', irqchip: 2, pin: 23 },
      { gsi: 1, type: 'msi', address: 0xfee0_0000_1234_5678n, data: 0x4041 },
      { gsi: 2, type: 'msi', address: 1n, data: 2, device: 3 },
    ];
    const bytes = struct(8 + 4 * 48, [
      [0, [4, 0, 0, 0]],
      [8, [32, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
      [24, [15, 0, 0, 0, 4, 3, 2, 1, 255, 255, 255, 255]],
      [56, [255, 15, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
      [72, [2, 0, 0, 0, 23, 0, 0, 0]],
      [104, [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
      [120, [0x78, 0x56, 0x34, 0x12, 0x00, 0x00, 0xe0, 0xfe, 0x41, 0x40, 0, 0, 0, 0, 0, 0]],
      [152, [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]],
      [168, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]],
    ]);
    expect(encodeRouting(routes)).toEqual(bytes);
    expect(decodeRouting(bytes)).toEqual(routes);
    expect(encodeRouting([])).toEqual(new Uint8Array(8));
    expect(decodeRouting(new Uint8Array(8))).toEqual([]);
  });

  test('KX-ABI-43 kvm_irq_routing_xen_evtchn, 12 bytes', () => {
    const bytes = new Uint8Array([0x0f, 0x10, 0, 0, 4, 3, 2, 1, 255, 255, 255, 255]);
    expect(encodeEvtchnSend({ port: 0x100f, vcpu: 0x01020304 })).toEqual(bytes);
    expect(decodeEvtchnSend(bytes)).toEqual({ port: 0x100f, vcpu: 0x01020304, priority: -1 });
    expect(decodeEvtchnSend(send(0xffffffff, 0xfffffffe, 3))).toEqual({
      port: 0xffffffff,
      vcpu: 0xfffffffe,
      priority: 3,
    });
  });

  test('KX-ABI-44 kvm_xen_exit, 80 bytes', () => {
    const exit: XenExit = { longMode: true, cpl: 3, input: 17n, params: [1n, 2n, 3n, 4n, 5n, BIG] };
    const bytes = struct(80, [
      [0, [1, 0, 0, 0]],
      [8, [1, 0, 0, 0]],
      [12, [3, 0, 0, 0]],
      [16, [17]],
      [24, [0xff, 0xff, 0xbf, 0xbf, 0x0d, 0xf0, 0xfe, 0xca]],
      [32, [1]],
      [40, [2]],
      [48, [3]],
      [56, [4]],
      [64, [5]],
      [72, [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]],
    ]);
    expect(encodeXenExit(exit, 0xcafe_f00d_bfbf_ffffn)).toEqual(bytes);
    expect(decodeXenExit(bytes)).toEqual({ ...exit, result: 0xcafe_f00d_bfbf_ffffn });
    expect(encodeXenExit({ ...exit, longMode: false, cpl: 0 })).toEqual(
      struct(80, [
        [0, u32(1)],
        [16, u64(17)],
        ...[1n, 2n, 3n, 4n, 5n, BIG].map((param, i) => [32 + 8 * i, u64(param)] as const),
      ]),
    );
  });

  test('KX-MEM-10 kvm_userspace_memory_region, 32 bytes', () => {
    const slot: Required<Memslot> = {
      id: 0x7ffb,
      addressSpace: 1,
      gpa: gpa(0x1_0000_3000),
      bytes: 0x2_0000_1000,
      hva: hva(0x7f12_3456_7000),
      logDirty: true,
      readonly: true,
    };
    const bytes = struct(32, [
      [0, [0xfb, 0x7f, 1, 0]],
      [4, [3]],
      [8, [0x00, 0x30, 0, 0, 1]],
      [16, [0x00, 0x10, 0, 0, 2]],
      [24, [0x00, 0x70, 0x56, 0x34, 0x12, 0x7f]],
    ]);
    expect(encodeMemoryRegion(slot)).toEqual(bytes);
    expect(decodeMemoryRegion(bytes)).toEqual(slot);
    expect(decodeMemoryRegion(memory(0, 1, 0, 0, 0))).toMatchObject({ logDirty: true, readonly: false });
    expect(decodeMemoryRegion(memory(0xffff_ffff, 2, 0, 0, 0))).toMatchObject({
      id: 0xffff,
      addressSpace: 0xffff,
      logDirty: false,
      readonly: true,
    });
  });

  test('KX-MEM-35 kvm_dirty_log, 16 bytes and whole words for the bitmap', () => {
    expect(encodeDirtyLog({ id: 5, addressSpace: 1 }, 65)).toEqual(struct(16 + 16, [[0, [5, 0, 1, 0]]]));
    expect(encodeDirtyLog({ id: 5 }, 64)).toHaveLength(24);
    expect(decodeDirtyLog(struct(16, [[0, [5, 0, 1, 0]]]))).toEqual({ id: 5, addressSpace: 1 });
  });

  test('KX-RTE-21 kvm_irqfd, 32 bytes; kvm_irq_level, 8 bytes', () => {
    const bytes = struct(32, [
      [0, [4, 3, 2, 1]],
      [4, [33]],
      [8, [1]],
    ]);
    expect(encodeIrqfd({ fd: 0x01020304, gsi: 33, flags: 1 })).toEqual(bytes);
    expect(decodeIrqfd(bytes)).toEqual({ fd: 0x01020304, gsi: 33, flags: 1 });
    expect(encodeIrqfd({ fd: 7, gsi: 8 })).toEqual(irqfd(7, 8, 0));
    const level = new Uint8Array([33, 0, 0, 0, 1, 0, 0, 0]);
    expect(encodeIrqLevel({ gsi: 33, level: 1 })).toEqual(level);
    expect(decodeIrqLevel(level)).toEqual({ gsi: 33, level: 1 });
  });

  test('KX-CLK-01 kvm_clock_data, 48 bytes', () => {
    const data: ClockData = { clock: BIG, realtime: 0x1122n, hostTsc: 0x3344n, tscStable: true };
    const bytes = struct(48, [
      [0, u64(BIG)],
      [8, [14]],
      [16, [0x22, 0x11]],
      [24, [0x44, 0x33]],
    ]);
    expect(encodeClockData(data)).toEqual(bytes);
    expect(decodeClockData(bytes)).toEqual(data);
    const plain: ClockData = { clock: 1n, realtime: null, hostTsc: null, tscStable: false };
    expect(encodeClockData(plain)).toEqual(struct(48, [[0, [1]]]));
    expect(
      decodeClockData(
        struct(48, [
          [0, [1]],
          [16, u64(BIG)],
          [24, u64(BIG)],
        ]),
      ),
    ).toEqual(plain);
  });
});

// ── generated ────────────────────────────────────────────────────────────────────────────────────────────────────────

const u32s = fc.oneof(fc.nat(), fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 1));
const u64s = fc.oneof(
  fc.bigInt({ min: 0n, max: ALL1 }),
  fc.constantFrom(0n, 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, ALL1),
);
const i32s = fc.oneof(fc.constant(-1), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }));
const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const gpas = fc.option(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }).map(gpa));
const hvas = fc.integer({ min: 1, max: 0x7fff_ffff_efff }).map(hva);
const states = fc.constantFrom('running', 'runnable', 'blocked', 'offline');
const timesOf = fc.record({ running: u64s, runnable: u64s, blocked: u64s, offline: u64s });
const targets = fc.record({ port: fc.integer({ min: 1, max: 2 ** 32 - 1 }), vcpu: u32s, priority: i32s });
const eventfds = i32s.map((eventfd) => ({ eventfd }));

const evtchnAttrs: fc.Arbitrary<VmAttr> = fc.oneof(
  fc.record({
    type: fc.constant('evtchn' as const),
    action: fc.constantFrom('assign', 'update'),
    sendPort: u32s,
    channel: fc.constant('interdomain' as const),
    target: fc.oneof(targets, eventfds),
  }),
  fc.record({
    type: fc.constant('evtchn' as const),
    action: fc.constantFrom('assign', 'update'),
    sendPort: u32s,
    channel: fc.constant('ipi' as const),
    // 0 is no eventfd here, only wrong.
    target: fc.oneof(targets, fc.constant({ port: 0, vcpu: 0, priority: -1 })),
  }),
  u32s.map((sendPort) => ({ type: 'evtchn', action: 'deassign', sendPort }) as const),
  fc.constant({ type: 'evtchn', action: 'reset' } as const),
);

const vmAttrs: fc.Arbitrary<VmAttr> = fc.oneof(
  fc.boolean().map((enabled) => ({ type: 'long_mode', enabled }) as const),
  fc
    .option(fc.integer({ min: 0, max: 2 ** 41 - 1 }).map(gfn))
    .map((frame) => ({ type: 'shared_info', gfn: frame }) as const),
  fc.option(hvas).map((at) => ({ type: 'shared_info_hva', hva: at }) as const),
  fc.integer({ min: 0, max: 255 }).map((vector) => ({ type: 'upcall_vector', vector }) as const),
  u32s.map((version) => ({ type: 'xen_version', version }) as const),
  fc.boolean().map((enabled) => ({ type: 'runstate_update_flag', enabled }) as const),
  evtchnAttrs,
);

const vcpuAttrs: fc.Arbitrary<VcpuAttr> = fc.oneof(
  fc
    .tuple(fc.constantFrom('vcpu_info', 'vcpu_time_info', 'runstate_addr'), gpas)
    .map(([type, at]) => ({ type, gpa: at })),
  fc.option(hvas).map((at) => ({ type: 'vcpu_info_hva', hva: at }) as const),
  states.map((state) => ({ type: 'runstate_current', state }) as const),
  fc.record({ type: fc.constant('runstate_data' as const), state: states, entryTime: u64s, times: timesOf }),
  fc.record({
    type: fc.constant('runstate_adjust' as const),
    state: fc.option(states),
    entryTime: u64s,
    times: timesOf,
  }),
  u32s.map((id) => ({ type: 'vcpu_id', id }) as const),
  fc.record({ type: fc.constant('timer' as const), port: u32s, priority: i32s, expires: u64s }),
  fc.integer({ min: 0, max: 255 }).map((vector) => ({ type: 'upcall_vector', vector }) as const),
);

const configs: fc.Arbitrary<Required<HvmConfig>> = fc.record({
  msr: u32s,
  interceptHypercalls: fc.boolean(),
  evtchnSend: fc.boolean(),
  tscUnstable: fc.boolean(),
  blobCompat: hvas,
  blobLong: hvas,
  blobPagesCompat: fc.integer({ min: 0, max: 255 }),
  blobPagesLong: fc.integer({ min: 0, max: 255 }),
});

const routes: fc.Arbitrary<IrqRoute> = fc.oneof(
  fc.record({
    gsi: fc.integer({ min: 0, max: 4095 }),
    type: fc.constant('xen_evtchn' as const),
    port: u32s,
    vcpu: u32s,
  }),
  fc.record({
    gsi: fc.integer({ min: 0, max: 4095 }),
    type: fc.constant('irqchip' as const),
    irqchip: fc.constant(2),
    pin: fc.integer({ min: 0, max: 23 }),
  }),
  fc.record(
    {
      gsi: fc.integer({ min: 0, max: 4095 }),
      type: fc.constant('msi' as const),
      address: u64s,
      data: u32s,
      device: u32s,
    },
    { requiredKeys: ['gsi', 'type', 'address', 'data'] },
  ) as fc.Arbitrary<IrqRoute>,
);

const slots: fc.Arbitrary<Required<Memslot>> = fc.record({
  id: fc.integer({ min: 0, max: 0xffff }),
  addressSpace: fc.integer({ min: 0, max: 0xffff }),
  gpa: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }).map(gpa),
  bytes: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  hva: fc.oneof(fc.constant(hva(0)), hvas),
  logDirty: fc.boolean(),
  readonly: fc.boolean(),
});

const clocks: fc.Arbitrary<ClockData> = fc.record({
  clock: u64s,
  realtime: fc.option(u64s),
  hostTsc: fc.option(u64s),
  tscStable: fc.boolean(),
});

const exits: fc.Arbitrary<XenExit & { readonly result: bigint }> = fc.record({
  longMode: fc.boolean(),
  cpl: u32s,
  input: u64s,
  params: fc.tuple(u64s, u64s, u64s, u64s, u64s, u64s),
  result: u64s,
});

/** Deterministic: the same values in every run. */
const RUNS = { seed: 20240611, numRuns: 500 };

/** Each with what it is made of, and how it goes there and back. */
interface Way<T> {
  readonly objects: fc.Arbitrary<T>;
  readonly encode: (object: T) => Uint8Array;
  readonly decode: (bytes: Uint8Array) => T;
  readonly size: (bytes: Uint8Array) => number;
}
const way = <T>(of: Way<T>): Way<unknown> => of as Way<unknown>;
const sized = (size: number) => (): number => size;
const WAYS = [
  {
    name: 'KX-ABI-41 kvm_xen_hvm_attr',
    of: way({ objects: vmAttrs, encode: encodeVmAttr, decode: decodeVmAttr, size: sized(72) }),
  },
  {
    name: 'KX-ABI-42 kvm_xen_vcpu_attr',
    of: way({ objects: vcpuAttrs, encode: encodeVcpuAttr, decode: decodeVcpuAttr, size: sized(72) }),
  },
  {
    name: 'KX-ABI-40 kvm_xen_hvm_config',
    of: way({ objects: configs, encode: encodeHvmConfig, decode: decodeHvmConfig, size: sized(56) }),
  },
  {
    name: 'KX-ABI-43 kvm_irq_routing',
    of: way({
      objects: fc.array(routes, { maxLength: 5 }),
      encode: encodeRouting,
      decode: decodeRouting,
      size: (bytes) => 8 + 48 * (bytes[0] as number),
    }),
  },
  {
    name: 'KX-ABI-43 kvm_irq_routing_xen_evtchn',
    of: way({
      objects: fc.record({ port: u32s, vcpu: u32s, priority: i32s }),
      encode: encodeEvtchnSend,
      decode: decodeEvtchnSend,
      size: sized(12),
    }),
  },
  {
    name: 'KX-MEM-10 kvm_userspace_memory_region',
    of: way({ objects: slots, encode: encodeMemoryRegion, decode: decodeMemoryRegion, size: sized(32) }),
  },
  {
    name: 'KX-RTE-21 kvm_irqfd',
    of: way({
      objects: fc.record({ fd: u32s, gsi: u32s, flags: u32s }),
      encode: encodeIrqfd,
      decode: decodeIrqfd,
      size: sized(32),
    }),
  },
  {
    name: 'KX-RTE-20 kvm_irq_level',
    of: way({
      objects: fc.record({ gsi: u32s, level: u32s }),
      encode: encodeIrqLevel,
      decode: decodeIrqLevel,
      size: sized(8),
    }),
  },
  {
    name: 'KX-CLK-01 kvm_clock_data',
    of: way({ objects: clocks, encode: encodeClockData, decode: decodeClockData, size: sized(48) }),
  },
  {
    name: 'KX-ABI-44 kvm_xen_exit',
    of: way({
      objects: exits,
      encode: (exit) => encodeXenExit(exit, exit.result),
      decode: decodeXenExit,
      size: sized(80),
    }),
  },
];

describe.each(WAYS)('$name', ({ of }) => {
  test('generated objects come back as they were, and their bytes as well', () => {
    fc.assert(
      fc.property(of.objects, (object) => {
        const bytes = of.encode(object);
        expect(bytes).toHaveLength(of.size(bytes));
        const back = of.decode(bytes);
        expect(back).toEqual(object);
        expect(of.encode(back)).toEqual(bytes);
      }),
      RUNS,
    );
  });

  test('KX-ABI-46 bytes around them are not looked at, wherever the structure lies; one byte less is EFAULT', () => {
    fc.assert(
      fc.property(
        of.objects,
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 0, max: 9 }),
        (object, before, after) => {
          const bytes = of.encode(object);
          const buffer = new Uint8Array(before + bytes.length + after).fill(0xa5);
          buffer.set(bytes, before);
          expect(of.decode(buffer.subarray(before))).toEqual(object);
          expect(of.decode(buffer.subarray(before, before + bytes.length))).toEqual(object);
          expect(errorOf(() => of.decode(buffer.subarray(before, before + bytes.length - 1))).code).toBe('EFAULT');
        },
      ),
      { ...RUNS, numRuns: 100 },
    );
  });
});

/** Where a structure that was decoded has fields; the rest is padding. */
const PADDED = [
  {
    name: 'KX-ABI-41 kvm_xen_hvm_attr',
    decode: decodeVmAttr,
    bytes: attr(1, [[8, u64(5)]]),
    fields: [
      [0, 2],
      [8, 8],
    ],
  },
  {
    name: 'KX-ABI-41 kvm_xen_hvm_attr of EVTCHN',
    decode: decodeVmAttr,
    bytes: evtchn({ sendPort: 3, type: 2, port: 4 }),
    fields: [
      [0, 2],
      [8, 24],
    ],
  },
  {
    name: 'KX-ABI-42 kvm_xen_vcpu_attr of a runstate',
    decode: decodeVcpuAttr,
    bytes: runstate(4, [1, 2, 3, 4, 5, 6]),
    fields: [
      [0, 2],
      [8, 48],
    ],
  },
  {
    name: 'KX-ABI-42 kvm_xen_vcpu_attr of a timer',
    decode: decodeVcpuAttr,
    bytes: timer(1, 0xffffffff, 3),
    fields: [
      [0, 2],
      [8, 16],
    ],
  },
  {
    name: 'KX-ABI-40 kvm_xen_hvm_config',
    decode: decodeHvmConfig,
    bytes: config({ msr: 0x4000_0000 }),
    fields: [[0, 26]],
  },
  {
    name: 'KX-ABI-43 kvm_irq_routing',
    decode: decodeRouting,
    bytes: routing([
      struct(48, [
        [0, u32(1)],
        [4, u32(5)],
        [24, u32(0xffffffff)],
      ]),
    ]),
    fields: [
      [0, 20],
      [24, 12],
    ],
  },
  { name: 'KX-RTE-21 kvm_irqfd', decode: decodeIrqfd, bytes: irqfd(5, 6), fields: [[0, 12]] },
  {
    name: 'KX-CLK-01 kvm_clock_data',
    decode: decodeClockData,
    bytes: struct(48, [[8, u32(14)]]),
    fields: [
      [0, 12],
      [16, 16],
    ],
  },
  {
    name: 'KX-ABI-44 kvm_xen_exit',
    decode: decodeXenExit,
    bytes: struct(80, [[0, u32(1)]]),
    fields: [
      [0, 4],
      [8, 72],
    ],
  },
  { name: 'KX-MEM-35 kvm_dirty_log', decode: decodeDirtyLog, bytes: struct(16, [[0, u32(7)]]), fields: [[0, 4]] },
] as const;

test.each(PADDED)('KX-ABI-46 $name: padding is not looked at, and every field is', ({ decode, bytes, fields }) => {
  const plain = decode(bytes);
  const isField = (at: number): boolean => fields.some(([from, length]) => at >= from && at < from + length);
  const noisy = bytes.map((byte, at) => (isField(at) ? byte : 0xa5));
  expect(decode(noisy)).toEqual(plain);
});

// ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────

const U53 = 2n ** 53n;

/** What a structure says that no object can, or that does not fit: what, the call, the error and words of it. */
const REFUSED: [what: string, call: () => unknown, code: ErrorCode, ...words: string[]][] = [
  ['KX-CAP-18 a VM attribute of type 7', () => decodeVmAttr(attr(7)), 'ENOENT', '7'],
  ['KX-CAP-18 a VM attribute of type 256', () => decodeVmAttr(attr(0x100)), 'ENOENT', '256'],
  ['KX-CAP-18 a vCPU attribute of type 10', () => decodeVcpuAttr(attr(10)), 'ENOENT', '10'],
  ['KX-CAP-18 a vCPU attribute of type 65535', () => decodeVcpuAttr(attr(0xffff)), 'ENOENT', '65535'],
  ['KX-EVA-01 flags 3', () => decodeVmAttr(evtchn({ flags: 3, sendPort: 1, type: 2, port: 1 })), 'EINVAL', '3'],
  ['KX-EVA-01 flags 5', () => decodeVmAttr(evtchn({ flags: 5, sendPort: 1, type: 2, port: 1 })), 'EINVAL', '5'],
  ['KX-EVA-01 flags 8', () => decodeVmAttr(evtchn({ flags: 8, sendPort: 1, type: 2, port: 1 })), 'EINVAL', '8'],
  ['KX-EVA-10 a virq', () => decodeVmAttr(evtchn({ sendPort: 1, type: 4, port: 1 })), 'EINVAL', '4'],
  ['KX-EVA-10 a closed one', () => decodeVmAttr(evtchn({ sendPort: 1, type: 0, port: 1 })), 'EINVAL', '0'],
  ['KX-VMA-05 a frame from 2^41 on', () => decodeVmAttr(attr(1, [[8, u64(2n ** 41n)]])), 'EFAULT', '0x20000000000000'],
  ['KX-VMA-08 a host address from 2^53 on', () => decodeVmAttr(attr(6, [[8, u64(U53)]])), 'EINVAL', '0x20000000000000'],
  ['KX-VCA-01 an address from 2^53 on', () => decodeVcpuAttr(attr(0, [[8, u64(U53)]])), 'EFAULT', '0x20000000000000'],
  ['KX-VCA-01 2^53+1, which a number would round', () => decodeVcpuAttr(attr(0, [[8, u64(U53 + 1n)]])), 'EFAULT', '1'],
  ['KX-VCA-04 2^64-2', () => decodeVcpuAttr(attr(1, [[8, u64(ALL1 - 1n)]])), 'EFAULT', '0xfffffffffffffffe'],
  ['KX-VCA-07 state 4', () => decodeVcpuAttr(runstate(3, [4])), 'EINVAL', '4'],
  ['KX-VCA-07 ALL1 as the current state', () => decodeVcpuAttr(runstate(3, [ALL1])), 'EINVAL', String(ALL1)],
  ['KX-VCA-07 2^32, whose low half is 0', () => decodeVcpuAttr(runstate(3, [2n ** 32n])), 'EINVAL', '4294967296'],
  ['KX-VCA-08 ALL1 as the state of the data', () => decodeVcpuAttr(runstate(4, [ALL1, 0, 0, 0, 0, 0])), 'EINVAL'],
  ['KX-VCA-09 state 4', () => decodeVcpuAttr(runstate(5, [4, 0, 0, 0, 0, 0])), 'EINVAL', '4'],
  ['KX-CAP-11 flag 1', () => decodeHvmConfig(config({ flags: 1 })), 'EINVAL', '0x1', '0xa2'],
  ['KX-CAP-11 the last bit', () => decodeHvmConfig(config({ flags: 0x8000_0000 })), 'EINVAL', '0x80000000'],
  ['KX-ABI-40 a blob from 2^53 on', () => decodeHvmConfig(config({ blob64: U53 })), 'EINVAL', '0x20000000000000'],
  ['KX-MEM-10 flags 4', () => decodeMemoryRegion(memory(0, 4, 0, 0, 0)), 'EINVAL', '0x4'],
  ['KX-MEM-10 flag 31', () => decodeMemoryRegion(memory(0, 2 ** 31, 0, 0, 0)), 'EINVAL', '0x80000000'],
  [
    'KX-MEM-10 an address from 2^53 on',
    () => decodeMemoryRegion(memory(0, 0, U53, 0, 0)),
    'EINVAL',
    '0x20000000000000',
  ],
  ['KX-MEM-10 a size from 2^53 on', () => decodeMemoryRegion(memory(0, 0, 0, U53 + 4096n, 0)), 'EINVAL', 'size'],
  ['KX-MEM-10 a host address of ALL1', () => decodeMemoryRegion(memory(0, 0, 0, 0, ALL1)), 'EINVAL', 'host'],
  ['KX-RTE-10 4097 entries', () => decodeRouting(routing([], 4097)), 'EINVAL', '4097', '4096'],
  ['KX-RTE-10 flags of the table', () => decodeRouting(routing([], 0, 1)), 'EINVAL', '0x1'],
  ['KX-RTE-10 more entries than there are', () => decodeRouting(routing([], 1)), 'EFAULT', '56', '8'],
  [
    'KX-RTE-01 flags of an entry',
    () =>
      decodeRouting(
        routing([
          struct(48, [
            [4, u32(5)],
            [8, u32(1)],
          ]),
        ]),
      ),
    'EINVAL',
    '0x1',
  ],
  ['KX-RTE-01 an entry of type 3', () => decodeRouting(routing([struct(48, [[4, u32(3)]])])), 'EINVAL', '3'],
  ['KX-ABI-44 an exit of type 2', () => decodeXenExit(struct(80, [[0, u32(2)]])), 'EINVAL', '2'],
  ['KX-CLK-01 flags of a clock', () => decodeClockData(struct(48, [[8, u32(1)]])), 'EINVAL', '0x1'],
];

test.each(REFUSED)('KX-ABI-46 refused: %s', (_, call, code, ...words) => {
  const error = errorOf(call);
  expect(error.code).toBe(code);
  for (const word of words) expect(error.message).toContain(word);
});

/** Objects that do not fit their structure. */
const UNFIT: [what: string, call: () => unknown, ...words: string[]][] = [
  ['a frame of 2^41', () => encodeVmAttr({ type: 'shared_info', gfn: cast(2 ** 41) }), '2199023255552'],
  ['a frame of 1.5', () => encodeVmAttr({ type: 'shared_info', gfn: cast(1.5) }), '1.5'],
  ['a host address of 2^47', () => encodeVmAttr({ type: 'shared_info_hva', hva: cast(2 ** 47) }), String(2 ** 47)],
  ['a vector of 256', () => encodeVmAttr({ type: 'upcall_vector', vector: 256 }), '256'],
  ['a vector of -1', () => encodeVcpuAttr({ type: 'upcall_vector', vector: -1 }), '-1'],
  ['a version of 2^32', () => encodeVmAttr({ type: 'xen_version', version: 2 ** 32 }), '4294967296'],
  ['a version of -1', () => encodeVmAttr({ type: 'xen_version', version: -1 }), '-1'],
  ['all ports at once', () => encodeVmAttr({ type: 'evtchn', action: 'set', ports: [] }), 'no structure'],
  ['an unknown action', () => encodeVmAttr(cast({ type: 'evtchn', action: 'x', sendPort: 1 })), 'flags'],
  [
    'an unknown channel',
    () => encodeVmAttr(cast({ type: 'evtchn', action: 'assign', sendPort: 1, channel: 'x', target: { eventfd: 1 } })),
    'type',
  ],
  ['a gpa of 2^53', () => encodeVcpuAttr({ type: 'vcpu_info', gpa: cast(2 ** 53) }), '9007199254740992'],
  ['an unknown state', () => encodeVcpuAttr({ type: 'runstate_current', state: cast('asleep') }), 'asleep'],
  [
    'a time of 2^64',
    () =>
      encodeVcpuAttr({ type: 'runstate_data', state: 'running', entryTime: 2n ** 64n, times: times(0n, 0n, 0n, 0n) }),
    '18446744073709551616',
  ],
  [
    'a time that is negative',
    () => encodeVcpuAttr({ type: 'runstate_data', state: 'running', entryTime: 0n, times: times(0n, -1n, 0n, 0n) }),
    'runnable',
    '-1',
  ],
  [
    'a time that is no bigint',
    () => encodeVcpuAttr({ type: 'runstate_adjust', state: null, entryTime: cast(1), times: times(0n, 0n, 0n, 0n) }),
    'entry time',
  ],
  ['an id of 2^32', () => encodeVcpuAttr({ type: 'vcpu_id', id: 2 ** 32 }), '4294967296'],
  ['an expiry of -1', () => encodeVcpuAttr({ type: 'timer', port: 0, expires: -1n }), '-1'],
  ['a priority of 2^32', () => encodeVcpuAttr({ type: 'timer', port: 0, priority: 2 ** 32, expires: 0n }), 'priority'],
  ['an MSR of 2^32', () => encodeHvmConfig({ msr: 2 ** 32 }), '4294967296'],
  ['256 pages', () => encodeHvmConfig({ msr: 0, blobPagesLong: 256 }), '256'],
  [
    'a route with another priority',
    () => encodeRouting([{ gsi: 1, type: 'xen_evtchn', port: 1, vcpu: 0, priority: 0 }]),
    '0',
  ],
  ['a gsi of 4096', () => encodeRouting([{ gsi: 4096, type: 'xen_evtchn', port: 1, vcpu: 0 }]), '4096'],
  ['a port of 2^32', () => encodeEvtchnSend({ port: 2 ** 32, vcpu: 0 }), '4294967296'],
  ['a slot of 65536', () => encodeMemoryRegion(decodeSlot({ id: 65536 })), '65536'],
  ['an address space of 65536', () => encodeMemoryRegion(decodeSlot({ addressSpace: 65536 })), '65536'],
  ['a size of 2^53', () => encodeMemoryRegion(decodeSlot({ bytes: 2 ** 53 })), 'size'],
  ['a bitmap of -1 pages', () => encodeDirtyLog({ id: 0 }, -1), '-1'],
  [
    'a result of -1',
    () => encodeXenExit({ longMode: true, cpl: 0, input: 0n, params: [0n, 0n, 0n, 0n, 0n, 0n] }, -1n),
    '-1',
  ],
];

function decodeSlot(change: Partial<Memslot>): Memslot {
  return { ...decodeMemoryRegion(memory(0, 0, 0, 0, 0)), ...change };
}

test.each(UNFIT)('an object that does not fit its structure is refused with EINVAL: %s', (_, call, ...words) => {
  const error = errorOf(call);
  expect(error.code).toBe('EINVAL');
  for (const word of words) expect(error.message).toContain(word);
});

test('an attribute of an unknown name is refused with ENOENT', () => {
  for (const type of ['vcpu_info', 'toString', undefined])
    expect(errorOf(() => encodeVmAttr(cast({ type }))).code).toBe('ENOENT');
  for (const type of ['shared_info', '__proto__'])
    expect(errorOf(() => encodeVcpuAttr(cast({ type }))).code).toBe('ENOENT');
});

test('KX-ABI-46 random bytes are decoded, or refused with a code: nothing else is thrown, and nothing is written', () => {
  const decoders = [
    [72, decodeVmAttr],
    [72, decodeVcpuAttr],
    [56, decodeHvmConfig],
    [56, decodeRouting],
    [12, decodeEvtchnSend],
    [32, decodeMemoryRegion],
    [32, decodeIrqfd],
    [48, decodeClockData],
    [80, decodeXenExit],
  ] as const;
  for (const [size, decode] of decoders) {
    fc.assert(
      fc.property(bytesOf(size), fc.integer({ min: 0, max: 11 }), (bytes, type) => {
        bytes.set([...u16(type), ...u8(0)]);
        const before = bytes.slice();
        try {
          decode(bytes);
        } catch (error) {
          expect(errorOf(() => decode(bytes))).toEqual(error);
        }
        expect(bytes).toEqual(before);
      }),
      RUNS,
    );
  }
});
