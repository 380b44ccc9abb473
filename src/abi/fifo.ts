// The FIFO ABI: what guest and engine share, and the engine's own part of the region for it.
//
//   event word    one u32 per port, 1024 in a page that the guest gives; ports in order of their pages
//   control block one per vCPU: which queues have a new head, and the heads
//
//   FIFO part ─┬─ header     limits and places
//              ├─ page gpcs  one per page of event words, 128
//              ├─ vCPUs      gpc of the control block, the 16 queues, what a consumer of ours keeps
//              └─ ports      two i32 per port: where it goes, and where it was queued last

// ── event word [xen 4.1] ───────────────────────────────────────────────────────────────────────────────────────────
/** set by the sender (or by the guest, to have it again), cleared by the consumer */
export const EVENT_PENDING = -0x80000000;
/** set by the guest; cleared by it or by its unmask hypercall */
export const EVENT_MASKED = 0x40000000;
/** set by the sender when it queues the port, cleared by the consumer together with the link */
export const EVENT_LINKED = 0x20000000;
/** the sender is about to write the link of a contended tail: the guest may not unmask by itself */
export const EVENT_BUSY = 0x10000000;
/** the next port of the queue, 0 = none */
export const EVENT_LINK_BITS = 0x1ffff;
export const EVENT_LINK_WIDTH = 17;
export const EVENT_WORDS_SHIFT = 10;
export const EVENT_WORDS_PER_PAGE = 1024;
export const EVENT_PAGES_MAX = 128;
/** 2^17: the ABI's limit [XE-MOD-12] */
export const PORTS_FIFO = 131072;

// ── control block [xen 4.1] ────────────────────────────────────────────────────────────────────────────────────────
/** u32, a bit per queue that has a new head: set by the sender, taken by the guest */
export const CONTROL_READY = 0;
/** u32 per priority: the first port of its queue, written by the sender */
export const CONTROL_HEAD = 8;
export const CONTROL_SIZE = 72;
/** 0 is served first */
export const FIFO_PRIORITIES = 16;
export const FIFO_PRIORITY_DEFAULT = 7;

// ── FIFO part: header ──────────────────────────────────────────────────────────────────────────────────────────────
/** pages of event words in force, or FIFO_PARKED: the 2-level ABI is in force, or the ABI is changing; read under a queue's lock */
export const FIFO_PAGES = 0;
export const FIFO_PARKED = -1;
/** the most pages there may be, and the ports of that: 1..limit-1 */
export const FIFO_CAPACITY = 4;
export const FIFO_LIMIT = 8;
/** offset of the port records from the FIFO part */
export const FIFO_PORTS = 12;
/** events dropped: for a vCPU without control block, or because a guest did not leave a tail alone [XE-FF-12, XE-FF-32] */
export const FIFO_DROPPED = 16;
/** 1 while an agent has died in a queue, and what it had half done was not repaired yet */
export const FIFO_REPAIR = 20;
/** gpc of each page of event words */
export const FIFO_PAGE_GPCS = 64;
export const FIFO_VCPUS = 4160;

// ── FIFO part: vCPU record ─────────────────────────────────────────────────────────────────────────────────────────
export const FIFO_VCPU_SIZE = 256;
/** gpc of the control block */
export const FIFO_CONTROL_GPC = 0;
/** i32 per priority: the tail and the lock of its queue in one word */
export const FIFO_QUEUES = 64;
/** the port queued last, or 0: nothing was queued since the start. It may have been taken since [XE-FF-61] */
export const QUEUE_TAIL_BITS = 0x1ffff;
/** the agent that has it locked, 0 = nobody: its number plus 1 */
export const QUEUE_HOLDER_SHIFT = 17;
export const QUEUE_HOLDER_BITS = 0xffe0000;
/** grows with every unlocking, so that who waits for one sees it */
export const QUEUE_COUNT_ONE = 0x10000000;
/** u32 per priority: where our consumer stands in the queue, 0 = at the head in the control block [XE-FF-70] */
export const FIFO_LOCAL_HEADS = 128;
/** offset of the agent that consumes for this vCPU right now, 0 = none */
export const FIFO_CONSUMER = 192;
/** added to what a drain returns: there is more, for the next one */
export const DRAIN_MORE = 0x10000;
/** queues that our consumer has taken from the ready word and not emptied */
export const FIFO_LOCAL_READY = 196;

// ── FIFO part: port record ─────────────────────────────────────────────────────────────────────────────────────────
export const FIFO_PORT_SIZE = 8;
/** bits 0..15 the vCPU, bit 16 PORT_BOUND, then the priority, and what was raised before there was a word for it */
export const FIFO_PORT_ENTRY = 0;
export const FIFO_PRIORITY_SHIFT = 20;
/** the queue of an entry: vCPU and priority, one number [KF-73] */
export const FIFO_QUEUE_BITS = 0xf0ffff;
/** pending before its page of event words was there [XE-FF-20] */
export const FIFO_SAVED = 0x1000000;
/** the queue it was linked on last, as in the entry [XE-FF-02] */
export const FIFO_PORT_LAST = 4;
