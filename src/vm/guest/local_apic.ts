// What the engine has to know of a vCPU's local APIC: whether it takes the vCPU's own upcall vector. [KX-EVT-48..50]
// The vector is an edge. One that comes while the APIC is software-disabled is lost, but the byte that it stands for stays set:
// when the APIC is enabled, the vector is due again. [KF-14]

import { REQUEST_VECTOR, VCPU_LAPIC_OFF, VCPU_MODE, VCPU_REQUESTS, VCPU_UPCALL_VECTOR } from '../../abi/region.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import { readLevel } from './upcall_level.ts';

/** @internal */
export function lapicEnabled({ vm, record }: Vcpu): boolean {
  return (vm.region.words.load(record + VCPU_MODE) & VCPU_LAPIC_OFF) === 0;
}

/** [KX-EVT-49] @internal */
export function setLapicEnabled(vcpu: Vcpu, on: boolean): void {
  const { vm, record } = vcpu;
  vm.checkOpen();
  const { words } = vm.region;
  if (!on) {
    words.or(record + VCPU_MODE, VCPU_LAPIC_OFF);
    return;
  }
  // Edges of the time when it was off. Before it is on: an edge from then on is for it to take.
  if (!lapicEnabled(vcpu)) vcpu.takeRequests(REQUEST_VECTOR);
  words.and(record + VCPU_MODE, ~VCPU_LAPIC_OFF);
  // After it is on. On the other side: a sender sets the byte, then asks for the vector.
  if (!isDueAgain(vcpu)) return;
  vcpu.request(REQUEST_VECTOR);
  vcpu.answerKick();
}

function isDueAgain(vcpu: Vcpu): boolean {
  const { vm, line } = vcpu;
  if (!gateOpen(vm) || vm.region.words.load(line + VCPU_UPCALL_VECTOR) === 0) return false;
  const level = readLevel(vcpu);
  // Too late to tell: an upcall for nothing does no harm, one that is never made does.
  return level === 'up' || level === 'late';
}

/** Takes the vCPU's own vector if it is due. @returns 0 when it is not, or lost to an APIC that is off [KX-EVT-48, 49] @internal */
export function takeVector(vcpu: Vcpu): number {
  if (vcpu.takeRequests(REQUEST_VECTOR) === 0 || !lapicEnabled(vcpu)) return 0;
  return vcpu.vm.region.words.load(vcpu.line + VCPU_UPCALL_VECTOR);
}

/** Whether `takeVector` would answer a vector. @internal */
export function vectorIsDue(vcpu: Vcpu): boolean {
  const { words } = vcpu.vm.region;
  if (!(words.load(vcpu.line + VCPU_REQUESTS) & REQUEST_VECTOR) || !lapicEnabled(vcpu)) return false;
  return words.load(vcpu.line + VCPU_UPCALL_VECTOR) !== 0;
}
