// The explorer's kernel: compiled at first use.

import { exploreKernel } from './kernel_bytes.ts';

let compiled: WebAssembly.Module | undefined;

/** The kernel's trace build for shared memory, transformed so that its calls can stop before each access. */
export function exploreModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(Uint8Array.from(atob(exploreKernel), (c) => c.charCodeAt(0)));
  return compiled;
}
