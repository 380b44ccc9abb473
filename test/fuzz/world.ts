// What a sequence of calls acts on: a VM between canaries in a memory of its own, a second view of it, a guest that writes what it
// likes, and an embedder whose hooks may do anything that hooks may.

import { existsSync, readFileSync } from 'node:fs';
import {
  attachVm,
  createVm,
  FlatCpu,
  gfn,
  gpa,
  type HistoricCache,
  hpa,
  hva,
  regionBytes,
  type Vcpu,
  VirtualClock,
  type Vm,
  type VmState,
} from '../../src/index.ts';
import { kernelModule } from '../../src/kernel.ts';
import { PAGES } from './chance.ts';
import type { Call } from './value.ts';
import { CANARY, Guards } from './windows.ts';

const PAGE = 4096;

/** What kind of VM it is. */
export interface Kind {
  readonly shared: boolean;
  readonly longMode: boolean;
  /** it has a table of host pages */
  readonly table: boolean;
  /** it logs writes, into rings if so */
  readonly logs: boolean;
  readonly ring: boolean;
  /** the kernel counts its steps, and the guest may write at each of them */
  readonly trace: boolean;
}

/** All of them. */
export const WORLD_KINDS: readonly Kind[] = [true, false].flatMap((shared) =>
  [true, false].flatMap((longMode) =>
    [true, false].flatMap((table) =>
      [true, false].flatMap((logs) =>
        [true, false].map((trace) => ({ shared, longMode, table, logs, ring: logs && trace === table, trace })),
      ),
    ),
  ),
);

export const VCPUS = 2;
/** KVM's ids, which are not the indices. */
export const IDS = [3, 8];
export const MSR = 0x40000000;
/** Where arguments of hypercalls lie. */
export const ARGUMENTS = 9 * PAGE;

const SIZES = { vcpus: VCPUS, agents: 3, memslots: 5, routes: 8, eventfds: 4, dirtyPages: 96 };
const HOST_PAGES = 72;
const RING_BYTES = 2048;
const REGION_BASE = PAGE + 64;
/** Steps of one call after which it counts as endless. */
const ENDLESS = 100_000_000;

/** Thrown by what the embedder gives, where it may throw. */
export class HookError extends Error {}

/** A call takes more steps than any may. */
export class EndlessError extends Error {}

/** A memory that sequences of a kind use one after another. */
export class Ground {
  readonly kind: Kind;
  readonly memory: WebAssembly.Memory;
  readonly sizes: typeof SIZES & { readonly hostPages: number; readonly dirtyRingBytes: number };
  readonly guestBase: number;
  readonly regionEnd: number;
  readonly module: WebAssembly.Module;
  /** room for the memory as it was before a call, and for marks on guest RAM: sequences come one after the other */
  readonly before: Uint8Array<ArrayBuffer>;
  readonly own = new Uint8Array(PAGES * PAGE);

  constructor(kind: Kind) {
    this.kind = kind;
    this.sizes = { ...SIZES, hostPages: kind.table ? HOST_PAGES : 0, dirtyRingBytes: kind.ring ? RING_BYTES : 0 };
    this.regionEnd = REGION_BASE + regionBytes(this.sizes);
    this.guestBase = Math.ceil(this.regionEnd / PAGE + 1) * PAGE;
    const pages = Math.ceil((this.guestBase + (PAGES + 1) * PAGE) / 65536);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: kind.shared });
    this.before = new Uint8Array(this.memory.buffer.byteLength);
    this.module = kind.trace ? traceModule(kind.shared) : kernelModule(kind.shared);
  }
}

const modules = new Map<string, WebAssembly.Module>();

function traceModule(shared: boolean): WebAssembly.Module {
  const path = `build/trace-${shared ? 'shared' : 'unshared'}.wasm`;
  const known = modules.get(path);
  if (known) return known;
  if (!existsSync(path)) throw new Error(`${path} is not there: node tools/build.js`);
  const module = new WebAssembly.Module(new Uint8Array(readFileSync(path)));
  modules.set(path, module);
  return module;
}

const grounds = new Map<string, Ground>();

/** The memory for a kind: one that nothing was found in. */
export function groundOf(kind: Kind): Ground {
  const key = JSON.stringify(kind);
  const ground = grounds.get(key) ?? new Ground(kind);
  grounds.set(key, ground);
  return ground;
}

/** After a fault nothing in a memory can be relied on. */
export function forgetGround(kind: Kind): void {
  grounds.delete(JSON.stringify(kind));
}

/** What the page-fault handler does. */
export type FaultHook = 'map' | 'elsewhere' | 'nothing' | 'fail' | readonly Call[];

export class World {
  readonly kind: Kind;
  readonly ground: Ground;
  readonly clock = new VirtualClock(1_000_000_000n, 1_700_000_000_000_000_000n, { tscHz: 2_000_000_000 });
  readonly vm: Vm;
  /** another view, while one is attached */
  other: Vm | null = null;
  readonly guards: Guards;
  /** all of the memory, and guest RAM alone */
  readonly all: Uint8Array;
  readonly ram: Uint8Array;
  /** bytes of guest RAM, marked, that the present call may write, or that the guest itself wrote meanwhile */
  readonly own: Uint8Array;
  readonly cpu: FlatCpu;
  readonly saved: Uint8Array[] = [];
  readonly states: VmState[] = [];
  readonly caches: HistoricCache[] = [];
  /** what asynchronous waits came to */
  readonly promises: Promise<unknown>[] = [];
  faultHook: FaultHook = 'nothing';
  /** what calls inside calls are made by */
  inside: (calls: readonly Call[]) => void = () => {};
  /** steps of the present call, in the kernel and in the control plane's words */
  steps = 0;
  /** what the guest does at each step */
  atStep: (() => void) | null = null;
  /** the second view keeps its bracket however long it is waited for */
  stubborn = false;
  /** in the present call the guest wrote, or the embedder changed something: a page was brought, a long sleep ended */
  guestWrote = false;
  disturbed = false;
  /** asynchronous waits that hold the event loop */
  readonly held = { count: 0 };
  #counting = true;

  constructor(ground: Ground) {
    this.ground = ground;
    this.kind = ground.kind;
    const { memory, guestBase, regionEnd, sizes } = ground;
    this.all = new Uint8Array(memory.buffer);
    this.all.fill(CANARY, REGION_BASE, regionEnd);
    this.ram = new Uint8Array(memory.buffer, guestBase, PAGES * PAGE).fill(0);
    this.guards = new Guards(memory, [
      [0, REGION_BASE],
      [regionEnd, guestBase],
      [guestBase + PAGES * PAGE, this.all.length],
    ]);
    this.vm = createVm({
      memory,
      guestBase,
      guestPages: PAGES,
      regionBase: REGION_BASE,
      vcpuIds: IDS,
      hyperv: !ground.kind.longMode,
      onInterrupt: (_, level) => level,
      ...sizes,
      ...this.agent(),
    });
    this.own = ground.own;
    this.cpu = new FlatCpu(this.vm);
    this.#watch(this.vm);
    this.vm.setConfig({ msr: MSR, interceptHypercalls: true, evtchnSend: true });
    this.vm.setAttr({ type: 'long_mode', enabled: this.kind.longMode });
    this.vm.setAttr({ type: 'upcall_vector', vector: 0xf3 });
    this.furnish();
  }

  /** View 0 is the owner's, any other the second one if it is there. */
  view(who: unknown): Vm {
    return who === 0 || this.other === null ? this.vm : this.other;
  }

  vcpu(who: unknown, index: unknown): Vcpu {
    return this.view(who).vcpu(index === 1 ? 1 : 0);
  }

  attach(): void {
    if (this.other !== null && !this.other.detached) return;
    this.other = attachVm(this.vm.handle(), this.agent());
    this.#watch(this.other);
  }

  /** The guest writes a byte of its RAM, in the middle of a call perhaps. */
  guestWrites(at: number, byte: number): void {
    this.ram[at] = byte;
    this.own[at] = 1;
    this.guestWrote = true;
  }

  /** One step of a call: the guest may write, and a call may not take them without end. */
  step(): void {
    if (!this.#counting) return;
    if (++this.steps > ENDLESS) throw new EndlessError(`more than ${ENDLESS} steps`);
    if (this.atStep === null) return;
    this.#counting = false;
    try {
      this.atStep();
    } finally {
      this.#counting = true;
    }
  }

  /** What happens while a thread naps: the second view, another thread, leaves its bracket. */
  nap(): void {
    const { other } = this;
    if (!this.stubborn && other !== null && !other.detached && other.changes.inBracket) other.leave();
  }

  /** What every view of the VM is made with. */
  agent() {
    const { held } = this;
    const options = {
      clock: this.clock,
      hold: () => {
        held.count++;
        return () => void held.count--;
      },
      onPageFault: (host: number) => this.#fault(host),
    };
    if (!this.kind.trace) return options;
    const onStep = (): void => this.step();
    return { ...options, trace: { module: this.ground.module, onStep, onWait: () => this.#wait() } };
  }

  /** In place of a sleep of the traced kernel. */
  #wait(): number {
    this.step();
    this.nap();
    return 2;
  }

  #fault(host: number): void {
    const { faultHook, vm } = this;
    if (faultHook === 'nothing') return;
    this.disturbed = true;
    if (faultHook === 'fail') throw new HookError('the page cannot be brought');
    if (typeof faultHook !== 'string') {
      this.inside(faultHook);
      return;
    }
    if (!this.kind.table || vm.detached) return;
    const page = Math.floor(host / PAGE) * PAGE;
    const at = page - this.ground.guestBase;
    const inside = at >= 0 && at < PAGES * PAGE;
    const frame = faultHook === 'map' && inside ? page : this.ground.guestBase + ((page / PAGE) % PAGES) * PAGE;
    if (page / PAGE < HOST_PAGES) vm.hostPages.map(hva(page), 1, frame as never);
  }

  /** The control plane's accesses are steps as well. */
  #watch(vm: Vm): void {
    if (!this.kind.trace) return;
    const { words } = vm.region;
    const names = ['load', 'store', 'or', 'and', 'add', 'exchange', 'compareExchange', 'load64', 'store64'] as const;
    for (const name of names) {
      const access = words[name] as (...args: unknown[]) => unknown;
      const counted = (...args: unknown[]): unknown => {
        this.step();
        return access.apply(words, args);
      };
      Object.defineProperty(words, name, { value: counted });
    }
  }

  /** Puts everything where a guest has it: all of RAM in slot 0, at its own frames, and all structures registered. */
  furnish(): void {
    const { vm } = this;
    const { hostPages, memslots, guestBase, guestBytes } = vm;
    if (hostPages.count > 0) hostPages.map(hva(guestBase), PAGES, hpa(guestBase));
    const slots = memslots.list();
    if (slots.length !== 1 || slots[0]?.bytes !== guestBytes || slots[0].logDirty !== this.kind.logs) {
      for (const { id, addressSpace } of slots) memslots.delete(id, addressSpace);
      memslots.set({ id: 0, gpa: gpa(0), bytes: guestBytes, hva: hva(guestBase), logDirty: this.kind.logs });
    }
    vm.setAttr({ type: 'shared_info', gfn: gfn(1) });
    for (let i = 0; i < VCPUS; i++) {
      const vcpu = vm.vcpu(i);
      vcpu.setAttr({ type: 'vcpu_info', gpa: gpa(2 * PAGE + i * 64) });
      vcpu.setAttr({ type: 'vcpu_time_info', gpa: gpa(3 * PAGE + i * 32) });
      vcpu.setAttr({ type: 'runstate_addr', gpa: gpa((5 + i) * PAGE - 11 * (i + 1)) });
    }
  }
}
