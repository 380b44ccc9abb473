// Where Xen and QEMU answer a guest differently: one table, so that there is no silent third behaviour.
//
// KVM has no port operations, so it has no column: its guest is a `Vm` that is no domain. There a poll's timeout is relative and only
// a masked event ends one [KF-76, XE-BP-23, XE-KV-06]; a domain's is absolute and any event of its ports ends it [XE-BP-24].

import { EBUSY, EEXIST, EINVAL, ENOENT } from '../abi/errno.ts';
import {
  HYPERCALL_SCHED_OP,
  HYPERCALL_VCPU_OP,
  HYPERCALL_XEN_VERSION,
  SCHEDOP_POLL,
  SCHEDOP_YIELD,
  VCPUOP_SET_SINGLESHOT_TIMER,
  VCPUOP_STOP_SINGLESHOT_TIMER,
  XENVER_VERSION,
} from '../abi/hypercall.ts';
import {
  HVMOP_GET_PARAM,
  HVMOP_SET_EVTCHN_UPCALL_VECTOR,
  HVMOP_SET_PARAM,
  HYPERCALL_CONSOLE_IO,
  HYPERCALL_HVM_OP,
  HYPERCALL_MEMORY_OP,
  HYPERCALL_VM_ASSIST,
  SCHEDOP_SHUTDOWN,
  VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
  VCPUOP_REGISTER_VCPU_INFO,
  VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
  VCPUOP_SET_PERIODIC_TIMER,
  VCPUOP_STOP_PERIODIC_TIMER,
  XENMEM_ADD_TO_PHYSMAP,
  XENMEM_ADD_TO_PHYSMAP_BATCH,
  XENVER_GET_FEATURES,
} from '../abi/xen_hypercall.ts';

/** Whose behaviour a domain shows. */
export type DialectName = 'xen' | 'qemu';

/** One column of the table. @internal */
export interface Dialect {
  readonly name: DialectName;
  /** bind_interdomain sets the local port pending [XE-OP-22] */
  readonly pendingOnBind: boolean;
  /** bind_vcpu raises a pending port on the new vCPU [XE-OP-91] */
  readonly raiseOnMove: boolean;
  /** only the handler binds a global VIRQ [XE-MOD-22] */
  readonly virqHandlers: boolean;
  /** bind_virq finds out that it is bound after it has allocated a port: a full table answers first [XE-OP-30, XE-TC-03] */
  readonly virqAllocatesFirst: boolean;
  /** what bind_pirq answers for a PIRQ that is bound [XE-OP-50] */
  readonly pirqBound: number;
  /** what close answers for a free port [XE-OP-60] */
  readonly closeFree: number;
  /** what unmask answers for a free port [XE-OP-100] */
  readonly unmaskFree: number;
  /** there is the host and the domain itself, no other; and nobody acts on another [XE-QE-01] */
  readonly twoDomains: boolean;
  /** bind_interdomain looks at the range of the remote port before it allocates [XE-OP-20] */
  readonly remoteRangeFirst: boolean;
  /** every port below the ABI's limit has a descriptor, from the start [XE-MOD-13, XE-QE-02] */
  readonly wholeTable: boolean;
  /** what send answers when the code at the host's end is gone [XE-OP-70] */
  readonly hostGone: number;
  /** a guest counts as a 64-bit one until it has shown its width [XE-MOD-30] */
  readonly longAtFirst: boolean;
  /** xen_version refuses submaps of features that it does not have [XE-QE-06] */
  readonly submapsRefused: boolean;
  /** SCHEDOP_poll is a yield [XE-QE-04] */
  readonly pollYields: boolean;
  /** HVM parameters other than a few are unknown [XE-QE-05] */
  readonly fewParams: boolean;
  /** what HVMOP_set_evtchn_upcall_vector answers for a vCPU that does not exist [XE-CB-06] */
  readonly vectorNoVcpu: number;
  /** a callback by a PCI pin that leads nowhere is refused [XE-QE-40] */
  readonly intxHasToLead: boolean;
  /** GSIs that a PIRQ may stand for: those below [XE-QE-32] */
  readonly pirqGsis: number;
  /** what map_pirq answers for a PIRQ that stands for something else; 0: it stays so [XE-QE-32] */
  readonly pirqTaken: number;
  /** what unmap_pirq answers for a PIRQ that stands for nothing, and for a message's [XE-QE-36] */
  readonly unmapUnused: number;
  readonly unmapMsi: number;
  /** commands that are known, by hypercall; null: all that the engine has [XE-QE-04, XE-QE-05] */
  readonly commands: ReadonlyMap<number, readonly number[]> | null;
  /** there is a FIFO ABI [XE-OP-127] */
  readonly fifo: boolean;
  /** reset has no states in between [XE-OP-110] */
  readonly resetAtOnce: boolean;
}

const QEMU_VCPU_OPS = [
  VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
  VCPUOP_SET_PERIODIC_TIMER,
  VCPUOP_STOP_PERIODIC_TIMER,
  VCPUOP_SET_SINGLESHOT_TIMER,
  VCPUOP_STOP_SINGLESHOT_TIMER,
  VCPUOP_REGISTER_VCPU_INFO,
  VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
];

/** @internal */
export const DIALECTS: Readonly<Record<DialectName, Dialect>> = {
  xen: {
    name: 'xen',
    pendingOnBind: true,
    raiseOnMove: false,
    virqHandlers: true,
    virqAllocatesFirst: false,
    pirqBound: -EEXIST,
    closeFree: -EINVAL,
    unmaskFree: 0,
    twoDomains: false,
    remoteRangeFirst: false,
    wholeTable: false,
    hostGone: 0,
    longAtFirst: true,
    submapsRefused: true,
    pollYields: false,
    fewParams: false,
    vectorNoVcpu: -ENOENT,
    intxHasToLead: false,
    pirqGsis: 48,
    pirqTaken: 0,
    unmapUnused: 0,
    unmapMsi: 0,
    commands: null,
    fifo: true,
    resetAtOnce: false,
  },
  qemu: {
    name: 'qemu',
    pendingOnBind: false,
    raiseOnMove: true,
    virqHandlers: false,
    virqAllocatesFirst: true,
    pirqBound: -EBUSY,
    closeFree: -ENOENT,
    unmaskFree: -EINVAL,
    twoDomains: true,
    remoteRangeFirst: true,
    wholeTable: true,
    hostGone: -ENOENT,
    longAtFirst: false,
    submapsRefused: false,
    pollYields: true,
    fewParams: true,
    vectorNoVcpu: -EINVAL,
    intxHasToLead: true,
    pirqGsis: 24,
    pirqTaken: -EBUSY,
    unmapUnused: -ENOENT,
    unmapMsi: -EINVAL,
    commands: new Map([
      [HYPERCALL_MEMORY_OP, [XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH]],
      [HYPERCALL_XEN_VERSION, [XENVER_VERSION, XENVER_GET_FEATURES]],
      [HYPERCALL_CONSOLE_IO, []],
      [HYPERCALL_VM_ASSIST, []],
      [HYPERCALL_VCPU_OP, QEMU_VCPU_OPS],
      [HYPERCALL_SCHED_OP, [SCHEDOP_YIELD, SCHEDOP_POLL, SCHEDOP_SHUTDOWN]],
      [HYPERCALL_HVM_OP, [HVMOP_SET_PARAM, HVMOP_GET_PARAM, HVMOP_SET_EVTCHN_UPCALL_VECTOR]],
    ]),
    fifo: false,
    resetAtOnce: true,
  },
};
