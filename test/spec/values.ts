// Values that calls have to refuse.

/** What no integer range allows, whatever its limits. */
export const STRANGE = [
  -1,
  -(2 ** 31),
  2 ** 53,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  1.5,
  '5',
  null,
  undefined,
  {},
  [],
  true,
];

/** Values that are refused for a range, its nearest neighbours among them. */
export function outside(min: number, max: number, more: readonly unknown[] = [2 ** 31, 2 ** 32]): unknown[] {
  const near = [min - 1, max + 1, ...more].filter((value) => (value as number) < min || (value as number) > max);
  const strange = STRANGE.filter(
    (value) => typeof value !== 'number' || !(Number.isInteger(value) && value >= min && value <= max),
  );
  return [...new Set([...near, ...strange])];
}

export function show(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : typeof value === 'object' ? JSON.stringify(value) : String(value);
}

export const named = (values: readonly unknown[]): { name: string; value: unknown }[] =>
  values.map((value) => ({ name: show(value), value }));
