// Whether a saved domain fits the one that it is restored into, and agrees with itself.

import { HVM_NR_GSIS, HVM_NR_PARAMS, HVM_NR_WATCHDOGS } from '../../abi/xen_hvm.ts';
import { PORT_BATCH } from '../../abi/xen_port.ts';
import { EvtchnError } from '../../errors.ts';
import type { Domain } from '../domain.ts';
import { isVirq, virqClass, virqRow } from '../virq.ts';
import type { PortState, XenState } from './state.ts';

/** Throws EINVAL or ENOSPC. @internal */
export function checkDomain(domain: Domain, state: XenState): void {
  const { dialect, table, vm } = domain;
  if (state.dialect !== dialect.name) fail(`was saved in dialect ${state.dialect}, this domain has ${dialect.name}`);
  if (state.validPorts > table.capacity) {
    throw new EvtchnError(
      'ENOSPC',
      `the saved domain has ${state.validPorts} port descriptors, this one has room for ${table.capacity}`,
    );
  }
  if (state.validPorts % PORT_BATCH) fail(`has ${state.validPorts} port descriptors, not a multiple of ${PORT_BATCH}`);
  let last = 0;
  for (const port of state.ports) {
    if (port.port <= last || port.port >= state.validPorts) fail(`has port ${port.port} behind port ${last}`);
    last = port.port;
    checkPort(domain, state.domid, port);
  }
  checkUnique(state);
  checkLoopback(state);
  const { params, watchdogs, lines, vcpus } = state.hvm;
  const lengths = [params.length, watchdogs.length, lines.length, vcpus.length];
  const expected = [HVM_NR_PARAMS, HVM_NR_WATCHDOGS, HVM_NR_GSIS, vm.vcpus];
  if (lengths.join() !== expected.join())
    fail(`has lists of ${lengths.join()} parts in its HVM state, not of ${expected.join()}`);
}

function checkPort(domain: Domain, savedDomid: number, { port, state, vcpu, dom, number, consumer }: PortState): void {
  if (!domain.hasVcpu(vcpu)) fail(`has port ${port} on vCPU ${vcpu}, this one has ${domain.vm.vcpus}`);
  const foreign = (state === 'unbound' || state === 'interdomain') && dom !== savedDomid;
  if (foreign && dom === domain.domid) fail(`has port ${port} for domain ${dom}, which this one is now`);
  if (consumer && state !== 'unbound' && state !== 'interdomain')
    fail(`has port ${port} of kind ${state} consumed by the hypervisor`);
  if (state === 'pirq' && number >= domain.pirqs)
    fail(`has port ${port} of PIRQ ${number}, this one has ${domain.pirqs}`);
  if (state !== 'virq') return;
  if (!isVirq(number)) fail(`has port ${port} of VIRQ ${number}`);
  const { dialect, domid, xen } = domain;
  if (virqClass(number) !== 'global' || !dialect.virqHandlers || xen.virqHandler(number) === domid) return;
  // A port that could never fire. [KF-26]
  fail(`has port ${port} of VIRQ ${number}, whose handler is domain ${xen.virqHandler(number)}`);
}

/** One port for each VIRQ of a vCPU or a domain, and for each PIRQ. [XE-MOD-21, XE-OP-50] */
function checkUnique({ ports }: XenState): void {
  const seen = new Set<string>();
  for (const { port, state, vcpu, number } of ports) {
    if (state !== 'virq' && state !== 'pirq') continue;
    const name = state === 'virq' ? `VIRQ ${number} of vCPU ${virqRow(number, vcpu)}` : `PIRQ ${number}`;
    if (seen.has(name)) fail(`has port ${port} of ${name}, which another has too`);
    seen.add(name);
  }
}

/** A port that is connected within the domain has its other end there. [XE-OP-21] */
function checkLoopback({ domid, ports }: XenState): void {
  const byPort = new Map(ports.map((port) => [port.port, port]));
  for (const { port, state, dom, number } of ports) {
    if (state !== 'interdomain' || dom !== domid) continue;
    const peer = byPort.get(number);
    if (peer?.state !== 'interdomain' || peer.dom !== domid || peer.number !== port || number === port) {
      fail(`has port ${port} connected to its own port ${number}, which is not connected to that`);
    }
  }
}

function fail(why: string): never {
  throw new EvtchnError('EINVAL', `the saved domain ${why}`);
}
