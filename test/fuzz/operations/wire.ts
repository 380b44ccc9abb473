// Structures of bytes: the calls of a VMM, and what reads and writes the structures.

import { isDeepStrictEqual } from 'node:util';
import * as evtchn from '../../../src/index.ts';
import type { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import { little, type Patch, type Value } from '../value.ts';
import { IDS, MSR } from '../world.ts';

/** A request: its number, the bytes of its structure, and its fields. */
interface Request {
  readonly name: string;
  readonly number: number;
  readonly size: number;
  readonly vcpu?: boolean;
  fields(chance: Chance): readonly Patch[];
}

const PAGE = 4096;
const NOWHERE = 'ff'.repeat(8);

/** 64 bits: a guest address, or one that leads nowhere. */
function gpaField(chance: Chance, at: number): Patch {
  if (chance.once(5))
    return [at, chance.pick([NOWHERE, little(2n ** 52n, 8), little(2n ** 63n, 8), little(2n ** 53n, 8)])];
  const address = chance.gpa();
  return [at, little(BigInt(typeof address === 'number' && Number.isSafeInteger(address) ? Math.abs(address) : 0), 8)];
}

/** 64 bits: a host address in the window, or another. */
function hvaField(chance: Chance, at: number, offset = 0): Patch {
  if (chance.once(6)) return [at, chance.pick([NOWHERE, little(0n, 8), little(2n ** 47n, 8), little(2n ** 53n, 8)])];
  return [at, `$g${chance.int(12) * PAGE + offset}`];
}

function vmAttr(c: Chance): readonly Patch[] {
  const type = c.once(20) ? c.field(0, 2, []) : c.field(0, 2, [0, 1, 2, 3, 3, 3, 4, 5, 6]);
  const values: (() => Patch[])[] = [
    () => [c.field(8, 1, [0, 1])],
    () => [c.field(8, 8, [1, 2, 7, 11, 12])],
    () => [hvaField(c, 8)],
    () => [c.field(8, 1, [0, 16, 0x20, 255])],
    () => [
      c.field(8, 4, [1, 5, 21, 40, 1023, 4095]),
      c.field(12, 4, [2, 2, 5]),
      c.field(16, 4, [0, 0, 1, 2, 4]),
      c.field(20, 4, [0, 5, 9, 21]),
      c.field(24, 4, [...IDS, 3, 4]),
      c.field(28, 4, [0xffffffff, 0xffffffff, 0xffffffff, 0]),
    ],
  ];
  return [type, ...c.pick(values)()];
}

function vcpuAttr(c: Chance): readonly Patch[] {
  const type = c.once(20) ? c.field(0, 2, []) : c.field(0, 2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const sum = c.int(500);
  const values: (() => Patch[])[] = [
    () => [gpaField(c, 8)],
    () => [hvaField(c, 8, c.pick([0, 64, 0xfc0, 0xfc1]))],
    () => [
      c.field(8, 8, [0, 1, 2, 3, 4]),
      c.field(16, 8, [sum]),
      c.field(24, 8, [sum]),
      c.field(32, 8, [0]),
      c.field(40, 8, [0]),
      c.field(48, 8, [0]),
    ],
    () => [
      c.field(8, 4, [0, 5, 9, 4095]),
      c.field(12, 4, [0xffffffff, 0xffffffff, 0]),
      c.field(16, 8, [0, 1, 1000, 2_000_000]),
    ],
    () => [c.field(8, 4, [0, 1, 5, 16, 255, 1023, 1024])],
  ];
  return [type, ...c.pick(values)()];
}

function route(c: Chance, at: number): Patch[] {
  const type = c.pick([5, 5, 5, 1, 2]);
  return [
    c.field(at, 4, [0, 1, 2, 3, 4, 4095]),
    c.field(at + 4, 4, [type]),
    c.field(at + 8, 4, [0, 0, 0, 0, 1]),
    c.field(at + 16, 4, [0, 1, 2, 5, 9]),
    c.field(at + 20, 4, [...IDS, 4]),
    c.field(at + 24, 4, type === 5 ? [0xffffffff, 0xffffffff, 0] : [0, 5]),
  ];
}

function routing(c: Chance): readonly Patch[] {
  const count = c.int(5);
  const entries = Array.from({ length: count }, (_, i) => route(c, 8 + 48 * i)).flat();
  return [c.field(0, 4, c.once(8) ? [count + 1, 4096, 4097] : [count]), c.field(4, 4, [0, 0, 0, 1]), ...entries];
}

function hvmConfig(c: Chance): readonly Patch[] {
  return [
    c.field(0, 4, [0, 2, 2, 34, 64, 128, 1]),
    c.field(4, 4, [0, MSR, MSR, 0x3fffffff]),
    ...(c.once(3) ? [hvaField(c, 8), hvaField(c, 16), c.field(24, 1, [0, 1, 3]), c.field(25, 1, [0, 1, 3])] : []),
  ];
}

const slotFields = (c: Chance): readonly Patch[] => [
  c.field(0, 4, [0, 1, 2, 3, 4, 0x10001, 32764]),
  c.field(4, 4, [0, 0, 1, 2, 3, 4]),
  c.once(3) ? gpaField(c, 8) : c.field(8, 8, [0, PAGE, 2 * PAGE, 2 ** 20, 2 ** 33]),
  c.field(16, 8, [0, PAGE, 3 * PAGE, 12 * PAGE]),
  hvaField(c, 24),
];

const REQUESTS: readonly Request[] = [
  { name: 'setVmAttr', number: 0x4048aec9, size: 72, fields: vmAttr },
  { name: 'setVmAttr', number: 0x4048aec9, size: 72, fields: vmAttr },
  { name: 'getVmAttr', number: 0xc048aec8, size: 72, fields: vmAttr },
  { name: 'setVcpuAttr', number: 0x4048aecb, size: 72, fields: vcpuAttr, vcpu: true },
  { name: 'setVcpuAttr', number: 0x4048aecb, size: 72, fields: vcpuAttr, vcpu: true },
  { name: 'getVcpuAttr', number: 0xc048aeca, size: 72, fields: vcpuAttr, vcpu: true },
  {
    name: 'evtchnSend',
    number: 0x400caed0,
    size: 12,
    fields: (c) => [
      c.field(0, 4, [1, 5, 9, 40, 1023, 4095]),
      c.field(4, 4, [...IDS, 4]),
      c.field(8, 4, [0xffffffff, 0xffffffff, 0]),
    ],
  },
  { name: 'setMemory', number: 0x4020ae46, size: 32, fields: slotFields },
  { name: 'dirtyLog', number: 0x4010ae42, size: 24, fields: (c) => [c.field(0, 4, [0, 1, 2, 3, 4, 0x10001])] },
  {
    name: 'irqLine',
    number: 0x4008ae61,
    size: 8,
    fields: (c) => [c.field(0, 4, [0, 1, 2, 3, 4]), c.field(4, 4, [0, 1])],
  },
  { name: 'setRouting', number: 0x4008ae6a, size: 200, fields: routing },
  {
    name: 'irqfd',
    number: 0x4020ae76,
    size: 32,
    fields: (c) => [c.field(0, 4, [3, 4, 5, 6, 7, 0]), c.field(4, 4, [0, 1, 2, 3]), c.field(8, 4, [0, 0, 1, 2])],
  },
  { name: 'config', number: 0x4038ae7a, size: 56, fields: hvmConfig },
  {
    name: 'setClock',
    number: 0x4030ae7b,
    size: 48,
    fields: (c) => [c.field(0, 8, [0, 5_000_000]), c.field(8, 4, [0, 4, 6, 8, 1]), c.field(16, 8, [0, 1_700_000_000])],
  },
  { name: 'getClock', number: 0x8030ae7c, size: 48, fields: () => [] },
  { name: 'resetRings', number: 0xaec7, size: 0, fields: () => [] },
  { name: 'extension', number: 0xae03, size: 4, fields: (c) => [c.field(0, 4, [38, 37])] },
];

const NAMES = new Map(REQUESTS.map(({ number, name }) => [number, name]));

/** What reads a structure, what writes it, and its size. */
const CODECS: {
  readonly [name: string]: readonly [
    decode: (bytes: Uint8Array) => unknown,
    encode: ((value: never) => Uint8Array) | null,
    size: number,
  ];
} = {
  vmAttr: [evtchn.decodeVmAttr, evtchn.encodeVmAttr, 72],
  vcpuAttr: [evtchn.decodeVcpuAttr, evtchn.encodeVcpuAttr, 72],
  clockData: [evtchn.decodeClockData, evtchn.encodeClockData, 48],
  hvmConfig: [evtchn.decodeHvmConfig, evtchn.encodeHvmConfig, 56],
  xenExit: [evtchn.decodeXenExit, (exit: never) => evtchn.encodeXenExit(exit, as<{ result: bigint }>(exit).result), 80],
  memoryRegion: [evtchn.decodeMemoryRegion, evtchn.encodeMemoryRegion, 32],
  dirtyLog: [evtchn.decodeDirtyLog, null, 16],
  evtchnSend: [evtchn.decodeEvtchnSend, evtchn.encodeEvtchnSend, 12],
  irqfd: [evtchn.decodeIrqfd, evtchn.encodeIrqfd, 32],
  irqLevel: [evtchn.decodeIrqLevel, evtchn.encodeIrqLevel, 8],
  routing: [evtchn.decodeRouting, evtchn.encodeRouting, 200],
};

/** Fields that say something to a codec, beside noise. */
const SHAPES: { readonly [name: string]: (chance: Chance) => readonly Patch[] } = {
  vmAttr,
  vcpuAttr,
  routing,
  hvmConfig,
  memoryRegion: slotFields,
  xenExit: (c) => [c.field(0, 4, [1, 1, 1, 2]), c.field(8, 4, [0, 1]), c.field(12, 4, [0, 3])],
};

/** What was read, written and read again is the same. */
function roundTrip(name: string, bytes: Uint8Array): string {
  const [decode, encode] = CODECS[name] as (typeof CODECS)[string];
  const value = decode(bytes);
  if (encode === null) return 'read';
  const again = decode(encode(value as never));
  if (!isDeepStrictEqual(again, value)) throw new Error(`${name} is not what was written`);
  return 'same';
}

function requestArgs(c: Chance): Value[] {
  if (c.once(20)) return [who(c), c.pick(['vm', 0, 1]), c.u32(), c.once(2) ? c.nonsense() : c.structure(72, [])];
  const request = c.pick(REQUESTS);
  const target = c.once(20) ? c.pick(['vm', 0]) : request.vcpu ? c.int(2) : 'vm';
  const number = c.once(12) ? request.number | 0 : request.number;
  const argument = c.once(30) ? c.nonsense() : c.structure(request.size, request.fields(c));
  return [who(c), target, number, argument];
}

const requestName = (args: readonly Value[]): string => NAMES.get(Number(args[2]) >>> 0) ?? 'unknown';

export const WIRE: Operations = {
  ioctl: {
    weight: 50,
    args: requestArgs,
    run: (w, [v, target, request, argument]) => {
      const vm = w.view(v);
      // Half of them through a recorder, which changes nothing and says what was called.
      let line = 'no call';
      const recorder = evtchn.recordIoctls(vm, (entry) => {
        line = evtchn.describeEntry(entry);
      });
      const via = typeof request === 'number' && request % 2 === 0 && argument instanceof Uint8Array ? recorder : vm;
      const to = target === 'vm' ? via : via.vcpu(target === 1 ? 1 : 0);
      const result = to.ioctl(as(request), as(argument));
      if (via === recorder && !line.endsWith(')') && !line.endsWith(`= ${result}`)) throw new Error(line);
      return result;
    },
    tag: requestName,
  },
  codec: {
    weight: 6,
    args: (c) => {
      const name = c.pick(Object.keys(CODECS));
      return [name, c.structure(CODECS[name]?.[2] ?? 0, SHAPES[name]?.(c) ?? [])];
    },
    run: (_, [name, bytes]) => roundTrip(as(name), as(bytes)),
    tag: (args) => String(args[0]),
  },
  describe: {
    weight: 2,
    args: (c) => requestArgs(c).slice(2),
    run: (_, [request, argument]) => evtchn.describeIoctl(as(request), as(argument)).length > 0,
  },
};
