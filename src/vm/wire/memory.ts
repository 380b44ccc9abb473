// struct kvm_userspace_memory_region from and to a memory slot, and struct kvm_dirty_log: pure. [KX-MEM-10, KX-MEM-35]

import {
  DIRTY_LOG_SIZE,
  DIRTY_LOG_SLOT,
  MEM_LOG_DIRTY_PAGES,
  MEM_READONLY,
  MEMORY_REGION_BYTES,
  MEMORY_REGION_FLAGS,
  MEMORY_REGION_GPA,
  MEMORY_REGION_HVA,
  MEMORY_REGION_SIZE,
  MEMORY_REGION_SLOT,
} from '../../abi/memory_region.ts';
import { checkRange, EvtchnError, hex } from '../../errors.ts';
import type { Gpa, Hva } from '../../memory/address.ts';
import type { Memslot } from '../../memory/memslots.ts';
import { build, getU32, getU64, putU32, putU64, structure, toNumber } from './structure.ts';

/** A slot is named by 16 bits for its address space and 16 for its id. */
const ID_MAX = 0xffff;

/** Which slot. */
export interface SlotName {
  readonly id: number;
  /** 0 by default */
  readonly addressSpace?: number;
}

function getName(view: DataView, at: number): Required<SlotName> {
  const slot = getU32(view, at);
  return { id: slot & ID_MAX, addressSpace: slot >>> 16 };
}

function putName(view: DataView, at: number, { id, addressSpace = 0 }: SlotName): void {
  checkRange('the id of a memory slot', id, 0, ID_MAX);
  checkRange('the address space', addressSpace, 0, ID_MAX);
  putU32(view, at, 'the slot', ((addressSpace << 16) | id) >>> 0);
}

/**
 * The memory slot that a struct kvm_userspace_memory_region of 32 bytes sets. [KX-MEM-10]
 * Throws EFAULT for fewer bytes, EINVAL for unknown flags and for an address or size beyond 2^53-1.
 */
export function decodeMemoryRegion(bytes: Uint8Array): Required<Memslot> {
  const view = structure(bytes, MEMORY_REGION_SIZE);
  const flags = getU32(view, MEMORY_REGION_FLAGS);
  if (flags & ~(MEM_LOG_DIRTY_PAGES | MEM_READONLY)) {
    throw new EvtchnError('EINVAL', `the flags of a memory slot are ${hex(flags)}, allowed are 0 to 3`);
  }
  // Where the slot is set, the ranges are looked at.
  return {
    ...getName(view, MEMORY_REGION_SLOT),
    gpa: toNumber('the guest-physical address of a memory slot', getU64(view, MEMORY_REGION_GPA)) as Gpa,
    bytes: toNumber('the size of a memory slot', getU64(view, MEMORY_REGION_BYTES)),
    hva: toNumber('the host address of a memory slot', getU64(view, MEMORY_REGION_HVA)) as Hva,
    logDirty: (flags & MEM_LOG_DIRTY_PAGES) !== 0,
    readonly: (flags & MEM_READONLY) !== 0,
  };
}

/** The structure that sets a memory slot. Throws EINVAL for a value that does not fit its field. */
export function encodeMemoryRegion(slot: Memslot): Uint8Array {
  const wide = (view: DataView, at: number, what: string, value: number): void => {
    checkRange(`the ${what} of a memory slot`, value, 0, Number.MAX_SAFE_INTEGER);
    putU64(view, at, what, BigInt(value));
  };
  return build(MEMORY_REGION_SIZE, (view) => {
    putName(view, MEMORY_REGION_SLOT, slot);
    const flags = (slot.logDirty ? MEM_LOG_DIRTY_PAGES : 0) | (slot.readonly ? MEM_READONLY : 0);
    putU32(view, MEMORY_REGION_FLAGS, 'the flags', flags);
    wide(view, MEMORY_REGION_GPA, 'guest-physical address', slot.gpa);
    wide(view, MEMORY_REGION_BYTES, 'size', slot.bytes);
    wide(view, MEMORY_REGION_HVA, 'host address', slot.hva);
  });
}

/** The slot that a struct kvm_dirty_log asks for. Throws EFAULT for fewer than 16 bytes. [KX-MEM-35] */
export function decodeDirtyLog(bytes: Uint8Array): Required<SlotName> {
  return getName(structure(bytes, DIRTY_LOG_SIZE), DIRTY_LOG_SLOT);
}

/**
 * A struct kvm_dirty_log that asks for a slot of `pages` pages, with room for the bitmap behind it, which is where
 * KVM_GET_DIRTY_LOG puts it: the pointer of the structure is not used.
 */
export function encodeDirtyLog(slot: SlotName, pages: number): Uint8Array {
  checkRange('the number of pages', pages, 0, 2 ** 31 - 1);
  return build(DIRTY_LOG_SIZE + bitmapBytes(pages), (view) => putName(view, DIRTY_LOG_SLOT, slot));
}

/** Bytes of a slot's bitmap: whole words of 64 bits. @internal */
export function bitmapBytes(pages: number): number {
  return Math.ceil(pages / 64) * 8;
}
