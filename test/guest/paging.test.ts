// The guest's page tables as the adapter walks them, in a memory without a processor: hostile ones included.

import { describe, expect, test } from 'vitest';
import { Words } from '../../src/memory/words.ts';
import { PageTables } from '../../src/v86/paging.ts';
import { random } from '../support.ts';

const GUEST = 0x10000;
const BYTES = 0x40000;
const CR0 = 580;
const CR3 = CR0 + 12;
const CR4 = CR0 + 16;
const PDPTES = 968;

const PAGING = 1 << 31;
const WRITE_PROTECT = 1 << 16;
const PSE = 1 << 4;
const PAE = 1 << 5;
const P = 1;
const W = 2;
const U = 4;
const PS = 1 << 7;

const READ = { write: false, user: false };
const WRITE = { write: true, user: false };
const USER = { write: false, user: true };

interface World {
  readonly tables: PageTables;
  readonly words: Words;
  entry(at: number, low: number, high?: number): void;
}

function world(cr0: number, cr4: number, cr3 = 0x1000): World {
  const words = new Words(new WebAssembly.Memory({ initial: 8 }));
  words.store(CR0, cr0);
  words.store(CR4, cr4);
  words.store(CR3, cr3);
  return {
    words,
    tables: new PageTables(words, GUEST, BYTES),
    entry(at, low, high) {
      words.store(GUEST + at, low);
      if (high !== undefined) words.store(GUEST + at + 4, high);
    },
  };
}

describe('addresses', () => {
  test('without paging are physical, as far as there is RAM', () => {
    const { tables } = world(1, 0);
    expect([0, BYTES - 1, BYTES, 2 ** 32 - 1].map((at) => tables.translate(at, READ))).toEqual([
      0,
      BYTES - 1,
      null,
      null,
    ]);
  });

  test('with two levels lead through directory and table', () => {
    const { tables, entry } = world(PAGING, 0);
    entry(0x1000 + 4 * 0x300, 0x2000 | P | W);
    entry(0x2000 + 4 * 5, 0x7000 | P | W);
    expect(tables.translate(0xc0005123, READ)).toBe(0x7123);
    expect(tables.translate(0xc0006123, READ)).toBeNull();
    expect(tables.translate(0xd0005123, READ)).toBeNull();
  });

  test('in large pages need their bit in CR4, or there is a table', () => {
    for (const [cr4, expected] of [
      [PSE, 0x12345],
      [0, 0x8345],
    ] as const) {
      const { tables, entry } = world(PAGING, cr4);
      entry(0x1000, 0 | P | W | PS);
      entry(4 * 0x12, 0x8000 | P | W);
      expect(tables.translate(0x12345, READ)).toBe(expected);
    }
  });

  test('with PAE go by the four entries that the processor keeps, whatever is in memory', () => {
    const { tables, entry, words } = world(PAGING, PAE);
    words.store(PDPTES + 8 * 3, 0x3000 | P);
    entry(0x3000 + 8 * 1, 0x4000 | P | W, 0);
    entry(0x4000 + 8 * 2, 0x9000 | P | W, 0x80000000 | 0);
    expect(tables.translate(0xc0202abc, READ)).toBe(0x9abc);
    expect(tables.translate(0x00202abc, READ)).toBeNull();
    entry(0x3000, 0 | P | W | PS, 0);
    expect(tables.translate(0xc0012345, READ)).toBe(0x12345);
    // Above 4 GiB there is no RAM.
    entry(0x4000 + 8 * 2, 0x9000 | P | W, 1);
    expect(tables.translate(0xc0202abc, READ)).toBeNull();
  });
});

describe('permission', () => {
  const made = (cr0: number): World => {
    const made = world(PAGING | cr0, 0);
    made.entry(0x1000, 0x2000 | P | W | U);
    made.entry(0x2000, 0x5000 | P);
    made.entry(0x2004, 0x6000 | P | U);
    made.entry(0x2008, 0x7000 | P | W | U);
    return made;
  };

  test('to write: read-only pages bind the kernel only if it says so', () => {
    expect(made(WRITE_PROTECT).tables.translate(0, WRITE)).toBeNull();
    expect(made(0).tables.translate(0, WRITE)).toBe(0x5000);
    expect(made(0).tables.translate(0x1000, { write: true, user: true })).toBeNull();
    expect(made(WRITE_PROTECT).tables.translate(0x2000, { write: true, user: true })).toBe(0x7000);
  });

  test('of user code ends at pages of the kernel', () => {
    const { tables } = made(0);
    expect([0, 0x1000, 0x2000].map((at) => tables.translate(at, USER))).toEqual([null, 0x6000, 0x7000]);
  });

  test('accessed and dirty are set as the processor sets them, and not on what is refused', () => {
    const { tables, words } = made(WRITE_PROTECT);
    const bits = (at: number): number => words.load(GUEST + at) & 0x60;
    tables.translate(0, WRITE);
    expect([bits(0x1000), bits(0x2000)]).toEqual([0, 0]);
    tables.translate(0, READ);
    expect([bits(0x1000), bits(0x2000)]).toEqual([0x20, 0x20]);
    tables.translate(0x2000, WRITE);
    expect([bits(0x1000), bits(0x2008)]).toEqual([0x20, 0x60]);
  });
});

test('R9 hostile tables: 20,000 walks through noise touch nothing outside RAM and end', () => {
  const next = random(7);
  const { tables, words } = world(PAGING, 0);
  for (let at = 0; at < BYTES; at += 4) words.store(GUEST + at, next(2 ** 32) | 0);
  const [before, behind] = [words.read(0, GUEST), words.read(GUEST + BYTES, 8 * 65536 - GUEST - BYTES)];
  for (let i = 0; i < 20_000; i++) {
    const cr4 = [0, PSE, PAE][next(3)] ?? 0;
    words.store(CR4, cr4);
    words.store(CR3, next(2 ** 32) | 0);
    for (let j = 0; j < 8; j++) words.store(PDPTES + 4 * j, next(2) ? next(2 ** 32) | 0 : 0);
    const found = tables.translate(next(2 ** 32), { write: next(2) === 1, user: next(2) === 1 });
    if (found !== null && !(found >= 0 && found < BYTES)) throw new Error(`led to ${found}`);
  }
  // Its registers lie in front of RAM.
  for (const [at, bytes] of [
    [CR0, 24],
    [PDPTES, 32],
  ] as const)
    before.set(words.read(at, bytes), at);
  expect(words.read(0, GUEST)).toEqual(before);
  expect(words.read(GUEST + BYTES, behind.length)).toEqual(behind);
});
