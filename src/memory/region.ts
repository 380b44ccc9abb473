// The engine's records in the owner's memory: where they are, how they are laid out for a number of vCPUs and agents.

import { fingerprint } from '../abi/fingerprint.ts';
import {
  AGENT_FREE,
  AGENT_INBOX,
  AGENT_MARKS,
  AGENT_OUTBOX,
  AGENT_PLANE_SIZE,
  AGENT_PLANE0,
  AGENT_READER,
  AGENT_SIZE,
  AGENT_STATE,
  AGENT_USED,
  CACHE_LINE,
  GPC_UNMAPPED,
  GPC_WORD,
  KICK_SLEEPER,
  MAX_AGENTS,
  MAX_VCPUS,
  PORT_TABLE_PORTS,
  REGION_AGENT_RECORDS,
  REGION_AGENTS,
  REGION_CLOSED,
  REGION_FINGERPRINT,
  REGION_GUEST_BASE,
  REGION_GUEST_BYTES,
  REGION_LIVE,
  REGION_MAGIC,
  REGION_MAGIC_AT,
  REGION_POLLERS,
  REGION_SHARED_INFO,
  REGION_SIZE,
  REGION_STATE,
  REGION_VCPU_RECORDS,
  REGION_VCPUS,
  REGION_VERSION,
  REGION_VERSION_AT,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_LINE_SIZE,
  VCPU_LINES,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_RECORD_SIZE,
  VCPU_RUNSTATE1_GPC,
  VCPU_RUNSTATE2_GPC,
  VCPU_SLEEPER,
  VCPU_TIME_INFO_GPC,
} from '../abi/region.ts';
import { PAGE_SIZE } from '../abi/shared_info.ts';
import { checkRange, EvtchnError } from '../errors.ts';
import type { Words } from './words.ts';

/** Where the engine works in a memory: its own region and the guest's RAM. @internal */
export interface Placement {
  readonly regionBase: number;
  readonly guestBase: number;
  readonly guestBytes: number;
  readonly vcpus: number;
  readonly agents: number;
}

function vcpuRecords(vcpus: number): number {
  return VCPU_LINES + vcpus * VCPU_LINE_SIZE;
}

function agentRecords(vcpus: number): number {
  return vcpuRecords(vcpus) + vcpus * VCPU_RECORD_SIZE;
}

/**
 * Bytes that the engine's records take for this many vCPUs (1..4096) and agents (threads attached at once, 1..1024).
 * For owners that place the region themselves: any base that is a multiple of 64.
 */
export function regionBytes(vcpus: number, agents: number): number {
  checkRange('the number of vCPUs', vcpus, 1, MAX_VCPUS);
  checkRange('the number of agents', agents, 1, MAX_AGENTS);
  return agentRecords(vcpus) + agents * AGENT_SIZE;
}

/** Throws EINVAL or ENOMEM unless the placement fits into the memory. @internal */
export function checkPlacement(p: Placement, memoryBytes: number): void {
  const region = regionBytes(p.vcpus, p.agents);
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

  private constructor(words: Words, base: number) {
    this.words = words;
    this.base = base;
    this.vcpus = words.load(base + REGION_VCPUS);
    this.agents = words.load(base + REGION_AGENTS);
    this.guestBase = words.load(base + REGION_GUEST_BASE) >>> 0;
    this.guestBytes = words.load(base + REGION_GUEST_BYTES) >>> 0;
  }

  /** Writes fresh records. The placement was checked. */
  static create(words: Words, p: Placement): Region {
    const base = p.regionBase;
    const bytes = regionBytes(p.vcpus, p.agents);
    words.zero(base, bytes);
    words.store(base + REGION_VERSION_AT, REGION_VERSION);
    words.store(base + REGION_FINGERPRINT, fingerprint() | 0);
    words.store(base + REGION_SIZE, bytes);
    words.store(base + REGION_VCPUS, p.vcpus);
    words.store(base + REGION_AGENTS, p.agents);
    words.store(base + REGION_GUEST_BASE, p.guestBase);
    words.store(base + REGION_GUEST_BYTES, p.guestBytes);
    words.store(base + REGION_VCPU_RECORDS, vcpuRecords(p.vcpus));
    words.store(base + REGION_AGENT_RECORDS, agentRecords(p.vcpus));
    const region = new Region(words, base);
    for (const gpc of region.gpcs()) words.store(gpc + GPC_WORD, GPC_UNMAPPED);
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

  get longMode(): boolean {
    return (this.words.load(this.sharedInfo + GPC_WORD) & 1) === 1;
  }
  /** The cache of shared_info. */
  get sharedInfo(): number {
    return this.base + REGION_SHARED_INFO;
  }
  vcpuLine(index: number): number {
    return this.base + VCPU_LINES + index * VCPU_LINE_SIZE;
  }
  vcpuRecord(index: number): number {
    return this.base + vcpuRecords(this.vcpus) + index * VCPU_RECORD_SIZE;
  }
  agentRecord(number: number): number {
    return this.base + agentRecords(this.vcpus) + number * AGENT_SIZE;
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
  }

  /** Takes a free agent record. Throws ENOSPC when all are taken. */
  takeAgent(): number {
    for (let i = 0; i < this.agents; i++) {
      const agent = this.agentRecord(i);
      if (this.words.compareExchange(agent + AGENT_STATE, AGENT_FREE, AGENT_USED) !== AGENT_FREE) continue;
      // A thread that died in a batch leaves ports in them, which the next one would send.
      this.words.zero(agent + AGENT_PLANE0, 2 * AGENT_PLANE_SIZE);
      this.words.zero(agent + AGENT_MARKS, PORT_TABLE_PORTS);
      return agent;
    }
    throw new EvtchnError(
      'ENOSPC',
      `all ${this.agents} agents of this VM are attached; createVm({ agents }) sets how many may be`,
    );
  }

  /** Gives an agent record back: its bracket is over, and so are its sleeps and polls. */
  releaseAgent(agent: number): void {
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
    }
    const epoch = this.words.load(agent + AGENT_READER);
    if (epoch & 1) this.words.store(agent + AGENT_READER, epoch + 1);
    this.words.store(agent + AGENT_STATE, AGENT_FREE);
  }

  bracketOpen(agent: number): boolean {
    return (this.words.load(agent + AGENT_READER) & 1) === 1;
  }
}
