// The upcall as a level: the byte in vcpu_info that asks for one, and when it counts. [KX-EVT-45, 46]

import { EAGAIN } from '../../abi/errno.ts';
import { REGION_UPCALL_VECTOR, VCPU_INFO_GPC, VM_IRQCHIP } from '../../abi/region.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';

/** How often vcpu_info is mapped again before it counts as unusable. */
const REFRESH_TRIES = 16;

/** What a look at the byte may answer: it is set or not, it cannot be seen, or it could not be seen in time. @internal */
export type Level = 'up' | 'down' | 'away' | 'late';

/**
 * The vector that the byte asks for as an external interrupt, 0 for none: the VM's, while the gate is open, with an interrupt
 * controller on this side and a vcpu_info. [KX-EVT-45] @internal
 */
export function levelVector({ vm, line }: Vcpu): number {
  if (!vm.region.has(VM_IRQCHIP) || !gateOpen(vm) || !vm.gpcs.isActive(line + VCPU_INFO_GPC)) return 0;
  return vm.region.words.load(vm.vmBase + REGION_UPCALL_VECTOR);
}

/** The byte where nothing may sleep. @internal */
export function peekLevel({ vm, index }: Vcpu): Level {
  const byte = vm.kernel.upcallPending(vm.vmBase, vm.agent, index);
  if (byte < 0) return 'away';
  return byte === 0 ? 'down' : 'up';
}

/** The byte, mapping vcpu_info when it has to be; 'away' when it cannot be, 'late' when somebody changes its page for too long. @internal */
export function readLevel(vcpu: Vcpu): Level {
  for (let i = 0; i < REFRESH_TRIES; i++) {
    const level = peekLevel(vcpu);
    if (level !== 'away') return level;
    const refreshed = vcpu.vm.gpcs.refresh(vcpu.line + VCPU_INFO_GPC);
    if (refreshed < 0) return refreshed === -EAGAIN ? 'late' : 'away';
  }
  return 'late';
}
