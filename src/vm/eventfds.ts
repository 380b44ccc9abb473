// Eventfds: counters that a hypercall, a thread or the embedder adds to, and that may raise an interrupt. [KX-EVA-09, KX-RTE-21]
import type { Vm } from './vm.ts';

/** The eventfds of a VM. */
export class Eventfds {
  readonly vm: Vm;

  /** @internal */
  constructor(vm: Vm) {
    this.vm = vm;
  }
}
