// v86 and Binaryen as they are installed, and v86.wasm with the adapter's hooks, which is made once and kept.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { V86 } from 'v86';
import { patchV86, V86_VERSION } from '../../src/v86/index.ts';

/** The class, and the patched module. */
export interface LoadedV86 {
  readonly V86: typeof V86;
  readonly wasm: WebAssembly.Module;
}

/** Throws when v86 or Binaryen is not installed. */
export async function loadV86(cache: string): Promise<LoadedV86> {
  const { V86 } = await import('v86');
  const patched = join(cache, `v86-${V86_VERSION}.wasm`);
  if (!existsSync(patched)) {
    const { default: binaryen } = await import('binaryen');
    const build = dirname(createRequire(import.meta.url).resolve('v86'));
    mkdirSync(cache, { recursive: true });
    writeFileSync(patched, patchV86(readFileSync(join(build, 'v86.wasm')), binaryen));
  }
  return { V86, wasm: new WebAssembly.Module(readFileSync(patched)) };
}
