// The calls that a VMM makes to the kernel, by number and structure: what a VMM written against /dev/kvm would see here.
// Nothing throws: failures are negative errno values. [KX-ABI-40..46]

import { ATTR_SIZE } from '../../abi/attribute.ts';
import { EFAULT, ENOTTY } from '../../abi/errno.ts';
import { HVM_CONFIG_SIZE } from '../../abi/hvm_config.ts';
import {
  CLOCK_DATA_SIZE,
  KVM_CAP_XEN_HVM,
  KVM_CHECK_EXTENSION,
  KVM_GET_CLOCK,
  KVM_GET_DIRTY_LOG,
  KVM_IRQ_LINE,
  KVM_IRQFD,
  KVM_RESET_DIRTY_RINGS,
  KVM_SET_CLOCK,
  KVM_SET_GSI_ROUTING,
  KVM_SET_USER_MEMORY_REGION,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_EVTCHN_SEND,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from '../../abi/ioctl.ts';
import { DIRTY_LOG_SIZE, MEMORY_REGION_SIZE } from '../../abi/memory_region.ts';
import { VM_IRQCHIP } from '../../abi/region.ts';
import { IRQ_LEVEL_SIZE, IRQFD_SIZE, ROUTING_HEADER_SIZE, XEN_EVTCHN_SIZE } from '../../abi/routing.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError } from '../../errors.ts';
import { storeHvmConfig } from '../hvm_config.ts';
import { guestTime } from '../time/kvmclock.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { getVcpuAttr, getVmAttr, setVcpuAttr, setVmAttr } from './apply.ts';
import { decodeClockData, encodeClockData } from './clock.ts';
import { decodeRawConfig } from './config.ts';
import { bitmapBytes, decodeDirtyLog, decodeMemoryRegion } from './memory.ts';
import { decodeEvtchnSend, decodeIrqfd, decodeIrqLevel, decodeRouting } from './routing.ts';
import { build, getU32, putU32, structure } from './structure.ts';

/** One call: the bytes that its argument has at least, and what it does and answers. */
interface Ioctl<Owner> {
  readonly size: number;
  run(owner: Owner, argument: Uint8Array): number;
}

/** A call that answers 0. */
function quiet<Owner>(act: (owner: Owner, argument: Uint8Array) => void): Ioctl<Owner>['run'] {
  return (owner, argument) => {
    act(owner, argument);
    return 0;
  };
}

/** KVM_CHECK_EXTENSION takes a number; here it is its bytes. */
const NUMBER_SIZE = 4;
const NOTHING = new Uint8Array(0);

// ── what they do ─────────────────────────────────────────────────────────────────────────────────────────────────────

function checkExtension(vm: Vm, argument: Uint8Array): number {
  vm.checkOpen();
  return getU32(structure(argument, NUMBER_SIZE), 0) === KVM_CAP_XEN_HVM ? vm.capabilities : 0;
}

/** The bitmap goes behind the structure. A buffer that is too short for it is refused before the bits are taken. [KX-MEM-35] */
function getDirtyLog(vm: Vm, argument: Uint8Array): void {
  const { id, addressSpace } = decodeDirtyLog(argument);
  const slot = vm.memslots.list().find((other) => other.id === id && (other.addressSpace ?? 0) === addressSpace);
  if (slot?.logDirty && vm.dirtyLog.ringEntries === 0) {
    structure(argument, DIRTY_LOG_SIZE + bitmapBytes(slot.bytes / PAGE_SIZE));
  }
  const bits = vm.dirtyLog.take(id, addressSpace);
  argument.fill(0, DIRTY_LOG_SIZE, DIRTY_LOG_SIZE + bitmapBytes(bits.length * 8));
  argument.set(bits, DIRTY_LOG_SIZE);
}

function resetDirtyRings(vm: Vm): number {
  vm.checkOwner();
  if (vm.dirtyLog.ringEntries === 0) throw new EvtchnError('EINVAL', 'this VM has no dirty rings');
  return vm.dirtyLog.reset();
}

function irqLine(vm: Vm, argument: Uint8Array): void {
  vm.checkOpen();
  if (!vm.region.has(VM_IRQCHIP)) throw new EvtchnError('ENXIO', 'this VM was made with irqchip: false');
  const { gsi, level } = decodeIrqLevel(argument);
  // Whether it could be delivered is not what this call answers. [KX-RTE-20]
  vm.routes.raise(gsi, level);
}

function setRouting(vm: Vm, argument: Uint8Array): void {
  vm.checkOwner();
  if (!vm.region.has(VM_IRQCHIP)) throw new EvtchnError('EINVAL', 'this VM was made with irqchip: false');
  vm.routes.set(decodeRouting(argument));
}

/** The time of day belongs to the same moment, so that the epoch of the guest's clock can be computed from it. [S-50] */
function getClock(vm: Vm, argument: Uint8Array): void {
  const data = vm.kvmclock.read((state) => {
    const sample = vm.kvmclock.sample();
    const { realtime, tsc = null } = sample;
    return { clock: guestTime(state, sample), realtime, hostTsc: tsc, tscStable: state.master };
  });
  argument.set(encodeClockData(data));
}

/** With a time of day the clock goes on from there, never back. [KX-CLK-01] */
function setClock(vm: Vm, argument: Uint8Array): void {
  vm.checkOwner();
  const { clock, realtime } = decodeClockData(argument);
  const passed = realtime === null ? 0n : vm.kvmclock.sample().realtime - realtime;
  vm.kvmclock.set(BigInt.asUintN(64, clock + (passed > 0n ? passed : 0n)));
}

function setMemoryRegion(vm: Vm, argument: Uint8Array): void {
  vm.memslots.set(decodeMemoryRegion(argument));
}

function irqfd(vm: Vm, argument: Uint8Array): void {
  const { fd, gsi, flags } = decodeIrqfd(argument);
  vm.eventfds.irqfd(fd, gsi, flags);
}

function setConfig(vm: Vm, argument: Uint8Array): void {
  vm.checkOwner();
  storeHvmConfig(vm, decodeRawConfig(argument));
}

function evtchnSend(vm: Vm, argument: Uint8Array): number {
  return vm.evtchnSend(decodeEvtchnSend(argument));
}

// ── the tables ───────────────────────────────────────────────────────────────────────────────────────────────────────

const VM_IOCTLS: ReadonlyMap<number, Ioctl<Vm>> = new Map([
  [KVM_CHECK_EXTENSION, { size: NUMBER_SIZE, run: checkExtension }],
  [KVM_SET_USER_MEMORY_REGION, { size: MEMORY_REGION_SIZE, run: quiet(setMemoryRegion) }],
  [KVM_GET_DIRTY_LOG, { size: DIRTY_LOG_SIZE, run: quiet(getDirtyLog) }],
  [KVM_RESET_DIRTY_RINGS, { size: 0, run: resetDirtyRings }],
  [KVM_IRQ_LINE, { size: IRQ_LEVEL_SIZE, run: quiet(irqLine) }],
  [KVM_SET_GSI_ROUTING, { size: ROUTING_HEADER_SIZE, run: quiet(setRouting) }],
  [KVM_IRQFD, { size: IRQFD_SIZE, run: quiet(irqfd) }],
  [KVM_XEN_HVM_CONFIG, { size: HVM_CONFIG_SIZE, run: quiet(setConfig) }],
  [KVM_GET_CLOCK, { size: CLOCK_DATA_SIZE, run: quiet(getClock) }],
  [KVM_SET_CLOCK, { size: CLOCK_DATA_SIZE, run: quiet(setClock) }],
  [KVM_XEN_HVM_SET_ATTR, { size: ATTR_SIZE, run: quiet(setVmAttr) }],
  [KVM_XEN_HVM_GET_ATTR, { size: ATTR_SIZE, run: quiet(getVmAttr) }],
  [KVM_XEN_HVM_EVTCHN_SEND, { size: XEN_EVTCHN_SIZE, run: evtchnSend }],
]);

const VCPU_IOCTLS: ReadonlyMap<number, Ioctl<Vcpu>> = new Map([
  [KVM_XEN_VCPU_SET_ATTR, { size: ATTR_SIZE, run: quiet(setVcpuAttr) }],
  [KVM_XEN_VCPU_GET_ATTR, { size: ATTR_SIZE, run: quiet(getVcpuAttr) }],
]);

/** A number as the bytes of an argument. @internal */
export function argumentBytes(argument: Uint8Array | number | undefined): Uint8Array {
  if (typeof argument !== 'number') return argument ?? NOTHING;
  return build(NUMBER_SIZE, (view) => putU32(view, 0, 'the argument', argument >>> 0));
}

function call<Owner>(
  table: ReadonlyMap<number, Ioctl<Owner>>,
  owner: Owner,
  request: number,
  argument: Uint8Array | number | undefined,
): number {
  // The kernel's parameter has 32 bits, and a VMM may hold it as a negative number.
  const ioctl = typeof request === 'number' ? table.get(request >>> 0) : undefined;
  if (!ioctl) return -ENOTTY;
  const bytes = argumentBytes(argument);
  if (!(bytes instanceof Uint8Array) || bytes.byteLength < ioctl.size) return -EFAULT;
  try {
    return ioctl.run(owner, bytes);
  } catch (error) {
    if (error instanceof EvtchnError) return -error.errno;
    throw error;
  }
}

/** @internal */
export function vmIoctl(vm: Vm, request: number, argument?: Uint8Array | number): number {
  return call(VM_IOCTLS, vm, request, argument);
}

/** @internal */
export function vcpuIoctl(vcpu: Vcpu, request: number, argument?: Uint8Array | number): number {
  return call(VCPU_IOCTLS, vcpu, request, argument);
}
