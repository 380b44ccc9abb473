// The page of stubs that a guest calls instead of VMCALL: it asks for one by writing an MSR. [kvm-xen 9.1]

import { CAP_INTERCEPT_HCALL, HVM_CONFIG_FLAGS, HVM_CONFIG_MSR } from '../../abi/hvm_config.ts';
import { HYPERCALL_STUB_SIZE, HYPERCALL_STUBS } from '../../abi/hypercall.ts';
import { REGION_HVM_CONFIG, VM_AMD } from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { gpa } from '../../memory/address.ts';
import { getHvmConfig } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { checkU64, type GuestCpu } from './guest_cpu.ts';
import { readHost } from './host_read.ts';

/** What became of a WRMSR: the page is written; #GP is to be injected; or it is not this MSR, and the embedder's to handle. */
export type MsrWrite = 'written' | 'gp' | 'other';

/** Guest-physical addresses end here. */
const GPA_END = 2n ** 52n;
const PAGE_NUMBER = BigInt(PAGE_SIZE - 1);

const MOV_EAX = 0xb8;
const VMCALL = [0x0f, 0x01, 0xc1] as const;
const VMMCALL = [0x0f, 0x01, 0xd9] as const;
const RET = 0xc3;
const INT3 = 0xcc;

/** [KX-HCL-01..07] @internal */
export function writeMsr(vcpu: Vcpu, cpu: GuestCpu, index: number, value: bigint): MsrWrite {
  const { vm } = vcpu;
  vm.checkOpen();
  checkRange('the index of the MSR', index, 0, 2 ** 32 - 1);
  checkU64('the value of the MSR', value);
  const { words } = vm.region;
  const config = vm.vmBase + REGION_HVM_CONFIG;
  const msr = words.load(config + HVM_CONFIG_MSR) >>> 0;
  if (msr === 0 || index !== msr) return 'other';
  if (cpu.cpl !== 0 || !latchMode(vm, cpu.lma)) return 'gp';
  const intercepts = (words.load(config + HVM_CONFIG_FLAGS) & CAP_INTERCEPT_HCALL) !== 0;
  const page = intercepts ? stubs(vm, value) : blob(vm, cpu.lma, value);
  const address = value & ~PAGE_NUMBER;
  if (page === null || address >= GPA_END) return 'gp';
  return vm.guestMemory.write(gpa(Number(address)), page, vcpu.index) ? 'written' : 'gp';
}

/** The guest's mode decides the layout of its structures from now on. [KX-HCL-04, KX-VMA-03] @returns whether shared_info follows */
function latchMode(vm: Vm, lma: boolean): boolean {
  if (vm.region.longMode === lma) return true;
  vm.kernel.setLongMode(vm.vmBase, lma ? 1 : 0);
  if (!vm.gpcs.isActive(vm.region.sharedInfo)) return true;
  try {
    vm.writeWallClock();
    return true;
  } catch (error) {
    if (error instanceof EvtchnError) return false;
    throw error;
  }
}

/** Stub n loads n and calls; the same code in every mode. Null unless page 0 is asked for. [KX-HCL-05] */
function stubs(vm: Vm, value: bigint): Uint8Array | null {
  if ((value & PAGE_NUMBER) !== 0n) return null;
  const page = new Uint8Array(HYPERCALL_STUBS * HYPERCALL_STUB_SIZE).fill(INT3);
  const call = vm.region.has(VM_AMD) ? VMMCALL : VMCALL;
  for (let n = 0; n < HYPERCALL_STUBS; n++) {
    page.set([MOV_EAX, n, 0, 0, 0, ...call, RET], n * HYPERCALL_STUB_SIZE);
  }
  return page;
}

/**
 * The embedder's own page, by the mode of the guest. [KX-HCL-06]
 * @returns null when there is none of that number. Throws EFAULT when it cannot be read: that is the embedder's fault.
 */
function blob(vm: Vm, lma: boolean, value: bigint): Uint8Array | null {
  const { blobLong, blobCompat, blobPagesLong, blobPagesCompat } = getHvmConfig(vm);
  const [first, pages] = lma ? [blobLong, blobPagesLong] : [blobCompat, blobPagesCompat];
  const number = Number(value & PAGE_NUMBER);
  if (number >= pages) return null;
  const address = first + number * PAGE_SIZE;
  const page = readHost(vm, address, PAGE_SIZE);
  if (page === null) {
    throw new EvtchnError(
      'EFAULT',
      `page ${number} of the hypercall blob, at host address 0x${address.toString(16)}, is not mapped`,
    );
  }
  return page;
}
