// What a snapshot holds, as an object that can be read and put into JSON: what the VM means, not where its records lie.
//
// Numbers that no JavaScript number holds are decimal digits (`Decimal`). Identities are those that survive the process:
// guest addresses, KVM's vCPU ids, ports, interrupts, descriptors. [KF-79] Host addresses count from the start of the guest-RAM
// window, which lies elsewhere in the next memory; in a VM with a table of host pages they are what that table is indexed by.

import { PAGE_SIZE } from '../../abi/shared_info.ts';
import type { IrqRoute } from '../events/route_entry.ts';
import type { RunstateName } from '../time/runstate.ts';

/** A u64 as decimal digits, '0' to '18446744073709551615'. */
export type Decimal = string;

/** Version of the object, and of the bytes. */
export const SNAPSHOT_VERSION = 1;

/** Where a structure is registered: by guest-physical or by host address. Whether it can be reached is not said. */
export interface PlaceState {
  readonly by: 'gpa' | 'hva';
  readonly address: number;
  /** the address that was given, where no number holds it and `address` stands for it */
  readonly far: Decimal | null;
}

/** What the VM was made as; the VM that it is restored into has to be the same. */
export interface MachineState {
  /** KVM's id of each vCPU */
  readonly vcpuIds: readonly number[];
  /** bytes of the guest-RAM window */
  readonly guestBytes: number;
  readonly irqchip: boolean;
  readonly schedInfo: boolean;
  readonly amd: boolean;
  readonly hyperv: boolean;
  /** it has a table of host pages */
  readonly hostTable: boolean;
  /** it logs writes in rings, not in bitmaps */
  readonly dirtyRings: boolean;
}

/** struct kvm_xen_hvm_config. */
export interface ConfigState {
  readonly flags: number;
  readonly msr: number;
  /** host addresses, null for none */
  readonly blobCompat: number | null;
  readonly blobLong: number | null;
  readonly blobPagesCompat: number;
  readonly blobPagesLong: number;
}

/** Attributes of the VM. */
export interface AttributesState {
  readonly longMode: boolean;
  readonly sharedInfo: PlaceState | null;
  readonly upcallVector: number;
  readonly xenVersion: number;
  readonly runstateUpdateFlag: boolean;
}

/** The guest's clock goes on from here; the time of day is that of the same moment. */
export interface ClockState {
  readonly guestTime: Decimal;
  /** ns since 1970 */
  readonly realtime: Decimal;
  /** the wall clock in shared_info is older than the clock's last setting */
  readonly wallClockOwed: boolean;
}

/** Pages in a row. */
export interface PageRun {
  readonly first: number;
  readonly pages: number;
}

/** A memory slot; by address space, then id. */
export interface MemslotState {
  readonly addressSpace: number;
  readonly id: number;
  readonly gpa: number;
  readonly bytes: number;
  readonly hva: number;
  readonly logDirty: boolean;
  readonly readonly: boolean;
  /** pages of the slot that its bitmap says were written */
  readonly dirty: readonly PageRun[];
}

/** Host pages in a row, on frames in a row; what is not named is absent. */
export interface HostPagesState extends PageRun {
  /** the first frame's offset in the guest-RAM window */
  readonly frame: number;
  readonly writable: boolean;
}

/** A port that is bound; by port. */
export interface BindingState {
  readonly port: number;
  /** index of the vCPU */
  readonly vcpu: number;
}

/** A port that the guest may ring; by number. */
export interface SendPortState {
  readonly sendPort: number;
  readonly channel: 'ipi' | 'interdomain';
  readonly target:
    | { readonly kind: 'port'; readonly port: number /** KVM's id */; readonly vcpu: number }
    | { readonly kind: 'eventfd'; readonly fd: number };
}

/** An interrupt route, in the order they were given. */
export interface RouteState {
  readonly gsi: number;
  readonly target:
    | { readonly kind: 'xen_evtchn'; readonly port: number /** KVM's id */; readonly vcpu: number }
    | { readonly kind: 'irqchip'; readonly irqchip: number; readonly pin: number }
    | { readonly kind: 'msi'; readonly address: Decimal; readonly data: number; readonly device: number | null };
}

/** An eventfd; by number. Who refers to it is said by those who do. */
export interface EventfdState {
  readonly fd: number;
  /** the descriptor; one that is closed lives on for send ports */
  readonly open: boolean;
  readonly semaphore: boolean;
  readonly counter: Decimal;
  /** the interrupt that a signal raises */
  readonly gsi: number | null;
}

/** The single-shot timer. */
export interface TimerState {
  /** 0: the embedder handles timers */
  readonly port: number;
  /** on the guest's clock, '0' = not set */
  readonly expires: Decimal;
}

/** A dirty ring. */
export interface RingState {
  /** entries that the embedder has given back so far, modulo 2^32 */
  readonly reset: number;
  /** those pushed since, oldest first */
  readonly entries: readonly RingEntryState[];
}

/** An entry of a dirty ring. */
export interface RingEntryState {
  /** id of the slot, with its address space in bits 16..31 */
  readonly slot: number;
  readonly page: number;
  /** it was collected, and not given back yet */
  readonly harvested: boolean;
}

/** What a vCPU is asked to do. That its clock is to be written is not said: after a restore it always is. */
export interface RequestsState {
  /** it was kicked; or it sleeps in a poll, which ends: the guest looks again */
  readonly unblock: boolean;
  /** its own upcall vector is due */
  readonly vector: boolean;
  /** its runstate is to be accounted at the next entry */
  readonly steal: boolean;
}

/** The runstate as the host keeps it. */
export interface RunstateState {
  readonly state: RunstateName;
  readonly entryTime: Decimal;
  readonly times: Readonly<Record<RunstateName, Decimal>>;
  /** the run delay that was accounted last */
  readonly lastSteal: Decimal;
  /** the run delay that its thread last said */
  readonly runDelay: Decimal;
}

/** The guest's TSC. */
export interface TscState {
  /** Hz, 0: not known */
  readonly hz: number;
  /** its value at the moment of the snapshot */
  readonly value: Decimal;
}

/** A vCPU. */
export interface VcpuState {
  readonly xenId: number;
  readonly vcpuInfo: PlaceState | null;
  readonly timeInfo: PlaceState | null;
  readonly runstateArea: PlaceState | null;
  readonly upcallVector: number;
  /** selector bits that wait for its vcpu_info */
  readonly shadow: Decimal;
  readonly requests: RequestsState;
  readonly runstate: RunstateState;
  readonly lapicOff: boolean;
  /** a hypercall that waits for its result: the linear address of its instruction */
  readonly hypercall: Decimal | null;
  /** the Xen leaves of CPUID: the first and the last, 0 for none */
  readonly cpuid: { readonly base: number; readonly limit: number };
  readonly tsc: TscState;
  readonly timer: TimerState;
  readonly ring: RingState;
}

/** A VM but for its RAM. */
export interface VmState {
  readonly version: typeof SNAPSHOT_VERSION;
  readonly machine: MachineState;
  readonly config: ConfigState;
  readonly attributes: AttributesState;
  readonly clock: ClockState;
  /** of each address space */
  readonly generations: readonly Decimal[];
  readonly memslots: readonly MemslotState[];
  readonly hostPages: readonly HostPagesState[];
  readonly ports: readonly BindingState[];
  readonly sendPorts: readonly SendPortState[];
  readonly routes: readonly RouteState[];
  readonly eventfds: readonly EventfdState[];
  /** in the order of their indices */
  readonly vcpus: readonly VcpuState[];
}

/** Whether the pages of a slot are logged in a bitmap. @internal */
export function needsBitmap({ logDirty }: MemslotState, { dirtyRings }: MachineState): boolean {
  return logDirty && !dirtyRings;
}

/** Bits of a slot's bitmap: whole words. @internal */
export function bitmapBits({ bytes }: MemslotState): number {
  return Math.ceil(bytes / PAGE_SIZE / 32) * 32;
}

/** A route as routes are set. @internal */
export function routeOf({ gsi, target }: RouteState): IrqRoute {
  switch (target.kind) {
    case 'xen_evtchn':
      return { gsi, type: 'xen_evtchn', port: target.port, vcpu: target.vcpu };
    case 'irqchip':
      return { gsi, type: 'irqchip', irqchip: target.irqchip, pin: target.pin };
    case 'msi': {
      const route = { gsi, type: 'msi', address: BigInt(target.address), data: target.data } as const;
      return target.device === null ? route : { ...route, device: target.device };
    }
  }
}
