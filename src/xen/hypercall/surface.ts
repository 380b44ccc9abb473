// The guest's surface of a domain: VMCALL and VMMCALL, and who answers what. [XE-OP-01, XE-BT-01, XE-BT-02]
//
// Order: privilege, then the number, then whether this thread may do it, then the arguments. Nothing has happened before the last.

import { ENOSYS, EPERM } from '../../abi/errno.ts';
import { VM_HYPERV } from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import { linearRip, type XenGuestCpu } from '../../vm/guest/guest_cpu.ts';
import { exitOf, finish, type HypercallResult, leaveOpen, type XenExit } from '../../vm/guest/hypercall.ts';
import type { Vcpu } from '../../vm/vcpu.ts';
import type { Domain } from '../domain.ts';
import { type Answer, type Call, int, OWNERS } from './call.ts';
import { HYPERCALLS } from './table.ts';

/** Bit 31 of the number says Hyper-V where that is offered. */
const HYPERV_BIT = 0x80000000n;

/** @internal */
export function domainHypercall(domain: Domain, vcpu: Vcpu, cpu: XenGuestCpu): HypercallResult {
  const { vm, hvm } = domain;
  vm.checkOpen();
  if (vcpu.vm !== vm)
    throw new EvtchnError('EINVAL', `vCPU ${vcpu.index} is of another VM than domain ${domain.domid}`);
  if (typeof cpu.writeVirtual !== 'function' || typeof cpu.translate !== 'function') {
    throw new EvtchnError('EINVAL', "the processor has no writeVirtual() and translate(), which Xen's hypercalls need");
  }
  const exit = exitOf(cpu);
  const rip = linearRip(cpu);
  if (vm.region.has(VM_HYPERV) && exit.input & HYPERV_BIT) return { kind: 'other', to: 'hyperv' };
  hvm.record.seen(vcpu);
  const answer = exit.cpl === 0 ? run(domain, vcpu, cpu, exit) : -EPERM;
  if (answer === OWNERS) return leaveOpen(vcpu, exit, rip.at);
  // A call is an exit: the guest may have answered its upcall before. [XE-CB-04]
  hvm.updateCallback();
  // However it ends, what sleeps answers 0.
  const result = typeof answer === 'object' ? 0n : BigInt.asUintN(64, BigInt(answer));
  finish(cpu, result, rip.next);
  return typeof answer === 'object' ? { kind: 'blocked', deadline: answer.deadline } : { kind: 'handled', result };
}

function run(domain: Domain, vcpu: Vcpu, cpu: XenGuestCpu, exit: XenExit): Exclude<Answer, null> | bigint {
  const call: Call = { domain, vcpu, cpu, long: exit.longMode, params: exit.params, exit };
  const answer = isKnown(domain, exit) ? (HYPERCALLS.get(exit.input)?.(call) ?? null) : null;
  if (answer !== null) return answer;
  const given = domain.hvm.hooks.onHypercall?.(exit, cpu, vcpu) ?? -ENOSYS;
  if (typeof given === 'bigint' || Number.isSafeInteger(given)) return given;
  throw new EvtchnError(
    'EINVAL',
    `onHypercall has answered ${given}, allowed are integers, bigints, null and undefined`,
  );
}

/** Whether the dialect has the command. [XE-QE-04] */
function isKnown({ dialect }: Domain, { input, params }: XenExit): boolean {
  return dialect.commands?.get(Number(input))?.includes(int(params[0])) ?? true;
}
