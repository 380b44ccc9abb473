// The number that keeps a kernel and a control plane of different contracts apart.

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fingerprint } from '../../src/abi/fingerprint.ts';
import { EvtchnError } from '../../src/errors.ts';
import { createVm } from '../../src/index.ts';
import { errorOf, kernelBytes } from '../support.ts';

const FOLDER = 'src/abi';
const SOURCE = readFileSync(`${FOLDER}/fingerprint.ts`, 'utf8');

/** Every constant of the contract, as the modules export them. */
async function constants(): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const file of readdirSync(FOLDER)) {
    if (file === 'fingerprint.ts') continue;
    const module: Record<string, unknown> = await import(`../../src/abi/${file.replace(/\.ts$/, '')}.ts`);
    for (const [name, value] of Object.entries(module)) found.set(name, value as number);
  }
  return found;
}

/** The function of the source text with other values for the constants: the text without its imports and types. */
function evaluator(source: string): (values: ReadonlyMap<string, number>) => number {
  const body = source
    .replaceAll(/import \{[^}]*\} from '[^']*';/g, '')
    .replaceAll(/: number/g, '')
    .replaceAll('export ', '');
  return (values) => new Function(...values.keys(), `${body}; return fingerprint();`)(...values.values()) as number;
}

const NAMES = await constants();
const evaluate = evaluator(SOURCE);

test('every export of src/abi is a number or the fingerprint itself', () => {
  expect([...NAMES].filter(([, value]) => typeof value !== 'number' || !Number.isInteger(value))).toEqual([]);
  expect(NAMES.size).toBeGreaterThan(150);
});

test('what the text declares is what the modules export', () => {
  const declared = readdirSync(FOLDER)
    .filter((file) => file !== 'fingerprint.ts')
    .flatMap((file) => [
      ...readFileSync(`${FOLDER}/${file}`, 'utf8').matchAll(/^export (?:const|let|function) (\w+)/gm),
    ])
    .map((match) => match[1]);
  expect(new Set(declared)).toEqual(new Set(NAMES.keys()));
  expect(declared.length).toBe(NAMES.size);
});

test('the list names every constant once', () => {
  const mixed = [...SOURCE.matchAll(/h = mix\(h, (\w+)\);/g)].map((match) => match[1] as string);
  expect(mixed.filter((name, i) => mixed.indexOf(name) !== i)).toEqual([]);
  expect(new Set(mixed)).toEqual(new Set(NAMES.keys()));
});

test('the evaluated text gives the number of the function', () => {
  expect(evaluate(NAMES)).toBe(fingerprint());
  expect(fingerprint()).toBeGreaterThanOrEqual(0);
  expect(fingerprint()).toBeLessThan(2 ** 32);
});

test.each([...NAMES.keys()])('%s changes it, up or down', (name) => {
  for (const step of [1, -1]) {
    const changed = new Map(NAMES).set(name, (NAMES.get(name) ?? 0) + step);
    expect(evaluate(changed)).not.toBe(fingerprint());
  }
});

test('two neighbours that trade values change it', () => {
  const same = [...SOURCE.matchAll(/h = mix\(h, (\w+)\);/g)].map((match) => match[1] as string);
  for (let i = 1; i < same.length; i++) {
    const [a, b] = [same[i - 1] as string, same[i] as string];
    if (NAMES.get(a) === NAMES.get(b)) continue;
    const traded = new Map(NAMES).set(a, NAMES.get(b) ?? 0).set(b, NAMES.get(a) ?? 0);
    expect(evaluate(traded), `${a} and ${b}`).not.toBe(fingerprint());
  }
});

describe.each(['shared', 'unshared', 'trace-shared', 'trace-unshared'] as const)('build/%s.wasm', (name) => {
  test('exports the number that the TypeScript computes', () => {
    const shared = !name.includes('unshared');
    const memory = new WebAssembly.Memory(shared ? { initial: 1, maximum: 1, shared } : { initial: 1 });
    const env = { memory, kick: () => {}, onStep: () => {}, onWait: () => 1 };
    const instance = new WebAssembly.Instance(new WebAssembly.Module(kernelBytes(name)), { env });
    expect((instance.exports['fingerprint'] as () => number)()).toBe(fingerprint());
  });
});

/** A module with nothing but `fingerprint(): f64`, which says `value`. */
function stranger(value: number): WebAssembly.Module {
  const number = new Uint8Array(new Float64Array([value]).buffer);
  const name = new TextEncoder().encode('fingerprint');
  return new WebAssembly.Module(
    new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...[1, 5, 1, 0x60, 0, 1, 0x7c],
      ...[3, 2, 1, 0],
      ...[7, name.length + 4, 1, name.length, ...name, 0, 0],
      ...[10, 13, 1, 11, 0, 0x44, ...number, 0x0b],
    ]),
  );
}

test('a kernel of another contract is refused, with both numbers, and writes nothing', () => {
  const memory = new WebAssembly.Memory({ initial: 8 });
  const place = { memory, guestBase: 0, guestPages: 8, regionBase: 0x10000 };
  const trace = { module: stranger(12345), onStep: () => {} };
  const error = errorOf(() => createVm({ ...place, agents: 1, trace }));
  expect(error).toBeInstanceOf(EvtchnError);
  expect(error.code).toBe('EINVAL');
  expect(error.message).toContain('12345');
  expect(error.message).toContain(String(fingerprint()));
  expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
});

test('a kernel of this contract is not refused for its number alone', () => {
  const memory = new WebAssembly.Memory({ initial: 8 });
  const place = { memory, guestBase: 0, guestPages: 0, regionBase: 0x10000 };
  const trace = { module: stranger(fingerprint()), onStep: () => {} };
  expect(createVm({ ...place, agents: 1, trace }).vcpus).toBe(1);
});
