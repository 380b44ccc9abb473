// The guest's clock: the host's, from the VM's creation on. [kvm-xen 8.1]
import type { Vm } from './vm.ts';

/** The guest's clock of a VM (kvmclock). */
export class Kvmclock {
  readonly #vm: Vm;

  /** @internal */
  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** Guest time, ns, u64. [KX-CLK-01] */
  now(): bigint {
    return this.#vm.clock.now();
  }
}
