// v86.wasm made to ask before four of its functions run: whether the instruction or the interrupt is Xen's.
//
//   function                 hook            asked when
//   instr_0FA2               xen.cpuid       the guest executes CPUID
//   instr_0F30               xen.wrmsr       the guest executes WRMSR
//   ..trigger_ud             xen.ud          an opcode is invalid, as VMCALL is to v86
//   ..pic_acknowledge_irq    xen.interrupt   the guest can take an interrupt: IF is set, no STI shadow
//
// The first three hooks answer 1 when they have dealt with it: the function returns at once. The last answers a vector, or -1.

import { EvtchnError } from '../errors.ts';

/** The version of v86 that this was tried with; the functions are found by their names, so others may do. */
export const V86_VERSION = '0.5.462+g5f9a90f';

/** The module name of the imports that are added. @internal */
export const HOOK_MODULE = 'xen';

type Type = number;
type Expression = number;
type FunctionRef = number;

/** What is used of `binaryen`, the package: pass its default export. */
export interface Binaryen {
  readonly none: Type;
  readonly i32: Type;
  createType(types: Type[]): Type;
  readBinary(bytes: Uint8Array): BinaryenModule;
  getFunctionInfo(f: FunctionRef): { name: string; params: Type; results: Type; vars: Type[]; body: Expression };
}

/** A module of Binaryen's, as far as it is used. */
export interface BinaryenModule {
  getNumFunctions(): number;
  getFunctionByIndex(index: number): FunctionRef;
  addFunctionImport(name: string, module: string, base: string, params: Type, results: Type): void;
  addFunction(name: string, params: Type, results: Type, vars: Type[], body: Expression): FunctionRef;
  removeFunction(name: string): void;
  block(label: string | null, children: Expression[]): Expression;
  if(condition: Expression, ifTrue: Expression): Expression;
  call(name: string, operands: Expression[], type: Type): Expression;
  return(): Expression;
  readonly local: {
    get(index: number, type: Type): Expression;
    set(index: number, value: Expression): Expression;
    tee(index: number, value: Expression, type: Type): Expression;
  };
  readonly i32: {
    const(value: number): Expression;
    ge_s(left: Expression, right: Expression): Expression;
    store8(offset: number, align: number, address: Expression, value: Expression): Expression;
  };
  validate(): number;
  emitBinary(): Uint8Array;
  dispose(): void;
}

interface Patch {
  /** how the function's name ends; Rust's begin with a hash of the crate */
  readonly end: string;
  readonly hook: string;
  /** number of i32 parameters; none of the functions has a result */
  readonly params: number;
}

const PATCHES: readonly Patch[] = [
  { end: 'instr_0FA2', hook: 'cpuid', params: 0 },
  { end: 'instr_0F30', hook: 'wrmsr', params: 0 },
  { end: '3cpu10trigger_ud', hook: 'ud', params: 0 },
  // Its parameter is where the result goes, an Option<u8>: whether there is a vector, and the vector.
  { end: '3pic19pic_acknowledge_irq', hook: 'interrupt', params: 1 },
];

/**
 * Adds the hooks to v86.wasm. Takes about a second: keep the bytes, for `createXenMachine({ wasm })` takes them as well.
 * Throws EINVAL for bytes that are no v86.wasm, or one whose functions have other names or parameters.
 */
export function patchV86(wasm: Uint8Array, binaryen: Binaryen): Uint8Array<ArrayBuffer> {
  const module = readModule(wasm, binaryen);
  try {
    const names = functionNames(module, binaryen);
    for (const patch of PATCHES) apply(module, binaryen, patch, find(names, patch.end));
    if (!module.validate()) throw new EvtchnError('EINVAL', `the patched v86.wasm is invalid: ${tried()}`);
    return new Uint8Array(module.emitBinary());
  } finally {
    module.dispose();
  }
}

/** Whether bytes are a v86.wasm that `patchV86` has made. @internal */
export function isPatched(module: WebAssembly.Module): boolean {
  return WebAssembly.Module.imports(module).some((entry) => entry.module === HOOK_MODULE);
}

function readModule(wasm: Uint8Array, binaryen: Binaryen): BinaryenModule {
  const magic = [0x00, 0x61, 0x73, 0x6d];
  if (magic.some((byte, i) => wasm[i] !== byte)) {
    throw new EvtchnError('EINVAL', `the ${wasm.length} bytes given as v86.wasm are no WebAssembly module`);
  }
  return binaryen.readBinary(wasm);
}

function functionNames(module: BinaryenModule, binaryen: Binaryen): ReadonlyMap<string, FunctionRef> {
  const names = new Map<string, FunctionRef>();
  for (let i = 0; i < module.getNumFunctions(); i++) {
    const f = module.getFunctionByIndex(i);
    names.set(binaryen.getFunctionInfo(f).name, f);
  }
  return names;
}

function find(names: ReadonlyMap<string, FunctionRef>, end: string): FunctionRef {
  const found = [...names].filter(([name]) => name.endsWith(end));
  const [only] = found;
  if (found.length === 1 && only) return only[1];
  throw new EvtchnError(
    'EINVAL',
    `v86.wasm has ${found.length} functions with a name that ends in "${end}", and one is needed: ${tried()}`,
  );
}

function tried(): string {
  return `the hooks were made for v86 ${V86_VERSION}, with the build/v86.wasm that it ships`;
}

function apply(module: BinaryenModule, binaryen: Binaryen, { hook, params }: Patch, f: FunctionRef): void {
  const { name, params: type, results, vars, body } = binaryen.getFunctionInfo(f);
  const expected = params === 0 ? binaryen.none : binaryen.i32;
  if (type !== expected || results !== binaryen.none) {
    throw new EvtchnError('EINVAL', `the function "${name}" of v86.wasm has other parameters or results: ${tried()}`);
  }
  const imported = `${HOOK_MODULE}_${hook}`;
  module.addFunctionImport(imported, HOOK_MODULE, hook, binaryen.none, binaryen.i32);
  const call = module.call(imported, [], binaryen.i32);
  // A local behind those that the body has.
  const local = params + vars.length;
  const first = params === 0 ? module.if(call, module.return()) : answer(module, binaryen, call, local);
  module.removeFunction(name);
  module.addFunction(name, type, results, [...vars, binaryen.i32], module.block(null, [first, body]));
}

/** Some(vector) for a vector, and the function's own body for -1. */
function answer(module: BinaryenModule, binaryen: Binaryen, call: Expression, local: number): Expression {
  const { i32 } = binaryen;
  const result = (): Expression => module.local.get(0, i32);
  const found = module.i32.ge_s(module.local.tee(local, call, i32), module.i32.const(0));
  return module.if(
    found,
    module.block(null, [
      module.i32.store8(0, 1, result(), module.i32.const(1)),
      module.i32.store8(1, 1, result(), module.local.get(local, i32)),
      module.return(),
    ]),
  );
}
