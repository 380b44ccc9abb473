// The port descriptors of a domain, and what else the engine keeps of one: our own records. All fields are i32.
//
//   the xen part ─┬─ VIRQ table    per vCPU, which port each VIRQ raises
//                 ├─ peers         per agent, where its own records in the domains are that it sends to
//                 └─ descriptors   one per port
//
// A descriptor is changed by the owner and read by every sender. Its first word decides what the others mean: it is written
// last when a port comes to be, and first when it ceases to; who has read it finishes before the others change. [XE-MOD-03]

export const PORT_DESC_SIZE = 16;
/** state in bits 0..2, PORT_CONSUMER, the vCPU in bits 4..15, and in bits 16..31 the domain of a peer or an allowed binder */
export const PORT_WHAT = 0;
/** the peer's port, the VIRQ or the PIRQ */
export const PORT_NUMBER = 4;
/** of a peer in the same memory: its region base plus 1; 0 elsewhere */
export const PORT_PEER_REGION = 8;
/** what survives a change of state: PORT_SAVED; bits from 8 on are the FIFO ABI's */
export const PORT_KEPT = 12;

/** Port states by Xen's numbers. [XE-MOD-04] */
export const PORT_FREE = 0;
export const PORT_RESERVED = 1;
export const PORT_UNBOUND = 2;
export const PORT_INTERDOMAIN = 3;
export const PORT_PIRQ = 4;
export const PORT_VIRQ = 5;
export const PORT_IPI = 6;
export const PORT_STATE_BITS = 7;
/** the hypervisor itself consumes its events: the guest may not touch the port [XE-MOD-05] */
export const PORT_CONSUMER = 8;
export const PORT_TARGET_SHIFT = 4;
export const PORT_TARGET_BITS = 0xfff;
export const PORT_DOM_SHIFT = 16;
/** it became pending while there was nowhere to say so: it is raised when there is */
export const PORT_SAVED = 1;

/** descriptors come to be in batches [XE-MOD-13] */
export const PORT_BATCH = 64;
/** ports of the FIFO ABI [XE-MOD-12] */
export const MAX_DOMAIN_PORTS = 131072;

/** An agent's peers: entries of region base plus 1 and the agent's record there, found by the peer's domain id modulo their number. */
export const PEERS = 16;
export const PEER_SIZE = 8;
export const PEER_REGION = 0;
export const PEER_AGENT = 4;

/** result of a send whose peer is not within reach of the kernel: TypeScript delivers it */
export const XEN_ELSEWHERE = 1;
