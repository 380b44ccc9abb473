export { type AgentOptions, attachVm, createVm, holdEventLoop, type VmOptions } from './create.ts';
export { type ErrorCode, EvtchnError, errnoName } from './errors.ts';
export { type Gfn, type Gpa, gfn, gpa, type Hpa, type Hva, hva } from './memory/address.ts';
export { regionBytes } from './memory/region.ts';
export type { VcpuAttr, VmAttr } from './vm/attributes.ts';
export { type Clock, systemClock, VirtualClock } from './vm/clock.ts';
export type { Nanoseconds } from './vm/time.ts';
export type { Runstate, RunstateName, TimeInfo, UpcallListener, Vcpu, WaitResult } from './vm/vcpu.ts';
export type { BatchCounts, Hold, Vm, VmHandle } from './vm/vm.ts';
