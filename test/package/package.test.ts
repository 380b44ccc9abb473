// The package as a user meets it: README's example, what importing does, what keeps a process alive.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

/** Runs a module that imports the package by its name; it has to lie inside the package for Node to find it. */
function run(name: string, source: string): { status: number | null; out: string; err: string } {
  mkdirSync('build/package-test', { recursive: true });
  const file = `build/package-test/${name}.mjs`;
  writeFileSync(file, source);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 20_000 });
  return { status, out: stdout, err: stderr };
}

describe('README', () => {
  test('its example runs and prints what its comments say', () => {
    const example = readFileSync('README.md', 'utf8').match(/```js\n([\s\S]*?)```/)?.[1] ?? '';
    const { status, out, err } = run('readme', example);
    expect(err).toBe('');
    expect(out).toBe('somebody wants us\nport 5\nsomebody wants us\nport 9\n');
    expect(status).toBe(0);
  });

  test('its results are what the comments say', () => {
    const example = readFileSync('README.md', 'utf8').match(/```js\n([\s\S]*?)```/)?.[1] ?? '';
    const promised = [...example.matchAll(/^(vm\.\w+\([^;]*\)); \/\/ (-?\d+)/gm)];
    expect(promised.length).toBeGreaterThanOrEqual(4);
    const checked = example.replace(
      /^(vm\.\w+\([^;]*\)); \/\/ (-?\d+)/gm,
      'if ($1 !== $2) throw new Error("$1 is not $2"); //',
    );
    expect(run('readme-checked', checked)).toMatchObject({ status: 0, err: '' });
  });
});

describe('importing', () => {
  test('does nothing: no handle, no global, no timer', () => {
    const { status, out } = run(
      'import',
      `const before = Object.getOwnPropertyNames(globalThis).sort().join();
       await import('evtchn');
       const after = Object.getOwnPropertyNames(globalThis).sort().join();
       console.log(before === after, process.getActiveResourcesInfo().filter((r) => /Timer|Worker|Message/.test(r)).length);`,
    );
    expect(out).toBe('true 0\n');
    expect(status).toBe(0);
  });

  test('the kernels are there as files, and the loader takes one that a user compiled', () => {
    const { out, err } = run(
      'files',
      `import { readFileSync } from 'node:fs';
       import { createRequire } from 'node:module';
       import { attachVm, createVm } from 'evtchn';
       const file = createRequire(import.meta.url).resolve('evtchn/shared.wasm');
       const vm = createVm();
       const other = attachVm({ ...vm.handle(), module: new WebAssembly.Module(readFileSync(file)) });
       console.log(other.send(7), vm.vcpu(0).drain());`,
    );
    expect(err).toBe('');
    expect(out).toBe('1 1\n');
  });

  test('what npm would publish has the library, its types and the kernels, and no tests', () => {
    const [pack] = JSON.parse(
      execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { encoding: 'utf8' }),
    );
    const files = pack.files.map((f: { path: string }) => f.path);
    for (const file of [
      'dist/src/index.js',
      'dist/src/index.d.ts',
      'build/shared.wasm',
      'build/unshared.wasm',
      'LICENSE',
      'README.md',
    ]) {
      expect(files).toContain(file);
    }
    expect(files.filter((f: string) => /test|bench|demo|node_modules/.test(f))).toEqual([]);
  });
});

describe('KF-88 the life of a process', () => {
  const waiting = (hold: string): string =>
    `import { createVm${hold ? ', holdEventLoop' : ''} } from 'evtchn';
     const vm = createVm(${hold ? '{ hold: holdEventLoop }' : ''});
     console.log(await vm.vcpu(0).waitAsync(300e6));`;

  test('with a hold, an asynchronous wait keeps it alive until it ends, and no longer', () => {
    expect(run('hold', waiting('hold'))).toMatchObject({ status: 0, out: 'timeout\n' });
  });

  test('without one, a process whose only work is a pending wait exits, as the doc says', () => {
    expect(run('no-hold', waiting(''))).toMatchObject({ status: 13, out: '' });
  });

  test('a VM that nobody waits for keeps nothing alive', () => {
    expect(run('idle', `import { createVm } from 'evtchn'; createVm().send(5);`)).toMatchObject({ status: 0 });
  });

  test('10^5 waits that are armed and settled leave nothing behind', () => {
    const { status, out } = run(
      'waits',
      `import { createVm, holdEventLoop } from 'evtchn';
       const vm = createVm({ hold: holdEventLoop });
       const vcpu = vm.vcpu(0);
       let events = 0;
       for (let i = 0; i < 100000; i++) {
         const wait = vcpu.waitAsync();
         vm.send(1 + (i % 4000));
         if ((await wait) === 'events') events++;
         vcpu.drain();
       }
       console.log(events, process.getActiveResourcesInfo().filter((r) => /Timeout/.test(r)).length);`,
    );
    expect(out).toBe('100000 0\n');
    expect(status).toBe(0);
  });
});
