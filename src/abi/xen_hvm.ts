// What the engine keeps of an HVM guest besides its ports: our own records, absent in a VM that is no domain. i32 unless said otherwise.
//
//   the HVM part ─┬─ domain   parameters, callback, shutdown, watchdogs, interrupt lines, PIRQs
//                 └─ vCPUs    one record each

import { CACHE_LINE } from './region.ts';

/** HVM parameters, u64 each [XE-CB-07] */
export const HVM_PARAMS = 0;
export const HVM_NR_PARAMS = 39;
/** how upcalls reach vCPU 0 while no vector is set: HVM_VIA_, and the line of a GSI or an INTx [XE-CB-01] */
export const HVM_VIA = HVM_PARAMS + HVM_NR_PARAMS * 8;
export const HVM_VIA_NONE = 0;
export const HVM_VIA_LINE = 1;
export const HVM_VIA_VECTOR = 2;
export const HVM_VIA_GSI = HVM_VIA + 4;
/** 1 while the callback holds its line up [XE-CB-04] */
export const HVM_VIA_ASSERTED = HVM_VIA + 8;
/** the shutdown code plus 1, 0 = none; and 1 once the domain is shut down [XE-BP-03] */
export const HVM_SHUTDOWN_CODE = HVM_VIA + 12;
export const HVM_SHUT_DOWN = HVM_VIA + 16;
/** watchdogs: u64 deadline on the host's clock, 0 = free [XE-BP-04] */
export const HVM_WATCHDOGS = HVM_VIA + 24;
export const HVM_NR_WATCHDOGS = 2;
/** who holds each interrupt line up, counted [XE-CB-04] */
export const HVM_LINES = HVM_WATCHDOGS + HVM_NR_WATCHDOGS * 8;
export const HVM_NR_GSIS = 48;
/** per PIRQ: 0 free, PIRQ_RESERVED, PIRQ_MSI, or a GSI plus PIRQ_GSI [XE-QE-30] */
export const HVM_PIRQS = HVM_LINES + HVM_NR_GSIS * 4;
export const HVM_NR_PIRQS = 256;
export const PIRQ_UNMAPPED = 0;
export const PIRQ_RESERVED = 1;
export const PIRQ_MSI = 2;
export const PIRQ_GSI = 3;

/** the vCPUs' records */
export const HVM_VCPUS = (HVM_PIRQS + HVM_NR_PIRQS * 4 + CACHE_LINE - 1) & -CACHE_LINE;
export const HVM_VCPU_SIZE = CACHE_LINE;
/** HVM_VCPU_: what VCPUOP_is_up says [XE-BP-01] */
export const HVM_VCPU_STATE = 0;
export const HVM_VCPU_UNSEEN = 0;
export const HVM_VCPU_DOWN = 1;
export const HVM_VCPU_UP = 2;
/** 1 once the guest has said where its vcpu_info is [XE-BP-30] */
export const HVM_VCPU_INFO_SET = 4;
/** the periodic timer: u64 period in ns, 0 = off; u64 time of the last tick on the guest's clock; u64 deadline on the host's [XE-BP-52] */
export const HVM_VCPU_PERIOD = 8;
export const HVM_VCPU_LAST_TICK = 16;
export const HVM_VCPU_TICK_DEADLINE = 24;
/** u64 guest-physical address plus 1 of the page on which a runstate area goes on that is in one piece for the guest only, 0 = none */
export const HVM_VCPU_RUNSTATE_NEXT = 32;
