// The engine's own records. They live at offsets from a region base that the owner of the memory chooses, so every
// agent that maps the memory sees the same VM. All fields are i32 unless said otherwise.
//
//   region base ─┬─ header        lines of limits and places, the gpc of shared_info, the VM's clock and configuration
//                ├─ group owners  which vCPU serves each group of 64 ports
//                ├─ port table    an entry per port
//                ├─ vCPU lines    one cache line per vCPU: all that a send touches
//                ├─ vCPU records  clocks, runstate, timers
//                ├─ agents        one record per attached thread: reader word, counters, scratch, lists
//                ├─ memslots      guest frames to host addresses
//                ├─ host pages    which frame each page of the embedder's address space has; absent by default
//                ├─ dirty log     bitmaps of the slots, and a ring per vCPU
//                ├─ send ports    what the guest may ring: two copies, one in force
//                ├─ routes        what each gsi raises: two copies, one in force
//                ├─ eventfds      counters
//                ├─ xen part      port descriptors and VIRQs of a domain (xen_port.ts); absent by default
//                ├─ HVM part      what its guest's other hypercalls have set (xen_hvm.ts); absent with it
//                └─ FIFO part     queues and port records of the FIFO ABI (fifo.ts); absent by default

/** Raised whenever a record below changes its shape. */
export const REGION_VERSION = 3;
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
/** the gpc of shared_info; its word also carries GPC_LONG_MODE and GPC_FIFO */
export const REGION_SHARED_INFO = CACHE_LINE;
/** the memory map: slots in use, how many there may be, and their offset */
export const REGION_MEMSLOT_COUNT = REGION_SHARED_INFO + 32;
export const REGION_MEMSLOT_CAPACITY = REGION_SHARED_INFO + 36;
export const REGION_MEMSLOTS = REGION_SHARED_INFO + 40;
/** slots that log; a write that has to be marked looks here first */
export const REGION_DIRTY_LOGGING = REGION_SHARED_INFO + 44;
/** u64 for each address space: grows by 2 with every change of its slots, bit 63 while one is under way [KX-MEM-12] */
export const REGION_GENERATIONS = REGION_SHARED_INFO + 48;
/** offset and number of the host page entries; 0 pages: a host address is the linear offset itself */
export const REGION_HOST_TABLE = 2 * CACHE_LINE;
export const REGION_HOST_PAGES = REGION_HOST_TABLE + 4;
/** offset and number of bits of the area that the slots' bitmaps are taken from */
export const REGION_DIRTY_BITMAPS = REGION_HOST_TABLE + 8;
export const REGION_DIRTY_PAGES = REGION_HOST_TABLE + 12;
/** offset of the rings, and entries in each vCPU's; 0 entries: bitmaps only */
export const REGION_DIRTY_RINGS = REGION_HOST_TABLE + 16;
export const REGION_DIRTY_RING_ENTRIES = REGION_HOST_TABLE + 20;
/** a count of changes, whose bit 0 says which copy of the send ports is in force; and their offset */
export const REGION_SEND_PORT_TABLE = REGION_HOST_TABLE + 24;
export const REGION_SEND_PORTS = REGION_HOST_TABLE + 28;
/** the same of the routes; how many one copy holds, and their offset */
export const REGION_ROUTE_TABLE = REGION_HOST_TABLE + 32;
export const REGION_ROUTE_CAPACITY = REGION_HOST_TABLE + 36;
export const REGION_ROUTES = REGION_HOST_TABLE + 40;
/** offset and number of the eventfds */
export const REGION_EVENTFDS = REGION_HOST_TABLE + 44;
export const REGION_EVENTFD_CAPACITY = REGION_HOST_TABLE + 48;
/** what XENVER_version answers; 0: the embedder answers [KX-VMA-14] */
export const REGION_XEN_VERSION = REGION_HOST_TABLE + 52;
/** how the VM was made: VM_ bits */
export const REGION_FEATURES = REGION_HOST_TABLE + 56;
/** the VM has an interrupt controller in its kernel [KX-EVT-45, KX-RTE-10] */
export const VM_IRQCHIP = 1;
/** the host keeps scheduler statistics [KX-CAP-10] */
export const VM_SCHED_INFO = 2;
/** the processor is AMD's: hypercalls are VMMCALL [KX-HCL-05] */
export const VM_AMD = 4;
/** Hyper-V hypercalls are offered to the guest [KX-HCL-10] */
export const VM_HYPERV = 8;
/** the timeout of a poll is a time of the guest's clock, as in Xen's own ABI, and not a span [KF-76] */
export const VM_ABSOLUTE_POLL = 16;
/** the VM's clock: a version, odd while it changes, then u64 fields [KX-CLK-01, 02] */
export const REGION_CLOCK_VERSION = 3 * CACHE_LINE;
/** 1 while the host's TSC is the clock */
export const REGION_CLOCK_MASTER = REGION_CLOCK_VERSION + 4;
/** kvmclock minus the host's monotonic clock, ns, modulo 2^64 */
export const REGION_CLOCK_OFFSET = REGION_CLOCK_VERSION + 8;
/** the master sample: host ns and host TSC */
export const REGION_MASTER_NS = REGION_CLOCK_VERSION + 16;
export const REGION_MASTER_TSC = REGION_CLOCK_VERSION + 24;
/** frequency of the host's TSC, Hz; without one the host's nanoseconds are counted */
export const REGION_TSC_HZ = REGION_CLOCK_VERSION + 32;
/** how the guests' TSC goes while the master clock is on: u64 ratio to the host's, and what makes ns of its ticks, so that
 *  this clock and what guests compute from their records are one conversion [KF-52] */
export const REGION_MASTER_RATIO = REGION_CLOCK_VERSION + 40;
export const REGION_MASTER_MUL = REGION_CLOCK_VERSION + 48;
export const REGION_MASTER_SHIFT = REGION_CLOCK_VERSION + 52;
/** offset of the agent that changes the clock right now, 0 = none */
export const REGION_CLOCK_WRITER = REGION_CLOCK_VERSION + 56;
/** 1 while the wall clock in shared_info is older than the clock's last setting [KF-56] */
export const REGION_WALL_CLOCK_OWED = REGION_CLOCK_VERSION + 60;
/** struct kvm_xen_hvm_config, as it was set [KX-ABI-40] */
export const REGION_HVM_CONFIG = 4 * CACHE_LINE;
/** 1 while a timekeeper sleeps on this word: who sets a deadline clears it and wakes it */
export const REGION_TIMEKEEPER = REGION_HVM_CONFIG + 56;
/** offset of the HVM part of a domain, 0 = none */
export const REGION_HVM = REGION_HVM_CONFIG + 60;
/** the domain's id plus 1, 0 while the VM is no domain; port descriptors that there is room for, and that have come to be */
export const REGION_DOMAIN = 5 * CACHE_LINE;
export const REGION_PORT_CAPACITY = REGION_DOMAIN + 4;
export const REGION_VALID_PORTS = REGION_DOMAIN + 8;
/** offsets of the descriptors, the VIRQ table and the peers of agents */
export const REGION_PORT_DESCS = REGION_DOMAIN + 12;
export const REGION_VIRQS = REGION_DOMAIN + 16;
export const REGION_PEERS = REGION_DOMAIN + 20;
/** offset of the FIFO part; 0: this VM has none */
export const REGION_FIFO = REGION_DOMAIN + 24;
export const REGION_HEADER_SIZE = 6 * CACHE_LINE;

export const REGION_LIVE = 1;
export const REGION_CLOSED = 2;

// ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Ports are grouped by 64 (one long word, two compat words); an entry is the port entry that all of them have. */
export const GROUP_SHIFT = 6;
export const GROUP_OWNERS = REGION_HEADER_SIZE;
/** the ports of the group differ: look each one up */
export const GROUP_MIXED = -1;

/**
 * One i32 per port: bits 0..15 the vCPU it is bound to, and whether it is bound at all. An unbound port's upcall goes to the
 * vCPU that an event names, to vCPU 0 when it names none, and whichever vCPU drains first takes it.
 */
export const PORT_BOUND = 0x10000;
export const PORT_TABLE_PORTS = 4096;
export const PORT_TABLE = GROUP_OWNERS + (PORT_TABLE_PORTS >> GROUP_SHIFT) * 4;
export const PORT_VCPU_BITS = 0xffff;

// ── gfn-to-pfn cache ───────────────────────────────────────────────────────────────────────────────────────────────
/**
 * The word that the fast half reads: the linear address of what a valid cache maps, or a value from GPC_UNMAPPED up.
 * Pointer and validity are one word, so they cannot disagree. Bits 0 and 1 of shared_info's word are the guest's mode in
 * either state; while unmapped, bits 2..11 name the agent whose refresh is under way, so that only that refresh can publish.
 */
export const GPC_WORD = 0;
/** the last page of a 4 GiB memory is never mapped, so its addresses can mean "no mapping" (as unsigned) */
export const GPC_UNMAPPED = -4096;
export const GPC_LONG_MODE = 1;
/** the FIFO ABI is in force, not the 2-level one */
export const GPC_FIFO = 2;
export const GPC_MODE_BITS = 3;
export const GPC_TOKEN_SHIFT = 2;
/** from activation to deactivation what the address is: a guest-physical or a host virtual one [KX-GPC-02] */
export const GPC_ACTIVE = 4;
export const GPC_BY_GPA = 1;
export const GPC_BY_HVA = 2;
/** u64 address as two words */
export const GPC_ADDRESS_LO = 8;
export const GPC_ADDRESS_HI = 12;
export const GPC_LENGTH = 16;
/** u64 address that a structure of the kernel's interface gave and no number holds; the one above then stands for it [KX-ABI-41] */
export const GPC_FAR_ADDRESS = 24;
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
/** write the clock records before the guest runs again [KX-CLK-10] */
export const REQUEST_CLOCK_UPDATE = 16;
/** sample the master clock anew before the guest runs again [KX-CLK-13] */
export const REQUEST_MASTERCLOCK_UPDATE = 32;
/** account the time since the vCPU was last loaded [KX-RUN-01] */
export const REQUEST_STEAL_UPDATE = 64;
/** a mapping that the guest uses directly is gone: leave guest mode [KX-GPH-06] */
export const REQUEST_GPC_INVALIDATE = 128;

// ── vCPU record ────────────────────────────────────────────────────────────────────────────────────────────────────
export const VCPU_RECORD_SIZE = 6 * CACHE_LINE;
export const VCPU_TIME_INFO_GPC = 0;
export const VCPU_RUNSTATE1_GPC = VCPU_TIME_INFO_GPC + GPC_SIZE;
export const VCPU_RUNSTATE2_GPC = VCPU_RUNSTATE1_GPC + GPC_SIZE;
/** the host's own runstate: version (odd while it changes), state, then u64 fields; ns */
export const VCPU_RUNSTATE_VERSION = 2 * CACHE_LINE;
export const VCPU_RUNSTATE_STATE = VCPU_RUNSTATE_VERSION + 4;
export const VCPU_RUNSTATE_ENTRY_TIME = VCPU_RUNSTATE_STATE + 4;
export const VCPU_RUNSTATE_TIMES = VCPU_RUNSTATE_ENTRY_TIME + 8;
export const VCPU_LAST_STEAL = VCPU_RUNSTATE_TIMES + 4 * 8;
/** u64 ns that the thread that runs it has waited for a core, as it last said [KX-RUN-02] */
export const VCPU_RUN_DELAY = VCPU_LAST_STEAL + 8;
/** the id that KVM's interfaces use (the APIC id) and the one that Xen's use [KX-VCA-11] */
export const VCPU_KVM_ID = 3 * CACHE_LINE;
export const VCPU_XEN_ID = VCPU_KVM_ID + 4;
/** bits of what the vCPU is doing: VCPU_ bits below */
export const VCPU_MODE = VCPU_KVM_ID + 8;
/** its local APIC is software-disabled [KX-EVT-49] */
export const VCPU_LAPIC_OFF = 1;
/** it is loaded on the thread that runs it, and within KVM_RUN [KX-RUN-01] */
export const VCPU_LOADED = 2;
/** it is in guest mode [KX-GPH-07] */
export const VCPU_IN_GUEST = 4;
/** a hypercall exit waits for its result; the linear address of its instruction, u64 [KX-HCL-14] */
export const VCPU_HYPERCALL_OPEN = 8;
/** a clock record could not be reached when it had to be written [KF-56] */
export const VCPU_TIME_OWED = 16;
export const VCPU_HYPERCALL_RIP = VCPU_KVM_ID + 16;
/** the base of the Xen leaves of CPUID and their limit, 0 = none [KX-CLK-14] */
export const VCPU_CPUID_BASE = VCPU_KVM_ID + 24;
export const VCPU_CPUID_LIMIT = VCPU_KVM_ID + 28;
/** the guest's TSC: u64 frequency in Hz, u64 offset, u64 ratio to the host's with 48 fraction bits [KX-CLK-10] */
export const VCPU_TSC_HZ = VCPU_KVM_ID + 32;
export const VCPU_TSC_OFFSET = VCPU_KVM_ID + 40;
export const VCPU_TSC_RATIO = VCPU_KVM_ID + 48;
/** mul and shift of its clock records, and the frequency they were computed for */
export const VCPU_CLOCK_MUL = VCPU_KVM_ID + 56;
export const VCPU_CLOCK_SHIFT = VCPU_KVM_ID + 60;
export const VCPU_CLOCK_HZ = 4 * CACHE_LINE;
/** the single-shot timer: its port (0 = not handled here), u64 expiry on the guest's clock (0 = not armed), count of deferred
 *  deliveries, the agent that delivers right now (0 = none), and the u64 deadline on the host's clock (0 = none) [KX-TMR-01] */
export const VCPU_TIMER_PORT = VCPU_CLOCK_HZ + 8;
export const VCPU_TIMER_PENDING = VCPU_CLOCK_HZ + 12;
export const VCPU_TIMER_EXPIRES = VCPU_CLOCK_HZ + 16;
export const VCPU_TIMER_DEADLINE = VCPU_CLOCK_HZ + 24;
export const VCPU_TIMER_CALLBACK = VCPU_CLOCK_HZ + 32;
/** the u64 deadline of a poll on the host's clock, 0 = none [KX-HCL-34] */
export const VCPU_POLL_DEADLINE = VCPU_CLOCK_HZ + 40;
/** the dirty ring: entries pushed so far, and the first that was not reset yet [KX-MEM-36] */
export const VCPU_RING_PUSHED = VCPU_CLOCK_HZ + 48;
export const VCPU_RING_RESET = VCPU_CLOCK_HZ + 52;

// ── agent record ───────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * Odd while the agent reads mapped pages; alone on its line, because invalidation watches it. It grows by READER_STEP from one
 * section to the next. READER_FIFO is the agent's own note that the FIFO ABI was in force when it sent last.
 */
export const AGENT_READER = 0;
export const READER_OPEN = 1;
export const READER_FIFO = 2;
export const READER_STEP = 4;
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
/** invalidations this agent has begun and not ended: nobody else could end them if it died */
export const AGENT_INVALIDATIONS = AGENT_STATE + 24;
/** this agent's name in the lock of a FIFO queue: its number plus 1, in the bits of QUEUE_HOLDER */
export const AGENT_HOLDER = AGENT_STATE + 28;
/** how many ports of the list the last batch was done with; less than all when it answered -EAGAIN half-way */
export const AGENT_DONE = AGENT_STATE + 32;
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

// ── memslots: packed, in no order ──────────────────────────────────────────────────────────────────────────────────
export const MEMSLOT_SIZE = 48;
/** address space in bits 16..31, id in bits 0..15 */
export const MEMSLOT_ID = 0;
export const MEMSLOT_FLAGS = 4;
/** u64 first frame of the guest, u64 pages, u64 host virtual address */
export const MEMSLOT_GFN = 8;
export const MEMSLOT_PAGES = 16;
export const MEMSLOT_HVA = 24;
/** first bit of its bitmap in the dirty area, -1 = none */
export const MEMSLOT_BITMAP = 32;

// ── host pages ─────────────────────────────────────────────────────────────────────────────────────────────────────
/** An i32 per page: the linear offset of its frame, or 0 in the upper 20 bits, and what it allows. */
export const HOST_PAGE_PRESENT = 1;
export const HOST_PAGE_WRITABLE = 2;

// ── dirty ring ─────────────────────────────────────────────────────────────────────────────────────────────────────
/** struct kvm_dirty_gfn: u32 flags, u32 slot, u64 offset of the page within it [KX-MEM-36] */
export const DIRTY_ENTRY_SIZE = 16;
export const DIRTY_ENTRY_FLAGS = 0;
export const DIRTY_ENTRY_SLOT = 4;
export const DIRTY_ENTRY_OFFSET = 8;
export const DIRTY_ENTRY_DIRTY = 1;
export const DIRTY_ENTRY_HARVESTED = 2;
/** entries that are kept free for what a vCPU still logs on its way out */
export const DIRTY_RING_RESERVED = 64;
/** the largest ring, entries */
export const DIRTY_RING_MAX = 65536;

// ── send ports: two copies of a table of PORT_TABLE_PORTS entries ──────────────────────────────────────────────────
/** Two i32: what and where, then the vCPU. The first is 0 for no port; it is written last and cleared first. */
export const SEND_PORT_SIZE = 8;
export const SEND_PORT_WHAT = 0;
export const SEND_PORT_VCPU = 4;
/** of the first word: the port to raise or the eventfd in bits 0..15, the event channel's type in bits 16..18 */
export const SEND_PORT_TARGET_BITS = 0xffff;
export const SEND_PORT_TYPE_SHIFT = 16;
export const SEND_PORT_TYPE_BITS = 7;
export const SEND_PORT_EVENTFD = 1 << 30;

// ── routes: two copies of a table ──────────────────────────────────────────────────────────────────────────────────
/** Entries are struct kvm_irq_routing_entry, in the order they were given; the number in use stands before them. */
export const ROUTE_COUNT = 0;
export const ROUTE_FIRST = 16;
export const ROUTE_SIZE = 48;

// ── eventfds ───────────────────────────────────────────────────────────────────────────────────────────────────────
export const EVENTFD_SIZE = 32;
/** u64 counter */
export const EVENTFD_COUNTER = 0;
/** references: one of the descriptor while it is open, one of each send port and irqfd; 0 = free */
export const EVENTFD_REFERENCES = 8;
/** EVENTFD_ bits */
export const EVENTFD_STATE = 12;
/** the descriptor is open: it can be named */
export const EVENTFD_OPEN = 1;
/** a read takes 1, not all */
export const EVENTFD_SEMAPHORE = 2;
/** gsi that a signal raises, plus 1; 0 = none [KX-RTE-21] */
export const EVENTFD_GSI = 16;
/** raised by every signal; readers sleep on it */
export const EVENTFD_SIGNALS = 20;
/** which eventfd of this record it is, from 1 on: who holds the number of one that is gone does not reach the next */
export const EVENTFD_LIFE = 24;
/** threads that wait for a signal: nobody, nothing to wake. One that died stays counted, which costs a notify */
export const EVENTFD_WAITERS = 28;

// ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
export const MAX_VCPUS = 4096;
/** a refresh token is the agent's number plus 1 and has 10 bits */
export const MAX_AGENTS = 1023;
/** KVM's own limits on ids of slots, vCPUs and interrupts [KX-MEM-10, KX-VCA-11, KX-RTE-10] */
export const MAX_MEMSLOTS = 32764;
export const ADDRESS_SPACES = 2;
export const MAX_ROUTES = 4096;
export const MAX_GSI = 4096;
export const MAX_EVENTFDS = 65536;
export const MAX_XEN_ID = 1024;
/** the embedder's address space ends here, as a process's on x86-64 does */
export const HVA_END: number = 0x7ffffffff000;
