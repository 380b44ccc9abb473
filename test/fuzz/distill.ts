// Makes the corpus anew: `node dist/test/fuzz/distill.js SEED CALLS`. Fuzzes from the kept sequences on, keeps what reaches an outcome or
// a sentence of an error that nothing before it does, and leaves out of each sequence the calls that it does not need for that.

import { loadCorpus, saveCorpus } from './corpus.ts';
import { fuzz } from './fuzz.ts';
import { SENTENCE } from './judge.ts';
import { replay, type Sequence } from './sequence.ts';
import { dropCalls, printed } from './shrink.ts';

/** Room for the corpus, bytes. */
const MOST_BYTES = 190_000;

/** What a sequence reaches: outcomes of operations, and the sentences of their errors. */
function reached(sequence: Sequence): ReadonlySet<string> {
  const run = replay(sequence);
  if (run.finding === null) return run.features;
  console.log(`${run.finding.message}\n${printed(sequence)}`);
  return new Set();
}

function missing(wanted: ReadonlySet<string>, known: ReadonlySet<string>): string[] {
  return [...wanted].filter((feature) => !known.has(feature));
}

/** Those of the candidates that reach something new, in their order, without the calls that are not needed for it. */
function distill(candidates: readonly Sequence[]): Sequence[] {
  const known = new Set<string>();
  const kept: Sequence[] = [];
  for (const sequence of candidates) {
    const wanted = missing(reached(sequence), known);
    if (wanted.length === 0) continue;
    const calls = dropCalls(sequence.calls, (fewer) => {
      const found = reached({ ...sequence, calls: fewer });
      return wanted.every((feature) => found.has(feature));
    });
    kept.push({ ...sequence, calls });
    for (const feature of reached({ ...sequence, calls })) known.add(feature);
    console.log(`${kept.length}: ${sequence.calls.length} calls became ${calls.length}, ${known.size} reached`);
  }
  return kept;
}

/** Of what was distilled the short ones first: those for outcomes, then those for sentences, as many as there is room for. */
function fewest(sequences: readonly Sequence[]): Sequence[] {
  const sized = sequences.map((sequence) => ({
    sequence,
    found: reached(sequence),
    bytes: printed(sequence).length + 4 * sequence.calls.length + 8,
  }));
  sized.sort((a, b) => a.bytes - b.bytes);
  const known = new Set<string>();
  const kept = new Set<Sequence>();
  let room = MOST_BYTES;
  for (const counts of [(feature: string) => !feature.startsWith(SENTENCE), () => true]) {
    for (const { sequence, found, bytes } of sized) {
      if (bytes > room || !missing(found, known).some(counts)) continue;
      room -= bytes;
      kept.add(sequence);
      for (const feature of found) known.add(feature);
    }
  }
  console.log(`${kept.size} sequences of ${MOST_BYTES - room} bytes reach ${known.size}`);
  return [...kept];
}

const [seed = '1', calls = '100000'] = process.argv.slice(2);
const corpus = loadCorpus();
const { interesting, findings } = fuzz({ seed: Number(seed), calls: Number(calls), corpus, stop: false });
for (const { message } of findings) console.log(message);
saveCorpus(fewest(distill([...corpus, ...interesting])));
