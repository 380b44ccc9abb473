// Makes a sequence that finds something shorter, as long as it finds the same kind of thing: calls are left out, then values made
// simple. What is left is printed as JSON, to be replayed. [R18]

import { replay, type Sequence } from './sequence.ts';
import type { Call, Value } from './value.ts';

/** Runs that a shrink may take. */
const MOST_RUNS = 1500;

export interface Shrunk {
  readonly sequence: Sequence;
  readonly kind: string;
  readonly message: string;
  readonly runs: number;
}

/** Throws when the sequence finds nothing. */
export function shrink(sequence: Sequence): Shrunk {
  const first = replay(sequence);
  if (first.finding === null) throw new Error('the sequence finds nothing: there is nothing to make shorter');
  const { kind } = first.finding;
  let { message } = first.finding;
  let runs = 1;
  const stillFinds = (calls: readonly Call[]): boolean => {
    if (runs >= MOST_RUNS) return false;
    runs++;
    const { finding } = replay({ ...sequence, calls });
    if (finding?.kind !== kind) return false;
    message = finding.message;
    return true;
  };
  let { calls } = first;
  calls = dropCalls(calls, stillFinds);
  calls = simplify(calls, stillFinds);
  calls = dropCalls(calls, stillFinds);
  return { sequence: { ...sequence, calls }, kind, message, runs };
}

/** Leaves out as many calls as possible: halves first, then single ones. */
export function dropCalls(calls: readonly Call[], keeps: (calls: readonly Call[]) => boolean): readonly Call[] {
  let kept = calls;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = kept.length - size; at > -size; at -= size) {
      const from = Math.max(at, 0);
      const without = [...kept.slice(0, from), ...kept.slice(at + size)];
      if (without.length < kept.length && keeps(without)) kept = without;
    }
  }
  return kept;
}

function simplify(calls: readonly Call[], keeps: (calls: readonly Call[]) => boolean): readonly Call[] {
  let kept = calls;
  for (let i = 0; i < kept.length; i++) {
    const [name, ...args] = kept[i] as Call;
    for (let n = 0; n < args.length; n++) {
      args[n] = simplest(args[n] as Value, (value) => {
        const call: Call = [name, ...args.slice(0, n), value, ...args.slice(n + 1)];
        return keeps([...kept.slice(0, i), call, ...kept.slice(i + 1)]);
      });
    }
    kept = [...kept.slice(0, i), [name, ...args], ...kept.slice(i + 1)];
  }
  return kept;
}

/** The first simpler value that is as good, again and again. */
function simplest(value: Value, good: (value: Value) => boolean): Value {
  for (const candidate of simpler(value)) if (good(candidate)) return simplest(candidate, good);
  if (typeof value !== 'object' || value === null) return value;
  const entries: [string, Value][] = Object.entries(value);
  for (const [i, [key, item]] of entries.entries()) {
    const put = (next: Value): Value => {
      const changed = entries.with(i, [key, next]);
      return Array.isArray(value) ? changed.map(([, v]) => v) : Object.fromEntries(changed);
    };
    entries[i] = [key, simplest(item, (next) => good(put(next)))];
  }
  return Array.isArray(value) ? entries.map(([, item]) => item) : Object.fromEntries(entries);
}

function simpler(value: Value): Value[] {
  if (typeof value === 'number') {
    return [0, 1, Math.trunc(value / 2)].filter((n) => Math.abs(n) < Math.abs(value));
  }
  if (typeof value === 'string' && value.startsWith('$n')) {
    const n = BigInt(value.slice(2));
    return [0n, 1n, n / 2n].filter((m) => m !== n && (m < 0n ? -m : m) < (n < 0n ? -n : n)).map((m) => `$n${m}`);
  }
  if (typeof value === 'string' && value.startsWith('$b')) {
    const parts = value.split(',');
    return parts.slice(1).map((_, i) => [...parts.slice(0, i + 1), ...parts.slice(i + 2)].join(','));
  }
  if (Array.isArray(value))
    return value.length === 0 ? [] : [[], value.slice(0, -1), value.slice(1)].filter((v) => v.length < value.length);
  return value === true ? [false] : [];
}

/** A sequence in one line that can be kept and replayed. */
export function printed({ kind, calls }: Sequence): string {
  return JSON.stringify({ kind, calls });
}
