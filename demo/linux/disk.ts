// A disk's way into a guest: keys in XenStore, by which front end and back end find each other. [XE-RG-06, 07]

import type { Domain, HostChannel } from '../../src/xen/index.ts';
import { type BlockCounts, BlockRing } from './block.ts';
import type { GrantTable } from './grants.ts';
import type { GuestRam } from './guest_ram.ts';
import type { Store } from './store.ts';

/** /dev/xvda, as Linux numbers it. */
const XVDA = 51712;
const SECTOR = 512;

const INIT_WAIT = 2;
const INITIALISED = 3;
const CONNECTED = 4;
const CLOSING = 5;
const CLOSED = 6;

/** What a disk needs. */
export interface DiskParts {
  readonly domain: Domain;
  readonly store: Store;
  readonly ram: GuestRam;
  readonly grants: GrantTable;
  readonly bytes: Uint8Array;
  /** requests that were served before a snapshot; a ring is in use then */
  readonly consumed: number | null;
}

/** One disk of one guest. */
export class Disk {
  readonly #parts: DiskParts;
  readonly #front: string;
  readonly #back: string;
  #ring: BlockRing | null = null;

  constructor(parts: DiskParts) {
    this.#parts = parts;
    const { domid } = parts.domain;
    this.#front = `/local/domain/${domid}/device/vbd/${XVDA}`;
    this.#back = `/local/domain/${this.#host}/backend/vbd/${domid}/${XVDA}`;
    if (parts.consumed === null) this.#announce();
    else this.#connect(parts.consumed);
    parts.store.watch(`${this.#front}/state`, 'disk', () => this.#frontChanged());
  }

  get counts(): BlockCounts | null {
    return this.#ring?.counts ?? null;
  }

  /** Requests served, while a guest uses the disk; for a snapshot. */
  get consumed(): number | null {
    return this.#ring?.consumed ?? null;
  }

  get #host(): number {
    return this.#parts.domain.xen.hostDomid;
  }

  #announce(): void {
    const { store, domain } = this.#parts;
    const keys = (folder: string, values: Readonly<Record<string, string | number>>): void => {
      for (const [key, value] of Object.entries(values)) store.write(`${folder}/${key}`, String(value));
    };
    keys(this.#back, {
      frontend: this.#front,
      'frontend-id': domain.domid,
      online: 1,
      'feature-flush-cache': 1,
      state: INIT_WAIT,
    });
    keys(this.#front, {
      backend: this.#back,
      'backend-id': this.#host,
      'virtual-device': XVDA,
      'device-type': 'disk',
      state: 1,
    });
  }

  #frontChanged(): void {
    const { store } = this.#parts;
    const state = store.has(`${this.#front}/state`) ? Number(store.read(`${this.#front}/state`)) : CLOSED;
    if (state === INITIALISED && this.#ring === null) this.#connect(0);
    else if ((state === CLOSING || state === CLOSED) && this.#ring !== null) this.#disconnect();
  }

  #connect(consumed: number): void {
    const { store, domain, ram, grants, bytes } = this.#parts;
    const key = (name: string): number => Number(store.read(`${this.#front}/${name}`));
    const page = grants.map(key('ring-ref'), this.#host, true);
    if (page === null) return;
    const ring = new BlockRing(ram, grants, page, bytes, { domid: this.#host, consumed });
    const channel: HostChannel = domain.xen.host.bind(domain.domid, key('event-channel'), () => ring.serve());
    ring.channel = channel;
    this.#ring = ring;
    if (consumed > 0) return;
    const keys = { 'sector-size': SECTOR, sectors: bytes.length / SECTOR, info: 0, state: CONNECTED };
    for (const [name, value] of Object.entries(keys)) store.write(`${this.#back}/${name}`, String(value));
  }

  #disconnect(): void {
    this.#ring?.close();
    this.#ring = null;
    this.#parts.store.write(`${this.#back}/state`, String(CLOSED));
  }
}
