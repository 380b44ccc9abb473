// vcpu_op: what concerns one vCPU, named by its id; the caller's own or another. [XE-BP-30..32, XE-BP-50..52]

import { EFAULT, EINVAL, ENOENT } from '../../abi/errno.ts';
import {
  SINGLESHOT_TIMER_SIZE_COMPAT,
  SINGLESHOT_TIMER_SIZE_LONG,
  SINGLESHOT_TIMER_TIMEOUT,
  VCPUOP_SET_SINGLESHOT_TIMER,
  VCPUOP_STOP_SINGLESHOT_TIMER,
} from '../../abi/hypercall.ts';
import { PVCLOCK_SIZE } from '../../abi/pvclock.ts';
import {
  RUNSTATE_ENTRY_TIME_COMPAT,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_COMPAT,
  RUNSTATE_TIMES_LONG,
} from '../../abi/runstate.ts';
import {
  PERIODIC_TIMER_PERIOD,
  PERIODIC_TIMER_SIZE,
  REGISTER_AREA_ADDRESS,
  REGISTER_AREA_SIZE,
  REGISTER_VCPU_INFO_GFN,
  REGISTER_VCPU_INFO_OFFSET,
  REGISTER_VCPU_INFO_SIZE,
  VCPUOP_DOWN,
  VCPUOP_GET_PHYSID,
  VCPUOP_GET_RUNSTATE_INFO,
  VCPUOP_INITIALISE,
  VCPUOP_IS_UP,
  VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
  VCPUOP_REGISTER_RUNSTATE_PHYS_AREA,
  VCPUOP_REGISTER_VCPU_INFO,
  VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
  VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA,
  VCPUOP_SEND_NMI,
  VCPUOP_SET_PERIODIC_TIMER,
  VCPUOP_STOP_PERIODIC_TIMER,
  VCPUOP_UP,
} from '../../abi/xen_hypercall.ts';
import { RUNSTATES, type Runstate, readRunstate, runstateNumber } from '../../vm/time/runstate.ts';
import { startTimer, stopTimer } from '../../vm/time/timer.ts';
import type { Vcpu } from '../../vm/vcpu.ts';
import { PeriodicTimers } from '../periodic_timer.ts';
import {
  type AreaPlace,
  checkArea,
  placeOf,
  registerRunstateArea,
  registerTimeArea,
  registerVcpuInfo,
  runstateSize,
} from '../vcpu_areas.ts';
import { type Answer, type Call, copyOut, type Handler, int, OWNERS, physical, wide, withArgument } from './call.ts';

/** What does a command for the vCPU that it names. */
type VcpuHandler = (call: Call, target: Vcpu) => Answer;

/** The address that takes an area by guest-physical address away. */
const NO_ADDRESS = (1n << 64n) - 1n;

const COMMANDS: ReadonlyMap<number, VcpuHandler> = new Map([
  [VCPUOP_INITIALISE, initialise],
  [VCPUOP_UP, ({ domain }, target) => domain.hvm.vcpuUp(target)],
  [VCPUOP_DOWN, ({ domain }, target) => domain.hvm.vcpuDown(target)],
  [VCPUOP_IS_UP, ({ domain }, target) => (domain.hvm.isUp(target) ? 1 : 0)],
  [VCPUOP_GET_RUNSTATE_INFO, getRunstateInfo],
  [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, owned(registerRunstateMemoryArea)],
  [VCPUOP_SET_PERIODIC_TIMER, setPeriodicTimer],
  [VCPUOP_STOP_PERIODIC_TIMER, stopPeriodicTimer],
  [VCPUOP_SET_SINGLESHOT_TIMER, setSingleshotTimer],
  [VCPUOP_STOP_SINGLESHOT_TIMER, stopSingleshotTimer],
  [VCPUOP_REGISTER_VCPU_INFO, owned(vcpuInfo)],
  [VCPUOP_SEND_NMI, sendNmi],
  // For a domain whose vCPUs are pinned to processors that it knows.
  [VCPUOP_GET_PHYSID, () => -EINVAL],
  [VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, owned(registerTimeMemoryArea)],
  [VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, owned(registerRunstatePhysArea)],
  [VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, owned(registerTimePhysArea)],
] as const);

/** @internal */
export const vcpuOp: Handler = (call) => {
  // An id is an unsigned int: what is negative names nobody.
  const target = call.domain.hvm.record.find(int(call.params[1]) >>> 0);
  if (target === null) return -ENOENT;
  return COMMANDS.get(int(call.params[0]))?.(call, target) ?? null;
};

/** A command that only the owner's thread may do. */
function owned(handler: VcpuHandler): VcpuHandler {
  return (call, target) => (call.domain.vm.owner ? handler(call, target) : OWNERS);
}

/** The processor is the embedder's: it reads the context and says what comes of it. */
function initialise({ domain, params, cpu }: Call, target: Vcpu): Answer {
  return domain.hvm.hooks.onVcpuInitialise?.(target, params[2], cpu) ?? null;
}

function sendNmi({ domain, params }: Call, target: Vcpu): Answer {
  if (params[2] !== 0n) return -EINVAL;
  const { onNmi } = domain.hvm.hooks;
  if (!onNmi) return null;
  onNmi(target);
  return 0;
}

// ── timers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function setPeriodicTimer(call: Call, target: Vcpu): Answer {
  return withArgument(call, call.params[2], PERIODIC_TIMER_SIZE, (argument) => {
    const period = argument.getBigUint64(PERIODIC_TIMER_PERIOD, true);
    if (!PeriodicTimers.allows(period)) return -EINVAL;
    call.domain.hvm.periodicTimers.start(target, period);
    return 0;
  });
}

function stopPeriodicTimer({ domain }: Call, target: Vcpu): Answer {
  domain.hvm.periodicTimers.stop(target);
  return 0;
}

/** [XE-BP-50] */
function setSingleshotTimer(call: Call, target: Vcpu): Answer {
  if (target !== call.vcpu) return -EINVAL;
  const size = call.long ? SINGLESHOT_TIMER_SIZE_LONG : SINGLESHOT_TIMER_SIZE_COMPAT;
  return withArgument(call, call.params[2], size, (argument) => {
    // Its flags are ignored: Xen stopped to demand a deadline in the future, because its only user had it wrong. [KF-57]
    startTimer(target, argument.getBigUint64(SINGLESHOT_TIMER_TIMEOUT, true), false);
    return 0;
  });
}

function stopSingleshotTimer({ vcpu }: Call, target: Vcpu): Answer {
  if (target !== vcpu) return -EINVAL;
  stopTimer(target);
  return 0;
}

// ── areas ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** [XE-BP-30] */
function vcpuInfo(call: Call, target: Vcpu): Answer {
  return withArgument(call, call.params[2], REGISTER_VCPU_INFO_SIZE, (argument) =>
    registerVcpuInfo(
      call.domain.hvm.record,
      target,
      wide(argument, REGISTER_VCPU_INFO_GFN),
      argument.getUint32(REGISTER_VCPU_INFO_OFFSET, true),
    ),
  );
}

/** A guest-virtual address, followed once: kernels keep these areas where they are. Address 0 takes the area away. [XE-BP-31] */
function registerRunstateMemoryArea(call: Call, target: Vcpu): Answer {
  const { hvm, vm } = call.domain;
  return withVirtual(call, runstateSize(vm), RUNSTATE_SIZE_LONG, (place) =>
    registerRunstateArea(hvm.record, target, place),
  );
}

/** [XE-BP-32] */
function registerTimeMemoryArea(call: Call, target: Vcpu): Answer {
  return withVirtual(call, PVCLOCK_SIZE, PVCLOCK_SIZE, (place) => registerTimeArea(target, place));
}

function withVirtual(call: Call, size: number, most: number, use: (place: AreaPlace | null) => number): Answer {
  return withArgument(call, call.params[2], REGISTER_AREA_SIZE, (argument) => {
    const given = argument.getBigUint64(REGISTER_AREA_ADDRESS, true);
    // A pointer of a 32-bit caller's, in a field of 64 bits.
    const address = call.long ? given : BigInt.asUintN(32, given);
    if (address === 0n) return use(null);
    const place = placeOf((at) => physical(call, at), address, size, most);
    return place === null ? -EFAULT : use(place);
  });
}

function registerRunstatePhysArea(call: Call, target: Vcpu): Answer {
  const { hvm, vm } = call.domain;
  return withPhysical(call, runstateSize(vm), (place) => registerRunstateArea(hvm.record, target, place));
}

function registerTimePhysArea(call: Call, target: Vcpu): Answer {
  return withPhysical(call, PVCLOCK_SIZE, (place) => registerTimeArea(target, place));
}

function withPhysical(call: Call, size: number, use: (place: AreaPlace | null) => number): Answer {
  return withArgument(call, call.params[2], REGISTER_AREA_SIZE, (argument) => {
    if (argument.getBigUint64(REGISTER_AREA_ADDRESS, true) === NO_ADDRESS) return use(null);
    const at = wide(argument, REGISTER_AREA_ADDRESS);
    return checkArea(call.domain.vm, at, size) || use({ at, next: null });
  });
}

// ── runstate ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the host keeps, with the time in the present state up to now. */
function getRunstateInfo(call: Call, target: Vcpu): Answer {
  const runstate = readRunstate(target);
  const { long } = call;
  const view = new DataView(new ArrayBuffer(long ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT));
  view.setInt32(RUNSTATE_STATE, runstateNumber(runstate.state), true);
  view.setBigUint64(long ? RUNSTATE_ENTRY_TIME_LONG : RUNSTATE_ENTRY_TIME_COMPAT, runstate.entryTime, true);
  const times = long ? RUNSTATE_TIMES_LONG : RUNSTATE_TIMES_COMPAT;
  for (const [i, name] of RUNSTATES.entries()) {
    view.setBigUint64(times + 8 * i, timeIn(runstate, name, target.vm.kvmclock.now()), true);
  }
  return copyOut(call, call.params[2], view);
}

function timeIn({ state, entryTime, times }: Runstate, name: Runstate['state'], now: bigint): bigint {
  const since = name === state && now > entryTime ? now - entryTime : 0n;
  return BigInt.asUintN(64, times[name] + since);
}
