export function suspendable(kernel: Uint8Array, optimizeLevel?: number): Uint8Array<ArrayBuffer>;
