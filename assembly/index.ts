// What the wasm exports; nothing else does. Only i32, u32 and f64 cross the boundary: a BigInt costs more than a send.

export { fingerprint } from '../src/abi/fingerprint';
export { sendMany, sendRest } from './batch';
export { awaitReaders, enter, leave } from './bracket';
export { markPage } from './dirty';
export { drain } from './drain';
export { awaitQueues, queueAt } from './fifo_queue';
export { fifoClear, fifoPriority } from './fifo_state';
export { fifoCarry, fifoRelink, fifoReplay, fifoSave, fifoUnlink } from './fifo_switch';
export {
  gpcBeginRefresh,
  gpcPublish,
  gpcUnmap,
  invalidateEnd,
  invalidateStart,
  setFifo,
  setLongMode,
  unmapRange,
  unmapSlots,
} from './gpc';
export { mask, portStatus, unmask } from './mask';
export { anyPending, pollBegin, pollEnd } from './poll';
export { bindVcpu, placePort } from './port';
export { timeRead, timeWrite, wallClockWrite } from './pvclock';
export { runstateEnter, runstateRead, runstateReplace, runstateWrite } from './runstate';
export {
  probeExchange,
  probeMisaligned,
  probeNarrowLoads,
  probeNotify,
  probeReadModifyWrite,
  probeWait,
} from './selftest';
export { send, sendTo } from './send';
export { pendingWork, sleepBegin, sleepEnd, sleepOn, spin, unblock } from './sleep';
export { flushShadow, keepSelector, resync, upcallPending } from './upcall';
export { xenClearPending, xenRaise, xenRaiseVirq, xenSend } from './xen_port';
