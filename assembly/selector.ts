// The selector word of a vcpu_info, at any address. KVM lets a guest put its vcpu_info anywhere; wasm atomics trap on a
// misaligned word, so those are worked byte by byte: bit n is bit n & 7 of byte n >> 3 in every layout.

import { GPC_UNMAPPED } from '../src/abi/region.ts';
import { Layout } from './layout';
import { Shared } from './shared';

export class Selector {
  /**
   * Whether `info` is mapped and at an address that atomics take: one comparison for both, because rotated to the right a
   * misaligned address becomes as large as an unmapped one.
   */
  @inline static usable<W extends number>(info: i32): bool {
    if (!ASC_FEATURE_THREADS) return !Layout.unmapped(info);
    const shift: u32 = Layout.isLong<W>() ? 3 : 2;
    return rotr<u32>(info as u32, shift) < (GPC_UNMAPPED as u32) >>> shift;
  }
  /** Plain accesses may be misaligned, atomics may not. */
  @inline static aligned<W extends number>(p: usize): bool {
    return !ASC_FEATURE_THREADS || !(p & (sizeof<W>() - 1));
  }
  @inline static address<W extends number>(info: i32): usize {
    return (info as usize) + Layout.selector<W>();
  }
  @inline static load<W extends number>(p: usize): W {
    return Selector.aligned<W>(p) ? Shared.load<W>(p) : loadBytes<W>(p);
  }
  @inline static or<W extends number>(p: usize, bits: W): W {
    return Selector.aligned<W>(p) ? Shared.or<W>(p, bits) : orBytes<W>(p, bits);
  }
  /** Takes all bits and leaves 0. */
  @inline static take<W extends number>(p: usize): W {
    return Selector.aligned<W>(p) ? Shared.exchange<W>(p, 0 as W) : takeBytes<W>(p);
  }
}

function loadBytes<W extends number>(p: usize): W {
  let value: W = 0 as W;
  for (let i: usize = 0; i < sizeof<W>(); i++) {
    const byte = Shared.load<u8>(p + i);
    value = (value | ((byte as W) << ((i << 3) as W))) as W;
  }
  return value;
}

function orBytes<W extends number>(p: usize, bits: W): W {
  let old: W = 0 as W;
  for (let i: usize = 0; i < sizeof<W>(); i++) {
    const part = ((bits >> ((i << 3) as W)) & (0xff as W)) as u8;
    if (!part) continue;
    const byte = Shared.or<u8>(p + i, part);
    old = (old | ((byte as W) << ((i << 3) as W))) as W;
  }
  return old;
}

function takeBytes<W extends number>(p: usize): W {
  let value: W = 0 as W;
  for (let i: usize = 0; i < sizeof<W>(); i++) {
    const byte = Shared.exchange<u8>(p + i, 0);
    value = (value | ((byte as W) << ((i << 3) as W))) as W;
  }
  return value;
}
