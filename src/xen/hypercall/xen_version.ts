// xen_version: what the guest is told about its hypervisor.

import { EINVAL, EPERM } from '../../abi/errno.ts';
import { XENVER_VERSION } from '../../abi/hypercall.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import {
  FEATURE_INFO_IDX,
  FEATURE_INFO_SIZE,
  FEATURE_INFO_SUBMAP,
  XENVER_BUILD_ID,
  XENVER_CAPABILITIES,
  XENVER_CHANGESET,
  XENVER_COMMANDLINE,
  XENVER_COMPILE_INFO,
  XENVER_EXTRAVERSION,
  XENVER_GET_FEATURES,
  XENVER_GUEST_HANDLE,
  XENVER_PAGESIZE,
  XENVER_PLATFORM_PARAMETERS,
} from '../../abi/xen_hypercall.ts';
import type { Identity } from '../identity.ts';
import { type Call, commands, copyOut, type Handler, inAndOut } from './call.ts';

/** What a guest without privilege gets in place of the hypervisor's command line. */
const DENIED = new TextEncoder().encode('<denied>\0');

/** A command that gives bytes. */
function gives(bytes: (identity: Identity) => Uint8Array): Handler {
  return (call) => copyOut(call, call.params[1], bytes(call.domain.hvm.identity));
}

/** @internal */
export const xenVersion: Handler = commands({
  [XENVER_VERSION]: ({ domain }) => domain.hvm.identity.major * 0x10000 + domain.hvm.identity.minor,
  [XENVER_EXTRAVERSION]: gives(({ extraVersion }) => extraVersion),
  [XENVER_COMPILE_INFO]: gives(({ compileInfo }) => compileInfo),
  [XENVER_CAPABILITIES]: gives(({ capabilities }) => capabilities),
  [XENVER_CHANGESET]: gives(({ changeset }) => changeset),
  // Where the hypervisor's own memory begins: nowhere, for an HVM guest.
  [XENVER_PLATFORM_PARAMETERS]: (call) => copyOut(call, call.params[1], new Uint8Array(call.long ? 8 : 4)),
  [XENVER_GET_FEATURES]: getFeatures,
  [XENVER_PAGESIZE]: ({ params }) => (params[1] === 0n ? PAGE_SIZE : -EINVAL),
  [XENVER_GUEST_HANDLE]: gives(({ handle }) => handle),
  [XENVER_COMMANDLINE]: (call) => copyOut(call, call.params[1], DENIED),
  [XENVER_BUILD_ID]: () => -EPERM,
});

/** Submaps other than the first: Xen refuses them, QEMU has nothing in them. [XE-QE-06] */
function getFeatures(call: Call): number {
  const { hvm, dialect } = call.domain;
  return inAndOut(call, call.params[1], FEATURE_INFO_SIZE, (argument) => {
    const first = argument.getUint32(FEATURE_INFO_IDX, true) === 0;
    if (!first && dialect.submapsRefused) return -EINVAL;
    argument.setUint32(FEATURE_INFO_SUBMAP, first ? hvm.identity.features : 0, true);
    return 0;
  });
}
