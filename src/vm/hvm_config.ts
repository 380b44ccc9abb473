// KVM_XEN_HVM_CONFIG: the gate of everything that happens by itself, the hypercall page, and the capability bits. [kvm-xen 2]

import {
  CAP_EVTCHN_2LEVEL,
  CAP_EVTCHN_SEND,
  CAP_HYPERCALL_MSR,
  CAP_INTERCEPT_HCALL,
  CAP_PVCLOCK_TSC_UNSTABLE,
  CAP_RUNSTATE,
  CAP_RUNSTATE_UPDATE_FLAG,
  CAP_SHARED_INFO,
  CAP_SHARED_INFO_HVA,
  HVM_CONFIG_BLOB_COMPAT,
  HVM_CONFIG_BLOB_LONG,
  HVM_CONFIG_BLOB_PAGES_COMPAT,
  HVM_CONFIG_BLOB_PAGES_LONG,
  HVM_CONFIG_FLAGS,
  HVM_CONFIG_FLAGS_ALLOWED,
  HVM_CONFIG_MSR,
  HVM_CONFIG_MSR_FIRST,
  HVM_CONFIG_MSR_LAST,
} from '../abi/hvm_config.ts';
import { REGION_HVM_CONFIG, REQUEST_CLOCK_UPDATE, VM_SCHED_INFO } from '../abi/region.ts';
import { checkRange, EvtchnError, hex } from '../errors.ts';
import type { Hva } from '../memory/address.ts';
import type { Vm } from './vm.ts';

/** struct kvm_xen_hvm_config. Without an MSR nothing happens by itself: no upcall vector, no hypercalls, no runstate. */
export interface HvmConfig {
  /** index of the hypercall page's MSR, 0x40000000..0x4fffffff; 0: off */
  readonly msr: number;
  /** the engine writes the hypercall page and answers hypercalls it knows */
  readonly interceptHypercalls?: boolean;
  /** a promise that all events are raised through the engine, so that polls may sleep here */
  readonly evtchnSend?: boolean;
  /** guest clocks do not say that the TSC is stable */
  readonly tscUnstable?: boolean;
  /** what the guest gets as hypercall page otherwise: where it is kept, and pages of it; 0 = none */
  readonly blobCompat?: Hva;
  readonly blobLong?: Hva;
  readonly blobPagesCompat?: number;
  readonly blobPagesLong?: number;
}

/** What KVM_CHECK_EXTENSION answers for Xen. [KX-CAP-10] @internal */
export function capabilities(vm: Vm): number {
  const always =
    CAP_HYPERCALL_MSR |
    CAP_INTERCEPT_HCALL |
    CAP_SHARED_INFO |
    CAP_EVTCHN_2LEVEL |
    CAP_EVTCHN_SEND |
    CAP_PVCLOCK_TSC_UNSTABLE |
    CAP_SHARED_INFO_HVA;
  return vm.region.has(VM_SCHED_INFO) ? always | CAP_RUNSTATE | CAP_RUNSTATE_UPDATE_FLAG : always;
}

/** [KX-CAP-11..17] @internal */
export function setHvmConfig(vm: Vm, config: HvmConfig): void {
  const flags =
    (config.interceptHypercalls ? CAP_INTERCEPT_HCALL : 0) |
    (config.evtchnSend ? CAP_EVTCHN_SEND : 0) |
    (config.tscUnstable ? CAP_PVCLOCK_TSC_UNSTABLE : 0);
  storeHvmConfig(vm, { ...config, flags });
}

/** As it lies in the structure, whose flags may have bits that are not allowed. @internal */
export interface RawHvmConfig extends HvmConfig {
  readonly flags: number;
}

/** Checks in KVM's order, then replaces all of it. @internal */
export function storeHvmConfig(vm: Vm, config: RawHvmConfig): void {
  const blobs = [config.blobCompat ?? 0, config.blobLong ?? 0] as const;
  const pages = [config.blobPagesCompat ?? 0, config.blobPagesLong ?? 0] as const;
  checkConfig(config, blobs, pages);
  const { words, base } = vm.region;
  const at = base + REGION_HVM_CONFIG;
  const before = words.load(at + HVM_CONFIG_FLAGS);
  words.store(at + HVM_CONFIG_FLAGS, config.flags);
  words.store(at + HVM_CONFIG_MSR, config.msr);
  words.storeWide(at + HVM_CONFIG_BLOB_COMPAT, blobs[0]);
  words.storeWide(at + HVM_CONFIG_BLOB_LONG, blobs[1]);
  const shift = (HVM_CONFIG_BLOB_PAGES_LONG - HVM_CONFIG_BLOB_PAGES_COMPAT) * 8;
  words.store(at + HVM_CONFIG_BLOB_PAGES_COMPAT, pages[0] | (pages[1] << shift));
  if ((before ^ config.flags) & CAP_PVCLOCK_TSC_UNSTABLE) vm.requestAll(REQUEST_CLOCK_UPDATE);
}

function checkConfig(config: RawHvmConfig, blobs: readonly number[], pages: readonly number[]): void {
  checkFlags(config.flags);
  // Read only when the page is written; an address that cannot be read fails then. [KX-HCL-06]
  for (const address of blobs) checkRange('the address of a hypercall blob', address, 0, Number.MAX_SAFE_INTEGER);
  for (const count of pages) checkRange('the pages of a hypercall blob', count, 0, 255);
  if (config.flags & CAP_INTERCEPT_HCALL && [...blobs, ...pages].some((value) => value !== 0)) {
    throw new EvtchnError('EINVAL', 'hypercalls are intercepted and a hypercall blob is given: only one of the two');
  }
  checkMsr(config.msr);
}

/** [KX-CAP-11] @internal */
export function checkFlags(flags: number): void {
  if (flags & ~HVM_CONFIG_FLAGS_ALLOWED) {
    throw new EvtchnError(
      'EINVAL',
      `the flags are ${hex(flags >>> 0)}, allowed are bits of ${hex(HVM_CONFIG_FLAGS_ALLOWED)}`,
    );
  }
}

/** [KX-CAP-13] @internal */
export function checkMsr(msr: number): void {
  if (msr === 0) return;
  if (!Number.isInteger(msr) || msr < HVM_CONFIG_MSR_FIRST || msr > HVM_CONFIG_MSR_LAST) {
    const both = (value: number): string => `${value} (${hex(value)})`;
    const given = Number.isInteger(msr) ? both(msr) : String(msr);
    throw new EvtchnError(
      'EINVAL',
      `the hypercall MSR is ${given}, allowed are ${both(HVM_CONFIG_MSR_FIRST)} to ${both(HVM_CONFIG_MSR_LAST)}, or 0`,
    );
  }
}

/** [KX-ABI-40] @internal */
export function getHvmConfig(vm: Vm): Required<HvmConfig> {
  const { words, base } = vm.region;
  const at = base + REGION_HVM_CONFIG;
  const flags = words.load(at + HVM_CONFIG_FLAGS);
  const pages = words.load(at + HVM_CONFIG_BLOB_PAGES_COMPAT);
  return {
    msr: words.load(at + HVM_CONFIG_MSR),
    interceptHypercalls: (flags & CAP_INTERCEPT_HCALL) !== 0,
    evtchnSend: (flags & CAP_EVTCHN_SEND) !== 0,
    tscUnstable: (flags & CAP_PVCLOCK_TSC_UNSTABLE) !== 0,
    blobCompat: words.loadWide(at + HVM_CONFIG_BLOB_COMPAT) as Hva,
    blobLong: words.loadWide(at + HVM_CONFIG_BLOB_LONG) as Hva,
    blobPagesCompat: pages & 0xff,
    blobPagesLong: (pages >>> 8) & 0xff,
  };
}

/** Whether Xen support is on in this VM. [KX-GEN-05] @internal */
export function gateOpen(vm: Vm): boolean {
  return vm.region.words.load(vm.region.base + REGION_HVM_CONFIG + HVM_CONFIG_MSR) !== 0;
}

/** Throws EOPNOTSUPP without scheduler statistics. [KX-CAP-18] @internal */
export function checkSchedInfo(vm: Vm): void {
  if (vm.region.has(VM_SCHED_INFO)) return;
  throw new EvtchnError('EOPNOTSUPP', 'this VM keeps no runstate: it was made with schedInfo: false');
}
