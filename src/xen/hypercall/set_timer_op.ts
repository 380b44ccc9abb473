// set_timer_op: the single-shot timer by one number. [XE-BP-53]

import { startTimer, stopTimer } from '../../vm/time/timer.ts';
import { type Handler, uint } from './call.ts';

/** @internal */
export const setTimerOp: Handler = ({ vcpu, long, params }) => {
  // A 32-bit caller passes the low half, then the high one.
  const expires = long ? params[0] : BigInt(uint(params[0])) | (BigInt(uint(params[1])) << 32n);
  if (expires === 0n) stopTimer(vcpu);
  else startTimer(vcpu, expires, true);
  return 0;
};
