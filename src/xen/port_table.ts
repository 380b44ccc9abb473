// The port descriptors of a domain, as records in the region: what one says, and how it is written. [XE-MOD-03, XE-MOD-04]

import { REGION_PORT_CAPACITY, REGION_PORT_DESCS, REGION_VALID_PORTS } from '../abi/region.ts';
import {
  PORT_CONSUMER,
  PORT_DESC_SIZE,
  PORT_DOM_SHIFT,
  PORT_FREE,
  PORT_KEPT,
  PORT_NUMBER,
  PORT_PEER_REGION,
  PORT_RESERVED,
  PORT_STATE_BITS,
  PORT_TARGET_BITS,
  PORT_TARGET_SHIFT,
  PORT_WHAT,
} from '../abi/xen_port.ts';
import type { Region } from '../memory/region.ts';

/** A descriptor. @internal */
export interface Port {
  /** PORT_FREE .. PORT_IPI */
  readonly state: number;
  /** consumed by the hypervisor itself */
  readonly consumer: boolean;
  /** index of the vCPU that gets its upcalls */
  readonly target: number;
  /** of an unbound port who may bind it, of an interdomain port its peer's domain; else 0 */
  readonly dom: number;
  /** the peer's port, the VIRQ, the PIRQ; else 0 */
  readonly number: number;
  /** region base plus 1 of a peer in the same memory, else 0 */
  readonly peerRegion: number;
}

/** @internal */
export const FREE_PORT: Port = { state: PORT_FREE, consumer: false, target: 0, dom: 0, number: 0, peerRegion: 0 };

/** @internal */
export class PortTable {
  readonly #region: Region;
  readonly #first: number;
  /** room for descriptors */
  readonly capacity: number;

  constructor(region: Region) {
    this.#region = region;
    this.#first = region.part(REGION_PORT_DESCS);
    this.capacity = region.words.load(region.base + REGION_PORT_CAPACITY);
  }

  /** Ports that have a descriptor: those below. [XE-MOD-13] */
  get valid(): number {
    return this.#region.words.load(this.#region.base + REGION_VALID_PORTS);
  }
  set valid(ports: number) {
    // After the descriptors, which are zero. On the other side: a sender compares, then reads one. [XE-TC-05]
    this.#region.words.store(this.#region.base + REGION_VALID_PORTS, ports);
  }

  isValid(port: number): boolean {
    return Number.isInteger(port) && port >= 0 && port < this.valid;
  }

  /** Of a valid port. */
  load(port: number): Port {
    const { words } = this.#region;
    const at = this.at(port);
    const what = words.load(at + PORT_WHAT);
    return {
      state: what & PORT_STATE_BITS,
      consumer: (what & PORT_CONSUMER) !== 0,
      target: (what >> PORT_TARGET_SHIFT) & PORT_TARGET_BITS,
      dom: what >>> PORT_DOM_SHIFT,
      number: words.load(at + PORT_NUMBER) >>> 0,
      peerRegion: words.load(at + PORT_PEER_REGION) >>> 0,
    };
  }

  state(port: number): number {
    return this.#region.words.load(this.at(port) + PORT_WHAT) & PORT_STATE_BITS;
  }

  /** Usable: a guest's, and bound. [XE-MOD-05] */
  isUsable(port: number): boolean {
    const what = this.#region.words.load(this.at(port) + PORT_WHAT);
    return (what & PORT_CONSUMER) === 0 && (what & PORT_STATE_BITS) > PORT_RESERVED;
  }

  target(port: number): number {
    return (this.#region.words.load(this.at(port) + PORT_WHAT) >> PORT_TARGET_SHIFT) & PORT_TARGET_BITS;
  }

  /** Makes a port what it will be. Nobody may still use the numbers that it had. */
  store(port: number, to: Port): void {
    const { words } = this.#region;
    const at = this.at(port);
    words.store(at + PORT_NUMBER, to.number | 0);
    words.store(at + PORT_PEER_REGION, to.peerRegion | 0);
    // Last: whoever sees it sees the numbers. On the other side: a sender reads it first.
    words.store(at + PORT_WHAT, what(to));
  }

  /** Changes the first word only: senders that read the port before still use its numbers. */
  storeWhat(port: number, to: Port): void {
    this.#region.words.store(this.at(port) + PORT_WHAT, what(to));
  }

  /** Where the descriptor is. */
  at(port: number): number {
    return this.#first + port * PORT_DESC_SIZE;
  }

  kept(port: number): number {
    return this.at(port) + PORT_KEPT;
  }
}

function what({ state, consumer, target, dom }: Port): number {
  return state | (consumer ? PORT_CONSUMER : 0) | (target << PORT_TARGET_SHIFT) | ((dom << PORT_DOM_SHIFT) >>> 0) | 0;
}
