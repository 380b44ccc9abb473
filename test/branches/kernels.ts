// Lets tests run on other kernels than those of the build: a plugin for a Vitest of its own (vitest.config.ts here). The
// folder is in the environment, as test/support.ts reads it too. Nothing of this is in the library.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

/** Serves src/kernel_bytes.ts with the release kernels of the folder that EVTCHN_TEST_KERNELS names. */
export function otherKernels(): Plugin {
  return {
    name: 'other-kernels',
    enforce: 'pre',
    load(id) {
      if (!id.endsWith('/src/kernel_bytes.ts')) return null;
      const bytes = (name: string): string =>
        readFileSync(join(process.env['EVTCHN_TEST_KERNELS'] ?? 'build', `${name}.wasm`)).toString('base64');
      return `export const sharedKernel = '${bytes('shared')}';\nexport const unsharedKernel = '${bytes('unshared')}';\n`;
    },
  };
}
