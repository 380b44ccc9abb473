// A runstate record as the guest reads it, and the host's in the same shape. [KX-ABI-20..23]

import {
  RUNSTATE_ENTRY_TIME_COMPAT,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_COMPAT,
  RUNSTATE_TIMES_LONG,
} from '../../src/abi/runstate.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gpa, type Runstate, type RunstateName, type Vm } from '../../src/index.ts';
import { fields } from '../support.ts';

export const STATES: readonly RunstateName[] = ['running', 'runnable', 'blocked', 'offline'];
export const MARK = 1n << 63n;
export const EDGE = 6 * PAGE_SIZE;

/** Bytes of the record in the present layout. */
export function sizeOf(vm: Vm): number {
  return vm.maxPorts === 4096 ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
}

/** The guest's copy as the guest reads it, in the layout of the current mode. */
export function guestCopy(vm: Vm, at: number): { state: number; entryTime: bigint; times: bigint[] } {
  const long = vm.maxPorts === 4096;
  const view = fields(vm);
  const times = at + (long ? RUNSTATE_TIMES_LONG : RUNSTATE_TIMES_COMPAT);
  return {
    state: view.getInt32(at + RUNSTATE_STATE, true),
    entryTime: view.getBigUint64(at + (long ? RUNSTATE_ENTRY_TIME_LONG : RUNSTATE_ENTRY_TIME_COMPAT), true),
    times: [0, 1, 2, 3].map((i) => view.getBigUint64(times + 8 * i, true)),
  };
}

/** The host's record in the same shape. */
export function hostCopy(runstate: Runstate): ReturnType<typeof guestCopy> {
  return {
    state: STATES.indexOf(runstate.state),
    entryTime: runstate.entryTime,
    times: STATES.map((state) => runstate.times[state]),
  };
}

/** Modulo 2^64, as the guest adds. */
export function sum(times: readonly bigint[]): bigint {
  return BigInt.asUintN(
    64,
    times.reduce((a, b) => a + b, 0n),
  );
}

/** Registers the area, or takes it away. */
export function runstateAddr(vm: Vm, at: number | null, vcpu = 0): void {
  vm.vcpu(vcpu).setAttr({ type: 'runstate_addr', gpa: at === null ? null : gpa(at) });
}
