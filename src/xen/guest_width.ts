// Whether a guest is a 32-bit or a 64-bit one: taken over when it writes its hypercall page or sets its callback. [XE-MOD-30, 31]

import { HYPERCALL_STUB_SIZE } from '../abi/hypercall.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { type Gpa, gpa } from '../memory/address.ts';
import type { XenGuestCpu } from '../vm/guest/guest_cpu.ts';
import type { MsrWrite } from '../vm/guest/hypercall_page.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';

/** No HVM guest returns from an exception by hypercall: its entry is UD2. [XE-BT-03] */
const HYPERCALL_IRET = 23;
const UD2 = Uint8Array.of(0x0f, 0x0b);

/**
 * The layout of shared structures is the caller's from now on. Pending and mask bits stay where they are; the wall clock is written
 * anew, and as the selector has another place, the guest is made to look at every word. Throws what writing the clock throws. @internal
 */
export function latchWidth(vm: Vm, long: boolean): void {
  if (vm.region.longMode === long) return;
  vm.setAttr({ type: 'long_mode', enabled: long });
  lookEverywhere(vm);
}

/** @internal */
export function writeHypercallPage(vcpu: Vcpu, cpu: XenGuestCpu, index: number, value: bigint): MsrWrite {
  const { vm } = vcpu;
  const long = vm.region.longMode;
  const result = vcpu.writeMsr(cpu, index, value);
  if (vm.region.longMode !== long) lookEverywhere(vm);
  if (result === 'written' && vm.getConfig().interceptHypercalls) {
    vm.guestMemory.write(entryOf(value, HYPERCALL_IRET), UD2, vcpu.index);
  }
  return result;
}

function entryOf(page: bigint, number: number): Gpa {
  return gpa(Number(page - (page % BigInt(PAGE_SIZE))) + number * HYPERCALL_STUB_SIZE);
}

function lookEverywhere(vm: Vm): void {
  for (let index = 0; index < vm.vcpus; index++) vm.vcpu(index).resync();
}
