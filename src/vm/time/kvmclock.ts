// The guest's clock: one line through the host's time, or through its TSC while that is the master clock. [kvm-xen 8.1]
//
// Its fields are in the region, under a version: whoever changes them names itself in REGION_CLOCK_WRITER, makes the version
// odd, stores, and makes it even; readers try again when it was odd or has moved on. While the master clock is on, the clock
// goes by the guests' own TSC and scale: what a guest computes from its record is this clock, and does not drift from it.

import {
  AGENT_STATE,
  AGENT_USED,
  REGION_CLOCK_MASTER,
  REGION_CLOCK_OFFSET,
  REGION_CLOCK_VERSION,
  REGION_CLOCK_WRITER,
  REGION_MASTER_MUL,
  REGION_MASTER_NS,
  REGION_MASTER_RATIO,
  REGION_MASTER_SHIFT,
  REGION_MASTER_TSC,
  REGION_TSC_HZ,
  VCPU_TSC_HZ,
  VCPU_TSC_OFFSET,
  VCPU_TSC_RATIO,
} from '../../abi/region.ts';
import { EvtchnError } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { type ClockSample, hasTsc, sampleOf } from './clock.ts';
import { clocksChanged } from './guest_clock.ts';
import { checkTime, type Nanoseconds } from './nanoseconds.ts';
import { scaleTsc, ticksToNs, timeScale, tscRatio } from './tsc_scale.ts';
import { followClock } from './wall_clock.ts';

/** One instant on the guest's clock and on the host's, ns. */
export interface ClockInstant {
  /** u64 */
  readonly guest: bigint;
  readonly host: bigint;
}

/** The fields in the region. @internal */
export interface ClockState {
  /** the host's TSC is the clock [KX-CLK-02] */
  readonly master: boolean;
  /** guest's clock less the host's, modulo 2^64 */
  readonly offset: bigint;
  /** the master sample: the host's clock, ns, and its TSC */
  readonly ns: bigint;
  readonly tsc: bigint;
  /** of the guests' TSC: ratio to the host's, and scale */
  readonly ratio: bigint;
  readonly mul: number;
  readonly shift: number;
}

/** Frequency of the TSC that guests get where the host has none: it counts the host's nanoseconds. */
const NS_HZ = 1_000_000_000;

/** Looks at a version or a writer before a nap of a millisecond, and naps before giving up. */
const SPINS = 1_000;
const NAPS = 50;

/** The guest's clock of a VM (kvmclock). */
export class Kvmclock {
  readonly #vm: Vm;

  /** @internal */
  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Guest time, ns, u64: 0 when the VM was made. Throws EBUSY while another thread does not end its change. [KX-CLK-01, 02] */
  now(): bigint {
    return this.read((state) => {
      const tsc = state.master ? this.#tsc() : null;
      return tsc === null ? onHost(state, this.#vm.clock.now()) : onMaster(state, tsc);
    });
  }

  /** Guest time and the host's, of the same instant if the host's clock can tell. [KX-TMR-03] */
  instant(): ClockInstant {
    return this.read((state) => {
      const sample = this.sample();
      return { guest: guestTime(state, sample), host: sample.now };
    });
  }

  /**
   * Sets guest time to `ns`, u64: KVM_SET_CLOCK. The guest's clock records follow at each vCPU's next entry, the wall clock at
   * once, or as soon as it can be reached. Owner only. Throws EINVAL for a bad time. [KX-CLK-01, KF-56]
   */
  set(ns: Nanoseconds): void {
    this.#vm.checkOwner();
    checkTime("the guest's time", ns);
    this.#change(() => BigInt(ns));
    clocksChanged(this.#vm);
    followClock(this.#vm);
  }

  /** Whether the host's TSC is the clock: it is stable, and all vCPUs' TSCs are alike. [KX-CLK-02] */
  get master(): boolean {
    this.#vm.checkOpen();
    const { words, base } = this.#vm.region;
    return words.load(base + REGION_CLOCK_MASTER) !== 0;
  }

  /** Frequency of what the guests' TSCs are derived from, Hz. @internal */
  get hostHz(): number {
    const { words, base } = this.#vm.region;
    return words.loadWide(base + REGION_TSC_HZ) || NS_HZ;
  }

  /** The VM has been made: its clock begins at 0, and its vCPUs' TSCs are the host's. [KX-CLK-01] @internal */
  start(): void {
    const { clock, region } = this.#vm;
    const { words, base } = region;
    if (hasTsc(clock)) words.storeWide(base + REGION_TSC_HZ, clock.tscHz ?? 0);
    for (let i = 0; i < region.vcpus; i++) this.storeTsc(i, this.hostHz, 0n);
    this.#change(() => 0n);
  }

  /** Samples the master clock anew, without a step in the guest's time. [KX-CLK-13, KF-52] @internal */
  resample(): void {
    this.#change(guestTime);
  }

  /** Changes what readers of the clock look at: `store` only stores. @internal */
  storing(store: () => void): void {
    this.#locked(() => store());
  }

  /** Within `storing`: the TSC of a vCPU. @internal */
  storeTsc(index: number, hz: number, offset: bigint): void {
    const { words } = this.#vm.region;
    const record = this.#vm.region.vcpuRecord(index);
    words.storeWide(record + VCPU_TSC_HZ, hz);
    words.store64(record + VCPU_TSC_OFFSET, offset);
    words.store64(record + VCPU_TSC_RATIO, tscRatio(hz, this.hostHz));
  }

  /** What `look` returns for fields that belong together, with all it reads besides while they did. @internal */
  read<T>(look: (state: ClockState) => T): T {
    this.#vm.checkOpen();
    const { words, base } = this.#vm.region;
    const version = base + REGION_CLOCK_VERSION;
    for (let nap = 0; nap < NAPS; nap++) {
      for (let i = 0; i < SPINS; i++) {
        const before = words.load(version);
        if (before & 1) continue;
        const found = look(this.#load());
        if (words.load(version) === before) return found;
      }
      words.wait(version, words.load(version), 1);
      // Its writer may be dead: then this repairs it, else it throws.
      if (words.load(version) & 1) this.resample();
    }
    throw new EvtchnError('EBUSY', 'the clock of this VM changes faster than a reader can look');
  }

  /** One reading of the host's clocks, with a TSC only if it is the one that this VM counts by. @internal */
  sample(): ClockSample {
    const { now, realtime, tsc } = sampleOf(this.#vm.clock);
    return tsc === undefined || !this.#counts() ? { now, realtime } : { now, realtime, tsc };
  }

  /** What guests' TSCs are derived from at an instant; null: this thread's clock cannot tell. @internal */
  counter({ now, tsc }: ClockSample): bigint | null {
    const { words, base } = this.#vm.region;
    return tsc ?? (words.loadWide(base + REGION_TSC_HZ) === 0 ? now : null);
  }

  /** Whether this thread's clock has the TSC that the VM was made with. */
  #counts(): boolean {
    const { clock, region } = this.#vm;
    return hasTsc(clock) && clock.tscHz === region.words.loadWide(region.base + REGION_TSC_HZ);
  }

  #tsc(): bigint | null {
    return this.#counts() ? (this.#vm.clock.tsc?.() ?? null) : null;
  }

  #load(): ClockState {
    const { words, base } = this.#vm.region;
    return {
      master: words.load(base + REGION_CLOCK_MASTER) !== 0,
      offset: words.load64(base + REGION_CLOCK_OFFSET),
      ns: words.load64(base + REGION_MASTER_NS),
      tsc: words.load64(base + REGION_MASTER_TSC),
      ratio: words.load64(base + REGION_MASTER_RATIO),
      mul: words.load(base + REGION_MASTER_MUL) >>> 0,
      shift: words.load(base + REGION_MASTER_SHIFT),
    };
  }

  #store(state: ClockState): void {
    const { words, base } = this.#vm.region;
    words.store(base + REGION_CLOCK_MASTER, state.master ? 1 : 0);
    words.store64(base + REGION_CLOCK_OFFSET, state.offset);
    words.store64(base + REGION_MASTER_NS, state.ns);
    words.store64(base + REGION_MASTER_TSC, state.tsc);
    words.store64(base + REGION_MASTER_RATIO, state.ratio);
    words.store(base + REGION_MASTER_MUL, state.mul | 0);
    words.store(base + REGION_MASTER_SHIFT, state.shift);
  }

  /** Takes a sample at which guest time is what `time` says, and goes on from there, by the TSC if it can be the clock. */
  #change(time: (state: ClockState, sample: ClockSample) => bigint): void {
    // Before anything is taken: it is the embedder's code.
    const sample = this.sample();
    this.#locked((whole) => {
      const old = this.#load();
      // A thread that samples for others but cannot read their TSC leaves the clock as it is.
      if (time === guestTime && old.master && whole && sample.tsc === undefined) return;
      const guest = time(whole ? old : { ...old, master: false }, sample);
      this.#store(this.#from(sample, guest));
    });
  }

  /** The clock that shows `guest` at `sample`. */
  #from({ now, tsc }: ClockSample, guest: bigint): ClockState {
    const { words } = this.#vm.region;
    const record = this.#vm.region.vcpuRecord(0);
    const offset = guest - now;
    if (tsc === undefined || !this.#matched()) {
      return { master: false, offset, ns: now, tsc: tsc ?? 0n, ratio: 0n, mul: 0, shift: 0 };
    }
    const scale = timeScale(words.loadWide(record + VCPU_TSC_HZ));
    return { master: true, offset, ns: now, tsc, ratio: words.load64(record + VCPU_TSC_RATIO), ...scale };
  }

  /** Whether all vCPUs' TSCs go alike. */
  #matched(): boolean {
    const { words, vcpus } = this.#vm.region;
    const first = this.#vm.region.vcpuRecord(0);
    const hz = words.loadWide(first + VCPU_TSC_HZ);
    const offset = words.load64(first + VCPU_TSC_OFFSET);
    for (let i = 1; i < vcpus; i++) {
      const record = this.#vm.region.vcpuRecord(i);
      if (words.loadWide(record + VCPU_TSC_HZ) !== hz || words.load64(record + VCPU_TSC_OFFSET) !== offset)
        return false;
    }
    return hz !== 0;
  }

  /** Runs `store` alone and under an odd version. `whole`: no writer has died over these fields. */
  #locked(store: (whole: boolean) => void): void {
    const { words, base } = this.#vm.region;
    const version = base + REGION_CLOCK_VERSION;
    this.alone(() => {
      const before = words.load(version);
      words.store(version, before | 1);
      try {
        store((before & 1) === 0);
      } finally {
        // Odd plus 1, after the fields. On the other side: read.
        words.add(version, 1);
        words.notify(version);
      }
    });
  }

  /** Runs `work` while nobody else changes the VM's clocks. Throws EBUSY when somebody does not end that. @internal */
  alone<T>(work: () => T): T {
    const { words, base } = this.#vm.region;
    this.#lock();
    try {
      return work();
    } finally {
      // Unless this thread was taken for dead.
      words.compareExchange(base + REGION_CLOCK_WRITER, this.#vm.agent | 0, 0);
      words.notify(base + REGION_CLOCK_WRITER);
    }
  }

  #lock(): void {
    const { words, base } = this.#vm.region;
    const { agent } = this.#vm;
    const writer = base + REGION_CLOCK_WRITER;
    for (let nap = 0; nap < NAPS; nap++) {
      for (let i = 0; i < SPINS; i++) {
        const holder = words.load(writer);
        const free = holder === 0 || holder === (agent | 0) || words.load((holder >>> 0) + AGENT_STATE) !== AGENT_USED;
        if (free && words.compareExchange(writer, holder, agent | 0) === holder) return;
      }
      words.wait(writer, words.load(writer), 1);
    }
    const number = this.#vm.region.agentNumber(words.load(writer) >>> 0);
    throw new EvtchnError(
      'EBUSY',
      `agent ${number} has been changing the clock for ${NAPS} ms and more: detachAgent(${number}) if its thread is dead`,
    );
  }
}

/** Guest time at an instant. @internal */
export function guestTime(state: ClockState, { now, tsc }: ClockSample): bigint {
  return state.master && tsc !== undefined ? onMaster(state, tsc) : onHost(state, now);
}

function onHost({ offset }: ClockState, now: bigint): bigint {
  return BigInt.asUintN(64, now + offset);
}

function onMaster(state: ClockState, tsc: bigint): bigint {
  const { ns, offset, ratio } = state;
  // Signed: another thread may have read its TSC just before the sample. [KF-52]
  const ticks = BigInt.asIntN(64, scaleTsc(tsc, ratio) - scaleTsc(state.tsc, ratio));
  return BigInt.asUintN(64, ns + offset + ticksToNs(ticks, state));
}
