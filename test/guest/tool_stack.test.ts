// The demo's tool stack without a guest: XenStore's tree, its transactions and watches; archives.

import { describe, expect, test } from 'vitest';
import { cpio } from '../../demo/linux/cpio.ts';
import { fetchPackages } from '../../demo/linux/packages.ts';
import { Store, StoreError } from '../../demo/linux/store.ts';

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
  return 'none';
}

describe('XenStore', () => {
  test('reads what was written, and says ENOENT and EINVAL', () => {
    const store = new Store();
    store.write('/a/b/c', 'x');
    expect([store.read('/a/b/c'), store.read('/a')]).toEqual(['x', '']);
    expect(store.list('/a')).toEqual(['b']);
    expect(codeOf(() => store.read('/a/z'))).toBe('ENOENT');
    for (const path of ['', 'a', '/a/', '//a', '/a b', `/${'x'.repeat(4000)}`]) {
      expect(codeOf(() => store.write(path, ''))).toBe('EINVAL');
    }
    store.remove('/a/b');
    expect(store.list('/a')).toEqual([]);
    expect(codeOf(() => store.remove('/'))).toBe('EINVAL');
    expect(codeOf(() => store.remove('/q/r'))).toBe('ENOENT');
  });

  test('a watch fires at once, at and below its path, and when what is above it goes', () => {
    const store = new Store();
    const fired: string[] = [];
    store.write('/a/b', '');
    const end = store.watch('/a/b', 't', (path, token) => fired.push(`${path} ${token}`));
    store.write('/a/b', '1');
    store.write('/a/b/c', '2');
    store.write('/a/bc', '3');
    store.write('/a', '4');
    store.remove('/a');
    end();
    store.write('/a/b', '5');
    expect(fired).toEqual(['/a/b t', '/a/b t', '/a/b/c t', '/a/b t']);
  });

  test('a transaction sees its own writes, fires at commit, and fails after another write', () => {
    const store = new Store();
    const fired: string[] = [];
    store.write('/a', '0');
    store.watch('/a', '', (path) => fired.push(path));
    const one = store.begin();
    store.write('/a', '1', one);
    expect([store.read('/a', one), store.read('/a'), fired.length]).toEqual(['1', '0', 1]);
    store.end(one, true);
    expect([store.read('/a'), fired.length]).toEqual(['1', 2]);
    const two = store.begin();
    store.write('/a', '2', two);
    store.write('/b', 'other');
    expect(codeOf(() => store.end(two, true))).toBe('EAGAIN');
    expect([store.read('/a'), fired.length]).toEqual(['1', 2]);
    const three = store.begin();
    store.write('/a', '3', three);
    store.end(three, false);
    expect(store.read('/a')).toBe('1');
    expect(codeOf(() => store.end(three, true))).toBe('ENOENT');
  });
});

test('without apt, one sentence says what is needed', () => {
  const { PATH } = process.env;
  process.env['PATH'] = '/nowhere';
  try {
    expect(() => fetchPackages('build/no-packages', () => {})).toThrow(
      /^the guest's software could not be fetched \(there is no apt-get\); .*--kernel, --initrd and --bios$/,
    );
  } finally {
    process.env['PATH'] = PATH;
  }
});

test('an archive has a header of 110 characters for each entry, all padded to 4 bytes, and ends with its trailer', () => {
  const bytes = cpio([
    { path: 'a', kind: 'folder' },
    { path: 'a/f', kind: 'file', bytes: new TextEncoder().encode('hello'), executable: true },
  ]);
  const text = new TextDecoder('latin1').decode(bytes);
  const at = text.indexOf('070701', 1);
  expect(bytes.length % 4).toBe(0);
  expect(at).toBe(112);
  expect(text.slice(at + 14, at + 22)).toBe('000081ed');
  expect(text.slice(at + 54, at + 62)).toBe('00000005');
  expect(text.slice(at + 110, at + 114)).toBe('a/f\0');
  expect(text.slice(at + 116, at + 121)).toBe('hello');
  expect(text).toMatch(/TRAILER!!!\0+$/);
});
