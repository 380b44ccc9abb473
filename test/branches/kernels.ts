// Lets tests run on other kernels than those of the build: a plugin for a Vitest of its own (vitest.config.ts here). The
// folder is in the environment, as test/support.ts reads it too. Nothing of this is in the library.

import type { Plugin } from 'vite';

/** Serves src/kernel_bytes.ts with the release kernels of the folder that EVTCHN_TEST_KERNELS names, as they are when it is loaded. */
export function otherKernels(): Plugin {
  return {
    name: 'other-kernels',
    enforce: 'pre',
    load: (id) => (id.endsWith('/src/kernel_bytes.ts') ? KERNEL_BYTES : null),
  };
}

const KERNEL_BYTES = `
import { readFileSync } from 'node:fs';
const bytes = (name) => readFileSync(process.env.EVTCHN_TEST_KERNELS + '/' + name + '.wasm').toString('base64');
export const sharedKernel = bytes('shared');
export const unsharedKernel = bytes('unshared');
`;
