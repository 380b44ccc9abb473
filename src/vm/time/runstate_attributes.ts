// RUNSTATE_CURRENT, RUNSTATE_DATA and RUNSTATE_ADJUST: what a VMM says about a vCPU's runstate. [KX-VCA-07..10]
//
// KVM loads the vCPU on the calling thread for each of them: so its run delay counts, here as it last said, and the vCPU
// is running again when it is next entered. [KX-RUN-01]

import { AGENT_RECORD, VCPU_LAST_STEAL, VCPU_RUNSTATE1_GPC } from '../../abi/region.ts';
import {
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_LONG,
} from '../../abi/runstate.ts';
import { EvtchnError } from '../../errors.ts';
import type { Row } from '../attribute_row.ts';
import type { RunstateAdjustAttr, RunstateCurrentAttr, RunstateDataAttr } from '../attributes.ts';
import { checkSchedInfo } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import { highHalf, lowHalf } from './nanoseconds.ts';
import { enterRunstate, RUNSTATES, type Runstate, readRunstate, runstateNumber, writeRunstate } from './runstate.ts';
import { lastRunDelay, requestSteal } from './scheduling.ts';

const LEAST = -(1n << 63n);
const END = 1n << 64n;

/** @internal */
export const RUNSTATE_CURRENT_ROW: Row<Vcpu, RunstateCurrentAttr> = {
  validate: (attr, vcpu) => {
    checkSchedInfo(vcpu.vm);
    runstateNumber(attr.state);
  },
  set: (attr, vcpu) => {
    enterRunstate(vcpu, attr.state, vcpu.vm.kvmclock.now(), lastRunDelay(vcpu));
    requestSteal(vcpu);
  },
  get: (vcpu) => {
    checkSchedInfo(vcpu.vm);
    return { type: 'runstate_current', state: readRunstate(vcpu).state };
  },
};

/** @internal */
export const RUNSTATE_DATA_ROW: Row<Vcpu, RunstateDataAttr> = {
  validate: (attr, vcpu) => {
    checkSchedInfo(vcpu.vm);
    runstateNumber(attr.state);
    checkTimes(attr, 0n);
    checkNotAhead(vcpu, attr.entryTime);
  },
  set: (attr, vcpu) => {
    replaceRunstate(vcpu, attr, lastRunDelay(vcpu));
    requestSteal(vcpu);
  },
  get: (vcpu) => {
    checkSchedInfo(vcpu.vm);
    return { type: 'runstate_data', ...readRunstate(vcpu) };
  },
};

/** @internal */
export const RUNSTATE_ADJUST_ROW: Row<Vcpu, RunstateAdjustAttr> = {
  validate: (attr, vcpu) => {
    checkSchedInfo(vcpu.vm);
    if (attr.state !== null) runstateNumber(attr.state);
    checkTimes(attr, LEAST);
    checkNotAhead(vcpu, u64(readRunstate(vcpu).entryTime + attr.entryTime));
  },
  set: (attr, vcpu) => {
    replaceRunstate(vcpu, plus(readRunstate(vcpu), attr), vcpu.vm.region.words.load64(vcpu.record + VCPU_LAST_STEAL));
    if (attr.state !== null) enterRunstate(vcpu, attr.state, vcpu.vm.kvmclock.now(), lastRunDelay(vcpu));
    else if (vcpu.vm.gpcs.isActive(vcpu.record + VCPU_RUNSTATE1_GPC)) writeRunstate(vcpu);
    requestSteal(vcpu);
  },
  get: () => {
    throw new EvtchnError('EINVAL', 'runstate_adjust cannot be read: runstate_data has what it leads to');
  },
};

type Times = Omit<Runstate, 'state'>;

function u64(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}

function plus({ state, entryTime, times }: Runstate, more: Times): Runstate {
  const add = (name: Runstate['state']): bigint => u64(times[name] + more.times[name]);
  return {
    state,
    entryTime: u64(entryTime + more.entryTime),
    times: { running: add('running'), runnable: add('runnable'), blocked: add('blocked'), offline: add('offline') },
  };
}

/** Throws EINVAL unless all are bigints from `least` to 2^64-1 and add up, modulo 2^64. [KX-RUN-03] */
function checkTimes({ entryTime, times }: Times, least: bigint): void {
  const given = times as Readonly<Record<string, unknown>> | null | undefined;
  const fields = [['entryTime', entryTime] as const, ...RUNSTATES.map((name) => [name, given?.[name]] as const)];
  for (const [name, value] of fields) {
    if (typeof value !== 'bigint' || value < least || value >= END) {
      const range = least === 0n ? '0' : '-2^63';
      throw new EvtchnError(
        'EINVAL',
        `${name} of the runstate is ${String(value)}, allowed are bigints from ${range} to 2^64-1`,
      );
    }
  }
  const sum = u64(RUNSTATES.reduce((total, name) => total + times[name], 0n));
  if (u64(entryTime) !== sum) {
    throw new EvtchnError(
      'EINVAL',
      `entryTime of the runstate is ${entryTime}, but the times in its four states add up to ${sum}`,
    );
  }
}

/** Throws EINVAL when the state would begin in the future of the guest's clock. */
function checkNotAhead(vcpu: Vcpu, entryTime: bigint): void {
  const now = vcpu.vm.kvmclock.now();
  if (now >= entryTime) return;
  throw new EvtchnError(
    'EINVAL',
    `the runstate would have been entered at ${entryTime} ns, but the guest's clock is at ${now} ns`,
  );
}

/** Replaces the host's record and no byte of the guest's copy. `lastSteal` is the run delay that is accounted for. */
function replaceRunstate({ vm, index }: Vcpu, { state, entryTime, times }: Runstate, lastSteal: bigint): void {
  const view = vm.region.words.view(vm.agent + AGENT_RECORD, RUNSTATE_SIZE_LONG);
  view.setInt32(RUNSTATE_STATE, runstateNumber(state), true);
  view.setBigUint64(RUNSTATE_ENTRY_TIME_LONG, entryTime, true);
  for (const [i, name] of RUNSTATES.entries()) view.setBigUint64(RUNSTATE_TIMES_LONG + 8 * i, times[name], true);
  vm.kernel.runstateReplace(vm.vmBase, vm.agent, index, lowHalf(lastSteal), highHalf(lastSteal));
}
