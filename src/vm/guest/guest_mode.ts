// Whether a vCPU is in guest mode, for those who have to wait until it is not. [KX-EVT-61, KX-GPH-06, 07]

import { REQUEST_GPC_INVALIDATE, VCPU_IN_GUEST, VCPU_MODE, VCPU_REQUESTS } from '../../abi/region.ts';
import type { Vcpu } from '../vcpu.ts';

/** Announces guest mode; a look at the requests follows. @internal */
export function enterGuestMode({ vm, record }: Vcpu): void {
  vm.region.words.or(record + VCPU_MODE, VCPU_IN_GUEST);
}

/** The vCPU is not in guest mode any more, if it was; who waits for that is woken. @internal */
export function leaveGuestMode({ vm, line, record }: Vcpu): void {
  const { words } = vm.region;
  const mode = record + VCPU_MODE;
  if (!(words.load(mode) & VCPU_IN_GUEST)) return;
  words.and(mode, ~VCPU_IN_GUEST);
  if (words.load(line + VCPU_REQUESTS) & REQUEST_GPC_INVALIDATE) words.notify(mode);
}
