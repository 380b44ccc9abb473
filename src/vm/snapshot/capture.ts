// Reads the state of a VM out of its records. Nothing is changed. Whoever calls this has seen to it that no sender is on its
// way (snapshot.ts), so what is read in two places belongs together.

import { HVM_CONFIG_FLAGS } from '../../abi/hvm_config.ts';
import { MEM_LOG_DIRTY_PAGES, MEM_READONLY } from '../../abi/memory_region.ts';
import {
  ADDRESS_SPACES,
  DIRTY_ENTRY_FLAGS,
  DIRTY_ENTRY_HARVESTED,
  DIRTY_ENTRY_OFFSET,
  DIRTY_ENTRY_SIZE,
  DIRTY_ENTRY_SLOT,
  HOST_PAGE_PRESENT,
  HOST_PAGE_WRITABLE,
  PORT_BOUND,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  PORT_VCPU_BITS,
  REGION_DIRTY_RING_ENTRIES,
  REGION_DIRTY_RINGS,
  REGION_HOST_PAGES,
  REGION_HOST_TABLE,
  REGION_HVM_CONFIG,
  REGION_RUNSTATE_UPDATE_FLAG,
  REGION_UPCALL_VECTOR,
  REGION_WALL_CLOCK_OWED,
  REGION_XEN_VERSION,
  REQUEST_STEAL_UPDATE,
  REQUEST_UNBLOCK,
  REQUEST_VECTOR,
  VCPU_CPUID_BASE,
  VCPU_CPUID_LIMIT,
  VCPU_HYPERCALL_OPEN,
  VCPU_HYPERCALL_RIP,
  VCPU_INFO_GPC,
  VCPU_KVM_ID,
  VCPU_LAPIC_OFF,
  VCPU_LAST_STEAL,
  VCPU_MODE,
  VCPU_POLLER,
  VCPU_REQUESTS,
  VCPU_RING_PUSHED,
  VCPU_RING_RESET,
  VCPU_RUN_DELAY,
  VCPU_RUNSTATE1_GPC,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_TIME_INFO_GPC,
  VCPU_TIMER_EXPIRES,
  VCPU_TIMER_PORT,
  VCPU_TSC_HZ,
  VCPU_TSC_OFFSET,
  VCPU_TSC_RATIO,
  VCPU_UPCALL_VECTOR,
  VCPU_XEN_ID,
  VM_AMD,
  VM_HYPERV,
  VM_IRQCHIP,
  VM_SCHED_INFO,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError } from '../../errors.ts';
import type { Region } from '../../memory/region.ts';
import { NO_BITMAP, type Slot, slotsOf } from '../../memory/slot_table.ts';
import type { SendPort } from '../attributes.ts';
import type { IrqRoute } from '../events/route_entry.ts';
import { getHvmConfig } from '../hvm_config.ts';
import type { ClockSample } from '../time/clock.ts';
import { guestTime } from '../time/kvmclock.ts';
import { readRunstate } from '../time/runstate.ts';
import { scaleTsc } from '../time/tsc_scale.ts';
import type { Vcpu } from '../vcpu.ts';
import type { Vm } from '../vm.ts';
import { capturePlace, hostOrigin } from './place.ts';
import {
  type AttributesState,
  type BindingState,
  type ClockState,
  type ConfigState,
  type EventfdState,
  type HostPagesState,
  type MachineState,
  type MemslotState,
  type PageRun,
  type RequestsState,
  type RingEntryState,
  type RingState,
  type RouteState,
  type RunstateState,
  type SendPortState,
  SNAPSHOT_VERSION,
  type VcpuState,
  type VmState,
} from './state.ts';

/** One instant on the clocks: the guest's, the time of day, and what the guests' TSCs are derived from. */
interface Instant {
  readonly guest: bigint;
  readonly realtime: bigint;
  readonly counter: bigint;
}

/** The state of a VM. @internal */
export function capture(vm: Vm): VmState {
  const now = instant(vm);
  return {
    version: SNAPSHOT_VERSION,
    machine: captureMachine(vm),
    config: captureConfig(vm),
    attributes: captureAttributes(vm),
    clock: captureClock(vm, now),
    generations: Array.from({ length: ADDRESS_SPACES }, (_, i) => vm.memslots.generation(i).toString()),
    memslots: captureMemslots(vm),
    hostPages: captureHostPages(vm.region),
    ports: captureBindings(vm.region),
    sendPorts: vm.sendPorts.list().map(sendPortState),
    routes: vm.routes.list().map(routeState),
    eventfds: captureEventfds(vm),
    vcpus: Array.from({ length: vm.vcpus }, (_, i) => captureVcpu(vm.vcpu(i), now)),
  };
}

/** What a VM was made as. @internal */
export function captureMachine({ region }: Vm): MachineState {
  return {
    vcpuIds: Array.from({ length: region.vcpus }, (_, i) => region.words.load(region.vcpuRecord(i) + VCPU_KVM_ID)),
    guestBytes: region.guestBytes,
    irqchip: region.has(VM_IRQCHIP),
    schedInfo: region.has(VM_SCHED_INFO),
    amd: region.has(VM_AMD),
    hyperv: region.has(VM_HYPERV),
    hostTable: region.words.load(region.base + REGION_HOST_PAGES) !== 0,
    dirtyRings: region.words.load(region.base + REGION_DIRTY_RING_ENTRIES) !== 0,
  };
}

// ── the VM ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function instant(vm: Vm): Instant {
  return vm.kvmclock.read((state) => {
    const sample = vm.kvmclock.sample();
    return { guest: guestTime(state, sample), realtime: sample.realtime, counter: counterAt(vm, sample) };
  });
}

/** What the guests' TSCs are derived from at an instant. Throws EOPNOTSUPP when this thread's clock cannot tell. @internal */
export function counterAt(vm: Vm, sample: ClockSample): bigint {
  const counter = vm.kvmclock.counter(sample);
  if (counter !== null) return counter;
  throw new EvtchnError(
    'EOPNOTSUPP',
    `the clock of this thread has no TSC of ${vm.kvmclock.hostHz} Hz, which the VM was made with`,
  );
}

function captureClock(vm: Vm, { guest, realtime }: Instant): ClockState {
  return {
    guestTime: digits(guest),
    realtime: digits(realtime),
    // Without shared_info nothing is owed: who registers it writes the wall clock.
    wallClockOwed:
      vm.gpcs.isActive(vm.region.sharedInfo) && vm.region.words.load(vm.vmBase + REGION_WALL_CLOCK_OWED) !== 0,
  };
}

function captureConfig(vm: Vm): ConfigState {
  const { region } = vm;
  const { msr, blobCompat, blobLong, blobPagesCompat, blobPagesLong } = getHvmConfig(vm);
  // 0 is what the structure says for none.
  const address = (hva: number): number | null => (hva === 0 ? null : hva - hostOrigin(region));
  return {
    flags: region.words.load(region.base + REGION_HVM_CONFIG + HVM_CONFIG_FLAGS),
    msr,
    blobCompat: address(blobCompat),
    blobLong: address(blobLong),
    blobPagesCompat,
    blobPagesLong,
  };
}

function captureAttributes(vm: Vm): AttributesState {
  const { words, base } = vm.region;
  return {
    longMode: vm.region.longMode,
    sharedInfo: capturePlace(vm, vm.region.sharedInfo),
    upcallVector: words.load(base + REGION_UPCALL_VECTOR),
    xenVersion: words.load(base + REGION_XEN_VERSION) >>> 0,
    runstateUpdateFlag: words.load(base + REGION_RUNSTATE_UPDATE_FLAG) !== 0,
  };
}

// ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function captureMemslots({ region }: Vm): MemslotState[] {
  const origin = hostOrigin(region);
  return slotsOf(region)
    .sort((a, b) => a.id - b.id)
    .map((slot) => ({
      addressSpace: slot.id >>> 16,
      id: slot.id & 0xffff,
      gpa: slot.gfn * PAGE_SIZE,
      bytes: slot.pages * PAGE_SIZE,
      hva: slot.hva - origin,
      logDirty: (slot.flags & MEM_LOG_DIRTY_PAGES) !== 0,
      readonly: (slot.flags & MEM_READONLY) !== 0,
      dirty: slot.bitmap === NO_BITMAP ? [] : dirtyRuns(region, slot),
    }));
}

function dirtyRuns(region: Region, { bitmap, pages }: Slot): PageRun[] {
  const runs: { first: number; pages: number }[] = [];
  const at = region.bitmap(bitmap);
  for (let page = 0; page < pages; page++) {
    if (!((region.words.load(at + 4 * (page >>> 5)) >>> (page & 31)) & 1)) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.pages === page) last.pages++;
    else runs.push({ first: page, pages: 1 });
  }
  return runs;
}

function captureHostPages(region: Region): HostPagesState[] {
  const runs: { first: number; pages: number; frame: number; writable: boolean }[] = [];
  const { words, base, guestBase } = region;
  const table = region.part(REGION_HOST_TABLE);
  const count = words.load(base + REGION_HOST_PAGES);
  for (let page = 0; page < count; page++) {
    const entry = words.load(table + 4 * page);
    if (!(entry & HOST_PAGE_PRESENT)) continue;
    const frame = ((entry & -PAGE_SIZE) >>> 0) - guestBase;
    const writable = (entry & HOST_PAGE_WRITABLE) !== 0;
    const last = runs.at(-1);
    const goesOn =
      last !== undefined &&
      last.first + last.pages === page &&
      last.frame + last.pages * PAGE_SIZE === frame &&
      last.writable === writable;
    if (goesOn) last.pages++;
    else runs.push({ first: page, pages: 1, frame, writable });
  }
  return runs;
}

// ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function captureBindings({ words, base }: Region): BindingState[] {
  const bound: BindingState[] = [];
  for (let port = 1; port < PORT_TABLE_PORTS; port++) {
    const entry = words.load(base + PORT_TABLE + 4 * port);
    if (entry & PORT_BOUND) bound.push({ port, vcpu: entry & PORT_VCPU_BITS });
  }
  return bound;
}

function sendPortState({ sendPort, channel, target }: SendPort): SendPortState {
  if ('eventfd' in target) return { sendPort, channel, target: { kind: 'eventfd', fd: target.eventfd } };
  return { sendPort, channel, target: { kind: 'port', port: target.port, vcpu: target.vcpu } };
}

function routeState(route: IrqRoute): RouteState {
  const { gsi } = route;
  switch (route.type) {
    case 'xen_evtchn':
      return { gsi, target: { kind: 'xen_evtchn', port: route.port, vcpu: route.vcpu } };
    case 'irqchip':
      return { gsi, target: { kind: 'irqchip', irqchip: route.irqchip, pin: route.pin } };
    case 'msi': {
      const { address, data, device = null } = route;
      return { gsi, target: { kind: 'msi', address: digits(address), data, device } };
    }
  }
}

function captureEventfds(vm: Vm): EventfdState[] {
  return vm.eventfds.list().map(({ fd, open, semaphore, counter, gsi }) => ({
    fd,
    open,
    semaphore,
    counter: digits(counter),
    gsi,
  }));
}

// ── a vCPU ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function captureVcpu(vcpu: Vcpu, { counter }: Instant): VcpuState {
  const { vm, line, record } = vcpu;
  const { words } = vm.region;
  const mode = words.load(record + VCPU_MODE);
  const tsc = scaleTsc(counter, words.load64(record + VCPU_TSC_RATIO)) + words.load64(record + VCPU_TSC_OFFSET);
  return {
    xenId: words.load(record + VCPU_XEN_ID),
    vcpuInfo: capturePlace(vm, line + VCPU_INFO_GPC),
    timeInfo: capturePlace(vm, record + VCPU_TIME_INFO_GPC),
    runstateArea: capturePlace(vm, record + VCPU_RUNSTATE1_GPC),
    upcallVector: words.load(line + VCPU_UPCALL_VECTOR),
    shadow: digits(
      BigInt(words.load(line + VCPU_SHADOW_LO) >>> 0) | (BigInt(words.load(line + VCPU_SHADOW_HI) >>> 0) << 32n),
    ),
    requests: captureRequests(vcpu),
    runstate: captureRunstate(vcpu),
    lapicOff: (mode & VCPU_LAPIC_OFF) !== 0,
    hypercall: mode & VCPU_HYPERCALL_OPEN ? digits(words.load64(record + VCPU_HYPERCALL_RIP)) : null,
    cpuid: { base: words.load(record + VCPU_CPUID_BASE) >>> 0, limit: words.load(record + VCPU_CPUID_LIMIT) >>> 0 },
    tsc: { hz: words.loadWide(record + VCPU_TSC_HZ), value: digits(tsc) },
    timer: {
      port: words.load(record + VCPU_TIMER_PORT) >>> 0,
      expires: digits(words.load64(record + VCPU_TIMER_EXPIRES)),
    },
    ring: captureRing(vcpu),
  };
}

function captureRequests({ vm, line }: Vcpu): RequestsState {
  const bits = vm.region.words.load(line + VCPU_REQUESTS);
  // Who waits in a poll is on a thread of this process: the guest looks at its ports again, as after any other wake. [KX-HCL-36]
  const polls = vm.region.words.load(line + VCPU_POLLER) !== 0;
  return {
    unblock: polls || (bits & REQUEST_UNBLOCK) !== 0,
    vector: (bits & REQUEST_VECTOR) !== 0,
    steal: (bits & REQUEST_STEAL_UPDATE) !== 0,
  };
}

function captureRunstate(vcpu: Vcpu): RunstateState {
  const { words } = vcpu.vm.region;
  const { state, entryTime, times } = readRunstate(vcpu);
  return {
    state,
    entryTime: digits(entryTime),
    times: {
      running: digits(times.running),
      runnable: digits(times.runnable),
      blocked: digits(times.blocked),
      offline: digits(times.offline),
    },
    lastSteal: digits(words.load64(vcpu.record + VCPU_LAST_STEAL)),
    runDelay: digits(words.load64(vcpu.record + VCPU_RUN_DELAY)),
  };
}

function captureRing({ vm, index, record }: Vcpu): RingState {
  const { words, base } = vm.region;
  const entries = words.load(base + REGION_DIRTY_RING_ENTRIES);
  const ring = vm.region.part(REGION_DIRTY_RINGS) + index * entries * DIRTY_ENTRY_SIZE;
  const reset = words.load(record + VCPU_RING_RESET);
  const used = (words.load(record + VCPU_RING_PUSHED) - reset) | 0;
  const entryAt = (i: number): RingEntryState => {
    const at = ring + ((reset + i) & (entries - 1)) * DIRTY_ENTRY_SIZE;
    return {
      slot: words.load(at + DIRTY_ENTRY_SLOT) >>> 0,
      page: words.loadWide(at + DIRTY_ENTRY_OFFSET),
      harvested: (words.load(at + DIRTY_ENTRY_FLAGS) & DIRTY_ENTRY_HARVESTED) !== 0,
    };
  };
  return { reset: reset >>> 0, entries: Array.from({ length: used }, (_, i) => entryAt(i)) };
}

function digits(value: bigint): string {
  return BigInt.asUintN(64, value).toString();
}
