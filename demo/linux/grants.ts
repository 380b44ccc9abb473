// Grant table version 1: the pages that a guest lets others use. Its frames lie in device memory, so they are kept here.
// [XE-GT-01..05]

import type { XenGuestCpu } from '../../src/index.ts';
import type { GrantTableCall } from '../../src/xen/index.ts';
import { type GuestRam, PAGE } from './guest_ram.ts';

const ENTRY = 8;
const FLAGS = 0;
const DOMID = 2;
const FRAME = 4;

const QUERY_SIZE = 6;
const QUERY_SIZE_BYTES = 16;
const SET_VERSION = 8;
const GET_VERSION = 10;
const VERSION = 1;

const EFAULT = 14;
const EINVAL = 22;

const TYPE_BITS = 3;
const PERMIT_ACCESS = 1;
const READ_ONLY = 1 << 2;
const READING = 1 << 3;
const WRITING = 1 << 4;

/** A page that a guest has granted, while it is in use. */
export interface GrantedPage {
  /** guest-physical */
  readonly address: number;
  readonly unmap: () => void;
}

/** A guest's grant table. */
export class GrantTable {
  /** The table itself. */
  readonly bytes: Uint8Array;
  readonly #entries: DataView;
  readonly #ram: GuestRam;
  /** how often each entry is in use */
  readonly #uses = new Map<number, number>();

  constructor(ram: GuestRam, frames: number) {
    this.#ram = ram;
    this.bytes = new Uint8Array(frames * PAGE);
    this.#entries = new DataView(this.bytes.buffer);
  }

  get frames(): number {
    return this.bytes.length / PAGE;
  }

  /** grant_table_op. @returns the guest's result; null: not one of those that are here [XE-GT-05] */
  hypercall({ command, argument }: GrantTableCall, cpu: XenGuestCpu): number | null {
    if (command === QUERY_SIZE) {
      return inOut(cpu, argument, QUERY_SIZE_BYTES, (query) => {
        query.setUint32(4, this.frames, true);
        query.setUint32(8, this.frames, true);
        query.setInt16(12, 0, true);
        return 0;
      });
    }
    if (command === SET_VERSION) {
      return inOut(cpu, argument, 4, (version) => (version.getUint32(0, true) === VERSION ? 0 : -EINVAL));
    }
    if (command === GET_VERSION) {
      return inOut(cpu, argument, 8, (version) => {
        version.setUint32(4, VERSION, true);
        return 0;
      });
    }
    return null;
  }

  /** Uses a page for domain `domid`; null when it is not granted to it, or not in RAM. [XE-GT-03] */
  map(ref: number, domid: number, write: boolean): GrantedPage | null {
    const at = ref * ENTRY;
    if (at + ENTRY > this.bytes.length) return null;
    const flags = this.#entries.getUint16(at + FLAGS, true);
    const frame = this.#entries.getUint32(at + FRAME, true);
    if ((flags & TYPE_BITS) !== PERMIT_ACCESS || this.#entries.getUint16(at + DOMID, true) !== domid) return null;
    if ((write && flags & READ_ONLY) || frame >= this.#ram.pages) return null;
    this.#entries.setUint16(at + FLAGS, flags | READING | (write ? WRITING : 0), true);
    this.#uses.set(ref, (this.#uses.get(ref) ?? 0) + 1);
    return { address: frame * PAGE, unmap: () => this.#unmap(ref) };
  }

  #unmap(ref: number): void {
    const uses = (this.#uses.get(ref) ?? 0) - 1;
    if (uses > 0) {
      this.#uses.set(ref, uses);
      return;
    }
    this.#uses.delete(ref);
    const at = ref * ENTRY + FLAGS;
    this.#entries.setUint16(at, this.#entries.getUint16(at, true) & ~(READING | WRITING), true);
  }
}

/** Runs `use` on a structure of the guest's, and writes it back unless that fails. */
function inOut(cpu: XenGuestCpu, address: bigint, bytes: number, use: (view: DataView) => number): number {
  const copy = cpu.readVirtual(address, bytes);
  if (copy === null) return -EFAULT;
  const result = use(new DataView(copy.buffer, copy.byteOffset, bytes));
  if (result < 0) return result;
  return cpu.writeVirtual(address, copy) ? result : -EFAULT;
}
