// Builds and loads the native peer. Without a compiler or Node's headers there is none, and the bench says so.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as errno from '../src/abi/errno.ts';
import * as region from '../src/abi/region.ts';
import * as runstate from '../src/abi/runstate.ts';
import * as sharedInfo from '../src/abi/shared_info.ts';
import * as vcpuInfo from '../src/abi/vcpu_info.ts';
import type { Guest } from './guest.ts';
import type { Variant } from './rounds.ts';

/** In the order of the enum in native.c. */
const OPERATIONS = [
  'nothing',
  'naive',
  'naiveSection',
  'look',
  'lookSection',
  'singleAgent',
  'combined',
  'byBit',
  'byWord',
  'runstate',
] as const;

export type Operation = (typeof OPERATIONS)[number];

type Run = (operation: number, memory: Uint8Array, targets: Uint32Array, ports: Int32Array) => number;

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SOURCE = join(ROOT, 'bench/native/native.c');
const ADDON = join(ROOT, 'build/native.node');

/** Builds the addon. @returns null, or why there is none */
export function buildNative(): string | null {
  const headers = join(dirname(process.execPath), '../include/node');
  if (!existsSync(join(headers, 'node_api.h'))) return `no Node headers in ${headers}`;
  mkdirSync(dirname(ADDON), { recursive: true });
  const constants = { ...errno, ...region, ...runstate, ...sharedInfo, ...vcpuInfo };
  const defines = Object.entries(constants).map(([name, value]) => `-D${name}=${value}`);
  const link = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : [];
  const flags = ['-O3', '-march=native', '-std=gnu11', '-shared', '-fPIC', ...link, `-I${headers}`, ...defines];
  let reason = 'no C compiler: none of cc, gcc, clang could be run';
  for (const compiler of [process.env['CC'], 'cc', 'gcc', 'clang']) {
    if (!compiler) continue;
    try {
      execFileSync(compiler, [...flags, SOURCE, '-o', ADDON], { stdio: ['ignore', 'ignore', 'pipe'] });
      return null;
    } catch (error) {
      const stderr = (error as { stderr?: Buffer }).stderr?.toString() ?? '';
      if (stderr) reason = `${compiler} failed: ${stderr.split('\n')[0]}`;
    }
  }
  return reason;
}

/** A vCPU to work on, and where an operation writes: a linear offset. */
export interface Target {
  readonly guest: Guest;
  readonly vcpu: number;
  readonly out: number;
}

/** The peers in C, or none. */
export class Native {
  readonly #run: Run | null;

  constructor(available: boolean) {
    this.#run = available ? (createRequire(import.meta.url)(ADDON) as { run: Run }).run : null;
  }

  /** The variant that does `operation` on every target; an empty list when there is no addon. */
  variant(
    name: string,
    operation: Operation,
    targets: readonly Target[],
    ports: Int32Array,
    events: number,
    reset: () => void,
  ): Variant[] {
    const run = this.#run;
    const first = targets[0];
    if (!run || !first) return [];
    const places = Uint32Array.from(
      targets.flatMap(({ guest, vcpu, out }) => [guest.vm.vmBase, guest.vm.agent, vcpu, out]),
    );
    const { bytes } = first.guest.at;
    const number = OPERATIONS.indexOf(operation);
    return [
      {
        name,
        events,
        reset,
        run: () => run(number, bytes, places, ports),
        empty: () => run(0, bytes, places, ports),
      },
    ];
  }
}

/** vCPU 0 of a guest. */
export function targetOf(guest: Guest, vcpu = 0): Target {
  return { guest, vcpu, out: guest.at.inbox << 2 };
}
