// Where structures are registered: from a cache's record into a snapshot and back.

import {
  GPC_ACTIVE,
  GPC_ADDRESS_LO,
  GPC_BY_GPA,
  GPC_BY_HVA,
  GPC_FAR_ADDRESS,
  GPC_LENGTH,
  REGION_HOST_PAGES,
} from '../../abi/region.ts';
import type { Region } from '../../memory/region.ts';
import type { Vm } from '../vm.ts';
import { standIn } from '../wire/structure.ts';
import type { PlaceState } from './state.ts';

/** Where host addresses of the snapshot count from: the window, unless the table of host pages is in it. @internal */
export function hostOrigin({ words, base, guestBase }: Region): number {
  return words.load(base + REGION_HOST_PAGES) === 0 ? guestBase : 0;
}

/** Where a cache is registered, or null. What it maps is not looked at: the next use finds that out again. @internal */
export function capturePlace(vm: Vm, gpc: number): PlaceState | null {
  const base = vm.gpcs.baseOf(gpc);
  if (base === null) return null;
  if ('hva' in base) return { by: 'hva', address: base.hva - hostOrigin(vm.region), far: null };
  const far = vm.region.words.load64(gpc + GPC_FAR_ADDRESS);
  // One that stands for another address is of a registration that is over.
  return { by: 'gpa', address: base.gpa, far: far !== 0n && standIn(far) === base.gpa ? far.toString() : null };
}

/** Registers a cache, or not. It maps nothing now and is mapped at its next use, if it can be. @internal */
export function applyPlace(vm: Vm, gpc: number, place: PlaceState | null, length: number): void {
  const { words } = vm.region;
  words.store(gpc + GPC_ACTIVE, 0);
  if (place === null) return;
  const { by, address, far } = place;
  words.storeWide(gpc + GPC_ADDRESS_LO, by === 'gpa' ? address : address + hostOrigin(vm.region));
  words.store64(gpc + GPC_FAR_ADDRESS, BigInt(far ?? 0));
  words.store(gpc + GPC_LENGTH, length);
  words.store(gpc + GPC_ACTIVE, by === 'gpa' ? GPC_BY_GPA : GPC_BY_HVA);
}
