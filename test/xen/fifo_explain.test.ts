// What portStatus and explain say under the FIFO ABI.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EVENT_BUSY, EVENT_MASKED, EVENT_PENDING, FIFO_QUEUES, QUEUE_HOLDER_SHIFT } from '../../src/abi/fifo.ts';
import { errorOf, memoryBytes } from '../support.ts';
import { makeFifo } from './fifo_guest.ts';

describe('portStatus', () => {
  test('a port from idle to queued, masked, moved and saved', () => {
    const guest = makeFifo({ vcpus: 2 });
    const { vm } = guest;
    const idle = { linked: false, busy: false, priority: 7, hasWord: true, hasControlBlock: true, saved: false };
    expect(vm.portStatus(5).fifo).toEqual({ ...idle, queue: { vcpu: 0, priority: 0 } });
    vm.bindVcpu(5, 1);
    vm.send(5);
    expect(vm.portStatus(5)).toMatchObject({
      vcpu: 1,
      bound: true,
      pending: true,
      selected: true,
      upcallPending: true,
    });
    expect(vm.portStatus(5).fifo).toEqual({ ...idle, linked: true, queue: { vcpu: 1, priority: 7 } });
    guest.fifo.setPriority({ port: 5, priority: 2 });
    expect(vm.portStatus(5).fifo).toMatchObject({ priority: 2, queue: { vcpu: 1, priority: 7 } });
    guest.set(6, EVENT_MASKED | EVENT_BUSY);
    expect(vm.portStatus(6)).toMatchObject({ masked: true, pending: false, fifo: { busy: true, linked: false } });
    expect(vm.portStatus(3000)).toMatchObject({ masked: true, pending: false, fifo: { hasWord: false } });
    expect(errorOf(() => vm.portStatus(4096)).code).toBe('EINVAL');
    expect(guest.fifo.toTwoLevel()).toBe(0);
    expect(vm.portStatus(5).fifo).toBeUndefined();
  });
});

describe('explain', () => {
  const cause = (guest: ReturnType<typeof makeFifo>, port: number): string => {
    const before = memoryBytes(guest.vm);
    const found = guest.vm.explain(port);
    expect(Buffer.compare(before, memoryBytes(guest.vm))).toBe(0);
    expect(String(found)).toContain(`port ${port}: ${found.verdict}`);
    return found.cause;
  };

  test('every cause there is, from a state that has it', () => {
    const guest = makeFifo({ vcpus: 2, controls: 1 });
    const { vm } = guest;
    expect(cause(guest, 4096)).toBe('not-a-port');
    expect(cause(guest, 5)).toBe('not-pending');
    expect(cause(guest, 3000)).toBe('no-event-word');
    vm.send(3000);
    expect(vm.explain(3000).verdict).toContain('it was raised');
    vm.bindVcpu(6, 1);
    expect(cause(guest, 6)).toBe('no-control-block');
    guest.set(7, EVENT_MASKED);
    vm.send(7);
    expect(cause(guest, 7)).toBe('masked');
    guest.clear(7, EVENT_MASKED);
    expect(cause(guest, 7)).toBe('not-linked');
    vm.send(5);
    expect(cause(guest, 5)).toBe('queued');
    guest.clearUpcall();
    expect(cause(guest, 5)).toBe('upcall-taken');
    guest.control()[0] = 0;
    expect(cause(guest, 5)).toBe('queued');
    vm.region.words.or(vm.region.fifoVcpu(0) + FIFO_QUEUES + 4 * 7, 2 << QUEUE_HOLDER_SHIFT);
    expect(cause(guest, 5)).toBe('queue-locked');
    expect(vm.explain(5).advice).toContain('detachAgent(1)');
    guest.set(9, EVENT_PENDING);
    expect(cause(guest, 9)).toBe('not-linked');
    vm.memslots.delete(0);
    expect(cause(guest, 5)).toBe('event-word-unreachable');
  });

  test('no cause is left out above', () => {
    const source = readFileSync('src/vm/explain/fifo.ts', 'utf8');
    const causes = [...source.matchAll(/^ {2}\| '([\w-]+)'/gm)].map((match) => match[1] ?? '');
    expect(causes.length).toBe(6);
    const text = readFileSync('test/xen/fifo_explain.test.ts', 'utf8');
    expect(causes.filter((name) => !text.includes(`'${name}'`))).toEqual([]);
  });
});
