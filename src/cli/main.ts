#!/usr/bin/env node
// The command `evtchn`: `evtchn explore` finds the schedules that go wrong.

import { parseArgs } from 'node:util';
import { EvtchnError } from '../errors.ts';
import { EXPLORE_HELP, explore } from './explore.ts';

const OPTIONS = {
  list: { type: 'boolean' },
  compat: { type: 'boolean' },
  replay: { type: 'string' },
  random: { type: 'string' },
  seed: { type: 'string' },
  changes: { type: 'string' },
  preemptions: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** @returns the exit code: 0, 1 for a model that goes wrong, 2 for a command that is not understood */
function main(args: readonly string[]): number {
  try {
    const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
    const [command, name, ...rest] = positionals;
    if (values.help || command === undefined) {
      console.log(EXPLORE_HELP);
      return values.help ? 0 : 2;
    }
    if (command !== 'explore' || rest.length > 0)
      throw new EvtchnError('EINVAL', `"${positionals.join(' ')}" is no command`);
    return explore(name, values, (line) => console.log(line));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    console.error('evtchn --help says what there is.');
    return 2;
  }
}

process.exitCode = main(process.argv.slice(2));
