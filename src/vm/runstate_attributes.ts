// RUNSTATE_CURRENT, RUNSTATE_DATA and RUNSTATE_ADJUST: what a VMM says about a vCPU's runstate. [KX-VCA-07..10]
import { EvtchnError } from '../errors.ts';
import type { Row } from './attribute_row.ts';
import type { RunstateAdjustAttr, RunstateCurrentAttr, RunstateDataAttr } from './attributes.ts';
import type { Vcpu } from './vcpu.ts';

/** @internal */
export const RUNSTATE_CURRENT_ROW: Row<Vcpu, RunstateCurrentAttr> = {
  validate: () => {},
  set: () => {},
  get: () => ({ type: 'runstate_current', state: 'running' }),
};

/** @internal */
export const RUNSTATE_DATA_ROW: Row<Vcpu, RunstateDataAttr> = {
  validate: () => {},
  set: () => {},
  get: () => ({
    type: 'runstate_data',
    state: 'running',
    entryTime: 0n,
    times: { running: 0n, runnable: 0n, blocked: 0n, offline: 0n },
  }),
};

/** @internal */
export const RUNSTATE_ADJUST_ROW: Row<Vcpu, RunstateAdjustAttr> = {
  validate: () => {},
  set: () => {},
  get: () => {
    throw new EvtchnError('EINVAL', 'runstate_adjust cannot be read');
  },
};
