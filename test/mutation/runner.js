// A process of its own that runs tests on the kernels of EVTCHN_TEST_KERNELS, again and again: what it has loaded stays loaded.
// Started by score.ts, which sends a list of test files and kills it when a mutant does not come to an end: no sign of life.

import { BaseSequencer, createVitest } from 'vitest/node';

/** As the list says: the files that are most likely to notice come first. */
class InOrder extends BaseSequencer {
  async sort(specifications) {
    return specifications;
  }
}

const vitest = await createVitest({
  config: 'test/mutation/vitest.config.ts',
  watch: false,
  bail: 1,
  reporters: [{ onTestCaseResult: () => process.send({ alive: true }) }],
  sequence: { sequencer: InOrder },
});
await vitest.standalone();

process.on('message', async ({ tests }) => {
  const known = await vitest.globTestSpecifications(tests);
  const inOrder = tests.map((file) => known.find(({ moduleId }) => moduleId.endsWith(file))).filter(Boolean);
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(inOrder);
  process.send({ failure: firstFailure(testModules) ?? (unhandledErrors.length ? other(unhandledErrors[0]) : null) });
});
process.send({ ready: true });

/** The first test that is red, or null. */
function firstFailure(modules) {
  for (const module of modules) {
    const file = module.relativeModuleId;
    for (const test of module.children.allTests('failed')) return { file, test: test.fullName };
    if (module.state() === 'failed') return { file, test: module.errors()[0]?.message ?? 'the file' };
  }
  return null;
}

function other(error) {
  return { file: '', test: String(error) };
}
