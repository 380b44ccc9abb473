// A vcpu_info that moves while an event is on its way: the host copies it and then switches, and a sender that had found the old
// place sets its bits there, where nobody looks any more. [KF-13, XE-2L-30]

import { PAGE_SIZE, SHARED_INFO_PENDING } from '../../abi/shared_info.ts';
import { VCPU_INFO_SELECTOR_COMPAT } from '../../abi/vcpu_info.ts';
import { gpa } from '../../memory/address.ts';
import type { Code, Self } from '../actor.ts';
import { deliveryModel, Ports } from '../delivery.ts';
import { Guest } from '../guest.ts';
import { sender } from '../models/delivery.ts';
import { type Model, SHARED_INFO_PAGE, VCPU_INFO_PAGE } from '../world.ts';
import type { Preset } from './preset.ts';

const PORT = 70;
const WORD = PORT >>> 5;
/** Where it moves to. */
const NEW_PAGE = 9;
/** Where the naive host keeps its pointer: the page that vcpu_info is in. */
const HOST_PAGE = 10;

/** The engine itself. */
function fixed(): Model {
  const ports = new Ports([PORT]);
  return deliveryModel(ports, {
    name: 'vcpu-info-move',
    longMode: false,
    parties: [
      sender(ports, 'sender', PORT),
      {
        name: 'host',
        owner: true,
        code: (vm, self) => {
          self.do('moves vcpu_info', () => vm.vcpu(0).setAttr({ type: 'vcpu_info', gpa: gpa(NEW_PAGE * PAGE_SIZE) }));
        },
      },
    ],
  });
}

/** A host that copies, then switches its pointer. */
function broken(): Model {
  const ports = new Ports([PORT]);
  const pointer = (guest: Guest): number => guest.at(HOST_PAGE, 0);
  const move: Code = (vm, self) => {
    const guest = new Guest(vm, self);
    self.do('copies vcpu_info', () => {
      for (const at of [0, VCPU_INFO_SELECTOR_COMPAT]) {
        self.write(guest.at(NEW_PAGE, at), self.read(guest.at(VCPU_INFO_PAGE, at)));
      }
    });
    self.do('switches to the copy', () => self.write(pointer(guest), NEW_PAGE));
  };
  return deliveryModel(ports, {
    name: 'vcpu-info-move',
    longMode: false,
    // The engine's own vcpu_info is not used here: who is asked for a look is judged below.
    except: [PORT],
    always: () => null,
    setup: (world) => world.poke(world.vm.guestBase + HOST_PAGE * PAGE_SIZE, VCPU_INFO_PAGE),
    parties: [
      { name: 'sender', code: (vm, self) => ports.send(vm, self, PORT, () => naiveSend(new Guest(vm, self), self)) },
      { name: 'host', code: move },
    ],
    finally: (world) => {
      const at = (page: number, offset: number): number => world.peek(world.vm.guestBase + page * PAGE_SIZE + offset);
      const isPending = at(SHARED_INFO_PAGE, SHARED_INFO_PENDING + WORD * 4) !== 0;
      const isAsked = at(NEW_PAGE, VCPU_INFO_SELECTOR_COMPAT) !== 0 && at(NEW_PAGE, 0) !== 0;
      return isPending && !isAsked
        ? `port ${PORT} is pending, and where vcpu_info is now nobody asks for a look`
        : null;
    },
  });
}

/** Pending, then the selector and the upcall byte of the place that the pointer names. */
function naiveSend(guest: Guest, self: Self): number {
  const page = self.read(guest.at(HOST_PAGE, 0));
  self.change(guest.at(SHARED_INFO_PAGE, SHARED_INFO_PENDING + WORD * 4), (bits) => bits | (1 << (PORT % 32)));
  self.change(guest.at(page, VCPU_INFO_SELECTOR_COMPAT), (bits) => bits | (1 << WORD));
  self.change(guest.at(page, 0), (word) => word | 1);
  return 1;
}

export const VCPU_INFO_MOVE: Preset = {
  id: 'vcpu-info-move',
  title: 'vcpu_info moves during a delivery',
  bug: 'The host copies vcpu_info and then switches to the copy; a sender that had looked up the old place sets its bits there.',
  remedy: 'The switch waits until nobody uses the old place, and its selector bits are carried over after that.',
  broken,
  fixed,
};
