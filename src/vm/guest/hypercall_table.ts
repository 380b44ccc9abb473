// The hypercalls that are answered here: one table for both modes, which differ in layout only. [KX-HCL-20..24, KF-65]
// A handler returns the guest's result, null for what is the embedder's, or until when a poll sleeps.

import { EFAULT, EINVAL } from '../../abi/errno.ts';
import {
  EVTCHN_SEND_PORT,
  EVTCHN_SEND_SIZE,
  EVTCHNOP_SEND,
  HYPERCALL_EVENT_CHANNEL_OP,
  HYPERCALL_SCHED_OP,
  HYPERCALL_SET_TIMER_OP,
  HYPERCALL_VCPU_OP,
  HYPERCALL_XEN_VERSION,
  SCHED_POLL_NR_PORTS_COMPAT,
  SCHED_POLL_NR_PORTS_LONG,
  SCHED_POLL_SIZE_COMPAT,
  SCHED_POLL_SIZE_LONG,
  SCHED_POLL_TIMEOUT_COMPAT,
  SCHED_POLL_TIMEOUT_LONG,
  SCHEDOP_POLL,
  SCHEDOP_YIELD,
  SINGLESHOT_TIMER_SIZE_COMPAT,
  SINGLESHOT_TIMER_SIZE_LONG,
  SINGLESHOT_TIMER_TIMEOUT,
  VCPUOP_SET_SINGLESHOT_TIMER,
  VCPUOP_STOP_SINGLESHOT_TIMER,
  XENVER_VERSION,
} from '../../abi/hypercall.ts';
import { REGION_XEN_VERSION, VCPU_XEN_ID } from '../../abi/region.ts';
import { startTimer, stopTimer, timerEnabled } from '../time/timer.ts';
import type { Vcpu } from '../vcpu.ts';
import { type GuestCpu, readArgument } from './guest_cpu.ts';
import { schedPoll } from './sched_poll.ts';

/** The six parameters of a hypercall. */
export type HypercallParams = readonly [bigint, bigint, bigint, bigint, bigint, bigint];

/** How arguments lie in the caller's mode, and the size of what a pointer leads to. @internal */
export interface CallLayout {
  /** A guest pointer at an offset. */
  readonly pointer: (view: DataView, at: number) => bigint;
  /** A 64-bit value from the first parameters. [KX-HCL-52] */
  readonly wide: (params: HypercallParams) => bigint;
  readonly schedPollSize: number;
  readonly schedPollNrPorts: number;
  readonly schedPollTimeout: number;
  readonly singleshotTimerSize: number;
}

/** @internal */
export const CALL_LONG: CallLayout = {
  pointer: (view, at) => view.getBigUint64(at, true),
  wide: (params) => params[0],
  schedPollSize: SCHED_POLL_SIZE_LONG,
  schedPollNrPorts: SCHED_POLL_NR_PORTS_LONG,
  schedPollTimeout: SCHED_POLL_TIMEOUT_LONG,
  singleshotTimerSize: SINGLESHOT_TIMER_SIZE_LONG,
};

/** @internal */
export const CALL_COMPAT: CallLayout = {
  pointer: (view, at) => BigInt(view.getUint32(at, true)),
  wide: (params) => params[0] | (params[1] << 32n),
  schedPollSize: SCHED_POLL_SIZE_COMPAT,
  schedPollNrPorts: SCHED_POLL_NR_PORTS_COMPAT,
  schedPollTimeout: SCHED_POLL_TIMEOUT_COMPAT,
  singleshotTimerSize: SINGLESHOT_TIMER_SIZE_COMPAT,
};

/** A call on its way. @internal */
export interface Call {
  readonly vcpu: Vcpu;
  readonly cpu: GuestCpu;
  readonly layout: CallLayout;
  readonly params: HypercallParams;
  /** the embedder has promised to raise events through the engine only [KX-HCL-31] */
  readonly mayPoll: boolean;
}

/** Until when a poll sleeps, ns on the host's clock; null for ever. @internal */
export interface Asleep {
  readonly deadline: bigint | null;
}

/** @internal */
export type Answer = number | Asleep | null;

/** @internal */
export const HYPERCALLS: ReadonlyMap<bigint, (call: Call) => Answer> = new Map([
  [BigInt(HYPERCALL_XEN_VERSION), xenVersion],
  [BigInt(HYPERCALL_EVENT_CHANNEL_OP), eventChannelOp],
  [BigInt(HYPERCALL_SCHED_OP), schedOp],
  [BigInt(HYPERCALL_VCPU_OP), vcpuOp],
  [BigInt(HYPERCALL_SET_TIMER_OP), setTimerOp],
]);

/** [KX-HCL-20] */
function xenVersion({ vcpu: { vm }, params }: Call): Answer {
  const version = vm.region.words.load(vm.region.base + REGION_XEN_VERSION) >>> 0;
  return params[0] === BigInt(XENVER_VERSION) && version !== 0 ? version : null;
}

/** [KX-HCL-40..44] */
function eventChannelOp({ vcpu, cpu, params }: Call): Answer {
  if (params[0] !== BigInt(EVTCHNOP_SEND)) return null;
  const argument = readArgument(cpu, params[1], EVTCHN_SEND_SIZE);
  if (argument === null) return -EFAULT;
  return vcpu.vm.sendPorts.ring(argument.getUint32(EVTCHN_SEND_PORT, true));
}

/** [KX-HCL-22, 30, 31] */
function schedOp(call: Call): Answer {
  const command = asInt(call.params[0]);
  if (command === SCHEDOP_POLL) return schedPoll(call);
  // A hint to run somebody else first; who runs is the embedder's business.
  return command === SCHEDOP_YIELD ? 0 : null;
}

/** [KX-HCL-50, 51, 53] */
function vcpuOp({ vcpu, cpu, layout, params }: Call): Answer {
  if (!timerEnabled(vcpu)) return null;
  const command = asInt(params[0]);
  if (command !== VCPUOP_SET_SINGLESHOT_TIMER && command !== VCPUOP_STOP_SINGLESHOT_TIMER) return null;
  if (asInt(params[1]) !== vcpu.vm.region.words.load(vcpu.record + VCPU_XEN_ID)) return -EINVAL;
  if (command === VCPUOP_STOP_SINGLESHOT_TIMER) {
    stopTimer(vcpu);
    return 0;
  }
  const argument = readArgument(cpu, params[2], layout.singleshotTimerSize);
  if (argument === null) return -EFAULT;
  // Its flags are ignored: "must be in the future" was dropped by the reference, whose only user had it wrong. [KF-57]
  startTimer(vcpu, argument.getBigUint64(SINGLESHOT_TIMER_TIMEOUT, true), false);
  return 0;
}

/** [KX-HCL-52, 53] */
function setTimerOp({ vcpu, layout, params }: Call): Answer {
  if (!timerEnabled(vcpu)) return null;
  const expires = layout.wide(params);
  if (expires === 0n) stopTimer(vcpu);
  else startTimer(vcpu, expires, true);
  return 0;
}

/** Commands and ids are ints in either mode: what a 64-bit caller leaves in the upper half of the register says nothing. */
function asInt(param: bigint): number {
  return Number(BigInt.asIntN(32, param));
}
