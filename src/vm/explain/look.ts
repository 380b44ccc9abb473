// What there is to see of a port and of everything on its way: read, copied, and not touched. No page is mapped, no bracket is
// opened and nobody is waited for, so what changes meanwhile may be seen half.

import {
  AGENT_READER,
  AGENT_STATE,
  AGENT_USED,
  GPC_MODE_BITS,
  GPC_UNMAPPED,
  GPC_WORD,
  KICK_LISTENER,
  KICK_SLEEPER,
  PORT_BOUND,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  PORT_VCPU_BITS,
  READER_OPEN,
  REGION_HOST_PAGES,
  REGION_INVALIDATE_ACTIVE,
  REGION_ROUTE_CAPACITY,
  REGION_ROUTE_TABLE,
  REGION_ROUTES,
  REGION_SEND_PORT_TABLE,
  REGION_SEND_PORTS,
  REGION_UPCALL_VECTOR,
  REQUEST_VECTOR,
  ROUTE_COUNT,
  ROUTE_FIRST,
  ROUTE_SIZE,
  SEND_PORT_EVENTFD,
  SEND_PORT_SIZE,
  SEND_PORT_TARGET_BITS,
  SEND_PORT_VCPU,
  SEND_PORT_WHAT,
  VCPU_INFO_GPC,
  VCPU_KICK,
  VCPU_KVM_ID,
  VCPU_LAPIC_OFF,
  VCPU_MODE,
  VCPU_POLL,
  VCPU_POLLER,
  VCPU_REQUESTS,
  VCPU_SHADOW_HI,
  VCPU_SHADOW_LO,
  VCPU_SLEEPER,
  VCPU_TIMER_DEADLINE,
  VCPU_TIMER_EXPIRES,
  VCPU_TIMER_PENDING,
  VCPU_TIMER_PORT,
  VCPU_UPCALL_VECTOR,
  VM_IRQCHIP,
} from '../../abi/region.ts';
import {
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
  WORD_BYTES_COMPAT,
  WORD_BYTES_LONG,
} from '../../abi/shared_info.ts';
import {
  VCPU_INFO_SELECTOR_COMPAT,
  VCPU_INFO_SELECTOR_LONG,
  VCPU_INFO_UPCALL_MASK,
  VCPU_INFO_UPCALL_PENDING,
} from '../../abi/vcpu_info.ts';
import { hex } from '../../errors.ts';
import { pageOffset } from '../../memory/address.ts';
import { lookUp } from '../../memory/host_pages.ts';
import { findSlot, hostAddressOf } from '../../memory/slot_table.ts';
import { loadRoute } from '../events/route_entry.ts';
import { gateOpen } from '../hvm_config.ts';
import type { Vm } from '../vm.ts';

/** Why a registered structure cannot be reached. */
export type Unreachable = 'no-slot' | 'readonly-slot' | 'outside' | 'absent-page' | 'readonly-page';

/** A structure that may be registered, and where it can be seen. @internal */
export interface Place {
  readonly registered: boolean;
  /** as it was registered, for people */
  readonly address: string;
  /** the cache maps it now: senders use it without a look at the tables */
  readonly mapped: boolean;
  readonly unreachable: Unreachable | null;
  /** linear address; null when it is not registered or cannot be reached */
  readonly at: number | null;
}

/** @internal */
export interface VcpuLook {
  readonly index: number;
  readonly id: number;
  readonly info: Place;
  /** the bit of the port's word in its selector, its upcall byte and its upcall mask; false where it cannot be seen */
  readonly selected: boolean;
  readonly upcall: boolean;
  readonly upcallMask: boolean;
  /** the bit waits on the engine's side */
  readonly shadowed: boolean;
  /** number of the agent that sleeps for it, or null */
  readonly sleeper: number | null;
  readonly flagged: boolean;
  readonly listener: boolean;
  /** what it polls for: a port, 'several', 'woken' when the poll is over and not withdrawn; null: it does not poll */
  readonly polls: number | 'several' | 'woken' | null;
  readonly vector: number;
  readonly vectorDue: boolean;
  readonly lapicOff: boolean;
}

/** Something that raises the port by itself. @internal */
export interface Source {
  /** for people: 'send port 7', 'the route of gsi 5', 'the timer of vCPU 0' */
  readonly name: string;
  readonly kind: 'send port' | 'route' | 'timer';
  /** KVM's id that it names */
  readonly vcpu: number;
  /** whether there is such a vCPU */
  readonly known: boolean;
}

/** @internal */
export interface TimerLook extends Source {
  /** ns on the host's clock; null: it is not set, or its expiry is being delivered */
  readonly deadline: bigint | null;
  readonly armed: boolean;
  /** it has expired and waits for the vCPU to deliver it */
  readonly waits: boolean;
}

/** @internal */
export interface Look {
  readonly port: number;
  readonly longMode: boolean;
  readonly bound: boolean;
  /** index of the vCPU that gets its upcall: the one it is bound to, else the one that has been told, else 0 */
  readonly target: number;
  readonly sharedInfo: Place;
  readonly pending: boolean;
  readonly masked: boolean;
  readonly vcpus: readonly VcpuLook[];
  readonly vmVector: number;
  readonly gateOpen: boolean;
  readonly irqchip: boolean;
  readonly shared: boolean;
  /** invalidations that are open */
  readonly invalidations: number;
  /** numbers of agents whose bracket is open */
  readonly brackets: readonly number[];
  readonly sources: readonly Source[];
  readonly timers: readonly TimerLook[];
  /** descriptors whose signal raises an interrupt that leads here */
  readonly eventfds: readonly number[];
  readonly now: bigint;
}

/** Looks at a port, 0..4095. @internal */
export function lookAt(vm: Vm, port: number): Look {
  const { words, base, sharedInfo: gpc, longMode } = vm.region;
  const sharedInfo = placeOf(vm, gpc);
  const mask = longMode ? SHARED_INFO_MASK_LONG : SHARED_INFO_MASK_COMPAT;
  const entry = words.load(base + PORT_TABLE + 4 * port);
  const vcpus = Array.from({ length: vm.vcpus }, (_, i) => lookAtVcpu(vm, i, port));
  const told = vcpus.find(({ selected, shadowed }) => selected || shadowed)?.index ?? 0;
  const routes = routesTo(vm, port);
  return {
    port,
    longMode,
    bound: (entry & PORT_BOUND) !== 0,
    target: entry & PORT_BOUND ? entry & PORT_VCPU_BITS : told,
    sharedInfo,
    pending: bitAt(vm, sharedInfo, SHARED_INFO_PENDING, port),
    masked: bitAt(vm, sharedInfo, mask, port),
    vcpus,
    vmVector: words.load(base + REGION_UPCALL_VECTOR),
    gateOpen: gateOpen(vm),
    irqchip: vm.region.has(VM_IRQCHIP),
    shared: vm.shared,
    invalidations: words.load(base + REGION_INVALIDATE_ACTIVE),
    brackets: openBrackets(vm),
    sources: [...sendPortsTo(vm, port), ...routes],
    timers: timersTo(vm, port),
    eventfds: vm.eventfds
      .list()
      .filter(({ gsi }) => routes.some((route) => route.gsi === gsi))
      .map(({ fd }) => fd),
    now: vm.clock.now(),
  };
}

// ── places ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function placeOf(vm: Vm, gpc: number): Place {
  const base = vm.gpcs.baseOf(gpc);
  if (base === null) return { registered: false, address: 'nowhere', mapped: false, unreachable: null, at: null };
  const isShared = gpc === vm.region.sharedInfo;
  const word = vm.region.words.load(gpc + GPC_WORD) & (isShared ? ~GPC_MODE_BITS : -1);
  const address = 'gpa' in base ? `guest address ${hex(base.gpa)}` : `host address ${hex(base.hva)}`;
  if (word >>> 0 < GPC_UNMAPPED >>> 0) {
    return { registered: true, address, mapped: true, unreachable: null, at: word >>> 0 };
  }
  const found = 'gpa' in base ? findGuestPage(vm, base.gpa) : findHostPage(vm, base.hva);
  const unreachable = typeof found === 'number' ? null : found;
  return { registered: true, address, mapped: false, unreachable, at: typeof found === 'number' ? found : null };
}

/** The linear address of a guest-physical one, or why there is none. */
function findGuestPage(vm: Vm, gpa: number): number | Unreachable {
  if (findSlot(vm.region, gpa) === null) return 'no-slot';
  const host = hostAddressOf(vm.region, gpa, true);
  return host === null ? 'readonly-slot' : findHostPage(vm, host);
}

function findHostPage({ region }: Vm, hva: number): number | Unreachable {
  const page = lookUp(region, hva);
  if (page !== null) return page.writable ? page.hpa + pageOffset(hva) : 'readonly-page';
  return region.words.load(region.base + REGION_HOST_PAGES) === 0 ? 'outside' : 'absent-page';
}

/** Bit `n` of a bitmap in guest memory: bit n & 7 of byte n >> 3 in every layout. */
function bitAt(vm: Vm, { at }: Place, bitmap: number, n: number): boolean {
  return ((byteAt(vm, at, bitmap + (n >> 3)) >> (n & 7)) & 1) === 1;
}

function byteAt({ region }: Vm, at: number | null, offset: number): number {
  return at === null ? 0 : (region.words.read(at + offset, 1)[0] ?? 0);
}

/** @internal */
// ── vCPUs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function lookAtVcpu(vm: Vm, index: number, port: number): VcpuLook {
  const { region } = vm;
  const { words, longMode } = region;
  const [line, record] = [region.vcpuLine(index), region.vcpuRecord(index)];
  const info = placeOf(vm, line + VCPU_INFO_GPC);
  const word = Math.floor(port / (8 * (longMode ? WORD_BYTES_LONG : WORD_BYTES_COMPAT)));
  const selector = longMode ? VCPU_INFO_SELECTOR_LONG : VCPU_INFO_SELECTOR_COMPAT;
  const shadow = words.load(line + (word < 32 ? VCPU_SHADOW_LO : VCPU_SHADOW_HI));
  const kick = words.load(line + VCPU_KICK);
  const sleeper = words.load(line + VCPU_SLEEPER);
  return {
    index,
    id: words.load(record + VCPU_KVM_ID),
    info,
    selected: bitAt(vm, info, selector, word),
    upcall: byteAt(vm, info.at, VCPU_INFO_UPCALL_PENDING) !== 0,
    upcallMask: byteAt(vm, info.at, VCPU_INFO_UPCALL_MASK) !== 0,
    shadowed: ((shadow >>> (word & 31)) & 1) === 1,
    sleeper: sleeper === 0 ? null : region.agentNumber(sleeper >>> 0),
    flagged: (kick & KICK_SLEEPER) !== 0,
    listener: (kick & KICK_LISTENER) !== 0,
    polls: pollOf(words.load(line + VCPU_POLLER), words.load(line + VCPU_POLL)),
    vector: words.load(line + VCPU_UPCALL_VECTOR),
    vectorDue: (words.load(line + VCPU_REQUESTS) & REQUEST_VECTOR) !== 0,
    lapicOff: (words.load(record + VCPU_MODE) & VCPU_LAPIC_OFF) !== 0,
  };
}

function pollOf(poller: number, word: number): VcpuLook['polls'] {
  if (poller === 0) return null;
  if (word === 0) return 'woken';
  return word < 0 ? 'several' : word - 1;
}

// ── what raises the port ───────────────────────────────────────────────────────────────────────────────────────────

function sendPortsTo(vm: Vm, port: number): Source[] {
  const { words, base } = vm.region;
  const copies = vm.region.part(REGION_SEND_PORTS);
  const copy = copies + (words.load(base + REGION_SEND_PORT_TABLE) & 1) * PORT_TABLE_PORTS * SEND_PORT_SIZE;
  const found: Source[] = [];
  for (let sendPort = 1; sendPort < PORT_TABLE_PORTS; sendPort++) {
    const what = words.load(copy + sendPort * SEND_PORT_SIZE + SEND_PORT_WHAT);
    if (what === 0 || what & SEND_PORT_EVENTFD || (what & SEND_PORT_TARGET_BITS) !== port) continue;
    const vcpu = words.load(copy + sendPort * SEND_PORT_SIZE + SEND_PORT_VCPU) >>> 0;
    found.push({ name: `send port ${sendPort}`, kind: 'send port', vcpu, known: vm.indexOf(vcpu) >= 0 });
  }
  return found;
}

function routesTo(vm: Vm, port: number): (Source & { readonly gsi: number })[] {
  const { words, base } = vm.region;
  const bytes = ROUTE_FIRST + words.load(base + REGION_ROUTE_CAPACITY) * ROUTE_SIZE;
  const copy = vm.region.part(REGION_ROUTES) + (words.load(base + REGION_ROUTE_TABLE) & 1) * bytes;
  const found: (Source & { readonly gsi: number })[] = [];
  for (let i = 0; i < words.load(copy + ROUTE_COUNT); i++) {
    const route = routeAt(vm, copy + ROUTE_FIRST + i * ROUTE_SIZE);
    if (route?.type !== 'xen_evtchn' || route.port !== port) continue;
    const { gsi, vcpu } = route;
    found.push({ name: `the route of gsi ${gsi}`, kind: 'route', vcpu, known: vm.indexOf(vcpu) >= 0, gsi });
  }
  return found;
}

/** Null for an entry that is being replaced right now. */
function routeAt({ region }: Vm, at: number): ReturnType<typeof loadRoute> | null {
  try {
    return loadRoute((offset) => region.words.load(at + offset) >>> 0);
  } catch {
    return null;
  }
}

function timersTo(vm: Vm, port: number): TimerLook[] {
  const { words } = vm.region;
  const found: TimerLook[] = [];
  for (let i = 0; i < vm.vcpus; i++) {
    const record = vm.region.vcpuRecord(i);
    if (port === 0 || words.load(record + VCPU_TIMER_PORT) !== port) continue;
    const deadline = words.load64(record + VCPU_TIMER_DEADLINE);
    found.push({
      name: `the timer of vCPU ${i}`,
      kind: 'timer',
      vcpu: words.load(record + VCPU_KVM_ID),
      known: true,
      deadline: deadline === 0n ? null : deadline,
      armed: words.load64(record + VCPU_TIMER_EXPIRES) !== 0n,
      waits: words.load(record + VCPU_TIMER_PENDING) !== 0,
    });
  }
  return found;
}

// ── agents ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function openBrackets({ region }: Vm): number[] {
  const open: number[] = [];
  for (let i = 0; i < region.agents; i++) {
    const agent = region.agentRecord(i);
    const used = region.words.load(agent + AGENT_STATE) === AGENT_USED;
    if (used && region.words.load(agent + AGENT_READER) & READER_OPEN) open.push(i);
  }
  return open;
}
