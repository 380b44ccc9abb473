// Real threads that send while the owner goes over to the FIFO ABI and back, and takes what comes. Counts decide, never time.

import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { FIFO_QUEUES, QUEUE_HOLDER_SHIFT } from '../../src/abi/fifo.ts';
import { attachVm } from '../../src/index.ts';
import { drained, makeVm } from '../support.ts';
import type { FifoOutcome, FifoPart } from '../workers/fifo.ts';
import { FifoGuest, makeFifo } from './fifo_guest.ts';

const FILE = new URL('../../dist/test/workers/fifo.js', import.meta.url);
const PORTS = 512;
const HEADER = 16;
const SWITCHES = 1000;

function crew(vm: FifoPart['handle'], roles: readonly FifoPart['role'][]) {
  const ledger = new SharedArrayBuffer(4 * (HEADER + PORTS));
  const control = new Int32Array(ledger, 0, HEADER);
  const sent = new Int32Array(ledger, 4 * HEADER, PORTS);
  const outcomes = roles.map((role, i) => {
    const part: FifoPart = { role, handle: vm, ledger, first: 1 + i, step: roles.length, ports: PORTS };
    const worker = new Worker(FILE, { workerData: part });
    return new Promise<FifoOutcome>((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
      worker.on('exit', () => resolve({ sent: 0, again: 0, strange: 0 }));
    });
  });
  return { control, sent, outcomes };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the ABI changes under fire', () => {
  test(`R1 XE-OP-122 two threads send while the ABI changes ${2 * SWITCHES} times: nothing is lost, nothing invented`, async () => {
    const vm = makeVm({ agents: 3, vcpus: 2, fifoPorts: 1024, guestPages: 16 });
    for (let port = 1; port < PORTS; port++) vm.bindVcpu(port, port % 2);
    const guest = new FifoGuest(vm);
    const { control, sent, outcomes } = crew(vm.handle(), ['single', 'batch']);
    const seen = new Int32Array(PORTS);
    const taken = new Int32Array(PORTS);
    let [invented, strays] = [0, 0];
    const take = (): void => {
      for (let vcpu = 0; vcpu < 2; vcpu++) {
        vm.vcpu(vcpu).drain((port) => {
          const now = Atomics.load(sent, port);
          taken[port] = (taken[port] ?? 0) + 1;
          // A send is one event at most.
          if ((taken[port] ?? 0) > now) invented++;
          if (port % 2 !== vcpu) strays++;
          seen[port] = now;
        });
      }
    };
    while (Atomics.load(control, 1) < 2) await turn();
    for (let i = 0; i < SWITCHES; i++) {
      guest.begin(i % 8 === 0 ? 0 : 1);
      // With no page yet everything is saved; the page comes, or not before the way back.
      if (i % 16 === 0) {
        guest.prepare(0, 0);
        guest.expect(guest.expand(0));
      }
      take();
      guest.expect(guest.fifo.toTwoLevel());
      take();
      if (i % 8 === 0) {
        // So that it happens among sends, and not while the others rest.
        const rounds = Atomics.load(control, 2);
        while (Atomics.load(control, 2) === rounds) Atomics.wait(control, 2, rounds, 1);
      }
    }
    Atomics.store(control, 0, 1);
    const results = await Promise.all(outcomes);
    for (let i = 0; i < 3; i++) take();
    const lost = [...seen].filter((count, port) => port > 0 && count !== sent[port]).length;
    expect({ lost, strange: results.map(({ strange }) => strange) }).toEqual({ lost: 0, strange: [0, 0] });
    expect(results.every((result) => result.sent > SWITCHES)).toBe(true);
    expect({ invented, strays }).toEqual({ invented: 0, strays: 0 });
  });

  test('R1 two threads send under the FIFO ABI while the owner drains: nothing is lost', async () => {
    const guest = makeFifo({ agents: 3, vcpus: 2, fifoPorts: 1024 });
    const { vm } = guest;
    for (let port = 1; port < PORTS; port++) guest.fifo.setPriority({ port, priority: port % 3 });
    const { control, sent, outcomes } = crew(vm.handle(), ['single', 'batch']);
    const seen = new Int32Array(PORTS);
    const take = (): void => {
      for (let vcpu = 0; vcpu < 2; vcpu++) {
        vm.vcpu(vcpu).drain((port) => {
          seen[port] = Atomics.load(sent, port);
        });
      }
    };
    while (Atomics.load(control, 1) < 2) await turn();
    for (let i = 0; i < 20_000; i++) {
      take();
      // Ports wander between vCPUs and priorities meanwhile.
      vm.bindVcpu(1 + (i % (PORTS - 1)), i % 2);
      guest.fifo.setPriority({ port: 1 + ((7 * i) % (PORTS - 1)), priority: i % 16 });
    }
    Atomics.store(control, 0, 1);
    const results = await Promise.all(outcomes);
    take();
    expect([...seen].filter((count, port) => port > 0 && count !== sent[port])).toEqual([]);
    expect(results.map(({ strange }) => strange)).toEqual([0, 0]);
  });

  test('KF-89 KF-74 a thread dies with a queue locked: sends say -EAGAIN, detachAgent repairs the queue, nothing is lost', async () => {
    const guest = makeFifo({ agents: 3, fifoPorts: 1024 });
    const { vm } = guest;
    const { control, outcomes, sent } = crew(vm.handle(), ['die']);
    while (Atomics.load(control, 2) === 0) await turn();
    await Promise.all(outcomes);
    expect(vm.kernel.send(vm.vmBase, vm.agent, 600)).toBe(-11);
    vm.detachAgent(Atomics.load(control, 2) - 1);
    expect(vm.send(600)).toBe(1);
    const found = new Set(drained(vm));
    for (let port = 1; port < PORTS; port++) expect(found.has(port)).toBe((sent[port] ?? 0) > 0);
    expect(found.has(600)).toBe(true);
  });
});

describe('KF-89 an agent that dies at any point of a queue', () => {
  test('what it had linked to nobody, or taken and not gone on from, is queued again', () => {
    const guest = makeFifo({ agents: 3 });
    const { vm } = guest;
    const dead = attachVm(vm.handle());
    vm.sendMany([5, 6, 7, 8]);
    // Died behind the words, before the tail: the chain ends at 8, the tail says 6, 9 is linked and in no queue.
    guest.set(9, -0x80000000 | 0x20000000);
    const { words } = vm.region;
    const queue = vm.region.fifoVcpu(0) + FIFO_QUEUES + 4 * 7;
    words.store(queue, 6 | ((dead.agentNumber + 1) << QUEUE_HOLDER_SHIFT));
    expect(vm.kernel.send(vm.vmBase, vm.agent, 10)).toBe(-11);
    vm.detachAgent(dead.agentNumber);
    expect(vm.send(10)).toBe(1);
    expect(drained(vm)).toEqual([5, 6, 7, 8, 9, 10]);
    expect(guest.words.every((word) => word === 0)).toBe(true);
  });

  test('a consumer that died in the middle: the vCPU can be drained by another', () => {
    const guest = makeFifo({ agents: 3 });
    const { vm } = guest;
    const dead = attachVm(vm.handle());
    vm.sendMany([5, 6, 7]);
    vm.region.words.store(vm.region.fifoVcpu(0) + 192, dead.agent);
    // 5 was taken out, and where the consumer stood is lost with it.
    guest.words[5] = 0;
    guest.control()[0] = 0;
    expect(drained(vm)).toEqual([]);
    vm.detachAgent(dead.agentNumber);
    expect(drained(vm)).toEqual([6, 7]);
  });

  test('a repair that cannot be made while another dead agent is in a bracket is made when that one is detached', () => {
    const guest = makeFifo({ agents: 4 });
    const { vm } = guest;
    const [one, two] = [attachVm(vm.handle()), attachVm(vm.handle())];
    vm.sendMany([5, 6]);
    guest.clear(5, 0x1ffff);
    const queue = vm.region.fifoVcpu(0) + FIFO_QUEUES + 4 * 7;
    vm.region.words.or(queue, (one.agentNumber + 1) << QUEUE_HOLDER_SHIFT);
    two.enter();
    vm.region.words.wait = () => false;
    vm.detachAgent(one.agentNumber);
    expect(drained(vm)).toEqual([5]);
    vm.detachAgent(two.agentNumber);
    expect(drained(vm)).toEqual([6]);
  });
});
