// The FIFO ABI's structures as Xen's headers have them, and our own part of the region for it. [XE-FF 4.1]

import { describe, expect, test } from 'vitest';
import * as fifo from '../../src/abi/fifo.ts';
import { GPC_SIZE, MAX_AGENTS, PORT_BOUND, PORT_VCPU_BITS } from '../../src/abi/region.ts';

const LINE = 64;

describe('XE-FF the guest’s structures', () => {
  test('event word: bits 31 PENDING, 30 MASKED, 29 LINKED, 28 BUSY, 16..0 LINK', () => {
    expect([fifo.EVENT_PENDING >>> 0, fifo.EVENT_MASKED, fifo.EVENT_LINKED, fifo.EVENT_BUSY]).toEqual([
      2 ** 31,
      2 ** 30,
      2 ** 29,
      2 ** 28,
    ]);
    expect([fifo.EVENT_LINK_BITS, fifo.EVENT_LINK_WIDTH]).toEqual([2 ** 17 - 1, 17]);
  });

  test('array: 1024 words in a page, 128 pages, 131072 ports', () => {
    expect([fifo.EVENT_WORDS_PER_PAGE, 1 << fifo.EVENT_WORDS_SHIFT]).toEqual([1024, 1024]);
    expect([fifo.EVENT_PAGES_MAX, fifo.PORTS_FIFO]).toEqual([128, 131072]);
    expect(fifo.EVENT_WORDS_PER_PAGE * fifo.EVENT_PAGES_MAX).toBe(fifo.PORTS_FIFO);
    expect(fifo.EVENT_WORDS_PER_PAGE * 4).toBe(4096);
  });

  test('control block: ready at 0, 16 heads from 8 on, 72 bytes', () => {
    expect([fifo.CONTROL_READY, fifo.CONTROL_HEAD, fifo.CONTROL_SIZE]).toEqual([0, 8, 72]);
    expect([fifo.FIFO_PRIORITIES, fifo.FIFO_PRIORITY_DEFAULT]).toEqual([16, 7]);
  });
});

describe('our part', () => {
  test('the fields of a record do not overlap, and it fits its size', () => {
    const header = [
      fifo.FIFO_PAGES,
      fifo.FIFO_CAPACITY,
      fifo.FIFO_LIMIT,
      fifo.FIFO_PORTS,
      fifo.FIFO_DROPPED,
      fifo.FIFO_REPAIR,
    ];
    expect(new Set(header).size).toBe(header.length);
    expect(Math.max(...header) + 4).toBeLessThanOrEqual(fifo.FIFO_PAGE_GPCS);
    expect(fifo.FIFO_VCPUS).toBe(fifo.FIFO_PAGE_GPCS + fifo.EVENT_PAGES_MAX * GPC_SIZE);
    const vcpu = [
      [fifo.FIFO_CONTROL_GPC, GPC_SIZE],
      [fifo.FIFO_QUEUES, 64],
      [fifo.FIFO_LOCAL_HEADS, 64],
      [fifo.FIFO_CONSUMER, 4],
      [fifo.FIFO_LOCAL_READY, 4],
    ] as const;
    vcpu.forEach(([at, bytes], i) => {
      expect(at + bytes).toBeLessThanOrEqual(vcpu[i + 1]?.[0] ?? fifo.FIFO_VCPU_SIZE);
    });
    expect([fifo.FIFO_PORT_ENTRY, fifo.FIFO_PORT_LAST, fifo.FIFO_PORT_SIZE]).toEqual([0, 4, 8]);
  });

  test('what senders write, what consumers write and what nobody writes often lie on lines of their own', () => {
    const line = (at: number): number => Math.floor(at / LINE);
    expect([fifo.FIFO_QUEUES % LINE, fifo.FIFO_VCPUS % LINE, fifo.FIFO_VCPU_SIZE % LINE]).toEqual([0, 0, 0]);
    expect(line(fifo.FIFO_CONTROL_GPC)).toBeLessThan(line(fifo.FIFO_QUEUES));
    expect(line(fifo.FIFO_LOCAL_HEADS)).toBeGreaterThan(line(fifo.FIFO_QUEUES + 63));
  });

  test('KF-73 KF-78 the bits of a word are the widths they need, and share none', () => {
    expect(fifo.QUEUE_TAIL_BITS).toBe(fifo.PORTS_FIFO - 1);
    expect((MAX_AGENTS << fifo.QUEUE_HOLDER_SHIFT) & ~fifo.QUEUE_HOLDER_BITS).toBe(0);
    const queue = [fifo.QUEUE_TAIL_BITS, fifo.QUEUE_HOLDER_BITS, -fifo.QUEUE_COUNT_ONE];
    const entry = [PORT_VCPU_BITS, PORT_BOUND, 15 << fifo.FIFO_PRIORITY_SHIFT, fifo.FIFO_SAVED];
    for (const fields of [queue, entry]) {
      expect(fields.reduce((all, bits) => all ^ bits)).toBe(fields.reduce((all, bits) => all | bits));
    }
    expect(fifo.FIFO_QUEUE_BITS).toBe(PORT_VCPU_BITS | (15 << fifo.FIFO_PRIORITY_SHIFT));
  });
});
