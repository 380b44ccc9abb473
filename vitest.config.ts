import './test/node20.ts';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', 'json'],
    outputFile: { json: 'build/vitest.json' },
    testTimeout: 60_000,
    // One file at a time: those with workers, child processes or a browser need both cores of a small machine.
    fileParallelism: false,
  },
});
