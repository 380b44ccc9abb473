// Clocks, timers and runstate.

import { as, type Operations, who } from '../operation.ts';
import { big } from '../value.ts';

const STATES = ['running', 'runnable', 'blocked', 'offline'];
/** No clock comes as far as half of a u64. */
const CLOCK_END = 2n ** 62n;

export const TIME: Operations = {
  advance: {
    weight: 10,
    args: (c) => [
      big(
        c.once(12) ? c.pick([1n, 10n ** 9n, 2n ** 40n, 31_536_000n * 10n ** 9n, 2n ** 56n]) : BigInt(c.int(3_000_000)),
      ),
    ],
    run: (w, [ns]) => {
      const span = as<bigint>(ns);
      if (w.clock.now() + span < CLOCK_END) w.clock.advance(span);
    },
  },
  tick: {
    weight: 10,
    args: (c) => [who(c), c.once(6) ? c.wide() : '$undefined'],
    run: (w, [v, now]) => w.view(v).tick(as(now)) >= 0,
  },
  nextDeadline: { weight: 2, args: (c) => [who(c)], run: (w, [v]) => w.view(v).nextDeadline() },
  clockSet: {
    weight: 3,
    args: (c) => [who(c), c.once(2) ? c.wide() : c.soon()],
    run: (w, [v, ns]) => w.view(v).kvmclock.set(as(ns)),
  },
  clockLook: {
    weight: 2,
    args: (c) => [who(c), c.pick(['now', 'instant', 'master'])],
    run: (w, [v, what]) => {
      const { kvmclock } = w.view(v);
      if (what === 'master') return kvmclock.master;
      return what === 'now' ? kvmclock.now() : kvmclock.instant();
    },
  },
  setTsc: {
    weight: 4,
    args: (c) => [
      who(c),
      c.int(2),
      {
        ...(c.once(4)
          ? {}
          : { hz: c.or(c.pick([0, 1, 1000, 1_000_000_000, 2_000_000_000, 3_999_999_999, 2 ** 40, 2 ** 53 - 1])) }),
        ...(c.once(2) ? {} : { offset: c.once(3) ? big(-(2n ** 63n)) : c.wide() }),
      },
    ],
    run: (w, [v, i, tsc]) => w.vcpu(v, i).setTsc(as(tsc)),
  },
  tscLook: {
    weight: 2,
    args: (c) => [who(c), c.int(2), c.once(2)],
    run: (w, [v, i, read]) => (read ? w.vcpu(v, i).readTsc() : w.vcpu(v, i).getTsc()),
  },
  enterRunstate: {
    weight: 8,
    args: (c) => [who(c), c.int(2), c.or(c.pick(STATES)), c.soon(), c.once(2) ? c.soon() : 0],
    run: (w, [v, i, state, now, delay]) => w.vcpu(v, i).enterRunstate(as(state), as(now), as(delay)),
  },
  load: {
    weight: 6,
    args: (c) => [who(c), c.int(2), c.once(2) ? 0 : c.soon()],
    run: (w, [v, i, delay]) => w.vcpu(v, i).load(as(delay)),
  },
  unload: {
    weight: 5,
    args: (c) => [who(c), c.int(2), { preempted: c.once(2), ...(c.once(3) ? { runDelay: c.soon() } : {}) }],
    run: (w, [v, i, how]) => w.vcpu(v, i).unload(as(how)),
  },
  runstate: { weight: 2, args: (c) => [who(c), c.int(2)], run: (w, [v, i]) => w.vcpu(v, i).runstate() },
  writeTime: {
    weight: 3,
    args: (c) => [
      who(c),
      c.int(2),
      {
        tscTimestamp: c.wide(),
        systemTime: c.wide(),
        mul: c.u32(),
        shift: c.or(c.int(127) - 63),
        flags: c.or(c.int(256)),
      },
    ],
    run: (w, [v, i, time]) => w.vcpu(v, i).writeTime(as(time)),
  },
  readTime: {
    weight: 3,
    args: (c) => [who(c), c.int(2), c.wide(), c.or(c.pick(['vcpu_info', 'vcpu_time_info']))],
    run: (w, [v, i, tsc, from]) => w.vcpu(v, i).readTime(as(tsc), as(from)),
  },
};
