// What a detached view calls in place of the kernel.

import { EBADF } from '../abi/errno.ts';
import type { Kernel } from '../kernel.ts';

const detached = new WeakSet<Kernel>();

/** A kernel that does nothing and says so: being detached costs an attached view no test per call. @internal */
export function detachedKernel(kernel: Kernel): Kernel {
  const dead = Object.fromEntries(Object.keys(kernel).map((name) => [name, () => -EBADF])) as unknown as Kernel;
  detached.add(dead);
  return dead;
}

/** @internal */
export function isDetached(kernel: Kernel): boolean {
  return detached.has(kernel);
}
