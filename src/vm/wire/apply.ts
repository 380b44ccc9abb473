// Attribute structures set on a VM and read from it, with KVM's errors in KVM's order: mostly the objects' own rows, and here
// what a structure says that no object can. [kvm-xen sections 3 and 4]

import { ATTR_EVTCHN_FLAGS, ATTR_EVTCHN_SEND_PORT, ATTR_SIZE, ATTR_VALUE, EVTCHN_UPDATE } from '../../abi/attribute.ts';
import { GPC_FAR_ADDRESS, VCPU_INFO_GPC, VCPU_TIME_INFO_GPC } from '../../abi/region.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { type Gpa, gpaToGfn } from '../../memory/address.ts';
import type { VcpuAttr, VmAttr } from '../attributes.ts';
import { checkSchedInfo } from '../hvm_config.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { type Codec, typeOf, VCPU_CODECS, VM_CODECS, wideGpaOfFrame } from './attributes.ts';
import { ALL1, getU32, getU64, isFar, standIn, structure } from './structure.ts';

/** What is different from the object's own set or get: a set, a get, or both. */
interface Difference<Owner> {
  set?(owner: Owner, view: DataView): void;
  get?(owner: Owner, view: DataView): void;
}

type Differences<Owner, A extends { type: string }> = { readonly [T in A['type']]?: Difference<Owner> };

const PAGE_BITS = 12n;

// ── addresses that no number holds ───────────────────────────────────────────────────────────────────────────────────
// They are in no slot, so nothing can be registered there; but KVM says so with EFAULT and shows the address in a get. The
// cache then has a stand-in for an address, and beside it the one that was given.

/** Registers a cache at an address of 64 bits, ALL1 for nowhere, by `set`. [KX-VMA-05, KX-VCA-01] */
function setAddress(vm: Vm, gpc: number, address: bigint, set: (at: Gpa | null) => void): void {
  const remember = (): void => {
    const far = address !== ALL1 && isFar(address) ? address : 0n;
    if (vm.region.words.load64(gpc + GPC_FAR_ADDRESS) !== far) vm.region.words.store64(gpc + GPC_FAR_ADDRESS, far);
  };
  try {
    set(address === ALL1 ? null : standIn(address));
  } catch (error) {
    // These two leave the cache with the new address; any other changes nothing.
    if (error instanceof EvtchnError && (error.code === 'EFAULT' || error.code === 'EAGAIN')) remember();
    throw error;
  }
  remember();
}

/** The address of a cache as it was given, ALL1 for none by guest-physical address. */
function addressOf(vm: Vm, gpc: number): bigint {
  const at = vm.gpcs.gpaOf(gpc);
  if (at === null) return ALL1;
  const far = vm.region.words.load64(gpc + GPC_FAR_ADDRESS);
  // An object's set may have moved the cache since.
  return far !== 0n && standIn(far) === at ? far : BigInt(at);
}

function vcpuAddress(type: 'vcpu_info' | 'vcpu_time_info', gpcOf: (vcpu: Vcpu) => number): Difference<Vcpu> {
  return {
    set: (vcpu, view) =>
      setAddress(vcpu.vm, gpcOf(vcpu), getU64(view, ATTR_VALUE), (gpa) => vcpu.setAttr({ type, gpa })),
    get: (vcpu, view) => view.setBigUint64(ATTR_VALUE, addressOf(vcpu.vm, gpcOf(vcpu)), true),
  };
}

// ── what KVM looks at before the value ───────────────────────────────────────────────────────────────────────────────

/** A port that is not there comes before a type that is none, which no object says. [KX-EVA-13] */
function checkUpdate(vm: Vm, view: DataView): void {
  if (getU32(view, ATTR_EVTCHN_FLAGS) !== EVTCHN_UPDATE) return;
  const sendPort = getU32(view, ATTR_EVTCHN_SEND_PORT);
  checkRange('the send port', sendPort, 1, vm.max2LevelPorts - 1);
  if (!vm.sendPorts.list().some((port) => port.sendPort === sendPort)) {
    throw new EvtchnError('ENOENT', `send port ${sendPort} cannot be updated: it does not exist`);
  }
}

/** Without scheduler statistics that is what is said, whatever the value. [KX-CAP-18] */
function needsSchedInfo(type: 'runstate_current' | 'runstate_data' | 'runstate_adjust'): Difference<Vcpu> {
  return {
    set: (vcpu, view) => {
      checkSchedInfo(vcpu.vm);
      vcpu.setAttr(VCPU_CODECS[type].decode(view));
    },
  };
}

const VM_DIFFERENCES: Differences<Vm, VmAttr> = {
  shared_info: {
    set: (vm, view) => {
      const frame = getU64(view, ATTR_VALUE);
      setAddress(vm, vm.region.sharedInfo, frame === ALL1 ? ALL1 : wideGpaOfFrame(frame), (at) =>
        vm.setAttr({ type: 'shared_info', gfn: at === null ? null : gpaToGfn(at) }),
      );
    },
    get: (vm, view) => {
      const at = addressOf(vm, vm.region.sharedInfo);
      view.setBigUint64(ATTR_VALUE, at === ALL1 ? ALL1 : at >> PAGE_BITS, true);
    },
  },
  evtchn: {
    set: (vm, view) => {
      checkUpdate(vm, view);
      vm.setAttr(VM_CODECS.evtchn.decode(view));
    },
    // Objects can read it; the kernel's interface cannot.
    get: () => {
      throw new EvtchnError('ENOENT', 'send ports cannot be read by a structure');
    },
  },
};

const VCPU_DIFFERENCES: Differences<Vcpu, VcpuAttr> = {
  vcpu_info: vcpuAddress('vcpu_info', (vcpu) => vcpu.line + VCPU_INFO_GPC),
  vcpu_time_info: vcpuAddress('vcpu_time_info', (vcpu) => vcpu.record + VCPU_TIME_INFO_GPC),
  runstate_addr: {
    // Any failure unregisters, so there is no address to remember. [KX-VCA-05]
    set: (vcpu, view) => {
      const address = getU64(view, ATTR_VALUE);
      vcpu.setAttr({ type: 'runstate_addr', gpa: address === ALL1 ? null : standIn(address) });
    },
    get: (vcpu, view) => {
      checkSchedInfo(vcpu.vm);
      const attr = vcpu.getAttr('runstate_addr');
      if (attr.gpa === null) throw new EvtchnError('ENOENT', `vCPU ${vcpu.index} has no runstate area`);
      VCPU_CODECS.runstate_addr.encode(view, attr);
    },
  },
  runstate_current: needsSchedInfo('runstate_current'),
  runstate_data: needsSchedInfo('runstate_data'),
  runstate_adjust: needsSchedInfo('runstate_adjust'),
};

// ── the four calls ───────────────────────────────────────────────────────────────────────────────────────────────────

/** KVM_XEN_HVM_SET_ATTR. Throws as `Vm.setAttr`, ENOENT for an unknown type, EFAULT for fewer than 72 bytes. @internal */
export function setVmAttr(vm: Vm, bytes: Uint8Array): void {
  vm.checkOwner();
  const view = structure(bytes, ATTR_SIZE);
  const type = typeOf<VmAttr>(VM_CODECS, view);
  const different = VM_DIFFERENCES[type]?.set;
  if (different) different(vm, view);
  else vm.setAttr((VM_CODECS[type] as Codec<VmAttr>).decode(view));
}

/** KVM_XEN_HVM_GET_ATTR: writes the value and nothing else; nothing at all when it throws. [KX-ABI-46] @internal */
export function getVmAttr(vm: Vm, bytes: Uint8Array): void {
  vm.checkOpen();
  const view = structure(bytes, ATTR_SIZE);
  const type = typeOf<VmAttr>(VM_CODECS, view);
  const different = VM_DIFFERENCES[type]?.get;
  if (different) different(vm, view);
  else (VM_CODECS[type] as Codec<VmAttr>).encode(view, vm.getAttr(type));
}

/** KVM_XEN_VCPU_SET_ATTR. Throws as `Vcpu.setAttr`, ENOENT for an unknown type, EFAULT for fewer than 72 bytes. @internal */
export function setVcpuAttr(vcpu: Vcpu, bytes: Uint8Array): void {
  vcpu.vm.checkOwner();
  const view = structure(bytes, ATTR_SIZE);
  const type = typeOf<VcpuAttr>(VCPU_CODECS, view);
  const different = VCPU_DIFFERENCES[type]?.set;
  if (different) different(vcpu, view);
  else vcpu.setAttr((VCPU_CODECS[type] as Codec<VcpuAttr>).decode(view));
}

/** KVM_XEN_VCPU_GET_ATTR: as `getVmAttr`. @internal */
export function getVcpuAttr(vcpu: Vcpu, bytes: Uint8Array): void {
  vcpu.vm.checkOpen();
  const view = structure(bytes, ATTR_SIZE);
  const type = typeOf<VcpuAttr>(VCPU_CODECS, view);
  const different = VCPU_DIFFERENCES[type]?.get;
  if (different) different(vcpu, view);
  else (VCPU_CODECS[type] as Codec<VcpuAttr>).encode(view, vcpu.getAttr(type));
}
