// A real guest's events: the recording, played to the engine record by record.

import { PAGE_SIZE, PORTS_COMPAT, SHARED_INFO_PENDING } from '../../src/abi/shared_info.ts';
import { createVm, type Vm } from '../../src/index.ts';
import { earlyPorts, Guest, sharedInfoGfn, vcpuInfoGpa } from './guest.ts';
import { type Cause, Model } from './model.ts';
import type { RecordedPort, Recording, TraceRecord } from './recording.ts';

/** What is in the recording, counted without the engine. */
export const RECORDED = { raises: 3693, coalesced: 71, upcalls: 3521 } as const;

export interface PortCounts {
  readonly port: number;
  readonly kind: string;
  readonly name: string;
  raises: number;
  coalesced: number;
  /** rings from before the recording, held by the mask until the guest unmasked the port */
  early: number;
  drained: number;
}

export interface ReplayResult {
  records: number;
  raises: number;
  coalesced: number;
  upcalls: number;
  /** upcalls by what they were for */
  causes: Record<Cause, number>;
  /** times the engine did not ask for an upcall although one was due */
  missed: number;
  /** times it asked although nothing had happened since the last drain, or asked at the end */
  invented: number;
  /** answers that differ from the model's: of a send, an unmask, a drain */
  differences: number;
  /** ports still pending at the end */
  left: number;
  ports: PortCounts[];
  /** a sentence about the first thing that went wrong */
  fault: string | null;
}

/** A VM of one vCPU with as much RAM as the recorded guest's addresses need. Untouched pages cost nothing. */
export function guestVm(recording: Recording, shared: boolean): Vm {
  let top = 0;
  for (const record of recording.records) {
    if (record.k !== 'hc') continue;
    top = Math.max(top, sharedInfoGfn(record) ?? 0, Math.floor((vcpuInfoGpa(record) ?? 0) / PAGE_SIZE));
  }
  const vm = createVm({ guestPages: top + 1, shared, bare: true });
  vm.setAttr({ type: 'long_mode', enabled: false });
  return vm;
}

/** Plays the recording to `vm`, a fresh `guestVm`, and looks at the level of the upcall after every record. */
export function replay(recording: Recording, vm: Vm): ReplayResult {
  const run = new Run(recording, vm);
  recording.records.forEach((record, i) => {
    run.take(record, i + 1);
  });
  return run.finish();
}

class Run {
  readonly #vm: Vm;
  readonly #model = new Model();
  readonly #guest: Guest;
  readonly #early: readonly number[];
  readonly #ports: Map<number, PortCounts>;
  readonly #result: ReplayResult;
  #place = '';
  /** A level that stays wrong is one fault, not one per record. */
  #wrong: boolean | null = null;

  constructor(recording: Recording, vm: Vm) {
    this.#vm = vm;
    this.#early = earlyPorts(recording.records);
    this.#guest = new Guest(vm, this.#model, this.#early, (what) => {
      this.#result.differences++;
      this.#blame(what);
    });
    this.#ports = new Map(recording.ports.map((port) => [port.port, countsOf(port)]));
    this.#result = {
      records: recording.records.length,
      raises: 0,
      coalesced: 0,
      upcalls: 0,
      causes: { registration: 0, raise: 0, unmask: 0 },
      missed: 0,
      invented: 0,
      differences: 0,
      left: 0,
      ports: [],
      fault: null,
    };
  }

  take(record: TraceRecord, number: number): void {
    this.#place = `record ${number} (${record.k === 'hc' ? record.op : record.k})`;
    if (record.k === 'hc') this.#guest.call(record);
    else if (record.k === 'upcall') this.#upcall(record.vector);
    else this.#raise(record.port);
    this.#checkLevel(this.#model.cause !== null);
  }

  finish(): ReplayResult {
    this.#place = 'the end of the recording';
    // Nobody is left to answer.
    this.#checkLevel(false);
    this.#result.left = pendingPorts(this.#vm);
    for (const port of this.#early) this.#countsOf(port).early++;
    this.#result.ports = [...this.#ports.values()].sort((a, b) => a.port - b.port);
    return this.#result;
  }

  #raise(port: number): void {
    const counts = this.#countsOf(port);
    const coalesced = this.#guest.raise(port) === 0 ? 1 : 0;
    counts.raises++;
    counts.coalesced += coalesced;
    this.#result.raises++;
    this.#result.coalesced += coalesced;
  }

  /** The recorded guest took an upcall here, so one must be wanted, by the engine and by the model. */
  #upcall(vector: number): void {
    if (this.#checkLevel(true)) this.#result.upcalls++;
    if (this.#model.cause !== null) this.#result.causes[this.#model.cause]++;
    const set = this.#vm.getAttr('upcall_vector').vector;
    if (set !== vector) {
      this.#result.differences++;
      this.#blame(`the guest was called through vector ${vector}, it has set ${set}`);
    }
    for (const port of this.#guest.drain()) this.#countsOf(port).drained++;
  }

  /** Compares the level of the upcall with what it should be. @returns the level */
  #checkLevel(due: boolean): boolean {
    const level = this.#vm.vcpu(0).upcallPending;
    const wrong = level === due ? null : due;
    if (wrong !== null && wrong !== this.#wrong) {
      this.#result[wrong ? 'missed' : 'invented']++;
      this.#blame(wrong ? 'an upcall is due and not asked for' : 'an upcall is asked for and nothing explains it');
    }
    this.#wrong = wrong;
    return level;
  }

  #blame(what: string): void {
    this.#result.fault ??= `${this.#place}: ${what}`;
  }

  /** A port that the header does not list gets a row, so that it is seen. */
  #countsOf(port: number): PortCounts {
    let counts = this.#ports.get(port);
    if (counts === undefined) {
      counts = countsOf({ port, t: 'unknown' });
      this.#ports.set(port, counts);
    }
    return counts;
  }
}

/** Xen's names of the virtual interrupts that Linux binds. */
const VIRQS = ['timer', 'debug'] as const;

function countsOf({ port, t, name, virq }: RecordedPort): PortCounts {
  const known = name ?? (virq === undefined ? '' : (VIRQS[virq] ?? `virq ${virq}`));
  return { port, kind: t, name: known, raises: 0, coalesced: 0, early: 0, drained: 0 };
}

/** Counts the pending bits in the guest's page, masked or not. */
function pendingPorts(vm: Vm): number {
  const { gfn } = vm.getAttr('shared_info');
  if (gfn === null) return 0;
  const bitmap = new Uint8Array(
    vm.memory.buffer,
    vm.guestBase + gfn * PAGE_SIZE + SHARED_INFO_PENDING,
    PORTS_COMPAT / 8,
  );
  let count = 0;
  for (let byte of bitmap) for (; byte; byte &= byte - 1) count++;
  return count;
}
