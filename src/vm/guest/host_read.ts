// The embedder's own memory by host address, for what it has the engine copy to the guest.

import { HVA_END } from '../../abi/region.ts';
import type { Hva } from '../../memory/address.ts';
import { accessPages } from '../../memory/page_access.ts';
import type { Vm } from '../vm.ts';

/** A copy of `length` bytes from a host address on; null when a page of them is absent. @internal */
export function readHost({ gpcs, region }: Vm, address: number, length: number): Uint8Array | null {
  if (address + length > HVA_END) return null;
  const copy = new Uint8Array(length);
  const toHost = (at: number): Hva => at as Hva;
  const done = accessPages(region, gpcs, { address, length, writable: false }, toHost, (at, from, bytes) => {
    copy.set(region.words.read(at, bytes), from);
  });
  return done ? copy : null;
}
