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

/** Numbers of the hypercalls that may be handled here, and of what they do. [KX-HCL-20..24] */
export const HYPERCALL_SET_TIMER_OP = 15;
export const HYPERCALL_XEN_VERSION = 17;
export const HYPERCALL_VCPU_OP = 24;
export const HYPERCALL_SCHED_OP = 29;
export const HYPERCALL_EVENT_CHANNEL_OP = 32;
export const XENVER_VERSION = 0;
export const VCPUOP_SET_SINGLESHOT_TIMER = 8;
export const VCPUOP_STOP_SINGLESHOT_TIMER = 9;
export const SCHEDOP_YIELD = 0;
export const SCHEDOP_POLL = 3;
export const EVTCHNOP_SEND = 4;
/** ports that one poll may name [KX-HCL-32] */
export const SCHED_POLL_MAX_PORTS = 128;

/** The hypercall page: stubs of 32 bytes. [KX-HCL-05] */
export const HYPERCALL_STUBS = 128;
export const HYPERCALL_STUB_SIZE = 32;
