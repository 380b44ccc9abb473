// A vCPU of a snapshot. What threads of this process do for it, its sleep, its listener, its place in a poll, stays theirs.

import { PVCLOCK_SIZE } from '../../abi/pvclock.ts';
import {
  AGENT_RECORD,
  DIRTY_ENTRY_DIRTY,
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_HARVESTED,
  DIRTY_ENTRY_OFFSET,
  DIRTY_ENTRY_SIZE,
  DIRTY_ENTRY_SLOT,
  KICK_VECTOR,
  REGION_DIRTY_RING_ENTRIES,
  REGION_DIRTY_RINGS,
  REQUEST_POLLED,
  REQUEST_STEAL_UPDATE,
  REQUEST_UNBLOCK,
  REQUEST_VECTOR,
  VCPU_CPUID_BASE,
  VCPU_CPUID_LIMIT,
  VCPU_HYPERCALL_OPEN,
  VCPU_HYPERCALL_RIP,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_LAPIC_OFF,
  VCPU_MODE,
  VCPU_POLLER,
  VCPU_REQUESTS,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
  VCPU_RUN_DELAY,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_TIME_INFO_GPC,
  VCPU_TIME_OWED,
  VCPU_TIMER_DEADLINE,
  VCPU_TIMER_EXPIRES,
  VCPU_TIMER_PENDING,
  VCPU_TIMER_PORT,
  VCPU_UPCALL_VECTOR,
  VCPU_XEN_ID,
} from '../../abi/region.ts';
import {
  RUNSTATE_BLOCKED,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_OFFLINE,
  RUNSTATE_RUNNABLE,
  RUNSTATE_RUNNING,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_LONG,
} from '../../abi/runstate.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../../abi/vcpu_info.ts';
import { pageOffset } from '../../memory/address.ts';
import { highHalf, lowHalf } from '../time/nanoseconds.ts';
import type { Vcpu } from '../vcpu.ts';
import { applyPlace } from './place.ts';
import type { PlaceState, RequestsState, RingState, RunstateState, VcpuState } from './state.ts';

/**
 * `deadline` is when its timer is due on the host's clock, `runDelay` what its thread has waited for a core so far; null: as it
 * was. @internal
 */
export function applyVcpu(vcpu: Vcpu, saved: VcpuState, deadline: bigint, runDelay: bigint | null): void {
  const { vm, line, record } = vcpu;
  const { words } = vm.region;
  words.store(record + VCPU_XEN_ID, saved.xenId);
  applyPlace(vm, line + VCPU_INFO_GPC, saved.vcpuInfo, VCPU_INFO_SIZE);
  applyPlace(vm, record + VCPU_TIME_INFO_GPC, saved.timeInfo, PVCLOCK_SIZE);
  applyRunstateArea(vcpu, saved.runstateArea);
  applyUpcall(vcpu, saved);
  applyRequests(vcpu, saved.requests);
  applyRunstate(vcpu, saved.runstate, runDelay);
  words.and(record + VCPU_MODE, ~(VCPU_LAPIC_OFF | VCPU_HYPERCALL_OPEN | VCPU_TIME_OWED));
  words.or(
    record + VCPU_MODE,
    (saved.lapicOff ? VCPU_LAPIC_OFF : 0) | (saved.hypercall === null ? 0 : VCPU_HYPERCALL_OPEN),
  );
  words.store64(record + VCPU_HYPERCALL_RIP, BigInt(saved.hypercall ?? 0));
  words.store(record + VCPU_CPUID_BASE, saved.cpuid.base | 0);
  words.store(record + VCPU_CPUID_LIMIT, saved.cpuid.limit | 0);
  words.store64(record + VCPU_TIMER_DEADLINE, 0n);
  words.store(record + VCPU_TIMER_PENDING, 0);
  words.store(record + VCPU_TIMER_PORT, saved.timer.port | 0);
  words.store64(record + VCPU_TIMER_EXPIRES, BigInt(saved.timer.expires));
  words.store64(record + VCPU_TIMER_DEADLINE, deadline);
  applyRing(vcpu, saved.ring);
}

/** The second page is what the first one does not hold, in the guest's mode. [KX-VCA-05] */
function applyRunstateArea({ vm, record }: Vcpu, area: PlaceState | null): void {
  const size = vm.region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
  const room = area === null ? PAGE_SIZE : PAGE_SIZE - pageOffset(area.address);
  const second: PlaceState | null =
    area === null || room >= size ? null : { by: 'gpa', address: area.address + room, far: null };
  applyPlace(vm, record + VCPU_RUNSTATE1_GPC, area, room);
  applyPlace(vm, record + VCPU_RUNSTATE2_GPC, second, size - room);
}

function applyUpcall({ vm, line }: Vcpu, { upcallVector, shadow }: VcpuState): void {
  const { words } = vm.region;
  words.store(line + VCPU_UPCALL_VECTOR, upcallVector);
  if (upcallVector) words.or(line + VCPU_KICK, KICK_VECTOR);
  else words.and(line + VCPU_KICK, ~KICK_VECTOR);
  const bits = BigInt(shadow);
  words.store(line + VCPU_SHADOW_LO, lowHalf(bits) | 0);
  words.store(line + VCPU_SHADOW_HI, highHalf(bits) | 0);
}

function applyRequests({ vm, line }: Vcpu, { unblock, vector, steal }: RequestsState): void {
  const { words } = vm.region;
  words.and(line + VCPU_REQUESTS, ~(REQUEST_UNBLOCK | REQUEST_VECTOR | REQUEST_STEAL_UPDATE));
  // A thread that polls here has other ports before it: it looks again.
  const polled = words.load(line + VCPU_POLLER) === 0 ? 0 : REQUEST_POLLED;
  words.or(
    line + VCPU_REQUESTS,
    polled | (unblock ? REQUEST_UNBLOCK : 0) | (vector ? REQUEST_VECTOR : 0) | (steal ? REQUEST_STEAL_UPDATE : 0),
  );
}

function applyRunstate({ vm, index, record }: Vcpu, saved: RunstateState, runDelay: bigint | null): void {
  const view = vm.region.words.view(vm.agent + AGENT_RECORD, RUNSTATE_SIZE_LONG);
  const states = {
    running: RUNSTATE_RUNNING,
    runnable: RUNSTATE_RUNNABLE,
    blocked: RUNSTATE_BLOCKED,
    offline: RUNSTATE_OFFLINE,
  };
  view.setInt32(RUNSTATE_STATE, states[saved.state], true);
  view.setBigUint64(RUNSTATE_ENTRY_TIME_LONG, BigInt(saved.entryTime), true);
  for (const [name, state] of Object.entries(states)) {
    const time = BigInt(saved.times[name as keyof typeof states]);
    view.setBigUint64(RUNSTATE_TIMES_LONG + 8 * state, time, true);
  }
  const delay = runDelay ?? BigInt(saved.runDelay);
  // As far before as it was: what lies between is accounted at the next change.
  const steal = BigInt.asUintN(64, delay - (BigInt(saved.runDelay) - BigInt(saved.lastSteal)));
  vm.kernel.runstateReplace(vm.vmBase, vm.agent, index, lowHalf(steal), highHalf(steal));
  vm.region.words.store64(record + VCPU_RUN_DELAY, delay);
}

function applyRing({ vm, index, record }: Vcpu, { reset, entries: ring }: RingState): void {
  const { words, base } = vm.region;
  const entries = words.load(base + REGION_DIRTY_RING_ENTRIES);
  if (entries === 0) return;
  const first = vm.region.part(REGION_DIRTY_RINGS) + index * entries * DIRTY_ENTRY_SIZE;
  words.zero(first, entries * DIRTY_ENTRY_SIZE);
  ring.forEach(({ slot, page, harvested }, i) => {
    const at = first + ((reset + i) & (entries - 1)) * DIRTY_ENTRY_SIZE;
    words.store(at + DIRTY_ENTRY_SLOT, slot | 0);
    words.storeWide(at + DIRTY_ENTRY_OFFSET, page);
    words.store(at + DIRTY_ENTRY_FLAGS, DIRTY_ENTRY_DIRTY | (harvested ? DIRTY_ENTRY_HARVESTED : 0));
  });
  words.store(record + VCPU_RING_RESET, reset | 0);
  words.store(record + VCPU_RING_PUSHED, (reset + ring.length) | 0);
}
