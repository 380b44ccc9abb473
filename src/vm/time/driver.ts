// Real time: wakes up for the deadlines of a VM and ticks. The engine itself has no timer; who has no time of their own uses this.
//
// A deadline that this thread sets is noticed by a call. One of another thread wakes an `Atomics.waitAsync`, or, on a platform
// without it, is found by looking every few milliseconds. Either way all is looked at again once a second. [KF-90]

import { REGION_CLOSED, REGION_STATE, REGION_TIMEKEEPER } from '../../abi/region.ts';
import type { Vm } from '../vm.ts';
import { announceSleep, watchDeadlines } from './deadline_watch.ts';

export interface TimerDriverOptions {
  /** Whether a deadline that is set keeps a Node process alive, as a `setTimeout` does; true by default. */
  readonly ref?: boolean;
}

type Timeout = ReturnType<typeof setTimeout>;

/** What a platform's timer takes at most, ms: it fires at once on anything longer. */
const LONGEST_TIMEOUT = 2 ** 31 - 1;
const NS_PER_MS = 1_000_000n;
/** How long a deadline of another thread goes unnoticed at most, ms: where a word wakes this thread, and where none can. */
const LOOK_AGAIN = 1000;
const LOOK_AGAIN_BLIND = 10;

/** Ticks a VM in real time; made by `driveTimers`. */
export class TimerDriver {
  readonly #vm: Vm;
  readonly #unwatch: () => void;
  readonly #end = (): void => this.stop();
  /** whether only looking again and again finds deadlines of other threads */
  readonly #blind: boolean;
  #ref: boolean;
  #stopped = false;
  #timeout: Timeout | undefined;
  /** what the timeout is for; null: for a look around */
  #planned: bigint | null = null;

  /** @internal */
  constructor(vm: Vm, ref: boolean) {
    this.#vm = vm;
    this.#ref = ref;
    this.#blind = vm.shared && typeof Atomics.waitAsync !== 'function';
    this.#unwatch = watchDeadlines(vm, () => this.#plan());
    vm.onDetach.add(this.#end);
    if (vm.shared && !this.#blind) void this.#follow();
    else this.#plan();
  }

  /** A deadline that is set keeps the process alive from here on. */
  ref(): void {
    this.#ref = true;
    this.#hold();
  }

  /** The process may exit although a deadline is set. */
  unref(): void {
    this.#ref = false;
    this.#hold();
  }

  /** No tick comes from here any more. Idempotent; the end of the view, or of the VM, does it as well. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#unwatch();
    this.#vm.onDetach.delete(this.#end);
    this.#cancel();
    this.#vm.region.words.notify(this.#vm.vmBase + REGION_TIMEKEEPER);
  }

  /** Sets the timeout to the next deadline; one for an earlier time stays, and looks again then. */
  #plan(): void {
    if (this.#over) {
      this.stop();
      return;
    }
    const next = this.#vm.nextDeadline();
    if (next !== null && this.#planned !== null && this.#planned <= next) return;
    this.#cancel();
    if (next === null && !this.#blind) return;
    this.#planned = next;
    this.#timeout = setTimeout(() => this.#wake(), this.#msUntil(next));
    this.#hold();
  }

  #wake(): void {
    this.#timeout = undefined;
    this.#planned = null;
    try {
      if (!this.#over) this.#vm.tick();
    } finally {
      // What has expired may have stopped this driver.
      if (!this.#stopped) this.#plan();
    }
  }

  /** Rounded up, so that it is not early; split, so that it is not at once. What is too early is planned again. */
  #msUntil(deadline: bigint | null): number {
    const longest = this.#blind ? LOOK_AGAIN_BLIND : LONGEST_TIMEOUT;
    if (deadline === null) return longest;
    const left = deadline - this.#vm.clock.now();
    return left <= 0n ? 0 : Number(min((left + NS_PER_MS - 1n) / NS_PER_MS, BigInt(longest)));
  }

  /** Notices deadlines that other threads set. Does not keep a process alive. */
  async #follow(): Promise<void> {
    const { words } = this.#vm.region;
    const flag = this.#vm.vmBase + REGION_TIMEKEEPER;
    while (!this.#stopped) {
      // The flag before the look at the deadlines. On the other side: the deadline before the look at the flag.
      announceSleep(this.#vm);
      this.#plan();
      if (this.#stopped) return;
      await Atomics.waitAsync(words.i32, flag >>> 2, 1, LOOK_AGAIN).value;
    }
  }

  /** Nobody will set anything any more. */
  get #over(): boolean {
    const { vmBase, region } = this.#vm;
    return region.words.load(vmBase + REGION_STATE) === REGION_CLOSED;
  }

  #cancel(): void {
    clearTimeout(this.#timeout);
    this.#timeout = undefined;
    this.#planned = null;
  }

  #hold(): void {
    const timeout: unknown = this.#timeout;
    // A browser's is a number, and its pages live by other rules.
    if (typeof timeout !== 'object' || timeout === null) return;
    if (this.#ref && this.#planned !== null) (timeout as NodeJS.Timeout).ref();
    else (timeout as NodeJS.Timeout).unref();
  }
}

/**
 * Ticks `vm` in real time from this thread until `stop()`, `vm.detach()` or the end of the VM: for VMs whose clock is
 * `systemClock()`, or another one that goes at the pace of the machine's. Deadlines of all threads are noticed; several drivers do
 * no harm. Never early; late by what the platform's timers are, a millisecond or two. Throws EBADF on a view that is detached.
 */
export function driveTimers(vm: Vm, { ref = true }: TimerDriverOptions = {}): TimerDriver {
  vm.checkOpen();
  return new TimerDriver(vm, ref);
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
