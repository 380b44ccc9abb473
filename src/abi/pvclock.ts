// Clock records that the host publishes and the guest reads without a lock. [KX-ABI-15..18]
// Protocol of both: version odd while it changes, even when stable, never 0 once written.

/** struct pvclock_vcpu_time_info, packed, the same in both layouts. [KX-ABI-15] */
export const PVCLOCK_SIZE = 32;
/** u32 */
export const PVCLOCK_VERSION = 0;
/** u64, guest TSC at the sample */
export const PVCLOCK_TSC_TIMESTAMP = 8;
/** u64, guest time at the sample, ns */
export const PVCLOCK_SYSTEM_TIME = 16;
/** u32, 32.32 factor from shifted TSC ticks to ns */
export const PVCLOCK_MUL = 24;
/** i8, shift left of the TSC delta before the factor; negative shifts right */
export const PVCLOCK_SHIFT = 28;
/** u8 */
export const PVCLOCK_FLAGS = 29;
export const PVCLOCK_TSC_STABLE = 1;
export const PVCLOCK_GUEST_STOPPED = 2;

/** struct pvclock_wall_clock: the epoch of the guest's clock. [KX-ABI-16] */
export const WALL_CLOCK_SIZE = 12;
/** u32 */
export const WALL_CLOCK_VERSION = 0;
/** u32, low half of the seconds; the high half is wc_sec_hi of shared_info */
export const WALL_CLOCK_SEC = 4;
/** u32 */
export const WALL_CLOCK_NSEC = 8;
