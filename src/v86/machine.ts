// A v86 machine that is a Xen domain.

import { PAGE_SIZE } from '../abi/shared_info.ts';
import { createVm } from '../create.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { RegionSizes } from '../memory/region.ts';
import { Words } from '../memory/words.ts';
import type { Vm } from '../vm/vm.ts';
import { V86Clock } from './clock.ts';
import type { V86Constructor, V86Emulator, V86Inside, V86Processor, V86Settings } from './emulator.ts';
import { takeRegion } from './heap.ts';
import { Hooks } from './hooks.ts';
import { PageTables } from './paging.ts';
import { type Binaryen, isPatched, patchV86 } from './patch.ts';
import { GuestProcessor } from './processor.ts';
import { type GuestSurface, type Observer, VcpuLoop } from './vcpu_loop.ts';

export interface XenMachineOptions<Emulator extends V86Emulator> {
  /** The class of the package v86. */
  readonly V86: V86Constructor<Emulator>;
  /** v86.wasm: as v86 ships it, then `binaryen` is needed, or as `patchV86` made it. */
  readonly wasm: Uint8Array<ArrayBuffer> | WebAssembly.Module;
  readonly binaryen?: Binaryen;
  /** Bytes of guest RAM, a multiple of 128 KiB from 1 MiB on. */
  readonly memorySize: number;
  /** What v86 is to be constructed with besides: BIOS, kernel, disks. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly observer?: Observer;
  readonly surface: (vm: Vm) => GuestSurface;
}

export interface XenMachine<Emulator extends V86Emulator> {
  readonly emulator: Emulator;
  readonly vm: Vm;
  readonly cpu: V86Processor;
}

const BLOCK = 128 * 1024;

/** Makes the machine; it does not run yet. */
export async function createXenMachine<Emulator extends V86Emulator>(
  options: XenMachineOptions<Emulator>,
): Promise<XenMachine<Emulator>> {
  const { memorySize } = options;
  checkRange('memorySize', memorySize, 2 ** 20, 2 ** 31 - BLOCK);
  if (memorySize % BLOCK)
    throw new EvtchnError('EINVAL', `memorySize is ${memorySize}, which is no multiple of ${BLOCK}`);
  const module = moduleOf(options);
  const hooks = new Hooks();
  const sizes: RegionSizes = { vcpus: 1 };
  let exports: WebAssembly.Exports = {};
  let regionBase = 0;
  const settings: V86Settings = {
    ...options.settings,
    memory_size: memorySize,
    acpi: true,
    autostart: false,
    wasm_fn: async (imports) => {
      const instance = await WebAssembly.instantiate(module, hooks.wrap(imports));
      exports = instance.exports;
      regionBase = takeRegion(exports['memory'] as WebAssembly.Memory, sizes);
      return exports;
    },
  };
  const emulator = new options.V86(settings);
  await new Promise<void>((resolve) => emulator.add_listener('emulator-ready', resolve));
  const { cpu } = (emulator as unknown as V86Inside).v86;
  const memory = exports['memory'] as WebAssembly.Memory;
  const guestBase = cpu.mem8.byteOffset;
  const clock = new V86Clock(() => hooks.microtick());
  const vm = createVm({ ...sizes, memory, guestBase, guestPages: memorySize / PAGE_SIZE, regionBase, clock });
  const words = new Words(memory);
  const loop = new VcpuLoop({
    vcpu: vm.vcpu(0),
    cpu: new GuestProcessor(words, new PageTables(words, guestBase, memorySize), cpu),
    v86: cpu,
    clock,
    readTsc: exports['read_tsc'] as () => bigint,
    surface: options.surface(vm),
    observer: options.observer ?? {},
  });
  loop.start();
  quietHotplug(cpu);
  hooks.handler = loop;
  return { emulator, vm, cpu };
}

function moduleOf({ wasm, binaryen }: XenMachineOptions<V86Emulator>): WebAssembly.Module {
  const module = wasm instanceof WebAssembly.Module ? wasm : new WebAssembly.Module(wasm);
  if (isPatched(module)) return module;
  if (binaryen === undefined || wasm instanceof WebAssembly.Module) {
    throw new EvtchnError(
      'EINVAL',
      'v86.wasm is not patched: pass its bytes and binaryen, or what patchV86 made of them',
    );
  }
  return new WebAssembly.Module(patchV86(wasm, binaryen));
}

/** SeaBIOS' ACPI tables name registers of PCI hot-plug that v86 has not: read as ones, they make Linux eject every device. */
function quietHotplug({ io }: V86Processor): void {
  const zero = (): number => 0;
  for (let port = 0xae00; port < 0xae10; port++) io.register_read(port, {}, zero, zero, zero);
}
