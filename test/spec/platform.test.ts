// An unfit platform is refused at start, with the name of what it gets wrong. [R19]

import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Kernel, kernelModule } from '../../src/kernel.ts';
import { canBlock, PROBES, type Probe, selfTest } from '../../src/platform.ts';
import { errorOf } from '../support.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A real kernel over a memory. */
function real(memory: WebAssembly.Memory, shared: boolean): Kernel {
  const env = { memory, kick: () => {} };
  return new WebAssembly.Instance(kernelModule(shared), { env }).exports as unknown as Kernel;
}

/** The probes as a list of its own, so that no earlier success is remembered. */
const probes = (): readonly Probe[] => [...PROBES];

/** The size of a memory without high addresses. */
const SMALL = 65536;

/** Runs the self-test on kernels of which something is broken. */
function runBroken(shared: boolean, broken: Partial<Kernel>, bytes = SMALL): () => void {
  return () => selfTest(shared, bytes, (memory) => ({ ...real(memory, shared), ...broken }), probes());
}

function expectRefused(run: () => void, name: RegExp): void {
  const error = errorOf(run);
  expect(error.code).toBe('ENOSYS');
  expect(error.message).toMatch(name);
  expect(error.message).toContain('this platform cannot run the engine');
}

const NARROW = /narrow loads zero-extend/;
const MODIFY = /read-modify-writes of 8, 32 and 64 bits/;
const MISALIGNED = /a misaligned atomic traps/;
const WAIT = /wait answers 1 when the word differs and 2 when time runs out/;
const MEMORY = /two instances and JavaScript see one memory/;

describe.each([true, false])('shared memory: %s', (shared) => {
  test('R19 this platform passes every probe', () => {
    expect(() => selfTest(shared, SMALL, (memory) => real(memory, shared), probes())).not.toThrow();
  });

  test.each([
    ['sign-extended', -1 + -1 + 1],
    ['a narrow variable that lost its sign', 0xff + 0xffff],
    ['nothing', 0],
  ])('R19 KF-83 narrow loads: %s', (_what, found) => {
    expectRefused(runBroken(shared, { probeNarrowLoads: () => found }), NARROW);
  });

  test.each([0, 1, 2, 3, 4, 5, 6])('R19 read-modify-write, item %i wrong', (item) => {
    expectRefused(runBroken(shared, { probeReadModifyWrite: () => 0x7f & ~(1 << item) }), MODIFY);
  });

  test('R19 the sentence has what the probe gave and what it should have given', () => {
    const error = errorOf(runBroken(shared, { probeReadModifyWrite: () => 0x3f }));
    expect(error.message).toContain('63');
    expect(error.message).toContain('127');
  });

  test('R19 KF-82 instances that do not see one memory', () => {
    let nth = 0;
    const strangers = (): void =>
      selfTest(
        shared,
        SMALL,
        (memory) => {
          const apart = new WebAssembly.Memory({ initial: 1, maximum: 1, shared });
          return real(nth++ ? apart : memory, shared);
        },
        probes(),
      );
    expectRefused(strangers, MEMORY);
  });

  test('R19 an instance whose stores do not reach JavaScript', () => {
    const apart = new WebAssembly.Memory({ initial: 1, maximum: 1, shared });
    expectRefused(() => selfTest(shared, SMALL, () => real(apart, shared), probes()), MEMORY);
  });

  test('R19 a failure is not remembered as a success, nor a success as a failure', () => {
    expectRefused(runBroken(shared, { probeNarrowLoads: () => 0 }), NARROW);
    expectRefused(runBroken(shared, { probeNarrowLoads: () => 0 }), NARROW);
    expect(() => selfTest(shared, SMALL, (memory) => real(memory, shared), probes())).not.toThrow();
  });

  test('R19 for a memory of more than 2 GiB the probes use an address above that, and say so', () => {
    const high = 2 ** 31 + 65536;
    let bytes = 0;
    const link = (memory: WebAssembly.Memory): Kernel => {
      bytes = memory.buffer.byteLength;
      return real(memory, shared);
    };
    expect(() => selfTest(shared, high, link, probes())).not.toThrow();
    expect(bytes).toBe(high);
    const error = errorOf(runBroken(shared, { probeReadModifyWrite: () => 0 }, high));
    expect(error.message).toContain(String(2 ** 31 + 1024));
  });

  test('R19 KF-83 a platform that breaks only above 2 GiB is refused for such a memory', () => {
    const link = (memory: WebAssembly.Memory): Kernel => {
      const kernel = real(memory, shared);
      const broken = (p: number): number => (p >>> 0 >= 2 ** 31 ? 0 : kernel.probeReadModifyWrite(p));
      return { ...kernel, probeReadModifyWrite: broken };
    };
    expect(() => selfTest(shared, SMALL, link, probes())).not.toThrow();
    expectRefused(() => selfTest(shared, 2 ** 31 + 65536, link, probes()), MODIFY);
  });

  test('R19 the probes stay on the memory that they were given', () => {
    const seen: WebAssembly.Memory[] = [];
    const link = (memory: WebAssembly.Memory): Kernel => {
      seen.push(memory);
      return real(memory, shared);
    };
    selfTest(shared, SMALL, link, probes());
    expect(new Set(seen).size).toBe(1);
    const bytes = new Uint8Array((seen[0] as WebAssembly.Memory).buffer);
    const touched = [...bytes.keys()].filter((at) => bytes[at] !== 0);
    expect(touched.every((at) => at >= 1024 && at < 1024 + 64)).toBe(true);
  });
});

describe('shared memory only', () => {
  test.each([
    ['answers', () => 0],
    [
      'throws something else',
      () => {
        throw new RangeError('not a trap');
      },
    ],
  ])('R19 KF-62 a misaligned atomic %s', (_what, probeMisaligned) => {
    expectRefused(runBroken(true, { probeMisaligned }), MISALIGNED);
  });

  test.each([
    ['a wait that sleeps although the word differs', { probeWait: () => 2 }],
    ['a wait that never times out', { probeWait: () => 1 }],
    ['a wait that says it was woken', { probeWait: () => 0 }],
    ['a notify that counts somebody', { probeNotify: () => 1 }],
  ])('R19 KF-87 %s', (_what, broken) => {
    expectRefused(runBroken(true, broken), WAIT);
  });

  test('R19 where a thread may not block the wait is not tried, and the rest is', async () => {
    // Whether it may is asked once: ask in modules that are loaded afresh.
    vi.resetModules();
    vi.spyOn(Atomics, 'wait').mockImplementation(() => {
      throw new TypeError('Atomics.wait cannot be called in this context');
    });
    const fresh = await import('../../src/platform.ts');
    expect(fresh.canBlock()).toBe(false);
    const run = (broken: Partial<Kernel>) => (): void =>
      fresh.selfTest(true, SMALL, (memory) => ({ ...real(memory, true), ...broken }), [...fresh.PROBES]);
    expect(run({ probeWait: () => 7 })).not.toThrow();
    expect(run({ probeMisaligned: () => 0 })).toThrow(MISALIGNED);
  });

  test('R19 in memory of a single agent neither is asked for', () => {
    expect(runBroken(false, { probeMisaligned: () => 0, probeWait: () => 7 })).not.toThrow();
  });
});

test('R19 every probe has a test above that breaks it', () => {
  const names = [NARROW, MODIFY, MISALIGNED, WAIT, MEMORY];
  for (const probe of PROBES) expect(names.filter((name) => name.test(probe.name)).length, probe.name).toBe(1);
  expect(PROBES.length).toBe(names.length);
});

test('R19 a platform that passed is not tried again', () => {
  let links = 0;
  const link = (memory: WebAssembly.Memory): Kernel => {
    links++;
    return real(memory, true);
  };
  selfTest(true, SMALL, link);
  const first = links;
  selfTest(true, SMALL, link);
  expect(links).toBe(first);
});

test('this thread may block, and is asked once', () => {
  expect(canBlock()).toBe(true);
  const wait = vi.spyOn(Atomics, 'wait');
  expect(canBlock()).toBe(true);
  expect(wait).not.toHaveBeenCalled();
});
