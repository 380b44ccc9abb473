// An attribute by object and by structure: the same answer, and the VM is left in the same state, byte for byte.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeVcpuAttr,
  decodeVmAttr,
  type ErrorCode,
  encodeHvmConfig,
  encodeMemoryRegion,
  encodeRouting,
  encodeVcpuAttr,
  encodeVmAttr,
  gfn,
  gpa,
  type HvmConfig,
  hva,
  type IrqRoute,
  type Memslot,
  type VcpuAttr,
  VirtualClock,
  type Vm,
  type VmAttr,
} from '../../src/index.ts';
import { errorOf, KINDS, makeVm } from '../support.ts';
import { changes, refusal, stateBytes } from './evidence.ts';
import { get, HVM_CONFIG, SET_GSI_ROUTING, SET_USER_MEMORY_REGION, set } from './structures.ts';

const ERRNOS: Partial<Record<ErrorCode, number>> = {
  ENOENT: -2,
  EBADF: -9,
  EAGAIN: -11,
  EFAULT: -14,
  EBUSY: -16,
  EEXIST: -17,
  EINVAL: -22,
  EOPNOTSUPP: -95,
};

/** What an object's call answers, as a number. */
function answerOf(call: () => void): number {
  const code = refusal(call);
  return code === undefined ? 0 : (ERRNOS[code] ?? Number.NaN);
}

/** Two VMs that are alike: one gets objects, the other structures. */
interface Pair {
  readonly byObject: Vm;
  readonly byWire: Vm;
}

/** Events are pending, port 20 rings an event, port 22 an eventfd, all is registered, and time has passed. */
function prepare(options: Parameters<typeof makeVm>[0]): Vm {
  const clock = new VirtualClock(0n, 1_700_000_000_000_000_000n);
  const vm = makeVm({ vcpus: 2, vcpuIds: [0, 5], ...options, clock });
  clock.advance(1_000_000n);
  const { fd } = vm.eventfds.create();
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 20, channel: 'interdomain', target: { port: 21, vcpu: 5 } });
  vm.setAttr({ type: 'evtchn', action: 'assign', sendPort: 22, channel: 'interdomain', target: { eventfd: fd } });
  for (const port of [5, 6]) vm.send(port);
  vm.setConfig({ msr: 0x4000_0000 });
  return vm;
}
const pair = (options: Parameters<typeof makeVm>[0] = {}): Pair => ({
  byObject: prepare(options),
  byWire: prepare(options),
});

function same({ byObject, byWire }: Pair): void {
  expect(changes(stateBytes(byObject), stateBytes(byWire))).toEqual([]);
}

const VCPU_TYPES: readonly VcpuAttr['type'][] = [
  'vcpu_info',
  'vcpu_time_info',
  'runstate_addr',
  'runstate_current',
  'runstate_data',
  'runstate_adjust',
  'vcpu_id',
  'timer',
  'upcall_vector',
  'vcpu_info_hva',
];
const VM_TYPES: readonly (VmAttr['type'] | null)[] = [
  'long_mode',
  'shared_info',
  'upcall_vector',
  null,
  'xen_version',
  'runstate_update_flag',
  'shared_info_hva',
];

/** Sets a VM attribute in both ways. @returns the answer that both gave */
function setVm(of: Pair, attr: VmAttr): number {
  const answer = answerOf(() => of.byObject.setAttr(attr));
  expect(set(of.byWire, encodeVmAttr(attr))).toBe(answer);
  same(of);
  return answer;
}

function setVcpu(of: Pair, index: number, attr: VcpuAttr): number {
  const answer = answerOf(() => of.byObject.vcpu(index).setAttr(attr));
  expect(set(of.byWire.vcpu(index), encodeVcpuAttr(attr))).toBe(answer);
  same(of);
  return answer;
}

/** Reads everything in both ways. */
function readAll({ byObject, byWire }: Pair): void {
  VM_TYPES.forEach((type, number) => {
    if (type === null) return;
    const { result, bytes } = get(byWire, number);
    expect(result).toBe(answerOf(() => byObject.getAttr(type)));
    if (result === 0) expect(decodeVmAttr(bytes)).toEqual(byObject.getAttr(type));
  });
  VCPU_TYPES.forEach((type, number) => {
    const { result, bytes } = get(byWire.vcpu(1), number);
    // What an object reads as null is ENOENT here.
    if (type === 'runstate_addr' && result === -2) expect(byObject.vcpu(1).getAttr(type).gpa).toBe(null);
    else expect(result).toBe(answerOf(() => byObject.vcpu(1).getAttr(type)));
    if (result === 0) expect(decodeVcpuAttr(bytes)).toEqual(byObject.vcpu(1).getAttr(type));
  });
}

const NONE = { running: 0n, runnable: 0n, blocked: 0n, offline: 0n };
const target = { port: 31, vcpu: 5, priority: -1 };

/** Each attribute with the answers that it gives. */
const VM_CASES: [what: string, attr: (vm: Vm) => VmAttr, answer: number][] = [
  ['long_mode on', () => ({ type: 'long_mode', enabled: true }), 0],
  ['long_mode off', () => ({ type: 'long_mode', enabled: false }), 0],
  ['shared_info elsewhere', () => ({ type: 'shared_info', gfn: gfn(7) }), 0],
  ['shared_info nowhere', () => ({ type: 'shared_info', gfn: null }), 0],
  ['shared_info in no slot', () => ({ type: 'shared_info', gfn: gfn(16) }), -14],
  ['shared_info at the last frame', () => ({ type: 'shared_info', gfn: gfn(2 ** 41 - 1) }), -14],
  ['shared_info_hva', (vm) => ({ type: 'shared_info_hva', hva: hva(vm.guestBase + 0x7000) }), 0],
  ['shared_info_hva nowhere', () => ({ type: 'shared_info_hva', hva: null }), 0],
  ['shared_info_hva that is not aligned', (vm) => ({ type: 'shared_info_hva', hva: hva(vm.guestBase + 8) }), -22],
  ['shared_info_hva that is not there', () => ({ type: 'shared_info_hva', hva: hva(2 ** 40) }), -14],
  ['upcall_vector', () => ({ type: 'upcall_vector', vector: 0xf3 }), 0],
  ['upcall_vector that is reserved', () => ({ type: 'upcall_vector', vector: 15 }), -22],
  ['xen_version', () => ({ type: 'xen_version', version: 2 ** 32 - 1 }), 0],
  ['runstate_update_flag', () => ({ type: 'runstate_update_flag', enabled: true }), 0],
  ['evtchn assign', () => ({ type: 'evtchn', action: 'assign', sendPort: 30, channel: 'interdomain', target }), 0],
  ['evtchn assign of an IPI', () => ({ type: 'evtchn', action: 'assign', sendPort: 31, channel: 'ipi', target }), 0],
  [
    'evtchn assign of an eventfd',
    () => ({ type: 'evtchn', action: 'assign', sendPort: 30, channel: 'interdomain', target: { eventfd: 3 } }),
    0,
  ],
  [
    'evtchn assign of a descriptor that is not open',
    () => ({ type: 'evtchn', action: 'assign', sendPort: 30, channel: 'interdomain', target: { eventfd: -1 } }),
    -9,
  ],
  [
    'evtchn assign twice',
    () => ({ type: 'evtchn', action: 'assign', sendPort: 20, channel: 'interdomain', target }),
    -17,
  ],
  [
    'evtchn assign of 0',
    () => ({ type: 'evtchn', action: 'assign', sendPort: 0, channel: 'interdomain', target }),
    -22,
  ],
  [
    'evtchn update',
    () => ({
      type: 'evtchn',
      action: 'update',
      sendPort: 20,
      channel: 'interdomain',
      target: { port: 21, vcpu: 9, priority: -1 },
    }),
    0,
  ],
  [
    'evtchn update of nothing',
    () => ({ type: 'evtchn', action: 'update', sendPort: 30, channel: 'interdomain', target }),
    -2,
  ],
  [
    'evtchn update of a port',
    () => ({ type: 'evtchn', action: 'update', sendPort: 20, channel: 'interdomain', target }),
    -22,
  ],
  [
    'evtchn update of an eventfd',
    () => ({ type: 'evtchn', action: 'update', sendPort: 22, channel: 'interdomain', target: { eventfd: 3 } }),
    -22,
  ],
  ['evtchn deassign', () => ({ type: 'evtchn', action: 'deassign', sendPort: 22 }), 0],
  ['evtchn deassign of nothing', () => ({ type: 'evtchn', action: 'deassign', sendPort: 30 }), -2],
  ['evtchn reset', () => ({ type: 'evtchn', action: 'reset' }), 0],
];

const VCPU_CASES: [what: string, attr: (vm: Vm) => VcpuAttr, answer: number][] = [
  ['vcpu_info elsewhere', () => ({ type: 'vcpu_info', gpa: gpa(0x6001) }), 0],
  ['vcpu_info nowhere', () => ({ type: 'vcpu_info', gpa: null }), 0],
  ['vcpu_info across a page', () => ({ type: 'vcpu_info', gpa: gpa(0x6fc1) }), -22],
  ['vcpu_info in no slot', () => ({ type: 'vcpu_info', gpa: gpa(2 ** 52) }), -14],
  ['vcpu_info_hva', (vm) => ({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + 0x6000) }), 0],
  ['vcpu_info_hva nowhere', () => ({ type: 'vcpu_info_hva', hva: null }), 0],
  ['vcpu_info_hva across a page', (vm) => ({ type: 'vcpu_info_hva', hva: hva(vm.guestBase + 0xfff) }), -22],
  ['vcpu_time_info', () => ({ type: 'vcpu_time_info', gpa: gpa(0x6fe0) }), 0],
  ['vcpu_time_info nowhere', () => ({ type: 'vcpu_time_info', gpa: null }), 0],
  ['vcpu_time_info across a page', () => ({ type: 'vcpu_time_info', gpa: gpa(0x6fe1) }), -22],
  ['runstate_addr across a page', () => ({ type: 'runstate_addr', gpa: gpa(0x6ff1) }), 0],
  ['runstate_addr nowhere', () => ({ type: 'runstate_addr', gpa: null }), 0],
  ['runstate_addr half in a slot', (vm) => ({ type: 'runstate_addr', gpa: gpa(vm.guestBytes - 15) }), -14],
  ['runstate_current', () => ({ type: 'runstate_current', state: 'blocked' }), 0],
  [
    'runstate_data',
    () => ({ type: 'runstate_data', state: 'offline', entryTime: 9n, times: { ...NONE, running: 4n, blocked: 5n } }),
    0,
  ],
  [
    'runstate_data that does not add up',
    () => ({ type: 'runstate_data', state: 'offline', entryTime: 9n, times: NONE }),
    -22,
  ],
  [
    'runstate_adjust',
    () => ({
      type: 'runstate_adjust',
      state: null,
      entryTime: 0n,
      times: { ...NONE, running: 2n ** 64n - 4n, offline: 4n },
    }),
    0,
  ],
  [
    'runstate_adjust to a state',
    () => ({ type: 'runstate_adjust', state: 'runnable', entryTime: 7n, times: { ...NONE, offline: 7n } }),
    0,
  ],
  [
    'runstate_adjust that does not add up',
    () => ({ type: 'runstate_adjust', state: null, entryTime: 1n, times: NONE }),
    -22,
  ],
  ['vcpu_id', () => ({ type: 'vcpu_id', id: 1023 }), 0],
  ['vcpu_id out of range', () => ({ type: 'vcpu_id', id: 1024 }), -22],
  ['timer', () => ({ type: 'timer', port: 13, priority: -1, expires: 5_000_000n }), 0],
  ['timer in the past', () => ({ type: 'timer', port: 13, expires: 5n }), 0],
  ['timer off', () => ({ type: 'timer', port: 0, priority: 3, expires: 5n }), 0],
  ['timer of another priority', () => ({ type: 'timer', port: 13, priority: 3, expires: 5n }), -22],
  ['upcall_vector', () => ({ type: 'upcall_vector', vector: 16 }), 0],
  ['upcall_vector that is reserved', () => ({ type: 'upcall_vector', vector: 1 }), -22],
];

describe.each(KINDS)('$layout layout, shared memory: $shared', ({ longMode, shared }) => {
  const make = (): Pair => pair({ longMode, shared });

  test.each(VM_CASES)('KX-ABI-41 by object and by structure: %s', (_, attr, answer) => {
    const of = make();
    expect(setVm(of, attr(of.byObject))).toBe(answer);
    readAll(of);
  });

  test.each(VCPU_CASES)('KX-ABI-42 by object and by structure: %s', (_, attr, answer) => {
    const of = make();
    setVcpu(of, 1, { type: 'runstate_addr', gpa: gpa(0x6800) });
    expect(setVcpu(of, 1, attr(of.byObject))).toBe(answer);
    readAll(of);
  });

  test('KX-ABI-40 configurations by object and by structure', () => {
    const configs: HvmConfig[] = [
      { msr: 0x4000_0200, interceptHypercalls: true },
      { msr: 0x4000_0200, evtchnSend: true, tscUnstable: true, blobLong: hva(0x5000), blobPagesLong: 3 },
      { msr: 1 },
      { msr: 0, interceptHypercalls: true, blobPagesCompat: 1 },
      { msr: 0 },
    ];
    const of = make();
    for (const config of configs) {
      const answer = answerOf(() => of.byObject.setConfig(config));
      expect(of.byWire.ioctl(HVM_CONFIG, encodeHvmConfig(config))).toBe(answer);
      same(of);
      expect(of.byWire.getConfig()).toEqual(of.byObject.getConfig());
    }
  });

  test('KX-MEM-10 memory slots by object and by structure', () => {
    const at = (vm: Vm, offset: number) => hva(vm.guestBase + offset);
    const slots: ((vm: Vm) => Memslot)[] = [
      (vm) => ({ id: 1, gpa: gpa(0x10_0000), bytes: 0x2000, hva: at(vm, 0) }),
      (vm) => ({ id: 1, gpa: gpa(0x20_0000), bytes: 0x2000, hva: at(vm, 0) }),
      (vm) => ({ id: 1, gpa: gpa(0x20_0000), bytes: 0x3000, hva: at(vm, 0) }),
      (vm) => ({ id: 2, gpa: gpa(0x20_1000), bytes: 0x1000, hva: at(vm, 0), readonly: true }),
      (vm) => ({ id: 2, addressSpace: 1, gpa: gpa(0x20_1000), bytes: 0x1000, hva: at(vm, 0), readonly: true }),
      (vm) => ({ id: 3, gpa: gpa(0x20_0001), bytes: 0x1000, hva: at(vm, 0) }),
      () => ({ id: 1, gpa: gpa(0), bytes: 0, hva: hva(0) }),
      () => ({ id: 1, gpa: gpa(0), bytes: 0, hva: hva(0) }),
    ];
    const of = make();
    const answers = slots.map((slot) => {
      const answer = answerOf(() => of.byObject.memslots.set(slot(of.byObject)));
      expect(of.byWire.ioctl(SET_USER_MEMORY_REGION, encodeMemoryRegion(slot(of.byWire)))).toBe(answer);
      same(of);
      return answer;
    });
    expect(answers).toEqual([0, 0, -22, -17, 0, -22, 0, -22]);
  });

  test('KX-ABI-43 routes by object and by structure', () => {
    const tables: IrqRoute[][] = [
      [{ gsi: 32, type: 'xen_evtchn', port: 15, vcpu: 5 }],
      [
        { gsi: 1, type: 'irqchip', irqchip: 2, pin: 1 },
        { gsi: 2, type: 'msi', address: 0xfee0_0000n, data: 0x41, device: 9 },
        { gsi: 33, type: 'xen_evtchn', port: 0, vcpu: 2 ** 32 - 1 },
      ],
      [],
    ];
    const of = make();
    for (const routes of tables) {
      of.byObject.routes.set(routes);
      expect(of.byWire.ioctl(SET_GSI_ROUTING, encodeRouting(routes))).toBe(0);
      same(of);
    }
  });

  test('KX-ABI-41 KX-ABI-42 any sequence of attributes, by object and by structure', () => {
    const small = fc.integer({ min: 0, max: 40 });
    const places = fc.option(
      fc.oneof(
        small.map((n) => gpa(n * 0x800 + 0x3c0)),
        fc.constantFrom(gpa(0xfff0), gpa(2 ** 53 - 64)),
      ),
      { freq: 4 },
    );
    const targets = fc.oneof(
      fc.record({ port: small, vcpu: fc.constantFrom(0, 5, 9), priority: fc.constantFrom(-1, -1, -1, 0) }),
      fc.constantFrom(3, 4, -1).map((eventfd) => ({ eventfd })),
    );
    const vmAttrs: fc.Arbitrary<VmAttr> = fc.oneof(
      fc.boolean().map((enabled) => ({ type: 'long_mode', enabled }) as const),
      fc.option(small.map(gfn)).map((frame) => ({ type: 'shared_info', gfn: frame }) as const),
      small.map((vector) => ({ type: 'upcall_vector', vector }) as const),
      fc.boolean().map((enabled) => ({ type: 'runstate_update_flag', enabled }) as const),
      fc.record({
        type: fc.constant('evtchn' as const),
        action: fc.constantFrom('assign', 'update'),
        sendPort: fc.integer({ min: 18, max: 26 }),
        channel: fc.constantFrom('interdomain', 'interdomain', 'ipi'),
        target: targets,
      }),
      fc.integer({ min: 18, max: 26 }).map((sendPort) => ({ type: 'evtchn', action: 'deassign', sendPort }) as const),
    );
    const vcpuAttrs: fc.Arbitrary<VcpuAttr> = fc.oneof(
      fc
        .tuple(fc.constantFrom('vcpu_info', 'vcpu_time_info', 'runstate_addr'), places)
        .map(([type, at]) => ({ type, gpa: at })),
      fc
        .constantFrom('running', 'runnable', 'blocked', 'offline')
        .map((state) => ({ type: 'runstate_current', state }) as const),
      small.map((id) => ({ type: 'vcpu_id', id: id * 30 }) as const),
      fc.tuple(fc.option(fc.constantFrom('running', 'offline')), small).map(
        ([state, n]) =>
          ({
            type: 'runstate_adjust',
            state,
            entryTime: 0n,
            times: { ...NONE, blocked: BigInt(-n), offline: BigInt(n) },
          }) as const,
      ),
      fc.record({
        type: fc.constant('timer' as const),
        port: small,
        priority: fc.constantFrom(-1, 0),
        expires: small.map((n) => BigInt(n * 100_000)),
      }),
    );
    fc.assert(
      fc.property(
        fc.array(fc.oneof(vmAttrs, fc.tuple(fc.nat(1), vcpuAttrs)), { minLength: 5, maxLength: 15 }),
        (attrs) => {
          const of = make();
          for (const attr of attrs) {
            // An IPI cannot say "eventfd" in a structure: there it has port 0.
            if ('type' in attr) setVm(of, attr);
            else setVcpu(of, ...attr);
          }
          readAll(of);
        },
      ),
      { seed: 5, numRuns: 40 },
    );
  });
});

test('X-26 what a structure says and an object cannot is refused as the nearest object is', () => {
  const of = pair();
  const object = errorOf(() => of.byObject.vcpu(0).setAttr({ type: 'runstate_current', state: 'asleep' as never }));
  const bytes = encodeVcpuAttr({ type: 'runstate_current', state: 'offline' });
  bytes[8] = 4;
  expect(set(of.byWire.vcpu(0), bytes)).toBe(-object.errno);
  same(of);
});
