// Three agents of one VM in one thread. The first is interrupted before each of its shared accesses, those of its kernel and those
// of its TypeScript, and the others do something whole in between. No threads, no luck.

import { vi } from 'vitest';
import { REGION_INVALIDATE_ACTIVE } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gfn, gpa, type Hva, hva, regionBytes, type Vm } from '../../src/index.ts';
import { Changes } from '../../src/memory/changes.ts';
import { kernelBytes } from '../support.ts';

/** Bits that no test of a page that was given away sets or clears. */
export const POISON = 0x10;
/** Guest page of shared_info, vcpu_info, and pages that nothing uses at first. */
export const INFO = 3;
export const VCPU = 4;
export const SPARE = 9;
export const GUEST_PAGES = 16;

const SIZES = { agents: 3, hostPages: 512, memslots: 8, dirtyPages: 256, routes: 0, eventfds: 0 };
const GUEST_BASE = Math.ceil(regionBytes(SIZES) / PAGE_SIZE) * PAGE_SIZE;
const ATOMICS = ['load', 'store', 'or', 'and', 'add', 'exchange', 'compareExchange'] as const;

export interface Scene {
  /** the owner; and two that only use the VM */
  readonly owner: Vm;
  readonly other: Vm;
  readonly third: Vm;
  /** ports that were handled, in order */
  readonly handled: number[];
  /** what sends of port 70 answered */
  readonly results: number[];
  /** guest pages whose frames were given away */
  readonly given: number[];
}

export type Actor = (scene: Scene) => void;

export interface Meeting {
  readonly setup?: Actor;
  /** who is interrupted, and what it does */
  readonly who: 'owner' | 'other';
  readonly a: Actor;
  /** what the others do in between; not while `who` has a bracket open when they would have to wait for it */
  readonly b: Actor;
  readonly waits: boolean;
  /** null, or what went wrong */
  readonly judge: (scene: Scene) => string | null;
}

/** Runs meetings at every step. One memory for all: each would reserve gigabytes of addresses. */
export class MemoryWorld {
  readonly #module = new WebAssembly.Module(kernelBytes('trace-shared'));
  readonly #memory = new WebAssembly.Memory({
    initial: Math.ceil((GUEST_BASE + GUEST_PAGES * PAGE_SIZE) / 65536),
    maximum: 64,
    shared: true,
  });
  #onStep: () => void = () => {};

  /** @returns what went wrong, with the step, and at how many steps the others ran */
  explore(meeting: Meeting, longMode: boolean): { faults: string[]; ran: number } {
    const faults: string[] = [];
    let ran = 0;
    for (let at = 0; ; at++) {
      const outcome = this.#run(meeting, longMode, at);
      if (outcome.fault !== null) faults.push(`step ${at}: ${outcome.fault}`);
      if (outcome.ended) return { faults, ran };
      if (outcome.ran) ran++;
    }
  }

  #run(meeting: Meeting, longMode: boolean, at: number): { fault: string | null; ran: boolean; ended: boolean } {
    const scene = this.#fresh(longMode);
    meeting.setup?.(scene);
    const actor = scene[meeting.who];
    let [steps, ran, inside] = [0, false, false];
    this.#onStep = () => {
      if (inside || steps++ !== at) return;
      inside = true;
      if (!meeting.waits || !actor.region.bracketOpen(actor.agent)) {
        meeting.b(scene);
        ran = true;
      }
      inside = false;
    };
    let fault: string | null = null;
    try {
      this.#watch(() => meeting.a(scene));
      fault = meeting.judge(scene) ?? consistent(scene) ?? intact(scene);
    } catch (error) {
      fault = `threw ${String(error)}`;
    }
    return { fault, ran, ended: steps <= at };
  }

  /** TypeScript's accesses are steps as the kernel's are. Nobody sleeps: there is nobody who could wake. */
  #watch(call: () => void): void {
    // By hand, because a spy keeps every call.
    const table = Atomics as unknown as Record<string, (...args: number[]) => unknown>;
    const originals = ATOMICS.map((name) => [name, table[name] as (...args: number[]) => unknown] as const);
    for (const [name, original] of originals) {
      table[name] = (view, index, value, next) => {
        this.#onStep();
        return next === undefined ? original(view, index, value) : original(view, index, value, next);
      };
    }
    const naps = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
    // Looking for the end of an invalidation would only take long: it ends when the others have run, or does not end.
    const open = new Int32Array(this.#memory.buffer, REGION_INVALIDATE_ACTIVE, 1);
    const looks = vi.spyOn(Changes.prototype, 'awaitInvalidations').mockImplementation(() => open[0] === 0);
    try {
      call();
    } finally {
      this.#onStep = () => {};
      for (const [name, original] of originals) table[name] = original;
      naps.mockRestore();
      looks.mockRestore();
    }
  }

  #fresh(longMode: boolean): Scene {
    new Uint8Array(this.#memory.buffer).fill(0);
    const trace = { module: this.#module, onStep: () => this.#onStep() };
    const place = { memory: this.#memory, regionBase: 0, guestBase: GUEST_BASE, guestPages: GUEST_PAGES };
    const owner = createVm({ ...SIZES, ...place, trace });
    owner.setAttr({ type: 'long_mode', enabled: longMode });
    owner.setAttr({ type: 'shared_info', gfn: gfn(INFO) });
    owner.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(VCPU * PAGE_SIZE) });
    const other = attachVm(owner.handle(), { trace });
    const third = attachVm(owner.handle(), { trace });
    return { owner, other, third, handled: [], results: [], given: [] };
  }
}

// ── what the parties do ──────────────────────────────────────────────────────────────────────────────────────────────

export function page(vm: Vm, n: number): Uint8Array {
  return new Uint8Array(vm.memory.buffer, vm.guestBase + n * PAGE_SIZE, PAGE_SIZE);
}
export function hostPage(vm: Vm, n: number): Hva {
  return hva(vm.guestBase + n * PAGE_SIZE);
}

/** A frame is given away: whoever has it now fills it, and nobody else may change it. */
export function give(scene: Scene, n: number): void {
  page(scene.owner, n).fill(POISON);
  scene.given.push(n);
}

/** A frame's bytes are carried to another while nobody uses either. */
export function carry(scene: Scene, from: number, to: number): void {
  page(scene.owner, to).set(page(scene.owner, from));
  give(scene, from);
}

export function drain(scene: Scene, vm: Vm): void {
  try {
    vm.vcpu(0).drain((port) => scene.handled.push(port));
  } catch {
    // Not registered or not reachable at this instant: it says so and takes nothing.
  }
}

// ── what holds at the end of every meeting ───────────────────────────────────────────────────────────────────────────

/** Valid implies active, and a mapping is the translation of its base as it is now. [KF-02, KF-04] */
function consistent({ owner }: Scene): string | null {
  for (const gpc of owner.region.gpcs()) {
    const mode = gpc === owner.region.sharedInfo ? 1 : 0;
    const word = owner.region.words.load(gpc) >>> 0;
    if (word >= 2 ** 32 - PAGE_SIZE) continue;
    const base = owner.gpcs.baseOf(gpc);
    if (base === null) return 'an inactive cache maps something';
    const host = 'gpa' in base ? owner.memslots.hvaOf(base.gpa, true) : base.hva;
    const found = host === null ? null : owner.hostPages.lookup(host);
    if (!found || host === null || found.hpa + (host % PAGE_SIZE) !== (word & ~mode) >>> 0) {
      return `a cache maps 0x${word.toString(16)}, but its base is elsewhere`;
    }
  }
  return null;
}

/** Nobody has changed a frame after it was given away. [R3] */
function intact({ owner, given }: Scene): string | null {
  const spoilt = given.filter((n) => !page(owner, n).every((byte) => byte === POISON));
  return spoilt.length === 0 ? null : `the frame of page ${spoilt.join(' ')} was changed after it was given away`;
}
