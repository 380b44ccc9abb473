// The two watchdogs of a domain: a guest that does not set one again in time is shut down. [XE-BP-04]
//
// A deadline is a u64 word on the host's clock, 0 while the watchdog is free: whoever takes it by a compare-exchange lets it expire.

import { EINVAL, ENOSPC } from '../abi/errno.ts';
import { HVM_NR_WATCHDOGS, HVM_WATCHDOGS } from '../abi/xen_hvm.ts';
import { SHUTDOWN_WATCHDOG } from '../abi/xen_hypercall.ts';
import { announceDeadline } from '../vm/time/deadline_watch.ts';
import type { HvmRecord } from './hvm_record.ts';

const NS_PER_SECOND = 1_000_000_000n;

/** @internal */
export class Watchdogs {
  readonly #record: HvmRecord;
  readonly #bark: (reason: number) => void;

  constructor(record: HvmRecord, bark: (reason: number) => void) {
    this.#record = record;
    this.#bark = bark;
  }

  /**
   * SCHEDOP_watchdog: id 0 takes a free one and sets it; else sets that one again, or with a timeout of 0 s gives it back.
   * @returns the id of one that was taken, 0, or -EINVAL, -ENOSPC
   */
  set(id: number, seconds: number): number {
    const deadline = this.#record.vm.clock.now() + BigInt(seconds) * NS_PER_SECOND;
    if (id === 0) return this.#take(deadline);
    if (id > HVM_NR_WATCHDOGS) return -EINVAL;
    const { words } = this.#record;
    const at = this.#at(id - 1);
    const old = words.load64(at);
    // One that barks right now is taken as barked.
    if (old === 0n || words.compareExchange64(at, old, seconds === 0 ? 0n : nonZero(deadline)) !== old) return -EINVAL;
    announceDeadline(this.#record.vm);
    return 0;
  }

  #take(deadline: bigint): number {
    for (let i = 0; i < HVM_NR_WATCHDOGS; i++) {
      if (this.#record.words.compareExchange64(this.#at(i), 0n, nonZero(deadline)) !== 0n) continue;
      announceDeadline(this.#record.vm);
      return i + 1;
    }
    return -ENOSPC;
  }

  /** For the VM's deadlines. */
  *deadlines(): Generator<{ at: bigint; expire: () => boolean }> {
    for (let i = 0; i < HVM_NR_WATCHDOGS; i++) {
      const at = this.#record.words.load64(this.#at(i));
      if (at !== 0n) yield { at, expire: () => this.#expire(i, at) };
    }
  }

  #expire(i: number, deadline: bigint): boolean {
    if (this.#record.words.compareExchange64(this.#at(i), deadline, 0n) !== deadline) return false;
    this.#bark(SHUTDOWN_WATCHDOG);
    return true;
  }

  /** What is left of each, ns from now on, null for one that is free: for a snapshot. */
  save(now: bigint): (bigint | null)[] {
    return Array.from({ length: HVM_NR_WATCHDOGS }, (_, i) => {
      const at = this.#record.words.load64(this.#at(i));
      return at === 0n ? null : at > now ? at - now : 0n;
    });
  }

  restore(left: readonly (bigint | null)[], now: bigint): void {
    for (let i = 0; i < HVM_NR_WATCHDOGS; i++) {
      const ns = left[i] ?? null;
      this.#record.words.store64(this.#at(i), ns === null ? 0n : nonZero(now + ns));
    }
  }

  #at(i: number): number {
    return this.#record.base + HVM_WATCHDOGS + 8 * i;
  }
}

function nonZero(deadline: bigint): bigint {
  return deadline === 0n ? 1n : deadline;
}
