// Choices by a seed, and the values that a grammar is made of: mostly small and useful, often at a limit, sometimes nonsense.

import { random } from '../support.ts';
import { big, bytes, fromGuest, little, type Patch, type Value } from './value.ts';

const PAGE = 4096;
/** Pages of guest RAM in every world. */
export const PAGES = 12;
/** A guest address above 4 GiB, and one near: places for further slots. */
export const HIGH = 2 ** 33;
export const NEAR = 2 ** 20;

const EDGES = [
  0,
  1,
  -1,
  2,
  255,
  256,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  -(2 ** 31),
];
const NO_INTEGERS = ['$NaN', 0.5, -0.5, 1.5, '$Infinity', '$-Infinity', 2 ** 53, 2 ** 64, '$-0'];
/** What TypeScript refuses and JavaScript lets through. */
const STRANGE = ['$undefined', null, '5', '', true, {}, [], '$n5', 'x'];
const WIDE = [
  0n,
  1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 52n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
  2n ** 64n,
  -1n,
];
const OFFSETS = [
  0, 0, 0, 1, 4, 7, 8, 56, 60, 64, 128, 0x800, 0xc00, 0xfc0, 0xfc1, 0xfd0, 0xfe0, 0xfe1, 0xff0, 0xff8, 0xfff,
];
const PORTS = [
  0,
  1,
  31,
  32,
  33,
  63,
  64,
  65,
  1022,
  1023,
  1024,
  1025,
  4094,
  4095,
  4096,
  4097,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32 + 5,
];

/** Ports that are met again and again, so that what one call does to a port another one finds. */
const HOT_PORTS = [1, 5, 9, 21, 40, 64];

/** A source of choices that its seed decides. */
export class Chance {
  readonly int: (n: number) => number;

  constructor(seed: number) {
    // Seeds beside each other begin far apart.
    this.int = random(Math.imul(seed + 1, 0x9e3779b1) ^ (seed >>> 3) ^ 0x2545f491);
    for (let i = 0; i < 4; i++) this.int(2);
  }

  /** True once in `n` times. */
  once(n: number): boolean {
    return this.int(n) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(from.length)] as T;
  }

  /** Nonsense in place of a value, once in a while. */
  or(value: Value): Value {
    return this.once(40) ? this.nonsense() : value;
  }

  nonsense(): Value {
    if (this.once(3)) return this.pick(STRANGE);
    return this.once(2) ? this.pick(NO_INTEGERS) : this.pick(EDGES);
  }

  /** An integer in 0..n-1, sometimes a neighbour of its limits. */
  index(n: number): Value {
    return this.or(this.once(12) ? this.pick([-1, n, n + 1]) : this.int(n));
  }

  /** A number of 32 bits, at an edge as often as not. */
  u32(): Value {
    return this.or(this.once(2) ? this.pick(EDGES) : this.int(2 ** 31));
  }

  flag(): Value {
    return this.or(this.once(2));
  }

  /** A u64. */
  wide(): Value {
    if (this.once(16)) return this.nonsense();
    if (this.once(2)) return big(this.pick(WIDE));
    return big(BigInt(this.int(2 ** 30)) << BigInt(this.int(34)));
  }

  /** A span or a time that something small fits into. */
  soon(): Value {
    return this.once(5) ? this.wide() : big(BigInt(this.int(2_000_000)));
  }

  port(): Value {
    if (this.once(8)) return this.or(this.pick(PORTS));
    if (!this.once(3)) return this.pick(HOT_PORTS);
    return this.or(this.once(3) ? 1 + this.int(4095) : 1 + this.int(70));
  }

  ports(most: number): Value {
    return Array.from({ length: this.int(most + 1) }, () => this.port());
  }

  /** A page of guest RAM, or next to it. */
  gfn(): Value {
    if (this.once(10)) return this.pick([PAGES, HIGH / PAGE, NEAR / PAGE, 2 ** 40, 2 ** 41 - 1, 2 ** 41]);
    return this.or(this.once(2) ? 1 : this.int(PAGES));
  }

  gpa(): Value {
    if (this.once(12))
      return this.pick([PAGES * PAGE - 1, PAGES * PAGE, 2 ** 52 - PAGE, 2 ** 52, 2 ** 53 - 1, 2 ** 53]);
    const page = this.once(8) ? this.pick([HIGH, HIGH + PAGE, NEAR]) : this.int(PAGES) * PAGE;
    return this.or(page + (this.once(6) ? this.int(PAGE) : this.pick(OFFSETS)));
  }

  pageAddress(): Value {
    if (this.once(12)) return this.gpa();
    return this.once(5) ? this.pick([HIGH, HIGH + PAGE, NEAR]) : this.int(PAGES) * PAGE;
  }

  hva(): Value {
    if (this.once(12))
      return this.pick([0, PAGE, 2 ** 47 - PAGE, 2 ** 47 - 4097, 2 ** 47, fromGuest(-PAGE), fromGuest(-1)]);
    return this.or(fromGuest(this.int(PAGES + 1) * PAGE + (this.once(6) ? this.int(PAGE) : this.pick(OFFSETS))));
  }

  hostPage(): Value {
    if (this.once(14)) return this.hva();
    return fromGuest((this.int(PAGES + 2) - 1) * PAGE);
  }

  timeout(): Value {
    return this.pick([0, 0, 1, 1000, 0.5, '$undefined', '$Infinity', 2 ** 53, -1, '$NaN', '5', null]);
  }

  /** Guest bytes: a field of some width that is at an edge, or noise. */
  noise(): string {
    const width = this.pick([1, 2, 4, 8, 16, 64]);
    if (this.once(2)) return this.pick(['00', 'ff', '80', '7f', '01', 'fe']).repeat(width);
    return Array.from({ length: width }, () => this.int(256).toString(16).padStart(2, '0')).join('');
  }

  /** A structure with fields of 1, 2, 4 or 8 bytes, sometimes of a wrong length or with bytes where none belong. */
  structure(size: number, fields: readonly Patch[]): Value {
    const patches = [...fields];
    while (this.once(6)) patches.push([this.int(size || 1), this.noise()]);
    const length = this.once(16) ? this.pick([0, size - 1, size + 1, size * 2, 4096, 1]) : size;
    return bytes(Math.max(length, 0), patches, this.once(10) ? this.pick([255, 165, 1]) : 0);
  }

  /** A field of `width` bytes: one of `usual`, or an edge of the width. */
  field(at: number, width: number, usual: readonly number[]): Patch {
    const edges = [0n, 1n, 1n << BigInt(8 * width - 1), (1n << BigInt(8 * width)) - 1n, (1n << BigInt(8 * width)) - 2n];
    const value = this.once(5) || usual.length === 0 ? this.pick(edges) : BigInt(this.pick(usual));
    return [at, little(BigInt.asUintN(8 * width, value), width)];
  }
}
