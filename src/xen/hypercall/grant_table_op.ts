// grant_table_op: grant tables are not in the engine; the embedder's are asked. [XE-GT-05]

import type { Handler } from './call.ts';
import { uint } from './call.ts';

/** @internal */
export const grantTableOp: Handler = ({ domain, vcpu, cpu, long, params }) => {
  const { onGrantTableOp } = domain.hvm.hooks;
  if (!onGrantTableOp) return null;
  const call = { command: uint(params[0]), argument: params[1], count: uint(params[2]), longMode: long };
  return onGrantTableOp(call, cpu, vcpu) ?? null;
};
