// The embedder's own memory by host address, for what it has the engine copy to the guest.
// Reading happens inside a bracket, so a page that is being taken away is waited for.

import { HVA_END, REGION_INVALIDATE_ACTIVE } from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { hva, pageOffset } from '../../memory/address.ts';
import { lookUp } from '../../memory/host_pages.ts';
import type { Vm } from '../vm.ts';

/** How often a read lets an invalidation end and begins again. */
const TRIES = 200;

/** A copy of `length` bytes from a host address on; null when a page of them is absent. @internal */
export function readHost(vm: Vm, address: number, length: number): Uint8Array | null {
  if (address + length > HVA_END) return null;
  const copy = new Uint8Array(length);
  for (let from = 0; from < length; ) {
    const part = Math.min(length - from, PAGE_SIZE - pageOffset(address + from));
    const bytes = readPart(vm, address + from, part);
    if (bytes === null) return null;
    copy.set(bytes, from);
    from += part;
  }
  return copy;
}

/** Bytes within a page. */
function readPart(vm: Vm, address: number, length: number): Uint8Array | null {
  const { gpcs, region } = vm;
  const invalidating = (): boolean => region.words.load(region.base + REGION_INVALIDATE_ACTIVE) !== 0;
  for (let i = 0; i < TRIES; i++) {
    const opened = gpcs.enter();
    try {
      // After the bracket is open. On the other side: a change counts itself, then waits for readers.
      if (!opened || !invalidating()) {
        const page = lookUp(region, address);
        if (page !== null) return region.words.read(page.hpa + pageOffset(address), length);
        if (!gpcs.canFault(opened)) return null;
      }
    } finally {
      if (opened) gpcs.leave();
    }
    if (invalidating()) {
      if (!gpcs.awaitInvalidations()) return null;
    } else if (gpcs.faultIn(hva(address), false) === null) {
      return null;
    }
  }
  return null;
}
