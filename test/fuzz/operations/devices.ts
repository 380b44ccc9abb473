// Routes, eventfds and send ports.

import type { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import { big, type Value } from '../value.ts';
import { IDS } from '../world.ts';

/** Descriptors are few, so that they are met again. */
const fd = (c: Chance): Value => c.or(c.once(12) ? c.pick([0, 1, 2, 7, 8]) : c.pick([3, 3, 3, 4, 4, 5, 6]));
const gsi = (c: Chance): Value => (c.once(10) ? c.pick([4095, 4096, 2 ** 32 - 1, 2 ** 32 - 2]) : c.or(c.int(4)));

function route(chance: Chance, line: Value): Value {
  const kind = chance.pick(['xen_evtchn', 'xen_evtchn', 'xen_evtchn', 'irqchip', 'msi']);
  switch (kind) {
    case 'irqchip':
      return { gsi: line, type: kind, irqchip: chance.index(3), pin: chance.index(24) };
    case 'msi':
      return {
        gsi: line,
        type: kind,
        address: chance.wide(),
        data: chance.u32(),
        ...(chance.once(2) ? { device: chance.u32() } : {}),
      };
    default:
      return {
        gsi: line,
        type: chance.once(30) ? chance.nonsense() : kind,
        port: chance.port(),
        vcpu: chance.or(chance.pick([...IDS, 77])),
        ...(chance.once(6) ? { priority: chance.or(-1) } : {}),
      };
  }
}

const count = (c: Chance): Value =>
  c.once(3) ? c.pick([0, 1, 5, -1, 2 ** 53, '$NaN', big(2n ** 64n - 2n), big(2n ** 64n - 1n)]) : 1;

export const DEVICES: Operations = {
  routesSet: {
    weight: 5,
    args: (c) => {
      // Mostly of different interrupts, as they have to be.
      const first = c.int(3);
      const length = c.int(c.once(12) ? 12 : 5);
      return [who(c), Array.from({ length }, (_, i) => route(c, c.once(12) ? gsi(c) : first + i))];
    },
    run: (w, [v, routes]) => w.view(v).routes.set(as(routes)),
  },
  routesList: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).routes.list() },
  raise: {
    weight: 8,
    args: (c) => [who(c), gsi(c), c.once(3) ? c.or(0) : 1],
    run: (w, [v, line, level]) => w.view(v).routes.raise(as(line), as(level)),
  },
  sendPorts: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).sendPorts.list() },
  ring: { weight: 8, args: (c) => [who(c), c.port()], run: (w, [v, port]) => w.view(v).sendPorts.ring(as(port)) },
  fdCreate: {
    weight: 6,
    args: (c) => [who(c), c.once(3) ? count(c) : 0, c.once(2) ? { semaphore: c.flag() } : '$undefined'],
    run: (w, [v, initial, options]) => w.view(v).eventfds.create(as(initial), as(options)),
  },
  fdList: { weight: 1, args: (c) => [who(c)], run: (w, [v]) => w.view(v).eventfds.list() },
  fdBind: {
    weight: 5,
    args: (c) => [who(c), fd(c), gsi(c)],
    run: (w, [v, n, line]) => w.view(v).eventfds.bindIrq(as(n), as(line)),
  },
  fdUnbind: {
    weight: 3,
    args: (c) => [who(c), fd(c), gsi(c)],
    run: (w, [v, n, line]) => w.view(v).eventfds.unbindIrq(as(n), as(line)),
  },
  fdWrite: {
    weight: 6,
    args: (c) => [who(c), fd(c), count(c)],
    run: (w, [v, n, value]) => w.view(v).eventfds.get(as(n)).write(as(value)),
  },
  fdRead: { weight: 4, args: (c) => [who(c), fd(c)], run: (w, [v, n]) => w.view(v).eventfds.get(as(n)).read() },
  fdWait: {
    weight: 2,
    args: (c) => [who(c), fd(c), c.pick([0, 1, 0.5, -1, '$NaN', '5'])],
    run: (w, [v, n, timeout]) => w.view(v).eventfds.get(as(n)).wait(as(timeout)),
  },
  fdClose: {
    weight: 4,
    args: (c) => [who(c), fd(c)],
    run: (w, [v, n]) => {
      const found = w.view(v).eventfds.get(as(n));
      found.close();
      return found.open;
    },
  },
};
