// Writes the state of a snapshot into the records of a VM: all of it was checked, no sender is on its way, and nobody delivers
// a timer. In a fixed order, so that the order of a snapshot's parts does not matter [KF-34]; only the first step can fail.

import {
  HVM_CONFIG_BLOB_COMPAT,
  HVM_CONFIG_BLOB_LONG,
  HVM_CONFIG_BLOB_PAGES_COMPAT,
  HVM_CONFIG_BLOB_PAGES_LONG,
  HVM_CONFIG_FLAGS,
  HVM_CONFIG_MSR,
} from '../../abi/hvm_config.ts';
import {
  REGION_CLOCK_MASTER,
  REGION_CLOCK_OFFSET,
  REGION_HVM_CONFIG,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_UPCALL_VECTOR,
  REGION_WALL_CLOCK_OWED,
  REGION_XEN_VERSION,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import type { ClockSample } from '../time/clock.ts';
import { scaleTsc, tscRatio } from '../time/tsc_scale.ts';
import type { Vm } from '../vm.ts';
import { applyEvents } from './apply_events.ts';
import { applyMemory } from './apply_memory.ts';
import { applyVcpu } from './apply_vcpu.ts';
import { applyPlace, hostOrigin } from './place.ts';
import type { AttributesState, ConfigState, VmState } from './state.ts';

/** The host's clocks at the moment from which the guest goes on. @internal */
export interface RestoreMoment {
  readonly sample: ClockSample;
  /** what the guests' TSCs are derived from */
  readonly counter: bigint;
  /** the run delay that the vCPUs' threads begin with; null: theirs go on */
  readonly runDelay: bigint | null;
}

/**
 * Makes the VM what the snapshot says. Throws EBUSY when another thread does not end a change of the clock: nothing has changed
 * then. @internal
 */
export function apply(vm: Vm, state: VmState, moment: RestoreMoment): void {
  applyClock(vm, state, moment);
  applyMemory(vm, state);
  applyConfig(vm, state.config);
  applyAttributes(vm, state.attributes);
  applyEvents(vm, state);
  state.vcpus.forEach((saved, i) => {
    applyVcpu(vm.vcpu(i), saved, deadlineOf(state, saved.timer.expires, moment), moment.runDelay);
  });
}

/** The guest's clock and TSCs go on from where they stood, whatever the host's clocks show. */
function applyClock(vm: Vm, { clock, vcpus, attributes }: VmState, { sample, counter }: RestoreMoment): void {
  const { words, base } = vm.region;
  const guest = BigInt(clock.guestTime);
  vm.kvmclock.storing(() => {
    // Not by the host's TSC, until somebody has looked whether it can be the clock.
    words.store(base + REGION_CLOCK_MASTER, 0);
    words.store64(base + REGION_CLOCK_OFFSET, BigInt.asUintN(64, guest - sample.now));
    vcpus.forEach(({ tsc }, i) => {
      const offset = BigInt(tsc.value) - scaleTsc(counter, tscRatio(tsc.hz, vm.kvmclock.hostHz));
      vm.kvmclock.storeTsc(i, tsc.hz, BigInt.asUintN(64, offset));
    });
  });
  // The guest's zero has moved in the time of day: the wall clock follows at the next entry of a vCPU. [KF-56]
  const moved = sample.realtime - guest !== BigInt(clock.realtime) - BigInt(clock.guestTime);
  const owed = attributes.sharedInfo !== null && (moved || clock.wallClockOwed);
  words.store(base + REGION_WALL_CLOCK_OWED, owed ? 1 : 0);
}

/** When a timer is due on the host's clock; 0 = not set. One that is due looks at the guest's clock again. */
function deadlineOf({ clock }: VmState, expires: string, { sample }: RestoreMoment): bigint {
  if (expires === '0') return 0n;
  const left = BigInt.asIntN(64, BigInt(expires) - BigInt(clock.guestTime));
  return sample.now + (left > 0n ? left : 0n);
}

function applyConfig(vm: Vm, config: ConfigState): void {
  const { words, base } = vm.region;
  const at = base + REGION_HVM_CONFIG;
  const origin = hostOrigin(vm.region);
  const address = (blob: number | null): number => (blob === null ? 0 : blob + origin);
  words.store(at + HVM_CONFIG_FLAGS, config.flags);
  words.storeWide(at + HVM_CONFIG_BLOB_COMPAT, address(config.blobCompat));
  words.storeWide(at + HVM_CONFIG_BLOB_LONG, address(config.blobLong));
  const shift = (HVM_CONFIG_BLOB_PAGES_LONG - HVM_CONFIG_BLOB_PAGES_COMPAT) * 8;
  words.store(at + HVM_CONFIG_BLOB_PAGES_COMPAT, config.blobPagesCompat | (config.blobPagesLong << shift));
  words.store(at + HVM_CONFIG_MSR, config.msr);
}

function applyAttributes(vm: Vm, attributes: AttributesState): void {
  const { words, base, sharedInfo } = vm.region;
  vm.kernel.setLongMode(base, attributes.longMode ? 1 : 0);
  applyPlace(vm, sharedInfo, attributes.sharedInfo, PAGE_SIZE);
  words.store(base + REGION_UPCALL_VECTOR, attributes.upcallVector);
  words.store(base + REGION_XEN_VERSION, attributes.xenVersion | 0);
  words.store(base + REGION_RUNSTATE_UPDATE_FLAG, attributes.runstateUpdateFlag ? 1 : 0);
}
