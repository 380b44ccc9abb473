// An event that names its vCPU: what routes, send ports, timers and explicit sends raise. [KX-EVT-10..34]

import { PRIORITY_2LEVEL } from '../../abi/attribute.ts';
import { EBADF, EINVAL, ENOTCONN } from '../../abi/errno.ts';
import type { Vm } from '../vm.ts';

/** What `vm.evtchnSend` raises: a port, and the vCPU that gets its upcall unless the port is bound to one. */
export interface EvtchnEvent {
  /** 1..4095, in 32-bit mode 1..1023 */
  readonly port: number;
  /** KVM's id of the vCPU */
  readonly vcpu: number;
  /** PRIORITY_2LEVEL, -1, by default: there is no other */
  readonly priority?: number;
}

/**
 * Raises a port on the vCPU with index `vcpu` where nothing may sleep.
 * @returns 1 raised, 0 pending already, -ENOTCONN masked, -EINVAL no such port in the guest's mode, -EAGAIN shared_info is not
 *   usable here: nothing was changed @internal
 */
export function raiseFast(vm: Vm, port: number, vcpu: number): number {
  return vm.kernel.sendTo(vm.vmBase, vm.agent, port, vcpu);
}

/** As `raiseFast`, mapping shared_info when it has to be. @returns also -EFAULT it cannot be reached, -EINVAL it is not registered @internal */
export function raise(vm: Vm, port: number, vcpu: number): number {
  return vm.retry(() => raiseFast(vm, port, vcpu));
}

/** KVM_XEN_HVM_EVTCHN_SEND. [KX-RTE-30] @internal */
export function evtchnSend(vm: Vm, { port, vcpu, priority }: EvtchnEvent): number {
  if (vm.detached) return -EBADF;
  if (!Number.isInteger(port) || port < 1 || port >= vm.maxPorts || !is2Level(priority)) return -EINVAL;
  const index = vm.indexOf(vcpu);
  if (index < 0) return -EINVAL;
  const result = raise(vm, port, index);
  return result === 1 || result === -ENOTCONN ? 0 : result;
}

/** Whether a priority is the only one there is, as an i32 or as a u32; left out it is. [KX-EVA-11, KX-RTE-01] @internal */
export function is2Level(priority: number | undefined): boolean {
  return priority === undefined || priority === PRIORITY_2LEVEL || priority === PRIORITY_2LEVEL >>> 0;
}

/**
 * Calls `body`, during which no table of this VM that it looks into is taken away: whoever replaces one waits for it. It must not
 * sleep. In memory of a single agent nothing comes in between anyway, and a listener that `body` calls may change the tables.
 * @returns its result, or -EBADF on a view that is detached @internal
 */
export function reading(vm: Vm, body: () => number): number {
  if (!vm.shared) return vm.detached ? -EBADF : body();
  const entered = vm.kernel.enter(vm.agent);
  if (entered === -EBADF) return entered;
  try {
    return body();
  } finally {
    // Else a bracket of the caller's was open, which goes on.
    if (entered === 0) vm.kernel.leave(vm.agent);
  }
}
