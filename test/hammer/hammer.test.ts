// Real threads on one memory, with a ledger. The interleavings are proven elsewhere; this shows that the machine agrees.

import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { createVm, type Vm } from '../../src/index.ts';
import { kernelModule } from '../../src/kernel.ts';
import type { Outcome, Part } from '../workers/hammer.ts';

const PORTS = 1024;
const FILE = new URL('../../dist/test/workers/hammer.js', import.meta.url);

/** One run: a VM, a ledger, and the threads that play the parts. */
class Hammer {
  readonly vm: Vm = createVm({ agents: 4 });
  readonly ledger = new SharedArrayBuffer(64 + 8 * PORTS);
  readonly control = new Int32Array(this.ledger, 0, 16);

  start(role: Part['role'], sends = 0, first = 1, step = 1): Promise<Outcome | null> {
    const data: Part = {
      role,
      handle: this.vm.handle(),
      ledger: this.ledger,
      ports: PORTS,
      first,
      step,
      sends,
      seed: 77 + first,
    };
    const worker = new Worker(FILE, { workerData: data });
    return new Promise((resolve, reject) => {
      let outcome: Outcome | null = null;
      worker.on('message', (message: Outcome) => {
        outcome = message;
      });
      worker.on('error', reject);
      worker.on('exit', () => resolve(outcome));
    });
  }

  stop(): void {
    Atomics.store(this.control, 0, 1);
    this.vm.vcpu(0).kick();
  }

  /** Ports whose last epoch the receiver never saw. */
  lost(): number[] {
    const sent = new Int32Array(this.ledger, 64, PORTS);
    const seen = new Int32Array(this.ledger, 64 + 4 * PORTS, PORTS);
    return Array.from({ length: PORTS }, (_, port) => port).filter((port) => sent[port] !== seen[port]);
  }

  async run(
    receiver: 'receive' | 'async',
    ...senders: Promise<Outcome | null>[]
  ): Promise<{ sent: Outcome[]; got: Outcome }> {
    const receiving = this.start(receiver);
    const sent = (await Promise.all(senders)).filter((o) => o !== null);
    this.stop();
    const got = await receiving;
    if (!got) throw new Error('the receiver ended without a word');
    return { sent, got };
  }
}

const sum = (outcomes: Outcome[], key: keyof Outcome): number => outcomes.reduce((total, o) => total + o[key], 0);

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
