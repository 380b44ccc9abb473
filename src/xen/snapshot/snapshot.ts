// Saving a domain and restoring it: its VM as ever, and its ports, HVM and FIFO state of the same moment.
//
//   save:    senders held off (by the VM's snapshot) ─ domain captured ─ VM captured ─ senders go on
//   restore: everything checked ─ senders held off ─ old ports closed, saved ones bound and connected ─ FIFO ─ VM ─ senders go on ─ HVM
//
// Senders to the domain find its pages away until it is whole again, and look its ports up anew then: so nothing that they send
// meanwhile is lost, or reaches the port that a number was before.

import { PORT_BOUND } from '../../abi/region.ts';
import { PORT_INTERDOMAIN, PORT_SAVED, PORT_UNBOUND } from '../../abi/xen_port.ts';
import { EvtchnError } from '../../errors.ts';
import { checkFits } from '../../vm/snapshot/check.ts';
import type { HeldOptions, RestoreOptions, SnapshotOptions } from '../../vm/snapshot/snapshot.ts';
import { readSnapshot } from '../../vm/snapshot/snapshot.ts';
import type { VmState } from '../../vm/snapshot/state.ts';
import type { Domain } from '../domain.ts';
import { checkFifo, replaceFifo } from '../fifo_state.ts';
import { FREE_PORT, type Port } from '../port_table.ts';
import { virqRow } from '../virq.ts';
import { captureDomain, KINDS } from './capture.ts';
import { checkDomain } from './check.ts';
import { checkDomainObject, decodeDomain, encodeDomain } from './format.ts';
import { applyHvm } from './hvm.ts';
import { DOMAIN_SNAPSHOT_VERSION, type DomainState, type PortState, type XenState } from './state.ts';

type Undo = (() => void)[];

/** @internal */
export function snapshotDomain(domain: Domain, options: SnapshotOptions): Uint8Array<ArrayBuffer> {
  let xen: XenState | null = null;
  const vm = domain.vm.snapshot({ ...options, during: capturing(domain, options, (state) => (xen = state)) });
  return encodeDomain(captured(xen), vm);
}

/** @internal */
export function domainState(domain: Domain, options: HeldOptions): DomainState {
  let xen: XenState | null = null;
  const vm = domain.vm.snapshotState({ during: capturing(domain, options, (state) => (xen = state)) });
  return { version: DOMAIN_SNAPSHOT_VERSION, vm, xen: captured(xen) };
}

function capturing(domain: Domain, { during }: HeldOptions, take: (state: XenState) => void): () => unknown {
  checkNoReset(domain);
  return () => {
    const result: unknown = during?.();
    take(captureDomain(domain));
    // The VM's snapshot says what is wrong with a promise.
    return result;
  };
}

function captured(xen: XenState | null): XenState {
  if (xen === null) throw new EvtchnError('EINVAL', 'the moment of the snapshot was not reached');
  return xen;
}

function checkNoReset(domain: Domain): void {
  if (domain.resetting) throw new EvtchnError('EBUSY', 'a reset of the ports is under way: let it end first');
}

/** @internal */
export function restoreDomain(domain: Domain, saved: Uint8Array | DomainState, options: RestoreOptions): void {
  const { vm, fifo } = domain;
  vm.checkOwner();
  checkNoReset(domain);
  const { state, vmSaved, vmState } = open(saved);
  checkFits(vm, vmState);
  checkDomain(domain, state);
  if (state.fifo !== null) checkFifo(vm, state.fifo);
  const before = fifo.state();
  const undo: Undo = [];
  const during = (): unknown => {
    const result: unknown = options.during?.();
    exchangePorts(domain, state, undo);
    undo.push(() => replaceFifo(vm, before));
    replaceFifo(vm, state.fifo);
    return result;
  };
  try {
    vm.restore(vmSaved, { ...options, during });
  } catch (error) {
    for (const back of undo.reverse()) back();
    throw error;
  }
  finish(domain, state);
}

function open(saved: Uint8Array | DomainState): {
  readonly state: XenState;
  readonly vmSaved: Uint8Array | VmState;
  readonly vmState: VmState;
} {
  if (!(saved instanceof Uint8Array)) {
    checkDomainObject(saved);
    return { state: saved.xen, vmSaved: saved.vm, vmState: saved.vm };
  }
  const { xen, vm } = decodeDomain(saved);
  return { state: xen, vmSaved: vm, vmState: readSnapshot(vm) };
}

// ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The domain's ports are those that were saved; while nobody can send to it. */
function exchangePorts(domain: Domain, state: XenState, undo: Undo): void {
  const { ports, table } = domain;
  const { words } = domain.vm.region;
  const old = [...ports.bound()];
  for (const port of old) undo.push(keeping(domain, port));
  ports.unbind(old, undo);
  for (const port of old) words.store(table.kept(port), 0);
  const valid = table.valid;
  table.valid = Math.max(valid, state.validPorts);
  undo.push(() => {
    table.valid = valid;
  });
  for (const saved of state.ports) undo.push(keeping(domain, saved.port));
  for (const saved of state.ports) store(domain, state.domid, saved);
  for (const saved of state.ports) if (saved.state === 'interdomain') connect(domain, state.domid, saved, undo);
  // Last, as in every bind. [XE-MOD-24]
  for (const { port, state: kind, number, vcpu } of state.ports) {
    if (kind !== 'virq') continue;
    const row = virqRow(number, vcpu);
    undo.push(() => ports.virqs.set(row, number, 0));
    ports.virqs.set(row, number, port);
  }
}

/** Puts a descriptor back as it is now. */
function keeping({ table, vm }: Domain, port: number): () => void {
  const was = table.load(port);
  const kept = vm.region.words.load(table.kept(port));
  return () => {
    table.store(port, was);
    vm.region.words.store(table.kept(port), kept);
  };
}

/** A saved port, not connected to anybody yet. */
function store({ domid, table, vm }: Domain, savedDomid: number, { port, state, ...saved }: PortState): void {
  const dom = saved.dom === savedDomid ? domid : saved.dom;
  const to: Port = { ...FREE_PORT, target: saved.vcpu, consumer: saved.consumer, state: PORT_UNBOUND, dom };
  const unbound = state === 'unbound' || state === 'interdomain';
  table.store(port, unbound ? to : { ...to, state: KINDS.get(state) ?? 0, dom: 0, number: saved.number });
  vm.region.words.store(table.kept(port), saved.saved ? PORT_SAVED : 0);
}

/** Connects a port to the end that it had, if that is there and free for it: else it stays unbound, as if that had been closed. */
function connect(domain: Domain, savedDomid: number, { port, dom, number }: PortState, undo: Undo): void {
  const { domid, table, vm, xen } = domain;
  const local = table.load(port);
  const remote = dom === savedDomid ? domain.ports : xen.end(dom);
  if (remote === xen.host) {
    if (!xen.host.restore(number, domid, port)) return;
    undo.push(() => xen.host.unrestore(number));
    table.store(port, { ...local, state: PORT_INTERDOMAIN, number });
    return;
  }
  if (!remote?.vm?.owner || remote.vm.detached || !remote.table.isValid(number)) return;
  const peer = remote.table.load(number);
  if (local.state !== PORT_UNBOUND || peer.state !== PORT_UNBOUND || peer.dom !== domid) return;
  const region = (of: number): number => (remote.vm?.memory === vm.memory ? of + 1 : 0);
  table.store(port, { ...local, state: PORT_INTERDOMAIN, number, peerRegion: region(remote.vm.vmBase) });
  if (remote.vm !== vm) undo.push(() => remote.table.storeWhat(number, peer));
  remote.table.store(number, {
    ...peer,
    state: PORT_INTERDOMAIN,
    dom: domid,
    number: port,
    peerRegion: region(vm.vmBase),
  });
}

// ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** The VM is what was saved. */
function finish(domain: Domain, state: XenState): void {
  const { vm, ports, table, consumers } = domain;
  table.valid = state.validPorts;
  for (let port = 1; port < table.capacity; port++) {
    const { state: kind, target } = table.load(port);
    if (kind !== 0 || port < table.valid) vm.kernel.placePort(vm.vmBase, port, kind === 0 ? 0 : PORT_BOUND | target);
  }
  ports.restart();
  for (const [port, consumer] of consumers) {
    if (table.isValid(port) && table.load(port).consumer) continue;
    consumer.end();
    consumers.delete(port);
  }
  applyHvm(domain.hvm, state.hvm);
  if (vm.gpcs.isActive(vm.region.sharedInfo)) ports.flushSaved();
}
