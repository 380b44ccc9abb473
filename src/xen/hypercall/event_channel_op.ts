// event_channel_op: the argument structures of the port operations. What they do is in ../evtchn.ts. [XE-OP-01..03]

import { ENOSYS, ENXIO } from '../../abi/errno.ts';
import { EVENT_LINK_WIDTH } from '../../abi/fifo.ts';
import { EVTCHN_SEND_PORT, EVTCHN_SEND_SIZE, EVTCHNOP_SEND } from '../../abi/hypercall.ts';
import {
  EVTCHN_ALLOC_UNBOUND_DOM,
  EVTCHN_ALLOC_UNBOUND_PORT,
  EVTCHN_ALLOC_UNBOUND_REMOTE_DOM,
  EVTCHN_ALLOC_UNBOUND_SIZE,
  EVTCHN_BIND_INTERDOMAIN_LOCAL_PORT,
  EVTCHN_BIND_INTERDOMAIN_REMOTE_DOM,
  EVTCHN_BIND_INTERDOMAIN_REMOTE_PORT,
  EVTCHN_BIND_INTERDOMAIN_SIZE,
  EVTCHN_BIND_IPI_PORT,
  EVTCHN_BIND_IPI_SIZE,
  EVTCHN_BIND_IPI_VCPU,
  EVTCHN_BIND_PIRQ_FLAGS,
  EVTCHN_BIND_PIRQ_PIRQ,
  EVTCHN_BIND_PIRQ_PORT,
  EVTCHN_BIND_PIRQ_SIZE,
  EVTCHN_BIND_VCPU_PORT,
  EVTCHN_BIND_VCPU_SIZE,
  EVTCHN_BIND_VCPU_VCPU,
  EVTCHN_BIND_VIRQ_PORT,
  EVTCHN_BIND_VIRQ_SIZE,
  EVTCHN_BIND_VIRQ_VCPU,
  EVTCHN_BIND_VIRQ_VIRQ,
  EVTCHN_CLOSE_PORT,
  EVTCHN_CLOSE_SIZE,
  EVTCHN_EXPAND_ARRAY_GFN,
  EVTCHN_EXPAND_ARRAY_SIZE,
  EVTCHN_INIT_CONTROL_GFN,
  EVTCHN_INIT_CONTROL_LINK_BITS,
  EVTCHN_INIT_CONTROL_OFFSET,
  EVTCHN_INIT_CONTROL_SIZE,
  EVTCHN_INIT_CONTROL_VCPU,
  EVTCHN_RESET_DOM,
  EVTCHN_RESET_SIZE,
  EVTCHN_SET_PRIORITY_PORT,
  EVTCHN_SET_PRIORITY_PRIORITY,
  EVTCHN_SET_PRIORITY_SIZE,
  EVTCHN_STATUS_DOM,
  EVTCHN_STATUS_PEER_DOM,
  EVTCHN_STATUS_PEER_PORT,
  EVTCHN_STATUS_PIRQ,
  EVTCHN_STATUS_PORT,
  EVTCHN_STATUS_SIZE,
  EVTCHN_STATUS_STATUS,
  EVTCHN_STATUS_VCPU,
  EVTCHN_STATUS_VIRQ,
  EVTCHN_UNMASK_PORT,
  EVTCHN_UNMASK_SIZE,
  EVTCHNOP_ALLOC_UNBOUND,
  EVTCHNOP_BIND_INTERDOMAIN,
  EVTCHNOP_BIND_IPI,
  EVTCHNOP_BIND_PIRQ,
  EVTCHNOP_BIND_VCPU,
  EVTCHNOP_BIND_VIRQ,
  EVTCHNOP_CLOSE,
  EVTCHNOP_EXPAND_ARRAY,
  EVTCHNOP_INIT_CONTROL,
  EVTCHNOP_RESET,
  EVTCHNOP_RESET_CONT,
  EVTCHNOP_SET_PRIORITY,
  EVTCHNOP_STATUS,
  EVTCHNOP_UNMASK,
} from '../../abi/xen_evtchn.ts';
import type { Evtchn, EvtchnStatus } from '../evtchn.ts';
import {
  type Answer,
  type Call,
  commands,
  type Handler,
  inAndOut,
  OWNERS,
  owners,
  wide,
  withArgument,
} from './call.ts';

/** What EVTCHNOP_status calls a state. [XE-MOD-04] */
const STATUS: Readonly<Record<EvtchnStatus['status'], number>> = {
  closed: 0,
  unbound: 1,
  interdomain: 2,
  pirq: 3,
  virq: 4,
  ipi: 5,
};

/** An operation that only reads its structure. */
function takes(size: number, run: (evtchn: Evtchn, argument: DataView) => number): Handler {
  return (call) => withArgument(call, call.params[1], size, (argument) => run(call.domain.evtchn, argument));
}

/** An operation that makes a port, whose number goes into the structure. */
function makes(size: number, portAt: number, run: (evtchn: Evtchn, argument: DataView) => number): Handler {
  return (call) =>
    inAndOut(call, call.params[1], size, (argument) => {
      const port = run(call.domain.evtchn, argument);
      if (port < 0) return port;
      argument.setUint32(portAt, port, true);
      return 0;
    });
}

/** Code on the host, and domains that this thread has no view of, are the owner's to reach. */
function send(call: Call): Answer {
  const { evtchn, vm } = call.domain;
  const result = withArgument(call, call.params[1], EVTCHN_SEND_SIZE, (argument) =>
    evtchn.send(u32(argument, EVTCHN_SEND_PORT)),
  );
  return result === -ENXIO && !vm.owner ? OWNERS : result;
}

const u16 = (view: DataView, at: number): number => view.getUint16(at, true);
const u32 = (view: DataView, at: number): number => view.getUint32(at, true);

/** @internal */
export const eventChannelOp: Handler = commands({
  [EVTCHNOP_BIND_INTERDOMAIN]: owners(
    makes(EVTCHN_BIND_INTERDOMAIN_SIZE, EVTCHN_BIND_INTERDOMAIN_LOCAL_PORT, (evtchn, argument) =>
      evtchn.bindInterdomain({
        remoteDom: u16(argument, EVTCHN_BIND_INTERDOMAIN_REMOTE_DOM),
        remotePort: u32(argument, EVTCHN_BIND_INTERDOMAIN_REMOTE_PORT),
      }),
    ),
  ),
  [EVTCHNOP_BIND_VIRQ]: owners(
    makes(EVTCHN_BIND_VIRQ_SIZE, EVTCHN_BIND_VIRQ_PORT, (evtchn, argument) =>
      evtchn.bindVirq({ virq: u32(argument, EVTCHN_BIND_VIRQ_VIRQ), vcpu: u32(argument, EVTCHN_BIND_VIRQ_VCPU) }),
    ),
  ),
  [EVTCHNOP_BIND_PIRQ]: owners(
    makes(EVTCHN_BIND_PIRQ_SIZE, EVTCHN_BIND_PIRQ_PORT, (evtchn, argument) =>
      evtchn.bindPirq({ pirq: u32(argument, EVTCHN_BIND_PIRQ_PIRQ), flags: u32(argument, EVTCHN_BIND_PIRQ_FLAGS) }),
    ),
  ),
  [EVTCHNOP_CLOSE]: owners(
    takes(EVTCHN_CLOSE_SIZE, (evtchn, argument) => evtchn.close(u32(argument, EVTCHN_CLOSE_PORT))),
  ),
  [EVTCHNOP_SEND]: send,
  [EVTCHNOP_STATUS]: status,
  [EVTCHNOP_ALLOC_UNBOUND]: owners(
    makes(EVTCHN_ALLOC_UNBOUND_SIZE, EVTCHN_ALLOC_UNBOUND_PORT, (evtchn, argument) =>
      evtchn.allocUnbound({
        dom: u16(argument, EVTCHN_ALLOC_UNBOUND_DOM),
        remoteDom: u16(argument, EVTCHN_ALLOC_UNBOUND_REMOTE_DOM),
      }),
    ),
  ),
  [EVTCHNOP_BIND_IPI]: owners(
    makes(EVTCHN_BIND_IPI_SIZE, EVTCHN_BIND_IPI_PORT, (evtchn, argument) =>
      evtchn.bindIpi({ vcpu: u32(argument, EVTCHN_BIND_IPI_VCPU) }),
    ),
  ),
  [EVTCHNOP_BIND_VCPU]: owners(
    takes(EVTCHN_BIND_VCPU_SIZE, (evtchn, argument) =>
      evtchn.bindVcpu({ port: u32(argument, EVTCHN_BIND_VCPU_PORT), vcpu: u32(argument, EVTCHN_BIND_VCPU_VCPU) }),
    ),
  ),
  [EVTCHNOP_UNMASK]: takes(EVTCHN_UNMASK_SIZE, (evtchn, argument) => evtchn.unmask(u32(argument, EVTCHN_UNMASK_PORT))),
  [EVTCHNOP_RESET]: owners(
    takes(EVTCHN_RESET_SIZE, (evtchn, argument) => evtchn.reset({ dom: u16(argument, EVTCHN_RESET_DOM) })),
  ),
  [EVTCHNOP_RESET_CONT]: owners(
    takes(EVTCHN_RESET_SIZE, (evtchn, argument) => evtchn.resetContinue({ dom: u16(argument, EVTCHN_RESET_DOM) })),
  ),
  [EVTCHNOP_INIT_CONTROL]: owners(initControl),
  [EVTCHNOP_EXPAND_ARRAY]: owners(
    takes(EVTCHN_EXPAND_ARRAY_SIZE, (evtchn, argument) =>
      evtchn.expandArray({ arrayGfn: wide(argument, EVTCHN_EXPAND_ARRAY_GFN) }),
    ),
  ),
  [EVTCHNOP_SET_PRIORITY]: owners(
    takes(EVTCHN_SET_PRIORITY_SIZE, (evtchn, argument) =>
      evtchn.setPriority({
        port: u32(argument, EVTCHN_SET_PRIORITY_PORT),
        priority: u32(argument, EVTCHN_SET_PRIORITY_PRIORITY),
      }),
    ),
  ),
});

/** The form from before Xen 3.2: HVM guests never had it. [XE-OP-01] @internal */
export const eventChannelOpCompat: Handler = () => -ENOSYS;

/** [XE-OP-80] */
function status(call: Call): number {
  return inAndOut(call, call.params[1], EVTCHN_STATUS_SIZE, (argument) => {
    const found = call.domain.evtchn.status({
      dom: u16(argument, EVTCHN_STATUS_DOM),
      port: u32(argument, EVTCHN_STATUS_PORT),
    });
    if (typeof found === 'number') return found;
    fillStatus(argument, found);
    return 0;
  });
}

/** What a state says nothing of stays as the guest has passed it. */
function fillStatus(argument: DataView, found: EvtchnStatus): void {
  argument.setUint32(EVTCHN_STATUS_STATUS, STATUS[found.status], true);
  argument.setUint32(EVTCHN_STATUS_VCPU, found.vcpu, true);
  if (found.status === 'unbound') argument.setUint16(EVTCHN_STATUS_PEER_DOM, found.dom, true);
  if (found.status === 'interdomain') {
    argument.setUint16(EVTCHN_STATUS_PEER_DOM, found.dom, true);
    argument.setUint32(EVTCHN_STATUS_PEER_PORT, found.port, true);
  }
  if (found.status === 'pirq') argument.setUint32(EVTCHN_STATUS_PIRQ, found.pirq, true);
  if (found.status === 'virq') argument.setUint32(EVTCHN_STATUS_VIRQ, found.virq, true);
}

/** [XE-OP-120] */
function initControl(call: Call): number {
  return inAndOut(call, call.params[1], EVTCHN_INIT_CONTROL_SIZE, (argument) => {
    const result = call.domain.evtchn.initControl({
      controlGfn: wide(argument, EVTCHN_INIT_CONTROL_GFN),
      offset: u32(argument, EVTCHN_INIT_CONTROL_OFFSET),
      vcpu: u32(argument, EVTCHN_INIT_CONTROL_VCPU),
    });
    if (result >= 0) argument.setUint8(EVTCHN_INIT_CONTROL_LINK_BITS, EVENT_LINK_WIDTH);
    return Math.min(result, 0);
  });
}
