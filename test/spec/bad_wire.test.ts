// Every field of every structure of the kernel's interface at every limit: taken and read back, or refused with the code of the
// specification's tables, the structure and the whole VM as they were. Structures that are too short are refused before that.

import { describe, expect, test } from 'vitest';
import * as errno from '../../src/abi/errno.ts';
import {
  GPC_SIZE,
  REGION_INVALIDATE_SEQ,
  VCPU_INFO_GPC,
  VCPU_RUNSTATE1_GPC,
  VCPU_SHADOW_LO,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import {
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
  type ErrorCode,
  EvtchnError,
  errnoName,
  type Vcpu,
  type Vm,
} from '../../src/index.ts';
import { errorOf, LAYOUTS } from '../support.ts';
import { expectSame, type Field, tryField, type Verdict } from './bad_input.ts';
import { stateBytes } from './evidence.ts';
import { furnishedVm } from './furnished.ts';
import {
  ALL1,
  attr,
  config,
  EVTCHN_SEND,
  evtchn,
  evtchnRoute,
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
  VCPU_REQUESTS,
  VCPU_SET_ATTR,
} from './structures.ts';

const PAGE = 4096n;
const RAM = 16n * PAGE;
const HIGH = 2n ** 33n;
const HVA_END = 2n ** 47n - 4096n;
const MINUS_1 = 2n ** 32n - 1n;
const VCPU = 1;
/** A send port that a furnished VM does not have. */
const FREE = 100;

const EDGES = [
  0n,
  1n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  ALL1,
];

/** A field of a structure that is good but for it. */
interface WireField {
  readonly name: string;
  readonly request: number;
  readonly at: number;
  readonly bits: 8 | 16 | 32 | 64;
  /** values to try besides the edges of every width; their neighbours are tried as well */
  readonly limits?: readonly bigint[];
  verdict(value: bigint): Verdict;
  good(vm: Vm): Uint8Array;
  read?(vm: Vm): bigint | undefined;
  readsAs?(value: bigint): bigint;
  readonly mayChange?: Field['mayChange'];
  prepare?(vm: Vm): void;
}

function valuesOf({ bits, limits = [] }: WireField): bigint[] {
  const near = limits.flatMap((limit) => [limit - 1n, limit, limit + 1n]);
  const end = 2n ** BigInt(bits);
  return [...new Set([...near, ...EDGES, end / 2n - 1n, end / 2n, end - 1n])].filter((v) => v >= 0n && v < end);
}

function put(bytes: Uint8Array, { at, bits }: WireField, value: bigint): void {
  for (let i = 0; i < bits / 8; i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

function ioctl(vm: Vm, request: number, bytes: Uint8Array): number {
  return VCPU_REQUESTS.includes(request) ? vm.vcpu(VCPU).ioctl(request, bytes) : vm.ioctl(request, bytes);
}

/** As a field of the generator: what is refused throws, and has left the structure as it was. */
function asField(field: WireField): Field {
  const values = valuesOf(field);
  const verdict = (value: unknown): Verdict => field.verdict(value as bigint);
  const set = (vm: Vm, value: unknown): void => {
    const bytes = field.good(vm);
    put(bytes, field, value as bigint);
    const given = bytes.slice();
    const result = ioctl(vm, field.request, bytes);
    if (result >= 0) return;
    expect(bytes).toEqual(given);
    throw new EvtchnError(errnoName(result) ?? 'ENOTTY', `result ${result}`);
  };
  const { name, read, readsAs, mayChange, prepare } = field;
  return {
    name,
    values,
    verdict,
    set,
    total: values.every((value) => verdict(value) === 'taken'),
    ...(read && { read }),
    ...(readsAs && { readsAs: (value: unknown) => readsAs(value as bigint) }),
    ...(mayChange && { mayChange }),
    ...(prepare && { prepare }),
  };
}

// ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const anything = (): Verdict => 'taken';
const within =
  (min: bigint, max: bigint) =>
  (value: bigint): Verdict =>
    value >= min && value <= max ? 'taken' : 'EINVAL';
const only =
  (...allowed: readonly bigint[]) =>
  (value: bigint): Verdict =>
    allowed.includes(value) ? 'taken' : 'EINVAL';
const isVector = (value: bigint): Verdict => (value === 0n || value >= 16n ? 'taken' : 'EINVAL');
const isRam = (gpa: bigint): boolean => gpa < RAM || (gpa >= HIGH && gpa < HIGH + 2n * PAGE);

const byGpa =
  (length: bigint) =>
  (value: bigint): Verdict => {
    if (value === ALL1) return 'taken';
    if ((value % PAGE) + length > PAGE) return 'EINVAL';
    return isRam(value) ? 'taken' : 'EFAULT';
  };
const byHva =
  (sample: Vm, length: bigint) =>
  (value: bigint): Verdict => {
    if (value === 0n) return 'taken';
    if (value >= HVA_END || (value % PAGE) + length > PAGE) return 'EINVAL';
    const base = BigInt(sample.guestBase);
    return value >= base && value < base + RAM ? 'taken' : 'EFAULT';
  };

// ── reading back ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A field of what a GET writes; all ones stands for a failure that no value is. */
function gets(type: number, of: 'vm' | 'vcpu', at = 8, bits: 8 | 32 | 64 = 64) {
  return (vm: Vm): bigint => {
    const { result, bytes } = get(of === 'vm' ? vm : vm.vcpu(VCPU), type);
    expect(result).toBe(0);
    const view = new DataView(bytes.buffer);
    if (bits === 8) return BigInt(view.getUint8(at));
    return bits === 32 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
  };
}
const flagOf = (value: bigint): bigint => (value === 0n ? 0n : 1n);

function remap(place: (vm: Vm) => readonly [number, number]): Field['mayChange'] {
  return (vm: Vm, code: ErrorCode) =>
    code === 'EFAULT'
      ? [place(vm), [vm.vmBase + REGION_INVALIDATE_SEQ, 4], [vm.vcpu(VCPU).line + VCPU_SHADOW_LO, 8]]
      : [];
}
const inRecord = (at: number, length = GPC_SIZE) => remap((vm) => [(vm.vcpu(VCPU) satisfies Vcpu).record + at, length]);
const ofSharedInfo = remap((vm) => [vm.region.sharedInfo, GPC_SIZE]);

// ── attributes ───────────────────────────────────────────────────────────────────────────────────────────────────────

const onVm = { request: HVM_SET_ATTR, at: 8 } as const;
const onVcpu = { request: VCPU_SET_ATTR, at: 8 } as const;
const knownType =
  (last: bigint, ...refused: readonly bigint[]) =>
  (value: bigint): Verdict => {
    if (value > last) return 'ENOENT';
    return refused.includes(value) ? 'EINVAL' : 'taken';
  };

function vmAttributes(sample: Vm): WireField[] {
  return [
    // A structure of zeros otherwise: 3 is an EVTCHN without a type, which is none.
    {
      name: 'KX-ABI-41 kvm_xen_hvm_attr.type',
      request: HVM_SET_ATTR,
      at: 0,
      bits: 16,
      limits: [6n],
      good: () => attr(0),
      verdict: knownType(6n, 3n),
    },
    {
      name: 'KX-VMA-02 LONG_MODE',
      ...onVm,
      bits: 8,
      good: () => attr(0),
      verdict: anything,
      read: gets(0, 'vm', 8, 8),
      readsAs: flagOf,
    },
    {
      name: 'KX-VMA-05 SHARED_INFO, a frame modulo 2^52; with EFAULT its cache has the new one',
      ...onVm,
      bits: 64,
      limits: [15n, 16n, 2n ** 21n, 2n ** 21n + 2n, 2n ** 41n, 2n ** 52n, 2n ** 52n + 16n],
      good: () => attr(1),
      verdict: (frame) => (frame === ALL1 || isRam((frame % 2n ** 52n) * PAGE) ? 'taken' : 'EFAULT'),
      read: gets(1, 'vm'),
      readsAs: (frame) => (frame === ALL1 ? ALL1 : frame % 2n ** 52n),
      mayChange: ofSharedInfo,
    },
    {
      name: 'KX-VMA-13 UPCALL_VECTOR',
      ...onVm,
      bits: 8,
      limits: [16n],
      good: () => attr(2),
      verdict: isVector,
      read: gets(2, 'vm', 8, 8),
    },
    {
      name: 'KX-VMA-14 XEN_VERSION',
      ...onVm,
      bits: 32,
      good: () => attr(4),
      verdict: anything,
      read: gets(4, 'vm', 8, 32),
    },
    {
      name: 'KX-VMA-15 RUNSTATE_UPDATE_FLAG',
      ...onVm,
      bits: 8,
      good: () => attr(5),
      verdict: anything,
      read: gets(5, 'vm', 8, 8),
      readsAs: flagOf,
    },
    {
      name: 'KX-VMA-08 SHARED_INFO_HVA; with EFAULT its cache has the new one',
      ...onVm,
      bits: 64,
      limits: [
        PAGE,
        BigInt(sample.guestBase),
        BigInt(sample.guestBase) + RAM - PAGE,
        BigInt(sample.guestBase) + RAM,
        HVA_END - PAGE,
        HVA_END,
      ],
      good: () => attr(6),
      verdict: byHva(sample, PAGE),
      read: gets(6, 'vm'),
      mayChange: ofSharedInfo,
    },
    // KX-VMA-16: EVTCHN cannot be read.
    {
      name: 'KX-ABI-46 the type of a GET from a VM',
      request: HVM_GET_ATTR,
      at: 0,
      bits: 16,
      limits: [3n, 6n],
      good: () => attr(0),
      verdict: (type) => (type > 6n || type === 3n ? 'ENOENT' : 'taken'),
    },
  ];
}

function evtchnAttributes(sample: Vm): WireField[] {
  const last = BigInt(sample.maxPorts - 1);
  const base = { sendPort: FREE, type: 2, port: 7, vcpu: 3 };
  const target = (vm: Vm) => vm.sendPorts.list().find(({ sendPort }) => sendPort === FREE)?.target;
  const isOpen = (fd: bigint): Verdict => {
    if (fd === 3n) return 'taken';
    return fd < 3n ? 'EINVAL' : 'EBADF';
  };
  return [
    {
      name: 'KX-EVA-03 EVTCHN.send_port',
      ...onVm,
      bits: 32,
      limits: [1n, 21n, 22n, 23n, last],
      good: () => evtchn(base),
      verdict: (port) => (port >= 21n && port <= 23n ? 'EEXIST' : within(1n, last)(port)),
      read: (vm) => BigInt(vm.sendPorts.list().length),
      readsAs: () => 4n,
    },
    {
      name: 'KX-EVA-10 EVTCHN.type',
      ...onVm,
      at: 12,
      bits: 32,
      limits: [2n, 5n],
      good: () => evtchn({ ...base, port: FREE }),
      verdict: only(2n, 5n),
    },
    {
      name: 'KX-EVA-01 EVTCHN.flags of a port that is not there',
      ...onVm,
      at: 16,
      bits: 32,
      limits: [1n, 2n, 4n],
      good: () => evtchn(base),
      verdict: (flags) => (flags === 1n || flags === 2n ? 'ENOENT' : only(0n, 4n)(flags)),
    },
    {
      name: 'KX-EVA-08 KX-EVA-09 EVTCHN.port, 0 for an eventfd',
      ...onVm,
      at: 20,
      bits: 32,
      limits: [1n, last],
      good: () => evtchn(base),
      verdict: within(0n, last),
    },
    {
      name: 'KX-EVA-12 EVTCHN.vcpu',
      ...onVm,
      at: 24,
      bits: 32,
      good: () => evtchn(base),
      verdict: anything,
      read: (vm) => {
        const to = target(vm);
        return to && 'vcpu' in to ? BigInt(to.vcpu) : undefined;
      },
    },
    { name: 'KX-EVA-11 EVTCHN.priority', ...onVm, at: 28, bits: 32, good: () => evtchn(base), verdict: only(MINUS_1) },
    {
      name: 'KX-EVA-09 EVTCHN.fd',
      ...onVm,
      at: 24,
      bits: 32,
      limits: [2n, 3n, 4n],
      good: () => evtchn({ ...base, port: 0 }),
      verdict: isOpen,
    },
  ];
}

function vcpuAttributes(sample: Vm): WireField[] {
  const states = within(0n, 3n);
  const size = sample.maxPorts === 4096 ? 48n : 44n;
  const now = sample.kvmclock.now();
  const data = [0, 100, 100, 0, 0, 0];
  const base = BigInt(sample.guestBase);
  const times = ['entry time', 'running', 'runnable', 'blocked', 'offline'];
  return [
    // All zeros otherwise, which is no vector and no timer.
    {
      name: 'KX-ABI-42 kvm_xen_vcpu_attr.type',
      request: VCPU_SET_ATTR,
      at: 0,
      bits: 16,
      limits: [9n],
      good: () => attr(0),
      verdict: knownType(9n),
    },
    {
      name: 'KX-VCA-01 VCPU_INFO; with EFAULT its cache has the new address',
      ...onVcpu,
      bits: 64,
      limits: [PAGE - 64n, RAM - 64n, RAM, HIGH, HIGH + 2n * PAGE - 64n, 2n ** 63n - 64n],
      good: () => attr(0),
      verdict: byGpa(64n),
      read: gets(0, 'vcpu'),
      mayChange: remap((vm) => [vm.vcpu(VCPU).line + VCPU_INFO_GPC, GPC_SIZE]),
    },
    {
      name: 'KX-VCA-04 VCPU_TIME_INFO; with EFAULT its cache has the new address',
      ...onVcpu,
      bits: 64,
      limits: [PAGE - 32n, RAM - 32n, RAM],
      good: () => attr(1),
      verdict: byGpa(32n),
      read: gets(1, 'vcpu'),
      mayChange: inRecord(VCPU_TIME_INFO_GPC),
    },
    {
      name: 'KX-VCA-05 RUNSTATE_ADDR; with EFAULT both caches are unregistered',
      ...onVcpu,
      bits: 64,
      limits: [PAGE - size, RAM - size, RAM],
      good: () => attr(2),
      verdict: (gpa) => (gpa === ALL1 || (isRam(gpa) && isRam(gpa + size - 1n)) ? 'taken' : 'EFAULT'),
      mayChange: inRecord(VCPU_RUNSTATE1_GPC, 2 * GPC_SIZE),
    },
    {
      name: 'KX-VCA-07 RUNSTATE_CURRENT',
      ...onVcpu,
      bits: 64,
      limits: [3n],
      good: () => runstate(3, [0]),
      verdict: states,
      read: gets(3, 'vcpu'),
    },
    {
      name: 'KX-VCA-08 RUNSTATE_DATA.state',
      ...onVcpu,
      bits: 64,
      limits: [3n],
      good: () => runstate(4, data),
      verdict: states,
      read: gets(4, 'vcpu'),
    },
    ...times.map(
      (what, i): WireField => ({
        name: `KX-VCA-08 RUNSTATE_DATA: ${what}, when the rest adds up to ${data[i + 1]}`,
        ...onVcpu,
        at: 16 + 8 * i,
        bits: 64,
        limits: [100n, now],
        good: () => runstate(4, data),
        verdict: only(BigInt(data[i + 1] as number)),
        read: gets(4, 'vcpu', 16 + 8 * i),
      }),
    ),
    {
      name: 'KX-VCA-09 RUNSTATE_ADJUST.state',
      ...onVcpu,
      bits: 64,
      limits: [3n],
      good: () => runstate(5, [0, 0, 0, 0, 0, 0]),
      verdict: (state) => (state === ALL1 ? 'taken' : states(state)),
    },
    ...times.map(
      (what, i): WireField => ({
        name: `KX-VCA-09 RUNSTATE_ADJUST: ${what}, when the rest is 0`,
        ...onVcpu,
        at: 16 + 8 * i,
        bits: 64,
        good: () => runstate(5, [ALL1, 0, 0, 0, 0, 0]),
        verdict: only(0n),
      }),
    ),
    {
      name: 'KX-VCA-11 VCPU_ID',
      ...onVcpu,
      bits: 32,
      limits: [1023n],
      good: () => attr(6),
      verdict: within(0n, 1023n),
      read: gets(6, 'vcpu', 8, 32),
    },
    {
      name: 'KX-VCA-12 TIMER.port',
      ...onVcpu,
      bits: 32,
      good: () => timer(5, 2 ** 32 - 1, 0),
      verdict: anything,
      read: gets(7, 'vcpu', 8, 32),
    },
    {
      name: 'KX-VCA-12 TIMER.priority',
      ...onVcpu,
      at: 12,
      bits: 32,
      good: () => timer(5, 0, 0),
      verdict: only(MINUS_1),
      read: gets(7, 'vcpu', 12, 32),
    },
    {
      name: 'KX-VCA-12 TIMER.priority without a port',
      ...onVcpu,
      at: 12,
      bits: 32,
      good: () => timer(0, 0, 0),
      verdict: anything,
    },
    {
      name: 'KX-VCA-12 TIMER.expires',
      ...onVcpu,
      at: 16,
      bits: 64,
      limits: [now],
      good: () => timer(5, 2 ** 32 - 1, 0),
      verdict: anything,
      read: gets(7, 'vcpu', 16),
      readsAs: (at) => (BigInt.asIntN(64, at - now) > 0n ? at : 0n),
    },
    {
      name: 'KX-VCA-13 UPCALL_VECTOR',
      ...onVcpu,
      bits: 8,
      limits: [16n],
      good: () => attr(8),
      verdict: isVector,
      read: gets(8, 'vcpu', 8, 8),
    },
    {
      name: 'KX-VCA-02 VCPU_INFO_HVA; with EFAULT its cache has the new address',
      ...onVcpu,
      bits: 64,
      limits: [PAGE - 64n, base, base + RAM - 64n, base + RAM, HVA_END - 64n, HVA_END],
      good: () => attr(9),
      verdict: byHva(sample, 64n),
      read: gets(9, 'vcpu'),
      mayChange: remap((vm) => [vm.vcpu(VCPU).line + VCPU_INFO_GPC, GPC_SIZE]),
    },
    // KX-VCA-10: ADJUST cannot be read; a furnished VM's second vCPU has no runstate area.
    {
      name: 'KX-ABI-46 the type of a GET from a vCPU',
      request: VCPU_GET_ATTR,
      at: 0,
      bits: 16,
      limits: [9n],
      good: () => attr(0),
      verdict: (type) => {
        if (type > 9n || type === 2n) return 'ENOENT';
        return type === 5n ? 'EINVAL' : 'taken';
      },
    },
  ];
}

// ── the other structures ─────────────────────────────────────────────────────────────────────────────────────────────

const INTERCEPT = 0x02;

function configs(): WireField[] {
  const on = { request: HVM_CONFIG } as const;
  const blobs = [
    ['blob_addr_32', 8, 64],
    ['blob_addr_64', 16, 64],
    ['blob_size_32', 24, 8],
    ['blob_size_64', 25, 8],
  ] as const;
  return [
    {
      name: 'KX-CAP-11 kvm_xen_hvm_config.flags',
      ...on,
      at: 0,
      bits: 32,
      limits: [0x02n, 0x20n, 0x22n, 0x80n, 0xa2n],
      good: () => config({ msr: 0x40000000 }),
      verdict: (flags) => (flags & ~0xa2n ? 'EINVAL' : 'taken'),
    },
    {
      name: 'KX-CAP-13 kvm_xen_hvm_config.msr',
      ...on,
      at: 4,
      bits: 32,
      limits: [0x40000000n, 0x4fffffffn],
      good: () => config({}),
      verdict: (msr) => (msr === 0n ? 'taken' : within(0x40000000n, 0x4fffffffn)(msr)),
      read: (vm) => BigInt(vm.getConfig().msr),
    },
    ...blobs.map(
      ([what, at, bits]): WireField => ({
        name: `KX-CAP-12 kvm_xen_hvm_config.${what} with interception`,
        ...on,
        at,
        bits,
        good: () => config({ flags: INTERCEPT, msr: 0x40000000 }),
        verdict: only(0n),
      }),
    ),
    // A size is any u8; an address that no number holds is refused here, where the kernel would fail when the page is written.
    ...blobs.map(
      ([what, at, bits]): WireField => ({
        name: `KX-CAP-15 kvm_xen_hvm_config.${what}`,
        ...on,
        at,
        bits,
        good: () => config({ msr: 0x40000000 }),
        verdict: within(0n, 2n ** 53n - 1n),
      }),
    ),
  ];
}

function routes(): WireField[] {
  const on = { request: SET_GSI_ROUTING, bits: 32 } as const;
  /** An entry that is good as any of the three types: chip 0, pin 3. */
  const entry = (type = 5, gsi = 24): Uint8Array => {
    const bytes = evtchnRoute(gsi, 0, 3);
    bytes.set(u32(type), 4);
    return bytes;
  };
  const good = (type?: number) => () => routing([entry(type)]);
  const first = (vm: Vm) => vm.routes.list()[0] as unknown as Record<string, number | bigint>;
  const reads = (field: string) => (vm: Vm) => BigInt(first(vm)[field] as number | bigint);
  const at = (offset: number): number => 8 + offset;
  return [
    {
      name: 'KX-RTE-10 kvm_irq_routing.nr, of one entry that is there',
      ...on,
      at: 0,
      limits: [2n, 4096n],
      good: good(),
      verdict: (nr) => {
        if (nr > 4096n) return 'EINVAL';
        return nr > 1n ? 'EFAULT' : 'taken';
      },
      read: (vm) => BigInt(vm.routes.list().length),
    },
    { name: 'KX-RTE-10 kvm_irq_routing.flags', ...on, at: 4, good: good(), verdict: only(0n) },
    {
      name: 'KX-RTE-10 kvm_irq_routing_entry.gsi',
      ...on,
      at: at(0),
      limits: [4095n],
      good: good(),
      verdict: within(0n, 4095n),
      read: reads('gsi'),
    },
    {
      name: 'KX-RTE-01 kvm_irq_routing_entry.type',
      ...on,
      at: at(4),
      limits: [1n, 2n, 5n],
      good: good(),
      verdict: only(1n, 2n, 5n),
    },
    { name: 'KX-RTE-01 the flags of an event channel', ...on, at: at(8), good: good(), verdict: only(0n) },
    { name: 'KX-RTE-01 the flags of a pin', ...on, at: at(8), good: good(1), verdict: only(0n) },
    { name: 'KX-RTE-01 the flags of a message', ...on, at: at(8), good: good(2), verdict: only(0n, 1n) },
    {
      name: 'KX-RTE-02 the port of an event channel, which is looked at when it is raised',
      ...on,
      at: at(16),
      limits: [4095n],
      good: good(),
      verdict: anything,
      read: reads('port'),
    },
    {
      name: 'KX-RTE-02 the vCPU of an event channel, which is looked at when it is raised',
      ...on,
      at: at(20),
      good: good(),
      verdict: anything,
      read: reads('vcpu'),
    },
    { name: 'KX-RTE-01 the priority of an event channel', ...on, at: at(24), good: good(), verdict: only(MINUS_1) },
    {
      name: 'KX-RTE-03 the chip of a pin',
      ...on,
      at: at(16),
      limits: [2n],
      good: good(1),
      verdict: within(0n, 2n),
      read: reads('irqchip'),
    },
    {
      name: 'KX-RTE-03 the pin of a PIC',
      ...on,
      at: at(20),
      limits: [7n, 23n],
      good: good(1),
      verdict: within(0n, 7n),
      read: reads('pin'),
    },
    {
      name: 'KX-RTE-03 the pin of the I/O APIC',
      ...on,
      at: at(20),
      limits: [7n, 23n],
      good: () => {
        const bytes = entry(1);
        bytes.set(u32(2), 16);
        return routing([bytes]);
      },
      verdict: within(0n, 23n),
      read: reads('pin'),
    },
    {
      name: 'KX-RTE-03 the address of a message',
      ...on,
      bits: 64,
      at: at(16),
      good: good(2),
      verdict: anything,
      read: reads('address'),
    },
    {
      name: 'KX-RTE-03 the data of a message',
      ...on,
      at: at(24),
      good: good(2),
      verdict: anything,
      read: reads('data'),
    },
  ];
}

function others(sample: Vm): WireField[] {
  const last = BigInt(sample.maxPorts - 1);
  const clock = (flags = 0): Uint8Array => struct(48, [[8, u32(flags)]]);
  const isFd = (fd: bigint): Verdict => {
    if (fd === 3n) return 'EBUSY';
    if (fd === 5n) return 'taken';
    return fd < 3n ? 'EINVAL' : 'EBADF';
  };
  const secondEventfd = (vm: Vm): void => {
    vm.eventfds.create();
  };
  return [
    {
      name: 'KX-RTE-30 EVTCHN_SEND: port',
      request: EVTCHN_SEND,
      at: 0,
      bits: 32,
      limits: [1n, last],
      good: () => send(FREE, 3),
      verdict: within(1n, last),
    },
    {
      name: 'KX-RTE-30 EVTCHN_SEND: vcpu',
      request: EVTCHN_SEND,
      at: 4,
      bits: 32,
      limits: [3n, 8n],
      good: () => send(FREE),
      verdict: only(3n, 8n),
    },
    {
      name: 'KX-RTE-30 EVTCHN_SEND: priority',
      request: EVTCHN_SEND,
      at: 8,
      bits: 32,
      good: () => send(FREE, 3),
      verdict: only(MINUS_1),
    },
    {
      name: 'KX-RTE-21 kvm_irqfd.fd',
      request: IRQFD,
      at: 0,
      bits: 32,
      limits: [2n, 3n, 5n],
      good: () => irqfd(5, 30),
      verdict: isFd,
      prepare: secondEventfd,
    },
    // The last one has no room in a record; no route can have a gsi from 4096 on.
    {
      name: 'KX-RTE-21 kvm_irqfd.gsi',
      request: IRQFD,
      at: 4,
      bits: 32,
      limits: [4095n],
      good: () => irqfd(5, 30),
      verdict: within(0n, 2n ** 32n - 2n),
      prepare: secondEventfd,
    },
    {
      name: 'KX-RTE-21 kvm_irqfd.flags',
      request: IRQFD,
      at: 8,
      bits: 32,
      limits: [1n],
      good: () => irqfd(5, 30),
      verdict: only(0n, 1n),
      prepare: secondEventfd,
    },
    {
      name: 'KX-RTE-20 kvm_irq_level.gsi: nobody takes it',
      request: IRQ_LINE,
      at: 0,
      bits: 32,
      limits: [4095n],
      good: () => struct(8, [[4, u32(1)]]),
      verdict: anything,
    },
    {
      name: 'KX-RTE-20 kvm_irq_level.level',
      request: IRQ_LINE,
      at: 4,
      bits: 32,
      good: () => struct(8, [[0, u32(24)]]),
      verdict: anything,
    },
    {
      name: 'KX-CLK-01 kvm_clock_data.clock',
      request: SET_CLOCK,
      at: 0,
      bits: 64,
      good: () => clock(),
      verdict: anything,
      read: (vm) => vm.kvmclock.now(),
    },
    {
      name: 'KX-CLK-01 kvm_clock_data.flags',
      request: SET_CLOCK,
      at: 8,
      bits: 32,
      limits: [2n, 4n, 8n, 14n],
      good: () => clock(),
      verdict: (flags) => (flags & ~14n ? 'EINVAL' : 'taken'),
    },
    {
      name: 'KX-CLK-01 kvm_clock_data.realtime',
      request: SET_CLOCK,
      at: 16,
      bits: 64,
      good: () => clock(4),
      verdict: anything,
    },
    {
      name: 'KX-CLK-01 kvm_clock_data.host_tsc',
      request: SET_CLOCK,
      at: 24,
      bits: 64,
      good: () => clock(8),
      verdict: anything,
    },
    {
      name: 'KX-MEM-35 kvm_dirty_log.slot',
      request: GET_DIRTY_LOG,
      at: 0,
      bits: 32,
      limits: [7n, 32763n, 0x10009n, 0x20000n],
      good: () => new Uint8Array(24),
      verdict: (slot) => {
        if (slot === 7n) return 'taken';
        return (slot & 0xffffn) > 32763n || slot >> 16n > 1n ? 'EINVAL' : 'ENOENT';
      },
    },
  ];
}

function memoryRegions(): WireField[] {
  const on = { request: SET_USER_MEMORY_REGION, good: () => memory(5, 0, 2 ** 34, PAGE, 0x10000) } as const;
  const whole =
    (max: bigint) =>
    (value: bigint): Verdict =>
      value % PAGE || value > max ? 'EINVAL' : 'taken';
  /** Slots that are there have another size, which cannot change. */
  const there = [0n, 7n, 0x10009n];
  const count = (vm: Vm): bigint => BigInt(vm.memslots.list().length);
  const slot = (vm: Vm) => vm.memslots.list().find(({ id }) => id === 5);
  return [
    {
      name: 'KX-MEM-10 kvm_userspace_memory_region.slot',
      ...on,
      at: 0,
      bits: 32,
      limits: [7n, 32763n, 0xffffn, 0x10000n, 0x10009n, 0x1ffffn, 0x20000n],
      verdict: (id) => ((id & 0xffffn) > 32763n || id >> 16n > 1n || there.includes(id) ? 'EINVAL' : 'taken'),
      read: count,
      readsAs: () => 4n,
    },
    {
      name: 'KX-MEM-10 kvm_userspace_memory_region.flags',
      ...on,
      at: 4,
      bits: 32,
      limits: [1n, 3n],
      verdict: within(0n, 3n),
      read: (vm) => BigInt((slot(vm)?.logDirty ? 1 : 0) + (slot(vm)?.readonly ? 2 : 0)),
    },
    {
      name: 'KX-MEM-10 KX-MEM-11 kvm_userspace_memory_region.guest_phys_addr',
      ...on,
      at: 8,
      bits: 64,
      limits: [PAGE, RAM - PAGE, RAM, HIGH - PAGE, HIGH, HIGH + 2n * PAGE, 2n ** 52n - PAGE, 2n ** 52n],
      verdict: (gpa) => (gpa % PAGE === 0n && isRam(gpa) ? 'EEXIST' : whole(2n ** 52n - PAGE)(gpa)),
      read: (vm) => BigInt(slot(vm)?.gpa ?? -1),
    },
    {
      name: 'KX-MEM-10 kvm_userspace_memory_region.memory_size, 0 deletes',
      ...on,
      at: 16,
      bits: 64,
      limits: [PAGE, (2n ** 31n - 1n) * PAGE, 2n ** 31n * PAGE],
      verdict: (bytes) => (bytes === 0n ? 'EINVAL' : whole((2n ** 31n - 1n) * PAGE)(bytes)),
      read: (vm) => BigInt(slot(vm)?.bytes ?? -1),
    },
    {
      name: 'KX-MEM-10 kvm_userspace_memory_region.userspace_addr',
      ...on,
      at: 24,
      bits: 64,
      limits: [PAGE, HVA_END - PAGE, HVA_END],
      verdict: whole(HVA_END - PAGE),
      read: (vm) => BigInt(slot(vm)?.hva ?? -1),
    },
  ];
}

/** What reads structures without a VM, and how many bytes each needs. */
const DECODERS: readonly { what: string; size: number; decode(bytes: Uint8Array): unknown }[] = [
  { what: 'kvm_xen_hvm_attr', size: 72, decode: decodeVmAttr },
  { what: 'kvm_xen_vcpu_attr', size: 72, decode: decodeVcpuAttr },
  { what: 'kvm_xen_hvm_config', size: 56, decode: decodeHvmConfig },
  { what: 'kvm_irq_routing', size: 8, decode: decodeRouting },
  { what: 'kvm_irq_routing with an entry', size: 56, decode: (bytes) => decodeRouting(oneEntry(bytes)) },
  { what: 'kvm_irq_routing_xen_evtchn', size: 12, decode: decodeEvtchnSend },
  { what: 'kvm_irqfd', size: 32, decode: decodeIrqfd },
  { what: 'kvm_irq_level', size: 8, decode: decodeIrqLevel },
  { what: 'kvm_clock_data', size: 48, decode: decodeClockData },
  { what: 'kvm_userspace_memory_region', size: 32, decode: decodeMemoryRegion },
  { what: 'kvm_dirty_log', size: 16, decode: decodeDirtyLog },
  { what: 'kvm_xen_exit', size: 80, decode: decodeXenExit },
];

/** As much of a table that says it has an entry. */
function oneEntry(bytes: Uint8Array): Uint8Array {
  const whole = routing([evtchnRoute(24, 7, 3)]);
  return whole.slice(0, bytes.length);
}

// ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  const make = (): Vm => furnishedVm({ longMode, shared: false, agents: 1 });
  const sample = make();
  const fields = [
    ...vmAttributes(sample),
    ...evtchnAttributes(sample),
    ...vcpuAttributes(sample),
    ...configs(),
    ...routes(),
    ...others(sample),
    ...memoryRegions(),
  ];

  test.each(fields)('$name', (field) => {
    tryField(asField(field), make);
  });

  test.each(REQUESTS.filter(([, , size]) => size > 0))(
    'KX-ABI-46 %s with a structure that is too short',
    (_, request, size) => {
      const vm = make();
      const saved = vm.snapshot({ ram: true });
      const before = stateBytes(vm);
      for (const length of [...new Set([0, 1, size / 2, size - 1])]) {
        const bytes = new Uint8Array(length).fill(0xa5);
        expect(ioctl(vm, request, bytes), `${length} bytes`).toBe(-errno.EFAULT);
        expect(bytes.every((byte) => byte === 0xa5)).toBe(true);
      }
      const of = VCPU_REQUESTS.includes(request) ? vm.vcpu(VCPU) : vm;
      expect(of.ioctl(request)).toBe(-errno.EFAULT);
      expectSame(before, stateBytes(vm), 'state');
      expect(vm.snapshot({ ram: true })).toEqual(saved);
    },
  );

  test.each(DECODERS)('KX-ABI-46 decode of $what with fewer bytes', ({ size, decode }) => {
    for (const length of [0, 1, size - 1]) expect(errorOf(() => decode(new Uint8Array(length))).code).toBe('EFAULT');
  });

  test('KX-ABI-46 the bytes of a structure that nobody reads may be anything', () => {
    const [zeros, others] = [make(), make()];
    for (const [vm, fill] of [
      [zeros, 0],
      [others, 0xa5],
    ] as const) {
      expect(vm.ioctl(HVM_SET_ATTR, attr(4, [[8, u32(0x40011)]], fill))).toBe(0);
      expect(vm.vcpu(VCPU).ioctl(VCPU_SET_ATTR, attr(3, [[8, u64(2)]], fill))).toBe(0);
      expect(vm.ioctl(HVM_CONFIG, config({ msr: 0x40000000 }, fill).fill(0, 0, 4).fill(0, 8, 26))).toBe(0);
    }
    expect(Buffer.compare(zeros.snapshot(), others.snapshot())).toBe(0);
  });
});
