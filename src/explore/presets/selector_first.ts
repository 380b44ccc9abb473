// A guest that takes the selector before it clears the upcall byte: an event in between is asked for by nobody. [XE-GC-02, KX-EVT-66]

import { deliveryModel, Ports } from '../delivery.ts';
import { Guest, portsOf } from '../guest.ts';
import { sender } from '../models/delivery.ts';
import type { Model } from '../world.ts';
import type { Preset } from './preset.ts';

const [PORT, OTHER] = [70, 130];

function model(flagFirst: boolean): Model {
  const ports = new Ports([PORT, OTHER]);
  return deliveryModel(ports, {
    name: 'selector-first',
    longMode: false,
    parties: [
      sender(ports, 'sender 1', PORT),
      sender(ports, 'sender 2', OTHER),
      {
        name: 'guest',
        code: (vm, self) => {
          const guest = new Guest(vm, self);
          self.do('answers an upcall', () => {
            if (flagFirst) guest.clearUpcall(0);
            const selector = guest.takeSelector(0);
            if (!flagFirst) guest.clearUpcall(0);
            for (const word of portsOf(0, selector)) {
              for (const port of portsOf(word, guest.active(word))) {
                guest.clearPending(port);
                ports.handle(self, port);
              }
            }
          });
        },
      },
    ],
  });
}

export const SELECTOR_FIRST: Preset = {
  id: 'selector-first',
  title: 'a guest that takes the selector before it clears the upcall byte',
  bug: 'A sender sets a selector bit and the upcall byte between the two; the guest then clears the byte, and nobody asks it to look at the bit.',
  remedy: 'First the byte, then the selector: what comes later sets the byte again.',
  broken: () => model(false),
  fixed: () => model(true),
};
