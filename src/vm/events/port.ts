// What can be seen of a port.

import { FIFO_PORT_ENTRY, FIFO_PORT_LAST } from '../../abi/fifo.ts';
import { PORT_BOUND, PORT_TABLE, PORT_VCPU_BITS } from '../../abi/region.ts';
import { checkRange, EvtchnError, errnoName } from '../../errors.ts';
import { fifoPort, priorityOf } from '../fifo/records.ts';
import type { Vm } from '../vm.ts';

/** A port at one moment. */
export interface PortStatus {
  /** the vCPU it is bound to, or 0 */
  readonly vcpu: number;
  /** whether it is bound; else its upcall goes to the vCPU that an event names, to vCPU 0 when it names none */
  readonly bound: boolean;
  readonly pending: boolean;
  readonly masked: boolean;
  /** its word's bit in that vCPU's selector */
  readonly selected: boolean;
  /** that vCPU is being asked for an upcall */
  readonly upcallPending: boolean;
  /** its word's bit waits on our side for vcpu_info to come back */
  readonly shadowed: boolean;
  readonly vcpuInfoMapped: boolean;
  /** what there is more under the FIFO ABI, where `selected` is the ready bit of its queue; undefined under the 2-level one */
  readonly fifo?: FifoPortStatus;
}

/** A port under the FIFO ABI. */
export interface FifoPortStatus {
  /** it is in a queue, or the guest says so */
  readonly linked: boolean;
  /** the sender is about to write its link */
  readonly busy: boolean;
  /** 0..15 from its next link on, 0 is served first */
  readonly priority: number;
  /** the queue it is in, or was in last */
  readonly queue: { readonly vcpu: number; readonly priority: number };
  /** there is a page of event words for it; else it counts as masked, and what is raised is saved until there is */
  readonly hasWord: boolean;
  /** the vCPU of its queue has a control block that is mapped */
  readonly hasControlBlock: boolean;
  /** raised before there was a word for it */
  readonly saved: boolean;
}

/** @internal */
export function portStatus(vm: Vm, port: number): PortStatus {
  vm.checkOpen();
  checkRange('the port', port, 1, vm.maxPorts - 1);
  const bits = vm.retry(() => vm.kernel.portStatus(vm.vmBase, vm.agent, port));
  if (bits < 0) {
    throw new EvtchnError(errnoName(bits) ?? 'EAGAIN', 'shared_info is not registered or cannot be reached');
  }
  const { words, fifoActive } = vm.region;
  const record = fifoActive ? fifoPort(vm.region, port) : 0;
  const entry = words.load(fifoActive ? record + FIFO_PORT_ENTRY : vm.vmBase + PORT_TABLE + 4 * port);
  return {
    vcpu: entry & PORT_VCPU_BITS,
    bound: (entry & PORT_BOUND) !== 0,
    pending: (bits & 1) !== 0,
    masked: (bits & 2) !== 0,
    selected: (bits & 4) !== 0,
    upcallPending: (bits & 8) !== 0,
    shadowed: (bits & 16) !== 0,
    vcpuInfoMapped: (bits & 32) !== 0,
    ...(fifoActive && { fifo: fifoStatus(bits, entry, words.load(record + FIFO_PORT_LAST)) }),
  };
}

function fifoStatus(bits: number, entry: number, last: number): FifoPortStatus {
  return {
    linked: (bits & 64) !== 0,
    busy: (bits & 128) !== 0,
    priority: priorityOf(entry),
    queue: { vcpu: last & PORT_VCPU_BITS, priority: priorityOf(last) },
    hasWord: (bits & 256) !== 0,
    hasControlBlock: (bits & 512) !== 0,
    saved: (bits & 1024) !== 0,
  };
}
