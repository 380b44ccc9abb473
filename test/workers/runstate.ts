// The parts that threads play in test/hammer/runstate.test.ts: one accounts transitions, one reads the guest's copies of them.

import { parentPort, workerData } from 'node:worker_threads';
import {
  RUNSTATE_ENTRY_TIME_COMPAT,
  RUNSTATE_ENTRY_TIME_LONG,
  RUNSTATE_SIZE_COMPAT,
  RUNSTATE_SIZE_LONG,
  RUNSTATE_STATE,
  RUNSTATE_TIMES_COMPAT,
  RUNSTATE_TIMES_LONG,
  RUNSTATE_UPDATE_BIT,
} from '../../src/abi/runstate.ts';
import { attachVm, type RunstateName, type VmHandle } from '../../src/index.ts';

export interface RunstatePart {
  readonly role: 'account' | 'read';
  readonly handle: VmHandle;
  /** i32 words: the vCPU that both work on */
  readonly control: SharedArrayBuffer;
  /** linear offset of each vCPU's area, in the order of the vCPUs */
  readonly areas: readonly number[];
  /** reads to accept for each */
  readonly reads: number;
}

export interface RunstateOutcome {
  transitions: number;
  accepted: number;
  rejected: number;
  /** areas in whose accepted reads the time stood still, or for which the looks ran out */
  stuck: number;
  /** accepted reads that do not fit together, the first few */
  readonly torn: string[];
}

const STATES: readonly RunstateName[] = ['running', 'runnable', 'blocked', 'offline'];
/** Looks at one area; a thousand times what it takes on two idle cores. */
const LOOKS = 50_000_000;

const part = workerData as RunstatePart;
const vm = attachVm(part.handle);
const control = new Int32Array(part.control);
const outcome: RunstateOutcome = { transitions: 0, accepted: 0, rejected: 0, stuck: 0, torn: [] };

/** Changes the runstate of the vCPU whose area is being read. Its state is the low bits of the time at which it was entered. */
function account(): void {
  let x = 88_172_645;
  for (let at = 0; at < part.areas.length; at = Atomics.load(control, 0)) {
    const vcpu = vm.vcpu(at);
    for (let now = 0; Atomics.load(control, 0) === at; outcome.transitions++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      // Bytes of the time carry into each other at different rates.
      now += 1 + (x & 0xffffff);
      vcpu.enterRunstate(STATES[now & 3] as RunstateName, now, now >>> 3);
      // Time for a reader to read it in.
      for (let pause = (x >>> 24) & 63; pause > 0; pause--) Atomics.load(control, 0);
    }
  }
}

/** A guest's reader of one area. [KX-RUN-33] */
class Reader {
  readonly #shared: Uint8Array;
  readonly #entry: number;
  readonly #times: number;
  readonly #own: Uint8Array;
  readonly #view: DataView;
  #low = 0;
  #high = 0;

  constructor(area: number) {
    const long = vm.maxPorts === 4096;
    this.#shared = new Uint8Array(vm.memory.buffer, area, long ? RUNSTATE_SIZE_LONG : RUNSTATE_SIZE_COMPAT);
    this.#entry = long ? RUNSTATE_ENTRY_TIME_LONG : RUNSTATE_ENTRY_TIME_COMPAT;
    this.#times = long ? RUNSTATE_TIMES_LONG : RUNSTATE_TIMES_COMPAT;
    this.#own = new Uint8Array(this.#shared.length);
    this.#view = new DataView(this.#own.buffer);
  }

  /** The entry time; null while it has its marker: looked for before and after the other bytes, which one load cannot get. */
  #readEntry(): boolean {
    const [bytes, at] = [this.#shared, this.#entry];
    if (Atomics.load(bytes, at + 7) & RUNSTATE_UPDATE_BIT) return false;
    let low = 0;
    let high = 0;
    for (let i = 0; i < 4; i++) low |= Atomics.load(bytes, at + i) << (8 * i);
    for (let i = 4; i < 8; i++) high |= Atomics.load(bytes, at + i) << (8 * (i - 4));
    this.#low = low;
    this.#high = high;
    return high >>> 24 < RUNSTATE_UPDATE_BIT;
  }

  /** Entry time, all fields, entry time again. @returns whether it is accepted */
  read(): boolean {
    if (!this.#readEntry()) return false;
    const [low, high] = [this.#low, this.#high];
    this.#own.set(this.#shared);
    return this.#readEntry() && this.#low === low && this.#high === high;
  }

  get entryTime(): bigint {
    return (BigInt(this.#high >>> 0) << 32n) | BigInt(this.#low >>> 0);
  }

  /** What is wrong with what was accepted; null: it fits together. */
  fault(): string | null {
    const time = (i: number): bigint => this.#view.getBigUint64(this.#times + 8 * i, true);
    const sum = BigInt.asUintN(64, time(0) + time(1) + time(2) + time(3));
    const state = this.#view.getInt32(RUNSTATE_STATE, true);
    const copied = this.#view.getBigUint64(this.#entry, true);
    const entry = this.entryTime;
    // Before the first transition all is 0.
    if (sum === entry && copied === entry && BigInt(state) === (entry & 3n)) return null;
    return `entered ${entry}, copied as ${copied}, sum ${sum}, state ${state}`;
  }
}

function read(): void {
  for (const [i, area] of part.areas.entries()) {
    const reader = new Reader(area);
    const first = { looks: 0, accepted: 0, time: -1n, moved: false };
    for (; first.looks < LOOKS && (first.accepted < part.reads || !first.moved); first.looks++) {
      if (!reader.read()) {
        outcome.rejected++;
        continue;
      }
      first.accepted++;
      if (first.time < 0n) first.time = reader.entryTime;
      first.moved ||= reader.entryTime !== first.time;
      const fault = reader.fault();
      if (fault !== null && outcome.torn.length < 5) outcome.torn.push(`area at ${area}: ${fault}`);
    }
    outcome.accepted += first.accepted;
    if (first.looks >= LOOKS) outcome.stuck++;
    Atomics.store(control, 0, i + 1);
  }
}

if (part.role === 'account') account();
else read();
parentPort?.postMessage(outcome);
vm.detach();
