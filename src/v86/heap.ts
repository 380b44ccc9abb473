// Where the engine's records lie in v86's memory: in pages of their own, which it asks the memory for as v86's allocator does.
//
// v86 takes what it needs by `memory.grow` and keeps to what it was given, so pages that somebody else has grown are nobody's
// but theirs. They are taken before guest RAM is, and never given back.

import { EvtchnError } from '../errors.ts';
import { type RegionSizes, regionBytes } from '../memory/region.ts';

const WASM_PAGE = 65536;

/** Takes room for a region. @returns its linear offset. Throws ENOMEM when the memory cannot grow @internal */
export function takeRegion(memory: WebAssembly.Memory, sizes: RegionSizes): number {
  const pages = Math.ceil(regionBytes(sizes) / WASM_PAGE);
  try {
    return memory.grow(pages) * WASM_PAGE;
  } catch {
    throw new EvtchnError('ENOMEM', `v86's memory cannot grow by ${pages} pages of ${WASM_PAGE} bytes`);
  }
}
