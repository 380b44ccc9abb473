// One number computed from every constant of the contract, by both compilers. The kernel exports its own; the loader
// compares, so a kernel and a control plane that were built from different contracts never meet.
// The list is complete: a test compares it with the exports of this folder.

import {
  EAGAIN,
  EBADF,
  EBUSY,
  EFAULT,
  EINVAL,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ENOSYS,
  ENOTCONN,
  EOPNOTSUPP,
  EPERM,
  ETIME,
} from './errno.ts';
import {
  EVTCHN_SEND_PORT,
  EVTCHN_SEND_SIZE,
  SCHED_POLL_NR_PORTS_COMPAT,
  SCHED_POLL_NR_PORTS_LONG,
  SCHED_POLL_PORTS,
  SCHED_POLL_SIZE_COMPAT,
  SCHED_POLL_SIZE_LONG,
  SCHED_POLL_TIMEOUT_COMPAT,
  SCHED_POLL_TIMEOUT_LONG,
  SINGLESHOT_TIMER_FLAGS,
  SINGLESHOT_TIMER_SIZE_COMPAT,
  SINGLESHOT_TIMER_SIZE_LONG,
  SINGLESHOT_TIMER_TIMEOUT,
} from './hypercall.ts';
import {
  PVCLOCK_FLAGS,
  PVCLOCK_GUEST_STOPPED,
  PVCLOCK_MUL,
  PVCLOCK_SHIFT,
  PVCLOCK_SIZE,
  PVCLOCK_SYSTEM_TIME,
  PVCLOCK_TSC_STABLE,
  PVCLOCK_TSC_TIMESTAMP,
  PVCLOCK_VERSION,
  WALL_CLOCK_NSEC,
  WALL_CLOCK_SEC,
  WALL_CLOCK_SIZE,
  WALL_CLOCK_VERSION,
} from './pvclock.ts';
import {
  AGENT_BAD,
  AGENT_COALESCED,
  AGENT_DELIVERED,
  AGENT_FREE,
  AGENT_INBOX,
  AGENT_LIST_PORTS,
  AGENT_MARKS,
  AGENT_MASKED,
  AGENT_OUTBOX,
  AGENT_PLANE_SIZE,
  AGENT_PLANE0,
  AGENT_PLANE1,
  AGENT_POLL_LIST,
  AGENT_POLL_PORTS,
  AGENT_READER,
  AGENT_RECORD,
  AGENT_RECORD_SIZE,
  AGENT_SIZE,
  AGENT_STATE,
  AGENT_USED,
  AGENT_WAKES,
  CACHE_LINE,
  GPC_ACTIVE,
  GPC_GPA_HI,
  GPC_GPA_LO,
  GPC_LENGTH,
  GPC_LONG_MODE,
  GPC_SIZE,
  GPC_TOKEN_SHIFT,
  GPC_UNMAPPED,
  GPC_WORD,
  GROUP_MIXED,
  GROUP_OWNERS,
  GROUP_SHIFT,
  KICK_LISTENER,
  KICK_SLEEPER,
  KICK_VECTOR,
  MAX_AGENTS,
  MAX_VCPUS,
  POLL_ANY,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  PORT_VCPU_BITS,
  REGION_AGENT_RECORDS,
  REGION_AGENTS,
  REGION_CLOSED,
  REGION_FINGERPRINT,
  REGION_GUEST_BASE,
  REGION_GUEST_BYTES,
  REGION_HEADER_SIZE,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REGION_LIVE,
  REGION_MAGIC,
  REGION_MAGIC_AT,
  REGION_POLLERS,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_SHARED_INFO,
  REGION_SIZE,
  REGION_STATE,
  REGION_UPCALL_VECTOR,
  REGION_VCPU_RECORDS,
  REGION_VCPUS,
  REGION_VERSION,
  REGION_VERSION_AT,
  REQUEST_CLOSED,
  REQUEST_POLLED,
  REQUEST_UNBLOCK,
  REQUEST_VECTOR,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_LAST_STEAL,
  VCPU_LINE_SIZE,
  VCPU_LINES,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_RECORD_SIZE,
  VCPU_REQUESTS,
  VCPU_RUNSTATE_ENTRY_TIME,
  VCPU_RUNSTATE_STATE,
  VCPU_RUNSTATE_TIMES,
  VCPU_RUNSTATE_VERSION,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_SLEEPER,
  VCPU_TIME_INFO_GPC,
  VCPU_UPCALL_VECTOR,
} from './region.ts';
import {
  RUNSTATE_BLOCKED,
  RUNSTATE_ENTRY_TIME_COMPAT,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_OFFLINE,
  RUNSTATE_RUNNABLE,
  RUNSTATE_RUNNING,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_COMPAT,
  RUNSTATE_TIMES_LONG,
  RUNSTATE_UPDATE_BIT,
  RUNSTATE_UPDATE_BYTE_COMPAT,
  RUNSTATE_UPDATE_BYTE_LONG,
} from './runstate.ts';
import {
  ARCH_MAX_PFN,
  ARCH_NMI_REASON_COMPAT,
  ARCH_NMI_REASON_LONG,
  ARCH_P2M_CR3_COMPAT,
  ARCH_P2M_CR3_LONG,
  ARCH_P2M_GENERATION_COMPAT,
  ARCH_P2M_GENERATION_LONG,
  ARCH_P2M_VADDR_COMPAT,
  ARCH_P2M_VADDR_LONG,
  ARCH_PFN_TO_MFN_LIST_COMPAT,
  ARCH_PFN_TO_MFN_LIST_LONG,
  ARCH_SHARED_INFO_COMPAT,
  ARCH_SHARED_INFO_LONG,
  ARCH_SHARED_INFO_SIZE_COMPAT,
  ARCH_SHARED_INFO_SIZE_LONG,
  PAGE_SIZE,
  PORTS_COMPAT,
  PORTS_LONG,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  SHARED_INFO_SIZE_COMPAT,
  SHARED_INFO_SIZE_LONG,
  SHARED_INFO_VCPU_SLOTS,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
  WORD_BYTES_COMPAT,
  WORD_BYTES_LONG,
  WORDS_COMPAT,
  WORDS_LONG,
} from './shared_info.ts';
import { STEP_LOAD, STEP_NOTIFY, STEP_PLAIN, STEP_RMW, STEP_STORE, STEP_WAIT } from './step.ts';
import {
  VCPU_INFO_CR2_COMPAT,
  VCPU_INFO_CR2_LONG,
  VCPU_INFO_SELECTOR_COMPAT,
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_SIZE,
  VCPU_INFO_TIME,
  VCPU_INFO_UPCALL_MASK,
  VCPU_INFO_UPCALL_PENDING,
} from './vcpu_info.ts';

/** Folds a constant into the running value, modulo 2^32. `number` is f64 to asc, so both compilers do the same arithmetic. */
function mix(hash: number, constant: number): number {
  const sum = hash * 31 + constant + 4294967296;
  return sum - Math.floor(sum / 4294967296) * 4294967296;
}

/** @returns a number in 0..2^32-1 that changes with the value or the order of any constant of the contract */
export function fingerprint(): number {
  let h: number = 17;
  h = mix(h, EPERM);
  h = mix(h, ENOENT);
  h = mix(h, EBADF);
  h = mix(h, EAGAIN);
  h = mix(h, ENOMEM);
  h = mix(h, EFAULT);
  h = mix(h, EBUSY);
  h = mix(h, EINVAL);
  h = mix(h, ENOSPC);
  h = mix(h, ENOSYS);
  h = mix(h, ETIME);
  h = mix(h, EOPNOTSUPP);
  h = mix(h, ENOTCONN);
  h = mix(h, VCPU_INFO_SIZE);
  h = mix(h, VCPU_INFO_UPCALL_PENDING);
  h = mix(h, VCPU_INFO_UPCALL_MASK);
  h = mix(h, VCPU_INFO_SELECTOR_LONG);
  h = mix(h, VCPU_INFO_SELECTOR_COMPAT);
  h = mix(h, VCPU_INFO_CR2_LONG);
  h = mix(h, VCPU_INFO_CR2_COMPAT);
  h = mix(h, VCPU_INFO_TIME);
  h = mix(h, PAGE_SIZE);
  h = mix(h, SHARED_INFO_VCPU_SLOTS);
  h = mix(h, WORD_BYTES_LONG);
  h = mix(h, WORD_BYTES_COMPAT);
  h = mix(h, WORDS_LONG);
  h = mix(h, WORDS_COMPAT);
  h = mix(h, PORTS_LONG);
  h = mix(h, PORTS_COMPAT);
  h = mix(h, SHARED_INFO_PENDING);
  h = mix(h, SHARED_INFO_MASK_LONG);
  h = mix(h, SHARED_INFO_MASK_COMPAT);
  h = mix(h, SHARED_INFO_WC_LONG);
  h = mix(h, SHARED_INFO_WC_COMPAT);
  h = mix(h, ARCH_SHARED_INFO_LONG);
  h = mix(h, ARCH_SHARED_INFO_COMPAT);
  h = mix(h, ARCH_SHARED_INFO_SIZE_LONG);
  h = mix(h, ARCH_SHARED_INFO_SIZE_COMPAT);
  h = mix(h, ARCH_MAX_PFN);
  h = mix(h, ARCH_PFN_TO_MFN_LIST_LONG);
  h = mix(h, ARCH_PFN_TO_MFN_LIST_COMPAT);
  h = mix(h, ARCH_NMI_REASON_LONG);
  h = mix(h, ARCH_NMI_REASON_COMPAT);
  h = mix(h, ARCH_P2M_CR3_LONG);
  h = mix(h, ARCH_P2M_CR3_COMPAT);
  h = mix(h, ARCH_P2M_VADDR_LONG);
  h = mix(h, ARCH_P2M_VADDR_COMPAT);
  h = mix(h, ARCH_P2M_GENERATION_LONG);
  h = mix(h, ARCH_P2M_GENERATION_COMPAT);
  h = mix(h, SHARED_INFO_WC_SEC_HI_LONG);
  h = mix(h, SHARED_INFO_WC_SEC_HI_COMPAT);
  h = mix(h, SHARED_INFO_SIZE_LONG);
  h = mix(h, SHARED_INFO_SIZE_COMPAT);
  h = mix(h, PVCLOCK_SIZE);
  h = mix(h, PVCLOCK_VERSION);
  h = mix(h, PVCLOCK_TSC_TIMESTAMP);
  h = mix(h, PVCLOCK_SYSTEM_TIME);
  h = mix(h, PVCLOCK_MUL);
  h = mix(h, PVCLOCK_SHIFT);
  h = mix(h, PVCLOCK_FLAGS);
  h = mix(h, PVCLOCK_TSC_STABLE);
  h = mix(h, PVCLOCK_GUEST_STOPPED);
  h = mix(h, WALL_CLOCK_SIZE);
  h = mix(h, WALL_CLOCK_VERSION);
  h = mix(h, WALL_CLOCK_SEC);
  h = mix(h, WALL_CLOCK_NSEC);
  h = mix(h, RUNSTATE_SIZE_LONG);
  h = mix(h, RUNSTATE_SIZE_COMPAT);
  h = mix(h, RUNSTATE_STATE);
  h = mix(h, RUNSTATE_ENTRY_TIME_LONG);
  h = mix(h, RUNSTATE_ENTRY_TIME_COMPAT);
  h = mix(h, RUNSTATE_TIMES_LONG);
  h = mix(h, RUNSTATE_TIMES_COMPAT);
  h = mix(h, RUNSTATE_UPDATE_BYTE_LONG);
  h = mix(h, RUNSTATE_UPDATE_BYTE_COMPAT);
  h = mix(h, RUNSTATE_UPDATE_BIT);
  h = mix(h, RUNSTATE_RUNNING);
  h = mix(h, RUNSTATE_RUNNABLE);
  h = mix(h, RUNSTATE_BLOCKED);
  h = mix(h, RUNSTATE_OFFLINE);
  h = mix(h, SCHED_POLL_SIZE_LONG);
  h = mix(h, SCHED_POLL_SIZE_COMPAT);
  h = mix(h, SCHED_POLL_PORTS);
  h = mix(h, SCHED_POLL_NR_PORTS_LONG);
  h = mix(h, SCHED_POLL_NR_PORTS_COMPAT);
  h = mix(h, SCHED_POLL_TIMEOUT_LONG);
  h = mix(h, SCHED_POLL_TIMEOUT_COMPAT);
  h = mix(h, SINGLESHOT_TIMER_SIZE_LONG);
  h = mix(h, SINGLESHOT_TIMER_SIZE_COMPAT);
  h = mix(h, SINGLESHOT_TIMER_TIMEOUT);
  h = mix(h, SINGLESHOT_TIMER_FLAGS);
  h = mix(h, EVTCHN_SEND_SIZE);
  h = mix(h, EVTCHN_SEND_PORT);
  h = mix(h, REGION_VERSION);
  h = mix(h, REGION_MAGIC);
  h = mix(h, CACHE_LINE);
  h = mix(h, REGION_MAGIC_AT);
  h = mix(h, REGION_VERSION_AT);
  h = mix(h, REGION_FINGERPRINT);
  h = mix(h, REGION_STATE);
  h = mix(h, REGION_SIZE);
  h = mix(h, REGION_VCPUS);
  h = mix(h, REGION_AGENTS);
  h = mix(h, REGION_GUEST_BASE);
  h = mix(h, REGION_GUEST_BYTES);
  h = mix(h, REGION_VCPU_RECORDS);
  h = mix(h, REGION_AGENT_RECORDS);
  h = mix(h, REGION_UPCALL_VECTOR);
  h = mix(h, REGION_RUNSTATE_UPDATE_FLAG);
  h = mix(h, REGION_INVALIDATE_ACTIVE);
  h = mix(h, REGION_INVALIDATE_SEQ);
  h = mix(h, REGION_POLLERS);
  h = mix(h, REGION_SHARED_INFO);
  h = mix(h, REGION_HEADER_SIZE);
  h = mix(h, REGION_LIVE);
  h = mix(h, REGION_CLOSED);
  h = mix(h, GROUP_SHIFT);
  h = mix(h, GROUP_OWNERS);
  h = mix(h, GROUP_MIXED);
  h = mix(h, PORT_TABLE_PORTS);
  h = mix(h, PORT_TABLE);
  h = mix(h, PORT_VCPU_BITS);
  h = mix(h, GPC_WORD);
  h = mix(h, GPC_UNMAPPED);
  h = mix(h, GPC_LONG_MODE);
  h = mix(h, GPC_TOKEN_SHIFT);
  h = mix(h, GPC_ACTIVE);
  h = mix(h, GPC_GPA_LO);
  h = mix(h, GPC_GPA_HI);
  h = mix(h, GPC_LENGTH);
  h = mix(h, GPC_SIZE);
  h = mix(h, VCPU_LINES);
  h = mix(h, VCPU_LINE_SIZE);
  h = mix(h, VCPU_INFO_GPC);
  h = mix(h, VCPU_KICK);
  h = mix(h, KICK_SLEEPER);
  h = mix(h, KICK_LISTENER);
  h = mix(h, KICK_VECTOR);
  h = mix(h, VCPU_POLL);
  h = mix(h, POLL_ANY);
  h = mix(h, VCPU_UPCALL_VECTOR);
  h = mix(h, VCPU_SHADOW_LO);
  h = mix(h, VCPU_SHADOW_HI);
  h = mix(h, VCPU_REQUESTS);
  h = mix(h, VCPU_SLEEPER);
  h = mix(h, VCPU_POLLER);
  h = mix(h, REQUEST_UNBLOCK);
  h = mix(h, REQUEST_VECTOR);
  h = mix(h, REQUEST_CLOSED);
  h = mix(h, REQUEST_POLLED);
  h = mix(h, VCPU_RECORD_SIZE);
  h = mix(h, VCPU_TIME_INFO_GPC);
  h = mix(h, VCPU_RUNSTATE1_GPC);
  h = mix(h, VCPU_RUNSTATE2_GPC);
  h = mix(h, VCPU_RUNSTATE_VERSION);
  h = mix(h, VCPU_RUNSTATE_STATE);
  h = mix(h, VCPU_RUNSTATE_ENTRY_TIME);
  h = mix(h, VCPU_RUNSTATE_TIMES);
  h = mix(h, VCPU_LAST_STEAL);
  h = mix(h, AGENT_READER);
  h = mix(h, AGENT_STATE);
  h = mix(h, AGENT_FREE);
  h = mix(h, AGENT_USED);
  h = mix(h, AGENT_WAKES);
  h = mix(h, AGENT_DELIVERED);
  h = mix(h, AGENT_COALESCED);
  h = mix(h, AGENT_MASKED);
  h = mix(h, AGENT_BAD);
  h = mix(h, AGENT_RECORD);
  h = mix(h, AGENT_RECORD_SIZE);
  h = mix(h, AGENT_PLANE0);
  h = mix(h, AGENT_PLANE_SIZE);
  h = mix(h, AGENT_PLANE1);
  h = mix(h, AGENT_LIST_PORTS);
  h = mix(h, AGENT_OUTBOX);
  h = mix(h, AGENT_INBOX);
  h = mix(h, AGENT_POLL_PORTS);
  h = mix(h, AGENT_POLL_LIST);
  h = mix(h, AGENT_MARKS);
  h = mix(h, AGENT_SIZE);
  h = mix(h, MAX_VCPUS);
  h = mix(h, MAX_AGENTS);
  h = mix(h, STEP_LOAD);
  h = mix(h, STEP_STORE);
  h = mix(h, STEP_RMW);
  h = mix(h, STEP_WAIT);
  h = mix(h, STEP_NOTIFY);
  h = mix(h, STEP_PLAIN);
  return h;
}
