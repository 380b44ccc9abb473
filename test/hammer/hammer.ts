// One run of real threads on one memory, with a ledger.

import { Worker } from 'node:worker_threads';
import { createVm, type Vm } from '../../src/index.ts';
import type { Outcome, Part } from '../workers/hammer.ts';

const PORTS = 1024;
const FILE = new URL('../../dist/test/workers/hammer.js', import.meta.url);

/** One run: a VM, a ledger, and the threads that play the parts. */
export class Hammer {
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

export const sum = (outcomes: Outcome[], key: keyof Outcome): number =>
  outcomes.reduce((total, o) => total + o[key], 0);
