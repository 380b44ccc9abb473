// The promises that the engine makes, each with what is done to hold it to them. Tests are named after the one that they hold.

export const PROMISES: Readonly<Record<string, string>> = {
  R1: 'no event is lost',
  R2: 'no event is invented',
  R3: 'after an invalidation the old memory is never touched',
  R4: 'a failed operation changes nothing',
  R5: 'every call ends within a stated number of steps, whatever another party writes',
  R6: 'no deadlock, and no waiting on the path of a send',
  R7: 'nothing leaks',
  R8: 'a thread may die or trap anywhere; the others go on',
  R9: 'hostile input never traps, hangs or corrupts',
  R10: 'layout and semantics are the reference’s in both modes',
  R11: 'runstate adds up and can be read without a lock',
  R12: 'time is one clock; timers are never early and rarely late',
  R13: 'saving and restoring is invisible',
  R14: 'control operations are atomic to sends',
  R15: 'the platform gives only the memory outcomes that are relied on',
  R16: 'every branch is tested and every test can fail',
  R17: 'cost stays within the specification',
  R18: 'every failure can be run again',
  R19: 'an unfit platform is refused at start',
  R20: 'the build holds nothing that breaks these rules',
};

/** The cost is measured by the benchmarks, in ratios; a test would only measure the machine. */
export const MEASURED: readonly string[] = ['R17'];

/** The promises that the name of a test carries. */
export function promisesIn(name: string): string[] {
  return [...name.matchAll(/(?<![\w-])R(?:[1-9]|1\d|20)(?![\w-])/g)].map(([id]) => id);
}

/** How many of the names carry each. */
export function promiseCounts(names: Iterable<string>): Map<string, number> {
  const counts = new Map(Object.keys(PROMISES).map((id) => [id, 0]));
  for (const name of names) {
    for (const id of new Set(promisesIn(name))) counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}
