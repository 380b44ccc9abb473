// A VM is saved and restored elsewhere at random moments while threads send to it: what arrived before and what arrives after is
// what was sent. [R13]

import { Worker } from 'node:worker_threads';
import { createVm, gfn, gpa, regionBytes, type Vm } from '../../src/index.ts';
import { random } from '../support.ts';
import { ARRIVED, DONE, LIFE, type MovePart, type MoveTally } from '../workers/move_part.ts';

const FILE = new URL('../../dist/test/workers/moving_sender.js', import.meta.url);

const SIZES = { agents: 4, routes: 0, eventfds: 0 };
const GUEST_PAGES = 64;
const GUEST_BASE = Math.ceil(regionBytes(SIZES) / 4096) * 4096;
const SENDERS = 2;
const PORTS = 4000;

export interface Moves {
  readonly moves: number;
  /** how often each port arrived */
  readonly arrived: Int32Array;
  /** sends that fell into nobody's life and were made again */
  readonly again: number;
  readonly strange: number;
}

/** Two memories, in which the VM lives in turn. */
class Homes {
  readonly #memories = [0, 1].map(
    () =>
      new WebAssembly.Memory({
        initial: Math.ceil((GUEST_BASE + GUEST_PAGES * 4096) / 65536),
        maximum: 16,
        shared: true,
      }),
  );
  #turn = 0;

  next(): Vm {
    const memory = this.#memories[this.#turn++ % 2] as WebAssembly.Memory;
    new Uint8Array(memory.buffer).fill(0);
    const place = { memory, regionBase: 0, guestBase: GUEST_BASE, guestPages: GUEST_PAGES };
    return createVm({ ...SIZES, ...place });
  }
}

export async function moveUnderLoad(seed: number): Promise<Moves> {
  const next = random(seed);
  const homes = new Homes();
  const control = new SharedArrayBuffer(16);
  const words = new Int32Array(control);
  const arrived = new Int32Array(PORTS + 1);
  const take = (port: number): void => {
    arrived[port] = (arrived[port] ?? 0) + 1;
  };
  let vm = homes.next();
  vm.setAttr({ type: 'long_mode', enabled: true });
  vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
  vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(8192) });
  const threads = Array.from({ length: SENDERS }, (_, i) => {
    const data: MovePart = { handle: vm.handle(), control, first: i + 1, step: SENDERS, last: PORTS };
    return new Worker(FILE, { workerData: data });
  });
  const tallies = threads.map((thread) => tallyOf(thread));
  let failure: unknown = null;
  for (const tally of tallies) {
    tally.catch((error) => {
      failure = error;
    });
  }
  /** Returns when all senders have come to the VM of this life: the memory that was left is used again, nobody may be late. */
  const together = async (lives: number): Promise<void> => {
    while (Atomics.load(words, ARRIVED) < SENDERS * lives) {
      await pause(0);
      if (failure !== null) throw failure;
    }
  };
  let moves = 0;
  await together(1);
  while (Atomics.load(words, DONE) < SENDERS) {
    await pause(next(4));
    if (next(2)) vm.vcpu(0).drain(take);
    vm = move(vm, homes, words);
    moves++;
    for (const thread of threads) thread.postMessage(vm.handle());
    await together(moves + 1);
  }
  // A VM that will not move any more.
  Atomics.store(words, LIFE, -1);
  const tally = (await Promise.all(tallies)).reduce((a, b) => ({
    again: a.again + b.again,
    strange: a.strange + b.strange,
  }));
  vm.vcpu(0).drain(take);
  return { moves, arrived: arrived.subarray(1), ...tally };
}

/** Saves it with its RAM while the others send, ends it, and goes on with another one. */
function move(vm: Vm, homes: Homes, words: Int32Array): Vm {
  const saved = vm.snapshot({ ram: true, during: () => void Atomics.add(words, LIFE, 1) });
  const other = homes.next();
  other.restore(saved);
  vm.close();
  return other;
}

function pause(turns: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, turns));
}

function tallyOf(thread: Worker): Promise<MoveTally> {
  return new Promise((resolve, reject) => {
    thread.on('message', resolve);
    thread.on('error', reject);
    thread.on('exit', () => reject(new Error('a sender ended without a word')));
  });
}
