// `npm run linux`: arguments in, exit code out. 0 all holds, 1 something does not, 2 the arguments are wrong or the guest's software
// cannot be had.

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { EvtchnError } from '../../src/index.ts';
import { NoPackages } from './packages.ts';
import { type RunOptions, run } from './run.ts';

const USAGE = `npm run linux -- [options]

Boots an unmodified Debian Linux kernel in v86 as a Xen guest, whose event channels are the engine's.

  --fifo          Linux uses the FIFO ABI, rather than the 2-level one
  --disk          a disk as well: a file system is made, filled and read back
  --two           two guests, one with each ABI, ring each other
  --nopv          Linux takes no notice of Xen: the negative control
  --trips N       round trips through /dev/xen/evtchn, 5000 by default
  --save FILE     saves the guest when its shell is ready
  --load FILE     goes on with a guest that was saved
  --compare N     boots N times with Xen and N times with idle hooks, and compares the times
  --shell         you type, the guest's shell runs it; poweroff ends it
  --verbose       the kernel tells all it does
  --json FILE     writes the report to FILE
  --kernel FILE, --initrd FILE, --bios FILE, --vga-bios FILE
                  instead of what apt fetches: the guest is started, its console shown, and nothing else is done with it
  --help          this text`;

const FLAGS = {
  fifo: { type: 'boolean' },
  disk: { type: 'boolean' },
  two: { type: 'boolean' },
  nopv: { type: 'boolean' },
  shell: { type: 'boolean' },
  verbose: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  compare: { type: 'string' },
  trips: { type: 'string' },
  save: { type: 'string' },
  load: { type: 'string' },
  json: { type: 'string' },
  kernel: { type: 'string' },
  initrd: { type: 'string' },
  bios: { type: 'string' },
  'vga-bios': { type: 'string' },
} as const;

const TRIPS = 5000;
const MOST_TRIPS = 1_000_000;
const MOST_PAIRS = 100;
const CACHE = 'build/linux';

/** Throws with one sentence. Null: help was asked for. */
function readArguments(args: readonly string[]): (RunOptions & { readonly json: string | undefined }) | null {
  const { values } = parseArgs({ args: [...args], options: FLAGS });
  if (values.help) return null;
  const trips = count('trips', values.trips, TRIPS, MOST_TRIPS);
  const own = [values.kernel, values.initrd, values.bios];
  if (own.some((file) => file !== undefined) && own.includes(undefined)) {
    throw new Error('--kernel, --initrd and --bios come together');
  }
  if (values.two && (values.load || values.save || values.nopv)) {
    throw new Error('--two goes with neither --save, --load nor --nopv');
  }
  return {
    cache: CACHE,
    fifo: values.fifo ?? false,
    disk: values.disk ?? false,
    two: values.two ?? false,
    nopv: values.nopv ?? false,
    shell: values.shell ?? false,
    verbose: values.verbose ?? false,
    compare: count('compare', values.compare, 0, MOST_PAIRS),
    trips,
    save: values.save ?? null,
    load: values.load ?? null,
    own: ownFiles(values),
    json: values.json,
    print: (text) => process.stdout.write(text),
  };
}

function count(name: string, value: string | undefined, otherwise: number, most: number): number {
  if (value === undefined) return otherwise;
  const n = Number(value);
  if (!Number.isInteger(n) || n < 1 || n > most) {
    throw new Error(`--${name} is ${value}, allowed are integers from 1 to ${most}`);
  }
  return n;
}

function ownFiles(values: { kernel?: string; initrd?: string; bios?: string; 'vga-bios'?: string }): RunOptions['own'] {
  const { kernel, initrd, bios, 'vga-bios': vgaBios } = values;
  if (kernel === undefined || initrd === undefined || bios === undefined) return null;
  return {
    kernel: readFileSync(kernel),
    initrd: readFileSync(initrd),
    bios: readFileSync(bios),
    vgaBios: vgaBios === undefined ? new Uint8Array(0) : readFileSync(vgaBios),
  };
}

async function main(): Promise<number> {
  let options: ReturnType<typeof readArguments>;
  try {
    options = readArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`npm run linux: ${(error as Error).message}; see npm run linux -- --help`);
    return 2;
  }
  if (options === null) {
    console.log(USAGE);
    return 0;
  }
  try {
    const report = await run(options);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
    return report.ok ? 0 : 1;
  } catch (error) {
    if (!(error instanceof NoPackages || error instanceof EvtchnError)) throw error;
    console.error(`npm run linux: ${error.message}`);
    return 2;
  }
}

process.exit(await main());
