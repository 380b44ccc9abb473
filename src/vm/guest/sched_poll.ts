// SCHEDOP_poll: a guest's vCPU sleeps until one of its ports is pending, masked or not. [kvm-xen 9.3]
// The protocol is that of assembly/poll.ts; who sleeps, and how, is the embedder's business.
//
//   hypercall: announce ─ look at pending ─ 'blocked'      the vCPU halts (or waits)      beforeEntry: withdraw ─ go on
//
// Dialect [KF-76]: KVM takes the timeout as a span from now on, Xen's own ABI has an absolute system time; a VM is made for one of them.

import { EAGAIN, EBUSY, EFAULT, EINVAL } from '../../abi/errno.ts';
import { SCHED_POLL_MAX_PORTS, SCHED_POLL_PORTS } from '../../abi/hypercall.ts';
import {
  AGENT_POLL_LIST,
  REQUEST_UNBLOCK,
  VCPU_POLL_DEADLINE,
  VCPU_POLLER,
  VM_ABSOLUTE_POLL,
  VM_IRQCHIP,
} from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import { AWAY, EVENTS, mapInfo } from '../events/sleep.ts';
import { setPollDeadline } from '../time/deadlines.ts';
import { deadlineAfter } from '../time/timer.ts';
import type { Vcpu } from '../vcpu.ts';
import { readArgument } from './guest_cpu.ts';
import { leaveGuestMode } from './guest_mode.ts';
import type { Answer, Call } from './hypercall_table.ts';

const PORT_SIZE = 4;

/** @internal */
export function schedPoll({ vcpu, cpu, layout, params, mayPoll }: Call): Answer {
  // Without an interrupt controller here or the promise, a poll is a yield. [KX-HCL-31]
  if (!mayPoll || !vcpu.vm.region.has(VM_IRQCHIP)) return 0;
  const argument = readArgument(cpu, params[1], layout.schedPollSize);
  if (argument === null) return -EFAULT;
  const count = argument.getUint32(layout.schedPollNrPorts, true);
  if (count > SCHED_POLL_MAX_PORTS) return -EINVAL;
  const pointer = layout.pointer(argument, SCHED_POLL_PORTS);
  const ports = count === 0 ? new DataView(new ArrayBuffer(0)) : readArgument(cpu, pointer, count * PORT_SIZE);
  if (ports === null) return -EFAULT;
  const timeout = argument.getBigUint64(layout.schedPollTimeout, true);
  const span = timeout === 0n ? null : spanOf(vcpu, timeout);
  return beginPoll(vcpu, ports, (now) => (span === null ? null : deadlineAfter(now, span)));
}

/** How long a poll sleeps, ns, at least 1: one that is over at once is found so. */
function spanOf({ vm }: Vcpu, timeout: bigint): bigint {
  if (!vm.region.has(VM_ABSOLUTE_POLL)) return timeout;
  const left = BigInt.asIntN(64, timeout) - vm.kvmclock.now();
  return left > 0n ? left : 1n;
}

/**
 * Announces, looks, and sleeps if nothing is pending, until what `until` makes of the host's clock; null is for ever. Throws EBUSY
 * when another agent polls for the vCPU. @internal
 */
export function beginPoll(vcpu: Vcpu, ports: DataView, until: (now: bigint) => bigint | null): Answer {
  const { vm, index } = vcpu;
  const { words } = vm.region;
  // One that was blocked here and went on without `beforeEntry`.
  if (words.load(vcpu.line + VCPU_POLLER) === (vm.agent | 0)) endPoll(vcpu);
  const deadline = until(vm.clock.now());
  const list = vm.agent + AGENT_POLL_LIST;
  words.write(list, new Uint8Array(ports.buffer));
  const found = vm.kernel.pollBegin(vm.vmBase, vm.agent, index, list, ports.byteLength / PORT_SIZE);
  if (found === -EBUSY) {
    throw new EvtchnError('EBUSY', `another agent polls for vCPU ${index}: one thread runs a vCPU at a time`);
  }
  // A page that is away is not waited for: the guest looks for itself. [KX-HCL-34]
  if (found < 0) return found === -EAGAIN ? 0 : found;
  if (found > 0) {
    vm.kernel.pollEnd(vm.vmBase, index);
    return 0;
  }
  if (deadline !== null) setPollDeadline(vcpu, deadline);
  // It is out of the guest until `beforeEntry`, however long that is.
  leaveGuestMode(vcpu);
  return { deadline };
}

/** Ends the poll that the vCPU sleeps in, if it does: nothing of it is left. [KX-HCL-36] @internal */
export function endPoll(vcpu: Vcpu): void {
  const { vm, index, line, record } = vcpu;
  const { words } = vm.region;
  const deadline = record + VCPU_POLL_DEADLINE;
  if (words.load(deadline) | words.load(deadline + 4)) setPollDeadline(vcpu, 0n);
  if (words.load(line + VCPU_POLLER) !== 0) vm.kernel.pollEnd(vm.vmBase, index);
}

/** Whether the vCPU sleeps in a poll that something has ended: an event, its time, a kick. [KX-HCL-36, 37] @internal */
export function pollIsOver(vcpu: Vcpu): boolean {
  const { vm, line, record, index } = vcpu;
  const { words } = vm.region;
  if (words.load(line + VCPU_POLLER) === 0) return false;
  const deadline = words.load64(record + VCPU_POLL_DEADLINE);
  if (deadline !== 0n && vm.clock.now() >= deadline) return true;
  // What a masked event has left for a poller; unmasked ones show in the selector or the shadow. [KX-EVT-40]
  let found = vm.kernel.pendingWork(vm.vmBase, vm.agent, index);
  if (found === AWAY && mapInfo(vcpu)) found = vm.kernel.pendingWork(vm.vmBase, vm.agent, index);
  // What cannot be seen cannot be new: events for a vcpu_info that is away go to the shadow.
  found &= ~AWAY;
  // That look takes a kick; it is for `beforeEntry` to take.
  if (found !== 0 && found !== EVENTS) vcpu.request(REQUEST_UNBLOCK);
  return found !== 0;
}
