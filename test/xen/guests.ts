// Domains in one line, and what tests look at.

import type { Domain, DomainOptions, Xen } from '../../src/xen/index.ts';
import { createXen } from '../../src/xen/index.ts';
import { drained, type MakeOptions, makeVm } from '../support.ts';

/** A domain whose shared_info and vcpu_infos lie where `makeVm` puts them. */
export function makeDomain(xen: Xen, options: MakeOptions & DomainOptions = {}): Domain {
  return xen.adopt(makeVm({ ports: 4096, shared: false, ...options }), options);
}

/** A host with two domains, 1 and 2, each in a memory of its own. */
export function twoDomains(options: MakeOptions & DomainOptions = {}): { xen: Xen; a: Domain; b: Domain } {
  const xen = createXen();
  return { xen, a: makeDomain(xen, options), b: makeDomain(xen, options) };
}

/** One memory with room for several guests. */
export function commonMemory(shared: boolean): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 64, maximum: 64, shared });
}

/** The place of guest number `i` in `commonMemory`. */
export function placeIn(memory: WebAssembly.Memory, i: number) {
  const sizes = { ports: 4096, fifoPorts: 4096 };
  return { ...sizes, memory, regionBase: i * 0x100000, guestBase: i * 0x100000 + 0xe0000, guestPages: 16 };
}

/** A host with two domains, 1 and 2, in one memory. */
export function neighbours(options: MakeOptions & DomainOptions = {}): { xen: Xen; a: Domain; b: Domain } {
  const xen = createXen();
  const memory = commonMemory(options.shared ?? false);
  const [a, b] = [0, 1].map((i) => makeDomain(xen, { ...placeIn(memory, i), agents: 4, ...options }));
  return { xen, a: a as Domain, b: b as Domain };
}

/** Both ends of a channel between two domains; what is pending at first is taken. */
export function channel(a: Domain, b: Domain): { atA: number; atB: number } {
  const atA = a.evtchn.allocUnbound({ remoteDom: b.domid });
  const atB = b.evtchn.bindInterdomain({ remoteDom: a.domid, remotePort: atA });
  if (atA < 0 || atB < 0) throw new Error(`no channel: ${atA}, ${atB}`);
  takeAll(b);
  return { atA, atB };
}

/** What every vCPU of a domain drains, as [vCPU, port]. */
export function taken(domain: Domain): [vcpu: number, port: number][] {
  return Array.from({ length: domain.vm.vcpus }, (_, vcpu) =>
    drained(domain.vm, vcpu).map((port): [number, number] => [vcpu, port]),
  ).flat();
}

/** The ports that a domain drains. */
export function takeAll(domain: Domain): number[] {
  return taken(domain).map(([, port]) => port);
}

/** Every way that two domains may lie to each other. */
export const PAIRS = [
  { where: 'in different memories', pair: twoDomains, shared: false },
  { where: 'in different shared memories', pair: twoDomains, shared: true },
  { where: 'in one memory', pair: neighbours, shared: false },
  { where: 'in one shared memory', pair: neighbours, shared: true },
] as const;
