// A vCPU's clock: its TSC, and the records from which the guest computes time. [kvm-xen 8.2]
//
// A record is {TSC, time} of one instant and the scale between them. With the master clock that instant is the master sample,
// so that all vCPUs' records lie on one line; else it is now.

import { CAP_PVCLOCK_TSC_UNSTABLE, HVM_CONFIG_FLAGS } from '../../abi/hvm_config.ts';
import { PVCLOCK_TSC_STABLE } from '../../abi/pvclock.ts';
import {
  REGION_HVM_CONFIG,
  REQUEST_CLOCK_UPDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  VCPU_CLOCK_HZ,
  VCPU_CLOCK_MUL,
  VCPU_CLOCK_SHIFT,
  VCPU_IN_GUEST,
  VCPU_MODE,
  VCPU_REQUESTS,
  VCPU_TIME_OWED,
  VCPU_TSC_HZ,
  VCPU_TSC_OFFSET,
  VCPU_TSC_RATIO,
} from '../../abi/region.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import type { ClockState } from './kvmclock.ts';
import { publishTime, type TimeInfo } from './pvclock.ts';
import { scaleTsc, type TimeScale, timeScale, tscRatio } from './tsc_scale.ts';
import { repayWallClock } from './wall_clock.ts';

/** A guest's TSC: the host's at another speed, and shifted. */
export interface GuestTsc {
  /** frequency, Hz, an integer from 0 (not known yet: the guest cannot be entered) to 2^53-1; below 65536 times the host's */
  readonly hz: number;
  /** added after scaling, modulo 2^64; -2^63..2^64-1 */
  readonly offset: bigint;
}

/** A ratio of TSCs has 64 bits, 48 of them behind the point. */
const MAX_RATIO = 1n << 64n;

/** Sets the TSC of a vCPU; what is left out stays. [KX-CLK-10] @internal */
export function setTsc(vcpu: Vcpu, given: Partial<GuestTsc>): void {
  const { vm, index } = vcpu;
  vm.checkOwner();
  const { hz, offset } = { ...getTsc(vcpu), ...given };
  checkRange("the frequency of the guest's TSC", hz, 0, Number.MAX_SAFE_INTEGER);
  const { hostHz } = vm.kvmclock;
  const ratio = tscRatio(hz, hostHz);
  if (ratio >= MAX_RATIO || (ratio === 0n && hz !== 0)) {
    throw new EvtchnError('EINVAL', `a guest's TSC of ${hz} Hz cannot be scaled from the host's of ${hostHz} Hz`);
  }
  if (typeof offset !== 'bigint' || offset < -(1n << 63n) || offset >= 1n << 64n) {
    throw new EvtchnError(
      'EINVAL',
      `the offset of the guest's TSC is ${offset}, allowed are bigints from -2^63 to 2^64-1`,
    );
  }
  vm.kvmclock.storing(() => vm.kvmclock.storeTsc(index, hz, offset));
  // Whether all vCPUs' TSCs are alike has to be looked at again. [KX-CLK-02]
  vm.requestAll(REQUEST_MASTERCLOCK_UPDATE);
  vcpu.request(REQUEST_CLOCK_UPDATE);
}

/** @internal */
export function getTsc({ vm, record }: Vcpu): GuestTsc {
  const { words } = vm.region;
  return vm.kvmclock.read(() => ({
    hz: words.loadWide(record + VCPU_TSC_HZ),
    offset: words.load64(record + VCPU_TSC_OFFSET),
  }));
}

/** What the guest reads from its TSC now. [KX-CLK-10] @internal */
export function readTsc(vcpu: Vcpu): bigint {
  return vcpu.vm.kvmclock.read(() => guestTsc(vcpu, counterNow(vcpu.vm)));
}

/** The guest's TSC when the host's is `tsc`. */
/** The guest's TSC at a reading of the host's. @internal */
export function guestTsc({ vm, record }: Vcpu, tsc: bigint): bigint {
  const { words } = vm.region;
  const scaled = scaleTsc(tsc, words.load64(record + VCPU_TSC_RATIO));
  return BigInt.asUintN(64, scaled + words.load64(record + VCPU_TSC_OFFSET));
}

function counterNow(vm: Vm): bigint {
  const counter = vm.kvmclock.counter(vm.kvmclock.sample());
  if (counter !== null) return counter;
  throw new EvtchnError(
    'EOPNOTSUPP',
    `this thread's clock has no TSC of ${vm.kvmclock.hostHz} Hz, which the VM was made with: attach with the same clock`,
  );
}

// ── updates ────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Answers MASTERCLOCK_UPDATE, for all vCPUs at once: samples the master clock, and asks each vCPU for a clock update before the
 * guest goes on. Guest time makes no step, so a vCPU that is still on its way out has no wrong time. [KX-CLK-13] @internal
 */
export function updateMasterClock(vm: Vm): void {
  const { words } = vm.region;
  // Before the sample: what is asked for from here on may have to see more than this sample does.
  for (let i = 0; i < vm.vcpus; i++) words.and(vm.region.vcpuLine(i) + VCPU_REQUESTS, ~REQUEST_MASTERCLOCK_UPDATE);
  try {
    vm.kvmclock.resample();
  } catch (error) {
    vm.requestAll(REQUEST_MASTERCLOCK_UPDATE);
    throw error;
  }
  clocksChanged(vm);
}

/** Asks every vCPU for a clock update, and those in guest mode to leave it. @internal */
export function clocksChanged(vm: Vm): void {
  vm.requestAll(REQUEST_CLOCK_UPDATE);
  for (let i = 0; i < vm.vcpus; i++) {
    const inGuest = vm.region.words.load(vm.region.vcpuRecord(i) + VCPU_MODE) & VCPU_IN_GUEST;
    if (inGuest) vm.kernel.unblock(vm.vmBase, vm.agent, i, 0);
  }
}

/**
 * Answers CLOCK_UPDATE: publishes the vCPU's clock to vcpu_info and vcpu_time_info. A record that cannot be reached is owed: the
 * next load of the vCPU asks for it again. [KX-CLK-10, 11; KF-56]
 * @returns false when the guest may not be entered: the frequency of its TSC is not known, and the update is asked for again
 * @internal
 */
export function updateClock(vcpu: Vcpu): boolean {
  // Before the fields are read: who changes them asks again afterwards.
  vcpu.takeRequests(REQUEST_CLOCK_UPDATE);
  let done = false;
  try {
    done = writeClock(vcpu);
  } finally {
    if (!done) vcpu.request(REQUEST_CLOCK_UPDATE);
  }
  return done;
}

function writeClock(vcpu: Vcpu): boolean {
  const { vm, record } = vcpu;
  const time = clockRecord(vcpu);
  if (time === null) return false;
  const { words } = vm.region;
  if (publishTime(vcpu, time)) words.and(record + VCPU_MODE, ~VCPU_TIME_OWED);
  else words.or(record + VCPU_MODE, VCPU_TIME_OWED);
  repayWallClock(vm);
  return true;
}

/** Whether a vCPU that is loaded has to write its clock before the guest goes on, asked or not. @internal */
export function clockIsStale({ vm, record }: Vcpu): boolean {
  const { words } = vm.region;
  if (words.load(record + VCPU_MODE) & VCPU_TIME_OWED) return true;
  // Without the master clock a record keeps to guest time only for a while.
  return !vm.kvmclock.master || words.loadWide(record + VCPU_CLOCK_HZ) !== words.loadWide(record + VCPU_TSC_HZ);
}

/** Null while the frequency is not known. */
function clockRecord(vcpu: Vcpu): TimeInfo | null {
  const { vm, record } = vcpu;
  const { kvmclock, region } = vm;
  return kvmclock.read((state) => {
    const hz = region.words.loadWide(record + VCPU_TSC_HZ);
    if (hz === 0) return null;
    return {
      ...instant(vcpu, state),
      ...scaleOf(vcpu, hz),
      flags: state.master && !tscUnstable(vm) ? PVCLOCK_TSC_STABLE : 0,
    };
  });
}

function instant(vcpu: Vcpu, state: ClockState): { tscTimestamp: bigint; systemTime: bigint } {
  const { kvmclock } = vcpu.vm;
  if (state.master) {
    return { tscTimestamp: guestTsc(vcpu, state.tsc), systemTime: BigInt.asUintN(64, state.ns + state.offset) };
  }
  const sample = kvmclock.sample();
  const counter = kvmclock.counter(sample) ?? counterNow(vcpu.vm);
  return { tscTimestamp: guestTsc(vcpu, counter), systemTime: BigInt.asUintN(64, sample.now + state.offset) };
}

/** The scale for a frequency, computed when that changes. */
function scaleOf({ vm, record }: Vcpu, hz: number): TimeScale {
  const { words } = vm.region;
  if (words.loadWide(record + VCPU_CLOCK_HZ) !== hz) {
    const { mul, shift } = timeScale(hz);
    words.store(record + VCPU_CLOCK_MUL, mul | 0);
    words.store(record + VCPU_CLOCK_SHIFT, shift);
    words.storeWide(record + VCPU_CLOCK_HZ, hz);
  }
  return { mul: words.load(record + VCPU_CLOCK_MUL) >>> 0, shift: words.load(record + VCPU_CLOCK_SHIFT) };
}

/** Whether guests shall not be told that the TSC is stable. [KX-CAP-08] */
function tscUnstable({ region }: Vm): boolean {
  return (region.words.load(region.base + REGION_HVM_CONFIG + HVM_CONFIG_FLAGS) & CAP_PVCLOCK_TSC_UNSTABLE) !== 0;
}
