// Every pair of operations of the FIFO ABI that may meet.

import { EVENT_MASKED } from '../../src/abi/fifo.ts';
import { hva } from '../../src/index.ts';
import { ARRAY_GFN } from './fifo_guest.ts';
import {
  drain,
  type FifoScenario,
  type FifoWorld,
  handled,
  handledBy,
  NOT_NOW,
  send,
  sendSlow,
  unmask,
} from './fifo_world.ts';

const [A, B, C, D] = [5, 6, 7, 1030];

const priority = (w: FifoWorld, port: number, p: number): number => w.guest.fifo.setPriority({ port, priority: p });

/** B and C on a queue of priority 2, where they have been before. */
function twoQueues(w: FifoWorld): void {
  priority(w, B, 2);
  for (const port of [A, B, C]) sendSlow(w.owner, port);
  w.owner.vcpu(0).drain(() => {});
}

/** An invalidation by the owner, begun and ended; it waits while the other is in a reader section. */
function invalidates(w: FifoWorld, frame: number): number {
  const { owner, other } = w;
  if (owner.region.bracketOpen(other.agent)) return NOT_NOW;
  const at = owner.guestBase + frame * 4096;
  owner.invalidateStart(hva(at), hva(at + 4095));
  owner.invalidateEnd();
  return 0;
}

/** Runs a control operation of the owner's when the other is in no bracket, as if it had waited. */
function control(w: FifoWorld, operation: () => number): number {
  const { owner, other } = w;
  if (owner.region.bracketOpen(other.agent)) return NOT_NOW;
  const result = operation();
  if (result !== 0) w.faults.push(`the operation answered ${result}`);
  return 0;
}

const back = (w: FifoWorld): number => w.guest.fifo.toTwoLevel();

/** Over and over until it is done, as a thread does whose fast half says -EAGAIN. */
function insist(w: FifoWorld, vm: FifoWorld['owner'], port: number): void {
  const result = vm.send(port);
  if (result < 0 && result !== -107) w.faults.push(`a send of ${port} answered an error`);
}

export const FIFO_SCENARIOS: readonly FifoScenario[] = [
  // ── senders against each other ────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-FF-11 a send, a send of its neighbour inside',
    who: 'owner',
    pages: 1,
    a: (w) => send(w.owner, A),
    b: (w) => send(w.other, C),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'XE-FF-13 a send, a send of the same port inside',
    who: 'owner',
    pages: 1,
    a: (w) => send(w.owner, A),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-FF-01 a send, a send on another priority inside',
    who: 'owner',
    pages: 1,
    setup: twoQueues,
    a: (w) => send(w.owner, A),
    b: (w) => send(w.other, B),
    judge: handled({ [A]: 1, [B]: 1 }),
  },
  {
    name: 'XE-FF-11 KF-73 a send, its move to another priority and a send inside',
    who: 'other',
    pages: 1,
    setup: (w) => {
      sendSlow(w.owner, A);
      sendSlow(w.owner, C);
      w.owner.vcpu(0).drain(() => {});
    },
    a: (w) => insist(w, w.other, A),
    b: (w) => {
      priority(w, A, 2);
      return send(w.owner, A);
    },
    judge: handled({ [A]: [1, 2] }),
  },
  {
    name: 'XE-FF-61 KF-69 a moved stale tail is sent, a send on its old queue inside',
    who: 'owner',
    pages: 1,
    setup: (w) => {
      twoQueues(w);
      priority(w, C, 2);
    },
    a: (w) => insist(w, w.owner, C),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'XE-FF-61 XE-TC-11 a send on the old queue, the moved stale tail is sent inside',
    who: 'other',
    pages: 1,
    setup: (w) => {
      twoQueues(w);
      w.owner.bindVcpu(C, 1);
    },
    a: (w) => insist(w, w.other, A),
    b: (w) => send(w.owner, C),
    judge: handledBy({ [A]: 1, [C]: 1 }, A, 0),
  },
  {
    name: 'XE-FF-11 KF-73 a send, a move to another vCPU, a send and a drain inside; then a send on the new queue',
    who: 'other',
    pages: 1,
    setup: (w) => {
      w.owner.bindVcpu(C, 1);
      for (const port of [C, A]) sendSlow(w.owner, port);
      for (const vcpu of [0, 1]) w.owner.vcpu(vcpu).drain(() => {});
    },
    a: (w) => {
      insist(w, w.other, A);
      insist(w, w.other, C);
    },
    b: (w) => {
      w.owner.bindVcpu(A, 1);
      return send(w.owner, A) === NOT_NOW ? NOT_NOW : drain(w, w.owner, 1);
    },
    judge: handledBy({ [A]: [1, 2], [C]: [1, 2] }, C, 1),
  },
  {
    name: 'XE-FF-42 KF-22 a send, a move to another vCPU and a drain of both inside',
    who: 'other',
    pages: 1,
    a: (w) => insist(w, w.other, A),
    b: (w) => {
      w.owner.bindVcpu(A, 1);
      return drain(w, w.owner, 0) + drain(w, w.owner, 1);
    },
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'a batch of two queues, a send of one of its ports inside',
    who: 'owner',
    pages: 1,
    setup: twoQueues,
    a: (w) => w.owner.sendMany([A, C, B, A]),
    b: (w) => send(w.other, C),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
  // ── senders against the consumer ──────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-FF-22 a send, a drain inside',
    who: 'owner',
    pages: 1,
    a: (w) => send(w.owner, A),
    b: (w) => drain(w, w.other),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-FF-17 a send behind a tail, a drain of the tail inside',
    who: 'owner',
    pages: 1,
    setup: (w) => sendSlow(w.owner, C),
    a: (w) => insist(w, w.owner, A),
    b: (w) => drain(w, w.other),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'XE-FF-71 a drain, a send inside',
    who: 'owner',
    pages: 1,
    setup: (w) => sendSlow(w.owner, C),
    a: (w) => drain(w, w.owner),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'XE-FF-71 a drain, a send of the port it takes inside',
    who: 'owner',
    pages: 1,
    setup: (w) => {
      sendSlow(w.owner, C);
      sendSlow(w.owner, A);
    },
    a: (w) => drain(w, w.owner),
    b: (w) => send(w.other, C),
    judge: handled({ [A]: 1, [C]: [1, 2] }),
  },
  {
    name: 'XE-FF-71 KF-68 a drain of two priorities, a send on the higher inside',
    who: 'owner',
    pages: 1,
    setup: (w) => {
      twoQueues(w);
      sendSlow(w.owner, A);
      sendSlow(w.owner, C);
    },
    a: (w) => drain(w, w.owner),
    b: (w) => send(w.other, B),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
  {
    name: 'a drain, another drain of the same vCPU inside',
    who: 'owner',
    pages: 1,
    setup: (w) => w.owner.sendMany([A, B, C]),
    a: (w) => drain(w, w.owner),
    b: (w) => drain(w, w.other),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
  {
    name: 'a batch, a drain inside',
    who: 'owner',
    pages: 1,
    setup: twoQueues,
    a: (w) => w.owner.sendMany([A, C, B]),
    b: (w) => drain(w, w.other),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
  {
    name: 'KX-EVT-65 a send of a pending port, a drain inside: the handler sees the last payload',
    who: 'owner',
    pages: 1,
    setup: (w) => {
      w.payload = 1;
      sendSlow(w.owner, A);
    },
    a: (w) => {
      // In a bracket: no other barrier stands between.
      w.owner.enter();
      w.buffered = 2;
      send(w.owner, A);
      w.owner.leave();
    },
    b: (w) => drain(w, w.other),
    judge: (w) => (w.seen === 2 ? handled({ [A]: [1, 2] })(w) : `the last handler saw payload ${w.seen}`),
  },
  // ── masks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-FF-50 XE-FF-21 a send of a masked port, its unmask inside',
    who: 'owner',
    pages: 1,
    setup: (w) => w.guest.set(A, EVENT_MASKED),
    a: (w) => insist(w, w.owner, A),
    b: (w) => unmask(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-FF-50 KF-23 an unmask, a send inside',
    who: 'owner',
    pages: 1,
    setup: (w) => w.guest.set(A, EVENT_MASKED),
    a: (w) => w.owner.unmask(A),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-FF-74 the guest’s own unmask of a port, a send inside its steps',
    who: 'other',
    pages: 1,
    setup: (w) => w.guest.set(A, EVENT_MASKED),
    a: (w) => insist(w, w.other, A),
    b: (w) => {
      w.guest.clear(A, EVENT_MASKED);
      return w.guest.word(A) < 0 ? unmask(w.owner, A) : 0;
    },
    judge: handled({ [A]: 1 }),
  },
  // ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-125 KF-70 a send before its page is there, the expansion inside',
    who: 'other',
    pages: 0,
    setup: (w) => w.guest.prepare(0, 0),
    a: (w) => {
      if (w.other.send(A) === -22) w.faults.push('no port');
    },
    b: (w) => control(w, () => w.guest.expand(0)),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-OP-125 KF-70 an expansion, a send inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    setup: (w) => w.guest.prepare(1, 0),
    a: (w) => w.guest.expect(w.guest.expand(1)),
    b: (w) => send(w.other, D),
    judge: handled({ [D]: 1 }),
  },
  {
    name: 'R3 a send, an invalidation of its word inside',
    who: 'other',
    pages: 1,
    a: (w) => insist(w, w.other, A),
    b: (w) => invalidates(w, ARRAY_GFN),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'R3 a send, an invalidation of the control block inside',
    who: 'other',
    pages: 1,
    a: (w) => insist(w, w.other, A),
    b: (w) => invalidates(w, 6),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'R3 a send, an invalidation of vcpu_info inside',
    who: 'other',
    pages: 1,
    a: (w) => insist(w, w.other, A),
    b: (w) => invalidates(w, 4),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'R3 an invalidation of event words, a send inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    a: (w) => {
      const at = w.owner.guestBase + ARRAY_GFN * 4096;
      w.owner.invalidateStart(hva(at), hva(at + 4095));
      w.owner.invalidateEnd();
      w.owner.send(C);
    },
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  // ── the switch ────────────────────────────────────────────────────────────────────────────────────────────────────
  {
    name: 'XE-OP-122 init_control, a send inside',
    who: 'owner',
    slowHalf: true,
    a: (w) => w.guest.begin(1),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'XE-OP-122 init_control of pending ports, a drain inside',
    who: 'owner',
    slowHalf: true,
    setup: (w) => w.owner.sendMany([A, C]),
    a: (w) => w.guest.begin(1),
    b: (w) => drain(w, w.other),
    // What the 2-level drain took while the bits were remembered already is not taken again.
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'back to 2 levels, a send inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    setup: (w) => sendSlow(w.owner, C),
    a: (w) => w.guest.expect(back(w)),
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1, [C]: 1 }),
  },
  {
    name: 'back to 2 levels, a send of a port without word inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    a: (w) => w.guest.expect(back(w)),
    b: (w) => send(w.other, D),
    judge: handled({ [D]: 1 }),
  },
  {
    name: 'back to 2 levels, a drain inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    setup: (w) => w.owner.sendMany([A, B, C]),
    a: (w) => w.guest.expect(back(w)),
    b: (w) => drain(w, w.other),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
  {
    name: 'back to 2 levels, an unmask of a pending port inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    setup: (w) => {
      w.guest.set(A, EVENT_MASKED);
      sendSlow(w.owner, A);
    },
    a: (w) => w.guest.expect(back(w)),
    b: (w) => unmask(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'back to 2 levels and over again, a send inside',
    who: 'owner',
    pages: 1,
    slowHalf: true,
    a: (w) => {
      w.guest.expect(back(w));
      w.guest.begin(1);
    },
    b: (w) => send(w.other, A),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'a send, a switch back to 2 levels inside',
    who: 'other',
    pages: 1,
    a: (w) => insist(w, w.other, A),
    b: (w) => control(w, () => back(w)),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'a send of a port without word, a switch back to 2 levels inside',
    who: 'other',
    pages: 1,
    a: (w) => {
      if (w.other.send(D) === -22) w.faults.push('no port');
    },
    b: (w) => control(w, () => back(w)),
    judge: handled({ [D]: 1 }),
  },
  {
    name: 'a 2-level send, init_control and a page inside',
    who: 'other',
    a: (w) => {
      if (w.other.send(A) === -22) w.faults.push('no port');
    },
    b: (w) =>
      control(w, () => {
        w.guest.begin(1);
        return 0;
      }),
    judge: handled({ [A]: 1 }),
  },
  {
    name: 'a drain, a switch back to 2 levels inside',
    who: 'other',
    pages: 1,
    setup: (w) => w.owner.sendMany([A, B, C]),
    a: (w) => drain(w, w.other),
    b: (w) => control(w, () => back(w)),
    judge: handled({ [A]: 1, [B]: 1, [C]: 1 }),
  },
];
