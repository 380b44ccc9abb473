// struct vcpu_runstate_info: what a vCPU is doing and for how long, written by the host. [KX-ABI-20..24]
// It may start at any byte and span two pages.

export const RUNSTATE_SIZE_LONG = 48;
export const RUNSTATE_SIZE_COMPAT = 44;

/** i32 */
export const RUNSTATE_STATE = 0;
/** u64, ns at which the current state began */
export const RUNSTATE_ENTRY_TIME_LONG = 8;
export const RUNSTATE_ENTRY_TIME_COMPAT = 4;
/** u64[4], ns spent in each state */
export const RUNSTATE_TIMES_LONG = RUNSTATE_ENTRY_TIME_LONG + 8;
export const RUNSTATE_TIMES_COMPAT = RUNSTATE_ENTRY_TIME_COMPAT + 8;

/** The byte of state_entry_time that holds its bit 63, XEN_RUNSTATE_UPDATE. [KX-ABI-23] */
export const RUNSTATE_UPDATE_BYTE_LONG = RUNSTATE_ENTRY_TIME_LONG + 7;
export const RUNSTATE_UPDATE_BYTE_COMPAT = RUNSTATE_ENTRY_TIME_COMPAT + 7;
export const RUNSTATE_UPDATE_BIT = 0x80;

export const RUNSTATE_RUNNING = 0;
export const RUNSTATE_RUNNABLE = 1;
export const RUNSTATE_BLOCKED = 2;
export const RUNSTATE_OFFLINE = 3;
