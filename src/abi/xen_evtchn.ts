// EVTCHNOP_*: numbers and argument structures, the same in both layouts. EVTCHNOP_send is in hypercall.ts. [XE-OP-03]

export const EVTCHNOP_BIND_INTERDOMAIN = 0;
/** u16 remote domain, u32 remote port; out: u32 local port */
export const EVTCHN_BIND_INTERDOMAIN_SIZE = 12;
export const EVTCHN_BIND_INTERDOMAIN_REMOTE_DOM = 0;
export const EVTCHN_BIND_INTERDOMAIN_REMOTE_PORT = 4;
export const EVTCHN_BIND_INTERDOMAIN_LOCAL_PORT = 8;

export const EVTCHNOP_BIND_VIRQ = 1;
/** u32 virq, u32 vCPU; out: u32 port */
export const EVTCHN_BIND_VIRQ_SIZE = 12;
export const EVTCHN_BIND_VIRQ_VIRQ = 0;
export const EVTCHN_BIND_VIRQ_VCPU = 4;
export const EVTCHN_BIND_VIRQ_PORT = 8;

export const EVTCHNOP_BIND_PIRQ = 2;
/** u32 pirq, u32 flags; out: u32 port */
export const EVTCHN_BIND_PIRQ_SIZE = 12;
export const EVTCHN_BIND_PIRQ_PIRQ = 0;
export const EVTCHN_BIND_PIRQ_FLAGS = 4;
export const EVTCHN_BIND_PIRQ_PORT = 8;
export const BIND_PIRQ_WILL_SHARE = 1;

export const EVTCHNOP_CLOSE = 3;
/** u32 port */
export const EVTCHN_CLOSE_SIZE = 4;
export const EVTCHN_CLOSE_PORT = 0;

export const EVTCHNOP_STATUS = 5;
/** u16 domain, u32 port; out: u32 status, u32 vCPU, and by status: u16 domain and u32 port, u32 pirq, or u32 virq */
export const EVTCHN_STATUS_SIZE = 24;
export const EVTCHN_STATUS_DOM = 0;
export const EVTCHN_STATUS_PORT = 4;
export const EVTCHN_STATUS_STATUS = 8;
export const EVTCHN_STATUS_VCPU = 12;
export const EVTCHN_STATUS_PEER_DOM = 16;
export const EVTCHN_STATUS_PEER_PORT = 20;
export const EVTCHN_STATUS_PIRQ = 16;
export const EVTCHN_STATUS_VIRQ = 16;

export const EVTCHNOP_ALLOC_UNBOUND = 6;
/** u16 domain, u16 remote domain; out: u32 port */
export const EVTCHN_ALLOC_UNBOUND_SIZE = 8;
export const EVTCHN_ALLOC_UNBOUND_DOM = 0;
export const EVTCHN_ALLOC_UNBOUND_REMOTE_DOM = 2;
export const EVTCHN_ALLOC_UNBOUND_PORT = 4;

export const EVTCHNOP_BIND_IPI = 7;
/** u32 vCPU; out: u32 port */
export const EVTCHN_BIND_IPI_SIZE = 8;
export const EVTCHN_BIND_IPI_VCPU = 0;
export const EVTCHN_BIND_IPI_PORT = 4;

export const EVTCHNOP_BIND_VCPU = 8;
/** u32 port, u32 vCPU */
export const EVTCHN_BIND_VCPU_SIZE = 8;
export const EVTCHN_BIND_VCPU_PORT = 0;
export const EVTCHN_BIND_VCPU_VCPU = 4;

export const EVTCHNOP_UNMASK = 9;
/** u32 port */
export const EVTCHN_UNMASK_SIZE = 4;
export const EVTCHN_UNMASK_PORT = 0;

export const EVTCHNOP_RESET = 10;
/** the continuation of a reset that was preempted */
export const EVTCHNOP_RESET_CONT = 14;
/** u16 domain */
export const EVTCHN_RESET_SIZE = 2;
export const EVTCHN_RESET_DOM = 0;

export const EVTCHNOP_INIT_CONTROL = 11;
/** u64 frame, u32 offset, u32 vCPU; out: u8 link bits */
export const EVTCHN_INIT_CONTROL_SIZE = 24;
export const EVTCHN_INIT_CONTROL_GFN = 0;
export const EVTCHN_INIT_CONTROL_OFFSET = 8;
export const EVTCHN_INIT_CONTROL_VCPU = 12;
export const EVTCHN_INIT_CONTROL_LINK_BITS = 16;

export const EVTCHNOP_EXPAND_ARRAY = 12;
/** u64 frame */
export const EVTCHN_EXPAND_ARRAY_SIZE = 8;
export const EVTCHN_EXPAND_ARRAY_GFN = 0;

export const EVTCHNOP_SET_PRIORITY = 13;
/** u32 port, u32 priority */
export const EVTCHN_SET_PRIORITY_SIZE = 8;
export const EVTCHN_SET_PRIORITY_PORT = 0;
export const EVTCHN_SET_PRIORITY_PRIORITY = 4;
