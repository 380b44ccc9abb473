// SCHEDOP_poll with Xen's rules: an absolute timeout, and ports looked at one by one. [XE-BP-20..26]
// The protocol is that of src/vm/guest/sched_poll.ts; what differs is what is looked at before it, in which order. Dialect [KF-76].

import { EAGAIN, EFAULT, EINVAL } from '../../abi/errno.ts';
import {
  SCHED_POLL_MAX_PORTS,
  SCHED_POLL_NR_PORTS_COMPAT,
  SCHED_POLL_NR_PORTS_LONG,
  SCHED_POLL_PORTS,
  SCHED_POLL_SIZE_COMPAT,
  SCHED_POLL_SIZE_LONG,
  SCHED_POLL_TIMEOUT_COMPAT,
  SCHED_POLL_TIMEOUT_LONG,
} from '../../abi/hypercall.ts';
import { AGENT_POLL_LIST } from '../../abi/region.ts';
import { beginPoll } from '../../vm/guest/sched_poll.ts';
import { deadlineAfter } from '../../vm/time/timer.ts';
import { type Answer, type Call, copyIn, withArgument, word } from './call.ts';

const PORT_SIZE = 4;

/** What became of a look at the ports that a poll names. */
type Ports =
  /** none of them is pending, and all may be waited for */
  | DataView
  /** the poll's answer */
  | number;

/** @internal */
export function schedPoll(call: Call): Answer {
  const { long } = call;
  if (call.domain.dialect.pollYields) return 0;
  return withArgument(call, call.params[1], long ? SCHED_POLL_SIZE_LONG : SCHED_POLL_SIZE_COMPAT, (argument) => {
    const count = argument.getUint32(long ? SCHED_POLL_NR_PORTS_LONG : SCHED_POLL_NR_PORTS_COMPAT, true);
    if (count > SCHED_POLL_MAX_PORTS) return -EINVAL;
    const timeout = argument.getBigUint64(long ? SCHED_POLL_TIMEOUT_LONG : SCHED_POLL_TIMEOUT_COMPAT, true);
    return poll(call, word(argument, SCHED_POLL_PORTS, long), count, timeout);
  });
}

function poll(call: Call, list: bigint, count: number, timeout: bigint): Answer {
  // Before the ports are looked at: what can be taken anyway ends the poll, whatever they are. [XE-BP-21]
  if (canTakeUpcall(call)) return 0;
  const ports = lookAt(call, list, count);
  if (typeof ports === 'number') return ports;
  const left = timeout === 0n ? null : BigInt.asIntN(64, timeout) - call.domain.vm.kvmclock.now();
  if (left !== null && left <= 0n) return 0;
  // Announces, and looks again: an event that came since is seen.
  return beginPoll(call.vcpu, ports, (now) => (left === null ? null : deadlineAfter(now, left)));
}

/** Goes through the ports in their order, up to the first that decides. */
function lookAt(call: Call, list: bigint, count: number): Ports {
  const ports: DataView = new DataView(new ArrayBuffer(count * PORT_SIZE));
  const all = count === 0 ? ports : copyIn(call, list, count * PORT_SIZE);
  for (let i = 0; i < count; i++) {
    // A list that cannot be read whole may be read up to some port.
    const one = all ?? copyIn(call, list + BigInt(i * PORT_SIZE), PORT_SIZE);
    if (one === null) return -EFAULT;
    const port = one.getUint32(all ? i * PORT_SIZE : 0, true);
    const { domain } = call;
    if (!domain.ports.isValid(port) || !domain.table.isUsable(port)) return -EINVAL;
    ports.setUint32(i * PORT_SIZE, port, true);
    const pending = isPending(call, port);
    if (pending !== 0) return pending > 0 ? 0 : pending;
  }
  return ports;
}

/** @returns 1, 0, or -EINVAL for a port that the guest's layout does not have */
function isPending({ vcpu, domain }: Call, port: number): number {
  const { vm } = domain;
  const list = vm.agent + AGENT_POLL_LIST;
  vm.region.words.view(list, PORT_SIZE).setUint32(0, port, true);
  const found = vm.retry(() => vm.kernel.anyPending(vm.vmBase, vm.agent, list, 1));
  // Nothing can be told of a page that is away, and nobody waits for it here: the guest looks for itself.
  return found === -EAGAIN || found === -EFAULT || vcpu.vm.detached ? 1 : found;
}

/** Whether the vCPU has an upcall, and could take it now. [XE-BP-02] @internal */
export function canTakeUpcall({ vcpu, cpu, domain }: Call): boolean {
  if (!(cpu.interruptible ?? true)) return false;
  domain.hvm.updateCallback();
  return vcpu.hasEvents || (vcpu.index === 0 && domain.hvm.callback.asserted);
}
