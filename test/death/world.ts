// A VM with something of everything, in one memory that is used again and again: an owner, one who dies, and one who lives on.

import { REGION_TIMEKEEPER } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { STEP_NOTIFY } from '../../src/abi/step.ts';
import {
  attachVm,
  type Clock,
  createVm,
  type Eventfd,
  FlatCpu,
  gfn,
  gpa,
  regionBytes,
  type Vm,
} from '../../src/index.ts';
import { loopback, toEventfd } from '../spec/ports.ts';
import { kernelBytes } from '../support.ts';
import { Mortal } from '../workers/mortal.ts';

/** Guest pages: shared_info, both vcpu_infos, both time records, a runstate over a page edge and one not, and RAM. */
export const INFO = 3;
export const VCPU_INFO = 4 * PAGE_SIZE;
export const TIME_INFO = 5 * PAGE_SIZE;
export const RUNSTATES = [7 * PAGE_SIZE - 16, 8 * PAGE_SIZE + 8] as const;
export const RAM = 9 * PAGE_SIZE;
export const ARGUMENT = 11 * PAGE_SIZE;
export const SPARE = 13;

export const TIMER_PORT = 13;
/** bound to vCPU 1, as all others are to none */
export const BOUND = 70;
/** what gsi 1 raises, and eventfd `line` with it */
export const ROUTED = 40;
/** send ports: to a port, to an eventfd, to the eventfd of an interrupt */
export const [RINGS, COUNTS, PULSES] = [1, 2, 3];
export const RUNG = 41;

const SIZES = { vcpus: 2, agents: 4, hostPages: 512, memslots: 4, dirtyRingBytes: 4096, routes: 4, eventfds: 4 };
const GUEST_PAGES = 16;
const BOOT = 77_000_000_123n;
const EPOCH = 5n * 10n ** 18n;
const SECOND = 10n ** 9n;
const GUEST_BASE = Math.ceil(regionBytes(SIZES) / PAGE_SIZE) * PAGE_SIZE;

export interface Scene {
  readonly owner: Vm;
  readonly victim: Vm;
  readonly other: Vm;
  readonly longMode: boolean;
  /** steps of the one who dies: the victim, or the owner */
  readonly mortal: Mortal;
  /** words on which somebody was notified */
  readonly notified: Set<number>;
  /** the victim's processor, in 64-bit code */
  readonly cpu: FlatCpu;
  readonly counter: Eventfd;
  readonly line: Eventfd;
  /** ports that were sent before, by their vCPU: they have to arrive */
  readonly owed: (readonly [vcpu: number, port: number])[];
  /** one more agent */
  readonly attach: () => Vm;
  /** a timekeeper sleeps from now on; and whether one does */
  readonly keepTime: () => void;
  readonly timekeeper: () => boolean;
  /** guest time as it should be, ns */
  readonly now: () => bigint;
  readonly advance: (ns: bigint) => void;
  /** what is called in place of a sleep; it returns 0 woken, 2 timed out */
  readonly whenAsleep: (wake: () => number) => void;
}

/** The host's clocks, which can be set back. */
class HostClock implements Clock {
  readonly tscHz = 2_000_000_000;
  ns = BOOT;

  now(): bigint {
    return this.ns;
  }
  realtime(): bigint {
    return EPOCH + this.ns;
  }
  tsc(): bigint {
    return 2n * this.ns;
  }
}

/** What is the same in every round of a layout. */
interface Stage {
  readonly longMode: boolean;
  readonly owner: Vm;
  readonly other: Vm;
  readonly counter: Eventfd;
  readonly line: Eventfd;
  /** the memory as every round begins */
  readonly bytes: Uint8Array;
  readonly ns: bigint;
}

/** Makes scenes, one at a time. */
export class DeathWorld {
  readonly #trace = new WebAssembly.Module(kernelBytes('trace-shared'));
  readonly #release = new WebAssembly.Module(kernelBytes('shared'));
  readonly #memory = new WebAssembly.Memory({
    initial: Math.ceil((GUEST_BASE + GUEST_PAGES * PAGE_SIZE) / 65536),
    maximum: 64,
    shared: true,
  });
  readonly #clock = new HostClock();
  readonly #notified = new Set<number>();
  #asleep: () => number = () => 2;
  #stage: Stage | null = null;

  /** With a victim that any thread may be. The survivors are the same in every round, in memory that was set back. */
  fresh(longMode: boolean): Scene {
    const stage = this.#stage?.longMode === longMode ? this.#stage : this.#build(longMode);
    this.#stage = stage;
    new Uint8Array(this.#memory.buffer).set(stage.bytes);
    this.#clock.ns = stage.ns;
    const mortal = new Mortal((address) => void this.#notified.add(address));
    const victim = attachVm(stage.owner.handle(), { clock: this.#clock, trace: { ...this.#hooks, ...mortal.hooks } });
    mortal.inhabit(victim);
    return this.#scene({ ...stage, victim, mortal });
  }

  /** With an owner who will die. */
  orphaned(longMode: boolean): Scene {
    this.#stage = null;
    this.#clock.ns = BOOT;
    const mortal = new Mortal((address) => void this.#notified.add(address));
    const stage = this.#build(longMode, mortal);
    mortal.inhabit(stage.owner);
    return this.#scene({ ...stage, victim: stage.owner, mortal });
  }

  get #hooks() {
    const onStep = (kind: number, address: number): void => {
      if (kind === STEP_NOTIFY) this.#notified.add(address);
    };
    return { module: this.#trace, onStep, onWait: () => this.#asleep() };
  }

  #scene(parts: Stage & Pick<Scene, 'victim' | 'mortal'>): Scene {
    const { owner, other, counter, line, victim, mortal, longMode } = parts;
    this.#notified.clear();
    this.#asleep = () => 2;
    let timekeeper = false;
    return {
      owner,
      other,
      counter,
      line,
      victim,
      mortal,
      longMode,
      cpu: new FlatCpu(victim, { longMode: true, lma: longMode, rip: 0x1234n }),
      notified: this.#notified,
      owed: [],
      keepTime: () => {
        owner.region.words.store(owner.vmBase + REGION_TIMEKEEPER, 1);
        timekeeper = true;
      },
      timekeeper: () => timekeeper,
      now: () => this.#clock.ns - BOOT,
      advance: (ns) => {
        this.#clock.ns += ns;
      },
      whenAsleep: (wake) => {
        this.#asleep = wake;
      },
      // By the release kernel, which takes no steps.
      attach: () => attachVm({ ...owner.handle(), module: this.#release }, { clock: this.#clock }),
    };
  }

  #build(longMode: boolean, mortal?: Mortal): Stage {
    new Uint8Array(this.#memory.buffer).fill(0);
    this.#clock.ns = BOOT;
    const hooks = this.#hooks;
    const common = { ...SIZES, memory: this.#memory, regionBase: 0, guestBase: GUEST_BASE, guestPages: GUEST_PAGES };
    const owner = createVm({ ...common, clock: this.#clock, trace: { ...hooks, ...mortal?.hooks } });
    furnish(owner, longMode);
    this.#clock.ns += SECOND;
    const other = attachVm(owner.handle(), { clock: this.#clock, trace: hooks });
    const [counter, line] = [owner.eventfds.create(), owner.eventfds.create()];
    furnishEvents(owner, counter, line);
    for (const gpc of owner.region.gpcs()) owner.gpcs.refresh(gpc);
    const note = (address: number): void => void this.#notified.add(address);
    for (const vm of mortal ? [other] : [owner, other]) watch(vm, note);
    const bytes = new Uint8Array(this.#memory.buffer).slice();
    return { longMode, owner, other, counter, line, bytes, ns: this.#clock.ns };
  }
}

function furnish(vm: Vm, longMode: boolean): void {
  vm.setAttr({ type: 'long_mode', enabled: longMode });
  vm.setAttr({ type: 'shared_info', gfn: gfn(INFO) });
  vm.setConfig({ msr: 0x40000000, interceptHypercalls: true, evtchnSend: true });
  vm.setAttr({ type: 'runstate_update_flag', enabled: true });
  for (let i = 0; i < vm.vcpus; i++) {
    vm.vcpu(i).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU_INFO + 64 * i) });
    vm.vcpu(i).setAttr({ type: 'vcpu_time_info', gpa: gpa(TIME_INFO + 64 * i) });
    vm.vcpu(i).setAttr({ type: 'runstate_addr', gpa: gpa(RUNSTATES[i] as number) });
    vm.vcpu(i).enterRunstate('running', 1000, 5);
  }
  vm.vcpu(0).setAttr({ type: 'timer', port: TIMER_PORT, expires: 0n });
}

function furnishEvents(vm: Vm, counter: Eventfd, line: Eventfd): void {
  vm.bindVcpu(BOUND, 1);
  vm.routes.set([{ gsi: 1, type: 'xen_evtchn', port: ROUTED, vcpu: 0 }]);
  vm.eventfds.bindIrq(line.fd, 1);
  const ports = [loopback(RINGS, RUNG), toEventfd(COUNTS, counter.fd), toEventfd(PULSES, line.fd)];
  vm.setAttr({ type: 'evtchn', action: 'set', ports });
  // Last, so that the log is empty.
  vm.memslots.set({ ...(vm.memslots.list()[0] as ReturnType<typeof vm.memslots.list>[0]), logDirty: true });
}

/** Notes whom it notifies, and does not sleep. */
function watch(vm: Vm, note: (address: number) => void): void {
  const { words } = vm.region;
  const notify = words.notify.bind(words);
  words.notify = (at) => {
    note(at);
    notify(at);
  };
  words.wait = () => true;
}
