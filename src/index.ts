export { PRIORITY_2LEVEL } from './abi/attribute.ts';
export { EXIT_DIRTY_RING_FULL } from './abi/exit.ts';
export {
  CAP_EVTCHN_2LEVEL,
  CAP_EVTCHN_SEND,
  CAP_HYPERCALL_MSR,
  CAP_INTERCEPT_HCALL,
  CAP_PVCLOCK_TSC_UNSTABLE,
  CAP_RUNSTATE,
  CAP_RUNSTATE_UPDATE_FLAG,
  CAP_SHARED_INFO,
  CAP_SHARED_INFO_HVA,
} from './abi/hvm_config.ts';
export {
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
} from './abi/ioctl.ts';
export { type AgentOptions, attachVm, createVm, holdEventLoop, type VmOptions } from './create.ts';
export { type ErrorCode, EvtchnError, errnoName } from './errors.ts';
export { type Gfn, type Gpa, gfn, gpa, type Hpa, type Hva, hpa, hva } from './memory/address.ts';
export type { InvalidateOptions } from './memory/changes.ts';
export type { DirtyLog, DirtyPage } from './memory/dirty_log.ts';
export type { PageFault } from './memory/gpc.ts';
export type { GuestMemory } from './memory/guest_memory.ts';
export type { HistoricCache, HistoricCacheOptions } from './memory/historic_gpc.ts';
export type { HostPage, HostPages } from './memory/host_pages.ts';
export type { Memslot, Memslots } from './memory/memslots.ts';
export { type RegionSizes, regionBytes } from './memory/region.ts';
export type { AttrOf } from './vm/attribute_row.ts';
export type {
  EvtchnAttr,
  EvtchnTarget,
  RunstateAdjustAttr,
  RunstateCurrentAttr,
  RunstateDataAttr,
  SendPort,
  TimerAttr,
  VcpuAttr,
  VmAttr,
  VmAttrRead,
} from './vm/attributes.ts';
export type { EvtchnEvent } from './vm/events/event.ts';
export type { Eventfd } from './vm/events/eventfd.ts';
export type { EventfdOptions, EventfdStatus, Eventfds } from './vm/events/eventfds.ts';
export type { PortStatus } from './vm/events/port.ts';
export type { EvtchnRoute, IrqchipRoute, IrqRoute, MsiRoute } from './vm/events/route_entry.ts';
export type { InterruptHandler, Routes } from './vm/events/routes.ts';
export type { SendPorts } from './vm/events/send_ports.ts';
export type { WaitResult } from './vm/events/sleep.ts';
export type { Explanation, ExplanationCause } from './vm/explain/explain.ts';
export type { ExplanationFact } from './vm/explain/facts.ts';
export type { Cpuid, CpuidRegisters } from './vm/guest/cpuid.ts';
export {
  FlatCpu,
  type FlatCpuState,
  type GuestCpu,
  type GuestRegisters,
  type XenGuestCpu,
} from './vm/guest/guest_cpu.ts';
export type { GuestEntry } from './vm/guest/guest_entry.ts';
export type { HypercallResult, XenExit } from './vm/guest/hypercall.ts';
export type { MsrWrite } from './vm/guest/hypercall_page.ts';
export type { HypercallParams } from './vm/guest/hypercall_table.ts';
export type { HvmConfig } from './vm/hvm_config.ts';
export { type HeldOptions, type RestoreOptions, readSnapshot, type SnapshotOptions } from './vm/snapshot/snapshot.ts';
export type * from './vm/snapshot/state.ts';
export { type Clock, type ClockSample, systemClock, VirtualClock, type VirtualClockOptions } from './vm/time/clock.ts';
export { driveTimers, type TimerDriver, type TimerDriverOptions } from './vm/time/driver.ts';
export type { GuestTsc } from './vm/time/guest_clock.ts';
export type { ClockInstant, Kvmclock } from './vm/time/kvmclock.ts';
export type { Nanoseconds } from './vm/time/nanoseconds.ts';
export type { TimeInfo, TimeSource } from './vm/time/pvclock.ts';
export type { Runstate, RunstateName } from './vm/time/runstate.ts';
export type { Unload } from './vm/time/scheduling.ts';
export type { UpcallListener, Vcpu } from './vm/vcpu.ts';
export type { BatchCounts, Hold, Vm, VmHandle } from './vm/vm.ts';
export { decodeVcpuAttr, decodeVmAttr, encodeVcpuAttr, encodeVmAttr } from './vm/wire/attributes.ts';
export { type ClockData, decodeClockData, encodeClockData } from './vm/wire/clock.ts';
export { decodeHvmConfig, encodeHvmConfig } from './vm/wire/config.ts';
export { decodeXenExit, encodeXenExit } from './vm/wire/exit.ts';
export { describeIoctl } from './vm/wire/ioctl_describe.ts';
export {
  describeEntry,
  type IoctlEntry,
  type IoctlMismatch,
  type IoctlTarget,
  type IoctlVm,
  recordIoctls,
  replayIoctls,
} from './vm/wire/ioctl_record.ts';
export {
  decodeDirtyLog,
  decodeMemoryRegion,
  encodeDirtyLog,
  encodeMemoryRegion,
  type SlotName,
} from './vm/wire/memory.ts';
export {
  decodeEvtchnSend,
  decodeIrqfd,
  decodeIrqLevel,
  decodeRouting,
  encodeEvtchnSend,
  encodeIrqfd,
  encodeIrqLevel,
  encodeRouting,
  type Irqfd,
  type IrqLevel,
} from './vm/wire/routing.ts';
