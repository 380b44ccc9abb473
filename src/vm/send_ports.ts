// Outbound ports: what the guest rings by EVTCHNOP_send without leaving to the embedder. [kvm-xen 3.3, 3.4]
import type { Row } from './attribute_row.ts';
import type { EvtchnAttr } from './attributes.ts';
import type { Vm } from './vm.ts';

/** The send ports of a VM. */
export class SendPorts {
  readonly vm: Vm;

  /** @internal */
  constructor(vm: Vm) {
    this.vm = vm;
  }
}

/** @internal */
export const EVTCHN_ROW: Row<Vm, EvtchnAttr> = {
  validate: () => {},
  set: () => {},
  get: () => ({ type: 'evtchn', action: 'set', ports: [] }),
};
