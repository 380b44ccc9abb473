// A vCPU's clock record in guest memory: the slow half of assembly/pvclock.ts. [KX-CLK-10, 11]

import { EAGAIN } from '../../abi/errno.ts';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SIZE,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_TIMESTAMP,
} from '../../abi/pvclock.ts';
import { AGENT_RECORD, VCPU_INFO_GPC, VCPU_TIME_INFO_GPC } from '../../abi/region.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import type { Vcpu } from '../vcpu.ts';
import { checkTime, highHalf, lowHalf, type Nanoseconds } from './nanoseconds.ts';

/** A pvclock record: the guest's time is systemTime + ((tsc - tscTimestamp) << shift) * mul / 2^32. [KX-ABI-15, 17] */
export interface TimeInfo {
  /** guest TSC at the sample, u64 */
  readonly tscTimestamp: Nanoseconds;
  /** guest time at the sample, ns, u64 */
  readonly systemTime: Nanoseconds;
  /** u32 */
  readonly mul: number;
  /** -63..63; negative shifts right */
  readonly shift: number;
  /** u8; bit 0: the TSC is stable */
  readonly flags?: number;
}

/** Which of the two records. */
export type TimeSource = 'vcpu_info' | 'vcpu_time_info';

/** How often the page of a record is refreshed before it is left out. */
const REFRESH_TRIES = 16;

/** @internal */
export function writeTime(vcpu: Vcpu, time: TimeInfo): void {
  checkTime('tscTimestamp', time.tscTimestamp);
  checkTime('systemTime', time.systemTime);
  checkRange('mul', time.mul, 0, 2 ** 32 - 1);
  checkRange('shift', time.shift, -63, 63);
  checkRange('flags', time.flags ?? 0, 0, 255);
  vcpu.vm.checkOpen();
  publishTime(vcpu, time);
}

/** Writes the records that are registered, vcpu_info's first. @returns whether all of them could be reached @internal */
export function publishTime(vcpu: Vcpu, time: TimeInfo): boolean {
  const inVcpuInfo = publish(vcpu, time, vcpu.line + VCPU_INFO_GPC, 1);
  return publish(vcpu, time, vcpu.record + VCPU_TIME_INFO_GPC, 2) && inVcpuInfo;
}

/** One of them, refreshing its page. `which` is its bit for the kernel. [KX-CLK-11] */
function publish(vcpu: Vcpu, time: TimeInfo, gpc: number, which: number): boolean {
  const { vm, index } = vcpu;
  if (!vm.gpcs.isActive(gpc)) return true;
  for (let i = 0; i < REFRESH_TRIES; i++) {
    // Again each time: a page fault that a refresh reports may use the room.
    fillRecord(vcpu, time);
    if (vm.kernel.timeWrite(vm.vmBase, vm.agent, index, which) !== 0) return true;
    if (vm.gpcs.refresh(gpc) < 0) return false;
  }
  return false;
}

function fillRecord({ vm }: Vcpu, time: TimeInfo): void {
  const view = vm.region.words.view(vm.agent + AGENT_RECORD, PVCLOCK_SIZE);
  view.setBigUint64(PVCLOCK_TSC_TIMESTAMP, BigInt(time.tscTimestamp), true);
  view.setBigUint64(PVCLOCK_SYSTEM_TIME, BigInt(time.systemTime), true);
  view.setUint32(PVCLOCK_MUL, time.mul, true);
  view.setInt8(PVCLOCK_SHIFT, time.shift);
  view.setUint8(PVCLOCK_FLAGS, time.flags ?? 0);
}

/** @internal */
export function readTime({ vm, index, line, record }: Vcpu, tsc: Nanoseconds, from: TimeSource): bigint {
  checkTime('tsc', tsc);
  if (from !== 'vcpu_info' && from !== 'vcpu_time_info') {
    throw new EvtchnError('EINVAL', `the clock record is ${String(from)}, allowed are vcpu_info and vcpu_time_info`);
  }
  vm.checkOpen();
  const [which, gpc] = from === 'vcpu_info' ? [1, line + VCPU_INFO_GPC] : [2, record + VCPU_TIME_INFO_GPC];
  const read = (): number => vm.kernel.timeRead(vm.vmBase, vm.agent, index, which, lowHalf(tsc), highHalf(tsc));
  let result = read();
  if (result === -EAGAIN && vm.gpcs.refresh(gpc) === 0) result = read();
  if (result < 0) throw new EvtchnError('EAGAIN', `vCPU ${index} has no clock record in ${from} that can be read`);
  return vm.region.words.view(vm.agent + AGENT_RECORD, 8).getBigUint64(0, true);
}
