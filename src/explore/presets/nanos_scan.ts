// A guest whose vCPUs run every pending port of a word they are asked to look at, whoever's it is. [KF-19]

import type { Code } from '../actor.ts';
import { deliveryModel, Ports } from '../delivery.ts';
import { Guest, portsOf } from '../guest.ts';
import { sender } from '../models/delivery.ts';
import type { Model, World } from '../world.ts';
import type { Preset } from './preset.ts';

/** Ports of one word, one for each vCPU. */
const OWN = [70, 71] as const;

function model(own: boolean): Model {
  const ports = new Ports(OWN);
  let world: World | null = null;
  const wrong = ports.counters;
  const scan =
    (vcpu: 0 | 1): Code =>
    (vm, self) => {
      const guest = new Guest(vm, self);
      self.do(`vCPU ${vcpu} answers an upcall`, () => {
        guest.clearUpcall(vcpu);
        for (const word of portsOf(0, guest.takeSelector(vcpu))) {
          for (const port of portsOf(word, guest.active(word))) {
            if (own && port !== OWN[vcpu]) continue;
            guest.clearPending(port);
            if (port !== OWN[vcpu]) self.note(() => world?.add(wrong, port) ?? 0);
            ports.handle(self, port);
          }
        }
      });
    };
  const made = deliveryModel(ports, {
    name: 'nanos-scan',
    longMode: false,
    vcpus: 2,
    setup: (w) => {
      world = w;
      for (const vcpu of [0, 1] as const) w.vm.bindVcpu(OWN[vcpu], vcpu);
    },
    parties: [
      sender(ports, 'sender 1', OWN[0]),
      sender(ports, 'sender 2', OWN[1]),
      { name: 'vcpu 0', code: scan(0) },
      { name: 'vcpu 1', code: scan(1) },
    ],
    always: (w) => {
      const port = w.count(wrong);
      return port === 0 ? ports.invented() : `port ${port} ran on a vCPU that it is not bound to`;
    },
  });
  return { ...made, counters: ports.counters + 1 };
}

export const NANOS_SCAN: Preset = {
  id: 'nanos-scan',
  title: "Nanos' scan of a word that runs another vCPU's ports",
  bug: 'A vCPU runs all pending ports of a word, also those that are bound to another vCPU, whose handlers expect to be alone there.',
  remedy:
    'A scan leaves alone what is not its own: the bit stays pending, and its owner has a selector bit of its own.',
  broken: () => model(false),
  fixed: () => model(true),
};
