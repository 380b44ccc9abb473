// The only file that knows the wasm: it compiles, instantiates and checks the kernel, and types what it exports.

import { instantiateSync } from '@assemblyscript/loader';
import { fingerprint } from './abi/fingerprint.ts';
import { EvtchnError } from './errors.ts';
import { sharedKernel, unsharedKernel } from './kernel_bytes.ts';
import { selfTest } from './platform.ts';

/**
 * The raw exports of the kernel. `vm` is the region base, `agent` the agent's record, `gpc` a cache's record, all byte
 * offsets; ports, vCPU indices and results are i32; a negative result is an errno. Documented in `assembly/`.
 * @internal
 */
export interface Kernel {
  fingerprint(): number;
  enter(agent: number): number;
  leave(agent: number): number;
  awaitReaders(vm: number, self: number, from: number, spins: number): number;
  send(vm: number, agent: number, port: number): number;
  sendTo(vm: number, agent: number, port: number, vcpu: number): number;
  sendMany(vm: number, agent: number, list: number, n: number): number;
  sendRest(vm: number, agent: number, list: number, n: number): number;
  drain(vm: number, agent: number, vcpu: number, out: number): number;
  mask(vm: number, agent: number, port: number): number;
  unmask(vm: number, agent: number, port: number): number;
  portStatus(vm: number, agent: number, port: number): number;
  bindVcpu(vm: number, agent: number, port: number, vcpu: number): void;
  placePort(vm: number, port: number, entry: number): void;
  xenSend(vm: number, agent: number, peers: number, port: number): number;
  xenRaise(vm: number, agent: number, port: number): number;
  xenRaiseVirq(vm: number, agent: number, row: number, virq: number): number;
  xenClearPending(vm: number, agent: number, port: number): number;
  flushShadow(vm: number, agent: number, vcpu: number): number;
  keepSelector(vm: number, agent: number, vcpu: number, info: number): void;
  resync(vm: number, agent: number, vcpu: number): number;
  upcallPending(vm: number, agent: number, vcpu: number): number;
  pollBegin(vm: number, agent: number, vcpu: number, list: number, n: number): number;
  pollEnd(vm: number, vcpu: number): void;
  anyPending(vm: number, agent: number, list: number, n: number): number;
  pendingWork(vm: number, agent: number, vcpu: number): number;
  spin(vm: number, agent: number, vcpu: number, spins: number): number;
  sleepBegin(vm: number, agent: number, vcpu: number, blind?: number): number;
  sleepEnd(vm: number, agent: number, vcpu: number): number;
  sleepOn(vm: number, vcpu: number, timeoutNs: number): number;
  unblock(vm: number, agent: number, vcpu: number, closed: number): void;
  gpcBeginRefresh(vm: number, gpc: number, token: number): number;
  gpcPublish(vm: number, gpc: number, token: number, hpa: number): number;
  gpcUnmap(vm: number, gpc: number): number;
  setLongMode(vm: number, on: number): void;
  setFifo(vm: number, on: number): void;
  awaitQueues(vm: number, from: number, spins: number): number;
  queueAt(vm: number, number: number): number;
  fifoClear(vm: number, agent: number, port: number): number;
  fifoPriority(vm: number, port: number, priority: number): void;
  fifoSave(vm: number, page: number, long: number): void;
  fifoCarry(vm: number, page: number, long: number, words: number, first: number, usable: number): void;
  fifoUnlink(vm: number, words: number): void;
  fifoRelink(vm: number, agent: number, from: number, to: number): number;
  fifoReplay(vm: number, agent: number, port: number): number;
  invalidateStart(vm: number): void;
  unmapRange(vm: number, first: number, last: number): number;
  unmapSlots(vm: number): number;
  invalidateEnd(vm: number): number;
  runstateEnter(
    vm: number,
    agent: number,
    vcpu: number,
    state: number,
    nowLo: number,
    nowHi: number,
    delayLo: number,
    delayHi: number,
  ): number;
  runstateReplace(vm: number, agent: number, vcpu: number, delayLo: number, delayHi: number): void;
  runstateRead(vm: number, agent: number, vcpu: number): number;
  runstateWrite(vm: number, agent: number, vcpu: number): number;
  markPage(vm: number, vcpu: number, gfnLo: number, gfnHi: number): number;
  timeWrite(vm: number, agent: number, vcpu: number, which: number): number;
  timeRead(vm: number, agent: number, vcpu: number, which: number, tscLo: number, tscHi: number): number;
  wallClockWrite(vm: number, agent: number, secLo: number, secHi: number, nsec: number): number;
  probeNarrowLoads(p: number): number;
  probeReadModifyWrite(p: number): number;
  probeMisaligned(p: number): number;
  probeWait(p: number, expected: number, timeoutNs: number): number;
  probeNotify(p: number): number;
  probeExchange(p: number, value: number): number;
}

/** What the kernel calls. @internal */
export interface KernelHooks {
  /** unshared builds: a vCPU with a listener wants an upcall */
  kick?(vm: number, vcpu: number): void;
  /** trace builds: before each shared access */
  onStep?(kind: number, address: number): void;
  /** trace builds: in place of a sleep; returns 0 woken, 1 not equal, 2 timed out */
  onWait?(address: number, expected: number): number;
}

/** Whether a memory is shared: decides which of the two kernels links with it. */
export function isShared(memory: WebAssembly.Memory): boolean {
  // The global SharedArrayBuffer is missing on pages that are not isolated although shared memories work there.
  return Object.prototype.toString.call(memory.buffer) === '[object SharedArrayBuffer]';
}

/** Compiled at first use, once for each kind. @internal */
export function kernelModule(shared: boolean): WebAssembly.Module {
  const kind = shared ? 'shared' : 'unshared';
  modules[kind] ??= new WebAssembly.Module(decode(shared ? sharedKernel : unsharedKernel));
  return modules[kind];
}

const modules: { shared?: WebAssembly.Module; unshared?: WebAssembly.Module } = {};

function decode(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

/** Instantiates a kernel over `memory`, refusing an unfit platform and a kernel of another contract. @internal */
export function instantiateKernel(memory: WebAssembly.Memory, module: WebAssembly.Module, hooks: KernelHooks): Kernel {
  const kernel = link(memory, module, hooks);
  if (kernel.fingerprint() !== fingerprint()) {
    throw new EvtchnError(
      'EINVAL',
      `the kernel was built from contract ${kernel.fingerprint()}, this library from ${fingerprint()}: use files of one version`,
    );
  }
  // A trace build answers waits with a hook: there is no platform to test.
  if (!hooks.onStep) selfTest(isShared(memory), memory.buffer.byteLength, (scratch) => link(scratch, module, {}));
  return kernel;
}

function link(memory: WebAssembly.Memory, module: WebAssembly.Module, hooks: KernelHooks): Kernel {
  const env = {
    memory,
    kick: hooks.kick ?? (() => {}),
    onStep: hooks.onStep ?? (() => {}),
    onWait: hooks.onWait ?? (() => 1),
  };
  // The loader's own `exports` wraps every call; the instance's are the functions themselves.
  return instantiateSync(module, { env }).instance.exports as unknown as Kernel;
}
