// From the 2-level ABI to the FIFO one, and back without losing an event. [XE-OP-121, XE-OP-122, XE-OP-111]

import { EVENT_WORDS_PER_PAGE, FIFO_PARKED } from '../../abi/fifo.ts';
import { AGENT_PLANE_SIZE, AGENT_PLANE0, GPC_ACTIVE } from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { whileParked } from './parked.ts';
import { mapFifo } from './retry.ts';

/** The FIFO ABI is in force from here on, with no page of event words yet: what is pending is saved until there is one. @internal */
export function enterFifo(vm: Vm): void {
  const { kernel, vmBase, region } = vm;
  whileParked(vm, ({ sharedInfo }) => {
    kernel.fifoSave(vmBase, sharedInfo, Number(region.longMode));
    kernel.setFifo(vmBase, 1);
    return 0;
  });
  // Mapped if it can be: what was dropped for the change need not wait for the first send.
  mapFifo(vm);
}

/**
 * The 2-level ABI is in force from here on: PENDING and MASKED of each port are its bits, no queue has anything, no page of events is
 * mapped. Every vCPU is asked to look. `carries` says which ports have a pending bit to carry. Throws EINVAL or EFAULT when there is no
 * shared_info to carry them into. @internal
 */
export function leaveFifo(vm: Vm, carries: (port: number) => boolean, strict: boolean): void {
  const { kernel, vmBase, region, agent } = vm;
  // A bitmap in this agent's own scratch, for the kernel to read.
  const usable = agent + AGENT_PLANE0;
  try {
    for (let port = 1; port < vm.max2LevelPorts; port++) {
      if (carries(port)) region.words.or(usable + 4 * (port >> 5), 1 << (port & 31));
    }
    whileParked(vm, ({ sharedInfo, events }) => {
      if (sharedInfo === 0 && strict) {
        throw new EvtchnError(
          'EINVAL',
          'shared_info is not registered or cannot be reached: pending events have no place',
        );
      }
      if (sharedInfo !== 0) {
        const pages = Math.max(events.length, Math.ceil(vm.max2LevelPorts / EVENT_WORDS_PER_PAGE));
        for (let page = 0; page < pages; page++) {
          const first = page * EVENT_WORDS_PER_PAGE;
          const long = Number(region.longMode);
          kernel.fifoCarry(vmBase, sharedInfo, long, events[page] ?? 0, first, usable);
        }
      }
      for (const gpc of region.fifoGpcs()) region.words.store(gpc + GPC_ACTIVE, 0);
      kernel.setFifo(vmBase, 0);
      return FIFO_PARKED;
    });
  } finally {
    region.words.zero(usable, AGENT_PLANE_SIZE);
  }
  vm.gpcs.refresh(region.sharedInfo);
  for (let i = 0; i < vm.vcpus; i++) kernel.resync(vmBase, agent, i);
}
