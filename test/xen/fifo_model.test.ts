// 10^5 random operations under both ABIs and across their switches, each compared with a reference that knows no links. [XE-FF]

import { describe, expect, test } from 'vitest';
import { hva } from '../../src/index.ts';
import { drained, maskBit, random } from '../support.ts';
import { ARRAY_GFN, CONTROL_GFN, type FifoGuest, makeFifo } from './fifo_guest.ts';
import { FifoReference } from './fifo_reference.ts';

const SEED = 20261121;
const OPERATIONS = 100_000;
const VCPUS = 3;
const PORTS = 4096;

class Run {
  readonly guest: FifoGuest;
  readonly ref = new FifoReference(PORTS, VCPUS);
  readonly #n: (limit: number) => number;

  constructor(shared: boolean, seed: number) {
    this.guest = makeFifo({ shared, vcpus: VCPUS, controls: 0, pages: 0, guestPages: 16 });
    for (let port = 1; port < PORTS; port++) this.guest.vm.bindVcpu(port, port % VCPUS);
    this.#n = random(seed);
  }

  /** Mostly a few ports of the first page, some of the others, and sometimes none. */
  #port(): number {
    const n = this.#n;
    const where = n(24);
    if (where === 0) return [-1, 0, PORTS, 2 ** 31][n(4)] as number;
    return where < 18 ? 1 + n(24) : 1 + n(PORTS - 1);
  }

  #valid(): number {
    return this.#n(4) ? 1 + this.#n(24) : 1 + this.#n(PORTS - 1);
  }

  step(): [string, unknown, unknown] {
    const { guest, ref } = this;
    const { vm, fifo } = guest;
    const n = this.#n;
    const kind = n(100);
    if (kind < 40) {
      const port = this.#port();
      return [`send(${port})`, vm.send(port), ref.send(port | 0)];
    }
    if (kind < 46) {
      const ports = Array.from({ length: n(90) }, () => this.#port());
      const results = ports.map((port) => ref.send(port | 0));
      const count = (...codes: number[]): number => results.filter((r) => codes.includes(r)).length;
      const expected = { delivered: count(1), coalesced: count(0), masked: count(-107), bad: count(-22, -6) };
      vm.sendMany(ports);
      return [`sendMany(${ports.join(' ')})`, vm.batchCounts, expected];
    }
    if (kind < 60) {
      const vcpu = n(VCPUS);
      return [`drain(${vcpu})`, drained(vm, vcpu), ref.drain(vcpu)];
    }
    if (kind < 66) {
      const port = this.#port();
      return [`mask(${port})`, vm.mask(port), ref.mask(port | 0)];
    }
    if (kind < 76) {
      const port = this.#port();
      return [`unmask(${port})`, vm.unmask(port), ref.unmask(port | 0)];
    }
    if (kind < 81) {
      const [port, vcpu] = [this.#valid(), n(VCPUS)];
      vm.bindVcpu(port, vcpu);
      ref.move(port, vcpu);
      return [`bind(${port}, ${vcpu})`, 0, 0];
    }
    if (kind < 87) {
      const [port, priority] = [this.#valid(), n(3) * 7];
      return [
        `setPriority(${port}, ${priority})`,
        fifo.setPriority({ port, priority }),
        ref.setPriority(port, priority),
      ];
    }
    if (kind < 89) {
      const port = this.#valid();
      return [`clearPending(${port})`, fifo.clearPending(port), ref.clearPending(port)];
    }
    if (kind < 95) return this.#look();
    if (kind < 97) {
      const gfn = [ARRAY_GFN, CONTROL_GFN, 4, 3][n(4)] as number;
      const at = vm.guestBase + gfn * 4096;
      vm.invalidateStart(hva(at), hva(at + 4095));
      vm.invalidateEnd();
      return [`invalidate(${gfn})`, 0, 0];
    }
    return this.#configure();
  }

  #look(): [string, unknown, unknown] {
    const { guest, ref } = this;
    const { vm, fifo } = guest;
    const port = this.#valid();
    const { pending, masked, fifo: more } = vm.portStatus(port);
    const all = Array.from({ length: VCPUS }, (_, v) => v);
    const asked = all.filter((v) => vm.vcpu(v).upcallPending && !(ref.spurious.has(v) && !ref.asked(v)));
    const expected = ref.status(port);
    const found = { pending, masked, linked: more?.linked ?? false };
    return [
      `look(${port})`,
      [found, fifo.isBusy(port), fifo.active && asked, fifo.dropped],
      [expected, ref.isBusy(port), ref.fifo && all.filter((v) => ref.asked(v)), ref.dropped],
    ];
  }

  #configure(): [string, unknown, unknown] {
    const { guest, ref } = this;
    const { vm, fifo } = guest;
    const n = this.#n;
    const what = n(16);
    if (what < 8) {
      const vcpu = n(VCPUS);
      // Zeroes the control block first, so only where there is none in use.
      if (ref.fifo && ref.controls.has(vcpu)) {
        const answer = fifo.initControl({ controlGfn: CONTROL_GFN, offset: 0, vcpu });
        return [`init(${vcpu}) again`, answer, ref.init(vcpu)];
      }
      return [`init(${vcpu})`, guest.init(vcpu), ref.init(vcpu)];
    }
    if (what < 15) {
      const page = fifo.pages;
      if (fifo.active && page < 4) guest.prepare(page, 0);
      const dropped = fifo.dropped;
      const found = guest.expand(page);
      const answer = ref.expand(4);
      // What is replayed for a vCPU without control block is dropped on both sides.
      return [`expand(${page})`, [found, fifo.dropped >= dropped], [answer, true]];
    }
    const masks = (port: number): boolean => maskBit(vm, port);
    const answer = ref.toTwoLevel(masks);
    const found = fifo.toTwoLevel();
    // Every vCPU was asked to look: what it finds is compared by the drains that follow.
    return ['toTwoLevel()', found, answer];
  }
}

describe.each([true, false])('shared memory: %s', (shared) => {
  test.each([SEED, SEED + 1])(`${OPERATIONS} operations, seed %i`, (seed) => {
    const run = new Run(shared, seed);
    const last: string[] = [];
    for (let i = 0; i < OPERATIONS; i++) {
      const [name, found, expected] = run.step();
      last.push(name);
      if (last.length > 12) last.shift();
      if (JSON.stringify(found) !== JSON.stringify(expected)) {
        expect(found, `operation ${i} of seed ${seed}: ${last.join(', ')}`).toEqual(expected);
      }
    }
  });
});
