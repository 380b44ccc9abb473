// Threads that die while they log a page: the ring goes on, and no page that they wrote is missing. [KX-MEM-20, 36, KF-89]

import { describe, expect, test } from 'vitest';
import { DIRTY_ENTRY_FLAGS, DIRTY_ENTRY_SIZE, REGION_DIRTY_RINGS, VCPU_RING_PUSHED } from '../../src/abi/region.ts';
import { PAGE_SIZE } from '../../src/abi/shared_info.ts';
import { attachVm, createVm, gpa, regionBytes, type Vm } from '../../src/index.ts';
import { kernelBytes, ram } from '../support.ts';
import { Mortal } from '../workers/mortal.ts';

const module = new WebAssembly.Module(kernelBytes('trace-shared'));
const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });

interface Scene {
  readonly owner: Vm;
  /** two who may die, and what makes them */
  readonly first: Vm;
  readonly second: Vm;
  readonly mortals: readonly [Mortal, Mortal];
  /** called at every step of the kernel of either */
  atStep: () => void;
}

function make(ring: boolean): Scene {
  new Uint8Array(memory.buffer).fill(0);
  const sizes = { agents: 4, dirtyRingBytes: ring ? 2048 : 0, routes: 0, eventfds: 0 };
  const guestBase = Math.ceil(regionBytes(sizes) / PAGE_SIZE) * PAGE_SIZE;
  const quiet = { module, onStep: () => {} };
  const owner = createVm({ ...sizes, memory, regionBase: 0, guestBase, guestPages: 16, trace: quiet });
  owner.region.words.wait = () => true;
  for (const slot of owner.memslots.list()) owner.memslots.set({ ...slot, logDirty: true });
  const mortals = [new Mortal(() => {}), new Mortal(() => {})] as const;
  const attach = (mortal: Mortal): Vm => {
    const onStep = (kind: number, address: number): void => {
      mortal.hooks.onStep(kind, address);
      scene.atStep();
    };
    const vm = attachVm(owner.handle(), { trace: { module, onStep } });
    mortal.inhabit(vm);
    return vm;
  };
  const scene: Scene = {
    owner,
    get first() {
      return views[0];
    },
    get second() {
      return views[1];
    },
    mortals,
    atStep: () => {},
  };
  const views = [attach(mortals[0]), attach(mortals[1])] as const;
  return scene;
}

function write(vm: Vm, page: number): void {
  vm.guestMemory.write(gpa(page * PAGE_SIZE), Uint8Array.of(1));
}

/** The pages that the log has, and gives back. */
function taken(vm: Vm, ring: boolean): number[] {
  if (ring) {
    const pages = vm.dirtyLog.collect(0).map(({ page }) => page);
    vm.dirtyLog.reset();
    return pages;
  }
  const bits = vm.dirtyLog.take(0);
  return Array.from({ length: 16 }, (_, page) => page).filter((page) => ((bits[page >> 3] ?? 0) >> (page & 7)) & 1);
}

/** Whether an entry was taken and not written. */
function hole({ owner }: Scene): boolean {
  const { words } = owner.region;
  const last = words.load(owner.vcpu(0).record + VCPU_RING_PUSHED) - 1;
  if (last < 0) return false;
  return words.load(owner.region.part(REGION_DIRTY_RINGS) + last * DIRTY_ENTRY_SIZE + DIRTY_ENTRY_FLAGS) === 0;
}

const STEPS = ((): number => {
  const scene = make(true);
  scene.mortals[0].live(-1, () => write(scene.first, 5));
  return scene.mortals[0].taken;
})();
const EVERY = Array.from({ length: STEPS }, (_, at) => at);

/** The steps at which an entry is taken and not written. */
const HOLES = EVERY.filter((at) => {
  const scene = make(true);
  scene.mortals[0].live(at, () => write(scene.first, 5));
  return hole(scene);
});

describe.each([true, false])('into rings: %s', (ring) => {
  test('KX-MEM-20 KF-89 dies at every step of a write: the page that it wrote is in the log, and so are those of the others', () => {
    let written = 0;
    for (const at of EVERY) {
      const scene = make(ring);
      const { owner, first } = scene;
      write(owner, 1);
      scene.mortals[0].live(at, () => write(first, 5));
      write(owner, 2);
      owner.detachAgent(first.agentNumber);
      write(owner, 3);
      const pages = taken(owner, ring);
      for (const page of [1, 2, 3]) expect(pages, `step ${at}`).toContain(page);
      if (ram(owner)[5 * PAGE_SIZE] === 1) {
        written++;
        expect(pages, `step ${at}`).toContain(5);
      }
      // Round and round: whatever it left is given back.
      for (let round = 0; ring && round < 6; round++) {
        for (let page = 0; page < 40; page++) write(owner, page % 16);
        expect(taken(owner, ring), `step ${at}`).toHaveLength(40);
      }
      expect(owner.dirtyLog.full(0)).toBe(false);
    }
    expect(written).toBeGreaterThan(3);
    expect(written).toBeLessThan(STEPS);
  });
});

describe('KX-MEM-36 an entry that a dead thread has taken', () => {
  test('there are such steps, and until the removal a collection ends at it', () => {
    expect(HOLES.length).toBeGreaterThan(2);
    for (const at of HOLES) {
      const scene = make(true);
      scene.mortals[0].live(at, () => write(scene.first, 5));
      write(scene.owner, 2);
      expect(taken(scene.owner, true), `step ${at}`).toEqual([]);
    }
  });

  test('KF-89 is given back, and is no page: only those that were collected count', () => {
    for (const at of HOLES) {
      const { owner, first, mortals } = make(true);
      mortals[0].live(at, () => write(first, 5));
      owner.detachAgent(first.agentNumber);
      expect(owner.dirtyLog.collect(0).map(({ page }) => page)).toEqual([5]);
      expect(owner.dirtyLog.reset(), `step ${at}`).toBe(1);
    }
  });

  test('KF-89 two die in it: the first removal cannot know whose it is and throws nothing, the second mends both', () => {
    const [early, late] = [HOLES[0] ?? 0, HOLES.at(-1) ?? 0];
    for (const [one, two] of [
      [early, late],
      [late, early],
    ] as const) {
      const { owner, first, second, mortals } = make(true);
      mortals[0].live(one, () => write(first, 5));
      mortals[1].live(two, () => write(second, 6));
      write(owner, 2);
      owner.detachAgent(first.agentNumber);
      expect(taken(owner, true)).toEqual([]);
      owner.detachAgent(second.agentNumber);
      expect(taken(owner, true).sort(), `steps ${one} and ${two}`).toEqual([2, 5, 6]);
    }
  });

  test('one that is alive, and in the middle of a push during the removal, keeps its entry', () => {
    const scene = make(true);
    const { owner, first, second, mortals } = scene;
    mortals[0].live(HOLES[0] ?? 0, () => write(first, 5));
    // In the middle of its own push the other one meets a removal, which waits for it in vain: it is on this very thread.
    let removed = false;
    scene.atStep = () => {
      if (removed || owner.region.words.load(owner.vcpu(0).record + VCPU_RING_PUSHED) < 2) return;
      removed = true;
      owner.detachAgent(first.agentNumber);
    };
    write(second, 6);
    expect(removed).toBe(true);
    write(second, 7);
    owner.detachAgent(second.agentNumber);
    expect(taken(owner, true).sort()).toEqual([5, 6, 7]);
  });
});
