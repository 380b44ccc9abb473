// Where the records of the FIFO ABI are, and the guest's words behind them.
//
// A queue's lock is a reader section as well: whoever holds one may use what a gpc word mapped when it was read after the lock
// was taken. An invalidation unmaps the words, then waits for the locks (awaitQueues).

import {
  CONTROL_HEAD,
  EVENT_WORDS_PER_PAGE,
  EVENT_WORDS_SHIFT,
  FIFO_CONTROL_GPC,
  FIFO_LIMIT,
  FIFO_PAGE_GPCS,
  FIFO_PAGES,
  FIFO_PORT_ENTRY,
  FIFO_PORT_SIZE,
  FIFO_PORTS,
  FIFO_PRIORITY_SHIFT,
  FIFO_QUEUE_BITS,
  FIFO_QUEUES,
  FIFO_VCPU_SIZE,
  FIFO_VCPUS,
} from '../src/abi/fifo.ts';
import {
  GPC_FIFO,
  GPC_SIZE,
  GPC_WORD,
  PORT_BOUND,
  PORT_VCPU_BITS,
  REGION_FIFO,
  REGION_SHARED_INFO,
} from '../src/abi/region.ts';
import { Layout } from './layout';
import { Shared } from './shared';

/** In place of an address: there is no word for the port, or its page is not mapped now. */
export const NO_WORD: usize = 0;
export const AWAY: usize = 1;

export class Fifo {
  /** Whether the FIFO ABI is in force. Outside a reader section only a hint: FIFO_PAGES decides, under a queue's lock. */
  @inline static active(vm: usize): bool {
    return (Shared.load<i32>(vm + REGION_SHARED_INFO + GPC_WORD) & GPC_FIFO) != 0;
  }
  /** The part of the region. Its header but FIFO_PAGES never changes. */
  @inline static part(vm: usize): usize {
    return vm + (load<i32>(vm + REGION_FIFO) as usize);
  }
  /** Pages of event words, or FIFO_PARKED. */
  @inline static pages(fifo: usize): i32 {
    return Shared.load<i32>(fifo + FIFO_PAGES);
  }
  /** Port 0 is never valid: one unsigned comparison checks both ends. */
  @inline static isPort(fifo: usize, port: i32): bool {
    return ((port - 1) as u32) < ((load<i32>(fifo + FIFO_LIMIT) - 1) as u32);
  }
  @inline static port(fifo: usize, port: i32): usize {
    return fifo + (load<i32>(fifo + FIFO_PORTS) as usize) + (port as usize) * FIFO_PORT_SIZE;
  }
  @inline static vcpu(fifo: usize, vcpu: i32): usize {
    return fifo + FIFO_VCPUS + (vcpu as usize) * FIFO_VCPU_SIZE;
  }
  /** The gpc word of a vCPU's control block. */
  @inline static control(record: usize): i32 {
    return Shared.load<i32>(record + FIFO_CONTROL_GPC + GPC_WORD);
  }
  /** What maps a page of event words. */
  @inline static page(fifo: usize, page: i32): i32 {
    return Shared.load<i32>(fifo + FIFO_PAGE_GPCS + (page as usize) * GPC_SIZE + GPC_WORD);
  }
  /** The address of a port's event word, NO_WORD or AWAY. `pages` is not FIFO_PARKED; in a reader section. [XE-FF-51] */
  @inline static word(fifo: usize, pages: i32, port: i32): usize {
    const page = (port as u32) >>> EVENT_WORDS_SHIFT;
    if (page >= (pages as u32)) return NO_WORD;
    const mapped = Fifo.page(fifo, page as i32);
    if (Layout.unmapped(mapped)) return AWAY;
    return (mapped as usize) + ((port & (EVENT_WORDS_PER_PAGE - 1)) << 2);
  }

  /** The queue an event goes to, as one number: the priority and vCPU of its port, or `named` while it is bound to none. */
  @inline static queueOf(entry: i32, named: i32): i32 {
    const queue = entry & FIFO_QUEUE_BITS;
    return named < 0 || entry & PORT_BOUND ? queue : (queue & ~PORT_VCPU_BITS) | named;
  }
  @inline static entry(record: usize): i32 {
    return Shared.load<i32>(record + FIFO_PORT_ENTRY);
  }
  @inline static vcpuOf(queue: i32): i32 {
    return queue & PORT_VCPU_BITS;
  }
  @inline static priorityOf(queue: i32): i32 {
    return (queue & FIFO_QUEUE_BITS) >> FIFO_PRIORITY_SHIFT;
  }
  /** The word of a queue: its tail and its lock. */
  @inline static queue(fifo: usize, queue: i32): usize {
    return Fifo.vcpu(fifo, Fifo.vcpuOf(queue)) + FIFO_QUEUES + ((Fifo.priorityOf(queue) as usize) << 2);
  }
  /** Where a control block has the head of a queue. */
  @inline static head(control: i32, queue: i32): usize {
    return (control as usize) + CONTROL_HEAD + ((Fifo.priorityOf(queue) as usize) << 2);
  }
}
