// Tables of boundary values. A table says what one field allows, what is said about the rest, and how it is set and read; from that
// every value at a limit is tried: what is allowed has to arrive, what is not has to leave the whole VM as it was.

import { inspect } from 'node:util';
import { expect } from 'vitest';
import type { ErrorCode } from '../../src/errors.ts';
import type { Vm } from '../../src/index.ts';
import { errorOf } from '../support.ts';
import { changes, stateBytes } from './evidence.ts';
import { STRANGE } from './values.ts';

/** What a value leads to: it is taken, or refused with this code. */
export type Verdict = 'taken' | ErrorCode;

/** One field. */
export interface Field {
  readonly name: string;
  /** what to try, the limits of the field and their neighbours among them */
  readonly values: readonly unknown[];
  verdict(value: unknown): Verdict;
  /** what a refusal names, besides the value; without it no sentence comes back */
  readonly limits?: readonly (string | number)[] | undefined;
  /** there is nothing that it refuses */
  readonly total?: boolean;
  /** what a VM needs for it */
  prepare?(vm: Vm): void;
  set(vm: Vm, value: unknown): void;
  /** how a value that was taken is read back; what it reads as, if not as itself */
  read?(vm: Vm): unknown;
  readsAs?(value: unknown): unknown;
  /**
   * Bytes that a refusal may change because the specification says so, as [from, length]: everything else has to stay. The field's
   * name has the requirement that says so.
   */
  readonly mayChange?: ((vm: Vm, code: ErrorCode) => readonly (readonly [at: number, length: number])[]) | undefined;
}

const U64 = 2n ** 64n;

/** The limits of every width, as numbers. */
export const EDGES = [
  0,
  1,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 52,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  2 ** 64,
];

/** The same as bigints, and what is no u64. */
export const WIDE_EDGES = [
  -1n,
  ...[
    0n,
    1n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 63n - 1n,
    2n ** 63n,
  ],
  U64 - 1n,
  U64,
];

/** Every value to try on a field of integers: limits, neighbours, the edges of every width, and what is no integer at all. */
export function numbers(...limits: readonly number[]): unknown[] {
  const near = limits.flatMap((limit) => [limit - 1, limit, limit + 1]);
  return [...new Set<unknown>([...near, ...EDGES, ...STRANGE])];
}

/** Whether it is an integer from `min` to `max`. */
export function isWithin(value: unknown, min: number, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;
}

/** An integer field: `min`..`max`, else EINVAL that names both. */
export function integer(min: number, max: number): Pick<Field, 'values' | 'verdict' | 'limits'> {
  return {
    values: numbers(min, max),
    verdict: (value) => (isWithin(value, min, max) ? 'taken' : 'EINVAL'),
    limits: [min, max],
  };
}

/** One of a list, else EINVAL. */
export function oneOf(...allowed: readonly unknown[]): Pick<Field, 'values' | 'verdict'> {
  return {
    values: [...new Set([...allowed, ...EDGES, ...STRANGE, false, true, ''])],
    verdict: (value) => (allowed.includes(value) ? 'taken' : 'EINVAL'),
  };
}

/**
 * Tries the whole table. Refusals share a VM: each leaves it as it was, byte for byte; where a change is allowed each gets its own, as
 * each value that is taken does.
 */
export function tryField(field: Field, fresh: () => Vm): void {
  const make = (): Vm => {
    const vm = fresh();
    field.prepare?.(vm);
    return vm;
  };
  const taken = field.values.filter((value) => field.verdict(value) === 'taken');
  const refused = field.values.filter((value) => field.verdict(value) !== 'taken');
  // A table that knows only one of the two proves little.
  expect(taken.length, 'values that are taken').toBeGreaterThan(0);
  expect(refused.length > 0, 'values that are refused').toBe(!field.total);
  for (const value of taken) tryTaken(field, make(), value);
  const vm = make();
  const saved = vm.snapshot({ ram: true });
  for (const value of refused) tryRefused(field, field.mayChange ? make() : vm, value);
  expect(Buffer.compare(vm.snapshot({ ram: true }), saved), 'the snapshot').toBe(0);
}

function tryTaken(field: Field, vm: Vm, value: unknown): void {
  field.set(vm, value);
  if (!field.read) return;
  expect(field.read(vm), `${field.name} ${inspect(value)}`).toEqual(field.readsAs ? field.readsAs(value) : value);
}

function tryRefused(field: Field, vm: Vm, value: unknown): void {
  const what = `${field.name} ${inspect(value)}`;
  const before = stateBytes(vm);
  const error = errorOf(() => field.set(vm, value));
  expect(error.code, what).toBe(field.verdict(value));
  for (const word of field.limits ? [...field.limits, String(value)] : [])
    expect(error.message, what).toContain(String(word));
  expectSame(before, stateBytes(vm), what, field.mayChange?.(vm, error.code) ?? []);
}

/** Nothing may differ but in the ranges given. */
export function expectSame(
  before: Uint8Array,
  after: Uint8Array,
  what: string,
  mayChange: readonly (readonly [at: number, length: number])[] = [],
): void {
  if (Buffer.compare(before, after) === 0) return;
  const others = changes(before, after).filter(
    ([at]) => !mayChange.some(([from, length]) => at >= from && at < from + length),
  );
  expect(others, what).toEqual([]);
}
