// Real threads on one memory, with a ledger. The interleavings are proven elsewhere; this shows that the machine agrees.

import { describe, expect, test } from 'vitest';
import { createVm } from '../../src/index.ts';
import { kernelModule } from '../../src/kernel.ts';
import { Hammer, sum } from './hammer.ts';

describe('R1 R2 workers with a ledger: nothing lost, nothing invented', () => {
  test.each([
    ['single sends, a receiver that sleeps', 'single', 'receive', 4_000_000],
    ['batches of 256, a receiver that sleeps', 'batch', 'receive', 10_000_000],
    ['brackets of 16, a receiver that sleeps', 'bracket', 'receive', 2_000_000],
    ['single sends, a receiver that waits without blocking', 'single', 'async', 500_000],
  ] as const)('%s', async (_name, role, receiver, sends) => {
    const hammer = new Hammer();
    const { sent, got } = await hammer.run(receiver, hammer.start(role, sends));
    expect(hammer.lost()).toEqual([]);
    expect(sum(sent, 'other')).toBe(0);
    expect(sum(sent, 'delivered') + sum(sent, 'coalesced')).toBe(sends);
    expect(got.drained).toBe(sum(sent, 'delivered'));
  });

  test('two senders of the same words, 10^7 sends', async () => {
    const hammer = new Hammer();
    const half = 5_000_000;
    const { sent, got } = await hammer.run(
      'receive',
      hammer.start('single', half, 1, 2),
      hammer.start('batch', half, 2, 2),
    );
    expect(hammer.lost()).toEqual([]);
    expect(sum(sent, 'delivered') + sum(sent, 'coalesced')).toBe(2 * half);
    expect(got.drained).toBe(sum(sent, 'delivered'));
  });
});

describe('R8 threads come and go', () => {
  test('KF-81 instantiating more kernels over a memory in use changes no byte of it', () => {
    const vm = createVm();
    vm.sendMany([1, 2, 3]);
    const before = new Uint8Array(vm.memory.buffer).slice();
    for (let i = 0; i < 8; i++) new WebAssembly.Instance(kernelModule(true), { env: { memory: vm.memory } });
    expect(new Uint8Array(vm.memory.buffer)).toEqual(before);
  });

  test('KF-89 an agent that dies in a bracket is removed, and mappings can change again', async () => {
    const hammer = new Hammer();
    const { vm } = hammer;
    await hammer.start('die');
    const dead = Atomics.load(hammer.control, 1) - 1;
    expect(dead).toBeGreaterThan(0);
    vm.detachAgent(dead);
    expect(vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1)).toBe(2);
    vm.invalidateEnd();
    expect(vm.send(5)).toBe(1);
  });
});
