// What an operation of the FIFO ABI does when another actor was in between: locks that are held, and ports that move. [R16]

import { describe, expect, test } from 'vitest';
import {
  FIFO_PORT_ENTRY,
  FIFO_PRIORITY_SHIFT,
  FIFO_QUEUES,
  FIFO_SAVED,
  QUEUE_COUNT_ONE,
  QUEUE_HOLDER_BITS,
  QUEUE_HOLDER_SHIFT,
} from '../../src/abi/fifo.ts';
import { PORT_BOUND } from '../../src/abi/region.ts';
import { STEP_LOAD, STEP_RMW } from '../../src/abi/step.ts';
import type { Vm } from '../../src/index.ts';
import { fifoPort } from '../../src/vm/fifo/records.ts';
import { changed } from '../spec/evidence.ts';
import { drained } from '../support.ts';
import { FifoGuest } from '../xen/fifo_guest.ts';
import { Interrupted } from './between.ts';

/** A guest under the FIFO ABI whose kernel stops, and what its kernel answers to one call. */
function stage() {
  const interrupted = new Interrupted({ vcpus: 2, fifoPorts: 4096, guestPages: 16 });
  const { vm } = interrupted;
  const guest = new FifoGuest(vm);
  guest.begin(1);
  const { kernel, vmBase, agent, region } = vm;
  const list = region.outbox(agent);
  return {
    vm,
    guest,
    words: region.words,
    send: (port: number): number => kernel.send(vmBase, agent, port),
    unmask: (port: number): number => kernel.unmask(vmBase, agent, port),
    relink: (from: number, to: number): number => kernel.fifoRelink(vmBase, agent, from, to),
    batch: (ports: readonly number[]): number => {
      new Uint32Array(vm.memory.buffer, list, ports.length).set(ports);
      return kernel.sendMany(vmBase, agent, list, ports.length);
    },
    run: interrupted.run.bind(interrupted),
    next: interrupted.next.bind(interrupted),
  };
}

/** The word of a queue: its tail and its lock. */
const queueAt = ({ region }: Vm, priority: number, vcpu = 0): number =>
  region.fifoVcpu(vcpu) + FIFO_QUEUES + 4 * priority;
const entryAt = ({ region }: Vm, port: number): number => fifoPort(region, port) + FIFO_PORT_ENTRY;

/** Who holds a lock and does not go on: agent number 2. */
const OTHER = 3 << QUEUE_HOLDER_SHIFT;

/** Ports that were on their queue before, so that a send takes the short way. */
function warm({ vm }: { vm: Vm }, ports: readonly number[]): void {
  vm.sendMany(ports);
  drained(vm);
}

describe('locks', () => {
  test('XE-FF-11 R3 a queue that another agent holds: each operation on it says -EAGAIN and changes nothing', () => {
    const on = stage();
    const { vm, words } = on;
    warm(on, [5, 6]);
    words.or(queueAt(vm, 7), OTHER);
    const held = words.load(queueAt(vm, 7));
    const calls = [() => on.send(5), () => on.send(7), () => on.unmask(5), () => on.batch([5, 6])];
    expect(changed(vm, () => expect(calls.map((call) => call())).toEqual([-11, -11, -11, -11]))).toEqual([]);
    expect([on.relink(5, 9), words.load(queueAt(vm, 7))]).toEqual([5, held]);
    words.and(queueAt(vm, 7), ~QUEUE_HOLDER_BITS);
    expect([on.send(5), on.batch([6, 7])]).toEqual([1, 2]);
    expect(drained(vm)).toEqual([5, 6, 7]);
  });

  test.each([1, 2])(
    'XE-FF-11 of the two queues of a port that moves the one with priority %i is held: the other is given back',
    (held) => {
      for (const [from, to] of [
        [1, 2],
        [2, 1],
      ] as const) {
        const on = stage();
        const { vm, words, guest } = on;
        guest.fifo.setPriority({ port: 5, priority: from });
        warm(on, [5]);
        guest.fifo.setPriority({ port: 5, priority: to });
        words.or(queueAt(vm, held), OTHER);
        expect(changed(vm, () => expect(on.send(5)).toBe(-11))).toEqual([]);
        expect(words.load(queueAt(vm, 3 - held)) & QUEUE_HOLDER_BITS).toBe(0);
        words.and(queueAt(vm, held), ~QUEUE_HOLDER_BITS);
        expect([on.send(5), guest.tail(to), guest.tail(from)]).toEqual([1, 5, 0]);
        expect(drained(vm)).toEqual([5]);
      }
    },
  );

  test('XE-FF-11 a lock that is given back while it is looked at is taken', () => {
    const on = stage();
    const { vm, words } = on;
    const at = queueAt(vm, 7);
    words.or(at, OTHER);
    const giveBack = (): void => words.store(at, words.load(at) - OTHER + QUEUE_COUNT_ONE);
    expect(on.run({ kind: STEP_LOAD, at, count: 5 }, giveBack, () => on.unmask(5))).toBe(0);
    expect(words.load(at)).toBe(2 * QUEUE_COUNT_ONE);
  });

  test('XE-FF-11 a queue that another agent has locked and unlocked before the lock: looked at again', () => {
    const on = stage();
    const { vm, words } = on;
    const at = queueAt(vm, 7);
    warm(on, [5]);
    const other = (): void => words.store(at, words.load(at) + QUEUE_COUNT_ONE);
    const before = words.load(at);
    expect(on.run({ kind: STEP_RMW, at }, other, () => on.send(5))).toBe(1);
    expect(words.load(at)).toBe((before + 2 * QUEUE_COUNT_ONE) | 0);
    drained(vm);
    // At the first look, at the second, which takes its time, and once more.
    const late = words.load(at);
    const twice = (): void => {
      other();
      on.next({ kind: STEP_RMW, at }, () => {
        other();
        on.next({ kind: STEP_RMW, at }, other);
      });
    };
    expect(on.run({ kind: STEP_RMW, at }, twice, () => on.send(5))).toBe(1);
    expect(words.load(at)).toBe((late + 4 * QUEUE_COUNT_ONE) | 0);
    expect(drained(vm)).toEqual([5]);
  });
});

describe('ports that move', () => {
  const place = (vm: Vm, port: number, vcpu: number): void => vm.kernel.placePort(vm.vmBase, port, PORT_BOUND | vcpu);

  test('XE-FF-11 XE-OP-90 a port that is bound elsewhere before the lock of its queue: the new vCPU has it', () => {
    const on = stage();
    const { vm } = on;
    const move = (): void => place(vm, 5, 1);
    warm(on, [5]);
    expect(on.run({ kind: STEP_RMW, at: queueAt(vm, 7) }, move, () => on.send(5))).toBe(1);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [5]]);
  });

  test('XE-FF-50 XE-OP-90 a port that is bound elsewhere before an unmask has locked its queue: the new vCPU has it', () => {
    const on = stage();
    const { vm, guest } = on;
    warm(on, [5]);
    vm.mask(5);
    expect(on.send(5)).toBe(-107);
    const move = (): void => place(vm, 5, 1);
    expect(on.run({ kind: STEP_RMW, at: queueAt(vm, 7) }, move, () => on.unmask(5))).toBe(1);
    // It was its own tail: there is nobody behind whom the next one could be hung. [KF-69]
    expect([guest.tail(7), guest.tail(7, 1)]).toEqual([0, 5]);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[], [5]]);
  });

  test('XE-FF-11 a port that moves on while two queues are being locked', () => {
    const on = stage();
    const { vm, guest } = on;
    guest.fifo.setPriority({ port: 5, priority: 1 });
    warm(on, [5]);
    guest.fifo.setPriority({ port: 5, priority: 2 });
    const move = (): number => guest.fifo.setPriority({ port: 5, priority: 3 });
    expect(on.run({ kind: STEP_RMW, at: queueAt(vm, 2) }, move, () => on.send(5))).toBe(1);
    expect([1, 2, 3].map((priority) => guest.tail(priority))).toEqual([0, 0, 5]);
    expect(drained(vm)).toEqual([5]);
  });

  test('XE-FF-11 a port that moves at each try: -EAGAIN, and no queue stays locked', () => {
    const on = stage();
    const { vm, guest, words } = on;
    guest.fifo.setPriority({ port: 5, priority: 1 });
    warm(on, [5]);
    guest.fifo.setPriority({ port: 5, priority: 2 });
    // Its new queue is locked, and by then its new queue is another.
    const access = (priority: number) => ({ kind: STEP_RMW, at: queueAt(vm, priority) });
    const move = (priority: number): number => guest.fifo.setPriority({ port: 5, priority });
    const first = (): void => {
      move(3);
      on.next(access(3), () => {
        move(4);
        on.next(access(4), () => move(2));
      });
    };
    const send = (): void => expect(on.run(access(2), first, () => on.send(5))).toBe(-11);
    expect(changed(vm, send)).toEqual([]);
    expect([1, 2, 3, 4].map((priority) => words.load(queueAt(vm, priority)) & QUEUE_HOLDER_BITS)).toEqual([0, 0, 0, 0]);
    expect([on.send(5), guest.tail(2)]).toEqual([1, 5]);
  });

  test('XE-OP-126 XE-FF-10 a priority that is set while a send saves the event: both stay', () => {
    const on = stage();
    const { vm, words } = on;
    const at = entryAt(vm, 2000);
    const set = (): void => vm.kernel.fifoPriority(vm.vmBase, 2000, 3);
    expect(on.run({ kind: STEP_RMW, at }, () => void on.send(2000), set)).toBe(undefined);
    expect(words.load(at)).toBe(FIFO_SAVED | (3 << FIFO_PRIORITY_SHIFT));
  });
});
