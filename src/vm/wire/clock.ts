// struct kvm_clock_data: the guest's time, with the time of day and the host's TSC of the same moment. Pure. [KX-CLK-01, S-50]

import {
  CLOCK_DATA_CLOCK,
  CLOCK_DATA_FLAGS,
  CLOCK_DATA_HOST_TSC,
  CLOCK_DATA_REALTIME,
  CLOCK_DATA_SIZE,
  CLOCK_HOST_TSC,
  CLOCK_REALTIME,
  CLOCK_TSC_STABLE,
} from '../../abi/ioctl.ts';
import { EvtchnError, hex } from '../../errors.ts';
import { build, getU32, getU64, putU32, putU64, structure } from './structure.ts';

/** What KVM_GET_CLOCK says and KVM_SET_CLOCK takes. */
export interface ClockData {
  /** guest time, ns, u64 */
  readonly clock: bigint;
  /** the time of day at that moment, ns since 1970, u64; null: not known */
  readonly realtime: bigint | null;
  /** the host's TSC at that moment, u64; null: not known */
  readonly hostTsc: bigint | null;
  /** whether the guest time follows the host's TSC */
  readonly tscStable: boolean;
}

const FLAGS = CLOCK_TSC_STABLE | CLOCK_REALTIME | CLOCK_HOST_TSC;

/** Throws EFAULT for fewer than 48 bytes, EINVAL for unknown flags. */
export function decodeClockData(bytes: Uint8Array): ClockData {
  const view = structure(bytes, CLOCK_DATA_SIZE);
  const flags = getU32(view, CLOCK_DATA_FLAGS);
  if (flags & ~FLAGS) {
    throw new EvtchnError('EINVAL', `the flags of a clock are ${hex(flags)}, allowed are bits of ${hex(FLAGS)}`);
  }
  return {
    clock: getU64(view, CLOCK_DATA_CLOCK),
    realtime: flags & CLOCK_REALTIME ? getU64(view, CLOCK_DATA_REALTIME) : null,
    hostTsc: flags & CLOCK_HOST_TSC ? getU64(view, CLOCK_DATA_HOST_TSC) : null,
    tscStable: (flags & CLOCK_TSC_STABLE) !== 0,
  };
}

/** The structure of 48 bytes. Throws EINVAL for a value that does not fit its field. */
export function encodeClockData({ clock, realtime, hostTsc, tscStable }: ClockData): Uint8Array {
  const flags =
    (tscStable ? CLOCK_TSC_STABLE : 0) |
    (realtime === null ? 0 : CLOCK_REALTIME) |
    (hostTsc === null ? 0 : CLOCK_HOST_TSC);
  return build(CLOCK_DATA_SIZE, (view) => {
    putU64(view, CLOCK_DATA_CLOCK, 'the guest time', clock);
    putU32(view, CLOCK_DATA_FLAGS, 'the flags', flags);
    putU64(view, CLOCK_DATA_REALTIME, 'the time of day', realtime ?? 0n);
    putU64(view, CLOCK_DATA_HOST_TSC, 'the TSC', hostTsc ?? 0n);
  });
}
