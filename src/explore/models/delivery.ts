// Senders and a vCPU that drains and sleeps: nobody may ever sleep over an event.

import type { Party } from '../actor.ts';
import { deliveryModel, Ports, vcpuLoop } from '../delivery.ts';
import type { World } from '../world.ts';
import type { ModelMaker } from './model_maker.ts';

/** Ports of one word, and one of another word, in either layout. */
export const [PORT, NEIGHBOUR, STRANGER] = [70, 71, 130] as const;

const TWO_SENDERS: readonly (readonly [id: string, what: string, first: number, second: number])[] = [
  ['same-port', 'the same port', PORT, PORT],
  ['same-word', 'ports of one word', PORT, NEIGHBOUR],
  ['different-words', 'ports of different words', PORT, STRANGER],
];

/** A driver that sends once. */
export function sender(ports: Ports, name: string, port: number): Party {
  return { name, code: (vm, self) => ports.send(vm, self, port) };
}

/** A driver that writes and sends inside a bracket of its own: only the send's barrier stands between. */
function bracketedSender(ports: Ports, name: string, port: number): Party {
  return {
    name,
    code: (vm, self) => {
      self.do('opens a bracket', () => vm.enter());
      ports.send(vm, self, port);
      self.do('closes it', () => vm.leave());
    },
  };
}

export const DELIVERY: readonly ModelMaker[] = [
  ...TWO_SENDERS.flatMap(([id, what, first, second]) => [
    maker(`two-senders-${id}`, `two senders to ${what}, a vCPU drains and sleeps`, (ports) => [
      sender(ports, 'sender 1', first),
      sender(ports, 'sender 2', second),
      { name: 'vcpu', code: vcpuLoop(ports, 0, 2) },
    ]),
    maker(`upcall-${id}`, `two senders to ${what}, a vCPU answers upcalls`, (ports) => [
      sender(ports, 'sender 1', first),
      bracketedSender(ports, 'sender 2', second),
      { name: 'vcpu', code: vcpuLoop(ports, 0, 0) },
    ]),
    maker(`batch-${id}`, `a sender and a batch to ${what}, a vCPU drains and sleeps`, (ports) => [
      sender(ports, 'sender', first),
      batch(ports, [...new Set([first, second, STRANGER])]),
      { name: 'vcpu', code: vcpuLoop(ports, 0, 1) },
    ]),
  ]),
  maker('unmask', 'a send to a masked port, an unmask, a vCPU drains and sleeps', (ports) => [
    sender(ports, 'sender', PORT),
    { name: 'driver', code: (vm, self) => void self.do(`unmasks ${PORT}`, () => void vm.unmask(PORT)) },
    { name: 'vcpu', code: vcpuLoop(ports, 0, 1) },
  ]),
  maker(
    'mask-around',
    'a vCPU masks a port while its handler runs, as drivers that must not be interrupted do',
    (ports) => [
      sender(ports, 'sender 1', PORT),
      sender(ports, 'sender 2', PORT),
      {
        name: 'vcpu',
        code: (vm, self) => {
          self.do(`masks ${PORT}`, () => void vm.mask(PORT));
          ports.drain(vm, self, 0);
          self.do(`unmasks ${PORT}`, () => void vm.unmask(PORT));
          vcpuLoop(ports, 0, 1)(vm, self);
        },
      },
    ],
  ),
  maker('kick', 'a vCPU sleeps, a kick and a send', (ports) => [
    sender(ports, 'sender', PORT),
    { name: 'kicker', code: (vm, self) => self.do('kicks vCPU 0', () => vm.vcpu(0).kick()) },
    { name: 'vcpu', code: vcpuLoop(ports, 0, 2) },
  ]),
];

function maker(id: string, title: string, parties: (ports: Ports) => readonly Party[]): ModelMaker {
  return {
    id,
    title,
    promises: ['R1', 'R2', 'R6'],
    make: (longMode) => {
      const ports = new Ports([PORT, NEIGHBOUR, STRANGER]);
      const setup = id === 'unmask' ? (world: World) => void world.vm.mask(PORT) : undefined;
      return deliveryModel(ports, { name: id, longMode, parties: parties(ports), ...(setup && { setup }) });
    },
  };
}

/** Several ports in one call, inside a bracket: its own barrier has to do. */
function batch(ports: Ports, list: readonly number[]): Party {
  return {
    name: 'batch',
    code: (vm, self) => {
      self.do('opens a bracket', () => vm.enter());
      ports.sendMany(vm, self, list);
      self.do('closes it', () => vm.leave());
    },
  };
}
