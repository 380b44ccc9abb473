// Snapshots, and what is restored: as it was, damaged, or changed into something that hangs together and is not true.

import { readSnapshot, type VmState } from '../../../src/index.ts';
import { seal } from '../../../src/vm/snapshot/format.ts';
import type { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import type { Call, Value } from '../value.ts';
import { HookError, type World } from '../world.ts';

const KEPT = 3;
const TRAILER = 4;

/** A byte of a snapshot: where, as a share of its length, and what it becomes. */
type Edit = readonly [share: number, byte: number];

function edits(chance: Chance): Value {
  return Array.from({ length: chance.once(2) ? 0 : 1 + chance.int(4) }, () => [
    chance.int(100_000) / 100_000,
    chance.pick([0, 1, 127, 128, 255, chance.int(256)]),
  ]);
}

/** One of the kept, with some bytes changed, cut off, and its checksum made right again if so told. */
function damaged(world: World, which: unknown, changes: unknown, cut: unknown, sealed: unknown): Uint8Array {
  const { saved } = world;
  const copy = (saved[Number(which) % Math.max(saved.length, 1)] ?? new Uint8Array(40)).slice();
  for (const [share, byte] of as<Edit[]>(changes)) copy[Math.floor(share * copy.length)] = byte;
  const rest = copy.subarray(0, Math.max(copy.length - Number(cut), 0));
  return sealed && rest.length > TRAILER ? seal(rest.slice() as Uint8Array<ArrayBuffer>) : rest;
}

function during(world: World, calls: unknown): { during?: () => unknown } {
  if (calls === null) return {};
  return {
    during: () => {
      if (calls === 'fail') throw new HookError('during fails');
      if (calls === 'promise') return Promise.resolve();
      world.inside(as<readonly Call[]>(calls));
    },
  };
}

/** Changes one thing in a saved object. */
function changeAt(state: VmState, path: readonly number[], value: unknown): VmState {
  const copy = structuredClone(state);
  let at = copy as unknown as { [key: string]: unknown };
  for (const [depth, step] of path.entries()) {
    const keys = Object.keys(at);
    if (keys.length === 0) return copy;
    const key = keys[step % keys.length] as string;
    const next = at[key];
    if (depth === path.length - 1 || typeof next !== 'object' || next === null) {
      at[key] = value;
      return copy;
    }
    at = next as { [key: string]: unknown };
  }
  return copy;
}

/** What was restored is saved as the same bytes. [R13] */
function identity(world: World, ram: boolean): void {
  const { vm } = world;
  // vCPUs have to be stopped.
  for (let i = 0; i < vm.vcpus; i++) vm.vcpu(i).afterExit();
  // A restore calls them again, and they may do anything.
  for (const view of [vm, world.other]) {
    if (view !== null && !view.shared && !view.detached)
      for (let i = 0; i < view.vcpus; i++) view.vcpu(i).onUpcall(null);
  }
  const saved = vm.snapshot({ ram });
  vm.restore(saved);
  const again = vm.snapshot({ ram });
  if (Buffer.compare(saved, again) === 0) return;
  const [a, b] = [readSnapshot(saved), readSnapshot(again)].map((state) => JSON.stringify(state));
  const at = [...(a ?? '')].findIndex((letter, i) => letter !== b?.[i]);
  // A guest that runs all the same changes it.
  if (at < 0 && world.guestWrote) return;
  if (at < 0)
    throw new Error(
      `restored and saved again its RAM differs, at byte ${saved.findIndex((byte, i) => byte !== again[i])}`,
    );
  throw new Error(
    `restored and saved again it differs: ${a?.slice(at - 90, at + 40)} became ${b?.slice(at - 90, at + 40)}`,
  );
}

function keep<T>(list: T[], item: T): void {
  list.push(item);
  if (list.length > KEPT) list.shift();
}

const duringArgs = (c: Chance, inner: (most: number) => readonly Call[]): Value => {
  if (!c.once(4)) return null;
  return c.once(4) ? c.pick(['fail', 'promise']) : inner(2);
};

export const SAVING: Operations = {
  snapshot: {
    weight: 3,
    args: (c, inner) => [who(c), c.once(3), duringArgs(c, inner)],
    run: (w, [v, ram, calls]) => {
      keep(w.saved, w.view(v).snapshot({ ram: as(ram), ...(during(w, calls) as { during?: () => void }) }));
    },
  },
  snapshotState: {
    weight: 2,
    args: (c, inner) => [who(c), duringArgs(c, inner)],
    run: (w, [v, calls]) => keep(w.states, w.view(v).snapshotState(during(w, calls) as { during?: () => void })),
  },
  restore: {
    weight: 4,
    args: (c, inner) => [
      who(c),
      c.int(KEPT),
      edits(c),
      c.once(6) ? c.int(60) : 0,
      c.once(2),
      duringArgs(c, inner),
      c.once(4) ? c.wide() : '$undefined',
    ],
    run: (w, [v, which, changes, cut, sealed, calls, runDelay]) => {
      const options = {
        ...(during(w, calls) as { during?: () => void }),
        ...(runDelay === undefined ? {} : { runDelay: as<bigint>(runDelay) }),
      };
      w.view(v).restore(damaged(w, which, changes, cut, sealed), options);
    },
    writes: 'all',
  },
  restoreState: {
    weight: 4,
    args: (c) => [
      who(c),
      c.int(KEPT),
      Array.from({ length: 1 + c.int(5) }, () => c.int(60)),
      c.once(4)
        ? 'same'
        : c.once(2)
          ? c.nonsense()
          : c.pick([0, 1, 5, '0', '1', '18446744073709551615', '18446744073709551616', true, null, []]),
    ],
    run: (w, [v, which, path, value]) => {
      const state = w.states[Number(which) % Math.max(w.states.length, 1)];
      if (state === undefined) return;
      w.view(v).restore(value === 'same' ? state : changeAt(state, as(path), value));
    },
    writes: 'all',
  },
  identity: {
    weight: 2,
    args: (c) => [c.once(2)],
    run: (w, [ram]) => identity(w, ram === true),
    writes: 'all',
  },
  readSnapshot: {
    weight: 2,
    args: (c) => [c.int(KEPT), edits(c), c.once(4) ? c.int(200) : 0, c.once(2)],
    run: (w, [which, changes, cut, sealed]) => readSnapshot(damaged(w, which, changes, cut, sealed)),
  },
};
