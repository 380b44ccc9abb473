// Whether a guest is a 32-bit or a 64-bit one: taken over when it writes its hypercall page or sets its callback. [XE-MOD-30, 31]

import { HYPERCALL_STUB_SIZE } from '../abi/hypercall.ts';
import { WALL_CLOCK_SIZE } from '../abi/pvclock.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
} from '../abi/shared_info.ts';
import { type Gpa, gpa } from '../memory/address.ts';
import type { XenGuestCpu } from '../vm/guest/guest_cpu.ts';
import type { MsrWrite } from '../vm/guest/hypercall_page.ts';
import { followClock } from '../vm/time/wall_clock.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';

/** No HVM guest returns from an exception by hypercall: its entry is UD2. [XE-BT-03] */
const HYPERCALL_IRET = 23;
const UD2 = Uint8Array.of(0x0f, 0x0b);

/**
 * The layout of shared structures is the caller's from now on. Pending and mask bits stay where they are; the wall clock is written
 * anew, and as the selector has another place, the guest is made to look at every word. @internal
 */
export function latchWidth(vm: Vm, long: boolean): void {
  if (vm.region.longMode === long) return;
  forgetWallClock(vm);
  vm.kernel.setLongMode(vm.vmBase, long ? 1 : 0);
  // Now, or as soon as the page can be reached.
  followClock(vm);
  lookEverywhere(vm);
}

/** @internal */
export function writeHypercallPage(vcpu: Vcpu, cpu: XenGuestCpu, index: number, value: bigint): MsrWrite {
  const { vm } = vcpu;
  if (index === vm.getConfig().msr && cpu.cpl === 0) latchWidth(vm, cpu.lma);
  const result = vcpu.writeMsr(cpu, index, value);
  if (result === 'written' && vm.getConfig().interceptHypercalls) {
    vm.guestMemory.write(entryOf(value, HYPERCALL_IRET), UD2, vcpu.index);
  }
  return result;
}

function entryOf(page: bigint, number: number): Gpa {
  return gpa(Number(page - (page % BigInt(PAGE_SIZE))) + number * HYPERCALL_STUB_SIZE);
}

/**
 * The wall clock of the layout that is left. Where a 32-bit guest has it, a 64-bit one has pending bits, and nobody has raised
 * those. [KF-77, XE-MOD-31]
 */
function forgetWallClock(vm: Vm): void {
  const page = vm.gpcs.gpaOf(vm.region.sharedInfo);
  if (page === null) return;
  const [clock, high] = vm.region.longMode
    ? [SHARED_INFO_WC_LONG, SHARED_INFO_WC_SEC_HI_LONG]
    : [SHARED_INFO_WC_COMPAT, SHARED_INFO_WC_SEC_HI_COMPAT];
  vm.guestMemory.write(gpa(page + clock), new Uint8Array(WALL_CLOCK_SIZE));
  vm.guestMemory.write(gpa(page + high), new Uint8Array(4));
}

function lookEverywhere(vm: Vm): void {
  for (let index = 0; index < vm.vcpus; index++) vm.vcpu(index).resync();
}
