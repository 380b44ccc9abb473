// Waiting for particular ports: the loop around the protocol of assembly/poll.ts. [KX-HCL-32..38]

import { EAGAIN, EBUSY, EFAULT, EINVAL } from '../../abi/errno.ts';
import { AGENT_POLL_LIST, AGENT_POLL_PORTS } from '../../abi/region.ts';
import { checkRange, EvtchnError, errnoName } from '../../errors.ts';
import type { Vcpu } from '../vcpu.ts';
import { checkTimeout, wait } from './sleep.ts';

/** @internal */
export function poll(vcpu: Vcpu, ports: readonly number[], timeoutNs: number | undefined): boolean {
  const { vm, index } = vcpu;
  checkTimeout(timeoutNs);
  vm.checkOpen();
  checkRange('the number of ports to poll', ports.length, 0, AGENT_POLL_PORTS);
  for (const port of ports) checkRange('a port to poll', port, 0, vm.maxPorts - 1);
  const list = vm.agent + AGENT_POLL_LIST;
  new Uint32Array(vm.memory.buffer, list, AGENT_POLL_PORTS).set(ports);
  const begun = mapped(vcpu, () => vm.kernel.pollBegin(vm.vmBase, vm.agent, index, list, ports.length));
  try {
    if (begun === 0) wait(vcpu, timeoutNs, 0);
    // A page that has gone away meanwhile says nothing about the ports: the guest looks for itself.
    return begun === 1 || vm.kernel.anyPending(vm.vmBase, vm.agent, list, ports.length) === 1;
  } finally {
    vm.kernel.pollEnd(vm.vmBase, index);
  }
}

/** Calls with shared_info mapped, or throws why it cannot be. */
function mapped({ vm, index }: Vcpu, call: () => number): number {
  let result = call();
  if (result === -EAGAIN) {
    const refreshed = vm.gpcs.refresh(vm.region.sharedInfo);
    result = refreshed < 0 ? refreshed : call();
  }
  if (result >= 0) return result;
  if (result === -EBUSY)
    throw new EvtchnError('EBUSY', `somebody polls for vCPU ${index} already: one thread runs a vCPU at a time`);
  const why =
    result === -EINVAL ? 'is not registered' : result === -EFAULT ? 'is not in guest RAM' : 'cannot be mapped in time';
  throw new EvtchnError(errnoName(result) ?? 'EAGAIN', `poll: shared_info ${why}`);
}
