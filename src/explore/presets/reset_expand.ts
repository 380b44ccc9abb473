// A hypervisor that asks whether the FIFO ABI is in force before it takes the lock: a reset in between frees what the expansion then
// uses. It stood there for twelve years. [XSA-505, KF-75, XE-OP-114]

import type { Code, Self } from '../actor.ts';
import { Guest } from '../guest.ts';
import type { Model, World } from '../world.ts';
import type { Preset } from './preset.ts';

/** Where the hypervisor of this model keeps its own words: a page that nothing else uses. */
const HOST_PAGE = 8;
/** The lock, whether FIFO is in force, whether the event array is there, and how many pages it has. */
const [LOCK, FIFO, ARRAY, PAGES] = [0, 64, 128, 192];
/** Counter: an array that had been freed was used. */
const USED_FREED = 0;

function model(asksInside: boolean): Model {
  let world: World | null = null;
  const locked = (self: Self, at: number, part: () => void): void => {
    for (;;) {
      if (self.change(at, () => 1) === 0) break;
      self.until(() => world?.peek(at) === 0);
    }
    part();
    self.write(at, 0);
  };
  const expand: Code = (vm, self) => {
    const host = new Guest(vm, self);
    const inForce = (): boolean => self.read(host.at(HOST_PAGE, FIFO)) === 1;
    self.do('EVTCHNOP_expand_array', () => {
      if (!asksInside && !inForce()) return;
      locked(self, host.at(HOST_PAGE, LOCK), () => {
        if (asksInside && !inForce()) return;
        const there = self.read(host.at(HOST_PAGE, ARRAY)) === 1;
        self.change(host.at(HOST_PAGE, PAGES), (n) => n + 1);
        self.note(() => (there ? 0 : (world?.add(USED_FREED) ?? 0)));
      });
    });
  };
  const reset: Code = (vm, self) => {
    const host = new Guest(vm, self);
    self.do('EVTCHNOP_reset', () => {
      locked(self, host.at(HOST_PAGE, LOCK), () => {
        self.write(host.at(HOST_PAGE, FIFO), 0);
        self.write(host.at(HOST_PAGE, ARRAY), 0);
      });
    });
  };
  return {
    name: 'reset-expand',
    counters: 1,
    setup: (w) => {
      world = w;
      for (const at of [FIFO, ARRAY]) w.poke(w.vm.guestBase + HOST_PAGE * 4096 + at, 1);
    },
    parties: [
      { name: 'vcpu 0', code: expand },
      { name: 'vcpu 1', code: reset },
    ],
    always: (w) => (w.count(USED_FREED) === 0 ? null : 'the expansion used an event array that the reset had freed'),
  };
}

export const RESET_EXPAND: Preset = {
  id: 'reset-expand',
  title: 'EVTCHNOP_reset against EVTCHNOP_expand_array, as in XSA-505',
  bug: 'Expansion asks whether FIFO is in force, then takes the lock; a reset in between frees what it goes on to use.',
  remedy: 'It asks again, or only, with the lock held: test and use belong together.',
  broken: () => model(false),
  fixed: () => model(true),
};
