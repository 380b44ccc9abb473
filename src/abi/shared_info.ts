// struct shared_info: one page per guest, written by both sides. [KX-ABI-01..08]
// LONG is the layout of a 64-bit guest (8-byte words), COMPAT that of a 32-bit guest (4-byte words).
// With w bytes per word: pending, then mask 8*w*w later, then the wall clock 8*w*w after that.

import { WALL_CLOCK_SIZE } from './pvclock.ts';
import { VCPU_INFO_SIZE } from './vcpu_info.ts';

export const PAGE_SIZE = 4096;

/** vCPU slots at the start of the page; KVM itself uses none of them. [KX-ABI-01, 08] */
export const SHARED_INFO_VCPU_SLOTS = 32;

export const WORD_BYTES_LONG = 8;
export const WORD_BYTES_COMPAT = 4;

/** Words in a bitmap, and selector bits in a vcpu_info: 8*w. [KX-ABI-07] */
export const WORDS_LONG = 8 * WORD_BYTES_LONG;
export const WORDS_COMPAT = 8 * WORD_BYTES_COMPAT;

/** Ports of the 2-level ABI: words times bits per word. [KX-ABI-07] */
export const PORTS_LONG = WORDS_LONG * WORDS_LONG;
export const PORTS_COMPAT = WORDS_COMPAT * WORDS_COMPAT;

/** evtchn_pending: a bit per port, set by the sender, cleared by the guest. [KX-ABI-02] */
export const SHARED_INFO_PENDING = SHARED_INFO_VCPU_SLOTS * VCPU_INFO_SIZE;

/** evtchn_mask: a bit per port, written by the guest, read by the sender. [KX-ABI-03] */
export const SHARED_INFO_MASK_LONG = SHARED_INFO_PENDING + WORDS_LONG * WORD_BYTES_LONG;
export const SHARED_INFO_MASK_COMPAT = SHARED_INFO_PENDING + WORDS_COMPAT * WORD_BYTES_COMPAT;

/** pvclock_wall_clock: version, seconds, nanoseconds. [KX-ABI-04] */
export const SHARED_INFO_WC_LONG = SHARED_INFO_MASK_LONG + WORDS_LONG * WORD_BYTES_LONG;
export const SHARED_INFO_WC_COMPAT = SHARED_INFO_MASK_COMPAT + WORDS_COMPAT * WORD_BYTES_COMPAT;

/** arch_shared_info; in the long layout wc_sec_hi sits in the hole before it. [KX-ABI-05, 06] */
export const ARCH_SHARED_INFO_LONG = SHARED_INFO_WC_LONG + WALL_CLOCK_SIZE + 4;
export const ARCH_SHARED_INFO_COMPAT = SHARED_INFO_WC_COMPAT + WALL_CLOCK_SIZE;
export const ARCH_SHARED_INFO_SIZE_LONG = 6 * WORD_BYTES_LONG;
export const ARCH_SHARED_INFO_SIZE_COMPAT = 7 * WORD_BYTES_COMPAT;

/** Fields of arch_shared_info, one guest word each. [KX-ABI-06] */
export const ARCH_MAX_PFN = 0;
export const ARCH_PFN_TO_MFN_LIST_LONG = WORD_BYTES_LONG;
export const ARCH_PFN_TO_MFN_LIST_COMPAT = WORD_BYTES_COMPAT;
export const ARCH_NMI_REASON_LONG = 2 * WORD_BYTES_LONG;
export const ARCH_NMI_REASON_COMPAT = 2 * WORD_BYTES_COMPAT;
export const ARCH_P2M_CR3_LONG = 3 * WORD_BYTES_LONG;
export const ARCH_P2M_CR3_COMPAT = 3 * WORD_BYTES_COMPAT;
export const ARCH_P2M_VADDR_LONG = 4 * WORD_BYTES_LONG;
export const ARCH_P2M_VADDR_COMPAT = 4 * WORD_BYTES_COMPAT;
export const ARCH_P2M_GENERATION_LONG = 5 * WORD_BYTES_LONG;
export const ARCH_P2M_GENERATION_COMPAT = 5 * WORD_BYTES_COMPAT;

/** u32, the high half of the wall clock's seconds. [KX-ABI-05] */
export const SHARED_INFO_WC_SEC_HI_LONG = SHARED_INFO_WC_LONG + WALL_CLOCK_SIZE;
export const SHARED_INFO_WC_SEC_HI_COMPAT = ARCH_SHARED_INFO_COMPAT + 6 * WORD_BYTES_COMPAT;

/** Bytes of the page that the structure uses. */
export const SHARED_INFO_SIZE_LONG = ARCH_SHARED_INFO_LONG + ARCH_SHARED_INFO_SIZE_LONG;
export const SHARED_INFO_SIZE_COMPAT = ARCH_SHARED_INFO_COMPAT + ARCH_SHARED_INFO_SIZE_COMPAT;
