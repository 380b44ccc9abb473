// A snapshot as bytes, and what each of its values may be.
//
//   "EVTS" ─ u32 version ─ u32 contract ─ u32 length ─ sections ─ u32 CRC-32 of all that stands before it
//   section: four letters ─ u32 length ─ its values
//
// Values and not region bytes, so that a library with another layout loads them: the contract (the fingerprint of src/abi) says
// who wrote a file, for error messages, and is compared with nothing. Sections may stand in any order. A change of what is
// written raises the version, adds the old `SECTIONS` as what that version had, and a function that makes the new object from
// the old one.

import { fingerprint } from '../../abi/fingerprint.ts';
import { HVM_CONFIG_FLAGS_ALLOWED } from '../../abi/hvm_config.ts';
import {
  ADDRESS_SPACES,
  DIRTY_RING_MAX,
  HVA_END,
  MAX_EVENTFDS,
  MAX_GSI,
  MAX_MEMSLOTS,
  MAX_ROUTES,
  MAX_VCPUS,
  MAX_XEN_ID,
  PORT_TABLE_PORTS,
} from '../../abi/region.ts';
import { PAGE_SIZE } from '../../abi/shared_info.ts';
import { EvtchnError } from '../../errors.ts';
import {
  type Codec,
  either,
  flag,
  just,
  list,
  oneOf,
  orNull,
  Reader,
  record,
  show,
  u32,
  u64,
  Writer,
  wide,
} from './codec.ts';
import {
  type AttributesState,
  type BindingState,
  type ClockState,
  type ConfigState,
  type Decimal,
  type EventfdState,
  type HostPagesState,
  type MachineState,
  type MemslotState,
  type PageRun,
  type PlaceState,
  type RequestsState,
  type RingEntryState,
  type RingState,
  type RouteState,
  type RunstateState,
  type SendPortState,
  SNAPSHOT_VERSION,
  type TimerState,
  type TscState,
  type VcpuState,
  type VmState,
} from './state.ts';

/** "EVTS" as a little-endian word. */
const MAGIC = 0x53545645;
/** Magic, version, contract, length; and the checksum at the end. */
const HEADER = 16;
const TRAILER = 4;
const SECTION_HEADER = 8;
/** The section of guest RAM, which is no part of the object. */
const RAM = 'RAM ';

/** Pages of guest RAM in a row; every byte that no run holds is 0. @internal */
export interface RamRun {
  /** byte of the window */
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** What the bytes of a snapshot hold. `ram` is null when the RAM is not in it. @internal */
export interface Snapshot {
  readonly state: VmState;
  readonly ram: readonly RamRun[] | null;
}

// ── what each value may be ─────────────────────────────────────────────────────────────────────────────────────────

const U32_MAX = 2 ** 32 - 1;
const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
/** Guest RAM and the tables of pages are within 4 GiB. */
const MAX_PAGES = 2 ** 20;
/** A slot has up to 2^31-1 pages, and its bitmap up to 2^20. */
const GPA_END = 2 ** 52;

const u32Any = u32(0, U32_MAX);
/** From the start of the window, before it or behind it; that it is one here is checked against the VM. */
const hostAddress = wide(-HVA_END, HVA_END);
const vector = u32(0, 255);
const port = u32(1, PORT_TABLE_PORTS - 1);

const place = record<PlaceState>({
  by: oneOf('gpa', 'hva'),
  address: wide(-HVA_END, MAX_INTEGER),
  far: orNull(u64),
});

const machine = record<MachineState>({
  vcpuIds: list(u32(0, 2 ** 31 - 1), MAX_VCPUS),
  guestBytes: u32Any,
  irqchip: flag,
  schedInfo: flag,
  amd: flag,
  hyperv: flag,
  hostTable: flag,
  dirtyRings: flag,
});

const config = record<ConfigState>({
  flags: u32(0, HVM_CONFIG_FLAGS_ALLOWED),
  msr: u32Any,
  blobCompat: orNull(hostAddress),
  blobLong: orNull(hostAddress),
  blobPagesCompat: u32(0, 255),
  blobPagesLong: u32(0, 255),
});

const attributes = record<AttributesState>({
  longMode: flag,
  sharedInfo: orNull(place),
  upcallVector: vector,
  xenVersion: u32Any,
  runstateUpdateFlag: flag,
});

const clock = record<ClockState>({ guestTime: u64, realtime: u64, wallClockOwed: flag });

const dirtyRun = record<PageRun>({ first: u32(0, MAX_PAGES - 1), pages: u32(1, MAX_PAGES) });

const memslot = record<MemslotState>({
  addressSpace: u32(0, ADDRESS_SPACES - 1),
  id: u32(0, MAX_MEMSLOTS - 1),
  gpa: wide(0, GPA_END),
  bytes: wide(PAGE_SIZE, GPA_END),
  hva: hostAddress,
  logDirty: flag,
  readonly: flag,
  dirty: list(dirtyRun, MAX_PAGES),
});

const hostPages = record<HostPagesState>({
  first: u32(0, MAX_PAGES - 1),
  pages: u32(1, MAX_PAGES),
  frame: u32Any,
  writable: flag,
});

const binding = record<BindingState>({ port, vcpu: u32(0, MAX_VCPUS - 1) });

const sendPort = record<SendPortState>({
  sendPort: port,
  channel: oneOf('ipi', 'interdomain'),
  target: either<SendPortState['target']>({
    port: record({ kind: just('port'), port, vcpu: u32Any }),
    eventfd: record({ kind: just('eventfd'), fd: u32Any }),
  }),
});

const route = record<RouteState>({
  gsi: u32(0, MAX_GSI - 1),
  target: either<RouteState['target']>({
    xen_evtchn: record({ kind: just('xen_evtchn'), port: u32Any, vcpu: u32Any }),
    irqchip: record({ kind: just('irqchip'), irqchip: u32Any, pin: u32Any }),
    msi: record({ kind: just('msi'), address: u64, data: u32Any, device: orNull(u32Any) }),
  }),
});

const eventfd = record<EventfdState>({
  fd: u32Any,
  open: flag,
  semaphore: flag,
  counter: u64,
  gsi: orNull(u32(0, U32_MAX - 1)),
});

const requests = record<RequestsState>({ unblock: flag, vector: flag, steal: flag });

const runstate = record<RunstateState>({
  state: oneOf('running', 'runnable', 'blocked', 'offline'),
  entryTime: u64,
  times: record<RunstateState['times']>({ running: u64, runnable: u64, blocked: u64, offline: u64 }),
  lastSteal: u64,
  runDelay: u64,
});

const ringEntry = record<RingEntryState>({ slot: u32Any, page: wide(0, MAX_INTEGER), harvested: flag });

const vcpu = record<VcpuState>({
  xenId: u32(0, MAX_XEN_ID - 1),
  vcpuInfo: orNull(place),
  timeInfo: orNull(place),
  runstateArea: orNull(place),
  upcallVector: vector,
  shadow: u64,
  requests,
  runstate,
  lapicOff: flag,
  hypercall: orNull(u64),
  cpuid: record<VcpuState['cpuid']>({ base: u32Any, limit: u32Any }),
  tsc: record<TscState>({ hz: wide(0, MAX_INTEGER), value: u64 }),
  timer: record<TimerState>({ port: u32Any, expires: u64 }),
  ring: record<RingState>({ reset: u32Any, entries: list(ringEntry, DIRTY_RING_MAX) }),
});

/** A part of the object, which is a section of the bytes. */
interface Section {
  /** four letters */
  readonly tag: string;
  readonly part: string;
  readonly codec: Codec<unknown>;
}

type Parts = Omit<VmState, 'version'>;

const PARTS: { readonly [K in keyof Parts]: Codec<Parts[K]> } = {
  machine,
  config,
  attributes,
  clock,
  generations: list<Decimal>(u64, ADDRESS_SPACES),
  memslots: list(memslot, MAX_MEMSLOTS),
  hostPages: list(hostPages, MAX_PAGES),
  ports: list(binding, PORT_TABLE_PORTS - 1),
  sendPorts: list(sendPort, PORT_TABLE_PORTS - 1),
  routes: list(route, MAX_ROUTES),
  eventfds: list(eventfd, MAX_EVENTFDS),
  vcpus: list(vcpu, MAX_VCPUS),
};

const TAGS: { readonly [K in keyof Parts]: string } = {
  machine: 'MACH',
  config: 'CONF',
  attributes: 'ATTR',
  clock: 'CLCK',
  generations: 'GENS',
  memslots: 'SLOT',
  hostPages: 'HOST',
  ports: 'BIND',
  sendPorts: 'SEND',
  routes: 'ROUT',
  eventfds: 'EVFD',
  vcpus: 'VCPU',
};

/** In the order they are written. */
const SECTIONS: readonly Section[] = (Object.keys(PARTS) as (keyof Parts)[]).map((part) => ({
  tag: TAGS[part],
  part,
  codec: PARTS[part] as Codec<unknown>,
}));

const object = record<VmState>({
  version: {
    write: () => {},
    read: () => SNAPSHOT_VERSION,
    check: (value) => checkVersion(value as number),
  },
  ...PARTS,
});

/** Throws EINVAL, naming the field, its value and what is allowed, unless all fields are there and in range. @internal */
export function checkObject(state: unknown): asserts state is VmState {
  object.check(state, 'the snapshot');
}

function checkVersion(version: number): void {
  if (version === SNAPSHOT_VERSION) return;
  throw new EvtchnError('EINVAL', `the snapshot has version ${show(version)}, this library reads ${SNAPSHOT_VERSION}`);
}

// ── bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The bytes of a snapshot, copied, but for the checksum: RAM may change again when this returns. @internal */
export function assemble({ state, ram }: Snapshot): Uint8Array<ArrayBuffer> {
  const parts: Readonly<Record<string, unknown>> = { ...state };
  const sections = new Writer();
  for (const { tag, part, codec } of SECTIONS) writeSection(sections, tag, () => codec.write(sections, parts[part]));
  const length = HEADER + sections.length + ramLength(ram) + TRAILER;
  const out = new Writer(length);
  for (const word of [MAGIC, SNAPSHOT_VERSION, fingerprint(), length]) out.u32(word);
  out.bytes(sections.written);
  if (ram !== null) writeSection(out, RAM, () => writeRam(out, ram));
  out.u32(0);
  return out.result();
}

/** Puts the checksum at the end. @returns `bytes` @internal */
export function seal(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const end = bytes.length - TRAILER;
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(end, crc32(bytes.subarray(0, end)), true);
  return bytes;
}

function writeSection(out: Writer, tag: string, body: () => void): void {
  for (const letter of tag) out.u8(letter.charCodeAt(0));
  const lengthAt = out.length;
  out.u32(0);
  body();
  out.patch(lengthAt, out.length - lengthAt - 4);
}

function writeRam(out: Writer, runs: readonly RamRun[]): void {
  out.u32(runs.length);
  for (const { at, bytes } of runs) {
    out.u32(at);
    out.u32(bytes.length);
    out.bytes(bytes);
  }
}

/** Bytes of what `writeRam` writes, with its head. */
function ramLength(runs: readonly RamRun[] | null): number {
  if (runs === null) return 0;
  return runs.reduce((sum, { bytes }) => sum + 8 + bytes.length, SECTION_HEADER + 4);
}

/**
 * Reads the bytes of a snapshot. Throws EINVAL unless they are one, whole and of a version that is known, with every value in
 * its range. What is in them is a view of `bytes`. @internal
 */
export function decode(bytes: Uint8Array): Snapshot {
  const payload = openEnvelope(bytes);
  const found = new Map<string, Reader>();
  while (payload.left > 0) {
    const tag = readTag(payload);
    const section = payload.bytes(payload.u32());
    if (found.has(tag)) throw new EvtchnError('EINVAL', `the snapshot has two sections ${tag}`);
    found.set(tag, new Reader(section, `section ${tag} of the snapshot`));
  }
  const known = new Set([...SECTIONS.map(({ tag }) => tag), RAM]);
  const strange = [...found.keys()].find((tag) => !known.has(tag));
  if (strange !== undefined) {
    throw new EvtchnError(
      'EINVAL',
      `the snapshot has a section ${show(strange)}, which version ${SNAPSHOT_VERSION} has not`,
    );
  }
  const parts = SECTIONS.map(({ tag, part, codec }) => [part, readSection(found, tag, codec)] as const);
  const state: unknown = { version: SNAPSHOT_VERSION, ...Object.fromEntries(parts) };
  checkObject(state);
  return { state, ram: found.has(RAM) ? readRam(found, state.machine.guestBytes) : null };
}

/** Checks what surrounds the sections. */
function openEnvelope(bytes: Uint8Array): Reader {
  if (bytes.length < HEADER + TRAILER) {
    throw new EvtchnError('EINVAL', `a snapshot has at least ${HEADER + TRAILER} bytes, these are ${bytes.length}`);
  }
  const head = new Reader(bytes.subarray(0, HEADER), 'the head of the snapshot');
  const magic = head.u32();
  if (magic !== MAGIC) {
    throw new EvtchnError('EINVAL', `these bytes are no snapshot: they begin with 0x${hex(magic)}, not with "EVTS"`);
  }
  const version = head.u32();
  const contract = head.u32();
  if (version !== SNAPSHOT_VERSION) {
    const who = `this library, of contract ${fingerprint()}, reads version ${SNAPSHOT_VERSION}`;
    throw new EvtchnError('EINVAL', `the snapshot has version ${version}, written by contract ${contract}; ${who}`);
  }
  const length = head.u32();
  if (length !== bytes.length) {
    throw new EvtchnError('EINVAL', `the snapshot has ${length} bytes, but ${bytes.length} were given`);
  }
  const end = bytes.length - TRAILER;
  const sum = crc32(bytes.subarray(0, end));
  const stored = new Reader(bytes.subarray(end), 'the end of the snapshot').u32();
  if (sum !== stored) {
    throw new EvtchnError(
      'EINVAL',
      `the snapshot is damaged: its checksum is 0x${hex(sum)}, and says 0x${hex(stored)}`,
    );
  }
  return new Reader(bytes.subarray(HEADER, end), 'the snapshot');
}

function readTag(from: Reader): string {
  return String.fromCharCode(...from.bytes(SECTION_HEADER - 4));
}

function readSection<T>(found: ReadonlyMap<string, Reader>, tag: string, codec: Codec<T>): T {
  const section = found.get(tag);
  if (section === undefined) throw new EvtchnError('EINVAL', `the snapshot has no section ${tag}`);
  const value = codec.read(section);
  section.end();
  return value;
}

/** Whole pages, lowest first, within the window. */
function readRam(found: ReadonlyMap<string, Reader>, guestBytes: number): readonly RamRun[] {
  const runs = readSection(found, RAM, list(ramRun, MAX_PAGES));
  let end = 0;
  for (const { at, bytes } of runs) {
    if (
      at < end ||
      at % PAGE_SIZE ||
      bytes.length % PAGE_SIZE ||
      bytes.length === 0 ||
      at + bytes.length > guestBytes
    ) {
      throw new EvtchnError(
        'EINVAL',
        `the snapshot has ${bytes.length} bytes of RAM at ${at}, allowed are whole pages from ${end} to ${guestBytes}, lowest first`,
      );
    }
    end = at + bytes.length;
  }
  return runs;
}

const ramRun: Codec<RamRun> = {
  write: () => {},
  read: (from) => ({ at: from.u32(), bytes: from.bytes(from.u32()) }),
  check: () => {},
};

/** CRC-32 of IEEE 802.3, which zip and PNG use: finds every change within four bytes. @internal */
export function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number);
  }
  return ~crc >>> 0;
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
