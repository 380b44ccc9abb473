// A v86 machine that is a Xen domain.

import { EVENT_WORDS_PER_PAGE } from '../abi/fifo.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT } from '../abi/xen_hypercall.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { RegionSizes } from '../memory/region.ts';
import { Words } from '../memory/words.ts';
import type { Domain, DomainOptions, Xen } from '../xen/index.ts';
import { V86Clock } from './clock.ts';
import type { V86Constructor, V86Emulator, V86Inside, V86Processor, V86Settings } from './emulator.ts';
import { takeRegion } from './heap.ts';
import { Hooks } from './hooks.ts';
import { PageTables } from './paging.ts';
import { type Binaryen, isPatched, patchV86 } from './patch.ts';
import { addPowerOff, quietHotplug, replaceReset } from './power.ts';
import { GuestProcessor } from './processor.ts';
import { packState, unpackState } from './saved_state.ts';
import { type Observer, VcpuLoop } from './vcpu_loop.ts';

/** What a machine is made of. */
export interface XenMachineOptions<Emulator extends V86Emulator> {
  /** The class of the package v86. */
  readonly V86: V86Constructor<Emulator>;
  /** v86.wasm: as v86 ships it, then `binaryen` is needed as well; or as `patchV86` has made it, as bytes or compiled. */
  readonly wasm: Uint8Array<ArrayBuffer> | WebAssembly.Module;
  /** The package binaryen's default export. */
  readonly binaryen?: Binaryen;
  /** Bytes of guest RAM: a multiple of 128 KiB, from 1 MiB on; with an initrd at least 64 MiB more than it has. */
  readonly memorySize: number;
  /** What v86 is constructed with besides: BIOS, kernel, disks, screen. `acpi`, `autostart` and `wasm_fn` are the machine's. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** The host whose domain it becomes. */
  readonly xen: Xen;
  /** Its id, and what answers it besides the engine. */
  readonly domain?: DomainOptions;
  /** Port descriptors, up to 131072: with the FIFO ABI more than 1024 are of use; 4096 by default. */
  readonly ports?: number;
  readonly observer?: Observer;
}

/** Guest RAM is a multiple of what v86 maps devices in. */
const RAM_UNIT = 128 * 1024;
const DEFAULT_PORTS = 4096;

/**
 * Makes a v86 machine whose guest finds itself on Xen, with one vCPU, 32-bit, and all of the engine's records inside v86's own
 * memory. It does not run yet. Several machines may be domains of one `xen`: each has a memory of its own.
 * Rejects with EINVAL for a size out of range, for a v86.wasm that is not patched or cannot be, and for what `Xen.adopt` refuses;
 * ENOMEM when v86's memory cannot grow.
 */
export async function createXenMachine<Emulator extends V86Emulator>(
  options: XenMachineOptions<Emulator>,
): Promise<XenMachine<Emulator>> {
  const { memorySize, ports = DEFAULT_PORTS } = options;
  checkRange('memorySize', memorySize, 2 ** 20, 2 ** 31 - RAM_UNIT);
  if (memorySize % RAM_UNIT) {
    throw new EvtchnError('EINVAL', `memorySize is ${memorySize}, which is no multiple of ${RAM_UNIT}`);
  }
  const hooks = new Hooks();
  // All of them are said, for the room is taken before the domain is made.
  const fifoPorts = Math.ceil(ports / EVENT_WORDS_PER_PAGE) * EVENT_WORDS_PER_PAGE;
  const sizes: RegionSizes = { vcpus: 1, ports, fifoPorts };
  const { emulator, exports, regionBase } = await construct(options, hooks, sizes);
  const memory = exports['memory'] as WebAssembly.Memory;
  const inside = (emulator as unknown as V86Inside).v86;
  const { cpu } = inside;
  const guestBase = cpu.mem8.byteOffset;
  const clock = new V86Clock(() => hooks.microtick());
  const place = { memory, guestBase, guestPages: memorySize / PAGE_SIZE, regionBase };
  const hvm = { onGsi: (gsi: number, level: boolean) => setLine(cpu, gsi, level), ...options.domain?.hvm };
  const domain = options.xen.createDomain({ ...options.domain, hvm, ...sizes, ...place, clock });
  const words = new Words(memory);
  const loop = new VcpuLoop({
    domain,
    cpu: new GuestProcessor(words, new PageTables(words, guestBase, memorySize), cpu),
    v86: cpu,
    readTsc: exports['read_tsc'] as () => bigint,
    observer: options.observer ?? {},
  });
  quietHotplug(cpu);
  addPowerOff(cpu, () => domain.hvm.shutdown(SHUTDOWN_POWEROFF));
  replaceReset(cpu, () => domain.hvm.shutdown(SHUTDOWN_REBOOT));
  loop.start();
  hooks.handler = loop;
  return new XenMachine(emulator, domain, inside, loop);
}

/** A v86 machine and the domain that it is. */
export class XenMachine<Emulator extends V86Emulator = V86Emulator> {
  readonly emulator: Emulator;
  readonly domain: Domain;
  /** v86's processor and devices, for those who add devices. */
  readonly cpu: V86Processor;
  readonly #inside: V86Inside['v86'];
  readonly #loop: VcpuLoop;

  /** @internal */
  constructor(emulator: Emulator, domain: Domain, inside: V86Inside['v86'], loop: VcpuLoop) {
    this.emulator = emulator;
    this.domain = domain;
    this.cpu = inside.cpu;
    this.#inside = inside;
    this.#loop = loop;
  }

  run(): Promise<void> {
    return this.emulator.run();
  }

  /** Resolves when the guest has stopped. */
  stop(): Promise<void> {
    return this.emulator.stop();
  }

  /**
   * Saves machine and domain, as bytes. What host end points, hooks and devices of the embedder's keep is theirs to save.
   * Throws EBUSY while the machine runs.
   */
  save(): Uint8Array<ArrayBuffer> {
    this.#checkStopped('saved');
    this.#loop.endPoll();
    let machine = new ArrayBuffer(0);
    const domain = this.domain.snapshot({
      during: () => {
        machine = this.#inside.save_state();
      },
    });
    return packState(new Uint8Array(machine), domain);
  }

  /**
   * Makes this machine what was saved: one of the same memory size and devices, whose domain has the same id and has no ports yet.
   * Host end points bind their ports again with `xen.host.bind`. Throws EINVAL for other bytes, EBUSY while the machine runs, and what
   * restoring a domain throws: nothing has changed then.
   */
  restore(saved: Uint8Array): void {
    this.#checkStopped('restored');
    const { machine, domain } = unpackState(saved);
    this.domain.restore(domain, { during: () => this.#inside.restore_state(machine.slice().buffer) });
    // v86 has set the guest's TSC to what it was.
    this.#loop.syncTsc();
  }

  /** Ends the machine and its domain. */
  async destroy(): Promise<void> {
    await this.stop();
    this.domain.destroy();
    await this.emulator.destroy();
  }

  #checkStopped(what: string): void {
    if (this.emulator.is_running())
      throw new EvtchnError('EBUSY', `a machine that runs cannot be ${what}: stop it first`);
  }
}

/** An interrupt line of v86's. */
function setLine(cpu: V86Processor, gsi: number, level: boolean): void {
  if (level) cpu.device_raise_irq(gsi);
  else cpu.device_lower_irq(gsi);
}

/** v86's side: the emulator, its instance's exports, and room for the engine's records in its memory. */
async function construct<Emulator extends V86Emulator>(
  options: XenMachineOptions<Emulator>,
  hooks: Hooks,
  sizes: RegionSizes,
): Promise<{ emulator: Emulator; exports: WebAssembly.Exports; regionBase: number }> {
  const module = moduleOf(options);
  let exports: WebAssembly.Exports = {};
  let regionBase = 0;
  const emulator = await new Promise<Emulator>((resolve, reject) => {
    const settings: V86Settings = {
      ...options.settings,
      memory_size: options.memorySize,
      // Linux needs an APIC for its clock.
      acpi: true,
      autostart: false,
      wasm_fn: async (imports) => {
        try {
          exports = (await WebAssembly.instantiate(module, hooks.wrap(imports))).exports;
          regionBase = takeRegion(exports['memory'] as WebAssembly.Memory, sizes);
        } catch (error) {
          // v86 waits for ever then.
          reject(error);
          throw error;
        }
        return exports;
      },
    };
    const made = new options.V86(settings);
    made.add_listener('emulator-ready', () => resolve(made));
  });
  return { emulator, exports, regionBase };
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
