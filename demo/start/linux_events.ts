// The part of a 32-bit Linux that handles event channels, in its own memory: masks, the scan of an upcall, and what is around hypercalls.
// The model is told the same, and says when an upcall is due.

import { PAGE_SIZE, PORTS_COMPAT, SHARED_INFO_MASK_COMPAT, SHARED_INFO_PENDING } from '../../src/abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_COMPAT, VCPU_INFO_UPCALL_PENDING } from '../../src/abi/vcpu_info.ts';
import type { Vm } from '../../src/index.ts';
import { sharedInfoGfn, vcpuInfoGpa } from './guest.ts';
import { Model } from './model.ts';
import { fields, type HypercallRecord } from './recording.ts';

const WORD_BITS = 32;
const WORD_BYTES = 4;

/** Where the number of the port is in what a bind answers, by widths of the fields up to it. */
const BINDS: Readonly<Record<string, readonly number[]>> = {
  'event_channel_op.bind_virq': [4, 4, 4],
  'event_channel_op.bind_ipi': [4, 4],
  'event_channel_op.alloc_unbound': [2, 2, 4],
};

export class LinuxEvents {
  readonly #vm: Vm;
  readonly #model = new Model();
  readonly #early: readonly number[];
  readonly #differ: (what: string) => void;
  #sharedInfo = 0;
  #vcpuInfo = 0;

  /** `early`: ports that rang before the guest had a page to see it in. */
  constructor(vm: Vm, early: readonly number[], differ: (what: string) => void) {
    this.#vm = vm;
    this.#early = early;
    this.#differ = differ;
  }

  get registered(): boolean {
    return this.#vcpuInfo !== 0;
  }
  get due(): boolean {
    return this.#model.cause !== null;
  }

  /** Somebody has raised a port. */
  raised(port: number): void {
    this.#model.raise(port);
  }

  /** What Linux does before it makes a hypercall. */
  before(record: HypercallRecord): void {
    const [port = 0] = record.op.startsWith('event_channel_op.') ? fields(record.in, 4) : [];
    // It moves a port while it is masked, and asks for an unmask with the port masked again.
    if (record.op === 'event_channel_op.bind_vcpu' || record.op === 'event_channel_op.unmask') this.#mask(port);
  }

  /** What has become of it, and what it does then. */
  after(record: HypercallRecord): void {
    const ports = BINDS[record.op];
    if (ports) this.#unmask(fields(record.out, ...ports).at(-1) ?? 0);
    switch (record.op) {
      case 'memory_op.add_to_physmap':
        this.#sharedInfo = (sharedInfoGfn(record) ?? this.#sharedInfo / PAGE_SIZE) * PAGE_SIZE;
        break;
      case 'vcpu_op.register_vcpu_info':
        this.#vcpuInfo = vcpuInfoGpa(record) ?? 0;
        this.#model.ask('registration');
        break;
      // Refused: it sets up the 2-level layout, with every port masked.
      case 'event_channel_op.init_control':
        for (let port = 1; port < PORTS_COMPAT; port++) this.#mask(port);
        for (const port of this.#early) this.#model.raise(port);
        break;
      case 'event_channel_op.bind_vcpu':
        this.#unmask(fields(record.in, 4)[0] ?? 0);
        break;
      case 'event_channel_op.unmask':
        this.#model.unmask(fields(record.in, 4)[0] ?? 0);
        break;
    }
  }

  /** The upcall handler: byte, selector, and of each word what is pending and not masked. */
  handleUpcall(): void {
    const found: number[] = [];
    const view = this.#view();
    view.setUint8(this.#vcpuInfo + VCPU_INFO_UPCALL_PENDING, 0);
    const selector = view.getUint32(this.#vcpuInfo + VCPU_INFO_SELECTOR_COMPAT, true);
    view.setUint32(this.#vcpuInfo + VCPU_INFO_SELECTOR_COMPAT, 0, true);
    for (let word = 0; word < WORD_BITS; word++) if ((selector >>> word) & 1) found.push(...this.#take(word));
    const due = this.#model.drain();
    if (found.join() !== due.join()) this.#differ(`the handler found ports [${found}], due were [${due}]`);
  }

  /** Ports that are pending and not masked. */
  pending(): number {
    let count = 0;
    for (let port = 1; port < PORTS_COMPAT; port++) {
      if (this.#bit(SHARED_INFO_PENDING, port) && !this.#bit(SHARED_INFO_MASK_COMPAT, port)) count++;
    }
    return count;
  }

  #take(word: number): number[] {
    const view = this.#view();
    const at = this.#sharedInfo + SHARED_INFO_PENDING + word * WORD_BYTES;
    const mask = view.getUint32(this.#sharedInfo + SHARED_INFO_MASK_COMPAT + word * WORD_BYTES, true);
    const pending = view.getUint32(at, true);
    const active = pending & ~mask;
    view.setUint32(at, pending & ~active, true);
    return Array.from({ length: WORD_BITS }, (_, bit) => bit)
      .filter((bit) => (active >>> bit) & 1)
      .map((bit) => word * WORD_BITS + bit);
  }

  #mask(port: number): void {
    this.#setMask(port, true);
    this.#model.mask(port);
  }

  /** In its own page; one that is pending is masked again, and the host is asked. */
  #unmask(port: number): void {
    if (this.#bit(SHARED_INFO_PENDING, port)) return;
    this.#setMask(port, false);
    this.#model.unmask(port);
  }

  #setMask(port: number, on: boolean): void {
    const at = this.#sharedInfo + SHARED_INFO_MASK_COMPAT + (port >>> 3);
    const view = this.#view();
    const bit = 1 << (port & 7);
    view.setUint8(at, on ? view.getUint8(at) | bit : view.getUint8(at) & ~bit);
  }

  #bit(bitmap: number, port: number): boolean {
    return ((this.#view().getUint8(this.#sharedInfo + bitmap + (port >>> 3)) >>> (port & 7)) & 1) === 1;
  }

  #view(): DataView {
    return new DataView(this.#vm.memory.buffer, this.#vm.guestBase, this.#vm.guestBytes);
  }
}
