// The probes on a platform that gets one thing wrong: a word that is another than the access before it left shows in the answer.

import { describe, expect, test } from 'vitest';
import { STEP_STORE } from '../../src/abi/step.ts';
import type { Kernel } from '../../src/kernel.ts';
import { instantiateKernel } from '../../src/kernel.ts';
import { traceOf } from '../spec/evidence.ts';

const SCRATCH = 64;

/** Runs a probe; before its step `wrong` the first byte of what is accessed there changes. @returns its answer and its steps */
function probe(shared: boolean, wrong: number, run: (kernel: Kernel) => number): { answer: number; steps: number[] } {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared });
  const bytes = new Uint8Array(memory.buffer);
  const steps: number[] = [];
  const onStep = (kind: number, address: number): void => {
    if (steps.push(kind) - 1 === wrong) bytes[address] = (bytes[address] ?? 0) ^ 0x5a;
  };
  const { module, ...hooks } = traceOf(shared, { onStep });
  const answer = run(instantiateKernel(memory, module, hooks));
  return { answer, steps };
}

describe.each([true, false])('shared memory: %s', (shared) => {
  test.each([
    ['narrow loads', 0xff + 0xffff + 1, (kernel: Kernel) => kernel.probeNarrowLoads(SCRATCH)],
    ['read-modify-writes', 0x7f, (kernel: Kernel) => kernel.probeReadModifyWrite(SCRATCH)],
  ])('R19 %s: whatever access gets a wrong word, the answer says so', (_, right, run) => {
    const { answer, steps } = probe(shared, -1, run);
    expect(answer).toBe(right);
    const unnoticed = steps.filter((kind, step) => kind !== STEP_STORE && probe(shared, step, run).answer === right);
    expect(unnoticed).toEqual([]);
  });
});
