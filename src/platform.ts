// An unfit platform is refused at start, with the name of what it gets wrong. [R19] Takes well under 20 ms, once per kind
// of memory, on memory of its own.

import { EvtchnError } from './errors.ts';
import type { Kernel } from './kernel.ts';

/** One thing the engine relies on. @internal */
export interface Probe {
  readonly name: string;
  /** only where it can be tried */
  readonly shared?: boolean;
  readonly blocking?: boolean;
  /** @returns what the platform did; compared with `expected` */
  run(platform: Platform): number;
  readonly expected: number;
}

/** Two instances over one memory, and an address in it that nothing else uses. @internal */
export interface Platform {
  readonly memory: WebAssembly.Memory;
  readonly scratch: number;
  readonly first: Kernel;
  readonly second: Kernel;
}

const WASM_PAGE = 65536;
/** Addresses from here on have the sign bit of an i32. */
const HIGH = 2 ** 31;

/** @internal */
export const PROBES: readonly Probe[] = [
  {
    name: 'narrow loads zero-extend, and a narrow variable keeps its sign',
    run: ({ first, scratch }) => first.probeNarrowLoads(scratch),
    expected: 0xff + 0xffff + 1,
  },
  {
    name: 'read-modify-writes of 8, 32 and 64 bits return the old value and change their own bytes',
    run: ({ first, scratch }) => first.probeReadModifyWrite(scratch),
    expected: 0x7f,
  },
  {
    name: 'a misaligned atomic traps',
    shared: true,
    run: ({ first, scratch }) => traps(() => first.probeMisaligned(scratch)),
    expected: 1,
  },
  {
    name: 'wait answers 1 when the word differs and 2 when time runs out, and a notify that meets nobody answers 0',
    shared: true,
    blocking: true,
    run: ({ first, scratch }) => {
      first.probeExchange(scratch, 1);
      const differs = first.probeWait(scratch, 0, 0);
      const timedOut = first.probeWait(scratch, 1, 1000);
      return differs + timedOut * 10 + first.probeNotify(scratch) * 100;
    },
    expected: 21,
  },
  {
    name: 'two instances and JavaScript see one memory',
    run: ({ first, second, memory, scratch }) => {
      first.probeExchange(scratch, 0x12345678);
      const seen = second.probeExchange(scratch, 0x0badcafe);
      return seen ^ Atomics.load(new Int32Array(memory.buffer), scratch / 4);
    },
    expected: 0x12345678 ^ 0x0badcafe,
  },
];

function traps(call: () => unknown): number {
  try {
    call();
    return 0;
  } catch (error) {
    return error instanceof WebAssembly.RuntimeError ? 1 : 2;
  }
}

/** Whether this thread may sleep: not the main thread of a browser. @internal */
export function canBlock(): boolean {
  blocks ??= tryToBlock();
  return blocks;
}

let blocks: boolean | undefined;

function tryToBlock(): boolean {
  try {
    // A shared memory of wasm, because the global SharedArrayBuffer is missing where a page is not isolated.
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    Atomics.wait(new Int32Array(buffer), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

const fit = new Set<string>();

/**
 * Runs the probes, once for each kind of memory; for a memory of more than 2 GiB at an address above that.
 * Throws ENOSYS with the name of the first that fails. @internal
 */
export function selfTest(
  shared: boolean,
  bytes: number,
  link: (memory: WebAssembly.Memory) => Kernel,
  probes: readonly Probe[] = PROBES,
): void {
  const high = bytes > HIGH;
  const kind = `${shared} ${high}`;
  if (probes === PROBES && fit.has(kind)) return;
  const base = high ? HIGH : 0;
  const pages = base / WASM_PAGE + 1;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  const platform = { memory, scratch: base + 1024, first: link(memory), second: link(memory) };
  for (const probe of probes) {
    if ((probe.shared && !shared) || (probe.blocking && !canBlock())) continue;
    const found = probe.run(platform);
    if (found !== probe.expected) {
      throw new EvtchnError(
        'ENOSYS',
        `this platform cannot run the engine: expected that ${probe.name}, but at address ${platform.scratch} the probe gave ${found} instead of ${probe.expected}`,
      );
    }
  }
  if (probes === PROBES) fit.add(kind);
}
