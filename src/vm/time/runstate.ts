// What a vCPU does and for how long: the slow half of assembly/runstate.ts. [KX-RUN-01..33]

import { EAGAIN, EBADF } from '../../abi/errno.ts';
import { AGENT_RECORD, VCPU_RUNSTATE1_GPC, VCPU_RUNSTATE2_GPC } from '../../abi/region.ts';
import {
  RUNSTATE_BLOCKED,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_OFFLINE,
  RUNSTATE_RUNNABLE,
  RUNSTATE_RUNNING,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_LONG,
} from '../../abi/runstate.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError } from '../../errors.ts';
import { gpa, pageOffset } from '../../memory/address.ts';
import type { Vcpu } from '../vcpu.ts';
import { checkTime, highHalf, lowHalf, type Nanoseconds } from './nanoseconds.ts';

/** What a vCPU does. */
export type RunstateName = 'running' | 'runnable' | 'blocked' | 'offline';

/** A vCPU's runstate: times in ns. `entryTime` equals the sum of `times`. [KX-RUN-03] */
export interface Runstate {
  readonly state: RunstateName;
  readonly entryTime: bigint;
  readonly times: Readonly<Record<RunstateName, bigint>>;
}

/** By number. @internal */
export const RUNSTATES: readonly RunstateName[] = ['running', 'runnable', 'blocked', 'offline'];

/** How often the pages of the guest's copy are refreshed before a write gives up. */
const REFRESH_TRIES = 16;

/** A switch, because a look-up by a name that may be anything costs as much as the accounting. Throws EINVAL. @internal */
export function runstateNumber(state: RunstateName): number {
  switch (state) {
    case 'running':
      return RUNSTATE_RUNNING;
    case 'runnable':
      return RUNSTATE_RUNNABLE;
    case 'blocked':
      return RUNSTATE_BLOCKED;
    case 'offline':
      return RUNSTATE_OFFLINE;
    default:
      throw new EvtchnError('EINVAL', `the runstate is ${String(state)}, allowed are ${RUNSTATES.join(', ')}`);
  }
}

/** What a detached view's kernel answers. */
const DETACHED = -EBADF;

/** @internal */
export function enterRunstate(vcpu: Vcpu, state: RunstateName, now: Nanoseconds, runDelay: Nanoseconds): void {
  const number = runstateNumber(state);
  checkTime('now', now);
  checkTime('runDelay', runDelay);
  const { vm, index } = vcpu;
  const written = vm.kernel.runstateEnter(
    vm.vmBase,
    vm.agent,
    index,
    number,
    lowHalf(now),
    highHalf(now),
    lowHalf(runDelay),
    highHalf(runDelay),
  );
  if (written === DETACHED) vm.checkOpen();
  // Entering runnable happens where nothing may sleep: the guest's copy waits for the next change. [KX-RUN-20, 21]
  if (written === -EAGAIN && number !== RUNSTATE_RUNNABLE) writeRunstate(vcpu);
}

/** @internal */
export function readRunstate({ vm, index }: Vcpu): Runstate {
  vm.checkOpen();
  if (vm.kernel.runstateRead(vm.vmBase, vm.agent, index) < 0) {
    throw new EvtchnError('EAGAIN', `the runstate of vCPU ${index} is being changed for longer than a reader waits`);
  }
  const view = vm.region.words.view(vm.agent + AGENT_RECORD, RUNSTATE_SIZE_LONG);
  const time = (state: number): bigint => view.getBigUint64(RUNSTATE_TIMES_LONG + 8 * state, true);
  return {
    state: RUNSTATES[view.getInt32(RUNSTATE_STATE, true)] ?? 'offline',
    entryTime: view.getBigUint64(RUNSTATE_ENTRY_TIME_LONG, true),
    times: {
      running: time(RUNSTATE_RUNNING),
      runnable: time(RUNSTATE_RUNNABLE),
      blocked: time(RUNSTATE_BLOCKED),
      offline: time(RUNSTATE_OFFLINE),
    },
  };
}

/** Writes the guest's copy, refreshing its pages; gives up silently when they cannot be reached. [KX-RUN-22..26] @internal */
export function writeRunstate(vcpu: Vcpu): void {
  const { vm, index, record } = vcpu;
  for (let i = 0; i < REFRESH_TRIES; i++) {
    if (vm.kernel.runstateWrite(vm.vmBase, vm.agent, index) === 0) return;
    if (vm.gpcs.refresh(record + VCPU_RUNSTATE1_GPC) < 0 || !mapSecondPage(vcpu)) return;
  }
}

/** The mode may have grown the area over the page edge since it was registered. [KX-RUN-26] */
function mapSecondPage({ vm, record }: Vcpu): boolean {
  const { gpcs, region } = vm;
  const gpc2 = record + VCPU_RUNSTATE2_GPC;
  const address = gpcs.gpaOf(record + VCPU_RUNSTATE1_GPC);
  if (address === null) return false;
  const size = region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
  const room = PAGE_SIZE - pageOffset(address);
  if (room >= size) return true;
  if (gpcs.isActive(gpc2)) return gpcs.refresh(gpc2) === 0;
  // Only the owner registers: on another thread the area may be another one by now.
  if (!vm.owner) return false;
  try {
    gpcs.activate(gpc2, 'the second page of runstate', { gpa: gpa(address + room) }, size - room);
    return true;
  } catch {
    return false;
  }
}
