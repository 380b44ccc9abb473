// Sends against every change of ports that there is: none is lost, and none reaches a later life of a number. [XE-MOD-15, 40..43]

import { GPC_ACTIVE, GPC_BY_GPA, REGION_SHARED_INFO } from '../../src/abi/region.ts';
import { PORT_IPI } from '../../src/abi/xen_port.ts';
import { DOMID_SELF, type Domain } from '../../src/xen/index.ts';
import { pendingBit } from '../support.ts';
import { channel } from './guests.ts';
import { handle, type Race, type RaceWorld } from './race_world.ts';

/** Closes as the owner does, but for the wait, which the runner does. */
function* close(domain: Domain, ports: readonly number[]): Generator<void> {
  const closing = domain.ports.beginClose(ports);
  if (closing.readers.size > 0) yield;
  closing.finish();
}

/** The number is another's now: whoever sends to it gets no event out of it. */
function* closeAndReuse(domain: Domain, port: number): Generator<void> {
  yield* close(domain, [port]);
  if (domain.evtchn.allocUnbound({ remoteDom: 77 }) !== port) throw new Error('the number was not given out again');
}

/** Nobody was called and nothing is pending that came after a port's end. */
function nothingAfter(...late: readonly (readonly ['one' | 'two', number])[]) {
  return (world: RaceWorld): string | null => {
    for (const [which, port] of late) {
      const { vm } = world[which];
      if (pendingBit(vm, port)) return `port ${port} of ${which} is pending in its next life`;
      if (vm.portStatus(port).pending) return `port ${port} of ${which} is pending`;
    }
    return world.handled.length === 0 ? null : `handled ${world.handled.join(' ')} of a former life`;
  };
}

/** Exactly one of the outcomes, each as the list of what was handled. */
function oneOf(...outcomes: readonly (readonly string[])[]) {
  return ({ handled }: RaceWorld): string | null =>
    outcomes.some((outcome) => outcome.join(' ') === handled.join(' '))
      ? null
      : `handled ${handled.join(' ') || 'nothing'}`;
}

/** Each send was told 0, or, once its port was gone, -EINVAL. */
function answered(world: RaceWorld, ...allowed: readonly number[]): string | null {
  const odd = world.results.filter((result) => !allowed.includes(result));
  return odd.length === 0 ? null : `the sender was told ${odd.join(' ')}`;
}

function judges(...all: readonly ((world: RaceWorld) => string | null)[]) {
  return (world: RaceWorld): string | null => all.map((judge) => judge(world)).find((fault) => fault !== null) ?? null;
}

const send = (domain: Domain, port: number | undefined, world: RaceWorld): void => {
  world.results.push(domain.send(port ?? -1));
};

/** A channel from domain 1 to domain 2: ports 1 and 1. */
function connected(world: RaceWorld): void {
  const { atA, atB } = channel(world.one, world.two);
  world.ports['one'] = atA;
  world.ports['two'] = atB;
}

function ipi(world: RaceWorld): void {
  world.ports['one'] = world.one.evtchn.bindIpi({ vcpu: 1 });
}

/** The sender's thread has sent before: the kernel finds the peer by itself. */
function familiar(setup: (world: RaceWorld) => void) {
  return (world: RaceWorld): void => {
    setup(world);
    world.sender.one.send(1);
    world.sender.two.send(1);
    handle(world);
  };
}

export const RACES: readonly Race[] = [
  // ── close and reuse ─────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-MOD-15 KF-21 an IPI is sent while its port is closed and given out again',
    setup: ipi,
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => closeAndReuse(w.one, 1),
    judge: judges(nothingAfter(['one', 1]), (w) => answered(w, 0, -22)),
  },
  {
    name: 'XE-MOD-43 XE-OP-62 a send while its other end is closed and given out again',
    setup: familiar(connected),
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => closeAndReuse(w.two, 1),
    judge: judges(nothingAfter(['two', 1]), (w) => answered(w, 0)),
  },
  {
    name: 'XE-MOD-43 the same by a thread that does not know the peer yet',
    setup: connected,
    slowHalf: true,
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => closeAndReuse(w.two, 1),
    judge: judges(nothingAfter(['two', 1]), (w) => answered(w, 0)),
  },
  {
    name: 'XE-MOD-43 a send while its own end is closed, and both numbers are given out again',
    setup: familiar(connected),
    a: (w) => send(w.sender.one, 1, w),
    b: function* (w) {
      yield* closeAndReuse(w.one, 1);
      yield* closeAndReuse(w.two, 1);
    },
    judge: judges(nothingAfter(['one', 1], ['two', 1]), (w) => answered(w, 0, -22)),
  },
  {
    name: 'XE-OP-62 a send while its other end is closed and connected to another port: it arrives there or is dropped, the bind is told',
    setup: familiar(connected),
    a: (w) => send(w.sender.one, 1, w),
    b: function* (w) {
      yield* close(w.two, [1]);
      w.two.evtchn.bindIpi({ vcpu: 0 });
      w.ports['next'] = w.two.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 1 });
    },
    // Port 1 is an IPI's now; the bind makes port 2 pending, whatever became of the send.
    judge: judges(
      (w) => (w.handled.includes('2:0:1') ? 'an IPI port was raised by another domain' : null),
      (w) => (w.handled.includes('2:0:2') ? null : 'the new end was not told'),
      (w) => answered(w, 0),
    ),
  },
  {
    name: 'XE-MOD-24 a VIRQ is raised while its port is closed and given out again',
    setup: (w) => {
      w.ports['one'] = w.one.evtchn.bindVirq({ virq: 0, vcpu: 1 });
    },
    a: (w) => w.results.push(w.sender.one.raiseVirq(0, 1)),
    b: (w) => closeAndReuse(w.one, 1),
    judge: judges(nothingAfter(['one', 1]), (w) => answered(w, 0, 1)),
  },
  {
    name: 'XE-MOD-24 XE-MOD-42 a VIRQ is raised while it is bound: dropped or delivered',
    setup: () => {},
    a: (w) => w.results.push(w.sender.one.raiseVirq(0, 1)),
    b: (w) => w.one.evtchn.bindVirq({ virq: 0, vcpu: 1 }),
    judge: (w) => oneOf(...(w.results[0] === 1 ? [['1:1:1']] : [[]]))(w),
  },
  {
    name: 'XE-OP-61 a PIRQ is raised while its port is closed and given out again',
    setup: (w) => {
      Object.defineProperty(w.one, 'pirqs', { value: 4 });
      w.ports['one'] = w.one.evtchn.bindPirq({ pirq: 3 });
    },
    slowHalf: true,
    a: (w) => w.results.push(w.sender.one.raisePirq(3)),
    b: (w) => closeAndReuse(w.one, 1),
    judge: judges(nothingAfter(['one', 1]), (w) => answered(w, 0, 1, -22)),
  },
  // ── connect ─────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-22 a send on an unbound port while it is connected: the binder is told in any case',
    setup: (w) => {
      w.one.evtchn.allocUnbound({ remoteDom: 2 });
    },
    slowHalf: true,
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => w.two.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 1 }),
    judge: judges(oneOf(['2:0:1']), (w) => answered(w, 0)),
  },
  {
    name: 'XE-OP-22 the same when the number had another life before',
    setup: (w) => {
      w.one.evtchn.allocUnbound({ remoteDom: DOMID_SELF });
      w.one.evtchn.bindInterdomain({ remoteDom: DOMID_SELF, remotePort: 1 });
      w.one.evtchn.close(1);
      w.one.evtchn.close(2);
      w.one.evtchn.allocUnbound({ remoteDom: 2 });
    },
    slowHalf: true,
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => w.two.evtchn.bindInterdomain({ remoteDom: 1, remotePort: 1 }),
    judge: judges(oneOf(['2:0:1']), (w) => answered(w, 0)),
  },
  // ── move ────────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-93 a send while the guest masks, moves and unmasks its port: handled once, by the old vCPU or the new one',
    setup: familiar(connected),
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => {
      w.two.vm.mask(1);
      w.two.evtchn.bindVcpu({ port: 1, vcpu: 1 });
      w.two.evtchn.unmask(1);
    },
    judge: judges(oneOf(['2:0:1'], ['2:1:1']), (w) => answered(w, 0)),
  },
  {
    name: 'XE-OP-91 a raise while its port moves, under a mask: the unmask finds it on the new vCPU',
    setup: (w) => {
      w.one.evtchn.bindVirq({ virq: 11, vcpu: 0 });
      w.one.vm.mask(1);
    },
    a: (w) => w.results.push(w.sender.one.raiseVirq(11)),
    b: (w) => w.one.evtchn.bindVcpu({ port: 1, vcpu: 1 }),
    judge: (w) => {
      if (w.handled.length > 0) return 'a masked port was handled';
      w.one.evtchn.unmask(1);
      handle(w);
      return oneOf(['1:1:1'])(w);
    },
  },
  // ── reset, destruction ──────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-110 a send while the other domain resets its ports and binds them anew',
    setup: familiar(connected),
    a: (w) => send(w.sender.one, 1, w),
    b: function* (w) {
      yield* close(w.two, [...w.two.ports.bound()]);
      w.two.ports.bind(w.two.ports.allocate(), { state: PORT_IPI });
    },
    judge: judges(nothingAfter(['two', 1]), (w) => answered(w, 0)),
  },
  {
    name: 'KF-46 a send while the other domain ends',
    setup: familiar(connected),
    slowHalf: true,
    a: (w) => send(w.sender.one, 1, w),
    b: function* (w) {
      w.two.ports.dying = true;
      yield* close(w.two, [...w.two.ports.bound()]);
      const before = new Uint8Array(w.two.vm.memory.buffer, w.two.vm.guestBase, w.two.vm.guestBytes).fill(0x10);
      yield;
      w.ports['touched'] = before.every((byte) => byte === 0x10) ? 0 : 1;
    },
    judge: judges(
      (w) => answered(w, 0),
      (w) => {
        const now = new Uint8Array(w.two.vm.memory.buffer, w.two.vm.guestBase, w.two.vm.guestBytes);
        w.handled.length = 0;
        return now[3 * 4096 + 0x800] === 0x10 || now[3 * 4096 + 0x800] === 0
          ? null
          : 'a page of a dead domain was written';
      },
    ),
  },
  {
    name: 'XE-OP-63 both domains close their ends inside each other’s sends',
    setup: familiar(connected),
    a: (w) => {
      send(w.sender.one, 1, w);
      send(w.sender.two, 1, w);
    },
    b: function* (w) {
      yield* closeAndReuse(w.two, 1);
      yield* closeAndReuse(w.one, 1);
    },
    judge: (w) => {
      // A send that is through before the closes has arrived, and was forgotten with its port.
      for (const which of ['one', 'two'] as const)
        if (pendingBit(w[which].vm, 1)) return `port 1 of ${which} is pending`;
      return w.handled.length === 0 ? answered(w, 0, -22) : `handled ${w.handled.join(' ')}`;
    },
  },
  // ── before there is a shared_info ───────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-22 an event comes while the guest registers its shared_info: it is pending then',
    setup: (w) => {
      ipi(w);
      w.one.vm.setAttr({ type: 'shared_info', gfn: null });
    },
    a: (w) => send(w.sender.one, 1, w),
    b: function* (w) {
      // As the activation of the cache does it, with its wait.
      const { vm } = w.one;
      vm.kernel.invalidateStart(vm.vmBase);
      yield;
      vm.region.words.store(vm.vmBase + REGION_SHARED_INFO + GPC_ACTIVE, GPC_BY_GPA);
      vm.kernel.invalidateEnd(vm.vmBase);
      vm.gpcs.refresh(vm.region.sharedInfo);
      w.one.ports.flushSaved();
      handle(w);
    },
    judge: judges(oneOf(['1:1:1']), (w) => answered(w, 0)),
  },
  {
    name: 'XE-OP-22 the same without the wait: the two looks of the sender and the owner’s cannot both miss it',
    setup: (w) => {
      ipi(w);
      w.one.vm.setAttr({ type: 'shared_info', gfn: null });
    },
    a: (w) => send(w.sender.one, 1, w),
    b: (w) => {
      const { vm } = w.one;
      vm.region.words.store(vm.vmBase + REGION_SHARED_INFO + GPC_ACTIVE, GPC_BY_GPA);
      vm.gpcs.refresh(vm.region.sharedInfo);
      w.one.ports.flushSaved();
      handle(w);
    },
    judge: judges(oneOf(['1:1:1']), (w) => answered(w, 0)),
  },
];
