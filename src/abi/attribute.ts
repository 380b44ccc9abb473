// struct kvm_xen_hvm_attr and struct kvm_xen_vcpu_attr: a type and a union. [KX-ABI-41, 42]

export const ATTR_SIZE = 72;
/** u16, then 6 bytes that nobody reads */
export const ATTR_TYPE = 0;
/** the union: 64 bytes */
export const ATTR_VALUE = 8;

export const HVM_ATTR_LONG_MODE = 0;
export const HVM_ATTR_SHARED_INFO = 1;
export const HVM_ATTR_UPCALL_VECTOR = 2;
export const HVM_ATTR_EVTCHN = 3;
export const HVM_ATTR_XEN_VERSION = 4;
export const HVM_ATTR_RUNSTATE_UPDATE_FLAG = 5;
export const HVM_ATTR_SHARED_INFO_HVA = 6;

/** of EVTCHN: u32 send port, u32 type, u32 flags, then u32 port, u32 vcpu, u32 priority, or u32 0, s32 fd */
export const ATTR_EVTCHN_SEND_PORT = ATTR_VALUE;
export const ATTR_EVTCHN_TYPE = ATTR_VALUE + 4;
export const ATTR_EVTCHN_FLAGS = ATTR_VALUE + 8;
export const ATTR_EVTCHN_PORT = ATTR_VALUE + 12;
export const ATTR_EVTCHN_VCPU = ATTR_VALUE + 16;
export const ATTR_EVTCHN_PRIORITY = ATTR_VALUE + 20;
export const ATTR_EVTCHN_FD = ATTR_VALUE + 16;

/** what EVTCHN does: one of these, no mask [KX-EVA-01] */
export const EVTCHN_ASSIGN = 0;
export const EVTCHN_DEASSIGN = 1;
export const EVTCHN_UPDATE = 2;
export const EVTCHN_RESET = 4;

/** what an event channel is, as Xen numbers it [KX-EVA-07..10] */
export const EVTCHNSTAT_CLOSED = 0;
export const EVTCHNSTAT_UNBOUND = 1;
export const EVTCHNSTAT_INTERDOMAIN = 2;
export const EVTCHNSTAT_PIRQ = 3;
export const EVTCHNSTAT_VIRQ = 4;
export const EVTCHNSTAT_IPI = 5;

/** the only priority there is: 2-level delivery, which has none; as an i32 [KX-ABI-45] */
export const PRIORITY_2LEVEL = -1;

export const VCPU_ATTR_VCPU_INFO = 0;
export const VCPU_ATTR_VCPU_TIME_INFO = 1;
export const VCPU_ATTR_RUNSTATE_ADDR = 2;
export const VCPU_ATTR_RUNSTATE_CURRENT = 3;
export const VCPU_ATTR_RUNSTATE_DATA = 4;
export const VCPU_ATTR_RUNSTATE_ADJUST = 5;
export const VCPU_ATTR_VCPU_ID = 6;
export const VCPU_ATTR_TIMER = 7;
export const VCPU_ATTR_UPCALL_VECTOR = 8;
export const VCPU_ATTR_VCPU_INFO_HVA = 9;

/** of RUNSTATE_: u64 each */
export const ATTR_RUNSTATE_STATE = ATTR_VALUE;
export const ATTR_RUNSTATE_ENTRY_TIME = ATTR_VALUE + 8;
export const ATTR_RUNSTATE_TIMES = ATTR_VALUE + 16;

/** of TIMER: u32 port, u32 priority, u64 ns */
export const ATTR_TIMER_PORT = ATTR_VALUE;
export const ATTR_TIMER_PRIORITY = ATTR_VALUE + 4;
export const ATTR_TIMER_EXPIRES = ATTR_VALUE + 8;
