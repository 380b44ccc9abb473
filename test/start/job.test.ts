import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type JobOptions, runJob } from '../../demo/start/job.ts';
import type { JobReport } from '../../demo/start/report.ts';
import { PLAIN } from '../../demo/start/terminal.ts';

const built = (path: string): URL => new URL(`../../dist/${path}.js`, import.meta.url);

const COST = [{ name: 'a send', ns: 6, ratio: 1 }];

describe('the job', () => {
  /** The job with few sends; what it prints and what it finds. */
  async function small(change: Partial<JobOptions> = {}): Promise<{ text: string; report: JobReport }> {
    const printed: string[] = [];
    const report = await runJob({
      sends: 5000,
      print: (line) => printed.push(line),
      status: { show: () => {}, clear: () => {} },
      paint: PLAIN,
      measureCost: async () => COST,
      files: { sender: built('demo/start/sender'), receiver: built('demo/start/receiver') },
      ...change,
    });
    return { text: printed.join('\n'), report };
  }

  test('prints three parts, a mark per line that must hold, and that all hold', async () => {
    const { text, report } = await small();
    expect(report.ok).toBe(true);
    expect(text.match(/✓/g)).toHaveLength(report.lines.length + 1);
    expect(text).not.toContain('✗');
    expect(text).toMatch(/1 {2}A real guest's events[\s\S]*2 {2}Two workers, one memory[\s\S]*3 {2}What it costs/);
    expect(text).toContain('✓ 3,693 raises, 71 of them coalesced');
    expect(text).toContain('✓ receiver sleeping: lost 0, invented 0');
    expect(text).toContain('✓ receiver spinning: lost 0, invented 0');
    expect(report.workers.map((row) => [row.mode, row.sends])).toEqual([
      ['sleeping', 5000],
      ['spinning', 5000],
    ]);
    expect(report.cost).toEqual(COST);
  });

  test('a part that throws is a line that does not hold; the other parts are still there', async () => {
    const { text, report } = await small({ measureCost: () => Promise.reject(new Error('no clock here')) });
    expect(report.ok).toBe(false);
    expect(text).toContain('✗ no clock here');
    expect(text).toMatch(/✗ 1 of \d+ lines does not hold/);
    expect(report.replay?.raises).toBe(3693);
    expect(report.workers).toHaveLength(2);
    expect(report.cost).toEqual([]);
  });

  test('a cost that was not measured is a line that does not hold', async () => {
    const { report } = await small({ measureCost: async () => [{ name: 'a send', ns: Number.NaN, ratio: 1 }] });
    expect(report.ok).toBe(false);
  });

  test('workers that do not start are lines that do not hold', async () => {
    const { text, report } = await small({ files: { sender: built('none'), receiver: built('demo/start/receiver') } });
    expect(report.ok).toBe(false);
    expect(text).toContain('✗ receiver sleeping: the sender failed: ');
  });
});

describe('npm start', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'evtchn-start-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  function start(args: readonly string[], nodeArgs: readonly string[] = []) {
    const main = fileURLToPath(built('demo/start/main'));
    return spawnSync(process.execPath, [...nodeArgs, main, ...args], { encoding: 'utf8' });
  }

  /** Node arguments that run a piece of JavaScript first. */
  const first = (code: string): string[] => ['--import', script(code)];
  const script = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`;

  /** The bench of the third part takes seconds and is not what is tested here. */
  const cost = script(`export const measureCost = async () => ${JSON.stringify(COST)};`);
  const resolve = script(`export const resolve = async (name, context, next) =>
    name === './cost.js' ? { url: '${cost}', shortCircuit: true } : next(name, context);`);
  const quick = first(`import { register } from 'node:module'; register(${JSON.stringify(resolve)});`);

  test('exit code 0, and the findings as JSON', () => {
    const file = join(folder, 'report.json');
    const { status, stdout } = start(['--sends', '5000', '--json', file], quick);
    expect(stdout).toContain('✓ All ');
    expect(status).toBe(0);
    const report: JobReport = JSON.parse(readFileSync(file, 'utf8'));
    expect(report).toMatchObject({
      ok: true,
      replay: { raises: 3693, coalesced: 71, upcalls: 3521, missed: 0, invented: 0, left: 0 },
    });
    expect(report.workers).toHaveLength(2);
    const keys = ['mode', 'sends', 'delivered', 'coalesced', 'lost', 'invented', 'wakes', 'eventsPerSecond'];
    for (const row of report.workers) expect(Object.keys(row)).toEqual(expect.arrayContaining(keys));
    expect(report.cost).toEqual(COST);
  });

  test('exit code 1 when a line does not hold: here an engine that loses the thousandth send', () => {
    const loses = `
      import { isMainThread } from 'node:worker_threads';
      import { Vm } from '${built('src/vm/vm').href}';
      const { send } = Vm.prototype;
      let sends = 0;
      if (isMainThread) Vm.prototype.send = function (port) { return ++sends === 1000 ? 1 : send.call(this, port); };`;
    const { status, stdout } = start(['--sends', '5000'], [...quick, ...first(loses)]);
    expect(stdout).toContain('✗ 1 missed, 0 invented');
    expect(stdout).toMatch(/✗ the first fault: record \d+ \((virq|remote)\): an upcall is due and not asked for/);
    expect(status).toBe(1);
  });

  test.each([
    [['--bogus'], "Unknown option '--bogus'"],
    [['report.json'], "Unexpected argument 'report.json'"],
    [['--json'], "Option '--json <value>' argument missing"],
    [['--json', '/nowhere/at/all/report.json'], '--json /nowhere/at/all/report.json cannot be written (ENOENT)'],
    [['--sends', '0'], '--sends is 0, allowed are integers from 1 to 2147483647'],
    [['--sends=many'], '--sends is many, allowed are integers from 1 to 2147483647'],
  ])('exit code 2 and one sentence for %j', (args, sentence) => {
    const { status, stdout, stderr } = start(args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toBe(`npm start: ${sentence}; see npm start -- --help\n`);
  });

  test('--help says what there is', () => {
    const { status, stdout } = start(['--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/--json FILE[\s\S]*--sends N/);
  });
});
