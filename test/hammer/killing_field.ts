// Threads that die under load, one after the other, while two live on: one sends with a ledger, one receives. After each death its
// agent is removed, and a probe shows how long it takes until events arrive.

import { Worker } from 'node:worker_threads';
import { createVm, gfn, gpa, systemClock, type Vm } from '../../src/index.ts';
import { kernelBytes, random } from '../support.ts';
import {
  ARRIVED,
  CONTROL_WORDS,
  PORTS,
  PROBE,
  ROUNDS,
  STOP,
  type SurvivorPart,
  type SurvivorTally,
  VICTIM,
  VICTIM_PORTS,
  type VictimPart,
} from '../workers/kill_part.ts';

const worker = (name: string): URL => new URL(`../../dist/test/workers/${name}.js`, import.meta.url);

/** A sleeper that nobody wakes sleeps longer than this, ms. It is a watchdog: a machine that is busy takes its time. */
const WATCHDOG = 30_000;
/** How far a victim comes at the most: steps, or rounds. */
const [MOST_STEPS, MOST_ROUNDS] = [20_000, 40];

export interface KillReport {
  /** ms from the removal to the probe's arrival, one of each death */
  readonly delays: number[];
  /** ports whose last event nobody saw */
  readonly lost: number[];
  readonly sent: number;
  readonly taken: number;
  readonly strange: number;
}

export class KillingField {
  readonly vm: Vm;
  readonly #ledger = new SharedArrayBuffer(4 * (CONTROL_WORDS + 2 * PORTS));
  readonly #control = new Int32Array(this.#ledger, 0, CONTROL_WORDS);
  readonly #random: (n: number) => number;
  readonly #trace = new WebAssembly.Module(kernelBytes('trace-shared'));
  readonly #survivors: Promise<SurvivorTally>[];
  readonly #delays: number[] = [];
  #probes = 0;

  constructor(seed: number) {
    this.#random = random(seed);
    this.vm = createVm({
      vcpus: 2,
      agents: 4,
      guestPages: 16,
      clock: systemClock(),
      dirtyRingBytes: 65536,
      eventfds: 2,
      routes: 2,
      bare: true,
    });
    furnish(this.vm);
    this.#survivors = (['receive', 'send'] as const).map((role) => this.#start(role));
  }

  #start(role: SurvivorPart['role']): Promise<SurvivorTally> {
    const data: SurvivorPart = { role, handle: this.vm.handle(), ledger: this.#ledger, seed: 1 + this.#random(1e6) };
    const thread = new Worker(worker('survivor'), { workerData: data });
    return new Promise((resolve, reject) => {
      thread.on('message', resolve);
      thread.on('error', reject);
      thread.on('exit', () => reject(new Error(`the thread that should ${role} ended without a word`)));
    });
  }

  /** One dies, is removed, and a probe arrives. Throws when none does, or when anything of the dead one is left. */
  async kill(): Promise<void> {
    const trapped = this.#random(2) === 1;
    Atomics.store(this.#control, VICTIM, 0);
    Atomics.store(this.#control, ROUNDS, 0);
    const data: VictimPart = {
      handle: this.vm.handle(),
      ledger: this.#ledger,
      seed: 1 + this.#random(1e6),
      trap: trapped ? { module: this.#trace, step: 1 + this.#random(MOST_STEPS) } : null,
    };
    const rounds = this.#random(MOST_ROUNDS);
    const thread = new Worker(worker('victim'), { workerData: data });
    let failure: unknown = null;
    thread.on('error', (error) => {
      failure = error;
    });
    const over = new Promise((resolve) => thread.on('exit', resolve));
    if (!trapped) {
      await this.#until(ROUNDS, rounds, over);
      await thread.terminate();
    }
    await over;
    if (failure !== null) throw failure;
    this.#removed(Atomics.load(this.#control, VICTIM) - 1);
  }

  #removed(agent: number): void {
    const { vm } = this;
    const begin = performance.now();
    vm.detachAgent(agent);
    this.#probe();
    this.#delays.push(performance.now() - begin);
    // Pages can be moved, and the log goes on.
    vm.invalidateStart(vm.guestBase, vm.guestBase + vm.guestBytes - 1);
    vm.invalidateEnd();
    for (let i = 0; i < vm.vcpus; i++) vm.dirtyLog.collect(i);
    vm.dirtyLog.reset();
    vm.guestMemory.write(gpa(15 * 4096), Uint8Array.of(1), 1);
    const pages = vm.dirtyLog.collect(1).map(({ page }) => page);
    if (!pages.includes(15))
      throw new Error(`after agent ${agent} had died the dirty log gave ${JSON.stringify(pages)}`);
  }

  #probe(): void {
    const before = Atomics.load(this.#control, ARRIVED);
    const result = this.vm.send(PROBE);
    if (result !== 1) throw new Error(`probe ${this.#probes} is answered ${result}`);
    this.#probes++;
    if (Atomics.wait(this.#control, ARRIVED, before, WATCHDOG) === 'timed-out') {
      throw new Error(`probe ${this.#probes} did not arrive within ${WATCHDOG} ms: ${this.vm.explain(PROBE)}`);
    }
  }

  /** Returns when a word has come to `n`, or `over` says that it never will. */
  async #until(word: number, n: number, over: Promise<unknown>): Promise<void> {
    let ended = false;
    void over.then(() => {
      ended = true;
    });
    while (!ended && (Atomics.load(this.#control, VICTIM) === 0 || Atomics.load(this.#control, word) < n)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async stop(): Promise<KillReport> {
    Atomics.store(this.#control, STOP, 1);
    const sender = await this.#survivors[1];
    this.vm.vcpu(0).kick();
    const receiver = await this.#survivors[0];
    const sent = new Int32Array(this.#ledger, 4 * CONTROL_WORDS, PORTS);
    const seen = new Int32Array(this.#ledger, 4 * (CONTROL_WORDS + PORTS), PORTS);
    // What came after the receiver's last look is for us.
    this.vm.vcpu(0).drain((port) => {
      if (port < PORTS) seen[port] = sent[port] as number;
    });
    const lost = Array.from({ length: PORTS }, (_, port) => port).filter((port) => sent[port] !== seen[port]);
    return {
      delays: this.#delays,
      lost,
      sent: sender?.sent ?? 0,
      taken: receiver?.taken ?? 0,
      strange: sender?.strange ?? 0,
    };
  }
}

function furnish(vm: Vm): void {
  vm.setAttr({ type: 'long_mode', enabled: true });
  vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
  for (let i = 0; i < vm.vcpus; i++) {
    vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(2 * 4096 + 64 * i) });
    vm.vcpu(i).setAttr({ type: 'vcpu_time_info', gpa: gpa(3 * 4096 + 64 * i) });
    vm.vcpu(i).setAttr({ type: 'runstate_addr', gpa: gpa((4 + 2 * i) * 4096 + 4080) });
    vm.vcpu(i).setAttr({ type: 'timer', port: VICTIM_PORTS + i, expires: 0n });
  }
  // Else the victim, who drains for vCPU 1, would take them along.
  for (let port = 1; port < PORTS; port++) vm.bindVcpu(port, 0);
  const counter = vm.eventfds.create();
  vm.routes.set([{ gsi: 1, type: 'xen_evtchn', port: VICTIM_PORTS + 5, vcpu: 0 }]);
  vm.eventfds.bindIrq(vm.eventfds.create().fd, 1);
  const [ring, count] = [
    { sendPort: 1, channel: 'interdomain', target: { port: VICTIM_PORTS + 6, vcpu: 0 } },
    { sendPort: 2, channel: 'interdomain', target: { eventfd: counter.fd } },
  ] as const;
  vm.setAttr({ type: 'evtchn', action: 'set', ports: [ring, count] });
  for (const slot of vm.memslots.list()) vm.memslots.set({ ...slot, logDirty: true });
}
