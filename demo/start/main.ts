// `npm start`: arguments in, exit code out. 0 every line holds, 1 one does not, 2 the arguments are wrong.

import { closeSync, openSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { measureCost } from './cost.ts';
import { runJob } from './job.ts';
import { paintFor, statusOn } from './terminal.ts';

const USAGE = `npm start -- [--json FILE] [--sends N]

  --json FILE   write what was found to FILE
  --sends N     sends per row of the second part, 10000000 by default
  --help        this text`;

const SENDS = 10_000_000;
/** Epochs of the ledger and counters are i32. */
const MOST_SENDS = 2 ** 31 - 1;

interface Arguments {
  readonly json: string | undefined;
  readonly sends: number;
  readonly help: boolean;
}

/** Throws with one sentence. */
function readArguments(args: readonly string[]): Arguments {
  const { values } = parseArgs({
    args: [...args],
    options: { json: { type: 'string' }, sends: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  const sends = values.sends === undefined ? SENDS : Number(values.sends);
  if (!Number.isInteger(sends) || sends < 1 || sends > MOST_SENDS) {
    throw new Error(`--sends is ${values.sends}, allowed are integers from 1 to ${MOST_SENDS}`);
  }
  if (values.json !== undefined) checkWritable(values.json);
  return { json: values.json, sends, help: values.help === true };
}

/** Now, and not after the work is done. */
function checkWritable(file: string): void {
  try {
    closeSync(openSync(file, 'a'));
  } catch (error) {
    throw new Error(`--json ${file} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

function firstSentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split(/\. |\n/)[0] ?? text;
}

async function main(): Promise<number> {
  let args: Arguments;
  try {
    args = readArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`npm start: ${firstSentence(error)}; see npm start -- --help`);
    return 2;
  }
  if (args.help) {
    console.log(USAGE);
    return 0;
  }
  const report = await runJob({
    sends: args.sends,
    measureCost,
    print: (line) => console.log(line),
    status: statusOn(process.stderr),
    paint: paintFor(process.stdout),
  });
  if (args.json !== undefined) writeFileSync(args.json, `${JSON.stringify(report, null, 2)}\n`);
  return report.ok ? 0 : 1;
}

process.exitCode = await main();
