// How a machine ends, and what a Linux guest finds wanting in v86's ACPI: hot-plug registers that read as nothing, and a register that
// switches it off.

import type { V86Processor } from './emulator.ts';

/** SeaBIOS' tables name QEMU's registers of PCI hot-plug. */
const HOTPLUG_FIRST = 0xae00;
const HOTPLUG_PORTS = 16;

/** The PM1 control register: a sleep type, and the bit that enters it. */
const PM1_CONTROL = 0xb004;
const SLEEP_ENABLE = 1 << 13;
const SLEEP_TYPE_SHIFT = 10;
const SLEEP_TYPE_BITS = 7;
/** S5 in SeaBIOS' tables. */
const SOFT_OFF = 0;

/** v86 reads those registers as ones, upon which Linux ejects every PCI device. @internal */
export function quietHotplug({ io }: V86Processor): void {
  const zero = (): number => 0;
  for (let i = 0; i < HOTPLUG_PORTS; i++) io.register_read(HOTPLUG_FIRST + i, {}, zero, zero, zero);
}

/** Calls `off` when the guest switches itself off: v86 keeps the register, and nothing comes of it. @internal */
export function addPowerOff({ io, devices }: V86Processor, off: () => void): void {
  const write = (value: number): void => {
    devices.acpi.status = value;
    if (value & SLEEP_ENABLE && ((value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_BITS) === SOFT_OFF) off();
  };
  // One device has a port, for reading and writing.
  io.register_write(PM1_CONTROL, devices.acpi, () => {}, write);
}

/**
 * Calls `reset` instead of starting the machine again: the pages that the guest has shared with its host would be in use still. As on
 * Xen, a domain that reboots ends, and whoever runs it makes another. @internal
 */
export function replaceReset(cpu: V86Processor, reset: () => void): void {
  cpu.reboot_internal = reset;
}
