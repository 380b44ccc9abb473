// Which vCPU each port is bound to, what the guest may ring, what interrupts raise, and the eventfds of a snapshot.

import { EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI } from '../../abi/attribute.ts';
import {
  EVENTFD_COUNTER,
  EVENTFD_GSI,
  EVENTFD_LIFE,
  EVENTFD_OPEN,
  EVENTFD_REFERENCES,
  EVENTFD_SEMAPHORE,
  EVENTFD_SIGNALS,
  EVENTFD_SIZE,
  EVENTFD_STATE,
  GROUP_MIXED,
  GROUP_OWNERS,
  GROUP_SHIFT,
  PORT_BOUND,
  PORT_TABLE,
  PORT_TABLE_PORTS,
  REGION_EVENTFD_CAPACITY,
  REGION_EVENTFDS,
  REGION_ROUTE_CAPACITY,
  REGION_ROUTE_TABLE,
  REGION_ROUTES,
  REGION_SEND_PORT_TABLE,
  REGION_SEND_PORTS,
  ROUTE_COUNT,
  ROUTE_FIRST,
  ROUTE_SIZE,
  SEND_PORT_EVENTFD,
  SEND_PORT_SIZE,
  SEND_PORT_TYPE_SHIFT,
  SEND_PORT_VCPU,
  SEND_PORT_WHAT,
} from '../../abi/region.ts';
import { routeCopy, SEND_PORT_COPY } from '../../memory/region.ts';
import { storeRoute } from '../events/route_entry.ts';
import type { Vm } from '../vm.ts';
import { type BindingState, type EventfdState, routeOf, type SendPortState, type VmState } from './state.ts';

/** @internal */
export function applyEvents(vm: Vm, { ports, sendPorts, routes, eventfds }: VmState): void {
  applyBindings(vm, ports);
  clearSendPorts(vm);
  applyEventfds(vm, eventfds, sendPorts);
  for (const sendPort of sendPorts) storeSendPort(vm, sendPort);
  applyRoutes(vm, routes.map(routeOf));
}

function applyBindings(vm: Vm, ports: readonly BindingState[]): void {
  const { words, base } = vm.region;
  const entries = new Int32Array(PORT_TABLE_PORTS);
  for (const { port, vcpu } of ports) entries[port] = PORT_BOUND | vcpu;
  entries.forEach((entry, port) => {
    words.store(base + PORT_TABLE + 4 * port, entry);
  });
  for (let first = 0; first < PORT_TABLE_PORTS; first += 1 << GROUP_SHIFT) {
    const group = entries.subarray(first, first + (1 << GROUP_SHIFT));
    const uniform = group.every((entry) => entry === group[0]);
    const owner = base + GROUP_OWNERS + 4 * (first >> GROUP_SHIFT);
    words.store(owner, uniform ? (group[0] ?? 0) : GROUP_MIXED);
  }
}

// ── send ports: the copy in force; no other holds references ───────────────────────────────────────────────────────

function clearSendPorts(vm: Vm): void {
  const { words } = vm.region;
  const first = vm.region.part(REGION_SEND_PORTS);
  for (let at = first; at < first + 2 * SEND_PORT_COPY; at += SEND_PORT_SIZE) words.store(at + SEND_PORT_WHAT, 0);
}

function storeSendPort(vm: Vm, { sendPort, channel, target }: SendPortState): void {
  const { words, base } = vm.region;
  const copy = words.load(base + REGION_SEND_PORT_TABLE) & 1;
  const at = vm.region.part(REGION_SEND_PORTS) + copy * SEND_PORT_COPY + sendPort * SEND_PORT_SIZE;
  const type = (channel === 'ipi' ? EVTCHNSTAT_IPI : EVTCHNSTAT_INTERDOMAIN) << SEND_PORT_TYPE_SHIFT;
  const isPort = target.kind === 'port';
  words.store(at + SEND_PORT_VCPU, isPort ? target.vcpu | 0 : 0);
  // Last: whoever sees it sees the vCPU.
  const what = isPort ? target.port : SEND_PORT_EVENTFD | (target.fd - vm.eventfds.fdOf(0));
  words.store(at + SEND_PORT_WHAT, type | what);
}

// ── routes: into the copy that nobody reads, under a number that nobody has seen ───────────────────────────────────

function applyRoutes(vm: Vm, routes: readonly ReturnType<typeof routeOf>[]): void {
  const { words, base } = vm.region;
  const table = (words.load(base + REGION_ROUTE_TABLE) + 1) | 0;
  const copy = vm.region.part(REGION_ROUTES) + (table & 1) * routeCopy(words.load(base + REGION_ROUTE_CAPACITY));
  words.store(copy + ROUTE_COUNT, routes.length);
  routes.forEach((route, i) => {
    const at = copy + ROUTE_FIRST + i * ROUTE_SIZE;
    storeRoute(route, (offset, value) => words.store(at + offset, value));
  });
  words.store(base + REGION_ROUTE_TABLE, table);
}

// ── eventfds ───────────────────────────────────────────────────────────────────────────────────────────────────────

function applyEventfds(vm: Vm, eventfds: readonly EventfdState[], sendPorts: readonly SendPortState[]): void {
  const { words, base } = vm.region;
  const byFd = new Map(eventfds.map((eventfd) => [eventfd.fd, eventfd]));
  const signalled = sendPorts.flatMap(({ target }) => (target.kind === 'eventfd' ? [target.fd] : []));
  for (let index = 0; index < words.load(base + REGION_EVENTFD_CAPACITY); index++) {
    const at = vm.region.part(REGION_EVENTFDS) + index * EVENTFD_SIZE;
    const fd = vm.eventfds.fdOf(index);
    storeEventfd(vm, at, byFd.get(fd), signalled.filter((other) => other === fd).length);
  }
}

/** References are counted anew. Who held the eventfd of this number before finds it gone. */
function storeEventfd(vm: Vm, at: number, saved: EventfdState | undefined, sendPorts: number): void {
  const { words } = vm.region;
  if (saved === undefined && words.load(at + EVENTFD_REFERENCES) === 0) return;
  words.store(at + EVENTFD_STATE, 0);
  words.store(at + EVENTFD_LIFE, (words.load(at + EVENTFD_LIFE) + 1) | 0 || 1);
  words.store64(at + EVENTFD_COUNTER, BigInt(saved?.counter ?? 0));
  const gsi = saved?.gsi ?? null;
  words.store(at + EVENTFD_GSI, gsi === null ? 0 : (gsi + 1) | 0);
  const open = saved?.open ?? false;
  words.store(at + EVENTFD_REFERENCES, (open ? 1 : 0) + (gsi === null ? 0 : 1) + sendPorts);
  words.store(at + EVENTFD_STATE, (open ? EVENTFD_OPEN : 0) | (saved?.semaphore ? EVENTFD_SEMAPHORE : 0));
  words.add(at + EVENTFD_SIGNALS, 1);
  if (vm.shared) words.notify(at + EVENTFD_SIGNALS);
}
