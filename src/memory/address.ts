// Addresses wear their kind, so that a guest address is never used where a linear offset belongs. [KF-11]
// The constructors are the only places that check ranges.

import { HVA_END } from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange } from '../errors.ts';

/** Guest-physical address, bytes. */
export type Gpa = number & { readonly kind: 'gpa' };
/** Guest frame number: a gpa divided by 4096. */
export type Gfn = number & { readonly kind: 'gfn' };
/** Address in the embedder's own map; the linear byte offset unless pages are mapped otherwise. */
export type Hva = number & { readonly kind: 'hva' };
/** Byte offset in the linear memory. */
export type Hpa = number & { readonly kind: 'hpa' };

/** A guest-physical address. Throws EINVAL unless it is an integer in 0..2^53-1. */
export function gpa(address: number): Gpa {
  checkRange('a guest-physical address', address, 0, Number.MAX_SAFE_INTEGER);
  return address as Gpa;
}

/** A guest frame number. Throws EINVAL unless it is an integer in 0..2^41-1. */
export function gfn(frame: number): Gfn {
  checkRange('a guest frame number', frame, 0, Math.floor(Number.MAX_SAFE_INTEGER / PAGE_SIZE));
  return frame as Gfn;
}

/** An address in the embedder's map. Throws EINVAL unless it is an integer in 0..2^47-4097. */
export function hva(address: number): Hva {
  checkRange('a host virtual address', address, 0, HVA_END - 1);
  return address as Hva;
}

/** A byte offset in the linear memory. Throws EINVAL unless it is an integer in 0..2^32-1. */
export function hpa(address: number): Hpa {
  checkRange('a linear offset', address, 0, 2 ** 32 - 1);
  return address as Hpa;
}

/** The first byte of a frame. */
export function gfnToGpa(frame: Gfn): Gpa {
  return (frame * PAGE_SIZE) as Gpa;
}

/** The frame of an address. */
export function gpaToGfn(address: Gpa): Gfn {
  return Math.floor(address / PAGE_SIZE) as Gfn;
}

/** The byte within its page. */
export function pageOffset(address: number): number {
  return address % PAGE_SIZE;
}
