// The PCI device by which a guest finds that it may use Xen's devices (5853:0001): the address range where it puts its grant
// table, and the ports by which it has emulated devices unplugged.

import type { V86Processor } from '../../src/v86/index.ts';
import type { GrantTable } from './grants.ts';
import { PAGE } from './guest_ram.ts';

/** Device 4 of bus 0 is free in v86. */
const PCI_ID = 4 << 3;
const IO_PORT = 0xc000;
const IO_BYTES = 256;
/** Above any RAM that v86 has, below its APICs. v86 leaves memory BARs where they are. */
const MEMORY = 0xf2000000;
const MEMORY_BYTES = 16 << 20;

const EINVAL = 22;

const UNPLUG_PORT = 0x10;
const UNPLUG_MAGIC = 0x49d2;
const UNPLUG_PROTOCOL = 1;

/** Registers the device. */
export class PlatformDevice {
  readonly #grants: GrantTable;
  /** which frame of the table the guest has put at which frame of its memory */
  readonly #placed = new Map<number, number>();

  constructor({ io, devices }: V86Processor, grants: GrantTable) {
    this.#grants = grants;
    devices.pci.register_device({
      pci_id: PCI_ID,
      pci_space: configuration(),
      pci_bars: [{ size: IO_BYTES }, { size: MEMORY_BYTES }],
      name: 'Xen platform device',
    });
    io.mmap_register(
      MEMORY,
      MEMORY_BYTES,
      (at) => this.#read8(at >>> 0),
      (at, value) => this.#write8(at >>> 0, value),
    );
    io.register_read(
      UNPLUG_PORT,
      this,
      () => UNPLUG_MAGIC & 0xff,
      () => UNPLUG_MAGIC,
    );
    io.register_read(UNPLUG_PORT + 2, this, () => UNPLUG_PROTOCOL);
    // Nothing is unplugged: v86 has no disk or network unless it was asked for one.
    const ignore = (): void => {};
    io.register_write(UNPLUG_PORT, this, ignore, ignore, ignore);
    io.register_write(UNPLUG_PORT + 2, this, ignore, ignore, ignore);
  }

  /** The guest wants frame `index` of its grant table at `gfn`: XENMAPSPACE_grant_table. @returns 0, or -EINVAL */
  place(index: number, gfn: number): number {
    const inside = gfn * PAGE >= MEMORY && gfn * PAGE < MEMORY + MEMORY_BYTES;
    if (!inside || index >= this.#grants.frames) return -EINVAL;
    this.#placed.set(gfn, index);
    return 0;
  }

  /** For a snapshot. */
  get placed(): [gfn: number, index: number][] {
    return [...this.#placed];
  }

  #read8(address: number): number {
    const at = this.#offset(address);
    return at === null ? 0xff : (this.#grants.bytes[at] as number);
  }

  #write8(address: number, value: number): void {
    const at = this.#offset(address);
    if (at !== null) this.#grants.bytes[at] = value;
  }

  #offset(address: number): number | null {
    const frame = this.#placed.get(Math.floor(address / PAGE));
    return frame === undefined ? null : frame * PAGE + (address % PAGE);
  }
}

/** PCI configuration space: one I/O range and one memory range, as Xen's own device has them. */
function configuration(): number[] {
  const space = new DataView(new ArrayBuffer(256));
  space.setUint16(0x00, 0x5853, true);
  space.setUint16(0x02, 0x0001, true);
  // It answers to I/O and memory.
  space.setUint16(0x04, 0x0003, true);
  space.setUint8(0x08, 0x01);
  // Class: SCSI controller.
  space.setUint16(0x0a, 0x0100, true);
  space.setUint32(0x10, IO_PORT | 1, true);
  space.setUint32(0x14, MEMORY, true);
  space.setUint16(0x2c, 0x5853, true);
  space.setUint16(0x2e, 0x0001, true);
  // Interrupt line and pin, which a guest with a callback vector does not use.
  space.setUint8(0x3c, 0);
  space.setUint8(0x3d, 1);
  return [...new Uint8Array(space.buffer)];
}
