// The engine's records in the owner's memory: where they are, how they are laid out for a number of vCPUs and agents.

import {
  EVENT_PAGES_MAX,
  EVENT_WORDS_PER_PAGE,
  FIFO_CAPACITY,
  FIFO_CONSUMER,
  FIFO_CONTROL_GPC,
  FIFO_LIMIT,
  FIFO_PAGE_GPCS,
  FIFO_PAGES,
  FIFO_PARKED,
  FIFO_PORT_SIZE,
  FIFO_PORTS,
  FIFO_PRIORITIES,
  FIFO_QUEUES,
  FIFO_REPAIR,
  FIFO_VCPU_SIZE,
  FIFO_VCPUS,
  PORTS_FIFO,
  QUEUE_HOLDER_BITS,
  QUEUE_HOLDER_SHIFT,
} from '../abi/fifo.ts';
import { fingerprint } from '../abi/fingerprint.ts';
import {
  AGENT_FREE,
  AGENT_HOLDER,
  AGENT_INBOX,
  AGENT_INVALIDATIONS,
  AGENT_MARKS,
  AGENT_OUTBOX,
  AGENT_PLANE_SIZE,
  AGENT_PLANE0,
  AGENT_READER,
  AGENT_SIZE,
  AGENT_STATE,
  AGENT_USED,
  CACHE_LINE,
  DIRTY_ENTRY_SIZE,
  DIRTY_RING_MAX,
  DIRTY_RING_RESERVED,
  EVENTFD_SIZE,
  GPC_FIFO,
  GPC_LONG_MODE,
  GPC_SIZE,
  GPC_UNMAPPED,
  GPC_WORD,
  KICK_SLEEPER,
  MAX_AGENTS,
  MAX_EVENTFDS,
  MAX_MEMSLOTS,
  MAX_ROUTES,
  MAX_VCPUS,
  MEMSLOT_SIZE,
  PORT_TABLE_PORTS,
  READER_OPEN,
  READER_STEP,
  REGION_AGENT_RECORDS,
  REGION_AGENTS,
  REGION_CLOCK_WRITER,
  REGION_CLOSED,
  REGION_DIRTY_BITMAPS,
  REGION_DIRTY_PAGES,
  REGION_DIRTY_RING_ENTRIES,
  REGION_DIRTY_RINGS,
  REGION_EVENTFD_CAPACITY,
  REGION_EVENTFDS,
  REGION_FEATURES,
  REGION_FIFO,
  REGION_FINGERPRINT,
  REGION_GUEST_BASE,
  REGION_GUEST_BYTES,
  REGION_HOST_PAGES,
  REGION_HOST_TABLE,
  REGION_HVM,
  REGION_INVALIDATE_ACTIVE,
  REGION_INVALIDATE_SEQ,
  REGION_LIVE,
  REGION_MAGIC,
  REGION_MAGIC_AT,
  REGION_MEMSLOT_CAPACITY,
  REGION_MEMSLOTS,
  REGION_PEERS,
  REGION_POLLERS,
  REGION_PORT_CAPACITY,
  REGION_PORT_DESCS,
  REGION_ROUTE_CAPACITY,
  REGION_ROUTES,
  REGION_SEND_PORTS,
  REGION_SHARED_INFO,
  REGION_SIZE,
  REGION_STATE,
  REGION_VCPU_RECORDS,
  REGION_VCPUS,
  REGION_VERSION,
  REGION_VERSION_AT,
  REGION_VIRQS,
  ROUTE_FIRST,
  ROUTE_SIZE,
  SEND_PORT_SIZE,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_KVM_ID,
  VCPU_LINE_SIZE,
  VCPU_LINES,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_RECORD_SIZE,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SLEEPER,
  VCPU_TIME_INFO_GPC,
  VCPU_TIMER_CALLBACK,
  VCPU_XEN_ID,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { HVM_VCPU_SIZE, HVM_VCPUS } from '../abi/xen_hvm.ts';
import { MAX_DOMAIN_PORTS, PEER_SIZE, PEERS, PORT_BATCH, PORT_DESC_SIZE } from '../abi/xen_port.ts';
import { NR_VIRQS } from '../abi/xen_virq.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { Words } from './words.ts';

/** How many there may be of everything that the engine keeps records of. */
export interface RegionSizes {
  /** Number of vCPUs, 1..4096; 1 by default. */
  readonly vcpus?: number;
  /** Threads that may be attached at once, 1..1023; 8 by default. */
  readonly agents?: number;
  /** Memory slots, 1..32764; 32 by default. */
  readonly memslots?: number;
  /**
   * Pages of the host address space that can be mapped, 0..2^20; 0 by default: a host address is the linear offset. The table begins
   * with guest RAM at its linear offsets, so it takes (guestBase + guest bytes) / 4096 pages to have all of it.
   */
  readonly hostPages?: number;
  /** Guest pages whose writes can be logged at once, 0..2^20; 512 by default. */
  readonly dirtyPages?: number;
  /** Bytes of each vCPU's dirty ring: 0 (bitmaps; the default), or a power of two from 2048 to 2^20. [KX-MEM-36] */
  readonly dirtyRingBytes?: number;
  /** Interrupt routes, 0..4096; 1024 by default. */
  readonly routes?: number;
  /** Eventfds, 0..65536; 64 by default. */
  readonly eventfds?: number;
  /** Port descriptors of a Xen domain, 0..131072, in batches of 64; 0 by default, which `createDomain` makes 4096. */
  readonly ports?: number;
  /**
   * Ports that the FIFO ABI may have, a multiple of 1024 up to 131072; 0 by default: the guest has the 2-level ABI only. Each takes
   * 8 bytes of the region.
   */
  readonly fifoPorts?: number;
}

/** Where the engine works in a memory: its own region and the guest's RAM. @internal */
export interface Placement {
  readonly regionBase: number;
  readonly guestBase: number;
  readonly guestBytes: number;
  readonly sizes: RegionSizes;
  /** VM_ bits */
  readonly features?: number;
  /** KVM's id of each vCPU; its index by default */
  readonly vcpuIds?: readonly number[] | undefined;
}

/** Offsets of the parts of a region, and how large they are. */
interface Layout {
  readonly vcpus: number;
  readonly agents: number;
  readonly memslots: number;
  readonly hostPages: number;
  readonly dirtyPages: number;
  readonly ringEntries: number;
  readonly routes: number;
  readonly eventfds: number;
  readonly ports: number;
  readonly fifoPorts: number;
  readonly vcpuRecordsAt: number;
  readonly agentRecordsAt: number;
  readonly memslotsAt: number;
  readonly hostTableAt: number;
  readonly dirtyBitmapsAt: number;
  readonly dirtyRingsAt: number;
  readonly sendPortsAt: number;
  readonly routesAt: number;
  readonly eventfdsAt: number;
  readonly virqsAt: number;
  readonly peersAt: number;
  readonly portDescsAt: number;
  readonly hvmAt: number;
  readonly fifoAt: number;
  readonly bytes: number;
}

/** Bytes of one copy of the send ports, and of one copy of the routes. @internal */
export const SEND_PORT_COPY = PORT_TABLE_PORTS * SEND_PORT_SIZE;
/** @internal */
export function routeCopy(capacity: number): number {
  return ROUTE_FIRST + capacity * ROUTE_SIZE;
}

const MAX_PAGES = 2 ** 20;

function lines(bytes: number): number {
  return Math.ceil(bytes / CACHE_LINE) * CACHE_LINE;
}

/** Checks the sizes and places the parts one after another. */
function layoutOf(sizes: RegionSizes): Layout {
  const {
    vcpus = 1,
    agents = 8,
    memslots = 32,
    hostPages = 0,
    dirtyPages = 512,
    dirtyRingBytes = 0,
    routes = 1024,
    eventfds = 64,
    ports: wanted = 0,
    fifoPorts = 0,
  } = sizes;
  checkRange('the number of vCPUs', vcpus, 1, MAX_VCPUS);
  checkRange('the number of agents', agents, 1, MAX_AGENTS);
  checkRange('the number of memory slots', memslots, 1, MAX_MEMSLOTS);
  checkRange('the number of host pages', hostPages, 0, MAX_PAGES);
  checkRange('the number of pages to log', dirtyPages, 0, MAX_PAGES);
  checkRange('the number of routes', routes, 0, MAX_ROUTES);
  checkRange('the number of eventfds', eventfds, 0, MAX_EVENTFDS);
  checkRange('the number of port descriptors', wanted, 0, MAX_DOMAIN_PORTS);
  checkFifo(fifoPorts);
  checkRing(dirtyRingBytes);
  const ringEntries = dirtyRingBytes / DIRTY_ENTRY_SIZE;
  const vcpuRecordsAt = VCPU_LINES + vcpus * VCPU_LINE_SIZE;
  const agentRecordsAt = vcpuRecordsAt + vcpus * VCPU_RECORD_SIZE;
  const memslotsAt = agentRecordsAt + agents * AGENT_SIZE;
  const hostTableAt = memslotsAt + lines(memslots * MEMSLOT_SIZE);
  const dirtyBitmapsAt = hostTableAt + lines(hostPages * 4);
  const dirtyRingsAt = dirtyBitmapsAt + lines(dirtyPages / 8);
  const sendPortsAt = dirtyRingsAt + vcpus * dirtyRingBytes;
  const routesAt = sendPortsAt + 2 * SEND_PORT_COPY;
  const eventfdsAt = routesAt + lines(2 * routeCopy(routes));
  const ports = Math.ceil(wanted / PORT_BATCH) * PORT_BATCH;
  // A VM that is no domain has none of these.
  const domain = ports > 0 ? 1 : 0;
  const virqsAt = eventfdsAt + lines(eventfds * EVENTFD_SIZE);
  const peersAt = virqsAt + domain * lines(vcpus * NR_VIRQS * 4);
  const portDescsAt = peersAt + domain * lines(agents * PEERS * PEER_SIZE);
  const hvmAt = portDescsAt + ports * PORT_DESC_SIZE;
  const fifoAt = hvmAt + domain * lines(HVM_VCPUS + vcpus * HVM_VCPU_SIZE);
  const bytes = fifoAt + fifoBytes(fifoPorts, vcpus);
  const counts = { vcpus, agents, memslots, hostPages, dirtyPages, ringEntries, routes, eventfds, ports, fifoPorts };
  const places = {
    vcpuRecordsAt,
    agentRecordsAt,
    memslotsAt,
    hostTableAt,
    dirtyBitmapsAt,
    dirtyRingsAt,
    sendPortsAt,
    routesAt,
    eventfdsAt,
    virqsAt,
    peersAt,
    portDescsAt,
    hvmAt,
    fifoAt,
  };
  return { ...counts, ...places, bytes };
}

/** [XE-MOD-12] */
function checkFifo(ports: number): void {
  checkRange('the number of FIFO ports', ports, 0, PORTS_FIFO);
  if (ports % EVENT_WORDS_PER_PAGE === 0) return;
  throw new EvtchnError('EINVAL', `the number of FIFO ports is ${ports}, not a multiple of ${EVENT_WORDS_PER_PAGE}`);
}

function fifoBytes(ports: number, vcpus: number): number {
  return ports === 0 ? 0 : FIFO_VCPUS + vcpus * FIFO_VCPU_SIZE + ports * FIFO_PORT_SIZE;
}

/** [KX-MEM-36] */
function checkRing(bytes: number): void {
  const most = DIRTY_RING_MAX * DIRTY_ENTRY_SIZE;
  const least = 2 * DIRTY_RING_RESERVED * DIRTY_ENTRY_SIZE;
  if (bytes > most) throw new EvtchnError('E2BIG', `a dirty ring of ${bytes} bytes is too large: at most ${most}`);
  if (bytes === 0) return;
  if (!Number.isInteger(bytes) || bytes < least || 2 ** Math.round(Math.log2(bytes)) !== bytes) {
    throw new EvtchnError(
      'EINVAL',
      `a dirty ring has ${String(bytes)} bytes, allowed are 0 and the powers of two from ${least} to ${most}`,
    );
  }
}

/**
 * Bytes that the engine's records take. For owners that place the region themselves: any base that is a multiple of 64.
 * Throws EINVAL for a size out of range, E2BIG for a dirty ring that is too large.
 */
export function regionBytes(sizes: RegionSizes = {}): number {
  return layoutOf(sizes).bytes;
}

/** Throws EINVAL or ENOMEM unless the placement fits into the memory. @internal */
export function checkPlacement(p: Placement, memoryBytes: number): void {
  const region = regionBytes(p.sizes);
  checkRange('regionBase', p.regionBase, 0, 2 ** 32 - 1);
  checkRange('guestBase', p.guestBase, 0, 2 ** 32 - 1);
  if (p.regionBase % CACHE_LINE) {
    throw new EvtchnError('EINVAL', `regionBase is ${p.regionBase}, but it has to be a multiple of ${CACHE_LINE}`);
  }
  if (p.guestBase % PAGE_SIZE) {
    throw new EvtchnError('EINVAL', `guestBase is ${p.guestBase}, but it has to be a multiple of ${PAGE_SIZE}`);
  }
  const end = Math.max(p.regionBase + region, p.guestBase + p.guestBytes);
  if (end > memoryBytes) {
    throw new EvtchnError('ENOMEM', `region and guest RAM end at byte ${end}, but the memory has ${memoryBytes} bytes`);
  }
  if (p.regionBase < p.guestBase + p.guestBytes && p.guestBase < p.regionBase + region) {
    throw new EvtchnError(
      'EINVAL',
      `the region (${p.regionBase}..${p.regionBase + region}) and guest RAM (${p.guestBase}..${p.guestBase + p.guestBytes}) overlap`,
    );
  }
}

/** A view of the region at `base`; all state is in the memory. @internal */
export class Region {
  readonly words: Words;
  readonly base: number;
  readonly vcpus: number;
  readonly agents: number;
  readonly guestBase: number;
  readonly guestBytes: number;
  readonly #vcpuRecords: number;
  readonly #agentRecords: number;

  private constructor(words: Words, base: number) {
    this.words = words;
    this.base = base;
    this.vcpus = words.load(base + REGION_VCPUS);
    this.agents = words.load(base + REGION_AGENTS);
    this.guestBase = words.load(base + REGION_GUEST_BASE) >>> 0;
    this.guestBytes = words.load(base + REGION_GUEST_BYTES) >>> 0;
    this.#vcpuRecords = words.load(base + REGION_VCPU_RECORDS);
    this.#agentRecords = words.load(base + REGION_AGENT_RECORDS);
  }

  /** Writes fresh records. The placement was checked. */
  static create(words: Words, p: Placement): Region {
    const base = p.regionBase;
    const layout = layoutOf(p.sizes);
    words.zero(base, layout.bytes);
    words.store(base + REGION_VERSION_AT, REGION_VERSION);
    words.store(base + REGION_FINGERPRINT, fingerprint() | 0);
    words.store(base + REGION_SIZE, layout.bytes);
    words.store(base + REGION_VCPUS, layout.vcpus);
    words.store(base + REGION_AGENTS, layout.agents);
    words.store(base + REGION_GUEST_BASE, p.guestBase);
    words.store(base + REGION_GUEST_BYTES, p.guestBytes);
    words.store(base + REGION_VCPU_RECORDS, layout.vcpuRecordsAt);
    words.store(base + REGION_AGENT_RECORDS, layout.agentRecordsAt);
    words.store(base + REGION_MEMSLOT_CAPACITY, layout.memslots);
    words.store(base + REGION_MEMSLOTS, layout.memslotsAt);
    words.store(base + REGION_HOST_TABLE, layout.hostTableAt);
    words.store(base + REGION_HOST_PAGES, layout.hostPages);
    words.store(base + REGION_DIRTY_BITMAPS, layout.dirtyBitmapsAt);
    words.store(base + REGION_DIRTY_PAGES, layout.dirtyPages);
    words.store(base + REGION_DIRTY_RINGS, layout.dirtyRingsAt);
    words.store(base + REGION_DIRTY_RING_ENTRIES, layout.ringEntries);
    words.store(base + REGION_SEND_PORTS, layout.sendPortsAt);
    words.store(base + REGION_ROUTES, layout.routesAt);
    words.store(base + REGION_ROUTE_CAPACITY, layout.routes);
    words.store(base + REGION_EVENTFDS, layout.eventfdsAt);
    words.store(base + REGION_EVENTFD_CAPACITY, layout.eventfds);
    words.store(base + REGION_FEATURES, p.features ?? 0);
    words.store(base + REGION_PORT_CAPACITY, layout.ports);
    words.store(base + REGION_VIRQS, layout.virqsAt);
    words.store(base + REGION_PEERS, layout.peersAt);
    words.store(base + REGION_PORT_DESCS, layout.portDescsAt);
    words.store(base + REGION_HVM, layout.ports > 0 ? layout.hvmAt : 0);
    if (layout.fifoPorts > 0) {
      const fifo = base + layout.fifoAt;
      words.store(base + REGION_FIFO, layout.fifoAt);
      words.store(fifo + FIFO_PAGES, FIFO_PARKED);
      words.store(fifo + FIFO_CAPACITY, layout.fifoPorts / EVENT_WORDS_PER_PAGE);
      words.store(fifo + FIFO_LIMIT, layout.fifoPorts);
      words.store(fifo + FIFO_PORTS, FIFO_VCPUS + layout.vcpus * FIFO_VCPU_SIZE);
    }
    const region = new Region(words, base);
    for (const gpc of region.gpcs()) words.store(gpc + GPC_WORD, GPC_UNMAPPED);
    for (let i = 0; i < layout.vcpus; i++) {
      words.store(region.vcpuRecord(i) + VCPU_KVM_ID, p.vcpuIds?.[i] ?? i);
      words.store(region.vcpuRecord(i) + VCPU_XEN_ID, i);
    }
    // Last: whoever sees the magic sees the rest.
    words.store(base + REGION_STATE, REGION_LIVE);
    words.store(base + REGION_MAGIC_AT, REGION_MAGIC);
    return region;
  }

  /** Opens the records another thread made. Throws EINVAL unless they are there, whole and of this version. */
  static open(words: Words, base: number): Region {
    const bytes = words.memory.buffer.byteLength;
    checkRange('the region base', base, 0, bytes - VCPU_LINES);
    if (base % CACHE_LINE || words.load(base + REGION_MAGIC_AT) !== REGION_MAGIC) {
      throw new EvtchnError('EINVAL', `there is no region at byte ${base} of this memory`);
    }
    const version = words.load(base + REGION_VERSION_AT);
    const print = words.load(base + REGION_FINGERPRINT);
    if (version !== REGION_VERSION || print !== (fingerprint() | 0)) {
      throw new EvtchnError(
        'EINVAL',
        `the region has version ${version} and contract ${print >>> 0}, this library ${REGION_VERSION} and ${fingerprint()}`,
      );
    }
    if (words.load(base + REGION_STATE) === REGION_CLOSED) {
      throw new EvtchnError('EBADF', `the VM at byte ${base} was closed by its owner`);
    }
    const region = new Region(words, base);
    const end = Math.max(base + (words.load(base + REGION_SIZE) >>> 0), region.guestBase + region.guestBytes);
    if (end > bytes) {
      throw new EvtchnError(
        'EINVAL',
        `the VM at byte ${base} ends at byte ${end}, but this memory has ${bytes} bytes: it is another`,
      );
    }
    return region;
  }

  /** Where a part begins, by the header field that says so. */
  part(field: number): number {
    return (this.base + this.words.load(this.base + field)) >>> 0;
  }
  /** The i32 with bit `first` of the dirty bitmaps. */
  bitmap(first: number): number {
    return this.part(REGION_DIRTY_BITMAPS) + first / 8;
  }
  /** Whether the VM was made with a feature: a VM_ bit. */
  has(feature: number): boolean {
    return (this.words.load(this.base + REGION_FEATURES) & feature) !== 0;
  }
  get longMode(): boolean {
    return (this.words.load(this.sharedInfo + GPC_WORD) & GPC_LONG_MODE) !== 0;
  }
  /** Whether the FIFO ABI is in force. */
  get fifoActive(): boolean {
    return (this.words.load(this.sharedInfo + GPC_WORD) & GPC_FIFO) !== 0;
  }
  /** The FIFO part, or 0: there is none. */
  get fifo(): number {
    const at = this.words.load(this.base + REGION_FIFO);
    return at === 0 ? 0 : this.base + at;
  }
  fifoVcpu(index: number): number {
    return this.fifo + FIFO_VCPUS + index * FIFO_VCPU_SIZE;
  }
  fifoPage(page: number): number {
    return this.fifo + FIFO_PAGE_GPCS + page * GPC_SIZE;
  }
  /** The cache of shared_info. */
  get sharedInfo(): number {
    return this.base + REGION_SHARED_INFO;
  }
  vcpuLine(index: number): number {
    return this.base + VCPU_LINES + index * VCPU_LINE_SIZE;
  }
  vcpuRecord(index: number): number {
    return this.base + this.#vcpuRecords + index * VCPU_RECORD_SIZE;
  }
  agentRecord(number: number): number {
    return this.base + this.#agentRecords + number * AGENT_SIZE;
  }
  /** The number of the agent whose record is at `agent`. */
  agentNumber(agent: number): number {
    return (agent - this.agentRecord(0)) / AGENT_SIZE;
  }
  outbox(agent: number): number {
    return agent + AGENT_OUTBOX;
  }
  inbox(agent: number): number {
    return agent + AGENT_INBOX;
  }

  /** Every cache of the VM. */
  *gpcs(): Generator<number> {
    yield this.sharedInfo;
    for (let i = 0; i < this.vcpus; i++) {
      yield this.vcpuLine(i) + VCPU_INFO_GPC;
      const record = this.vcpuRecord(i);
      yield record + VCPU_TIME_INFO_GPC;
      yield record + VCPU_RUNSTATE1_GPC;
      yield record + VCPU_RUNSTATE2_GPC;
    }
    yield* this.fifoGpcs();
  }

  /** The caches of the FIFO ABI: pages of event words, then control blocks. */
  *fifoGpcs(): Generator<number> {
    if (this.fifo === 0) return;
    for (let page = 0; page < EVENT_PAGES_MAX; page++) yield this.fifoPage(page);
    for (let i = 0; i < this.vcpus; i++) yield this.fifoVcpu(i) + FIFO_CONTROL_GPC;
  }

  /** Takes a free agent record. Throws ENOSPC when all are taken. */
  takeAgent(): number {
    for (let i = 0; i < this.agents; i++) {
      const agent = this.agentRecord(i);
      if (this.words.compareExchange(agent + AGENT_STATE, AGENT_FREE, AGENT_USED) !== AGENT_FREE) continue;
      // A thread that died in a batch leaves ports in them, which the next one would send.
      this.words.zero(agent + AGENT_PLANE0, 2 * AGENT_PLANE_SIZE);
      this.words.zero(agent + AGENT_MARKS, PORT_TABLE_PORTS);
      this.words.store(agent + AGENT_HOLDER, (i + 1) << QUEUE_HOLDER_SHIFT);
      return agent;
    }
    throw new EvtchnError(
      'ENOSPC',
      `all ${this.agents} agents of this VM are attached; createVm({ agents }) sets how many may be`,
    );
  }

  /** Gives an agent record back: its bracket is over, and so are its invalidations, sleeps and polls. */
  releaseAgent(agent: number): void {
    this.breakQueues(agent);
    for (let i = 0; i < this.vcpus; i++) {
      const line = this.vcpuLine(i);
      if (this.words.load(line + VCPU_SLEEPER) === (agent | 0)) {
        this.words.and(line + VCPU_KICK, ~KICK_SLEEPER);
        this.words.store(line + VCPU_SLEEPER, 0);
      }
      if (this.words.load(line + VCPU_POLLER) === (agent | 0)) {
        this.words.store(line + VCPU_POLL, 0);
        this.words.add(this.base + REGION_POLLERS, -1);
        this.words.store(line + VCPU_POLLER, 0);
      }
      this.words.compareExchange(this.vcpuRecord(i) + VCPU_TIMER_CALLBACK, agent | 0, 0);
    }
    this.words.compareExchange(this.base + REGION_CLOCK_WRITER, agent | 0, 0);
    this.#endInvalidations(agent);
    const epoch = this.words.load(agent + AGENT_READER);
    if (epoch & READER_OPEN) this.words.store(agent + AGENT_READER, epoch - READER_OPEN + READER_STEP);
    this.words.store(agent + AGENT_STATE, AGENT_FREE);
  }

  /**
   * Takes the locks of FIFO queues from an agent that died with them, and says in the FIFO part that what it had half done has to be
   * repaired. [KF-89]
   */
  breakQueues(agent: number): void {
    if (this.fifo === 0) return;
    const holder = (this.agentNumber(agent) + 1) << QUEUE_HOLDER_SHIFT;
    let found = false;
    for (let i = 0; i < this.vcpus; i++) {
      const vcpu = this.fifoVcpu(i);
      for (let queue = vcpu + FIFO_QUEUES; queue < vcpu + FIFO_QUEUES + 4 * FIFO_PRIORITIES; queue += 4) {
        if ((this.words.load(queue) & QUEUE_HOLDER_BITS) !== holder) continue;
        this.words.and(queue, ~QUEUE_HOLDER_BITS);
        found = true;
      }
      found = this.words.compareExchange(vcpu + FIFO_CONSUMER, agent | 0, 0) === (agent | 0) || found;
    }
    if (found) this.words.store(this.fifo + FIFO_REPAIR, 1);
  }

  /** As their `invalidateEnd` would: the sequence before the count. [KX-MEM-04] */
  #endInvalidations(agent: number): void {
    const open = this.words.exchange(agent + AGENT_INVALIDATIONS, 0);
    if (open === 0) return;
    this.words.add(this.base + REGION_INVALIDATE_SEQ, open);
    this.words.add(this.base + REGION_INVALIDATE_ACTIVE, -open);
    this.words.notify(this.base + REGION_INVALIDATE_ACTIVE);
  }

  /** Makes every sleeper look again. */
  wakeSleepers(): void {
    for (let i = 0; i < this.vcpus; i++) {
      const word = this.vcpuLine(i) + VCPU_KICK;
      if (this.words.and(word, ~KICK_SLEEPER) & KICK_SLEEPER) this.words.notify(word);
    }
  }

  bracketOpen(agent: number): boolean {
    return (this.words.load(agent + AGENT_READER) & READER_OPEN) !== 0;
  }
}
