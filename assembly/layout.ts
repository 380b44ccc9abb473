// The two guest layouts as one: W is the guest word, u64 in long mode and u32 in compat. Everything here folds to a constant.

import { GPC_LONG_MODE, GPC_MODE_BITS, GPC_UNMAPPED, GROUP_SHIFT } from '../src/abi/region.ts';
import {
  PORTS_COMPAT,
  PORTS_LONG,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  SHARED_INFO_WC_COMPAT,
  SHARED_INFO_WC_LONG,
  SHARED_INFO_WC_SEC_HI_COMPAT,
  SHARED_INFO_WC_SEC_HI_LONG,
  WORDS_COMPAT,
  WORDS_LONG,
} from '../src/abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_COMPAT, VCPU_INFO_SELECTOR_LONG } from '../src/abi/vcpu_info.ts';

export class Layout {
  @inline static isLong<W extends number>(): bool {
    return sizeof<W>() == 8;
  }
  @inline static words<W extends number>(): i32 {
    return Layout.isLong<W>() ? WORDS_LONG : WORDS_COMPAT;
  }
  /** Ports per word as a shift; also log2 of the bits of W. */
  @inline static wordShift<W extends number>(): i32 {
    return Layout.isLong<W>() ? 6 : 5;
  }
  /** Word index to group index: a group is one long word or two compat words. */
  @inline static groupOf<W extends number>(word: i32): i32 {
    return word >> (GROUP_SHIFT - Layout.wordShift<W>());
  }
  /** Port 0 is never valid: one unsigned comparison checks both ends. [KX-ABI-07] */
  @inline static isPort<W extends number>(port: i32): bool {
    return ((port - 1) as u32) < (((Layout.words<W>() << Layout.wordShift<W>()) - 1) as u32);
  }
  @inline static bit<W extends number>(n: i32): W {
    // The shift itself takes n modulo the bits of W.
    return ((1 as W) << (n as u32 as W)) as W;
  }
  /** Address of a word of the pending bitmap. */
  @inline static pending<W extends number>(page: usize, word: i32): usize {
    return page + SHARED_INFO_PENDING + (word as usize) * sizeof<W>();
  }
  /** Distance from a pending word to its mask word. */
  @inline static toMask<W extends number>(): usize {
    return (Layout.isLong<W>() ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT) - SHARED_INFO_PENDING;
  }
  @inline static selector<W extends number>(): usize {
    return Layout.isLong<W>() ? VCPU_INFO_SELECTOR_LONG : VCPU_INFO_SELECTOR_COMPAT;
  }
  @inline static wallClock<W extends number>(): usize {
    return Layout.isLong<W>() ? SHARED_INFO_WC_LONG : SHARED_INFO_WC_COMPAT;
  }
  @inline static wallClockHigh<W extends number>(): usize {
    return Layout.isLong<W>() ? SHARED_INFO_WC_SEC_HI_LONG : SHARED_INFO_WC_SEC_HI_COMPAT;
  }

  /** Number of ports in the mode that a shared_info word carries. [KX-ABI-07] */
  @inline static ports(word: i32): i32 {
    return word & GPC_LONG_MODE ? PORTS_LONG : PORTS_COMPAT;
  }
  /** A gpc word that maps nothing. */
  @inline static unmapped(word: i32): bool {
    return (word as u32) >= (GPC_UNMAPPED as u32);
  }
  /**
   * Whether a shared_info word maps a page for the 2-level ABI in layout W: one comparison for all, because rotated to the right a
   * mode bit that does not belong makes it as large as an unmapped one.
   */
  @inline static is2Level<W extends number>(word: i32): bool {
    const mode: u32 = Layout.isLong<W>() ? GPC_LONG_MODE : 0;
    return rotr<u32>((word as u32) ^ mode, 2) < (GPC_UNMAPPED as u32) >>> 2;
  }
  /** The page of a mapped shared_info word. */
  @inline static page(word: i32): usize {
    return (word & ~GPC_MODE_BITS) as usize;
  }
}
