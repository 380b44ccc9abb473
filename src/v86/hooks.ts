// The imports of a patched v86.wasm, from when it is instantiated; until the machine is complete they answer that nothing is Xen's.

import { HOOK_MODULE } from './patch.ts';

/** Who answers. @internal */
export interface HookHandler {
  /** CPUID. @returns whether the registers were set */
  cpuid(): boolean;
  /** WRMSR. @returns whether it was dealt with */
  wrmsr(): boolean;
  /** An opcode that v86 does not know. @returns whether it was a hypercall, which is done */
  invalidOpcode(): boolean;
  /** The guest can take an interrupt. @returns a vector, or -1 */
  interrupt(): number;
  /** Called many times a second while guest code runs, and before it halts. @returns ms until it has to be called again */
  timers(now: number): number;
}

/** v86's own functions that are wrapped, and its clock. @internal */
export class Hooks {
  #handler: HookHandler | null = null;
  #microtick: (() => number) | null = null;

  /** v86's imports with the hooks added. */
  wrap(imports: WebAssembly.Imports): WebAssembly.Imports {
    const env = imports['env'] as Record<string, WebAssembly.ImportValue>;
    const timers = env['run_hardware_timers'] as (acpi: number, now: number) => number;
    this.#microtick = env['microtick'] as () => number;
    return {
      ...imports,
      env: {
        ...env,
        run_hardware_timers: (acpi: number, now: number): number => {
          const wait = timers(acpi, now);
          return this.#handler === null ? wait : Math.min(wait, this.#handler.timers(now));
        },
      },
      [HOOK_MODULE]: {
        cpuid: () => (this.#handler?.cpuid() ? 1 : 0),
        wrmsr: () => (this.#handler?.wrmsr() ? 1 : 0),
        ud: () => (this.#handler?.invalidOpcode() ? 1 : 0),
        interrupt: () => (this.#handler === null ? -1 : this.#handler.interrupt()),
      },
    };
  }

  set handler(handler: HookHandler) {
    this.#handler = handler;
  }

  /** ms since some origin, of v86's own clock. */
  microtick(): number {
    return this.#microtick?.() ?? 0;
  }
}
