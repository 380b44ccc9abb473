// A process of its own that runs tests on the kernels of EVTCHN_TEST_KERNELS, again and again: what it has loaded stays loaded.
// Started by score.ts, which sends a list of test files and kills it when a mutant does not come to an end: no sign of life.

import { BaseSequencer, createVitest } from 'vitest/node';

/** As the list says: the files that are most likely to notice come first. */
class InOrder extends BaseSequencer {
  async sort(specifications) {
    return specifications;
  }
}

/** The first test of the run that is red. What Vitest returns at the end has the results of earlier runs in it. */
let failure = null;

const watch = {
  onTestCaseResult(test) {
    process.send({ alive: true });
    if (test.result().state === 'failed') failure ??= { file: test.module.relativeModuleId, test: test.fullName };
  },
  onTestModuleEnd(module) {
    const [error] = module.errors();
    if (error) failure ??= { file: module.relativeModuleId, test: error.message };
  },
};

const vitest = await createVitest({
  config: 'test/mutation/vitest.config.ts',
  watch: false,
  bail: 1,
  reporters: [watch],
  sequence: { sequencer: InOrder },
});
await vitest.standalone();

process.on('message', async ({ tests }) => {
  failure = null;
  const known = await vitest.globTestSpecifications(tests);
  const inOrder = tests.map((file) => known.find(({ moduleId }) => moduleId.endsWith(file)));
  const missing = tests.filter((_, i) => !inOrder[i]);
  if (missing.length) throw new Error(`there is no ${missing.join(', ')}`);
  const { unhandledErrors } = await vitest.runTestSpecifications(inOrder);
  const [error] = unhandledErrors;
  process.send({ failure: failure ?? (error ? { file: tests[0], test: String(error) } : null) });
});
process.send({ ready: true });
