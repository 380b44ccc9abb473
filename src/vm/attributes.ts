// VM and vCPU attributes: one row each to validate, set and get. [kvm-xen sections 3 and 4]
// A set validates first and changes nothing when it throws, but where KVM says otherwise; then the row says so.

import { EINVAL } from '../abi/errno.ts';
import { PVCLOCK_SIZE } from '../abi/pvclock.ts';
import {
  KICK_VECTOR,
  MAX_XEN_ID,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_UPCALL_VECTOR,
  REGION_XEN_VERSION,
  REQUEST_CLOCK_UPDATE,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
  VCPU_UPCALL_VECTOR,
  VCPU_XEN_ID,
} from '../abi/region.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../abi/runstate.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../abi/vcpu_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import {
  type Gfn,
  type Gpa,
  gfn,
  gfnToGpa,
  gpa,
  gpaToGfn,
  type Hpa,
  type Hva,
  hva,
  pageOffset,
} from '../memory/address.ts';
import type { GpcBase } from '../memory/gpc.ts';
import type { AttrOf, Row, Table } from './attribute_row.ts';
import { EVTCHN_ROW } from './events/send_ports.ts';
import { checkSchedInfo } from './hvm_config.ts';
import type { RunstateName } from './time/runstate.ts';
import { writeRunstate } from './time/runstate.ts';
import { RUNSTATE_ADJUST_ROW, RUNSTATE_CURRENT_ROW, RUNSTATE_DATA_ROW } from './time/runstate_attributes.ts';
import { TIMER_ROW } from './time/timer.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

/** What a send port raises: a port of this VM on a vCPU (KVM's id; resolved at the first use), or an eventfd. [KX-EVA-07..12] */
export type EvtchnTarget =
  | { readonly port: number; readonly vcpu: number; readonly priority?: number }
  | { readonly eventfd: number };

/** One outbound port. [kvm-xen 3.3] */
export interface SendPort {
  /** 1..4095, in 32-bit mode 1..1023 */
  readonly sendPort: number;
  /** an IPI raises its own number; an interdomain channel loops back to any port, or signals an eventfd */
  readonly channel: 'ipi' | 'interdomain';
  readonly target: EvtchnTarget;
}

/** Outbound ports: add one, change its vCPU, remove it, remove all; or, beyond KVM, replace all at once. [KX-EVA-01..24] */
export type EvtchnAttr =
  | ({ readonly type: 'evtchn'; readonly action: 'assign' | 'update' } & SendPort)
  | { readonly type: 'evtchn'; readonly action: 'deassign'; readonly sendPort: number }
  | { readonly type: 'evtchn'; readonly action: 'reset' }
  | { readonly type: 'evtchn'; readonly action: 'set'; readonly ports: readonly SendPort[] };

/** Attributes of a VM. `null` unregisters. */
export type VmAttr =
  /** Layout of the guest's structures: 64-bit when true, else 32-bit. Pending and mask bits are not converted. [KX-VMA-02] */
  | { readonly type: 'long_mode'; readonly enabled: boolean }
  /** The guest frame that holds shared_info. Reads as null while it is registered by host address. [KX-VMA-04..07] */
  | { readonly type: 'shared_info'; readonly gfn: Gfn | null }
  /** The host page that holds shared_info, wherever the guest sees it: memory slots may come and go. [KX-VMA-08..11] */
  | { readonly type: 'shared_info_hva'; readonly hva: Hva | null }
  /** The VM-wide upcall vector, 16..255, or 0 for none. [KX-VMA-13] */
  | { readonly type: 'upcall_vector'; readonly vector: number }
  /** Outbound ports; reads as all of them. */
  | EvtchnAttr
  /** What XENVER_version answers, u32: major << 16 | minor; 0: the embedder answers. [KX-VMA-14] */
  | { readonly type: 'xen_version'; readonly version: number }
  /** Whether guest copies of runstate carry the update marker. [KX-VMA-15] */
  | { readonly type: 'runstate_update_flag'; readonly enabled: boolean };

/** What reading an attribute gives: of the outbound ports all. */
export type VmAttrRead<T extends VmAttr['type']> = T extends 'evtchn'
  ? Extract<EvtchnAttr, { action: 'set' }>
  : AttrOf<VmAttr, T>;

/** Accounts a transition to a state now. [KX-VCA-07] */
export type RunstateCurrentAttr = { readonly type: 'runstate_current'; readonly state: RunstateName };
/** Replaces the runstate; the guest's copy follows at its next change. ns, u64; they add up. [KX-VCA-08] */
export type RunstateDataAttr = {
  readonly type: 'runstate_data';
  readonly state: RunstateName;
  readonly entryTime: bigint;
  readonly times: Readonly<Record<RunstateName, bigint>>;
};
/** Adds to the times (modulo 2^64, so that they may shrink), then enters a state; null: stays in its state. [KX-VCA-09] */
export type RunstateAdjustAttr = {
  readonly type: 'runstate_adjust';
  readonly state: RunstateName | null;
  readonly entryTime: bigint;
  readonly times: Readonly<Record<RunstateName, bigint>>;
};
/** The single-shot timer: its port (0: the embedder handles timers), and when it expires on the guest's clock, 0 = not armed. */
export type TimerAttr = {
  readonly type: 'timer';
  readonly port: number;
  /** PRIORITY_2LEVEL, -1, by default */
  readonly priority?: number;
  readonly expires: bigint;
};

/** Attributes of a vCPU. `null` unregisters. */
export type VcpuAttr =
  /** Where the guest keeps this vCPU's vcpu_info: 64 bytes in one page, at any byte. [KX-VCA-01] */
  | { readonly type: 'vcpu_info'; readonly gpa: Gpa | null }
  /** The same by host address. [KX-VCA-02] */
  | { readonly type: 'vcpu_info_hva'; readonly hva: Hva | null }
  /** Where it keeps a second copy of its pvclock record: 32 bytes in one page. [KX-VCA-04] */
  | { readonly type: 'vcpu_time_info'; readonly gpa: Gpa | null }
  /** Where it keeps its runstate: 44 or 48 bytes, at any byte, across two pages at most. [KX-VCA-05] */
  | { readonly type: 'runstate_addr'; readonly gpa: Gpa | null }
  | RunstateCurrentAttr
  | RunstateDataAttr
  | RunstateAdjustAttr
  /** Xen's id of the vCPU, 0..1023; its index until set. [KX-VCA-11] */
  | { readonly type: 'vcpu_id'; readonly id: number }
  | TimerAttr
  /** This vCPU's own upcall vector, 16..255, or 0 for none. [KX-VCA-13] */
  | { readonly type: 'upcall_vector'; readonly vector: number };

/** Throws EINVAL unless it is a vector or 0. @internal */
export function checkVector(what: string, vector: number): void {
  if (!Number.isInteger(vector) || vector < 0 || vector > 255 || (vector > 0 && vector < 16)) {
    throw new EvtchnError('EINVAL', `${what} is ${String(vector)}, allowed are 16 to 255, or 0 for none`);
  }
}

function checkFlag(what: string, value: boolean): void {
  if (typeof value !== 'boolean')
    throw new EvtchnError('EINVAL', `${what} is ${String(value)}, allowed are true and false`);
}

/** @internal */
export const VM_ATTRS: Table<Vm, VmAttr> = {
  long_mode: {
    validate: (attr) => checkFlag('long_mode', attr.enabled),
    set: (attr, vm) => {
      vm.kernel.setLongMode(vm.region.base, attr.enabled ? 1 : 0);
      if (vm.gpcs.isActive(vm.region.sharedInfo)) vm.writeWallClock();
    },
    get: (vm) => ({ type: 'long_mode', enabled: vm.region.longMode }),
  },
  shared_info: {
    validate: (attr) => {
      if (attr.gfn !== null) gfn(attr.gfn);
    },
    set: (attr, vm) => setSharedInfo(vm, attr.gfn === null ? null : { gpa: gfnToGpa(attr.gfn) }),
    get: (vm) => {
      const address = vm.gpcs.gpaOf(vm.region.sharedInfo);
      return { type: 'shared_info', gfn: address === null ? null : gpaToGfn(address) };
    },
  },
  shared_info_hva: {
    validate: (attr) => {
      if (attr.hva === null) return;
      if (attr.hva % PAGE_SIZE) {
        throw new EvtchnError(
          'EINVAL',
          `shared_info is at host address ${attr.hva}, allowed are multiples of ${PAGE_SIZE}`,
        );
      }
      hva(attr.hva);
    },
    // 0 is what the kernel's interface calls null. [KX-VMA-08]
    set: (attr, vm) => setSharedInfo(vm, attr.hva === null || attr.hva === 0 ? null : { hva: attr.hva }),
    get: (vm) => ({ type: 'shared_info_hva', hva: vm.gpcs.hvaOf(vm.region.sharedInfo) }),
  },
  upcall_vector: {
    validate: (attr) => checkVector('the upcall vector', attr.vector),
    set: (attr, vm) => vm.region.words.store(vm.region.base + REGION_UPCALL_VECTOR, attr.vector),
    get: (vm) => ({ type: 'upcall_vector', vector: vm.region.words.load(vm.region.base + REGION_UPCALL_VECTOR) }),
  },
  evtchn: EVTCHN_ROW,
  xen_version: {
    validate: (attr) => checkRange('the Xen version', attr.version, 0, 2 ** 32 - 1),
    set: (attr, vm) => vm.region.words.store(vm.region.base + REGION_XEN_VERSION, attr.version | 0),
    get: (vm) => ({ type: 'xen_version', version: vm.region.words.load(vm.region.base + REGION_XEN_VERSION) >>> 0 }),
  },
  runstate_update_flag: {
    validate: (attr, vm) => {
      checkSchedInfo(vm);
      checkFlag('runstate_update_flag', attr.enabled);
    },
    set: (attr, vm) => vm.region.words.store(vm.region.base + REGION_RUNSTATE_UPDATE_FLAG, attr.enabled ? 1 : 0),
    get: (vm) => {
      checkSchedInfo(vm);
      const enabled = vm.region.words.load(vm.region.base + REGION_RUNSTATE_UPDATE_FLAG) !== 0;
      return { type: 'runstate_update_flag', enabled };
    },
  },
};

/** The last set decides the base; a cache that is moved stays usable all the time. [KX-VMA-10] */
function setSharedInfo(vm: Vm, at: GpcBase | null): void {
  const gpc = vm.region.sharedInfo;
  if (at === null) {
    vm.gpcs.deactivate(gpc);
    return;
  }
  vm.gpcs.activate(gpc, 'shared_info', at, PAGE_SIZE);
  vm.writeWallClock();
  for (const told of vm.onSharedInfo) told();
}

/** Registers a cache of a vCPU within one page, or moves it. Nothing is written to its area but at the next clock update. */
function setCache(vcpu: Vcpu, what: 'vcpu_info' | 'vcpu_time_info', at: GpcBase | null): void {
  const { changes, gpcs } = vcpu.vm;
  const [gpc, length] =
    what === 'vcpu_info'
      ? [vcpu.line + VCPU_INFO_GPC, VCPU_INFO_SIZE]
      : [vcpu.record + VCPU_TIME_INFO_GPC, PVCLOCK_SIZE];
  changes.checkNoBracket();
  // Mapped if it can be, so that the events in the old place can be kept; else the guest looks at every word of the next one.
  const found = gpcs.refresh(gpc);
  if (what === 'vcpu_info' && found < 0 && found !== -EINVAL) vcpu.resync();
  const keep = (old: Hpa): void => {
    if (what === 'vcpu_info') vcpu.keepSelector(old);
  };
  if (at === null) {
    const old = gpcs.deactivate(gpc);
    if (old !== null) keep(old);
    return;
  }
  gpcs.activate(gpc, what, at, length, keep);
  vcpu.request(REQUEST_CLOCK_UPDATE);
}

/**
 * The page on which the runstate area goes on. One that only the long layout reaches is registered too, reachable or not: another
 * thread may need it after a change of the mode, and only the owner registers. [KX-RUN-26]
 */
function registerSecondPage({ vm, record }: Vcpu, next: Gpa, room: number, needed: boolean): void {
  const rest = RUNSTATE_SIZE_LONG - room;
  try {
    vm.gpcs.activate(record + VCPU_RUNSTATE2_GPC, 'the second page of runstate', { gpa: next }, rest);
  } catch (error) {
    if (needed) throw error;
  }
}

/**
 * Registers a runstate area, or moves it; null unregisters. `next` is where it goes on when it crosses a page: the following page
 * of guest-physical memory unless it is in one piece for the guest only. Any failure leaves both caches inactive. [KX-VCA-05]
 * @internal
 */
export function registerRunstate(vcpu: Vcpu, at: Gpa | null, next?: Gpa): void {
  const { gpcs, region } = vcpu.vm;
  const [gpc1, gpc2] = [vcpu.record + VCPU_RUNSTATE1_GPC, vcpu.record + VCPU_RUNSTATE2_GPC];
  gpcs.deactivateAll([gpc1, gpc2]);
  if (at === null) return;
  const size = region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
  const room = PAGE_SIZE - pageOffset(at);
  try {
    gpcs.activate(gpc1, 'runstate', { gpa: at }, room);
    if (room < RUNSTATE_SIZE_LONG) registerSecondPage(vcpu, next ?? gpa(at + room), room, room < size);
  } catch (error) {
    gpcs.deactivateAll([gpc1, gpc2]);
    throw error;
  }
  writeRunstate(vcpu);
}

/** @internal */
export const VCPU_ATTRS: Table<Vcpu, VcpuAttr> = {
  vcpu_info: {
    validate: (attr, vcpu) => {
      if (attr.gpa !== null) vcpu.vm.gpcs.checkFit('vcpu_info', gpa(attr.gpa), VCPU_INFO_SIZE);
    },
    set: (attr, vcpu) => setCache(vcpu, 'vcpu_info', attr.gpa === null ? null : { gpa: attr.gpa }),
    get: (vcpu) => ({ type: 'vcpu_info', gpa: vcpu.vm.gpcs.gpaOf(vcpu.line + VCPU_INFO_GPC) }),
  },
  vcpu_info_hva: {
    validate: (attr, vcpu) => {
      if (attr.hva !== null && attr.hva !== 0) vcpu.vm.gpcs.checkFit('vcpu_info', hva(attr.hva), VCPU_INFO_SIZE);
    },
    set: (attr, vcpu) => setCache(vcpu, 'vcpu_info', attr.hva === null || attr.hva === 0 ? null : { hva: attr.hva }),
    get: (vcpu) => ({ type: 'vcpu_info_hva', hva: vcpu.vm.gpcs.hvaOf(vcpu.line + VCPU_INFO_GPC) }),
  },
  vcpu_time_info: {
    validate: (attr, vcpu) => {
      if (attr.gpa !== null) vcpu.vm.gpcs.checkFit('vcpu_time_info', gpa(attr.gpa), PVCLOCK_SIZE);
    },
    set: (attr, vcpu) => setCache(vcpu, 'vcpu_time_info', attr.gpa === null ? null : { gpa: attr.gpa }),
    get: (vcpu) => ({ type: 'vcpu_time_info', gpa: vcpu.vm.gpcs.gpaOf(vcpu.record + VCPU_TIME_INFO_GPC) }),
  },
  runstate_addr: {
    validate: (attr, vcpu) => {
      checkSchedInfo(vcpu.vm);
      if (attr.gpa !== null) gpa(attr.gpa);
    },
    set: (attr, vcpu) => registerRunstate(vcpu, attr.gpa),
    get: (vcpu) => {
      checkSchedInfo(vcpu.vm);
      return { type: 'runstate_addr', gpa: vcpu.vm.gpcs.gpaOf(vcpu.record + VCPU_RUNSTATE1_GPC) };
    },
  },
  runstate_current: RUNSTATE_CURRENT_ROW,
  runstate_data: RUNSTATE_DATA_ROW,
  runstate_adjust: RUNSTATE_ADJUST_ROW,
  vcpu_id: {
    validate: (attr) => checkRange("Xen's id of the vCPU", attr.id, 0, MAX_XEN_ID - 1),
    set: (attr, vcpu) => vcpu.vm.region.words.store(vcpu.record + VCPU_XEN_ID, attr.id),
    get: (vcpu) => ({ type: 'vcpu_id', id: vcpu.vm.region.words.load(vcpu.record + VCPU_XEN_ID) }),
  },
  timer: TIMER_ROW,
  upcall_vector: {
    validate: (attr) => checkVector('the upcall vector', attr.vector),
    set: (attr, vcpu) => {
      const { words } = vcpu.vm.region;
      words.store(vcpu.line + VCPU_UPCALL_VECTOR, attr.vector);
      if (attr.vector) words.or(vcpu.line + VCPU_KICK, KICK_VECTOR);
      else words.and(vcpu.line + VCPU_KICK, ~KICK_VECTOR);
    },
    get: (vcpu) => ({ type: 'upcall_vector', vector: vcpu.vm.region.words.load(vcpu.line + VCPU_UPCALL_VECTOR) }),
  },
};

/** Validates, then sets. Throws EINVAL for a type that is in no table, and what the row throws. @internal */
export function setAttr<Owner, A extends { type: string }>(table: Table<Owner, A>, owner: Owner, attr: A): void {
  const row = rowOf(table, attr.type as A['type']) as Row<Owner, A>;
  row.validate(attr, owner);
  row.set(attr, owner);
}

/** @internal */
export function getAttr<Owner, A extends { type: string }, T extends A['type']>(
  table: Table<Owner, A>,
  owner: Owner,
  type: T,
): AttrOf<A, T> {
  return rowOf<Owner, A, T>(table, type).get(owner);
}

function rowOf<Owner, A extends { type: string }, T extends A['type']>(
  table: Table<Owner, A>,
  type: T,
): Row<Owner, AttrOf<A, T>> {
  if (!Object.hasOwn(table, type)) {
    throw new EvtchnError(
      'ENOENT',
      `there is no attribute ${String(type)}; there are ${Object.keys(table).join(', ')}`,
    );
  }
  return table[type];
}
