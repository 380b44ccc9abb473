// The leaves of CPUID by which a guest finds Xen, as data for the embedder's processor. [XE-BT-04]

import {
  XEN_CPUID_EBX,
  XEN_CPUID_ECX,
  XEN_CPUID_EDX,
  XEN_CPUID_FIRST,
  XEN_CPUID_HVM,
  XEN_CPUID_HVM_DOMID,
  XEN_CPUID_HVM_UPCALL_VECTOR,
  XEN_CPUID_HVM_VCPU_ID,
  XEN_CPUID_LAST,
  XEN_CPUID_MSR,
  XEN_CPUID_STEP,
  XEN_CPUID_TIME,
  XEN_CPUID_TIME_KHZ,
  XEN_CPUID_TIME_SCALE,
  XEN_CPUID_VERSION,
} from '../abi/cpuid.ts';
import { HVM_CONFIG_MSR } from '../abi/hvm_config.ts';
import { REGION_HVM_CONFIG } from '../abi/region.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { CpuidRegisters } from '../vm/guest/cpuid.ts';
import { getTsc } from '../vm/time/guest_clock.ts';
import { timeScale } from '../vm/time/tsc_scale.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Domain } from './domain.ts';

/** What may be said in the leaves. */
export interface CpuidOptions {
  /** the first of Xen's leaves: 0x40000000 by default, or 0x40000100 beside those of Hyper-V; a multiple of 0x100 */
  readonly base?: number;
  /** Hyper-V's leaves come first; false by default */
  readonly besideHyperv?: boolean;
  /**
   * Whether vCPUs may have upcall vectors of their own, for guests whose local APIC is the embedder's and takes them; false by default:
   * Linux uses such a vector when it is offered, and has it acknowledged there. [XE-CB-02]
   */
  readonly upcallVectors?: boolean;
}

const NOTHING: CpuidRegisters = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** Throws EINVAL for a base where no guest looks. @internal */
export function checkCpuidBase(options: CpuidOptions): void {
  const base = baseOf(options);
  checkRange('the first leaf of CPUID', base, XEN_CPUID_FIRST, XEN_CPUID_LAST);
  if (base % XEN_CPUID_STEP === 0) return;
  throw new EvtchnError('EINVAL', `the first leaf of CPUID is ${base}, allowed are multiples of ${XEN_CPUID_STEP}`);
}

function baseOf({ base, besideHyperv }: CpuidOptions): number {
  return base ?? (besideHyperv ? XEN_CPUID_FIRST + XEN_CPUID_STEP : XEN_CPUID_FIRST);
}

/** @internal */
export function xenCpuid(
  domain: Domain,
  vcpu: Vcpu,
  options: CpuidOptions,
  leaf: number,
  subleaf: number,
): CpuidRegisters | null {
  const base = baseOf(options);
  switch (leaf - base) {
    case 0:
      return { eax: base + XEN_CPUID_HVM, ebx: XEN_CPUID_EBX, ecx: XEN_CPUID_ECX, edx: XEN_CPUID_EDX };
    case XEN_CPUID_VERSION:
      return { ...NOTHING, eax: domain.hvm.identity.major * 0x10000 + domain.hvm.identity.minor };
    case XEN_CPUID_MSR:
      return { ...NOTHING, eax: 1, ebx: msrOf(domain) };
    case XEN_CPUID_TIME:
      return time(vcpu, subleaf);
    case XEN_CPUID_HVM:
      return subleaf === 0 ? hvm(domain, vcpu, options) : NOTHING;
    default:
      return null;
  }
}

function msrOf({ vm }: Domain): number {
  return vm.region.words.load(vm.vmBase + REGION_HVM_CONFIG + HVM_CONFIG_MSR) >>> 0;
}

/** The clock of a vCPU: what it compares with its records. */
function time(vcpu: Vcpu, subleaf: number): CpuidRegisters {
  const { hz, offset } = getTsc(vcpu);
  const kHz = Math.floor(hz / 1000) >>> 0;
  if (subleaf === 0) return { ...NOTHING, ecx: kHz };
  if (subleaf === XEN_CPUID_TIME_KHZ) return { ...NOTHING, eax: Math.floor(vcpu.vm.kvmclock.hostHz / 1000) >>> 0 };
  if (subleaf !== XEN_CPUID_TIME_SCALE || hz === 0) return NOTHING;
  const { mul, shift } = timeScale(hz);
  const [low, high] = [BigInt.asUintN(32, offset), BigInt.asUintN(32, offset >> 32n)];
  return { eax: Number(low), ebx: Number(high), ecx: mul, edx: shift >>> 0 };
}

function hvm({ domid }: Domain, { index }: Vcpu, { upcallVectors }: CpuidOptions): CpuidRegisters {
  const features = XEN_CPUID_HVM_VCPU_ID | XEN_CPUID_HVM_DOMID | (upcallVectors ? XEN_CPUID_HVM_UPCALL_VECTOR : 0);
  return { eax: features, ebx: index, ecx: domid, edx: 0 };
}
