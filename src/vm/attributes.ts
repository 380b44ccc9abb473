// VM and vCPU attributes: one row each to validate, set and get. [kvm-xen sections 3 and 4]
// A set validates first and changes nothing when it throws, but where KVM says otherwise; then the row says so.

import { PVCLOCK_SIZE } from '../abi/pvclock.ts';
import {
  KICK_VECTOR,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_UPCALL_VECTOR,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_TIME_INFO_GPC,
  VCPU_UPCALL_VECTOR,
} from '../abi/region.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../abi/runstate.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../abi/vcpu_info.ts';
import { EvtchnError } from '../errors.ts';
import { type Gfn, type Gpa, gfn, gfnToGpa, gpa, gpaToGfn, pageOffset } from '../memory/address.ts';
import { writeRunstate } from './runstate.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

/** Attributes of a VM. `null` unregisters. */
export type VmAttr =
  /** Layout of the guest's structures: 64-bit when true, else 32-bit. Pending and mask bits are not converted. [KX-VMA-02] */
  | { readonly type: 'long_mode'; readonly enabled: boolean }
  /** The guest frame that holds shared_info. [KX-VMA-04..07] */
  | { readonly type: 'shared_info'; readonly gfn: Gfn | null }
  /** The VM-wide upcall vector, 16..255, or 0 for none. [KX-VMA-13] */
  | { readonly type: 'upcall_vector'; readonly vector: number }
  /** Whether guest copies of runstate carry the update marker. [KX-VMA-15] */
  | { readonly type: 'runstate_update_flag'; readonly enabled: boolean };

/** Attributes of a vCPU. `null` unregisters. */
export type VcpuAttr =
  /** Where the guest keeps this vCPU's vcpu_info: 64 bytes in one page, at any byte. [KX-VCA-01] */
  | { readonly type: 'vcpu_info'; readonly gpa: Gpa | null }
  /** Where it keeps a second copy of its pvclock record: 32 bytes in one page. [KX-VCA-04] */
  | { readonly type: 'vcpu_time_info'; readonly gpa: Gpa | null }
  /** Where it keeps its runstate: 44 or 48 bytes, at any byte, across two pages at most. [KX-VCA-05] */
  | { readonly type: 'runstate_addr'; readonly gpa: Gpa | null }
  /** This vCPU's own upcall vector, 16..255, or 0 for none. [KX-VCA-13] */
  | { readonly type: 'upcall_vector'; readonly vector: number };

/** The member of an attribute union with the name `T`. */
export type AttrOf<A extends { type: string }, T extends A['type']> = Extract<A, { type: T }>;

/** One attribute: `validate` throws and changes nothing, `set` does it, `get` reads it back. @internal */
interface Row<Owner, A> {
  validate(attr: A, owner: Owner): void;
  set(attr: A, owner: Owner): void;
  get(owner: Owner): A;
}

type Table<Owner, A extends { type: string }> = { readonly [T in A['type']]: Row<Owner, AttrOf<A, T>> };

function checkVector(vector: number): void {
  if (!Number.isInteger(vector) || vector < 0 || vector > 255 || (vector > 0 && vector < 16)) {
    throw new EvtchnError('EINVAL', `the upcall vector is ${String(vector)}, allowed are 16 to 255, or 0 for none`);
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
    set: (attr, vm) => {
      const gpc = vm.region.sharedInfo;
      vm.gpcs.deactivate(gpc);
      if (attr.gfn === null) return;
      vm.gpcs.activate(gpc, 'shared_info', gfnToGpa(attr.gfn), PAGE_SIZE);
      vm.writeWallClock();
    },
    get: (vm) => {
      const address = vm.gpcs.gpaOf(vm.region.sharedInfo);
      return { type: 'shared_info', gfn: address === null ? null : gpaToGfn(address) };
    },
  },
  upcall_vector: {
    validate: (attr) => checkVector(attr.vector),
    set: (attr, vm) => vm.region.words.store(vm.region.base + REGION_UPCALL_VECTOR, attr.vector),
    get: (vm) => ({ type: 'upcall_vector', vector: vm.region.words.load(vm.region.base + REGION_UPCALL_VECTOR) }),
  },
  runstate_update_flag: {
    validate: (attr) => checkFlag('runstate_update_flag', attr.enabled),
    set: (attr, vm) => vm.region.words.store(vm.region.base + REGION_RUNSTATE_UPDATE_FLAG, attr.enabled ? 1 : 0),
    get: (vm) => ({
      type: 'runstate_update_flag',
      enabled: vm.region.words.load(vm.region.base + REGION_RUNSTATE_UPDATE_FLAG) !== 0,
    }),
  },
};

/** A row for an attribute that is one cache of a vCPU within one page. */
function cacheRow<T extends 'vcpu_info' | 'vcpu_time_info'>(
  type: T,
  length: number,
  gpcOf: (vcpu: Vcpu) => number,
): Row<Vcpu, { readonly type: T; readonly gpa: Gpa | null }> {
  return {
    validate: (attr, vcpu) => {
      if (attr.gpa !== null) vcpu.vm.gpcs.checkFit(type, gpa(attr.gpa), length);
    },
    set: (attr, vcpu) => {
      const { gpcs } = vcpu.vm;
      // Mapped if it can be, so that the events in the old place can be kept.
      gpcs.refresh(gpcOf(vcpu));
      const old = gpcs.deactivate(gpcOf(vcpu));
      if (type === 'vcpu_info' && old !== null) vcpu.keepSelector(old);
      if (attr.gpa !== null) gpcs.activate(gpcOf(vcpu), type, attr.gpa, length);
    },
    get: (vcpu) => ({ type, gpa: vcpu.vm.gpcs.gpaOf(gpcOf(vcpu)) }),
  };
}

/** @internal */
export const VCPU_ATTRS: Table<Vcpu, VcpuAttr> = {
  vcpu_info: cacheRow('vcpu_info', VCPU_INFO_SIZE, (vcpu) => vcpu.line + VCPU_INFO_GPC),
  vcpu_time_info: cacheRow('vcpu_time_info', PVCLOCK_SIZE, (vcpu) => vcpu.record + VCPU_TIME_INFO_GPC),
  runstate_addr: {
    validate: (attr) => {
      if (attr.gpa !== null) gpa(attr.gpa);
    },
    // Any failure leaves both caches inactive. [KX-VCA-05]
    set: (attr, vcpu) => {
      const { gpcs, region } = vcpu.vm;
      const [gpc1, gpc2] = [vcpu.record + VCPU_RUNSTATE1_GPC, vcpu.record + VCPU_RUNSTATE2_GPC];
      gpcs.deactivate(gpc1);
      gpcs.deactivate(gpc2);
      if (attr.gpa === null) return;
      const size = region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
      const room = PAGE_SIZE - pageOffset(attr.gpa);
      try {
        gpcs.activate(gpc1, 'runstate', attr.gpa, room);
        if (room < size) gpcs.activate(gpc2, 'the second page of runstate', gpa(attr.gpa + room), size - room);
      } catch (error) {
        gpcs.deactivate(gpc1);
        gpcs.deactivate(gpc2);
        throw error;
      }
      writeRunstate(vcpu);
    },
    get: (vcpu) => ({ type: 'runstate_addr', gpa: vcpu.vm.gpcs.gpaOf(vcpu.record + VCPU_RUNSTATE1_GPC) }),
  },
  upcall_vector: {
    validate: (attr) => checkVector(attr.vector),
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
