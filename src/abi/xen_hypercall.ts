// Numbers and argument structures of Xen's hypercalls, but for those of event channels (xen_evtchn.ts) and those that KVM knows, too
// (hypercall.ts). Where a structure holds guest words, LONG is what a 64-bit caller passes and COMPAT what a 32-bit one does.

export const HYPERCALL_MEMORY_OP = 12;
/** the form from before Xen 3.2, which no HVM guest may use [XE-OP-01] */
export const HYPERCALL_EVENT_CHANNEL_OP_COMPAT = 16;
export const HYPERCALL_CONSOLE_IO = 18;
export const HYPERCALL_GRANT_TABLE_OP = 20;
export const HYPERCALL_VM_ASSIST = 21;
export const HYPERCALL_PHYSDEV_OP = 33;
export const HYPERCALL_HVM_OP = 34;

// ── memory_op ──────────────────────────────────────────────────────────────────────────────────────────────────────
/** the command is in these bits of the first parameter; the others say where a batch goes on */
export const MEMOP_CMD_BITS = 63;
export const XENMEM_ADD_TO_PHYSMAP = 7;
/** u16 domain, u16 size, u32 space, word index, word frame */
export const ADD_TO_PHYSMAP_SIZE_LONG = 24;
export const ADD_TO_PHYSMAP_SIZE_COMPAT = 16;
export const ADD_TO_PHYSMAP_DOMID = 0;
export const ADD_TO_PHYSMAP_SPACE = 4;
export const ADD_TO_PHYSMAP_IDX = 8;
export const ADD_TO_PHYSMAP_GPFN_LONG = 16;
export const ADD_TO_PHYSMAP_GPFN_COMPAT = 12;
export const XENMEM_ADD_TO_PHYSMAP_BATCH = 23;
/** u16 domain, u16 space, u16 count, u16 other domain, and pointers to words (indices), words (frames) and ints (errors) */
export const ADD_BATCH_SIZE_LONG = 32;
export const ADD_BATCH_SIZE_COMPAT = 20;
export const ADD_BATCH_DOMID = 0;
export const ADD_BATCH_SPACE = 2;
export const ADD_BATCH_COUNT = 4;
export const ADD_BATCH_POINTERS = 8;
export const XENMAPSPACE_SHARED_INFO = 0;
export const XENMAPSPACE_GRANT_TABLE = 1;

// ── xen_version ────────────────────────────────────────────────────────────────────────────────────────────────────
export const XENVER_EXTRAVERSION = 1;
export const EXTRAVERSION_SIZE = 16;
export const XENVER_COMPILE_INFO = 2;
/** char[64] compiler, char[16] by, char[32] domain, char[32] date */
export const COMPILE_INFO_SIZE = 144;
export const COMPILE_INFO_COMPILER = 0;
export const COMPILE_INFO_BY = 64;
export const COMPILE_INFO_DOMAIN = 80;
export const COMPILE_INFO_DATE = 112;
export const XENVER_CAPABILITIES = 3;
export const CAPABILITIES_SIZE = 1024;
export const XENVER_CHANGESET = 4;
export const CHANGESET_SIZE = 64;
/** one guest word */
export const XENVER_PLATFORM_PARAMETERS = 5;
export const XENVER_GET_FEATURES = 6;
/** u32 number of the submap, out: u32 bits */
export const FEATURE_INFO_SIZE = 8;
export const FEATURE_INFO_IDX = 0;
export const FEATURE_INFO_SUBMAP = 4;
export const XENVER_PAGESIZE = 7;
export const XENVER_GUEST_HANDLE = 8;
export const GUEST_HANDLE_SIZE = 16;
export const XENVER_COMMANDLINE = 9;
export const XENVER_BUILD_ID = 10;
export const XENFEAT_WRITABLE_PAGE_TABLES = 1;
export const XENFEAT_AUTO_TRANSLATED_PHYSMAP = 4;
export const XENFEAT_HVM_CALLBACK_VECTOR = 0x100;
export const XENFEAT_HVM_SAFE_PVCLOCK = 0x200;
export const XENFEAT_HVM_PIRQS = 0x400;
export const XENFEAT_RUNSTATE_PHYS_AREA = 0x40000;
export const XENFEAT_VCPU_TIME_PHYS_AREA = 0x80000;

// ── vm_assist, console_io ──────────────────────────────────────────────────────────────────────────────────────────
export const VMASST_CMD_ENABLE = 0;
export const VMASST_CMD_DISABLE = 1;
export const VMASST_TYPE_RUNSTATE_UPDATE_FLAG = 5;
export const CONSOLEIO_WRITE = 0;
export const CONSOLEIO_READ = 1;

// ── sched_op ───────────────────────────────────────────────────────────────────────────────────────────────────────
export const SCHEDOP_BLOCK = 1;
export const SCHEDOP_SHUTDOWN = 2;
export const SCHEDOP_REMOTE_SHUTDOWN = 4;
export const SCHEDOP_SHUTDOWN_CODE = 5;
export const SCHEDOP_WATCHDOG = 6;
export const SCHEDOP_PIN_OVERRIDE = 7;
/** u32 reason */
export const SCHED_SHUTDOWN_SIZE = 4;
export const SCHED_SHUTDOWN_REASON = 0;
/** u16 domain, u32 reason */
export const SCHED_REMOTE_SHUTDOWN_SIZE = 8;
export const SCHED_REMOTE_SHUTDOWN_DOMID = 0;
export const SCHED_REMOTE_SHUTDOWN_REASON = 4;
/** u32 id, u32 timeout in seconds */
export const SCHED_WATCHDOG_SIZE = 8;
export const SCHED_WATCHDOG_ID = 0;
export const SCHED_WATCHDOG_TIMEOUT = 4;
export const SHUTDOWN_POWEROFF = 0;
export const SHUTDOWN_REBOOT = 1;
export const SHUTDOWN_SUSPEND = 2;
export const SHUTDOWN_CRASH = 3;
export const SHUTDOWN_WATCHDOG = 4;
export const SHUTDOWN_SOFT_RESET = 5;

// ── vcpu_op ────────────────────────────────────────────────────────────────────────────────────────────────────────
export const VCPUOP_INITIALISE = 0;
export const VCPUOP_UP = 1;
export const VCPUOP_DOWN = 2;
export const VCPUOP_IS_UP = 3;
export const VCPUOP_GET_RUNSTATE_INFO = 4;
export const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA = 5;
export const VCPUOP_SET_PERIODIC_TIMER = 6;
export const VCPUOP_STOP_PERIODIC_TIMER = 7;
export const VCPUOP_REGISTER_VCPU_INFO = 10;
export const VCPUOP_SEND_NMI = 11;
export const VCPUOP_GET_PHYSID = 12;
export const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA = 13;
export const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA = 14;
export const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA = 15;
/** u64 period, ns */
export const PERIODIC_TIMER_SIZE = 8;
export const PERIODIC_TIMER_PERIOD = 0;
/** u64 frame, u32 offset, u32 reserved */
export const REGISTER_VCPU_INFO_SIZE = 16;
export const REGISTER_VCPU_INFO_GFN = 0;
export const REGISTER_VCPU_INFO_OFFSET = 8;
/** u64 address of a runstate or time area */
export const REGISTER_AREA_SIZE = 8;
export const REGISTER_AREA_ADDRESS = 0;

// ── hvm_op ─────────────────────────────────────────────────────────────────────────────────────────────────────────
export const HVMOP_SET_PARAM = 0;
export const HVMOP_GET_PARAM = 1;
/** u16 domain, u32 index, u64 value */
export const HVM_PARAM_SIZE = 16;
export const HVM_PARAM_DOMID = 0;
export const HVM_PARAM_INDEX = 4;
export const HVM_PARAM_VALUE = 8;
export const HVMOP_PAGETABLE_DYING = 9;
/** u16 domain, u64 address */
export const PAGETABLE_DYING_SIZE = 16;
export const PAGETABLE_DYING_DOMID = 0;
export const HVMOP_GET_TIME = 10;
/** out: u64 ns */
export const GET_TIME_SIZE = 8;
export const HVMOP_SET_EVTCHN_UPCALL_VECTOR = 23;
/** u32 vCPU, u8 vector */
export const UPCALL_VECTOR_SIZE = 8;
export const UPCALL_VECTOR_VCPU = 0;
export const UPCALL_VECTOR_VECTOR = 4;
export const HVM_PARAM_CALLBACK_IRQ = 0;
export const HVM_PARAM_STORE_PFN = 1;
export const HVM_PARAM_STORE_EVTCHN = 2;
export const HVM_PARAM_PAE_ENABLED = 4;
export const HVM_PARAM_TIMER_MODE = 10;
export const HVM_PARAM_DM_DOMAIN = 13;
export const HVM_PARAM_VM86_TSS = 15;
export const HVM_PARAM_CONSOLE_PFN = 17;
export const HVM_PARAM_CONSOLE_EVTCHN = 18;
export const HVM_PARAM_ACPI_IOPORTS_LOCATION = 19;
export const HVM_PARAM_MEMORY_EVENT_CR0 = 20;
export const HVM_PARAM_MEMORY_EVENT_SINGLE_STEP = 25;
export const HVM_PARAM_BUFIOREQ_EVTCHN = 26;
export const HVM_PARAM_MEMORY_EVENT_MSR = 30;
export const HVM_PARAM_VM_GENERATION_ID_ADDR = 34;
export const HVM_PARAM_ALTP2M = 35;
export const HVM_PARAM_X87_FIP_WIDTH = 36;
export const HVM_PARAM_VM86_TSS_SIZED = 37;
/** CALLBACK_IRQ: the kind in bits 56..63, and what belongs to it [XE-CB-01] */
export const CALLBACK_VIA_SHIFT = 56;
export const CALLBACK_VIA_GSI = 0;
export const CALLBACK_VIA_INTX = 1;
export const CALLBACK_VIA_VECTOR = 2;
/** GSI 0 says none; only the low 8 bits count */
export const CALLBACK_GSI_BITS = 0xff;
/** bits 8..15 device and function, bits 0..1 the pin, A = 0 */
export const CALLBACK_INTX_DEVFN_SHIFT = 8;
export const CALLBACK_INTX_PIN_BITS = 3;
/** vectors below are exceptions */
export const UPCALL_VECTOR_FIRST = 16;

// ── physdev_op ─────────────────────────────────────────────────────────────────────────────────────────────────────
export const PHYSDEVOP_IRQ_STATUS_QUERY = 5;
/** u32 irq, out: u32 flags */
export const IRQ_STATUS_SIZE = 8;
export const IRQ_STATUS_IRQ = 0;
export const IRQ_STATUS_FLAGS = 4;
export const IRQ_STATUS_NEEDS_EOI = 1;
export const IRQ_STATUS_SHARED = 2;
export const PHYSDEVOP_EOI = 12;
/** u32 irq */
export const EOI_SIZE = 4;
export const EOI_IRQ = 0;
export const PHYSDEVOP_MAP_PIRQ = 13;
/** u16 domain, i32 type, i32 index, i32 pirq (in and out), i32 bus, devfn, entry, u64 table */
export const MAP_PIRQ_SIZE_LONG = 40;
export const MAP_PIRQ_SIZE_COMPAT = 36;
export const MAP_PIRQ_DOMID = 0;
export const MAP_PIRQ_TYPE = 4;
export const MAP_PIRQ_INDEX = 8;
export const MAP_PIRQ_PIRQ = 12;
export const MAP_PIRQ_TYPE_MSI = 0;
export const MAP_PIRQ_TYPE_GSI = 1;
export const PHYSDEVOP_UNMAP_PIRQ = 14;
/** u16 domain, i32 pirq */
export const UNMAP_PIRQ_SIZE = 8;
export const UNMAP_PIRQ_DOMID = 0;
export const UNMAP_PIRQ_PIRQ = 4;
export const PHYSDEVOP_GET_FREE_PIRQ = 23;
/** i32 type, out: u32 pirq */
export const GET_FREE_PIRQ_SIZE = 8;
export const GET_FREE_PIRQ_TYPE = 0;
export const GET_FREE_PIRQ_PIRQ = 4;
/** interrupts of the ISA bus, edges all of them */
export const NR_ISA_IRQS = 16;
