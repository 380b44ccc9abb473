// An event that names its vCPU: what routes, send ports, timers and explicit sends raise. [KX-EVT-10..34]

import type { Vm } from './vm.ts';

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
