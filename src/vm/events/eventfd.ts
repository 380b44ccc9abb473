// One eventfd as one thread sees it.

import type { Eventfds } from './eventfds.ts';
import { checkTimeout } from './sleep.ts';

/** No sleep lasts longer without a look, ns. */
const LONGEST_SLEEP = 1e9;
const NS_PER_MS = 1e6;

/** A counter that any thread adds to and takes from. Made by `vm.eventfds.create`, found on other threads by `vm.eventfds.get`. */
export class Eventfd {
  readonly #fds: Eventfds;
  /** The number by which send ports and interrupts name it: 3 or more. */
  readonly fd: number;
  readonly #life: number;

  /** @internal */
  constructor(fds: Eventfds, fd: number, life: number) {
    this.#fds = fds;
    this.fd = fd;
    this.#life = life;
  }

  /** Whether the descriptor is open. */
  get open(): boolean {
    return !this.#fds.ended && this.#fds.lives(this.fd, this.#life);
  }

  /**
   * Adds `n`, 0..2^64-2, wakes who waits, and raises the interrupt that is bound. Does not throw.
   * @returns 0, or a negative errno: -EAGAIN the count would pass 2^64-2, or the interrupt could not be raised because an
   *   invalidation does not end: write again; -EINVAL for another `n`, -EBADF it is closed
   */
  write(n: number | bigint): number {
    return this.#fds.write(this.fd, this.#life, n);
  }

  /** Takes all that was counted, or 1 of a semaphore. Does not throw. @returns it, or -11n (EAGAIN) for none, -9n (EBADF) when closed */
  read(): bigint {
    return this.#fds.read(this.fd, this.#life);
  }

  /**
   * Blocks this thread until there is something to read, or about `timeoutNs` have passed; takes nothing.
   * Throws EINVAL for a bad timeout, EBUSY inside a bracket, EOPNOTSUPP where a thread may not block and in unshared memory.
   * @returns whether there is; false also when it is closed
   */
  wait(timeoutNs?: number): boolean {
    let left = checkTimeout(timeoutNs);
    const over = (): boolean => !this.open || this.#fds.readable(this.fd);
    while (!over() && left > 0) {
      const chunk = Math.min(LONGEST_SLEEP, left);
      if (this.#fds.sleep(this.fd, chunk / NS_PER_MS, over)) left -= chunk;
    }
    return this.open && this.#fds.readable(this.fd);
  }

  /**
   * Closes the descriptor: it cannot be named any more, and raises no interrupt. Send ports that signal it go on. Owner only;
   * idempotent. Throws EBUSY inside a bracket or when a reader does not leave.
   */
  close(): void {
    this.#fds.close(this.fd, this.#life);
  }
}
