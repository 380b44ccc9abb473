// struct kvm_xen_hvm_config from and to a configuration: pure. [KX-ABI-40]

import {
  CAP_EVTCHN_SEND,
  CAP_INTERCEPT_HCALL,
  CAP_PVCLOCK_TSC_UNSTABLE,
  HVM_CONFIG_BLOB_COMPAT,
  HVM_CONFIG_BLOB_LONG,
  HVM_CONFIG_BLOB_PAGES_COMPAT,
  HVM_CONFIG_BLOB_PAGES_LONG,
  HVM_CONFIG_FLAGS,
  HVM_CONFIG_FLAGS_ALLOWED,
  HVM_CONFIG_MSR,
  HVM_CONFIG_SIZE,
} from '../../abi/hvm_config.ts';
import { EvtchnError, hex } from '../../errors.ts';
import { type Hva, hva } from '../../memory/address.ts';
import type { HvmConfig, RawHvmConfig } from '../hvm_config.ts';
import { build, getU32, getU64, putU8, putU32, putU64, structure, toNumber } from './structure.ts';

/** As it lies there, with whatever flags: they are looked at where it is stored, in KVM's order. [KX-CAP-14] @internal */
export function decodeRawConfig(bytes: Uint8Array): RawHvmConfig & Required<HvmConfig> {
  const view = structure(bytes, HVM_CONFIG_SIZE);
  const flags = getU32(view, HVM_CONFIG_FLAGS);
  const blob = (at: number): Hva => toNumber('the address of a hypercall blob', getU64(view, at)) as Hva;
  return {
    flags,
    msr: getU32(view, HVM_CONFIG_MSR),
    interceptHypercalls: (flags & CAP_INTERCEPT_HCALL) !== 0,
    evtchnSend: (flags & CAP_EVTCHN_SEND) !== 0,
    tscUnstable: (flags & CAP_PVCLOCK_TSC_UNSTABLE) !== 0,
    blobCompat: blob(HVM_CONFIG_BLOB_COMPAT),
    blobLong: blob(HVM_CONFIG_BLOB_LONG),
    blobPagesCompat: view.getUint8(HVM_CONFIG_BLOB_PAGES_COMPAT),
    blobPagesLong: view.getUint8(HVM_CONFIG_BLOB_PAGES_LONG),
  };
}

/**
 * The configuration that a struct kvm_xen_hvm_config of 56 bytes sets. [KX-ABI-40]
 * Throws EFAULT for fewer bytes, EINVAL for flags that a configuration may not carry and for an address beyond 2^53-1.
 */
export function decodeHvmConfig(bytes: Uint8Array): Required<HvmConfig> {
  const { flags, ...config } = decodeRawConfig(bytes);
  if (flags & ~HVM_CONFIG_FLAGS_ALLOWED) {
    throw new EvtchnError(
      'EINVAL',
      `the flags are ${hex(flags)}, allowed are bits of ${hex(HVM_CONFIG_FLAGS_ALLOWED)}`,
    );
  }
  return config;
}

/** The structure that sets a configuration. Throws EINVAL for a value that does not fit its field. */
export function encodeHvmConfig(config: HvmConfig): Uint8Array {
  const flags =
    (config.interceptHypercalls ? CAP_INTERCEPT_HCALL : 0) |
    (config.evtchnSend ? CAP_EVTCHN_SEND : 0) |
    (config.tscUnstable ? CAP_PVCLOCK_TSC_UNSTABLE : 0);
  const blob = (view: DataView, at: number, address: number): void =>
    putU64(view, at, 'the address of a hypercall blob', BigInt(hva(address)));
  return build(HVM_CONFIG_SIZE, (view) => {
    putU32(view, HVM_CONFIG_FLAGS, 'the flags', flags);
    putU32(view, HVM_CONFIG_MSR, 'the hypercall MSR', config.msr);
    blob(view, HVM_CONFIG_BLOB_COMPAT, config.blobCompat ?? 0);
    blob(view, HVM_CONFIG_BLOB_LONG, config.blobLong ?? 0);
    putU8(view, HVM_CONFIG_BLOB_PAGES_COMPAT, 'the pages of a hypercall blob', config.blobPagesCompat ?? 0);
    putU8(view, HVM_CONFIG_BLOB_PAGES_LONG, 'the pages of a hypercall blob', config.blobPagesLong ?? 0);
  });
}
