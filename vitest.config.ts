import './test/node20.ts';
import { defineConfig } from 'vitest/config';

/** Those with threads, child processes, a browser or a machine of their own need both cores of a small machine. */
const ALONE = ['hammer', 'litmus', 'browser', 'soak', 'start', 'guest', 'package', 'branches', 'mutation'].map(
  (folder) => `test/${folder}/**/*.test.ts`,
);

export default defineConfig({
  test: {
    reporters: ['default', 'json'],
    outputFile: { json: 'build/vitest.json' },
    projects: [
      {
        test: {
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: [...ALONE, 'test/xen/*hammer.test.ts', 'test/xen/threads.test.ts'],
          testTimeout: 120_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'alone',
          include: [...ALONE, 'test/xen/*hammer.test.ts', 'test/xen/threads.test.ts'],
          testTimeout: 60_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
