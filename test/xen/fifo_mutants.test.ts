// Single faults put into the FIFO ABI on purpose: each has to turn an interleaving red, else that test proves nothing.

import { describe, expect, test } from 'vitest';
import { FIFO_PAGES } from '../../src/abi/fifo.ts';
import { buildMutant, type Mutant } from '../interleave/mutants.ts';
import { kernelBytes } from '../support.ts';
import { FIFO_SCENARIOS } from './fifo_scenarios.ts';
import { FifoInterleaver, type FifoWorld } from './fifo_world.ts';

const SEND = 'assembly/fifo_send.ts';
const LINK = 'assembly/fifo_link.ts';
const DRAIN = 'assembly/fifo_drain.ts';
const SWITCH = 'assembly/fifo_switch.ts';

const MUTANTS: readonly Mutant[] = [
  {
    name: 'XE-FF-11 queues are not locked',
    file: 'assembly/fifo_queue.ts',
    from: 'if (word & QUEUE_HOLDER_BITS || Shared.compareExchange<i32>(queue, word, word | holder) != word) return BUSY;',
    to: '',
  },
  {
    name: 'XE-FF-11 KF-73 after locking nobody looks again which queues they are',
    file: SEND,
    from: 'return Shared.load<i32>(record + FIFO_PORT_LAST) == last && Fifo.queueOf(Fifo.entry(record), named) == queue;',
    to: 'return queue >= 0 || last >= 0 || named >= 0;',
  },
  {
    name: 'XE-FF-15 KF-69 a stale tail stays the tail of its old queue',
    file: SEND,
    from: 'if (oldTail == port) oldTail = 0;',
    to: '',
  },
  {
    name: 'XE-FF-15 a port that is its own tail is hung behind itself',
    file: LINK,
    from: 'if (tail && tail != port && Link.append',
    to: 'if (tail && Link.append',
  },
  {
    name: 'XE-FF-17 a tail that was taken is taken for one that is linked',
    file: LINK,
    from: 'if (!(old & EVENT_LINKED)) return false;\n    // On',
    to: '// On',
  },
  {
    name: 'XE-FF-30 the link of a tail is written in two steps',
    file: LINK,
    from: 'return Shared.compareExchange<i32>(tailWord, old, next) == old || appendLate(fifo, tailWord, port);',
    to: 'Shared.store<i32>(tailWord, next);\n    return true;',
  },
  {
    name: 'XE-FF-22 the ready bit is set before the head',
    file: LINK,
    from: 'Shared.store<i32>(head, port);\n    return NEW_HEAD;',
    to: 'return NEW_HEAD;',
  },
  {
    name: 'XE-FF-19 a new head sets no ready bit',
    file: SEND,
    from: 'return setReady(control, queue) ? LINKED_NOW | TELL : LINKED_NOW;',
    to: 'return LINKED_NOW;',
  },
  {
    name: 'XE-FF-22 the upcall byte is set before the ready bit',
    file: SEND,
    from: 'if (done & TELL) raiseByte(vm, agent, Fifo.vcpuOf(queue));\n  if (anyPoller(vm))',
    to: 'if (anyPoller(vm))',
  },
  {
    name: 'XE-FF-50 KF-23 an unmask looks at PENDING before it clears MASKED',
    file: SEND,
    from: 'const old = what == UNMASK ? Shared.and<i32>(word, ~EVENT_MASKED) : Shared.load<i32>(word);',
    to: 'const old = Shared.load<i32>(word);\n  if (what == UNMASK && old & EVENT_PENDING) Shared.and<i32>(word, ~EVENT_MASKED);',
  },
  {
    name: 'KX-EVT-65 a pending port is left alone, without a locked operation',
    file: 'assembly/send.ts',
    from: 'else if (word & GPC_FIFO) result = fifoSend(vm, agent, port, -1);',
    to: 'else if (word & GPC_FIFO) {\n    const at = Fifo.word(Fifo.part(vm), Fifo.pages(Fifo.part(vm)), port);\n    result = at > AWAY && Shared.load<i32>(at) < 0 ? 0 : fifoSend(vm, agent, port, -1);\n  }',
  },
  {
    name: 'GC-02 the consumer takes ready before it clears the upcall byte',
    file: DRAIN,
    from: 'Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);\n  takeShadow<u64>(line);\n  let found = none ? 0 : consume(fifo, record, control, pages, out);',
    to: 'let found = none ? 0 : consume(fifo, record, control, pages, out);\n  Shared.store<u8>((info as usize) + VCPU_INFO_UPCALL_PENDING, 0);\n  takeShadow<u64>(line);',
  },
  {
    name: 'XE-FF-72 the consumer takes a word in two steps',
    file: DRAIN,
    from: 'if (Shared.compareExchange<i32>(word, old, next) == old) return old & ~EVENT_BUSY;',
    to: 'Shared.store<i32>(word, next);\n    return old & ~EVENT_BUSY;',
  },
  {
    name: 'XE-FF-71 the consumer loads and clears ready in two steps',
    file: DRAIN,
    from: 'return Shared.load<i32>(ready) ? Shared.exchange<i32>(ready, 0) & QUEUES : 0;',
    to: 'const seen = Shared.load<i32>(ready) & QUEUES;\n  Shared.store<i32>(ready, 0);\n  return seen;',
  },
  {
    name: 'XE-FF-10 a send saves an event although the ABI is changing',
    file: SEND,
    from: 'if (pages == FIFO_PARKED) return -EAGAIN;\n  const word = Fifo.word(fifo, pages, port);\n  if (word <= AWAY) return word == AWAY ? -EAGAIN : save(record, what);',
    to: 'const word = Fifo.word(fifo, pages == FIFO_PARKED ? 0 : pages, port);\n  if (word <= AWAY) return word == AWAY ? -EAGAIN : save(record, what);',
  },
  {
    name: 'XE-OP-122 what is pending at 2 levels is forgotten',
    file: SWITCH,
    from: '(long ? isPending<u64>(page, port) : isPending<u32>(page, port)) ? FIFO_SAVED : 0;',
    to: '(long ? isPending<u64>(page, 0) : isPending<u32>(page, 0)) ? FIFO_SAVED : 0;',
  },
  {
    name: 'the way back forgets what was saved for a page that is not there',
    file: SWITCH,
    from: '& FIFO_SAVED ? old | EVENT_PENDING : old;',
    to: '& FIFO_SAVED ? old : old;',
  },
];

/** The same for the half in TypeScript: done to each world. */
const PATCHES: readonly { readonly name: string; readonly patch: (world: FifoWorld) => void }[] = [
  {
    name: 'the ABI changes without parking senders: no number of pages says so',
    patch: ({ owner }) => {
      const { words } = owner.region;
      const store = words.store.bind(words);
      words.store = (at, value) => {
        if (at !== owner.region.fifo + FIFO_PAGES || value >= 0) store(at, value);
      };
    },
  },
];

const EXTRA = "import { AWAY, Fifo } from './fifo_table';\n";

describe('every fault that is put in turns an interleaving red', () => {
  test.each(MUTANTS)('$name', async (mutant) => {
    const needs = mutant.file === 'assembly/send.ts' ? EXTRA : '';
    expect(reds(new FifoInterleaver(await buildMutant(mutant, needs)))).not.toBeNull();
  });

  test.each(PATCHES)('$name', ({ patch }) => {
    expect(reds(new FifoInterleaver(kernelBytes('trace-shared'), patch))).not.toBeNull();
  });
});

/** The first scenario that goes wrong; the short ones are tried first. */
function reds(interleaver: FifoInterleaver): string | null {
  const byLength = [...FIFO_SCENARIOS].sort((a, b) => Number(a.slowHalf ?? false) - Number(b.slowHalf ?? false));
  return byLength.find((scenario) => interleaver.explore(scenario).findings.length > 0)?.name ?? null;
}
