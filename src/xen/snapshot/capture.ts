// What a domain is, read out of the region while nobody sends.

import { PORT_INTERDOMAIN, PORT_IPI, PORT_PIRQ, PORT_SAVED, PORT_UNBOUND, PORT_VIRQ } from '../../abi/xen_port.ts';
import type { Domain } from '../domain.ts';
import { captureHvm } from './hvm.ts';
import type { PortKind, PortState, XenState } from './state.ts';

/** @internal */
export const KINDS: ReadonlyMap<PortKind, number> = new Map([
  ['unbound', PORT_UNBOUND],
  ['interdomain', PORT_INTERDOMAIN],
  ['pirq', PORT_PIRQ],
  ['virq', PORT_VIRQ],
  ['ipi', PORT_IPI],
]);

const NAMES: ReadonlyMap<number, PortKind> = new Map([...KINDS].map(([name, state]) => [state, name]));

/** @internal */
export function captureDomain(domain: Domain): XenState {
  const { domid, dialect, ports, table, hvm, fifo } = domain;
  return {
    domid,
    dialect: dialect.name,
    validPorts: table.valid,
    ports: [...ports.bound()].map((port) => portOf(domain, port)),
    hvm: captureHvm(hvm),
    fifo: fifo.state(),
  };
}

function portOf({ table, vm }: Domain, port: number): PortState {
  const { state, target, dom, number, consumer } = table.load(port);
  const bound = state === PORT_UNBOUND || state === PORT_INTERDOMAIN;
  const numbered = state === PORT_INTERDOMAIN || state === PORT_PIRQ || state === PORT_VIRQ;
  return {
    port,
    state: NAMES.get(state) ?? 'unbound',
    vcpu: target,
    dom: bound ? dom : 0,
    number: numbered ? number : 0,
    consumer,
    saved: (vm.region.words.load(table.kept(port)) & PORT_SAVED) !== 0,
  };
}
