// Runs tests on the kernels that lie in EVTCHN_TEST_KERNELS when they begin: for runner.js.

import '../node20.ts';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { otherKernels } from '../branches/kernels.ts';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  plugins: [otherKernels()],
  test: {
    include: ['test/**/*.test.ts'],
    // A mutant that does not come to an end is killed from outside; one that waits in vain must not take long.
    testTimeout: 10_000,
    pool: 'threads',
    fileParallelism: false,
  },
});
