// A ring whose reader asks to be notified and then sleeps, without looking whether something came before it had asked: the data
// lies there until a timer looks, ten seconds later. [XE-RG-03, KF-25]

import { deliveryModel, Ports } from '../delivery.ts';
import { Guest } from '../guest.ts';
import type { Model, World } from '../world.ts';
import type { Preset } from './preset.ts';

const PORT = 70;
/** A page of the guest's that both ends map: how much was produced, and whether the reader wants to be told. */
const RING_PAGE = 8;
const [PRODUCED, WANTED] = [0, 64];

function model(looksAgain: boolean): Model {
  const ports = new Ports([PORT]);
  const taken = ports.counters;
  let world: World | null = null;
  const made = deliveryModel(ports, {
    name: 'qubes-stall',
    longMode: false,
    setup: (w) => {
      world = w;
    },
    parties: [
      {
        name: 'writer',
        code: (vm, self) => {
          const ring = new Guest(vm, self);
          const wanted = self.do('puts data into the ring', () => {
            self.change(ring.at(RING_PAGE, PRODUCED), (n) => n + 1);
            return self.change(ring.at(RING_PAGE, WANTED), (flag) => flag);
          });
          if (wanted) ports.send(vm, self, PORT);
        },
      },
      {
        name: 'reader',
        code: (vm, self) => {
          const ring = new Guest(vm, self);
          const look = (): number => self.read(ring.at(RING_PAGE, PRODUCED));
          let found = self.do('looks into the ring', look);
          if (!found) {
            self.do('asks to be notified', () => self.write(ring.at(RING_PAGE, WANTED), 1));
            if (looksAgain) found = self.do('looks into the ring again', look);
          }
          if (!found) {
            self.do('sleeps', () => vm.vcpu(0).wait());
            ports.drain(vm, self);
            found = self.do('looks into the ring', look);
          }
          self.note(() => world?.add(taken, found) ?? 0);
        },
      },
    ],
    finally: (w) => {
      const stalled = w.actors.some((actor) => actor.asleep !== 0);
      return stalled && w.count(taken) === 0 ? 'the reader sleeps although there is data in the ring' : null;
    },
  });
  return { ...made, counters: ports.counters + 1 };
}

export const QUBES_STALL: Preset = {
  id: 'qubes-stall',
  title: 'the ten-second Qubes stall: a ring whose reader sleeps over its data',
  bug: 'Data that comes between the reader’s look and its wish to be notified is announced to nobody; a timer finds it ten seconds later.',
  remedy: 'After it has said that it wants to be notified the reader looks again.',
  broken: () => model(false),
  fixed: () => model(true),
};
