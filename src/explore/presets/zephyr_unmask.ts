// A guest that unmasks a port by clearing its mask bit and never looks whether the port became pending meanwhile. [KF-23, XE-GC-21]

import { deliveryModel, Ports } from '../delivery.ts';
import { Guest } from '../guest.ts';
import { sender } from '../models/delivery.ts';
import type { Model } from '../world.ts';
import type { Preset } from './preset.ts';

const PORT = 70;

function model(looks: boolean): Model {
  const ports = new Ports([PORT]);
  return deliveryModel(ports, {
    name: 'zephyr-unmask',
    longMode: false,
    setup: (world) => void world.vm.mask(PORT),
    parties: [
      sender(ports, 'backend', PORT),
      {
        name: 'guest',
        code: (vm, self) => {
          const guest = new Guest(vm, self);
          self.do(`clears the mask bit of ${PORT}`, () => guest.clearMask(PORT));
          if (!looks) return;
          self.do(`looks whether ${PORT} is pending`, () => {
            if (!guest.isPending(PORT)) return;
            guest.clearPending(PORT);
            ports.handle(self, PORT);
          });
        },
      },
    ],
  });
}

export const ZEPHYR_UNMASK: Preset = {
  id: 'zephyr-unmask',
  title: "Zephyr's unmask that never looks at pending",
  bug: 'An event that comes while its port is masked raises no upcall, and the unmask does not ask for one.',
  remedy: 'After the mask bit is clear the guest looks at the pending bit.',
  broken: () => model(false),
  fixed: () => model(true),
};
