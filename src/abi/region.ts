// The engine's own records. They live at offsets from a region base that the owner of the memory chooses, so every
// agent that maps the memory sees the same VM. All fields are i32 unless said otherwise.
//
//   region base ─┬─ header        one line of limits, one line with the gpc of shared_info
//                ├─ group owners  which vCPU serves each group of 64 ports
//                ├─ port table    an entry per port
//                ├─ vCPU lines    one cache line per vCPU: all that a send touches
//                ├─ vCPU records  clocks, runstate
//                └─ agents        one record per attached thread: reader word, counters, scratch, lists

/** Raised whenever a record below changes its shape. */
export const REGION_VERSION = 1;
/** "EVCH" as a little-endian word. */
export const REGION_MAGIC = 0x48435645;
/** A record that one party writes often starts on a line of its own. */
export const CACHE_LINE = 64;

// ── header ─────────────────────────────────────────────────────────────────────────────────────────────────────────
export const REGION_MAGIC_AT = 0;
export const REGION_VERSION_AT = 4;
export const REGION_FINGERPRINT = 8;
export const REGION_STATE = 12;
export const REGION_SIZE = 16;
export const REGION_VCPUS = 20;
export const REGION_AGENTS = 24;
/** linear offset and bytes of the guest-RAM window: gpa 0 is at GUEST_BASE */
export const REGION_GUEST_BASE = 28;
export const REGION_GUEST_BYTES = 32;
/** offsets of the two parts whose place depends on the number of vCPUs */
export const REGION_VCPU_RECORDS = 36;
export const REGION_AGENT_RECORDS = 40;
/** the VM-wide upcall vector, 0 = none */
export const REGION_UPCALL_VECTOR = 44;
/** 1 while guest copies of runstate carry the update marker [KX-VMA-15] */
export const REGION_RUNSTATE_UPDATE_FLAG = 48;
/** invalidations begun and not ended, and the count of those that ended [KX-GPC-32, 38] */
export const REGION_INVALIDATE_ACTIVE = 52;
export const REGION_INVALIDATE_SEQ = 56;
/** vCPUs that are polling; lets a batch skip the search for pollers */
export const REGION_POLLERS = 60;
/** the gpc of shared_info; its word also carries GPC_LONG_MODE */
export const REGION_SHARED_INFO = CACHE_LINE;
export const REGION_HEADER_SIZE = 2 * CACHE_LINE;

export const REGION_LIVE = 1;
export const REGION_CLOSED = 2;

// ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Ports are grouped by 64 (one long word, two compat words); an entry names the vCPU all of them are bound to. */
export const GROUP_SHIFT = 6;
export const GROUP_OWNERS = REGION_HEADER_SIZE;
/** the ports of the group are bound to different vCPUs: look each one up */
export const GROUP_MIXED = -1;

/** One i32 per port: bits 0..15 the vCPU it is bound to; the rest is reserved for type and flags. */
export const PORT_TABLE_PORTS = 4096;
export const PORT_TABLE = GROUP_OWNERS + (PORT_TABLE_PORTS >> GROUP_SHIFT) * 4;
export const PORT_VCPU_BITS = 0xffff;

// ── gfn-to-pfn cache ───────────────────────────────────────────────────────────────────────────────────────────────
/**
 * The word that the fast half reads: the linear address of what a valid cache maps, or a value from GPC_UNMAPPED up.
 * Pointer and validity are one word, so they cannot disagree. Bit 0 is the long mode of shared_info in either state;
 * while unmapped, bits 1..11 name the agent whose refresh is under way, so that only that refresh can publish.
 */
export const GPC_WORD = 0;
/** the last page of a 4 GiB memory is never mapped, so its addresses can mean "no mapping" (as unsigned) */
export const GPC_UNMAPPED = -4096;
export const GPC_LONG_MODE = 1;
export const GPC_TOKEN_SHIFT = 1;
/** 1 from activation to deactivation */
export const GPC_ACTIVE = 4;
/** u64 guest-physical address as two words */
export const GPC_GPA_LO = 8;
export const GPC_GPA_HI = 12;
export const GPC_LENGTH = 16;
export const GPC_SIZE = 32;

// ── vCPU line ──────────────────────────────────────────────────────────────────────────────────────────────────────
export const VCPU_LINES = PORT_TABLE + PORT_TABLE_PORTS * 4;
export const VCPU_LINE_SIZE = CACHE_LINE;
/** the gpc of vcpu_info */
export const VCPU_INFO_GPC = 0;
/** what a kick has to do for this vCPU; 0 while it is awake and looks by itself */
export const VCPU_KICK = GPC_SIZE;
export const KICK_SLEEPER = 1;
export const KICK_LISTENER = 2;
export const KICK_VECTOR = 4;
/** the port a poller waits for, plus 1; POLL_ANY for several; 0 while not polling [KX-HCL-33] */
export const VCPU_POLL = VCPU_KICK + 4;
export const POLL_ANY = -1;
/** this vCPU's own upcall vector, 0 = none */
export const VCPU_UPCALL_VECTOR = VCPU_POLL + 4;
/** the selector kept on our side while vcpu_info is unusable; 64 bits as two words [KX-EVT-16] */
export const VCPU_SHADOW_LO = VCPU_UPCALL_VECTOR + 4;
export const VCPU_SHADOW_HI = VCPU_SHADOW_LO + 4;
/** things the vCPU is asked to do at its next look */
export const VCPU_REQUESTS = VCPU_SHADOW_HI + 4;
/** offset of the agent that sleeps for this vCPU, 0 = none: one agent runs a vCPU at a time */
export const VCPU_SLEEPER = VCPU_REQUESTS + 4;
/** offset of the agent that polls for this vCPU, 0 = none */
export const VCPU_POLLER = VCPU_SLEEPER + 4;
export const REQUEST_UNBLOCK = 1;
export const REQUEST_VECTOR = 2;
export const REQUEST_CLOSED = 4;
/** a port that was polled for has become pending */
export const REQUEST_POLLED = 8;

// ── vCPU record ────────────────────────────────────────────────────────────────────────────────────────────────────
export const VCPU_RECORD_SIZE = 4 * CACHE_LINE;
export const VCPU_TIME_INFO_GPC = 0;
export const VCPU_RUNSTATE1_GPC = VCPU_TIME_INFO_GPC + GPC_SIZE;
export const VCPU_RUNSTATE2_GPC = VCPU_RUNSTATE1_GPC + GPC_SIZE;
/** the host's own runstate: version (odd while it changes), state, then u64 fields; ns */
export const VCPU_RUNSTATE_VERSION = 2 * CACHE_LINE;
export const VCPU_RUNSTATE_STATE = VCPU_RUNSTATE_VERSION + 4;
export const VCPU_RUNSTATE_ENTRY_TIME = VCPU_RUNSTATE_STATE + 4;
export const VCPU_RUNSTATE_TIMES = VCPU_RUNSTATE_ENTRY_TIME + 8;
export const VCPU_LAST_STEAL = VCPU_RUNSTATE_TIMES + 4 * 8;

// ── agent record ───────────────────────────────────────────────────────────────────────────────────────────────────
/** odd while the agent reads mapped pages; alone on its line, because invalidation watches it */
export const AGENT_READER = 0;
export const AGENT_STATE = CACHE_LINE;
export const AGENT_FREE = 0;
export const AGENT_USED = 1;
/** sleepers this agent has woken by a notify */
export const AGENT_WAKES = AGENT_STATE + 4;
/** exact results of the last sendMany */
export const AGENT_DELIVERED = AGENT_STATE + 8;
export const AGENT_COALESCED = AGENT_STATE + 12;
export const AGENT_MASKED = AGENT_STATE + 16;
export const AGENT_BAD = AGENT_STATE + 20;
/** room for one structure on its way in or out: a runstate, a pvclock record, a time */
export const AGENT_RECORD = 2 * CACHE_LINE;
export const AGENT_RECORD_SIZE = CACHE_LINE;
/** two private bitmaps in which a batch is combined; all 0 between calls */
export const AGENT_PLANE0 = AGENT_RECORD + AGENT_RECORD_SIZE;
export const AGENT_PLANE_SIZE = PORT_TABLE_PORTS / 8;
export const AGENT_PLANE1 = AGENT_PLANE0 + AGENT_PLANE_SIZE;
/** ports to send, u32 each, and ports drained */
export const AGENT_LIST_PORTS = PORT_TABLE_PORTS;
export const AGENT_OUTBOX = AGENT_PLANE1 + AGENT_PLANE_SIZE;
export const AGENT_INBOX = AGENT_OUTBOX + AGENT_LIST_PORTS * 4;
/** ports to poll, u32 each [KX-HCL-32] */
export const AGENT_POLL_PORTS = 128;
export const AGENT_POLL_LIST = AGENT_INBOX + AGENT_LIST_PORTS * 4;
/** a byte per port, in which a large batch is combined; all 0 between calls */
export const AGENT_MARKS = AGENT_POLL_LIST + AGENT_POLL_PORTS * 4;
export const AGENT_SIZE = AGENT_MARKS + PORT_TABLE_PORTS;

// ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
export const MAX_VCPUS = 4096;
/** a refresh token is the agent's number plus 1 and has 11 bits */
export const MAX_AGENTS = 1024;
