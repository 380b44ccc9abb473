// Where the HVM part of a domain's region is: what every attached thread sees of what the guest's hypercalls have set.

import { REGION_HVM } from '../abi/region.ts';
import {
  HVM_NR_PARAMS,
  HVM_PARAMS,
  HVM_VCPU_SIZE,
  HVM_VCPU_STATE,
  HVM_VCPU_UNSEEN,
  HVM_VCPU_UP,
  HVM_VCPUS,
} from '../abi/xen_hvm.ts';
import type { Words } from '../memory/words.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { Vm } from '../vm/vm.ts';

/** @internal */
export class HvmRecord {
  readonly vm: Vm;
  readonly words: Words;
  /** linear offset of the domain's part */
  readonly base: number;

  constructor(vm: Vm) {
    this.vm = vm;
    this.words = vm.region.words;
    this.base = vm.region.part(REGION_HVM);
  }

  /** Linear offset of a vCPU's part. */
  vcpu(index: number): number {
    return this.base + HVM_VCPUS + index * HVM_VCPU_SIZE;
  }

  /** Where a parameter is; 0..HVM_NR_PARAMS-1. */
  param(index: number): number {
    return this.base + HVM_PARAMS + 8 * (index % HVM_NR_PARAMS);
  }

  /** The vCPU that the guest knows by an id, which is its index; or null. */
  find(id: number): Vcpu | null {
    return Number.isInteger(id) && id >= 0 && id < this.vm.vcpus ? this.vm.vcpu(id) : null;
  }

  /** A vCPU that makes a hypercall has been started, whoever did it. */
  seen(vcpu: Vcpu): void {
    const state = this.vcpu(vcpu.index) + HVM_VCPU_STATE;
    if (this.words.load(state) === HVM_VCPU_UNSEEN) this.words.compareExchange(state, HVM_VCPU_UNSEEN, HVM_VCPU_UP);
  }
}
