// Arguments of calls as JSON, so that a sequence can be printed, kept and replayed: what JSON has stands as it is, the rest are
// strings that begin with $. Linear offsets are relative to the guest-RAM window: a region that grows leaves a sequence as it is.

export type Value = number | string | boolean | null | readonly Value[] | { readonly [key: string]: Value };

/** A call: the name of an operation and its arguments. */
export type Call = readonly [operation: string, ...args: Value[]];

const NAMED: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['$undefined', undefined],
  ['$NaN', Number.NaN],
  ['$Infinity', Number.POSITIVE_INFINITY],
  ['$-Infinity', Number.NEGATIVE_INFINITY],
  ['$-0', -0],
]);

/** A bigint. */
export function big(value: bigint): string {
  return `$n${value}`;
}

/** The linear offset of guest-physical address 0, plus `offset`. */
export function fromGuest(offset: number): string {
  return `$g${offset}`;
}

/** One field of a structure: its offset, and its bytes in hexadecimal digits or a value of 64 bits from `fromGuest`. */
export type Patch = readonly [at: number, bytes: string];

/** `size` bytes of `fill` with some fields in them. */
export function bytes(size: number, patches: readonly Patch[] = [], fill = 0): string {
  return `$b${size}/${fill}${patches.map(([at, digits]) => `,${at}=${digits}`).join('')}`;
}

/** `value` as `length` bytes, lowest first. */
export function little(value: bigint, length: number): string {
  let digits = '';
  for (let i = 0; i < length; i++) {
    digits += ((value >> BigInt(8 * i)) & 0xffn).toString(16).padStart(2, '0');
  }
  return digits;
}

/**
 * What a value stands for, in a VM whose guest RAM begins at `guestBase`. What is resolved already stays: calls inside calls are
 * resolved with the outer one.
 */
export function resolve(value: unknown, guestBase: number): unknown {
  if (typeof value === 'string') return value.startsWith('$') ? named(value, guestBase) : value;
  if (Array.isArray(value)) return value.map((item: unknown) => resolve(item, guestBase));
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, guestBase)]));
}

function named(text: string, guestBase: number): unknown {
  if (NAMED.has(text)) return NAMED.get(text);
  const rest = text.slice(2);
  if (text.startsWith('$g')) return guestBase + Number(rest);
  if (text.startsWith('$n')) return BigInt(rest);
  if (text.startsWith('$b')) return structure(rest, guestBase);
  throw new Error(`${text} is no value`);
}

function structure(text: string, guestBase: number): Uint8Array {
  const [head = '', ...patches] = text.split(',');
  const [size = '0', fill = '0'] = head.split('/');
  const built = new Uint8Array(Number(size)).fill(Number(fill));
  for (const patch of patches) {
    const [at = '0', digits = ''] = patch.split('=');
    const field = digits.startsWith('$g') ? little(BigInt(guestBase) + BigInt(digits.slice(2)), 8) : digits;
    for (let i = 0; 2 * i < field.length; i++) {
      const to = Number(at) + i;
      if (to < built.length) built[to] = Number.parseInt(field.slice(2 * i, 2 * i + 2), 16);
    }
  }
  return built;
}
