// Interrupt routes: what each gsi raises; the table is replaced whole. [kvm-xen 10]
import type { Vm } from './vm.ts';

/** The interrupt routes of a VM. */
export class Routes {
  readonly vm: Vm;

  /** @internal */
  constructor(vm: Vm) {
    this.vm = vm;
  }
}
