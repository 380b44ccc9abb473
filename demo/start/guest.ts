// The part of Linux that touches event channels, following its own recording. Whatever happens, the engine and the model
// are told the same, and their answers are compared.

import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { gfn, gpa, type Vcpu, type Vm } from '../../src/index.ts';
import type { Model } from './model.ts';
import { fields, type HypercallRecord, type TraceRecord } from './recording.ts';

/** XENMAPSPACE_shared_info: the frame asked for is to hold shared_info. Other spaces are grant tables. */
const SPACE_SHARED_INFO = 0;
/** HVM_PARAM_CALLBACK_IRQ, and the kind of it (top byte) that names a vector. */
const PARAM_CALLBACK = 0;
const CALLBACK_VECTOR = 2;

/** struct xen_add_to_physmap: u16 domid, u16 size, u32 space, u32 idx, u32 gpfn */
export function sharedInfoGfn(record: HypercallRecord): number | null {
  if (record.op !== 'memory_op.add_to_physmap') return null;
  const [, , space, , frame] = fields(record.in, 2, 2, 4, 4, 4);
  return space === SPACE_SHARED_INFO && frame !== undefined ? frame : null;
}

/** struct vcpu_register_vcpu_info: u64 mfn, u32 offset, u32 rsvd. Linux keeps it somewhere in a page of per-CPU data. */
export function vcpuInfoGpa(record: HypercallRecord): number | null {
  if (record.op !== 'vcpu_op.register_vcpu_info') return null;
  const [frame = 0, offset = 0] = fields(record.in, 8, 4, 4);
  return frame * PAGE_SIZE + offset;
}

/** struct xen_hvm_param: u16 domid, u16 pad, u32 index, u64 value. @returns the vector it sets, or null */
function callbackVector(record: HypercallRecord): number | null {
  const [, , index, low = 0, high = 0] = fields(record.in, 2, 2, 4, 4, 4);
  return index === PARAM_CALLBACK && high >>> 24 === CALLBACK_VECTOR ? low : null;
}

/** Where the number of the port is in what a bind answers, by widths of the fields up to it. */
const BINDS: Readonly<Record<string, readonly number[]>> = {
  'event_channel_op.bind_virq': [4, 4, 4],
  'event_channel_op.bind_ipi': [4, 4],
  'event_channel_op.alloc_unbound': [2, 2, 4],
};

/**
 * Ports that the host had rung before the recording begins. Linux unmasks in its own page; it calls the host for it only
 * when it finds the port pending. So such a call for a port that no record has raised tells of an earlier ring.
 */
export function earlyPorts(records: readonly TraceRecord[]): number[] {
  const raised = new Set<number>();
  const early = new Set<number>();
  for (const record of records) {
    if (record.k === 'virq' || record.k === 'remote') raised.add(record.port);
    if (record.k !== 'hc' || record.op !== 'event_channel_op.unmask') continue;
    const [port = 0] = fields(record.in, 4);
    if (!raised.has(port)) early.add(port);
  }
  return [...early];
}

export class Guest {
  readonly #vm: Vm;
  readonly #vcpu: Vcpu;
  readonly #model: Model;
  readonly #early: readonly number[];
  readonly #differ: (what: string) => void;

  /** `differ` hears of every answer of the engine that is not the model's. */
  constructor(vm: Vm, model: Model, early: readonly number[], differ: (what: string) => void) {
    this.#vm = vm;
    this.#vcpu = vm.vcpu(0);
    this.#model = model;
    this.#early = early;
    this.#differ = differ;
  }

  raise(port: number): number {
    return this.#same(`the send of port ${port}`, this.#vm.send(port), this.#model.raise(port));
  }

  /** The handler: takes what there is. @returns the ports */
  drain(): number[] {
    const ports: number[] = [];
    this.#vcpu.drain((port) => ports.push(port));
    const due = this.#model.drain();
    if (ports.join() !== due.join()) this.#differ(`the drain gave ports [${ports}], due were [${due}]`);
    return ports;
  }

  /** What a hypercall says of the guest's event channels; most say nothing. */
  call(record: HypercallRecord): void {
    switch (record.op) {
      case 'memory_op.add_to_physmap':
        this.#mapSharedInfo(sharedInfoGfn(record));
        break;
      case 'vcpu_op.register_vcpu_info':
        this.#registerVcpuInfo(vcpuInfoGpa(record));
        break;
      // Linux asks for the FIFO layout, is refused, and sets up the 2-level one.
      case 'event_channel_op.init_control':
        this.#setUp();
        break;
      case 'hvm_op.set_param':
        this.#setCallback(callbackVector(record));
        break;
      case 'event_channel_op.bind_virq':
      case 'event_channel_op.bind_ipi':
      case 'event_channel_op.alloc_unbound':
        this.#unmask(fields(record.out, ...(BINDS[record.op] ?? [])).at(-1));
        break;
      case 'event_channel_op.bind_vcpu':
        this.#bindVcpu(fields(record.in, 4, 4));
        break;
      case 'event_channel_op.unmask':
        this.#unmask(fields(record.in, 4)[0]);
        break;
    }
  }

  #mapSharedInfo(frame: number | null): void {
    if (frame !== null) this.#vm.setAttr({ type: 'shared_info', gfn: gfn(frame) });
  }

  /** Xen raises every selector bit and the upcall byte here, so that nothing from the old place is lost. */
  #registerVcpuInfo(address: number | null): void {
    if (address === null) return;
    this.#vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(address) });
    this.#vcpu.resync();
    this.#model.ask('registration');
  }

  /** Linux masks every port, then unmasks one by one what it binds. When the early rings came does not matter: masked. */
  #setUp(): void {
    for (let port = 1; port < this.#vm.maxPorts; port++) this.#mask(port);
    for (const port of this.#early) this.raise(port);
  }

  #setCallback(vector: number | null): void {
    if (vector !== null) this.#vm.setAttr({ type: 'upcall_vector', vector });
  }

  /** Linux masks a port while it moves it, and leaves the unmasking to the host if it is pending then. */
  #bindVcpu([port = 0, vcpu = 0]: readonly number[]): void {
    this.#mask(port);
    this.#vm.bindVcpu(port, vcpu);
    if (!this.#model.isPending(port)) this.#unmask(port);
  }

  #mask(port: number): void {
    this.#same(`the mask of port ${port}`, this.#vm.mask(port), this.#model.mask(port));
  }

  #unmask(port: number | undefined): void {
    if (port === undefined) return;
    this.#same(`the unmask of port ${port}`, this.#vm.unmask(port), this.#model.unmask(port));
  }

  #same(what: string, result: number, expected: number): number {
    if (result !== expected) this.#differ(`${what} gave ${result}, expected was ${expected}`);
    return result;
  }
}
