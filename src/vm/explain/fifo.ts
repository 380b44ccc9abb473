// "Why did nothing happen?" under the FIFO ABI: word, mask, queue, control block, upcall byte, in the order in which an event meets them.

import {
  CONTROL_READY,
  EVENT_BUSY,
  EVENT_LINKED,
  EVENT_MASKED,
  EVENT_PENDING,
  EVENT_WORDS_PER_PAGE,
  FIFO_CONTROL_GPC,
  FIFO_LOCAL_READY,
  FIFO_PAGES,
  FIFO_PORT_ENTRY,
  FIFO_PORT_LAST,
  FIFO_QUEUES,
  FIFO_SAVED,
  QUEUE_HOLDER_BITS,
  QUEUE_HOLDER_SHIFT,
} from '../../abi/fifo.ts';
import { PORT_VCPU_BITS, VCPU_INFO_GPC } from '../../abi/region.ts';
import { VCPU_INFO_UPCALL_PENDING } from '../../abi/vcpu_info.ts';
import { fifoPort, priorityOf } from '../fifo/records.ts';
import type { Vm } from '../vm.ts';
import { type ExplanationFact, fact } from './facts.ts';
import { byteAt, type Place, placeOf } from './look.ts';

/** What an explanation ends at under the FIFO ABI, beside the causes of both. */
export type FifoCause =
  | 'no-event-word'
  | 'event-word-unreachable'
  | 'no-control-block'
  | 'not-linked'
  | 'queue-locked'
  | 'queued';

/** A cause of the FIFO ABI, or one that it shares with the 2-level one. @internal */
export interface FifoFinding {
  readonly cause: FifoCause | 'not-pending' | 'masked' | 'upcall-taken';
  readonly verdict: string;
  readonly advice: string;
}

interface FifoLook {
  readonly port: number;
  readonly pages: number;
  readonly saved: boolean;
  readonly place: Place | null;
  readonly word: number;
  /** where it goes, and where it is or was queued */
  readonly vcpu: number;
  readonly priority: number;
  readonly queue: { readonly vcpu: number; readonly priority: number };
  readonly control: Place;
  readonly ready: boolean;
  readonly upcall: boolean;
  /** the agent that has the queue locked, or null */
  readonly holder: number | null;
}

/** @internal */
export function explainFifo(vm: Vm, port: number): { facts: ExplanationFact[]; finding: FifoFinding } {
  const look = lookAtFifo(vm, port);
  return { facts: factsOf(look), finding: findingOf(look) };
}

function lookAtFifo(vm: Vm, port: number): FifoLook {
  const { region } = vm;
  const { words } = region;
  const record = fifoPort(region, port);
  const [entry, last] = [words.load(record + FIFO_PORT_ENTRY), words.load(record + FIFO_PORT_LAST)];
  const pages = words.load(region.fifo + FIFO_PAGES);
  const page = Math.floor(port / EVENT_WORDS_PER_PAGE);
  const place = page < pages ? placeOf(vm, region.fifoPage(page)) : null;
  const word = place?.at == null ? 0 : wordAt(vm, place.at, 4 * (port % EVENT_WORDS_PER_PAGE));
  const queue = word & EVENT_LINKED ? last : entry;
  const vcpu = region.fifoVcpu(queue & PORT_VCPU_BITS);
  const control = placeOf(vm, vcpu + FIFO_CONTROL_GPC);
  const ready = (control.at === null ? 0 : wordAt(vm, control.at, CONTROL_READY)) | words.load(vcpu + FIFO_LOCAL_READY);
  const info = placeOf(vm, region.vcpuLine(queue & PORT_VCPU_BITS) + VCPU_INFO_GPC);
  const holder = words.load(vcpu + FIFO_QUEUES + 4 * priorityOf(queue)) & QUEUE_HOLDER_BITS;
  return {
    port,
    pages,
    saved: (entry & FIFO_SAVED) !== 0,
    place,
    word,
    vcpu: entry & PORT_VCPU_BITS,
    priority: priorityOf(entry),
    queue: { vcpu: queue & PORT_VCPU_BITS, priority: priorityOf(queue) },
    control,
    ready: ((ready >> priorityOf(queue)) & 1) === 1,
    upcall: byteAt(vm, info.at, VCPU_INFO_UPCALL_PENDING) !== 0,
    holder: holder === 0 ? null : (holder >>> QUEUE_HOLDER_SHIFT) - 1,
  };
}

/** A copy: it may change meanwhile. */
function wordAt(vm: Vm, at: number, offset: number): number {
  return [3, 2, 1, 0].reduce((word, i) => (word << 8) | byteAt(vm, at, offset + i), 0);
}

function findingOf(look: FifoLook): FifoFinding {
  return withoutWord(look) ?? withoutControl(look) ?? ofWord(look) ?? ofQueue(look);
}

function withoutWord({ pages, saved, place }: FifoLook): FifoFinding | null {
  if (place === null) {
    const event = saved ? 'it was raised, and waits' : 'what is raised waits';
    return {
      cause: 'no-event-word',
      verdict: `the guest has given ${pages} pages of event words, and this port is beyond them: ${event} until it has one`,
      advice: 'expandArray() with the next page, by the guest’s EVTCHNOP_expand_array',
    };
  }
  if (place.at !== null) return null;
  return {
    cause: 'event-word-unreachable',
    verdict: `its event word is on a page at ${place.address}, which cannot be reached`,
    advice: 'bring the page back (a memory slot, a host page); sends answer -EFAULT until then',
  };
}

function withoutControl({ word, queue, control }: FifoLook): FifoFinding | null {
  if (control.registered || word & (EVENT_PENDING | EVENT_LINKED)) return null;
  return {
    cause: 'no-control-block',
    verdict: `vCPU ${queue.vcpu} has no control block, so what is raised for it is dropped, as Xen does`,
    advice: `initControl({ vcpu: ${queue.vcpu} }), by the guest’s EVTCHNOP_init_control, before anything is raised for it`,
  };
}

function ofWord({ port, word }: FifoLook): FifoFinding | null {
  if (!(word & EVENT_PENDING)) {
    return {
      cause: 'not-pending',
      verdict: 'it is not pending: nobody has raised it, or its event was taken',
      advice: 'look at the result of the send; after a drain the event is with the handler',
    };
  }
  if (word & EVENT_MASKED) {
    return {
      cause: 'masked',
      verdict: 'it is pending, but the guest has masked it',
      advice: `unmask it: vm.unmask(${port}) queues what is pending; clearing the bit alone does not`,
    };
  }
  if (word & EVENT_LINKED) return null;
  return {
    cause: 'not-linked',
    verdict:
      'it is pending and not masked, but in no queue: whoever cleared its mask did not ask for it, or is about to',
    advice: `vm.unmask(${port}), or the next send of it, puts it into its queue`,
  };
}

function ofQueue({ queue, holder, ready, upcall }: FifoLook): FifoFinding {
  const where = `it is in the queue of priority ${queue.priority} of vCPU ${queue.vcpu}`;
  if (holder !== null) {
    return {
      cause: 'queue-locked',
      verdict: `${where}, which agent ${holder} has locked`,
      advice: `it goes on at once, unless its thread is dead: detachAgent(${holder})`,
    };
  }
  if (ready && !upcall) {
    return {
      cause: 'upcall-taken',
      verdict: `${where}, whose ready bit is set; the upcall byte is clear: the upcall handler is at work, or has stopped`,
      advice: `look what the guest does; vm.vcpu(${queue.vcpu}).resync() asks again`,
    };
  }
  const asked = upcall ? 'the vCPU is asked for an upcall' : 'the guest stands in that queue, or has left it half-way';
  return {
    cause: 'queued',
    verdict: `${where}, and ${asked}`,
    advice: `drain() of vCPU ${queue.vcpu}, or let the guest take its upcall: queues before it come first`,
  };
}

function factsOf({ pages, saved, place, word, vcpu, priority, queue, control, ready, upcall, holder }: FifoLook) {
  const bit = (bits: number): boolean => (word & bits) !== 0;
  const facts = [
    fact('pages of event words', pages, `ports up to ${pages * EVENT_WORDS_PER_PAGE - 1} have a word`),
    fact('goes to', `vCPU ${vcpu}, priority ${priority}`, 'from its next link on'),
  ];
  if (place === null) facts.push(fact('saved', saved, saved ? 'it is raised when it has a word' : 'nothing waits'));
  else {
    facts.push(
      fact('pending', bit(EVENT_PENDING), bit(EVENT_PENDING) ? 'it was raised and not taken yet' : 'no event waits'),
    );
    facts.push(
      fact('masked', bit(EVENT_MASKED), bit(EVENT_MASKED) ? 'the guest does not want it now' : 'it may be delivered'),
    );
    facts.push(fact('linked', bit(EVENT_LINKED), bit(EVENT_LINKED) ? 'it is in a queue' : 'it is in none'));
    facts.push(
      fact('busy', bit(EVENT_BUSY), bit(EVENT_BUSY) ? 'its link is about to be written' : 'nobody writes its link'),
    );
  }
  const block = control.registered ? control.address : 'none';
  facts.push(
    fact(`vCPU ${queue.vcpu} control block`, block, control.registered ? 'has its heads' : 'events are dropped'),
  );
  facts.push(fact(`priority ${queue.priority} ready`, ready, ready ? 'the queue has a new head' : 'no new head'));
  if (holder !== null) facts.push(fact('queue lock', holder, `agent ${holder} has it`));
  facts.push(fact(`vCPU ${queue.vcpu} upcall byte`, upcall, upcall ? 'the guest is asked' : 'it is not asked for one'));
  return facts;
}
