// Why a vCPU leaves to the embedder, and struct kvm_xen_exit. [KX-ABI-44, 45]

export const EXIT_DIRTY_RING_FULL = 31;
export const EXIT_XEN = 34;
export const EXIT_XEN_HCALL = 1;

/** the structure as it lies in the run structure's union */
export const XEN_EXIT_SIZE = 80;
/** u32 */
export const XEN_EXIT_TYPE = 0;
export const XEN_EXIT_LONG_MODE = 8;
export const XEN_EXIT_CPL = 12;
/** u64 number of the hypercall, u64 result, u64[6] parameters */
export const XEN_EXIT_INPUT = 16;
export const XEN_EXIT_RESULT = 24;
export const XEN_EXIT_PARAMS = 32;
