// VMCALL and VMMCALL: who handles a call, how its arguments come and how its result goes. [kvm-xen 9.2]

import { CAP_EVTCHN_SEND, CAP_INTERCEPT_HCALL, HVM_CONFIG_FLAGS } from '../../abi/hvm_config.ts';
import { REGION_HVM_CONFIG, VCPU_HYPERCALL_OPEN, VCPU_HYPERCALL_RIP, VCPU_MODE, VM_HYPERV } from '../../abi/region.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { checkU64, type GuestCpu, type GuestRegisters, linearRip, registerValue } from './guest_cpu.ts';
import { CALL_COMPAT, CALL_LONG, HYPERCALLS, type HypercallParams } from './hypercall_table.ts';

/** A hypercall that the embedder handles: struct kvm_xen_exit without its result. [KX-HCL-14] */
export interface XenExit {
  /** the registers are those of 64-bit code */
  readonly longMode: boolean;
  /** 0..3 */
  readonly cpl: number;
  /** number of the hypercall */
  readonly input: bigint;
  /** u64; of a 32-bit call u32 */
  readonly params: HypercallParams;
}

/** What became of a VMCALL or VMMCALL. */
export type HypercallResult =
  /** Done: `result` (u64, an errno sign-extended) is in RAX and RIP behind the instruction. [KX-HCL-13] */
  | { readonly kind: 'handled'; readonly result: bigint }
  /** The embedder's: it does it and calls `completeHypercall`. */
  | { readonly kind: 'exit'; readonly exit: XenExit }
  /**
   * A poll sleeps: halt the vCPU until `vcpu.runnable`, or `wait()`, then `beforeEntry()` and go on. RAX is 0 and RIP behind the
   * instruction already. `deadline` is when it is over at the latest, ns on the host's clock; null: no timeout.
   */
  | { readonly kind: 'blocked'; readonly deadline: bigint | null }
  /** Not Xen's: Hyper-V's, or what the host offers by itself. Nothing was touched. [KX-HCL-10] */
  | { readonly kind: 'other'; readonly to: 'hyperv' | 'host' };

/** Bit 31 of the number says Hyper-V where that is offered. [KX-HCL-10] */
const HYPERV_BIT = 0x80000000n;

/** Number and parameters by the mode of the caller, whatever the VM's layout is. [KX-HCL-11] */
const PARAMS_LONG = ['rdi', 'rsi', 'rdx', 'r10', 'r8', 'r9'] as const;
const PARAMS_COMPAT = ['rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rbp'] as const;

/** @internal */
export function hypercall(vcpu: Vcpu, cpu: GuestCpu): HypercallResult {
  const { vm } = vcpu;
  vm.checkOpen();
  // Privilege and width first; everything is checked before anything happens. [KF-59]
  const exit = exitOf(cpu);
  const rip = linearRip(cpu);
  const flags = flagsOf(vm);
  const hyperv = vm.region.has(VM_HYPERV);
  if (!(flags & CAP_INTERCEPT_HCALL)) return { kind: 'other', to: hyperv ? 'hyperv' : 'host' };
  if (hyperv && exit.input & HYPERV_BIT) return { kind: 'other', to: 'hyperv' };
  const answer = exit.cpl === 0 ? run(vcpu, cpu, exit, flags) : null;
  if (answer === null) return leaveOpen(vcpu, exit, rip.at);
  // A poll answers 0 however it ends. [KX-HCL-36]
  const result = typeof answer === 'number' ? BigInt.asUintN(64, BigInt(answer)) : 0n;
  finish(cpu, result, rip.next);
  return typeof answer === 'number' ? { kind: 'handled', result } : { kind: 'blocked', deadline: answer.deadline };
}

/** The call is the embedder's: it waits for `completeHypercall`. @internal */
export function leaveOpen({ vm, record }: Vcpu, exit: XenExit, rip: bigint): HypercallResult {
  vm.region.words.store64(record + VCPU_HYPERCALL_RIP, rip);
  vm.region.words.or(record + VCPU_MODE, VCPU_HYPERCALL_OPEN);
  return { kind: 'exit', exit };
}

/** [KX-HCL-14] @internal */
export function completeHypercall(vcpu: Vcpu, cpu: GuestCpu, result: bigint): boolean {
  const { vm, record } = vcpu;
  vm.checkOpen();
  checkU64('the result', result);
  const rip = linearRip(cpu);
  const { words } = vm.region;
  if (!(words.and(record + VCPU_MODE, ~VCPU_HYPERCALL_OPEN) & VCPU_HYPERCALL_OPEN)) {
    throw new EvtchnError('EINVAL', `vCPU ${vcpu.index} has no hypercall that waits for a result`);
  }
  if (words.load64(record + VCPU_HYPERCALL_RIP) !== rip.at) return false;
  finish(cpu, result, rip.next);
  return true;
}

/** Gives the guest its result and goes on behind the instruction. @internal */
export function finish(cpu: GuestCpu, result: bigint, next: bigint): void {
  cpu.registers.rax = result;
  cpu.rip = next;
}

/** The call as the embedder would get it. Throws EINVAL for a register or privilege level out of range. @internal */
export function exitOf({ longMode, cpl, registers }: GuestCpu): XenExit {
  checkRange('the privilege level', cpl, 0, 3);
  const value = (name: keyof GuestRegisters): bigint => registerValue(name, registers[name], longMode);
  const [a, b, c, d, e, f] = longMode ? PARAMS_LONG : PARAMS_COMPAT;
  const params = [value(a), value(b), value(c), value(d), value(e), value(f)] as const;
  return { longMode, cpl, input: value('rax'), params };
}

function run(vcpu: Vcpu, cpu: GuestCpu, { longMode, input, params }: XenExit, flags: number) {
  const handle = HYPERCALLS.get(input);
  const layout = longMode ? CALL_LONG : CALL_COMPAT;
  return handle?.({ vcpu, cpu, layout, params, mayPoll: (flags & CAP_EVTCHN_SEND) !== 0 }) ?? null;
}

/** Read once for a call; none while the gate is closed. [KX-GEN-05, KF-61] */
function flagsOf(vm: Vm): number {
  return gateOpen(vm) ? vm.region.words.load(vm.region.base + REGION_HVM_CONFIG + HVM_CONFIG_FLAGS) : 0;
}
