// Real threads that send for domains while the owner changes their ports. Counts decide, never time.

import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createXen, type Domain } from '../../src/xen/index.ts';
import { pendingBit } from '../support.ts';
import type { DomainPart, DomainTally } from '../workers/domains.ts';
import { channel, commonMemory, makeDomain, placeIn } from './guests.ts';

const FILE = new URL('../../dist/test/workers/domains.js', import.meta.url);

/** Threads at work, and what they count. */
class Crew {
  readonly #control = new SharedArrayBuffer(64);
  readonly flags = new Int32Array(this.#control);
  readonly #tallies: Promise<DomainTally>[] = [];

  /** Starts threads, one for each port, and returns when all are at work. */
  async start(sender: Domain, others: readonly Domain[], ports: readonly number[], count: number): Promise<void> {
    for (const [i, port] of ports.entries()) {
      const handles = { sender: sender.vm.handle(), others: others.map(({ vm }) => vm.handle()) };
      const data: DomainPart = { ...handles, port, control: this.#control, word: 2 + i, count };
      const worker = new Worker(FILE, { workerData: data });
      this.#tallies.push(
        new Promise((resolve, reject) => {
          worker.on('message', resolve);
          worker.on('error', reject);
          worker.on('exit', () => reject(new Error('a thread ended without a word')));
        }),
      );
    }
    while (Atomics.load(this.flags, 1) < ports.length) await Promise.race([turn(), ...this.#tallies]);
  }

  /** Tells them to stop. @returns what they were told, result by result */
  async stop(): Promise<DomainTally> {
    Atomics.store(this.flags, 0, 1);
    return this.ended();
  }

  async ended(): Promise<DomainTally> {
    const all: DomainTally = new Map();
    for (const tally of await Promise.all(this.#tallies)) {
      for (const [result, n] of tally) all.set(result, (all.get(result) ?? 0) + n);
    }
    return all;
  }
}

/** Lets messages of threads in. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function pair(): { a: Domain; b: Domain } {
  const xen = createXen();
  const memory = commonMemory(true);
  const [a, b] = [0, 1].map((i) => makeDomain(xen, { ...placeIn(memory, i), shared: true, agents: 4 }));
  return { a: a as Domain, b: b as Domain };
}

test('R1 XE-MOD-41 two threads send 20,000 events each to another domain: the last of each is seen', async () => {
  const { a, b } = pair();
  const channels = [channel(a, b), channel(a, b)];
  const crew = new Crew();
  const COUNT = 20_000;
  await crew.start(
    a,
    [b],
    channels.map(({ atA }) => atA),
    COUNT,
  );
  const seen = new Map<number, number>();
  let done: DomainTally | null = null;
  void crew.ended().then((tally) => (done = tally));
  const drain = (): void => {
    b.vm.vcpu(0).drain((port) => {
      const i = channels.findIndex(({ atB }) => atB === port);
      seen.set(port, Atomics.load(crew.flags, 2 + i));
    });
  };
  while (done === null) {
    drain();
    await turn();
  }
  drain();
  expect(done).toEqual(new Map([[0, 2 * COUNT]]));
  expect([...seen.values()]).toEqual([COUNT, COUNT]);
});

test('R2 XE-MOD-15 XE-OP-62 KF-21 a thread sends while its other end is closed, its number given away and bound again, 2,000 times: none of it arrives in another life', async () => {
  const { a, b } = pair();
  const { atA, atB } = channel(a, b);
  const crew = new Crew();
  await crew.start(a, [b], [atA], 0);
  let arrived = 0;
  let invented = 0;
  const noteArrival = (): void => {
    b.vm.vcpu(0).drain(() => arrived++);
  };
  for (let round = 0; round < 2000; round++) {
    if (round % 50 === 0) {
      // It does arrive while it is connected; what the bind has raised does not count.
      b.vm.vcpu(0).drain();
      for (const before = arrived; arrived === before; ) {
        noteArrival();
        await turn();
      }
    }
    expect(b.evtchn.close(atB)).toBe(0);
    expect(b.evtchn.allocUnbound({ remoteDom: 77 })).toBe(atB);
    for (let look = 0; look < 20; look++) if (pendingBit(b.vm, atB)) invented++;
    expect(b.evtchn.close(atB)).toBe(0);
    expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: atA })).toBe(atB);
  }
  const tally = await crew.stop();
  expect(invented).toBe(0);
  expect(arrived).toBeGreaterThanOrEqual(40);
  expect([...tally.keys()]).toEqual([0]);
});

test('R14 XE-MOD-22 XE-MOD-43 a thread sends while the other domain resets its ports and binds them anew 500 times, and ends', async () => {
  const xen = createXen();
  const memory = commonMemory(true);
  const a = makeDomain(xen, { ...placeIn(memory, 0), shared: true, agents: 4 });
  const b = makeDomain(xen, { ...placeIn(memory, 1), shared: true, agents: 4 });
  const { atA, atB } = channel(a, b);
  const crew = new Crew();
  await crew.start(a, [b], [atA], 0);
  for (let round = 0; round < 500; round++) {
    expect(b.evtchn.reset()).toBe(0);
    expect(b.evtchn.bindIpi({ vcpu: 0 })).toBe(1);
    for (let look = 0; look < 20; look++) expect(pendingBit(b.vm, 1)).toBe(false);
    expect(b.evtchn.reset()).toBe(0);
    expect(b.evtchn.bindInterdomain({ remoteDom: 1, remotePort: atA })).toBe(atB);
    b.vm.vcpu(0).drain();
  }
  b.destroy();
  const tally = await crew.stop();
  expect(a.evtchn.status({ port: atA })).toEqual({ status: 'unbound', vcpu: 0, dom: 2 });
  expect([...tally.keys()]).toEqual([0]);
});
