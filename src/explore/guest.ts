// A 32-bit guest's own code over its shared pages, each access a step: for models of guests that do it their own way.

import { PAGE_SIZE, SHARED_INFO_MASK_COMPAT, SHARED_INFO_PENDING } from '../abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_COMPAT } from '../abi/vcpu_info.ts';
import type { Vm } from '../vm/vm.ts';
import type { Self } from './actor.ts';
import { SHARED_INFO_PAGE, VCPU_INFO_PAGE } from './world.ts';

const WORD_BITS = 32;
const UPCALL_BITS = 0xff;

/** What a guest does with its pages. Words are those of the 32-bit layout. */
export class Guest {
  readonly #self: Self;
  readonly #base: number;

  constructor(vm: Vm, self: Self) {
    this.#self = self;
    this.#base = vm.guestBase;
  }

  /** Linear address of a byte of a guest page. */
  at(page: number, offset: number): number {
    return this.#base + page * PAGE_SIZE + offset;
  }

  /** Turns the upcall byte off. @returns whether it was on */
  clearUpcall(vcpu: number): boolean {
    return (this.#self.change(this.at(VCPU_INFO_PAGE + vcpu, 0), (word) => word & ~UPCALL_BITS) & UPCALL_BITS) !== 0;
  }
  /** Takes the selector and leaves 0. */
  takeSelector(vcpu: number): number {
    return this.#self.change(this.at(VCPU_INFO_PAGE + vcpu, VCPU_INFO_SELECTOR_COMPAT), () => 0);
  }
  /** Ports of a word that are pending and not masked, as bits. */
  active(word: number): number {
    const mask = this.#self.read(this.at(SHARED_INFO_PAGE, SHARED_INFO_MASK_COMPAT + word * 4));
    return this.#self.read(this.at(SHARED_INFO_PAGE, SHARED_INFO_PENDING + word * 4)) & ~mask;
  }
  isPending(port: number): boolean {
    const at = this.at(SHARED_INFO_PAGE, SHARED_INFO_PENDING + (port >>> 5) * 4);
    return ((this.#self.read(at) >>> (port % WORD_BITS)) & 1) === 1;
  }
  clearPending(port: number): void {
    this.#self.change(this.at(SHARED_INFO_PAGE, SHARED_INFO_PENDING + (port >>> 5) * 4), without(port));
  }
  /** Clears a mask bit, and does nothing else about it. */
  clearMask(port: number): void {
    this.#self.change(this.at(SHARED_INFO_PAGE, SHARED_INFO_MASK_COMPAT + (port >>> 5) * 4), without(port));
  }
}

/** The ports of a word's bits, lowest first. */
export function portsOf(word: number, bits: number): number[] {
  return Array.from({ length: WORD_BITS }, (_, bit) => bit)
    .filter((bit) => (bits >>> bit) & 1)
    .map((bit) => word * WORD_BITS + bit);
}

function without(port: number): (word: number) => number {
  return (word) => word & ~(1 << (port % WORD_BITS));
}
