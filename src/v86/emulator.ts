// v86 as far as the adapter uses it. Its own types say nothing of `cpu`, and importing them would make v86 a dependency.

/** What the adapter passes to v86's constructor, besides what the caller gives. */
export interface V86Settings {
  readonly wasm_fn: (imports: WebAssembly.Imports) => Promise<WebAssembly.Exports>;
  readonly memory_size: number;
  readonly acpi: boolean;
  readonly autostart: boolean;
}

/** The class `V86` of the package v86. */
export type V86Constructor<Emulator extends V86Emulator = V86Emulator> = new (settings: V86Settings) => Emulator;

/** An emulator of v86's. */
export interface V86Emulator {
  run(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
  is_running(): boolean;
  add_listener(event: 'emulator-ready', listener: () => void): void;
}

/** What every emulator has, though v86's types do not say so. @internal */
export interface V86Inside {
  readonly v86: {
    readonly cpu: V86Processor;
    save_state(): ArrayBuffer;
    restore_state(state: ArrayBuffer): void;
  };
}

/** v86's processor. Its functions may be replaced: v86 looks them up at every call. */
export interface V86Processor {
  /** Guest RAM, of the memory as it is now. */
  readonly mem8: Uint8Array;
  readonly memory_size: ArrayLike<number>;
  /** One byte: the processor has halted. */
  readonly in_hlt: { 0: number };
  readonly io: V86Ports;
  readonly devices: { readonly pci: V86Pci; readonly acpi: { status: number } };
  /** Runs guest code for a while. @returns how many ms there is nothing to do */
  main_loop: () => number;
  /** Starts the machine again. */
  reboot_internal: () => void;
  /** Ends the wait that `main_loop` has asked for. */
  stop_idling(): void;
  /** Takes an interrupt if the guest can. */
  handle_irqs(): void;
  /** Raises and lowers an interrupt line, 0..23. */
  device_raise_irq(line: number): void;
  device_lower_irq(line: number): void;
  set_tsc(low: number, high: number): void;
  /** Forgets what was compiled from guest-physical addresses. */
  jit_dirty_cache(start: number, end: number): void;
}

/** v86's I/O ports and device memory. */
export interface V86Ports {
  register_read(port: number, device: object, read8: () => number, read16?: () => number, read32?: () => number): void;
  register_write(
    port: number,
    device: object,
    write8: (value: number) => void,
    write16?: (value: number) => void,
    write32?: (value: number) => void,
  ): void;
  /** Address and size are multiples of 128 KiB, outside RAM. */
  mmap_register(
    address: number,
    size: number,
    read8: (address: number) => number,
    write8: (address: number, value: number) => void,
    read32?: (address: number) => number,
    write32?: (address: number, value: number) => void,
  ): void;
}

/** v86's PCI bus. */
export interface V86Pci {
  register_device(device: {
    readonly pci_id: number;
    readonly pci_space: readonly number[];
    readonly pci_bars: readonly ({ readonly size: number } | undefined)[];
    readonly name: string;
  }): unknown;
}
