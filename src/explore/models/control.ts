// Control operations against sends: whatever the schedule, what they answer and leave behind is what some order of whole operations
// would have, one in which nothing comes before what had ended when it began. [R14, KF-29, KF-33, KF-36, KF-41]

import { ENOTCONN } from '../../abi/errno.ts';
import { PORT_TABLE } from '../../abi/region.ts';
import {
  PAGE_SIZE,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
} from '../../abi/shared_info.ts';
import { gfn, gpa } from '../../memory/address.ts';
import type { Vm } from '../../vm/vm.ts';
import type { Party } from '../actor.ts';
import { type Model, SHARED_INFO_PAGE, type World } from '../world.ts';
import type { ModelMaker } from './model_maker.ts';

/** One operation: what it does, and a number that it answers. */
interface Operation {
  readonly name: string;
  readonly run: (vm: Vm) => number;
}

const PORT = 70;
const NEIGHBOUR = 71;
const STRANGER = 130;
const SPARE_PAGE = 9;

/**
 * A send answers whether the mask was clear when it looked, which may be after an unmask that has delivered the very event: that
 * it was delivered and that it was masked are one answer here, as they are in the reference.
 */
const send = (port: number): Operation => ({
  name: `send ${port}`,
  run: (vm) => {
    const result = vm.send(port);
    return result === -ENOTCONN ? 1 : result;
  },
});
const mask = (port: number): Operation => ({ name: `mask ${port}`, run: (vm) => Number(vm.mask(port)) });
const unmask = (port: number): Operation => ({ name: `unmask ${port}`, run: (vm) => Number(vm.unmask(port)) & 0 });
const control = (name: string, run: (vm: Vm) => void): Operation => ({
  name,
  run: (vm) => {
    run(vm);
    return 0;
  },
});
const bind = (port: number, vcpu: number): Operation =>
  control(`bind ${port} to ${vcpu}`, (vm) => vm.bindVcpu(port, vcpu));
const unregister = control('unregister shared_info', (vm) => vm.setAttr({ type: 'shared_info', gfn: null }));
const elsewhere = control('shared_info elsewhere', (vm) => vm.setAttr({ type: 'shared_info', gfn: gfn(SPARE_PAGE) }));
const moveInfo = control('vcpu_info elsewhere', (vm) => {
  vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(SPARE_PAGE * PAGE_SIZE + 256) });
});
const flip = control('the other layout', (vm) => vm.setAttr({ type: 'long_mode', enabled: vm.maxPorts === 1024 }));

type Parts = readonly (readonly Operation[])[];

/** What meets what; the first actor is the owner. */
const MEETINGS: readonly (readonly [id: string, parts: Parts])[] = [
  ['mask-unmask', [[mask(PORT), unmask(PORT)], [send(PORT)], [send(PORT)]]],
  ['bind', [[bind(PORT, 1), bind(PORT, 0)], [send(PORT)], [send(NEIGHBOUR)]]],
  ['bind-mask', [[bind(PORT, 1)], [mask(PORT), unmask(PORT)], [send(PORT)]]],
  ['unregister', [[unregister], [send(PORT), send(STRANGER)]]],
  ['shared-info-elsewhere', [[elsewhere], [send(PORT), send(STRANGER)]]],
  ['vcpu-info-elsewhere', [[moveInfo], [send(PORT)], [send(NEIGHBOUR)]]],
  ['layout', [[flip], [send(PORT), mask(PORT)]]],
  ['unmask-unmask', [[unmask(PORT)], [unmask(PORT), mask(PORT)], [send(PORT)]]],
];

/** Counters: which operations have ended, and for each which had when it began, and what it answered. */
const ENDED = 0;
const PER_OPERATION = 2;
const began = (i: number): number => 1 + i * PER_OPERATION;
const answered = (i: number): number => 2 + i * PER_OPERATION;

export const CONTROL: readonly ModelMaker[] = MEETINGS.map(([id, parts]) => ({
  id: `atomic-${id}`,
  title: parts.map((part) => part.map(({ name }) => name).join(', ')).join(' against '),
  promises: ['R14', 'R4'],
  bounds: { preemptions: 3 },
  make: (longMode) => atomicModel(`atomic-${id}`, parts, longMode),
}));

function atomicModel(name: string, parts: Parts, longMode: boolean): Model {
  const operations = parts.flat();
  let world: World | null = null;
  let legal: ReadonlyMap<string, readonly (readonly number[])[]> | null = null;
  const perform = (i: number): Party['code'] => {
    const { name: doing, run } = operations[i] as Operation;
    return (vm, self) => {
      // It begins with a step of its own: what has ended then has ended before.
      self.until(() => true);
      self.note(() => world?.add(began(i), world.count(ENDED)) ?? 0);
      const answer = self.do(doing, () => run(vm));
      self.note(() => {
        world?.add(answered(i), answer);
        return world?.add(ENDED, 1 << i) ?? 0;
      });
    };
  };
  let next = 0;
  const parties = parts.map((part, actor): Party => {
    const own = part.map(() => next++);
    return {
      name: actor === 0 ? 'owner' : `agent ${actor}`,
      owner: actor === 0,
      code: (vm, self) => {
        for (const i of own) perform(i)(vm, self);
      },
    };
  });
  return {
    name,
    longMode,
    vcpus: 2,
    counters: 1 + operations.length * PER_OPERATION,
    setup: (w) => {
      world = w;
      legal = null;
    },
    parties,
    finally: (w) => {
      legal ??= w.fromTheBeginning(() => outcomes(w, parts));
      return inSomeOrder(w, operations, legal);
    },
  };
}

/** Whether what happened is what some order would have given. */
function inSomeOrder(
  world: World,
  operations: readonly Operation[],
  legal: ReadonlyMap<string, readonly (readonly number[])[]>,
): string | null {
  const answers = operations.map((_, i) => world.count(answered(i)));
  const outcome = outcomeOf(world, answers);
  const orders = legal.get(outcome) ?? [];
  const fits = orders.some((order) =>
    order.every((i, at) => order.slice(at + 1).every((later) => !((world.count(began(i)) >>> later) & 1))),
  );
  if (fits) return null;
  const said = operations.map(({ name }, i) => `${name} = ${answers[i]}`).join(', ');
  return `${said}: no order of whole operations gives that (${outcome})`;
}

/** What each order of whole operations gives. */
function outcomes(world: World, parts: Parts): Map<string, number[][]> {
  const operations = parts.flat();
  const found = new Map<string, number[][]>();
  for (const order of orders(parts)) {
    const answers: number[] = [];
    world.fromTheBeginning(() => {
      for (const i of order) answers[i] = (operations[i] as Operation).run(world.vm);
      const outcome = outcomeOf(world, answers);
      found.set(outcome, [...(found.get(outcome) ?? []), order]);
    });
  }
  return found;
}

/** Every way to put the actors' operations, each actor's in its order, one after the other. */
function orders(parts: Parts): number[][] {
  const firsts = parts.map((_, actor) => parts.slice(0, actor).reduce((sum, part) => sum + part.length, 0));
  const go = (done: readonly number[]): number[][] => {
    const open = parts
      .map((_, actor) => actor)
      .filter((actor) => (done[actor] as number) < (parts[actor]?.length ?? 0));
    if (open.length === 0) return [[]];
    return open.flatMap((actor) => {
      const rest = go(done.map((n, i) => (i === actor ? n + 1 : n)));
      return rest.map((order) => [(firsts[actor] as number) + (done[actor] as number), ...order]);
    });
  };
  return go(parts.map(() => 0));
}

/** Answers, bits in either page and layout, bindings, and whether somebody is not asked for what he should handle. */
function outcomeOf(world: World, answers: readonly number[]): string {
  const { vm } = world;
  const words = [SHARED_INFO_PAGE, SPARE_PAGE].flatMap((page) =>
    [SHARED_INFO_PENDING, SHARED_INFO_MASK_LONG, SHARED_INFO_MASK_COMPAT].flatMap((bits) =>
      [0, 4, 8, 12, 16, 20].map((at) => world.peek(vm.guestBase + page * PAGE_SIZE + bits + at) >>> 0),
    ),
  );
  const bindings = [PORT, NEIGHBOUR].map((port) => world.peek(vm.vmBase + PORT_TABLE + port * 4));
  return JSON.stringify([answers, words, bindings, vm.maxPorts, vm.getAttr('shared_info').gfn]);
}
