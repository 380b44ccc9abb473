// memory_op: where pages of the hypervisor's go in the guest's memory. Ballooning and the like are the embedder's. [XE-QE-45]

import { EFAULT, EINVAL, ENOSYS, EPERM, ESRCH } from '../../abi/errno.ts';
import { WORD_BYTES_COMPAT, WORD_BYTES_LONG } from '../../abi/shared_info.ts';
import {
  ADD_BATCH_COUNT,
  ADD_BATCH_DOMID,
  ADD_BATCH_POINTERS,
  ADD_BATCH_SIZE_COMPAT,
  ADD_BATCH_SIZE_LONG,
  ADD_BATCH_SPACE,
  ADD_TO_PHYSMAP_DOMID,
  ADD_TO_PHYSMAP_GPFN_COMPAT,
  ADD_TO_PHYSMAP_GPFN_LONG,
  ADD_TO_PHYSMAP_IDX,
  ADD_TO_PHYSMAP_SIZE_COMPAT,
  ADD_TO_PHYSMAP_SIZE_LONG,
  ADD_TO_PHYSMAP_SPACE,
  MEMOP_CMD_BITS,
  XENMAPSPACE_GRANT_TABLE,
  XENMAPSPACE_SHARED_INFO,
  XENMEM_ADD_TO_PHYSMAP,
  XENMEM_ADD_TO_PHYSMAP_BATCH,
} from '../../abi/xen_hypercall.ts';
import type { Domain } from '../domain.ts';
import { canHoldSharedInfo } from '../shared_page.ts';
import { type Answer, type Call, copyIn, copyOut, type Handler, owners, uint, withArgument, word } from './call.ts';

const INT_SIZE = 4;

const addOne = owners(addToPhysmap);
const addMany = owners(addToPhysmapBatch);

/** @internal */
export const memoryOp: Handler = (call) => {
  switch (uint(call.params[0]) & MEMOP_CMD_BITS) {
    case XENMEM_ADD_TO_PHYSMAP:
      return addOne(call);
    case XENMEM_ADD_TO_PHYSMAP_BATCH:
      return addMany(call);
    default:
      return null;
  }
};

function addToPhysmap(call: Call): Answer {
  const { long } = call;
  return withArgument(
    call,
    call.params[1],
    long ? ADD_TO_PHYSMAP_SIZE_LONG : ADD_TO_PHYSMAP_SIZE_COMPAT,
    (argument) => {
      const target = whose(call, argument.getUint16(ADD_TO_PHYSMAP_DOMID, true));
      if (typeof target === 'number') return target;
      const frameAt = long ? ADD_TO_PHYSMAP_GPFN_LONG : ADD_TO_PHYSMAP_GPFN_COMPAT;
      return add(target, {
        space: argument.getUint32(ADD_TO_PHYSMAP_SPACE, true),
        index: Number(word(argument, ADD_TO_PHYSMAP_IDX, long)),
        frame: Number(word(argument, frameAt, long)),
      });
    },
  );
}

/** Several of one space; each has an error of its own. Ends early at an index, frame or error that cannot be reached. */
function addToPhysmapBatch(call: Call): Answer {
  const { long } = call;
  return withArgument(call, call.params[1], long ? ADD_BATCH_SIZE_LONG : ADD_BATCH_SIZE_COMPAT, (argument) => {
    const target = whose(call, argument.getUint16(ADD_BATCH_DOMID, true));
    if (typeof target === 'number') return target;
    const batch = new Batch(call, target, argument);
    const count = argument.getUint16(ADD_BATCH_COUNT, true);
    let reached = true;
    for (let from = 0; from < count && reached; from += BATCH_PART) {
      reached = batch.add(from, Math.min(BATCH_PART, count - from));
    }
    return batch.finish() || (reached ? 0 : -EFAULT);
  });
}

/** Entries that are copied from and to the guest at once. */
const BATCH_PART = 64;

/** A batch on its way. A guest may ask for 65535 places of one page: they are all checked, and it goes to the last. [KF-42] */
class Batch {
  readonly #call: Call;
  readonly #target: Domain;
  readonly #space: number;
  readonly #wordBytes: number;
  readonly #pointers: readonly bigint[];
  #sharedInfo: number | null = null;

  constructor(call: Call, target: Domain, argument: DataView) {
    this.#call = call;
    this.#target = target;
    this.#space = argument.getUint16(ADD_BATCH_SPACE, true);
    this.#wordBytes = call.long ? WORD_BYTES_LONG : WORD_BYTES_COMPAT;
    this.#pointers = [0, 1, 2].map((i) => word(argument, ADD_BATCH_POINTERS + i * this.#wordBytes, call.long));
  }

  /** @returns false when an entry or its error cannot be reached: those before it are done */
  add(from: number, count: number): boolean {
    const [indices, frames] = [this.#words(0, from, count), this.#words(1, from, count)];
    if (indices === null || frames === null) return this.#addSingly(from, count);
    const errors = new DataView(new ArrayBuffer(count * INT_SIZE));
    for (let i = 0; i < count; i++) {
      errors.setInt32(i * INT_SIZE, this.#addOne(this.#wordOf(indices, i), this.#wordOf(frames, i)), true);
    }
    const at = (this.#pointers[2] ?? 0n) + BigInt(from * INT_SIZE);
    return copyOut(this.#call, at, errors) === 0;
  }

  /** shared_info goes where it was asked for last. @returns 0, or a negative errno */
  finish(): number {
    return this.#sharedInfo === null ? 0 : this.#target.hvm.placeSharedInfo(this.#sharedInfo);
  }

  #addSingly(from: number, count: number): boolean {
    if (count === 1) return false;
    for (let i = 0; i < count; i++) if (!this.add(from + i, 1)) return false;
    return true;
  }

  #addOne(index: number, frame: number): number {
    if (this.#space !== XENMAPSPACE_SHARED_INFO) return add(this.#target, { space: this.#space, index, frame });
    if (index !== 0 || !canHoldSharedInfo(this.#target.vm, frame)) return -EINVAL;
    this.#sharedInfo = frame;
    return 0;
  }

  #words(list: number, from: number, count: number): DataView | null {
    const at = (this.#pointers[list] ?? 0n) + BigInt(from * this.#wordBytes);
    return copyIn(this.#call, at, count * this.#wordBytes);
  }

  #wordOf(words: DataView, i: number): number {
    return Number(word(words, i * this.#wordBytes, this.#call.long));
  }
}

function whose({ domain }: Call, domid: number): Domain | number {
  const target = domain.resolve(domid);
  if (!target) return -ESRCH;
  if (!domain.mayActOn(target)) return -EPERM;
  // The host is no HVM guest.
  return target === 'host' ? -EINVAL : target;
}

function add(target: Domain, { space, index, frame }: { space: number; index: number; frame: number }): number {
  if (space === XENMAPSPACE_SHARED_INFO) {
    if (index !== 0) return -EINVAL;
    return target.hvm.placeSharedInfo(frame);
  }
  if (space !== XENMAPSPACE_GRANT_TABLE) return -ENOSYS;
  return target.hvm.hooks.onGrantFrame?.(index, frame) ?? -ENOSYS;
}
