// The coverage of this project: its lists, its declarations and its tests, read from the top of the repository.

import { type Coverage, coverageOf, readTests } from './coverage.ts';
import { LATER } from './later.ts';
import { requirementsOf } from './list.ts';
import { FAMILIES_WITHOUT_LIST, LISTS } from './lists.ts';
import { NOT_APPLICABLE } from './not_applicable.ts';
import { promiseCounts } from './promises.ts';

export function projectCoverage(): Coverage {
  return coverageOf({
    requirements: requirementsOf(LISTS),
    // Its own folder holds ids as data.
    names: readTests('test', 'test/coverage'),
    notApplicable: NOT_APPLICABLE,
    later: LATER,
    withoutList: FAMILIES_WITHOUT_LIST,
  });
}

/** How many tests are named after each promise. */
export function projectPromises(): Map<string, number> {
  return promiseCounts(readTests('test', 'test/coverage').map(({ text }) => text));
}
