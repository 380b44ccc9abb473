import { describe, expect, test } from 'vitest';
import type { ReplayResult } from '../../demo/start/replay.ts';
import {
  conclusion,
  costLine,
  costTable,
  type JobReport,
  mark,
  replayTable,
  sameLine,
  workerLines,
  workerTable,
} from '../../demo/start/report.ts';
import { COLORS, count, decimal, PLAIN, paintFor, statusOn, table } from '../../demo/start/terminal.ts';
import type { WorkerRow } from '../../demo/start/workers.ts';

const row: WorkerRow = {
  mode: 'sleeping',
  sends: 10_000_000,
  delivered: 9_000_000,
  coalesced: 1_000_000,
  refused: 0,
  drained: 9_000_000,
  lost: 0,
  invented: 0,
  upcalls: 12_345,
  wakes: 678,
  eventsPerSecond: 11_000_000,
  slowestMs: 3.4,
  handOvers: 9,
  failure: null,
};

const result: ReplayResult = {
  records: 3,
  raises: 1215,
  coalesced: 67,
  upcalls: 9,
  causes: { registration: 1, raise: 8, unmask: 0 },
  missed: 0,
  invented: 0,
  differences: 0,
  left: 0,
  ports: [
    { port: 0, kind: 'reserved', name: '', raises: 0, coalesced: 0, early: 0, drained: 0 },
    { port: 1, kind: 'interdomain', name: 'xenstore', raises: 1215, coalesced: 67, early: 1, drained: 1149 },
    { port: 4, kind: 'ipi', name: '', raises: 0, coalesced: 0, early: 0, drained: 0 },
  ],
  fault: null,
};

describe('tables', () => {
  test('numbers end and words begin in the same column, thousands are separated', () => {
    expect(replayTable(result, PLAIN)).toEqual([
      'port   kind          name       raises   coalesced   drained',
      '   1   interdomain   xenstore    1,215          67     1,149',
      '   4   ipi           -               0           0         0',
      '────────────────────────────────────────────────────────────',
      '                     all         1,215          67     1,149',
    ]);
  });

  test('a row per mode of the workers', () => {
    expect(workerTable([row], PLAIN)).toEqual([
      'receiver        sends   delivered   coalesced   upcalls   wakes     events/s',
      'sleeping   10,000,000   9,000,000   1,000,000    12,345     678   11,000,000',
    ]);
  });

  test('a row per cost', () => {
    expect(
      costTable(
        [
          { name: 'a send', ns: 6.345, ratio: 1 },
          { name: 'postMessage', ns: 1633.4, ratio: 258 },
        ],
        PLAIN,
      ),
    ).toEqual([
      '                    ns    ratio',
      'a send            6.35     1.00',
      'postMessage   1,633.40   258.00',
    ]);
  });

  test('paint changes no width', () => {
    const columns = [{ title: 'a' }, { title: 'b', numeric: true }];
    const painted = table(columns, [['x', '1'], []], COLORS).join('\n');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the escapes are what is taken away
    expect(painted.replace(/\x1b\[\d+m/g, '')).toBe(table(columns, [['x', '1'], []], PLAIN).join('\n'));
    expect(painted).not.toBe(table(columns, [['x', '1'], []], PLAIN).join('\n'));
  });

  test('numbers', () => {
    expect([count(0), count(1234567), decimal(1234.5, 1), decimal(2, 2)]).toEqual([
      '0',
      '1,234,567',
      '1,234.5',
      '2.00',
    ]);
  });
});

describe('lines that must hold', () => {
  const oks = (change: Partial<WorkerRow>): boolean[] => workerLines([{ ...row, ...change }]).map((line) => line.ok);

  test('a check mark or a cross', () => {
    expect(mark({ ok: true, text: 'fine' }, PLAIN)).toBe('✓ fine');
    expect(mark({ ok: false, text: 'not fine' }, PLAIN)).toBe('✗ not fine');
    expect(mark({ ok: false, text: 'not fine' }, COLORS)).toBe('\x1b[31m✗\x1b[0m \x1b[31mnot fine\x1b[0m');
  });

  test('of a worker row: nothing lost, nothing invented, and the books balance', () => {
    expect(oks({})).toEqual([true, true]);
    expect(oks({ lost: 1 })).toEqual([false, true]);
    expect(oks({ invented: 1 })).toEqual([false, true]);
    expect(oks({ delivered: 8_999_999 })).toEqual([false, true]);
    expect(oks({ drained: 8_999_999 })).toEqual([false, true]);
    expect(oks({ failure: 'nothing moved' })).toEqual([false, true]);
  });

  test('of the workers: a hand-over that takes as long as a lost wake-up', () => {
    expect(oks({ slowestMs: 1000.2 })).toEqual([true, false]);
  });

  test('of the two kinds of memory: the same numbers for every port', () => {
    expect(sameLine(result, structuredClone(result)).ok).toBe(true);
    const other = structuredClone(result);
    other.ports[1] = {
      ...other.ports[1],
      port: 1,
      kind: 'interdomain',
      name: 'xenstore',
      raises: 0,
      coalesced: 0,
      early: 0,
      drained: 0,
    };
    expect(sameLine(result, other).ok).toBe(false);
  });

  test('of the cost: rows, and each a finite positive number', () => {
    const fine = { name: 'a send', ns: 6, ratio: 1 };
    expect(costLine([fine]).ok).toBe(true);
    expect(costLine([])).toEqual({ ok: false, text: 'nothing was measured' });
    for (const wrong of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(costLine([fine, { name: 'b', ns: wrong, ratio: 1 }])).toEqual({ ok: false, text: 'not measured: b' });
      expect(costLine([{ name: 'b', ns: 1, ratio: wrong }]).ok).toBe(false);
    }
  });

  test('the last line counts those that do not', () => {
    const report: JobReport = {
      ok: true,
      replay: null,
      workers: [],
      cost: [],
      lines: [],
      seconds: 2.34,
      machine: 'v20',
    };
    const [good, bad] = [
      { ok: true, text: '' },
      { ok: false, text: '' },
    ];
    expect(conclusion({ ...report, lines: [good, good] }, PLAIN)).toBe('✓ All 2 lines hold. 2.3 s');
    expect(conclusion({ ...report, ok: false, lines: [good, bad] }, PLAIN)).toBe('✗ 1 of 2 lines does not hold. 2.3 s');
    expect(conclusion({ ...report, ok: false, lines: [bad, bad] }, PLAIN)).toBe('✗ 2 of 2 lines do not hold. 2.3 s');
  });
});

describe('the terminal', () => {
  function written(isTTY: boolean, columns = 40) {
    const text: string[] = [];
    const status = statusOn({ isTTY, columns, write: (part: string | Uint8Array) => text.push(String(part)) > 0 });
    return { status, text };
  }

  test('one status line is rewritten, cut to the width, and taken away', () => {
    const { status, text } = written(true, 20);
    status.show('receiver: 1 of 2 sends done');
    status.clear();
    expect(text).toEqual(['\r\x1b[2K  receiver: 1 of 2 ', '\r\x1b[2K']);
  });

  test('elsewhere a plain line each time something else begins', () => {
    const { status, text } = written(false);
    for (const progress of ['receiver: 1 of 2', 'receiver: 2 of 2', 'cost: single sends']) status.show(progress);
    status.clear();
    expect(text).toEqual(['  ... receiver\n', '  ... cost\n']);
  });

  test('colours only on a terminal, and not against NO_COLOR', () => {
    expect(paintFor({ isTTY: false })).toBe(PLAIN);
    const before = process.env['NO_COLOR'];
    process.env['NO_COLOR'] = '1';
    expect(paintFor({ isTTY: true })).toBe(PLAIN);
    delete process.env['NO_COLOR'];
    expect(paintFor({ isTTY: true })).toBe(COLORS);
    if (before !== undefined) process.env['NO_COLOR'] = before;
  });
});
