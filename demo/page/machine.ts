// The machine's words as they lie in the memory, through a copy: what is looked at never takes part in the protocol.

import { KICK_SLEEPER, VCPU_KICK, VCPU_LINE_SIZE, VCPU_LINES } from '../../src/abi/region.ts';
import { PAGE_SIZE, PORTS_LONG, SHARED_INFO_MASK_LONG, SHARED_INFO_PENDING } from '../../src/abi/shared_info.ts';
import {
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_SIZE,
  VCPU_INFO_UPCALL_MASK,
  VCPU_INFO_UPCALL_PENDING,
} from '../../src/abi/vcpu_info.ts';
import type { Vm } from '../../src/index.ts';

const BITMAP_WORDS = PORTS_LONG / 32;

/** A vCPU of a VM in the layout of a 64-bit guest. `copy` takes a look; everything else is about the last one. */
export class Machine {
  readonly pending = new Uint32Array(BITMAP_WORDS);
  readonly mask = new Uint32Array(BITMAP_WORDS);
  readonly selector = new Uint32Array(2);
  upcallPending = 0;
  upcallMask = 0;
  sleeping = false;

  readonly #pending: Uint32Array;
  readonly #mask: Uint32Array;
  readonly #info: Uint8Array;
  readonly #selector: Uint32Array;
  readonly #kick: Int32Array;

  constructor(vm: Vm, vcpu = 0) {
    const { buffer } = vm.memory;
    const { gfn } = vm.getAttr('shared_info');
    const { gpa } = vm.vcpu(vcpu).getAttr('vcpu_info');
    if (gfn === null || gpa === null)
      throw new Error('shared_info and vcpu_info have to be registered to be looked at');
    const page = vm.guestBase + gfn * PAGE_SIZE;
    const info = vm.guestBase + gpa;
    this.#pending = new Uint32Array(buffer, page + SHARED_INFO_PENDING, BITMAP_WORDS);
    this.#mask = new Uint32Array(buffer, page + SHARED_INFO_MASK_LONG, BITMAP_WORDS);
    this.#info = new Uint8Array(buffer, info, VCPU_INFO_SIZE);
    this.#selector = new Uint32Array(buffer, info + VCPU_INFO_SELECTOR_LONG, 2);
    const line = vm.handle().regionBase + VCPU_LINES + vcpu * VCPU_LINE_SIZE;
    this.#kick = new Int32Array(buffer, line + VCPU_KICK, 1);
  }

  copy(): void {
    this.pending.set(this.#pending);
    this.mask.set(this.#mask);
    this.selector.set(this.#selector);
    this.upcallPending = this.#info[VCPU_INFO_UPCALL_PENDING] as number;
    this.upcallMask = this.#info[VCPU_INFO_UPCALL_MASK] as number;
    this.sleeping = ((this.#kick[0] as number) & KICK_SLEEPER) !== 0;
  }

  isPending(port: number): boolean {
    return bit(this.pending, port);
  }

  isMasked(port: number): boolean {
    return bit(this.mask, port);
  }

  isSelected(word: number): boolean {
    return bit(this.selector, word);
  }

  /** Ports that are pending. */
  get waiting(): number {
    let n = 0;
    for (let i = 0; i < BITMAP_WORDS; i++) n += ones(this.pending[i] as number);
    return n;
  }

  /** Ports that are pending although nothing holds them. */
  get due(): number {
    let n = 0;
    for (let i = 0; i < BITMAP_WORDS; i++) n += ones((this.pending[i] as number) & ~(this.mask[i] as number));
    return n;
  }
}

function bit(words: Uint32Array, index: number): boolean {
  return (((words[index >> 5] as number) >>> (index & 31)) & 1) === 1;
}

function ones(word: number): number {
  let n = 0;
  for (let rest = word; rest !== 0; rest &= rest - 1) n++;
  return n;
}
