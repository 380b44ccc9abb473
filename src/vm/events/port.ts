// What can be seen of a port.

import { PORT_BOUND, PORT_TABLE, PORT_VCPU_BITS } from '../../abi/region.ts';
import { checkRange, EvtchnError, errnoName } from '../../errors.ts';
import type { Vm } from '../vm.ts';

/** A port at one moment. */
export interface PortStatus {
  /** the vCPU it is bound to, or 0 */
  readonly vcpu: number;
  /** whether it is bound; else its upcall goes to the vCPU that an event names, to vCPU 0 when it names none */
  readonly bound: boolean;
  readonly pending: boolean;
  readonly masked: boolean;
  /** its word's bit in that vCPU's selector */
  readonly selected: boolean;
  /** that vCPU is being asked for an upcall */
  readonly upcallPending: boolean;
  /** its word's bit waits on our side for vcpu_info to come back */
  readonly shadowed: boolean;
  readonly vcpuInfoMapped: boolean;
}

/** @internal */
export function portStatus(vm: Vm, port: number): PortStatus {
  vm.checkOpen();
  checkRange('the port', port, 1, vm.maxPorts - 1);
  const bits = vm.retry(() => vm.kernel.portStatus(vm.vmBase, vm.agent, port));
  if (bits < 0) {
    throw new EvtchnError(errnoName(bits) ?? 'EAGAIN', 'shared_info is not registered or cannot be reached');
  }
  const entry = vm.region.words.load(vm.vmBase + PORT_TABLE + 4 * port);
  return {
    vcpu: entry & PORT_VCPU_BITS,
    bound: (entry & PORT_BOUND) !== 0,
    pending: (bits & 1) !== 0,
    masked: (bits & 2) !== 0,
    selected: (bits & 4) !== 0,
    upcallPending: (bits & 8) !== 0,
    shadowed: (bits & 16) !== 0,
    vcpuInfoMapped: (bits & 32) !== 0,
  };
}
