// Runs tests on the kernels of another folder, with counters: started by branches.test.ts.

import '../node20.ts';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { otherKernels } from './kernels.ts';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  plugins: [otherKernels()],
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/branches/setup.ts'],
    testTimeout: 60_000,
    fileParallelism: false,
    isolate: false,
  },
});
