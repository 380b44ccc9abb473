export function suspendable(kernel: Uint8Array): Uint8Array<ArrayBuffer>;
