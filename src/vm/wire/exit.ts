// struct kvm_xen_exit, how a hypercall comes to the embedder and its result back: pure. [KX-ABI-44, KX-HCL-14]

import {
  EXIT_XEN_HCALL,
  XEN_EXIT_CPL,
  XEN_EXIT_INPUT,
  XEN_EXIT_LONG_MODE,
  XEN_EXIT_PARAMS,
  XEN_EXIT_RESULT,
  XEN_EXIT_SIZE,
  XEN_EXIT_TYPE,
} from '../../abi/exit.ts';
import { EvtchnError } from '../../errors.ts';
import type { XenExit } from '../guest/hypercall.ts';
import { build, getU32, getU64, putU32, putU64, structure } from './structure.ts';

/** The structure of 80 bytes for a hypercall, with its `result` once there is one. Throws EINVAL for a value that does not fit. */
export function encodeXenExit({ longMode, cpl, input, params }: XenExit, result = 0n): Uint8Array {
  return build(XEN_EXIT_SIZE, (view) => {
    putU32(view, XEN_EXIT_TYPE, 'the type', EXIT_XEN_HCALL);
    putU32(view, XEN_EXIT_LONG_MODE, 'the mode', longMode ? 1 : 0);
    putU32(view, XEN_EXIT_CPL, 'the privilege level', cpl);
    putU64(view, XEN_EXIT_INPUT, 'the number of the hypercall', input);
    putU64(view, XEN_EXIT_RESULT, 'the result', result);
    params.forEach((param, i) => {
      putU64(view, XEN_EXIT_PARAMS + 8 * i, `parameter ${i}`, param);
    });
  });
}

/** Throws EFAULT for fewer than 80 bytes, EINVAL for an exit that is no hypercall. */
export function decodeXenExit(bytes: Uint8Array): XenExit & { readonly result: bigint } {
  const view = structure(bytes, XEN_EXIT_SIZE);
  const type = getU32(view, XEN_EXIT_TYPE);
  if (type !== EXIT_XEN_HCALL) throw new EvtchnError('EINVAL', `the exit has type ${type}, allowed is 1, a hypercall`);
  const param = (i: number): bigint => getU64(view, XEN_EXIT_PARAMS + 8 * i);
  return {
    longMode: getU32(view, XEN_EXIT_LONG_MODE) !== 0,
    cpl: getU32(view, XEN_EXIT_CPL),
    input: getU64(view, XEN_EXIT_INPUT),
    params: [param(0), param(1), param(2), param(3), param(4), param(5)],
    result: getU64(view, XEN_EXIT_RESULT),
  };
}
