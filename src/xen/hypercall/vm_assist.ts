// vm_assist: what a guest may switch on for itself; of all of it only the runstate update marker is for HVM guests. [XE-BP-54]

import { EINVAL } from '../../abi/errno.ts';
import { VM_SCHED_INFO } from '../../abi/region.ts';
import { VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_RUNSTATE_UPDATE_FLAG } from '../../abi/xen_hypercall.ts';
import { type Handler, owners, uint } from './call.ts';

/** @internal */
export const vmAssist: Handler = owners(({ domain, params }) => {
  const [command, type] = [uint(params[0]), uint(params[1])];
  if (type !== VMASST_TYPE_RUNSTATE_UPDATE_FLAG) return -EINVAL;
  if (command !== VMASST_CMD_ENABLE && command !== VMASST_CMD_DISABLE) return null;
  // Without runstate there is nothing to mark.
  if (!domain.vm.region.has(VM_SCHED_INFO)) return -EINVAL;
  domain.vm.setAttr({ type: 'runstate_update_flag', enabled: command === VMASST_CMD_ENABLE });
  return 0;
});
