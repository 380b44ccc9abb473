// The machine of every scenario: 3 pages at 0xC0000000, one vCPU, one guest, one surface. [kvm-xen 12.1]

import { expect } from 'vitest';
import {
  createVm,
  type Gpa,
  gfn,
  gpa,
  type Hpa,
  type Hva,
  hpa,
  hva,
  VirtualClock,
  type Vm,
  type VmOptions,
} from '../../src/index.ts';
import { G, Guest, RUNSTATE, TIME_INFO, VCPU_INFO } from './guest.ts';
import type { Surface } from './surface.ts';

export const PAGE = 4096;
/** KVM's id of the vCPU, and one that nobody has. */
export const VCPU = 3;
export const NO_VCPU = 4;
export const VECTOR = 0x10;
export const MSR = 0x4000_0000;
export const MS = 1_000_000n;

/** Memory slots besides the guest's low memory, which is slot 0. */
export const SLOT = 10;
export const OTHER_SLOT = 11;

/** Pages of the window: low memory of the guest, then the three, and pages that are in use by nothing. */
const PAGES = 16;
const FIRST_OF_THREE = 8;
export const FRESH_PAGE = 12;
const OTHER_PAGE = 14;

/** The host's clock when the VM is made, and the time of day when that clock was 0: beyond 2^32 s. */
const BOOT = 77_000_000_123n;
export const EPOCH = 5_000_000_000n * 1_000_000_000n;

export interface Machine {
  readonly vm: Vm;
  readonly surface: Surface;
  readonly guest: Guest;
  readonly clock: VirtualClock;
}

export interface Way {
  readonly open: (vm: Vm) => Surface;
  readonly shared: boolean;
}

export interface MachineOptions extends VmOptions {
  /** layout of the guest's structures; long by default */
  readonly longMode?: boolean;
}

/** The host address of one of the three pages. */
export function hostPage(vm: Vm, page: number): Hva {
  return hva(vm.guestBase + (FIRST_OF_THREE + page) * PAGE);
}
/** The frame that it is in at first. */
export function homeFrame(vm: Vm, page: number): Hpa {
  return frame(vm, FIRST_OF_THREE + page);
}
/** A frame of the window. */
export function frame(vm: Vm, page: number): Hpa {
  return hpa(vm.guestBase + page * PAGE);
}

/** A VM with the three pages and its clocks at a second, and nothing else set. */
export function bareMachine({ open, shared }: Way, options: VmOptions = {}): Machine {
  const clock = new VirtualClock(BOOT, EPOCH, { tscHz: 2_100_000_000 });
  const sizes = { agents: 2, memslots: 8, hostPages: 256, routes: 8, eventfds: 8, dirtyPages: 64 };
  const vm = createVm({ guestPages: PAGES, bare: true, vcpuIds: [VCPU], clock, shared, ...sizes, ...options });
  clock.advance(1000n * MS);
  const surface = open(vm);
  expect(surface.slot({ id: SLOT, gpa: gpa(G), bytes: 3 * PAGE, hva: hostPage(vm, 0) })).toBe(0);
  return { vm, surface, guest: new Guest(vm, surface, clock), clock };
}

/** What the test program does before its first step: S-01 to S-03. */
export function setUp({ vm, surface }: Machine, longMode = true): void {
  const done = [
    surface.config({ msr: MSR, interceptHypercalls: true, evtchnSend: true }),
    surface.set({ type: 'long_mode', enabled: longMode }),
    surface.set({ type: 'runstate_update_flag', enabled: true }),
    surface.set({ type: 'shared_info_hva', hva: hostPage(vm, 0) }),
    surface.set({ type: 'upcall_vector', vector: VECTOR }),
    surface.setVcpu({ type: 'vcpu_info', gpa: gpa(VCPU_INFO) }),
    surface.setVcpu({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO) }),
    surface.setVcpu({ type: 'runstate_addr', gpa: gpa(RUNSTATE) }),
  ];
  expect(done).toEqual(done.map(() => 0));
  replaceSharedInfo(vm);
}

/** Puts a fresh page of zeros in the place of shared_info, with the wall clock copied over. */
export function replaceSharedInfo(vm: Vm): void {
  const fresh = new Uint8Array(vm.memory.buffer, frame(vm, FRESH_PAGE), PAGE).fill(0);
  const old = new Uint8Array(vm.memory.buffer, homeFrame(vm, 0), PAGE);
  for (const [from, to] of [
    [0x900, 0x90c],
    [0x924, 0x928],
    [0xc00, 0xc10],
  ]) {
    fresh.set(old.subarray(from, to), from);
  }
  vm.hostPages.map(hostPage(vm, 0), 1, frame(vm, FRESH_PAGE));
  // Whoever goes on writing to the old page is found out.
  old.fill(0x10);
}

/** A machine that is set up, whose guest runs and has taken an event, so that the new page is mapped. */
export function machine(way: Way, { longMode = true, ...options }: MachineOptions = {}): Machine {
  const made = bareMachine(way, options);
  setUp(made, longMode);
  made.guest.cpu.longMode = longMode;
  expect(made.guest.run()).toBe(0);
  expect(made.surface.send({ port: 1, vcpu: VCPU })).toBe(0);
  expect(made.guest.run()).toBe(1);
  made.guest.setPending(1, false);
  made.guest.injected.length = 0;
  return made;
}

/** A memory slot that has nothing to do with anything. */
export function addOtherSlot(
  { vm, surface }: Machine,
  id = OTHER_SLOT,
  at: Gpa = gpa(0x1_0000_0000 + id * PAGE),
): void {
  expect(surface.slot({ id, gpa: at, bytes: PAGE, hva: hva(vm.guestBase + OTHER_PAGE * PAGE) })).toBe(0);
}

export const SHARED_INFO_GFN = gfn(G / PAGE);
