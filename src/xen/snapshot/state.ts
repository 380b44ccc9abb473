// What a snapshot of a domain holds besides its VM, as an object that can be read and put into JSON. Numbers that no JavaScript
// number holds are decimal digits. Other domains and the host are named by their ids, their ports by number.

import type { Decimal, VmState } from '../../vm/snapshot/state.ts';
import type { DialectName } from '../dialect.ts';
import type { FifoState } from '../fifo_state.ts';

/** Version of the object, and of the bytes. */
export const DOMAIN_SNAPSHOT_VERSION = 1;

/** What a port may be in a snapshot. */
export type PortKind = 'unbound' | 'interdomain' | 'pirq' | 'virq' | 'ipi';

/** A port that is not free; by number. */
export interface PortState {
  readonly port: number;
  readonly state: PortKind;
  /** index of the vCPU that gets its upcalls */
  readonly vcpu: number;
  /** who may bind it, or its peer's domain; else 0 */
  readonly dom: number;
  /** the peer's port, the PIRQ or the VIRQ; else 0 */
  readonly number: number;
  /** the hypervisor itself consumes its events */
  readonly consumer: boolean;
  /** it has become pending while the guest had no shared_info */
  readonly saved: boolean;
}

/** A PIRQ that is not free, as the region has it. */
export interface PirqState {
  readonly pirq: number;
  readonly entry: number;
}

/** What the guest's hypercalls have set for a vCPU. */
export interface HvmVcpuState {
  readonly state: number;
  readonly infoSet: boolean;
  /** the periodic timer: ns, '0' = off; and its last tick on the guest's clock */
  readonly period: Decimal;
  readonly lastTick: Decimal;
  readonly runstateNext: Decimal;
}

/** What the guest's hypercalls have set, but for ports and what is an attribute of the VM. */
export interface HvmState {
  /** HVM parameters by index */
  readonly params: readonly Decimal[];
  readonly via: number;
  readonly viaGsi: number;
  readonly viaAsserted: boolean;
  /** the shutdown code plus 1, 0 = none */
  readonly shutdownCode: number;
  readonly shutDown: boolean;
  /** ns that are left of each watchdog, null = free */
  readonly watchdogs: readonly (Decimal | null)[];
  /** how many hold each interrupt line up */
  readonly lines: readonly number[];
  readonly pirqs: readonly PirqState[];
  readonly vcpus: readonly HvmVcpuState[];
}

/** What the domain is besides its VM. */
export interface XenState {
  readonly domid: number;
  readonly dialect: DialectName;
  /** ports that have a descriptor */
  readonly validPorts: number;
  readonly ports: readonly PortState[];
  readonly hvm: HvmState;
  /** null while the 2-level ABI is in force */
  readonly fifo: FifoState | null;
}

/** A domain. */
export interface DomainState {
  readonly version: number;
  readonly vm: VmState;
  readonly xen: XenState;
}
