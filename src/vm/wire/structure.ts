// What all structures of the kernel's interface share: bytes as fields, little-endian, and u64 values that no number holds.

import { checkRange, EvtchnError, hex } from '../../errors.ts';
import { type Gpa, gpa } from '../../memory/address.ts';

/** All ones: what the structures say where the objects say null. [kvm-xen 0.1] */
export const ALL1: bigint = 2n ** 64n - 1n;

/** From here on addresses are in no memory slot. */
const SLOTS_END = 2n ** 52n;

/** The fields of a structure that was handed in. Throws EFAULT when it does not hold `size` bytes. [KX-ABI-46] @internal */
export function structure(bytes: Uint8Array, size: number): DataView {
  if (bytes.byteLength < size) {
    throw new EvtchnError('EFAULT', `the structure has ${size} bytes, but only ${bytes.byteLength} were given`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A structure of zeros that `fill` writes its fields into. @internal */
export function build(size: number, fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
}

/** @internal */
export function getU32(view: DataView, at: number): number {
  return view.getUint32(at, true);
}

/** Throws EINVAL unless `value` is a u32. @internal */
export function putU32(view: DataView, at: number, what: string, value: number): void {
  checkRange(what, value, 0, 2 ** 32 - 1);
  view.setUint32(at, value, true);
}

/** As an i32 or as the u32 of the same bits. Throws EINVAL unless `value` is one of them. @internal */
export function putI32(view: DataView, at: number, what: string, value: number): void {
  checkRange(what, value, -(2 ** 31), 2 ** 32 - 1);
  view.setUint32(at, value, true);
}

/** Throws EINVAL unless `value` is a u8. @internal */
export function putU8(view: DataView, at: number, what: string, value: number): void {
  checkRange(what, value, 0, 255);
  view.setUint8(at, value);
}

/** @internal */
export function getU64(view: DataView, at: number): bigint {
  return view.getBigUint64(at, true);
}

/** Throws EINVAL unless `value` is a u64. @internal */
export function putU64(view: DataView, at: number, what: string, value: bigint): void {
  if (typeof value !== 'bigint' || value < 0n || value > ALL1) {
    throw new EvtchnError('EINVAL', `${what} is ${String(value)}, allowed are bigints from 0 to 2^64-1`);
  }
  view.setBigUint64(at, value, true);
}

/** A u64 as a number, never rounded. Throws EINVAL from 2^53 on, which is outside every range that numbers are used for. @internal */
export function toNumber(what: string, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new EvtchnError('EINVAL', `${what} is ${hex(value)}, allowed are integers from 0 to 2^53-1`);
  }
  return Number(value);
}

/** Whether an address needs a stand-in. @internal */
export function isFar(address: bigint): boolean {
  return address > BigInt(Number.MAX_SAFE_INTEGER);
}

/**
 * What stands for a guest-physical address in objects: itself, or from 2^53 on an address with the same offset in its page that
 * is in no slot either. So it fails as it has to, and where it has to. @internal
 */
export function standIn(address: bigint): Gpa {
  return gpa(Number(isFar(address) ? SLOTS_END + (address % SLOTS_END) : address));
}
