// What the embedder provides. The release build for shared memory imports none of these.

/** Unshared builds: tells the embedder that `vcpu` of the VM at `vm` wants an upcall. It must not run guest code. */
export declare function kick(vm: usize, vcpu: i32): void;

/** Trace builds: called before each shared access, with its kind (src/abi/step.ts) and address. */
export declare function onStep(kind: i32, address: usize): void;

/** Trace builds, in place of a real sleep. Returns what memory.atomic.wait32 would: 0 woken, 1 not equal, 2 timed out. */
export declare function onWait(address: usize, expected: i32): i32;
