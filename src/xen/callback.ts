// How upcalls reach the guest: by a vector, or by an interrupt line that is up while vCPU 0 has one. [XE-CB-01..06]
//
// Vectors are the VM's own business (src/vm/guest/upcall_level.ts, local_apic.ts). A line is held up by whoever sees the upcall byte
// first: in memory of a single agent the sender, at once; else the vCPU's thread, when it looks. It is let go when the byte is found 0.

import { EINVAL } from '../abi/errno.ts';
import { KICK_LISTENER, REGION_UPCALL_VECTOR, REQUEST_VECTOR, VCPU_KICK, VCPU_UPCALL_VECTOR } from '../abi/region.ts';
import {
  HVM_NR_GSIS,
  HVM_VIA,
  HVM_VIA_ASSERTED,
  HVM_VIA_GSI,
  HVM_VIA_LINE,
  HVM_VIA_NONE,
  HVM_VIA_VECTOR,
} from '../abi/xen_hvm.ts';
import {
  CALLBACK_GSI_BITS,
  CALLBACK_INTX_DEVFN_SHIFT,
  CALLBACK_INTX_PIN_BITS,
  CALLBACK_VIA_GSI,
  CALLBACK_VIA_INTX,
  CALLBACK_VIA_SHIFT,
  CALLBACK_VIA_VECTOR,
  UPCALL_VECTOR_FIRST,
} from '../abi/xen_hypercall.ts';
import { readLevel } from '../vm/guest/upcall_level.ts';
import type { Vcpu } from '../vm/vcpu.ts';
import type { HvmRecord } from './hvm_record.ts';
import type { InterruptLines } from './interrupt_lines.ts';

/** A pin of a PCI function: A is 0. */
export interface PciIntx {
  readonly device: number;
  readonly function: number;
  readonly pin: number;
}

/** The GSI of a pin; null: it leads nowhere. */
export type IntxRouting = (intx: PciIntx) => number | null;

/** Where Xen's own virtual machines have their pins: on the GSIs behind those of the ISA bus. */
export const xenIntxGsi: IntxRouting = ({ device, pin }) => 16 + (((device << 2) + (device >> 3) + pin) & 31);

/** @internal */
export class Callback {
  readonly #record: HvmRecord;
  readonly #lines: InterruptLines;
  readonly #intxGsi: IntxRouting;
  /** a pin that leads nowhere is refused */
  readonly #hasToLead: boolean;

  constructor(record: HvmRecord, lines: InterruptLines, intxGsi: IntxRouting, hasToLead: boolean) {
    this.#record = record;
    this.#lines = lines;
    this.#intxGsi = intxGsi;
    this.#hasToLead = hasToLead;
    const { vm } = record;
    const listening = {
      listens: (index: number): boolean => index === 0 && this.#usesLine,
      answer: (index: number): void => {
        if (index === 0) this.update();
      },
    };
    vm.listeners.add(vm.vmBase, listening);
    vm.onDetach.add(() => vm.listeners.remove(vm.vmBase, listening));
  }

  /**
   * HVM_PARAM_CALLBACK_IRQ: lets the old line go, takes the new way, and looks at every vCPU again. [XE-CB-05]
   * @returns 0, or -EINVAL for a vector that is an exception's, in QEMU's dialect also a pin that leads nowhere: nothing has changed then
   */
  set(value: bigint): number {
    const kind = Number(value >> BigInt(CALLBACK_VIA_SHIFT));
    const vector = kind === CALLBACK_VIA_VECTOR ? Number(value & 0xffn) : 0;
    if (vector > 0 && vector < UPCALL_VECTOR_FIRST) return -EINVAL;
    const gsi = this.#gsiOf(kind, value);
    if (kind === CALLBACK_VIA_INTX && gsi === 0 && this.#hasToLead) return -EINVAL;
    const { words, base, vm } = this.#record;
    this.#letGo();
    words.store(base + HVM_VIA_GSI, gsi);
    words.store(base + HVM_VIA, vector !== 0 ? HVM_VIA_VECTOR : gsi !== 0 ? HVM_VIA_LINE : HVM_VIA_NONE);
    words.store(vm.vmBase + REGION_UPCALL_VECTOR, vector);
    this.#listen(gsi !== 0 && vector === 0);
    for (let index = 0; index < vm.vcpus; index++) this.#evaluate(vm.vcpu(index), vector !== 0);
    return 0;
  }

  /** Sets a vCPU's own vector, and fires it once. [XE-CB-06] */
  setVector(vcpu: Vcpu, vector: number): void {
    vcpu.setAttr({ type: 'upcall_vector', vector });
    this.#fire(vcpu);
    if (vcpu.index === 0) this.update();
  }

  /** Holds the line up if vCPU 0 has an upcall and no vector, and lets it go if it has none. [XE-CB-04] */
  update(): void {
    if (!this.#usesLine) return;
    const { words, base, vm } = this.#record;
    const level = readLevel(vm.vcpu(0));
    // What cannot be seen may be either: the line stays as it is.
    if (level !== 'up' && level !== 'down') return;
    const hold = level === 'up' && words.load(vm.vcpu(0).line + VCPU_UPCALL_VECTOR) === 0;
    if (!hold) this.#letGo();
    else if (words.exchange(base + HVM_VIA_ASSERTED, 1) === 0) this.#lines.assert(words.load(base + HVM_VIA_GSI));
  }

  /** After a restore: listens as what was restored says. */
  resume(): void {
    this.#listen(this.#usesLine);
  }

  /** Whether it holds its line up. */
  get asserted(): boolean {
    return this.#record.words.load(this.#record.base + HVM_VIA_ASSERTED) !== 0;
  }

  get #usesLine(): boolean {
    return this.#record.words.load(this.#record.base + HVM_VIA) === HVM_VIA_LINE;
  }

  /** 0: none. */
  #gsiOf(kind: number, value: bigint): number {
    let gsi: number | null = 0;
    if (kind === CALLBACK_VIA_GSI) gsi = Number(value & BigInt(CALLBACK_GSI_BITS));
    if (kind === CALLBACK_VIA_INTX) gsi = this.#intxGsi(intxOf(Number(value & 0xffffn)));
    return gsi !== null && gsi > 0 && gsi < HVM_NR_GSIS ? gsi : 0;
  }

  #letGo(): void {
    const { words, base } = this.#record;
    if (words.exchange(base + HVM_VIA_ASSERTED, 0) !== 0) this.#lines.deassert(words.load(base + HVM_VIA_GSI));
  }

  /** In memory of a single agent the kernel tells of upcalls of vCPU 0 at once. */
  #listen(on: boolean): void {
    const { vm, words } = this.#record;
    if (vm.shared) return;
    const kick = vm.vcpu(0).line + VCPU_KICK;
    if (on) words.or(kick, KICK_LISTENER);
    else if (!vm.listeners.any(vm.vmBase, 0)) words.and(kick, ~KICK_LISTENER);
  }

  /** One upcall attempt by the way that is in force. */
  #evaluate(vcpu: Vcpu, byVector: boolean): void {
    if (this.#record.words.load(vcpu.line + VCPU_UPCALL_VECTOR) !== 0) this.#fire(vcpu);
    else if (byVector) this.#look(vcpu);
    else if (vcpu.index === 0) this.update();
  }

  /** A vCPU whose upcall byte is up already is told that there is a vector for it now. */
  #look(vcpu: Vcpu): void {
    if (readLevel(vcpu) !== 'up') return;
    const { vm } = this.#record;
    vm.kernel.unblock(vm.vmBase, vm.agent, vcpu.index, 0);
    vcpu.answerKick();
  }

  /** The vCPU's own vector is due, whether it has an upcall or not: it looks and finds nothing. */
  #fire(vcpu: Vcpu): void {
    vcpu.request(REQUEST_VECTOR);
    // A vCPU that sleeps wakes up for it.
    this.#record.vm.kernel.unblock(this.#record.vm.vmBase, this.#record.vm.agent, vcpu.index, 0);
    vcpu.answerKick();
  }
}

function intxOf(value: number): PciIntx {
  const devfn = (value >> CALLBACK_INTX_DEVFN_SHIFT) & 0xff;
  return { device: devfn >> 3, function: devfn & 7, pin: value & CALLBACK_INTX_PIN_BITS };
}
