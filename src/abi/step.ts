// Kinds of shared access that the trace build reports before it makes them (the release build has no trace of them).

export const STEP_LOAD = 0;
export const STEP_STORE = 1;
/** a read-modify-write: also the full barrier of the protocol */
export const STEP_RMW = 2;
export const STEP_WAIT = 3;
export const STEP_NOTIFY = 4;
/** a non-atomic access inside a version or marker protocol */
export const STEP_PLAIN = 5;
