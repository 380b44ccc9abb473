// Every field of every attribute at every limit: what is allowed is set and reads back, what is not has its code and leaves the whole
// VM as it was. What a refusal changes after all is in the fields' names, by the requirement that wants it so.

import { describe, expect, test } from 'vitest';
import {
  GPC_SIZE,
  REGION_INVALIDATE_SEQ,
  VCPU_INFO_GPC,
  VCPU_RUNSTATE1_GPC,
  VCPU_SHADOW_LO,
  VCPU_TIME_INFO_GPC,
} from '../../src/abi/region.ts';
import type { ErrorCode } from '../../src/errors.ts';
import type { EvtchnTarget, Vcpu, VcpuAttr, Vm, VmAttr } from '../../src/index.ts';
import { LAYOUTS } from '../support.ts';
import { type Field, integer, isWithin, numbers, oneOf, tryField, type Verdict, WIDE_EDGES } from './bad_input.ts';
import { cast } from './evidence.ts';
import { furnishedVm } from './furnished.ts';

const PAGE = 4096;
/** What a furnished VM has as guest RAM: its window, and two pages far up. */
const RAM = 16 * PAGE;
const HIGH = 2 ** 33;
const HVA_END = 2 ** 47 - 4096;
/** The vCPU whose attributes are set: it has no runstate area yet. */
const VCPU = 1;

const setVm = (vm: Vm, attr: unknown): void => vm.setAttr(cast<VmAttr>(attr));
const setVcpu = (vm: Vm, attr: unknown): void => vm.vcpu(VCPU).setAttr(cast<VcpuAttr>(attr));

/** The verdict on a guest-physical address: no address, `length` bytes that leave their page, or no RAM. */
function byGpa(length: number): (value: unknown) => Verdict {
  return (value) => {
    if (value === null) return 'taken';
    if (!isWithin(value, 0, Number.MAX_SAFE_INTEGER) || (value % PAGE) + length > PAGE) return 'EINVAL';
    return value < RAM || (value >= HIGH && value < HIGH + 2 * PAGE) ? 'taken' : 'EFAULT';
  };
}

/** The same of a host address; 0 unregisters. */
function byHva(vm: () => Vm, length: number): (value: unknown) => Verdict {
  return (value) => {
    if (value === null || value === 0) return 'taken';
    if (!isWithin(value, 0, HVA_END - 1) || (value % PAGE) + length > PAGE) return 'EINVAL';
    const { guestBase } = vm();
    return value >= guestBase && value < guestBase + RAM ? 'taken' : 'EFAULT';
  };
}

/**
 * KVM leaves a cache that cannot be mapped active with its new address; that the mapping changed is counted, and a selector in the
 * old place is kept aside. Nothing else may have changed.
 */
function remap(
  vm: Vm,
  code: ErrorCode,
  ...places: readonly (readonly [number, number])[]
): (readonly [number, number])[] {
  return code === 'EFAULT' ? [[vm.vmBase + REGION_INVALIDATE_SEQ, 4], ...places] : [];
}
function cacheMayChange(place: (vcpu: Vcpu) => number): Field['mayChange'] {
  return (vm, code) => remap(vm, code, [place(vm.vcpu(VCPU)), GPC_SIZE], [vm.vcpu(VCPU).line + VCPU_SHADOW_LO, 8]);
}
const infoGpc = (vcpu: Vcpu): number => vcpu.line + VCPU_INFO_GPC;

function addresses(length: number): unknown[] {
  return numbers(PAGE - length, PAGE, RAM - length, RAM, HIGH, HIGH + 2 * PAGE - length, Number.MAX_SAFE_INTEGER);
}

// ── the VM's ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function vmFields(sample: Vm): Field[] {
  const vector = { ...integer(0, 255), limits: [16, 255] };
  const { guestBase } = sample;
  return [
    {
      ...oneOf(true, false),
      name: 'KX-VMA-02 long_mode',
      set: (vm, enabled) => setVm(vm, { type: 'long_mode', enabled }),
      read: (vm) => vm.getAttr('long_mode').enabled,
    },
    {
      ...oneOf(true, false),
      name: 'KX-VMA-15 runstate_update_flag',
      set: (vm, enabled) => setVm(vm, { type: 'runstate_update_flag', enabled }),
      read: (vm) => vm.getAttr('runstate_update_flag').enabled,
    },
    {
      ...vector,
      name: 'KX-VMA-13 upcall_vector',
      values: [...vector.values, 2, 14, 15, 16, 17],
      verdict: (value) => (value === 0 || isWithin(value, 16, 255) ? 'taken' : 'EINVAL'),
      set: (vm, v) => setVm(vm, { type: 'upcall_vector', vector: v }),
      read: (vm) => vm.getAttr('upcall_vector').vector,
    },
    {
      ...integer(0, 2 ** 32 - 1),
      name: 'KX-VMA-14 xen_version',
      set: (vm, version) => setVm(vm, { type: 'xen_version', version }),
      read: (vm) => vm.getAttr('xen_version').version,
    },
    {
      name: 'KX-VMA-05 shared_info by frame: with EFAULT its cache has the new one',
      values: numbers(15, 2 ** 21, 2 ** 21 + 1, 2 ** 41 - 1),
      verdict: (value) => {
        if (value === null) return 'taken';
        if (!isWithin(value, 0, 2 ** 41 - 1)) return 'EINVAL';
        return value < 16 || value === 2 ** 21 || value === 2 ** 21 + 1 ? 'taken' : 'EFAULT';
      },
      set: (vm, gfn) => setVm(vm, { type: 'shared_info', gfn }),
      read: (vm) => vm.getAttr('shared_info').gfn,
      mayChange: (vm, code) => remap(vm, code, [vm.region.sharedInfo, GPC_SIZE]),
    },
    {
      name: 'KX-VMA-08 shared_info by host address: with EFAULT its cache has the new one',
      values: numbers(guestBase, guestBase + RAM - PAGE, guestBase + RAM, HVA_END - PAGE, HVA_END, PAGE),
      verdict: byHva(() => sample, PAGE),
      set: (vm, hva) => setVm(vm, { type: 'shared_info_hva', hva }),
      read: (vm) => vm.getAttr('shared_info_hva').hva,
      readsAs: (value) => value || null,
      mayChange: (vm, code) => remap(vm, code, [vm.region.sharedInfo, GPC_SIZE]),
    },
  ];
}

// ── a vCPU's ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const NAMES = ['running', 'runnable', 'blocked', 'offline'] as const;

/** The guest's clock of a furnished VM. */
const guestNow = (vm: Vm): bigint => vm.kvmclock.now();

/** A runstate whose times add up: all of it in one state. */
function data(state: unknown, entryTime: unknown, name: string = 'offline') {
  const times = { running: 0n, runnable: 0n, blocked: 0n, offline: 0n, [name]: entryTime };
  return { type: 'runstate_data', state, entryTime, times };
}

function vcpuFields(sample: Vm): Field[] {
  const now = guestNow(sample);
  const { guestBase } = sample;
  const vector = integer(0, 255);
  const bigs = [...new Set([...WIDE_EDGES, now - 1n, now, now + 1n])];
  const isTime = (value: unknown): boolean => typeof value === 'bigint' && value >= 0n && value <= now;
  return [
    {
      name: 'KX-VCA-01 vcpu_info: with EFAULT its cache has the new address',
      values: addresses(64),
      verdict: byGpa(64),
      set: (vm, gpa) => setVcpu(vm, { type: 'vcpu_info', gpa }),
      read: (vm) => vm.vcpu(VCPU).getAttr('vcpu_info').gpa,
      mayChange: cacheMayChange(infoGpc),
    },
    {
      name: 'KX-VCA-02 vcpu_info by host address: with EFAULT its cache has the new one',
      values: numbers(guestBase, guestBase + RAM - 64, guestBase + RAM, PAGE - 64, HVA_END - 64, HVA_END - 1, HVA_END),
      verdict: byHva(() => sample, 64),
      set: (vm, hva) => setVcpu(vm, { type: 'vcpu_info_hva', hva }),
      read: (vm) => vm.vcpu(VCPU).getAttr('vcpu_info_hva').hva,
      readsAs: (value) => value || null,
      mayChange: cacheMayChange(infoGpc),
    },
    {
      name: 'KX-VCA-04 vcpu_time_info: with EFAULT its cache has the new address',
      values: addresses(32),
      verdict: byGpa(32),
      set: (vm, gpa) => setVcpu(vm, { type: 'vcpu_time_info', gpa }),
      read: (vm) => vm.vcpu(VCPU).getAttr('vcpu_time_info').gpa,
      mayChange: cacheMayChange((vcpu) => vcpu.record + VCPU_TIME_INFO_GPC),
    },
    {
      name: 'KX-VCA-05 runstate_addr: with EFAULT both caches are unregistered',
      values: addresses(48),
      // At any byte, so only the end of RAM is a limit: where the record begins, and where it ends.
      verdict: (value) => {
        if (value === null) return 'taken';
        if (!isWithin(value, 0, Number.MAX_SAFE_INTEGER)) return 'EINVAL';
        const size = sample.maxPorts === 4096 ? 48 : 44;
        const inside = (end: number): boolean => value + size <= end;
        return inside(RAM) || (value >= HIGH && inside(HIGH + 2 * PAGE)) ? 'taken' : 'EFAULT';
      },
      set: (vm, gpa) => setVcpu(vm, { type: 'runstate_addr', gpa }),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_addr').gpa,
      mayChange: (vm, code) => remap(vm, code, [vm.vcpu(VCPU).record + VCPU_RUNSTATE1_GPC, 2 * GPC_SIZE]),
    },
    {
      ...oneOf(...NAMES),
      name: 'KX-VCA-07 runstate_current',
      set: (vm, state) => setVcpu(vm, { type: 'runstate_current', state }),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_current').state,
    },
    {
      ...oneOf(...NAMES),
      name: 'KX-VCA-08 the state of runstate_data',
      set: (vm, state) => setVcpu(vm, data(state, 100n)),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_data').state,
    },
    {
      name: 'KX-VCA-08 the entry time of runstate_data, up to now',
      values: [...bigs, 0, 1, null, undefined, '5'],
      verdict: (value) => (isTime(value) ? 'taken' : 'EINVAL'),
      set: (vm, entryTime) => setVcpu(vm, data('blocked', entryTime)),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_data').entryTime,
    },
    ...NAMES.map(
      (name): Field => ({
        name: `KX-VCA-08 the time ${name} of runstate_data`,
        values: [...bigs, 0, 1, null, undefined, '5'],
        verdict: (value) => (isTime(value) ? 'taken' : 'EINVAL'),
        set: (vm, time) => setVcpu(vm, data('blocked', time, name)),
        read: (vm) => vm.vcpu(VCPU).getAttr('runstate_data').times[name],
      }),
    ),
    {
      ...oneOf(...NAMES, null),
      name: 'KX-VCA-09 the state of runstate_adjust',
      set: (vm, state) => setVcpu(vm, { ...data(state, 0n), type: 'runstate_adjust' }),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_current').state,
      readsAs: (state) => state ?? sample.vcpu(VCPU).getAttr('runstate_current').state,
    },
    {
      name: 'KX-VCA-09 the entry time of runstate_adjust',
      values: [...bigs, -(2n ** 63n), -(2n ** 63n) - 1n, 0, 1, null, undefined, '5'],
      // From where it is (0): no further than now, modulo 2^64.
      verdict: (value) => {
        const is = typeof value === 'bigint' && value >= -(2n ** 63n) && value < 2n ** 64n;
        return is && BigInt.asUintN(64, sample.vcpu(VCPU).runstate().entryTime + value) <= now ? 'taken' : 'EINVAL';
      },
      set: (vm, by) => setVcpu(vm, { ...data(null, by), type: 'runstate_adjust' }),
      read: (vm) => vm.vcpu(VCPU).getAttr('runstate_data').entryTime,
      readsAs: (value) => BigInt.asUintN(64, sample.vcpu(VCPU).runstate().entryTime + (value as bigint)),
    },
    {
      ...integer(0, 1023),
      name: 'KX-VCA-11 vcpu_id',
      set: (vm, id) => setVcpu(vm, { type: 'vcpu_id', id }),
      read: (vm) => vm.vcpu(VCPU).getAttr('vcpu_id').id,
    },
    {
      ...vector,
      name: "KX-VCA-13 a vCPU's upcall_vector",
      limits: [16, 255],
      values: [...vector.values, 2, 14, 15, 16, 17],
      verdict: (value) => (value === 0 || isWithin(value, 16, 255) ? 'taken' : 'EINVAL'),
      set: (vm, v) => setVcpu(vm, { type: 'upcall_vector', vector: v }),
      read: (vm) => vm.vcpu(VCPU).getAttr('upcall_vector').vector,
    },
    {
      ...integer(0, 2 ** 32 - 1),
      name: 'KX-VCA-12 the port of the timer, which is looked at when it expires',
      set: (vm, port) => setVcpu(vm, { type: 'timer', port, expires: 0n }),
      read: (vm) => vm.vcpu(VCPU).getAttr('timer').port,
    },
    {
      ...oneOf(undefined, -1, 2 ** 32 - 1),
      name: 'KX-VCA-12 the priority of the timer',
      set: (vm, priority) => setVcpu(vm, { type: 'timer', port: 5, priority, expires: 0n }),
      read: (vm) => vm.vcpu(VCPU).getAttr('timer').priority,
      readsAs: () => -1,
    },
    {
      name: 'KX-VCA-12 the expiry of the timer',
      values: [...WIDE_EDGES, now, now + 1n, ...numbers(Number.MAX_SAFE_INTEGER)],
      verdict: (value) =>
        isWithin(value, 0, Number.MAX_SAFE_INTEGER) || (typeof value === 'bigint' && value >= 0n && value < 2n ** 64n)
          ? 'taken'
          : 'EINVAL',
      set: (vm, expires) => setVcpu(vm, { type: 'timer', port: 5, expires }),
      read: (vm) => vm.vcpu(VCPU).getAttr('timer').expires,
      // What is over has been delivered: the past, and what is more than half of 2^64 away.
      readsAs: (value) => {
        const expires = BigInt(value as bigint | number);
        return BigInt.asIntN(64, expires - now) > 0n ? expires : 0n;
      },
    },
  ];
}

// ── send ports ───────────────────────────────────────────────────────────────────────────────────────────────────────

const FREE = 100;
/** One that a furnished VM has, raising port 9. */
const TAKEN = 22;
const TARGET: EvtchnTarget = { port: 7, vcpu: 3 };

function found(vm: Vm, sendPort: number): EvtchnTarget | undefined {
  return vm.sendPorts.list().find((port) => port.sendPort === sendPort)?.target;
}

function portOf(target: EvtchnTarget | undefined): unknown {
  return target && 'port' in target ? target.port : undefined;
}
function vcpuOf(target: EvtchnTarget | undefined): unknown {
  return target && 'port' in target ? target.vcpu : undefined;
}

function evtchnFields(sample: Vm): Field[] {
  const last = sample.maxPorts - 1;
  const evtchn = (vm: Vm, attr: object): void => setVm(vm, { type: 'evtchn', channel: 'interdomain', ...attr });
  const exists = (value: unknown): boolean => [21, 22, 23].includes(value as number);
  const ports = (value: unknown): boolean => isWithin(value, 1, last);
  return [
    {
      name: 'KX-EVA-03 the send port of an assign',
      values: numbers(1, last, TAKEN),
      verdict: (value) => {
        if (!ports(value)) return 'EINVAL';
        return exists(value) ? 'EEXIST' : 'taken';
      },
      set: (vm, sendPort) => evtchn(vm, { action: 'assign', sendPort, target: TARGET }),
    },
    {
      name: 'KX-EVA-13 the send port of an update',
      values: numbers(1, last, TAKEN),
      verdict: (value) => {
        if (!ports(value)) return 'EINVAL';
        // The two beside it are of another type, or signal an eventfd.
        if (value === 21 || value === 23) return 'EINVAL';
        return value === TAKEN ? 'taken' : 'ENOENT';
      },
      set: (vm, sendPort) => evtchn(vm, { action: 'update', sendPort, target: { port: 9, vcpu: 3 } }),
      read: (vm) => vcpuOf(found(vm, TAKEN)),
      readsAs: () => 3,
    },
    {
      name: 'KX-EVA-14 the send port of a deassign',
      values: numbers(1, last, TAKEN),
      verdict: (value) => {
        if (!ports(value)) return 'EINVAL';
        return exists(value) ? 'taken' : 'ENOENT';
      },
      set: (vm, sendPort) => evtchn(vm, { action: 'deassign', sendPort }),
      read: (vm) => vm.sendPorts.list().length,
      readsAs: () => 2,
    },
    {
      ...integer(1, last),
      name: 'KX-EVA-08 the target port',
      set: (vm, port) => evtchn(vm, { action: 'assign', sendPort: FREE, target: { port, vcpu: 3 } }),
      read: (vm) => portOf(found(vm, FREE)),
    },
    {
      name: 'KX-EVA-07 the target port of an IPI, which is its own',
      values: numbers(FREE),
      verdict: (value) => (value === FREE ? 'taken' : 'EINVAL'),
      set: (vm, port) => evtchn(vm, { action: 'assign', sendPort: FREE, channel: 'ipi', target: { port, vcpu: 3 } }),
      read: (vm) => portOf(found(vm, FREE)),
    },
    {
      ...integer(0, 2 ** 32 - 1),
      name: 'KX-EVA-12 the vCPU of a target, which is looked at when it is rung',
      set: (vm, vcpu) => evtchn(vm, { action: 'assign', sendPort: FREE, target: { port: 7, vcpu } }),
      read: (vm) => vcpuOf(found(vm, FREE)),
    },
    {
      ...integer(0, 2 ** 32 - 1),
      name: 'KX-EVA-13 the vCPU of an update',
      set: (vm, vcpu) => evtchn(vm, { action: 'update', sendPort: TAKEN, target: { port: 9, vcpu } }),
      read: (vm) => vcpuOf(found(vm, TAKEN)),
    },
    {
      name: 'KX-EVA-13 the target port of an update, which cannot change',
      values: numbers(9, last),
      verdict: (value) => (value === 9 ? 'taken' : 'EINVAL'),
      set: (vm, port) => evtchn(vm, { action: 'update', sendPort: TAKEN, target: { port, vcpu: 3 } }),
      read: (vm) => portOf(found(vm, TAKEN)),
    },
    ...(['assign', 'update'] as const).map(
      (action): Field => ({
        ...oneOf(undefined, -1, 2 ** 32 - 1),
        name: `KX-EVA-11 the priority of an ${action}`,
        set: (vm, priority) =>
          evtchn(vm, { action, sendPort: action === 'assign' ? FREE : TAKEN, target: { port: 9, vcpu: 3, priority } }),
      }),
    ),
    {
      name: 'KX-EVA-09 the eventfd of a target',
      values: numbers(0, 2, 3, 4, 5, 6, 7),
      // 3 is open, 4 is closed and lives on, 0 to 2 are no eventfds.
      verdict: (value) => {
        if (value === 3) return 'taken';
        return isWithin(value, 0, 2) ? 'EINVAL' : 'EBADF';
      },
      set: (vm, eventfd) => evtchn(vm, { action: 'assign', sendPort: FREE, target: { eventfd } }),
      read: (vm) => found(vm, FREE),
      readsAs: (eventfd) => ({ eventfd }),
    },
    {
      ...oneOf('ipi', 'interdomain'),
      name: 'KX-EVA-10 what a send port is',
      set: (vm, channel) => evtchn(vm, { action: 'assign', sendPort: FREE, channel, target: { port: FREE, vcpu: 3 } }),
      read: (vm) => vm.sendPorts.list().find(({ sendPort }) => sendPort === FREE)?.channel,
    },
    {
      ...oneOf('assign', 'reset'),
      name: 'KX-EVA-01 what is done',
      set: (vm, action) => evtchn(vm, { action, sendPort: FREE, target: TARGET }),
      read: (vm) => vm.sendPorts.list().length,
      readsAs: (action) => (action === 'reset' ? 0 : 4),
    },
    {
      ...integer(1, 4095),
      name: 'KX-EVA-24 KF-34 a send port of a whole table, in either mode',
      set: (vm, sendPort) =>
        setVm(vm, { type: 'evtchn', action: 'set', ports: [{ sendPort, channel: 'interdomain', target: TARGET }] }),
      read: (vm) => vm.sendPorts.list()[0]?.sendPort,
    },
    {
      ...integer(1, 4095),
      name: 'KX-EVA-24 KF-34 the target port of a whole table, in either mode',
      set: (vm, port) =>
        setVm(vm, {
          type: 'evtchn',
          action: 'set',
          ports: [{ sendPort: 1, channel: 'interdomain', target: { port, vcpu: 3 } }],
        }),
      read: (vm) => portOf(found(vm, 1)),
    },
  ];
}

// ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  const make = (): Vm => furnishedVm({ longMode, shared: false, agents: 1 });
  const sample = make();

  test.each([...vmFields(sample), ...vcpuFields(sample), ...evtchnFields(sample)])('$name', (field) => {
    tryField(field, make);
  });

  test('KX-VCA-05 a runstate area that was registered is not any more after one that cannot be: both caches', () => {
    const vm = make();
    setVcpu(vm, { type: 'runstate_addr', gpa: 0x7ff0 });
    expect(() => setVcpu(vm, { type: 'runstate_addr', gpa: RAM - 16 })).toThrow('EFAULT');
    expect(vm.vcpu(VCPU).getAttr('runstate_addr').gpa).toBe(null);
  });
});
