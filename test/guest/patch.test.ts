// What becomes of a v86.wasm that is patched, and of one that cannot be.

import binaryen from 'binaryen';
import { V86 } from 'v86';
import { describe, expect, test } from 'vitest';
import { createXenMachine, patchV86 } from '../../src/v86/index.ts';
import { createXen } from '../../src/xen/index.ts';
import { errorOf } from '../support.ts';
import { patchedModule, plainWasm } from './tiny_guest.ts';

/** A module with functions of these names, each with `params` i32 parameters. */
function moduleWith(functions: Readonly<Record<string, number>>): Uint8Array {
  const module = new binaryen.Module();
  for (const [name, params] of Object.entries(functions)) {
    const type = binaryen.createType(Array.from({ length: params }, () => binaryen.i32));
    module.addFunction(name, type, binaryen.none, [], module.nop());
    module.addFunctionExport(name, name);
  }
  module.setMemory(1, 1);
  // Names are kept by their section.
  binaryen.setDebugInfo(true);
  const bytes = module.emitBinary();
  binaryen.setDebugInfo(false);
  module.dispose();
  return bytes;
}

const ALL = { instr_0FA2: 0, instr_0F30: 0, v86_3cpu10trigger_ud: 0, v86_3pic19pic_acknowledge_irq: 1 };

describe('R19 patching v86.wasm', () => {
  test('adds four imports, and changes no other import and no export', () => {
    const plain = new WebAssembly.Module(plainWasm());
    const patched = patchedModule();
    const imports = WebAssembly.Module.imports(patched);
    expect(
      imports
        .filter(({ module }) => module === 'xen')
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['cpuid', 'interrupt', 'ud', 'wrmsr']);
    const names = (all: readonly { readonly name: string }[]): string[] => all.map(({ name }) => name).sort();
    expect(names(imports.filter(({ module }) => module === 'env'))).toEqual(names(WebAssembly.Module.imports(plain)));
    expect(names(WebAssembly.Module.exports(patched))).toEqual(names(WebAssembly.Module.exports(plain)));
  });

  test('a module with all four functions is patched', () => {
    expect(patchV86(moduleWith(ALL), binaryen).length).toBeGreaterThan(0);
  });

  for (const missing of Object.keys(ALL)) {
    test(`one without ${missing} is refused, and the error names it and the version of v86`, () => {
      const rest = Object.fromEntries(Object.entries(ALL).filter(([name]) => name !== missing));
      const error = errorOf(() => patchV86(moduleWith(rest), binaryen));
      expect(error.code).toBe('EINVAL');
      expect(error.message).toContain(missing.replace('v86_', ''));
      expect(error.message).toMatch(/v86 0\.5\.462/);
    });
  }

  test('two functions with such a name, and one with other parameters, are refused', () => {
    const two = errorOf(() => patchV86(moduleWith({ ...ALL, other_3cpu10trigger_ud: 0 }), binaryen));
    expect(two.message).toContain('2 functions');
    const other = errorOf(() => patchV86(moduleWith({ ...ALL, instr_0FA2: 2 }), binaryen));
    expect(other.message).toContain('other parameters');
  });

  test('bytes that are no module are refused', () => {
    expect(errorOf(() => patchV86(new Uint8Array(100), binaryen)).code).toBe('EINVAL');
  });
});

describe('making a machine', () => {
  const base = { V86, xen: createXen(), memorySize: 1 << 20 };

  test('with a v86.wasm that is not patched, and no binaryen, is refused', async () => {
    await expect(createXenMachine({ ...base, wasm: plainWasm() })).rejects.toThrow(/EINVAL: v86.wasm is not patched/);
  });

  test('with a memory of a bad size is refused', async () => {
    for (const memorySize of [0, 1 << 19, (1 << 20) + 4096, 2 ** 31, 1.5, Number.NaN]) {
      await expect(createXenMachine({ ...base, wasm: patchedModule(), memorySize })).rejects.toThrow(/EINVAL/);
    }
  });

  test('with a domain id in use is refused, and the host has the first only', async () => {
    const made = await createXenMachine({ ...base, wasm: patchedModule(), domain: { domid: 3 } });
    await expect(createXenMachine({ ...base, wasm: patchedModule(), domain: { domid: 3 } })).rejects.toThrow(/EEXIST/);
    expect(base.xen.domains.map(({ domid }) => domid)).toEqual([3]);
    await made.destroy();
    expect(base.xen.domains).toEqual([]);
  });
});
