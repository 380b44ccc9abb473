// The wall clock in shared_info: the time of day at the guest clock's zero. [KX-VMA-20, KX-CLK-12]

import { REGION_WALL_CLOCK_OWED, REQUEST_MASTERCLOCK_UPDATE } from '../../abi/region.ts';
import { EvtchnError, errnoName } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { guestTime } from './kvmclock.ts';

const NS_PER_SECOND = 1_000_000_000n;

/**
 * Tells the guest the time of day at its clock's zero, and asks for a new master clock. Throws EFAULT, EINVAL or EAGAIN when
 * shared_info cannot be reached. [KX-VMA-20] @internal
 */
export function writeWallClock(vm: Vm): void {
  const result = write(vm);
  if (result < 0) {
    throw new EvtchnError(errnoName(result) ?? 'EFAULT', 'shared_info cannot be mapped now to write the wall clock');
  }
  vm.requestAll(REQUEST_MASTERCLOCK_UPDATE);
}

/** The guest's clock was set: the wall clock has to follow, now or when shared_info can be reached again. [KF-56] @internal */
export function followClock(vm: Vm): void {
  const { words, base } = vm.region;
  // Before the write: a change while it is made is not forgotten.
  words.store(base + REGION_WALL_CLOCK_OWED, 1);
  repayWallClock(vm);
}

/** Writes the wall clock if it is owed and can be. @internal */
export function repayWallClock(vm: Vm): void {
  const owed = vm.region.base + REGION_WALL_CLOCK_OWED;
  const { words } = vm.region;
  if (words.load(owed) === 0 || words.exchange(owed, 0) === 0) return;
  // Taken by this thread, which gives it back if it cannot pay.
  let paid = false;
  try {
    paid = write(vm) >= 0 || !vm.gpcs.isActive(vm.region.sharedInfo);
  } finally {
    if (!paid) words.store(owed, 1);
  }
}

/** @returns 0, or a negative errno */
function write(vm: Vm): number {
  // Alone from reading the clocks on: an older epoch must not come after a newer one, nor two into one version.
  return vm.retry(() =>
    vm.kvmclock.alone(() => {
      const epoch = epochOf(vm);
      const seconds = epoch / NS_PER_SECOND;
      const [low, high] = [Number(seconds & 0xffffffffn), Number(seconds >> 32n)];
      return vm.kernel.wallClockWrite(vm.vmBase, vm.agent, low, high, Number(epoch % NS_PER_SECOND));
    }),
  );
}

/** Both clocks of one sample; an epoch before 1970 counts as 1970. */
function epochOf(vm: Vm): bigint {
  return vm.kvmclock.read((state) => {
    const sample = vm.kvmclock.sample();
    const epoch = sample.realtime - BigInt.asIntN(64, guestTime(state, sample));
    return epoch < 0n ? 0n : epoch;
  });
}
