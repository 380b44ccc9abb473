// struct kvm_xen_hvm_config and the capability bits that its flags are taken from. [KX-ABI-40, KX-CAP-01..19]

export const HVM_CONFIG_SIZE = 56;
/** u32 */
export const HVM_CONFIG_FLAGS = 0;
/** u32, the hypercall page's MSR, 0 = Xen support is off */
export const HVM_CONFIG_MSR = 4;
/** u64 addresses in the embedder's map of the hypercall page's contents, and u8 sizes in pages */
export const HVM_CONFIG_BLOB_COMPAT = 8;
export const HVM_CONFIG_BLOB_LONG = 16;
export const HVM_CONFIG_BLOB_PAGES_COMPAT = 24;
export const HVM_CONFIG_BLOB_PAGES_LONG = 25;

export const CAP_HYPERCALL_MSR = 0x001;
export const CAP_INTERCEPT_HCALL = 0x002;
export const CAP_SHARED_INFO = 0x004;
export const CAP_RUNSTATE = 0x008;
export const CAP_EVTCHN_2LEVEL = 0x010;
export const CAP_EVTCHN_SEND = 0x020;
export const CAP_RUNSTATE_UPDATE_FLAG = 0x040;
export const CAP_PVCLOCK_TSC_UNSTABLE = 0x080;
export const CAP_SHARED_INFO_HVA = 0x100;
/** the bits that a configuration may carry [KX-CAP-11] */
export const HVM_CONFIG_FLAGS_ALLOWED = 0x0a2;
/** where the MSR may be [KX-CAP-13] */
export const HVM_CONFIG_MSR_FIRST = 0x40000000;
export const HVM_CONFIG_MSR_LAST = 0x4fffffff;
