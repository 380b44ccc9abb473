// A guest under the FIFO ABI: its pages, its words, and a consumer as a real guest has one.

import {
  CONTROL_HEAD,
  CONTROL_READY,
  EVENT_BUSY,
  EVENT_LINK_BITS,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  EVENT_WORDS_PER_PAGE,
  FIFO_QUEUES,
  QUEUE_TAIL_BITS,
} from '../../src/abi/fifo.ts';
import type { Vm } from '../../src/index.ts';
import { Fifo, type FifoPorts } from '../../src/xen/fifo.ts';
import { type MakeOptions, makeVm, vcpuInfoGpa } from '../support.ts';

/** Frames: control blocks of all vCPUs in one, 128 bytes apart; then the pages of event words. */
export const CONTROL_GFN = 6;
export const ARRAY_GFN = 8;
export const CONTROL_STEP = 128;

export interface FifoOptions extends MakeOptions {
  /** pages of event words that are given at once; 1 by default */
  readonly pages?: number;
  /** the guest leaves its words unmasked; true by default */
  readonly open?: boolean;
  /** control blocks of the first so many vCPUs; all by default, 0: the 2-level ABI stays in force */
  readonly controls?: number;
  /** what else the domain says of its ports */
  readonly domain?: Partial<FifoPorts>;
}

/** A VM whose guest has gone over to the FIFO ABI. */
export function makeFifo(options: FifoOptions = {}): FifoGuest {
  const { pages = 1, open = true, controls, domain, ...rest } = options;
  const vm = makeVm({ guestPages: ARRAY_GFN + Math.max(pages, 4), fifoPorts: 4096, ...rest });
  const guest = new FifoGuest(vm, domain);
  guest.begin(pages, open, controls);
  return guest;
}

export class FifoGuest {
  readonly vm: Vm;
  readonly fifo: Fifo;
  /** where its consumer stands in each queue of each vCPU */
  readonly #heads = new Map<number, number[]>();

  constructor(vm: Vm, ports: Partial<FifoPorts> = {}) {
    this.vm = vm;
    this.fifo = new Fifo({ vm, isValid: (port) => port > 0 && port < 131072, isUsable: () => true, ...ports });
  }

  /** Registers control blocks and pages, which it has prepared. */
  begin(pages: number, open = true, controls = this.vm.vcpus): void {
    for (let vcpu = 0; vcpu < controls; vcpu++) this.expect(this.init(vcpu));
    for (let page = 0; page < pages; page++) {
      this.prepare(page, open ? 0 : EVENT_MASKED);
      if (controls > 0) this.expect(this.expand(page));
    }
  }

  expect(result: number): void {
    if (result !== 0) throw new Error(`a control operation answered ${result}`);
  }

  init(vcpu: number): number {
    const at = CONTROL_GFN * 4096 + vcpu * CONTROL_STEP;
    new Uint8Array(this.vm.memory.buffer, this.vm.guestBase + at, 72).fill(0);
    this.#heads.set(vcpu, Array(16).fill(0));
    return this.fifo.initControl({ controlGfn: CONTROL_GFN, offset: vcpu * CONTROL_STEP, vcpu });
  }

  expand(page: number): number {
    return this.fifo.expandArray({ arrayGfn: ARRAY_GFN + page });
  }

  prepare(page: number, word: number): void {
    this.words.fill(word, page * EVENT_WORDS_PER_PAGE, (page + 1) * EVENT_WORDS_PER_PAGE);
  }

  /** The event words of all pages, by port. */
  get words(): Int32Array {
    const { memory, guestBase, guestBytes } = this.vm;
    const at = ARRAY_GFN * 4096;
    return new Int32Array(memory.buffer, guestBase + at, (guestBytes - at) / 4);
  }

  word(port: number): number {
    return Atomics.load(this.words, port);
  }

  set(port: number, bits: number): void {
    Atomics.or(this.words, port, bits);
  }

  clear(port: number, bits: number): void {
    Atomics.and(this.words, port, ~bits);
  }

  /** A control block as words: ready, reserved, heads. */
  control(vcpu = 0): Int32Array {
    const { memory, guestBase } = this.vm;
    return new Int32Array(memory.buffer, guestBase + CONTROL_GFN * 4096 + vcpu * CONTROL_STEP, 18);
  }

  upcall(vcpu = 0): boolean {
    return new Uint8Array(this.vm.memory.buffer, this.vm.guestBase + vcpuInfoGpa(vcpu), 1)[0] !== 0;
  }

  clearUpcall(vcpu = 0): void {
    Atomics.store(new Uint8Array(this.vm.memory.buffer, this.vm.guestBase + vcpuInfoGpa(vcpu), 1), 0, 0);
  }

  /** The engine's own word of a queue: its tail. */
  tail(priority: number, vcpu = 0): number {
    const { region } = this.vm;
    return region.words.load(region.fifoVcpu(vcpu) + FIFO_QUEUES + 4 * priority) & QUEUE_TAIL_BITS;
  }

  /** Which queue a port is in now, walked from the head as it lies in the control block. */
  queue(priority: number, vcpu = 0): number[] {
    const found: number[] = [];
    let port = this.#heads.get(vcpu)?.[priority] || (this.control(vcpu)[CONTROL_HEAD / 4 + priority] ?? 0);
    while (port !== 0 && this.word(port) & EVENT_LINKED && found.length < 1e6) {
      found.push(port);
      port = this.word(port) & EVENT_LINK_BITS;
    }
    return found;
  }

  /** The guest's upcall handler, once: what it handles, in order. [XE-FF-71, 72] */
  consume(vcpu = 0): number[] {
    const handled: number[] = [];
    const control = this.control(vcpu);
    const local = this.#heads.get(vcpu) as number[];
    const takeReady = (): number => Atomics.exchange(control, CONTROL_READY / 4, 0);
    for (let ready = takeReady(); ready !== 0; ready |= takeReady()) {
      const p = 31 - Math.clz32(ready & -ready);
      const head = local[p] || Atomics.load(control, CONTROL_HEAD / 4 + p);
      const old = this.#unlink(head);
      const next = old & EVENT_LINK_BITS;
      if (next === 0) ready &= ~(1 << p);
      if ((old & (EVENT_PENDING | EVENT_MASKED)) === EVENT_PENDING) {
        this.clear(head, EVENT_PENDING);
        handled.push(head);
      }
      local[p] = next;
    }
    return handled;
  }

  /** Answers upcalls until none is asked for. */
  answer(vcpu = 0): number[] {
    const handled: number[] = [];
    for (let round = 0; this.upcall(vcpu); round++) {
      if (round > 1000) throw new Error('upcalls without end');
      this.clearUpcall(vcpu);
      handled.push(...this.consume(vcpu));
    }
    return handled;
  }

  #unlink(port: number): number {
    for (;;) {
      const old = this.word(port);
      const next = old & ~(EVENT_LINKED | EVENT_LINK_BITS);
      if (Atomics.compareExchange(this.words, port, old, next) === old) return old;
    }
  }

  /** The guest's own unmask. [XE-FF-74] */
  unmask(port: number): number {
    for (;;) {
      const old = this.word(port);
      if (!(old & EVENT_MASKED)) return 0;
      if (old & EVENT_PENDING) return this.vm.unmask(port);
      const free = old & ~EVENT_BUSY;
      if (Atomics.compareExchange(this.words, port, free, free & ~EVENT_MASKED) === free) return 0;
    }
  }
}

/** The bits of a word, for people. */
export function bitsOf(word: number): string {
  const names = ['PENDING', 'MASKED', 'LINKED', 'BUSY'];
  const bits = [EVENT_PENDING, EVENT_MASKED, EVENT_LINKED, EVENT_BUSY];
  const set = names.filter((_, i) => word & (bits[i] as number));
  return [...set, String(word & EVENT_LINK_BITS)].join(' ');
}
