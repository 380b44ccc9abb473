// Real threads that ring, send and signal while the owner changes what they go through. Counts decide, never time.

import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { createVm, gfn, hva, type Vm } from '../../src/index.ts';
import { assign, deassign, ledger, reset, setPorts, toEventfd } from '../spec/ports.ts';
import { drained, LAYOUTS, makeVm, SHARED_INFO_GFN, SHARED_INFO_GPA } from '../support.ts';
import type { Part, Tally } from '../workers/ports.ts';

const FILE = new URL('../../dist/test/workers/ports.js', import.meta.url);

/** A VM and the threads at work on it. */
class Crew {
  readonly vm: Vm;
  readonly #control = new SharedArrayBuffer(8);
  readonly #flags = new Int32Array(this.#control);
  readonly #tallies: Promise<Tally>[] = [];

  constructor(vm: Vm) {
    this.vm = vm;
  }

  /** Starts threads, and returns when each is at work. */
  async start(role: Part['role'], threads: number, subject: number, count = 0): Promise<void> {
    const data: Part = { role, handle: this.vm.handle(), control: this.#control, subject, count };
    for (let i = 0; i < threads; i++) {
      const worker = new Worker(FILE, { workerData: data });
      this.#tallies.push(
        new Promise((resolve, reject) => {
          worker.on('message', resolve);
          worker.on('error', reject);
          worker.on('exit', () => reject(new Error('a thread ended without a word')));
        }),
      );
    }
    await Promise.race([this.#atWork(), Promise.all(this.#tallies)]);
  }

  /** Tells the threads to stop. @returns what they saw */
  stop(): Promise<Tally[]> {
    Atomics.store(this.#flags, 0, 1);
    return Promise.all(this.#tallies);
  }

  async #atWork(): Promise<void> {
    while (Atomics.load(this.#flags, 1) < this.#tallies.length) await turn();
  }
}

/** Lets messages of threads in. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Returns when an eventfd has counted something more. */
async function counts(vm: Vm, fd: number): Promise<void> {
  const count = (): bigint => vm.eventfds.list().find((status) => status.fd === fd)?.counter ?? 0n;
  for (const before = count(); count() === before; ) await turn();
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

describe('threads ring while the owner changes the send ports', () => {
  test('KX-EVA-24 KF-41 the whole table is replaced 10^4 times: each ring lands in the old or the new target, once', async () => {
    const PORTS = 8;
    const vm = createVm({ agents: 3, eventfds: 2 * PORTS });
    const fds = Array.from({ length: 2 * PORTS }, () => vm.eventfds.create());
    // Of two tables, which have no target in common.
    const tables = [0, 1].map((k) =>
      Array.from({ length: PORTS }, (_, i) => toEventfd(i + 1, fds[k * PORTS + i]?.fd ?? 0)),
    );
    setPorts(vm, tables[0] ?? []);
    const crew = new Crew(vm);
    await crew.start('ring', 2, PORTS);
    for (let i = 1; i <= 10_000; i++) {
      setPorts(vm, tables[i % 2] ?? []);
      // Rung at least once through the table that is in force now.
      const target = fds[(i % 2) * PORTS]?.fd ?? 0;
      if (i % 500 < 2) await counts(vm, target);
    }
    const tallies = await crew.stop();
    expect(sum(tallies.map((tally) => tally.refused))).toBe(0);
    const counted = fds.map((fd) => Number(fd.read())).map((n) => Math.max(n, 0));
    for (let i = 0; i < PORTS; i++) {
      const rung = sum(tallies.map((tally) => tally.rung[i + 1] ?? 0));
      expect(rung).toBeGreaterThan(0);
      expect((counted[i] ?? 0) + (counted[PORTS + i] ?? 0)).toBe(rung);
    }
    // Both tables were in force while threads rang.
    expect(sum(counted.slice(0, PORTS))).toBeGreaterThan(0);
    expect(sum(counted.slice(PORTS))).toBeGreaterThan(0);
    expect(ledger(vm)).toBe(3 * PORTS);
    reset(vm);
    for (const fd of fds) fd.close();
    expect(ledger(vm)).toBe(0);
  });

  test('X-19 KF-29 KX-EVA-14 one port goes and comes 2000 times: nothing arrives after deassign has returned', async () => {
    const vm = createVm({ agents: 3, eventfds: 1 });
    const crew = new Crew(vm);
    await crew.start('ring', 2, 1);
    let arrived = 0;
    let late = 0;
    for (let i = 0; i < 2000; i++) {
      // Always the same record: who is late would be heard in the next life of it.
      const fd = vm.eventfds.create();
      assign(vm, toEventfd(1, fd.fd));
      if (i % 50 === 0) await counts(vm, fd.fd);
      deassign(vm, 1);
      arrived += Math.max(Number(fd.read()), 0);
      late += Math.max(Number(fd.read()), 0);
      fd.close();
    }
    const tallies = await crew.stop();
    expect(late).toBe(0);
    expect(arrived).toBeGreaterThan(0);
    expect(arrived).toBe(sum(tallies.map((tally) => tally.rung[1] ?? 0)));
    expect(sum(tallies.map((tally) => tally.refused))).toBeGreaterThan(0);
    expect(ledger(vm)).toBe(0);
  });
});

describe.each(LAYOUTS)('$layout layout', ({ longMode }) => {
  test('S-40 shared_info comes and goes while others send: no result but those there are, and then an event arrives', async () => {
    const SENDS = 5000;
    const vm = makeVm({ longMode, agents: 3 });
    const crew = new Crew(vm);
    await crew.start('send', 2, 1, SENDS);
    const at = hva(vm.guestBase + SHARED_INFO_GPA);
    let done: Tally[] | null = null;
    crew.stop().then((tallies) => {
      done = tallies;
    });
    for (let i = 0; done === null; i++) {
      vm.setAttr({ type: 'shared_info', gfn: null });
      vm.setAttr({ type: 'shared_info', gfn: gfn(SHARED_INFO_GFN) });
      vm.setAttr({ type: 'shared_info_hva', hva: null });
      vm.setAttr({ type: 'shared_info_hva', hva: at });
      if (i % 10 === 0) drained(vm);
      if (i % 50 === 0) await turn();
    }
    const results = (await crew.stop()).map((tally) => tally.results);
    const seen = new Set(results.flatMap((result) => [...result.keys()]));
    for (const result of seen) expect([0, -22, -14, -11]).toContain(result);
    expect(sum(results.flatMap((result) => [...result.values()]))).toBe(2 * SENDS);
    drained(vm);
    expect(vm.evtchnSend({ port: 1, vcpu: 0 })).toBe(0);
    expect(drained(vm)).toEqual([1]);
  });
});

test('KX-EVA-09 a thread that waits for an eventfd counts every signal, and sleeps no longer than it has to', async () => {
  const SIGNALS = 2000;
  const vm = createVm({ agents: 2 });
  const fd = vm.eventfds.create();
  assign(vm, toEventfd(1, fd.fd));
  const crew = new Crew(vm);
  await crew.start('read', 1, fd.fd, SIGNALS);
  for (let i = 0; i < SIGNALS; i++) {
    expect(i % 2 ? fd.write(1) : vm.sendPorts.ring(1)).toBe(0);
    if (i % 100 === 0) await turn();
  }
  const [tally] = await crew.stop();
  expect(tally?.counted).toBe(SIGNALS);
  expect(fd.read()).toBe(-11n);
});

test('KX-GEN-04 a thread that waits for an eventfd is woken by the end of the VM', async () => {
  const vm = createVm({ agents: 2 });
  const fd = vm.eventfds.create();
  const crew = new Crew(vm);
  await crew.start('read', 1, fd.fd, 1);
  vm.close();
  const [tally] = await crew.stop();
  expect(tally?.counted).toBe(0);
});
