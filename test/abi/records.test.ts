// The engine's own records: nothing overlaps, and what is written often has the cache line that its comment promises.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EVTCHNSTAT_IPI } from '../../src/abi/attribute.ts';
import * as fifoAbi from '../../src/abi/fifo.ts';
import { fingerprint } from '../../src/abi/fingerprint.ts';
import { HVM_CONFIG_SIZE } from '../../src/abi/hvm_config.ts';
import * as region from '../../src/abi/region.ts';
import { ROUTING_ENTRY_SIZE } from '../../src/abi/routing.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import * as xenHvm from '../../src/abi/xen_hvm.ts';
import * as xenPort from '../../src/abi/xen_port.ts';
import { NR_VIRQS } from '../../src/abi/xen_virq.ts';
import { regionBytes } from '../../src/index.ts';
import { Region, type RegionSizes } from '../../src/memory/region.ts';
import { Words } from '../../src/memory/words.ts';

const LINE = 64;

/** A record's fields: name, offset, bytes. */
type Fields = readonly (readonly [string, number, number])[];

const HEADER: Fields = [
  ['magic', region.REGION_MAGIC_AT, 4],
  ['version', region.REGION_VERSION_AT, 4],
  ['fingerprint', region.REGION_FINGERPRINT, 4],
  ['state', region.REGION_STATE, 4],
  ['size', region.REGION_SIZE, 4],
  ['vcpus', region.REGION_VCPUS, 4],
  ['agents', region.REGION_AGENTS, 4],
  ['guest base', region.REGION_GUEST_BASE, 4],
  ['guest bytes', region.REGION_GUEST_BYTES, 4],
  ['vCPU records', region.REGION_VCPU_RECORDS, 4],
  ['agent records', region.REGION_AGENT_RECORDS, 4],
  ['upcall vector', region.REGION_UPCALL_VECTOR, 4],
  ['runstate update flag', region.REGION_RUNSTATE_UPDATE_FLAG, 4],
  ['active invalidations', region.REGION_INVALIDATE_ACTIVE, 4],
  ['invalidation sequence', region.REGION_INVALIDATE_SEQ, 4],
  ['pollers', region.REGION_POLLERS, 4],
  ['gpc of shared_info', region.REGION_SHARED_INFO, region.GPC_SIZE],
  ['memory slots in use', region.REGION_MEMSLOT_COUNT, 4],
  ['memory slots at most', region.REGION_MEMSLOT_CAPACITY, 4],
  ['memory slots', region.REGION_MEMSLOTS, 4],
  ['slots that log', region.REGION_DIRTY_LOGGING, 4],
  ['generations', region.REGION_GENERATIONS, 8 * region.ADDRESS_SPACES],
  ['host page table', region.REGION_HOST_TABLE, 4],
  ['host pages', region.REGION_HOST_PAGES, 4],
  ['dirty bitmaps', region.REGION_DIRTY_BITMAPS, 4],
  ['pages to log', region.REGION_DIRTY_PAGES, 4],
  ['dirty rings', region.REGION_DIRTY_RINGS, 4],
  ['entries of a dirty ring', region.REGION_DIRTY_RING_ENTRIES, 4],
  ['send ports in force', region.REGION_SEND_PORT_TABLE, 4],
  ['send ports', region.REGION_SEND_PORTS, 4],
  ['routes in force', region.REGION_ROUTE_TABLE, 4],
  ['routes at most', region.REGION_ROUTE_CAPACITY, 4],
  ['routes', region.REGION_ROUTES, 4],
  ['eventfds', region.REGION_EVENTFDS, 4],
  ['eventfds at most', region.REGION_EVENTFD_CAPACITY, 4],
  ['Xen version', region.REGION_XEN_VERSION, 4],
  ['features', region.REGION_FEATURES, 4],
  ['clock version', region.REGION_CLOCK_VERSION, 4],
  ['master clock', region.REGION_CLOCK_MASTER, 4],
  ['clock offset', region.REGION_CLOCK_OFFSET, 8],
  ['master sample, ns', region.REGION_MASTER_NS, 8],
  ['master sample, TSC', region.REGION_MASTER_TSC, 8],
  ['TSC frequency', region.REGION_TSC_HZ, 8],
  ['master ratio', region.REGION_MASTER_RATIO, 8],
  ['master mul', region.REGION_MASTER_MUL, 4],
  ['master shift', region.REGION_MASTER_SHIFT, 4],
  ['who changes the clock', region.REGION_CLOCK_WRITER, 4],
  ['wall clock owed', region.REGION_WALL_CLOCK_OWED, 4],
  ['configuration', region.REGION_HVM_CONFIG, HVM_CONFIG_SIZE],
  ['timekeeper', region.REGION_TIMEKEEPER, 4],
  ['where the HVM part is', region.REGION_HVM, 4],
  ['domain', region.REGION_DOMAIN, 4],
  ['port descriptors at most', region.REGION_PORT_CAPACITY, 4],
  ['port descriptors', region.REGION_VALID_PORTS, 4],
  ['where the port descriptors are', region.REGION_PORT_DESCS, 4],
  ['VIRQs', region.REGION_VIRQS, 4],
  ['peers', region.REGION_PEERS, 4],
  ['FIFO part', region.REGION_FIFO, 4],
];

const GPC: Fields = [
  ['word', region.GPC_WORD, 4],
  ['active', region.GPC_ACTIVE, 4],
  ['address low', region.GPC_ADDRESS_LO, 4],
  ['address high', region.GPC_ADDRESS_HI, 4],
  ['length', region.GPC_LENGTH, 4],
  ['far address', region.GPC_FAR_ADDRESS, 8],
];

const VCPU_LINE: Fields = [
  ['gpc of vcpu_info', region.VCPU_INFO_GPC, region.GPC_SIZE],
  ['kick', region.VCPU_KICK, 4],
  ['poll', region.VCPU_POLL, 4],
  ['upcall vector', region.VCPU_UPCALL_VECTOR, 4],
  ['shadow low', region.VCPU_SHADOW_LO, 4],
  ['shadow high', region.VCPU_SHADOW_HI, 4],
  ['requests', region.VCPU_REQUESTS, 4],
  ['sleeper', region.VCPU_SLEEPER, 4],
  ['poller', region.VCPU_POLLER, 4],
];

const VCPU_RECORD: Fields = [
  ['gpc of vcpu_time_info', region.VCPU_TIME_INFO_GPC, region.GPC_SIZE],
  ['gpc of the first runstate page', region.VCPU_RUNSTATE1_GPC, region.GPC_SIZE],
  ['gpc of the second runstate page', region.VCPU_RUNSTATE2_GPC, region.GPC_SIZE],
  ['runstate version', region.VCPU_RUNSTATE_VERSION, 4],
  ['runstate state', region.VCPU_RUNSTATE_STATE, 4],
  ['runstate entry time', region.VCPU_RUNSTATE_ENTRY_TIME, 8],
  ['runstate times', region.VCPU_RUNSTATE_TIMES, 32],
  ['last steal', region.VCPU_LAST_STEAL, 8],
  ['run delay', region.VCPU_RUN_DELAY, 8],
  ['id of KVM', region.VCPU_KVM_ID, 4],
  ['id of Xen', region.VCPU_XEN_ID, 4],
  ['mode', region.VCPU_MODE, 4],
  ['instruction of a hypercall', region.VCPU_HYPERCALL_RIP, 8],
  ['base of the CPUID leaves', region.VCPU_CPUID_BASE, 4],
  ['limit of the CPUID leaves', region.VCPU_CPUID_LIMIT, 4],
  ['TSC frequency', region.VCPU_TSC_HZ, 8],
  ['TSC offset', region.VCPU_TSC_OFFSET, 8],
  ['TSC ratio', region.VCPU_TSC_RATIO, 8],
  ['clock mul', region.VCPU_CLOCK_MUL, 4],
  ['clock shift', region.VCPU_CLOCK_SHIFT, 4],
  ['frequency of mul and shift', region.VCPU_CLOCK_HZ, 8],
  ['timer port', region.VCPU_TIMER_PORT, 4],
  ['timer deliveries deferred', region.VCPU_TIMER_PENDING, 4],
  ['timer expiry', region.VCPU_TIMER_EXPIRES, 8],
  ['timer deadline', region.VCPU_TIMER_DEADLINE, 8],
  ['timer callback', region.VCPU_TIMER_CALLBACK, 4],
  ['poll deadline', region.VCPU_POLL_DEADLINE, 8],
  ['dirty ring, pushed', region.VCPU_RING_PUSHED, 4],
  ['dirty ring, reset', region.VCPU_RING_RESET, 4],
];

const AGENT: Fields = [
  ['reader', region.AGENT_READER, 4],
  ['state', region.AGENT_STATE, 4],
  ['wakes', region.AGENT_WAKES, 4],
  ['delivered', region.AGENT_DELIVERED, 4],
  ['coalesced', region.AGENT_COALESCED, 4],
  ['masked', region.AGENT_MASKED, 4],
  ['bad', region.AGENT_BAD, 4],
  ['invalidations', region.AGENT_INVALIDATIONS, 4],
  ['name in locks', region.AGENT_HOLDER, 4],
  ['done of a batch', region.AGENT_DONE, 4],
  ['record', region.AGENT_RECORD, region.AGENT_RECORD_SIZE],
  ['plane 0', region.AGENT_PLANE0, region.AGENT_PLANE_SIZE],
  ['plane 1', region.AGENT_PLANE1, region.AGENT_PLANE_SIZE],
  ['outbox', region.AGENT_OUTBOX, region.AGENT_LIST_PORTS * 4],
  ['inbox', region.AGENT_INBOX, region.AGENT_LIST_PORTS * 4],
  ['ports to poll', region.AGENT_POLL_LIST, region.AGENT_POLL_PORTS * 4],
  ['marks', region.AGENT_MARKS, region.PORT_TABLE_PORTS],
];

const MEMSLOT: Fields = [
  ['id', region.MEMSLOT_ID, 4],
  ['flags', region.MEMSLOT_FLAGS, 4],
  ['first frame', region.MEMSLOT_GFN, 8],
  ['pages', region.MEMSLOT_PAGES, 8],
  ['host address', region.MEMSLOT_HVA, 8],
  ['bitmap', region.MEMSLOT_BITMAP, 4],
];

const DIRTY_ENTRY: Fields = [
  ['flags', region.DIRTY_ENTRY_FLAGS, 4],
  ['slot', region.DIRTY_ENTRY_SLOT, 4],
  ['page', region.DIRTY_ENTRY_OFFSET, 8],
];

const SEND_PORT: Fields = [
  ['what', region.SEND_PORT_WHAT, 4],
  ['vCPU', region.SEND_PORT_VCPU, 4],
];

/** What stands before the entries of a copy of the routes. */
const ROUTES: Fields = [['count', region.ROUTE_COUNT, 4]];

const EVENTFD: Fields = [
  ['counter', region.EVENTFD_COUNTER, 8],
  ['references', region.EVENTFD_REFERENCES, 4],
  ['state', region.EVENTFD_STATE, 4],
  ['gsi', region.EVENTFD_GSI, 4],
  ['signals', region.EVENTFD_SIGNALS, 4],
  ['life', region.EVENTFD_LIFE, 4],
  ['waiters', region.EVENTFD_WAITERS, 4],
];

const PORT_DESC: Fields = [
  ['what it is', xenPort.PORT_WHAT, 4],
  ['number', xenPort.PORT_NUMBER, 4],
  ['region of the peer', xenPort.PORT_PEER_REGION, 4],
  ['what is kept', xenPort.PORT_KEPT, 4],
];

const PEER: Fields = [
  ['region', xenPort.PEER_REGION, 4],
  ['agent', xenPort.PEER_AGENT, 4],
];

const HVM: Fields = [
  ['parameters', xenHvm.HVM_PARAMS, xenHvm.HVM_NR_PARAMS * 8],
  ['callback', xenHvm.HVM_VIA, 4],
  ['line of the callback', xenHvm.HVM_VIA_GSI, 4],
  ['callback asserted', xenHvm.HVM_VIA_ASSERTED, 4],
  ['shutdown code', xenHvm.HVM_SHUTDOWN_CODE, 4],
  ['shut down', xenHvm.HVM_SHUT_DOWN, 4],
  ...Array.from({ length: xenHvm.HVM_NR_WATCHDOGS }, (_, i) => ['watchdog', xenHvm.HVM_WATCHDOGS + 8 * i, 8] as const),
  ['interrupt lines', xenHvm.HVM_LINES, xenHvm.HVM_NR_GSIS * 4],
  ['PIRQs', xenHvm.HVM_PIRQS, xenHvm.HVM_NR_PIRQS * 4],
];

const HVM_VCPU: Fields = [
  ['state', xenHvm.HVM_VCPU_STATE, 4],
  ['vcpu_info was placed', xenHvm.HVM_VCPU_INFO_SET, 4],
  ['period', xenHvm.HVM_VCPU_PERIOD, 8],
  ['last tick', xenHvm.HVM_VCPU_LAST_TICK, 8],
  ['deadline of the next', xenHvm.HVM_VCPU_TICK_DEADLINE, 8],
  ['second page of runstate', xenHvm.HVM_VCPU_RUNSTATE_NEXT, 8],
];

const RECORDS = [
  { record: 'header', fields: HEADER, size: region.REGION_HEADER_SIZE },
  { record: 'gpc', fields: GPC, size: region.GPC_SIZE },
  { record: 'vCPU line', fields: VCPU_LINE, size: region.VCPU_LINE_SIZE },
  { record: 'vCPU record', fields: VCPU_RECORD, size: region.VCPU_RECORD_SIZE },
  { record: 'agent', fields: AGENT, size: region.AGENT_SIZE },
  { record: 'memory slot', fields: MEMSLOT, size: region.MEMSLOT_SIZE },
  { record: 'dirty ring entry', fields: DIRTY_ENTRY, size: region.DIRTY_ENTRY_SIZE },
  { record: 'send port', fields: SEND_PORT, size: region.SEND_PORT_SIZE },
  { record: 'head of the routes', fields: ROUTES, size: region.ROUTE_FIRST },
  { record: 'eventfd', fields: EVENTFD, size: region.EVENTFD_SIZE },
  { record: 'port descriptor', fields: PORT_DESC, size: xenPort.PORT_DESC_SIZE },
  { record: 'peer', fields: PEER, size: xenPort.PEER_SIZE },
  { record: 'HVM part', fields: HVM, size: xenHvm.HVM_VCPUS },
  { record: 'vCPU of the HVM part', fields: HVM_VCPU, size: xenHvm.HVM_VCPU_SIZE },
];

describe.each(RECORDS)('$record', ({ fields, size }) => {
  test('no two fields overlap, all lie inside, each is aligned to its width', () => {
    const taken = new Map<number, string>();
    for (const [name, at, bytes] of fields) {
      expect(at % (bytes % 8 ? 4 : 8), name).toBe(0);
      expect(at, name).toBeGreaterThanOrEqual(0);
      expect(at + bytes, name).toBeLessThanOrEqual(size);
      for (let byte = at; byte < at + bytes; byte++) {
        const other = taken.get(byte);
        if (other !== undefined) expect.fail(`byte ${byte} belongs to ${other} and to ${name}`);
        taken.set(byte, name);
      }
    }
  });
});

test('KX-GEN-03 every field of the state is looked at in this file: slots, counts, caches, routes, clock, requests', () => {
  const text = readFileSync('test/abi/records.test.ts', 'utf8');
  const names = Object.keys(region).filter((name) => !new RegExp(`region\\.${name}\\b`).test(text));
  expect(names).toEqual([]);
});

/** Flags that share a word, lowest first. */
const FLAGS: readonly (readonly [string, readonly number[]])[] = [
  ['kick', [region.KICK_SLEEPER, region.KICK_LISTENER, region.KICK_VECTOR]],
  [
    'requests',
    [
      region.REQUEST_UNBLOCK,
      region.REQUEST_VECTOR,
      region.REQUEST_CLOSED,
      region.REQUEST_POLLED,
      region.REQUEST_CLOCK_UPDATE,
      region.REQUEST_MASTERCLOCK_UPDATE,
      region.REQUEST_STEAL_UPDATE,
      region.REQUEST_GPC_INVALIDATE,
    ],
  ],
  ['reader word', [region.READER_OPEN, region.READER_FIFO, region.READER_STEP]],
  ['mode of shared_info', [region.GPC_LONG_MODE, region.GPC_FIFO]],
  ['features', [region.VM_IRQCHIP, region.VM_SCHED_INFO, region.VM_AMD, region.VM_HYPERV, region.VM_ABSOLUTE_POLL]],
  [
    'mode of a vCPU',
    [
      region.VCPU_LAPIC_OFF,
      region.VCPU_LOADED,
      region.VCPU_IN_GUEST,
      region.VCPU_HYPERCALL_OPEN,
      region.VCPU_TIME_OWED,
    ],
  ],
  ['host page', [region.HOST_PAGE_PRESENT, region.HOST_PAGE_WRITABLE]],
  ['dirty ring entry', [region.DIRTY_ENTRY_DIRTY, region.DIRTY_ENTRY_HARVESTED]],
  ['eventfd', [region.EVENTFD_OPEN, region.EVENTFD_SEMAPHORE]],
];

test.each(FLAGS)('the flags of one word are bits of their own: %s', (_word, flags) => {
  expect(flags).toEqual(flags.map((_, i) => 1 << i));
});

test('values of one word differ: the HVM part', () => {
  expect([xenHvm.HVM_VIA_NONE, xenHvm.HVM_VIA_LINE, xenHvm.HVM_VIA_VECTOR]).toEqual([0, 1, 2]);
  expect([xenHvm.HVM_VCPU_UNSEEN, xenHvm.HVM_VCPU_DOWN, xenHvm.HVM_VCPU_UP]).toEqual([0, 1, 2]);
  // From the last one on a PIRQ is a GSI.
  expect([xenHvm.PIRQ_UNMAPPED, xenHvm.PIRQ_RESERVED, xenHvm.PIRQ_MSI, xenHvm.PIRQ_GSI]).toEqual([0, 1, 2, 3]);
});

test('values of one word differ', () => {
  expect([region.REGION_LIVE, region.REGION_CLOSED]).toEqual([1, 2]);
  expect([region.AGENT_FREE, region.AGENT_USED]).toEqual([0, 1]);
  expect([region.GPC_BY_GPA, region.GPC_BY_HVA]).toEqual([1, 2]);
  // A poller waits for a port plus 1, for several, or does not poll.
  expect(region.POLL_ANY).toBeLessThan(0);
});

test('a region says what it is: "EVCH", and the version of these records', () => {
  const bytes = new Uint8Array(new Uint32Array([region.REGION_MAGIC]).buffer);
  expect(String.fromCharCode(...bytes)).toBe('EVCH');
  expect(region.REGION_VERSION).toBe(3);
});

test('a port entry: the vCPU and whether it is bound are apart, and no entry looks like a mixed group', () => {
  expect(region.PORT_VCPU_BITS).toBeGreaterThanOrEqual(region.MAX_VCPUS - 1);
  expect(region.PORT_BOUND & region.PORT_VCPU_BITS).toBe(0);
  expect(region.PORT_BOUND | region.PORT_VCPU_BITS).toBeGreaterThan(0);
  expect(region.GROUP_MIXED).toBeLessThan(0);
});

test('the first word of a send port: target, type and kind are apart, and none of them makes it 0', () => {
  const type = region.SEND_PORT_TYPE_BITS << region.SEND_PORT_TYPE_SHIFT;
  expect(region.SEND_PORT_TARGET_BITS).toBeGreaterThanOrEqual(region.PORT_TABLE_PORTS - 1);
  expect(region.SEND_PORT_TARGET_BITS).toBeGreaterThanOrEqual(region.MAX_EVENTFDS - 1);
  expect(region.SEND_PORT_TYPE_BITS).toBeGreaterThanOrEqual(EVTCHNSTAT_IPI);
  expect(region.SEND_PORT_TARGET_BITS & type).toBe(0);
  expect((region.SEND_PORT_TARGET_BITS | type) & region.SEND_PORT_EVENTFD).toBe(0);
  expect(region.SEND_PORT_EVENTFD).toBeGreaterThan(0);
});

test('the first word of a port descriptor: state, consumer, vCPU and domain are apart, and every vCPU and port fits', () => {
  const states = [
    xenPort.PORT_FREE,
    xenPort.PORT_RESERVED,
    xenPort.PORT_UNBOUND,
    xenPort.PORT_INTERDOMAIN,
    xenPort.PORT_PIRQ,
    xenPort.PORT_VIRQ,
    xenPort.PORT_IPI,
  ];
  expect(states).toEqual([0, 1, 2, 3, 4, 5, 6]);
  const target = xenPort.PORT_TARGET_BITS << xenPort.PORT_TARGET_SHIFT;
  const parts = [xenPort.PORT_STATE_BITS, xenPort.PORT_CONSUMER, target, 0xffff * 2 ** xenPort.PORT_DOM_SHIFT];
  expect(parts.reduce((sum, bits) => sum + bits)).toBe(2 ** 32 - 1);
  expect(xenPort.PORT_TARGET_BITS).toBe(region.MAX_VCPUS - 1);
  expect(xenPort.PORT_SAVED).toBe(1);
  // A region's base plus 1 is never 0, and a peer is found by the low bits of its id.
  expect(xenPort.PEERS & (xenPort.PEERS - 1)).toBe(0);
  expect(xenPort.XEN_ELSEWHERE).toBe(1);
  expect(xenPort.MAX_DOMAIN_PORTS % xenPort.PORT_BATCH).toBe(0);
});

test('a host page entry: what it allows does not reach into the address of its frame', () => {
  expect(region.HOST_PAGE_PRESENT | region.HOST_PAGE_WRITABLE).toBeLessThan(PAGE_SIZE);
});

test('KX-MEM-36 a dirty ring: entries as the kernel has them, and its limits', () => {
  expect(region.DIRTY_ENTRY_SIZE).toBe(16);
  expect(region.DIRTY_RING_RESERVED).toBe(64);
  expect(region.DIRTY_RING_MAX).toBe(65536);
});

test('KX-ABI-43 a route is kept as the interface has it', () => {
  expect(region.ROUTE_SIZE).toBe(ROUTING_ENTRY_SIZE);
  expect(region.ROUTE_FIRST % 8).toBe(0);
});

test('limits are those of KVM', () => {
  expect([region.MAX_MEMSLOTS, region.ADDRESS_SPACES]).toEqual([32764, 2]);
  expect([region.MAX_ROUTES, region.MAX_GSI, region.MAX_XEN_ID]).toEqual([4096, 4096, 1024]);
  expect([region.MAX_VCPUS, region.MAX_AGENTS, region.MAX_EVENTFDS]).toEqual([4096, 1023, 65536]);
  expect(region.HVA_END).toBe(2 ** 47 - PAGE_SIZE);
});

test('the vCPU line is one cache line and every record is a multiple of one', () => {
  expect(region.CACHE_LINE).toBe(LINE);
  expect(region.VCPU_LINE_SIZE).toBe(LINE);
  expect(region.GPC_SIZE).toBe(32);
  for (const size of [region.REGION_HEADER_SIZE, region.VCPU_RECORD_SIZE, region.AGENT_SIZE])
    expect(size % LINE).toBe(0);
  for (const at of [region.VCPU_LINES, region.GROUP_OWNERS, region.PORT_TABLE]) expect(at % LINE).toBe(0);
});

test('the reader word is alone on its line, because invalidation watches it', () => {
  expect(region.AGENT_READER % LINE).toBe(0);
  const neighbours = AGENT.filter(([, at]) => at >= region.AGENT_READER && at < region.AGENT_READER + LINE);
  expect(neighbours.map(([name]) => name)).toEqual(['reader']);
});

test('beside the gpc of shared_info lies only what changes as rarely: the memory map', () => {
  const line = (at: number): number => Math.floor(at / LINE);
  const beside = HEADER.filter(([, at]) => line(at) === line(region.REGION_SHARED_INFO));
  expect(beside.map(([name]) => name)).toEqual([
    'gpc of shared_info',
    'memory slots in use',
    'memory slots at most',
    'memory slots',
    'slots that log',
    'generations',
  ]);
  expect(line(region.REGION_SHARED_INFO + region.GPC_SIZE - 1)).toBe(line(region.REGION_SHARED_INFO));
});

test('the counters of an agent do not share a line with its scratch', () => {
  const line = (at: number): number => Math.floor(at / LINE);
  expect(line(region.AGENT_BAD)).toBe(line(region.AGENT_STATE));
  expect(line(region.AGENT_RECORD)).toBeGreaterThan(line(region.AGENT_BAD));
});

test('the host runstate of a vCPU does not share a line with its caches', () => {
  expect(region.VCPU_RUNSTATE_VERSION % LINE).toBe(0);
  expect(region.VCPU_RUNSTATE_VERSION).toBeGreaterThanOrEqual(region.VCPU_RUNSTATE2_GPC + region.GPC_SIZE);
  expect(region.VCPU_LAST_STEAL + 8).toBeLessThanOrEqual(region.VCPU_RUNSTATE_VERSION + LINE);
});

test('the scratch of an agent holds the largest structure that passes through it, at an aligned place', () => {
  expect(region.AGENT_RECORD_SIZE).toBeGreaterThanOrEqual(48);
  for (const at of [region.AGENT_RECORD, region.AGENT_PLANE0, region.AGENT_PLANE1, region.AGENT_MARKS])
    expect(at % 8).toBe(0);
  expect(region.AGENT_PLANE_SIZE).toBe(512);
  expect(region.AGENT_LIST_PORTS).toBe(4096);
  expect(region.PORT_TABLE_PORTS).toBe(4096);
});

test('group owners, port table and vCPU lines follow each other without overlap', () => {
  expect(region.GROUP_OWNERS).toBeGreaterThanOrEqual(region.REGION_HEADER_SIZE);
  expect(region.PORT_TABLE).toBeGreaterThanOrEqual(region.GROUP_OWNERS + 4 * (4096 >> region.GROUP_SHIFT));
  expect(region.VCPU_LINES).toBeGreaterThanOrEqual(region.PORT_TABLE + 4 * 4096);
});

test('a refresh token has room between the mode bit and the page address', () => {
  const token = region.MAX_AGENTS << region.GPC_TOKEN_SHIFT;
  expect(token & region.GPC_UNMAPPED).toBe(0);
  expect(token & region.GPC_MODE_BITS).toBe(0);
});

/** A VM that is no domain has none. */
function hvmPart(at: number, vcpus: number): [string, number, number] {
  return ['HVM part', at, xenHvm.HVM_VCPUS + vcpus * xenHvm.HVM_VCPU_SIZE];
}

function fifoPartOf(
  { words, base, fifo }: Region,
  { vcpus, fifoPorts }: Required<RegionSizes>,
): [string, number, number][] {
  if (fifoPorts === 0) {
    expect(fifo).toBe(0);
    return [];
  }
  const at = (field: number): number => words.load(fifo + field);
  expect([at(fifoAbi.FIFO_CAPACITY) * 1024, at(fifoAbi.FIFO_LIMIT)]).toEqual([fifoPorts, fifoPorts]);
  expect(at(fifoAbi.FIFO_PAGES)).toBe(fifoAbi.FIFO_PARKED);
  const part = fifo - base;
  return [
    ['FIFO header', part, LINE],
    ['gpcs of event words', part + fifoAbi.FIFO_PAGE_GPCS, 128 * region.GPC_SIZE],
    ['vCPUs of the FIFO ABI', part + fifoAbi.FIFO_VCPUS, vcpus * fifoAbi.FIFO_VCPU_SIZE],
    ['ports of the FIFO ABI', part + at(fifoAbi.FIFO_PORTS), fifoPorts * fifoAbi.FIFO_PORT_SIZE],
  ];
}

/** Where the parts of a region begin, by the header field that says so, and how many bytes they need. */
function partsOf(made: Region, sizes: Required<RegionSizes>): [string, number, number][] {
  const at = (field: number): number => made.words.load(made.base + field);
  const ringEntries = sizes.dirtyRingBytes / region.DIRTY_ENTRY_SIZE;
  expect(at(region.REGION_VCPUS)).toBe(sizes.vcpus);
  expect(at(region.REGION_AGENTS)).toBe(sizes.agents);
  expect(at(region.REGION_MEMSLOT_CAPACITY)).toBe(sizes.memslots);
  expect(at(region.REGION_HOST_PAGES)).toBe(sizes.hostPages);
  expect(at(region.REGION_DIRTY_PAGES)).toBe(sizes.dirtyPages);
  expect(at(region.REGION_DIRTY_RING_ENTRIES)).toBe(ringEntries);
  expect(at(region.REGION_ROUTE_CAPACITY)).toBe(sizes.routes);
  expect(at(region.REGION_EVENTFD_CAPACITY)).toBe(sizes.eventfds);
  const ports = Math.ceil(sizes.ports / xenPort.PORT_BATCH) * xenPort.PORT_BATCH;
  expect(at(region.REGION_PORT_CAPACITY)).toBe(ports);
  const domain = ports > 0 ? 1 : 0;
  return [
    ['vCPU lines', region.VCPU_LINES, sizes.vcpus * region.VCPU_LINE_SIZE],
    ['vCPU records', at(region.REGION_VCPU_RECORDS), sizes.vcpus * region.VCPU_RECORD_SIZE],
    ['agents', at(region.REGION_AGENT_RECORDS), sizes.agents * region.AGENT_SIZE],
    ['memory slots', at(region.REGION_MEMSLOTS), sizes.memslots * region.MEMSLOT_SIZE],
    ['host pages', at(region.REGION_HOST_TABLE), sizes.hostPages * 4],
    ['dirty bitmaps', at(region.REGION_DIRTY_BITMAPS), Math.ceil(sizes.dirtyPages / 32) * 4],
    ['dirty rings', at(region.REGION_DIRTY_RINGS), sizes.vcpus * ringEntries * region.DIRTY_ENTRY_SIZE],
    ['send ports', at(region.REGION_SEND_PORTS), 2 * region.PORT_TABLE_PORTS * region.SEND_PORT_SIZE],
    ['routes', at(region.REGION_ROUTES), 2 * (region.ROUTE_FIRST + sizes.routes * region.ROUTE_SIZE)],
    ['eventfds', at(region.REGION_EVENTFDS), sizes.eventfds * region.EVENTFD_SIZE],
    ['VIRQs', at(region.REGION_VIRQS), domain * sizes.vcpus * NR_VIRQS * 4],
    ['peers', at(region.REGION_PEERS), domain * sizes.agents * xenPort.PEERS * xenPort.PEER_SIZE],
    ['port descriptors', at(region.REGION_PORT_DESCS), ports * xenPort.PORT_DESC_SIZE],
    ...(domain ? [hvmPart(at(region.REGION_HVM), sizes.vcpus)] : []),
    ...fifoPartOf(made, sizes),
  ];
}

const SMALLEST = {
  vcpus: 1,
  agents: 1,
  memslots: 1,
  hostPages: 0,
  dirtyPages: 0,
  dirtyRingBytes: 0,
  routes: 0,
  eventfds: 0,
  ports: 0,
  fifoPorts: 0,
};

test.each<Required<RegionSizes>>([
  SMALLEST,
  { ...SMALLEST, hostPages: 1, dirtyPages: 1, routes: 1, eventfds: 1 },
  { ...SMALLEST, dirtyRingBytes: 2048 },
  { ...SMALLEST, ports: 1 },
  { ...SMALLEST, fifoPorts: 1024 },
  {
    vcpus: 3,
    agents: 2,
    memslots: 5,
    hostPages: 17,
    dirtyPages: 513,
    dirtyRingBytes: 4096,
    routes: 7,
    eventfds: 3,
    ports: 65,
    fifoPorts: 2048,
  },
  {
    vcpus: 64,
    agents: 8,
    memslots: 32,
    hostPages: 4096,
    dirtyPages: 512,
    dirtyRingBytes: 0,
    routes: 1024,
    eventfds: 64,
    ports: 4096,
    fifoPorts: 4096,
  },
  {
    ...SMALLEST,
    vcpus: 4096,
    agents: 1023,
    memslots: 32764,
    routes: 4096,
    eventfds: 65536,
    ports: 131072,
    fifoPorts: 131072,
  },
])('no part of a region overlaps another, each has its lines, and all fill regionBytes: %o', (sizes) => {
  const bytes = regionBytes(sizes);
  const memory = new WebAssembly.Memory({ initial: Math.ceil((bytes + LINE) / 65536) });
  const made = Region.create(new Words(memory), { regionBase: LINE, guestBase: 0, guestBytes: 0, sizes });
  expect(made.words.load(LINE + region.REGION_SIZE)).toBe(bytes);
  let end = region.VCPU_LINES;
  for (const [part, from, needed] of partsOf(made, sizes)) {
    expect(from % LINE, part).toBe(0);
    expect(from, part).toBe(end);
    end = from + Math.ceil(needed / LINE) * LINE;
  }
  expect(end).toBe(bytes);
  for (let i = 0; i < sizes.vcpus; i++) {
    expect(made.vcpuLine(i) - LINE).toBe(region.VCPU_LINES + i * region.VCPU_LINE_SIZE);
    expect(made.vcpuRecord(i)).toBe(made.part(region.REGION_VCPU_RECORDS) + i * region.VCPU_RECORD_SIZE);
  }
  for (let i = 0; i < sizes.agents; i++) {
    expect(made.agentRecord(i)).toBe(made.part(region.REGION_AGENT_RECORDS) + i * region.AGENT_SIZE);
  }
});

test('a fresh region: its head, every cache unmapped, the ids of the vCPUs, and nothing else', () => {
  const sizes = { vcpus: 2, agents: 1, hostPages: 4, dirtyRingBytes: 2048 };
  const memory = new WebAssembly.Memory({ initial: 8 });
  new Uint8Array(memory.buffer).fill(0xff);
  const features = region.VM_IRQCHIP | region.VM_AMD;
  const place = { regionBase: LINE, guestBase: 0x10000, guestBytes: 0x3000, sizes, features, vcpuIds: [7, 9] };
  const made = Region.create(new Words(memory), place);
  const { words } = made;
  const head = (field: number): number => words.load(LINE + field);
  expect(head(region.REGION_MAGIC_AT)).toBe(region.REGION_MAGIC);
  expect(head(region.REGION_VERSION_AT)).toBe(region.REGION_VERSION);
  expect(head(region.REGION_FINGERPRINT) >>> 0).toBe(fingerprint());
  expect(head(region.REGION_STATE)).toBe(region.REGION_LIVE);
  expect([head(region.REGION_GUEST_BASE), head(region.REGION_GUEST_BYTES)]).toEqual([0x10000, 0x3000]);
  expect(head(region.REGION_FEATURES)).toBe(features);
  const caches = [...made.gpcs()];
  expect(caches.length).toBe(1 + 2 * 4);
  const left = new Map<number, number>();
  for (const gpc of caches) left.set(gpc + region.GPC_WORD, region.GPC_UNMAPPED);
  for (const [i, id] of [7, 9].entries()) {
    left.set(made.vcpuRecord(i) + region.VCPU_KVM_ID, id);
    left.set(made.vcpuRecord(i) + region.VCPU_XEN_ID, i);
  }
  for (let at = LINE; at < LINE + regionBytes(sizes); at += 4) {
    if (at >= LINE + region.REGION_HEADER_SIZE || left.has(at))
      expect(words.load(at), `byte ${at}`).toBe(left.get(at) ?? 0);
  }
  expect(words.load(LINE + regionBytes(sizes))).toBe(-1);
});
