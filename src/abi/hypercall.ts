// Hypercall argument structures that a guest passes by pointer. [KX-ABI-30..32]

/** struct sched_poll */
export const SCHED_POLL_SIZE_LONG = 24;
export const SCHED_POLL_SIZE_COMPAT = 16;
/** guest pointer to nr_ports u32 ports */
export const SCHED_POLL_PORTS = 0;
/** u32 */
export const SCHED_POLL_NR_PORTS_LONG = 8;
export const SCHED_POLL_NR_PORTS_COMPAT = 4;
/** u64, ns */
export const SCHED_POLL_TIMEOUT_LONG = 16;
export const SCHED_POLL_TIMEOUT_COMPAT = 8;

/** struct vcpu_set_singleshot_timer: u64 deadline, u32 flags, padding in the long layout only */
export const SINGLESHOT_TIMER_SIZE_LONG = 16;
export const SINGLESHOT_TIMER_SIZE_COMPAT = 12;
export const SINGLESHOT_TIMER_TIMEOUT = 0;
export const SINGLESHOT_TIMER_FLAGS = 8;

/** struct evtchn_send: u32 port */
export const EVTCHN_SEND_SIZE = 4;
export const EVTCHN_SEND_PORT = 0;
