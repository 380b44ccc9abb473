// The periodic timer of a vCPU: VIRQ_TIMER again and again. [XE-BP-51, XE-BP-52]
//
// Its deadline is a u64 word on the host's clock, 0 while it is off. Whoever moves it on by a compare-exchange delivers the tick:
//
//   setter: deadline 0 ─ period ─ deadline        ticker: period ─ deadline moved on (compare-exchange) ─ last tick ─ raise
//
// A tick that is late is one tick, however many periods have passed: the next is a period after it. [KF-54]

import { EAGAIN } from '../abi/errno.ts';
import { HVM_VCPU_LAST_TICK, HVM_VCPU_PERIOD, HVM_VCPU_TICK_DEADLINE } from '../abi/xen_hvm.ts';
import { VIRQ_TIMER } from '../abi/xen_virq.ts';
import { announceDeadline } from '../vm/time/deadline_watch.ts';
import { deadlineAfter } from '../vm/time/timer.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { HvmRecord } from './hvm_record.ts';

/** The shortest and the longest period, ns. */
const SHORTEST = 1_000_000n;
const LONGEST = (1n << 62n) - 1n;

/** @internal */
export class PeriodicTimers {
  readonly #record: HvmRecord;
  readonly #raiseVirq: (virq: number, vcpu: number) => number;

  constructor(record: HvmRecord, raiseVirq: (virq: number, vcpu: number) => number) {
    this.#record = record;
    this.#raiseVirq = raiseVirq;
  }

  /** Whether a period may be set. */
  static allows(period: bigint): boolean {
    return period >= SHORTEST && period <= LONGEST;
  }

  /** Ticks every `period` ns from the last tick on, whenever that was; a tick that is due by that comes now. */
  start(vcpu: Vcpu, period: bigint): void {
    const { words } = this.#record;
    const at = this.#record.vcpu(vcpu.index);
    words.store64(at + HVM_VCPU_TICK_DEADLINE, 0n);
    words.store64(at + HVM_VCPU_PERIOD, period);
    const { guest, host } = this.#record.vm.kvmclock.instant();
    const left = untilTick(words.load64(at + HVM_VCPU_LAST_TICK), period, guest);
    this.#arm(at, left > 0n ? deadlineAfter(host, left) : nonZero(host));
    if (left <= 0n) this.#tick(vcpu.index, nonZero(host));
  }

  stop(vcpu: Vcpu): void {
    const { words } = this.#record;
    const at = this.#record.vcpu(vcpu.index);
    words.store64(at + HVM_VCPU_PERIOD, 0n);
    if (words.exchange64(at + HVM_VCPU_TICK_DEADLINE, 0n) !== 0n) announceDeadline(this.#record.vm);
  }

  /** 0 while it is off, ns. */
  period(index: number): bigint {
    return this.#record.words.load64(this.#record.vcpu(index) + HVM_VCPU_PERIOD);
  }

  /** For the VM's deadlines. */
  *deadlines(): Generator<{ at: bigint; expire: () => boolean }> {
    for (let index = 0; index < this.#record.vm.vcpus; index++) {
      const at = this.#record.words.load64(this.#record.vcpu(index) + HVM_VCPU_TICK_DEADLINE);
      if (at !== 0n) yield { at, expire: () => this.#tick(index, at) };
    }
  }

  #tick(index: number, deadline: bigint): boolean {
    const { words, vm } = this.#record;
    const at = this.#record.vcpu(index);
    const period = words.load64(at + HVM_VCPU_PERIOD);
    if (period === 0n) return false;
    const { guest, host } = vm.kvmclock.instant();
    // The guest's clock may have been set, or go slower than the host's.
    const left = untilTick(words.load64(at + HVM_VCPU_LAST_TICK), period, guest);
    const next = deadlineAfter(host, left > 0n ? left : period);
    if (words.compareExchange64(at + HVM_VCPU_TICK_DEADLINE, deadline, next) !== deadline || left > 0n) return false;
    const last = words.exchange64(at + HVM_VCPU_LAST_TICK, guest);
    if (this.#raiseVirq(VIRQ_TIMER, index) !== -EAGAIN) return true;
    // The page where it would be said is away: it is due again at the next look.
    words.store64(at + HVM_VCPU_LAST_TICK, last);
    words.compareExchange64(at + HVM_VCPU_TICK_DEADLINE, next, deadline);
    return false;
  }

  #arm(at: number, deadline: bigint): void {
    this.#record.words.store64(at + HVM_VCPU_TICK_DEADLINE, deadline);
    announceDeadline(this.#record.vm);
  }

  /** Sets it as it was saved: the next tick is a period after the last one. */
  restore(index: number, period: bigint, lastTick: bigint): void {
    const { words, vm } = this.#record;
    const at = this.#record.vcpu(index);
    words.store64(at + HVM_VCPU_PERIOD, period);
    words.store64(at + HVM_VCPU_LAST_TICK, lastTick);
    const { guest, host } = vm.kvmclock.instant();
    const left = untilTick(lastTick, period, guest);
    words.store64(at + HVM_VCPU_TICK_DEADLINE, period === 0n ? 0n : deadlineAfter(host, left > 0n ? left : 1n));
  }

  /** ns on the guest's clock */
  lastTick(index: number): bigint {
    return this.#record.words.load64(this.#record.vcpu(index) + HVM_VCPU_LAST_TICK);
  }
}

/** ns until the tick after `last`; a clock that was set back does not put it off by more than a period. */
function untilTick(last: bigint, period: bigint, now: bigint): bigint {
  const left = last + period - now;
  return left < period ? left : period;
}

/** 0 says that there is no deadline. */
function nonZero(deadline: bigint): bigint {
  return deadline === 0n ? 1n : deadline;
}
