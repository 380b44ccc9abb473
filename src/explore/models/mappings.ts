// Pages that move while they are used: what is mapped is dropped and mapped again, and an old page is never touched. [R3, KF-01..06, KF-13]

import {
  PAGE_SIZE,
  SHARED_INFO_MASK_COMPAT,
  SHARED_INFO_MASK_LONG,
  SHARED_INFO_PENDING,
} from '../../abi/shared_info.ts';
import { gpa, type Hpa, type Hva, hpa, hva } from '../../memory/address.ts';
import type { Vm } from '../../vm/vm.ts';
import type { Party, Self } from '../actor.ts';
import { deliveryModel, Ports, vcpuLoop } from '../delivery.ts';
import { type Model, SHARED_INFO_PAGE, VCPU_INFO_PAGE, type World } from '../world.ts';
import { NEIGHBOUR, PORT, STRANGER, sender } from './delivery.ts';
import type { ModelMaker } from './model_maker.ts';

/** A page that nothing uses at first. */
const SPARE_PAGE = 9;
/** What whoever has the old page now has written there, in the words that an engine that goes on using it would touch. */
const POISON = 0x10101010;
const POISONED = [0, SHARED_INFO_PENDING, SHARED_INFO_MASK_COMPAT, SHARED_INFO_MASK_LONG].flatMap((from) =>
  [0, 4, 8, 12, 16].map((at) => from + at),
);

/** Pages that were given away, and whether their new owner finds what he wrote. */
class GivenPages {
  readonly #counter: number;
  readonly #page: number;
  #world: World | null = null;

  constructor(counter: number, page: number) {
    this.#counter = counter;
    this.#page = page;
  }

  begin(world: World): void {
    this.#world = world;
  }

  /** The page is somebody else's from now on. */
  give(self: Self): void {
    self.do(`guest page ${this.#page}'s old frame is used for something else`, () => {
      self.note(() => {
        const world = this.#world as World;
        for (const at of POISONED) world.poke(this.#at(world, at), POISON);
        return world.add(this.#counter);
      });
    });
  }

  /** [R3] */
  touched(): string | null {
    const world = this.#world as World;
    if (world.count(this.#counter) === 0) return null;
    const bad = POISONED.find((at) => world.peek(this.#at(world, at)) !== POISON);
    return bad === undefined ? null : `byte ${bad} of a page was touched after it was given away`;
  }

  #at(world: World, offset: number): number {
    return world.vm.guestBase + this.#page * PAGE_SIZE + offset;
  }
}

const frame = (vm: Vm, page: number): Hpa => hpa(vm.guestBase + page * PAGE_SIZE);
const host = (vm: Vm, page: number): Hva => hva(vm.guestBase + page * PAGE_SIZE);

type Change = readonly [id: string, title: string, page: number, change: (vm: Vm, self: Self) => void];

const CHANGES: readonly Change[] = [
  [
    'shared-info-moves',
    'the host page of shared_info moves',
    SHARED_INFO_PAGE,
    (vm, self) => {
      self.do('moves the host page of shared_info', () => {
        vm.hostPages.move(host(vm, SHARED_INFO_PAGE), 1, frame(vm, SPARE_PAGE));
      });
    },
  ],
  [
    'vcpu-info-moves',
    'the host page of vcpu_info moves',
    VCPU_INFO_PAGE,
    (vm, self) => {
      self.do('moves the host page of vcpu_info', () => {
        vm.hostPages.move(host(vm, VCPU_INFO_PAGE), 1, frame(vm, SPARE_PAGE));
      });
    },
  ],
  [
    'vcpu-info-elsewhere',
    'vcpu_info is registered elsewhere',
    VCPU_INFO_PAGE,
    (vm, self) => {
      self.do('registers vcpu_info elsewhere', () => {
        vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(SPARE_PAGE * PAGE_SIZE + 256) });
      });
    },
  ],
];

export const MAPPINGS: readonly ModelMaker[] = CHANGES.flatMap(([id, title, page, change]) => [
  maker(`${id}-alone`, `${title} under a send`, page, (ports, give) => [
    sender(ports, 'sender', PORT),
    owner(change, give),
  ]),
  maker(`${id}-send`, `${title} under a send, a vCPU drains and sleeps`, page, (ports, give) => [
    sender(ports, 'sender', PORT),
    owner(change, give),
    { name: 'vcpu', code: vcpuLoop(ports, 0, 1) },
  ]),
  maker(`${id}-two-senders`, `${title} under two sends, a vCPU answers upcalls`, page, (ports, give) => [
    sender(ports, 'sender 1', PORT),
    sender(ports, 'sender 2', STRANGER),
    owner(change, give),
    { name: 'vcpu', code: vcpuLoop(ports, 0, 0) },
  ]),
]);

/** The owner changes the mapping, then gives the old page away. */
function owner(change: (vm: Vm, self: Self) => void, give: (self: Self) => void): Party {
  return {
    name: 'owner',
    owner: true,
    code: (vm, self) => {
      change(vm, self);
      give(self);
    },
  };
}

function maker(
  id: string,
  title: string,
  page: number,
  parties: (ports: Ports, give: (self: Self) => void) => readonly Party[],
): ModelMaker {
  return {
    id,
    title,
    promises: ['R1', 'R2', 'R3', 'R6'],
    bounds: { preemptions: id.endsWith('-alone') ? Number.POSITIVE_INFINITY : id.endsWith('-two-senders') ? 1 : 2 },
    make: (longMode): Model => {
      const ports = new Ports([PORT, NEIGHBOUR, STRANGER]);
      const given = new GivenPages(ports.counters, page);
      const model = deliveryModel(ports, {
        name: id,
        longMode,
        hostPages: true,
        setup: (world) => given.begin(world),
        parties: parties(ports, (self) => given.give(self)),
        always: () => ports.invented() ?? given.touched(),
        finally: () => ports.judge() ?? given.touched(),
      });
      return { ...model, counters: ports.counters + 1 };
    },
  };
}
