// The EVTCHN attribute as a structure: the send port, what it is, what shall happen to it, and what it raises. [KX-ABI-41, KX-EVA-01..13]

import {
  ATTR_EVTCHN_FD,
  ATTR_EVTCHN_FLAGS,
  ATTR_EVTCHN_PORT,
  ATTR_EVTCHN_PRIORITY,
  ATTR_EVTCHN_SEND_PORT,
  ATTR_EVTCHN_TYPE,
  ATTR_EVTCHN_VCPU,
  EVTCHN_ASSIGN,
  EVTCHN_DEASSIGN,
  EVTCHN_RESET,
  EVTCHN_UPDATE,
  EVTCHNSTAT_INTERDOMAIN,
  EVTCHNSTAT_IPI,
  HVM_ATTR_EVTCHN,
  PRIORITY_2LEVEL,
} from '../../abi/attribute.ts';
import { EvtchnError } from '../../errors.ts';
import type { EvtchnAttr, EvtchnTarget, SendPort } from '../attributes.ts';
import { getU32, putI32, putU32 } from './structure.ts';

/** An enumeration, no mask: 3 is nothing. [KX-EVA-01] */
function actionOf(flags: number): 'assign' | 'deassign' | 'update' | 'reset' {
  if (flags === EVTCHN_ASSIGN) return 'assign';
  if (flags === EVTCHN_DEASSIGN) return 'deassign';
  if (flags === EVTCHN_UPDATE) return 'update';
  if (flags === EVTCHN_RESET) return 'reset';
  throw new EvtchnError('EINVAL', `the flags of an event channel are ${flags}, allowed are 0, 1, 2 and 4`);
}

function channelOf(type: number): SendPort['channel'] {
  if (type === EVTCHNSTAT_IPI) return 'ipi';
  if (type === EVTCHNSTAT_INTERDOMAIN) return 'interdomain';
  throw new EvtchnError('EINVAL', `the event channel's type is ${type}, allowed are 2, interdomain, and 5, IPI`);
}

/** Port 0 means an eventfd, but an IPI has none: its port has to be its own. [KX-EVA-07..09] */
function targetOf(view: DataView, channel: SendPort['channel']): EvtchnTarget {
  const port = getU32(view, ATTR_EVTCHN_PORT);
  if (port === 0 && channel === 'interdomain') return { eventfd: view.getInt32(ATTR_EVTCHN_FD, true) };
  return { port, vcpu: getU32(view, ATTR_EVTCHN_VCPU), priority: view.getInt32(ATTR_EVTCHN_PRIORITY, true) };
}

function putTarget(view: DataView, target: EvtchnTarget): void {
  if ('eventfd' in target) {
    putI32(view, ATTR_EVTCHN_FD, 'the eventfd', target.eventfd);
    return;
  }
  putU32(view, ATTR_EVTCHN_PORT, 'the port to raise', target.port);
  putU32(view, ATTR_EVTCHN_VCPU, "KVM's id of the vCPU", target.vcpu);
  putI32(view, ATTR_EVTCHN_PRIORITY, 'the priority', target.priority ?? PRIORITY_2LEVEL);
}

const FLAGS = { assign: EVTCHN_ASSIGN, deassign: EVTCHN_DEASSIGN, update: EVTCHN_UPDATE, reset: EVTCHN_RESET };
const TYPES = { ipi: EVTCHNSTAT_IPI, interdomain: EVTCHNSTAT_INTERDOMAIN };

/** @internal */
export const EVTCHN_CODEC = {
  number: HVM_ATTR_EVTCHN,

  /** The range of the ports and whether there are such things is looked at where the attribute is set. */
  decode: (view: DataView): EvtchnAttr => {
    const action = actionOf(getU32(view, ATTR_EVTCHN_FLAGS));
    if (action === 'reset') return { type: 'evtchn', action };
    const sendPort = getU32(view, ATTR_EVTCHN_SEND_PORT);
    if (action === 'deassign') return { type: 'evtchn', action, sendPort };
    const channel = channelOf(getU32(view, ATTR_EVTCHN_TYPE));
    return { type: 'evtchn', action, sendPort, channel, target: targetOf(view, channel) };
  },

  encode: (view: DataView, attr: EvtchnAttr): void => {
    if (attr.action === 'set') {
      throw new EvtchnError('EINVAL', 'setting all send ports at once has no structure in the kernel interface');
    }
    putU32(view, ATTR_EVTCHN_FLAGS, 'the flags', FLAGS[attr.action]);
    if (attr.action === 'reset') return;
    putU32(view, ATTR_EVTCHN_SEND_PORT, 'the send port', attr.sendPort);
    if (attr.action === 'deassign') return;
    putU32(view, ATTR_EVTCHN_TYPE, 'the type', TYPES[attr.channel]);
    putTarget(view, attr.target);
  },
};
