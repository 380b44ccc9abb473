// Domains that a hypercall names by their ids. [XE-MOD-01]

import { DOMID_SELF } from '../../abi/xen_domain.ts';
import type { Domain } from '../domain.ts';

/** The domain with an id, or null; the caller's view of itself if it is its own. @internal */
export function findDomain(caller: Domain, domid: number): Domain | null {
  if (domid === caller.domid) return caller;
  return caller.xen.domains.find((domain) => domain.domid === domid) ?? null;
}

/** As `findDomain`; SELF is the caller. @internal */
export function findAnyDomain(caller: Domain, domid: number): Domain | null {
  return domid === DOMID_SELF ? caller : findDomain(caller, domid);
}

/** Whether a domain may change what another one is made of. @internal */
export function mayActOn(caller: Domain, target: Domain): boolean {
  return caller === target || caller.privileged;
}
