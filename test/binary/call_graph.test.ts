// Who calls whom in the shared release kernel: where it may sleep, and where it may not. [KF-31]

import binaryen from 'binaryen';
import { describe, expect, test } from 'vitest';
import { kernelBytes } from '../support.ts';

/** The text of each function, by its name; and the functions behind the exports. */
function disassemble(): { bodies: ReadonlyMap<string, string>; exported: ReadonlyMap<string, string> } {
  const module = binaryen.readBinary(kernelBytes('shared'));
  module.setFeatures(binaryen.Features.All);
  const wat = module.emitText();
  module.dispose();
  const bodies = new Map<string, string>();
  for (const part of wat.split(/^ \(func /m).slice(1)) bodies.set(part.match(/^\$\S+/)?.[0] ?? '', part);
  const exported = new Map<string, string>();
  for (const [, name, target] of wat.matchAll(/\(export "(\w+)" \(func (\$[^\s)]+)\)\)/g)) {
    exported.set(name as string, target as string);
  }
  return { bodies, exported };
}

const { bodies, exported } = disassemble();

function callees(name: string): string[] {
  return [...(bodies.get(name) ?? '').matchAll(/\(call (\$[^\s)]+)/g)].map((call) => call[1] as string);
}

/** Everything that can run inside a call of an export. */
function reachable(name: string): Set<string> {
  const seen = new Set<string>();
  const todo = [exported.get(name) ?? expect.fail(`there is no export ${name}`)];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    todo.push(...callees(next));
  }
  return seen;
}

function reaches(name: string, instruction: RegExp): boolean {
  return [...reachable(name)].some((callee) => instruction.test(bodies.get(callee) ?? ''));
}

const WAIT = /memory\.atomic\.wait/;
const NOTIFY = /memory\.atomic\.notify/;

describe('the call graph of the shared kernel', () => {
  test('KF-31 it is whole: every callee is a function of it, and nothing is called through a table', () => {
    expect(exported.size).toBeGreaterThan(40);
    for (const name of bodies.keys()) {
      for (const callee of callees(name)) expect(bodies.has(callee), callee).toBe(true);
      expect(bodies.get(name)).not.toMatch(/call_indirect|call_ref/);
    }
  });

  test.each([
    'send',
    'sendTo',
    'sendMany',
    'drain',
    'mask',
    'unmask',
    'flushShadow',
    'bindVcpu',
    'pollBegin',
    'unblock',
  ])('KF-31 %s can wake, but has no way to a sleep', (name) => {
    expect(reaches(name, WAIT)).toBe(false);
  });

  test('KF-31 two exports sleep, which are called for that: the sleep, and the self-test', () => {
    expect([...exported.keys()].filter((name) => reaches(name, WAIT)).sort()).toEqual(['probeWait', 'sleepOn']);
  });

  test('KF-31 the graph is followed: what wakes is found through calls', () => {
    const waking = [...exported.keys()].filter((name) => reaches(name, NOTIFY));
    expect(waking).toEqual(expect.arrayContaining(['send', 'sendTo', 'sendMany', 'unmask', 'bindVcpu', 'probeNotify']));
    expect(waking).not.toContain('mask');
    expect(waking).not.toContain('drain');
  });
});
