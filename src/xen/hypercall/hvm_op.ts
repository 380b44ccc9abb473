// hvm_op: parameters of an HVM domain, and each vCPU's upcall vector. [XE-CB-06, XE-CB-07]

import { EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../abi/errno.ts';
import { HVM_NR_PARAMS } from '../../abi/xen_hvm.ts';
import {
  GET_TIME_SIZE,
  HVM_PARAM_ACPI_IOPORTS_LOCATION,
  HVM_PARAM_ALTP2M,
  HVM_PARAM_BUFIOREQ_EVTCHN,
  HVM_PARAM_CALLBACK_IRQ,
  HVM_PARAM_CONSOLE_EVTCHN,
  HVM_PARAM_CONSOLE_PFN,
  HVM_PARAM_DM_DOMAIN,
  HVM_PARAM_DOMID,
  HVM_PARAM_INDEX,
  HVM_PARAM_MEMORY_EVENT_CR0,
  HVM_PARAM_MEMORY_EVENT_MSR,
  HVM_PARAM_MEMORY_EVENT_SINGLE_STEP,
  HVM_PARAM_PAE_ENABLED,
  HVM_PARAM_SIZE,
  HVM_PARAM_STORE_EVTCHN,
  HVM_PARAM_STORE_PFN,
  HVM_PARAM_VALUE,
  HVM_PARAM_VM_GENERATION_ID_ADDR,
  HVM_PARAM_VM86_TSS,
  HVM_PARAM_VM86_TSS_SIZED,
  HVM_PARAM_X87_FIP_WIDTH,
  HVMOP_GET_PARAM,
  HVMOP_GET_TIME,
  HVMOP_PAGETABLE_DYING,
  HVMOP_SET_EVTCHN_UPCALL_VECTOR,
  HVMOP_SET_PARAM,
  PAGETABLE_DYING_DOMID,
  PAGETABLE_DYING_SIZE,
  UPCALL_VECTOR_FIRST,
  UPCALL_VECTOR_SIZE,
  UPCALL_VECTOR_VCPU,
  UPCALL_VECTOR_VECTOR,
} from '../../abi/xen_hypercall.ts';
import type { Domain } from '../domain.ts';
import { type Answer, type Call, commands, copyOut, type Handler, inAndOut, owners, withArgument } from './call.ts';

/** Parameters that a guest may set for itself. */
const SETTABLE: ReadonlySet<number> = new Set([
  HVM_PARAM_CALLBACK_IRQ,
  HVM_PARAM_STORE_EVTCHN,
  HVM_PARAM_VM86_TSS,
  HVM_PARAM_CONSOLE_EVTCHN,
  HVM_PARAM_ACPI_IOPORTS_LOCATION,
  HVM_PARAM_VM_GENERATION_ID_ADDR,
  HVM_PARAM_X87_FIP_WIDTH,
  HVM_PARAM_VM86_TSS_SIZED,
]);
/** Those that it may read. */
const READABLE: ReadonlySet<number> = new Set([
  ...SETTABLE,
  HVM_PARAM_STORE_PFN,
  HVM_PARAM_CONSOLE_PFN,
  HVM_PARAM_ALTP2M,
]);
/** Those that are no more. */
const DEPRECATED: ReadonlySet<number> = new Set([
  HVM_PARAM_PAE_ENABLED,
  HVM_PARAM_DM_DOMAIN,
  ...range(HVM_PARAM_MEMORY_EVENT_CR0, HVM_PARAM_MEMORY_EVENT_SINGLE_STEP),
  HVM_PARAM_BUFIOREQ_EVTCHN,
  HVM_PARAM_MEMORY_EVENT_MSR,
]);
/** QEMU's only ones. [XE-QE-05] */
const QEMU_SETTABLE: ReadonlySet<number> = new Set([HVM_PARAM_CALLBACK_IRQ]);
const QEMU_READABLE: ReadonlySet<number> = new Set([
  HVM_PARAM_STORE_PFN,
  HVM_PARAM_STORE_EVTCHN,
  HVM_PARAM_CONSOLE_PFN,
  HVM_PARAM_CONSOLE_EVTCHN,
]);

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** @internal */
export const hvmOp: Handler = commands({
  [HVMOP_SET_PARAM]: owners(setParam),
  [HVMOP_GET_PARAM]: getParam,
  [HVMOP_PAGETABLE_DYING]: pagetableDying,
  [HVMOP_GET_TIME]: getTime,
  [HVMOP_SET_EVTCHN_UPCALL_VECTOR]: owners(setUpcallVector),
});

/** Index, domain, permission, in this order. @returns the domain, or a negative errno */
function whose(
  { domain }: Call,
  argument: DataView,
  allowed: ReadonlySet<number>,
  qemu: ReadonlySet<number>,
): Domain | number {
  const index = argument.getUint32(HVM_PARAM_INDEX, true);
  if (domain.dialect.fewParams && !qemu.has(index)) return -ENOSYS;
  if (index >= HVM_NR_PARAMS) return -EINVAL;
  const target = domain.resolve(argument.getUint16(HVM_PARAM_DOMID, true));
  if (!target) return -ESRCH;
  if (!domain.mayActOn(target)) return -EPERM;
  // The host is no HVM guest.
  if (target === 'host' || DEPRECATED.has(index)) return -EINVAL;
  return target === domain && !allowed.has(index) ? -EPERM : target;
}

function setParam(call: Call): Answer {
  return withArgument(call, call.params[1], HVM_PARAM_SIZE, (argument) => {
    const target = whose(call, argument, SETTABLE, QEMU_SETTABLE);
    if (typeof target === 'number') return target;
    const index = argument.getUint32(HVM_PARAM_INDEX, true);
    const value = argument.getBigUint64(HVM_PARAM_VALUE, true);
    // The width of the guest is that of the vCPU that sets its own callback. [XE-MOD-30]
    return target.hvm.setGuestParam(index, value, target === call.domain ? call.long : null);
  });
}

function getParam(call: Call): Answer {
  return inAndOut(call, call.params[1], HVM_PARAM_SIZE, (argument) => {
    const target = whose(call, argument, READABLE, QEMU_READABLE);
    if (typeof target === 'number') return target;
    argument.setBigUint64(HVM_PARAM_VALUE, target.hvm.getParam(argument.getUint32(HVM_PARAM_INDEX, true)), true);
    return 0;
  });
}

/** A hint for shadow page tables, which the engine has none of. */
function pagetableDying(call: Call): Answer {
  return withArgument(call, call.params[1], PAGETABLE_DYING_SIZE, (argument) => {
    const target = call.domain.resolve(argument.getUint16(PAGETABLE_DYING_DOMID, true));
    if (!target) return -ESRCH;
    return target === call.domain ? -EINVAL : -EOPNOTSUPP;
  });
}

function getTime(call: Call): Answer {
  const now = new DataView(new ArrayBuffer(GET_TIME_SIZE));
  now.setBigUint64(0, call.domain.vm.kvmclock.now(), true);
  return copyOut(call, call.params[1], now);
}

/** [XE-CB-06] */
function setUpcallVector(call: Call): Answer {
  const { hvm, dialect } = call.domain;
  return withArgument(call, call.params[1], UPCALL_VECTOR_SIZE, (argument) => {
    const vector = argument.getUint8(UPCALL_VECTOR_VECTOR);
    if (vector < UPCALL_VECTOR_FIRST) return -EINVAL;
    const target = hvm.record.find(argument.getUint32(UPCALL_VECTOR_VCPU, true));
    if (target === null) return dialect.vectorNoVcpu;
    hvm.callback.setVector(target, vector);
    return 0;
  });
}
