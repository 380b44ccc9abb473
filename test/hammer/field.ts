// Pages move under fire: real threads send and drain while the owner takes the pages of shared_info and vcpu_info away, fills the old
// frames with poison and uses them again. Nothing is lost, nothing is invented, no poison is touched. [R3, KF-01, KF-12]

import { Worker } from 'node:worker_threads';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { createVm, gfn, gpa, type Hpa, type Hva, hpa, hva, type Memslot, type Vm } from '../../src/index.ts';
import {
  REMAP_CONTROL_WORDS,
  REMAP_DRAINED,
  REMAP_SENT,
  REMAP_STOP,
  type RemapOutcome,
  type RemapPart,
} from '../workers/remap_part.ts';

const FILE = new URL('../../dist/test/workers/remap.js', import.meta.url);
const PORTS = 1024;
/** Few bits, so that a bit that is set or a byte that is stored shows. */
const POISON = Buffer.alloc(PAGE_SIZE, 0x10);
/** Guest pages of the two areas, and of those that stand ready. */
export const INFO = 1;
const VCPU = 2;
export const SLOT_PAGES = 8;
const POOL = Array.from({ length: 16 }, (_, i) => SLOT_PAGES + i);
/** The owner waits that often until the others have done something. */
const BREATH = 16;

/** A VM whose owner is this thread, the ledger, and frames that are given away and used again. */
export class Field {
  readonly vm: Vm = createVm({ bare: true, guestPages: SLOT_PAGES + POOL.length, hostPages: 256, agents: 3 });
  readonly #ledger = new SharedArrayBuffer(4 * (REMAP_CONTROL_WORDS + 2 * PORTS));
  readonly #control = new Int32Array(this.#ledger, 0, REMAP_CONTROL_WORDS);
  readonly #free: number[] = [...POOL];
  readonly #threads: Promise<RemapOutcome>[] = [];
  #moves = 0;
  /** frames whose poison was touched */
  spoilt = 0;

  constructor(byHost = false) {
    const { vm } = this;
    // The areas' slot ends before the frames.
    const { slot } = this;
    vm.memslots.delete(slot.id);
    vm.memslots.set({ ...slot, bytes: SLOT_PAGES * PAGE_SIZE });
    vm.setAttr({ type: 'long_mode', enabled: true });
    if (byHost) {
      vm.setAttr({ type: 'shared_info_hva', hva: this.host(INFO) });
      vm.vcpu(0).setAttr({ type: 'vcpu_info_hva', hva: this.host(VCPU) });
    } else {
      vm.setAttr({ type: 'shared_info', gfn: gfn(INFO) });
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU * PAGE_SIZE) });
    }
    for (const frame of POOL) this.#page(frame).set(POISON);
  }

  get slot(): Memslot {
    return this.vm.memslots.list()[0] as Memslot;
  }
  host(page: number): Hva {
    return hva(this.vm.guestBase + page * PAGE_SIZE);
  }
  frame(page: number): Hpa {
    return hpa(this.vm.guestBase + page * PAGE_SIZE);
  }
  #page(n: number): Buffer {
    return Buffer.from(this.vm.memory.buffer as unknown as ArrayBuffer, this.vm.guestBase + n * PAGE_SIZE, PAGE_SIZE);
  }

  /** A frame that nobody may have touched since it was given away. */
  take(): number {
    const frame = this.#free.shift() as number;
    this.inspect(frame);
    return frame;
  }
  inspect(frame: number): void {
    if (!this.#page(frame).equals(POISON)) this.spoilt++;
  }
  /** Right after the change has returned: whoever has the frame now fills it. */
  give(frame: number): void {
    this.#page(frame).set(POISON);
    this.#free.push(frame);
  }
  clear(frame: number): void {
    this.#page(frame).fill(0);
  }
  /** What a page holds goes to another; the old one is poison, and is not given away. */
  carry(from: number, to: number): void {
    this.inspect(to);
    this.#page(to).set(this.#page(from));
    this.#page(from).set(POISON);
  }

  start(role: RemapPart['role']): void {
    const data: RemapPart = { role, handle: this.vm.handle(), ledger: this.#ledger, ports: PORTS };
    const worker = new Worker(FILE, { workerData: data });
    this.#threads.push(
      new Promise((resolve, reject) => {
        worker.on('message', resolve);
        worker.on('error', reject);
      }),
    );
  }

  /** Does `move` that often, among sends and drains of the others. */
  run(times: number, move: () => void, words: readonly number[] = [REMAP_SENT, REMAP_DRAINED]): void {
    for (let i = 0; i < times; i++) {
      if (this.#moves++ % BREATH === 0) this.#breathe(words);
      move();
    }
    this.#breathe(words);
  }

  /** Until the others have sent and drained once more: so none of it happens while they rest. */
  #breathe(words: readonly number[]): void {
    for (const word of words) {
      const before = Atomics.load(this.#control, word);
      while (Atomics.load(this.#control, word) === before) Atomics.wait(this.#control, word, before, 100);
    }
  }

  /** Ends it: the sender first, so that the receiver's last drain is the last of all. */
  async stop(): Promise<{ lost: number[]; total: RemapOutcome }> {
    Atomics.store(this.#control, REMAP_STOP, 1);
    const outcomes = await Promise.all(this.#threads);
    // What came after the receiver's last look is for us.
    const ledger = new Int32Array(this.#ledger, 4 * REMAP_CONTROL_WORDS, 2 * PORTS);
    const late = this.vm.vcpu(0).drain((port) => {
      ledger[PORTS + port] = ledger[port] as number;
    });
    const total = outcomes.reduce((sum, o) => ({
      delivered: sum.delivered + o.delivered,
      coalesced: sum.coalesced + o.coalesced,
      drained: sum.drained + o.drained,
      unreachable: sum.unreachable + o.unreachable,
      late: sum.late + o.late,
      strange: sum.strange + o.strange,
    }));
    for (const frame of this.#free) this.inspect(frame);
    const ports = Array.from({ length: PORTS }, (_, port) => port);
    return {
      lost: ports.filter((port) => ledger[port] !== ledger[PORTS + port]),
      total: { ...total, drained: total.drained + late },
    };
  }
}

export type Change = (field: Field) => () => void;

/** Moves what a guest page holds to another frame. */
function moves(...pages: readonly number[]): Change {
  return (field) => {
    // The frames that the pages begin with are used like all others.
    const at = new Map(pages.map((page) => [page, page]));
    let turn = 0;
    return () => {
      const page = pages[turn++ % pages.length] as number;
      const to = field.take();
      field.vm.hostPages.move(field.host(page), 1, field.frame(to));
      field.give(at.get(page) as number);
      at.set(page, to);
    };
  };
}

/** Registers both areas at other guest pages, in turn. */
const registers: Change = (field) => {
  const { vm } = field;
  const slot = { id: 2, gpa: gpa(2 ** 33), bytes: POOL.length * PAGE_SIZE, hva: field.host(POOL[0] as number) };
  vm.memslots.set(slot);
  const gpaOf = (frame: number): number => slot.gpa + (frame - SLOT_PAGES) * PAGE_SIZE;
  let info = field.take();
  let vcpu = field.take();
  // Away from the pages they begin with.
  vm.setAttr({ type: 'shared_info', gfn: null });
  field.carry(INFO, info);
  vm.setAttr({ type: 'shared_info', gfn: gfn(gpaOf(info) / PAGE_SIZE) });
  vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(gpaOf(vcpu)) });
  let turn = 0;
  return () => {
    const to = field.take();
    if (turn++ % 2 === 0) {
      vm.setAttr({ type: 'shared_info', gfn: null });
      field.carry(info, to);
      vm.setAttr({ type: 'shared_info', gfn: gfn(gpaOf(to) / PAGE_SIZE) });
      field.give(info);
      info = to;
    } else {
      // Its events are kept on our side and reach the new place; the place itself begins empty.
      field.clear(to);
      vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(gpaOf(to)) });
      field.give(vcpu);
      vcpu = to;
    }
  };
};

/** Deletes the slot of both areas and makes it again over other host pages. */
const replaces: Change = (field) => {
  let at = 0;
  return () => {
    const { slot } = field;
    const next = at === 0 ? SLOT_PAGES : 0;
    field.vm.memslots.delete(slot.id);
    for (const page of [INFO, VCPU]) field.carry(at + page, next + page);
    field.vm.memslots.set({ ...slot, hva: field.host(next) });
    at = next;
  };
};

/** The slots come and go under areas that are registered by host address. */
const unslots: Change = (field) => () => {
  const { slot } = field;
  field.vm.memslots.delete(slot.id);
  field.vm.memslots.set(slot);
};

export interface Round {
  readonly name: string;
  readonly times: number;
  readonly change: Change;
  readonly threads: readonly RemapPart['role'][];
  readonly byHost?: boolean;
  /** whether there is a moment at which the areas cannot be reached */
  readonly gap?: boolean;
}

export const ROUNDS: readonly Round[] = [
  { name: 'the page of shared_info, 25 000 times', times: 25_000, change: moves(INFO), threads: ['both'] },
  { name: 'the page of vcpu_info, 25 000 times', times: 25_000, change: moves(VCPU), threads: ['both'] },
  {
    name: 'both in turn, sender and receiver apart, 20 000 times',
    times: 20_000,
    change: moves(INFO, VCPU),
    threads: ['send', 'drain'],
  },
  {
    name: 'both by host address, 10 000 times',
    times: 10_000,
    change: moves(INFO, VCPU),
    threads: ['send', 'drain'],
    byHost: true,
  },
  {
    name: 'both registered at other guest addresses, 10 000 times',
    times: 10_000,
    change: registers,
    threads: ['both'],
    gap: true,
  },
  {
    name: 'their slot deleted and made again elsewhere, 5 000 times',
    times: 5_000,
    change: replaces,
    threads: ['send', 'drain'],
    gap: true,
  },
  {
    name: 'slots come and go under areas by host address, 5 000 times',
    times: 5_000,
    change: unslots,
    threads: ['send', 'drain'],
    byHost: true,
  },
];
