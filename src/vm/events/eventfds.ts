// Eventfds: counters that a hypercall, a thread or the embedder adds to, and that may raise an interrupt. [KX-EVA-09, KX-RTE-21]
// A record lives as long as it has references: its descriptor's while that is open, one of each send port, one of the interrupt.
// Only the owner takes and drops references; everybody else looks at a record in a bracket, and who drops one waits for those.

import { EAGAIN, EBADF, EINVAL } from '../../abi/errno.ts';
import {
  EVENTFD_COUNTER,
  EVENTFD_GSI,
  EVENTFD_LIFE,
  EVENTFD_OPEN,
  EVENTFD_REFERENCES,
  EVENTFD_SEMAPHORE,
  EVENTFD_SIGNALS,
  EVENTFD_SIZE,
  EVENTFD_STATE,
  EVENTFD_WAITERS,
  REGION_CLOSED,
  REGION_EVENTFD_CAPACITY,
  REGION_EVENTFDS,
  REGION_STATE,
  VM_IRQCHIP,
} from '../../abi/region.ts';
import { IRQFD_DEASSIGN } from '../../abi/routing.ts';
import { checkRange, EvtchnError } from '../../errors.ts';
import type { Vm } from '../vm.ts';
import { reading } from './event.ts';
import { Eventfd } from './eventfd.ts';

/** How an eventfd counts. */
export interface EventfdOptions {
  /** a read takes 1, not all; false by default */
  readonly semaphore?: boolean;
}

/** What there is to know of an eventfd. */
export interface EventfdStatus {
  readonly fd: number;
  /** whether its descriptor is open; else it lives only for send ports that signal it */
  readonly open: boolean;
  readonly semaphore: boolean;
  readonly counter: bigint;
  /** of its descriptor, of each send port and of its interrupt */
  readonly references: number;
  /** the interrupt that a signal raises, or null */
  readonly gsi: number | null;
}

/**
 * Descriptors begin behind those that every process has open: 0, 1 and 2 are its standard streams, so that a structure of
 * zeros names no eventfd by accident.
 */
const FIRST_FD = 3;

/** The largest count; only signals from inside reach it, `write` stays below. */
const FULL = 2n ** 64n - 1n;

/** What a record can hold plus 1; from 4096 on no route can be. */
const LAST_GSI = 2 ** 32 - 2;

/** The eventfds of a VM. They end with it. */
export class Eventfds {
  readonly #vm: Vm;
  readonly #capacity: number;
  readonly #first: number;

  /** @internal */
  constructor(vm: Vm) {
    const { words, base } = vm.region;
    this.#vm = vm;
    this.#capacity = words.load(base + REGION_EVENTFD_CAPACITY);
    this.#first = vm.region.part(REGION_EVENTFDS);
  }

  // ── descriptors ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes an eventfd that counts from `initial`, 0..2^64-2. Owner only. A number is used again when nothing refers to the
   * eventfd that had it. Throws EINVAL for a count out of range, ENOSPC when all are in use.
   */
  create(initial: number | bigint = 0, { semaphore = false }: EventfdOptions = {}): Eventfd {
    this.#vm.checkOwner();
    const count = toCount(initial);
    if (count === null || count === FULL) {
      throw new EvtchnError('EINVAL', `an eventfd begins at ${String(initial)}, allowed are integers from 0 to 2^64-2`);
    }
    const index = this.#free();
    const { words } = this.#vm.region;
    const at = this.#at(index);
    words.store64(at + EVENTFD_COUNTER, count);
    words.store(at + EVENTFD_GSI, 0);
    words.store(at + EVENTFD_REFERENCES, 1);
    // 0 stands for "no life".
    words.store(at + EVENTFD_LIFE, (words.load(at + EVENTFD_LIFE) + 1) | 0 || 1);
    words.store(at + EVENTFD_STATE, EVENTFD_OPEN | (semaphore ? EVENTFD_SEMAPHORE : 0));
    return new Eventfd(this, FIRST_FD + index, words.load(at + EVENTFD_LIFE));
  }

  /** The eventfd with an open descriptor, on any thread. Throws EBADF when it is not open, EINVAL when it is no eventfd. */
  get(fd: number): Eventfd {
    this.#vm.checkOpen();
    return new Eventfd(this, fd, this.#vm.region.words.load(this.#at(this.indexOf(fd)) + EVENTFD_LIFE));
  }

  /** All that exist, also those that are closed and live on. */
  list(): EventfdStatus[] {
    this.#vm.checkOpen();
    const found: EventfdStatus[] = [];
    for (let index = 0; index < this.#capacity; index++) {
      const status = this.#status(index);
      if (status.references > 0) found.push(status);
    }
    return found;
  }

  // ── interrupts ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes every signal of the eventfd raise interrupt `gsi`, as KVM_IRQFD does: the counter is consumed, several signals may
   * become one. One that was signalled before raises it now. Owner only. [KX-RTE-21]
   * Throws EINVAL without an irqchip, for a gsi that is no u32 and for what is no eventfd; EBADF when it is not open, EBUSY when
   * it is bound already.
   */
  bindIrq(fd: number, gsi: number): void {
    this.#vm.checkOwner();
    if (!this.#vm.region.has(VM_IRQCHIP)) {
      throw new EvtchnError('EINVAL', 'this VM has no interrupts: it was made with irqchip: false');
    }
    checkRange('the gsi', gsi, 0, LAST_GSI);
    const { words } = this.#vm.region;
    const at = this.#at(this.indexOf(fd));
    const bound = words.load(at + EVENTFD_GSI);
    if (bound !== 0) {
      throw new EvtchnError('EBUSY', `eventfd ${fd} raises gsi ${(bound - 1) >>> 0} already: unbind it first`);
    }
    words.add(at + EVENTFD_REFERENCES, 1);
    words.store(at + EVENTFD_GSI, (gsi + 1) | 0);
    // After the store. On the other side: a signal counts, then looks at the gsi. So one of the two raises it.
    if (words.load64(at + EVENTFD_COUNTER) > 0n) this.#pulse(gsi, () => true);
  }

  /**
   * Ends a binding; it raises nothing any more when this returns. Without effect unless the eventfd is bound to `gsi`. Owner only.
   * Throws EBADF and EINVAL as `bindIrq`, EBUSY inside a bracket or when a reader does not leave.
   */
  unbindIrq(fd: number, gsi: number): void {
    this.#vm.checkOwner();
    const { words } = this.#vm.region;
    const at = this.#at(this.indexOf(fd));
    const bound = words.load(at + EVENTFD_GSI);
    if (bound === 0 || (bound - 1) >>> 0 !== gsi) return;
    this.#vm.changes.checkNoBracket();
    words.store(at + EVENTFD_GSI, 0);
    try {
      this.#vm.changes.awaitReaders();
    } catch (error) {
      words.store(at + EVENTFD_GSI, bound);
      // A signal that came meanwhile saw no binding.
      if (words.load64(at + EVENTFD_COUNTER) > 0n) this.#pulse(gsi, () => true);
      throw error;
    }
    words.add(at + EVENTFD_REFERENCES, -1);
  }

  /** KVM_IRQFD: binds, or with IRQFD_DEASSIGN unbinds. Throws EINVAL for other flags first, and what those throw. @internal */
  irqfd(fd: number, gsi: number, flags: number): void {
    if (flags & ~IRQFD_DEASSIGN) {
      throw new EvtchnError(
        'EINVAL',
        `the flags of an irqfd are 0x${(flags >>> 0).toString(16)}, allowed are 0 and ${IRQFD_DEASSIGN}`,
      );
    }
    if (flags) this.unbindIrq(fd, gsi);
    else this.bindIrq(fd, gsi);
  }

  // ── for send ports and for the objects ───────────────────────────────────────────────────────────────────────────

  /** The record of an open descriptor. Throws as `get`. @internal */
  indexOf(fd: number): number {
    if (Number.isInteger(fd) && fd >= 0 && fd < FIRST_FD) {
      throw new EvtchnError('EINVAL', `descriptor ${fd} is a standard stream, no eventfd: those begin at ${FIRST_FD}`);
    }
    const index = Number.isInteger(fd) && fd >= 0 ? fd - FIRST_FD : this.#capacity;
    if (index >= this.#capacity || !this.#status(index).open) {
      throw new EvtchnError('EBADF', `descriptor ${String(fd)} is not open`);
    }
    return index;
  }

  /** @internal */
  fdOf(index: number): number {
    return FIRST_FD + index;
  }

  /** Takes a reference. Owner only. @internal */
  hold(index: number): void {
    this.#vm.region.words.add(this.#at(index) + EVENTFD_REFERENCES, 1);
  }

  /** Drops a reference; the caller has waited for those who might still use it. Owner only. @internal */
  drop(index: number): void {
    this.#vm.region.words.add(this.#at(index) + EVENTFD_REFERENCES, -1);
  }

  /**
   * Adds 1, as a send port does, and raises the interrupt where nothing may sleep. In a bracket. A full counter stays full.
   * @returns 0, or what `raiseLate` needs after the bracket @internal
   */
  signal(index: number): number {
    const { words } = this.#vm.region;
    const at = this.#at(index) + EVENTFD_COUNTER;
    for (;;) {
      const count = words.load64(at);
      if (count === FULL || words.compareExchange64(at, count, count + 1n) === count) break;
    }
    return this.#announce(index);
  }

  /**
   * Raises the interrupt of an eventfd by the way that may sleep, unless it was unbound meanwhile. Outside brackets.
   * @returns false when shared_info could not be mapped in time: nothing was raised @internal
   */
  raiseLate(index: number, life: number): boolean {
    const { words } = this.#vm.region;
    const at = this.#at(index);
    const bound = words.load(at + EVENTFD_GSI);
    if (bound === 0) return true;
    const stands = (): boolean => words.load(at + EVENTFD_LIFE) === life && words.load(at + EVENTFD_GSI) === bound;
    return this.#pulse((bound - 1) >>> 0, stands);
  }

  /** @returns 0, or a negative errno @internal */
  write(fd: number, life: number, value: number | bigint): number {
    const count = toCount(value);
    if (count === null || count === FULL) return -EINVAL;
    let late = 0;
    const result = reading(this.#vm, () => {
      if (!this.lives(fd, life)) return -EBADF;
      if (!this.#add(fd - FIRST_FD, count)) return -EAGAIN;
      late = this.#announce(fd - FIRST_FD);
      return 0;
    });
    // The count is taken already: the writer may write again.
    return late !== 0 && !this.raiseLate(fd - FIRST_FD, late) ? -EAGAIN : result;
  }

  /** @returns what was taken, or a negative errno @internal */
  read(fd: number, life: number): bigint {
    let taken = 0n;
    const result = reading(this.#vm, () => {
      if (!this.lives(fd, life)) return -EBADF;
      taken = this.#take(fd - FIRST_FD);
      return taken === 0n ? -EAGAIN : 0;
    });
    return result < 0 ? BigInt(result) : taken;
  }

  /** Whether something can be read. @internal */
  readable(fd: number): boolean {
    return this.#vm.region.words.load64(this.#at(fd - FIRST_FD) + EVENTFD_COUNTER) > 0n;
  }

  /** Whether the descriptor is open and still the eventfd that it was. @internal */
  lives(fd: number, life: number): boolean {
    const { words } = this.#vm.region;
    const at = this.#at(fd - FIRST_FD);
    return (words.load(at + EVENTFD_STATE) & EVENTFD_OPEN) !== 0 && words.load(at + EVENTFD_LIFE) === life;
  }

  /** Closes a descriptor that lives. An interrupt goes with it, as in Linux; send ports keep theirs. @internal */
  close(fd: number, life: number): void {
    if (this.#vm.detached || !this.lives(fd, life)) return;
    this.#vm.checkOwner();
    this.#vm.changes.checkNoBracket();
    const { words } = this.#vm.region;
    const at = this.#at(fd - FIRST_FD);
    const state = words.load(at + EVENTFD_STATE);
    const bound = words.load(at + EVENTFD_GSI);
    words.store(at + EVENTFD_STATE, state & ~EVENTFD_OPEN);
    words.store(at + EVENTFD_GSI, 0);
    try {
      this.#vm.changes.awaitReaders();
    } catch (error) {
      words.store(at + EVENTFD_GSI, bound);
      words.store(at + EVENTFD_STATE, state);
      if (bound !== 0 && words.load64(at + EVENTFD_COUNTER) > 0n) this.#pulse((bound - 1) >>> 0, () => true);
      throw error;
    }
    words.add(at + EVENTFD_REFERENCES, bound === 0 ? -1 : -2);
    this.#wake(at);
  }

  /**
   * Sleeps until somebody signals or closes it, at most `ms`, unless `over` finds that this has happened. Throws EOPNOTSUPP where a
   * thread may not block. @returns whether time has run out @internal
   */
  sleep(fd: number, ms: number, over: () => boolean): boolean {
    this.#vm.changes.checkNoBracket();
    const { words } = this.#vm.region;
    const at = this.#at(fd - FIRST_FD);
    words.add(at + EVENTFD_WAITERS, 1);
    try {
      const seen = words.load(at + EVENTFD_SIGNALS);
      // After the signals. On the other side: who counts or closes raises them last.
      if (over()) return false;
      if (!this.#vm.shared || !words.wait(at + EVENTFD_SIGNALS, seen, ms)) {
        throw new EvtchnError(
          'EOPNOTSUPP',
          'this thread may not block, or nobody could wake it: read, or wait in a worker',
        );
      }
      return words.load(at + EVENTFD_SIGNALS) === seen;
    } finally {
      words.add(at + EVENTFD_WAITERS, -1);
    }
  }

  /** Whether the VM is at its end, for this view or for everybody. @internal */
  get ended(): boolean {
    const { words, base } = this.#vm.region;
    return this.#vm.detached || words.load(base + REGION_STATE) === REGION_CLOSED;
  }

  /**
   * A thread has died, perhaps between a count and those who wait for it: they look again, and a count that an interrupt should
   * have taken raises it. Owner only. [KF-89] @internal
   */
  signalAgain(): void {
    const { words } = this.#vm.region;
    for (const { fd, counter, gsi } of this.list()) {
      const at = this.#at(fd - FIRST_FD);
      words.add(at + EVENTFD_SIGNALS, 1);
      words.notify(at + EVENTFD_SIGNALS);
      if (gsi !== null && counter > 0n) this.#pulse(gsi, () => true);
    }
  }

  /** The VM ends: so do interrupts and descriptors. Who is late signals what is nobody's any more. [KX-GEN-04] @internal */
  end(): void {
    const { words } = this.#vm.region;
    for (const { fd, open, gsi } of this.list()) {
      const at = this.#at(fd - FIRST_FD);
      words.store(at + EVENTFD_STATE, 0);
      words.store(at + EVENTFD_GSI, 0);
      words.add(at + EVENTFD_REFERENCES, -((open ? 1 : 0) + (gsi === null ? 0 : 1)));
      this.#wake(at);
    }
  }

  // ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Unless it would not fit. @returns whether it did */
  #add(index: number, value: bigint): boolean {
    const { words } = this.#vm.region;
    const at = this.#at(index) + EVENTFD_COUNTER;
    for (;;) {
      const count = words.load64(at);
      if (FULL - count <= value) return false;
      if (words.compareExchange64(at, count, count + value) === count) return true;
    }
  }

  /** Takes all, or 1 of a semaphore. */
  #take(index: number): bigint {
    const { words } = this.#vm.region;
    const at = this.#at(index);
    if (!(words.load(at + EVENTFD_STATE) & EVENTFD_SEMAPHORE)) return words.exchange64(at + EVENTFD_COUNTER, 0n);
    for (;;) {
      const count = words.load64(at + EVENTFD_COUNTER);
      if (count === 0n) return 0n;
      if (words.compareExchange64(at + EVENTFD_COUNTER, count, count - 1n) === count) return 1n;
    }
  }

  /** Tells those who wait for the count, which stands: threads, and the interrupt. In a bracket. @returns as `signal` */
  #announce(index: number): number {
    const { words } = this.#vm.region;
    const at = this.#at(index);
    this.#wake(at);
    const bound = words.load(at + EVENTFD_GSI);
    if (bound === 0) return 0;
    this.#take(index);
    const life = words.load(at + EVENTFD_LIFE);
    // Last: a listener that it calls may close everything.
    return this.#vm.routes.raiseFast((bound - 1) >>> 0, 1) === -EAGAIN ? life : 0;
  }

  #wake(at: number): void {
    const { words } = this.#vm.region;
    words.add(at + EVENTFD_SIGNALS, 1);
    // After the signals. On the other side: a waiter counts itself, then reads them.
    if (words.load(at + EVENTFD_WAITERS) !== 0) words.notify(at + EVENTFD_SIGNALS);
  }

  /** An edge, as an interrupt line sees it, as long as the binding stands. @returns as `raiseLate` */
  #pulse(gsi: number, stands: () => boolean): boolean {
    if (this.#vm.routes.raiseWhile(gsi, 1, stands) === -EAGAIN) return false;
    this.#vm.routes.raiseWhile(gsi, 0, stands);
    return true;
  }

  /** An event that could not be raised stays counted, for the next signal. @internal */
  giveBack(index: number, life: number): void {
    reading(this.#vm, () => {
      if (this.#vm.region.words.load(this.#at(index) + EVENTFD_LIFE) === life) this.#add(index, 1n);
      return 0;
    });
  }

  #free(): number {
    for (let index = 0; index < this.#capacity; index++) {
      if (this.#vm.region.words.load(this.#at(index) + EVENTFD_REFERENCES) === 0) return index;
    }
    throw new EvtchnError('ENOSPC', `all ${this.#capacity} eventfds are in use; createVm({ eventfds }) sets how many`);
  }

  #status(index: number): EventfdStatus {
    const { words } = this.#vm.region;
    const at = this.#at(index);
    const state = words.load(at + EVENTFD_STATE);
    const bound = words.load(at + EVENTFD_GSI);
    return {
      fd: FIRST_FD + index,
      open: (state & EVENTFD_OPEN) !== 0,
      semaphore: (state & EVENTFD_SEMAPHORE) !== 0,
      counter: words.load64(at + EVENTFD_COUNTER),
      references: words.load(at + EVENTFD_REFERENCES),
      gsi: bound === 0 ? null : (bound - 1) >>> 0,
    };
  }

  #at(index: number): number {
    return this.#first + index * EVENTFD_SIZE;
  }
}

/** A count as a u64, or null. */
function toCount(value: number | bigint): bigint | null {
  if (typeof value !== 'bigint') {
    if (!Number.isSafeInteger(value)) return null;
    value = BigInt(value);
  }
  return value < 0n || value > FULL ? null : value;
}
