// Every field of what is no attribute at every limit: routes, interrupts, eventfds, explicit sends, memory slots, host pages,
// guest memory, the configuration, the guest's TSC and clock.

import { describe, expect, test } from 'vitest';
import {
  type ErrorCode,
  EvtchnError,
  errnoName,
  FlatCpu,
  type HvmConfig,
  type Memslot,
  type Vm,
} from '../../src/index.ts';
import { errorOf, LAYOUTS } from '../support.ts';
import {
  EDGES,
  expectSame,
  type Field,
  integer,
  isWithin,
  numbers,
  oneOf,
  tryField,
  type Verdict,
  WIDE_EDGES,
} from './bad_input.ts';
import { cast, stateBytes } from './evidence.ts';
import { furnishedVm } from './furnished.ts';
import { STRANGE } from './values.ts';

const PAGE = 4096;
const RAM = 16 * PAGE;
const HIGH = 2 ** 33;
const HVA_END = 2 ** 47 - 4096;
const U32 = 2 ** 32 - 1;

/** What a call that answers numbers says, as what throws. */
function answered(result: number | bigint): void {
  if (result >= 0) return;
  const code: ErrorCode = errnoName(Number(result)) ?? 'ENOTTY';
  throw new EvtchnError(code, `result ${result}`);
}

/** The verdict on a u64. */
const isU64 = (value: unknown): Verdict =>
  typeof value === 'bigint' && value >= 0n && value < 2n ** 64n ? 'taken' : 'EINVAL';

// ── routes and interrupts ────────────────────────────────────────────────────────────────────────────────────────────

const EVTCHN = { gsi: 24, type: 'xen_evtchn', port: 7, vcpu: 3 };
const PIC = { gsi: 24, type: 'irqchip', irqchip: 0, pin: 3 };
const IOAPIC = { ...PIC, irqchip: 2 };
const MSI = { gsi: 24, type: 'msi', address: 0xfee00000n, data: 0x41, device: 3 };

/** A field of a route that is good but for it. */
function routeField(
  route: object,
  field: string,
  rest: Pick<Field, 'name' | 'values' | 'verdict'> & Partial<Field>,
): Field {
  return {
    set: (vm, value) => vm.routes.set([cast({ ...route, [field]: value })]),
    read: (vm) => cast<Record<string, unknown>>(vm.routes.list()[0])[field],
    ...rest,
  };
}

function routeFields(): Field[] {
  return [
    ...[EVTCHN, PIC, MSI].map((route) =>
      routeField(route, 'gsi', { ...integer(0, 4095), name: `KX-RTE-10 the gsi of a route of type ${route.type}` }),
    ),
    routeField(EVTCHN, 'type', { ...oneOf('xen_evtchn'), name: 'KX-RTE-01 the type of a route' }),
    routeField(EVTCHN, 'port', { ...integer(0, U32), name: 'KX-RTE-02 the port of a route' }),
    routeField(EVTCHN, 'vcpu', { ...integer(0, U32), name: 'KX-RTE-02 the vCPU of a route' }),
    routeField(EVTCHN, 'priority', {
      ...oneOf(undefined, -1, U32),
      name: 'KX-RTE-01 the priority of a route',
      readsAs: () => undefined,
    }),
    routeField(PIC, 'irqchip', { ...integer(0, 2), name: 'KX-RTE-03 the chip of a route' }),
    routeField(PIC, 'pin', { ...integer(0, 7), name: 'KX-RTE-03 the pin of a PIC' }),
    routeField(IOAPIC, 'pin', { ...integer(0, 23), name: 'KX-RTE-03 the pin of the I/O APIC' }),
    routeField(MSI, 'address', {
      name: 'KX-RTE-03 the address of a message',
      values: [...WIDE_EDGES, ...EDGES, ...STRANGE],
      verdict: isU64,
      limits: [],
    }),
    routeField(MSI, 'data', { ...integer(0, U32), name: 'KX-RTE-03 the data of a message' }),
    routeField(MSI, 'device', {
      ...integer(0, U32),
      name: 'KX-RTE-03 the device of a message, or none',
      verdict: (value) => (value === undefined || isWithin(value, 0, U32) ? 'taken' : 'EINVAL'),
    }),
    {
      name: 'KX-RTE-10 how many routes: the room that was made, and the most there may be',
      values: [0, 1, 7, 8, 9, 4095, 4096, 4097, 5000],
      verdict: (value) => {
        if ((value as number) > 4096) return 'EINVAL';
        return (value as number) > 8 ? 'ENOMEM' : 'taken';
      },
      set: (vm, count) =>
        vm.routes.set(Array.from({ length: count as number }, (_, gsi) => cast({ ...EVTCHN, gsi: gsi % 4096 }))),
      read: (vm) => vm.routes.list().length,
    },
    {
      name: 'KX-RTE-03 a second route of the same gsi: pins of different chips only',
      values: [IOAPIC, { ...IOAPIC, irqchip: 1 }, PIC, { ...PIC, pin: 4 }, EVTCHN, MSI],
      verdict: (value) =>
        (value as typeof PIC).type === 'irqchip' && (value as typeof PIC).irqchip !== 0 ? 'taken' : 'EINVAL',
      set: (vm, route) => vm.routes.set([cast(PIC), cast(route)]),
      read: (vm) => vm.routes.list().length,
      readsAs: () => 2,
    },
  ];
}

function eventFields(maxPorts: number): Field[] {
  const send = (vm: Vm, event: object): void => answered(vm.evtchnSend(cast({ port: 100, vcpu: 3, ...event })));
  const fds = (taken: number): Pick<Field, 'values' | 'verdict'> => ({
    values: numbers(0, 2, 3, 4, 5, 6, 7),
    verdict: (value) => {
      if (value === taken) return 'taken';
      return isWithin(value, 0, 2) ? 'EINVAL' : 'EBADF';
    },
  });
  const another = (vm: Vm): void => void vm.eventfds.create();
  const count = (value: unknown): bigint => BigInt(value as number | bigint);
  const isCount = (value: unknown): Verdict => {
    const good = typeof value === 'bigint' || Number.isSafeInteger(value);
    return good && count(value) >= 0n && count(value) < 2n ** 64n - 1n ? 'taken' : 'EINVAL';
  };
  const counts = [...WIDE_EDGES, 2n ** 64n - 2n, ...numbers(0)];
  return [
    {
      ...integer(1, maxPorts - 1),
      limits: undefined,
      name: 'KX-RTE-30 the port of an explicit send',
      set: (vm, port) => send(vm, { port }),
    },
    { ...oneOf(3, 8), name: 'KX-RTE-30 the vCPU of an explicit send', set: (vm, vcpu) => send(vm, { vcpu }) },
    {
      ...oneOf(undefined, -1, U32),
      name: 'KX-RTE-30 the priority of an explicit send',
      set: (vm, priority) => send(vm, { priority }),
    },
    { ...fds(3), name: 'KX-EVA-09 the number of an eventfd', set: (vm, fd) => void vm.eventfds.get(cast(fd)) },
    {
      name: 'KX-EVA-09 what an eventfd begins at',
      values: counts,
      verdict: (value) => (value === undefined ? 'taken' : isCount(value)),
      limits: [],
      set: (vm, initial) => void vm.eventfds.create(cast(initial)),
      read: (vm) => vm.eventfds.get(5).read(),
      readsAs: (value) => count(value ?? 0) || -11n,
    },
    {
      name: 'KX-EVA-09 what is added to an eventfd',
      values: counts,
      verdict: isCount,
      set: (vm, by) => answered(vm.eventfds.get(5).write(cast(by))),
      read: (vm) => vm.eventfds.get(5).read(),
      readsAs: (value) => count(value) || -11n,
      prepare: another,
    },
    {
      name: 'KX-RTE-21 the eventfd of an interrupt',
      ...fds(5),
      verdict: (fd) => (fd === 3 ? 'EBUSY' : fds(5).verdict(fd)),
      set: (vm, fd) => vm.eventfds.bindIrq(cast(fd), 30),
      prepare: another,
    },
    {
      name: 'KX-RTE-21 the interrupt of an eventfd',
      ...integer(0, U32 - 1),
      set: (vm, gsi) => vm.eventfds.bindIrq(5, cast(gsi)),
      read: (vm) => vm.eventfds.list().find(({ fd }) => fd === 5)?.gsi,
      prepare: another,
    },
    {
      name: 'KX-RTE-21 the eventfd whose interrupt ends',
      ...fds(5),
      verdict: (fd) => (fd === 3 ? 'taken' : fds(5).verdict(fd)),
      set: (vm, fd) => vm.eventfds.unbindIrq(cast(fd), 24),
      prepare: another,
    },
  ];
}

// ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const SLOT = { id: 5, gpa: 2 ** 34, bytes: PAGE, hva: 0x10000 };
const LARGEST = (2 ** 31 - 1) * PAGE;

/** Whether it is a multiple of a page up to `max`. */
const pages = (value: unknown, max: number): Verdict =>
  isWithin(value, 0, max) && value % PAGE === 0 ? 'taken' : 'EINVAL';

function memoryFields(sample: Vm): Field[] {
  const { guestBase } = sample;
  const slot = (vm: Vm, field: Partial<Record<keyof Memslot, unknown>>): void =>
    vm.memslots.set(cast({ ...SLOT, ...field }));
  const found = (vm: Vm, field: keyof Memslot): unknown => vm.memslots.list().find(({ id }) => id === 5)?.[field];
  const map = (vm: Vm, at: unknown, n: unknown, hpa: unknown): void => vm.hostPages.map(cast(at), cast(n), cast(hpa));
  const isPage = (first: number, last: number): Pick<Field, 'values' | 'verdict'> => ({
    values: numbers(first, last, PAGE),
    verdict: (value) => (isWithin(value, first, last) && value % PAGE === 0 ? 'taken' : 'EINVAL'),
  });
  const inRam = (value: number, length: number): boolean =>
    value + length <= RAM || (value >= HIGH && value + length <= HIGH + 2 * PAGE);
  return [
    {
      name: 'KX-MEM-10 the id of a slot',
      ...integer(0, 32763),
      verdict: (id) => (isWithin(id, 0, 32763) && id !== 0 && id !== 7 ? 'taken' : 'EINVAL'),
      limits: undefined,
      set: (vm, id) => slot(vm, { id }),
      read: (vm) => vm.memslots.list().length,
      readsAs: () => 4,
    },
    {
      name: 'KX-MEM-10 the address space of a slot',
      ...integer(0, 1),
      verdict: (value) => (value === undefined || value === null || isWithin(value, 0, 1) ? 'taken' : 'EINVAL'),
      set: (vm, addressSpace) => slot(vm, { addressSpace }),
      read: (vm) => found(vm, 'addressSpace'),
      readsAs: (value) => value ?? 0,
    },
    {
      name: 'KX-MEM-10 KX-MEM-11 the guest address of a slot',
      values: numbers(PAGE, RAM - PAGE, RAM, HIGH - PAGE, HIGH, HIGH + 2 * PAGE, 2 ** 52 - PAGE, 2 ** 52),
      verdict: (gpa) =>
        pages(gpa, 2 ** 52 - PAGE) === 'taken' && inRam(gpa as number, PAGE) ? 'EEXIST' : pages(gpa, 2 ** 52 - PAGE),
      set: (vm, gpa) => slot(vm, { gpa }),
      read: (vm) => found(vm, 'gpa'),
    },
    {
      name: 'KX-MEM-10 the size of a slot, 0 deletes',
      values: numbers(PAGE, LARGEST, LARGEST + PAGE),
      verdict: (bytes) => (bytes === 0 ? 'EINVAL' : pages(bytes, LARGEST)),
      set: (vm, bytes) => slot(vm, { bytes }),
      read: (vm) => found(vm, 'bytes'),
    },
    {
      name: 'KX-MEM-10 the host address of a slot',
      values: numbers(PAGE, HVA_END - PAGE, HVA_END),
      verdict: (hva) => pages(hva, HVA_END - PAGE),
      set: (vm, hva) => slot(vm, { hva }),
      read: (vm) => found(vm, 'hva'),
    },
    {
      name: 'KX-MEM-14 the id of a slot that is deleted',
      values: numbers(0, 7, 32763),
      verdict: (id) => (id === 0 || id === 7 ? 'taken' : 'EINVAL'),
      set: (vm, id) => vm.memslots.delete(cast(id)),
      read: (vm) => vm.memslots.list().length,
      readsAs: () => 2,
    },
    {
      name: 'KX-MEM-12 the address space of a generation',
      ...integer(0, 1),
      verdict: (value) => (value === undefined || isWithin(value, 0, 1) ? 'taken' : 'EINVAL'),
      set: (vm, space) => void vm.memslots.generation(cast(space)),
    },
    {
      name: 'KX-MEM-35 the slot of a dirty log',
      ...integer(0, 32763),
      verdict: (id) => {
        if (!isWithin(id, 0, 32763)) return 'EINVAL';
        return id === 7 ? 'taken' : 'ENOENT';
      },
      values: numbers(0, 7, 32763),
      limits: undefined,
      set: (vm, id) => void vm.dirtyLog.take(cast(id)),
    },
    {
      name: 'KX-MEM-36 the vCPU of a dirty ring',
      ...integer(0, 1),
      set: (vm, vcpu) => void vm.dirtyLog.collect(cast(vcpu)),
    },
    {
      name: 'KX-MEM-01 the first address of an invalidation',
      ...integer(0, HVA_END - 1),
      set: (vm, first) => {
        vm.invalidateStart(cast(first), HVA_END - 1);
        vm.invalidateEnd();
      },
    },
    {
      name: 'KX-MEM-01 the last address of an invalidation',
      ...integer(0, HVA_END - 1),
      set: (vm, last) => {
        vm.invalidateStart(0, cast(last));
        vm.invalidateEnd();
      },
    },
    ...(sample.hostPages.count
      ? ([
          {
            name: 'KX-GPC-30 the host page that is mapped',
            ...isPage(0, 255 * PAGE),
            set: (vm, at) => map(vm, at, 1, guestBase),
            read: (vm) => vm.hostPages.count,
            readsAs: () => 256,
          },
          {
            name: 'KX-GPC-30 the frame that it gets',
            ...isPage(guestBase, guestBase + RAM - PAGE),
            set: (vm, hpa) => map(vm, 0, 1, hpa),
            read: (vm) => vm.hostPages.lookup(cast(0))?.hpa,
          },
          {
            name: 'KX-GPC-30 how many pages are mapped: no more than there are frames',
            ...integer(1, 16),
            limits: undefined,
            set: (vm, n) => map(vm, 0, n, guestBase),
            read: (vm) => vm.hostPages.lookup(cast(0))?.hpa,
            readsAs: () => guestBase,
          },
          {
            name: 'KX-GPC-30 how many pages are made absent',
            ...integer(1, 256),
            limits: [1, 256],
            set: (vm, n) => vm.hostPages.unmap(cast(0), cast(n)),
            read: (vm) => vm.hostPages.lookup(cast(0)),
            readsAs: () => null,
          },
          {
            name: 'KX-GPC-30 the host page that is moved',
            values: numbers(0, PAGE, guestBase, guestBase + RAM),
            verdict: (at) => {
              if (pages(at, 255 * PAGE) !== 'taken') return 'EINVAL';
              return (at as number) >= guestBase && (at as number) < guestBase + RAM ? 'taken' : 'EFAULT';
            },
            set: (vm, at) => vm.hostPages.move(cast(at), 1, cast(guestBase)),
          },
        ] satisfies Field[])
      : []),
  ];
}

// ── configuration and time ───────────────────────────────────────────────────────────────────────────────────────────

function configFields(): Field[] {
  const set = (vm: Vm, field: Partial<Record<keyof HvmConfig, unknown>>): void =>
    vm.setConfig(cast({ msr: 0x40000000, ...field }));
  const fields = [
    ['blobCompat', Number.MAX_SAFE_INTEGER],
    ['blobLong', Number.MAX_SAFE_INTEGER],
    ['blobPagesCompat', 255],
    ['blobPagesLong', 255],
  ] as const;
  const given = (value: unknown): boolean => value !== undefined && value !== null;
  return [
    {
      name: 'KX-CAP-13 the MSR of a configuration',
      ...integer(0x40000000, 0x4fffffff),
      verdict: (msr) => (msr === 0 || isWithin(msr, 0x40000000, 0x4fffffff) ? 'taken' : 'EINVAL'),
      set: (vm, msr) => set(vm, { msr }),
      read: (vm) => vm.getConfig().msr,
    },
    ...fields.map(
      ([field, max]): Field => ({
        name: `KX-CAP-15 ${field} of a configuration`,
        ...integer(0, max),
        verdict: (value) => (!given(value) || isWithin(value, 0, max) ? 'taken' : 'EINVAL'),
        set: (vm, value) => set(vm, { [field]: value }),
        read: (vm) => vm.getConfig()[field],
        readsAs: (value) => value ?? 0,
      }),
    ),
    ...fields.map(
      ([field, max]): Field => ({
        name: `KX-CAP-12 ${field} with interception`,
        ...integer(0, max),
        limits: undefined,
        verdict: (value) => (!given(value) || value === 0 ? 'taken' : 'EINVAL'),
        set: (vm, value) => set(vm, { interceptHypercalls: true, [field]: value }),
      }),
    ),
  ];
}

function timeFields(): Field[] {
  const isTime = (value: unknown): Verdict => (isWithin(value, 0, Number.MAX_SAFE_INTEGER) ? 'taken' : isU64(value));
  const times = [...WIDE_EDGES, ...numbers(Number.MAX_SAFE_INTEGER)];
  // The host's TSC has 2 GHz, and the guest's is less than 65536 times as fast.
  const fastest = 65536 * 2_000_000_000 - 1;
  return [
    {
      ...integer(0, fastest),
      name: "KX-CLK-10 the frequency of a guest's TSC",
      limits: undefined,
      set: (vm, hz) => vm.vcpu(1).setTsc(cast({ hz })),
      read: (vm) => vm.vcpu(1).getTsc().hz,
    },
    {
      name: "KX-CLK-10 the offset of a guest's TSC, modulo 2^64",
      values: [...WIDE_EDGES, -(2n ** 63n), -(2n ** 63n) - 1n, 0, 1, null, '5', {}],
      verdict: (value) =>
        typeof value === 'bigint' && value >= -(2n ** 63n) && value < 2n ** 64n ? 'taken' : 'EINVAL',
      set: (vm, offset) => vm.vcpu(1).setTsc(cast({ offset })),
      read: (vm) => vm.vcpu(1).getTsc().offset,
      readsAs: (value) => BigInt.asUintN(64, value as bigint),
    },
    {
      name: 'KX-CLK-01 the guest time that is set',
      values: times,
      verdict: isTime,
      limits: [],
      set: (vm, now) => vm.kvmclock.set(cast(now)),
      read: (vm) => vm.kvmclock.now(),
      readsAs: (value) => BigInt(value as number),
    },
    {
      name: 'KX-TMR-10 the time of a tick',
      values: times,
      verdict: (now) => (now === undefined ? 'taken' : isTime(now)),
      limits: [],
      set: (vm, now) => void vm.tick(cast(now)),
    },
  ];
}

// ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('$layout layout', ({ longMode, maxPorts }) => {
  const sizes = { longMode, shared: false, agents: 1 };
  const furnished = (): Vm => furnishedVm(sizes);
  test.each([...routeFields(), ...eventFields(maxPorts), ...configFields(), ...timeFields()])('$name', (field) => {
    tryField(field, furnished);
  });

  test('KX-RTE-20 KX-RTE-22 interrupts that have no route, at any level: nobody takes them', () => {
    const vm = furnished();
    const before = stateBytes(vm);
    for (const gsi of numbers(0, 4, 24, 25, 26, 4095)) {
      if ([4, 24, 25, 26].includes(gsi as number)) continue;
      for (const level of [0, 1, -1, 2, 2 ** 32, Number.NaN]) expect(vm.routes.raise(cast(gsi), level)).toBe(-1);
    }
    // A port is not raised by level 0.
    expect(vm.routes.raise(24, 0)).toBe(-1);
    expectSame(before, stateBytes(vm), 'state');
    expect(vm.routes.raise(24, 1)).toBe(1);
  });

  test('KX-HCL-42 KX-HCL-43 send ports that there are not: the embedder answers', () => {
    const vm = furnished();
    const before = stateBytes(vm);
    for (const port of numbers(0, 1, maxPorts - 1, 4095)) expect(vm.sendPorts.ring(cast(port))).toBe(null);
    // There is one, but not its vCPU.
    expect(vm.sendPorts.ring(22)).toBe(null);
    expectSame(before, stateBytes(vm), 'state');
    expect(vm.sendPorts.ring(21)).toBe(0);
  });

  test('KX-HCL-01 KX-HCL-06 KX-HCL-07 writes of MSRs: other indices, pages that there are not, addresses without RAM', () => {
    const vm = furnished();
    const cpu = new FlatCpu(vm, { lma: longMode });
    const write = (index: unknown, value: unknown): unknown => vm.vcpu(0).writeMsr(cpu, cast(index), cast(value));
    const before = stateBytes(vm);
    for (const index of numbers(0x40000000, 0x4fffffff)) {
      if (index === 0x40000000) continue;
      if (isWithin(index, 0, U32)) expect(write(index, 0n)).toBe('other');
      else expect(errorOf(() => write(index, 0n)).code).toBe('EINVAL');
    }
    for (const value of [-1n, 2n ** 64n, 0, 1, null, '5'])
      expect(errorOf(() => write(0x40000000, value)).code).toBe('EINVAL');
    // Page 0 is the only one; its address is the value without the page number.
    const bad = [
      0x5001n,
      0x5fffn,
      BigInt(RAM),
      BigInt(HIGH - PAGE),
      2n ** 52n - 4096n,
      2n ** 52n,
      2n ** 63n,
      2n ** 64n - 1n,
    ];
    for (const value of bad) expect(write(0x40000000, value), String(value)).toBe('gp');
    for (const cpl of [1, 2, 3]) {
      cpu.cpl = cpl;
      expect(write(0x40000000, 0x5000n)).toBe('gp');
    }
    expectSame(before, stateBytes(vm), 'state');
    cpu.cpl = 0;
    expect(write(0x40000000, 0x5000n)).toBe('written');
    expect(write(0x40000000, BigInt(HIGH + PAGE))).toBe('written');
  });

  const paged = (): Vm => furnishedVm({ ...sizes, hostPages: 256 });
  test.each(memoryFields(furnished()))('$name', (field) => {
    tryField(field, furnished);
  });
  test.each(memoryFields(paged()))('$name, with a table of host pages', (field) => {
    tryField(field, paged);
  });
});
