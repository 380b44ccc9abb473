// struct kvm_xen_hvm_attr and struct kvm_xen_vcpu_attr from and to attributes: pure, one row for each type. [KX-ABI-41, 42]
// What a structure can say and an attribute cannot is an error here; wire_apply.ts says what KVM looks at before.

import {
  ATTR_RUNSTATE_ENTRY_TIME,
  ATTR_RUNSTATE_STATE,
  ATTR_RUNSTATE_TIMES,
  ATTR_SIZE,
  ATTR_TIMER_EXPIRES,
  ATTR_TIMER_PORT,
  ATTR_TIMER_PRIORITY,
  ATTR_TYPE,
  ATTR_VALUE,
  HVM_ATTR_LONG_MODE,
  HVM_ATTR_RUNSTATE_UPDATE_FLAG,
  HVM_ATTR_SHARED_INFO,
  HVM_ATTR_SHARED_INFO_HVA,
  HVM_ATTR_UPCALL_VECTOR,
  HVM_ATTR_XEN_VERSION,
  PRIORITY_2LEVEL,
  VCPU_ATTR_RUNSTATE_ADDR,
  VCPU_ATTR_RUNSTATE_ADJUST,
  VCPU_ATTR_RUNSTATE_CURRENT,
  VCPU_ATTR_RUNSTATE_DATA,
  VCPU_ATTR_TIMER,
  VCPU_ATTR_UPCALL_VECTOR,
  VCPU_ATTR_VCPU_ID,
  VCPU_ATTR_VCPU_INFO,
  VCPU_ATTR_VCPU_INFO_HVA,
  VCPU_ATTR_VCPU_TIME_INFO,
} from '../../abi/attribute.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError, hex } from '../../errors.ts';
import { type Gpa, gfn, gpa, gpaToGfn, type Hva, hva } from '../../memory/address.ts';
import type { AttrOf } from '../attribute_row.ts';
import type { RunstateAdjustAttr, RunstateDataAttr, VcpuAttr, VmAttr } from '../attributes.ts';
import { RUNSTATES, type RunstateName, runstateNumber } from '../time/runstate.ts';
import { EVTCHN_CODEC } from './evtchn.ts';
import { ALL1, build, getU32, getU64, isFar, putI32, putU8, putU32, putU64, structure, toNumber } from './structure.ts';

/** One type of attribute: its number, and its value from and to the structure. @internal */
export interface Codec<A> {
  readonly number: number;
  /** Throws for what the attribute cannot say. */
  decode(view: DataView): A;
  encode(view: DataView, attr: A): void;
}

/** @internal */
export type Codecs<A extends { type: string }> = { readonly [T in A['type']]: Codec<AttrOf<A, T>> };

const U64 = 2n ** 64n;
const WIDE_PAGE = BigInt(PAGE_SIZE);

/** The guest-physical address of a frame, modulo 2^64 as in the kernel: frame 2^52 is frame 0. [KX-VMA-05] @internal */
export function wideGpaOfFrame(frame: bigint): bigint {
  return (frame * WIDE_PAGE) % U64;
}

/** Throws EFAULT for an address that no number holds: it is in no slot. */
function nearGpa(address: bigint): Gpa {
  if (isFar(address))
    throw new EvtchnError('EFAULT', `the guest-physical address ${hex(address)} is in no memory slot`);
  return gpa(Number(address));
}

function decodeState(state: bigint): RunstateName {
  const name = state < RUNSTATES.length ? RUNSTATES[Number(state)] : undefined;
  if (name === undefined) throw new EvtchnError('EINVAL', `the runstate is ${state}, allowed are 0 to 3`);
  return name;
}

// ── rows that several types share ────────────────────────────────────────────────────────────────────────────────────

function flag<T extends 'long_mode' | 'runstate_update_flag'>(number: number, type: T) {
  return {
    number,
    decode: (view: DataView) => ({ type, enabled: view.getUint8(ATTR_VALUE) !== 0 }),
    encode: (view: DataView, attr: { readonly enabled: boolean }) => view.setUint8(ATTR_VALUE, attr.enabled ? 1 : 0),
  };
}

function vector(number: number) {
  return {
    number,
    decode: (view: DataView) => ({ type: 'upcall_vector' as const, vector: view.getUint8(ATTR_VALUE) }),
    encode: (view: DataView, attr: { readonly vector: number }) =>
      putU8(view, ATTR_VALUE, 'the upcall vector', attr.vector),
  };
}

function byGpa<T extends 'vcpu_info' | 'vcpu_time_info' | 'runstate_addr'>(number: number, type: T) {
  return {
    number,
    decode: (view: DataView) => {
      const address = getU64(view, ATTR_VALUE);
      return { type, gpa: address === ALL1 ? null : nearGpa(address) };
    },
    encode: (view: DataView, attr: { readonly gpa: Gpa | null }) =>
      putU64(view, ATTR_VALUE, type, attr.gpa === null ? ALL1 : BigInt(gpa(attr.gpa))),
  };
}

function byHva<T extends 'shared_info_hva' | 'vcpu_info_hva'>(number: number, type: T) {
  return {
    number,
    // 0 is null. The others are looked at where the attribute is set, in KVM's order.
    decode: (view: DataView) => {
      const address = toNumber(`the host address of ${type}`, getU64(view, ATTR_VALUE));
      return { type, hva: address === 0 ? null : (address as Hva) };
    },
    encode: (view: DataView, attr: { readonly hva: Hva | null }) =>
      putU64(view, ATTR_VALUE, type, BigInt(attr.hva === null ? 0 : hva(attr.hva))),
  };
}

/** The five u64 behind the state: when it began, and the time in each. */
function decodeTimes(view: DataView) {
  const time = (state: number): bigint => getU64(view, ATTR_RUNSTATE_TIMES + 8 * state);
  return {
    entryTime: getU64(view, ATTR_RUNSTATE_ENTRY_TIME),
    times: { running: time(0), runnable: time(1), blocked: time(2), offline: time(3) },
  };
}

function encodeTimes(
  view: DataView,
  { entryTime, times }: RunstateDataAttr | RunstateAdjustAttr,
  delta: boolean,
): void {
  // A delta may be negative: it is one modulo 2^64.
  const u64 = (value: bigint): bigint => (delta && typeof value === 'bigint' ? BigInt.asUintN(64, value) : value);
  putU64(view, ATTR_RUNSTATE_ENTRY_TIME, 'the entry time', u64(entryTime));
  RUNSTATES.forEach((state, i) => {
    putU64(view, ATTR_RUNSTATE_TIMES + 8 * i, `the time ${state}`, u64(times[state]));
  });
}

// ── the two tables ───────────────────────────────────────────────────────────────────────────────────────────────────

/** @internal */
export const VM_CODECS: Codecs<VmAttr> = {
  long_mode: flag(HVM_ATTR_LONG_MODE, 'long_mode'),
  shared_info: {
    number: HVM_ATTR_SHARED_INFO,
    decode: (view) => {
      const frame = getU64(view, ATTR_VALUE);
      return { type: 'shared_info', gfn: frame === ALL1 ? null : gpaToGfn(nearGpa(wideGpaOfFrame(frame))) };
    },
    encode: (view, attr) => putU64(view, ATTR_VALUE, 'shared_info', attr.gfn === null ? ALL1 : BigInt(gfn(attr.gfn))),
  },
  upcall_vector: vector(HVM_ATTR_UPCALL_VECTOR),
  evtchn: EVTCHN_CODEC,
  xen_version: {
    number: HVM_ATTR_XEN_VERSION,
    decode: (view) => ({ type: 'xen_version', version: getU32(view, ATTR_VALUE) }),
    encode: (view, attr) => putU32(view, ATTR_VALUE, 'the Xen version', attr.version),
  },
  runstate_update_flag: flag(HVM_ATTR_RUNSTATE_UPDATE_FLAG, 'runstate_update_flag'),
  shared_info_hva: byHva(HVM_ATTR_SHARED_INFO_HVA, 'shared_info_hva'),
};

/** @internal */
export const VCPU_CODECS: Codecs<VcpuAttr> = {
  vcpu_info: byGpa(VCPU_ATTR_VCPU_INFO, 'vcpu_info'),
  vcpu_time_info: byGpa(VCPU_ATTR_VCPU_TIME_INFO, 'vcpu_time_info'),
  runstate_addr: byGpa(VCPU_ATTR_RUNSTATE_ADDR, 'runstate_addr'),
  runstate_current: {
    number: VCPU_ATTR_RUNSTATE_CURRENT,
    decode: (view) => ({ type: 'runstate_current', state: decodeState(getU64(view, ATTR_RUNSTATE_STATE)) }),
    encode: (view, attr) => putU64(view, ATTR_RUNSTATE_STATE, 'the runstate', BigInt(runstateNumber(attr.state))),
  },
  runstate_data: {
    number: VCPU_ATTR_RUNSTATE_DATA,
    decode: (view) => ({
      type: 'runstate_data',
      state: decodeState(getU64(view, ATTR_RUNSTATE_STATE)),
      ...decodeTimes(view),
    }),
    encode: (view, attr) => {
      putU64(view, ATTR_RUNSTATE_STATE, 'the runstate', BigInt(runstateNumber(attr.state)));
      encodeTimes(view, attr, false);
    },
  },
  runstate_adjust: {
    number: VCPU_ATTR_RUNSTATE_ADJUST,
    decode: (view) => {
      const state = getU64(view, ATTR_RUNSTATE_STATE);
      return { type: 'runstate_adjust', state: state === ALL1 ? null : decodeState(state), ...decodeTimes(view) };
    },
    encode: (view, attr) => {
      putU64(
        view,
        ATTR_RUNSTATE_STATE,
        'the runstate',
        attr.state === null ? ALL1 : BigInt(runstateNumber(attr.state)),
      );
      encodeTimes(view, attr, true);
    },
  },
  vcpu_id: {
    number: VCPU_ATTR_VCPU_ID,
    decode: (view) => ({ type: 'vcpu_id', id: getU32(view, ATTR_VALUE) }),
    encode: (view, attr) => putU32(view, ATTR_VALUE, "Xen's id of the vCPU", attr.id),
  },
  timer: {
    number: VCPU_ATTR_TIMER,
    decode: (view) => ({
      type: 'timer',
      port: getU32(view, ATTR_TIMER_PORT),
      priority: view.getInt32(ATTR_TIMER_PRIORITY, true),
      expires: getU64(view, ATTR_TIMER_EXPIRES),
    }),
    encode: (view, attr) => {
      putU32(view, ATTR_TIMER_PORT, "the timer's port", attr.port);
      putI32(view, ATTR_TIMER_PRIORITY, 'the priority', attr.priority ?? PRIORITY_2LEVEL);
      putU64(view, ATTR_TIMER_EXPIRES, 'the expiry', attr.expires);
    },
  },
  upcall_vector: vector(VCPU_ATTR_UPCALL_VECTOR),
  vcpu_info_hva: byHva(VCPU_ATTR_VCPU_INFO_HVA, 'vcpu_info_hva'),
};

// ── structures ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** The type of an attribute by its number. Throws ENOENT when there is none. @internal */
export function typeOf<A extends { type: string }>(codecs: Codecs<A>, view: DataView): A['type'] {
  const number = view.getUint16(ATTR_TYPE, true);
  const types = Object.keys(codecs) as A['type'][];
  const type = types.find((name) => codecs[name].number === number);
  if (type === undefined) throw new EvtchnError('ENOENT', `there is no attribute of type ${number}`);
  return type;
}

function decode<A extends { type: string }>(codecs: Codecs<A>, bytes: Uint8Array): A {
  const view = structure(bytes, ATTR_SIZE);
  return (codecs[typeOf(codecs, view)] as Codec<A>).decode(view);
}

function encode<A extends { type: string }>(codecs: Codecs<A>, attr: A): Uint8Array {
  const type = attr.type as A['type'];
  if (!Object.hasOwn(codecs, type)) throw new EvtchnError('ENOENT', `there is no attribute ${String(type)}`);
  const codec = codecs[type] as Codec<A>;
  return build(ATTR_SIZE, (view) => {
    view.setUint16(ATTR_TYPE, codec.number, true);
    codec.encode(view, attr);
  });
}

/**
 * The VM attribute that a struct kvm_xen_hvm_attr of 72 bytes sets. [KX-ABI-41]
 * Throws EFAULT for fewer bytes and for a frame beyond 2^41-1, ENOENT for an unknown type, EINVAL for what no attribute says.
 */
export function decodeVmAttr(bytes: Uint8Array): VmAttr {
  return decode<VmAttr>(VM_CODECS, bytes);
}

/** The structure that sets a VM attribute. Throws EINVAL for a value that does not fit its field, and for `set` of all ports. */
export function encodeVmAttr(attr: VmAttr): Uint8Array {
  return encode<VmAttr>(VM_CODECS, attr);
}

/**
 * The vCPU attribute that a struct kvm_xen_vcpu_attr of 72 bytes sets. [KX-ABI-42]
 * Throws EFAULT for fewer bytes and for an address beyond 2^53-1, ENOENT for an unknown type, EINVAL for what no attribute says.
 */
export function decodeVcpuAttr(bytes: Uint8Array): VcpuAttr {
  return decode<VcpuAttr>(VCPU_CODECS, bytes);
}

/** The structure that sets a vCPU attribute. Throws EINVAL for a value that does not fit its field. */
export function encodeVcpuAttr(attr: VcpuAttr): Uint8Array {
  return encode<VcpuAttr>(VCPU_CODECS, attr);
}
