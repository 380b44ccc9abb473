export type { V86Constructor, V86Emulator, V86Pci, V86Ports, V86Processor, V86Settings } from './emulator.ts';
export { createXenMachine, type XenMachine, type XenMachineOptions } from './machine.ts';
export { type Binaryen, type BinaryenModule, patchV86, V86_VERSION } from './patch.ts';
export type { Observer } from './vcpu_loop.ts';
