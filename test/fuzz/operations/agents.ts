// Views that come and go, the embedder's hooks, the guest that writes during a call, and the end.

import { AGENT_INVALIDATIONS } from '../../../src/abi/region.ts';
import { attachVm, createVm, gfn, gpa, hpa, hva, regionBytes, VirtualClock } from '../../../src/index.ts';
import { Chance } from '../chance.ts';
import { as, type Operations, who } from '../operation.ts';
import type { Call, Value } from '../value.ts';
import type { FaultHook, World } from '../world.ts';
import { pokeAt } from './guest.ts';

const ADDRESSES = { gpa, gfn, hva, hpa };

function sizes(chance: Chance): Value {
  const options: { [key: string]: Value } = {};
  const names = ['vcpus', 'agents', 'memslots', 'hostPages', 'dirtyPages', 'dirtyRingBytes', 'routes', 'eventfds'];
  for (const name of names)
    if (chance.once(4))
      options[name] = chance.once(3) ? chance.nonsense() : chance.pick([0, 1, 2, 64, 2048, 4097, 65537]);
  return options;
}

let spare: WebAssembly.Memory | undefined;

/** A memory for VMs that are made beside the world's own. */
function spareMemory(): WebAssembly.Memory {
  spare ??= new WebAssembly.Memory({ initial: 16, maximum: 16 });
  return spare;
}

/** While `call` runs the guest writes something every `gap` steps, as a seed says. */
function hostile(world: World, seed: unknown, gap: unknown, call: unknown): void {
  const chance = new Chance(Number(seed));
  let left = Number(gap);
  world.atStep = () => {
    if (--left > 0) return;
    left = Number(gap);
    const at = pokeAt(chance);
    const digits = chance.noise();
    for (let i = 0; 2 * i < digits.length && at + i < world.ram.length; i++) {
      world.guestWrites(at + i, Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
    }
  };
  try {
    world.inside([as<Call>(call)]);
  } finally {
    world.atStep = null;
  }
}

/** What another thread may do at any moment, whatever this one is doing. */
const ANYWHERE = [
  'send',
  'send',
  'sendMany',
  'sendRange',
  'evtchnSend',
  'mask',
  'unmask',
  'raise',
  'ring',
  'fdWrite',
  'fdRead',
  'tick',
  'kick',
  'explain',
  'portStatus',
  'drain',
  'upcallPending',
  'ramRead',
  'clockLook',
];

/** At one step of `call` the second view, another thread, makes a call of its own. */
function between(world: World, step: unknown, others: unknown, call: unknown): void {
  const { other, kind } = world;
  let left = Number(step);
  world.atStep = () => {
    if (left-- !== 0 || !kind.shared || other === null || other.detached) return;
    world.inside([as<Call>(others)]);
  };
  try {
    world.inside([as<Call>(call)]);
  } finally {
    world.atStep = null;
  }
}

export const AGENTS: Operations = {
  attach: { weight: 4, args: () => [], run: (w) => w.attach() },
  attachBad: {
    weight: 1,
    args: (c) => [c.once(2) ? c.pick([0, 64, 4096, 4160, 4160, 8192, 2 ** 32 - 64]) : c.nonsense()],
    run: (w, [base]) => attachVm({ ...w.vm.handle(), regionBase: as(base) }, w.agent()).detach(),
  },
  detach: {
    weight: 1,
    args: () => [],
    run: (w) => w.other?.detach(),
  },
  detachAgent: {
    weight: 2,
    args: (c) => [who(c), c.index(3)],
    run: (w, [v, n]) => {
      const dead = w.other?.agentNumber === n;
      w.view(v).detachAgent(as(n));
      // Its thread is dead: it calls nothing any more.
      if (dead) w.other = null;
    },
  },
  close: { weight: 1, args: (c) => [c.once(4) ? 0 : 1], run: (w, [v]) => w.view(v).close() },
  furnish: {
    weight: 12,
    args: () => [],
    run: (w) => {
      if (w.vm.changes.inBracket) w.vm.leave();
      while (w.vm.region.words.load(w.vm.agent + AGENT_INVALIDATIONS) > 0) w.vm.invalidateEnd();
      w.furnish();
    },
  },
  vcpuOf: { weight: 1, args: (c) => [who(c), c.index(2)], run: (w, [v, i]) => w.view(v).vcpu(as(i)).id },
  faultHook: {
    weight: 3,
    args: (c, inner) => [c.once(5) ? inner(2) : c.pick(['map', 'map', 'elsewhere', 'nothing', 'fail'])],
    run: (w, [hook]) => {
      w.faultHook = as<FaultHook>(hook);
    },
  },
  stubborn: {
    weight: 1,
    args: (c) => [c.once(12)],
    run: (w, [is]) => {
      w.stubborn = is === true;
    },
  },
  hostile: {
    weight: 30,
    args: (c, inner) => [c.int(2 ** 30), c.pick([1, 1, 2, 5, 17, 60]), inner(1)[0] ?? ['kick', 0, 0]],
    run: (w, [seed, gap, call]) => hostile(w, seed, gap, call),
    tag: (args) => String(as<Call | undefined>(args[2])?.[0]),
  },
  between: {
    weight: 20,
    args: (c, inner) => {
      const [name, , ...args] = inner.of(c.pick(ANYWHERE));
      return [c.once(3) ? c.int(600) : c.int(40), [name, 1, ...args], inner(1)[0] ?? ['kick', 0, 0]];
    },
    run: (w, [step, others, call]) => between(w, step, others, call),
    tag: (args) => String(as<Call | undefined>(args[2])?.[0]),
  },
  address: {
    weight: 1,
    args: (c) => [c.pick(Object.keys(ADDRESSES)), c.once(2) ? c.nonsense() : c.hva()],
    run: (_, [kind, value]) => ADDRESSES[as<'gpa'>(kind)](as(value)) >= 0,
  },
  sizes: { weight: 1, args: (c) => [sizes(c)], run: (_, [options]) => regionBytes(as(options)) > 0 },
  create: {
    weight: 1,
    args: (c) => [
      { guestPages: c.index(4), guestBase: c.or(4096), regionBase: c.or(2 ** 17), ...(sizes(c) as object) },
    ],
    run: (_, [options]) =>
      createVm({ ...as<object>(options), memory: spareMemory(), clock: new VirtualClock() }).close(),
  },
  clocks: {
    weight: 1,
    args: (c) => [c.nonsense()],
    run: (_, [hz]) => new VirtualClock(0n, 0n, { tscHz: as(hz) }).tscHz !== undefined,
  },
};
