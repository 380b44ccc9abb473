// Raising, masking, receiving and waiting.

import type { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import type { Call, Value } from '../value.ts';
import { HookError, IDS, type World } from '../world.ts';

/** Ports in steps, for lists that are too long to be written down. */
function range(first: unknown, step: unknown, count: unknown): number[] {
  return Array.from({ length: Number(count) }, (_, i) => Number(first) + i * Number(step));
}

function rangeArgs(chance: Chance): Value[] {
  return [
    chance.pick([0, 1, 1, 2, 64, 4000, 2 ** 32 - 8]),
    chance.pick([0, 1, 1, 3, 64, 4095]),
    chance.pick([9, 40, 129, 641, 900, 4096, 4097, 5000]),
  ];
}

/** What handles a port: the next of some calls each time, and an exception in the end if so told. */
function handler(world: World, calls: unknown, fails: unknown): (port: number) => void {
  let i = 0;
  return () => {
    const call = as<readonly Call[]>(calls)[i++];
    if (call !== undefined) world.inside([call]);
    if (i === fails) throw new HookError('a handler fails');
  };
}

/** A sleep that nobody would end is ended before it begins. */
function endLongSleep(world: World, view: unknown, vcpu: unknown, timeout: unknown): void {
  if (typeof timeout === 'number' && !(timeout > 1000)) return;
  if (world.view(view).detached) return;
  world.vcpu(view, vcpu).kick();
  world.disturbed = true;
}

export const EVENTS: Operations = {
  send: { weight: 30, args: (c) => [who(c), c.port()], run: (w, [v, port]) => w.view(v).send(as(port)) },
  sendMany: {
    weight: 10,
    args: (c) => [who(c), c.ports(12), c.once(5) ? c.index(13) : '$undefined', c.once(3)],
    run: (w, [v, ports, n, typed]) => {
      const list = typed ? Uint32Array.from(as<number[]>(ports), Number) : as<number[]>(ports);
      return w.view(v).sendMany(list, as(n));
    },
  },
  sendRange: {
    weight: 3,
    args: (c) => [who(c), ...rangeArgs(c), c.once(3)],
    run: (w, [v, first, step, count, outbox]) => {
      const ports = range(first, step, count);
      const view = w.view(v);
      if (!outbox) return view.sendMany(ports);
      const list = view.outbox;
      ports.slice(0, list.length).forEach((port, i) => {
        list[i] = port;
      });
      return view.sendMany(list, Math.min(ports.length, list.length));
    },
  },
  counts: {
    weight: 1,
    args: (c) => [who(c)],
    run: (w, [v]) => {
      const { delivered, coalesced, masked, bad } = w.view(v).batchCounts;
      return delivered + coalesced + masked + bad >= 0 && w.view(v).wakes >= 0;
    },
  },
  evtchnSend: {
    weight: 8,
    args: (c) => [
      who(c),
      { port: c.port(), vcpu: c.or(c.pick([...IDS, 0])), ...(c.once(4) ? { priority: c.or(-1) } : {}) },
    ],
    run: (w, [v, event]) => w.view(v).evtchnSend(as(event)),
  },
  mask: { weight: 6, args: (c) => [who(c), c.port()], run: (w, [v, port]) => w.view(v).mask(as(port)) },
  unmask: { weight: 8, args: (c) => [who(c), c.port()], run: (w, [v, port]) => w.view(v).unmask(as(port)) },
  bindVcpu: {
    weight: 8,
    args: (c) => [who(c), c.port(), c.index(2)],
    run: (w, [v, port, vcpu]) => w.view(v).bindVcpu(as(port), as(vcpu)),
  },
  portStatus: { weight: 3, args: (c) => [who(c), c.port()], run: (w, [v, port]) => w.view(v).portStatus(as(port)) },
  explain: {
    weight: 4,
    args: (c) => [who(c), c.once(4) ? c.nonsense() : c.port()],
    run: (w, [v, port]) => String(w.view(v).explain(as(port))).length > 0,
  },
  enter: { weight: 3, args: (c) => [who(c)], run: (w, [v]) => w.view(v).enter() },
  leave: { weight: 9, args: (c) => [who(c)], run: (w, [v]) => w.view(v).leave() },
  drain: {
    weight: 14,
    args: (c, inner) => [who(c), c.int(2), c.once(4) ? null : inner(3), c.once(8) ? 1 + c.int(3) : 0],
    run: (w, [v, vcpu, calls, fails]) => {
      const to = w.vcpu(v, vcpu);
      const count = calls === null ? to.drain() : to.drain(handler(w, calls, fails));
      return count >= 0 && to.drained.length === 4096;
    },
  },
  upcallPending: { weight: 4, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).upcallPending },
  flushShadow: { weight: 3, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).flushShadow() },
  resync: { weight: 2, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).resync() },
  takeVector: { weight: 2, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).takeUpcallVector() >= 0 },
  listen: {
    weight: 3,
    args: (c, inner) => [who(c), c.int(2), c.once(3) ? null : c.once(4) ? 'fail' : inner(2)],
    run: (w, [v, i, calls]) => {
      const to = w.vcpu(v, i);
      if (calls === null) return to.onUpcall(null);
      to.onUpcall(() => {
        if (calls === 'fail') throw new HookError('a listener fails');
        w.inside(as(calls));
      });
    },
  },
  wait: {
    weight: 4,
    args: (c) => [
      who(c),
      c.int(2),
      c.timeout(),
      c.once(6) ? c.pick([-1, 0.5, '$NaN', '$Infinity', '5', null, 1000]) : c.int(3),
    ],
    run: (w, [v, i, timeout, spins]) => {
      endLongSleep(w, v, i, timeout);
      return w.vcpu(v, i).wait(as(timeout), as(spins));
    },
  },
  waitAsync: {
    weight: 1,
    args: (c) => [who(c), c.int(2), c.timeout()],
    run: (w, [v, i, timeout]) => w.vcpu(v, i).waitAsync(as(timeout)),
  },
  poll: {
    weight: 4,
    args: (c) => [who(c), c.int(2), c.once(10) ? Array(129).fill(5) : c.ports(5), c.timeout()],
    run: (w, [v, i, ports, timeout]) => {
      endLongSleep(w, v, i, timeout);
      return w.vcpu(v, i).poll(as(ports), as(timeout));
    },
  },
  kick: { weight: 2, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).kick() },
};
