// Bugs that were real: found, shown in a few steps, and gone with what mended them. And the command that does it.

import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import {
  exhaust,
  exploreModule,
  minimise,
  PRESETS,
  replay,
  scheduleText,
  told,
  World,
} from '../../src/explore/index.ts';

const world = new World(exploreModule());
const MOST_STEPS = 20;

function evtchn(...args: readonly string[]): { readonly code: number; readonly output: string } {
  try {
    const output = execFileSync(process.execPath, ['dist/src/cli/main.js', ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
    return { code: 0, output };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { code: status, output: `${stdout}${stderr}` };
  }
}

describe.each(PRESETS)('$id: $title', (preset) => {
  test('R18 the bug is found, and its story has at most 20 steps', () => {
    const { finding } = exhaust(world, preset.broken());
    const shortest = minimise(world, preset.broken(), finding?.schedule ?? []);
    expect(shortest.fault).not.toBeNull();
    expect(shortest.steps.length).toBeGreaterThan(0);
    expect(shortest.steps.length).toBeLessThanOrEqual(MOST_STEPS);
    const again = replay(world, preset.broken(), shortest.schedule);
    expect(told(again.steps)).toEqual(told(shortest.steps));
    expect(scheduleText(again.schedule)).toBe(scheduleText(shortest.schedule));
  });

  test('R1 with the remedy every schedule is clean', () => {
    const { finding, complete } = exhaust(world, preset.fixed());
    expect(finding).toBeNull();
    expect(complete).toBe(true);
  });

  test('the command shows both', () => {
    const { code, output } = evtchn('explore', preset.id);
    expect(code).toBe(0);
    expect(output).toContain(preset.bug);
    expect(output).toMatch(/goes wrong: .*\n {2}1\. .*/);
    expect(output).toMatch(/clean: all [\d.* ^]+ schedules/);
    const schedule = /--replay (\S+)/.exec(output)?.[1] ?? '';
    expect(evtchn('explore', preset.id, '--replay', schedule).output).toContain('goes wrong');
  });
});

describe('the command evtchn', () => {
  test('names what there is', () => {
    const { code, output } = evtchn('explore', '--list');
    expect(code).toBe(0);
    for (const { id } of PRESETS) expect(output).toContain(id);
    expect(output).toContain('two-senders-same-port');
  });

  test('goes through a model, at random and completely, in either layout', () => {
    expect(evtchn('explore', 'upcall-same-port').output).toContain('(64-bit layout)\nclean: all 264 schedules');
    expect(evtchn('explore', 'upcall-same-port', '--compat').output).toContain(
      '(32-bit layout)\nclean: all 264 schedules',
    );
    expect(evtchn('explore', 'unmask', '--preemptions', '1').output).toContain('with at most 1 interruptions');
    expect(evtchn('explore', 'unmask', '--random', '50', '--seed', '3', '--changes', '2').output).toContain(
      'clean: 50 schedules at random, seed 3',
    );
  });

  test.each([
    [[], 'evtchn explore --list', 2],
    [['explode'], 'EINVAL: "explode" is no command', 2],
    [['explore', 'nothing'], 'EINVAL: there is no preset or model "nothing"', 2],
    [['explore', 'unmask', '--random', '-1'], "Option '--random' argument is ambiguous", 2],
    [['explore', 'unmask', '--random=1.5'], 'EINVAL: --random is 1.5', 2],
    [['explore', 'unmask', '--replay', 'x'], 'EINVAL: "x" is no part of a schedule', 2],
    [['explore', 'unmask', '--replay', 'a3.c!'], 'EINVAL: the schedule does not fit', 2],
    [['explore', 'unmask', '--what'], "Unknown option '--what'", 2],
  ])('%j is answered with a sentence', (args, sentence, expected) => {
    const { code, output } = evtchn(...args);
    expect(output).toContain(sentence);
    expect(code).toBe(expected);
  });
});
