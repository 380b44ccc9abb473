// What the scenarios about events have in common: the routes and send ports of the test program. [kvm-xen 12.1: S-04 to S-06]

import { expect } from 'vitest';
import type { Eventfd } from '../../src/index.ts';
import type { Evtchn } from '../spec/structures.ts';
import { type Machine, VCPU } from './machine.ts';

/** Send port 127 rings port 15 of the vCPU. */
export const LOOPBACK = { sendPort: 127, type: 2, port: 15, vcpu: VCPU } satisfies Evtchn;
/** Send port 197 signals an eventfd, which has to be given in place of the vCPU. */
export const EVENTFD = { sendPort: 197, type: 2, port: 0 } satisfies Evtchn;

/** gsi 32 raises port 15, gsi 33 port 66; an eventfd raises each. */
export function route({ vm, surface }: Machine): [Eventfd, Eventfd] {
  const fds: [Eventfd, Eventfd] = [vm.eventfds.create(), vm.eventfds.create()];
  const routes = [
    { gsi: 32, type: 'xen_evtchn', port: 15, vcpu: VCPU },
    { gsi: 33, type: 'xen_evtchn', port: 66, vcpu: VCPU },
  ] as const;
  expect([surface.routes(routes), surface.irqfd(fds[0].fd, 32), surface.irqfd(fds[1].fd, 33)]).toEqual([0, 0, 0]);
  return fds;
}

/** Signals an eventfd, which has room. */
export function signal(fd: Eventfd): void {
  expect(fd.write(1)).toBe(0);
}
