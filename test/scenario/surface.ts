// The two ways in which a VMM talks to the engine: attribute objects, and the structures and requests of the kernel's interface.
// A scenario is written once against `Surface` and runs on both. Everything answers as an ioctl does: 0 or more, or -errno.

import {
  type ClockData,
  decodeClockData,
  decodeVcpuAttr,
  decodeVmAttr,
  decodeXenExit,
  EvtchnError,
  type EvtchnEvent,
  type EvtchnRoute,
  encodeClockData,
  encodeDirtyLog,
  encodeEvtchnSend,
  encodeHvmConfig,
  encodeIrqfd,
  encodeMemoryRegion,
  encodeRouting,
  encodeVcpuAttr,
  encodeVmAttr,
  encodeXenExit,
  type HvmConfig,
  KVM_CAP_XEN_HVM,
  KVM_CHECK_EXTENSION,
  KVM_GET_CLOCK,
  KVM_GET_DIRTY_LOG,
  KVM_IRQFD,
  KVM_SET_GSI_ROUTING,
  KVM_SET_USER_MEMORY_REGION,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_EVTCHN_SEND,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
  type Memslot,
  type Vcpu,
  type VcpuAttr,
  type Vm,
  type VmAttr,
  type XenExit,
} from '../../src/index.ts';
import { cast } from '../spec/evidence.ts';
import { attr, type Evtchn, evtchn, evtchnRoute, routing, runstate, struct, u32 } from '../spec/structures.ts';

type AttrOf<A, T> = Extract<A, { readonly type: T }>;

/** What an attribute reads as, or the errno of the get. */
export type Got<A> = A | number;

/** KVM's numbers of a runstate: state, entry time, then running, runnable, blocked, offline; modulo 2^64. */
export type RunstateNumbers = readonly [bigint, bigint, bigint, bigint, bigint, bigint];

/** A route, whose priority may be a wrong one. */
export type Route = EvtchnRoute & { readonly priority?: number };

/** What a VMM does to a VM of one vCPU. */
export interface Surface {
  /** bits of KVM_CAP_XEN_HVM */
  capabilities(): number;
  config(config: HvmConfig): number;
  set(attr: VmAttr): number;
  get<T extends VmAttr['type']>(type: T): Got<AttrOf<VmAttr, T>>;
  setVcpu(attr: VcpuAttr): number;
  getVcpu<T extends VcpuAttr['type']>(type: T): Got<AttrOf<VcpuAttr, T>>;
  /** The attribute for send ports, in KVM's numbers, which may be wrong ones. For an eventfd: port 0, and it in place of the vCPU. */
  evtchn(evtchn: Evtchn): number;
  /** RUNSTATE_DATA or RUNSTATE_ADJUST, in KVM's numbers, which may be wrong ones. */
  runstate(which: 'data' | 'adjust', values: RunstateNumbers): number;
  slot(slot: Memslot): number;
  routes(routes: readonly Route[]): number;
  irqfd(fd: number, gsi: number): number;
  send(event: EvtchnEvent): number;
  clock(): Pick<ClockData, 'clock' | 'realtime'>;
  /** Takes the dirty bitmap of a slot. */
  dirty(id: number, pages: number): Uint8Array;
  /** How a hypercall comes to the VMM, and what of its answer comes back. */
  exit(exit: XenExit, result: bigint): XenExit & { readonly result: bigint };
}

// ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** @returns 0, or the errno of what `act` throws */
function errnoOf(act: () => unknown): number {
  try {
    act();
    return 0;
  } catch (error) {
    if (error instanceof EvtchnError) return -error.errno;
    throw error;
  }
}

function orErrno<T>(act: () => T): T | number {
  let got: T | undefined;
  const errno = errnoOf(() => {
    got = act();
  });
  return errno < 0 ? errno : (got as T);
}

const STATES = ['running', 'runnable', 'blocked', 'offline'] as const;
const ACTIONS: Readonly<Record<number, string>> = { 0: 'assign', 1: 'deassign', 2: 'update', 4: 'reset' };
const CHANNELS: Readonly<Record<number, string>> = { 2: 'interdomain', 5: 'ipi' };
/** -1, as s64: "stays in its state" */
const STAYS = 0xffff_ffff_ffff_ffffn;

/** The numbers of an EVTCHN attribute in an object's words; a number without a word stays a number. */
function evtchnObject({ sendPort, type = 0, flags = 0, port = 0, vcpu = 0, priority = -1 }: Evtchn): VmAttr {
  const target = port === 0 && type === 2 ? { eventfd: vcpu } : { port, vcpu, priority };
  return cast<VmAttr>({
    type: 'evtchn',
    action: ACTIONS[flags] ?? flags,
    sendPort,
    channel: CHANNELS[type] ?? type,
    target,
  });
}

function runstateObject(which: 'data' | 'adjust', values: RunstateNumbers): VcpuAttr {
  const [state, entryTime, running, runnable, blocked, offline] = values.map((n) => BigInt.asUintN(64, n));
  const name = which === 'adjust' && state === STAYS ? null : (STATES[Number(state)] ?? state);
  const times = { running, runnable, blocked, offline };
  return cast<VcpuAttr>({ type: `runstate_${which}`, state: name, entryTime, times });
}

/** By attribute objects and methods. */
export function objects(vm: Vm): Surface {
  const vcpu = vm.vcpu(0);
  return {
    capabilities: () => vm.capabilities,
    config: (config) => errnoOf(() => vm.setConfig(config)),
    set: (attr) => errnoOf(() => vm.setAttr(attr)),
    get: (type) => orErrno(() => cast(vm.getAttr(type))),
    setVcpu: (attr) => errnoOf(() => vcpu.setAttr(attr)),
    getVcpu: (type) => orErrno(() => cast(vcpu.getAttr(type))),
    evtchn: (numbers) => errnoOf(() => vm.setAttr(evtchnObject(numbers))),
    runstate: (which, values) => errnoOf(() => vcpu.setAttr(runstateObject(which, values))),
    slot: (slot) => errnoOf(() => vm.memslots.set(slot)),
    routes: (routes) => errnoOf(() => vm.routes.set(routes)),
    irqfd: (fd, gsi) => errnoOf(() => vm.eventfds.bindIrq(fd, gsi)),
    send: (event) => vm.evtchnSend(event),
    clock: () => ({ clock: vm.kvmclock.now(), realtime: vm.clock.realtime() }),
    dirty: (id) => vm.dirtyLog.take(id),
    exit: (exit, result) => ({ ...exit, result }),
  };
}

// ── structures ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A get, decoded. The structure is full of something else before. */
function got<A>(call: (bytes: Uint8Array) => number, number: number, decode: (bytes: Uint8Array) => unknown): Got<A> {
  const bytes = attr(number, [], 0xa5);
  const result = call(bytes);
  return result < 0 ? result : (decode(bytes) as A);
}

/** Numbers of the attributes in the kernel's interface. */
const VM_TYPES: Readonly<Record<VmAttr['type'], number>> = {
  long_mode: 0,
  shared_info: 1,
  upcall_vector: 2,
  evtchn: 3,
  xen_version: 4,
  runstate_update_flag: 5,
  shared_info_hva: 6,
};
const VCPU_TYPES: Readonly<Record<VcpuAttr['type'], number>> = {
  vcpu_info: 0,
  vcpu_time_info: 1,
  runstate_addr: 2,
  runstate_current: 3,
  runstate_data: 4,
  runstate_adjust: 5,
  vcpu_id: 6,
  timer: 7,
  upcall_vector: 8,
  vcpu_info_hva: 9,
};

/** A table of routes; one that no encoder makes is put together here. */
function routesStructure(routes: readonly Route[]): Uint8Array {
  if (routes.every(({ priority }) => priority === undefined)) return encodeRouting(routes);
  return routing(routes.map(({ gsi, port, vcpu, priority }) => evtchnRoute(gsi, port, vcpu, priority)));
}

/** By requests and structures, as a VMM written for /dev/kvm. */
export function structures(vm: Vm): Surface {
  const vcpu: Vcpu = vm.vcpu(0);
  const getVm = (bytes: Uint8Array): number => vm.ioctl(KVM_XEN_HVM_GET_ATTR, bytes);
  const getVcpu = (bytes: Uint8Array): number => vcpu.ioctl(KVM_XEN_VCPU_GET_ATTR, bytes);
  return {
    capabilities: () => vm.ioctl(KVM_CHECK_EXTENSION, KVM_CAP_XEN_HVM),
    config: (config) => vm.ioctl(KVM_XEN_HVM_CONFIG, encodeHvmConfig(config)),
    set: (attr) => vm.ioctl(KVM_XEN_HVM_SET_ATTR, encodeVmAttr(attr)),
    get: (type) => got(getVm, VM_TYPES[type], decodeVmAttr),
    setVcpu: (attr) => vcpu.ioctl(KVM_XEN_VCPU_SET_ATTR, encodeVcpuAttr(attr)),
    getVcpu: (type) => got(getVcpu, VCPU_TYPES[type], decodeVcpuAttr),
    evtchn: (numbers) => vm.ioctl(KVM_XEN_HVM_SET_ATTR, evtchn(numbers)),
    runstate: (which, values) => vcpu.ioctl(KVM_XEN_VCPU_SET_ATTR, runstate(VCPU_TYPES[`runstate_${which}`], values)),
    slot: (slot) => vm.ioctl(KVM_SET_USER_MEMORY_REGION, encodeMemoryRegion(slot)),
    routes: (routes) => vm.ioctl(KVM_SET_GSI_ROUTING, routesStructure(routes)),
    irqfd: (fd, gsi) => vm.ioctl(KVM_IRQFD, encodeIrqfd({ fd, gsi })),
    send: (event) => vm.ioctl(KVM_XEN_HVM_EVTCHN_SEND, encodeEvtchnSend(event)),
    clock: () => {
      const bytes = encodeClockData({ clock: 0n, realtime: null, hostTsc: null, tscStable: false });
      const result = vm.ioctl(KVM_GET_CLOCK, bytes);
      if (result !== 0) throw new Error(`KVM_GET_CLOCK answers ${result}`);
      return decodeClockData(bytes);
    },
    dirty: (id, pages) => {
      const bytes = encodeDirtyLog({ id }, pages);
      const result = vm.ioctl(KVM_GET_DIRTY_LOG, bytes);
      if (result !== 0) throw new Error(`KVM_GET_DIRTY_LOG answers ${result}`);
      return bytes.subarray(16, 16 + Math.ceil(pages / 8));
    },
    exit: (exit, result) => decodeXenExit(encodeXenExit(exit, result)),
  };
}

/** A struct kvm_xen_hvm_config with flags that no object says. */
export function configFlags(vm: Vm, flags: number, msr: number): number {
  return vm.ioctl(
    KVM_XEN_HVM_CONFIG,
    struct(56, [
      [0, u32(flags)],
      [4, u32(msr)],
    ]),
  );
}

export const SURFACES = [
  { surface: 'objects', open: objects },
  { surface: 'structures', open: structures },
] as const;

/** Both surfaces in both kinds of memory. */
export const WAYS = SURFACES.flatMap((s) => [true, false].map((shared) => ({ ...s, shared })));
