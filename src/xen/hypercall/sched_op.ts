// sched_op: what a vCPU does while it has nothing to do, and how a domain ends. [XE-BP-01..06]

import { EPERM, ESRCH } from '../../abi/errno.ts';
import { SCHEDOP_POLL, SCHEDOP_YIELD } from '../../abi/hypercall.ts';
import {
  SCHED_REMOTE_SHUTDOWN_DOMID,
  SCHED_REMOTE_SHUTDOWN_REASON,
  SCHED_REMOTE_SHUTDOWN_SIZE,
  SCHED_SHUTDOWN_REASON,
  SCHED_SHUTDOWN_SIZE,
  SCHED_WATCHDOG_ID,
  SCHED_WATCHDOG_SIZE,
  SCHED_WATCHDOG_TIMEOUT,
  SCHEDOP_BLOCK,
  SCHEDOP_PIN_OVERRIDE,
  SCHEDOP_REMOTE_SHUTDOWN,
  SCHEDOP_SHUTDOWN,
  SCHEDOP_SHUTDOWN_CODE,
  SCHEDOP_WATCHDOG,
} from '../../abi/xen_hypercall.ts';
import { type Answer, type Call, commands, type Handler, withArgument } from './call.ts';
import { canTakeUpcall, schedPoll } from './sched_poll.ts';

/** @internal */
export const schedOp: Handler = commands({
  // A hint to run somebody else first; who runs is the embedder's business.
  [SCHEDOP_YIELD]: () => 0,
  [SCHEDOP_BLOCK]: block,
  [SCHEDOP_SHUTDOWN]: shutdown,
  [SCHEDOP_POLL]: schedPoll,
  [SCHEDOP_REMOTE_SHUTDOWN]: remoteShutdown,
  [SCHEDOP_SHUTDOWN_CODE]: shutdownCode,
  [SCHEDOP_WATCHDOG]: watchdog,
  // The hardware domain's, which has processors to pin to.
  [SCHEDOP_PIN_OVERRIDE]: () => -EPERM,
});

/** Halts the vCPU unless it can take an upcall right now. [XE-BP-02] */
function block(call: Call): Answer {
  call.domain.hvm.unmaskUpcalls(call.vcpu);
  // After the byte is clear. On the other side: a sender sets the selector, then looks whether the vCPU sleeps.
  return canTakeUpcall(call) ? 0 : { deadline: null };
}

/** [XE-BP-03] */
function shutdown(call: Call): Answer {
  return withArgument(call, call.params[1], SCHED_SHUTDOWN_SIZE, (argument) => {
    call.domain.hvm.shutdown(argument.getUint8(SCHED_SHUTDOWN_REASON));
    return 0;
  });
}

/** Says what the end of the domain will be put down to, without ending it. */
function shutdownCode(call: Call): Answer {
  return withArgument(call, call.params[1], SCHED_SHUTDOWN_SIZE, (argument) => {
    call.domain.hvm.setShutdownCode(argument.getUint8(SCHED_SHUTDOWN_REASON));
    return 0;
  });
}

/** SELF is not an id here. */
function remoteShutdown(call: Call): Answer {
  return withArgument(call, call.params[1], SCHED_REMOTE_SHUTDOWN_SIZE, (argument) => {
    const target = call.domain.xen.find(argument.getUint16(SCHED_REMOTE_SHUTDOWN_DOMID, true));
    if (!target) return -ESRCH;
    if (!call.domain.privileged) return -EPERM;
    target.hvm.shutdown(argument.getUint8(SCHED_REMOTE_SHUTDOWN_REASON));
    return 0;
  });
}

/** [XE-BP-04] */
function watchdog(call: Call): Answer {
  return withArgument(call, call.params[1], SCHED_WATCHDOG_SIZE, (argument) =>
    call.domain.hvm.watchdogs.set(
      argument.getUint32(SCHED_WATCHDOG_ID, true),
      argument.getUint32(SCHED_WATCHDOG_TIMEOUT, true),
    ),
  );
}
