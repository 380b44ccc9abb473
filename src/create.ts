// Making a VM in memory, and attaching to one from another thread.

import { VM_ABSOLUTE_POLL, VM_AMD, VM_HYPERV, VM_IRQCHIP, VM_SCHED_INFO } from './abi/region.ts';
import { PAGE_SIZE } from './abi/shared_info.ts';
import { VCPU_INFO_SIZE } from './abi/vcpu_info.ts';
import { checkRange, EvtchnError } from './errors.ts';
import { instantiateKernel, isShared, type Kernel, type KernelHooks, kernelModule } from './kernel.ts';
import { gfn, gpa, hva } from './memory/address.ts';
import type { PageFault } from './memory/gpc.ts';
import { mapWindow } from './memory/host_pages.ts';
import { checkPlacement, type Placement, Region, type RegionSizes, regionBytes } from './memory/region.ts';
import { Words } from './memory/words.ts';
import type { InterruptHandler } from './vm/events/routes.ts';
import { UpcallListeners } from './vm/listeners.ts';
import { type Clock, checkClock, VirtualClock } from './vm/time/clock.ts';
import { type Hold, Vm, type VmHandle } from './vm/vm.ts';

/** What `createVm` and `attachVm` take besides the place. */
export interface AgentOptions {
  /**
   * Where time comes from: the same clock on every thread that asks for the time or runs a vCPU; a `VirtualClock` at 0 by default,
   * which is right only where nobody does.
   */
  readonly clock?: Clock;
  /** Keeps the event loop alive during `waitAsync`; `holdEventLoop` is one for Node. */
  readonly hold?: Hold;
  /** Called when a host page that is needed is absent or read-only: it may map it before it returns. [KX-GPC-30] */
  readonly onPageFault?: PageFault;
  /** The embedder's interrupt controller: called for interrupts that are routed to its pins or as messages. [KX-RTE-20] */
  readonly onInterrupt?: InterruptHandler;
  /** A trace build and what it calls. @internal */
  readonly trace?: KernelHooks & { readonly module: WebAssembly.Module };
}

/** Sizes, what kind of machine it is, and optionally a place. */
export interface VmOptions extends AgentOptions, RegionSizes {
  /** Pages of 4096 bytes of guest RAM; by default what the engine's own layout needs. */
  readonly guestPages?: number;
  /** KVM's id (the APIC id) of each vCPU; their indices by default. Ids that differ, integers from 0 to 2^31-1. */
  readonly vcpuIds?: readonly number[];
  /** Whether the interrupt controller is on this side: routes, upcalls by the VM's vector and polls need it; true by default. */
  readonly irqchip?: boolean;
  /** Whether the host keeps scheduler statistics, without which there is no runstate; true by default. [KX-CAP-10] */
  readonly schedInfo?: boolean;
  /** Whether the processor is AMD's, whose hypercall instruction is VMMCALL; false by default. [KX-HCL-05] */
  readonly amd?: boolean;
  /** Whether Hyper-V hypercalls are offered as well: those with bit 31 set are left to them; false by default. [KX-HCL-10] */
  readonly hyperv?: boolean;
  /**
   * Whose rule the timeout of SCHEDOP_poll follows: KVM's (the default) takes it as a span from now on, Xen's as a time on the guest's
   * clock. Not part of a snapshot. [KF-76]
   */
  readonly pollTimeout?: 'kvm' | 'xen';
  /** Of memory made here: shared between threads (default), or of a single one, which is 3 times faster. */
  readonly shared?: boolean;
  /** Of memory made here: true leaves the guest unconfigured. By default it is ready: long mode, all pages registered. */
  readonly bare?: boolean;
  /** Memory of the caller's. Then `guestBase`, `guestPages` and `regionBase` say where, and the guest is left unconfigured. */
  readonly memory?: WebAssembly.Memory;
  /** Linear offset of guest-physical address 0: a multiple of 4096. */
  readonly guestBase?: number;
  /** Linear offset of the engine's records: a multiple of 64, `regionBytes(options)` long. */
  readonly regionBase?: number;
}

const WASM_PAGE = 65536;

/**
 * Makes a VM; this thread is its owner. Throws EINVAL for a size or place out of range or overlapping, ENOMEM when the
 * memory is too small, ENOSYS when the platform is unfit.
 */
export function createVm(options: VmOptions = {}): Vm {
  // Checks the sizes.
  regionBytes(options);
  const vcpus = options.vcpus ?? 1;
  checkIds(options.vcpuIds, vcpus);
  if (options.clock) checkClock(options.clock);
  checkPollTimeout(options.pollTimeout);
  const own = !options.memory && !options.bare;
  const needed = 1 + Math.ceil((vcpus * VCPU_INFO_SIZE) / PAGE_SIZE);
  const guestPages = options.guestPages ?? needed;
  checkRange('guestPages', guestPages, own ? needed : 0, 2 ** 20);
  const placement = placementOf(options, guestPages);
  const memory = options.memory ?? ownMemory(placement, options.shared ?? true);
  checkPlacement(placement, memory.buffer.byteLength);
  const { kernel, module, listeners } = linkKernel(memory, undefined, options);
  const region = Region.create(new Words(memory), placement);
  mapWindow(region);
  const vm = new Vm({
    kernel,
    module,
    region,
    listeners,
    owner: true,
    clock: options.clock ?? new VirtualClock(),
    hold: options.hold,
    onPageFault: options.onPageFault,
    onInterrupt: options.onInterrupt,
  });
  vm.kvmclock.start();
  if (guestPages > 0) vm.memslots.set({ id: 0, gpa: gpa(0), bytes: region.guestBytes, hva: hva(region.guestBase) });
  if (own) configure(vm);
  return vm;
}

/**
 * Attaches this thread to a VM that another thread made. Throws EINVAL when there is none at that place or it is of
 * another version, EBADF when it was closed, ENOSPC when all agents are taken.
 */
export function attachVm(handle: VmHandle, options: AgentOptions = {}): Vm {
  const { kernel, module, listeners } = linkKernel(handle.memory, handle.module, options);
  const region = Region.open(new Words(handle.memory), handle.regionBase);
  return new Vm({
    kernel,
    module,
    region,
    listeners,
    owner: false,
    clock: options.clock ?? new VirtualClock(),
    hold: options.hold,
    onPageFault: options.onPageFault,
    onInterrupt: options.onInterrupt,
  });
}

/** Keeps a Node process alive while an asynchronous wait is pending: `createVm({ hold: holdEventLoop })`. */
export function holdEventLoop(): () => void {
  const timer = setInterval(() => {}, 2 ** 30);
  return () => clearInterval(timer);
}

function placementOf(options: VmOptions, guestPages: number): Placement {
  const guestBytes = guestPages * PAGE_SIZE;
  const features =
    ((options.irqchip ?? true) ? VM_IRQCHIP : 0) |
    ((options.schedInfo ?? true) ? VM_SCHED_INFO : 0) |
    (options.amd ? VM_AMD : 0) |
    (options.hyperv ? VM_HYPERV : 0) |
    (options.pollTimeout === 'xen' ? VM_ABSOLUTE_POLL : 0);
  const machine = { guestBytes, sizes: options, features, vcpuIds: options.vcpuIds };
  if (!options.memory) {
    // The first page stays unused: a stray address near 0 touches nothing.
    const regionBase = PAGE_SIZE;
    const guestBase = Math.ceil((regionBase + regionBytes(options)) / PAGE_SIZE) * PAGE_SIZE;
    return { ...machine, regionBase, guestBase };
  }
  if (typeof options.memory.buffer?.byteLength !== 'number') {
    throw new EvtchnError('EINVAL', 'memory has to be a WebAssembly.Memory');
  }
  const { guestBase, regionBase } = options;
  if (guestBase === undefined || regionBase === undefined || options.guestPages === undefined) {
    throw new EvtchnError('EINVAL', 'with a memory of your own, guestBase, guestPages and regionBase have to be given');
  }
  return { ...machine, regionBase, guestBase };
}

function checkPollTimeout(rule: string | undefined): void {
  if (rule === undefined || rule === 'kvm' || rule === 'xen') return;
  throw new EvtchnError('EINVAL', `the rule for timeouts of polls is ${rule}, allowed are kvm and xen`);
}

function checkIds(ids: readonly number[] | undefined, vcpus: number): void {
  if (ids === undefined) return;
  if (ids.length !== vcpus || new Set(ids).size !== vcpus) {
    throw new EvtchnError('EINVAL', `vcpuIds has ${new Set(ids).size} different ids, but there are ${vcpus} vCPUs`);
  }
  for (const id of ids) checkRange('an id in vcpuIds', id, 0, 2 ** 31 - 1);
}

function ownMemory(place: Placement, shared: boolean): WebAssembly.Memory {
  const pages = Math.ceil((place.guestBase + place.guestBytes) / WASM_PAGE);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  } catch {
    throw new EvtchnError(
      'ENOMEM',
      `the platform gives no memory of ${pages} pages of ${WASM_PAGE} bytes; it has at most 65536`,
    );
  }
}

/** The engine's own layout: shared_info in frame 0, a vcpu_info per vCPU from frame 1 on. */
function configure(vm: Vm): void {
  vm.setAttr({ type: 'long_mode', enabled: true });
  vm.setAttr({ type: 'shared_info', gfn: gfn(0) });
  for (let i = 0; i < vm.vcpus; i++) {
    vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(PAGE_SIZE + i * VCPU_INFO_SIZE) });
  }
}

interface Linked {
  readonly kernel: Kernel;
  readonly module: WebAssembly.Module;
  readonly listeners: UpcallListeners;
}

/** One instance per memory: several VMs in one memory share it, which keeps calls from one place to one function. */
const linked = new WeakMap<WebAssembly.Memory, Linked>();

function linkKernel(memory: WebAssembly.Memory, module: WebAssembly.Module | undefined, options: AgentOptions): Linked {
  if (options.trace) return link(memory, options.trace.module, options.trace);
  let found = linked.get(memory);
  if (!found) {
    found = link(memory, module ?? kernelModule(isShared(memory)), {});
    linked.set(memory, found);
  }
  return found;
}

function link(memory: WebAssembly.Memory, module: WebAssembly.Module, hooks: KernelHooks): Linked {
  const listeners = new UpcallListeners();
  const kick = (vm: number, vcpu: number): void => listeners.kick(vm, vcpu);
  return { kernel: instantiateKernel(memory, module, { ...hooks, kick }), module, listeners };
}
