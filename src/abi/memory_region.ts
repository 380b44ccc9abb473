// struct kvm_userspace_memory_region, its flags, and struct kvm_dirty_log. [KX-MEM-10, KX-MEM-35]

export const MEMORY_REGION_SIZE = 32;
/** u32: address space in bits 16..31, id in bits 0..15 */
export const MEMORY_REGION_SLOT = 0;
/** u32 */
export const MEMORY_REGION_FLAGS = 4;
/** u64 each */
export const MEMORY_REGION_GPA = 8;
export const MEMORY_REGION_BYTES = 16;
export const MEMORY_REGION_HVA = 24;

export const MEM_LOG_DIRTY_PAGES = 1;
export const MEM_READONLY = 2;

/** struct kvm_dirty_log: u32 slot, padding, u64 address of the bitmap (here the bitmap follows the structure) */
export const DIRTY_LOG_SLOT = 0;
export const DIRTY_LOG_SIZE = 16;
