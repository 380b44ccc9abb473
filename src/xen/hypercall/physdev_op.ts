// physdev_op: PIRQs of an HVM guest, where its domain has some. [XE-QE-31, XE-QE-32]

import { EINVAL, ESRCH } from '../../abi/errno.ts';
import {
  EOI_IRQ,
  EOI_SIZE,
  GET_FREE_PIRQ_PIRQ,
  GET_FREE_PIRQ_SIZE,
  GET_FREE_PIRQ_TYPE,
  IRQ_STATUS_FLAGS,
  IRQ_STATUS_IRQ,
  IRQ_STATUS_NEEDS_EOI,
  IRQ_STATUS_SIZE,
  MAP_PIRQ_DOMID,
  MAP_PIRQ_INDEX,
  MAP_PIRQ_PIRQ,
  MAP_PIRQ_SIZE_COMPAT,
  MAP_PIRQ_SIZE_LONG,
  MAP_PIRQ_TYPE,
  MAP_PIRQ_TYPE_GSI,
  PHYSDEVOP_EOI,
  PHYSDEVOP_GET_FREE_PIRQ,
  PHYSDEVOP_IRQ_STATUS_QUERY,
  PHYSDEVOP_MAP_PIRQ,
  PHYSDEVOP_UNMAP_PIRQ,
  UNMAP_PIRQ_DOMID,
  UNMAP_PIRQ_PIRQ,
  UNMAP_PIRQ_SIZE,
} from '../../abi/xen_hypercall.ts';
import { type Answer, type Call, commands, type Handler, inAndOut, owners, withArgument } from './call.ts';

const handlers: Handler = commands({
  [PHYSDEVOP_IRQ_STATUS_QUERY]: irqStatusQuery,
  [PHYSDEVOP_EOI]: endOfInterrupt,
  [PHYSDEVOP_MAP_PIRQ]: owners(mapPirq),
  [PHYSDEVOP_UNMAP_PIRQ]: owners(unmapPirq),
  [PHYSDEVOP_GET_FREE_PIRQ]: owners(getFreePirq),
});

/** A domain without PIRQs has none of it. @internal */
export const physdevOp: Handler = (call) => (call.domain.pirqs > 0 ? handlers(call) : null);

/** Every one has to be told of its end. [XE-QE-35] */
function irqStatusQuery(call: Call): Answer {
  return inAndOut(call, call.params[1], IRQ_STATUS_SIZE, (argument) => {
    if (!call.domain.hvm.pirqMap.isMapped(argument.getUint32(IRQ_STATUS_IRQ, true))) return -EINVAL;
    argument.setUint32(IRQ_STATUS_FLAGS, IRQ_STATUS_NEEDS_EOI, true);
    return 0;
  });
}

function endOfInterrupt(call: Call): Answer {
  const { lines, pirqMap } = call.domain.hvm;
  return withArgument(call, call.params[1], EOI_SIZE, (argument) => {
    const pirq = argument.getUint32(EOI_IRQ, true);
    if (!pirqMap.isMapped(pirq)) return -EINVAL;
    const gsi = pirqMap.gsiOf(pirq);
    if (gsi !== null) lines.endOfInterrupt(gsi);
    return 0;
  });
}

function mapPirq(call: Call): Answer {
  const { pirqMap } = call.domain.hvm;
  const size = call.long ? MAP_PIRQ_SIZE_LONG : MAP_PIRQ_SIZE_COMPAT;
  return inAndOut(call, call.params[1], size, (argument) => {
    if (!isCaller(call, argument.getUint16(MAP_PIRQ_DOMID, true))) return -ESRCH;
    if (argument.getInt32(MAP_PIRQ_TYPE, true) !== MAP_PIRQ_TYPE_GSI) return -EINVAL;
    const pirq = pirqMap.mapGsi(argument.getInt32(MAP_PIRQ_INDEX, true), argument.getInt32(MAP_PIRQ_PIRQ, true));
    if (pirq < 0) return pirq;
    argument.setInt32(MAP_PIRQ_PIRQ, pirq, true);
    return 0;
  });
}

function unmapPirq(call: Call): Answer {
  return withArgument(call, call.params[1], UNMAP_PIRQ_SIZE, (argument) => {
    if (!isCaller(call, argument.getUint16(UNMAP_PIRQ_DOMID, true))) return -ESRCH;
    return call.domain.hvm.pirqMap.unmap(argument.getInt32(UNMAP_PIRQ_PIRQ, true));
  });
}

function getFreePirq(call: Call): Answer {
  return inAndOut(call, call.params[1], GET_FREE_PIRQ_SIZE, (argument) => {
    const pirq = call.domain.hvm.pirqMap.reserve(argument.getInt32(GET_FREE_PIRQ_TYPE, true) === MAP_PIRQ_TYPE_GSI);
    if (pirq < 0) return pirq;
    argument.setUint32(GET_FREE_PIRQ_PIRQ, pirq, true);
    return 0;
  });
}

/** PIRQs of other domains are their own. */
function isCaller({ domain }: Call, domid: number): boolean {
  return domain.resolve(domid) === domain;
}
