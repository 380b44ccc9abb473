// Interrupt routes, explicit sends, irqfds and interrupt lines as structures: pure. [KX-ABI-43, KX-RTE-01..31]

import { PRIORITY_2LEVEL } from '../../abi/attribute.ts';
import { MAX_ROUTES } from '../../abi/region.ts';
import {
  IRQ_LEVEL_GSI,
  IRQ_LEVEL_LEVEL,
  IRQ_LEVEL_SIZE,
  IRQFD_FD,
  IRQFD_FLAGS,
  IRQFD_GSI,
  IRQFD_SIZE,
  ROUTING_ENTRY_SIZE,
  ROUTING_FLAGS,
  ROUTING_HEADER_SIZE,
  ROUTING_NR,
  XEN_EVTCHN_PORT,
  XEN_EVTCHN_PRIORITY,
  XEN_EVTCHN_SIZE,
  XEN_EVTCHN_VCPU,
} from '../../abi/routing.ts';
import { EvtchnError, hex } from '../../errors.ts';
import type { EvtchnEvent } from '../events/event.ts';
import { checkRoute, type IrqRoute, loadRoute, storeRoute } from '../events/route_entry.ts';
import { build, getU32, putI32, putU32, structure } from './structure.ts';

/**
 * The routes that a struct kvm_irq_routing with its entries of 48 bytes sets, in their order. [KX-RTE-01, 10]
 * Throws EINVAL for more than 4096 entries, for flags of the table, and for an entry with unknown flags or type; EFAULT when
 * fewer bytes were given than there are entries.
 */
export function decodeRouting(bytes: Uint8Array): IrqRoute[] {
  const header = structure(bytes, ROUTING_HEADER_SIZE);
  const count = getU32(header, ROUTING_NR);
  if (count > MAX_ROUTES) {
    throw new EvtchnError('EINVAL', `there are ${count} routes, allowed are up to ${MAX_ROUTES}`);
  }
  const flags = getU32(header, ROUTING_FLAGS);
  if (flags !== 0) throw new EvtchnError('EINVAL', `the flags of the routes are ${hex(flags)}, allowed is 0`);
  const view = structure(bytes, ROUTING_HEADER_SIZE + count * ROUTING_ENTRY_SIZE);
  return Array.from({ length: count }, (_, i) =>
    loadRoute((offset) => getU32(view, ROUTING_HEADER_SIZE + i * ROUTING_ENTRY_SIZE + offset)),
  );
}

/** The structure that sets routes. Throws EINVAL for a route with a value out of range. */
export function encodeRouting(routes: readonly IrqRoute[]): Uint8Array {
  for (const route of routes) checkRoute(route);
  return build(ROUTING_HEADER_SIZE + routes.length * ROUTING_ENTRY_SIZE, (view) => {
    putU32(view, ROUTING_NR, 'the number of routes', routes.length);
    routes.forEach((route, i) => {
      const at = ROUTING_HEADER_SIZE + i * ROUTING_ENTRY_SIZE;
      storeRoute(route, (offset, value) => view.setInt32(at + offset, value, true));
    });
  });
}

/** The event that a struct kvm_irq_routing_xen_evtchn of 12 bytes sends. Throws EFAULT for fewer bytes. [KX-RTE-30] */
export function decodeEvtchnSend(bytes: Uint8Array): Required<EvtchnEvent> {
  const view = structure(bytes, XEN_EVTCHN_SIZE);
  return {
    port: getU32(view, XEN_EVTCHN_PORT),
    vcpu: getU32(view, XEN_EVTCHN_VCPU),
    priority: view.getInt32(XEN_EVTCHN_PRIORITY, true),
  };
}

/** The structure that sends an event. Throws EINVAL for a value that does not fit its field. */
export function encodeEvtchnSend({ port, vcpu, priority = PRIORITY_2LEVEL }: EvtchnEvent): Uint8Array {
  return build(XEN_EVTCHN_SIZE, (view) => {
    putU32(view, XEN_EVTCHN_PORT, 'the port', port);
    putU32(view, XEN_EVTCHN_VCPU, "KVM's id of the vCPU", vcpu);
    putI32(view, XEN_EVTCHN_PRIORITY, 'the priority', priority);
  });
}

/** What KVM_IRQFD takes: signals of an eventfd raise an interrupt, or with IRQFD_DEASSIGN, 1, in `flags` no longer. */
export interface Irqfd {
  readonly fd: number;
  readonly gsi: number;
  /** 0 by default */
  readonly flags?: number;
}

/** Throws EFAULT for fewer than 32 bytes. [KX-RTE-21] */
export function decodeIrqfd(bytes: Uint8Array): Required<Irqfd> {
  const view = structure(bytes, IRQFD_SIZE);
  return { fd: getU32(view, IRQFD_FD), gsi: getU32(view, IRQFD_GSI), flags: getU32(view, IRQFD_FLAGS) };
}

/** A struct kvm_irqfd. Throws EINVAL for a value that does not fit its field. */
export function encodeIrqfd({ fd, gsi, flags = 0 }: Irqfd): Uint8Array {
  return build(IRQFD_SIZE, (view) => {
    putU32(view, IRQFD_FD, 'the eventfd', fd);
    putU32(view, IRQFD_GSI, 'the gsi', gsi);
    putU32(view, IRQFD_FLAGS, 'the flags', flags);
  });
}

/** What KVM_IRQ_LINE takes: the level of an interrupt line. */
export interface IrqLevel {
  readonly gsi: number;
  readonly level: number;
}

/** Throws EFAULT for fewer than 8 bytes. [KX-RTE-20] */
export function decodeIrqLevel(bytes: Uint8Array): IrqLevel {
  const view = structure(bytes, IRQ_LEVEL_SIZE);
  return { gsi: getU32(view, IRQ_LEVEL_GSI), level: getU32(view, IRQ_LEVEL_LEVEL) };
}

/** A struct kvm_irq_level. Throws EINVAL for a value that does not fit its field. */
export function encodeIrqLevel({ gsi, level }: IrqLevel): Uint8Array {
  return build(IRQ_LEVEL_SIZE, (view) => {
    putU32(view, IRQ_LEVEL_GSI, 'the gsi', gsi);
    putU32(view, IRQ_LEVEL_LEVEL, 'the level', level);
  });
}
