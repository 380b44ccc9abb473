// Every field of the engine's records: saved, derived from what is saved, or of this process only, with the reason. None forgotten.

import { expect, test } from 'vitest';
import * as region from '../../src/abi/region.ts';
import type { Vm } from '../../src/index.ts';
import { copyRam, emptyVm, furnishedVm } from './furnished.ts';

/** What becomes of a field in a snapshot. */
type Fate = 'saved' | 'derived' | 'transient' | 'no field';

interface Field {
  readonly fate: Fate;
  readonly reason: string;
  /** where it is, in a furnished VM */
  readonly at?: (vm: Vm) => number;
  /** words that can be poked into it */
  readonly poke?: number;
}

const header =
  (offset: number) =>
  (vm: Vm): number =>
    vm.vmBase + offset;
const line =
  (offset: number, index = 0) =>
  (vm: Vm): number =>
    vm.region.vcpuLine(index) + offset;
const record =
  (offset: number, index = 0) =>
  (vm: Vm): number =>
    vm.region.vcpuRecord(index) + offset;
const eventfd =
  (offset: number, index = 0) =>
  (vm: Vm): number =>
    vm.region.part(region.REGION_EVENTFDS) + index * region.EVENTFD_SIZE + offset;
const slot =
  (offset: number) =>
  (vm: Vm): number =>
    vm.region.part(region.REGION_MEMSLOTS) + offset;

const saved = (reason: string, at?: (vm: Vm) => number, poke?: number): Field => made('saved', reason, at, poke);
const derived = (reason: string, at?: (vm: Vm) => number, poke?: number): Field => made('derived', reason, at, poke);
const transient = (reason: string, at?: (vm: Vm) => number, poke?: number): Field =>
  made('transient', reason, at, poke);
const none = (reason: string): Field => made('no field', reason);

function made(fate: Fate, reason: string, at?: (vm: Vm) => number, poke?: number): Field {
  return { fate, reason, ...(at && { at }), ...(poke !== undefined && { poke }) };
}

const PLACE = 'where a part lies in this region';
const VALUE = 'a value of the field above it';
const LIMIT = 'a limit of this library';
const SIZE = 'the size of a record';
const THREAD = 'what a thread of this process does at the moment';
const BIT = 'a bit of the field above it, with its fate';

const FIELDS: { readonly [Name in keyof typeof region]: Field } = {
  REGION_VERSION: none('the version of this layout; a snapshot has its own'),
  REGION_MAGIC: none(VALUE),
  CACHE_LINE: none(SIZE),
  REGION_MAGIC_AT: derived('says that there is a region'),
  REGION_VERSION_AT: derived('says which layout it has'),
  REGION_FINGERPRINT: derived('says which contract; a snapshot says by which it was written'),
  REGION_STATE: transient('a VM that is closed is not saved'),
  REGION_SIZE: derived(PLACE),
  REGION_VCPUS: saved('part of the machine: the list of ids'),
  REGION_AGENTS: transient('threads of this process'),
  REGION_GUEST_BASE: derived('where the window lies here; host addresses count from it'),
  REGION_GUEST_BYTES: saved('part of the machine'),
  REGION_VCPU_RECORDS: derived(PLACE),
  REGION_AGENT_RECORDS: derived(PLACE),
  REGION_UPCALL_VECTOR: saved('an attribute', header(region.REGION_UPCALL_VECTOR), 0x77),
  REGION_RUNSTATE_UPDATE_FLAG: saved('an attribute', header(region.REGION_RUNSTATE_UPDATE_FLAG), 0),
  REGION_INVALIDATE_ACTIVE: transient('none of this thread is open when a snapshot is taken'),
  REGION_INVALIDATE_SEQ: transient('tells refreshes that are under way', header(region.REGION_INVALIDATE_SEQ), 99),
  REGION_POLLERS: transient('counts pollers, who wake up', header(region.REGION_POLLERS), 1),
  REGION_SHARED_INFO: saved('where shared_info is registered, and the mode'),
  REGION_MEMSLOT_COUNT: derived('the length of the list of slots'),
  REGION_MEMSLOT_CAPACITY: derived('the room of this VM, compared with what is needed'),
  REGION_MEMSLOTS: derived(PLACE),
  REGION_DIRTY_LOGGING: derived('the slots that log'),
  REGION_GENERATIONS: saved('a reader may have remembered one', header(region.REGION_GENERATIONS), 0x1234),
  REGION_HOST_TABLE: saved('its entries, in runs; this is their place'),
  REGION_HOST_PAGES: saved('whether there is a table; how many entries it has room for is compared'),
  REGION_DIRTY_BITMAPS: saved('the bits of each slot; this is their place'),
  REGION_DIRTY_PAGES: derived('the room of this VM'),
  REGION_DIRTY_RINGS: saved('the entries of each vCPU; this is their place'),
  REGION_DIRTY_RING_ENTRIES: saved('whether there are rings; their room is compared'),
  REGION_SEND_PORT_TABLE: transient('which copy is in force here'),
  REGION_SEND_PORTS: saved('the entries of the copy in force; this is their place'),
  REGION_ROUTE_TABLE: transient(
    'which copy is in force here, and how often it has changed',
    header(region.REGION_ROUTE_TABLE),
    3,
  ),
  REGION_ROUTE_CAPACITY: derived('the room of this VM'),
  REGION_ROUTES: saved('the entries of the copy in force; this is their place'),
  REGION_EVENTFDS: saved('each that has references; this is their place'),
  REGION_EVENTFD_CAPACITY: derived('the room of this VM'),
  REGION_XEN_VERSION: saved('an attribute', header(region.REGION_XEN_VERSION), 5),
  REGION_FEATURES: saved('part of the machine'),
  VM_IRQCHIP: none(BIT),
  VM_SCHED_INFO: none(BIT),
  VM_AMD: none(BIT),
  VM_HYPERV: none(BIT),
  VM_ABSOLUTE_POLL: none('how the guest’s next polls are read: said again when the VM is made'),
  REGION_CLOCK_VERSION: transient('guards readers here'),
  REGION_CLOCK_MASTER: derived('from the clock of the host that restores, and the TSCs'),
  REGION_CLOCK_OFFSET: saved('as the guest’s time: its distance to this host’s clock means nothing elsewhere'),
  REGION_MASTER_NS: derived('sampled anew'),
  REGION_MASTER_TSC: derived('sampled anew'),
  REGION_TSC_HZ: derived('of the host that restores'),
  REGION_MASTER_RATIO: derived('from the guests’ TSCs'),
  REGION_MASTER_MUL: derived('from the guests’ TSCs'),
  REGION_MASTER_SHIFT: derived('from the guests’ TSCs'),
  REGION_CLOCK_WRITER: transient(THREAD),
  REGION_WALL_CLOCK_OWED: saved('the guest has not been told yet', header(region.REGION_WALL_CLOCK_OWED), 1),
  REGION_HVM_CONFIG: saved('the configuration'),
  REGION_TIMEKEEPER: transient(THREAD, header(region.REGION_TIMEKEEPER), 1),
  REGION_HVM: derived(PLACE),
  REGION_DOMAIN: derived('the domain says it'),
  REGION_PORT_CAPACITY: derived('the room of this VM'),
  REGION_VALID_PORTS: derived('a domain saves its ports by itself'),
  REGION_PORT_DESCS: derived(PLACE),
  REGION_VIRQS: derived(PLACE),
  REGION_PEERS: derived(PLACE),
  REGION_FIFO: derived('a domain saves its FIFO state by itself'),
  REGION_HEADER_SIZE: none(SIZE),
  REGION_LIVE: none(VALUE),
  REGION_CLOSED: none(VALUE),

  GROUP_SHIFT: none(SIZE),
  GROUP_OWNERS: derived('from the port table'),
  GROUP_MIXED: none(VALUE),
  PORT_BOUND: none(BIT),
  PORT_TABLE_PORTS: none(SIZE),
  PORT_TABLE: saved('the ports that are bound', (vm) => vm.vmBase + region.PORT_TABLE + 4 * 9, region.PORT_BOUND),
  PORT_VCPU_BITS: none(BIT),

  GPC_WORD: derived('what is mapped here; its mode bit is saved as long mode'),
  GPC_UNMAPPED: none(VALUE),
  GPC_LONG_MODE: none(BIT),
  GPC_FIFO: none('a domain saves which ABI is in force by itself'),
  GPC_MODE_BITS: none(BIT),
  GPC_TOKEN_SHIFT: none(VALUE),
  GPC_ACTIVE: saved(
    'by which address it is registered, if it is',
    (vm) => line(region.VCPU_INFO_GPC, 1)(vm) + region.GPC_ACTIVE,
    0,
  ),
  GPC_BY_GPA: none(VALUE),
  GPC_BY_HVA: none(VALUE),
  GPC_ADDRESS_LO: saved('where', (vm) => line(region.VCPU_INFO_GPC, 1)(vm) + region.GPC_ADDRESS_LO, 0x5000),
  GPC_ADDRESS_HI: saved('where', (vm) => line(region.VCPU_INFO_GPC, 1)(vm) + region.GPC_ADDRESS_HI, 1),
  GPC_LENGTH: derived('from what the structure is'),
  GPC_FAR_ADDRESS: saved('the address that was given, while another stands for it'),
  GPC_SIZE: none(SIZE),

  VCPU_LINES: none(PLACE),
  VCPU_LINE_SIZE: none(SIZE),
  VCPU_INFO_GPC: saved('where vcpu_info is registered'),
  VCPU_KICK: derived('its bit for the vector from the vector; the others are of threads here'),
  KICK_SLEEPER: none(THREAD),
  KICK_LISTENER: none(THREAD),
  KICK_VECTOR: none('set while there is a vector'),
  VCPU_POLL: transient('a poll ends with a snapshot: the vCPU is asked to look again', line(region.VCPU_POLL), 6),
  POLL_ANY: none(VALUE),
  VCPU_UPCALL_VECTOR: saved('an attribute', line(region.VCPU_UPCALL_VECTOR), 0x60),
  VCPU_SHADOW_LO: saved('events that wait for vcpu_info', line(region.VCPU_SHADOW_LO), 0x40),
  VCPU_SHADOW_HI: saved('events that wait for vcpu_info', line(region.VCPU_SHADOW_HI), 0x40),
  VCPU_REQUESTS: saved('what the vCPU is asked to do, bit by bit', line(region.VCPU_REQUESTS), region.REQUEST_VECTOR),
  VCPU_SLEEPER: transient(THREAD),
  VCPU_POLLER: saved(
    'as a request to look again: the thread that polls is of this process',
    line(region.VCPU_POLLER),
    4096,
  ),
  REQUEST_UNBLOCK: none('saved'),
  REQUEST_VECTOR: none('saved'),
  REQUEST_CLOSED: none('of this VM'),
  REQUEST_POLLED: none('saved as a request to look again'),
  REQUEST_CLOCK_UPDATE: none('stands after every restore'),
  REQUEST_MASTERCLOCK_UPDATE: none('a restore does what it asks for'),
  REQUEST_STEAL_UPDATE: none('saved'),
  REQUEST_GPC_INVALIDATE: none('of mappings here'),

  VCPU_RECORD_SIZE: none(SIZE),
  VCPU_TIME_INFO_GPC: saved('where vcpu_time_info is registered'),
  VCPU_RUNSTATE1_GPC: saved('where the runstate area is registered'),
  VCPU_RUNSTATE2_GPC: derived('what the first page does not hold'),
  VCPU_RUNSTATE_VERSION: transient('guards readers here', record(region.VCPU_RUNSTATE_VERSION), 64),
  VCPU_RUNSTATE_STATE: saved('the runstate', record(region.VCPU_RUNSTATE_STATE), 3),
  VCPU_RUNSTATE_ENTRY_TIME: saved('the runstate', record(region.VCPU_RUNSTATE_ENTRY_TIME), 3),
  VCPU_RUNSTATE_TIMES: saved('the runstate', record(region.VCPU_RUNSTATE_TIMES), 3),
  VCPU_LAST_STEAL: saved('what was accounted', record(region.VCPU_LAST_STEAL), 3),
  VCPU_RUN_DELAY: saved('what was not yet', record(region.VCPU_RUN_DELAY), 3),
  VCPU_KVM_ID: saved('part of the machine'),
  VCPU_XEN_ID: saved('an attribute', record(region.VCPU_XEN_ID), 9),
  VCPU_MODE: saved('bit by bit', record(region.VCPU_MODE), 0),
  VCPU_LAPIC_OFF: none('saved'),
  VCPU_LOADED: none(THREAD),
  VCPU_IN_GUEST: none(THREAD),
  VCPU_HYPERCALL_OPEN: none('saved, with the address'),
  VCPU_TIME_OWED: none('after a restore all clock records are written anyway'),
  VCPU_HYPERCALL_RIP: saved('which instruction waits for a result', record(region.VCPU_HYPERCALL_RIP, 1), 3),
  VCPU_CPUID_BASE: saved('found once', record(region.VCPU_CPUID_BASE), 0x40000000),
  VCPU_CPUID_LIMIT: saved('found once', record(region.VCPU_CPUID_LIMIT), 0x40000004),
  VCPU_TSC_HZ: saved('the guest’s frequency', record(region.VCPU_TSC_HZ), 1_000_000),
  VCPU_TSC_OFFSET: saved('as the value of the guest’s TSC', record(region.VCPU_TSC_OFFSET), 1),
  VCPU_TSC_RATIO: derived('from both frequencies'),
  VCPU_CLOCK_MUL: derived('from the guest’s frequency', record(region.VCPU_CLOCK_MUL), 1),
  VCPU_CLOCK_SHIFT: derived('from the guest’s frequency', record(region.VCPU_CLOCK_SHIFT), 1),
  VCPU_CLOCK_HZ: derived('from the guest’s frequency', record(region.VCPU_CLOCK_HZ), 1),
  VCPU_TIMER_PORT: saved('the timer', record(region.VCPU_TIMER_PORT, 1), 4),
  VCPU_TIMER_PENDING: saved('in RAM, by delivering it; or as a timer that is set'),
  VCPU_TIMER_EXPIRES: saved('the timer', record(region.VCPU_TIMER_EXPIRES, 1), 4),
  VCPU_TIMER_DEADLINE: derived(
    'the expiry on the clock of the host that restores',
    record(region.VCPU_TIMER_DEADLINE, 1),
    4,
  ),
  VCPU_TIMER_CALLBACK: transient(THREAD),
  VCPU_POLL_DEADLINE: transient('of a poll, which ends', record(region.VCPU_POLL_DEADLINE), 4),
  VCPU_RING_PUSHED: saved('with the entries that are not given back'),
  VCPU_RING_RESET: saved('the embedder goes on from there'),

  AGENT_READER: transient(THREAD),
  READER_OPEN: none(BIT),
  READER_FIFO: none(BIT),
  READER_STEP: none(VALUE),
  AGENT_STATE: transient(THREAD),
  AGENT_FREE: none(VALUE),
  AGENT_USED: none(VALUE),
  AGENT_WAKES: transient('counted for a thread', (vm) => vm.agent + region.AGENT_WAKES, 7),
  AGENT_DELIVERED: transient('results of a thread’s last batch', (vm) => vm.agent + region.AGENT_DELIVERED, 7),
  AGENT_COALESCED: transient('results of a thread’s last batch'),
  AGENT_MASKED: transient('results of a thread’s last batch'),
  AGENT_BAD: transient('results of a thread’s last batch'),
  AGENT_HOLDER: none('which agent it is'),
  AGENT_DONE: none(THREAD),
  AGENT_INVALIDATIONS: transient('a thread with one open takes no snapshot'),
  AGENT_RECORD: transient('scratch of a thread'),
  AGENT_RECORD_SIZE: none(SIZE),
  AGENT_PLANE0: transient('scratch of a thread'),
  AGENT_PLANE_SIZE: none(SIZE),
  AGENT_PLANE1: transient('scratch of a thread'),
  AGENT_LIST_PORTS: none(SIZE),
  AGENT_OUTBOX: transient('scratch of a thread'),
  AGENT_INBOX: transient('scratch of a thread; a snapshot waits for the handlers of its ports'),
  AGENT_POLL_PORTS: none(SIZE),
  AGENT_POLL_LIST: transient('scratch of a thread: its poll ends'),
  AGENT_MARKS: transient('scratch of a thread'),
  AGENT_SIZE: none(SIZE),

  MEMSLOT_SIZE: none(SIZE),
  MEMSLOT_ID: saved('the slot', slot(region.MEMSLOT_ID), 3),
  MEMSLOT_FLAGS: saved('the slot', slot(region.MEMSLOT_FLAGS), 2),
  MEMSLOT_GFN: saved('the slot', slot(region.MEMSLOT_GFN), 0x1000),
  MEMSLOT_PAGES: saved('the slot', slot(region.MEMSLOT_PAGES), 5),
  MEMSLOT_HVA: saved('the slot: counted from the window, unless there is a table', slot(region.MEMSLOT_HVA), 0x100000),
  MEMSLOT_BITMAP: derived('handed out anew; the bits are saved'),
  HOST_PAGE_PRESENT: none('saved by being named'),
  HOST_PAGE_WRITABLE: none('saved'),
  DIRTY_ENTRY_SIZE: none(SIZE),
  DIRTY_ENTRY_FLAGS: saved('whether the entry was collected'),
  DIRTY_ENTRY_SLOT: saved('the entry'),
  DIRTY_ENTRY_OFFSET: saved('the entry'),
  DIRTY_ENTRY_DIRTY: none(BIT),
  DIRTY_ENTRY_HARVESTED: none(BIT),
  DIRTY_RING_RESERVED: none(LIMIT),
  DIRTY_RING_MAX: none(LIMIT),
  SEND_PORT_SIZE: none(SIZE),
  SEND_PORT_WHAT: saved('the send port'),
  SEND_PORT_VCPU: saved('the send port'),
  SEND_PORT_TARGET_BITS: none(BIT),
  SEND_PORT_TYPE_SHIFT: none(BIT),
  SEND_PORT_TYPE_BITS: none(BIT),
  SEND_PORT_EVENTFD: none(BIT),
  ROUTE_COUNT: saved('the routes'),
  ROUTE_FIRST: none(PLACE),
  ROUTE_SIZE: none(SIZE),
  EVENTFD_SIZE: none(SIZE),
  EVENTFD_COUNTER: saved('what was counted', eventfd(region.EVENTFD_COUNTER), 6),
  EVENTFD_REFERENCES: derived('counted from who refers to it', eventfd(region.EVENTFD_REFERENCES), 3),
  EVENTFD_STATE: saved('open, semaphore', eventfd(region.EVENTFD_STATE), 3),
  EVENTFD_OPEN: none(BIT),
  EVENTFD_SEMAPHORE: none(BIT),
  EVENTFD_GSI: saved('the interrupt', eventfd(region.EVENTFD_GSI), 30),
  EVENTFD_SIGNALS: transient('wakes threads', eventfd(region.EVENTFD_SIGNALS), 9),
  EVENTFD_LIFE: transient('tells objects of this process apart', eventfd(region.EVENTFD_LIFE), 9),
  EVENTFD_WAITERS: transient(THREAD, eventfd(region.EVENTFD_WAITERS), 9),
  MAX_VCPUS: none(LIMIT),
  MAX_AGENTS: none(LIMIT),
  MAX_MEMSLOTS: none(LIMIT),
  ADDRESS_SPACES: none(LIMIT),
  MAX_ROUTES: none(LIMIT),
  MAX_GSI: none(LIMIT),
  MAX_EVENTFDS: none(LIMIT),
  MAX_XEN_ID: none(LIMIT),
  HVA_END: none(LIMIT),
};

const POKED = Object.entries(FIELDS).flatMap(([name, { fate, at, poke }]) =>
  at === undefined || poke === undefined ? [] : [{ name, fate, at, poke }],
);

/** Fields that a snapshot holds in other words than the record. */
const REWORDED = ['VCPU_POLLER', 'VCPU_REQUESTS', 'MEMSLOT_HVA', 'VCPU_TSC_OFFSET', 'MEMSLOT_ID', 'PORT_TABLE'];

test('every constant of the records has its fate', () => {
  expect(Object.keys(FIELDS).sort()).toEqual(Object.keys(region).sort());
  for (const [name, { reason }] of Object.entries(FIELDS)) expect(reason, name).not.toBe('');
});

test.each(POKED)('$name is $fate: whether a change of it shows in a snapshot', ({ fate, at, poke }) => {
  const vm = furnishedVm();
  const before = vm.snapshotState();
  expect(vm.region.words.load(at(vm))).not.toBe(poke);
  vm.region.words.store(at(vm), poke);
  const after = vm.snapshotState();
  if (fate === 'saved') expect(after).not.toEqual(before);
  else expect(after).toEqual(before);
});

const COPIED = POKED.filter(({ name, fate }) => fate === 'saved' && !REWORDED.includes(name));

test.each(COPIED)('R13 $name of the restored VM is that of the saved one', ({ at }) => {
  const from = furnishedVm();
  const to = emptyVm();
  copyRam(from, to);
  to.restore(from.snapshot());
  expect(to.region.words.load(at(to))).toBe(from.region.words.load(at(from)));
});
