// What a snapshot holds of the FIFO ABI.

import { expect, test } from 'vitest';
import { FIFO_LIMIT } from '../../src/abi/fifo.ts';
import type { FifoState } from '../../src/xen/fifo_state.ts';
import { drained, errorOf, makeVm, ram } from '../support.ts';
import { FifoGuest, makeFifo } from './fifo_guest.ts';

function saved() {
  const guest = makeFifo({ vcpus: 2, pages: 2 });
  const { vm, fifo } = guest;
  for (const port of [10, 11]) fifo.setPriority({ port, priority: 3 });
  vm.bindVcpu(12, 1);
  vm.sendMany([1, 2, 1500, 10, 12, 11, 3000]);
  vm.mask(5);
  vm.send(5);
  return { guest, state: JSON.parse(JSON.stringify(fifo.state())) as FifoState };
}

test('KF-79 XE-FF-02 saved, put into another VM with its RAM, and gone on: the same ports in the same order', () => {
  const { guest, state } = saved();
  const to = makeVm({ vcpus: 2, fifoPorts: 4096, guestPages: guest.vm.guestBytes / 4096 });
  ram(to).set(ram(guest.vm));
  const other = new FifoGuest(to);
  other.fifo.restore(state);
  expect(other.fifo.state()).toEqual(state);
  for (const { vm, fifo } of [guest, other]) {
    vm.sendMany([2, 7, 11, 13]);
    expect([drained(vm, 0), drained(vm, 1)]).toEqual([[10, 11, 1, 2, 1500, 7, 13], [12]]);
    expect(vm.unmask(5)).toBe(1);
    fifo.setPriority({ port: 13, priority: 0 });
    vm.sendMany([7, 13]);
    expect(drained(vm, 0)).toEqual([13, 5, 7]);
  }
});

test('a state that does not fit is refused, and nothing has changed', () => {
  const { guest, state } = saved();
  const fresh = () => new FifoGuest(makeVm({ vcpus: 1, fifoPorts: 1024, guestPages: 16 }));
  const refuse = (bad: Partial<FifoState>, words: string): void => {
    const { fifo, vm } = fresh();
    const whole = { vcpus: [], pages: [], ports: [], dropped: 0, ...bad };
    const error = errorOf(() => fifo.restore(whole));
    expect([error.code, fifo.active, vm.send(5)]).toEqual(['EINVAL', false, 1]);
    expect(error.message).toContain(words);
  };
  expect(errorOf(() => guest.fifo.restore(state)).code).toBe('EINVAL');
  expect(errorOf(() => new FifoGuest(makeVm()).fifo.restore(state)).code).toBe('EINVAL');
  refuse({ pages: state.pages }, '2 pages');
  refuse({ pages: [4097] }, '4097');
  const vcpu = { ...(state.vcpus[0] as FifoState['vcpus'][number]) };
  refuse({ vcpus: [{ ...vcpu, vcpu: 1 }] }, 'vCPU 1');
  refuse({ vcpus: [{ ...vcpu, control: 4090 }] }, '4090');
  refuse({ vcpus: [vcpu] }, 'in a queue');
  refuse({ vcpus: [{ ...vcpu, tails: [] }] }, '0 queues');
  refuse({ vcpus: [{ ...vcpu, tails: Array(16).fill(0), ready: 1 << 16 }] }, 'ready');
  refuse({ ports: [{ port: 1024, entry: 0, last: 0 }] }, '1024');
  refuse({ ports: [{ port: 5, entry: 1, last: 0 }] }, 'port 5');
  refuse({ ports: [{ port: 5, entry: 0, last: 1 << 30 }] }, 'port 5');
  expect(guest.vm.region.words.load(guest.vm.region.fifo + FIFO_LIMIT)).toBe(4096);
});
