// Runs before each test file on kernels with counters: gives every instance the counter, and leaves the counts in a file.

import { afterAll } from 'vitest';
import { type Counts, countIndex, emptyCounts, writeCounts } from '../../tools/coverage/counts.ts';

// One counter for all test files of this process: they share the kernels that are compiled already.
const shared = globalThis as { branchCounts?: Counts };
const branchCounts = shared.branchCounts ?? count(emptyCounts());
shared.branchCounts = branchCounts;

/** Gives every instance from now on a counter. */
function count(counts: Counts): Counts {
  const branch = (number: number, wordBytes: number, outcome: number): void => {
    const at = countIndex(number, wordBytes, outcome !== 0);
    counts[at] = (counts[at] ?? 0) + 1;
  };
  // The kernel imports the counter from a module of its own, of which the library knows nothing.
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
    construct: (target, [module, imports]: [WebAssembly.Module, WebAssembly.Imports]) =>
      new target(module, { ...imports, coverage: { branch } }),
  });
  return counts;
}

afterAll(() => writeCounts(process.env['EVTCHN_TEST_KERNELS'] ?? '', branchCounts));
