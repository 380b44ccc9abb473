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

/** Two instances over one memory of a page. @internal */
export interface Platform {
  readonly memory: WebAssembly.Memory;
  readonly first: Kernel;
  readonly second: Kernel;
}

const SCRATCH = 1024;

/** @internal */
export const PROBES: readonly Probe[] = [
  {
    name: 'narrow loads zero-extend, and a narrow variable keeps its sign',
    run: ({ first }) => first.probeNarrowLoads(SCRATCH),
    expected: 0xff + 0xffff + 1,
  },
  {
    name: 'read-modify-writes of 8, 32 and 64 bits return the old value and change their own bytes',
    run: ({ first }) => first.probeReadModifyWrite(SCRATCH),
    expected: 0x7f,
  },
  {
    name: 'a misaligned atomic traps',
    shared: true,
    run: ({ first }) => traps(() => first.probeMisaligned(SCRATCH)),
    expected: 1,
  },
  {
    name: 'wait answers 1 when the word differs and 2 when time runs out, and a notify that meets nobody answers 0',
    shared: true,
    blocking: true,
    run: ({ first }) => {
      first.probeExchange(SCRATCH, 1);
      const differs = first.probeWait(SCRATCH, 0, 0);
      const timedOut = first.probeWait(SCRATCH, 1, 1000);
      return differs + timedOut * 10 + first.probeNotify(SCRATCH) * 100;
    },
    expected: 21,
  },
  {
    name: 'two instances and JavaScript see one memory',
    run: ({ first, second, memory }) => {
      first.probeExchange(SCRATCH, 0x12345678);
      const seen = second.probeExchange(SCRATCH, 0x0badcafe);
      return seen ^ Atomics.load(new Int32Array(memory.buffer), SCRATCH / 4);
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

/** Whether this thread may sleep: not on the main thread of a browser. @internal */
export function canBlock(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

const fit = new Set<boolean>();

/** Runs the probes once for each kind of memory. Throws ENOSYS with the name of the first that fails. @internal */
export function selfTest(
  shared: boolean,
  link: (memory: WebAssembly.Memory) => Kernel,
  probes: readonly Probe[] = PROBES,
): void {
  if (probes === PROBES && fit.has(shared)) return;
  const memory = new WebAssembly.Memory(shared ? { initial: 1, maximum: 1, shared } : { initial: 1, maximum: 1 });
  const platform = { memory, first: link(memory), second: link(memory) };
  const blocks = canBlock();
  for (const probe of probes) {
    if ((probe.shared && !shared) || (probe.blocking && !blocks)) continue;
    const found = probe.run(platform);
    if (found !== probe.expected) {
      throw new EvtchnError(
        'ENOSYS',
        `this platform cannot run the engine: expected that ${probe.name}, but the probe gave ${found} instead of ${probe.expected}`,
      );
    }
  }
  if (probes === PROBES) fit.add(shared);
}
