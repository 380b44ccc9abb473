// Whether a snapshot, whose values are each in their range, makes sense and fits into a VM. Everything is found out before
// anything changes.

import { CAP_INTERCEPT_HCALL } from '../../abi/hvm_config.ts';
import { PVCLOCK_SIZE } from '../../abi/pvclock.ts';
import {
  ADDRESS_SPACES,
  HVA_END,
  REGION_DIRTY_PAGES,
  REGION_DIRTY_RING_ENTRIES,
  REGION_EVENTFD_CAPACITY,
  REGION_HOST_PAGES,
  REGION_MEMSLOT_CAPACITY,
  REGION_ROUTE_CAPACITY,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { VCPU_INFO_SIZE } from '../../abi/vcpu_info.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import { pageOffset } from '../../memory/address.ts';
import { checkVector } from '../attributes.ts';
import { checkRoute } from '../events/route_entry.ts';
import { checkFlags, checkMsr } from '../hvm_config.ts';
import { tscRatio } from '../time/tsc_scale.ts';
import type { Vm } from '../vm.ts';
import { standIn } from '../wire/structure.ts';
import { captureMachine } from './capture.ts';
import { hostOrigin } from './place.ts';
import {
  bitmapBits,
  type ConfigState,
  type MachineState,
  type MemslotState,
  needsBitmap,
  type PlaceState,
  type RouteState,
  routeOf,
  type VcpuState,
  type VmState,
} from './state.ts';

const MAX_RATIO = 1n << 64n;
const U64 = 64;

/** Throws EINVAL for what contradicts itself or this VM, ENOSPC for what this VM has no room for. @internal */
export function checkFits(vm: Vm, state: VmState): void {
  checkMachine(captureMachine(vm), state.machine);
  checkConfig(vm, state.config);
  checkAttributes(vm, state);
  checkMemslots(vm, state);
  checkHostPages(vm, state);
  checkBindings(vm, state);
  checkEventfds(vm, state);
  checkSendPorts(state);
  checkRoutes(vm, state);
  if (state.vcpus.length !== vm.vcpus) {
    throw new EvtchnError('EINVAL', `the snapshot has ${state.vcpus.length} vCPUs, but says that it has ${vm.vcpus}`);
  }
  state.vcpus.forEach((vcpu, i) => {
    checkVcpu(vm, vcpu, `vCPU ${i}`);
  });
}

// ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────────

function checkMachine(here: MachineState, saved: MachineState): void {
  for (const name of Object.keys(here) as (keyof MachineState)[]) {
    if (String(here[name]) === String(saved[name])) continue;
    const sentence = `the snapshot is of a VM with ${name} ${short(saved[name])}, this one has ${short(here[name])}`;
    throw new EvtchnError('EINVAL', `${sentence}: make it as the other was`);
  }
}

function short(value: unknown): string {
  const text = Array.isArray(value) ? `[${value.join(', ')}] (${value.length})` : String(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function room(vm: Vm, field: number): number {
  return vm.region.words.load(vm.vmBase + field);
}

function checkRoom(what: string, needed: number, there: number, option: string): void {
  if (needed <= there) return;
  throw new EvtchnError(
    'ENOSPC',
    `the snapshot needs room for ${needed} ${what}, this VM has room for ${there}; createVm({ ${option} }) sets how much`,
  );
}

/** Throws EINVAL for a second value that has the key of an earlier one. */
function checkUnique<T>(what: string, values: readonly T[], keyOf: (value: T) => number): void {
  const seen = new Set<number>();
  for (const value of values) {
    const key = keyOf(value);
    if (seen.has(key)) throw new EvtchnError('EINVAL', `the snapshot has two ${what} ${key}`);
    seen.add(key);
  }
}

// ── configuration ──────────────────────────────────────────────────────────────────────────────────────────────────

function checkConfig(vm: Vm, config: ConfigState): void {
  checkFlags(config.flags);
  checkMsr(config.msr);
  const blobs = [config.blobCompat, config.blobLong];
  // 0 would say that there is none.
  for (const blob of blobs) if (blob !== null) checkHost(vm, 'a hypercall blob', blob, 1);
  const given = blobs.some((blob) => blob !== null) || config.blobPagesCompat !== 0 || config.blobPagesLong !== 0;
  if (config.flags & CAP_INTERCEPT_HCALL && given) {
    throw new EvtchnError('EINVAL', 'the snapshot intercepts hypercalls and has a hypercall blob: only one of the two');
  }
}

/** A host address of the snapshot, which counts from the window, has to be one here. */
function checkHost(vm: Vm, what: string, address: number, least = 0): void {
  const origin = hostOrigin(vm.region);
  checkRange(
    `the host address of ${what} (${address} from the start of the snapshot's)`,
    address + origin,
    least,
    HVA_END - 1,
  );
}

function checkAttributes(vm: Vm, { attributes, generations }: VmState): void {
  checkVector('the upcall vector of the VM', attributes.upcallVector);
  if (attributes.sharedInfo !== null) checkPlace(vm, 'shared_info', attributes.sharedInfo, PAGE_SIZE);
  if (generations.length !== ADDRESS_SPACES) {
    throw new EvtchnError(
      'EINVAL',
      `the snapshot has ${generations.length} memslot generations, allowed are ${ADDRESS_SPACES}`,
    );
  }
  for (const generation of generations) {
    if (BigInt(generation) >> 63n) {
      throw new EvtchnError('EINVAL', `a memslot generation is ${generation}, allowed are integers from 0 to 2^63-1`);
    }
  }
}

function checkPlace(vm: Vm, what: string, { by, address, far }: PlaceState, length: number): void {
  if (by === 'hva') checkHost(vm, what, address);
  else checkRange(`the guest-physical address of ${what}`, address, 0, Number.MAX_SAFE_INTEGER);
  // Where it will be: one before the window has a negative distance to it.
  const at = by === 'hva' ? address + hostOrigin(vm.region) : address;
  if (pageOffset(at) + length > PAGE_SIZE) {
    throw new EvtchnError(
      'EINVAL',
      `${what} of ${length} bytes at ${address} crosses a page: its offset may be at most ${PAGE_SIZE - length}`,
    );
  }
  if (far !== null && (by === 'hva' || standIn(BigInt(far)) !== address)) {
    throw new EvtchnError('EINVAL', `${what} is at ${address}, which does not stand for the address ${far}`);
  }
}

// ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkMemslots(vm: Vm, { memslots, machine }: VmState): void {
  checkRoom('memory slots', memslots.length, room(vm, REGION_MEMSLOT_CAPACITY), 'memslots');
  checkUnique('memory slots', memslots, ({ addressSpace, id }) => addressSpace * 2 ** 16 + id);
  for (const slot of memslots) checkMemslot(vm, slot, machine);
  for (let space = 0; space < ADDRESS_SPACES; space++) {
    const slots = memslots.filter(({ addressSpace }) => addressSpace === space).sort((a, b) => a.gpa - b.gpa);
    slots.forEach((slot, i) => {
      const before = slots[i - 1];
      if (before === undefined || before.gpa + before.bytes <= slot.gpa) return;
      throw new EvtchnError('EINVAL', `memory slots ${before.id} and ${slot.id} of the snapshot overlap`);
    });
  }
  const bits = memslots.reduce((sum, slot) => sum + (needsBitmap(slot, machine) ? bitmapBits(slot) : 0), 0);
  checkRoom('pages that are logged', bits, Math.ceil(room(vm, REGION_DIRTY_PAGES) / 32) * 32, 'dirtyPages');
}

/** The largest slot, pages, and the end of guest-physical addresses. [KX-MEM-10] */
const MAX_PAGES = 2 ** 31 - 1;
const GPA_END = 2 ** 52;

function checkMemslot(vm: Vm, slot: MemslotState, machine: MachineState): void {
  const { id, gpa, bytes, hva, dirty } = slot;
  const what = `memory slot ${id}`;
  for (const [name, value] of Object.entries({ gpa, bytes, hva })) {
    if (value % PAGE_SIZE === 0) continue;
    throw new EvtchnError('EINVAL', `${name} of ${what} is ${value}, but it has to be a multiple of ${PAGE_SIZE}`);
  }
  checkRange(`the pages of ${what}`, bytes / PAGE_SIZE, 1, MAX_PAGES);
  checkRange(`the end of ${what}`, gpa + bytes, 0, GPA_END);
  checkHost(vm, what, hva);
  checkHost(vm, `the last byte of ${what}`, hva + bytes - 1);
  if (dirty.length > 0 && !needsBitmap(slot, machine)) {
    throw new EvtchnError('EINVAL', `${what} has pages that were written, but no bitmap that says so`);
  }
  for (const { first, pages } of dirty) {
    checkRange(`the last written page of ${what}`, first + pages - 1, 0, bytes / PAGE_SIZE - 1);
  }
}

function checkHostPages(vm: Vm, { hostPages, machine }: VmState): void {
  const { guestBytes } = vm.region;
  let end = 0;
  for (const { first, pages, frame } of hostPages) {
    if (frame % PAGE_SIZE || frame + pages * PAGE_SIZE > guestBytes) {
      throw new EvtchnError(
        'EINVAL',
        `${pages} host pages are on the frames from ${frame} on, allowed are multiples of ${PAGE_SIZE} within ${guestBytes} bytes`,
      );
    }
    if (first < end) throw new EvtchnError('EINVAL', `host page ${first} comes behind page ${end - 1} in the snapshot`);
    end = first + pages;
  }
  if (end > 0 && !machine.hostTable) {
    throw new EvtchnError('EINVAL', 'the snapshot has host pages, but no table of them');
  }
  checkRoom('host pages', end, room(vm, REGION_HOST_PAGES), 'hostPages');
}

// ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkBindings(vm: Vm, { ports }: VmState): void {
  checkUnique('bindings of port', ports, ({ port }) => port);
  for (const { port, vcpu } of ports) checkRange(`the vCPU of port ${port}`, vcpu, 0, vm.vcpus - 1);
}

function checkEventfds(vm: Vm, { eventfds, sendPorts, machine }: VmState): void {
  const first = vm.eventfds.fdOf(0);
  checkUnique('eventfds', eventfds, ({ fd }) => fd);
  const signalled = new Set(sendPorts.map(({ target }) => (target.kind === 'eventfd' ? target.fd : -1)));
  for (const { fd, open, gsi } of eventfds) {
    if (fd < first) throw new EvtchnError('EINVAL', `eventfd ${fd} is a standard stream, eventfds begin at ${first}`);
    checkRoom('eventfds', fd - first + 1, room(vm, REGION_EVENTFD_CAPACITY), 'eventfds');
    if (!open && gsi !== null) throw new EvtchnError('EINVAL', `eventfd ${fd} is closed, but raises gsi ${gsi}`);
    if (!open && !signalled.has(fd)) {
      throw new EvtchnError('EINVAL', `eventfd ${fd} is closed, and no send port signals it: it does not exist`);
    }
    if (gsi !== null && !machine.irqchip) {
      throw new EvtchnError('EINVAL', `eventfd ${fd} raises gsi ${gsi}, but the VM has no interrupts`);
    }
  }
}

function checkSendPorts({ sendPorts, eventfds }: VmState): void {
  checkUnique('send ports', sendPorts, ({ sendPort }) => sendPort);
  const known = new Set(eventfds.map(({ fd }) => fd));
  for (const { sendPort, channel, target } of sendPorts) {
    if (channel === 'ipi' && (target.kind === 'eventfd' || target.port !== sendPort)) {
      throw new EvtchnError('EINVAL', `send port ${sendPort} is an IPI, but does not raise its own number`);
    }
    if (target.kind === 'eventfd' && !known.has(target.fd)) {
      throw new EvtchnError(
        'EINVAL',
        `send port ${sendPort} signals eventfd ${target.fd}, which is not in the snapshot`,
      );
    }
  }
}

function checkRoutes(vm: Vm, { routes, machine }: VmState): void {
  if (routes.length > 0 && !machine.irqchip) {
    throw new EvtchnError('EINVAL', `the snapshot has ${routes.length} routes, but the VM has no interrupts`);
  }
  checkRoom('routes', routes.length, room(vm, REGION_ROUTE_CAPACITY), 'routes');
  for (const route of routes) checkRoute(routeOf(route));
  const byGsi = new Map<number, RouteState[]>();
  for (const route of routes) {
    const others = byGsi.get(route.gsi) ?? [];
    byGsi.set(route.gsi, [...others, route]);
    if (others.every((other) => mayShare(route, other))) continue;
    throw new EvtchnError('EINVAL', `gsi ${route.gsi} has two routes: only pins of different chips may share one`);
  }
}

/** [KX-RTE-03] */
function mayShare({ target: a }: RouteState, { target: b }: RouteState): boolean {
  return a.kind === 'irqchip' && b.kind === 'irqchip' && a.irqchip !== b.irqchip;
}

// ── a vCPU ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkVcpu(vm: Vm, vcpu: VcpuState, name: string): void {
  checkVector(`the upcall vector of ${name}`, vcpu.upcallVector);
  if (vcpu.vcpuInfo !== null) checkPlace(vm, `vcpu_info of ${name}`, vcpu.vcpuInfo, VCPU_INFO_SIZE);
  for (const [what, place, length] of [
    [`vcpu_time_info of ${name}`, vcpu.timeInfo, PVCLOCK_SIZE],
    // It may go on in the next page.
    [`the runstate area of ${name}`, vcpu.runstateArea, 0],
  ] as const) {
    if (place === null) continue;
    if (place.by === 'hva')
      throw new EvtchnError('EINVAL', `${what} is at a host address: it can be at a guest's only`);
    checkPlace(vm, what, place, length);
  }
  checkRunstate(vm, vcpu, name);
  const { hostHz } = vm.kvmclock;
  const ratio = tscRatio(vcpu.tsc.hz, hostHz);
  if (ratio >= MAX_RATIO || (ratio === 0n && vcpu.tsc.hz !== 0)) {
    throw new EvtchnError(
      'EINVAL',
      `the TSC of ${name} has ${vcpu.tsc.hz} Hz, which cannot be scaled from the host's ${hostHz} Hz`,
    );
  }
  checkRing(vm, vcpu, name);
}

function checkRunstate(vm: Vm, { runstate, runstateArea }: VcpuState, name: string): void {
  if (runstateArea !== null) {
    if (!captureMachine(vm).schedInfo) {
      throw new EvtchnError('EINVAL', `${name} has a runstate area, but the VM keeps no runstate`);
    }
    checkRange(`the end of the runstate area of ${name}`, runstateArea.address + PAGE_SIZE, 0, Number.MAX_SAFE_INTEGER);
  }
  const { running, runnable, blocked, offline } = runstate.times;
  const sum = [running, runnable, blocked, offline].reduce((total, time) => total + BigInt(time), 0n);
  if (BigInt.asUintN(U64, sum) === BigInt(runstate.entryTime)) return;
  // The guest would read a record that contradicts itself. [KX-RUN-03]
  throw new EvtchnError(
    'EINVAL',
    `the runstate of ${name} was entered at ${runstate.entryTime}, but its times add up to ${BigInt.asUintN(U64, sum)}`,
  );
}

function checkRing(vm: Vm, { ring }: VcpuState, name: string): void {
  const entries = room(vm, REGION_DIRTY_RING_ENTRIES);
  if (entries === 0 && (ring.entries.length > 0 || ring.reset !== 0)) {
    throw new EvtchnError('EINVAL', `${name} has a dirty ring, but the VM logs into bitmaps`);
  }
  if (entries > 0) checkRoom(`entries in the dirty ring of ${name}`, ring.entries.length, entries, 'dirtyRingBytes');
}
