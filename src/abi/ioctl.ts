// The numbers of the kernel's interface that a VMM calls. [KX-ABI-45]

export const KVM_CHECK_EXTENSION: number = 0xae03;
export const KVM_SET_USER_MEMORY_REGION: number = 0x4020ae46;
export const KVM_GET_DIRTY_LOG: number = 0x4010ae42;
export const KVM_IRQ_LINE: number = 0x4008ae61;
export const KVM_SET_GSI_ROUTING: number = 0x4008ae6a;
export const KVM_IRQFD: number = 0x4020ae76;
export const KVM_XEN_HVM_CONFIG: number = 0x4038ae7a;
export const KVM_SET_CLOCK: number = 0x4030ae7b;
export const KVM_GET_CLOCK: number = 0x8030ae7c;
export const KVM_RESET_DIRTY_RINGS: number = 0xaec7;
export const KVM_XEN_HVM_GET_ATTR: number = 0xc048aec8;
export const KVM_XEN_HVM_SET_ATTR: number = 0x4048aec9;
export const KVM_XEN_VCPU_GET_ATTR: number = 0xc048aeca;
export const KVM_XEN_VCPU_SET_ATTR: number = 0x4048aecb;
export const KVM_XEN_HVM_EVTCHN_SEND: number = 0x400caed0;

/** the capability that KVM_CHECK_EXTENSION is asked for */
export const KVM_CAP_XEN_HVM: number = 38;

/** struct kvm_clock_data: u64 guest time, u32 CLOCK_ flags, padding, u64 time of day, u64 TSC of the host, padding; ns */
export const CLOCK_DATA_SIZE = 48;
export const CLOCK_DATA_CLOCK = 0;
export const CLOCK_DATA_FLAGS = 8;
export const CLOCK_DATA_REALTIME = 16;
export const CLOCK_DATA_HOST_TSC = 24;
/** the guest time follows the host's TSC */
export const CLOCK_TSC_STABLE = 2;
/** the time of day and the TSC were read in the same moment as the guest time, and count */
export const CLOCK_REALTIME = 4;
export const CLOCK_HOST_TSC = 8;
