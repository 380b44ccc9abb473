// What the tests of send ports, routes and eventfds share: attributes in one line, and a ledger of references.

import { EVENTFD_REFERENCES, EVENTFD_SIZE, REGION_EVENTFD_CAPACITY, REGION_EVENTFDS } from '../../src/abi/region.ts';
import type { SendPort, Vm } from '../../src/index.ts';

/** A send port that raises `port` on the vCPU with KVM's id `vcpu`. */
export function loopback(sendPort: number, port: number, vcpu = 0): SendPort {
  return { sendPort, channel: port === sendPort ? 'ipi' : 'interdomain', target: { port, vcpu } };
}

/** A send port that signals an eventfd. */
export function toEventfd(sendPort: number, eventfd: number): SendPort {
  return { sendPort, channel: 'interdomain', target: { eventfd } };
}

export function assign(vm: Vm, port: SendPort): void {
  vm.setAttr({ type: 'evtchn', action: 'assign', ...port });
}

export function update(vm: Vm, port: SendPort): void {
  vm.setAttr({ type: 'evtchn', action: 'update', ...port });
}

export function deassign(vm: Vm, sendPort: number): void {
  vm.setAttr({ type: 'evtchn', action: 'deassign', sendPort });
}

export function reset(vm: Vm): void {
  vm.setAttr({ type: 'evtchn', action: 'reset' });
}

export function setPorts(vm: Vm, ports: readonly SendPort[]): void {
  vm.setAttr({ type: 'evtchn', action: 'set', ports });
}

/** References of each record, also of a VM that is closed. */
export function references(vm: Vm): number[] {
  const { words, base } = vm.region;
  const first = vm.region.part(REGION_EVENTFDS);
  return Array.from({ length: words.load(base + REGION_EVENTFD_CAPACITY) }, (_, i) =>
    words.load(first + i * EVENTFD_SIZE + EVENTFD_REFERENCES),
  );
}

/** All references together. */
export function ledger(vm: Vm): number {
  return references(vm).reduce((sum, n) => sum + n, 0);
}

/** A u32 that is no vCPU's id here. */
export const NO_VCPU = 77;
