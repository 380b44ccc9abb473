// CPUID as the guest sees it: the embedder's leaves, with what the guest's clock is in those of Xen. [KX-CLK-14]

import {
  XEN_CPUID_EBX,
  XEN_CPUID_ECX,
  XEN_CPUID_EDX,
  XEN_CPUID_FIRST,
  XEN_CPUID_LAST,
  XEN_CPUID_STEP,
  XEN_CPUID_TIME,
  XEN_CPUID_TIME_KHZ,
  XEN_CPUID_TIME_SCALE,
} from '../../abi/cpuid.ts';
import {
  REQUEST_CLOCK_UPDATE,
  VCPU_CLOCK_HZ,
  VCPU_CLOCK_MUL,
  VCPU_CLOCK_SHIFT,
  VCPU_CPUID_BASE,
  VCPU_CPUID_LIMIT,
  VCPU_TSC_HZ,
} from '../../abi/region.ts';
import { gateOpen } from '../hvm_config.ts';
import { getTsc, updateClock } from '../time/guest_clock.ts';
import type { Vcpu } from '../vcpu.ts';

/** What CPUID leaves in the registers, u32 each. */
export interface CpuidRegisters {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** The embedder's CPUID: the registers of a leaf, subleaf 0; null where it has none. */
export type Cpuid = (leaf: number) => CpuidRegisters | null;

/** Looks for the Xen leaves. @returns the first of them, or null: there are none @internal */
export function findXenLeaves(vcpu: Vcpu, cpuid: Cpuid): number | null {
  vcpu.vm.checkOwner();
  const { words } = vcpu.vm.region;
  for (let base = XEN_CPUID_FIRST; base <= XEN_CPUID_LAST; base += XEN_CPUID_STEP) {
    const found = cpuid(base);
    if (!found || !isXen(found)) continue;
    words.store(vcpu.record + VCPU_CPUID_LIMIT, found.eax | 0);
    words.store(vcpu.record + VCPU_CPUID_BASE, base);
    return base;
  }
  words.store(vcpu.record + VCPU_CPUID_BASE, 0);
  words.store(vcpu.record + VCPU_CPUID_LIMIT, 0);
  return null;
}

function isXen({ ebx, ecx, edx }: CpuidRegisters): boolean {
  return ebx >>> 0 === XEN_CPUID_EBX && ecx >>> 0 === XEN_CPUID_ECX && edx >>> 0 === XEN_CPUID_EDX;
}

/** @internal */
export function patchCpuid(vcpu: Vcpu, leaf: number, subleaf: number, registers: CpuidRegisters): CpuidRegisters {
  const { vm, record } = vcpu;
  vm.checkOpen();
  const { words } = vm.region;
  const base = words.load(record + VCPU_CPUID_BASE);
  const time = base + XEN_CPUID_TIME;
  const limit = words.load(record + VCPU_CPUID_LIMIT) >>> 0;
  if (base === 0 || leaf !== time || time > limit || !gateOpen(vm)) return registers;
  if (subleaf === XEN_CPUID_TIME_SCALE) {
    bringUpToDate(vcpu);
    return {
      ...registers,
      ecx: words.load(record + VCPU_CLOCK_MUL) >>> 0,
      edx: words.load(record + VCPU_CLOCK_SHIFT) >>> 0,
    };
  }
  if (subleaf === XEN_CPUID_TIME_KHZ) {
    bringUpToDate(vcpu);
    return { ...registers, eax: Math.floor(getTsc(vcpu).hz / 1000) >>> 0 };
  }
  return registers;
}

/** A clock update that is due comes first: the guest compares these numbers with those in its records. */
function bringUpToDate(vcpu: Vcpu): void {
  const { words } = vcpu.vm.region;
  const due = words.loadWide(vcpu.record + VCPU_CLOCK_HZ) !== words.loadWide(vcpu.record + VCPU_TSC_HZ);
  if (vcpu.takeRequests(REQUEST_CLOCK_UPDATE) || due) updateClock(vcpu);
}
