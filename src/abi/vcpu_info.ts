// struct vcpu_info: 64 bytes per vCPU that must not cross a page. [KX-ABI-10..12]
// Written by the sender (selector, upcall byte) and the guest (takes the selector, clears the byte, owns the mask byte).

export const VCPU_INFO_SIZE = 64;

/** u8, both layouts: 1 asks the guest for an upcall. [KX-ABI-10] */
export const VCPU_INFO_UPCALL_PENDING = 0;
/** u8, both layouts: the guest's own hold on upcalls; KVM never reads it. [KX-EVT-20] */
export const VCPU_INFO_UPCALL_MASK = VCPU_INFO_UPCALL_PENDING + 1;

/** One guest word at offset w: a bit per word of the pending bitmap. [KX-ABI-11] */
export const VCPU_INFO_SELECTOR_LONG = 8;
export const VCPU_INFO_SELECTOR_COMPAT = 4;

/** One guest word: the page-fault address of a PV guest. */
export const VCPU_INFO_CR2_LONG = VCPU_INFO_SELECTOR_LONG + 8;
export const VCPU_INFO_CR2_COMPAT = VCPU_INFO_SELECTOR_COMPAT + 4;

/** struct pvclock_vcpu_time_info, both layouts. [KX-ABI-12] */
export const VCPU_INFO_TIME = 32;
