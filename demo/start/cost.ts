// What a send costs beside what one would write or use instead: a short form of `npm run bench`, with its harness.

import { many } from '../../bench/batch.ts';
import { measurePath } from '../../bench/processes.ts';
import type { Row, Setting, Summary } from '../../bench/report.ts';
import { ATOMICS, BRACKET, EMITTER, SELF } from '../../bench/send.ts';
import { SINGLE } from '../../bench/single_agent.ts';
import { POST_MESSAGE } from '../../bench/two_cores.ts';

/** One way to send an event. `ratio` is to hand-written `Atomics` in the same process. */
export interface Cost {
  name: string;
  ns: number;
  ratio: number;
}

const SHARED: Setting = { quick: true, native: false, shared: true };
const SINGLE_AGENT: Setting = { ...SHARED, shared: false };

/** Processes per path. */
const PROCESSES = 1;

/** Measures for some seconds. `onProgress` is told what is measured next. */
export async function measureCost(onProgress: (text: string) => void = () => {}): Promise<Cost[]> {
  onProgress('single sends between threads');
  const send = await measurePath('send', SHARED, PROCESSES);
  onProgress('single sends of a single agent');
  const single = await measurePath('single_agent', SINGLE_AGENT, PROCESSES);
  onProgress('batches');
  const batch = await measurePath('batch', SHARED, PROCESSES);
  onProgress('postMessage');
  const post = await measurePath('two_cores', SHARED, 1);
  const atomics = rowOf(send, ATOMICS).ns;
  const message = rowOf(post, POST_MESSAGE).ns;
  return [
    costOf('one event, vm.send', rowOf(send, SELF)),
    costOf('one event, vm.send inside enter() ... leave()', rowOf(send, BRACKET)),
    costOf('one event, vm.send, memory of a single agent', rowOf(single, SINGLE)),
    costOf('256 events in one vm.sendMany', rowOf(batch, many(256))),
    costOf('4096 events in one vm.sendMany', rowOf(batch, many(4096))),
    costOf('hand-written Atomics in TypeScript', rowOf(send, ATOMICS)),
    costOf('EventEmitter.emit, one listener, no other thread', rowOf(send, EMITTER)),
    { name: 'postMessage to a worker, a stream', ns: message, ratio: message / atomics },
  ];
}

function rowOf(report: Summary, name: string): Row {
  const row = report.rows.find((one) => one.name === name);
  if (!row) throw new Error(`the bench has no row "${name}"`);
  return row;
}

function costOf(name: string, { ns, ratio }: Row): Cost {
  return { name, ns, ratio: ratio ?? Number.NaN };
}
