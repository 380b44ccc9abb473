// memory_op: where pages of the hypervisor's go in the guest's memory. Ballooning and the like are the embedder's. [XE-QE-45]

import { EFAULT, EINVAL, ENOSYS, EPERM, ESRCH } from '../../abi/errno.ts';
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
    const space = argument.getUint16(ADD_BATCH_SPACE, true);
    const count = argument.getUint16(ADD_BATCH_COUNT, true);
    const bytes = long ? 8 : 4;
    const [indices, frames, errors] = [0, 1, 2].map((i) => word(argument, ADD_BATCH_POINTERS + i * bytes, long));
    for (let i = 0; i < count; i++) {
      const at = (pointer = 0n, size = bytes): bigint => pointer + BigInt(i * size);
      const index = copyIn(call, at(indices), bytes);
      const frame = copyIn(call, at(frames), bytes);
      if (index === null || frame === null) return -EFAULT;
      const error = new DataView(new ArrayBuffer(INT_SIZE));
      const pair = { space, index: Number(word(index, 0, long)), frame: Number(word(frame, 0, long)) };
      error.setInt32(0, add(target, pair), true);
      if (copyOut(call, at(errors, INT_SIZE), error) < 0) return -EFAULT;
    }
    return 0;
  });
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
