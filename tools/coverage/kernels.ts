// Kernels from changed sources: asc in this process, with other text in place of some files.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import asc from 'assemblyscript/asc';
import { type Branch, instrument } from './branches.ts';

export const KERNELS = ['shared', 'unshared', 'trace-shared', 'trace-unshared'] as const;
export type KernelName = (typeof KERNELS)[number];

/** Compiles one target of asconfig.json. `changed` has the text of the files that differ, by path. Throws what asc says. */
export async function compile(
  target: KernelName,
  changed: ReadonlyMap<string, string>,
  optimizeLevel = 1,
): Promise<Uint8Array> {
  let binary: Uint8Array | null = null;
  const { error, stderr } = await asc.main(['--target', target, '--optimizeLevel', String(optimizeLevel)], {
    readFile: (name, base) => changed.get(join(base, name)) ?? readOr(join(base, name)),
    writeFile: (_name, contents) => {
      if (typeof contents !== 'string') binary = contents;
    },
    listFiles: () => [],
  });
  if (error || binary === null) throw new Error(`${target}: ${stderr.toString()}`);
  return binary;
}

/** Writes all kernels with counters into `folder`. @returns their branches, by number */
export async function buildInstrumented(folder: string): Promise<readonly Branch[]> {
  const branches: Branch[] = [];
  const changed = new Map<string, string>();
  for (const file of sources()) {
    const { branches: found, text } = instrument(file, readFileSync(file, 'utf8'), branches.length);
    branches.push(...found);
    changed.set(file, text);
  }
  mkdirSync(folder, { recursive: true });
  for (const name of KERNELS) writeFileSync(join(folder, `${name}.wasm`), await compile(name, changed));
  return branches;
}

/** The files of assembly/, by path. */
export function sources(): string[] {
  return readdirSync('assembly')
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .sort()
    .map((name) => join('assembly', name));
}

function readOr(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
