// The FIFO ABI of a domain: until it is there, every call is refused and guests stay with the 2-level ABI. [XE-OP-127]

import { EOPNOTSUPP } from '../abi/errno.ts';
import type { Vm } from '../vm/vm.ts';

/** What the FIFO ABI asks of a domain's ports. @internal */
export interface FifoPorts {
  readonly vm: Vm;
  /** Whether the descriptor exists, in whatever state. */
  isValid(port: number): boolean;
  /** [XE-MOD-05] */
  isUsable(port: number): boolean;
  /** index of the vCPU that gets its upcalls */
  target(port: number): number;
}

export interface InitControl {
  readonly controlGfn: number;
  readonly offset: number;
  readonly vcpu: number;
}

export class Fifo {
  /** @internal */
  constructor(_ports: FifoPorts) {}

  /** Whether the domain uses the FIFO ABI. */
  get active(): boolean {
    return false;
  }
  initControl(_control: InitControl): number {
    return -EOPNOTSUPP;
  }
  expandArray(_array: { readonly arrayGfn: number }): number {
    return -EOPNOTSUPP;
  }
  setPriority(_set: { readonly port: number; readonly priority: number }): number {
    return -EOPNOTSUPP;
  }
  /** A port was bound: default priority. [XE-OP-12] @internal */
  bound(_port: number): void {}
  /** Whether a free port may not be allocated yet. [XE-FF-41] @internal */
  isBusy(_port: number): boolean {
    return false;
  }
  /** Back to the 2-level ABI. [XE-OP-111] @internal */
  reset(): void {}
}
