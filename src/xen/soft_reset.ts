// A soft reset: the guest starts anew in the same memory, as Linux does by kexec. [XE-CB-20, XE-QE-42]

import { HVM_NR_PIRQS, HVM_SHUT_DOWN, HVM_SHUTDOWN_CODE, PIRQ_UNMAPPED } from '../abi/xen_hvm.ts';
import { HVM_PARAM_CALLBACK_IRQ } from '../abi/xen_hypercall.ts';
import { EvtchnError, errnoName } from '../errors.ts';
import { stopTimer } from '../vm/time/timer.ts';
import type { Domain } from './domain.ts';
import { forgetAreas } from './vcpu_areas.ts';

/**
 * Takes back what the guest has set up: ports, callback, vectors, timers, areas, shared_info. Throws EBUSY and EAGAIN as
 * `Evtchn.reset`, before anything else has changed. @internal
 */
export function softReset(domain: Domain): void {
  const { hvm, vm } = domain;
  const { record } = hvm;
  vm.checkOwner();
  const result = domain.evtchn.reset();
  if (result < 0) {
    throw new EvtchnError(errnoName(result) ?? 'EBUSY', 'ports of the domain cannot be reset: a reset is under way');
  }
  hvm.setParam(HVM_PARAM_CALLBACK_IRQ, 0n);
  for (let index = 0; index < vm.vcpus; index++) {
    const vcpu = vm.vcpu(index);
    stopTimer(vcpu);
    hvm.periodicTimers.stop(vcpu);
    vcpu.setAttr({ type: 'upcall_vector', vector: 0 });
    forgetAreas(record, vcpu);
  }
  vm.setAttr({ type: 'shared_info', gfn: null });
  for (let pirq = 0; pirq < HVM_NR_PIRQS; pirq++) hvm.pirqMap.restore(pirq, PIRQ_UNMAPPED);
  hvm.watchdogs.restore([], 0n);
  record.words.store(record.base + HVM_SHUTDOWN_CODE, 0);
  record.words.store(record.base + HVM_SHUT_DOWN, 0);
}
