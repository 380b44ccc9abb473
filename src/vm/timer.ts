// The single-shot timer of a vCPU, VIRQ_TIMER. [kvm-xen 8.3]
import type { Row } from './attribute_row.ts';
import type { TimerAttr } from './attributes.ts';
import type { Vcpu } from './vcpu.ts';

/** @internal */
export const TIMER_ROW: Row<Vcpu, TimerAttr> = {
  validate: () => {},
  set: () => {},
  get: () => ({ type: 'timer', port: 0, priority: -1, expires: 0n }),
};
