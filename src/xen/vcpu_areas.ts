// Where a guest keeps what the hypervisor writes for each vCPU: vcpu_info, runstate, time. [XE-BP-30..32, XE-2L-30]

import { EACCES, EBUSY, EFAULT, EINVAL, ENXIO } from '../abi/errno.ts';
import { PVCLOCK_SIZE } from '../abi/pvclock.ts';
import { VCPU_INFO_GPC, VCPU_RUNSTATE1_GPC, VM_SCHED_INFO } from '../abi/region.ts';
import { RUNSTATE_SIZE_COMPAT, RUNSTATE_SIZE_LONG } from '../abi/runstate.ts';
import { PAGE_SIZE, WORD_BYTES_COMPAT, WORD_BYTES_LONG } from '../abi/shared_info.ts';
import { VCPU_INFO_SIZE, VCPU_INFO_UPCALL_MASK } from '../abi/vcpu_info.ts';
import { HVM_VCPU_INFO_SET, HVM_VCPU_RUNSTATE_NEXT } from '../abi/xen_hvm.ts';
import { type Gpa, gpa, pageOffset } from '../memory/address.ts';
import { findSlot } from '../memory/slot_table.ts';
import { registerRunstate } from '../vm/attributes.ts';
import { readHost } from '../vm/guest/host_read.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';
import type { HvmRecord } from './hvm_record.ts';
import { refreshClock } from './shared_page.ts';

/** Guest-physical addresses end here. */
const GPA_END = 2 ** 52;

/**
 * VCPUOP_register_vcpu_info: once for each vCPU. What was in the old place is in the new one, and the guest is asked to look at every
 * word. @returns 0, or -EINVAL, -EBUSY, -ENXIO, -EACCES in this order @internal
 */
export function registerVcpuInfo(record: HvmRecord, vcpu: Vcpu, frame: number, offset: number): number {
  const { vm, words } = record;
  const set = record.vcpu(vcpu.index) + HVM_VCPU_INFO_SET;
  if (offset >= PAGE_SIZE || frame >= GPA_END / PAGE_SIZE) return -EINVAL;
  if (words.load(set) !== 0) return -EBUSY;
  const at = gpa(frame * PAGE_SIZE + offset);
  const unfit = checkPlace(vm, at, VCPU_INFO_SIZE);
  if (unfit !== 0) return unfit;
  // The new place is nobody's yet. Events that come to the old one meanwhile are among those the guest is told of below.
  if (!vm.guestMemory.write(at, contents(vcpu), vcpu.index)) return -EACCES;
  vcpu.setAttr({ type: 'vcpu_info', gpa: at });
  words.store(set, 1);
  vcpu.resync();
  refreshClock(vcpu);
  return 0;
}

/** Nothing of a vCPU is in the guest's memory any more: it may place all of it again. [XE-CB-20] @internal */
export function forgetAreas(record: HvmRecord, vcpu: Vcpu): void {
  record.words.store(record.vcpu(vcpu.index) + HVM_VCPU_INFO_SET, 0);
  vcpu.setAttr({ type: 'vcpu_info', gpa: null });
  registerTimeArea(vcpu, null);
  registerRunstateArea(record, vcpu, null);
}

/** What goes to the new place of a vcpu_info: the old one, or zeros with upcalls masked for a vCPU that had none. */
function contents(vcpu: Vcpu): Uint8Array {
  const { vm, line } = vcpu;
  const base = vm.gpcs.baseOf(line + VCPU_INFO_GPC);
  const old =
    base === null
      ? null
      : 'gpa' in base
        ? vm.guestMemory.read(base.gpa, VCPU_INFO_SIZE)
        : readHost(vm, base.hva, VCPU_INFO_SIZE);
  if (old !== null) return old;
  const fresh = new Uint8Array(VCPU_INFO_SIZE);
  fresh[VCPU_INFO_UPCALL_MASK] = 1;
  return fresh;
}

/** @returns 0, or -ENXIO across a page or off the guest's words, -EINVAL no RAM, -EACCES RAM that may not be written */
function checkPlace(vm: Vm, at: Gpa, size: number): number {
  const word = vm.region.longMode ? WORD_BYTES_LONG : WORD_BYTES_COMPAT;
  if (pageOffset(at) + size > PAGE_SIZE || at % word !== 0) return -ENXIO;
  if (findSlot(vm.region, at) === null) return -EINVAL;
  return vm.gpcs.reach(at) === null ? -EACCES : 0;
}

/** Where an area is: guest-physical addresses of its first byte and of the page on which it goes on, if it does. @internal */
export interface AreaPlace {
  readonly at: number;
  readonly next: number | null;
}

/**
 * Where a virtual area of `size` bytes is by `translate`; null when a page of it is nowhere. One that may grow to `most` bytes is
 * followed that far if it can be. @internal
 */
export function placeOf(
  translate: (address: bigint) => number | null,
  address: bigint,
  size: number,
  most = size,
): AreaPlace | null {
  const inRam = (found: number | null): number | null => (found !== null && found < GPA_END ? found : null);
  const at = inRam(translate(address));
  if (at === null) return null;
  const room = PAGE_SIZE - Number(address % BigInt(PAGE_SIZE));
  const next = room < most ? inRam(translate(address + BigInt(room))) : null;
  return room < size && next === null ? null : { at, next };
}

/** Registers a runstate area, null takes it away. @returns 0, or -EFAULT: it is not in RAM that can be written @internal */
export function registerRunstateArea(record: HvmRecord, vcpu: Vcpu, place: AreaPlace | null): number {
  const next = record.vcpu(vcpu.index) + HVM_VCPU_RUNSTATE_NEXT;
  const { vm, words } = record;
  // Without scheduler statistics there is nothing to write; the guest need not know.
  if (!vm.region.has(VM_SCHED_INFO)) return 0;
  if (place === null) {
    registerRunstate(vcpu, null);
    words.store64(next, 0n);
    return 0;
  }
  if (!reaches(vm, place, runstateSize(vm))) return -EFAULT;
  if (place.next === null) registerRunstate(vcpu, gpa(place.at));
  else registerRunstate(vcpu, gpa(place.at), gpa(place.next));
  words.store64(next, place.next === null ? 0n : BigInt(place.next) + 1n);
  return 0;
}

/** After a restore, which knows of a runstate area's first page only: the second one is where it was. @internal */
export function resumeRunstateArea(record: HvmRecord, vcpu: Vcpu): void {
  const { vm, words } = record;
  const next = words.load64(record.vcpu(vcpu.index) + HVM_VCPU_RUNSTATE_NEXT);
  const at = vm.gpcs.gpaOf(vcpu.record + VCPU_RUNSTATE1_GPC);
  if (next === 0n || next > BigInt(GPA_END) || at === null) return;
  registerRunstateArea(record, vcpu, { at, next: Number(next - 1n) });
}

/** By the guest's layout, which may be another one than the caller's. @internal */
export function runstateSize(vm: Vm): number {
  return vm.region.longMode ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT;
}

/** Registers the second copy of a vCPU's clock, null takes it away. It is right when this returns. @returns 0, or -EFAULT @internal */
export function registerTimeArea(vcpu: Vcpu, place: AreaPlace | null): number {
  const { vm } = vcpu;
  if (place === null) {
    vcpu.setAttr({ type: 'vcpu_time_info', gpa: null });
    return 0;
  }
  // Across two pages it cannot be written as one record.
  if (place.next !== null || !reaches(vm, place, PVCLOCK_SIZE)) return -EFAULT;
  vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(place.at) });
  refreshClock(vcpu);
  return 0;
}

/** By guest-physical address: within a page and aligned. @returns 0, or -ENXIO, -EINVAL, -EACCES @internal */
export function checkArea(vm: Vm, address: number, size: number): number {
  return address >= GPA_END ? -EINVAL : checkPlace(vm, gpa(address), size);
}

function reaches(vm: Vm, { at, next }: AreaPlace, size: number): boolean {
  if (vm.gpcs.reach(gpa(at)) === null) return false;
  const room = PAGE_SIZE - pageOffset(at);
  return room >= size || (next !== null && vm.gpcs.reach(gpa(next)) !== null);
}
