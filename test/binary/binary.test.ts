// What the release binaries may not contain, read from the binaries themselves. [R20]

import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import binaryen from 'binaryen';
import { describe, expect, test } from 'vitest';
import { createVm } from '../../src/index.ts';
import { kernelBytes } from '../support.ts';

function text(name: Parameters<typeof kernelBytes>[0]): string {
  const module = binaryen.readBinary(kernelBytes(name));
  module.setFeatures(binaryen.Features.All);
  const wat = module.emitText();
  module.dispose();
  return wat;
}

function importsOf(name: Parameters<typeof kernelBytes>[0]): string[] {
  return WebAssembly.Module.imports(new WebAssembly.Module(kernelBytes(name)))
    .map((i) => `${i.module}.${i.name}`)
    .sort();
}

describe.each(['shared', 'unshared'] as const)('R20 the %s release kernel', (name) => {
  const wat = text(name);

  test('has no data segment, start function, global, table or memory.grow', () => {
    expect(wat).not.toMatch(/\(data\b/);
    expect(wat).not.toMatch(/\(start\b/);
    expect(wat).not.toMatch(/\(global\b/);
    expect(wat).not.toMatch(/\(table\b|\(elem\b/);
    expect(wat).not.toMatch(/memory\.grow|memory\.fill|memory\.copy|memory\.init/);
  });

  test('imports the memory, and unshared the kick; nothing else', () => {
    expect(importsOf(name)).toEqual(name === 'shared' ? ['env.memory'] : ['env.kick', 'env.memory']);
  });

  test('is at most 12 kB when gzipped', () => {
    expect(gzipSync(kernelBytes(name), { level: 9 }).length).toBeLessThanOrEqual(12_000);
  });

  test('exports functions only, the same as the trace kernel', () => {
    const exportsOf = (kernel: Parameters<typeof kernelBytes>[0]): string[] =>
      WebAssembly.Module.exports(new WebAssembly.Module(kernelBytes(kernel))).map((e) => `${e.kind} ${e.name}`);
    expect(exportsOf(name).every((e) => e.startsWith('function '))).toBe(true);
    expect(exportsOf(name).sort()).toEqual(exportsOf(`trace-${name}`).sort());
  });

  test('exports exactly what the typed interface names', () => {
    const { kernel } = createVm({ shared: name === 'shared' });
    const source = kernelInterface();
    expect(Object.keys(kernel).sort()).toEqual(source.sort());
  });
});

describe('R20 accesses', () => {
  test('the shared kernel sleeps in one place and in its self-test', () => {
    expect(text('shared').match(/memory\.atomic\.wait32/g)).toHaveLength(2);
  });

  test('the unshared kernel has no atomic at all', () => {
    expect(text('unshared')).not.toMatch(/atomic/);
  });

  test('the trace kernels report their steps, the release kernels have no trace of it', () => {
    expect(importsOf('trace-shared')).toEqual(['env.memory', 'env.onStep', 'env.onWait']);
    expect(importsOf('trace-unshared')).toContain('env.onStep');
  });

  test('nothing but the list below stores plainly in the shared kernel', () => {
    expect(plainStores(text('shared'))).toEqual(PLAIN_STORES);
  });

  test('a word that is widened is never loaded with a sign by the optimiser', () => {
    // probeNarrowLoads widens -1 on purpose.
    expect(text('unshared').match(/i64\.load32_s/g)).toHaveLength(1);
  });
});

/**
 * Exported functions of the shared kernel with a store that is not atomic, and why each may: its own lists, counts and planes
 * (sendMany, sendRest, drain), its own record area (runstateRead, timeRead), or fields under a version or marker.
 */
const PLAIN_STORES = [
  'drain',
  'runstateEnter',
  'runstateRead',
  'runstateReplace',
  'runstateWrite',
  'sendMany',
  'sendRest',
  'timeRead',
  'timeWrite',
  'wallClockWrite',
];

/** Exported functions that reach a plain store, by following calls. */
function plainStores(wat: string): string[] {
  const bodies = new Map<string, string>();
  for (const part of wat.split(/^ \(func /m).slice(1)) bodies.set(part.match(/^\$\S+/)?.[0] ?? '', part);
  const reaches = (name: string, seen = new Set<string>()): boolean => {
    const body = bodies.get(name);
    if (body === undefined || seen.has(name)) return false;
    seen.add(name);
    if (/\(i(32|64)\.store/.test(body)) return true;
    return [...body.matchAll(/\(call (\$\S+)/g)].some((call) => reaches(call[1] ?? '', seen));
  };
  return [...wat.matchAll(/\(export "(\w+)" \(func (\$\S+)\)\)/g)]
    .filter((e) => reaches(e[2] ?? ''))
    .map((e) => e[1] ?? '')
    .sort();
}

/** Names of the methods of the Kernel interface, from its source. */
function kernelInterface(): string[] {
  const source = readFileSync('src/kernel.ts', 'utf8');
  const body = source.match(/export interface Kernel \{([\s\S]*?)\n\}/)?.[1] ?? '';
  return [...body.matchAll(/^ {2}(\w+)\(/gm)].map((m) => m[1] ?? '');
}
