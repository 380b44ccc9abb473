// Which blocks of the library's code have run, as V8 counts them: feedback for what is worth keeping.

import { type Profiler, Session } from 'node:inspector';

export class Branches {
  readonly #session = new Session();

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Blocks that have run since the last time, by file and offset. */
  take(): Set<string> {
    const found = new Set<string>();
    // Within a process the answer comes before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (_, { result }) => {
      for (const script of result) if (/\/dist\/src\//.test(script.url)) collect(script, found);
    });
    return found;
  }
}

function collect({ url, functions }: Profiler.ScriptCoverage, found: Set<string>): void {
  const file = url.slice(url.indexOf('/dist/src/') + '/dist/src/'.length);
  for (const { ranges } of functions) {
    for (const { startOffset, endOffset, count } of ranges) {
      if (count > 0) found.add(`${file}:${startOffset}-${endOffset}`);
    }
  }
}
