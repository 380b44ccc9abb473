// The hypercalls that are answered here: one table for both widths, which differ in the layout of arguments only. [KF-65]

import {
  HYPERCALL_EVENT_CHANNEL_OP,
  HYPERCALL_SCHED_OP,
  HYPERCALL_SET_TIMER_OP,
  HYPERCALL_VCPU_OP,
  HYPERCALL_XEN_VERSION,
} from '../../abi/hypercall.ts';
import {
  HYPERCALL_CONSOLE_IO,
  HYPERCALL_EVENT_CHANNEL_OP_COMPAT,
  HYPERCALL_GRANT_TABLE_OP,
  HYPERCALL_HVM_OP,
  HYPERCALL_MEMORY_OP,
  HYPERCALL_PHYSDEV_OP,
  HYPERCALL_VM_ASSIST,
} from '../../abi/xen_hypercall.ts';
import type { Handler } from './call.ts';
import { consoleIo } from './console_io.ts';
import { eventChannelOp, eventChannelOpCompat } from './event_channel_op.ts';
import { grantTableOp } from './grant_table_op.ts';
import { hvmOp } from './hvm_op.ts';
import { memoryOp } from './memory_op.ts';
import { physdevOp } from './physdev_op.ts';
import { schedOp } from './sched_op.ts';
import { setTimerOp } from './set_timer_op.ts';
import { vcpuOp } from './vcpu_op.ts';
import { vmAssist } from './vm_assist.ts';
import { xenVersion } from './xen_version.ts';

/** @internal */
export const HYPERCALLS: ReadonlyMap<bigint, Handler> = new Map(
  (
    [
      [HYPERCALL_MEMORY_OP, memoryOp],
      [HYPERCALL_SET_TIMER_OP, setTimerOp],
      [HYPERCALL_EVENT_CHANNEL_OP_COMPAT, eventChannelOpCompat],
      [HYPERCALL_XEN_VERSION, xenVersion],
      [HYPERCALL_CONSOLE_IO, consoleIo],
      [HYPERCALL_GRANT_TABLE_OP, grantTableOp],
      [HYPERCALL_VM_ASSIST, vmAssist],
      [HYPERCALL_VCPU_OP, vcpuOp],
      [HYPERCALL_SCHED_OP, schedOp],
      [HYPERCALL_EVENT_CHANNEL_OP, eventChannelOp],
      [HYPERCALL_PHYSDEV_OP, physdevOp],
      [HYPERCALL_HVM_OP, hvmOp],
    ] as const
  ).map(([number, handler]) => [BigInt(number), handler]),
);
