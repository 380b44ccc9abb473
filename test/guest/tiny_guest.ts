// A guest of a few instructions: a BIOS image that enters protected mode and runs what a test has put together.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import binaryen from 'binaryen';
import { V86 } from 'v86';
import { gpa } from '../../src/index.ts';
import { createXenMachine, type Observer, patchV86, type XenMachine } from '../../src/v86/index.ts';
import { createXen, type DomainOptions, type Xen } from '../../src/xen/index.ts';

/** v86.wasm as it ships. */
export function plainWasm(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(join(dirname(createRequire(import.meta.url).resolve('v86')), 'v86.wasm')));
}

let module: WebAssembly.Module | null = null;

/** The patched module, made once. */
export function patchedModule(): WebAssembly.Module {
  module ??= new WebAssembly.Module(patchV86(plainWasm(), binaryen));
  return module;
}

// ── instructions of 32-bit code ────────────────────────────────────────────────────────────────────────────────────

/** Registers by their numbers. */
export const R = { eax: 0, ecx: 1, edx: 2, ebx: 3, esp: 4, ebp: 5, esi: 6, edi: 7 } as const;

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

export const code = {
  /** register = constant */
  set: (register: keyof typeof R, value: number): number[] => [0xb8 + R[register], ...u32(value)],
  /** memory = register */
  store: (address: number, register: keyof typeof R): number[] => [0x89, (R[register] << 3) | 5, ...u32(address)],
  /** register = memory */
  load: (register: keyof typeof R, address: number): number[] => [0x8b, (R[register] << 3) | 5, ...u32(address)],
  storeByte: (address: number, value: number): number[] => [0xc6, 0x05, ...u32(address), value],
  storeWord: (address: number, value: number): number[] => [0xc7, 0x05, ...u32(address), ...u32(value)],
  increment: (address: number): number[] => [0xff, 0x05, ...u32(address)],
  call: (address: number): number[] => [...code.set('edi', address), 0xff, 0xd7],
  /** runs a piece of code again and again; it may not use ebp */
  repeat: (times: number, body: readonly number[]): number[] => [
    ...code.set('ebp', times),
    ...body,
    0x4d,
    ...[0x0f, 0x85, ...u32(-(body.length + 7))],
  ],
  cpuid: [0x0f, 0xa2],
  wrmsr: [0x0f, 0x30],
  rdtsc: [0x0f, 0x31],
  vmcall: [0x0f, 0x01, 0xc1],
  vmmcall: [0x0f, 0x01, 0xd9],
  sti: [0xfb],
  hlt: [0xf4],
  iret: [0xcf],
  /** halts again and again: what comes between are interrupts */
  idle: [0xf4, 0xeb, 0xfd],
  /** CR3 = table, CR4 = bits, and paging on */
  paging: (table: number, cr4: number): number[] => [
    ...code.set('eax', table),
    ...[0x0f, 0x22, 0xd8],
    ...code.set('eax', cr4),
    ...[0x0f, 0x22, 0xe0],
    ...[0x0f, 0x20, 0xc0],
    // Paging, and write protection for the kernel as well.
    ...[0x0d, ...u32(0x80010000)],
    ...[0x0f, 0x22, 0xc0],
  ],
  /** Hypercall `number`: the result is stored where `result` says. */
  hypercall: (number: number, params: readonly number[], result: number): number[] => [
    ...(['ebx', 'ecx', 'edx', 'esi', 'edi'] as const).flatMap((r, i) => code.set(r, params[i] ?? 0)),
    ...code.set('eax', number),
    ...code.vmcall,
    ...code.store(result, 'eax'),
  ],
} as const;

// ── the image ──────────────────────────────────────────────────────────────────────────────────────────────────────

const IMAGE = 0x10000;
/** Where the image lies, and in it the descriptors, the guest's code and the interrupt handler. */
const BASE = 0xf0000;
const GDT = 0x8000;
const GDT_REGISTER = 0x8100;
const IDT_REGISTER = 0x8110;
const IDT = 0x8200;
const MAIN = 0x1000;
const USER = 0x3000;
const HANDLER = 0x4000;
const RESET = 0xfff0;
const STACK = 0x7000;

/** The handler's vector. */
export const VECTOR = 0xf3;

export interface TinyCode {
  readonly main: readonly number[];
  /** what an interrupt at VECTOR runs; it is to end with iret */
  readonly handler?: readonly number[];
  /** code of privilege level 3, to which main goes by `toUser` */
  readonly user?: readonly number[];
}

/** Goes on at `user`, with privilege level 3. */
export const toUser: readonly number[] = [
  // ss, esp, eflags, cs, eip; iret
  ...[0x68, ...u32(0x23)],
  ...[0x68, ...u32(STACK - 0x800)],
  ...[0x68, ...u32(0x2)],
  ...[0x68, ...u32(0x1b)],
  ...[0x68, ...u32(BASE + USER)],
  0xcf,
];

function image({ main, handler = [0xcf], user = [] }: TinyCode): Uint8Array {
  const bytes = new Uint8Array(IMAGE);
  const view = new DataView(bytes.buffer);
  const flat = (at: number, access: number): void =>
    view.setBigUint64(at, 0x00cf_0000_0000_ffffn | (BigInt(access) << 40n), true);
  flat(GDT + 0x08, 0x9b);
  flat(GDT + 0x10, 0x93);
  flat(GDT + 0x18, 0xfb);
  flat(GDT + 0x20, 0xf3);
  const register = (at: number, limit: number, base: number): void => {
    view.setUint16(at, limit, true);
    view.setUint32(at + 2, base, true);
  };
  register(GDT_REGISTER, 0x27, BASE + GDT);
  register(IDT_REGISTER, 0x7ff, BASE + IDT);
  const gate = IDT + 8 * VECTOR;
  view.setUint16(gate, (BASE + HANDLER) & 0xffff, true);
  view.setUint16(gate + 2, 0x08, true);
  view.setUint16(gate + 4, 0x8e00, true);
  view.setUint16(gate + 6, (BASE + HANDLER) >>> 16, true);
  bytes.set(
    [
      ...[0xfa],
      ...[0x2e, 0x66, 0x0f, 0x01, 0x16, GDT_REGISTER & 0xff, GDT_REGISTER >> 8],
      ...[0x2e, 0x66, 0x0f, 0x01, 0x1e, IDT_REGISTER & 0xff, IDT_REGISTER >> 8],
      ...[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0],
      ...[0x66, 0xea, ...u32(BASE + 0x100), 0x08, 0x00],
    ],
    0,
  );
  // 32-bit from here on: ds, es and ss, the stack, and on to main.
  const segments = [0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0];
  bytes.set([...segments, ...code.set('esp', STACK), 0xe9, ...u32(MAIN - 0x100 - segments.length - 10)], 0x100);
  bytes.set(main, MAIN);
  bytes.set(user, USER);
  bytes.set(handler, HANDLER);
  bytes.set([0xea, 0x00, 0x00, 0x00, 0xf0], RESET);
  return bytes;
}

// ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────────

/** v86's PCI bus, inside. */
interface Pci {
  readonly devices: readonly ({ readonly pci_bars: readonly unknown[] } | undefined)[];
  readonly device_spaces: readonly (Int32Array | undefined)[];
}

const WATCHDOG = 20_000;

export interface TinyOptions {
  readonly xen?: Xen;
  readonly domain?: DomainOptions;
  readonly observer?: Observer;
  /** bytes that lie in RAM before the guest starts, by address */
  readonly ram?: Readonly<Record<number, readonly number[]>>;
}

/** A machine that runs a tiny guest. */
export class TinyGuest {
  readonly machine: XenMachine<V86>;

  private constructor(machine: XenMachine<V86>) {
    this.machine = machine;
  }

  static async make(
    tiny: TinyCode,
    { xen = createXen(), domain = {}, observer, ram = {} }: TinyOptions = {},
  ): Promise<TinyGuest> {
    const machine = await createXenMachine({
      V86,
      wasm: patchedModule(),
      memorySize: 1 << 20,
      settings: { bios: { buffer: image(tiny).buffer } },
      xen,
      domain,
      ...(observer ? { observer } : {}),
    });
    const guest = new TinyGuest(machine);
    for (const [at, bytes] of Object.entries(ram)) {
      machine.domain.vm.guestMemory.write(gpa(Number(at)), Uint8Array.from(bytes));
    }
    return guest;
  }

  /** A u32 of guest RAM. */
  word(address: number): number {
    const bytes = this.machine.domain.vm.guestMemory.read(gpa(address), 4);
    return new DataView((bytes ?? new Uint8Array(4)).buffer).getUint32(0, true);
  }

  /** Runs until a condition holds; throws when it does not come to pass. */
  async until(holds: () => boolean): Promise<void> {
    if (!this.machine.emulator.is_running()) await this.machine.run();
    const end = performance.now() + WATCHDOG;
    while (!holds()) {
      if (performance.now() > end) throw new Error('the guest has not come that far');
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Runs until the guest halts. */
  async untilHalted(): Promise<void> {
    await this.until(() => this.machine.cpu.in_hlt[0] === 1);
  }

  /**
   * Stops and saves the guest. First the PCI address ranges that a device does not have are set to 0, as firmware does when it looks
   * for them: v86 cannot restore a machine whose firmware has not.
   */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    await this.machine.stop();
    const { devices, device_spaces } = this.machine.cpu.devices.pci as unknown as Pci;
    for (const [id, device] of devices.entries()) {
      const space = device_spaces[id];
      if (!device || !space) continue;
      for (let bar = 0; bar < device.pci_bars.length; bar++) if (!device.pci_bars[bar]) space[4 + bar] = 0;
    }
    return this.machine.save();
  }

  destroy(): Promise<void> {
    return this.machine.destroy();
  }
}

/** Little-endian bytes of 32-bit fields. */
export const fields = (...values: readonly number[]): number[] => values.flatMap(u32);
