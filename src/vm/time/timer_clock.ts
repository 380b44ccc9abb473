// The guest's time for its timer: what the guest would read from its own record, so that its clock and ours do not drift
// apart; else kvmclock. [KX-TMR-05, KF-52]

import { PVCLOCK_MUL, PVCLOCK_SHIFT, PVCLOCK_SIZE } from '../../abi/pvclock.ts';
import {
  AGENT_RECORD,
  GPC_UNMAPPED,
  GPC_WORD,
  VCPU_CLOCK_MUL,
  VCPU_CLOCK_SHIFT,
  VCPU_INFO_GPC,
  VCPU_TIME_INFO_GPC,
} from '../../abi/region.ts';
import { VCPU_INFO_TIME } from '../../abi/vcpu_info.ts';
import type { Vcpu } from '../vcpu.ts';
import { guestTsc } from './guest_clock.ts';
import { highHalf, lowHalf } from './nanoseconds.ts';

/** The two clocks that a timer lies between, ns. @internal */
export interface TimerNow {
  readonly guest: bigint;
  /** the host's, of the same instant or a little later: what is computed from the two is never early */
  readonly host: bigint;
}

/** A record of the guest's clock: the bit that the kernel knows it by, its cache, and where it is in what that maps. */
interface Copy {
  readonly which: 1 | 2;
  readonly gpc: number;
  readonly offset: number;
}

/**
 * Reads both clocks. With `sleepable` the guest's record is mapped when it has to be; without, where nothing may sleep, one that is
 * away is passed over. Throws EBUSY while another thread does not end its change of the VM's clock. @internal
 */
export function timerNow(vcpu: Vcpu, sleepable: boolean): TimerNow {
  const { clock, kvmclock } = vcpu.vm;
  const { guest, host } = recordNow(vcpu, sleepable) ?? kvmclock.instant();
  // A clock that cannot sample tells the host's time first, then the TSC.
  return { guest, host: clock.tsc && !clock.sample ? clock.now() : host };
}

/** By the guest's own record: only while the TSC is the clock, and this thread can read it. */
function recordNow(vcpu: Vcpu, sleepable: boolean): TimerNow | null {
  const { vm, line, record } = vcpu;
  const instant = vm.kvmclock.read(({ master }) => {
    const { now, tsc } = vm.kvmclock.sample();
    return master && tsc !== undefined ? { host: now, tsc: guestTsc(vcpu, tsc) } : null;
  });
  if (instant === null) return null;
  const copies: readonly Copy[] = [
    { which: 1, gpc: line + VCPU_INFO_GPC, offset: VCPU_INFO_TIME },
    { which: 2, gpc: record + VCPU_TIME_INFO_GPC, offset: 0 },
  ];
  for (const copy of copies) {
    const guest = readCopy(vcpu, copy, instant.tsc, sleepable);
    if (guest !== null) return { guest, host: instant.host };
  }
  return null;
}

/** Null unless the record can be read and counts as this vCPU's clock does now. */
function readCopy(vcpu: Vcpu, copy: Copy, tsc: bigint, sleepable: boolean): bigint | null {
  const { vm, index } = vcpu;
  if (sleepable && !vm.gpcs.isMapped(copy.gpc) && vm.gpcs.refresh(copy.gpc) < 0) return null;
  if (!countsAlike(vcpu, copy)) return null;
  if (vm.kernel.timeRead(vm.vmBase, vm.agent, index, copy.which, lowHalf(tsc), highHalf(tsc)) < 0) return null;
  return vm.region.words.view(vm.agent + AGENT_RECORD, 8).getBigUint64(0, true);
}

/** Whether mul and shift of the record are those of the vCPU, which has some: a guest may have written anything. */
function countsAlike({ vm, record }: Vcpu, { gpc, offset }: Copy): boolean {
  const { words } = vm.region;
  const opened = vm.changes.enter();
  try {
    const at = words.load(gpc + GPC_WORD) >>> 0;
    if (at >= GPC_UNMAPPED >>> 0) return false;
    const copy = new DataView(words.read(at + offset, PVCLOCK_SIZE).buffer);
    const mul = words.load(record + VCPU_CLOCK_MUL) >>> 0;
    return (
      mul !== 0 &&
      copy.getUint32(PVCLOCK_MUL, true) === mul &&
      copy.getInt8(PVCLOCK_SHIFT) === words.load(record + VCPU_CLOCK_SHIFT)
    );
  } finally {
    if (opened) vm.changes.leave();
  }
}
