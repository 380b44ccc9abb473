// The guest's surface of a domain.

import type { GuestCpu } from '../vm/guest/guest_cpu.ts';
import type { HypercallResult } from '../vm/guest/hypercall.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Domain } from './domain.ts';

/** @internal */
export function domainHypercall(_domain: Domain, vcpu: Vcpu, cpu: GuestCpu): HypercallResult {
  return vcpu.hypercall(cpu);
}
