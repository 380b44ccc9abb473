// A disk for the guest: the back end of Xen's block protocol, served from bytes of the host. [XE-RG-01..07]

import type { HostChannel } from '../../src/xen/index.ts';
import type { GrantedPage, GrantTable } from './grants.ts';
import { type GuestRam, PAGE } from './guest_ram.ts';

const SECTOR = 512;

const REQ_PROD = 0;
const REQ_EVENT = 4;
const RSP_PROD = 8;
const RSP_EVENT = 12;
const ENTRIES_AT = 64;
/** The layout of 32-bit guests ("x86_32-abi"): 108 bytes, so 32 fit. */
const ENTRY = 108;
const COUNT = 32;

const READ = 0;
const WRITE = 1;
const BARRIER = 2;
const FLUSH = 3;
const MAX_SEGMENTS = 11;

const REQUEST_OPERATION = 0;
const REQUEST_SEGMENTS = 1;
const REQUEST_ID = 4;
const REQUEST_SECTOR = 12;
const SEGMENTS = 20;
const SEGMENT = 8;
const RESPONSE_ID = 0;
const RESPONSE_OPERATION = 8;
const RESPONSE_STATUS = 10;

const OKAY = 0;
const ERROR = -1;
const NOT_SUPPORTED = -2;

/** What a disk has done. */
export interface BlockCounts {
  readonly reads: number;
  readonly writes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly errors: number;
}

/** A ring that a guest shares, and the disk behind it. */
export class BlockRing {
  readonly #ram: GuestRam;
  readonly #grants: GrantTable;
  readonly #ring: GrantedPage;
  readonly #disk: Uint8Array;
  readonly #domid: number;
  readonly #counts = { reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, errors: 0 };
  #consumed: number;
  #channel: HostChannel | null = null;

  /**
   * `consumed` is how many requests were served before; `domid` the back end's own id, to which the guest grants its pages.
   */
  constructor(
    ram: GuestRam,
    grants: GrantTable,
    ring: GrantedPage,
    disk: Uint8Array,
    { domid, consumed }: { readonly domid: number; readonly consumed: number },
  ) {
    this.#ram = ram;
    this.#grants = grants;
    this.#ring = ring;
    this.#disk = disk;
    this.#domid = domid;
    this.#consumed = consumed;
  }

  set channel(channel: HostChannel) {
    this.#channel = channel;
  }

  get counts(): BlockCounts {
    return { ...this.#counts };
  }

  get consumed(): number {
    return this.#consumed;
  }

  close(): void {
    this.#channel?.close();
    this.#ring.unmap();
  }

  /** The guest has put requests into the ring: each is done and answered. */
  serve(): void {
    const page = this.#ring.address;
    const before = this.#ram.u32(page + RSP_PROD);
    let produced = before;
    do {
      // A guest that claims more than the ring holds gets as many as it holds.
      const waiting = Math.min((this.#ram.u32(page + REQ_PROD) - this.#consumed) >>> 0, COUNT);
      for (let i = 0; i < waiting; i++) {
        this.#perform(this.#entry(this.#consumed), this.#entry(produced));
        this.#consumed = (this.#consumed + 1) >>> 0;
        produced = (produced + 1) >>> 0;
      }
      this.#ram.setU32(page + RSP_PROD, produced);
      // Asked for before the last look, so that none is missed. [XE-RG-03]
      this.#ram.setU32(page + REQ_EVENT, (this.#consumed + 1) >>> 0);
    } while (this.#ram.u32(page + REQ_PROD) !== this.#consumed && produced !== before + COUNT);
    const wanted = (produced - this.#ram.u32(page + RSP_EVENT)) >>> 0;
    if (wanted < (produced - before) >>> 0) this.#channel?.notify();
  }

  #entry(index: number): number {
    return this.#ring.address + ENTRIES_AT + (index % COUNT) * ENTRY;
  }

  /** The response may lie where the request did. */
  #perform(request: number, response: number): void {
    const ram = this.#ram;
    const operation = ram.u8(request + REQUEST_OPERATION);
    const id = ram.u64(request + REQUEST_ID);
    const status = this.#run(operation, request);
    if (status !== OKAY) this.#counts.errors++;
    ram.setU64(response + RESPONSE_ID, id);
    ram.setU8(response + RESPONSE_OPERATION, operation);
    ram.setU16(response + RESPONSE_STATUS, status & 0xffff);
  }

  #run(operation: number, request: number): number {
    if (operation === FLUSH) return OKAY;
    if (operation !== READ && operation !== WRITE && operation !== BARRIER) return NOT_SUPPORTED;
    const segments = this.#ram.u8(request + REQUEST_SEGMENTS);
    if (segments > MAX_SEGMENTS) return ERROR;
    let sector = Number(this.#ram.u64(request + REQUEST_SECTOR));
    if (operation === READ) this.#counts.reads++;
    else this.#counts.writes++;
    for (let i = 0; i < segments; i++) {
      const at = request + SEGMENTS + i * SEGMENT;
      const [first, last] = [this.#ram.u8(at + 4), this.#ram.u8(at + 5)];
      const bytes = (last - first + 1) * SECTOR;
      if (first > last || (last + 1) * SECTOR > PAGE || sector * SECTOR + bytes > this.#disk.length) return ERROR;
      if (!this.#copy(operation === READ, this.#ram.u32(at), first * SECTOR, sector * SECTOR, bytes)) return ERROR;
      sector += bytes / SECTOR;
    }
    return OKAY;
  }

  /** Between the disk and a page that the guest has granted. */
  #copy(read: boolean, ref: number, offset: number, from: number, bytes: number): boolean {
    const page = this.#grants.map(ref, this.#domid, read);
    if (page === null) return false;
    if (read) this.#ram.write(page.address + offset, this.#disk.subarray(from, from + bytes));
    else this.#disk.set(this.#ram.read(page.address + offset, bytes), from);
    page.unmap();
    if (read) this.#counts.bytesRead += bytes;
    else this.#counts.bytesWritten += bytes;
    return true;
  }
}
