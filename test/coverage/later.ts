// Requirements that wait for tests of a part of the engine that is being built. A line goes when they are there.

/** id: reason, a sentence. */
export const LATER: Readonly<Record<string, string>> = {};
