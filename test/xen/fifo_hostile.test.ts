// A guest that writes what it likes into its event words, heads and ready bits, at every step. [XE-FF-33, KF-66, R7]

import { describe, expect, test } from 'vitest';
import { CONTROL_HEAD, EVENT_WORDS_PER_PAGE } from '../../src/abi/fifo.ts';
import { kernelBytes, random } from '../support.ts';
import { makeFifo } from './fifo_guest.ts';

/** Shared accesses of one send, whatever the guest does: the lock, the word, four tries at a tail, the head, ready, and the upcall. */
const SEND_STEPS = 60;
/** Of a drain: a visit to a word costs six, and there are as many visits as words and queues, each with up to 64 tries. */
const TAKE_TRIES = 64;

const module = new WebAssembly.Module(kernelBytes('trace-shared'));

/** A guest whose `write` runs at every step of the kernel, and which counts the steps. */
function hostile(write: (n: (limit: number) => number, guest: ReturnType<typeof makeFifo>) => void, seed: number) {
  const n = random(seed);
  let steps = 0;
  let awake = false;
  let guest: ReturnType<typeof makeFifo> | null = null;
  const onStep = (): void => {
    steps++;
    if (awake && guest) write(n, guest);
  };
  guest = makeFifo({ trace: { module, onStep }, vcpus: 2, fifoPorts: 1024, guestPages: 16 });
  const count = (call: () => number): { result: number; steps: number } => {
    steps = 0;
    awake = true;
    const result = call();
    awake = false;
    return { result, steps };
  };
  return { guest, n, count };
}

const GARBAGE = [
  { what: 'event words', write: anyWord },
  { what: 'heads and ready bits', write: anyHead },
  {
    what: 'both',
    write: (n: (limit: number) => number, guest: ReturnType<typeof makeFifo>): void => {
      anyWord(n, guest);
      anyHead(n, guest);
    },
  },
] as const;

function anyWord(n: (limit: number) => number, guest: ReturnType<typeof makeFifo>): void {
  guest.words[n(3) ? 1 + n(12) : n(EVENT_WORDS_PER_PAGE)] = (n(2) ? n(2 ** 32) : (n(16) << 28) | n(16)) | 0;
}

function anyHead(n: (limit: number) => number, guest: ReturnType<typeof makeFifo>): void {
  const control = guest.control(n(2));
  control[n(18)] = n(2) ? n(2 ** 32) : n(16);
  control[CONTROL_HEAD / 4 + 7] = n(4) ? 1 + n(12) : n(2 ** 32);
}

describe.each(GARBAGE)('garbage in $what at every step', ({ write }) => {
  test('XE-TC-09 XE-FF-33 a send ends within its bound, and touches no byte outside of the guest’s pages and the region', () => {
    const { guest, n, count } = hostile(write, 5);
    const { vm } = guest;
    const bytes = new Uint8Array(vm.memory.buffer);
    // Guest RAM that is none of its structures.
    const free = vm.guestBase + 10 * 4096;
    bytes.fill(0xa5, free, vm.guestBase + vm.guestBytes);
    let most = 0;
    for (let i = 0; i < 4000; i++) {
      const port = 1 + n(12);
      if (n(8) === 0) guest.fifo.setPriority({ port, priority: n(16) });
      if (n(8) === 0) vm.bindVcpu(port, n(2));
      const { result, steps } = count(() => vm.kernel.send(vm.vmBase, vm.agent, port));
      expect([1, 0, -107]).toContain(result);
      most = Math.max(most, steps);
      if (n(4) === 0) count(() => vm.kernel.unmask(vm.vmBase, vm.agent, port));
      if (n(16) === 0) count(() => vm.kernel.drain(vm.vmBase, vm.agent, n(2), vm.region.inbox(vm.agent)));
    }
    expect(most).toBeLessThanOrEqual(SEND_STEPS);
    expect(bytes.subarray(free, vm.guestBase + vm.guestBytes).every((byte) => byte === 0xa5)).toBe(true);
  });

  test('KF-66 R7 a drain ends within its bound, and lists ports only', () => {
    const { guest, count } = hostile(write, 6);
    const { vm } = guest;
    for (let i = 0; i < 12; i++) {
      vm.sendMany(Array.from({ length: 60 }, (_, k) => k + 1));
      const { result, steps } = count(() => vm.kernel.drain(vm.vmBase, vm.agent, 0, vm.region.inbox(vm.agent)));
      expect(result).toBeGreaterThanOrEqual(0);
      const ports = new Uint32Array(vm.memory.buffer, vm.region.inbox(vm.agent), result & 0xffff);
      expect(ports.every((port) => port > 0 && port < EVENT_WORDS_PER_PAGE)).toBe(true);
      expect(steps).toBeLessThanOrEqual((EVENT_WORDS_PER_PAGE + 16) * (6 + 2 * TAKE_TRIES));
    }
  });
});

test('XE-FF-31 XE-FF-32 a tail that never holds still: four tries, BUSY is cleared, the send says delivered and it is counted', () => {
  let toggles = 0;
  const { guest, count } = hostile((_, g) => {
    g.words[5] = (g.words[5] as number) ^ 0x00020000;
    toggles++;
  }, 1);
  const { vm } = guest;
  for (const port of [5, 6]) vm.send(port);
  vm.vcpu(0).drain(() => {});
  vm.send(5);
  const dropped = guest.fifo.dropped;
  const { result, steps } = count(() => vm.kernel.send(vm.vmBase, vm.agent, 6));
  expect(result).toBe(1);
  expect(toggles).toBeGreaterThan(0);
  expect(steps).toBeLessThanOrEqual(SEND_STEPS);
  expect(guest.fifo.dropped).toBe(dropped + 1);
  expect(guest.word(5) & 0x10000000).toBe(0);
});

test('a queue that is a ring: the consumer ends, and takes each port once', () => {
  const guest = makeFifo();
  const { vm } = guest;
  vm.sendMany([5, 6, 7]);
  guest.set(7, 5);
  expect(vm.vcpu(0).drain()).toBe(3);
  guest.words[8] = 0x20000000 | 8;
  guest.control()[2 + 7] = 8;
  guest.control()[0] = 1 << 7;
  expect(vm.vcpu(0).drain()).toBe(0);
});
