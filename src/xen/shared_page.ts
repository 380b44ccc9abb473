// shared_info of a domain: placed, and moved, where the guest says. [XE-QE-45, XE-BT-10, XE-TC-23]
//
// It moves with what is in it, and with the vcpu_infos of vCPUs 0..31 that the guest has not placed elsewhere: all at one moment, when
// nobody sends. Dialects agree but for the RAM beneath, which comes back in QEMU; here, as in Xen, it is gone: the old frame is zeros.

import { EINVAL } from '../abi/errno.ts';
import { REQUEST_CLOCK_UPDATE, VCPU_IN_GUEST, VCPU_INFO_GPC, VCPU_MODE } from '../abi/region.ts';
import { PAGE_SIZE, SHARED_INFO_VCPU_SLOTS } from '../abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../abi/vcpu_info.ts';
import { HVM_VCPU_INFO_SET } from '../abi/xen_hvm.ts';
import { type Gpa, gpa, type Hpa } from '../memory/address.ts';
import { updateClock } from '../vm/time/guest_clock.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';
import type { HvmRecord } from './hvm_record.ts';

/** Guest-physical addresses end here. */
const LAST_FRAME = 2 ** 40;

/**
 * Puts shared_info into a frame of the guest's RAM. The time in it is right when this returns. Throws EBUSY when a reader does not
 * leave: nothing has changed.
 * @returns 0, or -EINVAL: the frame is not RAM that can be written @internal
 */
export function placeSharedInfo(record: HvmRecord, frame: number): number {
  const { vm } = record;
  if (!canHoldSharedInfo(vm, frame)) return -EINVAL;
  const to = gpa(frame * PAGE_SIZE);
  const from = vm.gpcs.gpaOf(vm.region.sharedInfo);
  if (from !== to && !move(record, from, to)) return -EINVAL;
  vm.writeWallClock();
  for (const vcpu of inPage(record)) refreshClock(vcpu);
  return 0;
}

/** Whether a frame is RAM that can be written. @internal */
export function canHoldSharedInfo(vm: Vm, frame: number): boolean {
  if (!Number.isInteger(frame) || frame < 0 || frame >= LAST_FRAME) return false;
  return vm.gpcs.reach(gpa(frame * PAGE_SIZE)) !== null;
}

/** The vCPUs whose vcpu_info is in the page. */
function inPage(record: HvmRecord): Vcpu[] {
  const { vm, words } = record;
  const slots = Math.min(vm.vcpus, SHARED_INFO_VCPU_SLOTS);
  const vcpus = Array.from({ length: slots }, (_, index) => vm.vcpu(index));
  return vcpus.filter(({ index }) => words.load(record.vcpu(index) + HVM_VCPU_INFO_SET) === 0);
}

/** @returns whether it was moved */
function move(record: HvmRecord, from: Gpa | null, to: Gpa): boolean {
  const { vm } = record;
  const page = vm.gpcs.reach(to);
  const old = from === null ? null : vm.gpcs.reach(from);
  if (page === null) return false;
  const vcpuInfos = inPage(record).map(({ index, line }) => ({
    gpc: line + VCPU_INFO_GPC,
    gpa: gpa(to + index * VCPU_INFO_SIZE),
    length: VCPU_INFO_SIZE,
  }));
  const sharedInfo = { gpc: vm.region.sharedInfo, gpa: to, length: PAGE_SIZE };
  const strays = inPage(record).filter((vcpu) => isElsewhere(vcpu, from));
  vm.gpcs.moveAll([sharedInfo, ...vcpuInfos], () => copyPage(vm, old, page));
  // What was in a place of the embedder's is not in the page.
  for (const vcpu of strays) vcpu.resync();
  for (const at of from === null ? [to] : [from, to]) vm.gpcs.markDirty(0, at);
  for (const told of vm.onSharedInfo) told();
  return true;
}

/** Whether a vCPU had a vcpu_info, but not in the page. */
function isElsewhere({ vm, index, line }: Vcpu, page: Gpa | null): boolean {
  const base = vm.gpcs.baseOf(line + VCPU_INFO_GPC);
  return base !== null && !('gpa' in base && page !== null && base.gpa === page + index * VCPU_INFO_SIZE);
}

/** Nobody uses either now. */
function copyPage({ region: { words } }: Vm, from: Hpa | null, to: Hpa): void {
  if (from === null) {
    words.zero(to, PAGE_SIZE);
    return;
  }
  words.write(to, words.read(from, PAGE_SIZE));
  words.zero(from, PAGE_SIZE);
}

/**
 * Writes a vCPU's clock before the guest can look; one that is in the guest on another thread writes its own at its next entry, before
 * it goes on. [KF-56] @internal
 */
export function refreshClock(vcpu: Vcpu): void {
  const { vm, record } = vcpu;
  if (vm.region.words.load(record + VCPU_MODE) & VCPU_IN_GUEST) vcpu.request(REQUEST_CLOCK_UPDATE);
  else updateClock(vcpu);
}
