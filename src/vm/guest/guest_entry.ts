// What stands around guest code: the loop before it is entered, and what ends a halt. [kvm-xen 5.7, 5.8]
//
//   vCPU:      requests ─ work ─ IN_GUEST (read-modify-write) ─ look again at requests, shadow, byte ─ guest code
//   requester: request (read-modify-write) ─ look whether it is in the guest ─ wait until it is not
//
// One of the two sees the other, so no request is slept or run through.

import { EXIT_DIRTY_RING_FULL } from '../../abi/exit.ts';
import {
  REQUEST_CLOCK_UPDATE,
  REQUEST_CLOSED,
  REQUEST_GPC_INVALIDATE,
  REQUEST_MASTERCLOCK_UPDATE,
  REQUEST_POLLED,
  REQUEST_STEAL_UPDATE,
  REQUEST_UNBLOCK,
  VCPU_INFO_GPC,
  VCPU_MODE,
  VCPU_REQUESTS,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_TIME_OWED,
} from '../../abi/region.ts';
import { gateOpen } from '../hvm_config.ts';
import { updateClock, updateMasterClock } from '../time/guest_clock.ts';
import { accountSteal } from '../time/scheduling.ts';
import { injectTimer, timerPending } from '../time/timer.ts';
import type { Vcpu } from '../vcpu.ts';
import { enterGuestMode, leaveGuestMode } from './guest_mode.ts';
import { takeVector, vectorIsDue } from './local_apic.ts';
import { endPoll, pollIsOver } from './sched_poll.ts';
import { type Level, levelVector, peekLevel, readLevel } from './upcall_level.ts';

/** What to do with the vCPU. */
export type GuestEntry =
  /**
   * Enter the guest. `externalInterrupt` is a vector to inject before anything of the local APIC as soon as the guest can take
   * interrupts: a level, which stays until the guest clears its upcall byte; 0 for none. `lapicInterrupt` is a vector for its
   * local APIC, an edge that is told once; 0 for none. [KX-EVT-45, 48, 50]
   */
  | { readonly kind: 'enter'; readonly externalInterrupt: number; readonly lapicInterrupt: number }
  /** Leave to the embedder, which has to empty the dirty ring: KVM's exit reason 31. [KX-MEM-36] */
  | { readonly kind: 'exit'; readonly reason: typeof EXIT_DIRTY_RING_FULL }
  /** Something was requested again and again, or the frequency of the guest's TSC is not known: not now, call again. [KX-CLK-10] */
  | { readonly kind: 'again' }
  /** The VM is closed, or this view of it detached. */
  | { readonly kind: 'closed' };

/** Rounds of the loop: each is the answer to somebody's request, and whoever makes them must not hold up this thread. [KF-66] */
const ROUNDS = 16;

/** What ends by coming round the loop: nothing else is to be done for it. [KX-EVT-57, KX-GPH-08] */
const PLAIN_REQUESTS = REQUEST_UNBLOCK | REQUEST_POLLED | REQUEST_GPC_INVALIDATE;
/** What keeps the vCPU out of the guest. [KX-EVT-58] */
const LEAVE_REQUESTS =
  REQUEST_UNBLOCK |
  REQUEST_CLOSED |
  REQUEST_GPC_INVALIDATE |
  REQUEST_MASTERCLOCK_UPDATE |
  REQUEST_CLOCK_UPDATE |
  REQUEST_STEAL_UPDATE;

const QUIET: GuestEntry = { kind: 'enter', externalInterrupt: 0, lapicInterrupt: 0 };
const RING_FULL: GuestEntry = { kind: 'exit', reason: EXIT_DIRTY_RING_FULL };
const AGAIN: GuestEntry = { kind: 'again' };
const CLOSED: GuestEntry = { kind: 'closed' };

/** @internal */
export function beforeEntry(vcpu: Vcpu): GuestEntry {
  const { vm } = vcpu;
  if (vm.detached) return CLOSED;
  vm.changes.checkNoBracket();
  leaveGuestMode(vcpu);
  endPoll(vcpu);
  for (let round = 0; round < ROUNDS; round++) {
    if (requests(vcpu) & REQUEST_CLOSED) return CLOSED;
    collect(vcpu);
    if (!serve(vcpu)) return AGAIN;
    if (vm.dirtyLog.full(vcpu.index)) return RING_FULL;
    const entry = enterGuest(vcpu);
    if (entry !== null) return entry;
  }
  return AGAIN;
}

/** [KX-EVT-61] @internal */
export function afterExit(vcpu: Vcpu): void {
  if (!vcpu.vm.detached) leaveGuestMode(vcpu);
}

/** What has come since the guest was left, in this order. [KX-EVT-57] */
function collect(vcpu: Vcpu): void {
  if (requests(vcpu) & PLAIN_REQUESTS) vcpu.takeRequests(PLAIN_REQUESTS);
  if (hasShadow(vcpu)) vcpu.flushShadow();
  if (timerPending(vcpu)) injectTimer(vcpu);
}

/** What others have asked for, in this order. [KX-EVT-58] @returns false when the clock cannot be written yet */
function serve(vcpu: Vcpu): boolean {
  if (requests(vcpu) & REQUEST_MASTERCLOCK_UPDATE) updateMasterClock(vcpu.vm);
  if ((requests(vcpu) & REQUEST_CLOCK_UPDATE || timeOwed(vcpu)) && !updateClock(vcpu)) return false;
  if (requests(vcpu) & REQUEST_STEAL_UPDATE) accountSteal(vcpu);
  return true;
}

/** Evaluates interrupts and announces the entry, then looks again. @returns null when something has come meanwhile */
function enterGuest(vcpu: Vcpu): GuestEntry | null {
  const vector = levelVector(vcpu);
  // Here it may sleep for the page, as it may not once it counts as being in the guest.
  const before: Level = vector === 0 ? 'down' : readLevel(vcpu);
  enterGuestMode(vcpu);
  // After the announcement. On the other side: who requests looks at it after the request. [KX-EVT-61, KX-GPH-07]
  const level: Level = vector === 0 ? 'down' : peekLevel(vcpu);
  const gone = level === 'away' && (before === 'up' || before === 'down');
  if (
    requests(vcpu) & LEAVE_REQUESTS ||
    gone ||
    (hasShadow(vcpu) && vcpu.vm.gpcs.isMapped(vcpu.line + VCPU_INFO_GPC))
  ) {
    leaveGuestMode(vcpu);
    return null;
  }
  const externalInterrupt = level === 'up' ? vector : 0;
  const lapicInterrupt = takeVector(vcpu);
  return externalInterrupt || lapicInterrupt ? { kind: 'enter', externalInterrupt, lapicInterrupt } : QUIET;
}

// ── what ends a halt, and a stay in the guest ──────────────────────────────────────────────────────────────────────

/** [KX-EVT-56] @internal */
export function hasEvents(vcpu: Vcpu): boolean {
  vcpu.vm.checkOpen();
  // Where nothing may sleep, a byte that cannot be seen counts: the next entry looks at it properly. [KX-EVT-46]
  return hasShadow(vcpu) || vectorIsDue(vcpu) || (levelVector(vcpu) !== 0 && peekLevel(vcpu) !== 'down');
}

/** [KX-EVT-60] @internal */
export function runnable(vcpu: Vcpu): boolean {
  if (vcpu.vm.detached) return true;
  if (requests(vcpu) & (REQUEST_UNBLOCK | REQUEST_CLOSED) || timerPending(vcpu)) return true;
  return hasEvents(vcpu) || pollIsOver(vcpu);
}

/** [KX-EVT-58] @internal */
export function leaveRequested(vcpu: Vcpu): boolean {
  return vcpu.vm.detached || (requests(vcpu) & LEAVE_REQUESTS) !== 0 || vectorIsDue(vcpu);
}

/** A clock record that could not be reached is written as soon as it can be. [KF-56] */
function timeOwed({ vm, record }: Vcpu): boolean {
  return (vm.region.words.load(record + VCPU_MODE) & VCPU_TIME_OWED) !== 0;
}

function requests({ vm, line }: Vcpu): number {
  return vm.region.words.load(line + VCPU_REQUESTS);
}

/** Whether events wait in the shadow for a flush that is due by itself: bits that mean something in the guest's mode. */
function hasShadow({ vm, line }: Vcpu): boolean {
  const { words } = vm.region;
  let bits = words.load(line + VCPU_SHADOW_LO);
  if (vm.region.longMode) bits |= words.load(line + VCPU_SHADOW_HI);
  return bits !== 0 && gateOpen(vm);
}
